"""The items of a run by name: RUN/items.parquet, and histories of one vocabulary read in another."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from difflib import get_close_matches
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import DataError, UserError
from .histories import Histories
from .labels import pick
from .logcolumns import usual

if TYPE_CHECKING:
    import pyarrow as pa

FILE = "items.parquet"
COMPARED = 100_000  # names that a wrong one is compared with


@dataclass(frozen=True, eq=False)
class Items:
    """A catalogue. names: (V,) in the order of the encoder's rows.  counts: (V,) int64, how often each occurred in
    training.  titles: (V,) text, null where there is none, or None.
    """

    names: pa.Array
    counts: np.ndarray
    titles: pa.Array | None = None

    def __len__(self) -> int:
        return len(self.names)

    def place(self, name: Any) -> int:
        """The place of one item. Raises UserError with near names when there is none."""
        place = int(find([str(name)], self.names)[0])
        if place < 0:
            raise UserError(f"the model knows no item '{name}'; {near(name, self.names)}")
        return place

    def name(self, place: int) -> str:
        return str(self.names[place].as_py())

    def title(self, place: int) -> str | None:
        return None if self.titles is None else self.titles[place].as_py()

    def write(self, folder: Path) -> Path:
        """Write FOLDER/items.parquet, whole or not at all."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        columns = {"item": self.names, "count": pa.array(self.counts, pa.int64())}
        columns |= {} if self.titles is None else {"title": self.titles}
        final = folder / FILE
        temporary = final.with_suffix(".tmp")
        pq.write_table(pa.table(columns), temporary)
        os.replace(temporary, final)
        return final


def write_items(folder: Path, histories: Histories) -> Path:
    """Write the vocabulary of the histories a run learned from, with how often each item occurs in them."""
    return Items(histories.vocabulary, histories.counts()).write(folder)


