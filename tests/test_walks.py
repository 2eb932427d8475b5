"""Walks against what their papers say: transition frequencies, ends, order, and meta-paths as users write them."""

import itertools
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import pytest
from scipy.stats import chisquare

from twoviews import calls
from twoviews.data import schema, walkkernels
from twoviews.data.graph import Graph, Relation
from twoviews.data.walks import GRAPH_VIEWS, Walked, edges, node2vec_walks, walks
from twoviews.errors import DataError, UserError

RARE = 1e-4  # a true frequency fails so often; the numbers are fixed by seeds


def graph(sizes, relations, name="toy"):
    """sizes: type -> nodes. relations: (source, name, target) -> rows of local (source, target[, weight])."""
    types, offsets = tuple(sizes), np.concatenate([[0], np.cumsum(list(sizes.values()))])
    made = []
    for (source, relation, target), rows in relations.items():
        table = np.array(sorted(rows) or np.empty((0, 2)), np.float64)
        starts = np.searchsorted(table[:, 0], np.arange(sizes[source] + 1))
        targets = table[:, 1] + offsets[types.index(target)]
        weights = table[:, 2].astype(np.float32) if table.shape[1] == 3 else None
        made.append(Relation(source, relation, target, starts.astype(np.int32), targets.astype(np.int32), weights))
    return Graph(name, types, offsets, (), tuple(made))


def both(source, name, target, rows):
    return {(source, name, target): rows, (target, f"rev_{name}", source): [(b, a, *w) for a, b, *w in rows]}


@pytest.fixture(scope="module")
def papers():
    """Authors 0-3 (3 wrote nothing), papers 4-8 (8 has no author and no venue), venues 9-10, terms 11-12."""
    wrote = [(0, 0), (0, 1), (1, 1), (1, 2), (2, 3)]
    return graph(
        {"author": 4, "paper": 5, "venue": 2, "term": 2},
        both("author", "writes", "paper", wrote)
        | both("paper", "published_in", "venue", [(0, 0), (1, 0), (2, 1)])  # paper 3 has no venue: a dead end
        | both("paper", "cites", "paper", [(1, 0), (2, 0), (2, 1)])
        | both("paper", "has", "term", [(0, 0), (1, 0), (1, 1)])
        | {("author", "reviews", "paper"): [(0, 1), (0, 4)], ("term", "nothing", "venue"): []},
    )


@pytest.fixture(scope="module")
def plain():
    """One type, weights, an edge given twice, a loop, an isolated node 6 and a node 5 with no way out."""
    rows = [(0, 1, 1), (0, 2, 3), (0, 3, 0.5), (1, 0, 1), (1, 2, 2), (2, 0, 3), (2, 1, 2), (2, 2, 4), (2, 4, 1),
            (3, 0, 0.5), (3, 0, 0.5), (3, 4, 7), (4, 3, 7), (4, 2, 1), (4, 5, 0.25)]  # fmt: skip
    return graph({"node": 7}, {("node", "edge", "node"): rows})


def sequences(stream, epochs=1):
    for epoch, index in itertools.product(range(epochs), range(stream.blocks)):
        made = stream.block(epoch, index)
        assert made.tokens.dtype == np.int32
        assert made.bounds.dtype == np.int64
        assert made.bounds[0] == 0
        assert made.bounds[-1] == len(made.tokens)
        yield from (tuple(s) for s in np.split(made.tokens, made.bounds[1:-1]))


def transitions(found, size):
    counts = np.zeros((size, size))
    for walk in found:
        np.add.at(counts, (list(walk[:-1]), list(walk[1:])), 1)
    return counts


def assert_drawn(counts, chances):
    """The counts of each row came from its chances; what has none never came."""
    for seen, wanted in zip(counts, chances, strict=True):
        can = wanted > 0
        assert not seen[~can].any()
        if seen.sum() and can.sum() > 1:
            expected = wanted[can] / wanted.sum() * seen.sum()
            assert expected.min() > 5
            assert chisquare(seen[can], expected).pvalue > RARE


