"""In which order pairs of partitions are trained: one after the other, or several at once that share none.

Lerer et al. 2019, "PyTorch-BigGraph", arXiv:1903.12287, sections 4.1 and 4.2.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

Pair = tuple[int, int]


def swaps(partitions: int) -> list[Pair]:
    """All pairs, each sharing a partition with the one before."""
    if partitions == 1:
        return [(0, 0)]
    pairs, anchor, rest = [], 0, list(range(1, partitions))
    while rest:
        pairs += [(anchor, other) for other in rest]
        anchor, rest = rest[-1], rest[:-1]
    return pairs


def tournament(partitions: int) -> list[list[Pair]]:
    """Rounds of disjoint pairs in which each meets each once: one stays, the others move round."""
    table: list[int] = [*range(partitions), *([-1] if partitions % 2 else [])]  # -1: a bye
    rounds = []
    for _ in range(len(table) - 1):
        half = len(table) // 2
        drawn = zip(table[:half], table[: half - 1 : -1], strict=True)
        rounds.append([(a, b) for a, b in drawn if a >= 0 and b >= 0])
        table = [table[0], table[-1], *table[1:-1]]
    return rounds


def schedule(partitions: int, world: int) -> list[list[Pair]]:
    """Rounds of at most one pair a process."""
    if world == 1 or partitions == 1:
        return [[pair] for pair in swaps(partitions)]
    return [games[k : k + world] for games in tournament(partitions) for k in range(0, len(games), world)]


def dealt(partitions: int, seed: int, epoch: int) -> list[int]:
    """Which partition stands for which number of the schedule: another in each epoch."""
    return np.random.default_rng((seed, epoch)).permutation(partitions).tolist()


def remaining(partitions: int, world: int, seed: int, epoch: int, done: Iterable[Sequence[int]]) -> list[list[Pair]]:
    """The rounds of this epoch that are left, also where another number of processes began it."""
    names = dealt(partitions, seed, epoch)
    over = {tuple(sorted(pair)) for pair in done}
    named = ([(names[a], names[b]) for a, b in games] for games in schedule(partitions, world))
    left = ([pair for pair in games if tuple(sorted(pair)) not in over] for games in named)
    return [games for games in left if games]


def owned(pair: Pair, partitions: int, seed: int, epoch: int) -> list[Pair]:
    """The buckets of a pair: both ways between its two, and within one where no other pair has those."""
    place = {name: k for k, name in enumerate(dealt(partitions, seed, epoch))}
    a, b = sorted(pair)
    within = [p for p in sorted({a, b}) if partner(place[p], partitions) in (place[a], place[b])]
    across = [(a, b), (b, a)] if a != b else []
    return [*across, *((p, p) for p in within)]


def partner(k: int, partitions: int) -> int:
    """With whom number k of the schedule trains the edges within itself: 0 with 1, 2 with 3, an odd last with 0."""
    return 0 if k == partitions - 1 and partitions % 2 else k ^ 1
