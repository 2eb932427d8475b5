"""Cross-entropy over the rows of a large table, a tile of logits at a time.

    loss_m = log sum_v exp(z_m . E_v + c_v) - (z_m . E_t + c_t)          t: the row that is right

A tile is computed in forward for the sums, thrown away, and computed again in backward, where it becomes
exp(logit - log-sum) and is multiplied into the gradients. That is four products in place of autograd's three, but a
tile stays in the caches: on a CPU it takes the time of `linear` and `cross_entropy`, half of it where memory is cleared
anew at each step, and the memory of one tile. Whatever gradient arrives, each row may have its own.

Sums of powers of two, relative to the largest logit so far (Milakov and Gimelshein 2018, arXiv:1805.02867). As the
queue's sums in tiles.py, for vectors of any length and with biases.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

HEIGHT = {"cpu": 1 << 10, "cuda": 1 << 12}  # rows of a tile
CELLS = {"cpu": 1 << 19, "cuda": 1 << 24}
LOG2_E, LN_2 = math.log2(math.e), math.log(2)


def table_cross_entropy(z: Tensor, table: Tensor, bias: Tensor | None, right: Tensor, begin: int = 0) -> Tensor:
    """-log of the softmax of z E^T + c at one column of each row: (M,), float32 at least.

    z: (M, D).  table: (V, D).  bias: (V,) or None.  right: (M,) int64, rows of the table.
    begin: the softmax leaves out the table's rows before it; a gradient of the whole table is made without a copy.
    Products are of the precision of autocast where it is on, sums of float32. No second derivatives.
    """
    device = z.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else z.dtype
    with torch.autocast(device, enabled=False):
        return _TableCrossEntropy.apply(z, table, bias, right, begin, dtype)


class _TableCrossEntropy(Function):
    @staticmethod
    def forward(
        ctx: Any, z: Tensor, table: Tensor, bias: Tensor | None, right: Tensor, begin: int, dtype: torch.dtype
    ) -> Tensor:
        wide = torch.promote_types(z.dtype, torch.float32)
        top = torch.full((len(z), 1), torch.finfo(wide).min, dtype=wide, device=z.device)
        sums = torch.zeros_like(top)
        for i, _, s in _tiles(z, table, bias, begin, dtype):
            new = torch.maximum(top[i], s.amax(1, keepdim=True))
            sums[i] *= torch.exp2(top[i] - new)
            sums[i] += s.sub_(new).exp2_().sum(1, keepdim=True)
            top[i] = new
        log2 = sums.log2_().add_(top)  # (M, 1)
        own = torch.einsum("md,md->m", z.to(wide), table[right].to(wide))
        own = own if bias is None else own + bias[right]
        ctx.save_for_backward(z, table, bias, right, log2)
        ctx.begin, ctx.dtype = begin, dtype
        return log2[:, 0] * LN_2 - own

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        z, table, bias, right, log2 = ctx.saved_tensors
        wide, dtype = log2.dtype, ctx.dtype
        of_z, of_table, of_bias = ctx.needs_input_grad[:3]
        with torch.autocast(z.device.type, enabled=False):
            g = upstream.to(wide)[:, None]
            scaled = z.to(wide) * g  # (M, D)
            dz = torch.zeros_like(scaled) if of_z else None
            dtable = torch.zeros_like(table, dtype=wide) if of_table else None
            dbias = torch.zeros_like(bias, dtype=wide) if of_bias else None
            for i, j, s in _tiles(z, table, bias, ctx.begin, dtype):
                p = s.sub_(log2[i]).exp2_()  # the softmax
                if dbias is not None:
                    dbias[j].addmv_(p.T, g[i, 0])
                p = p.to(dtype)
                if dz is not None:
                    _add_product(dz[i], p, table[j].to(dtype))
                if dtable is not None:
                    _add_product(dtable[j], p.T, scaled[i].to(dtype))
            if dz is not None:
                dz = dz.sub_(table[right]).mul_(g).to(z.dtype)
            if dtable is not None:
                dtable = dtable.index_add_(0, right, scaled, alpha=-1).to(table.dtype)
            if dbias is not None:
                dbias = dbias.index_add_(0, right, g[:, 0], alpha=-1).to(bias.dtype)
        return dz, dtable, dbias, None, None, None


def _tiles(
    z: Tensor, table: Tensor, bias: Tensor | None, begin: int, dtype: torch.dtype
) -> Iterator[tuple[slice, slice, Tensor]]:
    """All logits * log2(e) as (rows of z, rows of the table, a buffer that the next tile reuses)."""
    device = z.device.type
    wide = torch.promote_types(z.dtype, torch.float32)
    height = _even(len(z), HEIGHT.get(device, HEIGHT["cuda"]))
    width = _even(len(table) - begin, CELLS.get(device, CELLS["cuda"]) // height or 1)
    buffer = torch.empty(height * width, dtype=wide, device=z.device)
    shift = None if bias is None else bias.to(wide) * LOG2_E
    for a in range(0, len(z), height):
        some = (z[a : a + height].to(wide) * LOG2_E).to(dtype)
        for b in range(begin, len(table), width):
            cols = slice(b, min(b + width, len(table)))
            e = table[cols].to(dtype)
            s = buffer[: len(some) * len(e)].view(len(some), len(e))
            if dtype != wide:
                torch.mm(some, e.T, out=(low := s.new_empty(s.shape, dtype=dtype)))
                s.copy_(low)
                s = s if shift is None else s.add_(shift[cols])
            elif shift is None:
                torch.mm(some, e.T, out=s)
            else:
                torch.addmm(shift[cols], some, e.T, out=s)
            yield slice(a, a + len(some)), cols, s


def _add_product(into: Tensor, a: Tensor, b: Tensor) -> None:
    if into.dtype == a.dtype:
        into.addmm_(a, b)
    else:
        into.add_(a @ b)


def _even(n: int, most: int) -> int:
    """The size of equal parts of n, none larger than `most`."""
    return max(1, math.ceil(n / math.ceil(n / most))) if n else 1
