"""Runs on graphs and texts from one end to the other: every recipe, stopped and continued, measured, asked."""

import json
import os
import signal
from dataclasses import dataclass
from functools import partial

import numpy as np
import pyarrow.parquet as pq
import pytest
from safetensors.torch import load_file

import twoviews
from twoviews import search_paths
from twoviews.after import open_run
from twoviews.data.graph import held_out
from twoviews.data.graphs import graph
from twoviews.data.nodelabels import node_labels
from twoviews.data.walks import walks
from twoviews.errors import DataError, UserError
from twoviews.fit import fit, open_task
from twoviews.log import Log
from twoviews.recipes import RECIPES
from twoviews.train import Interrupted

ALWAYS = {"run.json", "metrics.jsonl", "entries.parquet", "encoder.safetensors", "evaluation.json", "checkup.json"}
ALWAYS |= {"doctor.json", "index.html"}
SMALL = {"encoder.dim": 8, "workers": 1, "batch_size": 512}
PATH = "author-paper-author"


@pytest.fixture(scope="module")
def edges(tmp_path_factory):
    """A typed graph: 60 authors of three circles, their papers and venues, two authors without an edge."""
    at, random = tmp_path_factory.mktemp("data") / "edges", np.random.default_rng(0)
    at.mkdir()
    wrote = (f"a{i},p{i % 3 * 20 + j}\n" for i in range(60) for j in random.choice(20, 3, replace=False))
    (at / "edges.author.writes.paper.csv").write_text("src,dst\n" + "".join(wrote))
    shown = (f"p{i},v{i // 20 * 2 + random.integers(2)}\n" for i in range(60))
    (at / "edges.paper.at.venue.csv").write_text("src,dst\n" + "".join(shown))
    (at / "nodes.author.csv").write_text("id,name\n" + "".join(f"a{i},Author {i}\n" for i in range(62)))
    (at.parent / "fields.csv").write_text("id,label\n" + "".join(f"a{i},{'xyz'[i % 3]}\n" for i in range(60)))
    return at


@pytest.fixture(scope="module")
def friends(edges):
    at, random = edges.parent / "friends.csv", np.random.default_rng(1)
    lines = (f"{i},{i // 20 * 20 + random.integers(20)}\n" for i in range(60) for _ in range(4))
    at.write_text("src,dst\n" + "".join(lines))
    (edges.parent / "sides.csv").write_text("id,label\n" + "".join(f"{i},{'xyz'[i // 20]}\n" for i in range(60)))
    return at


@pytest.fixture(scope="module")
def corpus(edges):
    random, words = (
        np.random.default_rng(2),
        (["cat", "dog", "sat", "mat", "ran", "purr"], ["king", "rule", "crown", "court", "lord"]),
    )
    lines = (" ".join(random.choice(words[i % 2], random.integers(4, 12))) for i in range(300))
    (edges.parent / "corpus.txt").write_text("\n".join(lines) + "\n")
    (edges.parent / "pairs.tsv").write_text("cat\tdog\t9\nking\tcrown\t8\ncat\tking\t1\nmat\tcourt\t2\n")
    return edges.parent / "corpus.txt"


def train(data, out, recipe="auto", labels=None, fresh=False, **settings):
    settings = SMALL | {key.replace("__", "."): value for key, value in settings.items()}
    return twoviews.train(
        str(data), recipe=recipe, out=out, labels=labels, device="cpu", quiet=True, fresh=fresh, settings=settings
    )


@pytest.fixture(scope="module")
def run(edges, tmp_path_factory):
    """A finished run of metapath2vec, which others ask."""
    at, labels = tmp_path_factory.mktemp("runs") / "typed", f"author={edges.parent / 'fields.csv'}"
    return train(edges, at, labels=labels, epochs=1, views__metapaths=PATH, views__length=20)


def weight(folder):
    return load_file(folder / "encoder.safetensors")["weight"].numpy()


def test_a_typed_graph_leaves_what_it_should(run, edges):
    assert {path.name for path in run.folder.iterdir()} >= ALWAYS
    rows = pq.read_table(run.folder / "entries.parquet").to_pylist()
    found = graph(str(edges))
    assert [f"{row['type']}/{row['id']}" for row in rows] == [found.key(i) for i in range(len(found))]
    assert len(rows) == len(weight(run.folder)) == len(run.method.encoder.weight)
    never = [f"{row['type']}/{row['id']}" for row in rows if not row["count"]]
    listed = (run.folder / "untrained.csv").read_text().splitlines()
    assert listed == ["key", *never]
    assert {"author/a60", "author/a61"} < set(never)
    assert all(f"venue/v{i}" in never for i in range(6))  # the meta-path passes none
    assert next(row["name"] for row in rows if row["id"] == "a3") == "Author 3"


