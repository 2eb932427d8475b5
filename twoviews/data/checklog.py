"""What an interaction log holds, before hours are spent on it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta, timezone
from time import perf_counter
from typing import Any

import numpy as np

from ..errors import UserError
from .histories import Histories
from .logclock import UNITS, unit
from .logs import notes
from .splits import Question, divided

ROWS = 2**22  # events looked at together
SHORT = 5  # events of a user, or of an item, from which on there is something to learn by


@dataclass
class Asked:
    """What a division asks for. cold: of the items to be found, those that training never sees; known: those that the
    user had before, which can never be found where seen items are left out.
    """

    users: int
    targets: int
    cold: int
    known: int


@dataclass
class Report:
    """What `check_log` found.

    lengths:  least, median, mean and largest number of events of a user; `short` users have fewer than 5.
    rare:     items with fewer than 5 events; `once` have one.
    top:      share of the events that are of the commonest hundredth of items.
    gini:     of the items' counts: 0 all occur as often, 1 one item is everything.
    span:     first and last time, as dates where the unit is known; None without times. `unit` is what they look like.
    split:    how it is divided, in a sentence; `valid` and `test` what that asks for, None where nothing is.
    counted:  the rules that reading met, and how often.  bytes: held in memory.
    """

    name: str
    users: int
    items: int
    events: int
    lengths: tuple[int, float, float, int]
    short: int
    rare: int
    once: int
    top: float
    gini: float
    span: tuple[str, str] | None
    unit: str | None
    split: str
    valid: Asked | None
    test: Asked | None
    counted: dict[str, int]
    notes: list[str]
    bytes: int
    seconds: float

    @property
    def whole(self) -> bool:
        """Whether all could be read: a log that cannot be raises an error."""
        return True

    def to_dict(self) -> dict[str, Any]:
        """The report in types that JSON knows."""
        return {key: value for key, value in asdict(self).items() if key != "notes"}

    def lines(self) -> list[str]:
        """The report as plain text."""
        least, median, mean, most = self.lengths
        out = [
            f"{self.name}: {self.events:,} events of {self.users:,} users and {self.items:,} items, "
            f"{self.bytes / 2**20:,.1f} MiB in memory",
            f"history    {least:,} to {most:,} events, median {median:g}, mean {mean:.2f}; "
            f"{self.short:,} users have fewer than {SHORT}",
            f"items      {self.top:.1%} of events are of the commonest 1 % of items, Gini {self.gini:.2f}; "
            f"{self.rare:,} items have fewer than {SHORT} events, {self.once:,} one",
        ]
        if self.span:
            out.append(f"times      {self.span[0]} to {self.span[1]}" + (f", in {self.unit}" if self.unit else ""))
        out.append(f"split      {self.split}")
        for name, asked in (("valid", self.valid), ("test", self.test)):
            if asked:
                cold, known = _part(asked.cold, asked.targets), _part(asked.known, asked.targets)
                out.append(
                    f"{name:<10} {asked.targets:,} items to be found for {asked.users:,} users: {cold} never occur in "
                    f"training, {known} the user had before"
                )
        return out + [f"rule       {note}" for note in self.notes]


def check_log(histories: Histories) -> Report:
    """Count what is there, and what the histories' split makes of it."""
    begun = perf_counter()
    lengths, counts = histories.lengths, np.sort(histories.counts())
    try:
        division = divided(histories)
        said, valid, test = division.said, division.valid, division.test
        trained = division.train.counts() > 0
    except UserError as why:
        said, valid, test, trained = f"not divided: {why}", None, None, np.zeros(0, bool)
    times = None if histories.times is None else histories.flat(histories.times)
    scale = None if times is None else unit(times)
    held = (histories.items, histories.times, histories.starts, histories.stops, histories.users, histories.vocabulary)
    return Report(
        name=histories.name,
        users=len(histories),
        items=histories.catalogue,
        events=histories.events,
        lengths=(int(lengths.min()), float(np.median(lengths)), float(lengths.mean()), int(lengths.max())),
        short=int((lengths < SHORT).sum()),
        rare=int((counts < SHORT).sum()),
        once=int((counts == 1).sum()),
        top=float(counts[-max(1, len(counts) // 100) :].sum() / counts.sum()),
        gini=gini(counts),
        span=None if times is None else (_date(times.min(), scale), _date(times.max(), scale)),
        unit=None if scale is None else UNITS[scale],
        split=said,
        valid=None if valid is None else asked(valid, trained),
        test=None if test is None else asked(test, trained),
        counted=dict(histories.counted),
        notes=notes(histories)[1:],
        bytes=sum(part.nbytes for part in held if part is not None),
        seconds=perf_counter() - begun,
    )


def asked(question: Question, trained: np.ndarray) -> Asked:
    """trained: (V,) whether an item occurs in training."""
    targets = cold = known = 0
    for rows in _portions(question):
        truth, history = _pairs(question.truth, rows), _pairs(question.history, rows)
        targets += len(truth)
        cold += int((~trained[truth % len(trained)]).sum())
        known += int(np.isin(truth, history).sum())
    return Asked(len(question), targets, cold, known)


def gini(counts: np.ndarray) -> float:
    """Of counts in rising order."""
    n = len(counts)
    return float(2 * (np.arange(1, n + 1) * counts).sum() / (n * counts.sum()) - (n + 1) / n)


def _portions(question: Question) -> Iterator[np.ndarray]:
    """The users, so many at a time that their events are about ROWS."""
    events = np.cumsum(question.history.lengths + question.truth.lengths)
    edges = np.searchsorted(events, np.arange(ROWS, events[-1] + ROWS, ROWS), side="right")
    begin = 0
    for edge in np.unique(np.append(edges, len(events))):
        if edge > begin:
            yield np.arange(begin, edge)
            begin = edge


def _pairs(histories: Histories, rows: np.ndarray) -> np.ndarray:
    """(E,) int64: a number for each event of some users that is equal for the same user and item alone."""
    starts, lengths = histories.starts[rows], histories.lengths[rows]
    place = np.arange(lengths.sum()) + np.repeat(starts - (np.cumsum(lengths) - lengths), lengths)
    return np.repeat(rows, lengths) * histories.catalogue + histories.items[place]


def _date(moment: int, scale: int | None) -> str:
    """A time in UNITS[scale] since 1970, as a date where it is one."""
    if scale is None:
        return f"{int(moment):,}"
    try:
        when = datetime(1970, 1, 1, tzinfo=timezone.utc) + timedelta(seconds=int(moment) / 1000**scale)
    except OverflowError:
        return f"{int(moment):,}"
    return when.strftime("%Y-%m-%d %H:%M")


def _part(count: int, of: int) -> str:
    return f"{count:,} ({count / of:.1%})"
