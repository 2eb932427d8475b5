"""Interaction logs as text: .csv, .tsv, RecBole's .inter, lines of `user item` or of one user each; plain or packed.

A file says by its first lines how it is laid out. Ids are read as text: what they are is decided when all are known.
"""

from __future__ import annotations

import csv
import os
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ..errors import DataError
from .logcolumns import NAMES, Named, plain

if TYPE_CHECKING:
    import pyarrow as pa

SUFFIXES = (".csv", ".tsv", ".txt", ".inter", ".dat")
PACKED = (".gz", ".bz2", ".zst")
EMPTY = ["", "null", "NULL", "None", "nan", "NaN", "NA", "N/A", "\\N"]  # what stands for nothing
HEAD = 2**18  # bytes by which a file is known
BLOCK = 2**24  # bytes parsed at once, and the longest line
EXPANDS = 4  # what packed text grows by, about
FIELDS = 6  # a file without a header and with more fields holds one user a line
RAGGED = 0.9  # share of lines that have as many fields as the most, below which a file holds one user a line
KNOWN = {name for names in NAMES.values() for name in names}
NUMBER = re.compile(r"[+-]?\d+(\.\d+)?([eE][+-]?\d+)?")
MOMENT = re.compile(r"\d{9,}(\.\d+)?|\d{4}-\d\d-\d\d.*")  # seconds of 1973 and later, or a date
INVALID = "rows of another number of fields"
ALONE = "users without an item"


@dataclass(frozen=True)
class Layout:
    """How a text file is laid out.

    names:  of its columns, or their numbers from 1 where there is no header.
    places: role -> column, where there is no header.
    lines:  one user a line, then all their items.
    events: about how many the file holds.
    quoted: fields may hold line breaks.  spaced: fields have blanks around them, or several between them.
    """

    delimiter: str
    names: tuple[str, ...]
    places: dict[str, str] | None
    lines: bool
    events: int
    quoted: bool
    spaced: bool


def is_text(path: str) -> bool:
    lower = path.lower()
    return os.path.splitext(lower if not lower.endswith(PACKED) else os.path.splitext(lower)[0])[1] in SUFFIXES


def layout(path: str, named: Named) -> Layout:
    """A file's layout, by its first lines. Raises DataError where it is empty or no text."""
    import pyarrow as pa

    with pa.input_stream(path, compression="detect") as file:
        head = file.read(HEAD)
        while len(head) < HEAD and (more := file.read(HEAD - len(head))):  # packed files come in pieces
            head += more
    if b"\0" in head:
        raise DataError(f"'{path}' is not text in UTF-8; write it again as UTF-8")
    text = head.decode("utf-8-sig", "replace")
    lines = [line for line in text.splitlines() if line.strip()]
    lines = lines[:-1] if len(head) == HEAD and len(lines) > 1 else lines
    if not lines:
        raise DataError(f"no events in '{path}': it is empty")
    delimiter = next((d for d in ("\t", "::", ",", ";", "|", " ") if d in lines[0]), None)
    if delimiter is None:
        raise DataError(
            f"'{path}' has one column, '{lines[0][:40]}'; a log has users and items, with , ; | or tab between"
        )
    rows = _cells(lines, delimiter)
    first = [cell.strip() for cell in rows[0]]
    size = os.path.getsize(path) * (EXPANDS if path.lower().endswith(PACKED) else 1)
    share = size / sum(len(line.encode()) + 1 for line in lines)
    header = _is_header(first, rows, named)
    fields, same = Counter(map(len, rows)).most_common(1)[0]
    each = not header and (same < RAGGED * len(rows) or fields > FIELDS)
    if each and fields == 1:
        raise DataError(f"no line of '{path}' has a user and an item")
    events = int(share * (sum(len(row) - 1 for row in rows) if each else len(rows)))
    names = tuple(first if header else (str(i + 1) for i in range(fields)))
    places = None if header else _places(rows, fields, each)
    spaced = any(cell != cell.strip() for row in rows for cell in row) if delimiter != " " else "  " in text
    return Layout(delimiter, names, places, each, events, '"' in text, spaced)


def _cells(lines: list[str], delimiter: str) -> list[list[str]]:
    if delimiter in ("::", " "):
        return [line.split(delimiter.strip() or None) for line in lines]
    return [row for row in csv.reader(lines, delimiter=delimiter) if row]


