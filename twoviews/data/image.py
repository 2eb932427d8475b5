"""Photos: one way in for folders, archives, Parquet, arrays and datasets.

data -> Listing (names, places, labels) -> ImageSource -> uint8 (C, H, W), one at a time
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches
from hashlib import blake2b
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

import numpy as np
from torch import Tensor

from ..errors import BrokenItem, DataError, UserError, unknown
from .archives import list_tar, list_zip
from .arrays import join, list_array, list_dataset, list_huggingface, list_npy
from .decode import FULL, Native, decode
from .labels import read_labels
from .listing import EXTENSIONS, Listing, few, list_folder, scan
from .parquet import list_parquet
from .remote import is_pattern, is_url
from .shardlist import Sharded, shards_of
from .shards import Shards

TAR = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
FILES = f".zip, {', '.join(TAR)}, .parquet, .npy or .npz"
SAMPLE = 32  # images that decide the number of channels
FEW = 8  # images of a stream that are sampled at least, from as many shards as hold them
STAMPED = 1024  # images whose size enters the fingerprint
STREAMED = 4 * 2**30  # bytes of Parquet files in a folder from which on they are read as a stream
_in_use: WeakValueDictionary[tuple, Listing] = WeakValueDictionary()


@dataclass(eq=False, repr=False)
class ImageSource:
    """Photos by number: names, labels and places, each decoded when read. Made by `photos`.

    labels:   (N,) int64 with -1 for "no label", or None; `classes` names them.
    channels: of every image that is read.
    """

    name: str
    listing: Listing
    index: np.ndarray | range
    labels: np.ndarray | None
    classes: list[str] | None
    channels: int
    range16: tuple[int, int] = FULL
    max_side: int | None = None

    def __len__(self) -> int:
        return len(self.index)

    def key(self, index: int) -> str:
        """The item's name: its path in the data, or its number."""
        return self.listing.key(int(self.index[index]))

    def read(self, index: int) -> Tensor:
        """uint8 (C, H, W). Raises BrokenItem with the reason."""
        return self.inspect(index)[0]

    def inspect(self, index: int) -> tuple[Tensor, Native, int]:
        """The pixels as `read` gives them, what they were in the file, and the bytes they take there."""
        item = self.listing.store.fetch(int(self.index[index]))
        pixels, native = decode(item, self.channels, self.range16, self.max_side)
        size = len(item) if isinstance(item, bytes) else getattr(item, "nbytes", pixels.nbytes)
        return pixels, native, size

    def decoded(self, item: Any) -> Tensor:
        """An item of the store as `read` gives it. Raises BrokenItem with the reason."""
        return decode(item, self.channels, self.range16, self.max_side)[0]

    def subset(self, indices: Any) -> ImageSource:
        """The chosen items, in the order given (integers or a mask), from the same storage."""
        if isinstance(self.index, range) and isinstance(indices, range) and indices.step == 1 and len(indices):
            span = slice(indices.start, indices.stop)  # a part of a stream is one too
            return replace(self, index=self.index[span], labels=None if self.labels is None else self.labels[span])
        chosen = np.asarray(indices)
        chosen = np.flatnonzero(chosen) if chosen.dtype == bool else chosen.astype(np.int64)
        places = self.index.start + chosen % max(1, len(self)) if isinstance(self.index, range) else self.index[chosen]
        return replace(self, index=places, labels=None if self.labels is None else self.labels[chosen])

    def shards(self) -> np.ndarray | None:
        """(S,) items of each shard, in their order; None where any item is read as fast as the next."""
        store = self.listing.store
        if not (isinstance(store, Shards) and isinstance(self.index, range)):
            return None
        return np.diff(np.clip(np.cumsum([0, *store.counts]), self.index.start, self.index.stop))

    def sample(self, most: int) -> np.ndarray:
        """Up to `most` evenly spaced items; of a stream of its first shards, few, for to open each has its price."""
        shards = self.shards()
        if shards is None:
            return spread(len(self), most)
        ends = np.cumsum(shards)
        return spread(int(ends[np.searchsorted(ends, min(FEW, len(self)))]), most)

    def elsewhere(self) -> np.ndarray:
        """Items of all places, to try where none of a `sample` can be read."""
        return spread(len(self), STAMPED if self.shards() is None else SAMPLE)

    def fingerprint(self) -> str:
        """16 hex digits of all names and of up to 1,024 items' sizes or checksums: still the same data?

        Of shards: of their names, sizes and counts.
        """
        digest = blake2b(digest_size=8)
        if isinstance(self.listing, Sharded):
            chosen = repr(self.index).encode() if isinstance(self.index, range) else self.index.tobytes()
            digest.update(self.listing.digest.encode() + chosen)
            return digest.hexdigest()
        for start in range(0, len(self), 2**16):
            digest.update("\0".join(map(self.key, range(start, min(start + 2**16, len(self))))).encode())
        for place in np.asarray(self.index)[spread(len(self), STAMPED)]:
            digest.update(b"%d," % self.listing.store.stamp(int(place)))
        return digest.hexdigest()

    def __repr__(self) -> str:
        classes = f", {len(self.classes)} classes" if self.classes else ""
        return f"<{self.name}: {len(self):,} photos of {self.channels} channels{classes}>"


