"""New items without training, and yesterday's weights for today's catalogue."""

import json
from dataclasses import replace
from functools import partial

import numpy as np
import pyarrow as pa
import pytest
import torch

from twoviews.checkpoint import save_encoder, save_weights
from twoviews.data.cloze import ask, cloze
from twoviews.data.histories import Histories
from twoviews.data.logs import histories
from twoviews.data.vocabulary import read_items, write_items
from twoviews.encoders.sequence import bert, causal
from twoviews.errors import DataError, UserError
from twoviews.evaluate.carry import carried
from twoviews.evaluate.catalogue import grow, rows_of
from twoviews.evaluate.growth import cold, featured, ridge, spread, together
from twoviews.evaluate.recommend import recommendations, vectors
from twoviews.folder import write_json
from twoviews.grown import add_items
from twoviews.methods.bert4rec import BERT4Rec
from twoviews.methods.sasrec import SASRec
from twoviews.report.attention import attention as drawn
from twoviews.run import Run
from twoviews.serve import attention, embed_histories, opened, recommend, similar

V = 60


def log(users=80, seed=0, names=None, prefix="i"):
    """Items of one kind, i % 5, follow each other."""
    random = np.random.default_rng(seed)
    lengths = random.integers(3, 12, users)
    kind = np.repeat(random.integers(0, 5, users), lengths)
    items = (random.integers(0, V // 5, lengths.sum()) * 5 + kind).astype(np.int32)
    stops = np.cumsum(lengths)
    names = pa.array([f"{prefix}{i}" for i in range(V)]) if names is None else names
    return Histories("log", items, stops - lengths, stops, pa.array([f"u{i}" for i in range(users)]), names)


def kinds(seed=0):
    """(V, 8): items of one kind lie together."""
    g = torch.Generator().manual_seed(seed)
    return torch.randn(5, 8, generator=g)[torch.arange(V) % 5] * 3 + 0.1 * torch.randn(V, 8, generator=g)


def method(way=BERT4Rec, catalogue=V, seed=0, **settings):
    torch.manual_seed(seed)
    read = causal if way is SASRec else bert
    made = way(read(catalogue, width=8, layers=1, heads=1, length=12, init="normal"), **settings)
    if catalogue == V:
        made.encoder.items.weight.data[-V:] = kinds()
    if hasattr(made, "bias"):
        torch.nn.init.normal_(made.bias)
    return made.eval()


def scores(made, source):
    with torch.no_grad():
        asked = ask(12, blank=not made.encoder.causal)(source, np.arange(len(source)))
        z = made.project(made.encoder(asked))
        e, c = vectors(made)
        return z @ e.T + (0 if c is None else c)


WAYS = pytest.mark.parametrize(
    "make", [method, partial(method, specials=True), partial(method, SASRec)], ids=["bert4rec", "specials", "sasrec"]
)


def written(path, source):
    """A log as a table."""
    rows = [f"{source.key(i)},i{j},{t}" for i in range(len(source)) for t, j in enumerate(source.read(i).tolist())]
    path.write_text("\n".join(["user,item,time", *rows]) + "\n")
    return path


@pytest.fixture
def folder(tmp_path):
    """A run as training leaves it."""
    source = log()
    where = tmp_path / "run"
    (where / "best").mkdir(parents=True)
    made = method()
    run = Run(
        data=partial(histories, data=str(written(tmp_path / "log.csv", source))),
        views=partial(cloze, length=12),
        test_view=partial(ask, length=12),
        encoder=partial(bert, catalogue=V, width=8, layers=1, heads=1, length=12, init="normal"),
        method=partial(BERT4Rec),
    )
    save_weights(made, where / "best" / "method.safetensors")
    save_encoder(where, made.encoder)
    write_items(where, source)
    write_json(where / "run.json", {"run": run.to_json(), "data": {"name": "log"}})
    return where


@WAYS
def test_growing_leaves_the_old_to_the_bit(make):
    old = make()
    rows = rows_of(old)[:3] + 1
    new = grow(old, rows)
    assert new.encoder.catalogue == V + 3
    assert torch.equal(rows_of(new)[:V], rows_of(old))
    assert torch.equal(rows_of(new)[V:], rows)
    state = new.state_dict()
    for name, value in old.state_dict().items():
        assert torch.equal(state[name][: len(value)], value)
    source = log()
    (before,), (after,) = ([*recommendations(m, ask(12), source, source.counts(), 60)] for m in (old, new))
    both = scores(new, source)
    assert torch.allclose(both[:, :V], scores(old, source), atol=1e-5)
    e, c = vectors(new)
    assert torch.equal(vectors(old)[0], e[:V])
    for row in range(len(source)):  # the old ones among themselves stand in the same order
        kept = [i for i in after.items[row] if 0 <= i < V]
        assert kept == [i for i in before.items[row] if i >= 0][: len(kept)]
    assert len(old.encoder.items.weight) == len(new.encoder.items.weight) - 3
    loss = sum(p.sum() for p in new.parameters())
    loss.backward()
    assert new.encoder.items.weight.grad is not None


def test_vectors_alone_get_the_usual_bias():
    old = method()
    new = grow(old, torch.ones(2, 8))
    assert torch.equal(new.bias[-2:], old.bias.median().expand(2))


def test_ridge_equals_its_formula():
    from scipy import sparse

    random = np.random.default_rng(0)
    x, y, w = random.normal(size=(40, 6)), random.normal(size=(40, 3)), random.random(40)
    from twoviews.evaluate.growth import _solved

    predict = _solved(sparse.csr_matrix(x), y, w, (2.0,))[0]
    mean = (w[:, None] * y).sum(0) / w.sum()
    want = np.linalg.solve(x.T @ np.diag(w) @ x + 2 * np.eye(6), x.T @ np.diag(w) @ (y - mean))
    np.testing.assert_allclose(predict(sparse.csr_matrix(x)), x @ want + mean, atol=1e-10)
    exact = sparse.csr_matrix(np.eye(5)[np.arange(400) % 5])
    y = random.normal(size=(5, 3))[np.arange(400) % 5]
    np.testing.assert_allclose(ridge(exact, y, np.ones(400))(exact), y, atol=0.01)


def test_what_a_table_says():
    table = pa.table(
        {
            "item": ["a", "b", "c", "d"],
            "title": ["Red shoe", "red hat", None, "Green shoe"],
            "year": [1999, 2000, 1999, None],
            "price": [1.0, 3.0, float("nan"), 100.0],
            "tags": pa.array([["new"], ["old", "new"], None, ["new"]]),
            "text": pa.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0], [0.5, 0.5]], pa.list_(pa.float32())),
        }
    )
    x = featured(table, "item", np.array([True, True, True, False])).toarray()
    words = ["tags=new", "tags=old", "title=hat", "title=red", "title=shoe", "year=1999", "year=2000"]
    assert x.shape == (4, len(words) + 1 + 2)
    assert (x[0, :7] > 0).tolist() == [True, False, False, True, True, True, False]
    assert (x[3, :7] > 0).tolist() == [True, False, False, False, True, False, False]  # green: in no row to learn from
    np.testing.assert_allclose(x[:, 7], [-1, 1, 0, 98], atol=1e-6)
    with pytest.raises(UserError, match="all of one length"):
        featured(pa.table({"item": ["a", "b"], "v": [[1.0], [1.0, 2.0]]}), "item", np.array([True, True]))
    with pytest.raises(UserError, match="says nothing"):
        featured(pa.table({"item": ["a"]}), "item", np.array([True]))


