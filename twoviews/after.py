"""What one does with a run once it is trained: ask the doctor, look at it, search in it, take its encoder elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from .build import find_device, readers, sources, trained
from .checkpoint import read_run, steps
from .errors import UserError
from .fit import Result
from .log import Log
from .report.compare import write_comparison
from .report.page import write_report
from .run import Run
from .types import Method, Source


@dataclass
class Opened:
    """A run's folder with its settings, data and trained method."""

    folder: Path
    run: Run
    method: Method
    source: Source
    test: Source
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
    source, test = sources(setup)
    if source.fingerprint() != about["data"]["fingerprint"]:
        raise UserError(f"the data has changed since {folder} was trained: put it back, or train on it anew")
    return Opened(folder, setup, method.to(where), source, test, where)


def warn_unfinished(folder: Path, log: Log) -> None:
    if not (folder / "encoder.safetensors").exists() and (found := steps(folder)):
        step = int(found[-1].name.removeprefix("step-"))
        log.say(f"the training in {folder} has not finished: these are its weights after step {step:,}")


def report(
    run: str | Path | Result, *, out: str | Path | None = None, device: str | None = None, quiet: bool = False
) -> Path:
    """Write a run's page anew, RUN/index.html unless `out` says another place. Returns its path."""
    log = Log(quiet=quiet)
    it = open_run(run, device, log)
    with log.progress("writing the report", len(it.test)) as bar:
        return write_report(
            it.folder,
            it.run,
            it.method,
            it.source,
            it.test,
            device=it.device,
            workers=readers(it.test),
            out=None if out is None else Path(out),
            progress=bar,
        )


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
) -> Any:
    """The k items of a run's data that its encoder finds most alike to each query."""
    raise NotImplementedError


def export(
    run: str | Path | Result,
    to: str,
    *,
    out: str | Path | None = None,
    head: bool = False,
    quiet: bool = False,
) -> Path:
    """Write a run's encoder in another format, load it again and compare. Returns the path."""
    raise NotImplementedError
