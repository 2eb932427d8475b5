"""Batches of histories: rows of like length together, so that little is padding."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from ..dist import rank, world
from ..errors import DataError, UserError
from ..types import FIRST, PAD, Blanks
from .dice import Dice
from .histories import Histories, padded

SORTED = 32  # batches among which rows are sorted by length


class HistoryLoader:
    """Batches of two views of histories for training; the order depends on (seed, epoch) alone.

    batch_size: rows a step, over all ranks and `accumulate` micro-batches. The rows of a step are shared out in turn,
    so all ranks have about the same number of items.  epochs: of the whole training.
    Raises UserError when a batch does not divide, or histories are fewer than one; DataError when there are none.
    """

    plan = None

    def __init__(
        self,
        histories: Histories,
        views: Any,
        batch_size: int,
        *,
        epochs: int = 1,
        accumulate: int = 1,
        seed: int = 0,
        device: torch.device | str = "cpu",
    ):
        parts = world() * accumulate
        if batch_size < parts or batch_size % parts:
            raise UserError(
                f"batch_size must divide by processes x accumulate = {world()} x {accumulate}, got {batch_size}"
            )
        self.histories, self.views, self.epochs = histories, views, epochs
        self.seed, self.accumulate = seed, accumulate
        self.batch_size, self.parts, self.device = batch_size, parts, torch.device(device)
        self.rows = views.rows(histories)
        self.skipped: dict[str, str] = {}
        self.steps = len(self.rows) // batch_size
        if not len(self.rows):
            raise DataError(
                f"no user of {histories.name} has {views.least} events to train on beside those held out; "
                "data.split=none holds none out"
            )
        if not self.steps:
            raise UserError(
                f"{len(self.rows):,} histories of {views.least} or more items are fewer than one batch of "
                f"{batch_size}; set batch_size to at most {len(self.rows)}"
            )

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Blanks]:
        """This rank's micro-batches of an epoch, from step `start` on; `accumulate` of them make a step."""
        batches = self._order(epoch)
        for batch in batches[start:]:
            for micro in range(self.accumulate):
                yield self._read(epoch, batch[micro * world() + rank() :: self.parts])

    def _order(self, epoch: int) -> np.ndarray:
        """(steps, batch_size): rows at random, sorted by length among SORTED batches, then the batches at random.

        Sorted rows make blanks of short histories count more, for each batch takes the mean over its own. Fixed blanks
        are those of the paper's code, whose batches mix all lengths: they are only sorted within a batch.
        """
        random = np.random.default_rng((self.seed, epoch))
        order = random.permutation(len(self.rows))[: self.steps * self.batch_size]
        lengths = np.minimum(self.rows.stops - self.rows.starts, self.views.length)
        among = self.batch_size * (SORTED if self.rows.fixed is None else 1)
        for begin in range(0, len(order), among):
            some = order[begin : begin + among]
            order[begin : begin + among] = some[np.argsort(lengths[some], kind="stable")]
        return order.reshape(self.steps, self.batch_size)[random.permutation(self.steps)]

    def _read(self, epoch: int, chosen: np.ndarray) -> Blanks:
        dice = Dice(self.seed, 0 if self.rows.fixed is not None else epoch, torch.from_numpy(chosen))
        views = self.views.at(epoch, self.epochs)
        starts, stops = views.cut(self.rows, chosen, dice)
        items, lengths = padded(self.histories.items, starts, stops)
        whole = torch.from_numpy(items).long() + FIRST
        whole[whole < FIRST] = PAD
        fixed = None if self.rows.fixed is None else torch.from_numpy(self.rows.fixed[chosen])
        drawn = views(whole, torch.from_numpy(lengths), dice, fixed)
        every = (*drawn, torch.from_numpy(chosen))
        holed, whole, places, ids = (x.to(self.device, non_blocking=True) for x in every)
        return Blanks([holed, whole], ids, places=places, past=views.past)
