"""What a company does with a run on histories: recommend, find alike items, embed, look at its attention."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .after import warn_unfinished
from .build import find_device, untrained
from .calls import rebuild
from .checkpoint import fill, read_run, weights, writing
from .data.cloze import Ask
from .data.histories import Histories
from .data.vocabulary import Items, find, mapped, near, of_lists, read_items, read_names, with_titles
from .errors import UserError
from .evaluate.carry import weights_of
from .evaluate.catalogue import similar as alike
from .evaluate.formats import writer
from .evaluate.recommend import blocks, embed_items, embed_users, file_writer, recommendations, tables, write_tables
from .evaluate.search import Found
from .fit import Result
from .log import Log
from .report.attention import attention as drawn
from .report.attention import write_attention
from .run import Run
from .types import Features, Method

if TYPE_CHECKING:
    import pyarrow as pa

PART = 2**14  # histories that are embedded at once
COLUMNS = ("user", "item", "time", "weight", "least")  # how a log is read
DRAWN = 1000  # histories of which attention is drawn


@dataclass(frozen=True)
class Served:
    """A run on histories, ready to answer. about: its run.json.  ask: how a history is asked what comes next."""

    folder: Path
    about: dict[str, Any]
    method: Any
    items: Items
    ask: Ask

    @property
    def column(self) -> str | None:
        """What the run's log calls its items, where that was said."""
        return self.about["run"]["data"].get("item")

    def own(self) -> Histories:
        """The run's own log, in the model's vocabulary. Raises UserError when it cannot be had."""
        try:
            log = rebuild(self.about["run"]["data"])()
        except UserError as why:
            raise UserError(f"the log of {self.folder} cannot be had: {why}; give histories") from None
        return mapped(log, self.items.names)[0]


def trained_method(folder: Path, about: dict[str, Any]) -> Method:
    """A run's method with the weights that it keeps; its data may be gone."""
    parts = {name: part for name, part in about["run"].items() if name in ("encoder", "method", "batchnorm")}
    method = untrained(Run.from_json(parts, data=None))
    file = weights_of(folder)
    fill(method, weights(file), str(file))
    return method


def opened(run: str | Path | Result, device: str | None = None, log: Log | None = None) -> Served:
    """Open a run on histories. run: its folder, or what `train` or `fit` returned.

    Raises UserError on a folder that is no such run or has no weights.
    """
    where = find_device(device)
    folder = run.folder if isinstance(run, Result) else Path(run)
    about, items = read_run(folder), read_items(folder)
    if log and not isinstance(run, Result):
        warn_unfinished(folder, log)
    method = run.method if isinstance(run, Result) else trained_method(folder, about)
    return Served(folder, about, method.to(where).eval(), items, rebuild(about["run"]["test_view"])())


def asked_for(it: Served, data: Any, log: Log, **columns: Any) -> Histories:
    """The histories that `data` means, in the model's vocabulary; what is unknown is left out and told.

    data: as in `recommend`.  Raises UserError when no user or item is known.
    """
    if data is None:
        return it.own()
    names = read_names(data) if isinstance(data, str | os.PathLike) else names_of(data)
    if (names is not None and not names) or (isinstance(data, list | tuple | dict) and not data):
        raise UserError("there is nobody to answer: the list of users or histories is empty")
    if names is not None:
        return of_users(it.own(), names, log)
    if isinstance(data, list | tuple | dict):
        found, lost = of_lists(data, it.items.names)
    else:
        if not isinstance(data, Histories):
            from .data.logs import histories

            own = it.about["run"]["data"]
            known = {name: own[name] for name in COLUMNS if own.get(name) is not None}
            data = histories(data, **{**known, **{k: v for k, v in columns.items() if v is not None}})
        found, lost = mapped(data, it.items.names)
    if lost["events"]:
        total = found.events + lost["events"]
        if not found.events:
            raise UserError(f"the model knows none of the items in these histories; {near('', it.items.names)}")
        log.say(f"left out as unknown to the model: {lost['items']:,} items, in {lost['events']:,} of {total:,} events")
    return found


def names_of(data: Any) -> list | None:
    """A plain list of users from Python; None where it is something else."""
    if isinstance(data, np.ndarray) and data.ndim == 1 and data.dtype != object:
        data = data.tolist()
    plain = isinstance(data, list | tuple) and len(data) and all(isinstance(one, str | int) for one in data)
    return list(data) if plain else None


def of_users(histories: Histories, users: list, log: Log) -> Histories:
    """The histories of some users, in the order of the list. Unknown ones are told and left out."""
    rows = find(users, histories.users)
    if (rows < 0).any():
        missing = users[int(np.flatnonzero(rows < 0)[0])]
        if not (rows >= 0).any():
            hint = near(missing, histories.users)
            raise UserError(f"the log knows no user '{missing}'; {hint} (histories are lists of lists of items)")
        log.say(
            f"left out: {(rows < 0).sum():,} of {len(users):,} users whom the log does not know, such as '{missing}'"
        )
    return histories.subset(rows[rows >= 0])


