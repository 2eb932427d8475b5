"""What a run on recordings, documents or videos says of others: embed them, measure on them."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import torch

from .build import readers, sources, trained
from .calls import describe, knobs
from .checkpoint import digest, load_encoder, read_run
from .data.documents import Documents, documents
from .data.sounds import Sounds, notes_of_sounds, sounds, splits
from .data.videos import Videos, notes_of_videos, videos
from .data.videos import splits as video_splits
from .errors import UserError
from .evaluate.soundstore import embed_sounds
from .evaluate.table import Table
from .evaluate.videostore import embed_videos
from .fit import Result
from .fit_documents import DocumentTask
from .fit_sounds import measure, open_sounds
from .fit_videos import AT_ONCE, held_out
from .fit_videos import measure as measure_clips
from .folder import write_skipped
from .log import Log
from .run import Run

BATCH = 64  # recordings at a time


def embed_recordings(
    run: str | Path | Result, data: Any, out: Path, *, frames: bool, device: torch.device, log: Log
) -> Path:
    """Write one vector a recording, or one a frame with its time, to a file. Returns its path."""
    folder, about = opened(run)
    encoder = run.method.encoder.eval().to(device) if isinstance(run, Result) else load_encoder(folder, device)
    source = sounds(data, rate=about["data"]["rate"])
    for line in notes_of_sounds(source):
        log.say(line)
    skipped = dict(source.notes)
    with log.progress("embedding", len(source)) as bar:
        how: dict[str, Any] = {"frames": frames, "identity": digest(encoder), "batch_size": BATCH, "device": device}
        count = embed_sounds(out, encoder, source, progress=bar, skipped=skipped, **how)
    return told(out, count, skipped, log)


def evaluate_recordings(run: str | Path | Result, data: Any, *, labels: Any, device: torch.device, log: Log) -> Table:
    """Measure a run on its own recordings, or on others with labels: by their splits, else on a part held out.

    Raises UserError when the run's own data has changed since: recordings it learned from could be among the test.
    """
    folder, about = opened(run)
    setup = run.run if isinstance(run, Result) else Run.from_json(about["run"])
    if data is None:
        own, held = sources(setup)
        source, test = open_sounds(own), open_sounds(held)
        if source.fingerprint() != about["data"]["fingerprint"]:
            raise UserError(f"the data has changed since {folder} was trained: give what to measure on as DATA")
    else:
        source, test = others(data, labels, setup, about["data"]["rate"])
    method = (run.method if isinstance(run, Result) else trained(setup, folder)).to(device)
    return measure(setup, method, source, test, device, log)


def others(data: Any, labels: Any, run: Run, rate: int) -> tuple[Sounds, Sounds]:
    """What probes learn from and are judged on of other recordings, by the columns that the run's own have."""
    columns = {name: value for name, value in knobs(run.data).items() if name in ("label", "speaker")}
    own = knobs(run.data).get("labels")
    if labels is None and isinstance(own, str) and "{" in own:  # a pattern of names; a table is of the run's own
        labels = own
    found = splits(data, labels)
    test = next((name for name in ("test", "validation", "valid", "val") if name in found), None)
    if test and "train" in found:
        learn, judge = (sounds(data, labels=labels, rate=rate, split=name, **columns) for name in ("train", test))
        return learn, judge
    whole = sounds(data, labels=labels, rate=rate, **columns)
    rest, held = sources(run.override({"holdout": 0.2}).with_part("test", None), whole)
    return open_sounds(rest), open_sounds(held)


def evaluate_documents(run: str | Path | Result, data: Any, *, device: torch.device, log: Log) -> Table:
    """Measure a run on its own documents, or on others by the words that it knows, a part of them held out.

    Raises UserError when the run's own data has changed since: documents it learned from could be among the test.
    """
    folder, about = opened(run)
    given = {} if data is None else {"data": partial(known_documents, folder, data), "test": None}
    setup = run.run if isinstance(run, Result) else Run.from_json(about["run"], **given)
    if data is None:
        task = DocumentTask(setup, setup.data())  # type: ignore[arg-type]
        if task.source.fingerprint() != about["data"]["fingerprint"]:
            raise UserError(f"the data has changed since {folder} was trained: give what to measure on as DATA")
    else:
        task = DocumentTask(setup.override({"holdout": 0.2}).with_part("test", None), known_documents(folder, data))
    method = (run.method if isinstance(run, Result) else trained(setup, folder)).to(device)
    return task.measure(method, device, log)


