"""What of a run depends on its items being nodes or words: what is held out, the tables' training, measures, page.

RUN/entries.parquet    what each row of the table stands for: type, id, name, and how often it is met in an epoch
RUN/metapaths.json     which meta-paths `metapaths=auto` chose, and why
RUN/untrained.csv      what no walk and no sentence meets: it keeps the vector it began with
"""

from __future__ import annotations

import csv
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from . import dist, skipgram
from .build import untrained
from .calls import knobs
from .checkpoint import save, save_encoder, steps, writing
from .data.entries import Entries, entries_of, read_entries
from .data.graph import Graph, adjacency, held_out, isolated
from .data.graphs import notes as graph_notes
from .data.nodelabels import NodeLabels, node_labels
from .data.schema import parse_all
from .data.sentences import held_out as held_lines
from .data.sentences import sentences
from .data.text import Corpus
from .data.text import notes as text_notes
from .doctor.diagnosis import Diagnosis
from .doctor.tables import checkup_tables
from .ending import conclude, measured
from .errors import UserError
from .evaluate.links import pairs
from .evaluate.table import Table
from .evaluate.words import word_tests
from .folder import write_json
from .log import Log
from .measure_tables import FULL, QUICK, link_auc, measure_graph, measure_words, vectors
from .methods.prone import ProNE
from .methods.word2vec import SkipGram
from .report.tables import write_table_report
from .run import Run
from .search_paths import choose_metapaths
from .types import Method, Stream

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

HELD = {Graph: 10_000, Corpus: 200_000}  # edges, tokens of a text, that are held out at most
CHOSEN = "metapaths.json"
UNUSED: dict[str, Any] = {"start": None, "accumulate": 1, "micro_batch": None, "recompute": False, "shard": False}
UNUSED |= {"precision": "fp32", "clip": None}


@dataclass
class Feed:
    """What `fit` asks of a loader; sequences are made in `learn`."""

    skipped: dict[str, str] = field(default_factory=dict)


class TableTask:
    """A run on a graph or a text, as `fit` sees it.

    held: what is kept from training to measure on: Links of a graph, a Corpus, or None.
    """

    parts = "files"

    def __init__(self, run: Run, source: Graph | Corpus):
        self.all = source
        self.source: Graph | Corpus = source
        self.held: Any = None
        if run.holdout and isinstance(source, Graph):
            self.source, self.held = held_out(source, run.holdout, HELD[Graph], run.seed)
        elif run.holdout and isinstance(source, Corpus):
            self.source, self.held = held_lines(source, run.holdout, HELD[Corpus], run.seed)
        self.run = run.resolved(self.source)
        self.views = self.run.views()  # `learn` settles what is left to be chosen
        self.labels: list[NodeLabels] = node_labels(source) if isinstance(source, Graph) else []

    def loader(self, device: torch.device, log: Log) -> Feed:
        if dist.world() > 1:
            raise UserError("tables of vectors train on the threads of one process; see docs/scaling.md for more")
        for line in graph_notes(self.all) if isinstance(self.all, Graph) else text_notes(self.all):
            log.say(line)
        return Feed(dict(getattr(self.all, "skipped", {})))

    def lost(self) -> dict[str, str]:
        """Files of a text that cannot be read."""
        return dict(getattr(self.all, "skipped", {}))

    def begin(self, method: Method, log: Log) -> None:
        """Raises UserError where the parts of the run do not belong together."""
        if not isinstance(method, SkipGram | ProNE):
            raise UserError(f"method={type(method).__name__.lower()} does not learn a table of vectors")
        if not hasattr(self.views, "over") or isinstance(self.views, sentences) == isinstance(self.source, Graph):
            raise UserError("a graph needs views=walks, node2vec_walks or edges; a text needs views=sentences")
        for name, usual in UNUSED.items():
            if getattr(self.run, name) != usual:
                raise UserError(f"{name} means nothing to tables of vectors, learned without autograd: leave it out")
        if isinstance(self.source, Graph) and (paths := getattr(self.views, "metapaths", "auto")) != "auto":
            parse_all(self.source, paths)

    def learn(self, method: Method, loader: Any, optimizer: torch.optim.Optimizer, **how: Any) -> int:
        folder, log = how["folder"], how["log"]
        if isinstance(method, ProNE):
            assert isinstance(self.source, Graph)
            edges = adjacency(self.source)
            entries_of(self.all, edges.getnnz(1) + edges.getnnz(0)).write(folder)
            return solved(method, edges, self.run.seed, folder, log)
        self.views = chosen(self.run, self.source, folder, log)()
        assert isinstance(method, SkipGram)
        stream = self.stream()
        entries_of(self.all, self.counts(stream)).write(folder)  # at once: an unfinished run can answer too
        return skipgram.learn(
            method,
            stream,
            lr=optimizer.param_groups[0]["lr"],
            schedule=self.run.schedule,
            epochs=self.run.epochs,
            threads=self.run.workers,
            seed=self.run.seed,
            kinds=self.source.kinds,
            **how,
        )

    def stream(self) -> Stream:
        return self.views.over(self.source, size=self.run.batch_size, seed=self.run.seed)

    def counts(self, stream: Stream) -> np.ndarray:
        """(V,) how often each row is met. A walk that cannot leave its first node teaches nothing."""
        counts = stream.counts()
        return np.where(isolated(self.source), 0, counts) if isinstance(self.source, Graph) else counts

    def watch(self, method: Method, folder: Path, device: torch.device) -> Callable[[int], dict[str, Any]]:
        """How well held-out links are told from others, every `run.watch` epochs."""
        if not self.run.watch or not isinstance(self.source, Graph) or self.held is None:
            return lambda epoch: {}
        some = pairs(self.source, self.held, "by degree", self.run.seed)

        def look(epoch: int) -> dict[str, Any]:
            return {} if epoch % self.run.watch else {"epoch": epoch, "links": link_auc(method, some)}

        return look

    def finish(
        self, folder: Path, method: Method, device: torch.device, log: Log, skipped: dict[str, str]
    ) -> tuple[Table | None, Diagnosis]:
        save_encoder(folder, method.encoder)
        entries = counted(read_entries(folder), self.run, method)
        with writing(folder):
            entries.write(folder)
        write_untrained(folder, entries)
        table = measured(folder, log, partial(self.measure, method, log))
        checkup = self.checkup(method, device, table, entries)
        return table, conclude(self, folder, method, device, log, skipped, checkup)

    def measure(self, method: Method, log: Log, tests: Sequence[Any] = (), full: bool = False) -> Table:
        """tests: of words.  full: the whole protocol, not what is quick."""
        if isinstance(self.source, Graph):
            how = FULL if full else QUICK
            return measure_graph(self.run, method, self.source, self.labels, self.held, log, **how)
        return measure_words(self.run, method, self.source, self.held, tests, log)

    def checkup(
        self, method: Method, device: torch.device, table: Table | None = None, entries: Entries | None = None
    ) -> dict[str, Any]:
        entries = entries or entries_of(self.all, self.counts(self.stream()))
        views = None if isinstance(method, ProNE) else self.views
        return checkup_tables(method, entries, self.source, views=views, table=table, seed=self.run.seed)

    def report(self, folder: Path, method: Method, device: torch.device, log: Log, out: Path | None = None) -> Path:
        with log.progress("writing the report", 1, brief=True) as bar:
            run, entries = replace(self.run, views=settled(self.run.views, folder)), read_entries(folder)
            return write_table_report(folder, run, method, self.source, entries, self.labels, out=out, progress=bar)


