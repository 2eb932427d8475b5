"""Training in buckets: what is trained, in which order, and that it learns what training at once does."""

import itertools
import json

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score
from test_dist import launch

from twoviews.buckets import gather, load_buckets, tables, train_buckets, training
from twoviews.buckets.files import bucket, divide
from twoviews.buckets.plan import owned, remaining, schedule, swaps
from twoviews.data.graph import Graph, Relation
from twoviews.errors import UserError

NODES, GROUPS = 240, 6
HOW = {"partitions": 4, "dim": 16, "epochs": 12, "lr": 0.2, "seed": 3}


def communities():
    """Edges (E, 2) of a graph of six groups, 9 of 10 within a group, and 400 of them held out."""
    random = np.random.default_rng(0)
    edges = random.integers(NODES, size=(9000, 2))
    edges = edges[(edges[:, 0] != edges[:, 1])]
    within = edges[:, 0] % GROUPS == edges[:, 1] % GROUPS
    edges = np.unique(np.sort(edges[within | (random.random(len(edges)) < 0.02)], 1), axis=0)
    random.shuffle(edges)
    return edges[400:], edges[:400]


def auc(folder):
    """Held-out edges against pairs at random, by the cosine of their vectors."""
    _, held = communities()
    vectors = gather(folder, folder / "all.npy")
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    random = np.random.default_rng(1).integers(NODES, size=held.shape)
    pairs = np.concatenate([held, random])
    return roc_auc_score(np.arange(len(pairs)) < len(held), (unit[pairs[:, 0]] * unit[pairs[:, 1]]).sum(1))


def read(folder):
    return {name: np.concatenate([getattr(part, name) for part in load_buckets(folder)]) for name in tables.TABLES}


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    return train_buckets(communities()[0], tmp_path_factory.mktemp("buckets") / "four", **HOW)


def test_partitions_learn_what_one_table_does(alone, tmp_path):
    whole = auc(train_buckets(communities()[0], tmp_path / "one", **HOW | {"partitions": 1}))
    assert whole > 0.85
    assert auc(alone) > whole - 0.02


def test_a_second_run_gives_the_same_bits(alone, tmp_path):
    again = read(train_buckets(communities()[0], tmp_path / "again", **HOW))
    for name, table in read(alone).items():
        assert np.array_equal(table, again[name])


class Killed(Exception):
    pass


def test_killed_and_gone_on_with_is_never_stopped(alone, tmp_path, monkeypatch):
    """Killed three times: within a round, between its files, and before they count."""
    folder, saved = tmp_path / "killed", tables.Held.save
    calls = itertools.count(1)

    def killed_after(self, pair, version):
        saved(self, pair, version)
        if next(calls) in (5, 30):
            raise Killed

    def killed_before(self, pair, version):
        if next(calls) == 17:
            raise Killed
        saved(self, pair, version)

    for save in (killed_after, killed_before, killed_after):
        monkeypatch.setattr(tables.Held, "save", save)
        with pytest.raises(Killed):
            train_buckets(communities()[0], folder, **HOW)
    monkeypatch.undo()
    ended = read(train_buckets(communities()[0], folder, **HOW))
    for name, table in read(alone).items():
        assert np.array_equal(table, ended[name])
    assert len(list(folder.glob("vectors-*.npy"))) == HOW["partitions"]  # no file of an older round is left


def together(rank, world, folder, out):
    train_buckets(communities()[0], out, **HOW)
    return {}


def test_two_processes_learn_what_one_does(alone, tmp_path):
    out = tmp_path / "out"
    launch(2, together, tmp_path, str(out))
    progress = json.loads((out / "progress.json").read_text())
    assert progress["round"] == 3 * HOW["epochs"]  # three rounds of two pairs in place of six of one
    assert auc(out) > auc(alone) - 0.02


