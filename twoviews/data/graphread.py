"""Files of edges and nodes into numbers: ids of any kind become 0, 1, 2 ... within their type."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import DataError, UserError, unknown
from ..log import console
from .graphfiles import Listing, RelationFile
from .graphobjects import ZERO, Edges, Given, weighed
from .graphtables import WEIGHTS, Table, open_table, usual_ends
from .logcolumns import plain
from .logs import SAID, as_names
from .logsort import Coder
from .room import free_memory

if TYPE_CHECKING:
    import pyarrow as pa

EDGE = 24  # bytes an edge takes at most while it is read
WEIGHT = 12  # the same for its weight
NO_SOURCE, NO_TARGET = "rows without a source", "rows without a target"
GAPS = "numbers between ids that no file names"
IDS = ("id", "node", "nodeid", "index", "key")
NAMES = ("name", "title", "label", "text")


class NotWhole(Exception):
    """An id of a type whose ids seemed to be whole numbers is none."""

    def __init__(self, kind: str):
        self.kind = kind


class Ids:
    """The ids of one type as numbers: whole numbers in rising order, text in the order in which it is met.

    Whole numbers from 0 on of which at least half occur are numbers of nodes already: then those between are nodes too,
    and arrays that somebody made by id line up with the graph's.
    """

    def __init__(self, text: bool):
        self.text = text
        self._coder = Coder()
        self._chunks: list[np.ndarray] = []

    def add(self, column: pa.Array) -> int:
        """The place in `codes` where these will be."""
        if self.text:
            self._coder.add(column)
            return len(self._coder.codes) - 1
        values = column.to_numpy()
        small = len(values) == 0 or (values.min() >= 0 and values.max() < 2**31)
        self._chunks.append(values.astype(np.int32 if small else np.int64))
        return len(self._chunks) - 1

    def close(self) -> tuple[pa.Array, int]:
        """The ids in the order of their numbers, and how many of them nothing names. Sets `codes`: int32, writable."""
        import pyarrow as pa

        if self.text:
            self._coder.join()
            self.codes, names = self._coder.codes, self._coder.names
            if names is None:
                return pa.array([], pa.string()), 0
            return (names.cast(pa.string()) if names.nbytes < 2**31 else names), 0
        self.codes = self._chunks
        held = [chunk for chunk in self._chunks if len(chunk)]
        low, high = min((int(c.min()) for c in held), default=0), max((int(c.max()) for c in held), default=-1)
        if low < 0 or high >= min(2**31 - 1, 8 * sum(map(len, held)) + 2**16):
            return self._sorted()
        met = np.zeros(high + 1, bool)
        for chunk in held:
            met[chunk] = True
        count = int(met.sum())
        if low == 0 and 2 * count > high:
            return pa.array(np.arange(high + 1)), high + 1 - count
        rank = np.cumsum(met, dtype=np.int32) - np.int32(1)
        for i, chunk in enumerate(self.codes):
            self.codes[i] = rank[chunk]
        return pa.array(np.flatnonzero(met)), 0

    def _sorted(self) -> tuple[pa.Array, int]:
        import pyarrow as pa

        for i, chunk in enumerate(self._chunks):
            self._coder.add(pa.array(chunk.astype(np.int64)))
            self._chunks[i] = chunk[:0]
        self._coder.join()
        names: Any = self._coder.names
        order = np.argsort(names.to_numpy())
        rank = np.empty(len(order), np.int32)
        rank[order] = np.arange(len(order), dtype=np.int32)
        self.codes = [rank[codes] for codes in self._coder.codes]
        return names.take(pa.array(order)), 0


def read_files(listing: Listing, named: dict, texts: set[str]) -> tuple[Given, dict[str, pa.Array], Counter[str]]:
    """Edges, and names of nodes by type. texts: types whose ids are no whole numbers.

    Raises NotWhole when another such type turns up.
    """
    words = tuple(str(name) for name in named.values() if name)
    relations = []
    for file in listing.relations:
        table = open_table(file.path, words, (file.source, file.name, file.target))
        relations.append((file, table, _columns(file, table, named)))
    beside = []
    for kind, path in {**listing.labels, **listing.nodes}.items():  # where nodes are listed, labels add none
        table = open_table(path, (*IDS, *NAMES, plain(kind), plain(kind) + "id"))
        beside.append((kind, table, _node_columns(table, kind, path in listing.nodes.values())))
    _make_room(listing.name, [table.rows for _, table, _ in relations], any(len(c) == 3 for *_, c in relations))
    whole: dict[str, bool] = {}
    for file, table, columns in relations:
        for kind, column in zip((file.source, file.target), columns, strict=False):
            whole[kind] = whole.get(kind, kind not in texts) and column in table.whole
    for kind, table, columns in beside:
        whole[kind] = whole[kind] and columns[0] in table.whole
    ids = {kind: Ids(not fits) for kind, fits in whole.items()}
    counted: Counter[str] = Counter()
    listed = {kind: _add_nodes(table, columns, kind, ids[kind], counted) for kind, table, columns in beside}
    parts = [_add_edges(file, table, columns, ids, counted) for file, table, columns in relations]
    if not any(parts):
        left = "; ".join(f"{n:,} {said}" for said, n in counted.items() if n)
        raise DataError(f"no edges in {listing.name}" + (f": {left}" if left else ""))
    names = {}
    for kind, own in ids.items():
        names[kind], gaps = own.close()
        counted[GAPS] += gaps
    edges = [
        Edges(file.source, file.name, file.target, file.directed, _numbered(part, ids[file.source], ids[file.target]))
        for (file, _, _), part in zip(relations, parts, strict=True)
    ]
    shown = {kind: _shown(found, ids[kind], len(names[kind])) for kind, found in listed.items() if found}
    return Given(listing.name, names, edges), shown, counted


def _columns(file: RelationFile, table: Table, named: dict) -> list[str]:
    """The columns of sources, targets and, where there are such, weights."""
    for role, name in named.items():
        if name and str(name) not in table.columns:
            raise UserError(f"data.{role}: '{table.path}': {unknown('column', str(name), table.columns)}")
    ends = usual_ends(table.columns, (file.source, file.name, file.target)) if table.header else table.columns[:2]
    out = []
    for i, role in enumerate(("source", "target")):
        if named[role]:
            out.append(str(named[role]))
        elif ends and len(ends) == 2:
            out.append(ends[i])
        else:
            raise DataError(
                f"no column of '{table.path}' is known to hold the {role}s of edges: name it src or dst, or say "
                f"data.{role}=NAME; its columns are {', '.join(table.columns)}"
            )
    if out[0] == out[1]:
        raise UserError(f"sources and targets cannot both be column '{out[0]}' of '{table.path}'")
    if named["weight"] is not None:
        return [*out, str(named["weight"])] if named["weight"] != "" else out
    if not table.header:
        return [*out, "3"] if "3" in table.numbers and "3" not in out else out
    return out + [column for column in table.columns if plain(column) in WEIGHTS and column not in out][:1]


def _node_columns(table: Table, kind: str, names: bool) -> list[str]:
    """The column of ids, and that of names where they are asked for and there."""
    words = [plain(column) for column in table.columns]
    known = (*IDS, plain(kind), plain(kind) + "id")
    place = next((i for i, word in enumerate(words) if word in known), 0) if table.header else 0
    others = [column for i, column in enumerate(table.columns) if i != place]
    called = [column for column in others if plain(column) in NAMES]
    text = [column for column in others if column not in table.numbers]
    shown = called[:1] or (text if table.header else others)[-1:]
    return [table.columns[place], *(shown if names else [])]


def _make_room(name: str, counts: list[int], weighted: bool) -> None:
    """Say what a large graph will take, and refuse one that there is no memory for."""
    edges, free = sum(counts), free_memory()
    need = edges * (EDGE + WEIGHT * weighted)
    if need < SAID:
        return
    said = f"about {edges:,} edges need about {need / 2**30:,.1f} GiB of memory while they are read"
    if free is not None and need > free:
        raise UserError(f"{name}: {said}, but {free / 2**30:,.1f} GiB are free; give a part of it")
    console.print(f"{name}: {said}")


def _coded(column: Any, kind: str, ids: Ids, where: str) -> pa.Array:
    """Ids as whole numbers or text, null where there is none."""
    import pyarrow as pa

    try:
        return as_names(column, pa.large_string() if ids.text else pa.int64(), where)
    except DataError:
        if ids.text:
            raise
        raise NotWhole(kind) from None


def _add_nodes(table: Table, columns: list[str], kind: str, ids: Ids, counted: Counter[str]) -> list[tuple[int, Any]]:
    """Count in the ids of a table of nodes or labels. Returns (place in ids.codes, names) where names are asked for."""
    import pyarrow as pa
    import pyarrow.compute as pc

    out = []
    for batch in table.read(columns, counted):
        column = _coded(batch.column(0), kind, ids, f"column '{columns[0]}' of '{table.path}'")
        kept = pc.is_valid(column)
        place = ids.add(column.filter(kept))
        if len(columns) > 1:
            out.append((place, batch.column(1).filter(kept).cast(pa.large_string())))
    return out


def _add_edges(
    file: RelationFile, table: Table, columns: list[str], ids: dict[str, Ids], counted: Counter[str]
) -> list[tuple[int, int, np.ndarray | None]]:
    """Count in a relation's edges: places in the codes of both types, and weights."""
    import pyarrow as pa
    import pyarrow.compute as pc

    out = []
    for batch in table.read(columns, counted):
        rows = [
            _coded(batch.column(i), kind, ids[kind], f"column '{columns[i]}' of '{table.path}'")
            for i, kind in enumerate((file.source, file.target))
        ] + batch.columns[2:]
        for i, reason in enumerate((NO_SOURCE, NO_TARGET)):
            if missing := rows[i].null_count:
                counted[reason] += missing
                kept = pc.is_valid(rows[i])
                rows = [column.filter(kept) for column in rows]
        weights = None
        if len(rows) == 3:
            weights = weighed(_numbers(rows[2]), f"column '{columns[2]}' of '{table.path}'")
            if not weights.all():
                counted[ZERO] += int((weights == 0).sum())
                rows = [column.filter(pa.array(weights > 0)) for column in rows]
                weights = weights[weights > 0]
        if len(rows[0]):
            out.append((ids[file.source].add(rows[0]), ids[file.target].add(rows[1]), weights))
    return out


def _numbers(column: Any) -> Any:
    """A column as float64, NaN for null; as it is where it holds none, which `weighed` says."""
    import pyarrow as pa

    try:
        return column.cast(pa.float64()).to_numpy(zero_copy_only=False)
    except pa.ArrowInvalid:
        return column.to_pylist()


def _numbered(parts: list[tuple[int, int, Any]], sources: Ids, targets: Ids) -> list[Any]:
    return [(sources.codes[i], targets.codes[j], weights) for i, j, weights in parts]


def _shown(found: list[tuple[int, Any]], ids: Ids, count: int) -> pa.Array:
    """The names of a type's nodes in the order of their numbers, null where there is none."""
    import pyarrow as pa

    order = np.full(count, -1)
    order[np.concatenate([ids.codes[place] for place, _ in found])] = np.arange(sum(len(n) for _, n in found))
    return pa.concat_arrays([names for _, names in found]).take(pa.array(order, mask=order < 0))
