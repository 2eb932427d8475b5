"""Runs on graphs and texts in use: entries by name, what is alike, vectors taken elsewhere."""

import json
import re

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file, save_file

from twoviews import lookup
from twoviews.data.entries import Entries, entries_of, hits, read_entries, read_texts
from twoviews.data.graph import Graph
from twoviews.errors import UserError
from twoviews.evaluate import alike, formats

TYPES = ("author", "paper", "venue")
SIZES = (40, 60, 5)
WORDS = ["king", "man", "woman", "queen", "new york", "e-mail", "apple", "pear", "plum", "rare"]


def a_graph(names=True):
    ids = (
        pa.array([f"Ann {i}" if i else "7" for i in range(40)]),
        pa.array(np.arange(7, 67)),
        pa.array(["ACL", "EMNLP", "a/b", "author/x", "NAACL"]),
    )
    shown = {"venue": pa.array(["ACL 2020", "EMNLP", None, "twice", "twice"])} if names else {}
    return Graph("papers", TYPES, np.cumsum([0, *SIZES]), ids, (), shown)


def a_run(folder, entries, seed=0, unfinished=False):
    """A run's folder by hand. Returns its vectors."""
    folder.mkdir()
    about = {"run": {}, "data": {"rows": len(entries), "fingerprint": "0"}}
    (folder / "run.json").write_text(json.dumps(about))
    entries.write(folder)
    weight = torch.randn(len(entries), 12, generator=torch.Generator().manual_seed(seed))
    if unfinished:
        last = folder / "checkpoints" / "step-00000300"
        last.mkdir(parents=True)
        save_file({"encoder.weight": weight, "contexts": weight.clone()}, last / "method.safetensors")
    else:
        save_file({"weight": weight}, folder / "encoder.safetensors")
    return weight.double().numpy()


@pytest.fixture
def graph_run(tmp_path):
    counts = np.arange(1, 106)
    counts[[3, 50]] = 0
    entries = entries_of(a_graph(), counts)
    return tmp_path / "run", entries, a_run(tmp_path / "run", entries)


@pytest.fixture
def word_run(tmp_path):
    entries = Entries(None, None, pa.array(WORDS), np.array([9, 8, 7, 6, 5, 4, 3, 2, 1, 0]))
    return tmp_path / "run", entries, a_run(tmp_path / "run", entries)


def brute(vectors, query, rows, k):
    """The k rows with the largest cosine, in float64, and the cosines."""
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    cosine = unit[rows] @ (query / np.linalg.norm(query))
    order = np.argsort(-cosine)[:k]
    return [rows[i] for i in order], cosine[order]


# --- entries


def test_entries_come_back_as_they_were(tmp_path):
    entries = entries_of(a_graph(), np.arange(105))
    back = read_entries(entries.write(tmp_path).parent)
    assert back.types == TYPES
    assert back.kinds.dtype == np.uint8
    assert np.array_equal(back.kinds, np.repeat([0, 1, 2], SIZES))
    assert back.ids.equals(entries.ids)
    assert back.names.equals(entries.names)
    assert np.array_equal(back.counts, np.arange(105))
    assert back.keys(np.array([0, 41, 102])) == ["author/7", "paper/8", "venue/a/b"]
    table = pq.read_table(tmp_path / "entries.parquet")
    assert table.column_names == ["type", "id", "name", "count"]
    assert pa.types.is_dictionary(table.schema.field("type").type)
    assert not list(tmp_path.glob("*.tmp"))


def test_a_type_without_nodes_keeps_its_number(tmp_path):
    kinds = np.array([2, 2, 0], np.uint8)
    Entries(("a", "b", "c"), kinds, pa.array([1, 2, 3]), np.ones(3, int)).write(tmp_path)
    back = read_entries(tmp_path)
    assert back.types == ("a", "b", "c")
    assert back.kinds.tolist() == [2, 2, 0]
    assert back.ids.type == pa.int64()