def test_together_is_a_weighted_mean():
    names = pa.array(list("abcde"))
    items = np.array([0, 3, 1, 2, 0, 4], np.int32)  # two histories: a d b c / a e
    source = Histories("h", items, np.array([0, 4]), np.array([4, 6]), pa.array(["u", "v"]), names)
    rows = torch.randn(5, 2)
    given = np.array([True, True, True, False, False])
    found, seen = together(source, rows, given, np.array([3, 4]))
    a, b, c = (1 / np.sqrt(2), 1.0, 0.5)  # a occurs twice, c is two away
    want = (a * rows[0] + b * rows[1] + c * rows[2]) / (a + b + c)
    assert torch.allclose(found[0], want, atol=1e-6)
    assert torch.allclose(found[1], rows[0], atol=1e-6)
    assert seen.all()
    alone, seen = together(source, rows, np.array([False, True, True, False, False]), np.array([4]))
    assert not seen.any()
    assert torch.allclose(alone[0], rows[1:3].mean(0), atol=1e-6)


def test_spread_is_that_of_the_known():
    g = torch.Generator().manual_seed(0)
    known, made = torch.randn(40, 5, generator=g), 0.01 * torch.randn(7, 5, generator=g)
    out = spread(made, known, 4)
    mean = known[:, :4].mean(0)
    assert torch.allclose((out[:, :4] - mean).square().sum(1).mean(), (known[:, :4] - mean).square().sum(1).mean())
    ways = torch.nn.functional.cosine_similarity(out[:, :4] - mean, made[:, :4] - mean)
    assert torch.allclose(ways, torch.ones(7))
    assert torch.equal(out[:, 4], made[:, 4])


