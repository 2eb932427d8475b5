"""Labels of nodes: a table of ids and classes, several rows a node where it has several classes."""

from __future__ import annotations

import json
import os
from collections import Counter
from dataclasses import dataclass

import numpy as np

from ..errors import DataError, UserError, unknown
from .graph import Graph
from .graphread import IDS
from .graphtables import Table, open_table, stem
from .labels import LABEL_COLUMNS, encode
from .logcolumns import plain
from .logfiles import errors


@dataclass(frozen=True, eq=False)
class NodeLabels:
    """The classes of the labelled nodes of one type.

    nodes:   (M,) int64 numbers through all types, ascending.  classes: C names.
    matrix:  (M, C) bool, a True at least in each row.  multi: some node has several.
    unknown: rows that name no node of the graph.
    """

    kind: str
    nodes: np.ndarray
    classes: list[str]
    matrix: np.ndarray
    multi: bool
    unknown: int = 0


def node_labels(graph: Graph, path: str | os.PathLike[str] | None = None, kind: str | None = None) -> list[NodeLabels]:
    """The labels that lie beside a graph's edges, in the order of its types; or those of a file, of nodes of one type.

    path: a .csv, .tsv (.gz, .bz2, .zst) or .parquet file with columns id and label, or without a header with these two
          first. labels.TYPE.* is of that type, and so is TYPE=FILE.
          label_names.TYPE.json beside it may name the classes that are numbers.
    Raises DataError when a file cannot be read or names no node of the graph, UserError when the type is not clear.
    """
    if kind is not None and kind not in graph.types:
        raise unknown("type", kind, graph.types)
    if path is None:
        return [_read(graph, graph.tables[t], t) for t in graph.types if t in graph.tables and kind in (None, t)]
    kind, path = typed(graph, path, kind)
    return [_read(graph, path, kind)]


def typed(graph: Graph, path: str | os.PathLike[str], kind: str | None = None) -> tuple[str, str]:
    """The type whose labels a file holds, and the file: labels.TYPE.*, TYPE=FILE, or any of a graph of one type.

    Raises DataError where there is no such file, UserError when the type is not clear.
    """
    said, told, rest = os.fspath(path).partition("=")
    path = os.fspath(path)
    if kind is None and told and not os.path.exists(os.path.expanduser(path)):
        if said not in graph.types:
            raise unknown("type", said, graph.types)
        kind, path = said, rest
    path = os.path.expanduser(path)
    if not os.path.isfile(path):
        raise DataError(f"no labels file '{path}'")
    name = stem(path).removeprefix("labels.")
    kind = kind or (name if name in graph.types else graph.types[0] if len(graph.types) == 1 else None)
    if kind is None:
        raise UserError(
            f"of which type are the nodes in '{path}'? Say TYPE={path}, or call the file labels.TYPE.csv; types are "
            + ", ".join(graph.types)
        )
    return kind, path


def _read(graph: Graph, path: str, kind: str) -> NodeLabels:
    import pyarrow as pa
    import pyarrow.compute as pc

    if not os.path.exists(path):
        raise DataError(f"no labels file '{path}'")
    table = open_table(path, (*IDS, *LABEL_COLUMNS, plain(kind), plain(kind) + "id"))
    columns = _columns(table, kind)
    t, text = graph.types.index(kind), pa.large_string()
    own = graph.ids[t].cast(text)
    batches = list(table.read(columns, Counter()))
    ids, labels = (
        pa.chunked_array([batch.column(i).cast(text) for batch in batches], text).combine_chunks() for i in (0, 1)
    )
    given = pc.and_(pc.is_valid(ids), pc.and_(pc.is_valid(labels), pc.not_equal(labels, pa.scalar("", text))))
    ids, labels = ids.filter(given), labels.filter(given)
    places = pc.index_in(ids, value_set=own)
    lost = places.null_count
    if lost == len(places):
        example = f", as '{ids[0].as_py()}'; its nodes are named like '{own[0].as_py()}'" if len(ids) else ""
        raise DataError(f"labels file '{path}' names no {kind} of {graph.name}{example}")
    found = pc.is_valid(places)
    nodes, rows = np.unique(places.filter(found).to_numpy() + graph.offsets[t], return_inverse=True)
    codes, classes = _classes(np.asarray(labels.filter(found).to_pylist(), object), path, kind)
    matrix = np.zeros((len(nodes), len(classes)), bool)
    matrix[rows, codes] = True
    return NodeLabels(kind, nodes, classes, matrix, bool((matrix.sum(1) > 1).any()), lost)


def _columns(table: Table, kind: str) -> list[str]:
    """The columns of ids and of labels."""
    if len(table.columns) < 2:
        raise DataError(f"labels file '{table.path}' has one column; it needs ids and labels")
    if not table.header:
        return list(table.columns[:2])
    words = {plain(column): column for column in reversed(table.columns)}
    label = next((words[word] for word in LABEL_COLUMNS if word in words), None)
    if label is not None:
        known = next((words[word] for word in (*IDS, plain(kind), plain(kind) + "id") if word in words), None)
        return [known or next(column for column in table.columns if column != label), label]
    raise DataError(
        f"no column of '{table.path}' is known to hold labels: name it label; it has {', '.join(table.columns)}"
    )


def _classes(labels: np.ndarray, path: str, kind: str) -> tuple[np.ndarray, list[str]]:
    """Codes, and the names of the classes that occur, numbers in rising order; a file beside them may name these."""
    codes, classes = encode(labels)
    names = os.path.join(os.path.dirname(path), f"label_names.{kind}.json")
    if not os.path.exists(names):
        return codes, classes
    with errors(names):
        try:
            with open(names, encoding="utf-8") as file:
                said = json.load(file)
        except json.JSONDecodeError as error:
            raise DataError(f"'{names}' is no JSON: {error}") from None
    if isinstance(said, list):
        said = {str(i): name for i, name in enumerate(said)}
    if not isinstance(said, dict):
        raise DataError(f"'{names}' names no classes: it holds a list of names, or names by class")
    return codes, [str(said.get(name, name)) for name in classes]
