"""Where a log lies: text, Parquet, folders of them, Arrow tables and frames, lists. All give batches of columns."""

from __future__ import annotations

import glob
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..errors import DataError
from .listing import EXTENSIONS, few
from .logcolumns import Named
from .logtext import SUFFIXES, is_text, layout, like, read_text, unfolded
from .parquet import holds_bytes
from .remote import is_pattern, is_url

if TYPE_CHECKING:
    import pyarrow as pa

ROWS = 2**18  # of a batch
LOOKED = 10_000  # entries of a folder by which it is known
PHOTOS = {e.decode() for e in EXTENSIONS} | {"tar", "zip", "npy", "npz"}
Batches = Callable[[list[str], Counter[str]], Iterator["pa.RecordBatch"]]


@dataclass(frozen=True)
class Opened:
    """A log that is open. `read` gives batches of the asked columns, and counts what it leaves out.

    events: exact, or for text about how many.
    kinds:  the types that a column has in its files.  text: ids were read as text, whatever they are.
    places: role -> column, where columns have no names.
    """

    name: str
    columns: list[str]
    kinds: Callable[[str], list[pa.DataType]]
    events: int
    read: Batches
    text: bool = False
    places: dict[str, str] | None = None


def open_log(data: Any, named: Named) -> Opened:
    """Raises DataError where data is no log, or cannot be read."""
    if isinstance(data, str | os.PathLike):
        return _from_path(os.path.expanduser(os.fspath(data)), named)
    if _is_pandas(data):
        return _from_pandas(data)
    if hasattr(data, "__arrow_c_stream__"):
        return _from_arrow(data)
    if isinstance(data, Mapping | list | tuple) and data:
        return _from_lists(data)
    raise DataError(
        f"cannot read a log from a {type(data).__name__}: give a path, a frame or Arrow table with columns of users "
        "and items, or a list of histories"
    )


def is_log(data: Any) -> bool:
    """Whether data is an interaction log rather than photos, by its name, first files or columns alone.

    Text files are, a Parquet file without a column of bytes, a folder of such without a photo or archive; tables and
    frames (not Hugging Face datasets); lists and dicts of lists of ids.
    """
    if isinstance(data, str | os.PathLike):
        return _path_is_log(os.path.expanduser(os.fspath(data)))
    if isinstance(data, Mapping | list | tuple):
        first = next(iter(data.values() if isinstance(data, Mapping) else data), None)
        return isinstance(first, list) and bool(first) and all(type(item) in (int, str) for item in first)
    return not hasattr(data, "cast_column") and (_is_pandas(data) or hasattr(data, "__arrow_c_stream__"))


def _path_is_log(path: str) -> bool:
    if is_url(path):
        return False
    if is_pattern(path):
        found = sorted(glob.glob(path))
        return bool(found) and not os.path.isdir(found[0]) and _path_is_log(found[0])
    if not os.path.isdir(path):
        return is_text(path) or (path.lower().endswith(".parquet") and os.path.isfile(path) and _no_bytes(path))
    logs, looked = [], 0
    for folder, folders, files in os.walk(path):
        folders[:] = sorted(f for f in folders if f[0] not in "._")
        for file in sorted(files):
            looked += 1
            if os.path.splitext(file)[1][1:].lower() in PHOTOS:
                return False
            if _part(file):
                logs.append(os.path.join(folder, file))
        if looked > LOOKED:
            break
    return bool(logs) and (is_text(logs[0]) or _no_bytes(logs[0]))


def _no_bytes(path: str) -> bool:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return not any(holds_bytes(field.type) for field in pq.read_schema(path))
    except (pa.ArrowException, OSError):
        return False


def _part(file: str) -> bool:
    """Whether a file of a folder is a part of a log. A .txt, which may be a README, is not looked at there."""
    if file[0] in "._" or file.lower().endswith((".txt", ".txt.gz")):
        return False
    return is_text(file) or file.lower().endswith(".parquet")


def _from_path(path: str, named: Named) -> Opened:
    if is_url(path):
        raise DataError(f"cannot read a log from '{path}': logs are read from files; fetch it first")
    name = os.path.basename(os.path.abspath(path))
    if is_pattern(path):
        files = sorted(glob.glob(path))
    elif os.path.isdir(path):
        files = sorted(os.path.join(f, file) for f, _, names in os.walk(path) for file in names if _part(file))
        kept = [file for file in files if ".inter" in file]  # beside RecBole's tables of users and items
        files = kept or files
    else:
        files = [path] if os.path.exists(path) else []
    if not files:
        raise DataError(f"no log at '{path}': no file of {', '.join(SUFFIXES)} (.gz) or .parquet is there")
    texts = [file for file in files if is_text(file)]
    if texts and len(texts) < len(files):
        some = ", ".join(few(map(os.path.basename, files), 3))
        raise DataError(f"'{path}' holds text and Parquet files, {some}: give files of one kind")
    with errors(path):
        return _from_texts(name, files, named) if texts else _from_parquet(name, files)


