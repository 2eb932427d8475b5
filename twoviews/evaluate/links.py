"""Link prediction: is an edge that was held out nearer than a pair that is none? And which nodes are most alike.

    AUC = P(cos(source, target) > cos(source, other)) over held-out edges and drawn pairs, relation by relation

`other` is of the target's type and no neighbour of the source, drawn uniformly or, harder, in proportion to its
degree: then telling hubs from the rest earns nothing. Cosine and not dot product: how long a vector is says how often
its node is met, which the degree tells without learning. Beside it what counting says: preferential attachment, and
in a graph of one type common neighbours (Liben-Nowell and Kleinberg 2007).
Intervals as DeLong, DeLong and Clarke-Pearson 1988, by the placements of each edge and its pair together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from ..errors import DataError, unknown
from .alike import nearest
from .ranks import bootstrapped
from .score import Score

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

    from ..data.graph import Graph, Links, Relation

DRAWS = {"uniform": "uniformly from its type", "by degree": "from its type in proportion to the degree"}
TRIES = 20
BLOCK = 2**16


@dataclass(frozen=True)
class Pairs:
    """L held-out edges, each beside a pair that is no edge; all (L,), nodes by their numbers through all types.

    relation: places in `names`.  drawn: a name in DRAWS.  floors: what counting says of the same pairs.
    """

    relation: np.ndarray
    source: np.ndarray
    target: np.ndarray
    other: np.ndarray
    names: tuple[str, ...]
    drawn: str
    floors: dict[str, Score] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.source)

    @property
    def said(self) -> str:
        floors = "".join(f"; {name} has {score}" for name, score in self.floors.items())
        return (
            f"Link AUC, {self.drawn}: by cosine, {len(self):,} held-out edges, each against a pair of the same source "
            f"and a node drawn {DRAWS[self.drawn]}{floors}; brackets: 95 % intervals over the draw of the edges."
        )


def pairs(graph: Graph, links: Links, drawn: str = "uniform", seed: int = 0) -> Pairs:
    """For each held-out edge a pair that is no edge, neither in `graph`, which lacks them, nor among them.

    An edge for which 20 tries find none is left out. Raises UserError for an unknown `drawn`, DataError where no edge
    is left.
    """
    if drawn not in DRAWS:
        raise unknown("way to draw pairs", drawn, DRAWS)
    rng = np.random.default_rng(seed)
    source, target = (np.asarray(x, np.int64) for x in (links.source, links.target))
    other = np.full(len(source), -1)
    for r in np.unique(links.relation):
        relation, rows = graph.relations[r], np.flatnonzero(links.relation == r)
        span, first = graph.between(relation.target), graph.between(relation.source).start
        edges = matrix(graph, relation)
        held = source[rows] * len(graph) + target[rows]
        if relation.source == relation.target:  # it may count in both directions
            held = np.append(held, target[rows] * len(graph) + source[rows])
        for _ in range(TRIES):
            if drawn == "uniform":
                found = rng.integers(span.start, span.stop, len(rows))
            else:
                found = relation.targets[rng.integers(len(relation), size=len(rows))].astype(np.int64)
            wrong = np.asarray(edges[source[rows] - first, found - span.start]).ravel()
            wrong |= np.isin(source[rows] * len(graph) + found, held) | (found == source[rows])
            other[rows[~wrong]] = found[~wrong]
            rows = rows[wrong]
            if not len(rows):
                break
    kept = np.flatnonzero(other >= 0)
    if not len(kept):
        raise DataError(f"none of {len(source):,} held-out edges has a node that its source is not joined to")
    names = tuple(" ".join(relation.triple) for relation in graph.relations)
    out = Pairs(np.asarray(links.relation)[kept], source[kept], target[kept], other[kept], names, drawn)
    return replace(out, floors=counted(graph, out))


def matrix(graph: Graph, relation: Relation) -> csr_matrix:
    """(sources, targets) bool: whether there is an edge."""
    from scipy.sparse import csr_matrix

    source, target = graph.between(relation.source), graph.between(relation.target)
    shape = (source.stop - source.start, target.stop - target.start)
    return csr_matrix((np.ones(len(relation), bool), relation.targets - target.start, relation.starts), shape)


def auc(placements: np.ndarray, pairs: Pairs) -> Score:
    """Placements (L,) -> the AUC, mean over the edges; detail: that of each relation."""
    score = bootstrapped(placements)
    for r in np.unique(pairs.relation):
        score.detail[pairs.names[r]] = float(placements[pairs.relation == r].mean())
    return score


def placements(vectors: np.ndarray, pairs: Pairs) -> np.ndarray:
    """(L,) what each edge and its pair say of the AUC: their mean is the AUC, their spread its error."""
    right, wrong = (cosines(vectors, pairs.source, x) for x in (pairs.target, pairs.other))
    return placed(right, wrong, pairs.relation)


def placed(right: np.ndarray, wrong: np.ndarray, relation: np.ndarray) -> np.ndarray:
    """Scores (L,) of edges and of pairs -> placements (L,): the share of pairs below an edge plus that of edges above
    its pair, less the AUC of the relation; equal scores count half."""
    out = np.empty(len(right))
    for r in np.unique(relation):
        rows = np.flatnonzero(relation == r)
        below, above = _share_below(wrong[rows], right[rows]), 1 - _share_below(right[rows], wrong[rows])
        out[rows] = below + above - below.mean()
    return out


def counted(graph: Graph, pairs: Pairs) -> dict[str, Score]:
    """Preferential attachment (the product of the degrees), and in a graph of one type common neighbours."""
    alone = len(graph.types) == 1
    scores = {name: np.zeros((2, len(pairs))) for name in ("preferential attachment", "common neighbours")[: 1 + alone]}
    for r in np.unique(pairs.relation):
        relation, rows = graph.relations[r], np.flatnonzero(pairs.relation == r)
        edges = matrix(graph, relation)
        source = pairs.source[rows] - graph.between(relation.source).start
        degrees = np.bincount(relation.targets, minlength=len(graph))
        for i, nodes in enumerate((pairs.target[rows], pairs.other[rows])):
            scores["preferential attachment"][i, rows] = np.diff(relation.starts)[source] * degrees[nodes]
            if alone:
                scores["common neighbours"][i, rows] = _shared(edges, source, nodes)
    return {name: auc(placed(x[0], x[1], pairs.relation), pairs) for name, x in scores.items()}


def cosines(vectors: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(L,) of the rows a and b; 0 for a row of zeros."""
    out = np.empty(len(a), np.float32)
    for start in range(0, len(a), BLOCK):
        x, y = vectors[a[start : start + BLOCK]], vectors[b[start : start + BLOCK]]
        length = np.linalg.norm(x, axis=1) * np.linalg.norm(y, axis=1)
        out[start : start + BLOCK] = (x * y).sum(axis=1) / np.maximum(length, 1e-30)
    return out