def dense(source, relations=None):
    out = np.zeros((len(source), len(source)))
    for relation in source.relations if relations is None else [source.relations[i] for i in relations]:
        rows = np.repeat(np.arange(len(relation.starts) - 1), np.diff(relation.starts))
        weights = 1 if relation.weights is None else relation.weights
        np.add.at(out, (rows + source.between(relation.source).start, relation.targets), weights)
    return out


@pytest.mark.parametrize("views", [walks(length=10), node2vec_walks(length=10)])
@pytest.mark.parametrize("which", ["plain", "papers"])
def test_steps_are_drawn_by_weight(views, which, request):
    source = request.getfixturevalue(which)
    stream = views.over(source, 10_000, seed=1)
    found = list(sequences(stream, epochs=300))
    assert_drawn(transitions(found, len(source)), dense(source))
    assert stream.blocks == 1


def test_walks_end_at_dead_ends_and_nowhere_else(plain):
    for walk in sequences(walks(length=6).over(plain, 64, seed=3), epochs=50):
        assert len(walk) == 6 or walk[-1] in (5, 6)
        assert 5 not in walk[:-1]
    alone = [walk for walk in sequences(node2vec_walks(2.0, 0.5, length=6).over(plain, 64, seed=3)) if walk[0] == 6]
    assert alone == [(6,)]


@pytest.mark.parametrize("simple", [True, False])
@pytest.mark.parametrize(("p", "q"), [(0.25, 4.0), (4.0, 0.25), (0.5, 0.5), (1.0, 3.0), (0.1, 1.0)])
def test_second_order(plain, p, q, simple):
    """alpha(t, x) w(v, x) by brute force (Grover and Leskovec 2016, section 3.2.2), for all v reached from t.

    With weights, a loop and an edge that stands there twice, and with none of these but one-way edges.
    """
    if simple:
        pairs = {(a, b) for a, b in np.argwhere(dense(plain)).tolist() if a != b} | {(5, 3), (5, 1), (1, 4)}
        plain = graph({"node": 7}, {("node", "edge", "node"): sorted(pairs)})
    near = dense(plain)
    counts = {}
    for walk in sequences(node2vec_walks(p, q, length=12).over(plain, 10_000, seed=5), epochs=2500):
        for t, v, x in zip(walk, walk[1:], walk[2:], strict=False):
            counts.setdefault((t, v), np.zeros(len(plain)))[x] += 1
    assert len(counts) == sum(np.count_nonzero(near[:, v]) for v in range(7) if near[v].any())
    for (t, v), seen in counts.items():
        alpha = np.where(near[t] > 0, 1, 1 / q)
        alpha[t] = 1 / p
        assert_drawn(seen[None], (near[v] * alpha)[None])


def test_a_way_back_that_is_the_only_way_is_taken_at_once():
    """However large p is: waiting for chance would take 1e12 draws a step."""
    leaves = [(0, n) for n in range(1, 9)] + [(n, 0) for n in range(1, 9)]
    star = graph({"node": 9}, {("node", "edge", "node"): leaves})
    for walk in sequences(node2vec_walks(p=1e12, q=1.0, length=9).over(star, 100, seed=0)):
        assert len(walk) == 9
        assert all(a != c for a, b, c in zip(walk, walk[1:], walk[2:], strict=False) if b == 0)


def test_names_that_hold_a_dash():
    dashed = graph({"co-author": 2, "a": 1}, both("co-author", "writes-with", "a", [(0, 0), (1, 0)]))
    for spec in (
        ("co-author", "a", "co-author"),
        "co-author > a > co-author",
        "co-author -writes-with-> a -rev_writes-with->co-author",
        "writes-with>rev_writes-with",
    ):
        path = schema.parse(dashed, spec)
        assert path.types == ("co-author", "a", "co-author")
        assert schema.parse(dashed, str(path)) == path
    assert [str(path) for path in schema.candidates(dashed)] == ["co-author>a>co-author", "a>co-author>a"]