def test_what_no_walk_meets_keeps_its_vector(run):
    from twoviews.build import untrained

    before, after = untrained(run.run).encoder.weight.detach().numpy(), weight(run.folder)
    met = np.array(pq.read_table(run.folder / "entries.parquet")["count"]) > 0
    np.testing.assert_array_equal(before[~met], after[~met])
    moved = (before[met] != after[met]).any(1)
    assert moved.mean() > 0.9  # the first chunk meets contexts that are still zeros, which move nothing


def test_labels_that_are_said_are_measured(run):
    measured = json.loads((run.folder / "evaluation.json").read_text())["rows"]
    assert {"chance", "untrained", "ProNE", "metapath2vec"} == measured.keys()
    assert measured["metapath2vec"]["macro-F1 at 50 %"]["value"] > 0


def test_labels_of_graphs(edges, friends, tmp_path):
    fields = edges.parent / "fields.csv"
    typed = graph(str(edges), labels=f"author={fields}")
    assert [(some.kind, len(some.nodes), some.classes) for some in node_labels(typed)] == [("author", 60, [*"xyz"])]
    assert node_labels(graph(str(friends), labels=str(edges.parent / "sides.csv")))[0].kind == "node"
    named = tmp_path / "labels.author.csv"
    named.write_text(fields.read_text())
    assert graph(str(edges), labels=str(named)).tables == {"author": str(named)}
    with pytest.raises(UserError, match="TYPE="):
        graph(str(edges), labels=str(fields))
    with pytest.raises(UserError, match="unknown type 'wizard'"):
        graph(str(edges), labels=f"wizard={fields}")
    with pytest.raises(DataError, match="no labels file"):
        graph(str(edges), labels="author=nowhere.csv")


def test_held_out_links_are_not_walked(run, edges):
    task = open_task(run.run)
    assert len(task.held.source)
    rest, held = held_out(task.all, run.run.holdout, 10_000, run.run.seed)
    for relation, source, target in zip(*held, strict=True):
        assert not joined(rest, source, target, relation)
        assert not joined(task.source, source, target, relation)
        assert joined(task.all, source, target, relation)


def joined(found, source, target, relation):
    edges = found.relations[relation]
    row = source - found.between(edges.source).start
    return target in edges.targets[edges.starts[row] : edges.starts[row + 1]]


@pytest.mark.parametrize("recipe", ["auto", "node2vec", "line", "prone"])
def test_recipes_of_graphs_of_one_type(friends, tmp_path, recipe):
    run = train(friends, tmp_path / "run", recipe, str(friends.parent / "sides.csv"), epochs=2)
    assert {path.name for path in run.folder.iterdir()} >= ALWAYS
    assert np.isfinite(weight(run.folder)).all()
    measured = twoviews.evaluate(run.folder, quiet=True)
    ours = {"auto": "deepwalk", "prone": "ProNE"}.get(recipe, recipe)
    assert measured.rows[ours]["macro-F1 at 80 %"].value > 0.2  # what one class alone gives is .17
    assert twoviews.doctor(run.folder, quiet=True).step >= 1
    it = open_run(run.folder, "cpu", Log(quiet=True))
    np.testing.assert_array_equal(it.method.encoder.weight.detach().numpy(), weight(run.folder))


def test_gtn_is_opened_and_measured_again(edges, tmp_path):
    labels = f"author={edges.parent / 'fields.csv'}"
    settings = {"encoder.dim": 4, "epochs": 3, "watch": 1}
    at = tmp_path / "run"
    run = twoviews.train(str(edges), recipe="gtn", out=at, labels=labels, device="cpu", quiet=True, settings=settings)
    assert ALWAYS | {"metapaths.json", "best"} <= {path.name for path in at.iterdir()}
    assert len(weight(at)) == len(pq.read_table(at / "entries.parquet"))
    table = twoviews.evaluate(at, quiet=True)
    assert table.rows["GTN"]["micro-F1"].value == run.table.rows["GTN"]["micro-F1"].value
    assert len(twoviews.similar(at, "author/a1", k=3, device="cpu").keys) == 3
    assert twoviews.report(at, quiet=True).exists()


def test_paths_are_chosen_once(edges, tmp_path, monkeypatch):
    monkeypatch.setattr(search_paths, "TOKENS", 2000)
    at = tmp_path / "run"
    before = train(edges, at, epochs=2, views__length=10)
    chosen = json.loads((at / "metapaths.json").read_text())
    assert chosen["paths"]
    monkeypatch.setattr("twoviews.fit_tables.choose_metapaths", lambda *_: pytest.fail("searched again"))
    train(edges, at, epochs=2, views__length=10)
    np.testing.assert_array_equal(weight(at), before.method.encoder.weight.detach().numpy())


