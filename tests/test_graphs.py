"""Graphs: one result from all forms, the rules, what is done with the rows, and one line for what cannot be used."""

import gzip
import json

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from conftest import DATA
from PIL import Image
from scipy import sparse

from twoviews.data import graphread, graphtables, room
from twoviews.data.checkgraph import check_graph, dead_ends
from twoviews.data.graph import adjacency, held_out, isolated, merged
from twoviews.data.graphkernels import rows
from twoviews.data.graphs import graph, is_graph, notes
from twoviews.data.logs import is_log
from twoviews.data.nodelabels import node_labels
from twoviews.errors import DataError, UserError

WRITES = [("ann", "p1"), ("bob", "p1"), ("ann", "p2"), ("cyd", "p3"), ("ann", "p1")]
IN = [("p1", "kdd"), ("p2", "kdd"), ("p3", "www")]
TRIPLES = {("author", "writes", "paper"): WRITES, ("paper", "in", "venue"): IN}


def write(path, edges, header=None, mark="\t"):
    lines = ([mark.join(header)] if header else []) + [mark.join(map(str, edge)) for edge in edges]
    content = ("\n".join(lines) + "\n").encode()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


def table(edges, names=("src", "dst")):
    return pa.table([pa.array(column) for column in zip(*edges, strict=True)], names=list(names))


def told(g, weights=False):
    """{triple: sorted edges by id}, with weights."""
    ids = [name for t in g.ids for name in t.to_pylist()]
    out = {}
    for relation in g.relations:
        span = g.between(relation.source)
        sources = np.repeat(np.arange(span.start, span.stop), np.diff(relation.starts))
        heavy = np.ones(len(relation)) if relation.weights is None else relation.weights
        found = [(ids[s], ids[t], w) for s, t, w in zip(sources, relation.targets, heavy.tolist(), strict=True)]
        out[relation.triple] = sorted(edge if weights else edge[:2] for edge in found)
    return out


def whole(triples):
    """What `told` gives of edges and their reverses."""
    out = {triple: sorted(edges) for triple, edges in triples.items()}
    return out | {(t, f"rev_{n}", s): sorted((b, a) for a, b in edges) for (s, n, t), edges in triples.items()}


@pytest.fixture
def folder(tmp_path):
    write(tmp_path / "edges.author.writes.paper.tsv.gz", WRITES)
    write(tmp_path / "edges.paper.in.venue.tsv.gz", IN)
    names = [("zoe", "1970", 'Zoe "Z" Z'), ("ann", "1980", '"Ann A'), ("bob", "1990", "Bob B")]
    write(tmp_path / "nodes.author.tsv.gz", names)
    write(tmp_path / "labels.author.tsv.gz", [("ann", 1), ("bob", 0), ("ann", 0), ("who", 1)])
    (tmp_path / "label_names.author.json").write_text('["maths", "art"]')
    (tmp_path / "README.md").write_text("a graph")
    return tmp_path


@pytest.mark.parametrize("name", ["edges.{}.{}.{}.tsv", "{}.{}.{}.parquet", "{}-{}-{}.csv", "{}__{}__{}.csv.gz"])
def test_forms_of_names(tmp_path, name):
    for triple, edges in TRIPLES.items():
        path = tmp_path / name.format(*triple)
        if path.suffix == ".parquet":
            pq.write_table(table(edges, ("source", "target")), path, row_group_size=2)
        elif path.suffix == ".tsv":
            write(path, edges)
        else:
            write(path, edges, header=("author_id", "paper_id") if triple[1] == "writes" else ("from", "to"), mark=",")
    assert is_graph(str(tmp_path))
    assert told(graph(tmp_path)) == whole(TRIPLES)


def test_parts_and_mapping(tmp_path):
    parts = tmp_path / "author__writes__paper.parquet"
    parts.mkdir()
    pq.write_table(table(WRITES[:2]), parts / "part-0.parquet")
    pq.write_table(table(WRITES[2:]), parts / "part-1.parquet")
    other = write(tmp_path / "where.csv", IN, ("paper", "venue"), ",")
    assert told(graph({("author", "writes", "paper"): parts, ("paper", "in", "venue"): other})) == whole(TRIPLES)


