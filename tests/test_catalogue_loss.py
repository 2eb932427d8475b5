"""Losses over a catalogue against plain cross-entropy, gSASRec's formula, and sums over all draws."""

import math

import pytest
import torch
from test_dist import launch
from torch.autograd import gradcheck
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from twoviews import dist
from twoviews.errors import UserError
from twoviews.objectives import catalogue, softmax
from twoviews.objectives.catalogue import LOSSES, Catalogue, catalogue_loss, chosen, gbce, sampled
from twoviews.objectives.softmax import table_cross_entropy

M, V, D, FIRST = 37, 61, 5, 2


def numbers(dtype=torch.float64, scale=1.0, seed=0, rows=M):
    g = torch.Generator().manual_seed(seed)
    z, e, c = (scale * torch.randn(s, generator=g, dtype=torch.float64) for s in ((rows, D), (FIRST + V, D), FIRST + V))
    items = torch.randint(V, (rows,), generator=g)
    return *(x.to(dtype).requires_grad_() for x in (z, e, c)), items


def weighted(losses):
    """A scalar in which each row has an upstream gradient of its own."""
    return (losses * torch.linspace(0.5, 2, len(losses), dtype=losses.dtype)).sum()


def gradients(losses, inputs):
    return torch.autograd.grad(weighted(losses), inputs, retain_graph=True)


@pytest.fixture(params=[(4, 32), (1000, 7), (16, 2**19)], ids=["small tiles", "thin tiles", "few tiles"])
def tiles(request, monkeypatch):
    monkeypatch.setitem(softmax.HEIGHT, "cpu", request.param[0])
    monkeypatch.setitem(softmax.CELLS, "cpu", request.param[1])


@pytest.mark.parametrize("biased", [True, False])
@pytest.mark.parametrize("specials", [True, False])
@pytest.mark.parametrize("scale", [1.0, 20.0])  # logits of thousands
def test_chunked_is_cross_entropy_with_all_its_gradients(biased, specials, scale, tiles):
    z, e, c, items = numbers(scale=scale)
    c = c if biased else None
    inputs = (z, e, c) if biased else (z, e)
    begin = 0 if specials else FIRST
    logits = z @ e[begin:].T + (c[begin:] if biased else 0)
    plain = cross_entropy(logits, items + FIRST - begin, reduction="none")
    for loss in ("full", "chunked"):
        ours = catalogue_loss(z, items, Catalogue(e, c, FIRST), loss, specials=specials)
        torch.testing.assert_close(ours, plain, rtol=1e-10, atol=1e-10)
        theirs = gradients(plain, inputs)
        torch.testing.assert_close(gradients(ours, inputs), theirs, rtol=1e-8, atol=1e-9)
    assert specials or not theirs[1][:FIRST].any()


def test_chunked_passes_gradcheck(tiles):
    z, e, c, items = numbers(rows=9)
    assert gradcheck(lambda *x: table_cross_entropy(*x, items + FIRST, FIRST), (z, e, c))
    assert gradcheck(lambda x: table_cross_entropy(x, e.detach(), None, items + FIRST), (z,))
    assert gradcheck(lambda x: table_cross_entropy(z.detach(), x, c.detach(), items + FIRST), (e,))


def test_chunked_without_rows():
    z, e, c, items = numbers(rows=0)
    losses = catalogue_loss(z, items, Catalogue(e, c, FIRST), "chunked")
    assert losses.shape == (0,)
    assert all(g.shape == x.shape and not g.any() for g, x in zip(gradients(losses, (z, e, c)), (z, e, c), strict=True))


