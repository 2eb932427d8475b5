"""Graphs: one way in for files, folders of them, PyG, NetworkX and scipy.

data -> edges as numbers within their types, relation by relation -> rows sorted by source and by target -> Graph

An edge takes 8 bytes while it is read, 16 to 24 while it is sorted, and 8 after, its reverse among them. The rules,
stated in docs/graphs.md and counted in `Graph.counted`, are RULES.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import DataError
from .graph import REVERSE, Graph, Relation, given, isolated, narrow
from .graphfiles import Listing, RelationFile, holds_graph, list_graph
from .graphobjects import ZERO, Edges, Given, from_object, is_object
from .graphread import GAPS, NO_SOURCE, NO_TARGET, NotWhole, read_files
from .logtext import INVALID
from .nodelabels import typed

if TYPE_CHECKING:
    import pyarrow as pa

MOST_TYPES = 256
ALONE = "nodes without an edge"
RULES = {  # what was counted -> what becomes of it
    INVALID: "left out",
    NO_SOURCE: "left out",
    NO_TARGET: "left out",
    ZERO: "left out",
    GAPS: "kept as nodes without an edge, so that a node's number is its id",
    ALONE: "kept; they keep the vector they begin with",
}
__all__ = ["graph", "is_graph", "notes"]


def is_graph(data: Any) -> bool:
    """Whether data is clearly a graph rather than photos, a log or a text: by its type, by names, else by columns."""
    if isinstance(data, str | os.PathLike):
        return holds_graph(os.path.expanduser(os.fspath(data)))
    return is_object(data)


def graph(
    data: Any,
    *,
    source: str | int | None = None,
    target: str | int | None = None,
    weight: str | int | None = None,
    directed: bool = False,
    reverse: bool = True,
    labels: str | None = None,
) -> Graph:
    """A typed graph, with a reverse (rev_NAME) of each relation.

    data:   a folder with one .parquet, .csv or .tsv file (.gz, .bz2, .zst) per relation, named like
            edges.author.writes.paper.tsv, author.writes.paper.parquet, author-writes-paper.csv or
            author__writes__paper.csv, or with a manifest graph.json; one file of edges, a graph of one type; a PyG Data
            or HeteroData; a NetworkX graph; a scipy.sparse matrix; {(source, relation, target): edge_index, matrix or
            path}.
    source, target, weight: names of columns, or their numbers from 1 in files without a header; None: the usual names.
            weight="" reads none.
    directed: edges of a graph of one type lead one way; else both are put into one relation.
    reverse:  False: no relations are made.
    labels:   a file of labels of nodes, TYPE=FILE where its name labels.TYPE.* does not say their type; in place of
              the one that lies beside the edges.
    Raises DataError when the data cannot be used, UserError when memory would not suffice.
    """
    paths = isinstance(data, Mapping) and bool(data) and all(isinstance(v, str | os.PathLike) for v in data.values())
    if isinstance(data, str | os.PathLike) or paths:
        listing = _listed(data) if paths else list_graph(os.path.expanduser(os.fspath(data)))
        columns = {"source": source, "target": target, "weight": weight}
        texts: set[str] = set()
        while True:
            try:
                found, names, counted = read_files(listing, columns, texts)
                break
            except NotWhole as wrong:
                texts.add(wrong.kind)
        made = _assembled(found, directed, reverse, counted, names, listing.labels)
    else:
        found = from_object(data)
        made = _assembled(found, directed, reverse, Counter({ZERO: found.zeros}), {}, {})
    return made if labels is None else replace(made, tables=dict([typed(made, labels)]))


def notes(graph: Graph) -> list[str]:
    """What was read and which rules were met, in lines to print."""
    spans = [f"{kind} {count:,}" for kind, count in zip(graph.types, np.diff(graph.offsets).tolist(), strict=True)]
    out = [f"nodes {len(graph):,}" + (f": {', '.join(spans)}" if len(spans) > 1 else "") + f"; edges {graph.edges:,}"]
    made = []
    for relation in graph.relations:
        if relation.reverse is not None:
            made.append(relation.name)
            continue
        weights = relation.weights
        out.append(
            f"{relation.source} -{relation.name}-> {relation.target}: {given(graph, relation):,} edges"
            + ("" if relation.directed else ", in both directions")
            + ("" if weights is None else f", weights {weights.min():g} to {weights.max():g}")
        )
    if made:
        out.append(f"reverse relations: {', '.join(made)}")
    out += [f"{count:,} {words}: {RULES.get(words, 'counted')}" for words, count in graph.counted.items()]
    return out


def _listed(data: Mapping[Any, Any]) -> Listing:
    """{triple: path}."""
    files = []
    for triple, path in data.items():
        if not isinstance(triple, tuple) or len(triple) != 3:
            raise DataError(f"files of relations are given by (source, relation, target), got {triple!r}")
        files.append(RelationFile(os.path.expanduser(os.fspath(path)), *triple))
    return Listing("relations", files)


def _assembled(
    found: Given,
    directed: bool,
    reverse: bool,
    counted: Counter[str],
    names: dict[str, pa.Array],
    tables: dict[str, str],
) -> Graph:
    """Rows of all relations, numbered through all types."""
    types = tuple(found.ids)
    if len(types) > MOST_TYPES:
        raise DataError(f"{found.name} has {len(types):,} types of nodes; {MOST_TYPES} are allowed")
    if not any(len(part[0]) for edges in found.edges for part in edges.parts):
        raise DataError(f"no edges in {found.name}")
    offsets = np.zeros(len(types) + 1, np.int64)
    np.cumsum([len(ids) for ids in found.ids.values()], out=offsets[1:])
    if offsets[-1] >= 2**31:
        raise DataError(f"{found.name} has {offsets[-1]:,} nodes; 2,147,483,647 are the most")
    relations: list[Relation] = []
    backs: dict[int, Relation] = {}  # place of a relation -> its reverse, where it needs one
    for edges in sorted(found.edges, key=lambda edges: edges.name.startswith(REVERSE)):
        forward, back, both = _rows(edges, found, directed)
        first, last = (int(offsets[types.index(kind)]) for kind in (edges.source, edges.target))
        relation = _relation(edges.triple, forward, last, directed=not both)
        origin = next((i for i, other in backs.items() if _same(relation, other)), None)
        if origin is not None:  # both were given
            relation = replace(relation, reverse=relations[origin].name)
            del backs[origin]
        elif not both:
            triple = edges.target, REVERSE + edges.name, edges.source
            backs[len(relations)] = _relation(triple, back, first, reverse=edges.name)
        relations.append(relation)
    out = []
    for i, relation in enumerate(relations):
        out += [relation, backs[i]] if reverse and i in backs else [relation]
    for triple, times in Counter(relation.triple for relation in out).items():
        if times > 1:
            raise DataError(f"{found.name}: there are {times} relations {'-'.join(triple)}; name them differently")
    made = Graph(found.name, types, offsets, tuple(found.ids.values()), tuple(out), names, tables)
    counted[ALONE] = int(isolated(made).sum())
    return replace(made, counted={words: n for words, n in counted.items() if n})


def _rows(edges: Edges, found: Given, directed: bool) -> tuple[Any, Any, bool]:
    """Edges by source and by target, numbers within their types, and whether each stands there in both directions."""
    from .graphkernels import rows

    sources, targets = (len(found.ids[kind]) for kind in (edges.source, edges.target))
    both = not (directed if edges.directed is None else edges.directed)
    if both and not _balanced(edges):
        return *rows(edges.parts, sources, targets, True), True
    forward, back = rows(list(edges.parts) if both else edges.parts, sources, targets, False)
    same = edges.source == edges.target and all(map(np.array_equal, forward, back))
    if both and not same:
        return *rows(edges.parts, sources, targets, True), True
    return forward, back, same


def _balanced(edges: Edges) -> bool:
    """Whether as many edges lead to greater numbers as to smaller ones: then both directions may have been given."""
    return sum(int(np.sign(targets - sources).sum()) for sources, targets, _ in edges.parts) == 0


def _relation(
    triple: tuple[str, str, str], rows: Any, first: int, reverse: str | None = None, directed: bool = True
) -> Relation:
    """first: what to add to the targets. The rows' arrays are taken over."""
    starts, targets, weights = rows
    targets += np.int32(first)
    some = len(weights) and weights.min() < weights.max()
    return Relation(*triple, narrow(starts), targets, weights if some else None, reverse, directed)


def _same(relation: Relation, other: Relation) -> bool:
    """Whether two relations hold the same edges with the same weights."""
    if (relation.source, relation.target, len(relation)) != (other.source, other.target, len(other)):
        return False
    if relation.weights is None or other.weights is None:
        equal = relation.weights is other.weights
    else:
        equal = np.array_equal(relation.weights, other.weights)
    edges = (relation.starts, other.starts), (relation.targets, other.targets)
    return equal and all(np.array_equal(*pair) for pair in edges)