def test_every_edge_is_trained_once_an_epoch(tmp_path, monkeypatch):
    edges, trained = communities()[0], []
    drawn = tables.Held.drawn

    def noted(self, i, j, epoch):
        pairs, order = drawn(self, i, j, epoch)
        nodes = [np.load(self.folder / f"nodes-{p:04d}.npy") for p in (i, j)]
        chosen = pairs[order]
        trained.append(np.stack([nodes[0][chosen[:, 0]], nodes[1][chosen[:, 1]]], 1))
        return pairs, order

    monkeypatch.setattr(tables.Held, "drawn", noted)
    train_buckets(edges, tmp_path / "out", **HOW | {"partitions": 5, "epochs": 1})
    found = np.concatenate(trained)
    assert np.array_equal(found[np.lexsort(found.T[::-1])], edges[np.lexsort(edges.T[::-1])])


@pytest.mark.parametrize("partitions", range(1, 10))
@pytest.mark.parametrize("world", [1, 2, 4])
def test_rounds_hold_all_buckets_once_and_no_partition_twice(partitions, world):
    for epoch in range(3):
        rounds = remaining(partitions, world, 0, epoch, [])
        assert all(len(set(sum(games, ()))) == 2 * len(games) for games in rounds if partitions > 1)
        assert max(map(len, rounds)) <= world
        pairs = [pair for games in rounds for pair in games]
        found = [b for pair in pairs for b in owned(pair, partitions, 0, epoch)]
        assert sorted(found) == sorted(itertools.product(range(partitions), repeat=2))
        done = [pair[::-1] for pair in pairs[: len(pairs) // 2]]  # and with other processes from there
        left = [pair for games in remaining(partitions, 3, 0, epoch, done) for pair in games]
        assert sorted(map(sorted, left + done)) == sorted(map(sorted, pairs))


def test_alone_one_partition_is_swapped_at_a_time():
    order = swaps(9)
    assert all(len({*a} & {*b}) == 1 for a, b in itertools.pairwise(order))
    assert all(len(games) == 4 for games in schedule(8, 4))  # no process is idle


def test_partitions_hold_every_node_once_and_of_every_type_alike(alone, tmp_path):
    parts = load_buckets(alone)
    assert sorted(np.concatenate([part.nodes for part in parts])) == list(range(NODES))
    whole = gather(alone, tmp_path / "all.npy")
    for part in parts:
        assert np.array_equal(whole[part.nodes], part.vectors)
        assert part.contexts.shape == part.vectors.shape


def graph(weights=None):
    """Users 0 .. 7 and items 8 .. 11; both relations and their reverses, and friends in both directions."""
    import scipy.sparse as sp

    def relation(source, name, target, matrix, reverse=None):
        matrix = sp.csr_matrix(matrix)
        low = 0 if target == "user" else 8
        held = None if weights is None else matrix.data.astype(np.float32)
        starts, targets = matrix.indptr.astype(np.int32), (matrix.indices + low).astype(np.int32)
        return Relation(source, name, target, starts, targets, held, reverse, directed=source != target)

    bought = np.zeros((8, 4))
    bought[[0, 1, 2, 3, 4], [0, 0, 1, 2, 3]] = [1, 2, 3, 1, 3] if weights else 1
    friends = np.zeros((8, 8))
    friends[[0, 1, 2, 5], [1, 0, 5, 2]] = 2 if weights else 1
    relations = (
        relation("user", "bought", "item", bought),
        relation("item", "rev_bought", "user", bought.T, "bought"),
        relation("user", "friend", "user", friends),
    )
    return Graph("shop", ("user", "item"), np.array([0, 8, 12]), (), relations)


def test_a_graph_gives_each_edge_once_and_types_their_share(tmp_path):
    division = divide(graph(), tmp_path, 2, 0)
    assert division.edges == 7  # five bought, two friendships
    assert division.rows == [6, 6]
    found = set()
    for i, j in itertools.product(range(2), repeat=2):
        nodes = [np.load(tmp_path / f"nodes-{p:04d}.npy") for p in (i, j)]
        assert [(part < 8).sum() for part in nodes] == [4, 4]
        found |= {tuple(sorted((int(nodes[0][a]), int(nodes[1][b])))) for a, b in bucket(tmp_path, i, j)[0]}
    assert found == {(0, 8), (1, 8), (2, 9), (3, 10), (4, 11), (0, 1), (2, 5)}
    degrees = np.zeros(12)
    for p in range(2):
        degrees[np.load(tmp_path / f"nodes-{p:04d}.npy")] = np.load(tmp_path / f"degrees-{p:04d}.npy")
    assert degrees.tolist() == [2, 2, 2, 1, 1, 1, 0, 0, 2, 1, 1, 1]


def test_a_weight_is_how_often_an_edge_is_trained(tmp_path):
    divide(graph(weights=True), tmp_path, 1, 0)
    settings = tables.Settings(2, "second", 0.1, 1, 5, 32, 0)
    held = tables.Held(tmp_path, divide(graph(weights=True), tmp_path, 1, 0), settings)
    times = sum(np.bincount(held.drawn(0, 0, epoch)[1], minlength=7) for epoch in range(600)) / 600
    nodes, pairs = np.load(tmp_path / "nodes-0000.npy"), bucket(tmp_path, 0, 0)[0]
    given = {(0, 8): 1, (1, 8): 2, (2, 9): 3, (3, 10): 1, (4, 11): 3, (0, 1): 2, (2, 5): 2}
    expected = [given[tuple(sorted(nodes[pair].tolist()))] / 2 for pair in pairs]  # their mean is 2
    assert times == pytest.approx(expected, abs=0.08)  # four errors of a mean of 600


def test_first_order_has_one_table(tmp_path):
    folder = train_buckets(communities()[0], tmp_path / "first", **HOW | {"order": "first"})
    assert all(part.contexts is None for part in load_buckets(folder))
    assert auc(folder) > 0.8


def test_partitions_without_an_edge(tmp_path):
    path = train_buckets(np.array([[0, 1], [1, 2], [999, 1]]), tmp_path, partitions=8, dim=7, epochs=2)
    vectors = gather(path, tmp_path / "all.npy")
    assert vectors.shape == (1000, 7)
    assert np.isfinite(vectors).all()


def test_what_a_stopped_call_left_is_not_read(tmp_path):
    divide(np.random.default_rng(0).integers(0, 50, (500, 2)), tmp_path, 3, seed=0)
    (tmp_path / "buckets.json").unlink()
    division = divide(np.array([[0, 1], [2, 49]]), tmp_path, 3, seed=0)
    assert [[len(bucket(tmp_path, i, j)[0]) for j in range(3)] for i in range(3)] == division.counts


def test_isolated_nodes_keep_their_first_vector(tmp_path):
    how = HOW | {"partitions": 2, "dim": 4, "epochs": 3}
    before = gather(train_buckets(graph(), tmp_path / "short", **how | {"epochs": 1}), tmp_path / "a.npy")
    after = gather(train_buckets(graph(), tmp_path / "long", **how), tmp_path / "b.npy")
    assert np.array_equal(before[6:8], after[6:8])
    assert not (before[:6] == after[:6]).any()


@pytest.mark.parametrize(
    ("data", "settings", "message"),
    [
        (np.zeros((0, 2), np.int64), {}, "no edges"),
        (np.zeros((3, 2)), {}, "whole numbers"),
        (np.array([[0, -1]]), {}, "numbered from 0"),
        (np.array([[0, 1]]), {"partitions": 3}, "between 1 and the number of nodes"),
        (np.array([[0, 1]]), {"partitions": 1, "order": "third"}, "unknown order 'third'"),
        (np.array([[0, 1]]), {"partitions": 1, "lr": 0}, "lr above 0"),
    ],
)
def test_what_cannot_be_trained(tmp_path, data, settings, message):
    with pytest.raises(UserError, match=message):
        train_buckets(data, tmp_path / "out", **HOW | settings)


def test_another_graph_or_setting_is_refused(alone, monkeypatch):
    edges = communities()[0]
    with pytest.raises(UserError, match="dim=16, not 8"):
        train_buckets(edges, alone, **HOW | {"dim": 8})
    with pytest.raises(UserError, match="partitions 4, not 5"):
        train_buckets(edges, alone, **HOW | {"partitions": 5})
    with pytest.raises(UserError, match="divided with graph"):
        train_buckets(edges[1:], alone, **HOW)
    monkeypatch.setattr(training, "free_memory", lambda: 1000)
    with pytest.raises(UserError, match="set more partitions"):
        train_buckets(edges, alone, **HOW)
