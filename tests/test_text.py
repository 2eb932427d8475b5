"""Text in: one result from all forms, words by count, blocks of sentences, and one line for what cannot be used."""

import bz2
import gzip
import io
import lzma
from collections import Counter
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from twoviews.data import textfiles, textkernels
from twoviews.data.checktext import check_text
from twoviews.data.logs import is_log
from twoviews.data.sentences import held_out, kept, sentences
from twoviews.data.text import BARE, EMPTY, LOST, OUT, RARE, is_text, notes, text
from twoviews.errors import DataError, UserError

LINES = ["the cat sat on the mat", "", "A dog saw the cat", "  on a mat the cat ate a dog  ", "odd"]


def told(corpus):
    """The lines of a corpus as words."""
    words = corpus.vocabulary.to_pylist()
    return [[words[i] for i in corpus.tokens[a:b]] for a, b in zip(corpus.bounds, corpus.bounds[1:], strict=False)]


def expected(lines, least=1, lower=False):
    """What `text` must find, by Python's own split and Counter."""
    lines = [(line.lower() if lower else line).split() for line in lines]
    counts = Counter(word for line in lines for word in line)
    kept = sorted((w for w in counts if counts[w] >= least), key=lambda w: (-counts[w], w.encode()))
    known = set(kept)
    rows = [[word for word in line if word in known] for line in lines]
    return kept, [counts[w] for w in kept], [row for row in rows if row]


def same(corpus, lines, **how):
    words, counts, rows = expected(lines, **how)
    assert corpus.vocabulary.to_pylist() == words
    assert corpus.counts().tolist() == counts
    assert told(corpus) == rows
    assert corpus.tokens.dtype == np.int32
    assert corpus.bounds.dtype == np.int64


