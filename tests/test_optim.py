"""Optimisers against plain Python, schedules against known values and torch's own."""

import math
from functools import partial

import pytest
import torch
from torch import nn

from twoviews.optim import (
    LARS,
    OPTIMIZERS,
    adamw,
    constant,
    cosine,
    lars,
    multistep,
    param_groups,
    scaled_lr,
    sgd,
    sqrt_scaled_lr,
)


def network():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2)).double()
    net.scale = nn.Parameter(torch.ones((), dtype=torch.float64))
    return net


def test_biases_and_norms_do_not_decay():
    net = network()
    net[3].weight.requires_grad_(False)
    decay, rest = param_groups(net, 0.1)
    assert [id(p) for p in decay["params"]] == [id(net[0].weight)]
    expected = [net.scale, net[0].bias, net[1].weight, net[1].bias, net[3].bias]
    assert {id(p) for p in rest["params"]} == {id(p) for p in expected}
    assert (decay["weight_decay"], decay["adapt"]) == (0.1, True)
    assert (rest["weight_decay"], rest["adapt"]) == (0.0, False)


@pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_only_weights_decay(make):
    """With a gradient of zero, decay is all that moves."""
    net = network()
    optimizer = partial(make, weight_decay=0.5, lr=0.1)(net)
    before = [p.detach().clone() for p in net.parameters()]
    for p in net.parameters():
        p.grad = torch.zeros_like(p)
    optimizer.step()
    for old, new in zip(before, net.parameters(), strict=True):
        assert torch.equal(old, new) == (new.ndim <= 1)
        assert new.norm() <= old.norm()


def test_sgd_and_adamw_pass_their_settings_on():
    a = sgd(network(), lr=0.2, momentum=0.8, nesterov=True).param_groups[0]
    assert (a["lr"], a["momentum"], a["nesterov"], a["weight_decay"]) == (0.2, 0.8, True, 1e-4)
    b = adamw(network(), lr=0.2, betas=[0.5, 0.6]).param_groups[0]
    assert (b["lr"], b["betas"], b["weight_decay"]) == (0.2, (0.5, 0.6), 0.05)


def plain_lars(params, grads, velocities, lr, momentum, weight_decay, trust, adapt):
    """One step on lists of floats, as SimCLR's lars_optimizer.py writes it."""
    norm = lambda values: math.sqrt(sum(v * v for v in values))  # noqa: E731
    for w, g, v, adapted in zip(params, grads, velocities, adapt, strict=True):
        g = [gi + (weight_decay * wi if adapted else 0) for gi, wi in zip(g, w, strict=True)]
        ratio = trust * norm(w) / norm(g) if adapted and norm(w) > 0 and norm(g) > 0 else 1.0
        for i in range(len(w)):
            v[i] = momentum * v[i] + lr * ratio * g[i]
            w[i] -= v[i]


@pytest.mark.parametrize("weight_decay", [0.0, 1e-6, 0.3])
def test_lars_equals_plain_python(weight_decay):
    net = network()
    with torch.no_grad():
        net[3].weight.zero_()  # |w| = 0
    knobs = {"momentum": 0.9, "weight_decay": weight_decay, "trust": 0.02}
    optimizer = lars(net, lr=0.5, **knobs)
    params = [p.detach().flatten().tolist() for p in net.parameters()]
    velocities = [[0.0] * len(p) for p in params]
    generator = torch.Generator().manual_seed(1)
    for step in range(5):
        lr = optimizer.param_groups[0]["lr"] = optimizer.param_groups[1]["lr"] = 0.5 / (step + 1)
        for p in net.parameters():
            p.grad = torch.randn(p.shape, generator=generator, dtype=p.dtype)
        if step == 3:
            net[0].weight.grad.zero_()  # |g| = 0 where nothing decays
        grads = [p.grad.flatten().tolist() for p in net.parameters()]
        plain_lars(params, grads, velocities, lr, **knobs, adapt=[p.ndim > 1 for p in net.parameters()])
        optimizer.step()
        for p, expected in zip(net.parameters(), params, strict=True):
            assert p.flatten().tolist() == pytest.approx(expected, rel=1e-12, abs=1e-14)


def test_lars_adapts_without_weight_decay():
    w = nn.Parameter(torch.full((2, 2), 3.0))
    w.grad = torch.full((2, 2), 1e6)
    LARS([w], lr=1.0, weight_decay=0.0, trust=0.001).step()
    assert torch.allclose(w, torch.full((2, 2), 3.0 * 0.999))


