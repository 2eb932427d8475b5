"""Parquet files with image bytes, in the layout Hugging Face datasets use.

The image column is binary or a struct with a field `bytes`; labels are integers, named in the schema's
"huggingface" metadata where they are a ClassLabel, or words.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import BrokenItem, DataError
from .labels import LABEL_COLUMNS, encode, pick
from .listing import SPLITS, Listing, Names

if TYPE_CHECKING:
    import pyarrow as pa

IN_MEMORY = 4 * 2**30  # bytes of images up to which they are held in memory
BATCH = 256  # rows decoded from Parquet at once


class Rows:
    """Image bytes of Parquet files by row. A file is loaded when first needed, or mapped from a copy."""

    def __init__(self, files: Sequence[str], counts: Sequence[int], column: str, mapped: bool):
        self.files, self.counts, self.column, self.mapped = files, counts, column, mapped
        self.starts = np.cumsum([0, *counts])
        self.parts: dict[int, pa.ChunkedArray] = {}

    def __reduce__(self):
        return Rows, (self.files, self.counts, self.column, self.mapped)

    def fetch(self, index: int) -> bytes:
        data = self._scalar(index).as_py()
        if data is None:
            raise BrokenItem("no image bytes in its row")
        return data

    def stamp(self, index: int) -> int:
        scalar = self._scalar(index)
        return len(scalar.as_buffer()) if scalar.is_valid else -1

    def load(self, index: np.ndarray) -> None:
        for file in np.unique(self._file(index)):
            self._part(int(file))

    def _file(self, index):
        return np.searchsorted(self.starts, index, side="right") - 1

    def _scalar(self, index: int) -> Any:
        file = int(self._file(index))
        return self._part(file)[index - int(self.starts[file])]

    def _part(self, file: int) -> pa.ChunkedArray:
        if file not in self.parts:
            import pyarrow as pa

            path = self.files[file]
            try:
                chunks = _mapped(path, self.column) if self.mapped else list(_chunks(path, self.column))
            except (pa.ArrowException, OSError):
                raise damaged(path) from None
            self.parts[file] = pa.chunked_array(chunks, pa.large_binary())
        return self.parts[file]


def list_parquet(name: str, files: list[str], root: str | None = None) -> Listing:
    """The rows of Parquet files below root, in order. Loads no image yet.

    Splits are told by file names: train-00000-of-00002.parquet, test.parquet, train/0000.parquet.
    Raises DataError when a file cannot be read, lacks a column or there is no column of images.
    """
    files = [os.path.abspath(file) for file in files]
    root = os.path.abspath(root or os.path.dirname(files[0]))
    parts: list[_Part] = []
    for file in files:
        parts.append(_read_part(file, parts[0] if parts else None))
    counts = [part.rows for part in parts]
    short = [os.path.relpath(file, root).replace(os.sep, "/") for file in files]
    keys = [f"{file}:{row}" for file, rows in zip(short, counts, strict=True) for row in range(rows)]
    inside = [path for part in parts for path in part.paths]
    if len(set(inside) - {None}) == len(keys):
        keys = inside
    codes, classes = None, None
    if parts[0].label is not None:
        codes, classes = encode([value for part in parts for value in part.labels], parts[0].classes)
    found = [split_of(file) for file in short]
    splits = [s for s in SPLITS if s in found]
    split = np.repeat([splits.index(s) if s else -1 for s in found], counts).astype(np.int8)
    mapped = sum(part.size for part in parts) > IN_MEMORY
    store = Rows(files, counts, parts[0].image, mapped)
    names = Names([key.encode("utf-8", "surrogateescape") for key in keys])
    return Listing(name, store, len(keys), names, splits, split if splits else None, codes, classes, store.load)


@dataclass
class _Part:
    """What one file holds beside its images: column names, rows, bytes of images, paths and labels."""

    image: str
    label: str | None
    classes: list[str] | None
    rows: int
    size: int
    paths: list[str]
    labels: list


def _read_part(path: str, like: _Part | None) -> _Part:
    """One file's small columns; its columns are named as in the first file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            schema = file.schema_arrow
            image, label, classes = (like.image, like.label, None) if like else image_columns(path, schema)
            for missing in {image, label} - {None, *schema.names}:
                raise DataError(f"'{path}' has no column '{missing}', which other files of this data have")
            kind: Any = schema.field(image).type
            paths = []
            if pa.types.is_struct(kind) and kind.get_field_index("path") >= 0:
                column = file.read(columns=[f"{image}.path"]).column(0)
                paths = [row["path"] for row in column.to_pylist() if row]
            labels = [] if label is None else file.read(columns=[label]).column(0).to_pylist()
            rows, size = file.metadata.num_rows, column_bytes(file.metadata, image)
            return _Part(image, label, classes, rows, size, paths, labels)
    except PermissionError:
        raise
    except (pa.ArrowException, OSError):
        raise damaged(path) from None


