"""Labels as codes, and a labels file matched to the images it names."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from numbers import Integral
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import DataError
from .listing import Listing

PATH_COLUMNS = ("path", "file", "filename", "file_name", "image", "name")
LABEL_COLUMNS = ("label", "class", "target", "category", "y")
KEPT = 2**16  # integer labels below this are their own codes, so that two parts of one set agree
LOST, TWICE = -1, -2


def encode(values: Any, names: Sequence[str] | None = None) -> tuple[np.ndarray, list[str]]:
    """Integers or words as (N,) int64 codes, and the classes they stand for.

    Negative, empty and None are "no label", -1. names: what integers stand for, where that is known.
    Raises DataError for anything but integers and words.
    """
    values = np.asarray(values)
    if values.dtype == object and all(v is None or isinstance(v, Integral) for v in values.flat):
        values = np.array([-1 if v is None else int(v) for v in values.flat], np.int64)
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if values.ndim != 1:
        raise DataError(f"labels must be one integer or word per image, got an array of shape {values.shape}")
    if values.dtype.kind in "iub":
        codes = values.astype(np.int64)
        if names is not None:
            return np.where((codes >= 0) & (codes < len(names)), codes, -1), [str(n) for n in names]
        if codes.max(initial=-1) < KEPT:
            return np.maximum(codes, -1), [str(i) for i in range(int(codes.max(initial=-1)) + 1)]
        kept = np.unique(codes[codes >= 0])
        return np.where(codes >= 0, np.searchsorted(kept, codes), -1), [str(i) for i in kept]
    if values.dtype.kind not in "UO" or not all(v is None or isinstance(v, str) for v in values):
        raise DataError(f"labels must be integers or words, got {values.dtype} such as {values[:1].tolist()}")
    words = ["" if v is None else v.strip() for v in values]
    distinct = set(words) - {""}
    numeric = all(w.isdecimal() for w in distinct)
    classes = sorted(distinct, key=lambda w: (int(w), w)) if numeric else sorted(distinct)
    code = {w: i for i, w in enumerate(classes)} | {"": -1}
    return np.fromiter((code[w] for w in words), np.int64, len(words)), classes


@contextmanager
def reading(path: str) -> Iterator[None]:
    """What keeps a labels file from being read, as a DataError."""
    try:
        yield
    except FileNotFoundError:
        raise DataError(f"no labels file '{path}'") from None
    except UnicodeDecodeError:
        raise DataError(f"cannot read labels file '{path}': not UTF-8 text") from None
    except (OSError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise DataError(f"cannot read labels file '{path}': {reason.lower()}") from None


def read_labels(path: str | Path, listing: Listing) -> tuple[np.ndarray, list[str]]:
    """Labels of a listing's images from a .csv, .tsv or .parquet file with a path and a label column.

    A row names an image by its relative path, else by its base name where only one image has it, with or
    without the extension. Images in no row get -1. Raises DataError when the file cannot be read, when a row
    names no image or more than one, and when two rows disagree.
    """
    path = os.path.expanduser(os.fspath(path))
    with reading(path):
        rows = list(_read_parquet(path) if path.lower().endswith(".parquet") else _read_text(path))
    if not rows:
        raise DataError(f"labels file '{path}' has no rows")
    labels: list[str | None] = [None] * listing.count
    places = matched([name for name, _ in rows], listing)
    for problem, what, mend in (
        (LOST, "no image", f"images are named like '{listing.key(0)}'"),
        (TWICE, "more than one image", "give paths relative to the data"),
    ):
        if bad := [name for (name, _), place in zip(rows, places, strict=True) if place == problem]:
            raise DataError(
                f"labels file '{path}': {len(bad):,} of {len(rows):,} rows name {what} of {listing.name} "
                f"({listing.count:,} images), the first '{bad[0]}'; {mend}"
            )
    for (name, label), place in zip(rows, places, strict=True):
        if labels[place] not in (None, label):
            raise DataError(f"labels file '{path}' gives '{name}' two labels, '{labels[place]}' and '{label}'")
        labels[place] = label
    codes, classes = encode(np.array(labels, object))
    if not classes:
        raise DataError(f"labels file '{path}' holds no label: its label column is empty")
    return codes, classes


def pick(columns: Iterable[str], wanted: Sequence[str]) -> str | None:
    """The column whose name comes first in `wanted`, capitals aside."""
    by_name = {str(c).strip().lower(): c for c in reversed(list(columns))}
    return next((by_name[w] for w in wanted if w in by_name), None)


def _columns(path: str, columns: list[str]) -> tuple[str, str]:
    found = pick(columns, PATH_COLUMNS), pick(columns, LABEL_COLUMNS)
    for what, column, names in zip(("path", "label"), found, (PATH_COLUMNS, LABEL_COLUMNS), strict=True):
        if column is None:
            raise DataError(
                f"labels file '{path}' has no {what} column: its columns are {', '.join(columns)}; "
                f"name one of them {' or '.join(names)}"
            )
    return found  # type: ignore[return-value]


def _read_text(path: str) -> Iterable[tuple[str, str]]:
    if not path.lower().endswith((".csv", ".tsv")):
        raise DataError(f"labels file '{path}' must be .csv, .tsv or .parquet")
    with open(path, encoding="utf-8-sig", newline="") as file:
        rows = csv.reader(file, delimiter="\t" if path.lower().endswith(".tsv") else ",")
        columns = next(rows, [])
        name, label = map(columns.index, _columns(path, columns))
        for row in rows:
            if len(row) > max(name, label):
                yield row[name], row[label].strip()
            elif row:
                raise DataError(f"labels file '{path}', line {rows.line_num}: {len(row)} columns, not {len(columns)}")


def _read_parquet(path: str) -> Iterable[tuple[str, str]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            name, label = _columns(path, file.schema_arrow.names)
            table = file.read(columns=[name, label])
    except pa.ArrowInvalid:
        raise DataError(f"cannot read labels file '{path}': not a Parquet file, or cut short") from None
    for n, v in zip(table[name].to_pylist(), table[label].to_pylist(), strict=True):
        yield str(n), "" if v is None else str(v)


def matched(names: list[str], listing: Listing) -> list[int]:
    """The place of the image each name means, LOST or TWICE: by path first, by bare base name last."""
    names = [name.strip().replace("\\", "/").removeprefix("./") for name in names]
    places = [LOST] * len(names)
    for shorten, cut in ((_same, _same), (_same, _stem), (_base, _base), (_base, _base_stem)):
        todo = [row for row, place in enumerate(places) if place < 0]
        if not todo:
            break
        table: dict[str, int] = {}
        for place in range(listing.count):
            key = cut(listing.key(place))
            table[key] = TWICE if key in table else place
        for row in todo:
            places[row] = table.get(shorten(names[row]), places[row])
    return places


def _same(path: str) -> str:
    return path


def _stem(path: str) -> str:
    return os.path.splitext(path)[0]


def _base(path: str) -> str:
    return path.rpartition("/")[2]


def _base_stem(path: str) -> str:
    return _stem(_base(path))
