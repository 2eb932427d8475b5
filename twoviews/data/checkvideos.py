"""Decode every frame of a source of videos before hours are spent on it, and say what is there."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from hashlib import blake2b
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np

from ..errors import BrokenItem
from .check import DIGEST, beside_train, broken_lines, classes_line, each, equal, in_order, repeated_lines, three
from .listing import few
from .mediafiles import item
from .videofiles import Clips
from .videos import Videos, notes_of_videos

AGREES = 0.005  # of a rate, up to which times that are rounded may differ from it
UNEVEN = 0.1  # of the middle time from frame to frame, from where on a frame stands too long or too short


@dataclass
class Report:
    """What `check_videos` found.

    count:      items: videos, or stretches of them; `readable` counts those of which every frame can be decoded.
    broken:     (key, reason) of the others; nothing below counts them.
    hours:      of all items; length: least, median and largest, in seconds. 0 and None of clips in arrays.
    total:      frames of all items; frames: least, median and largest of one.
    videos:     that the readable items are of; of them:
    sizes:      those of each, width x height in pixels as shown, before any reduction.
    rates:      of each number of frames a second, as the header says where the frames' times agree, else of these.
    formats, codecs: of each, as they are in the files.
    variable:   with frames at uneven times.
    several:    with more than one video stream; the best is read.
    turned:     that are noted to be shown turned, and are.
    still:      items all of whose frames are equal.
    duplicates: groups of keys whose frames are all equal.
    in_train:   of each other split, items whose frames lie in the split `train` too; None without both.
    labels:     items of each class, or None; `unlabelled` counts the rest.
    """

    name: str
    count: int
    readable: int
    broken: list[tuple[str, str]]
    hours: float
    length: tuple[float, float, float] | None
    total: int
    frames: tuple[int, float, int] | None
    videos: int
    sizes: dict[str, int]
    rates: dict[float, int]
    formats: dict[str, int]
    codecs: dict[str, int]
    variable: int
    several: int
    turned: int
    still: int
    duplicates: list[list[str]]
    in_train: dict[str, int] | None
    labels: dict[str, int] | None
    unlabelled: int
    notes: list[str]
    seconds: float

    @property
    def whole(self) -> bool:
        """Whether all could be read."""
        return not self.broken

    def to_dict(self) -> dict[str, Any]:
        """The report in types that JSON knows."""
        return asdict(self) | {"rates": {str(rate): n for rate, n in self.rates.items()}}

    def lines(self, most: int = 10) -> list[str]:
        """The report as plain text; at most so many broken videos, duplicates and classes by name."""
        speed = self.total / max(self.seconds, 1e-9)
        what = f"{self.count:,} " + (f"stretches of {self.videos:,} " if self.readable > self.videos else "") + "videos"
        long = f"{self.hours:,.2f} hours, " if self.hours >= 1 else f"{self.hours * 60:.2f} minutes, "
        out = [f"{self.name}: {what}, {long if self.length else ''}{self.total:,} frames, {speed:,.0f} frames/s"]
        if self.length:
            out.append("length     {0:.2f} to {2:.2f} s, median {1:.2f}".format(*self.length))
        if self.frames:
            out.append("frames     {0:,} to {2:,}, median {1:,g}".format(*self.frames))
        named = ("sizes", self.sizes), ("rates", self.rates), ("formats", self.formats), ("codecs", self.codecs)
        for name, counts in named:
            if counts:
                out.append(f"{name:<10} " + ", ".join(few((f"{key}: {n:,}" for key, n in counts.items()), most)))
        for name, count, what in (
            ("variable", self.variable, "have frames at uneven times"),
            ("turned", self.turned, "are noted to be shown turned, and are read so"),
            ("still", self.still, "have one picture in all their frames"),
        ):
            if count:
                out.append(f"{name:<10} {count:,} {what}")
        if self.labels is not None:
            out.append(classes_line("classes", self.labels, self.unlabelled, most))
        out += repeated_lines(self.duplicates, self.in_train, "video", "frames", most)
        out += [f"note       {note}" for note in self.notes]
        return out + broken_lines(self.broken, "videos", most)


class Seen(NamedTuple):
    """An item that is whole. digest: of its frames; size: (width, height) as shown; format "" of an array."""

    digest: bytes
    frames: int
    seconds: float
    still: bool
    size: tuple[int, int]
    format: str = ""
    codec: str = ""
    rate: float = 0.0
    uneven: bool = False
    turned: bool = False


def check_videos(
    source: Videos, *, workers: int | None = None, progress: Callable[[int, int], None] | None = None
) -> Report:
    """Decode every frame of every item of a source, at its `max_side`; one frame at a time is held.

    workers:  threads (decoders release the interpreter's lock); None: one per core.
    progress: called with (done, all).
    """
    start, n = perf_counter(), len(source)
    source = replace(source, rate=None)
    broken = list(source.notes.items())
    seen: dict[int, Seen] = {}

    def one(index: int) -> Seen | str:
        try:
            store = source.listing.store
            return _in_memory(source, store, index) if isinstance(store, Clips) else _decoded(source, index)
        except BrokenItem as reason:
            return str(reason)

    for index, found in enumerate(in_order(one, n, workers, task=1)):
        if isinstance(found, str):
            broken.append((source.key(index), found))
        else:
            seen[index] = found
        if progress:
            progress(index + 1, n)
    good = np.array(list(seen), np.int64)
    digests = np.zeros((n, DIGEST), np.uint8)
    for index, found in seen.items():
        digests[index] = np.frombuffer(found.digest, np.uint8)
    groups = equal(digests, good)
    videos = {int(source.file[index]): found for index, found in seen.items()}
    of_files = [found for found in videos.values() if found.format]
    frames, seconds = (np.array([getattr(found, name) for found in seen.values()]) for name in ("frames", "seconds"))
    labels = each(source.labels, source.classes, good)
    return Report(
        name=source.name,
        count=n + len(source.notes),
        readable=len(good),
        broken=broken,
        hours=float(seconds.sum()) / 3600 if of_files else 0.0,
        length=three(seconds) if of_files else None,
        total=int(frames.sum()),
        frames=three(frames),
        videos=len(videos),
        sizes=_counts("{} x {}".format(*found.size) for found in videos.values()),
        rates=_counts(round(found.rate, 2) for found in of_files),
        formats=_counts(found.format for found in of_files),
        codecs=_counts(found.codec for found in of_files),
        variable=sum(found.uneven for found in of_files),
        several=int((source.heads["streams"][list(videos)] > 1).sum()),
        turned=sum(found.turned for found in of_files),
        still=sum(found.still for found in seen.values()),
        duplicates=[[source.key(i) for i in group] for group in groups],
        in_train=beside_train(source.splits, source.split, groups),
        labels=labels,
        unlabelled=len(good) - sum((labels or {}).values()),
        notes=notes_of_videos(source)[1:],
        seconds=perf_counter() - start,
    )


def _decoded(source: Videos, index: int) -> Seen:
    """An item of a file. Raises BrokenItem."""
    from .videodecode import each_frame
    from .videoindex import opened

    number = int(source.file[index])
    whole, places, file = source.index_of(number), source.places(index), item(source.listing, number)
    digests = [b""] * len(places)
    turned, size = False, (0, 0)

    def keep(row: int, pixels: np.ndarray, frame: Any) -> None:
        nonlocal turned, size
        turns = round(frame.rotation / 90) % 4
        turned, size = bool(turns), (frame.height, frame.width) if turns % 2 else (frame.width, frame.height)
        digests[row] = _digest(pixels)

    each_frame(file, whole, places, keep, source.max_side)
    with opened(file) as (container, stream):
        format, codec = container.format.name, stream.codec_context.name
    rate = float(source.heads["rate"][number])
    begin, end = source.span(index)
    end = whole.length if np.isnan(source.end[index]) else min(end, whole.length)
    return Seen(
        digest=blake2b(b"".join(digests), digest_size=DIGEST).digest(),
        frames=len(places),
        seconds=end - begin,
        still=len(set(digests)) == 1,
        size=size,
        format=_called(format, source.listing.key(number)),
        codec=codec,
        rate=rate if abs(rate - whole.rate) <= AGREES * rate else whole.rate,
        uneven=_uneven(whole.pts),
        turned=turned,
    )


def _in_memory(source: Videos, store: Clips, index: int) -> Seen:
    x = store.frames(int(source.file[index]))[source.places(index)]
    digests = [_digest(frame) for frame in x]
    whole = blake2b(b"".join(digests), digest_size=DIGEST).digest()
    return Seen(whole, len(x), float(len(x)), len(set(digests)) == 1, (x.shape[2], x.shape[1]))


def _digest(frame: np.ndarray) -> bytes:
    """16 bytes by which equal frames are recognised."""
    out = blake2b(repr(frame.shape).encode(), digest_size=DIGEST)
    out.update(np.ascontiguousarray(frame))  # type: ignore[arg-type]
    return out.digest()


def _called(formats: str, key: str) -> str:
    """Of names that FFmpeg has for one format ("mov,mp4,m4a"), that of the file's ending, or the first."""
    names, ending = formats.split(","), os.path.splitext(key)[1][1:].lower()
    return ending if ending in names else names[0]


def _uneven(pts: np.ndarray) -> bool:
    """Whether frames stand for longer and shorter; what rounding to the stream's unit of time does is none."""
    steps = np.diff(pts)
    usual = np.median(steps) if len(steps) else 0
    return bool((np.abs(steps - usual) > max(1, UNEVEN * usual)).any())


def _counts(values: Iterable[Any]) -> dict[Any, int]:
    return dict(Counter(values).most_common())