def _share_below(values: np.ndarray, asked: np.ndarray) -> np.ndarray:
    """The share of `values` below each of `asked`, equals counted half."""
    values = np.sort(values)
    return (np.searchsorted(values, asked) + np.searchsorted(values, asked, side="right")) / (2 * len(values))


def _shared(edges: csr_matrix, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    counts = edges.astype(np.float32)
    counts.sum_duplicates()
    counts.data[:] = 1
    parts = [slice(start, start + BLOCK) for start in range(0, len(a), BLOCK)]
    return np.concatenate([np.asarray(counts[a[p]].multiply(counts[b[p]]).sum(axis=1)).ravel() for p in parts])


@dataclass(frozen=True)
class Near:
    """A node and the nearest of its type: their names and cosines, nearest first."""

    kind: str
    name: str
    near: list[tuple[str, float]]

    def __str__(self) -> str:
        return f"{self.kind} {self.name}: {', '.join(f'{name} ({cosine:.2f})' for name, cosine in self.near)}"


def similar(
    vectors: np.ndarray, graph: Graph, asked: Sequence[int] | None = None, each: int = 3, k: int = 10
) -> list[Near]:
    """The k nearest nodes of the same type by cosine.

    vectors: (V, D).  asked: nodes by their numbers through all types; by default those with most edges, `each` a type.
    """
    if asked is None:
        degrees = np.sum([np.bincount(r.targets, minlength=len(graph)) for r in graph.relations], axis=0)
        spans = [graph.between(kind) for kind in graph.types]
        asked = [s.start + int(i) for s in spans for i in np.argsort(-degrees[s], kind="stable")[:each]]
    table, out = torch.from_numpy(vectors), []
    for node in asked:
        kind = graph.types[graph.kind(node)]
        rows = torch.arange(len(graph))[graph.between(kind)]
        cosine, found = nearest(table[[node]], table, rows[rows != node], k)
        near = [(_name(graph, i), float(x)) for i, x in zip(found[0].tolist(), cosine[0], strict=True)]
        out.append(Near(kind, _name(graph, node), near))
    return out


def _name(graph: Graph, node: int) -> str:
    """What a node is called, or else its id."""
    kind = graph.types[graph.kind(node)]
    text = graph.names.get(kind, graph.ids[graph.kind(node)])[node - graph.between(kind).start].as_py()
    return str(text)