def test_manifest(tmp_path):
    write(tmp_path / "a.csv", WRITES, ("u", "v"), ",")
    write(tmp_path / "friends.csv", [("ann", "bob"), ("bob", "cyd")], ("u", "v"), ",")
    said = {
        "relations": [
            {"file": "a.csv", "source": "author", "name": "writes", "target": "paper"},
            {"file": "friends.csv", "source": "author", "name": "knows", "target": "author", "directed": False},
        ]
    }
    (tmp_path / "graph.json").write_text(json.dumps(said))
    assert is_graph(tmp_path)
    found = graph(tmp_path)
    both = sorted([("ann", "bob"), ("bob", "ann"), ("bob", "cyd"), ("cyd", "bob")])
    assert told(found) == whole({("author", "writes", "paper"): WRITES}) | {("author", "knows", "author"): both}
    assert found.edges == len(WRITES) + 2


def test_folder(folder):
    found = graph(folder)
    assert told(found) == whole(TRIPLES)
    assert found.types == ("author", "paper", "venue")
    assert found.ids[0].to_pylist() == ["zoe", "ann", "bob", "cyd"]  # the list of nodes comes first
    assert found.names["author"].to_pylist() == ['Zoe "Z" Z', '"Ann A', "Bob B", None]
    assert isolated(found).tolist() == [True] + [False] * (len(found) - 1)
    assert found.key(1) == "author/ann"
    assert found.kinds.tolist() == [0] * 4 + [1] * 3 + [2] * 2
    assert found.counted == {"nodes without an edge": 1}
    text = "\n".join(notes(found))
    assert "author -writes-> paper: 5 edges" in text
    assert "rev_writes" in text
    for relation in found.relations:
        assert relation.starts.dtype == relation.targets.dtype == np.int32
        span = found.between(relation.target)
        assert ((relation.targets >= span.start) & (relation.targets < span.stop)).all()
    assert [r.reverse for r in graph(folder, reverse=False).relations] == [None, None]


def test_labels(folder, tmp_path_factory):
    found = graph(folder)
    (labels,) = node_labels(found)
    assert (labels.kind, labels.classes, labels.multi, labels.unknown) == ("author", ["maths", "art"], True, 1)
    assert labels.nodes.tolist() == [1, 2]
    assert labels.matrix.tolist() == [[True, True], [True, False]]
    other = tmp_path_factory.mktemp("labels") / "classes.parquet"
    pq.write_table(pa.table({"label": ["a", None, "b"], "paper_id": ["p3", "p2", "p1"]}), other)
    (papers,) = node_labels(found, other, "paper")
    assert papers.classes == ["a", "b"]
    assert papers.nodes.tolist() == [4, 6]
    assert papers.matrix.tolist() == [[False, True], [True, False]]
    with pytest.raises(UserError, match="of which type"):
        node_labels(found, other)
    with pytest.raises(DataError, match="names no venue"):
        node_labels(found, other, "venue")
    with pytest.raises(UserError, match="did you mean 'paper'"):
        node_labels(found, other, "papers")
    with pytest.raises(DataError, match="known to hold labels.*it has x, z"):
        node_labels(found, write(other.parent / "labels.paper.csv", [("p1", 2)], ("x", "z"), ","))


@pytest.mark.parametrize("mark", ["\t", ",", " ", ";", "|"])
def test_plain_lists(tmp_path, mark):
    edges = [(0, 1), (1, 2), (2, 2), (0, 1)]
    expected = sorted([(0, 1), (1, 0), (1, 2), (2, 1), (2, 2), (0, 1), (1, 0)])
    found = graph(write(tmp_path / "edges.csv", edges, mark=mark))
    assert told(found) == {("node", "edge", "node"): expected}
    assert (found.edges, found.key(2)) == (4, "2")
    one = graph(write(tmp_path / "x.edgelist", edges, mark=mark), directed=True)
    assert told(one) == whole({("node", "edge", "node"): edges})
    assert not one.relations[0].weights
    turned = graph(tmp_path / "x.edgelist", directed=True, source=2, target=1, reverse=False)
    assert told(turned) == {("node", "edge", "node"): sorted((b, a) for a, b in edges)}


