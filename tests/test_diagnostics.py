"""Diagnostics on constructed cases whose answer is known, and against plain loops."""

import math
from itertools import combinations

import pytest
import torch
from conftest import Numbers, Tiny
from torch.nn.functional import normalize

from twoviews import diagnostics as d
from twoviews.methods import PAIRS
from twoviews.negatives import Queue


def draw(n=64, dim=8, seed=0):
    return normalize(torch.randn(n, dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64), dim=1)


def test_spectrum_is_that_of_the_covariance():
    x = draw(50, 7) * torch.arange(1, 8)
    values = torch.linalg.svdvals(torch.cov(x.T, correction=0))
    torch.testing.assert_close(d.spectrum(x).square(), values)
    wide = d.spectrum(x.T)  # fewer rows than dimensions: the other Gram matrix
    torch.testing.assert_close(wide, torch.linalg.svdvals(x.T - x.T.mean(0)) / math.sqrt(7))


def test_effective_rank_and_participation_of_known_shapes():
    axes = torch.eye(6).repeat(5, 1)  # six directions, equally used
    assert d.effective_rank(axes).item() == pytest.approx(6)
    assert d.effective_rank(torch.ones(30, 6)).item() == pytest.approx(1)
    assert d.participation_ratio(torch.cat([axes[:, :3], -axes[:, :3]])).item() == pytest.approx(3)
    line = torch.linspace(-1, 1, 20)[:, None] * torch.ones(4)
    assert d.participation_ratio(line).item() == pytest.approx(1)


def test_effective_rank_follows_its_formula():
    x = draw(40, 5) * torch.tensor([5, 1, 0.5, 0.1, 0.01])
    s = torch.linalg.svdvals(x)
    p = s / s.sum()
    assert d.effective_rank(x).item() == pytest.approx(math.exp(-(p * p.log()).sum()))


def test_spread_of_a_point_and_of_a_sphere():
    assert d.spread(torch.ones(9, 4)).tolist() == [0] * 4
    assert d.spread(draw(200_000, 16)).mean().item() * 4 == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize("tile", [1000, 16, 7])
def test_uniformity_is_the_mean_over_pairs(tile):
    x = draw(33)
    pairs = [math.exp(-2 * (x[i] - x[j]).square().sum()) for i, j in combinations(range(33), 2)]
    assert d.uniformity(x, tile=tile).item() == pytest.approx(math.log(sum(pairs) / len(pairs)))


def test_uniformity_of_one_point_is_zero_and_falls_with_spread():
    assert d.uniformity(torch.ones(5, 1)).item() == pytest.approx(0)
    assert d.uniformity(draw(500, 256)).item() == pytest.approx(-4, abs=0.1)


def test_alignment():
    x = draw()
    assert d.alignment(x, x).item() == 0
    assert d.alignment(x, -x).item() == pytest.approx(4)
    assert d.alignment(x, -x, power=1).item() == pytest.approx(2)


def test_matched_counts_only_clear_wins():
    positive = torch.tensor([0.9, 0.5, 0.5])
    negatives = torch.tensor([[0.1, 0.8], [0.5, 0.2], [0.6, 0.1]])
    assert d.matched(positive, negatives).item() == pytest.approx(1 / 3)  # a tie is no win: all equal is not 100 %


def test_in_play_counts_the_negatives_that_matter():
    assert d.in_play(torch.zeros(3, 10), 0.5).item() == pytest.approx(10)
    one = torch.zeros(3, 10)
    one[:, 4] = 1
    assert d.in_play(one, 0.01).item() == pytest.approx(1)


def test_negatives_gap_compares_distances_with_those_inside_the_batch():
    z, k, n = draw(12), draw(12, seed=1), draw(30, seed=2)
    others = [1 - (z[i] @ k[j]).item() for i in range(12) for j in range(12) if i != j]
    expected = (1 - z @ n.T).mean().item() / (sum(others) / len(others)) - 1
    assert d.negatives_gap(z, k, n).item() == pytest.approx(expected)
    close = normalize(torch.ones(12, 8) + 0.01 * draw(12), dim=1)
    assert d.negatives_gap(close, close, close).item() == pytest.approx(0, abs=0.2)
    assert d.negatives_gap(close, close, n).item() > 1000


def test_variety_is_a_ratio_of_total_variances():
    x = draw(40)
    assert d.variety(3 * x, x).item() == pytest.approx(9)
    assert d.variety(x[:1].expand(7, -1), x).item() == pytest.approx(0)


def test_false_negatives():
    labels = torch.tensor([0, 0, 1, -1])
    assert d.false_negatives(labels).item() == pytest.approx(2 / 6)
    assert d.false_negatives(labels, torch.tensor([1, 1, 0, -1])).item() == pytest.approx((2 * 1 + 1 * 2) / 9)
    assert d.false_negatives(torch.tensor([-1, -1])).item() == 0


def test_what_is_not_finite_stays_visible():
    x = torch.full((4, 3), math.nan)
    assert d.effective_rank(x).isnan()
    assert d.spectrum(x).isnan().all()


def test_queue_age():
    queue = Queue(10, 2)
    assert queue.age == 0
    for expected in (1, 2, 3, 3):
        queue.push(draw(4, 2).float())
        assert queue.age == expected


@pytest.mark.parametrize("name", PAIRS)
def test_observe_reads_every_method_and_changes_nothing(name):
    torch.manual_seed(0)
    known = {"dim": 4, "hidden": 8, "queue": 20, "classes": 3, "items": 8, "negatives": 6}
    from inspect import signature

    method = PAIRS[name](Tiny(), **{k: v for k, v in known.items() if k in signature(PAIRS[name]).parameters})
    batch = Numbers().batch(0)
    out = method(batch)
    seen = d.observe(out, batch.labels)
    assert {"z_rank", "h_rank", "z_spread", "uniformity", "false_negatives"} <= seen.keys()
    assert all(v.ndim == 0 and v.isfinite() for v in seen.values())
    if out.contrast is not None:
        # At equal logits the loss is what `chance` says.
        assert 0 <= seen["matched"] <= 1
        assert 0 < seen["in_play"] <= 1 + 1e-9
    out.loss.backward()


@pytest.mark.parametrize("name", ["simclr", "moco", "end_to_end"])
def test_chance_is_the_loss_when_nothing_is_told_apart(name):
    """An encoder that gives one vector for everything: all logits equal, whatever the temperature."""

    class Same(Tiny):
        def forward(self, x):
            return super().forward(x) * 0 + 1

    from inspect import signature

    known = {"dim": 4, "hidden": 8, "queue": 20}
    method = PAIRS[name](Same(), **{k: v for k, v in known.items() if k in signature(PAIRS[name]).parameters})
    method.eval()  # BatchNorm in the head would divide nothing by nothing
    if getattr(method, "queue", None) is not None:
        method.queue.push(method.project(torch.ones(20, 6)).detach())
    out = method(Numbers().batch(0))
    assert out.loss.item() == pytest.approx(out.contrast.chance, rel=1e-5)
    assert d.observe(out)["bound"].item() == pytest.approx(0, abs=1e-5)