def damaged(path: str) -> DataError:
    return DataError(f"cannot read '{path}': not a Parquet file, or cut short; fetch or write it again")


def split_of(file: str) -> str | None:
    """The first of a path's parts that is a split's name, alone or before one of - _ ."""
    words = (re.split(r"[-_.]", part, maxsplit=1)[0].lower() for part in file.replace(os.sep, "/").split("/"))
    return next((w for w in words if w in SPLITS), None)


def image_columns(path: str, schema: pa.Schema) -> tuple[str, str | None, list[str] | None]:
    """The image column; the label column (one named so, else the first ClassLabel) and its class names."""
    import pyarrow as pa

    images = [field.name for field in schema if holds_bytes(field.type)]
    if not images:
        raise DataError(f"'{path}' has no column of image bytes: its columns are {', '.join(schema.names)}")
    about = json.loads((schema.metadata or {}).get(b"huggingface", b"{}")).get("info", {}).get("features", {})
    named = {
        name: feature["names"]
        for name, feature in about.items()
        if isinstance(feature, dict) and feature.get("_type") == "ClassLabel"
    }
    kinds = (pa.types.is_integer, pa.types.is_string, pa.types.is_large_string, pa.types.is_dictionary)
    fits = [field.name for field in schema if any(fit(field.type) for fit in kinds)]
    label = pick(fits, (*LABEL_COLUMNS, "labels", *named))
    return "image" if "image" in images else images[0], label, named.get(label or "")


def holds_bytes(kind: pa.DataType) -> bool:
    import pyarrow as pa

    if pa.types.is_struct(kind):
        return kind.get_field_index("bytes") >= 0
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind)


def column_bytes(metadata: Any, column: str) -> int:
    total = 0
    for group in map(metadata.row_group, range(metadata.num_row_groups)):
        for part in map(group.column, range(group.num_columns)):
            if part.path_in_schema.split(".")[0] == column:
                total += part.total_uncompressed_size
    return total


def _chunks(path: str, column: str) -> Iterator[pa.Array]:
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        yield from image_bytes(file, column)


def image_bytes(file: Any, column: str, rows: int = BATCH, groups: Sequence[int] | None = None) -> Iterator[pa.Array]:
    """The bytes of an open file's images, a few rows at a time: a row group may hold more than an Arrow array can."""
    import pyarrow as pa

    for batch in file.iter_batches(batch_size=rows, columns=[column], row_groups=groups):
        array: Any = batch.column(0)
        if pa.types.is_struct(array.type):
            array = array.flatten()[array.type.get_field_index("bytes")]
        yield array.cast(pa.large_binary())


def _mapped(path: str, column: str) -> list[pa.Array]:
    """The image bytes of one file, mapped into memory from an uncompressed copy that is made on first use."""
    import pyarrow as pa

    state = os.stat(path)
    mark = f"{os.path.abspath(path)}|{state.st_size}|{state.st_mtime_ns}|{column}".encode("utf-8", "surrogateescape")
    folder = Path(os.environ.get("TWOVIEWS_CACHE") or Path.home() / ".cache" / "twoviews")
    copy = folder / f"{blake2b(mark, digest_size=12).hexdigest()}.arrow"
    if not copy.exists():
        part = copy.with_suffix(f".{os.getpid()}.part")
        try:
            folder.mkdir(parents=True, exist_ok=True)
            schema = pa.schema([("bytes", pa.large_binary())])
            with pa.OSFile(str(part), "wb") as file, pa.ipc.new_file(file, schema) as writer:
                for chunk in _chunks(path, column):
                    writer.write_batch(pa.record_batch([chunk], schema=schema))
            os.replace(part, copy)
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise DataError(
                f"cannot copy the images of '{path}' to the cache '{folder}': {reason}; "
                "set TWOVIEWS_CACHE to a folder with room"
            ) from None
        finally:
            with suppress(OSError):
                part.unlink(missing_ok=True)
    return pa.ipc.open_file(pa.memory_map(str(copy))).read_all().column(0).chunks
