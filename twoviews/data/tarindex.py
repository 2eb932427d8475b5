"""Where each photo of a tar shard lies: found once by walking the headers, then kept in the cache.

Shards as webdataset and img2dataset write them: a photo is a member with an image's extension, and what shares its name
up to the first dot belongs to it, so 000017.cls or 000017.json beside 000017.jpg may hold its label.
"""

from __future__ import annotations

import json
import os
import tarfile
from contextlib import suppress
from dataclasses import dataclass
from typing import IO

import numpy as np

from . import cache, remote
from .archives import is_image, tar_files
from .labels import LABEL_COLUMNS, pick
from .listing import Names

TRIED = 16  # .json files without a label after which no more are read
BLOCK = tarfile.BLOCKSIZE
LARGEST = 2**20  # bytes of a .json that is read


@dataclass
class TarIndex:
    """The photos of one shard in its order.

    offset, size: (N,) int64 bytes.  words: (N,) of text, the labels with "" for none; None where there are none.
    note: why the walk stopped before the end, "" when it did not.
    """

    offset: np.ndarray
    size: np.ndarray
    names: Names
    words: np.ndarray | None
    note: str

    def __len__(self) -> int:
        return len(self.offset)


def tar_index(file: remote.File) -> TarIndex:
    """The index of a shard, from the cache or by reading the shard through. Raises OSError and tarfile.TarError."""
    at, kept = _place(file), cached(file)
    if kept is not None:
        return kept

    def whole() -> TarIndex:
        with remote.open_file(file.url) as stream:
            return walk(stream, file.size)

    index = whole() if not remote.is_url(file.url) else remote.patiently(whole)
    words = {} if index.words is None else {"words": index.words}
    text = np.frombuffer(index.names.text, np.uint8)
    more = {"offset": index.offset, "size": index.size, "text": text, "ends": index.names.ends}
    cache.save(at, {**more, **words, "note": np.array(index.note)})
    return index


def cached(file: remote.File) -> TarIndex | None:
    arrays = cache.load(_place(file))
    if arrays is None:
        return None
    names = Names([])
    names.text, names.ends = arrays["text"].tobytes(), arrays["ends"]
    return TarIndex(arrays["offset"], arrays["size"], names, arrays.get("words"), str(arrays["note"]))


def walk(stream: IO[bytes], size: int) -> TarIndex:
    """Walk the headers of an open tar file of `size` bytes; a shard that ends early gives the photos that are whole."""
    found: list[tuple[bytes, int, int]] = []
    labels: dict[bytes, str] = {}
    json_left, note = TRIED, ""
    with tarfile.open(fileobj=stream, mode="r:") as archive:
        with suppress(tarfile.ReadError):  # told apart below, by what stands where the walk ended
            for name, member in tar_files(archive):
                kind = os.path.splitext(name)[1].lower()
                if is_image(name) and not member.issparse():
                    if member.offset_data + member.size <= size:
                        found.append((name, member.offset_data, member.size))
                elif kind == b".cls" or (kind == b".json" and json_left and member.size <= LARGEST):
                    content = archive.extractfile(member)
                    word = _word(kind, content.read() if content else b"")
                    json_left = json_left if kind == b".cls" else TRIED if word else json_left - 1
                    if word:
                        labels[_sample(name)] = word
        stream.seek(min(archive.offset, size))
        end = stream.read(BLOCK)
        if end != bytes(BLOCK):
            note = "ends early" if len(end) < BLOCK else "damaged"
    words = np.array([labels.get(_sample(name), "") for name, *_ in found]) if labels else None
    offsets, sizes = (np.array([photo[i] for photo in found], np.int64) for i in (1, 2))
    return TarIndex(offsets, sizes, Names([name for name, *_ in found]), words, note)


def successes(url: str) -> int | None:
    """The photos in a shard by the NNNNN_stats.json that img2dataset writes beside it; None without one."""
    beside = url.removesuffix(".tar") + "_stats.json"
    with suppress(Exception):  # whatever its file system raises for a file that is not there
        return int(json.loads(remote.read(beside, 0, LARGEST))["successes"])
    return None


def _place(file: remote.File):
    return cache.place("tar", *file)


def _sample(name: bytes) -> bytes:
    folder, slash, base = name.rpartition(b"/")
    return folder + slash + base.partition(b".")[0]


def _word(kind: bytes, content: bytes) -> str:
    """A label as text; "" where there is none."""
    text = content.decode("utf-8", "replace").strip()
    if kind == b".cls":
        return text
    try:
        values = json.loads(text)
    except ValueError:
        return ""
    value = values.get(pick(values, LABEL_COLUMNS)) if isinstance(values, dict) else None
    return str(value) if isinstance(value, int | str) else ""