def test_both_directions_given(tmp_path):
    pairs = [(0, 1), (1, 2), (2, 2)]
    found = graph(write(tmp_path / "edges.tsv", pairs + [(1, 0), (2, 1)]))
    assert told(found) == told(graph(write(tmp_path / "edges.csv", pairs)))
    assert (found.edges, found.relations[0].directed) == (3, False)


def test_comments_and_blanks(tmp_path):
    snap = tmp_path / "roads.txt"
    snap.write_text("# Nodes: 3 Edges: 2\n# FromNodeId\tToNodeId\n7\t9\n9\t30\n")
    assert is_graph(snap)
    assert not is_graph(write(tmp_path / "words.txt", [("from", "here", "on")], mark=" "))
    assert told(graph(snap, directed=True, reverse=False)) == {("node", "edge", "node"): [(7, 9), (9, 30)]}
    spaced = tmp_path / "spaced.edgelist"
    spaced.write_text("# of three\n  a   b  0.5\n b c  2 \nlost\n")
    found = graph(spaced)
    edges = [("a", "b", 0.5), ("b", "a", 0.5), ("b", "c", 2.0), ("c", "b", 2.0)]
    assert told(found, weights=True) == {("node", "edge", "node"): edges}
    assert found.counted == {"rows of another number of fields": 1}
    tags = write(tmp_path / "my-own-tags.csv", [("#a", " b"), ("#b ", "#a")], mark=",")
    assert told(graph(tags, source=1, target=2, directed=True, reverse=False)) == {
        ("node", "edge", "node"): [("#a", "b"), ("#b", "#a")]
    }


@pytest.mark.parametrize(
    ("ids", "order"),
    [
        ([3, 0, 1, 0], [0, 1, 2, 3]),  # numbers of nodes, one of which nothing names
        ([3, 1, 2, 1], [1, 2, 3]),  # counted from one
        ([90, 0, 70, 5], [0, 5, 70, 90]),
        ([-4, 9, 2**40, 9], [-4, 9, 2**40]),
        (["7", "x", "07", "7"], ["7", "x", "07"]),
        ([1.0, 0.0, 2.0, 0.0], [0, 1, 2]),
    ],
)
@pytest.mark.parametrize("kind", ["parquet", "csv"])
def test_ids(tmp_path, ids, order, kind):
    path = tmp_path / f"edges.a.to.b.{kind}"
    if kind == "csv" and isinstance(ids[0], float):
        pytest.skip("numbers in text are as they are written")
    columns = pa.table({"src": ids, "dst": ["x", "y", "x", "x"]})
    (pq.write_table if kind == "parquet" else pa.csv.write_csv)(columns, path)
    found = graph(tmp_path)
    assert found.ids[0].to_pylist() == order
    assert told(found)["a", "to", "b"] == sorted(zip(ids, ["x", "y", "x", "x"], strict=True))


def test_text_after_numbers(tmp_path, monkeypatch):
    monkeypatch.setattr(graphtables, "HEAD", 8)
    found = graph(write(tmp_path / "edges.tsv", [(1, 2), (2, 3), (3, "x"), ("", 1)]))
    assert found.ids[0].to_pylist() == ["1", "2", "3", "x"]
    assert found.counted == {"rows without a source": 1}


def test_one_type_in_files_of_numbers_and_of_text(tmp_path):
    pq.write_table(pa.table({"src": [7, 8], "dst": ["p", "q"]}), tmp_path / "a.x.b.parquet")
    write(tmp_path / "a.y.c.csv", [("7", "r"), ("z", "r")], ("src", "dst"), ",")
    assert graph(tmp_path).ids[0].to_pylist() == ["7", "8", "z"]


