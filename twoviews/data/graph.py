"""A typed graph: nodes of some types, and one relation a kind of edge, as compressed rows.

Nodes are numbered through all types: those of type t are offsets[t] .. offsets[t + 1] - 1. `global` numbers fit into
int32, which halves what a walk has to read.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..errors import UserError

if TYPE_CHECKING:
    import pyarrow as pa
    from scipy import sparse

REVERSE = "rev_"


@dataclass(frozen=True, eq=False)
class Relation:
    """Edges of one kind from nodes of one type to nodes of one type.

    starts:  (S + 1,) int32, int64 where there are more edges: those of the i-th node of the source type are
             targets[starts[i] : starts[i + 1]].
    targets: (E,) int32, numbers through all types, ascending in each row; an edge given twice stands there twice.
    weights: (E,) float32 above 0, or None where all are equal.
    reverse: the name of the relation that this one is the reverse of, or None.
    directed: False where every edge stands here in both directions (a loop once).
    """

    source: str
    name: str
    target: str
    starts: np.ndarray
    targets: np.ndarray
    weights: np.ndarray | None = None
    reverse: str | None = None
    directed: bool = True

    def __len__(self) -> int:
        return len(self.targets)

    @property
    def triple(self) -> tuple[str, str, str]:
        return self.source, self.name, self.target


@dataclass(frozen=True, eq=False)
class Graph:
    """A source whose items are nodes.

    types:     T names.  offsets: (T + 1,) int64.  ids: T arrays of the nodes' own names, in order of their numbers.
    relations: with the reverses, unless refused.  An undirected graph of one type has one relation that holds both
               directions.
    names:     type -> text for each node, to be shown beside its id, where the data holds such.
    tables:    type -> the file of labels that lies beside the edges.
    counted:   what reading found and did, in words -> how often.
    """

    name: str
    types: tuple[str, ...]
    offsets: np.ndarray
    ids: tuple[pa.Array, ...]
    relations: tuple[Relation, ...]
    names: dict[str, pa.Array] = field(default_factory=dict)
    tables: dict[str, str] = field(default_factory=dict)
    counted: dict[str, int] = field(default_factory=dict)

    labels = None
    classes = None

    def __len__(self) -> int:
        return int(self.offsets[-1])

    @property
    def rows(self) -> int:
        """V, the rows of a table of vectors."""
        return len(self)

    @cached_property
    def edges(self) -> int:
        """Edges as they were given: reverses do not count, nor does the second direction of an undirected edge."""
        return sum(given(self, relation) for relation in self.relations if relation.reverse is None)

    @cached_property
    def kinds(self) -> np.ndarray:
        """(V,) uint8: the type of each node."""
        return np.repeat(np.arange(len(self.types), dtype=np.uint8), np.diff(self.offsets))

    def kind(self, node: int) -> int:
        return int(np.searchsorted(self.offsets, node, side="right")) - 1

    def between(self, kind: str) -> slice:
        """The numbers of the nodes of one type."""
        t = self.types.index(kind)
        return slice(int(self.offsets[t]), int(self.offsets[t + 1]))

    def key(self, index: int) -> str:
        """TYPE/ID, of a graph with one type the id alone."""
        t = self.kind(index)
        name = str(self.ids[t][int(index - self.offsets[t])].as_py())
        return name if len(self.types) == 1 else f"{self.types[t]}/{name}"

    def read(self, index: int) -> Tensor:
        """The node's number, for who reads a table."""
        return torch.tensor(index)

    def subset(self, indices: np.ndarray) -> Any:
        raise UserError("a graph is held out by edges, see held_out")

    def fingerprint(self) -> str:
        """16 hex digits of the ids and the edges."""
        out = blake2b(digest_size=8)
        for kind, ids in zip(self.types, self.ids, strict=True):
            out.update(f"{kind} {len(ids)} {ids.type};".encode())
            for part in _bytes(ids):
                out.update(part)
        for relation in self.relations:
            out.update(f"{relation.triple} {len(relation)};".encode())
            if relation.reverse is None:  # reverses follow from these
                for numbers in (relation.starts, relation.targets, relation.weights):
                    out.update(b"-" if numbers is None else np.ascontiguousarray(numbers).view(np.uint8).data)
        return out.hexdigest()


