"""Losses by tiles against the double loops and the plain forms, and that nothing large is ever made."""

from functools import cache

import pytest
import torch
from test_objectives import loop_info_nce, loop_nt_xent, units
from torch.nn.functional import normalize
from torch.utils._python_dispatch import TorchDispatchMode

from twoviews.objectives import contrast, streamed, tiles
from twoviews.objectives.contrast import info_nce, nt_xent, symmetric_info_nce

TEMPERATURES = (0.005, 0.01, 0.07, 1.0, 100.0)
N, D = 7, 6


@pytest.fixture
def stream(monkeypatch):
    """Stream however few the logits; `cells` of a tile; `online` sums whether needed or not."""

    def set(cells=20, online=None, few=0):
        monkeypatch.setattr(contrast, "FEW", few)
        monkeypatch.setitem(tiles.CELLS, "cpu", cells)
        if online is not None:
            monkeypatch.setattr(tiles, "_may_overflow", lambda *_: online)

    return set


def loop_symmetric(q, k, t):
    return (loop_info_nce(q, k, None, t) + loop_info_nce(k, q, None, t)) / 2


LOSSES = {  # name: (loss, oracle, shapes of its vectors)
    "two views": (lambda t, *z: nt_xent(z, t), lambda t, *z: loop_nt_xent(z, t), [N] * 2),
    "three views": (lambda t, *z: nt_xent(z, t), lambda t, *z: loop_nt_xent(z, t), [N] * 3),
    "five views": (lambda t, *z: nt_xent(z, t), lambda t, *z: loop_nt_xent(z, t), [N] * 5),
    "batch": (lambda t, q, k: info_nce(q, k, None, t), lambda t, q, k: loop_info_nce(q, k, None, t), [N] * 2),
    "both": (lambda t, q, k: symmetric_info_nce(q, k, t), lambda t, q, k: loop_symmetric(q, k, t), [N] * 2),
    "queue": (lambda t, q, k, n: info_nce(q, k, n, t), lambda t, q, k, n: loop_info_nce(q, k, n, t), [N, N, 11]),
}


def vectors(name, dtype=torch.float64):
    return [units(n, D, seed=s, dtype=dtype).requires_grad_() for s, n in enumerate(LOSSES[name][2])]


def answer(loss, t, z):
    value = loss(t, *z)
    return value.detach(), torch.autograd.grad(value, z)


@cache
def oracle(name, t):
    return answer(LOSSES[name][1], t, vectors(name))


@pytest.mark.parametrize("online", [False, True])
@pytest.mark.parametrize("cells", [1, 9, 20, 1 << 20])
@pytest.mark.parametrize("name", LOSSES)
def test_tiles_are_the_double_loop(name, cells, online, stream):
    stream(cells, online)
    for t in TEMPERATURES:
        value, grads = answer(LOSSES[name][0], t, vectors(name))
        torch.testing.assert_close(value, oracle(name, t)[0], rtol=1e-12, atol=1e-14)
        for ours, exact in zip(grads, oracle(name, t)[1], strict=True):
            torch.testing.assert_close(ours, exact, rtol=1e-10, atol=1e-12 * max(1, 1 / t))


@pytest.mark.parametrize("t", TEMPERATURES)
@pytest.mark.parametrize("name", LOSSES)
def test_float32_is_as_exact_as_its_logits(name, t, stream):
    """A logit of size 1 / t is known to seven digits, in whatever form."""
    loss, _, shapes = LOSSES[name]
    exact = [units(20 * n, 32, seed=s) for s, n in enumerate(shapes)]
    exact[1] = normalize(exact[0] + exact[1], dim=1)
    exact = [z.float().double().requires_grad_() for z in exact]
    value, grads = answer(loss, t, exact)
    stream(cells=48 * 48)
    ours, ours_grads = answer(loss, t, [z.detach().float().requires_grad_() for z in exact])
    assert ours.dtype == torch.float32
    torch.testing.assert_close(ours.double(), value, rtol=1e-6, atol=1e-6 / t)
    for a, b in zip(ours_grads, grads, strict=True):
        torch.testing.assert_close(a.double(), b, rtol=0, atol=2e-6 * max(1, 0.1 / t) * b.abs().max().item())


@pytest.mark.parametrize("online", [False, True])
def test_gradients_are_those_of_finite_differences_for_any_upstream(online, stream):
    stream(9, online)
    z = [units(4, 3, seed=s).requires_grad_() for s in range(3)]
    assert torch.autograd.gradcheck(lambda *z: streamed.views(z, 0.3), z)
    assert torch.autograd.gradcheck(lambda q, k: streamed.towers(q, k, 0.3, both=True), z[:2])
    assert torch.autograd.gradcheck(lambda q, k: streamed.towers(q, k, 0.3), z[:2])
    assert torch.autograd.gradcheck(lambda q, k: streamed.queue(q, k, 0.3), z[:2])
    assert torch.autograd.gradcheck(lambda q: streamed.queue(q, z[1].detach(), 0.3), z[:1])
    assert torch.autograd.gradcheck(lambda k: streamed.queue(z[0].detach(), k, 0.3), z[1:2])
    assert torch.autograd.gradcheck(lambda q: streamed.towers(q, z[1].detach(), 0.3, both=True), z[:1])