class errors:
    """Turns what Arrow and the system say of a file into one line."""

    def __init__(self, path: str):
        self.path = path

    def __enter__(self) -> None: ...

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        import pyarrow as pa

        if isinstance(error, PermissionError):
            raise DataError(f"no permission to read '{self.path}'") from None
        if isinstance(error, pa.ArrowException | OSError | UnicodeError):
            said = str(error).strip().splitlines()[0] if str(error).strip() else kind.__name__
            raise DataError(f"cannot read '{self.path}': {said}") from None


def _from_texts(name: str, files: list[str], named: Named) -> Opened:
    import pyarrow as pa

    first = layout(files[0], named)
    abouts = [first] + [like(file, first, named) for file in files[1:]]
    columns = ["1", "2"] if first.lines else list(first.names)

    def read(chosen: list[str], counted: Counter[str]) -> Iterator[pa.RecordBatch]:
        for file, about in zip(files, abouts, strict=True):
            with errors(file):
                _has(file, list(about.names), chosen)
                yield from read_text(file, about, chosen, counted)

    return Opened(name, columns, lambda _: [pa.string()], sum(a.events for a in abouts), read, True, first.places)


def _from_parquet(name: str, files: list[str]) -> Opened:
    import pyarrow.parquet as pq

    about = [(pq.read_schema(file), pq.read_metadata(file).num_rows) for file in files]
    columns = about[0][0].names

    def read(chosen: list[str], counted: Counter[str]) -> Iterator[pa.RecordBatch]:
        for file, (schema, _) in zip(files, about, strict=True):
            _has(file, schema.names, chosen)
            with errors(file), pq.ParquetFile(file) as opened:
                for batch in opened.iter_batches(ROWS, columns=chosen):
                    yield batch.select(chosen)

    def kinds(column: str) -> list[pa.DataType]:
        return [schema.field(column).type for schema, _ in about if column in schema.names]

    return Opened(name, columns, kinds, sum(rows for _, rows in about), read)


def _has(file: str, columns: list[str], chosen: list[str]) -> None:
    for missing in set(chosen) - set(columns):
        raise DataError(f"'{file}' has no column '{missing}', as the first file has; it has {', '.join(columns)}")


def _from_arrow(data: Any) -> Opened:
    import pyarrow as pa

    reader = pa.RecordBatchReader.from_stream(data)
    events = getattr(data, "num_rows", None) or (len(data) if hasattr(data, "__len__") else 0)

    def kinds(column: str) -> list[pa.DataType]:
        return [reader.schema.field(column).type]

    return Opened(type(data).__name__, reader.schema.names, kinds, events, lambda chosen, _: _sliced(reader, chosen))


def _is_pandas(data: Any) -> bool:
    return type(data).__name__ == "DataFrame" and type(data).__module__.startswith("pandas")


def _from_pandas(frame: Any) -> Opened:
    """Column by column: a frame may hold others that Arrow cannot."""
    import pyarrow as pa

    frame = frame.rename(columns=str)

    def kinds(column: str) -> list[pa.DataType]:
        return [pa.Array.from_pandas(frame[column].dropna().head(100)).type]

    def read(chosen: list[str], _: Counter[str]) -> Iterator[pa.RecordBatch]:
        with errors("DataFrame"):
            table = pa.Table.from_pandas(frame[chosen], preserve_index=False)
        return _sliced(table.to_reader(), chosen)

    return Opened("DataFrame", list(frame.columns), kinds, len(frame), read)


def _sliced(reader: Any, chosen: list[str]) -> Iterator[pa.RecordBatch]:
    for batch in reader:
        for begin in range(0, batch.num_rows, ROWS):
            yield batch.slice(begin, ROWS).select(chosen)


def _from_lists(data: Any) -> Opened:
    """{user: items} or a list of items for each user, who then are numbers."""
    import pyarrow as pa

    users = list(data) if isinstance(data, Mapping) else range(len(data))
    try:
        names = pa.array(users)
        items = pa.array([list(history) for history in (data.values() if isinstance(data, Mapping) else data)])
        kind = items.type.value_type
    except (pa.ArrowException, TypeError, AttributeError):
        raise DataError("a list of histories holds lists of ids, all whole numbers or all text") from None
    types = {"user": names.type, "item": kind}

    def read(chosen: list[str], counted: Counter[str]) -> Iterator[pa.RecordBatch]:
        yield unfolded(names, items, ["user", "item"], counted).select(chosen)

    return Opened("histories", ["user", "item"], lambda c: [types[c]], len(items.flatten()), read)
