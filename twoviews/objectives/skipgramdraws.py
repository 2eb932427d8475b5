"""What skip-gram draws: the windows of a block's tokens, and the negatives that each chunk of it shares.

All of it is a function of (seed, epoch, block). Negatives come by alias tables: Walker 1977, ACM TOMS 3(3).
"""

from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from ..compiled import below, compiled, draw, stream, unit
from ..errors import UserError

CHUNK = 64  # centres of a chunk, at most
STEPS = 64


class How(NamedTuple):
    """The hyper-parameters that kernels read. loss: SGNS, NCE or INFO_NCE.  rows: centres of a chunk, see `how_of`."""

    window: int
    shrink: bool
    negatives: int
    shared: int
    loss: int
    rows: int = CHUNK


def how_of(method: Any, loss: int) -> How:
    """The hyper-parameters of a method. All that a chunk asks of a negative is one step, so it must not be too much:
    chunks are as short as it takes for a negative to stand for some STEPS drawn ones at most.
    """
    pairs = method.window + 1 if method.shrink else 2 * method.window
    rows = int(STEPS * method.shared / (pairs * method.negatives)) // 8 * 8
    settings = method.window, method.shrink, method.negatives, method.shared, loss
    return How(*settings, min(max(rows, 8), CHUNK))


class Noise(NamedTuple):
    """What negatives are drawn from: alias tables, one for each of G groups of rows.

    starts: (G + 1,) int64, group g is the rows starts[g] .. starts[g + 1] - 1.
    share, other: (V,) float32 and int32: a row that was drawn stays with this probability, else the other is taken.
    kinds: (V,) uint8, the group of each row; empty where there is one.
    """

    starts: np.ndarray
    share: np.ndarray
    other: np.ndarray
    kinds: np.ndarray


@compiled()
def aliases(weights, share, other):
    """Fill an alias table: row i is drawn in proportion to weights[i]. weights: (n,) float64, is overwritten."""
    n = len(weights)
    weights *= n / weights.sum()
    small, large = np.empty(n, np.int32), np.empty(n, np.int32)
    few = many = 0
    for i in range(n):
        other[i] = i
        if weights[i] < 1:
            small[few] = i
            few += 1
        else:
            large[many] = i
            many += 1
    while few and many:
        few -= 1
        i, j = small[few], large[many - 1]
        share[i], other[i] = weights[i], j
        weights[j] -= 1 - weights[i]
        if weights[j] < 1:
            many -= 1
            small[few] = j
            few += 1
    for k in range(many):
        share[large[k]] = 1
    for k in range(few):  # left by rounding
        share[small[k]] = 1


def noise_of(counts: np.ndarray, power: float, kinds: np.ndarray | None = None) -> tuple[Noise, np.ndarray]:
    """What negatives are drawn from, count^power, and (V,) float64 the chance of each row within its group.

    kinds: (V,), ascending; None: one group.  A row that never occurs is never drawn.
    Raises UserError where the rows of a group are apart.
    """
    starts = np.array([0, len(counts)])
    if kinds is not None:
        if (np.diff(kinds.astype(np.int64)) < 0).any():
            raise UserError("method.typed=true needs rows in order of their types, and these are mixed")
        starts = np.searchsorted(kinds, np.arange(int(kinds[-1]) + 2))
    share, other = np.ones(len(counts), np.float32), np.arange(len(counts), dtype=np.int32)
    chances = np.zeros(len(counts))
    for begin, end in pairwise(starts):
        weights = np.where(counts[begin:end] > 0, counts[begin:end].astype(np.float64) ** power, 0)
        if weights.sum():
            chances[begin:end] = weights / weights.sum()
            aliases(weights, share[begin:end], other[begin:end])
            other[begin:end] += np.int32(begin)
    groups = np.empty(0, np.uint8) if kinds is None else kinds.astype(np.uint8)
    return Noise(starts.astype(np.int64), share, other, groups), chances


@compiled()
def negatives(noise, shared, state, first, rows):
    """Draw `shared` rows of each group, by the numbers of a stream from `first` on. rows: (G * shared,) int32."""
    for g in range(len(noise.starts) - 1):
        begin, size = noise.starts[g], noise.starts[g + 1] - noise.starts[g]
        if size == 0:  # a type without rows: nothing is a context of that type, so any row will do
            begin, size = 0, 1
        for k in range(g * shared, (g + 1) * shared):
            bits = draw(state, first + k)
            i = begin + np.int64(below(bits, size))
            rows[k] = i if unit(bits) < noise.share[i] else noise.other[i]


class Plan(NamedTuple):
    """What is drawn for a block of C chunks. first, last: (C,), the tokens that the chunk sees are first .. last - 1.

    low, high: (C, L), centre i sees all first + low[i] .. first + high[i] - 1 but itself; equal beyond the end.
    drawn: (C, Q) int32, the negatives.
    """

    first: np.ndarray
    last: np.ndarray
    low: np.ndarray
    high: np.ndarray
    drawn: np.ndarray


@compiled()
def plan(tokens, bounds, noise, how, seed, epoch, block):
    """Windows and negatives of a block, a function of (seed, epoch, block). Windows stay within their sequence."""
    count, groups = (len(tokens) + how.rows - 1) // how.rows, len(noise.starts) - 1
    first, last = np.full(count, len(tokens)), np.zeros(count, np.int64)
    low, high = np.zeros((count, how.rows), np.int64), np.zeros((count, how.rows), np.int64)
    drawn = np.zeros((count, groups * how.shared), np.int32)
    steps, picks = stream(seed, epoch, 2 * block), stream(seed, epoch, 2 * block + 1)
    for sequence in range(len(bounds) - 1):
        begin, end = bounds[sequence], bounds[sequence + 1]
        for p in range(begin, end):
            reach = how.window
            if how.shrink:
                reach = 1 + np.int64(below(draw(steps, p), how.window))
            n = p // how.rows
            a, b = max(p - reach, begin), min(p + reach + 1, end)
            low[n, p % how.rows], high[n, p % how.rows] = a, b
            first[n], last[n] = min(first[n], a), max(last[n], b)
    for n in range(count):
        rows = min(how.rows, len(tokens) - n * how.rows)
        low[n, :rows] -= first[n]
        high[n, :rows] -= first[n]
        negatives(noise, how.shared, picks, n * drawn.shape[1], drawn[n])
    return Plan(first, last, low, high, drawn)
