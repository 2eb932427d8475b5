"""What of a run depends on its items being stretches of documents: what is held out, measures, page."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from . import dist
from .build import MEASURED, learn, make_loader, untrained
from .checkpoint import save_encoder
from .data.documents import Documents, notes, write_words
from .data.loader import Loader
from .doctor.diagnosis import Diagnosis
from .ending import conclude, measured
from .errors import UserError
from .evaluate.documents import measure_documents
from .evaluate.split import holdout
from .evaluate.table import Table
from .fit_photos import look, watch
from .folder import writing
from .log import Log
from .methods.cpc import CPC
from .report.documents import write_document_report
from .run import Run
from .types import Method


class DocumentTask:
    """A run on documents, as `fit` sees it."""

    parts = "files"

    def __init__(self, run: Run, source: Documents):
        self.all = source
        self.source, self.test = held_out(run, source)
        self.run = run.resolved(self.source)

    def loader(self, device: torch.device, log: Log) -> Loader:
        for line in notes(self.all):
            log.say(line)
        return make_loader(self.run, self.source, device, log)

    def lost(self) -> dict[str, str]:
        """Files that cannot be read."""
        return self.all.skipped

    def begin(self, method: Method, log: Log) -> None:
        """Weights that start from the data: none."""
        if self.run.start is not None:
            raise UserError("start=RUN goes on with a run on histories, not with one on documents")

    def learn(self, method: Method, loader: Any, optimizer: torch.optim.Optimizer, **how: Any) -> int:
        return learn(self.run, method, loader, optimizer, **how)

    def watch(self, method: Method, folder: Path, device: torch.device) -> Callable[[int], dict[str, Any]]:
        if dist.rank() == 0:
            with writing(folder):
                write_words(folder, self.all)  # at once: an unfinished run can embed too
        return watch(self.run, method, self.source, self.test, device)

    def checkup(self, method: Method, device: torch.device) -> dict[str, Any]:
        return look(self.run, method, self.source, self.test, device)

    def report(self, folder: Path, method: Method, device: torch.device, log: Log, out: Path | None = None) -> Path:
        with log.progress("writing the report", 1) as bar:
            how: dict[str, Any] = {"device": device, "progress": bar, "out": out}
            return write_document_report(folder, self.run, method, self.all, self.source, self.test, **how)

    def measure(self, method: Method, device: torch.device, log: Log) -> Table:
        """A trained method beside chance, bags of words and its encoder before training."""
        bare = untrained(self.run).encoder
        with log.progress("measuring", 1) as bar:
            heads = method.heads if isinstance(method, CPC) and method.first == 1 else None
            how: dict[str, Any] = {"heads": heads, "device": device, "seed": self.run.seed, "progress": bar}
            view = self.run.test_view()
            return measure_documents(method.encoder, bare, self.source, self.test, view, **how)

    def finish(
        self, folder: Path, method: Method, device: torch.device, log: Log, skipped: dict[str, str]
    ) -> tuple[Table | None, Diagnosis]:
        save_encoder(folder, method.encoder)
        table = measured(folder, log, partial(self.measure, method, device, log))
        checkup = self.checkup(method, device)
        return table, conclude(self, folder, method, device, log, skipped | self.lost(), checkup)


def held_out(run: Run, source: Documents) -> tuple[Documents, Documents]:
    """What to learn from and what to measure on: `run.test`, or a share of the documents, each whole.

    Of every class alike, where they have labels.
    """
    if run.test is not None:
        return source, run.test()  # type: ignore[return-value]
    if not run.holdout:
        return source, source
    documents, first = np.unique(source.document, return_index=True)
    n = len(documents)
    if n < 4:
        raise UserError(f"{source.name} holds {n} documents: none can be held out of so few; give 4 or more")
    share = max(min(run.holdout, MEASURED / n), 2 / n)
    try:
        _, held = holdout(n if source.labels is None else source.labels[first], share)
    except UserError:  # too few of each class
        _, held = holdout(n, share)
    mine = np.isin(source.document, documents[held])
    return source.subset(~mine), source.subset(mine)