def test_entries_that_another_program_wrote(tmp_path):
    table = pa.table({"type": ["b", "a", "b"], "id": ["x", "y", "z"], "count": pa.array([1, 2, 3], pa.int32())})
    pq.write_table(table, tmp_path / "entries.parquet")
    back = read_entries(tmp_path)
    assert [back.key(i) for i in range(3)] == ["b/x", "a/y", "b/z"]


def test_words_have_no_types(tmp_path):
    class Corpus:
        vocabulary = pa.array(WORDS)

    entries_of(Corpus(), np.arange(10)).write(tmp_path)
    back = read_entries(tmp_path)
    assert (back.types, back.kinds, back.names) == (None, None, None)
    assert pq.read_schema(tmp_path / "entries.parquet").names == ["id", "count"]
    assert back.place("e-mail") == 5
    with pytest.raises(UserError, match="did you mean 'queen'"):
        back.place("quen")
    with pytest.raises(UserError, match="words have no types"):
        back.place("king", "author")


def test_entries_that_are_none(tmp_path):
    with pytest.raises(UserError, match="has no entries.parquet"):
        read_entries(tmp_path)
    (tmp_path / "entries.parquet").write_bytes(b"PAR1 but no more")
    with pytest.raises(UserError, match="cannot be read"):
        read_entries(tmp_path)


@pytest.mark.parametrize(
    ("text", "kind", "row"),
    [
        ("author/7", None, 0),
        ("paper/7", None, 40),
        ("7", "paper", 40),
        (7, "author", 0),
        ("8", None, 41),
        ("Ann 5", None, 5),
        ("EMNLP", None, 101),
        ("ACL 2020", None, 100),
        ("venue/ACL 2020", None, 100),
        ("a/b", None, 102),
        ("venue/a/b", None, 102),
        ("author/x", None, 103),  # an id with a type's name in it
    ],
)
def test_places(text, kind, row):
    assert entries_of(a_graph(), np.ones(105)).place(text, kind) == row


@pytest.mark.parametrize(
    ("text", "kind", "message"),
    [
        ("7", None, "'7' is an id of 2 types: write author/7 or paper/7"),
        ("twice", None, "'twice' names 2 entries: write venue/author/x or venue/NAACL"),
        ("Ann 55", None, "knows no node 'Ann 55'; did you mean 'Ann 5'"),
        ("author/Anm 5", None, "knows no author 'Anm 5'; did you mean 'Ann 5'"),
        ("ACL 202", None, "did you mean 'ACL 2020'"),
        ("007", "paper", "knows no paper '007'"),
        ("author/7", "paper", "knows no paper 'author/7'"),
        ("9" * 30, "paper", "its names are such as|did you mean"),
        ("7", "papr", "unknown type 'papr', did you mean 'paper'"),
    ],
)
def test_what_has_no_place(text, kind, message):
    with pytest.raises(UserError, match=message):
        entries_of(a_graph(), np.ones(105)).place(text, kind)


def test_many_places_are_those_of_each():
    entries = entries_of(a_graph(), np.ones(105))
    asked = ["7", "paper/9", "nobody", "ACL 2020", "twice", "paper/9", "author/x"]
    assert entries.places(asked).tolist() == [-2, 42, -1, 100, -2, 42, 103]
    keys = entries.keys(np.arange(105))
    assert np.array_equal(entries.places(keys), np.arange(105))


def test_one_type_needs_no_name():
    graph = Graph("karate", ("node",), np.array([0, 3]), (pa.array([5, 6, 7]),), ())
    entries = entries_of(graph, np.ones(3))
    assert entries.keys(np.arange(3)) == ["5", "6", "7"]
    assert entries.place("node/6") == entries.place("6") == 1


def test_hits_are_all_rows_of_all_words():
    known = pa.array(["b", "a", "b", None, "c"])
    rows, which = hits(["c", "b", "z"], known)
    assert list(zip(rows.tolist(), which.tolist(), strict=True)) == [(0, 1), (2, 1), (4, 0)]
    rows, which = hits(["x", "-3", "+3", "03"], pa.array([3, -3]))
    assert (rows.tolist(), which.tolist()) == ([1], [1])


