"""Interaction logs: one way in for text, Parquet, frames and lists.

data -> batches of columns -> codes -> Histories: by user, then by time, as flat arrays

No event is ever a Python object. One takes 28 bytes while the log is read and 12 after, beside the names.
The rules, stated in docs/histories.md and counted in `Histories.counted`, are RULES.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import DataError, UserError
from ..log import console
from .histories import Histories, tally
from .logclock import EARLY, FUTURE, MIXED, UNITS, moments, warnings, whole
from .logcolumns import Named, chosen, decoded
from .logfiles import Opened, is_log, open_log
from .logsort import Coder, by_user
from .logtext import ALONE, INVALID
from .room import free_memory
from .splits import check_split

if TYPE_CHECKING:
    import pyarrow as pa

EVENT = 52  # bytes an event takes at most while it is read, its share of the names among them
SAID = 2**30  # bytes from which on an estimate is said before the log is read
NO_USER, NO_ITEM, NO_TIME = "rows without a user", "rows without an item", "rows without a time"
UNREAD = "rows whose time cannot be read"
LIGHT = "rows of too little weight"
TWICE = "events that are there twice"
REPEATS = "events of an item the user had before"
ONE = "users with one event"
TIED = "users whose last two events are at one time"
RULES = {  # what was counted -> what becomes of it
    INVALID: "left out",
    NO_USER: "left out",
    NO_ITEM: "left out",
    NO_TIME: "left out",
    UNREAD: "left out",
    LIGHT: "left out",
    ALONE: "left out",
    TWICE: "same user, item and time: one is kept",
    REPEATS: "kept",
    ONE: "kept; nothing can be asked of them",
    TIED: "the log's order decides which is the last",
    FUTURE: "kept where they are; look at the clock that wrote them",
    **{MIXED.format(a, b): f"their order is wrong; write all in {b}" for a in UNITS for b in UNITS if a != b},
    **{EARLY.format(a): "they come first; leave them out if they stand for no time" for a in UNITS},
}
__all__ = ["histories", "is_log", "notes"]


def histories(
    data: Any,
    *,
    user: str | int | None = None,
    item: str | int | None = None,
    time: str | int | None = None,
    weight: str | int | None = None,
    least: float | None = None,
    split: str = "leave-one-out",
) -> Histories:
    """What each user met, oldest first, from a log of events.

    data:   a .csv, .tsv, .txt, .dat or .inter file (.gz, .bz2, .zst), a .parquet file, a folder or pattern of them; a
            pyarrow, pandas or polars table; {user: items} or a list of items for each user.
    user, item, time, weight: names of columns, or their numbers from 1 in a file without a header; None: the usual
            names. time="" takes the log's own order.
    least:  events of less weight are left out. Where a weight is named and `least` is not, those of 0 and less are;
            where neither is given, weights are not read.
    split:  how to divide it for measuring, see twoviews.data.splits.
    Raises DataError when the data cannot be used, UserError when a setting cannot or memory would not suffice.
    """
    import pyarrow as pa

    check_split(split)
    weight = "" if weight is None and least is not None else weight
    named: Named = {"user": user, "item": item, "time": time, "weight": weight}
    opened = open_log(data, named)
    columns = chosen(opened.name, opened.columns, named, opened.places)
    if least is not None and "weight" not in columns:
        raise UserError(f"data.least={least:g}: {opened.name} has no column of weights; say data.weight=NAME")
    _make_room(opened)
    counted: Counter[str] = Counter()
    people, things = Coder(), Coder()
    times: list[np.ndarray] | None = [] if "time" in columns else None
    for batch in _clean(opened, columns, least, counted):
        people.add(batch["user"])
        things.add(batch["item"])
        if times is not None:
            times.append(batch["time"].to_numpy().copy())  # a part of a batch may hold all of it
    people.join()
    things.join()
    pa.default_memory_pool().release_unused()
    if people.names is None or things.names is None:
        left = "; ".join(f"{n:,} {words}" for words, n in counted.items() if n)
        raise DataError(f"no events in {opened.name}" + (f": {left}" if left else ""))
    if times is not None:
        whole(times)
    found = by_user(people.codes, things.codes, times, len(people.names), len(things.names))
    ones = int((np.diff(found.starts) == 1).sum())
    counted |= {TWICE: found.twice, REPEATS: found.repeats, ONE: ones}
    if found.times is not None:
        counted |= {TIED: _tied(found.times, found.starts)} | warnings(found.times)
    return Histories(
        opened.name,
        found.items,
        found.starts[:-1],
        found.starts[1:],
        _ids(people.names, opened.text),
        _by_frequency(found.items, _ids(things.names, opened.text)),
        found.times,
        {words: n for words, n in counted.items() if n},
        split,
    )


def notes(source: Histories) -> list[str]:
    """What was read and which rules were met, in lines to print."""
    lengths, n = source.lengths, len(source)
    out = [
        f"users {n:,}, items {source.catalogue:,}, events {source.events:,}, "
        f"mean length {lengths.mean():.2f} ({lengths.min():,} to {lengths.max():,})"
    ]
    if source.times is None:
        out.append("no times: the log's order is taken for the order of events")
    for words, count in source.counted.items():
        share = f" ({_percent(count / n)})" if words in (ONE, TIED) else ""
        out.append(f"{count:,} {words}{share}: {RULES.get(words, 'counted')}")
    return out


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %" if share >= 0.01 else f"{100 * share:.2g} %"


def _make_room(opened: Opened) -> None:
    """Say what a large log will take, and refuse one that there is no memory for."""
    need, free = opened.events * EVENT, free_memory()
    if need < SAID:
        return
    said = f"about {opened.events:,} events need about {need / 2**30:,.1f} GiB of memory while they are read"
    if free is not None and need > free:
        raise UserError(f"{opened.name}: {said}, but {free / 2**30:,.1f} GiB are free; give a part of it")
    console.print(f"{opened.name}: {said}")


def _clean(
    opened: Opened, columns: dict[str, str], least: float | None, counted: Counter[str]
) -> Iterator[dict[str, pa.Array]]:
    """Batches of user, item and time (role -> column) without nulls; what is left out is counted."""
    import pyarrow.compute as pc

    kinds = {role: _kind(opened.kinds(columns[role])) for role in ("user", "item")}
    reasons = {"user": NO_USER, "item": NO_ITEM, "time": NO_TIME, "weight": LIGHT}
    begun = False
    for batch in opened.read(list(columns.values()), counted):
        rows: dict[str, Any] = dict(zip(columns, batch.columns, strict=True))
        for role, name in columns.items():
            raw, where = rows[role], f"column '{name}' of {opened.name}"
            if role == "time":
                rows[role] = moments(raw, where, strict=not begun)
                counted[UNREAD] += rows[role].null_count - raw.null_count
                counted[NO_TIME] -= rows[role].null_count - raw.null_count
            else:
                rows[role] = _heavy(raw, least, where) if role == "weight" else as_names(raw, kinds[role], where)
            if missing := rows[role].null_count:
                counted[reasons[role]] += missing
                kept = pc.is_valid(rows[role])
                rows = {other: column.filter(kept) for other, column in rows.items()}
        if len(rows["user"]):
            begun = True
            yield rows


def _kind(kinds: list[pa.DataType]) -> pa.DataType:
    """Whole numbers where all files hold such, else text. Numbers as floats were whole before a value was missing."""
    import pyarrow as pa

    kinds = [kind.value_type if pa.types.is_dictionary(kind) else kind for kind in kinds]
    fits = all(pa.types.is_integer(kind) and kind != pa.uint64() or pa.types.is_floating(kind) for kind in kinds)
    return pa.int64() if fits else pa.large_string()


def as_names(column: Any, kind: pa.DataType, where: str) -> pa.Array:
    """Ids, null where there is none."""
    import pyarrow as pa
    import pyarrow.compute as pc

    column = decoded(column)
    if pa.types.is_floating(column.type):
        column = pc.if_else(pc.is_nan(column), None, column)
    try:
        column = column.cast(kind)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        raise DataError(f"{where} holds {column.type} that are no ids: ids are whole numbers or text") from None
    if kind == pa.int64():
        return column
    return pc.if_else(pc.equal(column, pa.scalar("", kind)), None, column)


def _heavy(column: Any, least: float | None, where: str) -> pa.Array:
    """Null where an event is left out for its weight."""
    import pyarrow as pa
    import pyarrow.compute as pc

    try:
        column = column.cast(pa.float64())
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        raise DataError(f"{where} holds weights that are no numbers; say data.weight=NAME of another") from None
    enough: Any = pc.greater if least is None else pc.greater_equal
    return pc.if_else(enough(column, least or 0.0), column, None)


def _tied(times: np.ndarray, starts: np.ndarray) -> int:
    """Users whose last two events have one time."""
    last = starts[1:][np.diff(starts) > 1] - 1
    return int((times[last] == times[last - 1]).sum())


def _ids(names: pa.Array, text: bool) -> pa.Array:
    """Names as int64 or string. Of a text file whole numbers all written plainly, or all as 12.0, are numbers."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if text:
        whole = pc.replace_substring_regex(names, r"\.0$", "") if pc.all(pc.ends_with(names, ".0")).as_py() else names
        if pc.all(pc.match_substring_regex(whole, r"^(0|-?[1-9][0-9]{0,18})$")).as_py():
            with suppress(pa.ArrowInvalid):  # some do not fit
                return whole.cast(pa.int64())
    return names.cast(pa.string()) if pa.types.is_large_string(names.type) and names.nbytes < 2**31 else names


def _by_frequency(items: np.ndarray, names: pa.Array) -> pa.Array:
    """Recode the items, in place, with the commonest first, equals by name; their names in that order."""
    import pyarrow as pa
    import pyarrow.compute as pc

    table = pa.table({"count": tally(items, len(names)), "name": names})
    order = pc.sort_indices(table, sort_keys=[("count", "descending"), ("name", "ascending")])
    rank = np.empty(len(names), np.int32)
    rank[order.to_numpy()] = np.arange(len(names), dtype=np.int32)
    for begin in range(0, len(items), 2**22):
        items[begin : begin + 2**22] = rank[items[begin : begin + 2**22]]
    return names.take(order)
