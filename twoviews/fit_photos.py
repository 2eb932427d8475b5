"""What of a run depends on its items being photos: loader, checkups, measures, page."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

from . import dist
from .build import learn, make_loader, readers, sources, untrained, whole
from .checkpoint import save_encoder
from .data.loader import Loader
from .data.stream import described, notes_of
from .doctor.checkup import checkup
from .doctor.diagnosis import Diagnosis
from .ending import conclude, measured
from .errors import UserError
from .evaluate.embed import features, model
from .evaluate.knn import knn
from .evaluate.leak import copies, siblings
from .evaluate.measure import Table, evaluate
from .evaluate.split import portion
from .log import Log
from .report.page import write_report
from .run import Run
from .train import DTYPES
from .types import Features, Method, Source

CHECKUPS = {4**i for i in range(10)}  # epochs after which the doctor looks closely: rarely enough to cost little


class PhotoTask:
    """A run on photos, as `fit` sees it."""

    parts = "shards"

    def __init__(self, run: Run, source: Source):
        self.source, self.test = sources(run, source)
        self.run = run.resolved(self.source)
        self.seen = portion(self.source)

    def loader(self, device: torch.device, log: Log) -> Loader:
        loader = make_loader(self.run, self.source, device, log)
        if loader.plan:
            log.say(described(self.source, loader.plan))
        return loader

    def lost(self) -> dict[str, str]:
        """Shards that cannot be read whole."""
        return notes_of(self.source)

    def begin(self, method: Method, log: Log) -> None:
        """Weights that start from the data: none."""
        if self.run.start is not None:
            raise UserError("start=RUN goes on with a run on histories; photos have encoder.pretrained")

    def learn(self, method: Method, loader: Any, optimizer: torch.optim.Optimizer, **how: Any) -> int:
        return learn(self.run, method, loader, optimizer, **how)

    def watch(self, method: Method, folder: Path, device: torch.device) -> Callable[[int], dict[str, Any]]:
        return watch(self.run, method, self.seen, self.test, device)

    def checkup(self, method: Method, device: torch.device) -> dict[str, Any]:
        return look(self.run, method, self.seen, self.test, device)

    def report(self, folder: Path, method: Method, device: torch.device, log: Log, out: Path | None = None) -> Path:
        with log.progress("writing the report", len(self.test)) as bar:
            how: dict[str, Any] = {"device": device, "workers": readers(self.test), "progress": bar, "out": out}
            return write_report(folder, self.run, method, self.seen, self.test, **how)

    def finish(
        self, folder: Path, method: Method, device: torch.device, log: Log, skipped: dict[str, str]
    ) -> tuple[Table | None, Diagnosis]:
        save_encoder(folder, method.encoder)
        keep: list[Features] = []
        how: dict[str, Any] = {"skipped": skipped, "keep": keep}
        table = measured(
            folder,
            log,
            partial(measure, self.run, method, self.seen, self.test, device, log, **how),
            lambda: {"leak": known_items(self.seen, self.test, keep)},
        )
        return table, conclude(self, folder, method, device, log, skipped, self.checkup(method, device))


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
    run: Run,
    method: Method,
    source: Source,
    test: Source,
    device: torch.device,
    *,
    drawn: Source | None = None,
    at_once: int = 256,
) -> Callable[[int], dict[str, Any]]:
    """What is looked at between epochs: a checkup after 1, 4, 16, 64 ... of them; kNN accuracy every `run.watch`.

    Nothing is chosen by either. drawn: `source` as views draw from it, where that is another.
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
            values["checkup"] = {
                k: v for k, v in look(run, plain, drawn or source, test, device, at_once).items() if k not in "hz"
            }
        if measured:
            sides = (
                features(model(plain.encoder), s, view, batch_size=at_once, device=device, workers=readers(s))
                for s in (source, test)
            )
            learn, judge = sides
            values["knn"] = knn(learn, judge, k=k).value
        return {"epoch": epoch, **values}

    return check


def look(
    run: Run, method: Method, source: Source, test: Source, device: torch.device, at_once: int = 256
) -> dict[str, Any]:
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
        at_once=at_once,
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