def test_under_autocast_products_are_rounded_and_sums_are_not(tiles):
    z, e, c, items = numbers(torch.float32)
    exact = catalogue_loss(z, items, Catalogue(e, c, FIRST), "chunked")
    with torch.autocast("cpu", torch.bfloat16):
        losses = {k: catalogue_loss(z, items, Catalogue(e, c, FIRST), k, V - 1) for k in LOSSES}
    assert all(x.dtype == torch.float32 for x in losses.values())
    for name in ("full", "chunked"):
        torch.testing.assert_close(losses[name], exact, rtol=0.02, atol=0.1)
        for ours, theirs in zip(gradients(losses[name], (z, e, c)), gradients(exact, (z, e, c)), strict=True):
            assert ours.dtype == torch.float32
            torch.testing.assert_close(ours, theirs, rtol=0.05, atol=0.05)
    assert not torch.equal(losses["chunked"], exact)


def test_the_memory_of_chunked_does_not_hold_the_logits():
    z, e, c = torch.randn(64, 8), torch.randn(50_000, 8), torch.randn(50_000)
    shapes = []

    def note(x):
        shapes.append(x.numel())
        return x

    with torch.autograd.graph.saved_tensors_hooks(note, lambda x: x):
        losses = table_cross_entropy(z.requires_grad_(), e.requires_grad_(), c, torch.arange(64))
    losses.sum().backward()
    assert max(shapes) == e.numel() < 64 * len(e)  # what is kept for backward: the table itself, no logits


def drawn(z, items, e, c, k, seed):
    """The scores a plain reader computes from the same draw."""
    torch.manual_seed(seed)
    others = torch.randint(FIRST, FIRST + V, (k,))
    s = z @ e.T + c
    hit = others == items[:, None] + FIRST
    return s[torch.arange(M), items + FIRST], s[:, others], hit


@pytest.mark.parametrize("logq", [False, True])
def test_sampled_is_cross_entropy_over_the_item_and_the_shared_draw(logq):
    z, e, c, items = numbers()
    own, others, hit = drawn(z, items, e, c, 40, seed=3)
    assert hit.any()
    others = (others + logq * math.log(V / 40)).masked_fill(hit, -torch.inf)
    plain = cross_entropy(torch.cat([own[:, None], others], 1), torch.zeros(M, dtype=torch.long), reduction="none")
    torch.manual_seed(3)
    ours = catalogue_loss(z, items, Catalogue(e, c, FIRST), "sampled", 40, logq=logq)
    torch.testing.assert_close(ours, plain)
    torch.testing.assert_close(gradients(ours, (z, e, c)), gradients(plain, (z, e, c)))


def test_sampled_with_logq_estimates_the_whole_sum():
    z, e, c, items = numbers()
    z, e, c = (x.detach() for x in (z, e, c))
    exact = catalogue_loss(z, items, Catalogue(e, c, FIRST), "full")
    own = (z * e[items + FIRST]).sum(1) + c[items + FIRST]
    torch.manual_seed(0)
    draws = [sampled(z, items + FIRST, Catalogue(e, c, FIRST), 20, logq=True) for _ in range(4000)]
    mean = torch.stack([(x + own).exp() for x in draws])  # of the sum itself, which is linear in the draw
    error = (mean.mean(0) - (exact + own).exp()) / (mean.std(0) / len(draws) ** 0.5)
    assert error.abs().max() < 4.5  # deviations; 37 rows


def test_sampled_with_as_many_negatives_as_items_is_exact():
    z, e, c, items = numbers()
    exact = catalogue_loss(z, items, Catalogue(e, c, FIRST), "full")
    for k in (V, 10 * V):
        torch.testing.assert_close(catalogue_loss(z, items, Catalogue(e, c, FIRST), "sampled", k), exact)


def gsasrec(own, others, alpha, t):
    """gSASRec's training loop (asash/gSASRec-pytorch, train_gsasrec.py), whose log of a power is done in steps."""
    beta = alpha * ((1 - 1 / alpha) * t + 1 / alpha)
    eps, most = 1e-10, torch.finfo(torch.float64).max
    positive = torch.sigmoid(own[:, None]).clamp(eps, 1 - eps)
    adjusted = positive.pow(-beta).clamp(1 + eps, most)
    to_log = (1.0 / (adjusted - 1)).clamp(eps, most)
    logits = torch.cat([to_log.log(), others], 1)
    truth = torch.zeros_like(logits)
    truth[:, 0] = 1
    return binary_cross_entropy_with_logits(logits, truth, reduction="none").mean(-1)


