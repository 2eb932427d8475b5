"""Read every image of a source before hours are spent on it, and say what is there."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from hashlib import blake2b
from time import perf_counter
from typing import Any, TypeVar

import numpy as np
from torch import Tensor

from ..errors import BrokenItem
from .decode import Native
from .image import ImageSource
from .listing import few
from .stream import notes_of

SLAB = 1024  # images in flight at once; only their descriptions are held
TASK = 16  # images a thread takes at once: for small ones a task each costs more than the decoding
DIGEST = 16  # bytes
T = TypeVar("T")


@dataclass
class Report:
    """What `check` found.

    shards:     (name, reason) of the shards that cannot be read whole; `count` has what could be found in them.
    broken:     (key, reason) of the images that cannot be read; nothing below counts them.
    width, height: least, median and largest, in pixels, upright, before any reduction.
    sizes:      the commonest (width, height, images).
    formats, modes, depths: images of each, as they are in the files; depths in bits.
    channels:   of every image as the source gives it.
    range16:    least and largest value of all 16-bit images, None when there are none.
    duplicates: groups of keys whose decoded pixels are all equal.
    in_train:   of each other split, images whose decoded pixels lie in the split `train` too; None without both.
    labels:     images of each class, or None; `unlabelled` counts the rest.
    bytes:      of the files or arrays.
    """

    name: str
    count: int
    readable: int
    shards: list[tuple[str, str]]
    broken: list[tuple[str, str]]
    width: tuple[int, float, int] | None
    height: tuple[int, float, int] | None
    sizes: list[tuple[int, int, int]]
    formats: dict[str, int]
    modes: dict[str, int]
    depths: dict[int, int]
    channels: int
    range16: tuple[int, int] | None
    duplicates: list[list[str]]
    in_train: dict[str, int] | None
    labels: dict[str, int] | None
    unlabelled: int
    bytes: int
    seconds: float

    @property
    def whole(self) -> bool:
        """Whether all could be read."""
        return not (self.broken or self.shards)

    def to_dict(self) -> dict[str, Any]:
        """The report in types that JSON knows."""
        return asdict(self) | {"depths": {str(depth): n for depth, n in self.depths.items()}}

    def lines(self, most: int = 10) -> list[str]:
        """The report as plain text; at most so many broken images, duplicates and classes by name."""
        rate = self.count / max(self.seconds, 1e-9)
        out = [f"{self.name}: {self.count:,} images, {self.bytes / 2**20:,.1f} MiB, {rate:,.0f} images/s"]
        if self.width and self.height:
            out.append(f"width      {_spread(self.width)}")
            out.append(f"height     {_spread(self.height)}")
            out.append("sizes      " + ", ".join(f"{w} x {h}: {n:,}" for w, h, n in self.sizes))
        for name, counts in (("formats", self.formats), ("modes", self.modes), ("bits", self.depths)):
            if counts:
                out.append(f"{name:<10} " + ", ".join(f"{key}: {n:,}" for key, n in counts.items()))
        out.append(f"read as    {self.channels} channel{'s' if self.channels > 1 else ''}")
        if self.range16:
            low, high = self.range16
            out.append(f"16-bit     values from {low} to {high}; range16=({low}, {high}) would use all of them")
        if self.labels is not None:
            out.append(classes_line("classes", self.labels, self.unlabelled, most))
        out += repeated_lines(self.duplicates, self.in_train, "image", "pixels", most)
        if self.shards:
            out.append(f"shards     {len(self.shards):,} cannot be read whole")
            out += [f"  {text}" for text in few([f"{name}: {reason}" for name, reason in self.shards], most)]
        return out + broken_lines(self.broken, "images", most)


def classes_line(name: str, counts: dict[str, int], unlabelled: int, most: int) -> str:
    """How many classes there are and how many items each has; at most so many by name."""
    rest = [f"unlabelled: {unlabelled:,}"] if unlabelled else []
    return f"{name:<10} {len(counts)}: " + ", ".join(few([f"{k}: {n:,}" for k, n in counts.items()], most) + rest)


def repeated_lines(
    duplicates: list[list[str]], in_train: dict[str, int] | None, one: str, what: str, most: int
) -> list[str]:
    """Which items are another once more, and how many of a split lie in `train` too.

    one: what an item is, with an s of many.  what: it has in common with its copies.
    """
    extra = sum(len(group) - 1 for group in duplicates)
    out = [f"duplicates {extra:,} {one}s have the very {what} of another"]
    out += [f"  {text}" for text in few([" = ".join(few(group, 4)) for group in duplicates], most)]
    for split, count in (in_train or {}).items():
        share = f"no {one} of it has" if not count else f"{count:,} of its {one}s have"
        out.append(f"{split:<10} {share} the very {what} of one in train")
    return out


def broken_lines(broken: list[tuple[str, str]], many: str, most: int) -> list[str]:
    out = [f"broken     {len(broken):,} {many} cannot be read"]
    return out + [f"  {text}" for text in few([f"{key}: {reason}" for key, reason in broken], most)]


def check(
    source: ImageSource, *, workers: int | None = None, progress: Callable[[int, int], None] | None = None
) -> Report:
    """Decode every image of a source.

    workers:  threads (decoders release the interpreter's lock); None: one per core.
    progress: called with (done, all).
    """
    start, n = perf_counter(), len(source)
    broken: list[tuple[str, str]] = []
    formats, modes, depths = Counter[str](), Counter[str](), Counter[int]()
    shapes = np.zeros((n, 2), np.int32)  # (width, height), 0 for a broken image
    digests = np.zeros((n, DIGEST), np.uint8)
    range16: tuple[int, int] | None = None
    total = 0
    for index, found in enumerate(_inspect(source, workers)):
        if isinstance(found, BrokenItem):
            broken.append((source.key(index), str(found)))
        else:
            native, hashed, size = found
            formats[native.format] += 1
            modes[native.mode] += 1
            depths[native.depth] += 1
            shapes[index] = native.width, native.height
            digests[index] = np.frombuffer(hashed, np.uint8)
            total += size
            if native.low is not None and native.high is not None:
                low, high = range16 or (native.low, native.high)
                range16 = min(low, native.low), max(high, native.high)
        if progress and ((index + 1) % 64 == 0 or index + 1 == n):
            progress(index + 1, n)
    good = np.flatnonzero(shapes[:, 0])
    sizes = Counter(map(tuple, shapes[good].tolist())).most_common(3)
    labels = each(source.labels, source.classes, good)
    groups = equal(digests, good)
    split = source.listing.split
    return Report(
        name=source.name,
        count=n,
        readable=len(good),
        shards=sorted(notes_of(source).items()),
        broken=broken,
        width=three(shapes[good, 0]),
        height=three(shapes[good, 1]),
        sizes=[(w, h, images) for (w, h), images in sizes],
        formats=dict(formats.most_common()),
        modes=dict(modes.most_common()),
        depths=dict(depths.most_common()),
        channels=source.channels,
        range16=range16,
        duplicates=[[source.key(i) for i in group] for group in groups],
        in_train=beside_train(source.listing.splits, None if split is None else split[source.index], groups),
        labels=labels,
        unlabelled=len(good) - sum((labels or {}).values()),
        bytes=total,
        seconds=perf_counter() - start,
    )


def digest(pixels: Tensor) -> bytes:
    """16 bytes by which equal images are recognised: of uint8 (C, H, W), shape and values."""
    out = blake2b(repr(pixels.shape).encode(), digest_size=DIGEST)
    out.update(pixels.contiguous().numpy())  # type: ignore[arg-type]
    return out.digest()


def in_order(one: Callable[[int], T], count: int, workers: int | None = None, task: int = TASK) -> Iterator[T]:
    """one(0), one(1) ... one(count - 1), computed by threads (None: one per core), few of them ahead.

    task: how many a thread takes at once.
    """

    def some(start: int) -> list[T]:
        return [one(index) for index in range(start, min(start + task, count))]

    with ThreadPoolExecutor(workers or os.cpu_count() or 1) as pool:
        for start in range(0, count, SLAB):
            for found in pool.map(some, range(start, min(start + SLAB, count), task)):
                yield from found


def _inspect(source: ImageSource, workers: int | None) -> Iterator[BrokenItem | tuple[Native, bytes, int]]:
    def one(index: int) -> BrokenItem | tuple[Native, bytes, int]:
        try:
            pixels, native, size = source.inspect(index)
        except BrokenItem as broken:
            return broken
        return native, digest(pixels), size

    return in_order(one, len(source), workers)


def equal(digests: np.ndarray, good: np.ndarray) -> list[list[int]]:
    """Groups of two or more places with one digest, in order."""
    _, group, counts = np.unique(digests[good], axis=0, return_inverse=True, return_counts=True)
    groups: dict[int, list[int]] = defaultdict(list)
    for place, which in zip(good.tolist(), group.ravel().tolist(), strict=True):
        if counts[which] > 1:
            groups[which].append(place)
    return list(groups.values())


def beside_train(splits: Sequence[str], split: np.ndarray | None, groups: list[list[int]]) -> dict[str, int] | None:
    """Of each other split the items that lie in a group with one of train; None where there are not both.

    split: (N,) places in `splits`, -1 for none.
    """
    parts = train_and_others(splits, split)
    if parts is None or split is None:
        return None
    train, others = parts
    counts = Counter(s for group in groups if train in split[group] for s in split[group].tolist())
    return {splits[s]: counts[s] for s in others}


def train_and_others(splits: Sequence[str], split: np.ndarray | None) -> tuple[int, list[int]] | None:
    """The place of train among the splits and those of others that hold something; None without both."""
    if split is None or "train" not in splits:
        return None
    held, train = np.unique(split).tolist(), list(splits).index("train")
    others = [s for s in held if s not in (-1, train)]
    return (train, others) if train in held and others else None


def each(codes: np.ndarray | None, names: list[str] | None, good: np.ndarray) -> dict[str, int] | None:
    """How many of some items have each label; None without labels."""
    if codes is None or names is None:
        return None
    codes = codes[good]
    return dict(zip(names, np.bincount(codes[codes >= 0], minlength=len(names)).tolist(), strict=True))


def three(values: np.ndarray) -> tuple[Any, float, Any] | None:
    """Least, median and largest; None of nothing."""
    return (values.min().item(), float(np.median(values)), values.max().item()) if len(values) else None


def _spread(three: tuple[int, float, int]) -> str:
    return f"{three[0]} to {three[2]}, median {three[1]:g}"