@pytest.mark.parametrize("t", [0.01, 0.1])  # sums over the largest, and plain ones
def test_the_same_bits_every_time(t, stream):
    stream(48 * 48)
    for name, (loss, _, shapes) in LOSSES.items():
        z = [units(20 * n, 16, seed=s, dtype=torch.float32).requires_grad_() for s, n in enumerate(shapes)]
        (first, grads), (second, again) = answer(loss, t, z), answer(loss, t, z)
        assert torch.equal(first, second), name
        assert all(torch.equal(a, b) for a, b in zip(grads, again, strict=True)), name


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("t", [0.01, 0.07])
@pytest.mark.parametrize("name", LOSSES)
def test_half_precision_rounds_the_inputs_and_nothing_else(name, t, dtype, stream):
    stream()
    z = [x.detach().to(dtype).requires_grad_() for x in vectors(name)]
    exact, grads = answer(LOSSES[name][1], t, [x.detach().double().requires_grad_() for x in z])
    with torch.autocast("cpu", dtype=dtype):
        ours, ours_grads = answer(LOSSES[name][0], t, z)  # backward too
    assert ours.dtype == torch.float32
    torch.testing.assert_close(ours.double(), exact, rtol=1e-6, atol=1e-6 / t)
    for a, b in zip(ours_grads, grads, strict=True):
        assert a.dtype == dtype
        torch.testing.assert_close(a.double(), b, rtol=2 * torch.finfo(dtype).eps, atol=1e-3 * b.abs().max().item())


class Largest(TorchDispatchMode):
    """Notes the largest tensor that any operation made."""

    cells = calls = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **kwargs or {})
        made = [x for x in (out if isinstance(out, tuple | list) else [out]) if isinstance(x, torch.Tensor)]
        self.cells = max([self.cells, *(x.numel() for x in made)])
        self.calls += 1
        return out


def largest(loss, t, z):
    with Largest() as seen:
        loss(t, *z).backward()
    return seen.cells


@pytest.mark.parametrize("t", [0.005, 0.1])
@pytest.mark.parametrize("keys_learn", [True, False])
@pytest.mark.parametrize("name", LOSSES)
def test_no_tensor_is_larger_than_a_tile_or_the_inputs(name, keys_learn, t, stream):
    loss, _, shapes = LOSSES[name]
    z = [units(20 * n, 4, seed=s, dtype=torch.float32) for s, n in enumerate(shapes)]
    z[0].requires_grad_()
    for x in z[1:]:
        x.requires_grad_(keys_learn)
    logits = min(len(z[0]), len(z[-1])) ** 2
    stream(few=1 << 40)
    assert largest(loss, t, z) >= logits  # what is looked for can be seen
    stream(cells=40 * 40)
    assert largest(loss, t, z) <= 1600 < logits


def saved(loss, t, z):
    sizes = []
    with torch.autograd.graph.saved_tensors_hooks(lambda x: sizes.append(x.numel()), lambda _: None):
        loss(t, *z)
    return sum(sizes)


def test_what_is_saved_for_backward(stream):
    stream()
    for name, (loss, _, _) in LOSSES.items():
        z = vectors(name)
        assert saved(loss, 0.1, z) > 0
        with torch.no_grad():
            assert saved(loss, 0.1, z) == 0
    q, keys = units(N, D).requires_grad_(), units(5000, D, seed=1)
    assert saved(lambda t, q: streamed.queue(q, keys, t).sum(), 0.1, [q]) == q.numel()  # the queue is not held


@pytest.mark.parametrize("online", [False, True])
@pytest.mark.parametrize("name", ["two views", "batch", "both"])
def test_an_item_without_negatives_costs_nothing(name, online, stream):
    stream(online=online)
    value, grads = answer(LOSSES[name][0], 0.1, [z.detach()[:1].requires_grad_() for z in vectors(name)])
    assert value == 0
    assert all((g == 0).all() for g in grads)


@pytest.mark.parametrize("t", [1e-3, 5e-3, 0.02, 100.0])
@pytest.mark.parametrize("name", LOSSES)
def test_equal_and_opposite_vectors_stay_finite(name, t, stream):
    """The largest and the smallest logits there can be, with the gradient of a scaled loss as fp16 has it."""
    stream()
    z = [x.detach().float() for x in vectors(name)]
    for x in z:
        x[:] = normalize(torch.ones(D), dim=0)
        x[::2] *= -1
        x.requires_grad_()
    exact, grads = answer(LOSSES[name][1], t, [x.detach().double().requires_grad_() for x in z])
    ours, ours_grads = answer(lambda t, *z: 65536 * LOSSES[name][0](t, *z), t, z)
    torch.testing.assert_close(ours.double() / 65536, exact, rtol=1e-6, atol=1e-6 / t)
    for a, b in zip(ours_grads, grads, strict=True):
        torch.testing.assert_close(a.double() / 65536, b, rtol=1e-4, atol=1e-5 / t)


def test_vectors_may_be_parts_of_wider_ones(stream):
    stream()
    wide = torch.stack([units(N, D, seed=s) for s in range(2)], 2).requires_grad_()  # (N, D, V): no row is contiguous
    value, (grad,) = answer(lambda t, x: nt_xent(x.unbind(2), t), 0.1, [wide])
    exact, grads = oracle("two views", 0.1)
    torch.testing.assert_close(value, exact)
    torch.testing.assert_close(grad, torch.stack(grads, 2))


@pytest.mark.parametrize(("name", "form"), [("two views", "views"), ("both", "towers"), ("queue", "queue")])
def test_the_form_is_chosen_by_size(name, form, monkeypatch):
    used = []
    plain = getattr(streamed, form)
    monkeypatch.setattr(streamed, form, lambda *a, **k: used.append(form) or plain(*a, **k))
    loss, _, shapes = LOSSES[name]
    logits = (shapes[0] * shapes[-1]) * (4 if form == "views" else 1)
    monkeypatch.setattr(contrast, "FEW", logits)
    few = loss(0.1, *vectors(name))
    assert used == []
    monkeypatch.setattr(contrast, "FEW", logits - 1)
    torch.testing.assert_close(loss(0.1, *vectors(name)), few, rtol=1e-13, atol=0)
    assert used == [form]