@pytest.mark.parametrize("t", [0.0, 0.5, 0.75, 1.0])
def test_gbce_is_gsasrecs_and_at_zero_plain_binary_cross_entropy(t):
    z, e, c, items = numbers()
    own, others, hit = drawn(z, items, e, c, 12, seed=1)
    others = others.masked_fill(hit, -1e9)  # they draw none that is the item itself
    torch.manual_seed(1)
    ours = gbce(z, items + FIRST, Catalogue(e, c, FIRST), 12, t)
    theirs = gsasrec(own, others, 12 / (V - 1), t)
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(gradients(ours, (z, e, c)), gradients(theirs, (z, e, c)), rtol=1e-6, atol=1e-9)
    if t == 0:
        logits = torch.cat([own[:, None], others], 1)
        truth = torch.eye(1, 13, dtype=torch.float64).expand(M, -1)
        plain = binary_cross_entropy_with_logits(logits, truth, reduction="none").mean(1)
        torch.testing.assert_close(ours, plain, rtol=1e-10, atol=1e-12)


def test_gbce_with_more_negatives_than_items_is_plain():
    z, e, c, items = numbers()
    plain = []
    for t in (0.0, 1.0):
        torch.manual_seed(2)
        plain.append(gbce(z, items + FIRST, Catalogue(e, c, FIRST), 5 * V, t))
    torch.testing.assert_close(*plain)  # nothing is left to calibrate


def test_auto_takes_what_is_fast():
    assert chosen(10, 1000, "cpu") == "full"
    assert chosen(4096, 3416, "cpu") == "chunked"
    assert chosen(1, 10**6, "cpu") == "sampled" == chosen(10**5, 10**6, "cpu")
    assert chosen(1024, 10**6, "cuda") == "chunked"
    z, e, c, items = numbers()
    exact = catalogue_loss(z, items, Catalogue(e, c, FIRST), "full")
    torch.testing.assert_close(catalogue_loss(z, items, Catalogue(e, c, FIRST)), exact)


def test_another_loss_and_no_negatives_are_one_clear_line():
    z, e, c, items = numbers()
    with pytest.raises(UserError, match="unknown loss 'chunkd', did you mean 'chunked'"):
        catalogue_loss(z, items, Catalogue(e, c, FIRST), "chunkd")
    with pytest.raises(UserError, match=r"method\.negatives must be 1 or more, got 0"):
        catalogue_loss(z, items, Catalogue(e, c, FIRST), "sampled", 0)


LAYOUT = [0, 25, M]


def on_ranks(rank, world, folder):
    found = {}
    for loss in LOSSES[1:]:
        z, e, c, items = numbers()
        own = slice(*LAYOUT[rank : rank + 2])
        torch.manual_seed(rank)
        losses = catalogue_loss(z[own], items[own], Catalogue(e, c, FIRST), loss, 12)
        grads = torch.autograd.grad(losses.sum(), (e, c))
        found[loss] = dist.gather(losses), [dist.total(g) for g in grads]
    return found


def test_losses_do_not_depend_on_which_rank_has_a_row(tmp_path):
    for found in launch(2, on_ranks, tmp_path):
        for loss, (losses, grads) in found.items():
            z, e, c, items = numbers()
            torch.manual_seed(0)
            alone = catalogue_loss(z, items, Catalogue(e, c, FIRST), loss, 12)
            torch.testing.assert_close(losses, alone.detach())
            torch.testing.assert_close(grads, list(torch.autograd.grad(alone.sum(), (e, c))))


def test_constants_are_known_to_both_devices():
    assert catalogue.MANY.keys() == softmax.CELLS.keys() == softmax.HEIGHT.keys() == {"cpu", "cuda"}
