"""Tables of columns for graphs: Parquet, or text that says by its first lines how it is laid out."""

from __future__ import annotations

import csv
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..errors import DataError
from .logcolumns import decoded, plain
from .logfiles import ROWS, errors
from .logtext import BLOCK, EXPANDS, INVALID, NUMBER, PACKED, is_text, split_by, trimmed

if TYPE_CHECKING:
    import pyarrow as pa

HEAD = 2**14  # bytes by which a file is known
LISTS = (".edgelist", ".edges")  # a plain list of edges, whatever its name
ENDS = "src dst,source target,from to,head tail,u v,source destination,fromnode tonode,subject object,node1 node2"
PAIRS = [tuple(pair.split()) for pair in ENDS.split(",")]
WEIGHTS = ("weight", "weights", "edgeweight", "w")
COMMENT = re.compile(r"[#%]([#%\s]|$)")  # "#tag" may be a node
WHOLE = re.compile(r"0|-?[1-9]\d{0,18}")
NOTHING = ["", "\\N"]  # "null" is a word, and may be a node


@dataclass(frozen=True)
class Table:
    """A file, or a folder of parts, with columns; of text without a header they are called 1, 2, 3 ...

    rows:  exact, of text about how many.
    whole, numbers: columns of whole numbers and of any, of text as far as its beginning shows.
    read:  batches of some columns, of text as strings; what is left out is counted.
    """

    path: str
    columns: tuple[str, ...]
    header: bool
    rows: int
    whole: frozenset[str]
    numbers: frozenset[str]
    read: Callable[[list[str], Counter[str]], Iterator[pa.RecordBatch]]


def stem(path: str) -> str:
    """A file's name without the suffixes of tables and of packing."""
    name = os.path.basename(os.path.normpath(path))
    if name.lower().endswith(PACKED):
        name = os.path.splitext(name)[0]
    return os.path.splitext(name)[0] if is_table(name) else name


def is_table(file: str) -> bool:
    file = os.path.basename(os.path.normpath(file))
    bare = os.path.splitext(file)[0] if file.lower().endswith(PACKED) else file
    return file[0] not in "._" and (is_text(file) or bare.lower().endswith((".parquet", *LISTS)))


def usual_ends(columns: tuple[str, ...], triple: tuple[str, str, str] | None = None) -> tuple[str, str] | None:
    """The columns that are called as ends of edges usually are, or as the two types of a relation."""
    known = {plain(column).removesuffix("id") or "id": column for column in reversed(columns)}
    types = (plain(triple[0]), plain(triple[2])) if triple else ("", "")
    for first, second in [*PAIRS, types]:
        if first != second and first in known and second in known:
            return known[first], known[second]
    return None


def open_table(path: str, known: tuple[str, ...] = (), triple: tuple[str, str, str] | None = None) -> Table:
    """known: words by which a header is known, beside the usual names of ends, of a relation also its types.

    Raises DataError.
    """
    with errors(path):
        if os.path.isdir(path):
            files = [os.path.join(path, file) for file in sorted(os.listdir(path)) if is_table(file)]
            if not files:
                raise DataError(f"'{path}' is an empty folder: it should hold the parts of a table")
        else:
            files = [path]
        if files[0].lower().endswith(".parquet"):
            return _parquet(path, files)
        tables = [_text(file, known, triple) for file in files]
    first = tables[0]

    def read(columns: list[str], counted: Counter[str]) -> Iterator[pa.RecordBatch]:
        for table in tables:
            with errors(table.path):
                yield from table.read(columns, counted)

    whole = frozenset.intersection(*(table.whole for table in tables))
    numbers = frozenset.intersection(*(table.numbers for table in tables))
    return Table(path, first.columns, first.header, sum(table.rows for table in tables), whole, numbers, read)


def _parquet(path: str, files: list[str]) -> Table:
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pq.read_schema(files[0])
    types = {name: kind.value_type if pa.types.is_dictionary(kind) else kind for name, kind in _types(schema)}
    whole = [name for name, kind in types.items() if pa.types.is_integer(kind) or pa.types.is_floating(kind)]

    def read(columns: list[str], counted: Counter[str]) -> Iterator[pa.RecordBatch]:
        for file in files:
            with errors(file), pq.ParquetFile(file) as opened:
                for batch in opened.iter_batches(ROWS, columns=columns):
                    yield pa.record_batch([decoded(batch.column(name)) for name in columns], names=columns)

    rows = sum(pq.read_metadata(file).num_rows for file in files)
    return Table(path, tuple(schema.names), True, rows, frozenset(whole), frozenset(whole), read)


