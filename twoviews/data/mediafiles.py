"""Where recordings and videos lie: folders, archives, Parquet and arrays, each as a listing whose items open as files.

Nothing is kept open and nothing is unpacked: a file is read at its place, and so is a member that its archive stores
as it is; a piece of a long recording costs no more than itself.
"""

from __future__ import annotations

import io
import lzma
import os
import struct
import tarfile
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import IO, Any
from weakref import WeakValueDictionary

from ..errors import BrokenItem, DataError
from .archives import STORED, Place, TarMembers, ZipMembers, list_tar, list_zip, tar_files
from .image import TAR, extensions, missing
from .listing import EXTENSIONS, Files, Listing, Names, from_paths
from .remote import is_pattern, is_url

ARCHIVES = (".zip", *TAR)
LOOKED_AT = 10_000  # names that decide whether a folder is of sounds
AT_ONCE = 2**26  # bytes of a member up to which it is read whole, so that its checksum is seen too
BAD_ZIP = (zipfile.BadZipFile, struct.error, EOFError, ValueError, NotImplementedError)
BAD_TAR = (tarfile.TarError, EOFError, zlib.error, lzma.LZMAError, OSError)
_in_use: WeakValueDictionary[tuple, Recordings] = WeakValueDictionary()


@dataclass(frozen=True)
class Medium:
    """What is recorded.

    many, one: its names for people.  endings: of its files.  columns: of Parquet that are of it.
    declared:  what Hugging Face calls its type.  arrays: whether rows may hold {array, sampling_rate}.
    """

    many: str
    one: str
    endings: frozenset[bytes]
    columns: tuple[str, ...]
    declared: str
    arrays: bool = False


SOUND = Medium(
    "sounds",
    "sound",
    frozenset(b"wav wave flac ogg oga opus mp3 aif aiff aifc au snd caf w64 rf64 sph".split()),
    ("audio", "sound", "speech", "wav", "flac", "mp3", "recording", "clip"),
    "Audio",
    arrays=True,
)
VIDEO = Medium(
    "videos",
    "video",
    frozenset(b"mp4 m4v mkv webm avi mov mpg mpeg ts m2ts mts wmv flv ogv 3gp vob".split()),
    ("video", "mp4", "clip", "recording", "movie"),
    "Video",
)
KINDS = {"sound": SOUND.endings, "video": VIDEO.endings, "image": EXTENSIONS}


@dataclass(eq=False)
class Recordings(Listing):
    """A listing of sounds or videos. columns: what else the data says of each: (N,) of text, None for nothing."""

    columns: dict[str, list[str | None]] = field(default_factory=dict)
    many: str = "recordings"


class Window(io.RawIOBase):
    """A member of an archive as a file, read where it lies."""

    def __init__(self, place: Place, offset: int, size: int):
        self.place, self.offset, self.size, self.at = place, offset, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self.at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self.at = offset + (0, self.at, self.size)[whence]
        return self.at

    def readinto(self, buffer: Any) -> int:
        count = max(0, min(len(buffer), self.size - self.at))
        try:
            buffer[:count] = self.place.read(self.offset + self.at, count)
        except BrokenItem:  # who reads knows an end, no exception
            return 0
        self.at += count
        return count


def item(listing: Listing, index: int, whole: bool = False) -> bytes | IO[bytes]:
    """The path of a recording, or a file of it. whole: all of it will be read. Raises BrokenItem."""
    store = listing.store
    if isinstance(store, Files):
        return store.path(index)
    span = _span(store, index)
    if span is None or (whole and span[2] < AT_ONCE):
        return io.BytesIO(store.fetch(index))
    return io.BufferedReader(Window(*span), 2**16)


def _span(store: Any, index: int) -> tuple[Place, int, int] | None:
    """Where a member's own bytes lie in its archive; None where they are packed or in memory."""
    if isinstance(store, TarMembers) and isinstance(store.data, Place):
        return store.data, int(store.offset[index]), int(store.size[index])
    if isinstance(store, ZipMembers) and store.method[index] == STORED and not store.encrypted[index]:
        offset = int(store.offset[index])
        header = store.place.read(offset, 30)
        if header[:4] == b"PK\3\4":
            return store.place, offset + 30 + sum(struct.unpack_from("<HH", header, 26)), int(store.size[index])
    return None


def list_media(data: str | os.PathLike, medium: Medium) -> Recordings:
    """Names and places of all recordings; nothing is decoded. Raises DataError when there are none."""
    path = os.path.expanduser(os.fspath(data))
    if is_url(path) or is_pattern(path):
        raise DataError(
            f"{medium.many} are read from this machine, '{path}' is a URL or a pattern; fetch it, give a folder"
        )
    if not os.path.exists(path):
        raise DataError(missing(path))
    lower = path.lower()

    def wanted(name: bytes) -> bool:
        return _kind(name) == medium.one

    try:
        if os.path.isdir(path):
            return _list_folder(path, medium)
        state = os.stat(path)
        key = (medium.one, os.path.abspath(path), state.st_size, state.st_mtime_ns)
        listing = _in_use.get(key)  # train and test of one archive hold it once
        if listing is None:
            if lower.endswith(".zip"):
                listing = _recordings(list_zip(path, f"{medium.many} ({_known(medium)})", wanted), medium)
            elif lower.endswith(TAR):
                listing = _recordings(list_tar(path, f"{medium.many} ({_known(medium)})", wanted), medium)
            elif lower.endswith(".parquet"):
                from .mediatables import list_tables

                listing = list_tables(os.path.basename(path), [path], medium)
            elif wanted(name := os.fsencode(os.path.basename(path))):
                listing = _of_files(os.path.basename(path), os.path.dirname(os.path.abspath(path)), [name], medium)
            else:
                formats = ", ".join((*ARCHIVES, ".parquet"))
                raise DataError(f"cannot read {medium.many} from '{path}'; give a folder, or a file {formats}")
            _in_use[key] = listing
        return listing
    except PermissionError:
        raise DataError(f"no permission to read '{path}'") from None


