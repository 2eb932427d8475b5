"""From a Run to a folder that explains itself: data, training, the finished encoder, measures, a page."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from . import dist
from .build import build, describe, find_device, make_loader, make_optimizer, readers, sources, untrained
from .checkpoint import save_encoder
from .data.dice import Dice
from .data.loader import collate
from .errors import BrokenItem, UserError
from .evaluate.embed import features, model
from .evaluate.knn import knn
from .evaluate.measure import Table, evaluate
from .folder import free_folder, locked, open_folder, refuse_another, write_json, write_skipped
from .log import Log
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
    number: bool = False,
) -> Result:
    """Train a run in the folder `out` and measure it there; goes on where an earlier call was stopped.

    fresh:  throw away what the folder holds.  say: lines to print first, such as what was chosen and why.
    number: where `out` holds another run, take out-2, out-3 ... instead of refusing.
    Raises UserError on anything a user can mend, TrainingError when the loss is not finite, Interrupted on a signal.
    """
    with dist.launched(find_device(device)) as where:
        leads = dist.rank() == 0
        source, test = sources(run)
        run = run.resolved(source)
        about = describe(run, source)
        folder = Path(out)
        if leads:
            folder = free_folder(folder, about) if number else refuse_another(folder, about, fresh)
        folder = dist.from_leader(folder)
        early = Log(quiet=quiet or not leads)
        for line in (*say, f"run folder: {folder}"):
            early.say(line)
        method = build(run).to(where)
        if where.type == "cuda":
            method.to(memory_format=torch.channels_last)
        loader = make_loader(run, source, where, early)
        optimizer = make_optimizer(run, method)
        # All that can be wrong has been tried: from here on the folder is written.
        with locked(folder, leads):
            if leads:
                if open_folder(folder, about, fresh):
                    early.say("it was begun before, but stopped ahead of its first checkpoint: starting over")
                write_skipped(folder / "skipped.csv", loader.skipped)
            dist.barrier()
            with closing(Log(folder if leads else None, early.quiet, run.loggers)) as log:
                if loader.skipped:
                    log.say(
                        f"{len(loader.skipped):,} of {len(source):,} items could not be read; see skipped.csv there"
                    )
                train(
                    method,
                    loader,
                    optimizer,
                    run.schedule,
                    epochs=run.epochs,
                    device=where,
                    precision=run.precision,
                    clip=run.clip,
                    seed=run.seed,
                    folder=folder,
                    log=log,
                    every_epoch=watch(run, method, source, test, where),
                )
                result = Result(folder, run, method, None, dist.rank())
                if leads:
                    finish(result, source, test, where, log, loader.skipped)
            dist.barrier()
    return result


def finish(
    result: Result, source: Source, test: Source, device: torch.device, log: Log, skipped: dict[str, str]
) -> None:
    """What a finished run leaves: the encoder alone, the measures, the page."""
    out = result.folder
    save_encoder(out, result.method.encoder)
    verdict = ""
    try:
        result.table = measure(result.run, result.method, source, test, device, log, skipped=skipped)
        write_json(out / "evaluation.json", result.table.to_json())
        verdict = result.table.verdict
    except UserError as why:
        verdict = f"Not measured: {why}"
        log.say(verdict)
    write_skipped(out / "skipped.csv", skipped)
    write_page(
        out,
        title=f"{type(result.method).__name__} on {source.name}",
        verdict=verdict,
        table=result.table.cells() if result.table else {},
        views=some_views(result.run, source),
        skipped=len(skipped),
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
    with log.progress("measuring", len(source) + len(test or ())) as bar:
        return evaluate(
            method.encoder,
            untrained(run).encoder,
            None if type(method).project is Method.project else method.project,
            source,
            test,
            run.test_view(),
            pair=run.views(),
            device=device,
            precision=precision,
            progress=bar,
            settings={"knn": {"k": neighbours(source)} | (probe or {})},
            workers=readers(source),
            skipped=skipped,
        )


def watch(
    run: Run, method: Method, source: Source, test: Source, device: torch.device
) -> Callable[[int], dict[str, Any]] | None:
    """kNN accuracy on the test items every `run.watch` epochs, for a curve; nothing is chosen by it."""
    if not run.watch or any(s.labels is None or len(set(s.labels[s.labels >= 0])) < 2 for s in (source, test)):
        return None
    view, k = run.test_view(), neighbours(source)

    def check(epoch: int) -> dict[str, Any]:
        if epoch % run.watch:
            return {}
        parts = (features(model(method.encoder), s, view, device=device, workers=readers(s)) for s in (source, test))
        learn, judge = parts
        return {"epoch": epoch, "knn": knn(learn, judge, k=k).value}

    return check


def neighbours(source: Source) -> int:
    """k of the kNN: 20, fewer in a tiny set."""
    labelled = len(source) if source.labels is None else int((source.labels >= 0).sum())
    return max(1, min(20, labelled // 4))


def some_views(run: Run, source: Source, most: int = 12) -> list[torch.Tensor]:
    """V tensors (B, C, S, S) in [0, 1]: the views of the first items as training draws them."""
    images, ids = [], []
    for i in range(len(source)):
        try:
            images.append(source.read(i))
            ids.append(i)
        except BrokenItem:
            continue
        if len(images) == most:
            break
    return run.views().pictures(*collate(images), Dice(run.seed, 0, torch.tensor(ids)))