class Links(NamedTuple):
    """Edges that were held out. relation: (L,) int64, places in Graph.relations; source, target: (L,) int32 global."""

    relation: np.ndarray
    source: np.ndarray
    target: np.ndarray


def _bytes(ids: pa.Array) -> Iterator[Any]:
    """What an array of int64 or text holds, without the padding of its buffers."""
    import pyarrow as pa

    if pa.types.is_integer(ids.type):
        yield ids.to_numpy().data
        return
    buffers: Any = ids.buffers()
    _, ends, text = buffers
    wide: Any = np.int64 if pa.types.is_large_string(ids.type) else np.int32
    bounds = np.frombuffer(ends, wide)[ids.offset : ids.offset + len(ids) + 1]
    yield (bounds - bounds[0]).view(np.uint8).data
    if text is not None:
        yield memoryview(text)[bounds[0] : bounds[-1]]


def given(graph: Graph, relation: Relation) -> int:
    """A relation's edges as they were given: an undirected one counts once."""
    if relation.directed:
        return len(relation)
    from .graphkernels import looped

    first = int(graph.offsets[graph.types.index(relation.source)])
    return (len(relation) + int(looped(relation.starts.astype(np.int64), relation.targets, first))) // 2


def isolated(graph: Graph) -> np.ndarray:
    """(V,) bool: nodes without an edge."""
    out = np.ones(len(graph), bool)
    for relation in graph.relations:
        out[graph.between(relation.source)] &= np.diff(relation.starts) == 0
        if relation.directed and relation.reverse is None:
            out[relation.targets] = False
    return out


def narrow(starts: np.ndarray) -> np.ndarray:
    """Bounds as int32 where they fit."""
    return starts.astype(np.int32) if starts[-1] < 2**31 else starts


def merged(graph: Graph) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """All relations, with the reverses, as one: starts (V + 1,), targets (E,) int32 ascending in each row, weights
    (E,) float32 or None where all are equal. Edges of a relation without weights weigh 1.
    """
    from .graphkernels import NONE, place, turned

    if len(graph.relations) == 1 and len(graph.types) == 1:
        only = graph.relations[0]
        return only.starts, only.targets, only.weights
    starts, heavy = np.zeros(len(graph) + 1, np.int64), any(r.weights is not None for r in graph.relations)
    for relation in graph.relations:
        starts[1:][graph.between(relation.source)] += np.diff(relation.starts)
    np.cumsum(starts, out=starts)
    ends, targets = starts.copy(), np.empty(starts[-1], np.int32)
    weights = np.empty(len(targets) if heavy else 0, np.float32)
    for relation in graph.relations:
        span = graph.between(relation.source)
        rows = np.repeat(np.arange(span.start, span.stop, dtype=np.int32), np.diff(relation.starts))
        weight = relation.weights if relation.weights is not None else np.ones(len(rows) if heavy else 0, np.float32)
        place(rows, relation.targets, weight if heavy else NONE, False, ends, targets, weights)
    starts, targets, weights = turned(*turned(starts, targets, weights, len(graph)), len(graph))
    return narrow(starts), targets, weights if heavy else None


def adjacency(graph: Graph) -> sparse.csr_matrix:
    """(V, V) float32: the sum of the weights of all edges from one node to another, reverses among them."""
    from scipy import sparse

    starts, targets, weights = merged(graph)
    data = np.ones(len(targets), np.float32) if weights is None else weights
    out = sparse.csr_matrix((data, targets, starts), shape=(len(graph), len(graph)))
    if not out.has_canonical_format:  # the arrays are the graph's: add up in a copy
        out = out.copy()
        out.sum_duplicates()
    return out


