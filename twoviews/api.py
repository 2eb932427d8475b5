"""The same few verbs from Python and from the command line."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from . import calls
from .after import warn_unfinished
from .build import find_device, of_documents, of_histories, of_sounds, of_tables, of_videos, readers, sources, trained
from .checkpoint import digest, load_encoder, read_run, reading
from .data.image import photos
from .data.listing import few
from .data.remote import is_pattern, is_url
from .data.stream import notes_of
from .errors import UserError, unknown
from .evaluate.embed import model
from .evaluate.measure import Table
from .evaluate.search import Found
from .evaluate.store import embed_to
from .evaluate.table import RAW, UNTRAINED, H
from .fit import Result, fit
from .fit_histories import evaluate_histories
from .fit_photos import measure
from .fit_tables import evaluate_tables
from .log import Log
from .lookup import embed as embed_rows
from .lookup import similar as similar_rows
from .others import (
    embed_clips,
    embed_recordings,
    evaluate_clips,
    evaluate_documents,
    evaluate_recordings,
    known_documents,
    told,
)
from .recipes import RECIPES
from .recipes.demo import DEMOS
from .recipes.photos import explain, train_and_test
from .run import Run
from .serve import embed_histories
from .serve import similar as similar_items
from .types import Source


def train(
    data: Any,
    *,
    recipe: str = "auto",
    out: str | Path | None = None,
    labels: str | Path | None = None,
    device: str | None = None,
    fresh: bool = False,
    quiet: bool = False,
    stop_when_ill: bool = False,
    settings: Mapping[str, Any] | None = None,
    **more: Any,
) -> Result:
    """Train an encoder on any data and measure it; goes on where an earlier call was stopped.

    data:     a folder, archive, Parquet or NumPy file, a folder, URL or pattern of shards, a log, a text, an array, a
              torch Dataset or a Hugging Face dataset.
    stop_when_ill: end the training when the doctor finds the run ill.
    settings: changes to the recipe by name, as {"method.temperature": 0.2}; those without a dot also as keywords.
    >>> twoviews.train("photos/", epochs=50, method="moco", settings={"method.queue": 4096})
    """
    if recipe not in RECIPES:
        raise unknown("recipe", recipe, RECIPES)
    make = RECIPES[recipe]
    read = {k.removeprefix("data."): v for k, v in (settings or {}).items() if k.startswith("data.")}
    known = {"device": str(find_device(device)), "labels": None if labels is None else str(labels), "read": read}
    if isinstance(data, str | Path) and not is_url(str(data)):
        data = str(Path(data))  # so that "photos" and "photos/" are one run
    wanted = inspect.signature(make).parameters
    if labels is not None and "labels" not in wanted:
        raise UserError(f"the recipe '{recipe}' takes its labels from its data; leave --labels out")
    run = make(data, **{k: v for k, v in known.items() if k in wanted})
    run = run.override({**(settings or {}), **more})
    name = recipe if recipe != "auto" else calls.name(run.method).lower()
    say = (f"chosen: {explain(run)}; change any with KEY=VALUE",)
    place = out or Path("runs") / f"{stem(data)}-{name}"
    return fit(
        run,
        place,
        device=device,
        fresh=fresh,
        quiet=quiet,
        say=say,
        number=out is None,
        stop_when_ill=stop_when_ill,
    )


def demo(
    kind: str = "photos",
    *,
    seed: int = 0,
    out: str | Path | None = None,
    device: str | None = None,
    fresh: bool = False,
    quiet: bool = False,
    settings: Mapping[str, Any] | None = None,
) -> Result:
    """Train on an embedded data set, "photos" or "video". Whether it reached what it must, `shortfall` says."""
    if kind not in DEMOS:
        raise unknown("demo", kind, DEMOS)
    run = DEMOS[kind]().override({"seed": seed, "data.seed": seed, "test.seed": seed, **(settings or {})})
    name = "demo" if kind == "photos" else f"demo-{kind}"
    place, say = Path(out or f"runs/{name}-{seed}"), (f"chosen: {explain(run)}",)
    return fit(run, place, device=device, fresh=fresh, quiet=quiet, say=say, number=out is None)


def shortfall(table: Table) -> str | None:
    """Why a demo has failed, or None.

    On photos the encoder must reach twice the kNN accuracy of what has learned nothing. On videos its linear probe must
    have half of their errors at most, and half of its own accuracy at most where frames are shuffled.
    """
    shuffled = table.rows.get(f"{H}, shuffled")
    probe = "linear" if shuffled else "knn"
    ours, raw, untrained = (table.rows[row][probe].value for row in (H, RAW, UNTRAINED))
    beside = f"raw pixels ({raw:.1%}) and untrained encoder ({untrained:.1%})"
    if shuffled is None:
        good = ours >= 2 * max(raw, untrained)
        return None if good else f"the demo failed: kNN {ours:.1%} is not twice {beside}"
    if 1 - ours > (1 - max(raw, untrained)) / 2:
        return f"the demo failed: the linear probe's {ours:.1%} does not halve the errors of {beside}"
    mixed = shuffled[probe].value
    return None if 2 * mixed <= ours else f"the demo failed: with frames shuffled {ours:.1%} stays {mixed:.1%}"


def embed(
    run: str | Path | Result,
    data: Any = None,
    out: str | Path = "embeddings.parquet",
    *,
    labels: str | Path | None = None,
    items: bool = False,
    frames: bool = False,
    windows: float | None = None,
    step: float | None = None,
    kind: str | None = None,
    batch_size: int = 256,
    device: str | None = None,
    quiet: bool = False,
) -> Path:
    """Write one embedding an item of `data` to a .parquet, .npy or .safetensors file. Returns its path.

    run:  the folder of a run, or what `train` or `fit` returned (the way for an encoder of your own).
    data: photos or a log; of a run on a graph or a text the nodes or words, a list or a file of them, or None for all.
    kind: of a run on a graph: nodes of one type alone.
    frames: of a run on recordings: one embedding a frame, with its time, not one a recording.
    windows: of a run on videos: one embedding a window of so many seconds, with its times, not one a video.
    step:    seconds from one window to the next; None: end to end.
    A call that was stopped goes on where it was; items that cannot be read are listed beside the file.
    """
    folder = run.folder if isinstance(run, Result) else Path(run)
    about = read_run(folder)
    if of_tables(about):
        return embed_rows(run, data, out, kind=kind, quiet=quiet)
    if data is None or kind is not None:
        what = "what to embed as DATA" if data is None else "no type: that is for runs on graphs"
        raise UserError(f"{folder} is no run on a graph or a text: give {what}")
    out, where, log = Path(out), find_device(device), Log(quiet=quiet)
    if of_sounds(about):
        if not isinstance(run, Result):
            warn_unfinished(folder, log)
        return embed_recordings(run, data, out, frames=frames, device=where, log=log)
    if frames:
        raise UserError("'frames' is for runs on recordings")
    if of_videos(about):
        if not isinstance(run, Result):
            warn_unfinished(folder, log)
        return embed_clips(run, data, out, seconds=windows, step=step, device=where, log=log)
    if windows is not None or step is not None:
        raise UserError("'windows' and 'step' are for runs on videos")
    if isinstance(run, Result):
        about = run.run.to_json()
        encoder, view = run.method.encoder.eval().to(where), run.run.test_view
    else:
        about = read_run(run)["run"]
        encoder, view = load_encoder(run, where), calls.rebuild(about["test_view"])
        warn_unfinished(Path(run), log)
    if of_histories(read_run(folder)):
        if labels is not None:
            raise UserError("histories have no labels; leave --labels out")
        return embed_histories(run, data, out, items=items, batch_size=batch_size, device=device, quiet=quiet)
    if items:
        raise UserError("'items' is for runs on histories: of photos each is an item")
    source: Source
    if of_documents(read_run(folder)):
        source = known_documents(folder, data)
        skipped = dict(source.skipped)
    else:
        source = photos(data, labels=labels, **reading(about))
        skipped = notes_of(source)
    with log.progress("embedding", len(source)) as bar:
        count = embed_to(
            out,
            model(encoder),
            source,
            view(),
            identity=f"{digest(encoder)} {calls.describe(view)}",
            batch_size=batch_size,
            device=where,
            workers=readers(source),
            progress=bar,
            skipped=skipped,
        )
    return told(out, count, skipped, log)


def evaluate(
    run: str | Path | Result,
    data: Any = None,
    *,
    labels: str | Path | None = None,
    device: str | None = None,
    quiet: bool = False,
    **probe: Any,
) -> Table:
    """Measure a run, on its own data or on other labelled photos or another log, beside what learned nothing.

    run:   the folder of a run, or what `train` or `fit` returned (the way for a method of your own).
    probe: of photos settings of the kNN, as k=200, temperature=0.1. Of histories sampled=100: rank among so many
           popular items instead of all, as the BERT4Rec paper does.
    Raises UserError when the run's own data has changed since: photos it learned from could be among the test.
    """
    where, log = find_device(device), Log(quiet=quiet)
    folder = run.folder if isinstance(run, Result) else Path(run)
    about = read_run(folder)
    if of_tables(about):
        if probe:
            raise UserError(f"a run on a graph or a text is measured without '{next(iter(probe))}'")
        return evaluate_tables(run, data, labels=labels, log=log)
    if of_histories(about):
        setup = run.run if isinstance(run, Result) else Run.from_json(about["run"])
        method = (run.method if isinstance(run, Result) else trained(setup, folder)).to(where)
        warn_unfinished(folder, log)
        if wrong := [name for name in probe if name != "sampled"]:
            raise UserError(f"a run on histories is measured without '{wrong[0]}'; there is sampled=100")
        return evaluate_histories(setup, method, folder, data, device=where, log=log, **probe)
    if "sampled" in probe:
        raise UserError("'sampled' is for runs on histories; photos have k and temperature")
    if of_sounds(about) or of_documents(about) or of_videos(about):
        if probe:
            raise UserError(f"runs on recordings, documents and videos are measured without '{next(iter(probe))}'")
        if not isinstance(run, Result):
            warn_unfinished(folder, log)
        if of_documents(about):
            return evaluate_documents(run, data, device=where, log=log)
        if of_videos(about):
            return evaluate_clips(run, data, labels=labels, device=where, log=log)
        return evaluate_recordings(run, data, labels=labels, device=where, log=log)
    source: Source
    test: Source | None
    if data is not None:
        read = partial(photos, data=data, labels=labels, **reading(about["run"]))
        train_split, test_split = train_and_test(data)
        source, test = read(split=train_split), read(split=test_split) if test_split else None
        setup = run.run if isinstance(run, Result) else Run.from_json(about["run"], data=read, test=None)
        if lost := [f"{shard}: {why}" for shard, why in notes_of(source).items()]:
            log.say(f"{len(lost):,} shards of {source.name} cannot be read whole ({'; '.join(few(lost, 3))})")
    else:
        setup = run.run if isinstance(run, Result) else Run.from_json(about["run"])
        source, test = sources(setup)
        if source.fingerprint() != about["data"]["fingerprint"]:
            raise UserError(f"the data has changed since {folder} was trained: give what to measure on as DATA")
    if isinstance(run, Result):
        method = run.method.to(where)
    else:
        method = trained(setup, folder).to(where)
        warn_unfinished(folder, log)
    return measure(setup, method, source, test, where, log, probe=probe)


def similar(
    run: str | Path | Result,
    entry: Any,
    *,
    k: int = 10,
    kind: str | None = None,
    titles: str | Path | None = None,
    device: str | None = None,
) -> Found:
    """The k items, nodes or words most alike to one: `serve.similar` of histories, `lookup.similar` of the others."""
    if of_tables(read_run(run.folder if isinstance(run, Result) else run)):
        if titles is not None:
            raise UserError("titles are for runs on logs; of a graph names come from files nodes.TYPE beside the edges")
        return similar_rows(run, entry, k=k, kind=kind, device=device)
    if kind is not None:
        raise UserError("types are for runs on graphs; items of a log have none")
    return similar_items(run, entry, k=k, titles=titles, device=device)


def stem(data: Any) -> str:
    """A short name for the data, for the folder of its run."""
    if not isinstance(data, str):
        return type(data).__name__.lower()
    if (is_url(data) or is_pattern(data)) and Path(data).suffix:  # of shards: the folder they lie in
        data = data.rpartition("/")[0]
    return Path(data.rstrip("/")).name.split(".")[0] or "photos"
