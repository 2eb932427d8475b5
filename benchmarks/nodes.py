"""How well vectors tell the classes of nodes, by the published protocols, on the sets of labelled graphs.

    python benchmarks/nodes.py [--sets acl_hin blogcatalog cora] [--methods DeepWalk ProNE] [--epochs-factor 0.1]
                               [--seeds 0 1 2] [--repeats 10]

    acl_hin          metapath2vec over author-paper-venue-paper-author, 3 walks of 80 nodes from each author; GTN, ProNE
    acl_hin, harder  the venues of labelled papers are not known: over author-paper-author and, half of the walks,
                     author-paper-term-paper-author; GTN and ProNE on what edges are left
    blogcatalog      DeepWalk, node2vec (p = q = .25), LINE, ProNE
    wikipedia_pos    DeepWalk, node2vec (p = 4, q = .5), ProNE; its edges have weights
    cora, citeseer, pubmed  DeepWalk, ProNE

On graphs of one type 80, 40 or 20 walks of 40 nodes from each node, LINE 75 times as many single edges as there are.
Window 10 that shrinks, 5 negatives, lr .025, 128 numbers a node, one thread. F1 in percent, macro / micro, on the nodes
that the logistic regression did not learn from: vectors of length 1, ten splits. CPU s is training alone, code loaded.

Where a node may have several labels, C = 1 and the k likeliest are taken (DeepWalk's scoring.py). That protocol reads
vectors as they come, some three long, and C = 1 weighs less on these: "x 3" reads three times the vectors of length 1.
GTN learns from labels: from 20 % of them, another 10 % choose its epoch, the rest is the test, once for each seed.
More seeds: means over them. Needs the folder graph of TWOVIEWS_DATA (default: ../shared/data).
"""

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.sparse import coo_matrix

from twoviews import skipgram
from twoviews.build import build, make_optimizer
from twoviews.checkpoint import fill, weights
from twoviews.data.graph import Graph, adjacency
from twoviews.data.graphs import graph
from twoviews.data.nodelabels import NodeLabels, node_labels
from twoviews.data.walks import edges, node2vec_walks, walks
from twoviews.encoders.table import Table
from twoviews.evaluate.nodes import classified, unit
from twoviews.fit_gtn import GTNTask
from twoviews.log import Log
from twoviews.methods.deepwalk import deepwalk
from twoviews.methods.line import LINE
from twoviews.methods.metapath2vec import metapath2vec
from twoviews.methods.node2vec import node2vec
from twoviews.methods.prone import ProNE
from twoviews.optim import linear
from twoviews.recipes.graphs import gtn

DATA = Path(os.environ.get("TWOVIEWS_DATA", Path(__file__).parents[2] / "shared" / "data")) / "graph"
FRACTIONS = (0.05, 0.1, 0.2, 0.5, 0.8, 0.9)
VENUES, SHARED = "author-paper-venue-paper-author", ("author-paper-author", "author-paper-term-paper-author")
LONG = partial(metapath2vec, window=10, shrink=True)


CODE, PAPER, COGDL = "DeepWalk's README", "node2vec's paper", "CogDL"
PUBLISHED = {
    ("blogcatalog", "DeepWalk"): f"10/50/90 %: macro 21.1/28.3/28.2, micro 35.9/41.5/42.4 ({CODE})",
    ("blogcatalog", "node2vec"): f"macro 25.8 at 50 % ({PAPER}); micro 40.2 at 90 % ({COGDL})",
    ("blogcatalog", "LINE"): f"macro 7.8 at 50 % ({PAPER}); micro 38.1 at 90 % ({COGDL})",
    ("blogcatalog", "ProNE"): f"micro 41.1 at 90 % ({COGDL})",
    ("wikipedia_pos", "DeepWalk"): f"macro 12.7 at 50 % ({PAPER}); micro 49.5 at 90 % ({COGDL})",
    ("wikipedia_pos", "node2vec"): f"macro 15.5 at 50 % ({PAPER}); micro 54.6 at 90 % ({COGDL})",
    ("wikipedia_pos", "ProNE"): f"micro 56.1 at 90 % ({COGDL})",
}


@dataclass(frozen=True)
class Case:
    """views, epochs: of a skip-gram method."""

    data: str
    name: str
    method: Callable[..., Any]
    views: Any = None
    epochs: int = 0


CASES = [
    Case("acl_hin", "metapath2vec", LONG, walks(VENUES, 80), 3),
    Case("acl_hin", "GTN", gtn),
    Case("acl_hin", "ProNE", ProNE),
    Case("acl_hin, harder", "metapath2vec", LONG, walks(SHARED, 80), 3),
    Case("acl_hin, harder", "GTN", gtn),
    Case("acl_hin, harder", "ProNE", ProNE),
    Case("blogcatalog", "DeepWalk", deepwalk, walks(length=40), 80),
    Case("blogcatalog", "node2vec", node2vec, node2vec_walks(0.25, 0.25, 40), 80),
    Case("blogcatalog", "LINE", LINE, edges(), 75),
    Case("blogcatalog", "ProNE", ProNE),
    Case("wikipedia_pos", "DeepWalk", deepwalk, walks(length=40), 40),
    Case("wikipedia_pos", "node2vec", node2vec, node2vec_walks(4.0, 0.5, 40), 40),
    Case("wikipedia_pos", "ProNE", ProNE),
]
for citations in ("cora", "citeseer", "pubmed"):
    CASES += [Case(citations, "DeepWalk", deepwalk, walks(length=40), 20), Case(citations, "ProNE", ProNE)]


