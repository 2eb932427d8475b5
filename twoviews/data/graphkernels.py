"""Edges into compressed rows, compiled: a counting sort by source, then twice turned over, which sorts every row."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..compiled import compiled

NONE = np.zeros(0, np.float32)
Part = tuple[np.ndarray, np.ndarray, np.ndarray | None]  # sources (n,), targets (n,) int32, weights (n,) float32


class Rows(NamedTuple):
    """Row i holds targets[starts[i] : starts[i + 1]], ascending; weights (E,) float32, empty where there are none."""

    starts: np.ndarray
    targets: np.ndarray
    weights: np.ndarray


@compiled()
def count(sources, targets, both, counts):
    """Add to counts (S,) how often each row gets an edge; with `both` directions, but a loop once."""
    for i in range(len(sources)):
        counts[sources[i]] += 1
        if both and sources[i] != targets[i]:
            counts[targets[i]] += 1


@compiled()
def place(sources, targets, weights, both, ends, out, heavy):
    """Put edges behind those that their rows have so far. ends: (S,) where each row's next edge goes."""
    for i in range(len(sources)):
        at = ends[sources[i]]
        ends[sources[i]] = at + 1
        out[at] = targets[i]
        if len(weights):
            heavy[at] = weights[i]
        if both and sources[i] != targets[i]:
            at = ends[targets[i]]
            ends[targets[i]] = at + 1
            out[at] = sources[i]
            if len(weights):
                heavy[at] = weights[i]


@compiled()
def turned(starts, targets, weights, n):
    """The same edges by target, of which there are n. Rows come out ascending, in whatever order they were."""
    back = np.zeros(n + 1, np.int64)
    for i in range(len(targets)):
        back[targets[i] + 1] += 1
    for i in range(n):
        back[i + 1] += back[i]
    ends = back[:-1].copy()
    out, heavy = np.empty(len(targets), np.int32), np.empty(len(weights), np.float32)
    for row in range(len(starts) - 1):
        for i in range(starts[row], starts[row + 1]):
            at = ends[targets[i]]
            ends[targets[i]] = at + 1
            out[at] = row
            if len(weights):
                heavy[at] = weights[i]
    return back, out, heavy


@compiled()
def repeated(starts, targets):
    """Edges that stand in their row before: E less the distinct ones."""
    found = 0
    for row in range(len(starts) - 1):
        for i in range(starts[row] + 1, starts[row + 1]):
            found += targets[i] == targets[i - 1]
    return found


@compiled()
def looped(starts, targets, first):
    """Edges from a node to itself. first: the number of the node of row 0."""
    found = 0
    for row in range(len(starts) - 1):
        for i in range(starts[row], starts[row + 1]):
            found += targets[i] == first + row
    return found


@compiled()
def neighbours(starts, targets, first, n, same):
    """How many nodes each row leads to (S,), and how many lead to each target (n,), int64.

    first: the number of the first target. same: rows and targets are the same nodes; then loops do not count.
    """
    out, back = np.zeros(len(starts) - 1, np.int64), np.zeros(n, np.int64)
    for row in range(len(starts) - 1):
        for i in range(starts[row], starts[row + 1]):
            if (i == starts[row] or targets[i] != targets[i - 1]) and not (same and targets[i] == first + row):
                out[row] += 1
                back[targets[i] - first] += 1
    return out, back


@compiled()
def spared(rows, targets, degrees, backs, most):
    """Which of some distinct edges, in their order, can go so that both ends keep another: bool (n,), at most `most`.

    degrees, backs: distinct edges by source and by target; one array where edges have no direction. Changed.
    """
    gone, found = np.zeros(len(rows), np.bool_), 0
    for i in range(len(rows)):
        if found < most and degrees[rows[i]] > 1 and backs[targets[i]] > 1:
            degrees[rows[i]] -= 1
            backs[targets[i]] -= 1
            gone[i] = True
            found += 1
    return gone


@compiled()
def drop(starts, targets, rows, gone, kept):
    """Take all edges rows[i] -> gone[i] out of kept (E,), however often they stand there."""
    for i in range(len(rows)):
        low, stop = starts[rows[i]], starts[rows[i] + 1]
        high = stop
        while low < high:
            middle = (low + high) // 2
            if targets[middle] < gone[i]:
                low = middle + 1
            else:
                high = middle
        while low < stop and targets[low] == gone[i]:
            kept[low] = False
            low += 1


@compiled()
def carried(starts, targets, weights, mass, total, out):
    """Move what lies on each row, mass (S,), along its edges into out (V,): a share of weight / total (S,) each."""
    for row in range(len(starts) - 1):
        if mass[row] > 0.0:
            for i in range(starts[row], starts[row + 1]):
                out[targets[i]] += mass[row] * (weights[i] if len(weights) else 1.0) / total[row]


def rows(parts: list[Part], sources: int, targets: int, both: bool) -> tuple[Rows, Rows]:
    """Edges by source and by target, equal where they go in `both` directions. Empties `parts` as it goes."""
    ends = np.zeros(sources + 1, np.int64)
    for part in parts:
        count(part[0], part[1], both, ends[1:])
    np.cumsum(ends, out=ends)
    starts, heavy = ends.copy(), any(part[2] is not None for part in parts)
    out = np.empty(starts[-1], np.int32)
    weights = np.empty(starts[-1] if heavy else 0, np.float32)
    while parts:
        source, target, weight = parts.pop()
        place(source, target, NONE if weight is None else weight, both, ends, out, weights)
    back = Rows(*turned(starts, out, weights, targets))
    del out, weights
    return (back if both else Rows(*turned(*back, sources))), back
