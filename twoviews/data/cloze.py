"""Two views of one history: with blanks, and whole.

    cloze       blanks at random places (Taylor 1953; Sun et al. 2019, arXiv:1904.06690, section 3.6), or at the last
    following   every place is asked for what comes next (Kang and McAuley 2018, arXiv:1808.09781)

Blanks are drawn for a whole batch at once, from (seed, epoch, row) alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..errors import UserError
from ..types import FIRST, MASK, PAD
from .dice import Dice
from .histories import Histories, padded

EARLIER = 4  # the power that makes most rows end near the end of their history, where taste is of today
Drawn = tuple[Tensor, Tensor, Tensor]  # with blanks (B, T), whole (B, T), the places of blanks (M,)


@dataclass(frozen=True)
class Rows:
    """What an epoch is made of. History starts[i] : stops[i]; fixed: (N,) which of the sets of blanks, or None."""

    starts: np.ndarray
    stops: np.ndarray
    fixed: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.starts)


@dataclass(frozen=True)
class Cloze:
    """See `cloze`."""

    length: int
    share: float
    last: float
    most: int | None
    slide: float | None
    copies: int
    following: float

    past = False

    @property
    def least(self) -> int:
        return 2 if self.following else 1

    def at(self, epoch: int, epochs: int) -> Cloze | Following:
        """The views of an epoch. The last has blanks, however few there are: with one it will be asked."""
        early = epoch / epochs < self.following and (epoch < epochs - 1 or self.following == 1)
        return Following(self.length) if early else self

    def rows(self, histories: Histories) -> Rows:
        """One row a history, or with `slide` and `copies` one a window and set of blanks."""
        kept = histories.lengths >= self.least
        starts, stops = histories.starts[kept], histories.stops[kept]
        if self.slide is not None:
            starts, stops = windows(starts, stops, self.length, max(1, int(self.slide * self.length)))
        if not self.copies:
            return Rows(starts, stops)
        sets = self.copies + 1
        return Rows(np.repeat(starts, sets), np.repeat(stops, sets), np.tile(np.arange(sets), len(starts)))

    def cut(self, rows: Rows, chosen: np.ndarray, dice: Dice) -> tuple[np.ndarray, np.ndarray]:
        """Where the chosen rows begin and end: at a random place where a history is longer than a row.

        A row of which the last item alone is hidden ends anywhere, so that every item comes to be asked for.
        """
        if rows.fixed is None:
            alone = dice.view(2).chance(self.last).numpy()
            starts, stops = rows.starts[chosen], rows.stops[chosen]
            spare = np.maximum(stops - starts - 2, 0)
            back = (spare * dice.view(3).uniform().numpy() ** EARLIER).astype(np.int64)
            rows = Rows(starts, np.where(alone, stops - back, stops))
            return window(rows, np.arange(len(chosen)), self.length, dice, moved=~alone)
        return window(rows, chosen, self.length, dice)

    def __call__(self, whole: Tensor, lengths: Tensor, dice: Dice, fixed: Tensor | None = None) -> Drawn:
        """whole: (B, T) tokens. fixed: (B,) which set of blanks, the last hides the last item alone."""
        steps = torch.arange(whole.shape[1])
        last = steps == lengths[:, None] - 1
        count = (self.share * lengths + 0.5).long().clamp(1, self.most)
        draws = dice.view(1).uniform(n=whole.shape[1])  # (B, T)
        order = draws.masked_fill(whole == PAD, 2.0).argsort(1).argsort(1)  # its place among the draws of its row
        blank = order < count[:, None]
        alone = dice.view(2).chance(self.last) if fixed is None else fixed == self.copies
        blank = torch.where(alone[:, None], last, blank)
        return whole.masked_fill(blank, MASK), whole, blank.flatten().nonzero()[:, 0]


@dataclass(frozen=True)
class Following:
    """See `following`."""

    length: int

    past = True
    least = 2

    def at(self, epoch: int, epochs: int) -> Following:
        return self

    def rows(self, histories: Histories) -> Rows:
        kept = histories.lengths >= self.least
        return Rows(histories.starts[kept], histories.stops[kept])

    def cut(self, rows: Rows, chosen: np.ndarray, dice: Dice) -> tuple[np.ndarray, np.ndarray]:
        return window(rows, chosen, self.length + 1, dice)

    def __call__(self, whole: Tensor, lengths: Tensor, dice: Dice, fixed: Tensor | None = None) -> Drawn:
        """The past, and at each place what follows."""
        following = whole[:, 1:]
        return whole[:, :-1].masked_fill(following == PAD, PAD), following, following.flatten().nonzero()[:, 0]


def cloze(
    length: int = 200,
    share: float = 0.2,
    last: float = 0.5,
    most: int | None = None,
    slide: float | None = None,
    copies: int = 0,
    following: float = 0.0,
) -> Cloze:
    """Blanks in a history.

    length: items of a row.  share: of a row's items that are hidden (the paper's rho), one at least, `most` at most.
    last:   share of the rows of which the last item alone is hidden, as it is when asked what comes next.
    slide:  rows begin every slide * length items, from the end of a history; None: one row a history and epoch,
            at a random place of a long one.
    copies: 0 draws blanks anew in every epoch; N reads each row with the same N sets of blanks in all epochs, and
            once with the last item hidden (the paper's code: 10). `last` is then not used.
    following: the share of the training, at its beginning, in which every place is asked for what follows, from the
            past alone: a history then teaches many times as much. Blanks come after.
    """
    Allowed.length(length)
    Allowed.share("share", share)
    Allowed.share("last", last)
    Allowed.share("following", following)
    if most is not None and most < 1:
        raise UserError(f"views.most must be 1 or more, or None, got {most}")
    if slide is not None and not 0 < slide <= 1:
        raise UserError(f"views.slide must be a share above 0, at most 1, or None, got {slide}")
    if copies < 0:
        raise UserError(f"views.copies must be 0 or more, got {copies}")
    return Cloze(length, share, last, most, slide, copies, following)


def following(length: int = 200) -> Following:
    """The past of a history and, at each place, the item that follows."""
    Allowed.length(length)
    return Following(length)


class Allowed:
    @staticmethod
    def length(value: int) -> None:
        if value < 2:
            raise UserError(f"views.length must be 2 or more, got {value}")

    @staticmethod
    def share(name: str, value: float) -> None:
        if not 0 <= value <= 1:
            raise UserError(f"views.{name} must be a share from 0 to 1, got {value}")


@dataclass(frozen=True)
class Ask:
    """A history as it is asked what comes next. blank: a blank is put behind it, as readers of both ways need."""

    length: int
    blank: bool

    def __call__(self, histories: Histories, rows: np.ndarray) -> Tensor:
        """(B, T) tokens; the state of the last of each row is the answer."""
        items, lengths = histories.last(rows, self.length - self.blank)
        tokens = torch.from_numpy(items).long() + FIRST
        tokens[items < 0] = PAD
        if not self.blank:
            return tokens
        tokens = torch.nn.functional.pad(tokens, (0, 1), value=PAD)
        return tokens.scatter_(1, torch.from_numpy(lengths)[:, None], MASK)


def ask(length: int = 200, blank: bool = True) -> Ask:
    """The last items of a history, with a blank behind them unless `blank` is off."""
    Allowed.length(length)
    return Ask(length, blank)


def window(
    rows: Rows, chosen: np.ndarray, length: int, dice: Dice, moved: np.ndarray | bool = True
) -> tuple[np.ndarray, np.ndarray]:
    """`length` items of each chosen row that has more: the last, or of those that are `moved` any."""
    starts, stops = rows.starts[chosen], rows.stops[chosen]
    spare = np.where(moved, np.maximum(stops - starts - length, 0), 0)
    back = dice.view(0).integers(torch.from_numpy(spare + 1)).numpy()
    stops = stops - back
    return np.maximum(starts, stops - length), stops


def windows(starts: np.ndarray, stops: np.ndarray, length: int, step: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows of `length` items, each `step` before the next, from the end of each history back to its beginning."""
    count = np.maximum(0, -(-(stops - starts - length) // step)) + 1
    back = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
    begins = np.repeat(starts, count)
    ends = np.maximum(np.repeat(stops, count) - back * step, np.minimum(begins + length, np.repeat(stops, count)))
    return np.maximum(begins, ends - length), ends


HISTORY_VIEWS: dict[str, Callable] = {"cloze": cloze, "following": following}
__all__ = ["HISTORY_VIEWS", "Ask", "Cloze", "Drawn", "Following", "Rows", "ask", "cloze", "following", "padded"]