def read_items(folder: str | Path) -> Items:
    """The catalogue of a run. Raises UserError when its folder holds none."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = Path(folder) / FILE
    try:
        with pq.ParquetFile(path) as file:
            table = file.read()
        columns = {name: table[name].combine_chunks() for name in table.column_names}
        titles = columns.get("title")
        return Items(columns["item"], columns["count"].to_numpy().astype(np.int64), titles)
    except FileNotFoundError:
        raise UserError(
            f"{folder} has no {FILE}: it was not trained on histories, or its training has not finished"
        ) from None
    except (OSError, pa.ArrowInvalid, KeyError) as error:
        raise UserError(f"{path} cannot be read ({' '.join(str(error).split())})") from None


def find(wanted: Any, known: pa.Array) -> np.ndarray:
    """(N,) int64: the place of each name among those known, -1 where it is none of them. 7 and "7" are one name."""
    import pyarrow as pa
    import pyarrow.compute as pc

    wanted = pa.array(list(map(str, wanted)), pa.string()) if not isinstance(wanted, pa.Array) else wanted
    if wanted.type != known.type:
        wanted, known = wanted.cast(pa.large_string()), known.cast(pa.large_string())
    return pc.fill_null(pc.index_in(wanted, value_set=known), -1).to_numpy(zero_copy_only=False).astype(np.int64)


def near(name: Any, known: pa.Array) -> str:
    """What a wrong name may have meant, or how names look."""
    if not len(known):
        return "it knows none"
    names = [str(n) for n in known[:COMPARED].to_pylist()]
    found = [f"'{n}'" for n in get_close_matches(str(name), names, n=3)]
    return f"did you mean {' or '.join(found)}?" if found else f"its names are such as '{names[0]}'"


def mapped(histories: Histories, names: pa.Array) -> tuple[Histories, dict[str, int]]:
    """The histories with the items of another vocabulary, those it lacks left out, and what was left out.

    Counts of events and of distinct items. Raises nothing: a history may become empty.
    """
    if histories.vocabulary.equals(names):
        return histories, {"events": 0, "items": 0}
    code = find(histories.vocabulary, names).astype(np.int32)
    items = code[histories.items]  # (E,)
    known = items >= 0
    before = np.concatenate([[0], np.cumsum(known)])  # how many known items stand before each place
    starts, stops = before[histories.starts], before[histories.stops]
    lost = {"events": histories.events - int((stops - starts).sum()), "items": int((code < 0).sum())}
    times = None if histories.times is None else histories.times[known]
    new = {"items": items[known], "starts": starts, "stops": stops, "vocabulary": names, "times": times}
    return replace(histories, **new), lost


def of_lists(lists: Any, names: pa.Array) -> tuple[Histories, dict[str, int]]:
    """Histories from lists of items, oldest first, user i list i, or from {user: items}. As `mapped`."""
    import pyarrow as pa

    users = pa.array([str(user) for user in lists]) if isinstance(lists, dict) else pa.array(np.arange(len(lists)))
    flat: list[str] = []
    ends = [0]
    for one in lists.values() if isinstance(lists, dict) else lists:
        flat.extend(map(str, one))
        ends.append(len(flat))
    encoded = pa.array(flat, pa.string()).dictionary_encode()
    bounds = np.array(ends, np.int64)
    items = encoded.indices.to_numpy().astype(np.int32)
    return mapped(Histories("lists", items, bounds[:-1], bounds[1:], users, encoded.dictionary), names)


def read_table(path: str | os.PathLike, what: str) -> pa.Table:
    """A .csv, .tsv, .txt, .item or .parquet file with named columns, gzip or not. Raises DataError when it is none.

    Names lose what RecBole's files add behind a colon. what: the table's name in errors.
    """
    import pyarrow as pa
    from pyarrow import csv, parquet

    path = os.path.expanduser(os.fspath(path))
    try:
        if path.lower().endswith((".parquet", ".pq")):
            return parquet.read_table(path)
        with pa.input_stream(path, compression="detect") as file:
            head = file.read(65536).split(b"\n")[0]
        options = csv.ParseOptions(delimiter=max("\t;,", key=lambda mark: head.count(mark.encode())))
        table = csv.read_csv(path, parse_options=options)
        if bad := [field.name for field in table.schema if pa.types.is_binary(field.type)]:
            raise DataError(f"cannot read {what} '{path}': column '{bad[0]}' is no text in UTF-8; write it as UTF-8")
    except FileNotFoundError:
        raise DataError(f"no {what} '{path}'") from None
    except (OSError, pa.ArrowInvalid) as error:
        raise DataError(f"cannot read {what} '{path}': {' '.join(str(error).split())}") from None
    return table.rename_columns([name.split(":")[0].strip() for name in table.column_names])


def read_names(path: str | os.PathLike) -> list | None:
    """The users that a file lists, one a line or in its only column; None where it is a log or something else.

    A first line that only says what the column is called is left out.
    """
    path = os.path.expanduser(os.fspath(path))
    if not os.path.isfile(path):
        return None
    if path.lower().endswith((".parquet", ".pq")):
        import pyarrow as pa
        from pyarrow import parquet

        try:
            alone = len(parquet.read_schema(path)) == 1
        except (OSError, pa.ArrowException):  # whoever reads it as a log says what is wrong
            return None
        return read_table(path, "users").column(0).to_pylist() if alone else None
    if not path.lower().endswith((".txt", ".csv", ".tsv")):
        return None
    with open(path, encoding="utf-8-sig", errors="replace") as text:
        begin = [line.strip() for line in islice(text, 100)]
        if any(mark in line for line in begin for mark in "\t,; "):
            return None
        names = [line for line in (*begin, *map(str.strip, text)) if line]
    return names[1:] if names and names[0].lower() in USER else names


def item_column(table: pa.Table, what: str, own: str | None = None) -> str:
    """The column that names items: `own`, else one with a usual name. Raises DataError when there is none."""
    columns = table.column_names
    if column := pick(columns, (*([str(own).lower()] if own else ()), *ITEM)) or usual("item", columns):
        return column
    raise DataError(f"{what} has no column of items: its columns are {', '.join(table.column_names)}; call one 'item'")


def with_titles(items: Items, path: str | os.PathLike, own: str | None = None) -> Items:
    """The catalogue with the titles of a table: a column of items (`own`, or a usual name) and one of titles."""
    import pyarrow as pa

    what = f"titles '{path}'"
    table = read_table(path, "titles")
    column = pick(table.column_names, TITLE)
    if column is None:
        raise DataError(f"{what} has no column of titles: its columns are {', '.join(table.column_names)}")
    names, titles = (table[c].combine_chunks() for c in (item_column(table, what, own), column))
    places = find(items.names, names)
    if not (places >= 0).any():
        raise DataError(f"{what} names none of the {len(items):,} items, which are such as '{items.names[0].as_py()}'")
    return replace(items, titles=titles.cast(pa.string()).take(pa.array(places, mask=places < 0)))


USER = ("user", "users", "user_id", "userid", "customer", "customer_id")
ITEM = ("item", "item_id", "itemid", "product", "product_id", "movie", "movie_id", "movieid", "sku", "id")
TITLE = ("title", "movie_title", "name", "product_name", "text", "description")