def test_lars_skips_what_has_no_gradient_and_calls_the_closure():
    net = network()
    optimizer = lars(net)
    before = net[0].weight.detach().clone()

    def closure():
        loss = net[3](torch.ones(1, 4, dtype=torch.float64)).sum()
        loss.backward()
        return loss

    assert optimizer.step(closure).requires_grad
    assert torch.equal(net[0].weight, before)
    assert list(optimizer.state) == [net[3].weight, net[3].bias]


@pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_state_survives_a_file(make, tmp_path):
    def step(net, optimizer):
        for i, p in enumerate(net.parameters()):
            p.grad = torch.full_like(p, 0.1 * (i + 1))
        optimizer.step()

    one, two = network(), network()
    a, b = make(one), make(two)
    step(one, a)
    torch.save({"net": one.state_dict(), "optimizer": a.state_dict()}, tmp_path / "state.pt")
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    two.load_state_dict(state["net"])
    b.load_state_dict(state["optimizer"])
    step(one, a)
    step(two, b)
    for p, q in zip(one.parameters(), two.parameters(), strict=True):
        assert torch.equal(p, q)


def test_cosine_at_known_steps():
    assert cosine(0, 100) == 1.0
    assert cosine(50, 100) == pytest.approx(0.5)
    assert cosine(25, 100) == pytest.approx((1 + math.sqrt(0.5)) / 2)
    assert cosine(100, 100) == cosine(130, 100) == 0.0
    assert cosine(100, 100, final=0.1) == pytest.approx(0.1)
    assert cosine(50, 100, final=0.1) == pytest.approx(0.55)


@pytest.mark.parametrize("schedule", [constant, cosine, multistep])
@pytest.mark.parametrize("warmup", [10, 0.1])
def test_warmup_is_a_line_from_zero_to_one(schedule, warmup):
    factors = [schedule(step, 100, warmup=warmup) for step in range(11)]
    assert factors == pytest.approx([(step + 1) / 11 for step in range(11)])


def test_warmup_then_the_whole_cosine():
    factors = [cosine(step, 100, warmup=0.1) for step in range(101)]
    assert max(factors) == factors[10] == 1.0
    assert factors[55] == pytest.approx(0.5)
    assert factors[100] == 0.0
    assert all(a < b for a, b in zip(factors[:10], factors[1:11], strict=True))
    assert all(a > b for a, b in zip(factors[10:-1], factors[11:], strict=True))


def test_a_run_shorter_than_its_warmup_only_warms():
    assert [cosine(step, 3, warmup=3) for step in range(4)] == pytest.approx([0.25, 0.5, 0.75, 1.0])
    assert [cosine(step, 2, warmup=7) for step in range(2)] == pytest.approx([1 / 8, 2 / 8])


def test_multistep_drops_at_shares_of_the_run():
    factors = [multistep(step, 200) for step in range(200)]
    assert factors[119] == 1.0
    assert factors[120] == factors[159] == pytest.approx(0.1)
    assert factors[160] == factors[199] == pytest.approx(0.01)
    assert multistep(7, 10, at=(0.7,), gamma=0.5) == 0.5  # 0.7 * 10 is a little above 7


def test_schedules_equal_torch_where_both_exist():
    rates = torch.optim.lr_scheduler
    pairs = [
        (partial(cosine, final=0.2), lambda o: rates.CosineAnnealingLR(o, 50, eta_min=0.2)),
        (partial(multistep, at=(0.3, 0.5)), lambda o: rates.MultiStepLR(o, [15, 25])),
        (partial(constant, warmup=9), lambda o: rates.LinearLR(o, 1 / 10, total_iters=9)),
    ]
    for schedule, make in pairs:
        optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
        scheduler = make(optimizer)
        for step in range(50):
            assert optimizer.param_groups[0]["lr"] == pytest.approx(schedule(step, 50), abs=1e-9)
            optimizer.step()
            scheduler.step()


def test_both_scaling_rules_meet_at_simclrs_batch():
    assert scaled_lr(0.3, 256) == 0.3
    assert scaled_lr(0.3, 4096) == pytest.approx(4.8)
    assert sqrt_scaled_lr(0.075, 4096) == pytest.approx(4.8)
