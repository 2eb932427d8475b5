"""Walks over a graph: two views are a node and what a walk meets near it.

    walks            over all edges alike (Perozzi et al. 2014, arXiv:1403.6652) or along meta-paths (Dong et al. 2017)
    node2vec_walks   that know where they come from (Grover and Leskovec 2016, arXiv:1607.00653)
    edges            of two nodes (Tang et al. 2015, "LINE", arXiv:1503.03578)

    stream = walks("author-paper-author").over(graph, size=65536, seed=0)
    stream.block(epoch, index)                       about `size` tokens

An edge is taken in proportion to its weight. A walk ends at a dead end; nothing is invented. A walk is a function of
(seed, epoch, path, start), made when it is asked for: neither blocks nor threads change it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..errors import DataError, UserError, unknown
from ..types import Tokens
from .graph import Graph, merged
from .schema import parse_all

PROBED = 4096  # walks of each path that are made to see how long they become
COUNTED = 20_000_000  # tokens, about, that are made at most to count how often nodes occur
EVERY = 1 << 40  # numbers that each path has for its walks


@dataclass(frozen=True)
class walks:  # a class used as a function, like functools.partial
    """An epoch: a walk from every node, or along each meta-path a walk from every node of its first type.

    metapaths: as `schema.parse_all` reads them; "" walks over all edges alike (DeepWalk).
    length:    nodes of a walk.  keep: types whose nodes become tokens, () is all.
    """

    metapaths: str | tuple[str, ...] = ""
    length: int = 40
    keep: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _check_length(self.length)

    def over(self, source: Graph, size: int, seed: int) -> "Walked":
        """Raises UserError for a meta-path or type that the graph does not have, DataError where there is no edge."""
        if self.metapaths == "auto":
            raise UserError("views.metapaths=auto is settled by trials before training; to make walks name meta-paths")
        paths, steps = parse_all(source, self.metapaths), Steps(source)
        met = {kind for path in paths for kind in path.types} or set(source.types)
        for kind in self.keep:
            if kind not in met:
                raise unknown("type in views.keep (these walks do not meet it)", kind, met)
        ways = [Way(steps.along(path.steps), path.cyclic, source.between(path.types[0])) for path in paths]
        ways = ways or [steps.everywhere(*merged(source))]
        kept = [kind in self.keep for kind in source.types] if self.keep else []
        return Walked(steps, ways, self.length, size, seed, kept)


@dataclass(frozen=True)
class node2vec_walks:
    """An epoch: a walk from every node over all edges alike, of which each step depends on the one before.

    p: a high one keeps a walk from turning back.  q: above 1 it stays near, below 1 it goes far.
    length: nodes of a walk.
    """

    p: float = 1.0
    q: float = 1.0
    length: int = 80

    def __post_init__(self) -> None:
        _check_length(self.length)
        for name, value in (("p", self.p), ("q", self.q)):
            if not 0 < value < float("inf"):
                raise UserError(f"views.{name} must be above 0 and finite, got {value}")

    def over(self, source: Graph, size: int, seed: int) -> "Walked":
        """Raises DataError where there is no edge."""
        from .graphkernels import repeated

        steps, (starts, targets, weights) = Steps(source), merged(source)
        ways = [steps.everywhere(starts, targets, weights)]
        simple = weights is None and not repeated(starts.astype(np.int64), targets)
        sieve = np.empty(0, np.uint32) if self.q == 1 else _sieve(starts, targets)
        turns = float(self.p), float(self.q), simple, sieve
        return Walked(steps, ways, self.length, size, seed, turns=turns)


@dataclass(frozen=True)
class edges:
    """An epoch: as many single edges as the graph has, drawn with replacement in proportion to their weight."""

    def over(self, source: Graph, size: int, seed: int) -> "Walked":
        """Raises DataError where there is no edge.

        An edge is a walk of one step that starts at a node drawn by its weighted degree: tables of 8 bytes a node.
        """
        steps, (starts, targets, weights) = Steps(source), merged(source)
        way = steps.everywhere(starts, targets, weights)
        out, into = np.diff(starts).astype(np.float64), np.bincount(targets, weights, len(source))
        if weights is not None:
            begins = np.flatnonzero(out)
            out[begins] = np.add.reduceat(weights, starts[begins], dtype=np.float64)
        nodes = np.arange(len(source), dtype=np.int32)
        drawn = aliases(np.array([0, len(source)], np.int32), nodes, out.astype(np.float32))
        counts = np.ceil((out + into) * (source.edges / out.sum())).astype(np.int64)
        return Walked(steps, [replace(way, drawn=drawn, walks=source.edges)], 2, size, seed, counts=counts)


@dataclass(frozen=True, eq=False)
class Way:
    """One path. steps: (S, 6) int64, as `Steps` makes them, walked round and round where `cyclic`.

    starts: the nodes that walks start from, one each.  walks, drawn: so many instead, drawn by this alias table.
    """

    steps: np.ndarray
    cyclic: bool
    starts: slice
    walks: int | None = None
    drawn: tuple[np.ndarray, np.ndarray] = (np.empty(0, np.float32), np.empty(0, np.int32))

    @property
    def count(self) -> int:
        return self.starts.stop - self.starts.start

    def part(self, index: int, parts: int) -> tuple[int, int]:
        """The first of the walks of a part of an epoch, and the first of the next."""
        walks = self.count if self.walks is None else self.walks
        return walks * index // parts, walks * (index + 1) // parts


class Steps:
    """Steps as the kernels read them, and the arrays whose addresses stand there, kept alive."""

    def __init__(self, graph: Graph):
        self.graph = graph
        self.made: dict[tuple[int, ...], np.ndarray] = {}
        self.arrays: list[np.ndarray] = []

    def along(self, steps: tuple[tuple[int, ...], ...]) -> np.ndarray:
        """(S, 6) int64. Each step goes over some relations: one is read where it lies, several are merged."""
        for relations in set(steps).difference(self.made):
            some = tuple(self.graph.relations[i] for i in relations)
            if len(some) == 1:
                first = self.graph.between(some[0].source).start
                self.made[relations] = self._step(first, some[0].starts, some[0].targets, some[0].weights)
            else:
                self.made[relations] = self._step(0, *merged(replace(self.graph, relations=some)))
        return np.stack([self.made[relations] for relations in steps])

    def everywhere(self, starts: np.ndarray, targets: np.ndarray, weights: np.ndarray | None) -> Way:
        """Over all edges alike, from every node. Raises DataError where there is none."""
        if not len(targets):
            raise DataError(f"{self.graph.name} has no edge to walk on")
        return Way(self._step(0, starts, targets, weights)[None], True, slice(0, len(self.graph)))

    def _step(self, first: int, starts: np.ndarray, targets: np.ndarray, weights: np.ndarray | None) -> np.ndarray:
        wide = starts.dtype == np.int64
        starts, targets = (
            np.ascontiguousarray(starts, None if wide else np.int32),
            np.ascontiguousarray(targets, np.int32),
        )
        arrays = [starts, targets, *(aliases(starts, targets, weights) if weights is not None else ())]
        self.arrays += arrays
        places = [array.ctypes.data for array in arrays] + [0, 0]
        return np.array([first, wide, *places[:4]], np.int64)


def aliases(starts: np.ndarray, targets: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Alias tables of all rows, 8 bytes an edge: shares (E,) float32 and others (E,) int32."""
    from . import walkkernels

    shares, others = np.empty(len(targets), np.float32), np.empty(len(targets), np.int32)
    walkkernels.aliases(starts, targets, weights, shares, others)
    return shares, others


