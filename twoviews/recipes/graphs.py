"""What `twoviews train GRAPH` chooses, and the recipes of the papers.

    twoviews train edges/
    twoviews train edges/ views.metapaths=author-paper-venue-paper-author
    twoviews train edges/ --recipe node2vec views.q=0.5
    twoviews train edges/ --recipe prone

`epochs` is the number of walks from every node where a walk may start. Published figures and ours are in
benchmarks/README.md, with protocol, hardware and command.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np

from ..calls import change
from ..data.graph import Graph
from ..data.graphs import graph, is_graph
from ..data.once import kept, taken
from ..data.text import is_text
from ..data.walks import edges, node2vec_walks, walks
from ..encoders.relational import Relational
from ..encoders.table import table
from ..errors import UserError
from ..methods.deepwalk import deepwalk as DeepWalk
from ..methods.gtn import GTN
from ..methods.line import LINE
from ..methods.metapath2vec import metapath2vec as MetaPath2Vec
from ..methods.node2vec import node2vec as Node2Vec
from ..methods.prone import ProNE
from ..optim import adamw, constant, linear, sgd
from ..run import Run

TOKENS = 50_000_000  # nodes on walks that two cores read in two or three minutes
BLOCK = 2**16  # nodes on walks that are made at a time


def metapath2vec(
    data: Any, *, labels: str | None = None, read: Mapping[str, Any] | None = None, tokens: int = TOKENS
) -> Run:
    """metapath2vec on typed graphs: walks along meta-paths, which short runs on held-out links choose."""
    source, g = seen(data, labels, read)
    return Run(
        **shared(source, g, 80, tokens),
        views=partial(walks, metapaths="auto", length=80),
        method=partial(MetaPath2Vec, window=10, shrink=True),
    )


def deepwalk(
    data: Any, *, labels: str | None = None, read: Mapping[str, Any] | None = None, tokens: int = TOKENS
) -> Run:
    """DeepWalk: uniform walks over all edges."""
    source, g = seen(data, labels, read)
    return Run(**shared(source, g, 40, tokens), views=partial(walks, length=40), method=partial(DeepWalk))


def node2vec(
    data: Any, *, labels: str | None = None, read: Mapping[str, Any] | None = None, tokens: int = TOKENS
) -> Run:
    """node2vec: walks that return (views.p) or stay near (views.q)."""
    source, g = seen(data, labels, read)
    return Run(**shared(source, g, 80, tokens), views=partial(node2vec_walks, length=80), method=partial(Node2Vec))


def line(data: Any, *, labels: str | None = None, read: Mapping[str, Any] | None = None, tokens: int = TOKENS) -> Run:
    """LINE: single edges; first and second order, each half of the vector."""
    source, g = seen(data, labels, read)
    epochs = int(np.clip(tokens // max(2 * g.edges, 1), 1, 500))
    return Run(**shared(source, g, 2, tokens) | {"epochs": epochs}, views=partial(edges), method=partial(LINE))


def prone(data: Any, *, labels: str | None = None, read: Mapping[str, Any] | None = None) -> Run:
    """ProNE: no walks, a sparse factorisation and a filter; seconds."""
    source, g = seen(data, labels, read)
    return Run(**shared(source, g, 1, 1), views=partial(edges), method=partial(ProNE))


def gtn(data: Any, *, labels: str | None = None, read: Mapping[str, Any] | None = None) -> Run:
    """Graph Transformer Network: learns from the labels of nodes which relations to walk, for graphs that fit."""
    source, _ = seen(data, labels, read)
    return Run(
        data=source,
        encoder=partial(Relational, dim=32, paths=2, length=3),
        method=partial(GTN),
        optimizer=partial(adamw, lr=0.02, weight_decay=0.01),
        schedule=partial(constant),
        epochs=60,
        watch=5,
        holdout=0.7,
    )


def reading(data: Any, labels: str | None, read: Mapping[str, Any] | None) -> partial:
    """How the graph is read. Raises UserError on a setting that there is not, or a value that does not fit it."""
    source = partial(graph, data=data)
    for name, value in {**({} if labels is None else {"labels": labels}), **(read or {})}.items():
        source = change(source, name, value, "data")
    return source


def seen(data: Any, labels: str | None, read: Mapping[str, Any] | None) -> tuple[partial, Graph]:
    if is_text(data) and not is_graph(data):
        raise UserError(f"'{data}' is a text, and this recipe takes a graph; leave --recipe out, or take word2vec")
    source = reading(data, labels, read)
    g = taken(source)  # of_one_type may have read it
    return source, kept(source, g)


def of_one_type(data: Any, labels: str | None, read: Mapping[str, Any] | None) -> bool:
    """Whether there are no types that walks could follow. Reads the graph, which the recipe then has."""
    return len(seen(data, labels, read)[1].types) == 1


def shared(source: partial, g: Graph, length: int, tokens: int) -> dict[str, Any]:
    return {
        "data": source,
        "encoder": partial(table, dim=128),
        "optimizer": partial(sgd, lr=0.025, momentum=0.0, weight_decay=0.0),
        "schedule": partial(linear),
        "epochs": int(np.clip(tokens // max(len(g) * length, 1), 1, 100)),
        "batch_size": BLOCK,
        "holdout": 0.05,
    }
