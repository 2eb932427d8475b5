"""The floors and the vectors that training starts from: against loops, on planted structure, and on real logs."""

import gzip
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pytest
from conftest import DATA

from twoviews.data import cooccurrence
from twoviews.data.cooccurrence import entries, following, svd_vectors
from twoviews.data.histories import Histories
from twoviews.evaluate.floors import markov, popular
from twoviews.evaluate.ranking import rank
from twoviews.evaluate.sampled import rank_sampled


class Question(NamedTuple):
    history: Histories
    truth: Histories


def log(histories, catalogue):
    stops = np.cumsum([len(h) for h in histories])
    items = np.array([i for h in histories for i in h], np.int32)
    users, names = pa.array(range(len(stops))), pa.array(range(catalogue))
    return Histories("log", items, np.append(0, stops[:-1]), stops, users, names)


def random_log(users=50, catalogue=12, longest=15, seed=0):
    random = np.random.default_rng(seed)
    return [random.integers(0, catalogue, random.integers(0, longest)).tolist() for _ in range(users)]


def test_entries_are_the_histories_one_behind_the_other():
    histories = random_log()
    owners, items = entries(log(histories, 12), np.array([7, 3, 30]))
    assert items.tolist() == histories[7] + histories[3] + histories[30]
    assert owners.tolist() == [0] * len(histories[7]) + [1] * len(histories[3]) + [2] * len(histories[30])


@pytest.mark.parametrize("events", [5, 2**22])
@pytest.mark.parametrize("window", [1, 5, 40])
def test_following_is_a_loop(events, window, monkeypatch):
    monkeypatch.setattr(cooccurrence, "EVENTS", events)
    histories = random_log()
    expected = np.zeros((12, 12))
    for history in histories:
        for i, a in enumerate(history):
            for j in range(1, window + 1):
                if i + j < len(history):
                    expected[a, history[i + j]] += 1 / j
    found = following(log(histories, 12), window)
    assert found.dtype == np.float32
    assert found.indices.dtype == np.int32
    np.testing.assert_allclose(found.toarray(), expected, rtol=1e-5)
    cut = log(histories, 12)
    cut = cut.between(cut.starts, cut.stops - 2)  # what is held out does not count
    kept = log([h[:-2] for h in histories], 12)
    np.testing.assert_allclose(following(cut, window).toarray(), following(kept, window).toarray(), rtol=1e-5)


def test_following_of_nobody():
    assert following(log([[], [3]], 5)).nnz == 0
    assert following(log([], 5)).shape == (5, 5)


def test_markov_is_a_loop():
    histories, asked = random_log(seed=1), random_log(seed=2)
    train, question = log(histories, 12), log(asked, 12)
    counts, follows = {}, {}
    for history in histories:
        for i, a in enumerate(history):
            counts[a] = counts.get(a, 0) + 1
            for j, b in enumerate(history[i + 1 : i + 6], 1):
                follows.setdefault(a, {})[b] = follows.get(a, {}).get(b, 0) + 1 / j
    rows = np.array([i for i, h in enumerate(asked) if h])
    scores = markov(train)(question, rows)
    assert scores.shape == (len(rows), 12)
    for row, user in enumerate(rows):
        for item in range(12):
            value = 1e-4 * counts.get(item, 0) / max(counts.values())
            for d, a in enumerate(reversed(asked[user][-5:])):
                if a in follows:
                    value += 0.6**d * follows[a].get(item, 0) / sum(follows[a].values()) ** 0.5
            assert scores[row, item].item() == pytest.approx(value, rel=1e-4)


def test_markov_falls_back_on_what_is_popular():
    train = log([[0, 1], [2, 3], [4, 3], [3]], 7)
    scores = markov(train)(log([[6], [0]], 7), np.array([0, 1]))
    assert scores[0].argmax() == 3
    assert (scores[0] > 0).tolist() == [True] * 5 + [False] * 2
    assert scores[1].argsort(descending=True)[:2].tolist() == [1, 3]


def test_popular_keeps_the_order_of_large_counts():
    """2^24 and one more are the same number in float32."""
    train = log([[0]], 3)
    object.__setattr__(train, "counts", lambda: np.array([2**24, 2**24 + 1, 3]))
    scores = popular(train)(train, np.array([0, 0]))
    assert scores.argsort(1, descending=True).tolist() == [[1, 0, 2]] * 2
    scores[0] = 0  # a scorer's result may be written into
    assert scores[1].tolist() == [1, 2, 0]