def test_a_step_joins_all_relations_between_its_types(papers):
    path = schema.parse(papers, "author-paper-author")
    assert path.steps == ((0, 8), (1,))
    found = list(sequences(walks("author-paper-author", length=7).over(papers, 500, seed=2), epochs=1500))
    kinds = papers.kinds
    assert {tuple(kinds[list(walk)]) for walk in found} <= {(0, 1, 0, 1, 0, 1, 0)[:n] for n in range(1, 8)}
    assert_drawn(transitions(found, len(papers)), dense(papers, [0, 1, 8]))
    assert {walk for walk in found if walk[0] == 3} == {(3,)}
    assert {walk[-1] for walk in found if len(walk) < 7} == {3, 8}  # wrote nothing; was reviewed but has no author


def test_a_path_that_is_no_round_is_walked_once(papers):
    found = list(sequences(walks("author-paper-venue", length=40).over(papers, 500, seed=2), epochs=20))
    assert {len(walk) for walk in found} == {1, 2, 3}
    assert {walk for walk in found if walk[0] == 2} == {(2, 7)}


def test_wide_starts_are_read_alike(plain):
    relation = plain.relations[0]
    wide = Relation(*relation.triple, relation.starts.astype(np.int64), relation.targets, relation.weights)
    for views in (walks(length=9), node2vec_walks(0.5, 2.0, length=9)):
        other = Graph("wide", plain.types, plain.offsets, (), (wide,))
        assert list(sequences(views.over(plain, 64, seed=1))) == list(sequences(views.over(other, 64, seed=1)))


@pytest.fixture(scope="module")
def random():
    rng = np.random.default_rng(0)
    rows = [(a, b, w) for a, b, w in zip(*rng.integers(0, 700, (2, 3000)), rng.random(3000) + 0.1, strict=True)]
    shown = {(a, b % 300) for a, b, _ in rows}
    return graph({"a": 700, "b": 300}, both("a", "likes", "b", sorted(shown)) | {("a", "knows", "a"): rows})


@pytest.mark.parametrize(
    "views", [walks(length=8), walks("a-b-a,a-a", length=8, keep=("a",)), node2vec_walks(0.5, 2.0, length=8), edges()]
)
def test_blocks_and_threads_change_nothing(views, random):
    one, many = (views.over(random, size, seed=7) for size in (10**6, 300))
    assert one.blocks == 1
    assert many.blocks > 10
    assert sorted(sequences(one, epochs=2)) == sorted(sequences(many, epochs=2))
    with ThreadPoolExecutor(3) as pool:
        blocks = list(pool.map(partial(many.block, 1), range(many.blocks)))
    again = views.over(random, 300, seed=7)
    for index in reversed(range(many.blocks)):
        ours = again.block(1, index)
        assert np.array_equal(ours.tokens, blocks[index].tokens)
        assert np.array_equal(ours.bounds, blocks[index].bounds)
    assert sorted(sequences(views.over(random, 300, seed=8))) != sorted(sequences(many))


def test_every_start_once_in_an_order_of_its_own(random):
    stream = walks("a-b-a,b-a-b", length=5).over(random, 100, seed=0)
    orders = []
    for epoch in (0, 1):
        blocks = [stream.block(epoch, index) for index in range(stream.blocks)]
        starts = [block.tokens[block.bounds[:-1]].tolist() for block in blocks]
        assert sorted(itertools.chain(*starts)) == list(range(1000))
        assert max(len(s) for s in starts) <= 2 * 100 / 5  # both paths have a part in every block
        orders.append([s for block in starts for s in block if s < 700])
    assert orders[0] != orders[1]
    assert abs(np.corrcoef(orders[0], np.arange(700))[0, 1]) < 0.15


@pytest.mark.parametrize("n", [1, 2, 5, 64, 1000])
def test_shuffled_is_a_permutation(n):
    assert sorted(walkkernels.shuffled(i, n, np.uint64(9)) for i in range(n)) == list(range(n))


def test_keep_drops_the_other_types(random):
    whole = walks("a-b-a", length=9).over(random, 500, seed=4)
    kept = walks("a-b-a", length=9, keep=("b",)).over(random, 500, seed=4)
    assert kept.blocks < whole.blocks
    cut = [tuple(x for x in walk if x >= 700) for walk in sequences(whole)]
    assert sorted(sequences(kept)) == sorted(walk for walk in cut if walk)
    assert kept.items == pytest.approx(sum(map(len, cut)), rel=0.05)


