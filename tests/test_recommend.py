"""Recommendations against dense scores; names and vocabularies; the verbs of a finished run."""

from importlib import import_module

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from twoviews.data.cloze import ask
from twoviews.data.histories import Histories
from twoviews.data.vocabulary import Items, find, mapped, of_lists, read_items, read_names, with_titles, write_items
from twoviews.encoders.sequence import bert, causal
from twoviews.errors import DataError, UserError
from twoviews.evaluate.catalogue import similar
from twoviews.evaluate.recommend import embed_items, embed_users, first, recommendations, tables, top, write_tables
from twoviews.methods.bert4rec import BERT4Rec
from twoviews.methods.sasrec import SASRec

V = 37


def histories(lengths=(5, 0, 9, 1, 30, 3), seed=0, vocabulary=None):
    random = np.random.default_rng(seed)
    stops = np.cumsum(lengths)
    items = random.integers(0, V, stops[-1]).astype(np.int32)
    users = pa.array([f"u{i}" for i in range(len(lengths))])
    names = pa.array([f"i{i}" for i in range(V)]) if vocabulary is None else vocabulary
    return Histories("test", items, stops - lengths, stops, users, names)


def methods():
    torch.manual_seed(0)
    made = [
        BERT4Rec(bert(V, width=16, length=12)),
        BERT4Rec(bert(V, width=16, length=12), specials=True),
        SASRec(causal(V, width=16, length=12)),
    ]
    for method in made:
        torch.nn.init.normal_(method.encoder.items.weight)
        if hasattr(method, "bias"):
            torch.nn.init.normal_(method.bias)
    return made


