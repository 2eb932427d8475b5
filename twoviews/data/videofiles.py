"""Where videos lie: `mediafiles` for videos, lists with times, and arrays of clips in memory."""

from __future__ import annotations

import os
import zlib
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from torch import Tensor

from ..errors import BrokenItem, DataError
from .labels import encode, pick
from .listing import Files, Names, few
from .mediafiles import VIDEO, Recordings, is_of, list_media
from .medialabels import PATHS, read_table

BEGIN, END = ("start", "begin", "start_time", "from"), ("end", "stop", "end_time", "to")
TABLES = (".csv", ".tsv", ".parquet")


class Clips:
    """Clips in memory, or a .npy file that is read where it lies: (N, T, H, W) or (N, T, H, W, C) uint8."""

    def __init__(self, clips: np.ndarray, path: str | None = None):
        self.clips, self.path = clips, path

    def __reduce__(self):
        if self.path is None:
            return Clips, (self.clips,)
        return _mapped, (self.path,)

    def frames(self, index: int) -> np.ndarray:
        """(T, H, W, 3): grey clips three times, of four channels the first three."""
        x = self.clips[index]
        x = x[..., None] if x.ndim == 3 else x
        return np.ascontiguousarray(np.broadcast_to(x, (*x.shape[:3], 3)) if x.shape[3] == 1 else x[..., :3])

    def fetch(self, index: int) -> bytes:
        raise BrokenItem("a clip in memory is no file")

    def stamp(self, index: int) -> int:
        return zlib.crc32(np.ascontiguousarray(self.clips[index]).tobytes())


@dataclass
class Spans:
    """Stretches of videos: file (n,) int64 in a listing, begin and end (n,) seconds, NaN for an end of the video.

    columns: what else the list says of each.  said: what of it is left out, in words.
    """

    file: np.ndarray
    begin: np.ndarray
    end: np.ndarray
    columns: dict[str, list[str | None]]
    said: list[str]


def list_videos(data: Any) -> tuple[Recordings, Spans | None]:
    """Names and places of all videos, and of a list with times its stretches. Raises DataError where there are none."""
    if isinstance(data, str | os.PathLike):
        path = os.path.expanduser(os.fspath(data))
        lower = path.lower()
        if lower.endswith((".npy", ".npz")) and os.path.isfile(path):
            return _list_npy(path), None
        if is_list(path):
            return _listed(path)
        return list_media(data, VIDEO), None
    clips, labels = data if isinstance(data, tuple) and len(data) == 2 else (data, None)
    listing = _list_clips(clips, "array")
    if labels is not None:
        if len(labels) != listing.count:
            raise DataError(f"{listing.count:,} clips but {len(labels):,} labels")
        codes, classes = encode(labels)
        listing = replace(listing, labels=codes, classes=classes)
    return listing, None


def is_video(data: Any) -> bool:
    """Whether some data is of videos: by the endings of its names, a column of files with times, or its shape."""
    if isinstance(data, str | os.PathLike):
        path = os.path.expanduser(os.fspath(data))
        if path.lower().endswith((".npy", ".npz")):
            return _is_clips(path)
        return is_list(path) or is_of(data, VIDEO)
    clips = data[0] if isinstance(data, tuple) and len(data) == 2 else data
    return isinstance(clips, np.ndarray | Tensor) and clips.ndim == 5


def is_list(path: str) -> bool:
    """Whether a table lists videos: its column of paths names them."""
    if not path.lower().endswith(TABLES) or not os.path.isfile(path):
        return False
    try:
        names = _first_names(path)
    except (DataError, OSError, UnicodeDecodeError):
        return False
    return any(os.path.splitext(name)[1][1:].lower().encode() in VIDEO.endings for name in names)


def _of_text(kind: Any) -> bool:
    import pyarrow as pa

    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)


def _first_names(path: str) -> list[str]:
    """Some of the paths that a table names; [] where it has no column of them."""
    if path.lower().endswith(".parquet"):
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            with pq.ParquetFile(path) as file:
                column = pick(file.schema_arrow.names, PATHS)
                if column is None or not _of_text(file.schema_arrow.field(column).type):
                    return []
                part = next(file.iter_batches(9, columns=[column]), None)
                return [] if part is None else [str(x) for x in part.column(0).to_pylist()]
        except (pa.ArrowException, OSError):
            return []
    import csv

    with open(path, encoding="utf-8-sig", newline="") as file:
        rows = csv.reader(file, delimiter="\t" if path.lower().endswith(".tsv") else ",")
        names = [name.strip() for name in next(rows, [])]
        column = pick(names, PATHS)
        if column is None:
            return []
        at = names.index(column)
        return [row[at] for row, _ in zip(rows, range(9), strict=False) if len(row) > at]


