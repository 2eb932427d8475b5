"""From a Run to a folder that explains itself: data, training, the finished encoder, measures, a page."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from . import dist
from .checkpoint import load, save_encoder, steps
from .data.dice import Dice
from .data.loader import Loader, collate
from .errors import BrokenItem, UserError
from .evaluate.embed import features, model
from .evaluate.knn import knn
from .evaluate.measure import Table, evaluate
from .evaluate.split import holdout
from .folder import open_folder, write_json, write_skipped
from .log import Log
from .norm import set_batchnorm
from .report.page import write_page
from .run import Run
from .train import DTYPES, train
from .types import Method, Source


@dataclass
class Result:
    """What `fit` leaves: the run's folder, the method with its trained encoder, and the measures on rank 0."""

    folder: Path
    run: Run
    method: Method
    table: Table | None
    rank: int = 0


def fit(
    run: Run,
    out: str | Path,
    *,
    device: str | None = None,
    fresh: bool = False,
    quiet: bool = False,
    say: tuple[str, ...] = (),
) -> Result:
    """Train a run in the folder `out` and measure it there; goes on where an earlier call was stopped.

    fresh: throw away what the folder holds.  say: lines to print first, such as what was chosen and why.
    Raises UserError on anything a user can mend, TrainingError when the loss is not finite, Interrupted on a signal.
    """
    out = Path(out)
    with dist.launched(find_device(device)) as where:
        leader = dist.rank() == 0
        source, test = sources(run)
        run = run.resolved(source)
        if leader:
            open_folder(out, run.to_json(), described(source), command(), fresh)
        dist.barrier()
        with closing(Log(out if leader else None, quiet or not leader, run.loggers)) as log:
            for line in (*say, f"run folder: {out}"):
                log.say(line)
            result = _fit(run, out, source, test, where, log)
        dist.barrier()
    return result


def _fit(run: Run, out: Path, source: Source, test: Source, where: torch.device, log: Log) -> Result:
    leader = dist.rank() == 0
    method = build(run).to(where)
    if where.type == "cuda":
        method.to(memory_format=torch.channels_last)
    loader = make_loader(run, source, where, log)
    if loader.skipped:
        log.say(f"{len(loader.skipped)} of {len(source)} items could not be read; see {out / 'skipped.csv'}")
    if leader:
        write_skipped(out / "skipped.csv", loader.skipped)
    train(
        method,
        loader,
        run.optimizer(method),
        run.schedule,
        epochs=run.epochs,
        device=where,
        precision=run.precision,
        clip=run.clip,
        seed=run.seed,
        folder=out,
        log=log,
        every_epoch=watch(run, method, source, test, where) if run.watch and source.classes else None,
    )
    result = Result(out, run, method, None, dist.rank())
    if leader:
        save_encoder(out, method.encoder)
        result.table = measure(run, method, source, test, where, log, skipped=loader.skipped)
        write_skipped(out / "skipped.csv", loader.skipped)
        write_json(out / "evaluation.json", result.table.to_json())
        page(result, result.table, source, loader.skipped)
    return result


def find_device(name: str | None) -> torch.device:
    """The device of that name; None: a GPU when there is one. Raises UserError on a device that is not there."""
    gpus = torch.cuda.device_count()
    try:
        device = torch.device(name or ("cuda" if gpus else "cpu"))
    except RuntimeError:
        raise UserError(f"device must be cpu, cuda or cuda:NUMBER, got '{name}'") from None
    if device.type == "cuda" and (device.index or 0) >= gpus:
        raise UserError(f"device '{name}' is not there: torch sees {gpus} CUDA devices; use --device cpu")
    return device


def sources(run: Run) -> tuple[Source, Source]:
    """What to train on and what to measure on: `run.test`, or a share held out of the data."""
    source = run.data()
    if run.test is not None:
        return source, run.test()
    if not run.holdout:
        return source, source
    if len(source) < 4:
        raise UserError(f"{source.name} holds {len(source)} items: two views of so few teach nothing; give at least 4")
    share = max(run.holdout, 1 / len(source))
    rest, held = holdout(len(source), min(share, 2000 / len(source)) if len(source) > 2000 else share)
    return source.subset(rest), source.subset(held)


def build(run: Run) -> Method:
    """The method with its encoder as they are before training; equal for equal seeds."""
    torch.manual_seed(run.seed)
    return set_batchnorm(run.method(run.encoder()), run.batchnorm)  # type: ignore[return-value]


def trained(run: Run, folder: Path) -> Method:
    """The method with the weights of a run's last checkpoint."""
    found = steps(folder)
    if not found:
        raise UserError(f"{folder} has no weights yet: its training has not reached the first checkpoint")
    method = build(run)
    load(found[-1], method)
    return method


def make_loader(run: Run, source: Source, device: torch.device, log: Log) -> Loader:
    with log.progress("reading", len(source)) as bar:
        return Loader(
            source,
            run.views(),
            run.batch_size,
            accumulate=run.accumulate,
            seed=run.seed,
            device=device,
            workers=run.workers,
            memory=run.memory,
            progress=bar,
        )


def measure(
    run: Run,
    method: Method,
    source: Source,
    test: Source | None,
    device: torch.device,
    log: Log,
    *,
    probe: dict[str, Any] | None = None,
    skipped: dict[str, str] | None = None,
) -> Table:
    """A trained method beside chance, raw pixels and its encoder before training. probe: settings of the kNN."""
    precision = None if run.precision == "fp32" else DTYPES[run.precision]
    labelled = len(source) if source.labels is None else int((source.labels >= 0).sum())
    settings = {"knn": {"k": max(1, min(20, labelled // 4))} | (probe or {})}  # a tiny set has fewer neighbours
    with log.progress("measuring", len(source) + len(test or ())) as bar:
        return evaluate(
            method.encoder,
            build(run).encoder,
            method.project,
            source,
            test,
            run.test_view(),
            pair=run.views(),
            device=device,
            precision=precision,
            progress=bar,
            settings=settings,
            skipped=skipped,
        )


def watch(
    run: Run, method: Method, source: Source, test: Source, device: torch.device
) -> Callable[[int], dict[str, Any]]:
    """kNN accuracy on the test items every `run.watch` epochs, for a curve; nothing is chosen by it."""

    def check(epoch: int) -> dict[str, Any]:
        if epoch % run.watch:
            return {}
        view = run.test_view()
        train, judge = (features(model(method.encoder), s, view, device=device) for s in (source, test))
        return {"epoch": epoch, "knn": knn(train, judge).value}

    return check


def described(source: Source) -> dict[str, Any]:
    return {
        "name": source.name,
        "items": len(source),
        "classes": source.classes,
        "fingerprint": source.fingerprint(),
    }


def page(result: Result, table: Table, source: Source, skipped: dict[str, str]) -> None:
    images, ids = [], []
    for i in range(len(source)):
        try:
            images.append(source.read(i))
            ids.append(i)
        except BrokenItem:
            continue
        if len(images) == 12:
            break
    pictures = result.run.views().pictures(*collate(images), Dice(result.run.seed, 0, torch.tensor(ids)))
    write_page(
        result.folder,
        title=f"{type(result.method).__name__} on {source.name}",
        verdict=table.verdict,
        table={row: {probe: str(score) for probe, score in scores.items()} for row, scores in table.rows.items()},
        views=pictures,
        skipped=len(skipped),
    )


def command() -> str:
    """The command line of this process, to repeat it."""
    return shlex.join(["twoviews", *sys.argv[1:]])
