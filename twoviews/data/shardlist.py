"""Which shards there are, how many photos each holds, and their labels: known before any photo is read.

Parquet says it in its footer; of a tar it is counted once, or img2dataset wrote it down. What was found is kept.
"""

from __future__ import annotations

import os
import tarfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any
from weakref import WeakValueDictionary

import numpy as np

from ..errors import DataError
from ..log import Log
from . import cache, remote
from .labels import encode
from .listing import SPLITS, Listing, few
from .parquet import image_columns, split_of
from .remote import File
from .shards import Shards
from .tarindex import cached, successes, tar_index

LABELLED = 2**26  # items above which labels are not held
GZIP = b"\x1f\x8b"
Found = tuple[int, np.ndarray | None]  # the photos of a shard, and their labels as words
_in_use: WeakValueDictionary[tuple, Sharded] = WeakValueDictionary()


@dataclass(eq=False)
class Sharded(Listing):
    """A listing of shards, whose names are read when asked for.

    parts:  the items of each split.  notes: shard -> why it cannot be read whole, as far as known.
    digest: by which changed data is recognised: names, sizes and counts of the shards.
    """

    parts: dict[str, range] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)
    digest: str = ""

    def key(self, index: int) -> str:
        return self.store.key(index)  # type: ignore[attr-defined]


def shards_of(path: str, name: str) -> Sharded:
    """The shards that a path, URL, folder or pattern means, as they are now; held once for train and test.

    Raises DataError when there are none or none can be read.
    """
    files, missing = remote.list_files(path)
    key = (path, *files)
    found = _in_use.get(key)
    if found is None:
        found = _in_use[key] = list_shards(files, name, {url.rpartition("/")[2]: why for url, why in missing.items()})
    return found


def list_shards(files: list[File], name: str, notes: dict[str, str]) -> Sharded:
    """The photos of tar or Parquet files; those that cannot be read are left out and noted.

    Splits are told by file names, as train-00000.tar or train/00000.tar.
    Raises DataError when none can be read, both kinds are mixed or there is no image in them.
    """
    kinds = {file.url.partition("?")[0].lower().rpartition(".")[2] for file in files}
    if len(kinds) > 1:
        raise DataError(f"'{name}' holds both .tar and .parquet files; give a pattern for one kind, as '*.tar'")
    root = len(os.path.commonprefix([os.path.join(os.path.dirname(file.url), "") for file in files]).rpartition("/")[0])
    root = root + 1 if root else 0
    found = sorted((_order(split_of(file.url[root:])), file.url[root:], file) for file in files)
    names, files = [short for _, short, _ in found], [file for *_, file in found]
    about = _about(files, names, kinds == {"tar"}, notes)
    counts, classes = about["counts"], [str(c) for c in about.get("classes", ())]
    total = int(counts.sum())
    if not total:
        why = "; ".join(few((f"{short}: {reason}" for short, reason in notes.items()), 2)) or "none holds an image"
        raise DataError(f"no images in the {len(files):,} shards of '{name}': {why}")
    splits = np.array([order for order, *_ in found])
    ends = np.cumsum(counts)
    parts = {}
    for order in np.unique(splits[splits < len(SPLITS)]).tolist():
        own = np.flatnonzero(splits == order)
        parts[SPLITS[order]] = range(int(ends[own[0]] - counts[own[0]]), int(ends[own[-1]]))
    digest = blake2b(repr([(s, f.size, int(n)) for s, f, n in zip(names, files, counts, strict=True)]).encode())
    column = str(about["column"]) if "column" in about else None
    return Sharded(
        name,
        Shards(files, names, counts, column),
        total,
        splits=list(parts),
        labels=about.get("labels"),
        classes=classes or None,
        parts=parts,
        notes=notes,
        digest=digest.hexdigest()[:16],
    )


def _order(split: str | None) -> int:
    return SPLITS.index(split) if split else len(SPLITS)