def test_texts_of_files(tmp_path):
    (tmp_path / "a.txt").write_text("Ann 1\n\n a, b \n")
    (tmp_path / "b.csv").write_text("type,id\nauthor,Ann 1\nvenue,ACL\n")
    pq.write_table(pa.table({"id": [7, 8]}), tmp_path / "c.parquet")
    pq.write_table(pa.table({"what": [7, 8]}), tmp_path / "d.parquet")
    assert read_texts(tmp_path / "a.txt") == ["Ann 1", "a, b"]
    assert read_texts(tmp_path / "b.csv") == ["author/Ann 1", "venue/ACL"]
    assert read_texts(tmp_path / "c.parquet") == ["7", "8"]
    assert read_texts("ACL 2020") == ["ACL 2020"]
    with pytest.raises(UserError, match="no column 'id': its columns are what"):
        read_texts(tmp_path / "d.parquet")
    with pytest.raises(UserError, match="no file"):
        read_texts(tmp_path / "none.csv")


# --- similar


def test_similar_is_brute_force_of_its_type(graph_run):
    folder, entries, vectors = graph_run
    found = lookup.similar(folder, "author/7", k=7)
    rows, cosine = brute(vectors, vectors[0], [i for i in range(1, 40) if i != 3], 7)
    assert found.keys == entries.keys(np.array(rows))
    np.testing.assert_allclose(found.similarities, cosine, atol=1e-6)
    assert (found.query, found.label) == ("author/7", None)


def test_similar_of_another_type_with_names(graph_run):
    folder, entries, vectors = graph_run
    found = lookup.similar(folder, "author/7", k=5, kind="venue")
    rows, _ = brute(vectors, vectors[0], list(range(100, 105)), 5)
    assert found.keys == entries.keys(np.array(rows))
    assert found.labels == [entries.name(row) for row in rows]
    assert set(found.labels) == {"ACL 2020", "EMNLP", None, "twice"}


def test_what_was_never_met_is_not_found(graph_run):
    folder, _, _ = graph_run
    assert "author/Ann 3" not in lookup.similar(folder, "author/7", k=38).keys
    with pytest.raises(UserError, match=r"k=39, but there are 38 others to find: give k from 1 to 38"):
        lookup.similar(folder, "author/7", k=39)
    with pytest.raises(UserError, match="'author/Ann 3' was never met in training"):
        lookup.similar(folder, "Ann 3")


@pytest.mark.parametrize(
    ("text", "signs"),
    [
        ("king - man + woman", {"king": 1, "man": -1, "woman": 1}),
        ("new york - e-mail", {"new york": 1, "e-mail": -1}),
        ("e-mail", {"e-mail": 1}),
    ],
)
def test_sums_of_words(word_run, text, signs):
    folder, _, vectors = word_run
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    query = sum(sign * unit[WORDS.index(word)] for word, sign in signs.items())
    rows, cosine = brute(vectors, query, [i for i, word in enumerate(WORDS[:9]) if word not in signs], 4)
    found = lookup.similar(folder, text, k=4)
    assert found.keys == [WORDS[row] for row in rows]
    np.testing.assert_allclose(found.similarities, cosine, atol=1e-6)
    assert found.query == text


def test_gensim_finds_the_same_sum(word_run):
    models = pytest.importorskip("gensim.models")
    folder, _, vectors = word_run
    theirs = models.KeyedVectors(12)
    theirs.add_vectors(WORDS[:9], vectors[:9].astype(np.float32))
    expected = theirs.most_similar(positive=["king", "woman"], negative=["man"], topn=3)
    found = lookup.similar(folder, "king - man + woman", k=3)
    assert found.keys == [word for word, _ in expected]
    np.testing.assert_allclose(found.similarities, [score for _, score in expected], atol=1e-6)


def test_a_wrong_term_is_named(word_run):
    with pytest.raises(UserError, match="knows no word 'wuman'; did you mean 'woman'"):
        lookup.similar(word_run[0], "king - man + wuman")


