"""How good the vectors of a run on a graph or a text are, beside what costs little and what has learned nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .build import untrained
from .calls import knobs, name
from .data.graph import Graph, Links, adjacency
from .data.nodelabels import NodeLabels
from .data.text import Corpus
from .encoders.table import Table as Vectors
from .evaluate.contexts import ppmi_vectors
from .evaluate.links import Pairs, pairs, placements
from .evaluate.nodes import FRACTIONS, PRONE, UNTRAINED, node_table
from .evaluate.table import Table
from .evaluate.words import word_table
from .log import Log
from .methods.prone import ProNE
from .run import Run
from .types import Method

QUICK: dict[str, Any] = {"fractions": (0.05, 0.2, 0.5, 0.8), "repeats": 3}  # after training; `evaluate` does it all
FULL: dict[str, Any] = {"fractions": FRACTIONS, "repeats": 10}
MOST = 20_000_000  # edges or tokens up to which the floors that count are computed
COUNTED = "counted (PPMI, SVD)"


def vectors(method: Method) -> np.ndarray:
    """(V, D) float32, without a copy."""
    return method.encoder.weight.detach().cpu().numpy()  # type: ignore[operator]


def measure_graph(
    run: Run,
    method: Method,
    graph: Graph,
    labels: Sequence[NodeLabels],
    held: Links | None,
    log: Log,
    *,
    fractions: Sequence[float] = FRACTIONS,
    repeats: int = 10,
) -> Table:
    """graph: without the held-out links.  Raises UserError where there are neither labels nor links."""
    dim = vectors(method).shape[1]
    rows: dict[str, Callable[[], np.ndarray]] = {UNTRAINED: lambda: vectors(untrained(run))}
    if graph.edges <= MOST and not isinstance(method, ProNE):
        rows[PRONE] = lambda: prone_vectors(graph, dim, run.seed)
    rows[PRONE if isinstance(method, ProNE) else name(run.method).lower()] = lambda: vectors(method)
    with log.progress("measuring", len(rows) + 1, brief=True) as bar:
        made = {}
        for done, (row, make) in enumerate(rows.items()):
            made[row] = make()
            bar(done + 1)
        some = [] if held is None else judged(graph, held, run.seed)
        return node_table(made, labels, some, fractions=fractions, repeats=repeats, seed=run.seed)


def judged(graph: Graph, held: Links, seed: int) -> list[Pairs]:
    """Held-out links against pairs that are easy to tell from them, and against pairs that are hard to tell."""
    return [pairs(graph, held, drawn, seed) for drawn in ("uniform", "by degree")] if len(held.source) else []


def prone_vectors(graph: Graph, dim: int, seed: int = 0) -> np.ndarray:
    """(V, D): the strong cheap floor."""
    floor = ProNE(Vectors(len(graph), dim))
    floor.solve(adjacency(graph), seed)
    return vectors(floor)


def link_auc(method: Method, some: Pairs) -> float:
    return float(placements(vectors(method), some).mean())


def measure_words(
    run: Run, method: Method, corpus: Corpus, held: Corpus | None, tests: Sequence[Any], log: Log
) -> Table:
    """corpus: without the held-out lines.  tests: of `word_tests`."""
    window, sample = int(knobs(run.method).get("window", 5)), float(knobs(run.views).get("sample", 1e-3))
    ours = "word2vec"
    with log.progress("measuring", 2, brief=True) as bar:
        rows = {"untrained": vectors(untrained(run))}
        if len(corpus.tokens) <= MOST:
            rows[COUNTED] = ppmi_vectors(
                corpus, rows["untrained"].shape[1], window=window, sample=sample, seed=run.seed
            )
        bar(1)
        rows[ours] = vectors(method)
        contexts = {ours: method.contexts.detach().cpu().numpy()}  # type: ignore[operator]
        how: dict[str, Any] = {"lines": held, "contexts": contexts, "window": window, "sample": sample}
        return word_table(rows, corpus.vocabulary, corpus.counts(), tests, seed=run.seed, **how)