def evaluate_tables(run: Any, data: Any = None, *, labels: str | Path | None = None, log: Log) -> Table:
    """Measure a run by the whole protocol.

    data:   of words a file or files of tests (WordSim-353, SimLex-999, questions-words).
    labels: of nodes a table of ids and classes; without it that which lies beside the edges.
    """
    from .after import open_run  # which reads fit.py, which reads this module

    it = open_run(run, None, log)
    task: Any = it.task
    if not isinstance(task, TableTask):
        if data is not None or labels is not None:
            raise UserError("gtn is measured on nodes of the labels that it learned from: leave DATA and --labels out")
        return task.measured(it.method, log)
    if isinstance(task.source, Graph):
        if data is not None:
            labels = data if labels is None else labels
        if labels is not None:
            task.labels = node_labels(task.source, labels)
        return task.measure(it.method, log, full=True)
    if labels is not None:
        raise UserError("words have no labels: give tests of words as DATA, as wordsim353.tsv or questions-words.txt")
    return task.measure(it.method, log, word_tests(data) if data is not None else ())


def settled(views: Callable[..., Any], folder: Path) -> Callable[..., Any]:
    """The views with the meta-paths that were chosen for a run, where it was left to choose them."""
    if knobs(views).get("metapaths") != "auto" or not (folder / CHOSEN).exists():
        return views
    return partial(views, metapaths=tuple(json.loads((folder / CHOSEN).read_text())["paths"]))


def chosen(run: Run, graph: Any, folder: Path, log: Log) -> Callable[..., Any]:
    """The run's views; short runs choose the meta-paths where they are left to be chosen and have not been."""
    views = run.views
    if knobs(views).get("metapaths") == "auto" and not (folder / CHOSEN).exists():
        if len(graph.types) == 1 and len(graph.relations) == 1:
            return partial(views, metapaths="")
        choice = choose_metapaths(graph, knobs(views)["length"], knobs(views)["keep"], run.seed, log)
        write_json(folder / CHOSEN, choice.to_json())
        log.say(choice.said)
    return settled(views, folder)


def solved(method: ProNE, edges: csr_matrix, seed: int, folder: Path, log: Log) -> int:
    """One step: the method's own solution."""
    if not steps(folder):
        with log.progress("factorising", 1, brief=True) as bar:
            begun = time.perf_counter()
            method.solve(edges, seed)
            log.metrics(1, {"seconds": time.perf_counter() - begun})
            bar(1)
        save(folder, 1, method, {"step": 1})
    return 1


def counted(entries: Entries, run: Run, method: Method) -> Entries:
    """With a count of 1 where the epoch that was counted did not come by, and another one did."""
    none = np.flatnonzero(entries.counts == 0)
    if not len(none):
        return entries
    start = untrained(run)
    if isinstance(start, SkipGram):
        start.finish()
    counts = entries.counts.copy()
    counts[none[(vectors(method)[none] != vectors(start)[none]).any(1)]] = 1
    return replace(entries, counts=counts)


def write_untrained(folder: Path, entries: Entries) -> None:
    """List what is never met, in RUN/untrained.csv."""
    rows = np.flatnonzero(entries.counts == 0)
    if not len(rows):
        return
    with writing(folder), (folder / "untrained.csv").open("w", newline="") as f:
        writer = csv.writer(f)
        writer.writerow(["key"])
        writer.writerows([entries.key(row)] for row in rows.tolist())
