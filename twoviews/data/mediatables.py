"""Sounds and videos as rows: lists, and Parquet as Hugging Face writes it, of bytes, {bytes, path} or samples."""

from __future__ import annotations

import io
import json
import os
import zlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import BrokenItem, DataError
from .listing import SPLITS, Names
from .mediafiles import Medium, Recordings, many_of
from .medialabels import Columns, as_text
from .parquet import IN_MEMORY, Rows, column_bytes, damaged, holds_bytes, split_of

if TYPE_CHECKING:
    import pyarrow as pa

NOTHING = "nothing in its row"


class Arrays:
    """Recordings in memory: (samples, rate), given as WAV files."""

    def __init__(self, items: Sequence[tuple[Any, Any]]):
        self.items = items

    def fetch(self, index: int) -> bytes:
        return as_wav(*self.items[index])

    def stamp(self, index: int) -> int:
        return zlib.crc32(np.ascontiguousarray(self.items[index][0]).tobytes())


class MediaRows(Rows):
    """Bytes of recordings or videos by row."""

    def __reduce__(self):
        return MediaRows, (self.files, self.counts, self.column, self.mapped)

    def fetch(self, index: int) -> bytes:
        data = self._scalar(index).as_py()
        if data is None:
            raise BrokenItem(NOTHING)
        return data


class ArrayRows(Rows):
    """Samples and their rate by row, given as WAV files. A file is loaded when first needed."""

    def __reduce__(self):
        return ArrayRows, (self.files, self.counts, self.column, self.mapped)

    def fetch(self, index: int) -> bytes:
        row = self._scalar(index)
        if not row.is_valid or not row["array"].is_valid:
            raise BrokenItem(NOTHING)
        return as_wav(row["array"].values.to_numpy(zero_copy_only=False), row["sampling_rate"].as_py())

    def stamp(self, index: int) -> int:
        row = self._scalar(index)
        return len(row["array"]) if row.is_valid and row["array"].is_valid else -1

    def _part(self, file: int) -> pa.ChunkedArray:
        if file not in self.parts:
            import pyarrow as pa
            import pyarrow.parquet as pq

            try:
                self.parts[file] = pq.read_table(self.files[file], columns=[self.column]).column(0)
            except (pa.ArrowException, OSError):
                raise damaged(self.files[file]) from None
        return self.parts[file]


def in_memory(data: Any) -> bool:
    """Whether it is a list of (samples, rate) or of {"array", "sampling_rate"}."""
    if not isinstance(data, Sequence) or isinstance(data, str | bytes) or not len(data):
        return False
    first = data[0]
    if isinstance(first, Mapping):
        return {"array", "sampling_rate"} <= set(first)
    return isinstance(first, tuple | list) and len(first) == 2 and np.ndim(first[0]) > 0 and np.ndim(first[1]) == 0


def list_arrays(data: Any) -> Recordings:
    """Recordings in memory. Raises DataError for anything else."""
    if not in_memory(data):
        raise DataError(
            f"cannot read sounds from a {type(data).__name__}: give a path, or a list of (samples, rate) "
            "or of {'array', 'sampling_rate'}"
        )
    pairs = [(x["array"], x["sampling_rate"]) if isinstance(x, Mapping) else (x[0], x[1]) for x in data]
    return Recordings("list", Arrays(pairs), len(pairs))


def as_wav(samples: Any, rate: Any) -> bytes:
    """Samples (T,), (T, C) or (C, T), floats of full scale 1 or 16-bit integers, as a WAV file. Raises BrokenItem."""
    import soundfile

    try:
        x, rate = np.asarray(samples), int(rate)
    except (TypeError, ValueError, OverflowError):
        raise BrokenItem("not samples and their rate") from None
    if x.dtype != np.int16 and x.dtype.kind != "f":
        raise BrokenItem(f"samples must be floats or int16, got {x.dtype}")
    if x.ndim not in (1, 2) or not x.size:
        raise BrokenItem(f"samples must be (T,) or (T, C), got {x.shape}")
    if not 1 <= rate < 2**31:
        raise BrokenItem(f"{rate} samples a second")
    out = io.BytesIO()
    x = x.T if x.ndim == 2 and x.shape[0] < x.shape[1] else x
    with np.errstate(over="ignore"):  # what is too large is told of when it is decoded
        x = x if x.dtype == np.int16 else x.astype(np.float32)
    try:
        soundfile.write(out, x, rate, "PCM_16" if x.dtype == np.int16 else "FLOAT", format="WAV")
    except soundfile.LibsndfileError:
        raise BrokenItem(f"{x.shape[-1]:,} channels are more than a file can hold") from None
    return out.getvalue()


