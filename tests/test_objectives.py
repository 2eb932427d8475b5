"""Objectives against a float64 double loop, finite differences and known constants."""

import math

import pytest
import torch
from torch.nn.functional import normalize

from twoviews.objectives.contrast import info_nce, nt_xent, symmetric_info_nce

TEMPERATURES = (0.01, 0.07, 0.5, 1.0)


def units(*shape, seed=0, dtype=torch.float64):
    return normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype), dim=-1)


def loop_nt_xent(views, t):
    z, v, b = torch.stack(views), len(views), len(views[0])
    losses = []
    for i in range(b):
        for a in range(v):
            negatives = [z[c, j] @ z[a, i] / t for j in range(b) if j != i for c in range(v)]
            for p in range(v):
                if p != a:
                    positive = z[p, i] @ z[a, i] / t
                    losses.append(torch.stack([positive, *negatives]).logsumexp(0) - positive)
    return torch.stack(losses).mean()


def loop_info_nce(q, k, negatives, t):
    losses = []
    for i in range(len(q)):
        others = negatives if negatives is not None else [k[j] for j in range(len(k)) if j != i]
        positive = q[i] @ k[i] / t
        losses.append(torch.stack([positive, *(q[i] @ n / t for n in others)]).logsumexp(0) - positive)
    return torch.stack(losses).mean()


@pytest.mark.parametrize("t", TEMPERATURES)
@pytest.mark.parametrize("v", [2, 3, 5])
def test_nt_xent_is_the_double_loop(v, t):
    views = [units(7, 6, seed=s) for s in range(v)]
    torch.testing.assert_close(nt_xent(views, t), loop_nt_xent(views, t), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("t", TEMPERATURES)
@pytest.mark.parametrize("queue", [True, False])
def test_info_nce_is_the_double_loop(queue, t):
    q, k, negatives = units(6, 5), units(6, 5, seed=1), units(11, 5, seed=2) if queue else None
    torch.testing.assert_close(info_nce(q, k, negatives, t), loop_info_nce(q, k, negatives, t), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("t", TEMPERATURES)
def test_symmetric_info_nce_is_the_mean_of_both_directions(t):
    q, k = units(6, 5), units(6, 5, seed=1)
    loops = (loop_info_nce(q, k, None, t) + loop_info_nce(k, q, None, t)) / 2
    torch.testing.assert_close(symmetric_info_nce(q, k, t), loops, rtol=1e-12, atol=1e-12)
    assert symmetric_info_nce(q, k, t) == (info_nce(q, k, None, t) + info_nce(k, q, None, t)) / 2


def test_gradients_are_those_of_finite_differences():
    views = [units(4, 3, seed=s).requires_grad_() for s in range(3)]
    assert torch.autograd.gradcheck(lambda *z: nt_xent(z, 0.3), views)
    q, k, negatives = (units(4, 3, seed=s).requires_grad_() for s in range(3))
    assert torch.autograd.gradcheck(lambda *z: info_nce(*z, 0.3), (q, k, negatives))
    assert torch.autograd.gradcheck(lambda a, b: info_nce(a, b, None, 0.3), (q, k))
    assert torch.autograd.gradcheck(lambda a, b: symmetric_info_nce(a, b, 0.3), (q, k))


def test_equal_similarities_give_the_log_of_the_candidates():
    same = normalize(torch.ones(5, 4, dtype=torch.float64), dim=1)
    assert nt_xent([same, same], 0.1).item() == pytest.approx(math.log(2 * 5 - 1))  # 2N - 2 negatives and the positive
    assert info_nce(same, same, same[:1].expand(4096, -1), 0.2).item() == pytest.approx(math.log(4097))
    assert info_nce(same, same, None, 0.2).item() == pytest.approx(math.log(5))


def test_the_order_of_items_and_views_does_not_matter():
    views = [units(8, 4, seed=s) for s in range(3)]
    order = torch.randperm(8, generator=torch.Generator().manual_seed(3))
    shuffled = [v[order] for v in reversed(views)]
    torch.testing.assert_close(nt_xent(views, 0.2), nt_xent(shuffled, 0.2), rtol=1e-12, atol=0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("t", [0.01, 0.07])
def test_logits_stay_float32_under_autocast(dtype, t):
    """fp16 overflows at exp(1 / .07) and bf16 keeps three digits; float32 logits keep the gradient right."""
    exact = [units(32, 16, seed=s).requires_grad_() for s in range(2)]
    nt_xent(exact, t).backward()
    rough = [z.detach().float().requires_grad_() for z in exact]
    with torch.autocast("cpu", dtype=dtype):
        loss = nt_xent(rough, t)
    loss.backward()
    assert loss.dtype == torch.float32
    torch.testing.assert_close(rough[0].grad.double(), exact[0].grad, rtol=1e-3, atol=1e-5)


def test_extreme_temperatures_stay_finite():
    views = [units(16, 8, seed=s, dtype=torch.float32).requires_grad_() for s in range(2)]
    for t in (1e-3, 1e-2, 100.0):
        loss = nt_xent(views, t)
        loss.backward()
        assert loss.isfinite()
        assert views[0].grad.isfinite().all()


@pytest.mark.parametrize("t", [0, -0.1, float("nan")])
def test_a_temperature_must_be_positive(t):
    z = units(4, 3)
    with pytest.raises(ValueError, match="temperature must be positive"):
        nt_xent([z, z], t)
    with pytest.raises(ValueError, match="temperature must be positive"):
        info_nce(z, z, None, t)
    with pytest.raises(ValueError, match="temperature must be positive"):
        symmetric_info_nce(z, z, t)


def test_shapes_must_fit():
    with pytest.raises(ValueError, match="two or more views"):
        nt_xent([units(4, 3)], 0.1)
    with pytest.raises(ValueError, match="must both be"):
        info_nce(units(4, 3), units(4, 1), None, 0.1)  # would broadcast silently
    with pytest.raises(ValueError, match="must both be"):
        symmetric_info_nce(units(4, 3), units(4, 1), 0.1)