def known_documents(folder: Path, data: Any) -> Documents:
    """Other documents, parted as the run's own and by the words that it knows."""
    own = read_run(folder)["run"]["data"]
    settings = {name: own[name] for name in ("lower", "sentences", "words") if name in own}
    return documents(data, vocabulary=folder, **settings)


def opened(run: str | Path | Result) -> tuple[Path, dict[str, Any]]:
    """The run's folder and its run.json."""
    folder = run.folder if isinstance(run, Result) else Path(run)
    return folder, read_run(folder)


def embed_clips(
    run: str | Path | Result,
    data: Any,
    out: Path,
    *,
    seconds: float | None,
    step: float | None,
    device: torch.device,
    log: Log,
) -> Path:
    """Write one vector a video, or one a window of so many seconds with its times, to a file. Returns its path."""
    folder, about = opened(run)
    setup = run.run if isinstance(run, Result) else Run.from_json(about["run"])
    encoder = run.method.encoder.eval().to(device) if isinstance(run, Result) else load_encoder(folder, device)
    source, view = videos(data, **reading_videos(setup)), setup.test_view()
    for line in notes_of_videos(source):
        log.say(line)
    skipped = dict(source.notes)
    with log.progress("embedding", len(source)) as bar:
        count = embed_videos(
            out,
            encoder,
            source,
            view,
            seconds=seconds,
            step=step,
            identity=f"{digest(encoder)} {describe(setup.test_view)}",
            batch_size=AT_ONCE,
            device=device,
            workers=readers(source),
            progress=bar,
            skipped=skipped,
        )
    return told(out, count, skipped, log)


def evaluate_clips(run: str | Path | Result, data: Any, *, labels: Any, device: torch.device, log: Log) -> Table:
    """Measure a run on its own videos, or on others: by their splits, else on a part held out.

    Raises UserError when the run's own data has changed since: videos it learned from could be among the test.
    """
    folder, about = opened(run)
    setup = run.run if isinstance(run, Result) else Run.from_json(about["run"])
    if data is None:
        own = setup.data()
        source, test = held_out(setup, own)  # type: ignore[arg-type]
        if source.fingerprint() != about["data"]["fingerprint"]:
            raise UserError(f"the data has changed since {folder} was trained: give what to measure on as DATA")
    else:
        source, test = other_videos(data, labels, setup)
    method = (run.method if isinstance(run, Result) else trained(setup, folder)).to(device)
    moments, skipped = setup.test_view().moments, source.notes | test.notes
    return measure_clips(setup, method, source.sampled(moments), test.sampled(moments), device, log, skipped)


def other_videos(data: Any, labels: Any, run: Run) -> tuple[Videos, Videos]:
    """What probes learn from and are judged on of other videos, read as the run's own."""
    own = knobs(run.data)
    if labels is None and isinstance(own.get("labels"), str) and "{" in own["labels"]:  # a pattern, as of recordings
        labels = own["labels"]
    how = {"labels": labels, "label": own.get("label"), **reading_videos(run)}
    found = video_splits(data, labels)
    test = next((name for name in ("test", "validation", "valid", "val") if name in found), None)
    if test and "train" in found:
        return videos(data, split="train", **how), videos(data, split=test, **how)
    source = videos(data, **how)
    if source.labels is None:  # the arrow of time has folds of its own
        return source, source
    return held_out(run.override({"holdout": 0.2}).with_part("test", None), source)


def reading_videos(run: Run) -> dict[str, Any]:
    """How a run's encoder wants videos read: settings of `videos`."""
    return {name: value for name, value in knobs(run.data).items() if name in ("max_side", "rate")}


def told(out: Path, count: int, skipped: dict[str, str], log: Log) -> Path:
    """List what could not be read beside the file, and say what was written."""
    listed = out.with_name(out.name + ".skipped.csv")
    write_skipped(listed, skipped)
    broken = f"; {len(skipped):,} could not be read, see {listed}" if skipped else ""
    log.say(f"{count:,} embeddings in {out}{broken}")
    return out