def photos(
    data: Any,
    *,
    split: str | None = None,
    labels: str | Path | None = None,
    channels: int | None = None,
    range16: tuple[int, int] = FULL,
    max_side: int | None = None,
) -> ImageSource:
    """A source of photos, nothing decoded yet but a sample.

    data:     a folder, .zip, .tar (.gz), .parquet file or folder of them, .npy or .npz file; a folder, URL or
              pattern of .tar or .parquet shards; an array (N, H, W), (N, H, W, C) or (N, C, H, W), or
              (images, labels); a map-style torch Dataset; a Hugging Face Dataset or DatasetDict.
    split:    "train", "test" ... of data that has splits (see `splits`); None: all of it.
    labels:   a .csv, .tsv or .parquet file with a path and a label column. None: the data's own
              (sub-folders, a label column, a dataset's targets), if it has any.
    channels: of every image read. None: 1 when all of a sample are grey, 3 when some are colour, the largest
              number when there are more. Alpha is laid on white, unless 2 or 4 channels are asked for.
    range16:  the 16-bit values that become 0 and 255 (16-bit colour PNG is cut to 8 bits by its decoder).
    max_side: reduce the shorter side to this many pixels while decoding; nothing is enlarged. The longer side
              is then cropped at the centre to at most twice the shorter.
    Raises DataError when the data cannot be used, UserError when an option cannot.
    """
    _check_options(channels, range16, max_side)
    listing = _listing(data)
    if not listing.count:
        raise DataError(f"no images in {listing.name}")
    own, classes = read_labels(labels, listing) if labels is not None else (listing.labels, listing.classes)
    index, name = _choose(listing, split)
    if own is not None:
        own = own[index.start : index.stop] if isinstance(index, range) else own[index]
        if (own < 0).all():
            own, classes = None, None
    if not isinstance(index, range):
        listing.load(index)
    source = ImageSource(name, listing, index, own, classes, channels or 0, range16, max_side)
    return source if channels else replace(source, channels=_common_channels(source))


def splits(data: Any) -> list[str]:
    """The splits of some data, such as ["train", "test"]; [] when there are none. Raises DataError."""
    return list(_listing(data).splits)


def _check_options(channels: int | None, range16: tuple[int, int], max_side: int | None) -> None:
    if channels is not None and channels < 1:
        raise UserError(f"channels must be 1 or more, got {channels}")
    if len(range16) != 2 or not range16[0] < range16[1]:
        raise UserError(f"range16 must be (low, high) with low < high, got {range16}")
    if max_side is not None and max_side < 1:
        raise UserError(f"max_side must be 1 or more pixels, got {max_side}")


def _choose(listing: Listing, split: str | None) -> tuple[np.ndarray | range, str]:
    """The places of a split's items, and the name to show."""
    if split is None:
        places = range(listing.count) if isinstance(listing, Sharded) else np.arange(listing.count)
        return places, listing.name
    if not listing.splits:
        raise DataError(f"{listing.name} has no splits, so there is no '{split}' to choose; leave the split out")
    if split not in listing.splits:
        raise DataError(f"{listing.name}: {unknown('split', split, listing.splits)}")
    if isinstance(listing, Sharded):
        return listing.parts[split], f"{listing.name}:{split}"
    return np.flatnonzero(listing.split == listing.splits.index(split)), f"{listing.name}:{split}"