def test_cold_items_by_their_kind_beat_random_ones():
    source, made = log(400), method()
    rows = rows_of(made)

    def predict(rest, held, half):
        assert len(half) == 200
        return torch.stack([rows[rest[rest % 5 == i % 5]].mean(0) for i in held])

    found = cold(made, ask(12), source, predict, np.arange(V))
    own, predicted, drawn = found.rows.values()
    assert found.items == 6
    assert 50 < found.asked <= 2000
    assert own[1] == predicted[1] == drawn[1] == 1.0  # fewer items than 100
    assert len(found.lines()) == 4
    g = rows.clone()
    assert torch.equal(rows_of(made), g)  # measuring leaves the method as it was


@WAYS
def test_another_order_gives_the_same_scores(tmp_path, make):
    old, source = make(), log()
    write_items(tmp_path, source)
    (tmp_path / "best").mkdir()
    save_weights(old, tmp_path / "best" / "method.safetensors")
    order = np.random.default_rng(3).permutation(V)  # today's item i was yesterday's order[i]
    new = make(seed=7)
    names = source.vocabulary.take(pa.array(order))
    assert carried(new, tmp_path, names) == {"kept": V, "new": 0, "gone": 0}
    where = np.argsort(order).astype(np.int32)
    today = replace(source, items=where[source.items], vocabulary=names)
    assert torch.allclose(scores(new, today), scores(old, source)[:, order], atol=1e-5)


@pytest.mark.parametrize("given", [False, True])
def test_a_grown_catalogue_keeps_what_is_known(tmp_path, given):
    old, source = method(), log()
    write_items(tmp_path, source)
    (tmp_path / "best").mkdir()
    save_weights(old, tmp_path / "best" / "method.safetensors")
    names = pa.array(["new1", *(f"i{i}" for i in range(2, V)), "new2"])  # i0 and i1 are gone
    today = log(names=names)
    new = method(catalogue=V, seed=5)
    counts = carried(new, tmp_path, names, today if given else None)
    assert counts == {"kept": V - 2, "new": 2, "gone": 2}
    rows, before = rows_of(new), rows_of(old)
    assert torch.equal(rows[1:-1], before[2:])
    assert rows[[0, -1]].isfinite().all()
    same = torch.allclose(rows[0], before.mean(0), atol=1e-5)
    assert same is not given
    state = new.state_dict()
    for name, value in old.state_dict().items():
        if name not in ("encoder.items.weight", "bias"):
            assert torch.equal(state[name], value)