def _listed(path: str) -> tuple[Recordings, Spans]:
    """A list of videos beside it, maybe with times. Raises DataError where a number is none or no file is there."""
    table = read_table(path)
    column = pick(table, PATHS)
    assert column is not None  # is_list has seen it
    root = os.path.dirname(os.path.abspath(path))
    paths = [os.path.normpath(value) if value else "" for value in table.pop(column)]
    names = [pick(table, wanted) for wanted in (BEGIN, END)]
    times = [
        _seconds(path, name, table.pop(name), len(paths)) if name else np.full(len(paths), np.nan) for name in names
    ]
    begin, end = times
    said = []
    files = sorted({name for name in paths if os.path.isfile(os.path.join(root, name))})
    if not files:
        missing = f"; the first would be '{os.path.join(root, paths[0])}'" if paths else ""
        raise DataError(f"'{path}' lists {len(paths):,} videos and none is there{missing}")
    place = {name: i for i, name in enumerate(files)}
    file = np.array([place.get(name, -1) for name in paths], np.int64)
    forward = _forward(begin, end)
    backward = (file >= 0) & ~forward, "end before they begin, or begin before 0"
    for bad, why in ((file < 0, "name no file"), backward):
        if bad.any():
            row = int(np.argmax(bad))
            said.append(f"{int(bad.sum()):,} of {len(paths):,} rows of '{path}' {why}, the first '{paths[row]}'")
    kept = (file >= 0) & forward
    if not kept.any():
        raise DataError(f"no row of '{path}' is a stretch of a video: {'; '.join(said)}")
    rows = np.flatnonzero(kept).tolist()
    columns = {name: [values[row] for row in rows] for name, values in table.items()}
    encoded = Names([os.fsencode(name) for name in files])
    listing = Recordings(os.path.basename(path), Files(os.fsencode(root), encoded), len(files), encoded, many="videos")
    return listing, Spans(file[kept], begin[kept], end[kept], columns, said)


def _forward(begin: np.ndarray, end: np.ndarray) -> np.ndarray:
    start = np.nan_to_num(begin, nan=0.0)
    return (start >= 0) & ~(end <= start)


def _seconds(path: str, name: str, values: list[str | None], count: int) -> np.ndarray:
    """A column of seconds; empty is NaN. 1:02:03.5 is hours, minutes and seconds."""
    out = np.full(count, np.nan)
    for row, value in enumerate(values):
        if value is None or not value.strip():
            continue
        try:
            parts = [float(part) for part in value.split(":")]
        except ValueError:
            raise DataError(
                f"'{path}', row {row + 1}, column '{name}': '{value}' is no time; give seconds, as 12.5, or 0:12.5"
            ) from None
        out[row] = sum(part * 60**i for i, part in enumerate(reversed(parts)))
    return out


def _list_clips(clips: Any, name: str, path: str | None = None) -> Recordings:
    x = clips.numpy() if isinstance(clips, Tensor) else clips
    if not isinstance(x, np.ndarray) or x.dtype != np.uint8 or x.ndim not in (4, 5) or not x.size:
        given = f"{x.dtype} {x.shape}" if isinstance(x, np.ndarray) else type(x).__name__
        raise DataError(f"clips must be uint8 (N, T, H, W) or (N, T, H, W, C), got {given}")
    if x.ndim == 4 and x.shape[3] <= 4:
        raise DataError(f"an array {x.shape} is of photos (N, H, W, C); clips are (N, T, H, W) or (N, T, H, W, C)")
    if x.ndim == 5 and x.shape[4] not in (1, 3, 4):
        raise DataError(f"clips (N, T, H, W, C) have C = 1, 3 or 4 channels, got {x.shape}")
    return Recordings(name, Clips(x, path), len(x), many="videos")


def _list_npy(path: str) -> Recordings:
    """Clips of a .npy or .npz file: an array `clips`, or its only one of five dimensions, and `labels`."""
    name = os.path.basename(path)
    try:
        if path.lower().endswith(".npy"):
            return _list_clips(np.load(path, mmap_mode="r", allow_pickle=False), name, os.path.abspath(path))
        with np.load(path, allow_pickle=False) as file:
            arrays = {key: file[key] for key in file.files}
    except (OSError, ValueError, EOFError, zlib.error) as error:
        raise DataError(f"cannot read '{path}': {error}") from None
    clips = next((arrays[key] for key in ("clips", "videos", "x") if key in arrays), None)
    if clips is None:
        clips = next((x for x in arrays.values() if x.ndim == 5), None)
    if clips is None:
        raise DataError(f"'{path}' has no array called clips: it holds {', '.join(few(arrays, 5))}")
    listing = _list_clips(clips, name)
    labels = next((arrays[key] for key in ("labels", "label", "y") if key in arrays), None)
    if labels is None:
        return listing
    if len(labels) != listing.count:
        raise DataError(f"'{path}': {listing.count:,} clips but {len(labels):,} labels")
    codes, classes = encode(labels.tolist())
    return replace(listing, labels=codes, classes=classes)


def _is_clips(path: str) -> bool:
    """Whether a file of arrays holds one of five dimensions; of four it is of photos."""
    try:
        if path.lower().endswith(".npy"):
            return np.load(path, mmap_mode="r", allow_pickle=False).ndim == 5
        with np.load(path, allow_pickle=False) as file:
            return any(file[key].ndim == 5 for key in file.files)
    except (OSError, ValueError, EOFError, zlib.error):
        return False


def _mapped(path: str) -> Clips:
    return Clips(np.load(path, mmap_mode="r", allow_pickle=False), path)
