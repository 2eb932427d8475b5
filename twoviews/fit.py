"""From a Run to a folder that explains itself: data, training, the finished encoder, measures, a page."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from . import dist
from .build import (
    build,
    describe,
    find_device,
    make_loader,
    make_optimizer,
    readers,
    sharded,
    sources,
    untrained,
    whole,
)
from .checkpoint import save_encoder
from .data.stream import described, notes_of
from .doctor.checkup import checkup
from .doctor.course import read_course
from .doctor.diagnosis import Diagnosis
from .doctor.rules import diagnose
from .doctor.watch import Watch
from .errors import DataError, UserError
from .evaluate.embed import features, model
from .evaluate.knn import knn
from .evaluate.leak import copies, siblings
from .evaluate.measure import Table, evaluate
from .evaluate.split import portion
from .folder import free_folder, locked, open_folder, refuse_another, write_json, write_skipped
from .log import Log, console
from .recompute import lean
from .report.page import write_report
from .run import Run
from .train import DTYPES, train
from .types import Features, Method, Source

CHECKUPS = {4**i for i in range(10)}  # epochs after which the doctor looks closely: rarely enough to cost little


@dataclass
class Result:
    """What `fit` leaves: the folder, the method with its trained encoder, on rank 0 the measures and the diagnosis.

    Of a run with shard=True only rank 0 has the whole method.
    """

    folder: Path
    run: Run
    method: Method
    table: Table | None
    rank: int = 0
    diagnosis: Diagnosis | None = None


def fit(
    run: Run,
    out: str | Path,
    *,
    device: str | None = None,
    fresh: bool = False,
    quiet: bool = False,
    say: tuple[str, ...] = (),
    number: bool = False,
    stop_when_ill: bool = False,
) -> Result:
    """Train a run in the folder `out` and measure it there; goes on where an earlier call was stopped.

    fresh:  throw away what the folder holds.  say: lines to print first, such as what was chosen and why.
    number: where `out` holds another run, take out-2, out-3 ... instead of refusing.
    stop_when_ill: end the training when the doctor has called the run ill twice in a row.
    Raises UserError on anything a user can mend, TrainingError when the loss is not finite or the run is stopped as
    ill, Interrupted on a signal.
    """
    with dist.launched(find_device(device)) as where:
        leads = dist.rank() == 0
        source, test = sources(run)
        seen = portion(source)
        run = run.resolved(source)
        about = describe(run, source)
        one_data(about["data"])
        folder = Path(out)
        if leads:
            folder = free_folder(folder, about) if number else refuse_another(folder, about, fresh)
        folder = dist.from_leader(folder)
        early = Log(quiet=quiet or not leads)
        for line in (*say, f"run folder: {folder}"):
            early.say(line)
        layout = torch.contiguous_format if run.shard else torch.channels_last  # FSDP2 takes no other
        method = build(run).to(where).to(memory_format=layout)
        with lean(method, run.micro_batch, run.recompute):  # can it be?
            pass
        method = sharded(method, where) if run.shard else method
        loader = make_loader(run, source, where, early)
        if loader.plan:
            early.say(described(source, loader.plan))
        optimizer = make_optimizer(run, method)
        # All that can be wrong has been tried: from here on the folder is written.
        with locked(folder, leads):
            if leads:
                if open_folder(folder, about, fresh):
                    early.say("it was begun before, but stopped ahead of its first checkpoint: starting over")
                write_skipped(folder / "skipped.csv", loader.skipped)
            dist.barrier()
            with closing(Log(folder if leads else None, early.quiet, run.loggers)) as log:
                lost = notes_of(source)
                if lost:
                    log.say(f"{len(lost):,} shards could not be read whole; see skipped.csv there")
                if broken := len(loader.skipped.keys() - lost):
                    log.say(f"{broken:,} of {len(source):,} items could not be read; see skipped.csv there")
                doctor = Watch(folder, log.say, stop_when_ill)
                told = dict(loader.skipped)

                def tell() -> None:
                    """List what any rank could not read: who goes on from a checkpoint does not meet it again."""
                    news = dist.from_all(dict(loader.skipped.items() - told.items()))
                    for found in news:
                        loader.skipped.update(found)
                    told.update(loader.skipped)
                    if leads and any(news):
                        write_skipped(folder / "skipped.csv", loader.skipped)

                log.listeners += [doctor.see] if leads else []
                try:
                    train(
                        method,
                        loader,
                        optimizer,
                        run.schedule,
                        epochs=run.epochs,
                        device=where,
                        precision=run.precision,
                        clip=run.clip,
                        micro_batch=run.micro_batch,
                        recompute=run.recompute,
                        seed=run.seed,
                        folder=folder,
                        log=log,
                        every_epoch=watch(run, method, seen, test, where),
                        stop=doctor.reason,
                        before_save=tell,
                    )
                except DataError as why:
                    if not leads:  # rank 0 has not met it and will end without a word of it
                        console.print(f"process {dist.rank()}: {why}")
                    raise
                result = Result(folder, run, whole(run, method, where), None, dist.rank())
                if leads:
                    finish(result, seen, test, where, log, loader.skipped)
            dist.barrier()
    return result


def one_data(about: dict[str, Any]) -> None:
    """Raises UserError, on all ranks, where one sees other data than rank 0: they would wait for each other forever."""
    first, *others = dist.from_all(about)
    for rank, other in enumerate(others, 1):
        if other != first:
            raise UserError(
                f"process {rank} sees other data ({other['items']:,} items) than process 0 ({first['items']:,} items): "
                "give all hosts the same files, and start again where one could not be reached"
            )


def finish(
    result: Result, source: Source, test: Source, device: torch.device, log: Log, skipped: dict[str, str]
) -> None:
    """What a finished run leaves: the encoder alone, the measures, the page."""
    out = result.folder
    save_encoder(out, result.method.encoder)
    keep: list[Features] = []
    write_json(out / "checkup.json", look(result.run, result.method, source, test, device))
    try:
        result.table = measure(result.run, result.method, source, test, device, log, skipped=skipped, keep=keep)
        leak = known_items(source, test, keep)
        write_json(out / "evaluation.json", {**result.table.to_json(), "leak": leak})
    except UserError as why:
        write_json(out / "evaluation.json", {"verdict": f"Not measured: {why}"})
        log.say(f"not measured: {why}")
    write_skipped(out / "skipped.csv", skipped)
    result.diagnosis = diagnose(read_course(out))
    write_json(out / "doctor.json", result.diagnosis.to_json())
    with log.progress("writing the report", len(test)) as bar:
        how: dict[str, Any] = {"device": device, "workers": readers(test), "progress": bar}
        write_report(out, result.run, result.method, source, test, **how)


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
    keep: list[Features] | None = None,
) -> Table:
    """A trained method beside chance, raw pixels and its encoder before training. probe: settings of the kNN."""
    source, precision = portion(source), None if run.precision == "fp32" else DTYPES[run.precision]
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
            keep=keep,
        )


def watch(
    run: Run, method: Method, source: Source, test: Source, device: torch.device
) -> Callable[[int], dict[str, Any]]:
    """What is looked at between epochs: a checkup after 1, 4, 16, 64 ... of them; kNN accuracy every `run.watch`.

    Nothing is chosen by either.
    """
    view, k = run.test_view(), neighbours(source)
    labelled = all(s.labels is not None and len(set(s.labels[s.labels >= 0])) > 1 for s in (source, test))

    def check(epoch: int) -> dict[str, Any]:
        values: dict[str, Any] = {}
        measured = run.watch and labelled and epoch % run.watch == 0
        if epoch not in CHECKUPS and not measured:
            return {}
        plain = whole(run, method, device)
        if dist.rank() != 0:
            return {}
        if epoch in CHECKUPS:
            values["checkup"] = {k: v for k, v in look(run, plain, source, test, device).items() if k not in "hz"}
        if measured:
            sides = (features(model(plain.encoder), s, view, device=device, workers=readers(s)) for s in (source, test))
            learn, judge = sides
            values["knn"] = knn(learn, judge, k=k).value
        return {"epoch": epoch, **values}

    return check


def look(run: Run, method: Method, source: Source, test: Source, device: torch.device) -> dict[str, Any]:
    """A `checkup` with a run's own views and the batches of all processes, each a group where BatchNorm is local."""
    groups = run.batchnorm if isinstance(run.batchnorm, int) else 1
    groups *= 1 if run.batchnorm == "global" else dist.world()
    if run.micro_batch:  # a part of the batch has statistics of its own
        groups = max(groups, -(-run.batch_size // run.accumulate // run.micro_batch))
    return checkup(
        method,
        source,
        test,
        run.views(),
        run.test_view(),
        batch_size=run.batch_size // run.accumulate,
        groups=groups,
        seed=run.seed,
        device=device,
        workers=readers(test),
    )


def known_items(source: Source, test: Source, seen: list[Features]) -> dict[str, Any]:
    """What the test items share with the training items: pixels, and names of one original where that helps kNN."""
    found: dict[str, Any] = {}
    if same := copies(source, test):
        found["copies"] = same.to_json()
    if seen and (family := siblings(seen[0], seen[1], k=neighbours(source))):
        found["siblings"] = family.to_json()
    return found


def neighbours(source: Source) -> int:
    """k of the kNN: 20, fewer in a tiny set."""
    labelled = len(source) if source.labels is None else int((source.labels >= 0).sum())
    return max(1, min(20, labelled // 4))