def test_another_network_is_refused(tmp_path):
    source = log()
    write_items(tmp_path, source)
    with pytest.raises(UserError, match="has no weights"):
        carried(method(), tmp_path, source.vocabulary)
    (tmp_path / "best").mkdir()
    save_weights(method(), tmp_path / "best" / "method.safetensors")
    with pytest.raises(UserError, match="is not in both"):
        carried(method(SASRec), tmp_path, source.vocabulary)
    with pytest.raises(UserError, match=r"'encoder.items.weight' is \(62, 8\) there, \(62, 16\) here"):
        carried(BERT4Rec(bert(V, width=16, layers=1, length=12)), tmp_path, source.vocabulary)
    with pytest.raises(UserError, match="shares no item"):
        carried(method(), tmp_path, pa.array([f"x{i}" for i in range(V)]))


def attributes(path, new=4, known=V):
    lines = [f"i{i},kind{i % 5}" for i in range(known)] + [f"n{i},kind{i % 5}" for i in range(new)]
    path.write_text("\n".join(["item,kind", *lines]) + "\n")
    return path


def test_items_from_attributes(folder, tmp_path):
    grown = add_items(folder, attributes(tmp_path / "items.csv"), tmp_path / "grown", quiet=True)
    items = read_items(grown)
    assert items.names.to_pylist()[V:] == ["n0", "n1", "n2", "n3"]
    assert items.counts[V:].tolist() == [0] * 4
    old, new = opened(folder).method, opened(grown).method
    assert torch.equal(rows_of(new)[:V], rows_of(old))
    about = json.loads((grown / "run.json").read_text())
    assert about["run"]["encoder"]["catalogue"] == V + 4
    assert about["added"]["by"] == "attributes"
    assert about["added"]["measured"]["items"] == 6
    assert list(about["added"]["measured"]["rows"])[1] == "predicted, as for new items"
    near = similar(grown, "n2", k=5).keys
    assert all(int(name[1:]) % 5 == 2 for name in near)
    table = recommend(grown, [["n1", "i6"], ["nothing"], ["i3"]], k=3, quiet=True)
    assert table["user"].to_pylist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert table["score"].null_count == 3
    with pytest.raises(UserError, match="exists: give the name of a new folder"):
        add_items(folder, attributes(tmp_path / "items.csv"), grown)


def test_items_from_a_log(folder, tmp_path):
    names = pa.array([f"i{i}" if i >= 5 else f"n{i}" for i in range(V)])
    grown = add_items(folder, log(names=names, seed=4), tmp_path / "grown", quiet=True)
    assert read_items(grown).names.to_pylist()[V:] == [f"n{i}" for i in range(5)]
    for i in range(5):
        near = similar(grown, f"n{i}", k=5).keys
        assert sum(int(name[1:]) % 5 == i for name in near) >= 4
    assert json.loads((grown / "run.json").read_text())["added"]["by"] == "log"


def test_items_from_vectors(folder, tmp_path):
    given = np.random.default_rng(0).normal(size=(2, 8)).astype(np.float32)
    table = pa.table({"item": ["i3", "n7"], "vector": list(given)})
    grown = add_items(folder, table, tmp_path / "grown", quiet=True)
    np.testing.assert_array_equal(rows_of(opened(grown).method)[-1, :8].numpy(), given[1])
    assert "given" in json.loads((grown / "run.json").read_text())["added"]["measured"]
    wide = pa.table({"item": ["n7"], "vector": [[1.0, 2.0]]})
    with pytest.raises(UserError, match="the vectors are 2 wide and those of .* 8"):
        add_items(folder, wide, tmp_path / "wide", by="vectors", quiet=True)
    with pytest.raises(UserError, match="the lists in column 'vector' must be of numbers"):
        add_items(folder, pa.table({"item": ["n7"], "vector": ["a"]}), tmp_path / "wide", by="vectors", quiet=True)
    with pytest.raises(UserError, match="no column of numbers beside 'item'"):
        add_items(folder, pa.table({"item": ["n7"]}), tmp_path / "wide", by="vectors", quiet=True)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("item,kind\ni1,a\ni2,b\n", "knows all of these 2 items: there is nothing to add"),
        ("item,kind\nn1,a\ni2,b\n", "names 1 of the 60 items the model knows: give the attributes of known items"),
        ("item,kind\nn1,a\nn1,b\ni2,c\n", "has 'n1' in more than one row"),
        ("item,kind\ni1,a\ni2,b\n,b\n", "1 rows of the table of items have no name in 'item'"),
        ("visitorid,sku\nn1,i1\nn2,i1\n", "knows all of these 1 items"),  # a log, by its usual names
        ("thing,kind\nn1,a\n", "no column of items: its columns are thing, kind"),
    ],
)
def test_tables_that_will_not_do(folder, tmp_path, text, error):
    (tmp_path / "items.csv").write_text(text)
    with pytest.raises(UserError, match=error):
        add_items(folder, tmp_path / "items.csv", tmp_path / "grown", quiet=True)
    assert not (tmp_path / "grown").exists()


