"""A run that learns new items without training: `add_items`."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from .checkpoint import save_encoder, save_weights, writing
from .data.histories import Histories
from .data.labels import pick
from .data.logcolumns import usual
from .data.vocabulary import USER, Items, find, item_column, mapped, read_table, with_titles
from .errors import DataError, UserError, unknown
from .evaluate.catalogue import grow, rows_of
from .evaluate.growth import Cold, cold, featured, from_attributes, is_vector, spread, stacked, together
from .fit import Result
from .folder import write_json
from .log import Log
from .serve import COLUMNS, Served, opened

WAYS = ("attributes", "log", "vectors")


class Added(NamedTuple):
    """names: of the new items.  rows: (N, D) or (N, D + 1).  measured: how well that works, or why it is not known."""

    names: pa.Array
    rows: Tensor
    measured: Cold | str


def add_items(
    run: str | Path | Result,
    new: Any,
    out: str | Path,
    *,
    by: str = "auto",
    titles: str | Path | None = None,
    device: str | None = None,
    quiet: bool = False,
) -> Path:
    """Write a run that knows new items, too; what it knew before keeps its weights to the bit. Returns its folder.

    new: by="attributes", a table of items, known and new, with what is said of them: their vectors are learned from
         those of known items. by="log", a log of histories with new items: a new item is the mean of what it is met
         with. by="vectors", a table of new items and their vectors. by="auto" goes by the table: one with users is a
         log, one with a list or as many numbers as the model's width and no words holds vectors.
    out: a folder that does not exist yet. `recommend`, `similar` and the like take it as any run.
    A tenth of the known items is held out to see how well items are found that get vectors this way.
    Raises UserError when there are no new items, or nothing can be learned of them.
    """
    log, place = Log(quiet=quiet), Path(out)
    if by != "auto" and by not in WAYS:
        raise unknown("way", by, WAYS)
    if place.exists():
        raise UserError(f"{place} exists: give the name of a new folder")
    it = opened(run, device, log)
    data, way = read(it, new, by)
    ways: dict[str, Callable[[Served, Any], Added]]
    ways = {"attributes": by_attributes, "log": by_log, "vectors": by_vectors}
    added = ways[way](it, data)
    if not added.rows.isfinite().all():
        raise UserError(f"the vectors by {way} are not finite: look for missing or huge numbers in the table")
    method = grow(it.method.cpu(), added.rows)
    items = joined(it.items, added.names)
    items = items if titles is None else with_titles(items, titles, it.column)
    measured = added.measured if isinstance(added.measured, str) else added.measured.to_json()
    about = {**it.about, "added": {"to": str(it.folder), "items": len(added.names), "by": way, "measured": measured}}
    about["run"] = {**about["run"], "encoder": {**about["run"]["encoder"], "catalogue": len(items)}}
    temporary = place.with_name(f".{place.name}.tmp")
    with writing(place):
        shutil.rmtree(temporary, ignore_errors=True)
        (temporary / "best").mkdir(parents=True)
        save_weights(method, temporary / "best" / "method.safetensors")
        save_encoder(temporary, method.encoder)
        items.write(temporary)
        write_json(temporary / "run.json", about)
        os.replace(temporary, place)
    log.say(f"{len(added.names):,} items added to {len(it.items):,}, by {way}")
    lines = [f"not measured: {added.measured}"] if isinstance(added.measured, str) else added.measured.lines()
    for line in lines:
        log.say(line)
    return place


def read(it: Served, new: Any, by: str) -> tuple[Any, str]:
    """What was given, as a table or as histories, and which way it goes."""
    if isinstance(new, Histories):
        return new, "log"
    if by == "log":
        return as_log(it, new), by
    table = new if isinstance(new, pa.Table) else pa.table(new) if isinstance(new, dict) else None
    if table is None and isinstance(new, str | os.PathLike):
        table = read_table(new, "items")
    if table is None:
        table = pa.Table.from_pandas(new, preserve_index=False)
    users = (str(it.about["run"]["data"].get("user")).lower(), *USER)
    if by == "auto" and (pick(table.column_names, users) or usual("user", table.column_names)):
        return as_log(it, new), "log"
    return table, way_of(it, table) if by == "auto" else by


def as_log(it: Served, new: Any) -> Histories:
    from .data.logs import histories

    own = it.about["run"]["data"]
    return histories(new, **{name: own[name] for name in COLUMNS if own.get(name) is not None})


def way_of(it: Served, table: pa.Table) -> str:
    """vectors: one column of lists beside the items, or as many of numbers as the model's width; else attributes."""
    item, dim = item_column(table, "the table of items", it.column), it.method.encoder.dim
    kinds = [table[name].type for name in table.column_names if name != item]
    lists = len(kinds) == 1 and is_vector(kinds[0])
    return "vectors" if lists or (len(kinds) == dim and all(map(pa.types.is_floating, kinds))) else "attributes"


