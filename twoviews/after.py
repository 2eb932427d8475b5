"""What one does with a run once it is trained: ask the doctor, look at it, search in it, take its encoder elsewhere."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from hashlib import blake2b
from pathlib import Path
from typing import Any

import torch
from torch import nn

from .build import find_device, of_documents, of_histories, of_sounds, of_tables, of_videos, readers, trained
from .calls import describe, rebuild
from .checkpoint import digest, exported, load_encoder, read_run, reading, steps, writing
from .data.joined import joined
from .data.listing import few
from .data.sounds import Sounds
from .data.vocabulary import read_items, with_titles
from .doctor.course import read_course
from .doctor.diagnosis import Diagnosis
from .doctor.rules import diagnose
from .errors import UserError
from .evaluate.embed import features, model
from .evaluate.queries import as_photos, as_sounds, as_vector, find_key, heard, pictures
from .evaluate.search import Found, Stamp, open_index
from .export import export_encoder
from .export.histories import export_histories
from .fit import Result, Task, open_task
from .folder import write_json, write_skipped
from .log import Log
from .report.compare import write_comparison
from .report.gallery import SHOWN, write_found
from .report.soundfound import write_found_sounds
from .run import Run
from .types import Method, Source

SEARCHED = 20.0  # seconds of a recording that are one thing to be found


@dataclass
class Opened:
    """A run's folder with what it does on its data, and its trained method."""

    folder: Path
    task: Task
    method: Method
    device: torch.device


def open_run(run: str | Path | Result, device: str | None, log: Log) -> Opened:
    """Open a run, finished or not.

    run: its folder, or what `train` or `fit` returned (the way for a method of your own).
    Raises UserError on a folder that is not a run or has no weights yet, and on data that has changed since.
    """
    where = find_device(device)
    folder = run.folder if isinstance(run, Result) else Path(run)
    about = read_run(folder)
    setup = run.run if isinstance(run, Result) else Run.from_json(about["run"])
    method = run.method if isinstance(run, Result) else trained(setup, folder)
    warn_unfinished(folder, log)
    try:
        task = open_task(setup)
    except UserError as why:
        raise UserError(f"the data of {folder} cannot be had: {why}") from None
    if task.source.fingerprint() != about["data"]["fingerprint"]:
        raise UserError(f"the data has changed since {folder} was trained: put it back, or train on it anew")
    return Opened(folder, task, method.to(where), where)


def warn_unfinished(folder: Path, log: Log) -> None:
    if not (folder / "encoder.safetensors").exists() and (found := steps(folder)):
        step = int(found[-1].name.removeprefix("step-"))
        log.say(f"the training in {folder} has not finished: these are its weights after step {step:,}")


def doctor(run: str | Path | Result, *, device: str | None = None, quiet: bool = False) -> Diagnosis:
    """Is a run healthy? From what it logged and, where weights and data are there, a look at its network.

    Raises UserError on a folder that is not a run or in which no step has been logged.
    """
    log = Log(quiet=quiet)
    folder = run.folder if isinstance(run, Result) else Path(run)
    course = read_course(folder)
    if not (folder / "checkup.json").exists():
        try:
            it = open_run(run, device, log)
            course.checkup = it.task.checkup(it.method, it.device)
        except UserError as why:
            log.say(f"judged by what was logged alone: {why}")
    diagnosis = diagnose(course)
    try:
        write_json(folder / "doctor.json", diagnosis.to_json())
    except UserError as why:  # a folder of somebody else's is no reason to keep the verdict back
        log.say(f"the verdict is not kept: {why}")
    return diagnosis


