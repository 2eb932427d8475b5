"""What a source holds before anything is decoded: names, places, splits and labels by folder.

A `Listing` knows N items; its `Store` gives the bytes of one, or its pixels where they are decoded already.
Names are one buffer with offsets, so that a million paths are two objects.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from ..errors import BrokenItem, DataError

EXTENSIONS = frozenset(b"jpg jpeg png webp tif tiff bmp gif ppm pgm".split())
SPLITS = ("train", "val", "valid", "validation", "test")


class Store(Protocol):
    """Where the items of a listing lie. Safe to share between threads and to carry into worker processes."""

    def fetch(self, index: int):
        """bytes of an image file, a PIL image or an array (C, H, W). Raises BrokenItem."""

    def stamp(self, index: int) -> int:
        """A number that tells an item from an altered one without decoding it: its size, say."""


class Names:
    """N byte strings as one buffer and N + 1 offsets."""

    def __init__(self, names: Sequence[bytes]):
        self.text = b"".join(names)
        self.ends = np.zeros(len(names) + 1, np.int64)
        np.cumsum(np.fromiter(map(len, names), np.int64, len(names)), out=self.ends[1:])

    def __len__(self) -> int:
        return len(self.ends) - 1

    def __getitem__(self, index: int) -> bytes:
        return self.text[self.ends[index] : self.ends[index + 1]]


def _no_need(index: np.ndarray) -> None:
    """Most stores read an item where it lies."""


@dataclass(eq=False)
class Listing:
    """N items: names (None: their number is their name), and what is known of each.

    split:  (N,) int8 place in `splits`, -1 for none; None when the data has no splits.
    labels: (N,) int64 with -1 for "no label", or None; `classes` names them.
    load:   makes ready to read the items at (N',) places, before any worker starts.
    """

    name: str
    store: Store
    count: int
    names: Names | None = None
    splits: Sequence[str] = ()
    split: np.ndarray | None = None
    labels: np.ndarray | None = None
    classes: list[str] | None = None
    load: Callable[[np.ndarray], None] = _no_need

    def key(self, index: int) -> str:
        return str(index) if self.names is None else _text(self.names[index])


class Files:
    """Files below a folder, read when asked for."""

    def __init__(self, root: bytes, names: Names):
        self.root, self.names = root, names

    def path(self, index: int) -> bytes:
        return os.path.join(self.root, self.names[index])

    def fetch(self, index: int) -> bytes:
        try:
            with open(self.path(index), "rb") as file:
                return file.read()
        except PermissionError:
            raise BrokenItem("no permission to read it") from None
        except FileNotFoundError:
            raise BrokenItem("no such file (moved, deleted, or a link that leads nowhere)") from None
        except OSError as error:
            raise BrokenItem(f"cannot be read: {(error.strerror or str(error)).lower()}") from None

    def stamp(self, index: int) -> int:
        try:
            return os.stat(self.path(index)).st_size
        except OSError:
            return -1


def scan(root: str) -> tuple[list[bytes], list[bytes], Counter[str]]:
    """Sorted relative paths of images and of Parquet files below a folder, and a count of other extensions.

    Hidden names are left out. Links are followed, except one to a folder it lies in. A sub-folder that cannot
    be listed counts as one image, so that it is found among the broken. Raises DataError for the root itself.
    """
    images: list[bytes] = []
    tables: list[bytes] = []
    others: Counter[str] = Counter()
    folders: list[tuple[bytes, tuple[bytes, ...]]] = [(b"", ())]
    while folders:
        below, jumps = folders.pop()
        here = os.path.join(os.fsencode(root), below)
        try:
            entries = os.scandir(here)
        except OSError as error:
            if not below:
                raise DataError(f"cannot list folder '{root}': {(error.strerror or str(error)).lower()}") from None
            images.append(below)
            continue
        with entries:
            for entry in entries:
                name = entry.name
                if name[:1] == b".":
                    continue
                link = entry.is_symlink()
                if os.path.isdir(entry.path) if link else entry.is_dir():
                    if not link:
                        folders.append((below + name + b"/", jumps))
                    elif chain := _follow(entry.path, here, jumps):
                        folders.append((below + name + b"/", chain))
                    continue
                extension = os.path.splitext(name)[1][1:].lower()
                if extension in EXTENSIONS and (link or entry.is_file()):
                    images.append(below + name)
                elif extension == b"parquet":
                    tables.append(below + name)
                else:
                    others[os.fsdecode(extension)] += 1
    return sorted(images), sorted(tables), others


def _follow(link: bytes, here: bytes, jumps: tuple[bytes, ...]) -> tuple[bytes, ...]:
    """The folders that links led out of so far, with this one; () when this link leads back above one."""
    jumps = (*jumps, os.path.realpath(here))
    target = os.path.join(os.path.realpath(link), b"")
    return () if any(os.path.join(jump, b"").startswith(target) for jump in jumps) else jumps


def list_folder(root: str, images: list[bytes]) -> Listing:
    names = Names(images)
    root = os.path.abspath(root)
    return from_paths(os.path.basename(root), Files(os.fsencode(root), names), images, names)


def from_paths(name: str, store: Store, paths: list[bytes], names: Names | None = None) -> Listing:
    """A listing of sorted relative paths, with the splits and labels that their folders tell.

    Splits: the first folders are called train, test and so on. A folder `train` beside other names is a split
    only when there is another split too; else it may be a class of vehicles.
    Labels: the first folder (below the split), where there are two or more, with two images or more on
    average, and every image is in one. A split with loose images adds no classes, and a class has one code in
    all splits. One folder around everything is looked through.
    """
    places: dict[bytes, int] = {}
    codes = np.fromiter(
        (places.setdefault(path.rpartition(b"/")[0], len(places)) for path in paths), np.int64, len(paths)
    )
    counts = np.bincount(codes, minlength=len(places))
    folders = [folder.split(b"/") if folder else [] for folder in places]
    while folders and all(f and f[0] == folders[0][0] and _head(f) not in SPLITS for f in folders):
        folders = [f[1:] for f in folders]

    heads = {_head(f) for f in folders}
    splits = [s for s in SPLITS if s in heads]
    if not (heads <= set(SPLITS) or ("train" in splits and len(splits) > 1)):
        splits = []
    split = np.array([splits.index(_head(f)) if _head(f) in splits else -1 for f in folders], np.int8)
    if splits:
        folders = [f[1:] if s >= 0 else [] for f, s in zip(folders, split, strict=True)]

    # a split counts when none of its images is loose; one without splits is a single split, -1
    loose = {int(s) for f, s in zip(folders, split, strict=True) if not f}
    inside = [bool(f) and int(s) not in loose for f, s in zip(folders, split, strict=True)]
    classes = sorted({f[0] for f, ok in zip(folders, inside, strict=True) if ok})
    labels = None
    if len(classes) >= 2 and counts[inside].sum() >= 2 * len(classes):
        code = {name: i for i, name in enumerate(classes)}
        labels = np.array([code.get(f[0], -1) if f else -1 for f in folders], np.int64)[codes]
    return Listing(
        name,
        store,
        len(paths),
        names or Names(paths),
        splits,
        split[codes] if splits else None,
        labels,
        None if labels is None else [_text(c) for c in classes],
    )


def _head(folder: list[bytes]) -> str:
    return _text(folder[0]).lower() if folder else ""


def _text(name: bytes) -> str:
    return name.decode("utf-8", "backslashreplace")


def few(texts: Iterable[str], most: int) -> list[str]:
    """Some of many texts, to show."""
    texts = list(texts)
    return texts[:most] + ([f"and {len(texts) - most:,} more"] if len(texts) > most else [])