def recommend(
    run: str | Path | Result,
    data: Any = None,
    *,
    out: str | Path | None = None,
    k: int = 20,
    seen: bool = False,
    user: str | None = None,
    item: str | None = None,
    time: str | None = None,
    device: str | None = None,
    quiet: bool = False,
) -> pa.Table | Path:
    """The k items that come next, for each user: a table user, rank, item, score, the best first.

    run:  the folder of a run, or what `train` or `fit` returned.
    data: None, all users of the run's own log; a list of users, or a file of them, one a line or in one column;
          histories, old or new: a log in any form that `train` takes, lists of items, oldest first, or {user: items}.
    out:  a .parquet or .csv file, written whole or not at all, for any number of users; None returns the table.
    seen: recommend what a user has met already, too.
    user, item, time: columns of a log; None are those of the run.
    Items that the model does not know are left out of a history. A history of no known item gets the most popular
    items, without a score.
    Raises UserError when k is larger than the catalogue, no user or no item is known, or the file cannot be written.
    """
    import pyarrow as pa

    log = Log(quiet=quiet)
    if out is not None:
        file_writer(Path(out))
    it = opened(run, device, log)
    histories = asked_for(it, data, log, user=user, item=item, time=time)
    if empty := int((histories.lengths == 0).sum()):
        log.say(f"{empty:,} histories hold no item that the model knows: they get the most popular ones, with no score")
    with log.progress("recommending", len(histories)) as bar:
        watch = Rate(bar)
        parts = recommendations(it.method, it.ask, histories, it.items.counts, k, seen=seen, progress=watch)
        rows = tables(parts, histories.users, it.items.names)
        if out is None:
            return pa.concat_tables(rows)
        write_tables(Path(out), rows)
    log.say(f"{k} items for each of {len(histories):,} users, {watch.rate:,.0f} users a second, in {out}")
    return Path(out)


class Rate:
    """A progress that also tells how many a second."""

    def __init__(self, bar: Callable):
        self.bar, self.begun, self.rate = bar, time.monotonic(), 0.0

    def __call__(self, done: int, total: int) -> None:
        self.rate = done / max(time.monotonic() - self.begun, 1e-9)
        self.bar(done, total, f"{self.rate:,.0f}/s")


def similar(
    run: str | Path | Result,
    item: Any,
    *,
    k: int = 10,
    titles: str | Path | None = None,
    device: str | None = None,
) -> Found:
    """The k items most alike to one, by the cosine of their vectors.

    item: its name.  titles: a table with a column of items and one of titles, to be shown beside the names.
    Raises UserError when the model does not know the item, with near names, or k is too large.
    """
    it = opened(run, device)
    items = it.items if titles is None else with_titles(it.items, titles, it.column)
    place = items.place(item)
    places, cosines = alike(it.method, place, k)
    (name, *names), (title, *more) = zip(*((items.name(p), items.title(p)) for p in (place, *places)), strict=True)
    return Found(name, title, names, cosines, more)


def embed_histories(
    run: str | Path | Result,
    data: Any = None,
    out: str | Path = "users.parquet",
    *,
    items: bool = False,
    batch_size: int = 256,
    device: str | None = None,
    quiet: bool = False,
) -> Path:
    """Write one vector a user, h of their history as it is asked what comes next, or with `items` one an item.

    data: as in `recommend`.  out: a .parquet, .npy or .safetensors file, written whole or not at all.
    """
    out, log = Path(out), Log(quiet=quiet)
    write = writer(out)
    it = opened(run, device, log)
    if items:
        e = embed_items(it.method).cpu()
        names = [str(name) for name in it.items.names.to_pylist()]
        with writing(out):
            out.parent.mkdir(parents=True, exist_ok=True)
            write(out, (len(e), e.shape[1]), [Features(e, names)])
        log.say(f"{len(e):,} items in {out}")
        return out
    histories = asked_for(it, data, log)
    with log.progress("embedding", len(histories)) as bar:
        watch = Rate(bar)

        def parts() -> Iterator[Features]:
            for some in blocks(len(histories), PART):
                part = histories.subset(np.arange(some.start, some.stop))
                h = embed_users(it.method, it.ask, part, batch_size)
                yield Features(h, [str(name) for name in part.users.to_pylist()])
                watch(some.stop, len(histories))

        with writing(out):
            out.parent.mkdir(parents=True, exist_ok=True)
            write(out, (len(histories), it.method.encoder.dim), parts())
    empty = int((histories.lengths == 0).sum())
    note = f"; {empty:,} of no known item are 0" if empty else ""
    log.say(f"{len(histories):,} users in {out}{note}")
    return out


def attention(
    run: str | Path | Result,
    data: Any = None,
    *,
    out: str | Path | None = None,
    length: int = 20,
    device: str | None = None,
    quiet: bool = False,
) -> Path:
    """Draw where each head looks, on average over up to 1,000 histories of `length` places; RUN/attention.html.

    data: as in `recommend`.  Raises UserError when no history is that long.
    """
    log = Log(quiet=quiet)
    it = opened(run, device, log)
    length = min(length, it.method.encoder.length)
    histories = asked_for(it, data, log)
    ask = replace(it.ask, length=length)
    items, last = (length - 1, "blank") if ask.blank else (length, "0")
    long = np.flatnonzero(histories.lengths >= items)[:DRAWN]
    if not len(long):
        longest = histories.lengths.max(initial=0)
        raise UserError(f"no history has {items} items, the longest {longest}: give less as --length")
    maps = drawn(it.method, ask(histories, long).to(next(it.method.parameters()).device))
    note = f"The last {items} items of {len(long):,} histories{', and the blank behind them' if ask.blank else ''}."
    path = it.folder / "attention.html" if out is None else Path(out)
    return write_attention(path, f"Attention in {it.folder.resolve().name}", note, maps, last)
