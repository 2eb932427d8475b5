"""Sums over all pairs of vectors, one tile of logits at a time: no N x N matrix is ever stored.

A contrastive loss needs of its logits s only the log-sum-exp l of each row (and column), and in backward, with c the
gradient that arrives at l, products with the weights

    g_ij = c_i exp(s_ij - l_i) + c_j exp(s_ij - l_j)        one term for each side that has sums

So a tile is computed in forward, thrown away, and computed again in backward. Where rows and columns are the same
vectors only the upper triangle is visited and each tile serves both sides: 2 products of all pairs in all, where
autograd through a stored matrix takes 3. Tiles come in a fixed order and nothing is added atomically, so a device gives
the same bits every time; another tile size may change the last ones.

Logits are kept as powers of two: on a CPU exp2 takes a third of exp's time. Sums are plain where unit vectors cannot
overflow them, elsewhere relative to the largest logit so far (Milakov & Gimelshein 2018, arXiv:1805.02867).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

CELLS = {"cpu": 1 << 20, "cuda": 1 << 22}  # of one tile: float32 then fits the caches
LOG2_E = math.log2(math.e)

Block = tuple[int, slice]  # one of the views, and some of its rows
Weights = tuple[Tensor, Tensor]  # log2 of the sums, and the gradient that arrives at their logs; both (V, N)


def log_sums(
    rows: Sequence[Tensor],
    cols: Sequence[Tensor],
    temperature: float,
    own: int | None,
    both: bool = False,
    pulled: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """log2 of the sum of exp(row.col / temperature) for each row and, with `both`, for each column: (V, N), (V', N').

    rows:   V tensors (N, D) of unit vectors; cols: V' tensors (N', D). The same object twice visits the triangle.
    own:    where the first row's item is among the columns: row i and column own + i are left out, in all views.
            None: nothing is left out.
    pulled: (N, D) zeros that become the mean of the columns, weighted by each row's softmax; for V = V' = 1.
    """
    online = _may_overflow(rows, cols, temperature)
    left = _Sums(rows, online)
    right = left if cols is rows else _Sums(cols, online)
    for x, y, s, spare in _tiles(rows, cols, temperature, own):
        if not online:
            s.exp2_()
        terms, shrunk = left.add(x, s, 1, spare)
        if pulled is not None:
            if shrunk is not None:
                pulled[x[1]].mul_(shrunk)
            pulled[x[1]].addmm_(terms, cols[0][y[1]])
        if both or (cols is rows and x != y):
            right.add(y, s, 0, spare)
    if pulled is not None:
        pulled.div_(left.sums[0, :, None])
    return left.log2(), right.log2()


def add_gradients(
    rows: Sequence[Tensor],
    cols: Sequence[Tensor],
    temperature: float,
    own: int | None,
    of_rows: Weights | None,
    of_cols: Weights | None,
    into_rows: Sequence[Tensor | None],
    into_cols: Sequence[Tensor | None] = (),
) -> None:
    """Add the gradient of the rows' log-sums (`of_rows`), of the columns' (`of_cols`) or of both to `into_...`.

    `into_...` are shaped as rows and columns, with None where no gradient is wanted. Rows and columns that are the same
    object have the same sums, and may have the same gradients to add to.
    """
    online = _may_overflow(rows, cols, temperature)
    of_rows, of_cols = _prepared(of_rows, online), _prepared(of_cols, online)
    for (v, i), (w, j), s, spare in _tiles(rows, cols, temperature, own):
        sides = []
        if of_rows:
            sides.append((of_rows[0][v, i, None], of_rows[1][v, i, None]))  # (h, 1)
        if of_cols:
            sides.append((of_cols[0][w, j], of_cols[1][w, j]))  # (w,)
        g = _weighted(s, sides, online, spare)
        if (into := into_rows[v]) is not None:
            into[i].addmm_(g, cols[w][j], alpha=1 / temperature)
        twice = cols is rows and (v, i) == (w, j)  # both sides of this tile are done
        if into_cols and not twice and (into := into_cols[w]) is not None:
            into[j].addmm_(g.T, rows[v][i], alpha=1 / temperature)


def _tiles(
    rows: Sequence[Tensor], cols: Sequence[Tensor], temperature: float, own: int | None
) -> Iterator[tuple[Block, Block, Tensor, Tensor]]:
    """All pairs as (rows, columns, logits * log2(e), as much scratch), in two buffers that every tile reuses."""
    cells = CELLS.get(rows[0].device.type, CELLS["cuda"])
    height = _even(len(rows[0]), math.isqrt(cells))
    width = height if cols is rows else _even(len(cols[0]), max(1, cells // height))
    across = _blocks(cols, width)
    buffers = [rows[0].new_empty(height * width) for _ in range(2)]
    for n, (v, i) in enumerate(_blocks(rows, height)):
        scaled = rows[v][i] * (LOG2_E / temperature)
        for w, j in across[n:] if cols is rows else across:
            shape = len(scaled), j.stop - j.start
            s, spare = (buffer[: shape[0] * shape[1]].view(shape) for buffer in buffers)
            torch.mm(scaled, cols[w][j].T, out=s)
            if own is not None:
                s.diagonal(own + i.start - j.start).fill_(-torch.inf)
            yield (v, i), (w, j), s, spare


def _blocks(views: Sequence[Tensor], size: int) -> list[Block]:
    n = len(views[0])
    return [(v, slice(i, min(i + size, n))) for v in range(len(views)) for i in range(0, n, size)]


def _even(n: int, most: int) -> int:
    """The size of equal parts of n, none larger than `most`: a thin last tile would be slow."""
    return max(1, math.ceil(n / math.ceil(n / most))) if n else 1


def _may_overflow(rows: Sequence[Tensor], cols: Sequence[Tensor], temperature: float) -> bool:
    """Whether a plain sum, or a gradient over one, could leave three quarters of the exponents."""
    terms = max(len(views) * len(views[0]) for views in (rows, cols))
    return LOG2_E / temperature + math.log2(max(terms, 1)) > 0.75 * math.log2(torch.finfo(rows[0].dtype).max)


class _Sums:
    """Running sums of powers of two, one for each vector; `online`: over 2^top, top the largest exponent so far."""

    def __init__(self, views: Sequence[Tensor], online: bool):
        self.sums = views[0].new_zeros(len(views), len(views[0]))
        self.top = torch.full_like(self.sums, torch.finfo(self.sums.dtype).min) if online else None

    def add(self, block: Block, s: Tensor, dim: int, spare: Tensor) -> tuple[Tensor, Tensor | None]:
        """Add a tile of powers (plain) or exponents (online) along `dim`; gives the terms and what the old ones shrank
        by, both as they broadcast with the tile."""
        if self.top is None:
            self.sums[block] += s.sum(dim)
            return s, None
        top = torch.maximum(self.top[block], s.amax(dim))
        shrunk = torch.exp2(self.top[block] - top)
        terms = torch.sub(s, top.unsqueeze(dim), out=spare).exp2_()
        self.sums[block] = self.sums[block] * shrunk + terms.sum(dim)
        self.top[block] = top
        return terms, shrunk.unsqueeze(dim)

    def log2(self) -> Tensor:
        return self.sums.log2() if self.top is None else self.sums.log2() + self.top


def _prepared(weights: Weights | None, online: bool) -> Weights | None:
    """A vector without negatives has a sum of 0 and no gradient; plain sums are divided by here, once."""
    if weights is None:
        return None
    log2, upstream = weights
    log2 = log2.masked_fill(log2 == -torch.inf, 0)
    return log2, upstream if online else upstream * torch.exp2(-log2)


def _weighted(s: Tensor, sides: list[tuple[Tensor, Tensor]], online: bool, spare: Tensor) -> Tensor:
    """The weights g of a tile, in place of its logits."""
    if not online:
        factor = torch.add(sides[0][1], sides[1][1], out=spare) if len(sides) == 2 else sides[0][1]
        return s.exp2_().mul_(factor)
    (log2, upstream), *other = sides
    for log2_, upstream_ in other:
        torch.sub(s, log2_, out=spare).exp2_().mul_(upstream_)
    s.sub_(log2).exp2_().mul_(upstream)
    return s.add_(spare) if other else s