def test_blocks_equal_the_whole(graph_run, monkeypatch):
    folder, _, _ = graph_run
    whole = lookup.search(folder, [f"Ann {i}" for i in (1, 2, 4)], k=9, quiet=True)
    monkeypatch.setattr(alike, "BLOCK", 4)
    monkeypatch.setattr(lookup, "PART", 2)
    parts = lookup.search(folder, [f"Ann {i}" for i in (1, 2, 4)], k=9, quiet=True).combine_chunks()
    assert parts.drop_columns("score").equals(whole.drop_columns("score"))
    np.testing.assert_allclose(parts["score"].to_numpy(), whole["score"].to_numpy(), atol=1e-6)


# --- search


def test_search_answers_as_similar_does(graph_run, tmp_path, capsys):
    folder, _, _ = graph_run
    asked = ["venue/ACL", "author/7", "nobody", "paper/20", "Ann 3", "EMNLP"]
    (tmp_path / "asked.txt").write_text("\n".join(asked))
    out = lookup.search(folder, tmp_path / "asked.txt", out=tmp_path / "found.parquet", k=3)
    table = pq.read_table(out)
    assert table.column_names == ["query", "rank", "type", "id", "name", "score"]
    known = ["venue/ACL", "author/7", "paper/20", "EMNLP"]
    assert table["query"].to_pylist() == [text for text in known for _ in range(3)]
    for i, text in enumerate(known):
        some, found = table.slice(3 * i, 3).to_pydict(), lookup.similar(folder, text, k=3)
        assert [f"{kind}/{each}" for kind, each in zip(some["type"], some["id"], strict=True)] == found.keys
        assert some["name"] == found.labels
        assert some["rank"] == [1, 2, 3]
        np.testing.assert_allclose(some["score"], found.similarities, atol=1e-6)
    told = capsys.readouterr().err
    assert "left out: 1 of 6 entries, the first because the model knows no node 'nobody'" in told
    assert "left out: 1 of 5 entries that training never met, such as 'Ann 3'" in told


def test_search_of_one_type_and_to_csv(graph_run, tmp_path):
    folder, _, vectors = graph_run
    out = lookup.search(folder, ["author/7", "venue/ACL"], out=tmp_path / "f.csv", k=4, kind="venue", quiet=True)
    lines = out.read_text().splitlines()
    assert re.sub('"', "", lines[0]) == "query,rank,type,id,name,score"
    assert len(lines) == 9
    assert lookup.search(folder, 20, k=1, quiet=True)["type"].to_pylist() == ["paper"]
    everything = lookup.search(folder, ["author/7"], k=5, kind="venue", quiet=True)
    rows, _ = brute(vectors, vectors[0], list(range(100, 105)), 5)
    assert everything["id"].to_pylist() == [["ACL", "EMNLP", "a/b", "author/x", "NAACL"][row - 100] for row in rows]


def test_equal_vectors_do_not_find_themselves(tmp_path):
    entries = Entries(None, None, pa.array([f"w{i}" for i in range(20)]), np.ones(20, int))
    a_run(tmp_path / "run", entries)
    save_file({"weight": torch.ones(20, 12)}, tmp_path / "run" / "encoder.safetensors")
    table = lookup.search(tmp_path / "run", [f"w{i}" for i in range(20)], k=19, quiet=True)
    assert not any(q == w for q, w in zip(table["query"].to_pylist(), table["id"].to_pylist(), strict=True))
    assert table.column_names == ["query", "rank", "id", "score"]


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"query": []}, "the list of entries is empty"),
        ({"query": "nobody"}, "knows no node 'nobody'"),
        ({"query": "Ann 3"}, "never met in training"),
        ({"query": "ACL", "k": 5}, "k=5, but there are 4 others"),
        ({"query": "ACL", "kind": "city"}, "unknown type 'city'"),
        ({"query": "ACL", "out": "x.json"}, r"end the name in \.parquet or \.csv"),
    ],
)
def test_bad_searches(graph_run, how, message):
    with pytest.raises(UserError, match=message):
        lookup.search(graph_run[0], **how, quiet=True)