def test_wrong_words(folder, tmp_path):
    with pytest.raises(UserError, match="unknown way 'atributes', did you mean 'attributes'"):
        add_items(folder, "x.csv", tmp_path / "grown", by="atributes")
    with pytest.raises(DataError, match="no items 'x.csv'"):
        add_items(folder, "x.csv", tmp_path / "grown")
    with pytest.raises(UserError, match="the model knows no item 'i77'; did you mean 'i7'"):
        similar(folder, "i77")


def test_recommend_users_and_files(folder, tmp_path, capsys):
    whole = recommend(folder, k=4, quiet=True)
    assert whole.num_rows == 80 * 4
    (tmp_path / "users.txt").write_text("user\nu7\nu3\nnobody\n")
    out = recommend(folder, tmp_path / "users.txt", out=tmp_path / "recs.csv", k=4)
    assert "left out: 1 of 3 users whom the log does not know, such as 'nobody'" in capsys.readouterr().err
    lines = out.read_text().splitlines()
    assert lines[0] == '"user","rank","item","score"'
    rows = {u: [r["item"] for r in whole.to_pylist() if r["user"] == u] for u in ("u7", "u3")}
    assert [line.split(",")[2].strip('"') for line in lines[1:]] == rows["u7"] + rows["u3"]
    with pytest.raises(UserError, match="the log knows no user 'nobody'; "):
        recommend(folder, ["nobody"], quiet=True)
    with pytest.raises(UserError, match="the model knows none of the items"):
        recommend(folder, [["zzz"]], quiet=True)
    with pytest.raises(UserError, match="k=61, but the model knows 60 items"):
        recommend(folder, k=61, quiet=True)
    with pytest.raises(UserError, match="the list of users or histories is empty"):
        recommend(folder, [], quiet=True)


def test_attention_is_drawn(folder, tmp_path):
    out = attention(folder, out=tmp_path / "a.html", length=6, quiet=True)
    page = out.read_text()
    assert page.count('class="plot"') == 1
    assert "The last 5 items of" in page
    tokens = ask(6)(log(), np.flatnonzero(log().lengths >= 5))
    maps = drawn(method(), tokens)
    assert maps.shape == (1, 1, 6, 6)
    assert torch.allclose(maps.sum(-1), torch.ones(1, 1, 6), atol=1e-5)
    one = method().encoder.attention(tokens)
    assert torch.allclose(maps, one.mean(1), atol=1e-6)
    with pytest.raises(UserError, match="no history has 11 items, the longest 1: give less"):
        attention(folder, [["i1"]], quiet=True)


def test_histories_that_training_never_saw(folder, tmp_path, capsys):
    (tmp_path / "today.csv").write_text("user,item,time\nnew,i6,1\nnew,i11,2\nnew,strange,3\nu3,i4,7\n")
    table = recommend(folder, tmp_path / "today.csv", k=5)
    assert "left out as unknown to the model: 1 items, in 1 of 4 events" in capsys.readouterr().err
    found = {user: [r["item"] for r in table.to_pylist() if r["user"] == user] for user in ("new", "u3")}
    same = recommend(folder, {"new": ["i6", "i11"], "u3": ["i4"]}, k=5, quiet=True)["item"].to_pylist()
    assert found["new"] + found["u3"] == same
    (tmp_path / "log.csv").unlink()
    assert recommend(folder, tmp_path / "today.csv", k=5, quiet=True).num_rows == 10
    with pytest.raises(UserError, match="the log of .* cannot be had: .*; give histories"):
        recommend(folder, quiet=True)
    with pytest.raises(UserError, match="no .*missing.csv"):
        recommend(folder, str(tmp_path / "missing.csv"), quiet=True)