def _types(schema: pa.Schema) -> list[tuple[str, Any]]:
    return [(entry.name, entry.type) for entry in schema]


def _text(path: str, known: tuple[str, ...], triple: tuple[str, str, str] | None) -> Table:
    """Text with one separator: tab, comma, semicolon, bar or blanks. Comments may come before it."""
    import pyarrow as pa

    with pa.input_stream(path, compression="detect") as file:
        head = file.read(HEAD)
        while len(head) < HEAD and (more := file.read(HEAD - len(head))):  # packed files come in pieces
            head += more
    if b"\0" in head:
        raise DataError(f"'{path}' is not text in UTF-8; write it again as UTF-8")
    lines = [line.rstrip("\r") for line in head.decode("utf-8-sig", "replace").split("\n")]
    lines = lines[:-1] if len(head) == HEAD and len(lines) > 1 else lines
    skipped = next((i for i, line in enumerate(lines) if line.strip() and not COMMENT.match(line)), len(lines))
    said, lines = lines[:skipped], [line for line in lines[skipped:] if line.strip()]
    if not lines:
        raise DataError(f"'{path}' is empty")
    mark = next((mark for mark in "\t,;| " if mark in lines[0]), "\t")
    quote = '"' if mark in ",;|" else None
    cells = list(csv.reader(lines, delimiter=mark, quotechar=quote, quoting=0 if quote else csv.QUOTE_NONE))
    cells = [line.split() for line in lines] if mark == " " else cells
    first, fields = [cell.strip() for cell in cells[0]], Counter(map(len, cells)).most_common(1)[0][0]
    header = _is_header(first, cells[1:], known, triple)
    above = re.split(r"[\t,;| ]+", said[-1].lstrip("#% ").strip()) if said else []
    above_named = not header and len(above) == fields and usual_ends(tuple(above))
    names = tuple(first if header else above if above_named else map(str, range(1, fields + 1)))
    size = os.path.getsize(path) * (EXPANDS if path.lower().endswith(PACKED) else 1)
    about = int(size * len(cells) / sum(len(line.encode()) + 1 for line in lines))
    body = [row for row in cells[header:] if len(row) == len(names)]
    filled = {name: [row[i].strip() for row in body if row[i]] for i, name in enumerate(names)}
    whole, numbers = (
        frozenset(name for name, column in filled.items() if column and all(map(pattern.fullmatch, column)))
        for pattern in (WHOLE, NUMBER)
    )
    spaced = any(cell != cell.strip() for row in cells for cell in row) or (mark == " " and "  " in "\n".join(lines))

    def read(columns: list[str], counted: Counter[str]) -> Iterator[pa.RecordBatch]:
        if not spaced:
            yield from _batches(path, mark, quote, names, skipped + header, columns, counted)
        elif mark == " ":
            for batch in _batches(path, "\x01", None, ("line",), skipped + header, ["line"], counted):
                yield split_by(batch.column(0), names, columns, counted)
        else:
            for batch in _batches(path, mark, quote, names, skipped + header, columns, counted):
                yield trimmed(batch)

    return Table(path, names, header or bool(above_named), about, whole, numbers, read)


def _is_header(
    first: list[str], rows: list[list[str]], known: tuple[str, ...], triple: tuple[str, str, str] | None
) -> bool:
    """Names of columns hold no number; they are known, or numbers follow below one of them."""
    if any(NUMBER.fullmatch(cell) for cell in first):
        return False
    if usual_ends(tuple(first), triple) or any(cell in known or plain(cell) in known for cell in first):
        return True
    rows = [row for row in rows if len(row) == len(first)]
    return bool(rows) and any(all(NUMBER.fullmatch(row[i].strip()) for row in rows) for i in range(len(first)))


def _batches(
    path: str,
    mark: str,
    quote: str | None,
    names: tuple[str, ...],
    skipped: int,
    columns: list[str],
    counted: Counter[str],
) -> Iterator[pa.RecordBatch]:
    """Columns as strings, null where empty. Rows of another number of fields are left out and counted."""
    import pyarrow as pa
    from pyarrow import csv as arrow

    def skip(row: Any) -> Any:
        counted[INVALID] += 1
        return "skip"

    reading = arrow.ReadOptions(column_names=list(names), skip_rows=skipped, block_size=BLOCK)
    parsing = arrow.ParseOptions(delimiter=mark, quote_char=quote or False, invalid_row_handler=skip)
    converting = arrow.ConvertOptions(
        include_columns=columns,
        column_types={name: pa.string() for name in columns},
        strings_can_be_null=True,
        null_values=NOTHING,
    )
    with arrow.open_csv(path, reading, parsing, converting) as reader:
        yield from reader