def test_counts(random, monkeypatch):
    for views in (walks(length=8, keep=("b",)), walks("a-b-a,b-a-b", length=8), node2vec_walks(2.0, 0.5, length=8)):
        stream = views.over(random, 300, seed=7)
        exact = np.bincount(list(itertools.chain(*sequences(stream))), minlength=1000)
        assert np.array_equal(stream.counts(), exact)
    monkeypatch.setattr("twoviews.data.walks.COUNTED", stream.items // 4)
    part = stream.counts()
    assert part.min() >= 1  # each node starts a walk
    by_degree = np.argsort(exact)
    got, wanted = (counts[by_degree].reshape(4, 250).sum(1) for counts in (part, exact))
    np.testing.assert_allclose(got, wanted, rtol=0.2)


def test_edges(plain):
    stream = edges().over(plain, 20, seed=1)
    found = list(sequences(stream, epochs=1500))
    assert len(found) == 1500 * plain.edges
    weights = dense(plain)
    assert_drawn(transitions(found, 7).reshape(1, -1), weights.reshape(1, -1))
    wanted = (weights.sum(0) + weights.sum(1)) * plain.edges / weights.sum()
    assert np.array_equal(stream.counts(), np.ceil(np.float32(wanted)))
    assert stream.counts()[6] == 0


def test_aliases_hold_the_chances():
    rng = np.random.default_rng(3)
    lengths = np.array([1, 0, 2, 7, 300])
    starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    targets = np.concatenate([np.arange(n) for n in lengths]).astype(np.int32)
    weights = np.exp(3 * rng.standard_normal(310)).astype(np.float32)
    weights[[5, 100]] = 0
    shares, others = np.empty(310, np.float32), np.empty(310, np.int32)
    walkkernels.aliases(starts, targets, weights, shares, others)
    for low, high in itertools.pairwise(starts):
        if high > low:
            got = (shares[low:high] + np.bincount(others[low:high], 1.0 - shares[low:high], high - low)) / (high - low)
            np.testing.assert_allclose(got, weights[low:high] / weights[low:high].sum(dtype=float), atol=1e-7)


@pytest.mark.parametrize(
    ("spec", "types", "steps"),
    [
        ("author-paper-venue-paper-author", "apvpa", [(0, 8), (2,), (3,), (1,)]),
        ("author > paper > author", "apa", [(0, 8), (1,)]),
        (("author", "paper"), "ap", [(0, 8)]),
        ("author -writes-> paper -published_in-> venue", "apv", [(0,), (2,)]),
        ("author -> paper -cites->paper", "app", [(0, 8), (4,)]),
        (("writes", "rev_writes"), "apa", [(0,), (1,)]),
        ("writes>has", "apt", [(0,), (6,)]),
        ([("author", "reviews", "paper"), ("paper", "rev_writes", "author")], "apa", [(8,), (1,)]),
        ("paper-paper", "pp", [(4, 5)]),
    ],
)
def test_meta_paths_as_they_are_written(papers, spec, types, steps):
    path = schema.parse(papers, spec)
    assert "".join(kind[0] for kind in path.types) == types
    assert path.steps == tuple(steps)
    assert path.cyclic == (types[0] == types[-1])
    assert schema.parse(papers, str(path)) == path


@pytest.mark.parametrize(
    ("spec", "error", "words"),
    [
        ("author-venue", UserError, ["author-venue", "no relation leads from author to venue", "writes (to paper)"]),
        ("author-papr-author", UserError, ["'papr'", "did you mean 'paper'"]),
        ("author", UserError, ["has no step", "writes (to paper)"]),
        ("writes>has>writes", UserError, ["no 'writes' leads from term", "rev_has (to paper)"]),
        ("writes>hass", UserError, ["relation 'hass'", "did you mean 'has'"]),
        ("author -cites-> paper", UserError, ["no 'cites' leads from author to paper"]),
        ("author ->", UserError, ["node type ''"]),
        ([("author", "writes", "paper")] * 2, UserError, ["begins at author", "ends at paper", "cites (to paper)"]),
        ([("author", "wrote", "paper")], UserError, ["('author', 'wrote', 'paper')", "('author', 'writes', 'paper')"]),
        ("term-venue", DataError, ["no edge leads from term to venue", "nothing"]),
        ("venue -> paper -nothing-> term", UserError, ["no 'nothing' leads from paper to term"]),
    ],
)
def test_a_break_is_named_in_one_line(papers, spec, error, words):
    with pytest.raises(error) as raised:
        schema.parse(papers, spec)
    assert "\n" not in str(raised.value)
    for word in words:
        assert word in str(raised.value)


def test_a_name_of_several_relations_must_be_made_plain():
    twice = graph({"a": 1, "b": 1}, {("a", "to", "b"): [(0, 0)], ("b", "to", "a"): [(0, 0)]})
    with pytest.raises(UserError, match="to leads from a to b and b to a"):
        schema.parse(twice, "to>to")
    assert schema.parse(twice, "a -to-> b -to-> a").steps == ((0,), (1,))


def test_several_meta_paths(papers):
    def several(specs):
        return [str(path) for path in schema.parse_all(papers, specs)]

    assert several("author-paper-author, paper-venue-paper") == ["author-paper-author", "paper-venue-paper"]
    assert several(("author-paper", ("paper", "term"), "writes>has")) == ["author-paper", "paper-term", "writes>has"]
    assert several(("author", "paper", "author")) == ["author-paper-author"]
    assert several(("writes", "rev_writes")) == ["writes>rev_writes"]
    assert several("") == several(()) == []


def test_candidates(papers):
    found = [path.types for path in schema.candidates(papers)]
    assert len(found) == len(set(found))
    joined = {(r.source, r.target) for r in papers.relations if len(r)}
    wanted = set()
    for n in range(1, 5):  # every symmetric round by brute force
        for path in itertools.product(papers.types, repeat=n + 1):
            rounds = [path[:-1] == path[:k] * (n // k) for k in range(1, n) if n % k == 0]
            if path == path[::-1] and set(itertools.pairwise(path)) <= joined and not any(rounds):
                wanted.add(path)
    assert set(found[:-1]) == wanted
    assert set(found[-1]) == set(papers.types)  # the last comes by every type
    assert set(itertools.pairwise(found[-1])) <= joined
    assert [path.types for path in schema.candidates(papers, length=2)] == [
        path for path in found if len(path) < 4 or path == found[-1]
    ]


def test_candidates_of_one_type(plain):
    assert [str(path) for path in schema.candidates(plain)] == ["node-node"]


@pytest.mark.parametrize("name", sorted(GRAPH_VIEWS))
def test_views_can_be_written_down(name):
    views = GRAPH_VIEWS[name]
    assert calls.rebuild(calls.describe(views))() == views()
    call = calls.change(partial(walks), "metapaths", ["a-b-a", "a-a"], "views")
    assert calls.rebuild(calls.describe(call))() == walks(("a-b-a", "a-a"))


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda g: walks(length=1), UserError, "views.length must be 2 nodes or more, got 1"),
        (lambda g: node2vec_walks(p=0.0), UserError, "views.p must be above 0 and finite, got 0.0"),
        (lambda g: node2vec_walks(q=float("inf")), UserError, "views.q must be above 0 and finite, got inf"),
        (lambda g: walks("auto").over(g, 100, 0), UserError, "views.metapaths=auto"),
        (lambda g: walks("author-paper-author", keep=("venue",)).over(g, 100, 0), UserError, "'venue'"),
        (lambda g: walks(keep=("auther",)).over(g, 100, 0), UserError, "did you mean 'author'"),
    ],
)
def test_views_that_cannot_be(make, error, words, papers):
    with pytest.raises(error, match=words):
        make(papers)


@pytest.mark.parametrize("views", [walks(), node2vec_walks(), edges()])
def test_a_graph_without_edges(views):
    with pytest.raises(DataError, match="bare has no edge to walk on"):
        views.over(graph({"node": 3}, {("node", "edge", "node"): []}, name="bare"), 100, 0)


def test_a_stream_is_what_the_plan_says(random):
    stream = walks(length=8).over(random, 500, seed=1)
    assert isinstance(stream, Walked)
    assert stream.items == pytest.approx(sum(map(len, sequences(stream))), rel=0.05)
    assert abs(stream.items / stream.blocks - 500) < 50