def zipf(n=40_000, words=900, seed=0):
    """Lines of words by Zipf's law, some with letters beyond ASCII."""
    random = np.random.default_rng(seed)
    names = [f"w{i}" if i % 7 else f"wé{i}ß" for i in range(words)]
    tokens = [names[i] for i in (words ** random.random(n)).astype(int) - 1]
    cuts = np.unique(random.integers(0, n, n // 12))
    return [" ".join(part) for part in np.split(np.array(tokens, object), cuts)]


PACK = {"": bytes, ".gz": gzip.compress, ".xz": lzma.compress, ".bz2": bz2.compress}
PACK[".zst"] = lambda content: pa.compress(content, codec="zstd", asbytes=True)


@pytest.mark.parametrize("packed", PACK)
def test_files_of_all_kinds(tmp_path, packed):
    path = tmp_path / f"corpus.txt{packed}"
    path.write_bytes(PACK[packed]("\n".join(LINES).encode()))
    corpus = text(path, least=1)
    same(corpus, LINES)
    assert corpus.name == path.name
    assert corpus.counted == {EMPTY: 1}
    assert len(corpus) == corpus.rows == len(corpus.vocabulary)
    assert corpus.key(0) == "the"
    assert corpus.read(3) == 3
    assert corpus.kinds is corpus.labels is corpus.classes is None
    with pytest.raises(UserError, match="held_out"):
        corpus.subset(np.arange(2))


def test_forms_in_memory_equal_a_file(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("\n".join(LINES) + "\n")
    split = [line.split() for line in LINES]
    file = text(path, least=2)
    for data in (LINES, iter(LINES), tuple(LINES), split, (line for line in split)):
        corpus = text(data, least=2)
        same(corpus, LINES, least=2)
        assert corpus.fingerprint() == file.fingerprint()
        assert corpus.counted == file.counted
    assert file.counted == {EMPTY: 1, RARE: 5, OUT: 5, BARE: 1}
    same(text(["two\nlines"], least=1), ["two lines"])


def test_large_texts_are_numbered_across_pieces(tmp_path, monkeypatch):
    monkeypatch.setattr(textkernels, "BLOCK", 512)
    monkeypatch.setattr(textfiles, "TOKENS", 100)
    lines = zipf()
    path = tmp_path / "z.txt"
    path.write_text("\r\n".join(lines), encoding="utf-8-sig")
    same(text(path, least=3), lines, least=3)
    same(text(path, least=3, most=50), lines, least=sorted(Counter(" ".join(lines).split()).values())[-50])
    same(text([line.split() for line in lines], least=3), lines, least=3)
    many = [" ".join(f"{i}_{j}" for j in range(10)) for i in range(8_000)]  # the table of words grows
    same(text(many, least=1), many)


def test_tokens_that_do_not_fit_go_to_a_file(monkeypatch):
    lines = zipf(5_000)
    whole = text(lines, least=2)
    monkeypatch.setattr(textfiles, "free_memory", lambda: 8 * 1000)
    monkeypatch.setattr(textkernels, "BLOCK", 2048)
    spilled = text(lines, least=2)
    assert isinstance(spilled.tokens.base, np.memmap) or isinstance(spilled.tokens.base.base, np.memmap)
    assert spilled.fingerprint() == whole.fingerprint()
    assert [part.fingerprint() for part in held_out(spilled, 0.1, 100)] == [
        part.fingerprint() for part in held_out(whole, 0.1, 100)
    ]


def test_white_space_is_that_of_python():
    odd = "a\u00a0b\u2003c\u3000d\u1680e\u2028f\u205fg\u202fh\u0085i\x1cj\x0bk\tl é\u200bm \u20ac \u3042 \u2014"
    same(text([odd, "Â \u00c2\u00a0 â€"], least=1), [odd, "Â \u00c2\u00a0 â€"])


def test_capitals():
    lines = ["Éclair éclair THE the The", "Straße STRASSE"]
    same(text(lines, least=1, lower=True), lines, lower=True)
    same(text([line.split() for line in lines], least=1, lower=True), lines, lower=True)
    same(text(lines, least=1), lines)


def test_tokens_of_lists_may_be_anything():
    lists = [["new york", 7], ["7", "new york", "once"]]
    assert told(text(lists, least=2)) == [["new york", "7"], ["7", "new york"]]


def test_bytes_that_are_no_text_are_replaced_and_counted(tmp_path):
    path = tmp_path / "latin.txt"
    path.write_bytes("café thé café\n".encode("latin-1") * 3 + "ok ok ok é\n".encode())
    corpus = text(path, least=1)
    assert corpus.vocabulary.to_pylist() == ["caf\ufffd", "ok", "th\ufffd", "é"]
    assert corpus.counted == {LOST: 9}
    assert any("read as U+FFFD" in note for note in notes(corpus))


def test_folders_and_patterns(tmp_path):
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "2.txt.gz").write_bytes(gzip.compress(b"dog sees the cat\nhe runs\n"))
    (tmp_path / "a.text").write_text("the cat sees a dog")
    (tmp_path / "README.txt").write_text("cat about cat")
    (tmp_path / ".hidden.txt").write_text("cat")
    lines = ["the cat sees a dog", "dog sees the cat", "he runs"]
    same(text(tmp_path, least=1), lines)
    same(text(f"{tmp_path}/**/*.t*xt*", least=1), ["cat about cat", *lines])
    same(text([tmp_path / "a.text", tmp_path / "b"], least=1), lines)
    assert is_text(tmp_path)


def test_a_broken_file_among_many_is_skipped_and_named(tmp_path):
    lines = zipf(2_000)
    for i in range(3):
        (tmp_path / f"{i}.txt.gz").write_bytes(gzip.compress("\n".join(lines).encode()))
    cut = tmp_path / "1.txt.gz"
    cut.write_bytes(cut.read_bytes()[:-300])
    (tmp_path / "3.txt").write_bytes(b"PK\0\0 not text")
    (tmp_path / "4.txt.xz").write_bytes(lzma.compress(b"a b c " * 1000)[:-20])
    corpus = text(tmp_path, least=1)
    same(corpus, lines * 2)
    assert [path[len(str(tmp_path)) + 1 :] for path in corpus.skipped] == ["1.txt.gz", "3.txt", "4.txt.xz"]
    assert "zeros" in corpus.skipped[str(tmp_path / "3.txt")]
    assert "cut short" in corpus.skipped[str(tmp_path / "4.txt.xz")]
    report = check_text(corpus)
    assert not report.whole
    assert "skipped" in "\n".join(report.lines())


def test_errors_are_one_line(tmp_path, monkeypatch):
    def says(words, data, kind=DataError, **how):
        with pytest.raises(kind, match=words) as caught:
            text(data, **how)
        assert "\n" not in str(caught.value)

    empty, binary, cut = tmp_path / "empty.txt", tmp_path / "b.txt", tmp_path / "cut.txt.xz"
    empty.write_text("")
    binary.write_bytes(bytes(range(256)))
    cut.write_bytes(lzma.compress(b"a b c " * 1000)[:-20])
    says("no words in empty.txt", empty)
    says("no words in list", [])
    says("least=5: the commonest word, 'cat', occurs 3 times", ["cat cat cat dog"])
    says("cannot read .*b.txt': it is not text in UTF-8", binary)
    says("cannot read .*cut.txt.xz': it is cut short", cut)
    says("no such file", tmp_path / "none.txt")
    (tmp_path / "sub").mkdir()
    says("no .txt or .text file", tmp_path / "sub")
    says("fetch it first", "https://x.org/a.txt")
    says("cannot read text from a int", 7)
    says("number 1 is 'b c'", [["a"], "b c"])
    says(r"one of the lines is \"\['b'\]\"", ["a", ["b"]])
    says("the text of a list: it is not text", ["a\0b"])
    says("data.least must be 1", ["a"], UserError, least=0)
    says("data.most must be 1", ["a"], UserError, most=0)
    monkeypatch.setattr(textkernels, "BLOCK", 64)
    says("a word has more than 64 bytes", _file(tmp_path, "x" * 100))
    for wrong in ({"sample": 2}, {"longest": 1}):
        with pytest.raises(UserError, match=f"views.{next(iter(wrong))}"):
            sentences(**wrong)


def _file(folder, content):
    (folder / "x.txt").write_text(content)
    return folder / "x.txt"


PROSE = "The quick dog ran home.\nIt was late, and the dog slept; then it rained.\nNobody saw the dog.\n"


def test_what_is_text(tmp_path):
    """A log, a graph or photos in .txt files or folders are none."""

    def file(name, content):
        (tmp_path / name).write_text(content)
        return tmp_path / name

    assert is_text(file("prose.txt", PROSE))
    assert is_text(file("one.txt", "a single long line as of an article in a file of its own"))
    (tmp_path / "p.txt.gz").write_bytes(gzip.compress(PROSE.encode()))
    assert is_text(tmp_path / "p.txt.gz")
    for name, content in {
        "log.txt": "196 242 3 881250949\n186 302 3 891717742\n",
        "names.txt": "al tea 10\nbo jam 20\nal jam 30\n",
        "edges.txt": "ann bob\nbob cid\ncid ann\n",
        "users.txt": "ann shirt lamp\nbob lamp book shirt pen\ncid pen shirt lamp book cup\n",
        "ids.txt": "u1 i1 i2\nu2 i2 i3 i4 i5\nu3 i1\n",
        "table.csv": PROSE,
        "numbers.txt": "1 2\n2 3 4\n1 3\n",
        "empty.txt": "",
    }.items():
        assert not is_text(file(name, content)), name
    assert is_log(tmp_path / "log.txt")
    assert not is_text(tmp_path / "nothing.txt")
    photos = tmp_path / "photos"
    photos.mkdir()
    (photos / "about.txt").write_text(PROSE)
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(photos / "a.png")
    assert not is_text(photos)
    assert not is_text(tmp_path)  # table.csv is there
    assert is_text(f"{tmp_path}/p*.txt")
    assert is_text(["a line", "another"])
    assert is_text(line for line in [["a"]])
    for data in ([["a", "b"]], {"a": ["b"]}, np.zeros(3), [1, 2], [], ["a.png"], pa.table({"a": [1]}), 3):
        assert not is_text(data)
    assert not is_text("https://x.org/a.txt")


def test_check_counts_what_is_there():
    corpus = text(LINES, least=2)
    report = check_text(corpus)
    words, counts, rows = expected(LINES, least=2)
    assert (report.words, report.tokens, report.documents) == (len(words), sum(counts), len(rows))
    every = [word for line in LINES for word in line.split()]
    assert (report.read, report.distinct) == (len(every), len(set(every)))
    assert report.lengths[0] == min(map(len, rows))
    assert report.lengths[3] == max(map(len, rows))
    assert report.common[0] == "the"
    assert report.top == 1
    assert report.once == counts.count(min(counts))
    assert report.whole
    assert report.to_dict()["counted"][EMPTY] == 1
    assert len(report.lines()) == 4 + len(corpus.counted)


def test_fingerprint_tells_texts_apart():
    corpus = text(LINES, least=1)
    turned = replace(corpus, tokens=corpus.tokens[::-1].copy())
    other = text([*LINES[1:], LINES[0]], least=1)
    assert len({corpus.fingerprint(), turned.fingerprint(), other.fingerprint()}) == 3


# sentences


def drawn(stream, epoch):
    """{first place of a block: its tokens and bounds} in the order they come."""
    return [stream.block(epoch, i) for i in range(stream.blocks)]


def lists(found):
    return [found.tokens[a:b].tolist() for a, b in zip(found.bounds, found.bounds[1:], strict=False)]


@pytest.mark.parametrize(("size", "longest"), [(50, 7), (64, 1000), (10_000_000, 5), (3, 2)])
def test_blocks_hold_every_token_once(size, longest):
    corpus = text(zipf(3_000), least=1)
    stream = sentences(sample=0, longest=longest).over(corpus, size, 3)
    assert stream.items == len(corpus.tokens)
    longest = min(longest, size)
    whole = []
    for a, b in zip(corpus.bounds, corpus.bounds[1:], strict=False):
        whole += [tuple(corpus.tokens[i : min(i + longest, b)]) for i in range(a, b, longest)]
    found = [drawn(stream, epoch) for epoch in (0, 1)]
    for epoch in found:
        assert Counter(tuple(s) for block in epoch for s in lists(block)) == Counter(s for s in whole if len(s) > 1)
        assert max(len(block.tokens) for block in epoch) <= size + longest
    if stream.blocks > 5:
        assert [lists(b) for b in found[0]] != [lists(b) for b in found[1]]
    again = stream.block(1, stream.blocks - 1)
    assert np.array_equal(again.tokens, found[1][-1].tokens)
    assert again.tokens.dtype == np.int32
    assert again.bounds.dtype == np.int64


def test_frequent_words_are_thinned_by_word2vecs_formula():
    corpus = text([" ".join(zipf(60_000, 300))], least=1)  # one line: none is too short to stay
    share, t = corpus.counts() / corpus.counts().sum(), 2e-3
    chance = np.minimum(1, np.sqrt(t / share) + t / share)
    assert np.allclose(kept(corpus.counts(), t), chance, rtol=1e-5)
    assert kept(corpus.counts(), 0).min() == 1
    stream = sentences(sample=t, longest=5_000).over(corpus, 5_000, 1)
    seen = np.zeros(len(corpus), np.int64)
    epochs = 20
    for epoch in range(epochs):
        for block in drawn(stream, epoch):
            seen += np.bincount(block.tokens, minlength=len(corpus))
    tries = corpus.counts() * epochs
    free = chance < 1
    z = (seen - tries * chance)[free] / np.sqrt(tries * chance * (1 - chance))[free]
    assert free.sum() > 20
    assert abs(z.mean()) < 4 / np.sqrt(free.sum())
    assert abs((z**2).mean() - 1) < 4 * np.sqrt(2 / free.sum())
    assert np.array_equal(seen[~free], tries[~free])
    assert np.array_equal(stream.counts(), corpus.counts())


def test_thinning_depends_on_seed_epoch_and_place_alone():
    corpus = text(zipf(4_000), least=1)

    def of(size, epoch, seed):
        stream = sentences(sample=1e-2).over(corpus, size, seed)
        return Counter(tuple(s) for block in drawn(stream, epoch) for s in lists(block))

    assert of(200, 1, 5) == of(900, 1, 5)
    assert of(200, 1, 5) != of(200, 2, 5)
    assert of(200, 1, 5) != of(200, 1, 6)


def test_lines_are_held_out_whole():
    corpus = text(zipf(20_000), least=2)
    train, held = held_out(corpus, 0.1, 10_000_000, 0)
    assert Counter(map(tuple, told(train))) + Counter(map(tuple, told(held))) == Counter(map(tuple, told(corpus)))
    assert 0.09 < len(held.tokens) / len(corpus.tokens) <= 0.1
    assert np.array_equal(train.counts() + held.counts(), corpus.counts())
    assert train.vocabulary is corpus.vocabulary
    assert len(held_out(corpus, 0.1, 500, 0)[1].tokens) <= 500
    assert held_out(corpus, 0.1, 500, 0)[1].fingerprint() == held_out(corpus, 0.1, 500, 0)[1].fingerprint()
    long = text([" ".join(" ".join(zipf(5_000)).split())], least=1)
    train, held = held_out(long, 0.2, 10**9, 0)
    assert len(held.tokens) == 1000
    assert len(train.tokens) + len(held.tokens) == len(long.tokens)
    with pytest.raises(UserError, match="none can be held out"):
        held_out(text(["a b"], least=1), 0.1, 10)


def test_lines_in_memory_are_read_in_small_bites():
    file = textfiles.Lines(iter(["ab", "c"] * 700))
    room, found = bytearray(5), io.BytesIO()
    while n := file.readinto(memoryview(room)):
        found.write(room[:n])
    assert found.getvalue() == b"ab\nc\n" * 700
