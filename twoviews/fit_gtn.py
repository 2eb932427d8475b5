"""What of a run is different where a Graph Transformer Network learns labels of nodes: batches, measures, paths.

RUN/best/                  the weights that told the validation nodes best, and best.json with their epoch
RUN/encoder.safetensors    `weight`, a vector for each node: what the trained encoder gives, as of methods with tables
RUN/entries.parquet        what each row of it stands for; `count` is a node's edges
RUN/metapaths.json         the meta-paths that were found, with their weights
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from . import dist
from .build import learn, untrained, whole
from .calls import accepts, name
from .checkpoint import save_encoder
from .data.entries import Entries, entries_of
from .data.graph import Graph, Relation
from .data.graphs import notes
from .data.nodelabels import NodeLabels, node_labels
from .doctor.diagnosis import Diagnosis
from .doctor.tables import checkup_tables
from .encoders.table import Table as Vectors
from .ending import conclude, fill_best, keep_best
from .errors import DataError, UserError
from .evaluate.nodes import UNTRAINED, Problem, f1, unit
from .evaluate.score import Score, difference, score
from .evaluate.split import holdout
from .evaluate.table import CHANCE, Table
from .folder import write_json
from .log import Log
from .methods.gtn import GTN, STAYS, readable
from .report.tables import write_table_report
from .run import Run
from .types import Batch, Method

DRAWS = 1000  # of the test nodes, for intervals
SHOWN = 20  # meta-paths of a channel that are written down


@dataclass
class FullBatch:
    """The labelled nodes to learn from, all of them in the one step of an epoch."""

    nodes: torch.Tensor
    labels: torch.Tensor
    steps: int = 1
    accumulate: int = 1
    skipped: dict[str, str] = field(default_factory=dict)

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        yield Batch([self.nodes], self.nodes, self.labels)


class GTNTask:
    """A run of `gtn` on a graph, as `fit` sees it.

    labels:   of one type, one class a node; None: those beside the edges, of the type that has most.
    features: (V, F) of all nodes, or None: a table is learned in their place.
    rows:     name -> vectors (V, D) of others to be measured by logistic regression on the same nodes.
    The share `holdout` of the labelled nodes is for the test, a third of the rest for validation: 0.7 is 20/10/70.
    """

    parts = "files"

    def __init__(
        self,
        run: Run,
        source: Graph,
        labels: NodeLabels | None = None,
        features: np.ndarray | None = None,
        rows: Mapping[str, np.ndarray] | None = None,
    ):
        self.source, self.features, self.rows = source, features, dict(rows or {})
        self.labels = labels or most_labelled(source)
        if self.labels.multi:
            raise UserError(f"gtn learns one class a node, and nodes of type {self.labels.kind} have several")
        self.truth = self.labels.matrix.argmax(1)
        rest, self.test = holdout(self.truth, run.holdout or 0.7, run.seed)
        train, valid = holdout(self.truth[rest], 1 / 3, run.seed)
        self.train, self.valid = rest[train], rest[valid]
        if not accepts(run.encoder, "relations"):
            raise UserError(f"method=gtn reads relations: set encoder=relational, not {name(run.encoder)}")
        width = 0 if features is None else features.shape[1]
        encoder = partial(run.encoder, rows=len(source), relations=len(source.relations), features=width)
        self.run = replace(run, encoder=encoder, method=partial(run.method, classes=len(self.labels.classes)))

    def loader(self, device: torch.device, log: Log) -> FullBatch:
        for line in notes(self.source):
            log.say(line)
        log.say(f"{len(self.train):,} nodes of type {self.labels.kind} to learn from, {len(self.valid):,} to choose by")
        return FullBatch(self.nodes(self.train, device), torch.from_numpy(self.truth[self.train]).to(device))

    def lost(self) -> dict[str, str]:
        return {}

    def begin(self, method: Method, log: Log) -> None:
        if not isinstance(method, GTN):
            raise UserError(f"method={type(method).__name__.lower()} does not learn labels of nodes; set method=gtn")
        if self.run.shard or self.run.recompute or self.run.micro_batch:
            raise UserError("gtn reads its graph as a whole: leave out shard, recompute and micro_batch")

    def learn(self, method: Method, loader: FullBatch, optimizer: torch.optim.Optimizer, **how: Any) -> int:
        return learn(self.run, self.connected(method), loader, optimizer, **how)

    def connected(self, method: Method) -> Any:
        """The method with the edges of the graph, which no checkpoint holds."""
        encoder: Any = method.encoder
        if not len(encoder.edges):
            encoder.connect([matrix(self.source, relation) for relation in self.source.relations], self.features)
        return method

    def nodes(self, places: np.ndarray, device: torch.device) -> torch.Tensor:
        return torch.from_numpy(self.labels.nodes[places]).to(device)

    @torch.no_grad()
    def guesses(self, method: Method, places: np.ndarray) -> np.ndarray:
        """(n,) the classes that a method gives the labelled nodes at some places."""
        method = self.connected(method).eval()
        h = method.encoder(self.nodes(places, next(method.parameters()).device))
        return method.project(h).argmax(1).cpu().numpy()

    def watch(self, method: Method, folder: Path, device: torch.device) -> Callable[[int], dict[str, Any]]:
        """Tells the validation nodes every `run.watch` epochs, and keeps the weights that did it best."""

        def validate(epoch: int) -> dict[str, Any]:
            if not self.run.watch or (epoch % self.run.watch and epoch != self.run.epochs):
                return {}
            plain = whole(self.run, method, device)
            if dist.rank() != 0:
                return {}
            macro, micro = self.f1(self.guesses(plain, self.valid), self.valid)
            found = {"epoch": epoch, "macro": macro, "micro": micro}
            keep_best(folder, plain, found, by="macro")
            return found

        return validate

    def f1(self, guess: np.ndarray, places: np.ndarray) -> tuple[float, float]:
        classes = np.eye(len(self.labels.classes), dtype=bool)
        return f1(self.labels.matrix[places], classes[guess], False)

    def finish(
        self, folder: Path, method: Method, device: torch.device, log: Log, skipped: dict[str, str]
    ) -> tuple[Table | None, Diagnosis]:
        fill_best(folder, method, log)
        self.entries().write(folder)
        save_encoder(folder, self.table_of(method).encoder)
        write_json(folder / "metapaths.json", self.found(method))
        table = self.measured(method, log)
        write_json(folder / "evaluation.json", table.to_json())
        return table, conclude(self, folder, method, device, log, skipped, self.checkup(method, device))

    def checkup(self, method: Method, device: torch.device) -> dict[str, Any]:
        return checkup_tables(self.table_of(method), self.entries(), self.source, seed=self.run.seed)

    def report(self, folder: Path, method: Method, device: torch.device, log: Log, out: Path | None = None) -> Path:
        return write_table_report(
            folder, self.run, self.table_of(method), self.source, self.entries(), [self.labels], out=out
        )

    def entries(self) -> Entries:
        """The nodes, each with how many edges leave it."""
        edges = np.zeros(len(self.source), np.int64)
        for relation in self.source.relations:
            edges[self.source.between(relation.source)] += np.diff(relation.starts)
        return entries_of(self.source, edges)

    @torch.no_grad()
    def vectors(self, method: Method) -> np.ndarray:
        """(V, D) h of all nodes."""
        encoder = self.connected(method).eval().encoder
        return encoder(torch.arange(len(self.source), device=encoder.weight.device)).float().cpu().numpy()

    def table_of(self, method: Method) -> GTN:
        """The method with a table of its vectors in place of the encoder, for those who look at tables."""
        vectors = self.vectors(method)
        table: Any = Vectors(*vectors.shape)
        table.weight.data = torch.from_numpy(vectors)
        return GTN(table, len(self.labels.classes))

    def found(self, method: Method) -> dict[str, Any]:
        """What metapaths.json holds: of each channel the heaviest paths from labelled nodes, and their weights."""
        paths = readable(method, self.source.relations, self.labels.kind)
        heaviest = ((c, path, weight) for c, channel in enumerate(paths, 1) for path, weight in channel[:5])
        lines = [f"channel {c}: {weight:.0%} {path}" for c, path, weight in heaviest]
        tops = (next((path for path, _ in channel if path != STAYS), None) for channel in paths)
        chosen = [path for path in dict.fromkeys(tops) if path is not None]
        return {"chosen": chosen, "lines": lines, "channels": [channel[:SHOWN] for channel in paths]}

    def measured(self, method: Method, log: Log) -> Table:
        """The method on the test nodes, beside the largest class and logistic regression on what else there is."""
        others = {"features": self.features} if self.features is not None else {}
        others |= {UNTRAINED: self.vectors(untrained(self.run).to(next(method.parameters()).device)), **self.rows}
        most = np.bincount(self.truth[self.train]).argmax()
        guesses = {CHANCE: np.full(len(self.test), most)}
        for who, vectors in others.items():
            guesses[who] = self.regressed(vectors)
        guesses["GTN"] = self.guesses(method, self.test)
        scores = {who: self.scores(guess) for who, guess in guesses.items()}
        sizes = f"{len(self.train):,} to learn from, {len(self.valid):,} to choose by, {len(self.test):,} for the test"
        said = [
            f"Labelled nodes of type {self.labels.kind}: {sizes}.",
            "Other rows: logistic regression on their vectors, scaled to length 1, on the same nodes to learn from. "
            f"{CHANCE}: the largest class.",
            "Brackets: 95 % intervals for the draw of the test nodes.",
        ]
        return Table("Classes of nodes", scores, said, said=verdict(scores), ours="GTN")

    def regressed(self, vectors: np.ndarray) -> np.ndarray:
        """(n,) the classes of the test nodes by logistic regression on vectors (V, D)."""
        problem = Problem(unit(vectors[self.labels.nodes]), self.labels.matrix, False)
        return problem.logits(self.test, problem.fit(self.train, problem.nothing)).argmax(1)

    def scores(self, guess: np.ndarray) -> dict[str, Score]:
        """Macro and micro F1; the interval of macro F1 by drawing the test nodes anew."""
        truth, classes, n = self.truth[self.test], len(self.labels.classes), len(self.test)
        confusion = np.bincount(truth * classes + guess, minlength=classes**2)
        drawn = np.random.default_rng(self.run.seed).multinomial(n, confusion / n, DRAWS).reshape(-1, classes, classes)
        low, high = np.quantile(macro_f1(drawn), [0.025, 0.975])
        macro = self.f1(guess, self.test)[0]
        return {
            "macro-F1": Score(macro, float(low), float(high), n),
            "micro-F1": score(int((guess == truth).sum()), n),
        }


def macro_f1(confusion: np.ndarray) -> np.ndarray:
    """(..., C, C) counts of true and guessed classes -> (...): mean F1 of the classes that occur."""
    right, both = np.diagonal(confusion, 0, -2, -1), confusion.sum(-1) + confusion.sum(-2)
    return (2 * right / np.maximum(both, 1)).sum(-1) / (both > 0).sum(-1)


def most_labelled(source: Graph) -> NodeLabels:
    """The labels of the type that has most, of those with one class a node."""
    found = [some for some in node_labels(source) if not some.multi and some.matrix.any(0).sum() > 1]
    if not found:
        raise DataError(f"gtn learns from labels and {source.name} has none of one class a node: add labels.TYPE.tsv")
    return max(found, key=lambda some: len(some.nodes))


def matrix(source: Graph, relation: Relation) -> Any:
    """A relation as scipy.sparse.csr_matrix (V, V)."""
    from scipy.sparse import csr_matrix

    rows, v = source.between(relation.source), len(source)
    before, after = np.zeros(rows.start), np.full(v - rows.stop, len(relation))
    starts = np.concatenate([before, relation.starts, after]).astype(relation.starts.dtype)
    weights = np.ones(len(relation), np.float32) if relation.weights is None else relation.weights
    return csr_matrix((weights, relation.targets, starts), shape=(v, v))


def verdict(scores: Mapping[str, Mapping[str, Score]]) -> str:
    ours = scores["GTN"]["macro-F1"]
    others = {who: row["macro-F1"] for who, row in scores.items() if who not in ("GTN", CHANCE)}
    behind = [who for who, other in others.items() if difference(ours, other)[0] <= 0]
    head = f"By macro-F1 GTN has {100 * ours.value:.1f} %"
    if behind:
        return f"{head}, not clearly more than {', '.join(behind)}: train longer, or set more paths."
    return f"{head}, more than {', '.join(others)} by more than the error of the test."