def test_weights(tmp_path):
    path = write(tmp_path / "edges.tsv", [("a", "b", 2), ("b", "c", 0.5), ("c", "d", 0)])
    found = graph(path)
    assert sorted(found.relations[0].weights) == [0.5, 0.5, 2, 2]
    assert found.counted == {"edges of weight zero": 1}
    assert "weights 0.5 to 2" in "\n".join(notes(found))
    assert graph(path, weight="").relations[0].weights is None
    equal = write(tmp_path / "same.csv", [("a", "b", 3), ("b", "c", 3)], ("src", "dst", "w"), ",")
    assert graph(equal).relations[0].weights is None
    named = write(tmp_path / "named.csv", [("a", "b", 3), ("b", "c", 4)], ("src", "dst", "times"), ",")
    assert graph(named).relations[0].weights is None
    assert sorted(graph(named, weight="times").relations[0].weights) == [3, 3, 4, 4]


@pytest.mark.parametrize("both", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
def test_rows_against_scipy(both, weighted):
    random, n = np.random.default_rng(0), 40
    edges = random.integers(0, n, (2, 300)).astype(np.int32)
    weights = random.random(300, np.float32) if weighted else None
    parts = [(*edges[:, a:b], None if weights is None else weights[a:b]) for a, b in ((0, 100), (100, 300))]
    forward, back = rows(parts, n, n, both)
    dense = np.zeros((n, n))
    np.add.at(dense, tuple(edges), 1 if weights is None else weights)
    if both:
        dense = dense + dense.T - np.diag(np.diag(dense))
    for found, expected in ((forward, dense), (back, dense.T)):
        data = np.ones(len(found.targets)) if weights is None else found.weights
        shown = sparse.csr_matrix((data, found.targets, found.starts), shape=(n, n))
        np.testing.assert_allclose(shown.toarray(), expected, rtol=1e-6)
        assert shown.has_sorted_indices
    assert not parts


def test_scipy_and_arrays():
    matrix = sparse.random(6, 6, 0.4, random_state=0, format="csr")
    found = graph(matrix, directed=True)
    np.testing.assert_allclose(adjacency(graph(matrix, directed=True, reverse=False)).toarray(), matrix.toarray(), 1e-6)
    assert [r.name for r in found.relations] == ["edge", "rev_edge"]
    bipartite = sparse.csr_matrix(np.array([[1, 0, 0], [0, 0, 1]]))
    index = np.array([[0, 1], [0, 2]])
    one = graph({("a", "to", "b"): bipartite, ("b", "in", "c"): np.array([[0], [0]])})
    two = graph({("a", "to", "b"): index, ("b", "in", "c"): np.array([[0], [0]])})
    assert told(one) == told(two)
    assert one.fingerprint() == two.fingerprint()
    assert is_graph(matrix)
    assert is_graph({("a", "to", "b"): index})


def test_reverses_that_are_given():
    there, back = np.array([[0, 0, 1], [1, 2, 0]]), np.array([[0, 1, 2], [1, 0, 0]])
    for name in ("rev_to", "to", "by"):
        found = graph({("b", name, "a"): back, ("a", "to", "b"): there})
        assert {r.triple: r.reverse for r in found.relations} == (
            {("a", "to", "b"): None, ("b", "rev_to", "a"): "to"}
            if name == "rev_to"
            else {("b", name, "a"): None, ("a", "to", "b"): name}
        )
        assert found.edges == 3
    with pytest.raises(DataError, match="2 relations b-rev_to-a"):
        graph({("a", "to", "b"): there, ("b", "rev_to", "a"): back[:, :2]})


def test_pyg():
    geometric = pytest.importorskip("torch_geometric.data")
    import torch

    data = geometric.HeteroData()
    data["author"].num_nodes, data["paper"].num_nodes = 4, 3
    data["author", "writes", "paper"].edge_index = torch.tensor([[0, 1, 2], [2, 0, 0]])
    data["paper", "cites", "paper"].edge_index = torch.tensor([[0, 1], [1, 2]])
    data["paper", "cites", "paper"].edge_weight = torch.tensor([1.0, 3.0])
    assert is_graph(data)
    found = graph(data)
    edges = {("author", "writes", "paper"): [(0, 2), (1, 0), (2, 0)], ("paper", "cites", "paper"): [(0, 1), (1, 2)]}
    assert told(found) == whole(edges)
    assert isolated(found).tolist() == [False, False, False, True, False, False, False]
    assert [r.weights.tolist() for r in found.relations if r.weights is not None] == [[1, 3], [1, 3]]
    one = geometric.Data(edge_index=torch.tensor([[0, 1, 1, 2], [1, 0, 2, 1]]), num_nodes=4)
    assert is_graph(one)
    assert told(graph(one)) == {("node", "edge", "node"): [(0, 1), (1, 0), (1, 2), (2, 1)]}
    assert (graph(one).edges, len(graph(one))) == (2, 4)


def test_networkx():
    networkx = pytest.importorskip("networkx")
    typed = networkx.Graph()
    typed.add_nodes_from(["ann", "bob", "cyd"], type="author")
    typed.add_nodes_from(["p1", "p2", "p3"], type="paper")
    typed.add_edges_from([("p1", "ann"), ("bob", "p1"), ("ann", "p2"), ("cyd", "p3")], type="writes")
    assert told(graph(typed)) == whole({("author", "writes", "paper"): WRITES[:4]})
    karate = networkx.karate_club_graph()
    assert is_graph(karate)
    dense = networkx.to_numpy_array(karate)
    np.testing.assert_array_equal(adjacency(graph(karate)).toarray(), dense)
    many = networkx.MultiDiGraph([(0, 1, "likes"), (0, 1, "knows"), (1, 1, "knows")])
    assert told(graph(many, reverse=False)) == {
        ("node", "likes", "node"): [(0, 1)],
        ("node", "knows", "node"): [(0, 1), (1, 1)],
    }


def toy(seed=0, n=30, edges=200):
    random = np.random.default_rng(seed)
    ends = lambda a, b, count: np.stack([random.integers(0, a, count), random.integers(0, b, count)])  # noqa: E731
    return graph(
        {
            ("a", "to", "b"): (ends(n, 20, edges), 0.5 + random.random(edges)),
            ("a", "likes", "a"): ends(n, n, edges),
            ("a", "sees", "b"): ends(n, 20, edges // 2),
        }
    )


def test_merged_and_adjacency():
    found = toy()
    dense = np.zeros((len(found), len(found)))
    for relation in found.relations:
        span = found.between(relation.source)
        sources = np.repeat(np.arange(span.start, span.stop), np.diff(relation.starts))
        np.add.at(dense, (sources, relation.targets), 1 if relation.weights is None else relation.weights)
    np.testing.assert_allclose(adjacency(found).toarray(), dense, rtol=1e-5)
    starts, targets, weights = merged(found)
    assert len(targets) == len(weights) == sum(map(len, found.relations))
    assert all((np.diff(targets[a:b]) >= 0).all() for a, b in zip(starts, starts[1:], strict=False))
    assert merged(graph(sparse.eye(3, k=1)))[2] is None


def test_held_out():
    found = toy(edges=400)
    left, links = held_out(found, 0.2, 1000, seed=3)
    again = held_out(found, 0.2, 1000, seed=3)
    assert all(np.array_equal(a, b) for a, b in zip(links, again[1], strict=True))
    assert not np.array_equal(links.source, held_out(found, 0.2, 1000, seed=4)[1].source)
    before, after = ([adjacency_of(g, i) for i in range(len(g.relations))] for g in (found, left))
    for number, relation in enumerate(found.relations):
        mine = links.relation == number
        gone = {*zip(links.source[mine], links.target[mine], strict=True)}
        if relation.reverse is not None:
            assert not gone
            assert np.array_equal(after[number], after[number - 1].T)
            continue
        assert 0 < len(gone) <= 0.2 * len(relation)
        assert all(before[number][edge] and not after[number][edge] for edge in gone)
        rest = before[number].copy()
        rest[tuple(zip(*gone, strict=True))] = 0
        assert np.array_equal(rest, after[number])
        sources, targets = map(list, zip(*gone, strict=True))
        assert (after[number][sources].sum(1) > 0).all()
        assert (after[number][:, targets].sum(0) > 0).all()
    assert left.fingerprint() != found.fingerprint()
    assert len(held_out(found, 0.5, 10, seed=0)[1].source) <= 10
    with pytest.raises(UserError, match="between 0 and 1, got 1"):
        held_out(found, 1, 10, seed=0)


def adjacency_of(g, number):
    relation = g.relations[number]
    span = g.between(relation.source)
    out = np.zeros((len(g), len(g)), int)
    np.add.at(out, (np.repeat(np.arange(span.start, span.stop), np.diff(relation.starts)), relation.targets), 1)
    return out


def test_held_out_undirected(tmp_path):
    ring = [(i, (i + 1) % 30) for i in range(30)] + [(i, (i + 2) % 30) for i in range(30)] + [(0, 0)]
    found = graph(write(tmp_path / "edges.tsv", ring))
    left, links = held_out(found, 0.3, 100, seed=0)
    matrix = adjacency(left).toarray()
    assert len(links.source) == int(0.3 * 61)
    assert (matrix == matrix.T).all()
    assert (matrix[links.source, links.target] == 0).all()
    assert (links.source < links.target).all()
    assert ((matrix - np.diag(np.diag(matrix))).sum(1) > 0).all()
    star = graph(write(tmp_path / "star.edgelist", [(0, i) for i in range(1, 9)] + [(0, 0)]))
    assert not len(held_out(star, 0.5, 100, seed=0)[1].source)  # each end would lose its last edge


def test_fingerprint(folder):
    digest = graph(folder).fingerprint()
    write(folder / "edges.paper.in.venue.tsv.gz", IN[::-1])
    assert len(digest) == 16
    assert graph(folder).fingerprint() != digest  # papers and venues are met in another order
    write(folder / "edges.paper.in.venue.tsv.gz", IN)
    assert graph(folder).fingerprint() == digest
    write(folder / "edges.author.writes.paper.tsv.gz", [*WRITES[:-1], ("ann", "p3")])
    assert graph(folder).fingerprint() != digest


def test_check(folder):
    write(folder / "edges.author.knows.author.csv", [("ann", "ann"), ("ann", "bob")])
    found = graph(folder)
    number = {relation.name: i for i, relation in enumerate(found.relations)}
    report = check_graph(found, [("A-P-V", [[number["writes"]], [number["in"]]])])
    assert report.whole
    assert report.isolated == {"author": 1, "paper": 0, "venue": 0}
    writes = next(r for r in report.relations if r.name == "writes")
    assert (writes.edges, writes.duplicates, writes.loops) == (5, 1, 0)
    assert (writes.out, writes.back) == ((0, 1, 3, 3, 3), (1, 1, 3, 3, 3))
    assert next(r for r in report.relations if r.name == "knows").loops == 1
    first, second = report.metapaths["A-P-V"]
    assert (first.kind, first.reached, first.dead, first.share) == ("author", 4, 1, 0.25)
    assert (second.kind, second.reached, second.dead) == ("paper", 3, 0)
    json.dumps(report.to_dict())
    text = "\n".join(report.lines())
    assert "25.00% of walks end at 1 (25.0%) of 4 author" in text
    assert "1 (25.0%) without an edge" in text


def test_dead_ends_by_brute_force():
    found = toy(edges=30)
    steps = [[i for i, r in enumerate(found.relations) if r.name in names] for names in (("to", "sees"), ("rev_to",))]
    first, second = dead_ends(found, steps)
    there, back = (
        sum(sparse_of(found, i, found.relations[i].weights) for i in step) for step in steps
    )  # sums of weights
    totals = there.sum(1)[:30]
    assert (first.reached, first.dead) == (30, int((totals == 0).sum()))
    mass = (there[:30] / np.maximum(totals, 1e-9)[:, None]).sum(0) / 30
    dead = (mass > 0) & (back.sum(1) == 0)
    assert second.dead == int(dead.sum())
    assert second.share == pytest.approx(mass[dead].sum(), abs=1e-6)
    assert first.share == pytest.approx((totals == 0).mean())


def sparse_of(g, number, weights):
    out = adjacency_of(g, number).astype(float)
    if weights is not None:
        out[:] = 0
        relation = g.relations[number]
        span = g.between(relation.source)
        rows_ = np.repeat(np.arange(span.start, span.stop), np.diff(relation.starts))
        np.add.at(out, (rows_, relation.targets), weights)
    return out


def test_what_is_a_graph(folder, tmp_path_factory):
    other = tmp_path_factory.mktemp("other")
    assert is_graph(folder)
    assert is_graph(write(other / "x.csv", [("a", "b")], ("source", "target"), ","))
    logs = other / "logs"
    logs.mkdir()
    log = write(logs / "2024-01-15.csv", [("u1", "i1", 3)], ("user_id", "item_id", "timestamp"), ",")
    assert is_log(log)
    write(logs / "a.b.c.csv", [("u1", "i1", 3)], ("user", "item", "time"), ",")
    pictures = other / "pictures"
    pictures.mkdir()
    Image.new("RGB", (4, 4)).save(pictures / "a-b-c.png")
    pq.write_table(pa.table({"image": [b"x"], "label": [1]}), pictures / "x.y.z.parquet")
    (other / "book.txt").write_text("to be or not to be\n")
    (other / "way.txt").write_text("from here to there\nand back again\n")
    not_graphs = [
        log,
        logs,
        pictures,
        other / "book.txt",
        other / "way.txt",
        other / "absent.csv",
        "s3://bucket/edges",
        [["a", "b"]],
    ]
    assert [is_graph(data) for data in not_graphs] == [False] * len(not_graphs)
    assert not is_graph({"ann": ["a", "b"]})
    assert not is_graph(table(WRITES))


def raises(data, match, **settings):
    with pytest.raises(UserError, match=match) as caught:
        graph(data, **settings)
    assert "\n" not in str(caught.value)


def test_errors(tmp_path, monkeypatch):
    raises(tmp_path / "none", "no such file")
    raises(tmp_path, "no file is named like edges.author.writes.paper.tsv")
    for name in ("one.csv", "two.csv"):
        write(tmp_path / name, WRITES, ("src", "dst"), ",")
    raises(tmp_path, "as are not one.csv and two.csv|as are not one.csv, two.csv")
    path = write(tmp_path / "who.csv", [("a", "b", 1)], ("who", "whom", "n"), ",")
    raises(path, "no column of .* the sources of edges.*its columns are who, whom, n")
    raises(path, "did you mean 'who'", source="whoo", target="whom")
    raises(path, "cannot both be column 'who'", source="who", target="who")
    assert told(graph(path, source="who", target="whom", directed=True, reverse=False)) == {
        ("node", "edge", "node"): [("a", "b")]
    }
    raises(write(tmp_path / "neg.edgelist", [(0, 1, 2), (1, 2, -3)]), "1 weights that are negative.*the first -3")
    raises(write(tmp_path / "nan.edgelist", [(0, 1, 2), (1, 2, "nan")]), "the first nan|no numbers", weight=3)
    raises(write(tmp_path / "word.csv", [(0, 1, "x")], ("src", "dst", "weight"), ","), "weights that are no numbers")
    raises(write(tmp_path / "zero.edgelist", [(0, 1, 0)]), "no edges in zero.edgelist: 1 edges of weight zero")
    raises(write(tmp_path / "empty.csv", []), "is empty")
    raises(write(tmp_path / "bare.csv", [], ("src", "dst"), ","), "no edges in bare.csv")
    (tmp_path / "cut.parquet").write_bytes(b"PAR1 and no more")
    raises(tmp_path / "cut.parquet", "cannot read")
    (tmp_path / "edges.tsv.gz").write_bytes(gzip.compress(b"1\t2\n" * 10000)[:-20])
    raises(tmp_path / "edges.tsv.gz", "cannot read")
    raises(3, "cannot read a graph from a int")
    raises({("a", "to", "b"): np.zeros((3, 2))}, r"shape \(2, E\)")
    raises({("a", "to", "b"): np.array([[0], [-1]])}, "nodes of type b are numbers from 0 on, but -1")
    raises({("a", "to", "b"): np.array([[0], [9]]), ("b", "in", "c"): sparse.eye(3)}, "3 nodes of type b, but .* 9")
    raises({("a", "to", "b"): np.zeros((2, 0), int)}, "no edges")
    eye = sparse.eye(3)
    raises({("a", "to", "b"): eye, ("b", "in", "c"): sparse.eye(4)}, "4 nodes of type b, but 3")
    monkeypatch.setattr(graphread, "SAID", 1)
    monkeypatch.setattr(graphread, "free_memory", lambda: 1)
    raises(tmp_path / "one.csv", "edges need about .* GiB of memory while they are read, but 0.0 GiB are free")
    monkeypatch.setattr(graphread, "free_memory", room.free_memory)
    assert graph(tmp_path / "one.csv").edges == 5


RELATION = {"file": "a.csv", "source": "x", "name": "y", "target": "z"}


@pytest.mark.parametrize(
    ("said", "match"),
    [
        ("{", "is no JSON"),
        ("{}", "names no relations"),
        ({"relations": [{"file": "a.csv"}]}, "lacks file, source, name or target"),
        ({"relations": [RELATION | {"file": "b.csv"}]}, "'b.csv', which is not there"),
        ({"relations": [RELATION | {"dir": 1}]}, "unknown entry 'dir'"),
        ({"relations": [RELATION | {"directed": False}]}, "joins x and z"),
        ({"relations": [RELATION], "labels": {"xx": "a.csv"}}, "did you mean 'x'"),
        ({"relations": [RELATION], "names": ["a.csv"]}, "give a file for each type"),
        ({"relations": [RELATION, RELATION]}, "2 relations x-y-z"),
    ],
)
def test_manifest_that_is_wrong(tmp_path, said, match):
    write(tmp_path / "a.csv", WRITES, ("src", "dst"), ",")
    (tmp_path / "graph.json").write_text(said if isinstance(said, str) else json.dumps(said))
    raises(tmp_path, match)


REAL = {  # nodes, edges, nodes without an edge, labelled nodes, classes
    "acl_hin": (212_803, 1_112_820, 0, {"author": 18_390, "paper": 11_469, "venue": 41}, 8),
    "dbis": (134_060, 265_317, 0, {}, 0),
    "blogcatalog": (10_312, 333_983, 0, {"node": 10_312}, 39),
    "wikipedia_pos": (4_777, 92_295, 0, {"node": 4_777}, 40),
    "citeseer": (3_327, 4_552, 48, {"node": 3_312}, 6),
    "karate": (34, 78, 0, {"node": 34}, 2),
}


@pytest.mark.parametrize("name", REAL)
def test_real(name):
    if not (DATA / "graph" / name).is_dir():
        pytest.skip(f"{name} is not there")
    nodes, edges, alone, labelled, classes = REAL[name]
    found = graph(DATA / "graph" / name)
    assert (len(found), found.edges, int(isolated(found).sum())) == (nodes, edges, alone)
    labels = node_labels(found)
    assert {label.kind: len(label.nodes) for label in labels} == labelled
    assert all(len(label.classes) == classes for label in labels)
    if name == "dbis":
        number = {relation.name: i for i, relation in enumerate(found.relations)}
        (step,) = dead_ends(found, [[number["written_by"]]])
        assert (step.reached, step.dead) == (72_902, 695)
