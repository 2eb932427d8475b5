"""Zip and tar archives: where each image lies, read at its place without unpacking."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import struct
import tarfile
import weakref
import zipfile
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from ..errors import BrokenItem, DataError
from .listing import EXTENSIONS, Listing, from_paths

STORED, DEFLATED = zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED
ENCRYPTED = 0x1  # general purpose flag, bit 0


class Place:
    """A file read at given places. It keeps no position, so threads and forked processes may share it."""

    def __init__(self, path: str):
        self.path = os.path.abspath(path)
        self.file: int | None = None

    def __reduce__(self):
        return Place, (self.path,)

    def read(self, offset: int, size: int) -> bytes:
        try:
            data = self._read(offset, size)
        except OSError as error:
            raise BrokenItem(f"its archive cannot be read: {(error.strerror or str(error)).lower()}") from None
        if len(data) < size:
            raise BrokenItem("its archive ends before it does")
        return data

    def _read(self, offset: int, size: int) -> bytes:
        if not hasattr(os, "pread"):  # Windows
            with open(self.path, "rb") as stream:
                stream.seek(offset)
                return stream.read(size)
        if self.file is None:
            file = os.open(self.path, os.O_RDONLY)
            weakref.finalize(self, os.close, file)
            self.file = file
        return os.pread(self.file, size, offset)


class ZipMembers:
    """Members of a zip archive as arrays of (offset, size, method, checksum)."""

    def __init__(self, path: str, members: list[zipfile.ZipInfo]):
        n = len(members)
        self.place = Place(path)
        self.offset = np.fromiter((m.header_offset for m in members), np.int64, n)
        self.packed = np.fromiter((m.compress_size for m in members), np.int64, n)
        self.size = np.fromiter((m.file_size for m in members), np.int64, n)
        self.method = np.fromiter((m.compress_type for m in members), np.int16, n)
        self.crc = np.fromiter((m.CRC for m in members), np.uint32, n)
        self.encrypted = np.fromiter((bool(m.flag_bits & ENCRYPTED) for m in members), bool, n)

    def fetch(self, index: int) -> bytes:
        if self.encrypted[index]:
            raise BrokenItem("encrypted")
        method, offset = self.method[index], int(self.offset[index])
        if method not in (STORED, DEFLATED):
            raise BrokenItem(f"packed with zip method {method}; pack it stored or deflated")
        header = self.place.read(offset, 30)
        if header[:4] != b"PK\3\4":
            raise BrokenItem("damaged in its archive")
        name, extra = struct.unpack_from("<HH", header, 26)
        data = self.place.read(offset + 30 + name + extra, int(self.packed[index]))
        try:
            if method == DEFLATED:
                data = zlib.decompressobj(-15).decompress(data, int(self.size[index]) or 1)
        except zlib.error:
            raise BrokenItem("damaged in its archive") from None
        if zlib.crc32(data) != self.crc[index]:
            raise BrokenItem("damaged in its archive (checksum differs)")
        return data

    def stamp(self, index: int) -> int:
        return int(self.crc[index])


class TarMembers:
    """Members of a tar archive as (offset, size), in a file or, once unpacked, in memory."""

    def __init__(self, data: Place | bytes, offset: list[int], size: list[int]):
        self.data = data
        self.offset, self.size = np.array(offset, np.int64), np.array(size, np.int64)

    def fetch(self, index: int) -> bytes:
        offset, size = int(self.offset[index]), int(self.size[index])
        if isinstance(self.data, Place):
            return self.data.read(offset, size)
        return self.data[offset : offset + size]

    def stamp(self, index: int) -> int:
        return int(self.size[index])


def is_image(name: bytes) -> bool:
    """By its extension; hidden files are none."""
    hidden = name[:1] == b"." or b"/." in name
    return not hidden and os.path.splitext(name)[1][1:].lower() in EXTENSIONS


def list_zip(path: str, what: str = "images", wanted: Callable[[bytes], bool] = is_image) -> Listing:
    """The members whose names are wanted.

    Raises DataError when the archive cannot be read, has none or only encrypted ones.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            infos = archive.infolist()
    except (zipfile.BadZipFile, struct.error, EOFError, ValueError, NotImplementedError):
        raise DataError(f"cannot read '{path}': not a zip archive, or cut short; fetch or pack it again") from None
    found = []
    for info in infos:
        name = info.filename.replace("\\", "/").encode("utf-8", "surrogateescape")
        if wanted(name) and not info.is_dir():
            found.append((name, info))
    found.sort(key=lambda pair: pair[0])
    names, members = [name for name, _ in found], [info for _, info in found]
    store = ZipMembers(path, members)
    _require(path, what, len(names), len(infos))
    if store.encrypted.all():
        raise DataError(f"archive '{path}' is encrypted; give it unpacked, or packed without a password")
    return from_paths(os.path.basename(path), store, names)


def list_tar(path: str, what: str = "images", wanted: Callable[[bytes], bool] = is_image) -> Listing:
    """The same of a tar. One that is compressed as a whole (.tar.gz and so on) is unpacked into memory once.

    Raises DataError when it cannot be read or has none.
    """
    found: list[tuple[bytes, int, int]] = []
    seen = 0
    try:
        data = unpacked(path)
        with tarfile.open(path, "r:", fileobj=None if data is None else io.BytesIO(data)) as archive:
            for name, member in tar_files(archive):
                seen += 1
                if not member.issparse() and wanted(name):
                    found.append((name, member.offset_data, member.size))
    except MemoryError:
        raise DataError(f"archive '{path}' does not fit in memory; unpack it and give the folder") from None
    except PermissionError:
        raise
    except (tarfile.TarError, EOFError, zlib.error, lzma.LZMAError, OSError):
        raise DataError(f"cannot read '{path}': not a tar archive, or cut short; fetch or pack it again") from None
    _require(path, what, len(found), seen)
    found.sort()
    store = TarMembers(data or Place(path), [offset for _, offset, _ in found], [size for *_, size in found])
    return from_paths(os.path.basename(path), store, [name for name, *_ in found])


def tar_files(archive: tarfile.TarFile) -> Iterator[tuple[bytes, tarfile.TarInfo]]:
    """The files of an open archive with their names, in its order, none kept."""
    while (member := archive.next()) is not None:
        archive.members.clear()  # type: ignore[attr-defined]  # else every header seen is kept
        if member.isfile():
            yield member.name.encode("utf-8", "surrogateescape").removeprefix(b"./"), member


def unpacked(path: str) -> bytes | None:
    """The tar inside a compressed file, None when it is not compressed."""
    kind = os.path.splitext(path.lower())[1]
    opener: Any = {".gz": gzip.open, ".tgz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}.get(kind)
    if opener is None:
        return None
    with opener(path) as file:
        return file.read()


def _require(path: str, what: str, found: int, members: int) -> None:
    if not found:
        held = f"none of its {members} files is one" if members else "it is empty"
        raise DataError(f"no {what} in archive '{path}': {held}")