def blocks(groups=6, size=10, users=400, seed=0):
    """Each user stays within one group of items."""
    random = np.random.default_rng(seed)
    return [(random.integers(0, size, 12) + size * (u % groups)).tolist() for u in range(users)]


def test_svd_finds_planted_groups():
    vectors = svd_vectors(log(blocks(), 65), 6)  # 5 items of the catalogue are met by nobody
    assert vectors.shape == (65, 6)
    assert vectors.dtype == np.float32
    assert vectors[:60].std() == pytest.approx(0.02, rel=1e-3)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    likeness, group = unit @ unit.T, np.arange(60) // 10
    same = group[:, None] == group
    assert likeness[:60, :60][same].min() > 0.9
    assert np.abs(likeness[:60, :60][~same]).max() < 0.3
    assert 0 < np.abs(vectors[60:]).max() < 0.1


def test_svd_is_of_ppmi():
    """All of the spectrum: the vectors of U sqrt(S) give |PPMI| back, (P P^T)^(1/2) for symmetric P."""
    histories = random_log(users=80, seed=3)
    counts = following(log(histories, 12)).toarray().astype(float)
    counts += counts.T
    expected = counts * counts.sum() / (counts.sum(0) * counts.sum(1)[:, None])
    expected = np.log(np.maximum(expected, 1))
    values, sides = np.linalg.eigh(expected)
    whole = sides @ np.diag(np.abs(values)) @ sides.T
    vectors = svd_vectors(log(histories, 12), 12).astype(float)
    found = vectors @ vectors.T
    np.testing.assert_allclose(found / np.trace(found), whole / np.trace(whole), atol=1e-4)


def test_svd_is_the_same_every_time_and_of_any_size():
    train = log(blocks(), 65)
    assert (svd_vectors(train, 6, seed=3) == svd_vectors(train, 6, seed=3)).all()
    wide = svd_vectors(train, 100)
    assert wide.shape == (65, 100)
    assert np.isfinite(wide).all()
    assert (wide.std(0) > 0).all()
    alone = svd_vectors(log([[0], [1]], 3), 4)  # nothing is met with anything
    assert np.isfinite(alone).all()
    assert alone.std() > 0
    one = svd_vectors(log([[0, 1]] * 3, 2), 2)
    assert np.isfinite(one).all()


def real(name):
    path = DATA / "rec" / name
    if not path.exists():
        pytest.skip(f"needs {path.name}: set TWOVIEWS_DATA")
    with gzip.open(path) as lines:
        users, items = np.loadtxt(lines, dtype=np.int32).T - 1
    bounds = np.searchsorted(users, np.arange(users.max() + 2))
    names = pa.array(range(items.max() + 1))
    whole = Histories(name, items, bounds[:-1], bounds[1:], pa.array(range(len(bounds) - 1)), names)
    truth = whole.between(whole.stops - 1, whole.stops)
    return (
        whole,
        whole.between(whole.starts, whole.stops - 2),
        Question(whole.between(whole.starts, whole.stops - 1), truth),
    )


def test_floors_of_movielens():
    """Full ranking as recorded with a loop; popular items also as in Sun et al. 2019, table 2: .1358 and .0621."""
    whole, train, question = real("ml-1m_sas.txt.gz")
    counts = train.counts()
    popularity, cooccurrence = popular(train), markov(train)
    found = rank(popularity, question, counts)
    assert (found.recall(10).value, found.ndcg(10).value) == pytest.approx((0.0369, 0.0180), abs=1e-4)
    found = rank(cooccurrence, question, counts)
    assert (found.recall(10).value, found.ndcg(10).value) == pytest.approx((0.2614, 0.1528), abs=1e-4)
    found = rank_sampled(popularity, question, counts, whole.counts())
    assert (found.recall(10).value, found.ndcg(10).value) == pytest.approx((0.1358, 0.0621), abs=0.006)


def test_floors_of_beauty():
    _, train, question = real("beauty_bert4rec.txt.gz")
    some = np.arange(0, len(train), 10)
    few = Question(question.history.subset(some), question.truth.subset(some))
    found = rank(markov(train), few, train.counts())
    assert found.recall(10).low < 0.0560 < found.recall(10).high
    assert found.ndcg(10).low < 0.0355 < found.ndcg(10).high