def _about(files: list[File], names: list[str], tar: bool, notes: dict[str, str]) -> dict[str, np.ndarray]:
    """The counts of the shards, and labels, classes and column where there are any; kept where nothing is amiss."""
    at = cache.place("set", *(mark for file in files for mark in file))
    if kept := cache.load(at):
        return kept
    found = _counted(files, names, notes) if tar else _footers(files, names, notes)
    if not notes:
        cache.save(at, found)
    return found


def _counted(files: list[File], names: list[str], notes: dict[str, str]) -> dict[str, np.ndarray]:
    told = successes(files[0].url) is not None

    def one(at: int) -> Found:
        index = cached(files[at])
        if index is None and told and (count := successes(files[at].url)) is not None:
            return count, None
        try:
            index = tar_index(files[at]) if index is None else index
        except (tarfile.TarError, EOFError):
            packed = remote.read(files[at].url, 0, 2) == GZIP
            notes[names[at]] = "compressed; give a plain .tar" if packed else "not a tar archive, or cut short"
            return 0, None
        if index.note:
            notes[names[at]] = f"{index.note} after {len(index):,} photos"
        return len(index), index.words

    return _joined(_each(one, files, names, notes), None)


def _footers(files: list[File], names: list[str], notes: dict[str, str]) -> dict[str, np.ndarray]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    like: list[tuple[str, str | None, list[str] | None]] = []

    def one(at: int) -> Found:
        try:
            with closing(remote.open_file(files[at].url)) as stream, pq.ParquetFile(stream) as file:
                if not like:
                    like.append(image_columns(names[at], file.schema_arrow))
                image, label, classes = like[0]
                for missing in {image, label} - {None, *file.schema_arrow.names}:
                    raise DataError(f"'{names[at]}' has no column '{missing}', which other files of this data have")
                words = None
                if label is not None:
                    values = file.read(columns=[label]).column(0).to_pylist()
                    words = np.array([_named(value, classes) for value in values])
                return file.metadata.num_rows, words
        except pa.ArrowException:
            notes[names[at]] = "not a Parquet file, or cut short"
            return 0, None

    first = _each(one, files[:1], names, notes)  # it says what the columns are
    found = _joined(first + _each(lambda at: one(at + 1), files[1:], names[1:], notes), like[0][2] if like else None)
    return {**found, "column": np.array(like[0][0])} if like else found


def _named(value: Any, classes: list[str] | None) -> str:
    if value is None or (isinstance(value, int) and value < 0):
        return ""
    return classes[value] if classes and isinstance(value, int) and value < len(classes) else str(value)


def _joined(found: list[Found], classes: list[str] | None) -> dict[str, np.ndarray]:
    counts = np.array([count for count, _ in found], np.int64)
    if counts.sum() > LABELLED or not any(words is not None and (words != "").any() for _, words in found):
        return {"counts": counts}
    words = [np.full(count, "") if words is None else words for count, words in found]
    labels, own = encode(np.concatenate(words))
    if classes is not None:  # all that the files name, in their order
        labels, own = np.array([*map(classes.index, own), -1])[labels], classes
    return {"counts": counts, "labels": labels, "classes": np.array(own)}


def _each(one: Callable[[int], Found], files: list[File], names: list[str], notes: dict[str, str]) -> list[Found]:
    """`one` of every shard, by threads. Processes of one machine begin at different shards and share what they find."""
    n = len(files)
    begin = n * int(os.environ.get("LOCAL_RANK", "0")) // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    order = [(begin + i) % n for i in range(n)]
    found: dict[int, Found] = {}

    def safe(at: int) -> Found:
        try:
            return one(at)
        except DataError:
            raise
        except Exception as error:  # every file system has errors of its own
            notes[names[at]] = remote.reason(error)
            return 0, None

    log = Log(quiet=os.environ.get("RANK", "0") != "0")  # the processes may not have met yet
    with ThreadPoolExecutor(remote.ASKING) as pool, log.progress("counting photos", n, brief=True) as bar:
        for at, result in zip(order, pool.map(safe, order), strict=True):
            found[at] = result
            bar(len(found))
    return [found[at] for at in range(n)]