class Walked:
    """The Stream of walks over a graph.

    kept: for each type whether its nodes are tokens; empty: all are.
    turns: p and q of node2vec, simple and sieve of its kernel.  counts: (V,) where they are known.
    """

    def __init__(
        self,
        steps: Steps,
        ways: list[Way],
        length: int,
        size: int,
        seed: int,
        kept: Sequence[bool] = (),
        turns: tuple[float, float, bool, np.ndarray] | None = None,
        counts: np.ndarray | None = None,
    ):
        self.steps, self.ways, self.length, self.seed, self.turns = steps, ways, length, seed, turns
        self.kept, self.kinds, self._counts = np.array(kept, np.bool_), steps.graph.kinds, counts
        parts = 1 + max(way.part(0, 1)[1] for way in ways) // PROBED
        probed = sum(len(self._walk(place, 0, *way.part(0, parts), self.kept).tokens) for place, way in enumerate(ways))
        self.items = max(1, probed * parts)
        self.blocks = max(1, round(self.items / size))

    def block(self, epoch: int, index: int) -> Tokens:
        """Part `index` of an epoch: so many of the walks of each path."""
        parts = [
            self._walk(place, epoch, *way.part(index, self.blocks), self.kept) for place, way in enumerate(self.ways)
        ]
        if len(parts) == 1:
            return parts[0]
        ends = np.cumsum([0, *(len(part.tokens) for part in parts)])
        bounds = [np.zeros(1, np.int64), *(part.bounds[1:] + end for part, end in zip(parts, ends, strict=False))]
        return Tokens(np.concatenate([part.tokens for part in parts]), np.concatenate(bounds))

    def counts(self) -> np.ndarray:
        """(V,) int64: how often each node occurs in an epoch, counted in the first one.

        Of a long epoch a part is counted, and the rest follows in proportion: save the starts, which are known.
        Single edges have the number that is expected.
        """
        if self._counts is not None:
            return self._counts
        from .walkkernels import tally

        out = np.zeros(len(self.kinds), np.int64)
        counted = max(1, min(self.blocks, COUNTED * self.blocks // self.items))
        for place, way in enumerate(self.ways):
            met = np.zeros(len(out), np.int64)
            for index in range(counted):
                made = self._walk(place, 0, *way.part(index, self.blocks), np.empty(0, np.bool_))
                tally(made.tokens, made.bounds, met)
            out += np.rint(met * (self.blocks / counted)).astype(np.int64)
            out[way.starts] += 1
        return out * self.kept[self.kinds] if len(self.kept) else out

    def _walk(self, place: int, epoch: int, begin: int, stop: int, kept: np.ndarray) -> Tokens:
        """Walks begin .. stop - 1 of one path."""
        from . import node2veckernels, walkkernels

        way = self.ways[place]
        work = begin, stop, place * EVERY, self.seed, epoch
        tokens, bounds = np.empty((stop - begin) * self.length, np.int32), np.empty(stop - begin + 1, np.int64)
        if self.turns:
            made = node2veckernels.biased(way.steps[0], way.count, work, self.length, *self.turns, tokens, bounds)
        else:
            starts = way.starts.start, way.count, *way.drawn
            made = walkkernels.walks(way.steps, way.cyclic, starts, work, self.length, kept, self.kinds, tokens, bounds)
        return Tokens(tokens[: made[0]], bounds[: made[1] + 1])


def _sieve(starts: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """8 to 16 bits an edge, see `node2veckernels.sifted`."""
    from .node2veckernels import sifted

    sieve = np.zeros(1 << (len(targets) // 4).bit_length(), np.uint32)
    sifted(starts, targets, sieve)
    return sieve


def _check_length(length: int) -> None:
    if length < 2:
        raise UserError(f"views.length must be 2 nodes or more, got {length}")


GRAPH_VIEWS: dict[str, Callable] = {"walks": walks, "node2vec_walks": node2vec_walks, "edges": edges}
