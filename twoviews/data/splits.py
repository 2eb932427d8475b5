"""How a log is divided: what is trained on, what chooses the checkpoint, what measures. Views over the same arrays.

Splits by name:
    leave-one-out        train on all but the last two events, choose by the last but one, measure by the last, asked
                         after all that came before (Klenitskiy and Vasilev 2023, arXiv:2309.07602; Petrov and
                         Macdonald 2023, arXiv:2308.07192)
    leave-one-out-paper  train on all but the last, measure by the last, choose by nothing (Sun et al. 2019, section
                         4.1, whose code trains on the item that it says is for validation)
    time:0.9             train on what happened before a moment, measure by all that each user did from it on
    ratio:0.8            the same share of each user's events
    none                 train on all, measure nothing
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ..errors import DataError, UserError, unknown
from .histories import Histories


@dataclass(frozen=True)
class Question:
    """The same users twice.

    history: what is known of them.  truth: what they met next, one item or more, to be found.
    """

    history: Histories
    truth: Histories

    def __len__(self) -> int:
        return len(self.history)


@dataclass(frozen=True)
class Division:
    """train has all users, some with an empty history. valid, test: None where nothing is held out.

    said: one sentence on what was done, to print.
    """

    train: Histories
    valid: Question | None
    test: Question | None
    said: str


def divided(histories: Histories) -> Division:
    """Divided as `histories.split` names it.

    Raises UserError for a name or number that cannot be, DataError with one item or no user of enough events.
    """
    name, share = _parsed(histories.split)
    if histories.catalogue < 2:
        raise DataError(
            f"{histories.name} has one item, '{histories.vocabulary[0]}', so there is nothing to tell apart; "
            "say data.item=NAME if another column holds the items"
        )
    if histories.lengths.max(initial=0) < 2:
        raise DataError(
            f"every user of {histories.name} has one event, so nothing follows anything; "
            "say data.user=NAME if another column holds the users"
        )
    return SPLITS[name](histories) if share is None else SPLITS[name](histories, share)


def check_split(split: str) -> None:
    """Raises UserError for a name or number that cannot be."""
    _parsed(split)


def leave_one_out(histories: Histories) -> Division:
    starts, stops, asked = histories.starts, histories.stops, histories.lengths >= 3
    _any(histories, asked, "3 events")
    train = histories.between(starts, np.where(asked, stops - 2, stops))
    said = (
        f"the last event of {asked.sum():,} users is to be found given all before it; the last but one chooses the "
        "checkpoint; neither is trained on" + _rest(asked, "fewer than 3 events")
    )
    return Division(train, _ask(histories, asked, stops - 2, stops - 1), _ask(histories, asked, stops - 1, stops), said)


def leave_one_out_paper(histories: Histories) -> Division:
    stops, asked = histories.stops, histories.lengths >= 2
    _any(histories, asked, "2 events")
    train = histories.between(histories.starts, np.where(asked, stops - 1, stops))
    said = (
        f"the last event of {asked.sum():,} users is to be found given all before it, which is trained on; nothing is "
        "held out to choose a checkpoint by" + _rest(asked, "1 event")
    )
    return Division(train, None, _ask(histories, asked, stops - 1, stops), said)


def by_time(histories: Histories, share: float = 0.9) -> Division:
    """`share` of all events lie before the moment; as many as after it, but before it, choose the checkpoint."""
    if histories.times is None:
        raise UserError(f"data.split=time: {histories.name} has no times; say data.time=NAME, or data.split=ratio")
    times = histories.flat(histories.times)
    ranks = [min(round(part * len(times)), len(times) - 1) for part in (2 * share - 1, share)]
    first, second = (reached(histories, moment) for moment in np.partition(times, ranks)[ranks])
    starts, stops = histories.starts, histories.stops
    later, asked = (first > starts) & (second > first), (second > starts) & (stops > second)
    _any(histories, asked, "events before and after one moment")
    new = int(((second == starts) & (stops > second)).sum())
    said = (
        f"trained on the {int((first - starts).sum()):,} events before one moment; the {int((second - first).sum()):,} "
        f"until another choose the checkpoint ({later.sum():,} users have been there before), the "
        f"{int((stops - second).sum()):,} from there on are to be found ({asked.sum():,} users)"
    )
    said += f"; {new:,} users who came after it are not asked" if new else ""
    valid = _ask(histories, later, first, second) if later.any() else None
    return Division(histories.between(starts, first), valid, _ask(histories, asked, second, stops), said)


def by_ratio(histories: Histories, share: float = 0.8) -> Division:
    """The first `share` of each user's events; the rest, halved, chooses and measures, one event each at least."""
    starts, stops, lengths = histories.starts, histories.stops, histories.lengths
    asked = lengths >= 3
    _any(histories, asked, "3 events")
    held = np.floor((1 - share) / 2 * lengths + 0.5).astype(np.int64)
    held = np.where(asked, np.clip(held, 1, (lengths - 1) // 2), 0)
    first, second = stops - 2 * held, stops - held
    said = (
        f"of {asked.sum():,} users the first {share:.0%} of events are trained on, half of the rest chooses the "
        "checkpoint and half is to be found" + _rest(asked, "fewer than 3 events")
    )
    valid, test = _ask(histories, asked, first, second), _ask(histories, asked, second, stops)
    return Division(histories.between(starts, first), valid, test, said)


def nothing_held_out(histories: Histories) -> Division:
    return Division(histories, None, None, "all events are trained on; nothing is measured")


def reached(histories: Histories, moment: int) -> np.ndarray:
    """(N,) int64: where each history comes to a moment, its first event at or after it. Bisects all at once."""
    assert histories.times is not None
    low, high = histories.starts.copy(), histories.stops.copy()
    last = len(histories.times) - 1
    while (searching := low < high).any():
        middle = (low + high) // 2
        before = histories.times[np.minimum(middle, last)] < moment
        low = np.where(searching & before, middle + 1, low)
        high = np.where(searching & ~before, middle, high)
    return low


def _ask(histories: Histories, asked: np.ndarray, begin: np.ndarray, end: np.ndarray) -> Question:
    known = histories.between(histories.starts, begin).subset(asked)
    return Question(known, histories.between(begin, end).subset(asked))


def _any(histories: Histories, asked: np.ndarray, what: str) -> None:
    if not asked.any():
        raise DataError(
            f"no user of {histories.name} has {what}, so nothing can be held out; data.split=none trains all"
        )


def _rest(asked: np.ndarray, why: str) -> str:
    rest = int((~asked).sum())
    return f"; {rest:,} users of {why} are trained on and not asked" if rest else ""


SPLITS: dict[str, Callable[..., Division]] = {
    "leave-one-out": leave_one_out,
    "leave-one-out-paper": leave_one_out_paper,
    "time": by_time,
    "ratio": by_ratio,
    "none": nothing_held_out,
}
SHARES = {"time": 0.5, "ratio": 0.0}  # those that take a number, which must be above this and below 1


def _parsed(split: str) -> tuple[str, float | None]:
    name, colon, text = split.partition(":")
    if name not in SPLITS:
        raise unknown("split", name, SPLITS)
    if not colon:
        return name, None
    if name not in SHARES:
        raise UserError(f"data.split={split}: '{name}' takes no number; say data.split={name}")
    try:
        share = float(text)
    except ValueError:
        share = -1.0
    if not SHARES[name] < share < 1:
        raise UserError(f"data.split={split}: the number must be above {SHARES[name]:g}, below 1, such as {name}:0.9")
    return name, share
