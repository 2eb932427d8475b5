"""What of a run depends on its items being histories: loader, validation, measures, page.

RUN/items.parquet      the catalogue: column `item` in the order of the encoder's rows, and `count` in the training part
RUN/best/              the method as it was when validation liked it best, and best.json with the epoch
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from . import dist
from .build import learn, untrained, whole
from .calls import describe, knobs
from .checkpoint import read_run, save_encoder, writing
from .data.cloze import Ask, Cloze, Following
from .data.cooccurrence import svd_vectors
from .data.histories import Histories
from .data.logs import histories, notes
from .data.rows import HistoryLoader
from .data.splits import Division, divided
from .data.vocabulary import mapped, near, read_items, write_items
from .doctor.diagnosis import Diagnosis
from .doctor.histories import checkup_histories
from .ending import conclude, fill_best, keep_best
from .errors import UserError
from .evaluate.carry import carried
from .evaluate.described import described_vectors
from .evaluate.floors import markov, popular
from .evaluate.histories import ranking_table
from .evaluate.ranking import Ranks, model_scorer, rank
from .evaluate.sampled import rank_sampled
from .evaluate.table import Table
from .folder import write_json
from .log import Log
from .report.histories import write_history_report
from .run import Run
from .types import FIRST, Method

COLUMNS = ("user", "item", "time", "weight", "least", "split")  # what another log is read by, too
UNLIKE = {"catalogue", "init", "dropout", "attention_dropout"}  # in which a run may differ from that it starts from
ASKED = 10_000  # users whose next item is asked for at each validation


class HistoryTask:
    """A run on histories, as `fit` sees it."""

    parts = "files"

    def __init__(self, run: Run, source: Histories):
        self.log = source
        self.division: Division = divided(source)
        self.source = self.division.train
        self.run = run.resolved(self.source)
        self.views, self.ask = parts(self.run)

    def loader(self, device: torch.device, log: Log) -> HistoryLoader:
        run = self.run
        for line in (*notes(self.log), self.division.said):
            log.say(line)
        how: dict[str, Any] = {"epochs": run.epochs, "accumulate": run.accumulate, "seed": run.seed, "device": device}
        return HistoryLoader(self.source, self.views, run.batch_size, **how)

    def lost(self) -> dict[str, str]:
        return {}

    def begin(self, method: Method, log: Log) -> None:
        """Weights of the run that this one starts from, or item vectors from what is met together."""
        if not hasattr(method, "catalogue"):
            name = type(method).__name__.lower()
            raise UserError(f"method={name} does not learn what comes next: histories take bert4rec or sasrec")
        if self.run.start is not None:
            same_network(self.run.start, self.run)
            log.say(told(carried(method, self.run.start, self.source.vocabulary, self.source)))
            return
        encoder: Any = method.encoder
        init = getattr(encoder, "init", "normal")
        if init == "normal":
            return
        if init == "svd":
            log.say("item vectors begin as the SVD of what is met together; encoder.init=normal begins at random")
            vectors = svd_vectors(self.source, encoder.dim, seed=self.run.seed)
        else:
            log.say(f"item vectors begin from what {init} says of the items")
            item = knobs(self.run.data).get("item")
            vectors = described_vectors(init, self.source.vocabulary, encoder.dim, item, self.run.seed)
        with torch.no_grad():
            encoder.items.weight[FIRST:] = torch.from_numpy(vectors)

    def learn(self, method: Method, loader: Any, optimizer: torch.optim.Optimizer, **how: Any) -> int:
        return learn(self.run, method, loader, optimizer, **how)

    def watch(self, method: Method, folder: Path, device: torch.device) -> Callable[[int], dict[str, Any]]:
        """Asks for the validation items every `run.watch` epochs, and keeps the weights that answered best."""
        if dist.rank() == 0:
            with writing(folder):
                write_items(folder, self.source)  # at once: an unfinished run can answer too
        question = self.division.valid
        if question is None or not self.run.watch:
            return lambda epoch: {}
        chosen = np.random.default_rng(self.run.seed).permutation(len(question.history))[:ASKED]
        chosen = np.sort(chosen)
        asked = type(question)(question.history.subset(chosen), question.truth.subset(chosen))

        def validate(epoch: int) -> dict[str, Any]:
            if epoch % self.run.watch and epoch != self.run.epochs:
                return {}
            if self.views.at(epoch - 1, self.run.epochs) is not self.views:
                return {}  # blanks have not begun, so a history with one behind it is nothing it knows
            plain = whole(self.run, method, device)
            if dist.rank() != 0:
                return {}
            ranks = rank(model_scorer(plain, self.ask, device), asked)
            found = {"epoch": epoch, "recall": ranks.recall(10).value, "ndcg": ranks.ndcg(10).value}
            keep_best(folder, plain, found, by="ndcg")
            return found

        return validate

    def finish(
        self, folder: Path, method: Method, device: torch.device, log: Log, skipped: dict[str, str]
    ) -> tuple[Table | None, Diagnosis]:
        fill_best(folder, method, log)
        save_encoder(folder, method.encoder)
        table, keep = None, dict[str, Ranks]()
        if self.division.test is None:
            write_json(folder / "evaluation.json", {"verdict": f"Not measured: {self.division.said}"})
        else:
            table = measure_histories(self.run, method, self.division, device, log, keep)
            write_json(folder / "evaluation.json", table.to_json())
        return table, conclude(self, folder, method, device, log, skipped, self.checkup(method, device, keep))

    def checkup(self, method: Method, device: torch.device, rows: dict[str, Ranks] | None = None) -> dict[str, Any]:
        how: dict[str, Any] = {"rows": rows, "seed": self.run.seed, "device": device}
        return checkup_histories(method, self.ask, self.division, **how)

    def report(self, folder: Path, method: Method, device: torch.device, log: Log, out: Path | None = None) -> Path:
        with log.progress("writing the report", len(self.source), brief=True) as bar:
            return write_history_report(folder, self.run, method, self.division, out=out, progress=bar)


def measure_histories(
    run: Run,
    method: Method,
    division: Division,
    device: torch.device,
    log: Log,
    keep: dict[str, Ranks] | None = None,
    sampled: int = 0,
) -> Table:
    """A trained method beside what is popular, what is met together, and itself before training.

    keep:    filled with the ranks of each row, where they are wanted.
    sampled: rank among so many popular items instead of all, as the BERT4Rec paper does.
    """
    assert division.test is not None
    ask = parts(run)[1]
    rows: dict[str, Ranks] = {}
    scorers: dict[str, Callable[[], Any]] = {
        "popular": lambda: popular(division.train),
        "markov": lambda: markov(division.train),
        "untrained": lambda: model_scorer(untrained(run).to(device), ask, device),
        type(method).__name__: lambda: model_scorer(method, ask, device),
    }
    question = division.test
    for name, scorer in scorers.items():
        with log.progress(f"measuring {name}", len(question.history), brief=True) as bar:
            counts = division.train.counts()
            if sampled:
                drawn = question.history.counts() + question.truth.counts()  # of all of the log, as in the paper
                how: dict[str, Any] = {"negatives": sampled, "seed": run.seed, "progress": bar}
                rows[name] = rank_sampled(scorer(), question, counts, drawn, **how)
            else:
                rows[name] = rank(scorer(), question, counts, progress=bar)
    if keep is not None:
        keep |= rows
    return ranking_table(rows, question, division.said)


def evaluate_histories(
    run: Run, method: Method, folder: Path, data: Any = None, *, sampled: int = 0, device: torch.device, log: Log
) -> Table:
    """Measure a run on its own log, or on another whose items it knows. Items that it does not are left out.

    sampled: as in `measure_histories`.
    """
    if sampled < 0:
        raise UserError(f"sampled must be a number of items, or 0 to rank among all, got {sampled}")
    if data is None:
        about = read_run(folder)["data"]
        division = HistoryTask(run, run.data()).division  # type: ignore[arg-type]
        if division.train.fingerprint() != about["fingerprint"]:
            raise UserError(f"the data has changed since {folder} was trained: give what to measure on as DATA")
    else:
        columns = {name: value for name, value in knobs(run.data).items() if name in COLUMNS}
        names = read_items(folder).names
        other, lost = mapped(histories(data, **columns), names)
        if not other.events:
            raise UserError(f"the model knows none of the items in {other.name}; {near('', names)}")
        if lost["events"]:
            log.say(f"{lost['events']:,} events of {lost['items']:,} items that the model does not know are left out")
        division = divided(other)
    if division.test is None:
        raise UserError(f"nothing to measure: {division.said}")
    return measure_histories(run, method, division, device, log, sampled=sampled)


def parts(run: Run) -> tuple[Cloze | Following, Ask]:
    """The views of a run and how it asks what comes next. Raises UserError where they do not belong together."""
    views, ask = run.views(), run.test_view()
    if not isinstance(views, Cloze | Following):
        raise UserError("histories need views=cloze, or views=following for a causal encoder")
    if not isinstance(ask, Ask):
        raise UserError("histories are asked with test_view=ask")
    if ask.blank != isinstance(views, Cloze):
        wanted = "test_view.blank=True" if isinstance(views, Cloze) else "test_view.blank=False"
        raise UserError(f"these views need {wanted}")
    reads = knobs(run.encoder).get("length")
    if reads is not None and max(views.length, ask.length) > reads:
        raise UserError(f"encoder.length={reads} is shorter than what it is to read: set views.length={reads} instead")
    if run.micro_batch:
        raise UserError("micro_batch is for encoders that give one vector an item; histories take accumulate instead")
    return views, ask


def same_network(start: str, run: Run) -> None:
    """Raises UserError, with what to set, where the weights of another run would not fit or not mean the same."""
    there, here = read_run(start)["run"]["encoder"], describe(run.encoder)
    shape = [name for name in there if name in here and name not in UNLIKE and there[name] != here[name]]
    if shape and "call" not in shape:
        wanted = (f"{'views' if name == 'length' else 'encoder'}.{name}={there[name]}" for name in shape)
        raise UserError(f"{start} is of another network: go on with {' '.join(wanted)}")


def told(carried: dict[str, int]) -> str:
    return (
        f"going on with the weights of another run: {carried['kept']:,} items kept, {carried['new']:,} new, "
        f"{carried['gone']:,} gone"
    )