def report(
    run: str | Path | Result,
    *,
    out: str | Path | None = None,
    titles: str | Path | None = None,
    device: str | None = None,
    quiet: bool = False,
) -> Path:
    """Write a run's page anew, RUN/index.html unless `out` says another place. Returns its path.

    titles: of a run on histories a table with a column of items and one of titles, which the run keeps.
    """
    log = Log(quiet=quiet)
    at = run.folder if isinstance(run, Result) else Path(run)
    about = read_run(at)
    if titles is not None:
        if not of_histories(about):
            raise UserError("titles are for runs on histories; photos are shown themselves")
        named = with_titles(read_items(at), titles, about["run"]["data"].get("item"))
        with writing(at):
            named.write(at)
    it = open_run(run, device, log)
    return it.task.report(it.folder, it.method, it.device, log, None if out is None else Path(out))


def compare(runs: Sequence[str | Path | Result], *, out: str | Path = "compare.html") -> Path:
    """Put two or more runs on one page, from what lies in their folders. Returns the page's path."""
    folders = [run.folder if isinstance(run, Result) else Path(run) for run in runs]
    return write_comparison(folders, Path(out))


def search(
    run: str | Path | Result,
    query: Any,
    *,
    k: int = 10,
    html: str | Path | None = None,
    device: str | None = None,
    quiet: bool = False,
    skipped: dict[str, str] | None = None,
) -> list[Found]:
    """The k items of a run's data, train and test together, that its encoder finds most alike to each query.

    run:     its folder, or what `train` or `fit` returned (the way for an encoder or data of your own).
    query:   a photo: its file, a PIL image, an array or tensor (H, W, C) or (C, H, W); a recording: its file, or
             (samples, rate); many, in any form that `train` takes; the key of an item, or an ending that no other key
             has; or h itself, (D,). A file comes before an item of the same name, and an item is not found for itself.
    html:    a page to write, with pictures of the first 100 queries and of what was found.
    skipped: filled with key -> reason of the queries that could not be read.
    RUN/index is built by the first search, and anew when the encoder or the data has changed since. Where the data
    cannot be had any more it serves as it is, without pictures.
    Raises UserError when k is larger than the set, or RUN/index is that of another run.
    """
    log, where = Log(quiet=quiet), find_device(device)
    folder = run.folder if isinstance(run, Result) else Path(run)
    about, place = read_run(folder), folder / "index"
    if of_histories(about):
        raise UserError(f"search is for runs on photos: ask `twoviews similar {folder} ITEM` for items alike to one")
    if of_documents(about):
        raise UserError("search is for runs on photos and recordings; of documents the run's page has neighbours")
    if of_videos(about):
        raise UserError("search is for runs on photos and recordings; of videos the run's page has neighbours")
    rate = about["data"]["rate"] if of_sounds(about) else None
    encoder: nn.Module
    if isinstance(run, Result):
        encoder, view = run.method.encoder.eval().to(where), run.run.test_view
    else:
        encoder, view = load_encoder(folder, where), rebuild(about["run"]["test_view"])
        warn_unfinished(folder, log)
    embed, views = model(encoder), view()

    # The query and k come first: a wrong one is told before an index is built.
    skipped = {} if skipped is None else skipped
    source, gone = all_items(run, about["run"])
    how = reading(about["run"])
    if source:
        how["channels"] = getattr(source, "channels", None)  # which run.json does not tell of an encoder of your own
        if not 1 <= k <= (most := len(source)):
            raise UserError(f"k={k}, but there are {most:,} items to find: give k from 1 to {most}")
    asked, seen = as_vector(query), None
    if asked is None and (seen := as_photos(query, **how) if rate is None else as_sounds(query, rate)):
        asked = features(embed, seen, views, device=where, workers=readers(seen), skipped=skipped)
        if skipped:
            reasons = "; ".join(few((f"{key}: {reason}" for key, reason in skipped.items()), 9))
            log.say(f"left out as unreadable: {len(skipped):,} of {len(seen):,} queries ({reasons})")
    wanted = ""
    if asked is None and source:
        wanted = find_key(str(query), [source.key(i) for i in range(len(source))])

    broken: dict[str, str] = {}
    settings = json.dumps([about["run"], about["data"]]).encode()
    stamp = Stamp(
        run=blake2b(settings, digest_size=8).hexdigest(),
        model=f"{digest(encoder)} {describe(view)}",
        data=source.fingerprint() if source else None,
    )
    workers = readers(source) if source else 0
    index = open_index(place, stamp, embed, source, views, log, device=where, workers=workers, skipped=broken)
    if index is None:
        raise UserError(f"the data of {folder} cannot be had, and {place} is no index of it: {gone}")
    if gone:
        log.say(f"the data cannot be had, so {place} serves as it is, without pictures: {gone}")
    if broken:
        write_skipped(folder / "skipped.csv", broken)
        total = len(index) + len(broken)
        log.say(f"left out as unreadable: {len(broken):,} of {total:,} items, see {folder / 'skipped.csv'}")

    row = None
    if asked is None:
        row, asked = index.item(wanted or find_key(str(query), index.keys))
    found = index.search(asked, k, row)
    if html is not None:
        names, near = [one.query for one in found[:SHOWN]], [key for one in found[:SHOWN] for key in one.keys]
        show = pictures if rate is None else partial(heard, rate=rate)
        items = show(source, near + names) if source else {}
        queries = show(seen, names) if seen else items
        note = f"The {k} most alike of {len(index):,} items, by the cosine of their embeddings."
        note += "" if source else f" They cannot be shown, for the data cannot be had: {gone}."
        page = write_found if rate is None else partial(write_found_sounds, rate=rate)
        page(Path(html), f"Search in {folder.resolve().name}", note, found, queries, items)
    return found


