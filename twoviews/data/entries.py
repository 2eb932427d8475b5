"""What the rows of a run's table of vectors stand for: RUN/entries.parquet, nodes by type and id, or words.

type   of a node, a dictionary of text; words have no such column
id     text or whole numbers, as in the data
name   to be shown beside the id, null where there is none; only where the data holds names
count  how often a row is met in an epoch; one that never is keeps the vector it began with
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import DataError, UserError, unknown
from .graph import Graph
from .vocabulary import COMPARED, near, read_table

if TYPE_CHECKING:
    import pyarrow as pa

FILE = "entries.parquet"
NONE, SEVERAL = -1, -2  # in the place of a row
LISTED = 4  # rows of one name that an error lists


@dataclass(frozen=True, eq=False)
class Entries:
    """types: T names, None for words.  kinds: (V,) uint8 places in them, None for words.  ids: (V,) text or int64.
    counts: (V,) int64.  names: (V,) text, null where there is none, or None.
    """

    types: tuple[str, ...] | None
    kinds: np.ndarray | None
    ids: pa.Array
    counts: np.ndarray
    names: pa.Array | None = None

    def __len__(self) -> int:
        return len(self.ids)

    @cached_property
    def typed(self) -> bool:
        """Whether an id needs its type beside it."""
        return self.types is not None and len(self.types) > 1

    @cached_property
    def numbers(self) -> np.ndarray:
        """(V,) uint8: the types of nodes, 0 of words."""
        return np.zeros(len(self), np.uint8) if self.kinds is None else self.kinds

    def key(self, row: int) -> str:
        """TYPE/ID; of words, and of a graph with one type, the id alone."""
        return self.keys(np.array([row]))[0]

    def keys(self, rows: np.ndarray) -> list[str]:
        ids = self.ids.take(rows).to_pylist()
        if not self.typed:
            return list(map(str, ids))
        return [f"{kind}/{each}" for kind, each in zip(self.kinds_of(rows).to_pylist(), ids, strict=True)]

    def name(self, row: int) -> str | None:
        return None if self.names is None else self.names[row].as_py()

    def kinds_of(self, rows: np.ndarray) -> Any:
        """The types of some rows of a graph, as a dictionary array."""
        import pyarrow as pa

        numbers: Any = self.numbers[rows]
        return pa.DictionaryArray.from_arrays(numbers, list(self.types or ()))

    def columns(self, rows: np.ndarray) -> dict[str, Any]:
        """type, id and name of some rows, as far as there are any."""
        out = {} if self.types is None else {"type": self.kinds_of(rows)}
        out["id"] = self.ids.take(rows)
        return out if self.names is None else out | {"name": self.names.take(rows)}

    def number(self, kind: str) -> int:
        """The place of a type. Raises UserError when there is none of that name."""
        if self.types is None:
            raise UserError(f"words have no types, got '{kind}': leave the type out")
        if kind not in self.types:
            raise unknown("type", kind, self.types)
        return self.types.index(kind)

    def of(self, kind: str | None) -> np.ndarray:
        """The rows of a type, ascending; all for None."""
        return np.arange(len(self)) if kind is None else np.flatnonzero(self.kinds == self.number(kind))

    def place(self, text: Any, kind: str | None = None) -> int:
        """The row of one entry. Raises UserError when there is none, with near names, or when it may be several.

        text: TYPE/ID, an id that one type has alone, or a name that one row has alone. 7 and "7" are one id.
        kind: the only type that counts.
        """
        row = int(self.places([text], kind)[0])
        if row < 0:
            raise UserError(self.trouble(text, kind))
        return row

    def places(self, texts: Sequence[Any], kind: str | None = None) -> np.ndarray:
        """(Q,) int64: the rows of many entries as `place` finds them, below 0 where it finds none or several."""
        texts = list(map(str, texts))
        out = np.full(len(texts), NONE, np.int64)
        own = np.full(len(texts), NONE if kind is None else self.number(kind))
        parts = [text.partition("/") for text in texts]
        heads = np.array([self.types.index(h) if self.types and h in self.types else NONE for h, _, _ in parts], int)
        heads[(own != NONE) & (heads != own)] = NONE
        tails = [tail for _, _, tail in parts]
        for known in (self.ids, self.names):
            for words, kinds, open_ in ((tails, heads, heads != NONE), (texts, own, np.ones(len(texts), bool))):
                todo = np.flatnonzero((out == NONE) & open_)
                if known is not None and len(todo):
                    out[todo] = self._rows([words[i] for i in todo], kinds[todo], known)
        return out

    def _rows(self, words: list[str], kinds: np.ndarray, known: pa.Array) -> np.ndarray:
        """(Q,) the one row that holds each word in a column, of a type or (NONE) of any; NONE, or SEVERAL."""
        distinct = {word: code for code, word in enumerate(dict.fromkeys(words))}
        rows, which = hits(list(distinct), known)
        every = len(self.types or [""])  # the number that stands for any type
        of, first = self.numbers[rows].astype(np.int64), which * (every + 1)
        keys, at, many = np.unique(np.concatenate([first + of, first + every]), return_index=True, return_counts=True)
        if not len(keys):
            return np.full(len(words), NONE)
        asked = np.array([distinct[word] for word in words]) * (every + 1) + np.where(kinds == NONE, every, kinds)
        place = np.minimum(np.searchsorted(keys, asked), len(keys) - 1)
        found = np.where(many[place] == 1, rows[at[place] % len(rows)], SEVERAL)
        return np.where(keys[place] == asked, found, NONE)

    def trouble(self, text: Any, kind: str | None = None) -> str:
        """Why an entry is not found, in one line."""
        import pyarrow as pa

        text = str(text)
        head, _, tail = text.partition("/")
        if kind is None and self.types and head in self.types:
            text, kind = tail, head
        of = self.of(kind)
        for known, what in ((self.ids, "ids"), (self.names, "names")):
            rows = np.empty(0, np.int64) if known is None else hits([text], known)[0]
            rows = rows[np.isin(rows, of)]
            if len(rows) > 1:
                keys = self.keys(rows[:LISTED])
                more = f" and {len(rows) - LISTED:,} more" if len(rows) > LISTED else ""
                shared = f"is an id of {len(rows):,} types" if what == "ids" else f"names {len(rows):,} entries"
                return f"'{text}' {shared}: write {' or '.join(keys)}{more}"
        shown = [self.ids.take(of[: COMPARED // 2]).cast(pa.string())]
        if self.names is not None:
            shown.insert(0, self.names.take(of).drop_null()[: COMPARED // 2].cast(pa.string()))
        what = "word" if self.types is None else kind or "node"
        return f"the model knows no {what} '{text}'; {near(text, pa.concat_arrays(shown))}"

    def write(self, folder: Path) -> Path:
        """Write FOLDER/entries.parquet, whole or not at all."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        table = pa.table(self.columns(np.arange(len(self))) | {"count": pa.array(self.counts, pa.int64())})
        table = table.replace_schema_metadata({"types": json.dumps(self.types)})  # also those that no row is of
        final = folder / FILE
        temporary = final.with_suffix(".tmp")
        pq.write_table(table, temporary)
        os.replace(temporary, final)
        return final


