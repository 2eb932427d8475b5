"""What is known of recordings and videos beside themselves: labels, speakers and splits.

They are columns of text with one value a recording: of a table (.csv, .tsv, .parquet), of fields of the file names, or
of the data itself where it is Parquet.
"""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..errors import DataError, UserError, unknown
from .labels import LABEL_COLUMNS, LOST, PATH_COLUMNS, TWICE, encode, matched, pick, reading
from .listing import SPLITS, few
from .mediafiles import SOUND, VIDEO, Recordings

PATHS = (*PATH_COLUMNS, "audio", "sound", "wav", "clip", "recording", "video")
SPEAKERS = ("speaker", "speaker_id")
SPLIT_COLUMNS = ("split", "subset")
CLASSES = 1_000  # whole numbers below it may name classes; larger ones count or measure
Columns = dict[str, list[str | None]]


@dataclass
class Known:
    """labels, speakers: (N,) int64 with -1 for "not known", or None; split: (N,) int8 places in `splits`, -1 for none.

    said: what matching found, in words.
    """

    labels: np.ndarray | None = None
    classes: list[str] | None = None
    speakers: np.ndarray | None = None
    voices: list[str] | None = None
    splits: Sequence[str] = ()
    split: np.ndarray | None = None
    said: list[str] = field(default_factory=list)


def known(listing: Recordings, labels: Any, label: str | None = None, speaker: str | None = None) -> Known:
    """What `labels` (see `sounds`) says of the recordings, or the data itself where it is None.

    Raises DataError for a table or a pattern that fits no recording, UserError for a column that is not there.
    """
    out = Known(listing.labels, listing.classes, splits=listing.splits, split=listing.split)
    columns: Columns = listing.columns
    if isinstance(labels, str) and "{" in labels:
        columns = _fields(labels, listing, out.said)
    elif isinstance(labels, str | os.PathLike):
        columns = _matched(labels, listing, out.said)
    elif labels is not None:
        if len(labels) != listing.count:
            raise DataError(f"{listing.count:,} {listing.many} but {len(labels):,} labels")
        out.labels, out.classes = encode(labels)
    if not columns:
        if label or speaker:
            what = f"label={label!r}" if label else f"speaker={speaker!r}"
            raise UserError(
                f"{what} names a column, and there are none; give labels=, a table or a pattern of file names"
            )
        return out
    for name in (label, speaker):
        if name is not None and name not in columns:
            raise unknown("column", name, columns)
    voice, part = speaker or pick(columns, SPEAKERS), pick(columns, SPLIT_COLUMNS)
    if voice is not None:
        out.speakers, out.voices = _codes(columns[voice])
    rest = {name: values for name, values in columns.items() if name not in (voice, part)}
    label = label or _usual(rest) or voice
    if label is not None:
        out.labels, out.classes = _codes(columns[label])
    else:
        out.said.append(
            f"none of the columns is seen to be the label; choose one by data.label=: {', '.join(few(rest, 10))}"
        )
    if part is not None:
        words = [value.strip() if value else "" for value in columns[part]]
        out.splits = sorted(set(words) - {""}, key=lambda w: (SPLITS.index(w) if w in SPLITS else len(SPLITS), w))
        code = {word: i for i, word in enumerate(out.splits)}
        out.split = np.array([code.get(word, -1) for word in words], np.int8)
    return out


def _codes(values: list[str | None]) -> tuple[np.ndarray, list[str]]:
    return encode(np.array(values, object))


def _usual(columns: Columns) -> str | None:
    """The column called label or the like, else the first of few words or small whole numbers that come again."""
    return pick(columns, LABEL_COLUMNS) or next(
        (name for name, values in columns.items() if _categorical(values)), None
    )


def _categorical(values: list[str | None]) -> bool:
    distinct = {v for v in values if v}
    if not 2 <= len(distinct) <= sum(1 for v in values if v) / 2:
        return False
    return all(_word(v) or (v.isdecimal() and int(v) < CLASSES) for v in distinct)


def _word(value: str) -> bool:
    try:
        float(value)
    except ValueError:
        return True
    return False


