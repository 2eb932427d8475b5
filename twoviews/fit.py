"""From a Run to a folder that explains itself: data, training, the finished encoder, measures, a page."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from . import dist
from .calls import PACKAGE
from .checkpoint import load, save_encoder, steps, unfetched
from .data.dice import Dice
from .data.loader import Loader, collate, cores
from .errors import BrokenItem, UserError
from .evaluate.embed import features, model
from .evaluate.knn import knn
from .evaluate.measure import Table, evaluate
from .evaluate.split import holdout
from .folder import free_folder, hardware, locked, open_folder, refuse_another, versions, write_json, write_skipped
from .log import Log
from .norm import set_batchnorm
from .report.page import write_page
from .run import Run
from .train import DTYPES, train
from .types import Method, Source

MEASURED = 2000  # items that are held out at most


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
        find = free_folder if number else refuse_another
        folder: Path = dist.from_leader(find(Path(out), about, fresh) if leads else None)
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


def find_device(name: str | None) -> torch.device:
    """The device of that name; None: a GPU when there is one. Raises UserError on a device that is not there."""
    gpus = torch.cuda.device_count()
    try:
        device = torch.device(name or ("cuda" if gpus else "cpu"))
    except RuntimeError:
        raise UserError(f"device must be cpu, cuda or cuda:NUMBER, got '{name}'") from None
    if device.type not in ("cpu", "cuda"):
        raise UserError(f"device must be cpu, cuda or cuda:NUMBER, got '{name}'")
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
    n = len(source)
    if n < 4:
        raise UserError(f"{source.name} holds {n} items: two views of so few teach nothing; give at least 4")
    share = min(max(run.holdout, 2 / n), max(MEASURED / n, 2 / n))
    try:
        rest, held = holdout(n if source.labels is None else source.labels, share)  # of every class alike
    except UserError:  # too few of each
        rest, held = holdout(n, share)
    return source.subset(rest), source.subset(held)


def build(run: Run) -> Method:
    """The method with its encoder as they are before training; equal for equal seeds."""
    torch.manual_seed(run.seed)
    method = run.method(run.encoder())
    if not isinstance(method, Method):
        raise UserError(f"a method must be a subclass of twoviews.Method, got {type(method).__name__}")
    return set_batchnorm(method, run.batchnorm)  # type: ignore[return-value]


def make_optimizer(run: Run, method: Method) -> torch.optim.Optimizer:
    try:
        return run.optimizer(method)
    except ValueError as error:  # torch's words for a learning rate below 0, say
        raise UserError(f"optimizer: {error}") from None


def untrained(run: Run) -> Method:
    """The method with nothing learned: not even weights from elsewhere that the run begins with."""
    return build(replace(run, encoder=unfetched(run.encoder)))


def trained(run: Run, folder: Path) -> Method:
    """The method with the weights of a run's last checkpoint."""
    found = steps(folder)
    if not found:
        raise UserError(f"{folder} has no weights yet: its training has not reached the first checkpoint")
    method = untrained(run)
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


def readers(source: Source) -> int:
    """Worker processes to read a source with, none for a small one."""
    return cores() if len(source) > 2000 else 0


def describe(run: Run, source: Source) -> dict[str, Any]:
    """What run.json holds."""
    data = {
        "name": source.name,
        "items": len(source),
        "classes": source.classes,
        "fingerprint": source.fingerprint(),
    }
    return {"run": run.to_json(), "data": data, "versions": versions(), "hardware": hardware(), "command": command()}


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


def command() -> str:
    """The command line of this process, to repeat it."""
    program = Path(sys.argv[0])
    if PACKAGE not in (program.stem, program.parent.name):
        return "begun from Python: twoviews.fit(run, folder) with the settings below"
    ranks = f"torchrun --nproc-per-node {dist.world()} -m " if dist.world() > 1 else ""
    return ranks + shlex.join([PACKAGE, *sys.argv[1:]])