def test_embed_users_and_items(folder, tmp_path):
    out = embed_histories(folder, [["i3", "i8"], []], tmp_path / "users.npy", quiet=True)
    h = np.load(out)
    assert h.shape == (2, 8)
    assert (h[1] == 0).all()
    assert h[0].any()
    assert (tmp_path / "users.npy.keys.csv").read_text().split() == ["key", "0", "1"]
    out = embed_histories(folder, out=tmp_path / "items.npy", items=True, quiet=True)
    np.testing.assert_allclose(np.load(out), rows_of(method())[:, :8].numpy())


@pytest.fixture
def command():
    import twoviews.cli_histories  # noqa: F401
    from twoviews.cli import app

    def call(*words):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("sys.argv", ["twoviews", *map(str, words)])
            return app(args=[str(word) for word in words], standalone_mode=False)

    return call


def test_commands(folder, tmp_path, capsys, command):
    command("recommend", folder, "-k", 3, "-o", tmp_path / "recs.parquet", "-q")
    assert capsys.readouterr().out.strip() == str(tmp_path / "recs.parquet")
    (tmp_path / "titles.csv").write_text("item,title\ni3,Three\ni8,Eight\n")
    command("similar", folder, "i3", "-k", 59, "--titles", tmp_path / "titles.csv")
    out = capsys.readouterr().out.splitlines()
    assert out[0] == "i3  (Three)"
    assert len(out) == 60
    assert sum(line.endswith("Eight") for line in out) == 1
    command("similar", folder, "i3", "-k", 2, "--json")
    assert len(json.loads(capsys.readouterr().out)["found"]) == 2
    command("add-items", folder, attributes(tmp_path / "items.csv"), "-o", tmp_path / "grown")
    told = capsys.readouterr().err
    assert "4 items added to 60, by attributes" in told
    assert "6 known items held out" in told
    command("attention", folder, "-o", tmp_path / "a.html", "--length", 4, "-q")
    assert (tmp_path / "a.html").exists()


def test_ablations_on_one_page(tmp_path, monkeypatch):
    from importlib import import_module

    from twoviews.evaluate.score import Score
    from twoviews.evaluate.table import Table
    from twoviews.fit import Result

    asked = []
    base = Run(
        data=partial(cloze),
        encoder=partial(bert, catalogue=V, width=64),
        method=partial(BERT4Rec),
        views=partial(cloze, length=50),
        test_view=partial(ask, length=50),
    )

    def train(data, *, out, settings, **how):
        asked.append((out.name, settings))
        rows = {"popular": 0.01, "markov": 0.03, "BERT4Rec": 0.02 + len(asked) / 1000}
        table = Table("", {name: {"NDCG@10": Score(v, v - 0.01, v + 0.01, 9)} for name, v in rows.items()})
        return Result(out, base.override(settings), method(), table)

    module = import_module("twoviews.ablate")
    monkeypatch.setattr(module, "train", train)
    path = module.ablate("log.csv", out=tmp_path / "ab", settings={"epochs": 2}, quiet=True)
    assert [name for name, _ in asked] == [
        "usual",
        *("positions-start", "positions-none"),
        *("width-16", "width-32", "width-128", "width-256"),
        *("length-10", "length-20", "length-100", "length-200"),
    ]
    assert asked[2][1] == {"epochs": 2, "encoder.positions": "none"}
    page = path.read_text()
    assert page.count('class="plot"') == 3
    assert page.count("(as usual)") == 3
    assert "<td>0.0210</td>" in page
    with pytest.raises(UserError, match="unknown study 'depth'"):
        module.ablate("log.csv", studies=("depth",))
