"""The order in which a stream is read: a pure function of how many items each shard holds, the seed and the epoch.

    shards, permuted -> one line of N items, begun at a random place -> L lanes of equal length -> windows, shuffled

A batch takes as many items of every lane, so it holds neighbours of none. Lanes are cut to the item, through the
middle of a shard where need be. Nothing is drawn from a generator, so any step of any epoch can be entered at once, and
neither the number of processes nor of workers changes the order: they only divide the lanes.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import ceil

import numpy as np
import torch

from .dice import Dice

LANES = 64  # shards that are read side by side, more where a batch is larger than LANES ** 2
SHARDS = -1  # the stream of random numbers that orders shards: views of photos have 0, 1, 2 ...


@dataclass(frozen=True, eq=False)
class Plan:
    """The order of every epoch. counts: (S,) items of each shard; batch: items a step over all ranks; window: items.

    Item numbers count through the shards in their own order. Each comes at most once an epoch; those that fill
    no batch are others in every epoch.
    """

    counts: np.ndarray
    batch: int
    window: int
    seed: int

    @property
    def steps(self) -> int:
        return int(self.counts.sum()) // self.batch

    @property
    def lanes(self) -> int:
        """The largest divisor of the batch that is not above 64, or a 64th of the batch."""
        most = min(self.batch, max(LANES, self.batch // LANES))
        return next(n for n in range(most, 0, -1) if self.batch % n == 0)

    @property
    def length(self) -> int:
        """Items of one lane in an epoch."""
        return self.steps * self.batch // self.lanes

    def place(self, position: int) -> tuple[int, int]:
        """Where an item of the epoch's order lies: (lane, its number in the lane)."""
        share = self.batch // self.lanes
        step, row = divmod(position, self.batch)
        return row // share, step * share + row % share

    def bounds(self, lane: int, number: int) -> tuple[int, int, int]:
        """(window, first, stop): the window of a lane in which an item lies, and the items it holds.

        The first windows of the lanes are of different lengths, so that not all end at once.
        """
        shift = lane * self.window // self.lanes
        window = (number + shift) // self.window
        first = window * self.window - shift
        return window, max(0, first), min(self.length, first + self.window)

    def windows(self, lane: int) -> int:
        return ceil((self.length + lane * self.window // self.lanes) / self.window)

    def runs(self, epoch: int, lane: int, first: int, stop: int) -> list[tuple[int, int]]:
        """The items `first` ... `stop` - 1 of a lane as they are read: (item, end) of neighbours in one shard each."""
        shards, ends, begin = _line(self, epoch)
        total, starts = int(ends[-1]), np.cumsum(self.counts) - self.counts
        at, left = (lane * self.length + first + begin) % total, stop - first
        found = []
        while left:
            row = int(np.searchsorted(ends, at, side="right"))
            many = min(left, int(ends[row]) - at)
            item = int(starts[shards[row]]) + at - int(ends[row] - self.counts[shards[row]])
            found.append((item, item + many))
            at, left = (at + many) % total, left - many
        return found

    def shuffled(self, epoch: int, items: np.ndarray) -> np.ndarray:
        """The places of a window's items in the order in which they are seen."""
        return Dice(self.seed, epoch, torch.from_numpy(items)).bits()[:, 0].argsort(stable=True).numpy()


@lru_cache(maxsize=4)
def _line(plan: Plan, epoch: int) -> tuple[np.ndarray, np.ndarray, int]:
    """The shards of an epoch in their order, where each ends in the line, and where the line begins."""
    dice = Dice(plan.seed, epoch, torch.arange(len(plan.counts))).view(SHARDS)
    shards = dice.bits()[:, 0].argsort(stable=True).numpy()
    begin = Dice(plan.seed, epoch, torch.zeros(1, dtype=torch.int64)).view(SHARDS).bits(2)[0, 1]
    return shards, np.cumsum(plan.counts[shards]), int(begin) % int(plan.counts.sum())