@dataclass
class Found:
    """Of each seed: the CPU seconds, and {scale: (2, fractions) macro and micro F1}."""

    seconds: list[float] = field(default_factory=list)
    scores: dict[float, list[np.ndarray]] = field(default_factory=dict)

    def add(self, scale: float, scores: np.ndarray) -> None:
        self.scores.setdefault(scale, []).append(scores)


def opened(data: str) -> tuple[Graph, NodeLabels]:
    """The graph, and the labels of its authors or of its only type."""
    name, _, harder = data.partition(", ")
    source = graph(str(DATA / name))
    kind = "author" if "author" in source.types else source.types[0]
    if harder:
        source = without_venues(source, node_labels(source, kind="paper")[0].nodes)
    return source, node_labels(source, kind=kind)[0]


def without_venues(source: Graph, papers: np.ndarray) -> Graph:
    """The graph without the edges between some papers and venues; nodes are as many, by number."""
    relations = {}
    for relation in source.relations:
        if relation.reverse is None:
            here, there = source.between(relation.source), source.between(relation.target)
            rows = np.repeat(np.arange(here.stop - here.start), np.diff(relation.starts))
            kept = ~np.isin(rows + here.start, papers) | (relation.target != "venue")
            ends = rows[kept], relation.targets[kept] - there.start
            shape = here.stop - here.start, there.stop - there.start
            relations[relation.triple] = coo_matrix((np.ones(len(ends[0])), ends), shape)
    return replace(graph(relations), tables=source.tables)


def vectors(case: Case, source: Graph, epochs: int, seed: int, views: Any = None) -> np.ndarray:
    """(V, D), trained."""
    torch.manual_seed(seed)
    method = case.method(Table(len(source), 128))
    if isinstance(method, ProNE):
        method.solve(adjacency(source), seed)
    else:
        stream = (views or case.views).over(source, size=2**16, seed=seed)
        skipgram.learn(method, stream, lr=0.025, schedule=linear, epochs=epochs, threads=1, seed=seed)
    return method.encoder.weight.detach().numpy()


def soft_paths(data: str, source: Graph, labels: NodeLabels, factor: float, seed: int) -> tuple[float, np.ndarray]:
    """CPU seconds of a GTN, and its macro and micro F1, (2, fractions): at 20 % of the labels alone."""
    run = replace(gtn(str(DATA / data.partition(", ")[0])), seed=seed)
    task = GTNTask(replace(run, epochs=max(run.watch, round(run.epochs * factor))), source, labels)
    log, cpu, begun = Log(quiet=True), torch.device("cpu"), time.process_time()
    method = build(task.run)
    with tempfile.TemporaryDirectory() as folder:
        how = {"folder": Path(folder), "log": log, "device": cpu, "every_epoch": task.watch(method, Path(folder), cpu)}
        task.learn(method, task.loader(cpu, log), make_optimizer(task.run, method), **how)
        spent = time.process_time() - begun
        best = Path(folder) / "best" / "method.safetensors"
        fill(method, weights(best), str(best))
    scores = np.full((2, len(FRACTIONS)), np.nan)
    scores[:, FRACTIONS.index(0.2)] = task.f1(task.guesses(method, task.test), task.test)
    return spent, scores


def measured(case: Case, source: Graph, labels: NodeLabels, factor: float, seeds: Sequence[int], repeats: int) -> Found:
    found = Found()
    if case.views is not None:  # compiles
        short = replace(case.views, length=2) if hasattr(case.views, "length") else case.views
        vectors(case, source, 1, 0, short)
    for seed in seeds:
        if case.method is gtn:
            spent, scores = soft_paths(case.data, source, labels, factor, seed)
            found.seconds.append(spent)
            found.add(1.0, scores)
            continue
        begun = time.process_time()
        x = vectors(case, source, max(1, round(case.epochs * factor)), seed)
        found.seconds.append(time.process_time() - begun)
        x = unit(x[labels.nodes])
        for scale in (1.0, 3.0) if labels.multi else (1.0,):
            curve = classified(np.float32(scale) * x, labels.matrix, labels.multi, FRACTIONS, repeats, seed)
            found.add(scale, np.stack([curve.macro.mean(1), curve.micro.mean(1)]))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", nargs="+", default=list(dict.fromkeys(case.data for case in CASES)))
    parser.add_argument("--methods", nargs="+", default=list(dict.fromkeys(case.name for case in CASES)))
    parser.add_argument("--epochs-factor", type=float, default=1.0)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--repeats", type=int, default=10, help="splits of the labels")
    args = parser.parse_args()
    torch.set_num_threads(1)
    print(f"| set | method | CPU s | {' | '.join(f'{share:.0%}' for share in FRACTIONS)} | published |")
    print("|---|---|---:|" + "---|" * (len(FRACTIONS) + 1), flush=True)
    for data in args.sets:
        source, labels = opened(data)
        for case in CASES:
            if case.data != data or case.name not in args.methods:
                continue
            found = measured(case, source, labels, args.epochs_factor, args.seeds, args.repeats)
            for scale, scores in found.scores.items():
                macro, micro = 100 * np.mean(scores, axis=0)
                cells = ["" if np.isnan(a) else f"{a:.1f} / {b:.1f}" for a, b in zip(macro, micro, strict=True)]
                name = case.name + (f", x {scale:g}" if labels.multi else "")
                spent = f"{np.mean(found.seconds):.1f} | {' | '.join(cells)}"
                print(f"| {data} | {name} | {spent} | {PUBLISHED.get((data, case.name), '')} |", flush=True)


if __name__ == "__main__":
    main()
