"""Graphs that are in memory already: PyG's Data and HeteroData, NetworkX, scipy matrices, arrays by relation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa

NODE, EDGE = "node", "edge"  # of a graph that names no types
ZERO = "edges of weight zero"
Part = tuple[np.ndarray, np.ndarray, "np.ndarray | None"]


@dataclass
class Edges:
    """Edges of one relation, as numbers within their types.

    directed: None where nobody said.
    parts:    sources (n,) int32, targets (n,) int32, weights (n,) float32 above 0 or None.
    """

    source: str
    name: str
    target: str
    directed: bool | None
    parts: list[Part] = field(default_factory=list)

    @property
    def triple(self) -> tuple[str, str, str]:
        return self.source, self.name, self.target


@dataclass
class Given:
    """What a graph is made of. zeros: edges left out for a weight of zero."""

    name: str
    ids: dict[str, pa.Array]
    edges: list[Edges]
    zeros: int = 0


def is_object(data: Any) -> bool:
    triples = isinstance(data, Mapping) and bool(data) and all(map(_is_triple, data))
    return triples or _is_matrix(data) or _is_networkx(data) or _is_hetero(data) or _is_homogeneous(data)


def from_object(data: Any) -> Given:
    """Raises DataError where data is no graph, or its parts do not fit together."""
    if _is_networkx(data):
        return _from_networkx(data)
    if _is_matrix(data):
        return _from_arrays(type(data).__name__, {(NODE, EDGE, NODE): data}, {}, None)
    if _is_hetero(data):
        relations = {tuple(triple): (data[triple].edge_index, _weight(data[triple])) for triple in data.edge_types}
        return _from_arrays(type(data).__name__, relations, {t: data[t].num_nodes for t in data.node_types})
    if _is_homogeneous(data):
        relation = {(NODE, EDGE, NODE): (data.edge_index, _weight(data))}
        return _from_arrays(type(data).__name__, relation, {NODE: data.num_nodes}, None)
    if isinstance(data, Mapping) and data and all(map(_is_triple, data)):
        return _from_arrays("relations", dict(data), {})
    raise DataError(
        f"cannot read a graph from a {type(data).__name__}: give a path, a PyG Data or HeteroData, a NetworkX graph, a "
        "scipy.sparse matrix, or {(source, relation, target): edge_index or matrix}"
    )


def weighed(weights: Any, where: str) -> np.ndarray:
    """Weights as float32, zeros among them. Raises DataError where one is below zero, no number or not finite."""
    try:
        with np.errstate(over="ignore"):  # too large is not finite
            weights = np.asarray(weights, np.float64).astype(np.float32)
    except (TypeError, ValueError):
        raise DataError(f"{where} holds weights that are no numbers; say data.weight=NAME of another") from None
    if len(weights) and not (weights.min() >= 0 and weights.max() < np.inf):  # a NaN fails too
        wrong = weights[~((weights >= 0) & (weights < np.inf))]
        raise DataError(
            f"{where} holds {len(wrong):,} weights that are negative or no number, the first {wrong[0]:g}; a weight is "
            "above 0 (an edge of weight 0 is left out)"
        )
    return weights


def _is_triple(key: Any) -> bool:
    return isinstance(key, tuple) and len(key) == 3 and all(isinstance(part, str) for part in key)


def _is_matrix(data: Any) -> bool:
    return hasattr(data, "tocoo") and hasattr(data, "shape")


def _is_networkx(data: Any) -> bool:
    return all(hasattr(data, name) for name in ("is_multigraph", "is_directed", "adj", "nodes"))


def _is_hetero(data: Any) -> bool:
    return hasattr(data, "edge_types") and hasattr(data, "node_types") and hasattr(data, "num_nodes")


def _is_homogeneous(data: Any) -> bool:
    return hasattr(data, "edge_index") and hasattr(data, "num_nodes")


def _weight(store: Any) -> Any:
    return getattr(store, "edge_weight", None)


def _from_arrays(name: str, relations: dict, counts: dict[str, int | None], directed: bool | None = True) -> Given:
    """counts: type -> number of nodes, where it is known; else as many as matrices say or edges name."""
    import pyarrow as pa

    known = {kind: count for kind, count in counts.items() if count is not None}
    least: dict[str, int] = dict.fromkeys(counts, 0)
    out, zeros = [], 0
    for triple, value in relations.items():
        where = f"relation {'-'.join(triple)}"
        if _is_matrix(value):
            for kind, side in zip((triple[0], triple[2]), value.shape, strict=True):
                if known.setdefault(kind, side) != side:
                    raise DataError(f"{where}: {side:,} nodes of type {kind}, but {known[kind]:,} in another relation")
            matrix = value.tocoo()
            ends, weights = np.stack([matrix.row, matrix.col]), matrix.data
        else:
            index, weights = value if isinstance(value, tuple) else (value, None)
            ends = _ends(index, where)
        for kind, numbers in zip((triple[0], triple[2]), ends, strict=True):
            least[kind] = max(least.get(kind, 0), int(numbers.max(initial=-1)) + 1)
            if numbers.min(initial=0) < 0:
                raise DataError(f"{where}: nodes of type {kind} are numbers from 0 on, but {numbers.min()} is one")
        weight = None if weights is None else weighed(_array(weights), where)
        if weight is not None and len(weight) != len(ends[0]):
            raise DataError(f"{where}: {len(ends[0]):,} edges but {len(weight):,} weights")
        part = _heavy(ends[0].astype(np.int32), ends[1].astype(np.int32), weight)
        zeros += len(ends[0]) - len(part[0])
        source, called, target = triple
        out.append(Edges(source, called, target, directed, [part]))
    for kind, count in known.items():
        if least.get(kind, 0) > count:
            raise DataError(f"there are {count:,} nodes of type {kind}, but an edge of number {least[kind] - 1:,}")
    return Given(name, {kind: pa.array(np.arange(known.get(kind, least[kind]))) for kind in least}, out, zeros)


def _heavy(sources: np.ndarray, targets: np.ndarray, weights: np.ndarray | None) -> Part:
    """Without the edges of weight zero."""
    if weights is None or weights.all():
        return sources, targets, weights
    kept = weights > 0
    return sources[kept], targets[kept], weights[kept]


def _array(values: Any) -> np.ndarray:
    return values.detach().cpu().numpy() if hasattr(values, "detach") else np.asarray(values)


def _ends(index: Any, where: str) -> np.ndarray:
    array = _array(index)
    if array.ndim != 2 or len(array) != 2 or array.dtype.kind not in "iu":
        raise DataError(f"{where}: an edge_index is whole numbers of shape (2, E), got {array.dtype} {array.shape}")
    return array


def _from_networkx(data: Any) -> Given:
    """Types are the attribute `type` of nodes; relations that of edges, else a key that is text."""
    import pyarrow as pa

    kinds: dict[Any, tuple[str, int]] = {}  # node -> its type and its number there
    nodes: dict[str, list] = {}
    for node, type_ in data.nodes(data="type"):
        kind = NODE if type_ is None else str(type_)
        kinds[node] = kind, len(nodes.setdefault(kind, []))
        nodes[kind].append(node)
    order, directed = list(nodes), data.is_directed()
    found: dict[tuple[str, str, str], list[tuple[int, int, Any]]] = {}
    for u, v, key, about in _edges(data):
        (source, i), (target, j) = kinds[u], kinds[v]
        if not directed and order.index(source) > order.index(target):
            source, i, target, j = target, j, source, i
        name = about.get("type") or (key if isinstance(key, str) else EDGE)
        found.setdefault((source, str(name), target), []).append((i, j, about.get("weight")))
    out, zeros = [], 0
    for triple, edges in found.items():
        weights = [1.0 if weight is None else weight for *_, weight in edges]
        heavy = any(weight is not None for *_, weight in edges)
        ends = np.array([edge[:2] for edge in edges], np.int32).T
        part = _heavy(
            ends[0].copy(), ends[1].copy(), weighed(weights, f"relation {'-'.join(triple)}") if heavy else None
        )
        zeros += len(edges) - len(part[0])
        out.append(Edges(*triple, directed or triple[0] != triple[2], [part]))
    ids: dict[str, pa.Array] = {}
    for kind in nodes:
        whole = all(type(node) is int for node in nodes[kind])
        ids[kind] = pa.array(nodes[kind], pa.int64()) if whole else pa.array([str(node) for node in nodes[kind]])
    return Given(getattr(data, "name", "") or type(data).__name__, ids, out, zeros)


def _edges(data: Any) -> Iterator[tuple[Any, Any, Any, dict]]:
    if data.is_multigraph():
        yield from data.edges(keys=True, data=True)
    else:
        yield from ((u, v, None, about) for u, v, about in data.edges(data=True))