def _fields(pattern: str, listing: Recordings, said: list[str]) -> Columns:
    """Fields of the file names, as "{digit}_{speaker}_{_}" says; as many last parts of the path as it has."""
    stem, ending = os.path.splitext(pattern)
    parts = re.split(r"\{(\w*)\}", stem if ending[1:].lower().encode() in SOUND.endings | VIDEO.endings else pattern)
    names = [name for name in parts[1::2] if name != "_"]
    if not names or not all(map(str.isidentifier, names)) or len(set(names)) < len(names) or "{" in "".join(parts[::2]):
        raise UserError(f"labels={pattern!r} must name each field once, such as '{{digit}}_{{speaker}}_{{_}}'")
    groups = [rf"(?P<{name}>[^/]+?)" if name != "_" else "[^/]+?" for name in parts[1::2]]
    text = [re.escape(part) for part in parts[::2]]
    form = re.compile("(?:.*/)?" + text[0] + "".join(map("".join, zip(groups, text[1:], strict=True))))
    columns: Columns = {name: [None] * listing.count for name in names}
    strangers = []
    for place in range(listing.count):
        key = listing.key(place)
        found = form.fullmatch(os.path.splitext(key)[0])
        if found is None:
            strangers.append(key)
            continue
        for name, value in found.groupdict().items():
            columns[name][place] = value
    if len(strangers) == listing.count:
        raise DataError(f"labels={pattern!r} fits none of {listing.count:,} names, the first is '{strangers[0]}'")
    if strangers:
        said.append(f"{len(strangers):,} names do not fit {pattern!r} and have no label, the first '{strangers[0]}'")
    return columns


def _matched(path: str | os.PathLike, listing: Recordings, said: list[str]) -> Columns:
    """The columns of a table, in the order of the recordings. Rows name them as in `labels.read_labels`."""
    path = os.path.expanduser(os.fspath(path))
    table = read_table(path)
    name = pick(table, PATHS)
    if name is None:
        raise DataError(
            f"labels file '{path}' has no column of paths: its columns are {', '.join(table)}; "
            f"name one of them {' or '.join(PATHS[:3])}"
        )
    paths = [value or "" for value in table.pop(name)]
    if not paths:
        raise DataError(f"labels file '{path}' has no rows")
    places = np.array(matched(paths, listing))
    if (places == TWICE).any():
        row = int(np.argmax(places == TWICE))
        raise DataError(
            f"labels file '{path}': '{paths[row]}' names more than one of the {listing.many} of {listing.name}; "
            "give paths relative to the data"
        )
    if (places == LOST).all():
        raise DataError(
            f"labels file '{path}': none of its {len(paths):,} rows names one of the {listing.many} of {listing.name}, "
            f"the first is '{paths[0]}'; they are named like '{listing.key(0)}'"
        )
    if lost := int((places == LOST).sum()):
        row = int(np.argmax(places == LOST))
        said.append(f"{lost:,} of {len(paths):,} rows of '{path}' name none of them, the first '{paths[row]}'")
    rows = np.full(listing.count, -1)
    for row in np.flatnonzero(places >= 0).tolist():
        before = rows[places[row]]
        if before >= 0 and any(values[before] != values[row] for values in table.values()):
            raise DataError(f"labels file '{path}' names '{paths[row]}' twice, in rows that differ")
        rows[places[row]] = row
    if missing := int((rows < 0).sum()):
        first = listing.key(int(np.argmax(rows < 0)))
        said.append(f"{missing:,} {listing.many} are in no row of '{path}' and have no label, the first '{first}'")
    return {key: [None if row < 0 else values[row] for row in rows.tolist()] for key, values in table.items()}


def read_table(path: str) -> Columns:
    """The columns of a .csv, .tsv or .parquet file as text. Raises DataError."""
    with reading(path):
        if path.lower().endswith(".parquet"):
            return _parquet(path)
        if not path.lower().endswith((".csv", ".tsv")):
            raise DataError(
                f"labels '{path}' must be a .csv, .tsv or .parquet file, or a pattern such as '{{label}}_{{_}}'"
            )
        with open(path, encoding="utf-8-sig", newline="") as file:
            rows = csv.reader(file, delimiter="\t" if path.lower().endswith(".tsv") else ",")
            names = [name.strip() for name in next(rows, [])]
            columns: list[list[str | None]] = [[] for _ in names]
            for row in rows:
                if len(row) != len(names) and row:
                    raise DataError(f"labels file '{path}', line {rows.line_num}: {len(row)} columns, not {len(names)}")
                for column, value in zip(columns, row, strict=False):
                    column.append(value.strip())
            return dict(zip(names, columns, strict=True))


def _parquet(path: str) -> Columns:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            table = file.read()
    except pa.ArrowInvalid:
        raise DataError(f"cannot read labels file '{path}': not a Parquet file, or cut short") from None
    return {name: as_text(table[name].to_pylist()) for name in table.column_names}


def as_text(values: list[Any]) -> list[str | None]:
    return [None if value is None else str(value) for value in values]
