"""ProNE against a dense float64 computation step by step, and what it does with odd graphs."""

import numpy as np
import pytest
import torch
from scipy import linalg, sparse
from scipy.special import iv

from twoviews.encoders.table import Table
from twoviews.errors import DataError, UserError
from twoviews.methods.prone import ProNE
from twoviews.objectives.spectral import factorised
from twoviews.types import Batch


def random_graph(nodes, edges, seed=0, weighted=True):
    rng = np.random.default_rng(seed)
    source, target = rng.integers(nodes, size=(2, edges))
    keep = source != target
    weight = rng.uniform(0.5, 3, edges) if weighted else np.ones(edges)
    a = np.zeros((nodes, nodes))
    a[source[keep], target[keep]] = weight[keep]
    return np.maximum(a, a.T)


def unit(x):
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def dense(a, width, alpha=0.75, step=10, mu=0.2, theta=0.5):
    """The equations as they stand, with full singular value decompositions; the second has the filter's closed form."""
    p = a / a.sum(1, keepdims=True)
    noise = p.sum(0) ** alpha
    edge = a > 0
    ratio = np.where(edge, np.log(np.where(edge, p, 1)) - np.log(noise / noise.sum()), 0)
    u, s, _ = linalg.svd(ratio)
    f = unit(u[:, :width] * np.sqrt(s[:width]))
    looped = a + np.eye(len(a))
    m = (1 - mu) * np.eye(len(a)) - looped / looped.sum(1, keepdims=True)
    x = m @ m / 2 - np.eye(len(a))
    before, now = np.eye(len(a)), x
    out = iv(0, theta) * before - 2 * iv(1, theta) * now
    for i in range(2, step):
        before, now = now, 2 * x @ now - before
        out += 2 * (-1) ** i * iv(i, theta) * now
    np.testing.assert_allclose(out, linalg.expm(-theta * x), atol=1e-9)  # the series is the exponential
    u, s, _ = linalg.svd(looped @ (f - out @ f), full_matrices=False)
    return unit(u * np.sqrt(s))


def solved(a, width, **settings):
    table = Table(len(a), width)
    ProNE(table, **settings).solve(sparse.csr_matrix(a), seed=1)
    return table.weight.detach().numpy()


@pytest.mark.parametrize("settings", [{}, {"alpha": 1.0, "mu": 0.5, "theta": 0.2, "step": 6}])
def test_equals_the_dense_computation(settings):
    a = random_graph(60, 400)
    ours, theirs = solved(a, 50, **settings), dense(a, 50, **settings)  # with 10 more columns nothing is approximate
    np.testing.assert_allclose(ours @ ours.T, theirs @ theirs.T, atol=2e-3)  # up to the signs of singular vectors
    np.testing.assert_allclose(np.linalg.norm(ours, axis=1), 1, atol=1e-5)


def test_randomised_factors_span_what_the_exact_ones_do():
    rng = np.random.default_rng(0)
    u, v = linalg.qr(rng.normal(size=(300, 12)), mode="economic")[0], linalg.qr(rng.normal(size=(300, 12)))[0][:, :12]
    s = np.linspace(12, 1, 12)
    ours = factorised(sparse.csr_matrix((u * s) @ v.T, dtype=np.float32), 6, seed=0)
    theirs = unit(u[:, :6] * np.sqrt(s[:6]))
    np.testing.assert_allclose(ours @ ours.T, theirs @ theirs.T, atol=1e-3)


def test_isolated_nodes_keep_their_vector_and_change_no_other():
    a = random_graph(40, 200)
    wide = np.zeros((43, 43))
    wide[:40, :40] = a
    wide[41, 41] = 5.0  # an edge to itself joins it to nothing
    table = Table(43, 8)
    before = table.weight.detach().clone()
    ProNE(table).solve(sparse.csr_matrix(wide), seed=1)
    assert torch.equal(table.weight[40:], before[40:])
    np.testing.assert_allclose(table.weight[:40].detach().numpy(), solved(a, 8), atol=1e-6)


def test_directions_do_not_matter():
    a = random_graph(50, 300)
    np.testing.assert_array_equal(solved(np.triu(a), 8), solved(a, 8))


def test_weights_count():
    a = random_graph(60, 400)
    assert np.abs(solved(a, 8) @ solved(a, 8).T - solved(1.0 * (a > 0), 8) @ solved(1.0 * (a > 0), 8).T).max() > 0.1


def test_more_columns_than_nodes():
    ours = solved(random_graph(10, 40), 16)
    assert np.isfinite(ours).all()
    assert (ours[:, 10:] == 0).all()
    np.testing.assert_allclose(np.linalg.norm(ours, axis=1), 1, atol=1e-5)


def test_two_nodes_in_one_column():
    """The filter leaves nothing of them: the second factorisation is of zeros."""
    assert np.isfinite(solved(np.array([[0.0, 1], [1, 0]]), 1)).all()


def test_two_groups_are_told_apart():
    rng = np.random.default_rng(0)
    group = np.repeat([0, 1], 60)
    a = rng.random((120, 120)) < np.where(group[:, None] == group, 0.3, 0.02)
    vectors = solved(np.triu(a, 1) | np.triu(a, 1).T, 16)
    alike = vectors @ vectors.T
    same = group[:, None] == group
    assert alike[same].mean() > alike[~same].mean() + 0.2


def test_errors():
    model = ProNE(Table(5, 2))
    with pytest.raises(UserError, match="5 rows"):
        model.solve(sparse.csr_matrix(np.ones((4, 4))))
    with pytest.raises(UserError, match="got -1"):
        model.solve(sparse.csr_matrix(-np.eye(5)[::-1]))
    with pytest.raises(DataError, match="no edge"):
        model.solve(sparse.csr_matrix(np.eye(5)))
    with pytest.raises(UserError, match="solve"):
        model(Batch([torch.arange(5)], torch.arange(5)))
    with pytest.raises(UserError, match="step=1"):
        ProNE(Table(5, 2), step=1)