# --- the folder


def test_an_unfinished_run_answers_and_says_so(tmp_path, capsys):
    entries = Entries(None, None, pa.array(WORDS), np.ones(10, int))
    vectors = a_run(tmp_path / "run", entries, unfinished=True)
    table = lookup.search(tmp_path / "run", "king", k=2)
    assert table["id"].to_pylist() == [WORDS[row] for row in brute(vectors, vectors[0], list(range(1, 10)), 2)[0]]
    assert "has not finished: these are its weights after step 300" in capsys.readouterr().err


def test_folders_that_cannot_answer(word_run, tmp_path):
    folder, entries, _ = word_run
    save_file({"weight": torch.full((10, 3), torch.nan)}, folder / "encoder.safetensors")
    with pytest.raises(UserError, match="not finite"):
        lookup.similar(folder, "king", k=2)
    save_file({"weight": torch.zeros(9, 3)}, folder / "encoder.safetensors")
    with pytest.raises(UserError, match="holds 9 vectors but entries.parquet names 10"):
        lookup.similar(folder, "king")
    save_file({"weight": torch.zeros(10, 3), "bias": torch.zeros(3)}, folder / "encoder.safetensors")
    with pytest.raises(UserError, match="no table of vectors: it holds bias, weight"):
        lookup.similar(folder, "king")
    (folder / "encoder.safetensors").unlink()
    with pytest.raises(UserError, match="has no weights"):
        lookup.similar(folder, "king")
    (folder / "run.json").write_text(json.dumps({"run": {}, "data": {"catalogue": 3}}))
    with pytest.raises(UserError, match="no run on a graph or a text"):
        lookup.similar(folder, "king")


# --- vectors elsewhere


def test_parquet_holds_type_id_and_name(graph_run, tmp_path, capsys):
    folder, entries, vectors = graph_run
    table = pq.read_table(lookup.embed(folder, out=tmp_path / "new" / "v.parquet"))
    assert table.column_names == ["type", "id", "name", "embedding"]
    assert table.schema.field("embedding").type == pa.list_(pa.float32(), 12)
    assert table["id"].combine_chunks().equals(entries.ids)
    assert table["type"].to_pylist() == [TYPES[k] for k in entries.kinds]
    assert table["name"].to_pylist()[100:] == ["ACL 2020", "EMNLP", None, "twice", "twice"]
    np.testing.assert_array_equal(np.array(table["embedding"].to_pylist(), np.float32), vectors.astype(np.float32))
    told = capsys.readouterr().err
    assert "105 nodes in" in told
    assert "2 that training never met keep the vector they began with" in told


def test_embed_in_blocks_is_the_same_file(graph_run, tmp_path, monkeypatch):
    folder = graph_run[0]
    kinds = (".npy", ".txt", ".bin", ".safetensors")
    whole = [lookup.embed(folder, out=tmp_path / f"a{kind}", quiet=True).read_bytes() for kind in kinds]
    monkeypatch.setattr(lookup, "PART", 13)
    monkeypatch.setattr(formats, "LINES", 5)
    parts = [lookup.embed(folder, out=tmp_path / f"b{kind}", quiet=True).read_bytes() for kind in kinds]
    assert whole == parts
    assert (tmp_path / "a.npy.keys.csv").read_bytes() == (tmp_path / "b.npy.keys.csv").read_bytes()


def test_npy_and_safetensors_have_their_keys_beside_them(graph_run, tmp_path):
    folder, _, vectors = graph_run
    h = np.load(lookup.embed(folder, out=tmp_path / "v.npy", kind="venue", quiet=True), allow_pickle=False)
    np.testing.assert_array_equal(h, vectors[100:].astype(np.float32))
    lines = (tmp_path / "v.npy.keys.csv").read_text().splitlines()
    assert lines[:4] == ["type,id,name", "venue,ACL,ACL 2020", "venue,EMNLP,EMNLP", "venue,a/b,"]
    some = lookup.embed(folder, ["EMNLP", "author/7"], tmp_path / "v.safetensors", quiet=True)
    np.testing.assert_array_equal(load_file(some)["h"].numpy(), vectors[[101, 0]].astype(np.float32))