CALLS = {"left": 0}


@dataclass(frozen=True)
class Stopping(walks):
    """Walks, during which somebody may ask the process to stop."""

    def over(self, source, size, seed):
        stream = super().over(source, size, seed)
        make = stream.block

        def block(epoch, index):
            CALLS["left"] -= 1
            if CALLS["left"] == 0:
                os.kill(os.getpid(), signal.SIGTERM)
            return make(epoch, index)

        object.__setattr__(stream, "block", block)
        return stream


def test_stopped_and_continued_is_the_same_bit_for_bit(edges, tmp_path):
    run = RECIPES["metapath2vec"](str(edges)).override(
        {**SMALL, "epochs": 6, "views.metapaths": PATH, "views.length": 20, "holdout": 0.0}
    )
    run = run.override({"views": partial(Stopping, PATH, 20)})
    CALLS["left"] = 0
    whole = fit(run, tmp_path / "whole", device="cpu", quiet=True)
    CALLS["left"] = 9
    with pytest.raises(Interrupted):
        fit(run, tmp_path / "parts", device="cpu", quiet=True)
    assert not (tmp_path / "parts" / "encoder.safetensors").exists()
    fit(run, tmp_path / "parts", device="cpu", quiet=True)
    stored = [folder / "encoder.safetensors" for folder in (whole.folder, tmp_path / "parts")]
    assert stored[0].read_bytes() == stored[1].read_bytes()


def test_words_are_measured_and_asked(corpus, tmp_path):
    run = train(corpus, tmp_path / "run", epochs=5, views__sample=0)
    assert {path.name for path in run.folder.iterdir()} >= ALWAYS
    pairs = corpus.parent / "pairs.tsv"
    assert "pairs, rho" in str(twoviews.evaluate(run.folder, pairs, quiet=True).to_json())
    tests = tmp_path / "tests"
    tests.mkdir()
    (tests / "mine.tsv").write_text(pairs.read_text())
    assert "mine, rho" in str(twoviews.evaluate(run.folder, tests, quiet=True).to_json())
    near = twoviews.similar(run.folder, "king", k=3, device="cpu")
    assert set(near.keys) < {"king", "rule", "crown", "court", "lord"}
    with pytest.raises(UserError, match="words have no labels"):
        twoviews.evaluate(run.folder, labels=pairs, quiet=True)


def test_vectors_leave(run, tmp_path):
    at = twoviews.embed(run.folder, out=tmp_path / "all.parquet", quiet=True)
    np.testing.assert_array_equal(np.stack(pq.read_table(at)["embedding"].to_numpy()), weight(run.folder))
    at = twoviews.embed(run.folder, out=tmp_path / "authors.bin", kind="author", quiet=True)
    assert at.read_bytes().startswith(b"62 8\n")
    twoviews.report(run.folder, out=tmp_path / "page.html", quiet=True)
    assert "author" in (tmp_path / "page.html").read_text()
    assert any(twoviews.export(run.folder, "word2vec", out=tmp_path / "w", quiet=True).iterdir())


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"start": "runs/other"}, "start"),
        ({"shard": True}, "shard"),
        ({"micro_batch": 4}, "micro_batch"),
        ({"accumulate": 2}, "accumulate"),
        ({"precision": "bf16"}, "precision"),
        ({"recompute": True}, "recompute"),
        ({"method": "simclr"}, "simclr"),
        ({"encoder": "resnet18"}, "resnet18"),
        ({"views": "sentences"}, "sentences"),
        ({"views.metapaths": "author-venue"}, "author-venue: no relation leads from author to venue"),
    ],
)
def test_settings_that_mean_nothing_here(edges, tmp_path, settings, words):
    with pytest.raises(UserError, match=words) as told:
        train(edges, tmp_path / "run", **({"views.metapaths": PATH} if "views" not in settings else {}) | settings)
    assert "\n" not in str(told.value)
    assert not (tmp_path / "run").exists()  # told before anything is written


def test_recipes_are_told_which_data_is_theirs(edges, corpus, tmp_path):
    for data, recipe, words in (
        (edges, "word2vec", "graph"),
        (corpus, "metapath2vec", "text"),
        (edges, "cifar10_simclr", "no images"),
    ):
        with pytest.raises(UserError, match=words) as told:
            twoviews.train(str(data), recipe=recipe, out=tmp_path / "run", device="cpu", quiet=True)
        assert "\n" not in str(told.value)