def by_vectors(it: Served, table: pa.Table) -> Added:
    item, names = named(it, table)
    fresh = news(it, names)
    columns = [name for name in table.column_names if name != item]
    if not columns:
        raise DataError(f"the table of items has no column of numbers beside '{item}'")
    given = np.concatenate([stacked(table[name].combine_chunks(), name) for name in columns], 1)
    dim = it.method.encoder.dim
    if given.shape[1] != dim:
        raise UserError(
            f"the vectors are {given.shape[1]} wide and those of {it.folder} {dim}: "
            "with a row for known items, too, --by attributes learns from them"
        )
    rows = torch.from_numpy(given[fresh].astype(np.float32))
    return Added(names.take(pa.array(fresh)), rows, "the vectors were given")


def by_attributes(it: Served, table: pa.Table) -> Added:
    item, names = named(it, table)
    fresh = news(it, names)
    places = find(names, it.items.names)  # (N,) of the table's rows
    if (places >= 0).sum() < 2:
        raise DataError(
            f"the table names {(places >= 0).sum()} of the {len(it.items):,} items the model knows: "
            "give the attributes of known items, too, to learn from"
        )
    x = featured(table, item, places >= 0)
    row = np.full(len(it.items), -1)  # of each known item in the table
    row[places[places >= 0]] = np.flatnonzero(places >= 0)
    known = np.flatnonzero((row >= 0) & (it.items.counts > 0))
    if not len(known):
        raise DataError("training met none of the items that the table names, so nothing can be learned from them")
    rows = rows_of(it.method).cpu()

    def predict(learn: np.ndarray, wanted: Any) -> Tensor:
        known = rows[torch.from_numpy(learn)]
        return spread(
            from_attributes(x[row[learn]], known, it.items.counts[learn], wanted), known, it.method.encoder.dim
        )

    def held(learn: np.ndarray, wanted: np.ndarray, _: Histories) -> Tensor:
        return predict(learn, x[row[wanted]])

    return Added(names.take(pa.array(fresh)), predict(known, x[fresh]), measured(it, held, known))


def by_log(it: Served, log: Histories) -> Added:
    fresh = news(it, log.vocabulary)
    new = log.vocabulary.take(pa.array(fresh))
    both = mapped(log, joined(it.items, new).names)[0]
    rows, old = rows_of(it.method).cpu(), len(it.items)
    rows = torch.cat([rows, rows.new_zeros(len(new), rows.shape[1])])
    met = it.items.counts > 0
    made, found = together(both, rows, np.append(met, np.zeros(len(new), bool)), np.arange(old, len(rows)))
    seen = torch.from_numpy(found)
    made[seen] = spread(made[seen], rows[:old][torch.from_numpy(met)], it.method.encoder.dim)
    if not seen.any():
        raise DataError("the new items of the log are met with no item that the model knows")

    def held(learn: np.ndarray, wanted: np.ndarray, half: Histories) -> Tensor:
        given = np.zeros(old, bool)
        given[learn] = True
        made, found = together(half, rows[:old], given, wanted)
        seen = torch.from_numpy(found)
        made[seen] = spread(made[seen], rows[torch.from_numpy(learn)], it.method.encoder.dim)
        return made

    return Added(new, made, measured(it, held, np.flatnonzero(met)))


def measured(it: Served, held: Any, known: np.ndarray) -> Cold | str:
    """How well held-out items are found, or why that is not known."""
    try:
        found = cold(it.method, it.ask, it.own(), held, known)
    except UserError as why:
        return str(why)
    return found or "no history asks for an item that was held out"


def named(it: Served, table: pa.Table) -> tuple[str, pa.Array]:
    """The column of items, and the names in it. Raises DataError when one is missing or there twice."""
    import pyarrow.compute as pc

    item = item_column(table, "the table of items", it.column)
    names = table[item].combine_chunks()
    if nameless := sum(name in (None, "") for name in names.to_pylist()):
        raise DataError(f"{nameless:,} rows of the table of items have no name in '{item}'")
    first = pc.index_in(names, value_set=names).to_numpy()
    if len(twice := np.flatnonzero(first != np.arange(len(names)))):
        name = names[int(twice[0])]
        raise DataError(f"the table of items has '{name}' in more than one row: give each item one, or --by log")
    return item, names


def news(it: Served, names: pa.Array) -> np.ndarray:
    """The places of names that the model does not know. Raises UserError when there are none."""
    fresh = np.flatnonzero(find(names, it.items.names) < 0)
    if not len(fresh):
        raise UserError(f"{it.folder} knows all of these {len(names):,} items: there is nothing to add")
    return fresh


def joined(items: Items, new: pa.Array) -> Items:
    """The catalogue with new items behind those it holds; as text where the new names are no numbers."""
    names = items.names
    try:
        new = new.cast(names.type)
    except pa.ArrowInvalid:
        names, new = names.cast(pa.string()), new.cast(pa.string())
    titles = None if items.titles is None else pa.concat_arrays([items.titles, pa.nulls(len(new), items.titles.type)])
    counts = np.append(items.counts, np.zeros(len(new), np.int64))
    return replace(items, names=pa.concat_arrays([names, new]), counts=counts, titles=titles)