def has_column(path: str, medium: Medium) -> bool:
    """Whether a Parquet file has a column that says that it is of a medium."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return _column(pq.read_schema(path), medium, sure=True) is not None
    except (pa.ArrowException, OSError):
        return False


def list_tables(name: str, files: list[str], medium: Medium, root: str | None = None) -> Recordings:
    """The rows of Parquet files below root, in order, with their other columns. Splits are told by file names.

    Raises DataError when a file cannot be read or has no column of the medium, and for arrays of more than 4 GiB.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    files = [os.path.abspath(file) for file in files]
    root = os.path.abspath(root or os.path.dirname(files[0]))
    column, kind, columns = "", None, Columns()
    counts, sizes, inside = [], [], []
    for path in files:
        try:
            with pq.ParquetFile(path) as file:
                schema = file.schema_arrow
                if not column:
                    column = _column(schema, medium) or _none(path, schema, medium)
                    kind, columns = schema.field(column).type, {other: [] for other in _others(schema, column)}
                for missing in {column, *columns} - set(schema.names):
                    raise DataError(f"'{path}' has no column '{missing}', which other files of this data have")
                counts.append(file.metadata.num_rows)
                sizes.append(column_bytes(file.metadata, column))
                for other, values in columns.items():
                    values += _values(file, other, _features(schema).get(other, {}).get("names"))
                if _has(kind, "path"):
                    rows = file.read(columns=[f"{column}.path"]).column(0).to_pylist()
                    inside += [row["path"] for row in rows if row and row["path"]]
        except PermissionError:
            raise
        except (pa.ArrowException, OSError):
            raise damaged(path) from None
    store: Any = MediaRows(files, counts, column, sum(sizes) > IN_MEMORY)
    if _has(kind, "array"):
        if sum(sizes) > IN_MEMORY:
            raise DataError(f"{name} holds {sum(sizes) / 2**30:.1f} GiB of samples as arrays; write them as FLAC bytes")
        store = ArrayRows(files, counts, column, False)
    short = [os.path.relpath(file, root).replace(os.sep, "/") for file in files]
    keys = [f"{file}:{row}" for file, rows in zip(short, counts, strict=True) for row in range(rows)]
    keys = inside if len(set(inside)) == len(keys) else keys
    names = Names([key.encode("utf-8", "surrogateescape") for key in keys])
    told = [split_of(file) for file in short]
    splits = [s for s in SPLITS if s in told]
    split = np.repeat([splits.index(s) if s else -1 for s in told], counts).astype(np.int8) if splits else None
    return Recordings(
        name, store, len(keys), names, splits, split, load=store.load, columns=columns, many=many_of(medium)
    )


def _column(schema: pa.Schema, medium: Medium, sure: bool = False) -> str | None:
    """The column of a medium: one that says so by its type or its name; else, unless it must be sure, one of bytes."""
    arrays = [field.name for field in schema if _has(field.type, "array") and _has(field.type, "sampling_rate")]
    arrays = arrays if medium.arrays else []
    held = [field.name for field in schema if holds_bytes(field.type)]
    declared = [name for name, feature in _features(schema).items() if feature.get("_type") == medium.declared]
    said = [name for name in (*declared, *medium.columns) if name in arrays + held]
    return next(iter([*said, *arrays, *([] if sure else held)]), None)


def _none(path: str, schema: pa.Schema, medium: Medium) -> str:
    raise DataError(f"'{path}' has no column of {medium.many}: its columns are {', '.join(schema.names)}")


def _others(schema: pa.Schema, column: str) -> list[str]:
    """The columns of words, whole numbers and classes, classes first."""
    import pyarrow as pa

    kinds = (pa.types.is_integer, pa.types.is_string, pa.types.is_large_string, pa.types.is_dictionary)
    plain = [field.name for field in schema if field.name != column and any(kind(field.type) for kind in kinds)]
    about = _features(schema)
    return sorted(plain, key=lambda name: about.get(name, {}).get("_type") != "ClassLabel")


def _values(file: Any, column: str, names: list[str] | None) -> list[str | None]:
    found = file.read(columns=[column]).column(0).to_pylist()
    return as_text(found if names is None else [names[v] if v is not None and v >= 0 else None for v in found])


def _features(schema: pa.Schema) -> dict[str, dict[str, Any]]:
    about = json.loads((schema.metadata or {}).get(b"huggingface", b"{}")).get("info", {}).get("features", {})
    return {name: feature for name, feature in about.items() if isinstance(feature, dict)}


def _has(kind: Any, name: str) -> bool:
    import pyarrow as pa

    return pa.types.is_struct(kind) and kind.get_field_index(name) >= 0
