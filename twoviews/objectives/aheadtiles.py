"""The sums behind `ahead`, a tile of scores at a time: nothing is stored that is as large as all scores.

A tile is some rows of one horizon, of some groups, against all places of their group, so that its softmax is whole. The
loss is a mean whose weights are known beforehand: its gradient, softmax less one at the positive, is multiplied into p
and z in forward, while the tile is there. That takes three products; to make tiles again in backward takes four.

In a tile the scores of rows against places of their own item are a diagonal of blocks, and the scores of the positives
a diagonal of these: masks and positives are views of it. Tiles come in a fixed order, nothing is added atomically, and
no number is read from the device.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn.functional import softplus

CELLS = {"cpu": 1 << 20, "cuda": 1 << 26}  # scores of a tile
WIDE_PRODUCTS = "dtype" in torch.ops.aten.bmm.overloads()  # on CUDA, of narrow numbers: since torch 2.8


class Plan(NamedTuple):
    """Which places are compared, and what each row counts.

    seen: (B, R, W) bool.  counted: (K, B, R, W) bool, rows that count.  weights: (K,), of each row in the loss.
    group: items whose places are candidates for each other.  others: without those of the own item.
    dtype: of the products.  first, sampled, neighbours: as for `ahead`.
    """

    seen: Tensor
    counted: Tensor
    weights: Tensor
    dtype: torch.dtype
    first: int
    group: int
    others: bool
    sampled: int
    neighbours: int


class Tile(NamedTuple):
    """Rows (n * g items, rows) of horizon k: n groups of g items."""

    k: int
    items: slice
    rows: slice
    n: int
    g: int


def sweep(p: Tensor, z: Tensor, plan: Plan) -> tuple[Tensor, Tensor, Tensor]:
    """p and z (K, B, R, W, D), one perhaps with 1 for K -> the loss; by horizon (K,) the sums of losses and hits."""
    return _Sweep.apply(p, z, plan, torch.is_grad_enabled() and (p.requires_grad or z.requires_grad))


class _Sweep(Function):
    @staticmethod
    def forward(ctx: Any, p: Tensor, z: Tensor, plan: Plan, learns: bool) -> tuple[Tensor, Tensor, Tensor]:
        wide = plan.weights.dtype
        scale = z.shape[-1] ** -0.5
        columns = (z * scale).to(plan.dtype)
        losses, right = torch.zeros_like(plan.weights), torch.zeros_like(plan.weights)
        dp, dz = (_blank(p, wide), _blank(z, wide)) if learns else (None, None)
        for tile in _tiles(plan, p.device.type):
            k, items, rows, n, g = tile
            of_p, of_z = (k % len(p), items, rows), (k % len(z), items)
            x = p[of_p].to(plan.dtype).reshape(n, -1, p.shape[-1])  # (n, M, D)
            c = columns[of_z].reshape(n, -1, p.shape[-1])  # (n, N, D)
            live = plan.counted[k, items, rows].reshape(n, -1)  # (n, M)
            s = _product(x, c.mT, wide)  # (n, M, N)
            at, positive = _masked(s, tile, plan)
            top = s.amax(2)
            right[k] += ((positive > top) & live).sum()
            top = torch.maximum(top, positive)
            negative = s.sub_(top[..., None]).exp_().sum(2)
            loss = softplus(negative.log() + top - positive, threshold=50)  # as contrast._loss: keeps tiny ones exact
            losses[k] += torch.where(live, loss, 0).sum()
            if dp is not None and dz is not None:
                share = torch.where(live, 1 / (negative + (positive - top).exp()), 0)
                s.mul_(share[..., None])
                at.copy_((negative * share).neg_().view(at.shape))
                narrow = s.to(plan.dtype)
                weight = plan.weights[k]
                dp[of_p] += (_product(narrow, c, wide) * weight).view(dp[of_p].shape)
                dz[of_z] += (_product(narrow.mT, x, wide) * (weight * scale)).view(dz[of_z].shape)
        if dp is not None and dz is not None:
            ctx.save_for_backward(dp.to(p.dtype), dz.to(z.dtype))
        ctx.mark_non_differentiable(losses, right)
        return (losses * plan.weights).sum(), losses, right

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor, *_: Any) -> tuple[Tensor | None, ...]:
        dp, dz = ctx.saved_tensors
        return dp * upstream, dz * upstream, None, None


def _blank(x: Tensor, wide: torch.dtype) -> Tensor:
    """Zeros for a gradient: in `wide` where all horizons add to it. As x lies in memory, so that no copy follows."""
    return torch.zeros_like(x, dtype=wide if len(x) == 1 else None)


def _tiles(plan: Plan, device: str) -> Iterator[Tile]:
    steps, items, rows, across = plan.counted.shape
    cells = CELLS.get(device, CELLS["cuda"])
    for k in range(min(steps, rows - plan.first)):
        last = rows - plan.first - k  # rows from here on predict nothing
        for chosen, n, g in _groups(items, plan.group, cells // (plan.group**2 * across**2 * rows * last)):
            height = max(1, cells // (n * g * g * across**2 * rows))
            for r in range(0, last, height):
                yield Tile(k, chosen, slice(r, min(r + height, last)), n, g)


def _groups(items: int, size: int, most: int) -> Iterator[tuple[slice, int, int]]:
    """All items as whole groups, at most `most` of them at once, and then the rest."""
    whole = items // size * size
    step = size * max(1, most)
    for i in range(0, whole, step):
        some = slice(i, min(i + step, whole))
        yield some, (some.stop - i) // size, size
    if whole < items:
        yield slice(whole, items), 1, items - whole


def _masked(s: Tensor, tile: Tile, plan: Plan) -> tuple[Tensor, Tensor]:
    """Leave in s the scores of negatives alone. The positives' places in it (n, g, M / g), and their scores (n, M)."""
    k, items, rows, n, g = tile
    high, across = plan.seen.shape[1:]
    ahead = plan.first + k
    own = s.unflatten(2, (g, -1)).unflatten(1, (g, -1)).diagonal(0, 1, 3)  # (n, M / g, N / g, g)
    at = own.diagonal((rows.start + ahead) * across, 1, 2)
    positive = at.clone(memory_format=torch.contiguous_format)
    s.masked_fill_(~plan.seen[items].reshape(n, 1, -1), -torch.inf)
    if plan.others:
        own.fill_(-torch.inf)
    elif plan.neighbours:
        place = torch.arange(high * across, device=s.device)
        row, column = place // across, place % across
        goal = slice((rows.start + ahead) * across, (rows.stop + ahead) * across)
        near = (row[goal, None] - row).abs() <= plan.neighbours
        near &= (column[goal, None] - column).abs() <= plan.neighbours
        own.masked_fill_(near[..., None], -torch.inf)
    at.fill_(-torch.inf)
    if 0 < plan.sampled < s.shape[2]:
        keys = torch.rand_like(s).masked_fill_(s == -torch.inf, -1)
        drawn = keys.topk(plan.sampled, 2, sorted=False).indices
        kept = s.gather(2, drawn)
        s.fill_(-torch.inf).scatter_(2, drawn, kept)
    return at, positive.view(n, -1)


def _product(a: Tensor, b: Tensor, wide: torch.dtype) -> Tensor:
    """a @ b with sums and result in `wide`."""
    if a.dtype == wide:
        return torch.bmm(a, b)
    if WIDE_PRODUCTS and a.is_cuda:
        return torch.bmm(a, b, out_dtype=wide)
    return torch.bmm(a.to(wide), b.to(wide))