def all_items(run: str | Path | Result, about: Mapping[str, Any]) -> tuple[Source | None, str]:
    """All that a run learned from and is measured on, as one source; None and the reason where it cannot be had."""
    try:
        if isinstance(run, Result):
            parts = {"train": run.run.data, "test": run.run.test}
        else:
            parts = {"train": rebuild(about["data"]), "test": about["test"] and rebuild(about["test"])}
        return joined({name: searched(make()) for name, make in parts.items() if make}), ""
    except UserError as reason:
        return None, str(reason)


def searched(source: Source) -> Source:
    """The items that can be found: of long recordings the pieces."""
    return source.cut(SEARCHED) if isinstance(source, Sounds) else source


def export(
    run: str | Path | Result,
    to: str,
    *,
    out: str | Path | None = None,
    head: bool = False,
    quiet: bool = False,
) -> Path:
    """Write a run's encoder for use elsewhere, load it again as is done there, and compare. Returns the new folder.

    run:  its folder, whose data may be gone, or what `train` or `fit` returned (the way for an encoder of your own).
    to:   safetensors, torchvision, timm, onnx, torch-export or huggingface.
    out:  a folder; None is RUN/export-FORMAT.  head: add the method's projection, h -> z.
    Raises UserError on what the format cannot hold and as `export_encoder` does.
    """
    log = Log(quiet=quiet)
    place = None if out is None else Path(out)
    at = run.folder if isinstance(run, Result) else Path(run)
    if not exported(at) and of_tables(read_run(at)):
        from .lookup import export_tables

        return export_tables(at, to, out=place, log=log)
    if not exported(at) and of_histories(read_run(at)):
        from .serve import opened  # which reads this module

        warn_unfinished(at, log)
        return export_histories(at, opened(run).method, to, out=place, log=log)
    if not exported(at) and any(of(read_run(at)) for of in (of_sounds, of_documents, of_videos)):
        raise UserError(f"export knows photos, histories, graphs and texts: load this encoder by load_encoder('{at}')")
    encoder: nn.Module
    method: Method | None
    if isinstance(run, Result):
        folder, encoder, method = run.folder, run.method.encoder, run.method
    elif head:
        folder = Path(run)
        parts = {k: v for k, v in read_run(folder)["run"].items() if k in ("encoder", "method", "batchnorm")}
        method = trained(Run.from_json(parts, data=None), folder)  # what has weights: the rest may be gone
        encoder = method.encoder
    else:
        folder, encoder, method = Path(run), load_encoder(run), None
    warn_unfinished(folder, log)
    return export_encoder(folder, encoder, to, out=place, method=method if head else None, log=log)