def read_entries(folder: str | Path) -> Entries:
    """What the rows of a run's table stand for. Raises UserError when its folder does not say."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    path = Path(folder) / FILE
    try:
        with pq.ParquetFile(path) as file:
            table = file.read()
        types = json.loads((table.schema.metadata or {}).get(b"types", b"null"))
        columns = {name: table[name].combine_chunks() for name in table.column_names}
        kinds = None
        if "type" in columns:
            said = columns["type"].dictionary_encode()
            types = types or said.dictionary.to_pylist()
            codes = pc.index_in(said.dictionary, value_set=pa.array(types, said.dictionary.type)).to_numpy()
            kinds = codes.astype(np.uint8)[said.indices.to_numpy()]
        counts = columns["count"].to_numpy().astype(np.int64)
        return Entries(None if kinds is None else tuple(types), kinds, columns["id"], counts, columns.get("name"))
    except FileNotFoundError:
        raise UserError(
            f"{folder} has no {FILE}: it was not trained on a graph or a text, or its training has not begun"
        ) from None
    except (OSError, ValueError, KeyError, TypeError) as error:  # ArrowInvalid is a ValueError
        raise UserError(f"{path} cannot be read ({' '.join(str(error).split())})") from None


def read_texts(data: str | os.PathLike) -> list[str]:
    """The entries that a file names: a line each, or a table with a column `id` and maybe one `type`, as TYPE/ID.

    What is no file is an entry itself. Raises DataError where the file is missing or holds something else.
    """
    path = os.path.expanduser(os.fspath(data))
    if not os.path.isfile(path):
        if path.lower().endswith((".parquet", ".csv", ".tsv", ".txt")):
            raise DataError(f"no file '{path}'")
        return [path]
    if not path.lower().endswith(".parquet"):
        with open(path, encoding="utf-8-sig", errors="replace") as file:
            lines = list(map(str.strip, file))
        if not lines or "id" not in re.split(r"[\t;,]", lines[0]):
            return list(filter(None, lines))
    table = read_table(path, "entries")
    if "id" not in table.column_names:
        raise DataError(f"'{path}' has no column 'id': its columns are {', '.join(table.column_names)}")
    ids = list(map(str, table["id"].to_pylist()))
    if "type" not in table.column_names:
        return ids
    return [f"{kind}/{each}" for kind, each in zip(table["type"].to_pylist(), ids, strict=True)]


def entries_of(source: Any, counts: np.ndarray) -> Entries:
    """The rows of a table of a Graph's nodes, or of a Corpus's words. counts: (V,) how often each is met."""
    import pyarrow as pa

    counts = np.asarray(counts, np.int64)
    if not isinstance(source, Graph):
        return Entries(None, None, source.vocabulary, counts)
    sizes = np.diff(source.offsets)
    shown = [source.names.get(t, pa.nulls(n, pa.string())) for t, n in zip(source.types, sizes, strict=True)]
    names = joined(shown) if source.names else None
    return Entries(source.types, source.kinds, joined(source.ids), counts, names)


def joined(columns: Sequence[pa.Array]) -> pa.Array:
    """Columns as one: whole numbers where all are such, else text."""
    import pyarrow as pa

    if all(pa.types.is_integer(column.type) for column in columns):
        return pa.concat_arrays([column.cast(pa.int64()) for column in columns])
    texts = [column.cast(pa.large_string()) for column in columns]
    small = sum(text.nbytes for text in texts) < 2**31
    return pa.concat_arrays([text.cast(pa.string()) for text in texts] if small else texts)


def hits(words: list[str], known: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    """Which rows of a column hold which of some distinct words: rows ascending, and places in `words`, both int64."""
    import pyarrow as pa
    import pyarrow.compute as pc

    code = np.arange(len(words))
    if pa.types.is_integer(known.type):  # the column is long and the words are few: these are turned
        numbers = {i: int(word) for i, word in enumerate(words) if word.lstrip("-").isdecimal()}
        numbers = {i: n for i, n in numbers.items() if str(n) == words[i] and -(2**63) <= n < 2**63}
        code, wanted = np.array(list(numbers), np.int64), pa.array(list(numbers.values()), known.type)
    else:
        wanted = pa.array(words, known.type)
    found = pc.index_in(known, value_set=wanted)
    rows = np.flatnonzero(found.is_valid().to_numpy(zero_copy_only=False))
    return rows, code[found.drop_null().to_numpy()]