def _is_header(first: list[str], rows: list[list[str]], named: Named) -> bool:
    if any(NUMBER.fullmatch(cell) for cell in first):
        return False
    wanted = {str(name) for name in named.values() if name}
    if any(plain(cell) in KNOWN or cell in wanted for cell in first):
        return True
    if any(MOMENT.fullmatch(cell) for cell in first):
        return False
    return any(kind.fullmatch(cell.strip()) for kind in (NUMBER, MOMENT) for row in rows[1:2] for cell in row)


def _places(rows: list[list[str]], fields: int, lines: bool) -> dict[str, str]:
    """User, item; of what follows the first column of moments is the time and the first other the weight."""
    places = {"user": "1", "item": "2"}
    for place in range(2, 0 if lines else fields):
        cells = [row[place].strip() for row in rows if len(row) == fields]
        places.setdefault("time" if all(map(MOMENT.fullmatch, cells)) else "weight", str(place + 1))
    return places


def like(path: str, first: Layout, named: Named) -> Layout:
    """The layout of a further file of a folder: without a header of its own it has the first one's columns."""
    own = layout(path, named)
    return own if own.places is None else replace(own, names=first.names, lines=first.lines)


def read_text(path: str, about: Layout, columns: list[str], counted: Counter[str]) -> Iterator[pa.RecordBatch]:
    """Batches of the asked columns, as text with nulls. Rows of another number of fields are left out and counted."""
    import pyarrow as pa
    from pyarrow import csv as arrow

    def skip(row: Any) -> Any:
        counted[INVALID] += 1
        return "skip"

    names, delimiter, own = list(about.names), about.delimiter, columns
    blanks = about.spaced and delimiter == " "
    if about.lines or blanks:
        names, delimiter, own = ["line"], "\x01", ["line"]
    elif delimiter == "::":  # a parser of one character sees an empty column in each
        names = [name for column in names for name in (column, column + "::")][:-1]
        delimiter = ":"
    reading = arrow.ReadOptions(column_names=names, skip_rows=int(about.places is None), block_size=BLOCK)
    parsing = arrow.ParseOptions(
        delimiter=delimiter,
        quote_char=False if own == ["line"] else '"',
        newlines_in_values=about.quoted and own != ["line"],
        invalid_row_handler=skip,
    )
    converting = arrow.ConvertOptions(
        include_columns=own,
        column_types={name: pa.string() for name in own},
        strings_can_be_null=True,
        null_values=EMPTY,
    )
    with arrow.open_csv(path, reading, parsing, converting) as reader:
        for batch in reader:
            if about.lines:
                batch = one_a_line(batch.column(0), about.delimiter, columns, counted)
            elif blanks:
                batch = split_by(batch.column(0), about.names, columns, counted)
            elif about.spaced:
                batch = trimmed(batch)
            yield batch


def one_a_line(lines: Any, delimiter: str, columns: list[str], counted: Counter[str]) -> pa.RecordBatch:
    """`user item item ...` as rows of user and item."""
    import pyarrow.compute as pc

    lines = pc.utf8_trim_whitespace(lines)
    words = pc.utf8_split_whitespace(lines) if delimiter in " \t" else pc.split_pattern(lines, delimiter)
    return unfolded(pc.list_element(words, 0), pc.list_slice(words, 1, return_fixed_size_list=False), columns, counted)


def unfolded(users: pa.Array, items: Any, columns: list[str], counted: Counter[str]) -> pa.RecordBatch:
    """One row an item of lists of items."""
    import pyarrow as pa
    import pyarrow.compute as pc

    counted[ALONE] += int((pc.fill_null(pc.list_value_length(items), 0).to_numpy(zero_copy_only=False) <= 0).sum())
    rows = [users.take(pc.list_parent_indices(items)), pc.list_flatten(items)]
    return pa.record_batch(rows, names=columns)


def split_by(lines: Any, names: tuple[str, ...], columns: list[str], counted: Counter[str]) -> pa.RecordBatch:
    """Columns of lines with any number of blanks between fields."""
    import pyarrow as pa
    import pyarrow.compute as pc

    words: Any = pc.utf8_split_whitespace(pc.utf8_trim_whitespace(lines))
    whole = pc.equal(pc.list_value_length(words), pa.scalar(len(names), pa.int32()))
    counted[INVALID] += len(lines) - (pc.sum(whole).as_py() or 0)
    words = words.filter(whole)
    return pa.record_batch([pc.list_element(words, names.index(name)) for name in columns], names=columns)


def trimmed(batch: pa.RecordBatch) -> pa.RecordBatch:
    import pyarrow as pa
    import pyarrow.compute as pc

    return pa.record_batch([pc.utf8_trim_whitespace(column) for column in batch.columns], names=batch.schema.names)