def held_out(graph: Graph, share: float, most: int, seed: int) -> tuple[Graph, Links]:
    """The graph without some of its edges, and these, drawn at random: of each relation about the same share.

    An edge goes in both directions and however often it stands there, and only where both of its ends keep another of
    the same relation. share: above 0, below 1. most: links in all.
    """
    if not 0 < share < 1:
        raise UserError(f"the share of edges to hold out must lie between 0 and 1, got {share:g}")
    forward = [i for i, relation in enumerate(graph.relations) if relation.reverse is None]
    wanted = min(most, share * graph.edges)
    gone = {}  # place of a relation -> local sources and local targets of what leaves it
    for i in forward:
        quota = int(wanted * given(graph, graph.relations[i]) / graph.edges)
        gone[i] = _drawn(graph, graph.relations[i], quota, np.random.default_rng([seed, i]))
    relations = list(graph.relations)
    for i, relation in enumerate(graph.relations):
        if relation.reverse is None:
            source, target = gone[i]
            if not relation.directed:
                source, target = np.concatenate([source, target]), np.concatenate([target, source])
        else:
            target, source = gone[_forward(graph, relation)]
        relations[i] = _without(graph, relation, source, target)
    firsts = {kind: int(graph.offsets[t]) for t, kind in enumerate(graph.types)}
    links = [
        np.concatenate(parts)
        for parts in (
            [np.full(len(gone[i][0]), i, np.int64) for i in forward],
            [(gone[i][0] + firsts[graph.relations[i].source]).astype(np.int32) for i in forward],
            [(gone[i][1] + firsts[graph.relations[i].target]).astype(np.int32) for i in forward],
        )
    ]
    return replace(graph, relations=tuple(relations)), Links(*links)


def _forward(graph: Graph, back: Relation) -> int:
    """The place of the relation that `back` is the reverse of."""
    triple = back.target, back.reverse, back.source
    return next(i for i, relation in enumerate(graph.relations) if relation.triple == triple)


def _drawn(graph: Graph, relation: Relation, quota: int, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Local sources and local targets, int64, of `quota` edges that can go, or of as many as can."""
    from .graphkernels import neighbours, spared

    starts, first = relation.starts.astype(np.int64), int(graph.offsets[graph.types.index(relation.target)])
    at = random.choice(max(1, len(relation)), min(len(relation), 20 * quota), replace=False)
    rows, targets = np.searchsorted(starts, at, side="right") - 1, relation.targets[at].astype(np.int64) - first
    distinct = (at == starts[rows]) | (relation.targets[at - 1] != relation.targets[at])
    same = relation.source == relation.target
    if same:
        distinct &= (rows != targets) if relation.directed else (rows < targets)
    rows, targets = rows[distinct], targets[distinct]
    span = graph.between(relation.target)
    out, back = neighbours(starts, relation.targets, first, span.stop - span.start, same)
    left = spared(rows, targets, out, back if relation.directed else out, quota)
    return rows[left], targets[left]


def _without(graph: Graph, relation: Relation, source: np.ndarray, target: np.ndarray) -> Relation:
    """A relation without the edges between some local sources and local targets."""
    from .graphkernels import drop

    starts, kept = relation.starts.astype(np.int64), np.ones(len(relation), bool)
    first = int(graph.offsets[graph.types.index(relation.target)])
    drop(starts, relation.targets, source, target + first, kept)
    rows = np.searchsorted(starts, np.flatnonzero(~kept), side="right") - 1
    starts[1:] -= np.cumsum(np.bincount(rows, minlength=len(starts) - 1))
    weights = None if relation.weights is None else relation.weights[kept]
    return replace(relation, starts=narrow(starts), targets=relation.targets[kept], weights=weights)