@pytest.mark.parametrize("suffix", [".txt", ".vec", ".bin"])
def test_gensim_loads_equal_vectors(graph_run, tmp_path, suffix, capsys):
    models = pytest.importorskip("gensim.models")
    folder, entries, vectors = graph_run
    weight = vectors.astype(np.float32)
    weight[0, :4] = [1e-30, -3e20, 0.0, np.float32(1) / 3]
    save_file({"weight": torch.from_numpy(weight)}, folder / "encoder.safetensors")
    out = lookup.embed(folder, out=tmp_path / f"v{suffix}")
    theirs = models.KeyedVectors.load_word2vec_format(str(out), binary=suffix == ".bin")
    keys = [key.replace(" ", "_") for key in entries.keys(np.arange(105))]
    assert theirs.index_to_key == keys
    np.testing.assert_array_equal(theirs.vectors, weight)
    assert "39 hold white space, written as _" in capsys.readouterr().err


def test_no_white_space_breaks_word2vec_files(tmp_path):
    models = pytest.importorskip("gensim.models")
    words = ["a b\tc", "new\nline", "no\u00a0break", "über", "", "\u2003wide"]
    a_run(tmp_path / "run", Entries(None, None, pa.array(words), np.ones(6, int)))
    for suffix in (".txt", ".bin"):
        out = lookup.embed(tmp_path / "run", out=tmp_path / f"v{suffix}", quiet=True)
        theirs = models.KeyedVectors.load_word2vec_format(str(out), binary=suffix == ".bin")
        assert theirs.index_to_key == ["a_b_c", "new_line", "no_break", "über", "_", "_wide"]


def test_bad_embeddings(graph_run, tmp_path):
    folder, _, _ = graph_run
    with pytest.raises(UserError, match=r"end the name in .* or \.bin"):
        lookup.embed(folder, out=tmp_path / "v.xyz", quiet=True)
    with pytest.raises(UserError, match="unknown type 'autor', did you mean 'author'"):
        lookup.embed(folder, out=tmp_path / "v.npy", kind="autor", quiet=True)
    with pytest.raises(UserError, match="knows no author 'ACL'"):
        lookup.embed(folder, ["ACL"], tmp_path / "v.npy", kind="author", quiet=True)
    assert not list(tmp_path.glob("v.*"))


def test_exports(graph_run, tmp_path):
    folder, entries, vectors = graph_run
    out = lookup.export_tables(folder, "safetensors")
    assert out == folder / "export-safetensors"
    layer = torch.nn.Embedding.from_pretrained(load_file(out / "vectors.safetensors")["weight"])
    np.testing.assert_array_equal(layer.weight.numpy(), vectors.astype(np.float32))
    assert read_entries(out).ids.equals(entries.ids)
    out = lookup.export_tables(folder, "word2vec", out=tmp_path / "w")
    assert (out / "vectors.txt").read_text().startswith("105 12\nauthor/7 ")
    assert json.loads((out / "preprocessing.json").read_text())["rows"] == 105
    out = lookup.export_tables(folder, "word2vec-binary")
    assert lookup.export_tables(folder, "word2vec-binary") == out  # an earlier one is replaced
    assert (out / "vectors.bin").read_bytes().startswith(b"105 12\nauthor/7 ")
    with pytest.raises(UserError, match=r"Allowed: safetensors, word2vec, word2vec-binary"):
        lookup.export_tables(folder, "huggingface")
    (tmp_path / "w" / "mine.txt").write_text("mine")
    with pytest.raises(UserError, match="holds mine.txt"):
        lookup.export_tables(folder, "word2vec", out=tmp_path / "w")
