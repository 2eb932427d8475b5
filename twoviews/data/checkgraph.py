"""What a graph holds, before hours are spent on it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from time import perf_counter
from typing import Any

import numpy as np

from .graph import Graph, Relation, given, isolated
from .graphs import ALONE, notes

QUANTILES = (0.5, 0.9, 0.99)


@dataclass
class Edges:
    """Of one relation: edges as given, those that stand there more than once, loops, the range of weights or None, and
    least, median, 90th and 99th percentile and largest number of edges of a source and of a target.
    """

    source: str
    name: str
    target: str
    edges: int
    duplicates: int
    loops: int
    weights: tuple[float, float] | None
    out: tuple[int, ...]
    back: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.source} -{self.name}-> {self.target}"


@dataclass
class DeadEnds:
    """Of one step of a meta-path: nodes that walks reach, those of them from which no edge leads on, and the share of
    all walks that ends there, when one begins at each node of the first type.
    """

    kind: str
    reached: int
    dead: int
    share: float


@dataclass
class Report:
    """What `check_graph` found.

    nodes: type -> how many.  isolated: type -> nodes without an edge.  relations: as given, without the reverses.
    metapaths: name -> its steps.  counted: the rules that reading met.  bytes: held in memory.
    """

    name: str
    nodes: dict[str, int]
    isolated: dict[str, int]
    relations: list[Edges]
    metapaths: dict[str, list[DeadEnds]]
    labelled: list[str]
    counted: dict[str, int]
    notes: list[str]
    bytes: int
    seconds: float

    @property
    def whole(self) -> bool:
        """Whether all could be read: a graph that cannot be raises an error."""
        return True

    def to_dict(self) -> dict[str, Any]:
        """The report in types that JSON knows."""
        return {key: value for key, value in asdict(self).items() if key != "notes"}

    def lines(self) -> list[str]:
        """The report as plain text."""
        edges = sum(relation.edges for relation in self.relations)
        out = [
            f"{self.name}: {edges:,} edges of {len(self.relations):,} relations between {sum(self.nodes.values()):,} "
            f"nodes of {len(self.nodes):,} types, {self.bytes / 2**20:,.1f} MiB in memory"
        ]
        for kind, count in self.nodes.items():
            out.append(f"type       {kind}: {count:,} nodes, {_part(self.isolated[kind], count)} without an edge")
        for relation in self.relations:
            weights = relation.weights
            out.append(
                f"relation   {relation}: {relation.edges:,} edges, {relation.duplicates:,} given before, "
                f"{relation.loops:,} from a node to itself"
                + ("" if weights is None else f", weights {weights[0]:g} to {weights[1]:g}")
            )
            sides = ("from", relation.source, relation.out), ("to", relation.target, relation.back)
            for side, kind, counts in sides[: 1 + (relation.out != relation.back)]:
                low, median, nine, hundred, most = (f"{count:,}" for count in counts)
                spread = f"{low} to {most}, median {median}, 90 % {nine}, 99 % {hundred}"
                out.append(f"           edges {side} one {kind}: {spread}")
        for name, steps in self.metapaths.items():
            ends = [
                f"{step.share:.2%} of walks end at {_part(step.dead, step.reached)} of {step.reached:,} {step.kind}"
                for step in steps
                if step.dead
            ]
            out.append(f"meta-path  {name}: {'; '.join(ends) or 'no dead ends'}")
        if self.labelled:
            out.append(f"labels     of {', '.join(self.labelled)}")
        return out + [f"rule       {note}" for note in self.notes]


def check_graph(graph: Graph, metapaths: Iterable[tuple[str, Sequence[Sequence[int]]]] = ()) -> Report:
    """Count what is there. metapaths: name and steps, of each the places of its relations in `graph.relations`."""
    begun = perf_counter()
    alone = isolated(graph)
    parts = [array for r in graph.relations for array in (r.starts, r.targets, r.weights) if array is not None]
    return Report(
        name=graph.name,
        nodes={kind: _count(graph.between(kind)) for kind in graph.types},
        isolated={kind: int(alone[graph.between(kind)].sum()) for kind in graph.types},
        relations=[_edges(graph, relation) for relation in graph.relations if relation.reverse is None],
        metapaths={name: dead_ends(graph, steps) for name, steps in metapaths},
        labelled=[kind for kind in graph.types if kind in graph.tables],
        counted=dict(graph.counted),
        notes=[note for note in notes(graph) if any(words in note for words in graph.counted if words != ALONE)],
        bytes=sum(part.nbytes for part in parts) + sum(ids.nbytes for ids in (*graph.ids, *graph.names.values())),
        seconds=perf_counter() - begun,
    )


def dead_ends(graph: Graph, steps: Sequence[Sequence[int]]) -> list[DeadEnds]:
    """Where walks along a meta-path end, once around: by the exact share of walks that stand on each node."""
    from .graphkernels import NONE, carried

    kind = graph.relations[steps[0][0]].source
    mass = np.zeros(len(graph))
    mass[graph.between(kind)] = 1 / max(1, _count(graph.between(kind)))
    out = []
    for step in steps:
        relations = [graph.relations[i] for i in step]
        span = graph.between(relations[0].source)
        here, total = mass[span], np.zeros(_count(span))
        for relation in relations:
            total += _totals(relation)
        dead = (here > 0) & (total == 0)
        out.append(DeadEnds(relations[0].source, int((here > 0).sum()), int(dead.sum()), float(here[dead].sum())))
        mass = np.zeros(len(graph))
        for relation in relations:
            weights = NONE if relation.weights is None else relation.weights
            carried(relation.starts.astype(np.int64), relation.targets, weights, here, total, mass)
    return out


def _totals(relation: Relation) -> np.ndarray:
    """(S,) float64: the sum of the weights of each row."""
    if relation.weights is None:
        return np.diff(relation.starts).astype(np.float64)
    rows = np.repeat(np.arange(len(relation.starts) - 1), np.diff(relation.starts))
    return np.bincount(rows, relation.weights, len(relation.starts) - 1)


def _edges(graph: Graph, relation: Relation) -> Edges:
    from .graphkernels import looped, repeated

    starts, weights = relation.starts.astype(np.int64), relation.weights
    first = int(graph.offsets[graph.types.index(relation.source)])
    span = graph.between(relation.target)
    back = np.zeros(_count(span), np.int64)
    for begin in range(0, len(relation), 2**24):  # bincount makes int64 of what it counts
        back += np.bincount(relation.targets[begin : begin + 2**24] - span.start, minlength=len(back))
    twice, loops = int(repeated(starts, relation.targets)), 0
    if relation.source == relation.target:
        loops = int(looped(starts, relation.targets, first))
    return Edges(
        *relation.triple,
        edges=given(graph, relation),
        duplicates=twice if relation.directed else (twice + 1) // 2,
        loops=loops,
        weights=None if weights is None else (float(weights.min()), float(weights.max())),
        out=_spread(np.diff(relation.starts)),
        back=_spread(back),
    )


def _spread(counts: np.ndarray) -> tuple[int, ...]:
    """Least, QUANTILES and largest: each a count that occurs."""
    if not len(counts):
        return (0,) * (len(QUANTILES) + 2)
    return tuple(int(n) for n in np.quantile(counts, (0, *QUANTILES, 1), method="inverted_cdf"))


def _count(span: slice) -> int:
    return span.stop - span.start


def _part(count: int, of: int) -> str:
    return f"{count:,} ({count / max(1, of):.1%})"
