"""Documents: how they are told apart and parted into sentences, against plain Python, and the views of them."""

import gzip
import re

import numpy as np
import pytest
import torch

from twoviews.data.dice import Dice
from twoviews.data.documents import ALONE, CUT, documents, notes, write_words
from twoviews.data.loader import Loader
from twoviews.data.paragraphs import paragraphs, whole_paragraph
from twoviews.errors import DataError, UserError


def said(source, item):
    return [words for words in map(source.said, source.read(item)[0]) if words]


def whole(source):
    """Document -> its sentences, from all its items."""
    out = {}
    for item in range(len(source)):
        out.setdefault(int(source.document[item]), []).extend(said(source, item))
    return out


def plainly(text, words):
    """Sentences of a text with marks, as Python would part them."""
    sentences, now = [], []
    for token in text.split():
        bare = re.sub(r"^[^a-z0-9]+|[^a-z0-9]+$", "", token.lower())
        now += [bare] if bare else []
        if re.search(r"[.!?][\"')\]]*$", token) and not re.search(r"^\W*cf\.$", token):
            sentences.append(now)
            now = []
    out = []
    for sentence in [*sentences, now]:
        parts = -(-len(sentence) // words)
        edges = [len(sentence) * part // max(parts, 1) for part in range(parts + 1)]
        out += [" ".join(sentence[a:b]) for a, b in zip(edges, edges[1:], strict=False)]
    return out


def some_text(rng, tokens):
    letters = np.array(list("abcdefgh"))
    ends = rng.choice(["", "", "", "", ".", "!", '."', "?)", ","], tokens)
    starts = rng.choice(["", "", "", "(", '"'], tokens)
    names = ["".join(rng.choice(letters, rng.integers(2, 4))) for _ in range(tokens)]
    return " ".join(f"{a}{word}{b}" for a, word, b in zip(starts, names, ends, strict=True))


@pytest.mark.parametrize("seed", range(3))
def test_sentences_are_those_of_plain_python(seed):
    rng = np.random.default_rng(seed)
    texts = [some_text(rng, n) for n in (300, 1, 40, 0, 173)]
    source = documents(texts, least=1, words=7, sentences=5)
    oracle = {i: plainly(text, 7) for i, text in enumerate(texts)}
    assert whole(source) == {i: sentences for i, sentences in oracle.items() if len(sentences) > 1}
    assert source.count.max() <= 5
    assert source.count.min() >= 2
    assert source.counted[CUT] > 0
    assert source.words == len({word for text in oracle.values() for s in text for word in s.split()}) + 1


def test_abbreviations_and_initials_end_no_sentence():
    source = documents(["Mr. J. Smith of the U.S. came. He ate, e.g. cake? Yes ... No!"], least=1)
    assert said(source, 0) == ["mr j smith of the u.s came", "he ate e.g cake", "yes", "no"]


def test_rare_words_are_left_out_and_a_sentence_of_them_alone_too():
    source = documents(["aa bb aa bb. rare. bb aa bb aa.", "one. two."], least=2)
    assert whole(source) == {0: ["aa bb aa bb", "bb aa bb aa"]}
    assert source.vocabulary.to_pylist() == ["aa", "bb"]
    assert "3 distinct words that are too rare: left out" in notes(source)
    assert source.read(0).dtype == torch.int32
    assert source.read(0).shape == (1, 16, 20)
    capped = documents(["aa bb aa bb bb. bb aa bb."], least=1, most=1)
    assert whole(capped) == {0: ["bb bb bb", "bb bb"]}
    assert documents(["Aa aa. bb aa"], least=1, lower=False).vocabulary.to_pylist() == ["aa", "Aa", "bb"]


def test_a_line_of_a_file_is_a_document_and_without_marks_has_sentences_of_equal_parts(tmp_path):
    lines = [" ".join(f"w{i % 7}" for i in range(n)) for n in (45, 20, 33)]
    (tmp_path / "lines.txt").write_text("\n".join(lines))
    source = documents(tmp_path / "lines.txt", words=20)
    assert {of: [len(s.split()) for s in found] for of, found in whole(source).items()} == {0: [15] * 3, 2: [16, 17]}
    assert source.counted[ALONE] == 1
    assert "each a line; sentences end at every 20 words" in notes(source)[0]
    assert [source.key(i) for i in range(2)] == ["doc 0#0", "doc 2#0"]


def test_blocks_between_blank_lines_are_documents_whose_lines_may_be_wrapped(tmp_path):
    text = "One two\nthree. Four\nfive.\n\nSix. Seven\neight.\n\n\n"
    (tmp_path / "book.txt.gz").write_bytes(gzip.compress(text.encode()))
    source = documents(tmp_path / "book.txt.gz", least=1)
    assert whole(source) == {0: ["one two three", "four five"], 1: ["six", "seven eight"]}
    (tmp_path / "lines.txt").write_text("one two\nthree\n\nfour\nfive six\n\n")
    source = documents(tmp_path / "lines.txt", least=1)
    assert whole(source) == {0: ["one two", "three"], 1: ["four", "five six"]}
    assert "the ends of lines" in source.layout


def test_files_are_documents_and_their_folders_labels(tmp_path):
    for name in ("sea/a", "sea/b", "land/c"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / f"{name}.txt").write_text(f"This is {name}.\n\nIt has a title\nand more. " * 20)
    (tmp_path / "sea" / "broken.txt").write_bytes(b"\0\1\2")
    source = documents(tmp_path, least=1)
    names = [source.key(i).split("#")[0] for i in range(len(source))]
    assert set(names) == {"sea/a.txt", "sea/b.txt", "land/c.txt"}
    assert source.classes == ["land", "sea"]
    assert [source.classes[label] for label in source.labels] == [name.split("/")[0] for name in names]
    assert list(source.skipped.values()) == ["it is not text in UTF-8: it holds zeros"]
    places = [int(source.key(i).split("#")[1]) for i in range(len(source)) if names[i] == "sea/a.txt"]
    assert places == (np.cumsum(source.count[np.array(names) == "sea/a.txt"]) - source.count[0]).tolist()


def test_lists_of_sentences_and_labels_of_ones_own():
    given = [["a b", "b"], [], ["c."], ["a", "b c", "c"]]
    source = documents(given, least=1, labels=["x", "x", "y", "y"])
    assert whole(source) == {0: ["a b", "b"], 3: ["a", "b c", "c"]}
    assert source.labels.tolist() == [0, 1]
    with pytest.raises(UserError, match=r"one a document: got 2 for 4 documents"):
        documents(given, least=1, labels=["x", "y"])


def test_a_subset_keeps_keys_and_the_fingerprint_tells_it_apart():
    texts = [f"a{i}. b{i}. c{i}. d{i}. e{i}." for i in range(6)]
    source = documents(texts, least=1, sentences=3)
    part = source.subset(np.array([3, 2]))
    assert [part.key(i) for i in range(2)] == [source.key(3), source.key(2)]
    assert torch.equal(part.read(1), source.read(2))
    assert part.fingerprint() != source.fingerprint() == documents(texts, least=1, sentences=3).fingerprint()


@pytest.mark.parametrize(
    ("data", "how", "why"),
    [
        ([], {}, "no words in list: it is empty"),
        (["a b."], {}, "a vocabulary emptied by least=5: the commonest word, '.', occurs 1 times"),
        (["a b", "c"], {"least": 1}, "none of 2 documents .* has two sentences; give longer documents"),
        ([["aa"], 3], {}, "text is lists of sentences, or texts, but document 1 is '3'"),
        ([["aa", 3]], {}, "one of the lines is '3'"),
        (3, {}, "cannot read documents from a int"),
        (["a. b."], {"sentences": 2}, "data.sentences must be 3 or more, got 2"),
        (["a. b."], {"words": 0}, "data.words must be 2 or more, got 0"),
        (["a. b."], {"most": 0}, "data.most must be 1 or more"),
        ("missing.txt", {}, "no such file or folder: 'missing.txt'"),
    ],
)
def test_what_cannot_be_used_is_said_in_one_line(data, how, why):
    with pytest.raises(DataError if "must be" not in why else UserError, match=why) as said_:
        documents(data, **how)
    assert "\n" not in str(said_.value)


def test_views_are_the_words_and_nothing_random_but_the_run():
    source = documents([" ".join(f"w{i}." for i in range(n)) for n in (12, 5, 8)], least=1, sentences=12, words=3)
    batch = next(Loader(source, paragraphs(), 3, seed=1).epoch(0))
    assert batch.views[0].dtype == torch.int64
    for x, item in zip(batch.views[0], batch.ids.tolist(), strict=True):
        assert torch.equal(x, source.read(item)[0].long())
    batch = next(Loader(source, paragraphs(sentences=5), 3, seed=1).epoch(0))
    for x, item in zip(batch.views[0], batch.ids.tolist(), strict=True):
        text = [source.said(row) for row in x]
        begin = said(source, item).index(text[0])
        assert text == said(source, item)[begin : begin + 5]
    canvas = torch.stack([source.read(0)] * 64)
    drawn = paragraphs(sentences=5)(canvas, None, Dice(0, 0, torch.arange(64)))[0][:, 0, 0]
    assert len(drawn.unique()) == 12 - 5 + 1


def test_dropped_words_close_up_and_no_sentence_vanishes():
    canvas = torch.arange(1, 1 + 64 * 4 * 10).view(64, 1, 4, 10)
    canvas[:, :, 3] = 0
    canvas[:, :, 2, 1:] = 0
    (x,) = paragraphs(drop=0.5)(canvas, None, Dice(3, 0, torch.arange(64)))
    assert (x[:, 3] == 0).all()
    assert torch.equal(x[:, 2], canvas[:, 0, 2])
    kept = x[:, :2] != 0
    assert (kept.int().diff(dim=2) <= 0).all()
    assert kept[..., 0].all()
    for row, before in zip(x[:, :2].flatten(0, 1), canvas[:, 0, :2].flatten(0, 1), strict=True):
        left = row[row != 0]
        assert torch.equal(left, before[torch.isin(before, left)])
    assert abs(kept.float().mean() - 0.5) < 0.05
    assert torch.equal(whole_paragraph()(canvas, None)[0], canvas[:, 0])


@pytest.mark.parametrize("how", [{"sentences": 1}, {"drop": 1.0}, {"drop": -0.1}])
def test_views_refuse_what_is_out_of_range(how):
    with pytest.raises(UserError, match="views"):
        paragraphs(**how)


def test_words_of_a_run_keep_their_numbers_in_other_documents(tmp_path):
    source = documents(["aa bb cc. bb cc. cc."], least=1)
    write_words(tmp_path, source)
    other = documents(["zz cc. aa, CC. zz"], vocabulary=tmp_path)
    assert other.vocabulary.equals(source.vocabulary)
    assert other.words == source.words
    assert whole(other) == {0: ["cc", "aa cc"]}
    assert other.read(0)[0, :2, :2].tolist() == [[1, 0], [3, 1]]
    with pytest.raises(UserError, match=r"no words.parquet in .*nowhere"):
        documents(["aa. bb."], vocabulary=tmp_path / "nowhere")
