"""Decode every recording of a source before hours are spent on it, and say what is there."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from hashlib import blake2b
from time import perf_counter
from typing import Any

import numpy as np

from ..errors import BrokenItem
from .check import (
    DIGEST,
    beside_train,
    broken_lines,
    classes_line,
    each,
    equal,
    in_order,
    repeated_lines,
    three,
    train_and_others,
)
from .listing import few
from .sounds import Sounds, notes_of_sounds

FULL = 0.999  # of full scale, from where on a sample counts as clipped
CLIPPED = 1e-3  # of a recording's samples, from where on it does


@dataclass
class Report:
    """What `check_sounds` found.

    broken:     (key, reason) of the recordings that cannot be read; nothing below but `hours` counts them.
    hours:      of all whose header could be read.
    length:     least, median and largest, in seconds; level: the same, dB below full scale, of the mean square.
    formats, rates, channels: recordings of each, as they are in the files.
    rate:       of every item as the source gives it.
    clipped:    recordings of which a thousandth of the samples or more is at full scale.
    duplicates: groups of keys whose samples are all equal.
    in_train:   of each other split, recordings whose samples lie in the split `train` too; None without both.
    heard:      of each other split, speakers who are heard in the split `train` too; None without speakers or splits.
    labels, speakers: recordings of each, or None; `unlabelled` counts those without a label.
    """

    name: str
    count: int
    readable: int
    broken: list[tuple[str, str]]
    hours: float
    length: tuple[float, float, float] | None
    level: tuple[float, float, float] | None
    formats: dict[str, int]
    rates: dict[int, int]
    channels: dict[int, int]
    rate: int
    clipped: int
    duplicates: list[list[str]]
    in_train: dict[str, int] | None
    heard: dict[str, int] | None
    labels: dict[str, int] | None
    speakers: dict[str, int] | None
    unlabelled: int
    notes: list[str]
    seconds: float

    @property
    def whole(self) -> bool:
        """Whether all could be read."""
        return not self.broken

    def to_dict(self) -> dict[str, Any]:
        """The report in types that JSON knows."""
        named = {key: {str(k): n for k, n in getattr(self, key).items()} for key in ("rates", "channels")}
        return asdict(self) | named

    def lines(self, most: int = 10) -> list[str]:
        """The report as plain text; at most so many broken recordings, duplicates and classes by name."""
        speed = self.hours * 3600 / max(self.seconds, 1e-9)
        out = [f"{self.name}: {self.count:,} recordings, {self.hours:,.2f} hours, read {speed:,.0f} times as fast"]
        if self.length and self.level:
            out.append("length     {:.2f} to {:.2f} s, median {:.2f}".format(*_ends(self.length)))
            out.append("level      {:.0f} to {:.0f} dB, median {:.0f}".format(*_ends(self.level)))
        for name, counts in (("formats", self.formats), ("rates", self.rates), ("channels", self.channels)):
            out.append(f"{name:<10} " + ", ".join(few((f"{key}: {n:,}" for key, n in counts.items()), most)))
        out.append(f"read as    one channel, {self.rate:,} samples a second")
        for name, of in (("classes", self.labels), ("speakers", self.speakers)):
            if of is not None:
                out.append(classes_line(name, of, self.unlabelled if of is self.labels else 0, most))
        out.append(f"clipped    {self.clipped:,} recordings reach full scale in a thousandth of their samples")
        out += repeated_lines(self.duplicates, self.in_train, "recording", "samples", most)
        for split, count in (self.heard or {}).items():
            out.append(f"{split:<10} {count:,} of its speakers are heard in train")
        out += [f"note       {note}" for note in self.notes]
        return out + broken_lines(self.broken, "recordings", most)


def check_sounds(
    source: Sounds, *, workers: int | None = None, progress: Callable[[int, int], None] | None = None
) -> Report:
    """Decode every recording of a source.

    workers:  threads (decoders release the interpreter's lock); None: one per core.
    progress: called with (done, all).
    """
    start, n = perf_counter(), len(source)
    broken = list(source.notes.items())
    digests, level, clipped = np.zeros((n, DIGEST), np.uint8), np.full(n, np.nan), np.zeros(n)

    def one(index: int) -> BrokenItem | tuple[bytes, float, float]:
        try:
            x = source.read(index).numpy().ravel()
        except BrokenItem as reason:
            return reason
        power = float(np.dot(x, x)) / len(x)
        return blake2b(x.tobytes(), digest_size=DIGEST).digest(), power, float((np.abs(x) >= FULL).mean())

    for index, found in enumerate(in_order(one, n, workers)):
        if isinstance(found, BrokenItem):
            broken.append((source.key(index), str(found)))
        else:
            digests[index], level[index], clipped[index] = np.frombuffer(found[0], np.uint8), *found[1:]
        if progress and ((index + 1) % 64 == 0 or index + 1 == n):
            progress(index + 1, n)
    good = np.flatnonzero(~np.isnan(level))
    heads = source.heads[source.file[good]]
    groups = equal(digests, good)
    labels = each(source.labels, source.classes, good)
    return Report(
        name=source.name,
        count=n + len(source.notes),
        readable=len(good),
        broken=broken,
        hours=source.seconds / 3600,
        length=three(source.length[good] / source.rate),
        level=three(10 * np.log10(np.maximum(level[good], 1e-20))),
        formats={kind.decode(): count for kind, count in Counter(heads["kind"].tolist()).most_common()},
        rates=dict(Counter(heads["rate"].tolist()).most_common()),
        channels=dict(Counter(heads["channels"].tolist()).most_common()),
        rate=source.rate,
        clipped=int((clipped >= CLIPPED).sum()),
        duplicates=[[source.key(i) for i in group] for group in groups],
        in_train=beside_train(source.splits, source.split, groups),
        heard=_heard(source),
        labels=labels,
        speakers=each(source.speakers, source.voices, good),
        unlabelled=len(good) - sum((labels or {}).values()),
        notes=notes_of_sounds(source)[1:],
        seconds=perf_counter() - start,
    )


def _heard(source: Sounds) -> dict[str, int] | None:
    parts = train_and_others(source.splits, source.split)
    if parts is None or source.speakers is None:
        return None
    who = {s: set(source.speakers[source.split == s].tolist()) - {-1} for s in (parts[0], *parts[1])}
    return {source.splits[s]: len(who[s] & who[parts[0]]) for s in parts[1]}


def _ends(three: tuple[float, float, float]) -> tuple[float, float, float]:
    return three[0], three[2], three[1]