def is_of(data: str | os.PathLike, medium: Medium) -> bool:
    """Whether some data is of a medium, by the endings of its names (the most frequent kind), or by its columns."""
    path = os.path.expanduser(os.fspath(data))
    lower = path.lower()
    try:
        if lower.endswith(".zip"):
            with zipfile.ZipFile(path) as archive:
                names = [os.fsencode(name) for name in islice(archive.namelist(), LOOKED_AT)]
        elif lower.endswith(".tar"):
            with tarfile.open(path, "r:") as archive:
                names = [name for name, _ in islice(tar_files(archive), LOOKED_AT)]
        elif lower.endswith(TAR):
            with tarfile.open(path, "r|*") as archive:  # as far as its first names
                names = [name for name, _ in islice(tar_files(archive), 64)]
        elif os.path.isdir(path):
            names = list(islice(_walk(path, []), LOOKED_AT))
        else:
            name = os.fsencode(os.path.basename(path))
            names = [name] if os.path.isfile(path) and _kind(name) == medium.one else []
    except (*BAD_ZIP, *BAD_TAR):
        return False
    kinds = Counter(map(_kind, names))
    others = max(kinds[kind] for kind in KINDS if kind != medium.one)
    if kinds[medium.one] or not (lower.endswith(".parquet") or kinds["table"]):
        return kinds[medium.one] > others
    from .mediatables import has_column

    files = [os.path.join(path, os.fsdecode(name)) for name in names if _kind(name) == "table"]
    return not others and has_column((files or [path])[0], medium)


def _kind(name: bytes) -> str:
    extension = _extension(name)
    if name[:1] == b"." or b"/." in name:
        return "hidden"
    kind = next((kind for kind, endings in KINDS.items() if extension in endings), "other")
    return "table" if extension == b"parquet" else kind


def _recordings(listing: Listing, medium: Medium) -> Recordings:
    return Recordings(**vars(listing), many=many_of(medium))


def many_of(medium: Medium) -> str:
    """What messages call the items of a listing."""
    return "recordings" if medium is SOUND else medium.many


def _extension(name: bytes) -> bytes:
    return os.path.splitext(name)[1][1:].lower()


def _walk(root: str, unlisted: list[bytes]) -> Iterator[bytes]:
    """Relative paths of the files below a folder, hidden ones left out; a folder that links lead to is walked once."""
    base, seen = os.fsencode(root), set()

    def failed(error: OSError) -> None:
        if error.filename == base:
            raise DataError(f"cannot list folder '{root}': {(error.strerror or str(error)).lower()}") from None
        unlisted.append(os.path.relpath(error.filename, base))

    for here, folders, files in os.walk(base, onerror=failed, followlinks=True):
        real = os.path.realpath(here)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if name[:1] != b".")
        below = os.path.relpath(here, base).replace(os.fsencode(os.sep), b"/") + b"/"
        for name in files:
            if name[:1] != b".":
                yield name if below == b"./" else below + name


def _list_folder(root: str, medium: Medium) -> Recordings:
    unlisted: list[bytes] = []
    kinds: dict[str, list[bytes]] = {medium.one: unlisted, "table": []}
    others: Counter[str] = Counter()
    for name in _walk(root, unlisted):
        kind = _kind(name)
        if kind in kinds:
            kinds[kind].append(name)
        else:
            others[os.fsdecode(_extension(name))] += 1
    root = os.path.abspath(root)
    if kinds[medium.one]:
        return _of_files(os.path.basename(root), root, sorted(kinds[medium.one]), medium)
    if kinds["table"]:
        from .mediatables import list_tables

        files = [os.path.join(root, os.fsdecode(name)) for name in sorted(kinds["table"])]
        return list_tables(os.path.basename(root), files, medium, root)
    if not others:
        raise DataError(f"folder '{root}' is empty")
    what = f"{medium.many} are {_known(medium)}, or .parquet"
    raise DataError(f"no {medium.many} in folder '{root}': it holds {extensions(others)}; {what}")


def _of_files(name: str, root: str, paths: list[bytes], medium: Medium) -> Recordings:
    names = Names(paths)
    return _recordings(from_paths(name, Files(os.fsencode(root), names), paths, names), medium)


def _known(medium: Medium) -> str:
    return ", ".join(sorted(e.decode() for e in medium.endings))