@pytest.mark.parametrize("method", methods(), ids=["bert4rec", "specials", "sasrec"])
@pytest.mark.parametrize("seen", [False, True])
def test_recommendations_equal_dense_scores(method, seen):
    source, how = histories(), ask(12, blank=not method.encoder.causal)
    counts = source.counts()
    (found,) = recommendations(method, how, source, counts, V, seen=seen)
    method.eval()
    catalogue = method.catalogue()
    for row in range(len(source)):
        own = source.read(row).numpy()
        if not len(own):
            popular = sorted(range(V), key=lambda i: (-counts[i], i))
            assert found.items[row].tolist() == popular
            assert np.isnan(found.scores[row]).all()
            continue
        with torch.no_grad():
            z = method.project(method.encoder(how(source, np.array([row]))))
            scores = (z @ catalogue.vectors.T + (0 if catalogue.bias is None else catalogue.bias))[0, catalogue.first :]
        left = V if seen else V - len(set(own.tolist()))
        if not seen:
            scores[torch.from_numpy(own).long()] = -torch.inf
        want = scores.sort(descending=True, stable=True)
        assert found.items[row, :left].tolist() == want.indices[:left].tolist()
        assert (found.items[row, left:] == -1).all()
        np.testing.assert_allclose(found.scores[row, :left], want.values[:left], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("cells", [1, 64, 1 << 20])
def test_of_equal_scores_the_lower_number_comes_first(cells):
    g = torch.Generator().manual_seed(1)
    z = torch.randint(-2, 3, (8, 3), generator=g).float()  # whole numbers: every sum is exact, and ties abound
    e = torch.randint(-1, 2, (50, 3), generator=g).float()
    leave = torch.tensor([0, 0, 5]), torch.tensor([3, 49, 7])
    dense = z @ e.T
    dense[leave] = -torch.inf
    want = dense.sort(dim=1, descending=True, stable=True)
    for k in (1, 7, 50):
        scores, items = top(z, e, None, k, leave, cells)
        assert torch.equal(scores, want.values[:, :k])
        assert torch.equal(items, want.indices[:, :k].masked_fill(scores == -torch.inf, -1))


def test_first_with_nothing_left():
    best, places = first(torch.full((2, 5), -torch.inf), 3)
    assert (best == -torch.inf).all()
    assert places.shape == (2, 3)


def test_k_and_weights_that_cannot_be():
    method, source = methods()[0], histories()
    with pytest.raises(UserError, match="k=38, but the model knows 37 items"):
        next(recommendations(method, ask(12), source, source.counts(), 38))
    method.encoder.items.weight.data[5] = torch.nan
    with pytest.raises(UserError, match="not finite"):
        next(recommendations(method, ask(12), source, source.counts(), 3))


def test_parts_are_those_of_one(monkeypatch):
    method, source = methods()[0], histories(np.random.default_rng(2).integers(0, 14, 40))
    whole = next(recommendations(method, ask(12), source, source.counts(), 5))
    h = embed_users(method, ask(12), source)
    module = import_module("twoviews.evaluate.recommend")
    monkeypatch.setattr(module, "PART", 7)
    monkeypatch.setattr(module, "ROWS", 3)
    parts = list(recommendations(method, ask(12), source, source.counts(), 5))
    assert len(parts) == 6
    assert np.array_equal(np.concatenate([p.items for p in parts]), whole.items)
    assert torch.allclose(embed_users(method, ask(12), source), h, atol=1e-5)
    assert h.shape == (40, 16)
    assert (h[source.lengths == 0] == 0).all()
    assert embed_items(method).shape == (V, 16)


@pytest.mark.parametrize("name", ["recs.parquet", "recs.csv"])
def test_the_file_holds_what_was_found(tmp_path, name):
    method, source = methods()[0], histories()
    parts = list(recommendations(method, ask(12), source, source.counts(), 4))
    write_tables(tmp_path / name, tables(parts, source.users, source.vocabulary))
    if name.endswith("csv"):
        from pyarrow import csv

        table = csv.read_csv(tmp_path / name)
    else:
        table = pq.read_table(tmp_path / name)
    assert table.column_names == ["user", "rank", "item", "score"]
    rows = table.to_pylist()
    assert [r["user"] for r in rows[::4]] == source.users.to_pylist()
    assert [r["item"] for r in rows] == [f"i{i}" for i in parts[0].items.ravel()]
    assert [r["rank"] for r in rows] == [1, 2, 3, 4] * 6
    assert all((r["score"] is None) == (r["user"] == "u1") for r in rows)
    assert [p.name for p in tmp_path.iterdir()] == [name]


def test_a_failure_leaves_the_old_file(tmp_path):
    source = histories()

    def broken():
        yield next(recommendations(methods()[0], ask(12), source, source.counts(), 2))
        raise KeyboardInterrupt

    path = tmp_path / "recs.parquet"
    path.write_bytes(b"old")
    with pytest.raises(KeyboardInterrupt):
        write_tables(path, tables(broken(), source.users, source.vocabulary))
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["recs.parquet"]
    with pytest.raises(UserError, match=r"end the name in \.parquet or \.csv"):
        write_tables(tmp_path / "recs.txt", [])


def test_similar_is_by_cosine():
    method = methods()[1]
    e = torch.nn.functional.normalize(method.encoder.items.weight[2:].detach().double(), dim=1)
    want = (e @ e[4]).sort(descending=True)
    places, cosines = similar(method, 4, 6)
    assert places == want.indices[1:7].tolist()
    np.testing.assert_allclose(cosines, want.values[1:7], atol=1e-6)
    with pytest.raises(UserError, match="k=37, but there are 36 others"):
        similar(method, 4, V)


def test_names_are_found_and_near_ones_told():
    names = pa.array(["apple", "pear", "plum"])
    assert find(pa.array(["plum", None, "x", "apple"]), names).tolist() == [2, -1, -1, 0]
    assert find(["7", "8"], pa.array([8, 7])).tolist() == [1, 0]
    assert find(pa.array([7, 9]), pa.array(["7", "8"])).tolist() == [0, -1]
    items = Items(names, np.ones(3, np.int64))
    assert items.place("pear") == 1
    with pytest.raises(UserError, match="the model knows no item 'aple'; did you mean 'apple'"):
        items.place("aple")


def test_histories_of_another_vocabulary():
    source = histories()
    names = pa.array([f"i{i}" for i in range(V - 1, 9, -1)])  # in another order, ten missing
    cut = source.between(source.starts, source.stops - (source.lengths > 2))
    new, lost = mapped(cut, names)
    for row in range(len(source)):
        old = source.read(row)[: len(source.read(row)) - (source.lengths[row] > 2)]
        assert new.read(row).tolist() == [V - 1 - i for i in old.tolist() if i >= 10]
    assert lost == {"events": cut.events - new.events, "items": 10}
    assert lost["events"] == sum((cut.read(row) < 10).sum().item() for row in range(len(cut))) > 0


def test_lists_are_histories():
    new, lost = of_lists([["b", "x", "a"], [], ["a"]], pa.array(["a", "b"]))
    assert [new.read(i).tolist() for i in range(3)] == [[1, 0], [], [0]]
    assert lost == {"events": 1, "items": 1}
    named, _ = of_lists({"u7": ["a"], "u1": ["b", "b"]}, pa.array(["a", "b"]))
    assert named.users.to_pylist() == ["u7", "u1"]
    assert named.read(1).tolist() == [1, 1]


def test_lists_of_users_are_told_from_logs(tmp_path):
    def names(file, text):
        (tmp_path / file).write_text(text)
        return read_names(tmp_path / file)

    assert names("a.txt", "u1\n\nu2\n") == ["u1", "u2"]
    assert names("a.csv", "user_id\nu1\n") == ["u1"]
    assert names("a.tsv", "u1\titem\n") is None
    assert names("b.txt", "u1 i1 i2\n") is None
    assert read_names(tmp_path / "missing.txt") is None
    pq.write_table(pa.table({"who": [3, 1]}), tmp_path / "a.parquet")
    assert read_names(tmp_path / "a.parquet") == [3, 1]
    pq.write_table(pa.table({"user": [3, 1], "item": [1, 2]}), tmp_path / "a.parquet")
    assert read_names(tmp_path / "a.parquet") is None
    assert names("cut.parquet", "PAR1 and no more") is None  # whoever reads it as a log says why it cannot be


def test_the_catalogue_is_written_and_read(tmp_path):
    source = histories()
    write_items(tmp_path, source)
    items = read_items(tmp_path)
    assert items.names.equals(source.vocabulary)
    assert np.array_equal(items.counts, source.counts())
    with pytest.raises(UserError, match="not trained on histories"):
        read_items(tmp_path / "none")
    (tmp_path / "titles.csv").write_text("item,title\ni3,Three\ni0,Zero\nzz,Other\n")
    titled = with_titles(items, tmp_path / "titles.csv")
    assert (titled.name(3), titled.title(3)) == ("i3", "Three")
    assert titled.title(1) is None
    titled.write(tmp_path)
    assert read_items(tmp_path).titles[0].as_py() == "Zero"
    (tmp_path / "titles.csv").write_text("code,item,title\ni3,x,Three\n")
    assert with_titles(items, tmp_path / "titles.csv", "code").title(3) == "Three"
    (tmp_path / "titles.csv").write_text("item,colour\ni3,red\n")
    with pytest.raises(DataError, match="no column of titles: its columns are item, colour"):
        with_titles(items, tmp_path / "titles.csv")
    (tmp_path / "titles.csv").write_bytes("item,title\ni3,Amélie\n".encode("latin-1"))
    with pytest.raises(DataError, match="column 'title' is no text in UTF-8"):
        with_titles(items, tmp_path / "titles.csv")
    (tmp_path / "titles.csv").write_text("parent_asin,title\ni3,Three\n")  # as a log may call its items
    assert with_titles(items, tmp_path / "titles.csv").title(3) == "Three"