def _listing(data: Any) -> Listing:
    if isinstance(data, str | os.PathLike):
        return _from_path(os.path.expanduser(os.fspath(data)))
    if isinstance(data, np.ndarray | Tensor):
        return list_array(data)
    if isinstance(data, tuple) and len(data) == 2 and isinstance(data[0], np.ndarray | Tensor):
        return list_array(*data)
    kind = type(data).__name__
    if isinstance(data, Mapping) and data and all(isinstance(key, str) for key in data):
        return join({key: _listing(part) for key, part in data.items()}, kind)
    if not (hasattr(data, "__len__") and hasattr(data, "__getitem__")):
        raise DataError(f"cannot read photos from a {kind}: give a path, an array or a dataset with a length and items")
    if hasattr(data, "features") and hasattr(data, "cast_column"):
        return list_huggingface(data, kind)
    return list_dataset(data, kind)


def _from_path(path: str) -> Listing:
    if is_url(path) or is_pattern(path):
        return shards_of(path, path)
    if not os.path.exists(path):
        raise DataError(missing(path))
    name, lower = os.path.basename(os.path.abspath(path)), path.lower()
    if os.path.isdir(path):
        return _from_folder(path, name)
    try:
        if lower.endswith(".zip"):
            return _shared([path], lambda: list_zip(path))
        if lower.endswith(TAR):
            return _shared([path], lambda: list_tar(path))
        if lower.endswith(".parquet"):
            return _shared([path], lambda: list_parquet(name, [path]))
        if lower.endswith((".npy", ".npz")):
            return list_npy(path, name)
    except PermissionError:
        raise DataError(f"no permission to read '{path}'") from None
    except OSError as error:
        raise DataError(f"cannot read '{path}': {(error.strerror or str(error)).lower()}") from None
    if os.path.splitext(lower)[1][1:].encode() in EXTENSIONS:
        raise DataError(f"'{path}' is a single image; give the folder it lies in")
    raise DataError(f"cannot read photos from '{path}'; give a folder, or a file {FILES}")


def _from_folder(path: str, name: str) -> Listing:
    images, tables, others = scan(path)
    if images:
        return list_folder(path, images)
    files = [os.path.join(path, os.fsdecode(t)) for t in tables]
    if others["tar"] or sum(os.path.getsize(f) for f in files if os.path.exists(f)) > STREAMED:
        return shards_of(path, name)
    if tables:
        try:
            return _shared(files, lambda: list_parquet(name, files, path))
        except PermissionError as error:
            raise DataError(f"no permission to read '{error.filename or path}'") from None
    if not others:
        raise DataError(f"folder '{path}' is empty")
    raise DataError(
        f"no images in folder '{path}': it holds {extensions(others)}; images are {_known()}; shards .tar or .parquet"
    )


def _shared(files: list[str], make: Callable[[], Listing]) -> Listing:
    """The listing of files as they are now; two sources of one archive (train and test) hold it once."""
    states = ((os.path.abspath(f), os.stat(f)) for f in files)
    key = tuple((path, state.st_size, state.st_mtime_ns) for path, state in states)
    listing = _in_use.get(key)
    if listing is None:
        listing = _in_use[key] = make()
    return listing


def extensions(counts: Counter[str]) -> str:
    return ", ".join(few((f"{n:,} {'.' + e if e else 'without extension'}" for e, n in counts.most_common()), 6))


def _known() -> str:
    return ", ".join(sorted(e.decode() for e in EXTENSIONS))


def missing(path: str) -> str:
    """No such path: how far it does exist, and the nearest name there."""
    parent, name = os.path.split(path.rstrip(os.sep) or path)
    while not os.path.isdir(parent or ".") and parent != os.path.dirname(parent):
        parent, name = os.path.split(parent)
    try:
        near = get_close_matches(name, os.listdir(parent or "."), n=1, cutoff=0.5)
    except OSError:
        near = []
    hint = f"did you mean '{os.path.join(parent, near[0])}'?" if near else f"'{parent or '.'}' has no '{name}'"
    return f"no such file or folder: '{path}'; {hint}"


def _common_channels(source: ImageSource) -> int:
    """That of a sample of images when they agree; else the largest when it is above 3, else 3."""
    first = ""
    for places in (source.sample(SAMPLE), source.elsewhere()):
        found = set()
        for place in places:
            try:
                item = source.listing.store.fetch(int(source.index[place]))
                found.add(len(decode(item, None, source.range16, 64)[0]))
            except BrokenItem as broken:
                first = first or f"{source.key(int(place))}: {broken}"
        if found:
            return max(found) if len(found) == 1 or max(found) > 3 else 3
    raise DataError(f"none of {len(places):,} images tried in {source.name} can be read; the first, {first}")


def spread(count: int, most: int) -> np.ndarray:
    """Up to `most` evenly spaced places among `count`."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).astype(np.int64))
