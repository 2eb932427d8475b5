"""Where a graph's files lie: one relation a file, whose name or a manifest says what it joins."""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass, field
from itertools import islice

from ..errors import DataError, unknown
from .graphtables import LISTS, is_table, open_table, stem, usual_ends
from .listing import few
from .logcolumns import NAMES, plain
from .logfiles import LOOKED, errors
from .logtext import PACKED

MANIFEST = "graph.json"
ENTRIES = ("file", "source", "name", "target", "directed")  # of a relation in it
WORD = re.compile(r"[A-Za-z]\w*(?: \w+)*")  # a name of a type or a relation
BESIDE = ("nodes", "labels", "label_names")


@dataclass(frozen=True)
class RelationFile:
    """directed: None for a plain list of edges, of which nobody said it."""

    path: str
    source: str
    name: str
    target: str
    directed: bool | None = True


@dataclass
class Listing:
    """The files of a graph: one a relation, and by type those of nodes and labels."""

    name: str
    relations: list[RelationFile]
    nodes: dict[str, str] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)


def list_graph(path: str) -> Listing:
    """What lies at a path: a folder, a manifest, or one file of edges. Raises DataError."""
    name = os.path.basename(os.path.abspath(path))
    if not os.path.exists(path):
        raise DataError(f"no graph at '{path}': there is no such file or folder")
    if path.lower().endswith(".json"):
        return _from_manifest(path, name)
    if not os.path.isdir(path) or is_table(path):
        triple = triple_of(path, alone=True)
        return Listing(name, [RelationFile(path, *triple) if triple else _plain(path)])
    if os.path.isfile(os.path.join(path, MANIFEST)):
        return _from_manifest(os.path.join(path, MANIFEST), name)
    found, others = Listing(name, []), []
    for file in sorted(os.listdir(path)):
        full = os.path.join(path, file)
        first, *rest = stem(file).split(".", 1)
        if not is_table(file) or first in BESIDE:
            continue
        if triple := triple_of(file):
            found.relations.append(RelationFile(full, *triple))
        elif first == "edges" and not rest:
            found.relations.append(_plain(full))
        elif not file.lower().endswith(".txt"):  # as a README
            others.append(file)
    if not found.relations:
        if len(others) != 1:
            raise DataError(
                f"no graph in '{path}': no file is named like edges.author.writes.paper.tsv or author-writes-paper.csv"
                + (f", as are not {', '.join(few(others, 3))}" if others else "")
                + f"; rename them, or name the relations in {MANIFEST}"
            )
        found.relations.append(_plain(os.path.join(path, others[0])))
    kinds = {kind for relation in found.relations for kind in (relation.source, relation.target)}
    for role, out in (("nodes", found.nodes), ("labels", found.labels)):
        out.update(beside(path, role, kinds))
    return found


def beside(folder: str, role: str, kinds: set[str]) -> dict[str, str]:
    """type -> the file ROLE.TYPE.* of a folder; ROLE.* is of the only type."""
    out = {}
    for file in sorted(os.listdir(folder)):
        first, *rest = stem(file).split(".", 1)
        kind = rest[0] if rest else next(iter(kinds)) if len(kinds) == 1 else None
        if first == role and is_table(file) and kind in kinds:
            out[kind] = os.path.join(folder, file)
    return out


def _plain(path: str) -> RelationFile:
    return RelationFile(path, "node", "edge", "node", None)


def triple_of(path: str, alone: bool = False) -> tuple[str, str, str] | None:
    """Source, relation, target of edges.SRC.REL.DST, SRC.REL.DST, SRC-REL-DST or SRC__REL__DST.

    alone: the one file of a graph, whose name may hold points or dashes for no reason.
    """
    name = stem(path).removeprefix("edges.")
    for mark in ("__",) if alone and name == stem(path) else (".", "-", "__"):
        parts = name.split(mark)
        if len(parts) == 3 and all(map(WORD.fullmatch, parts)):
            return parts[0], parts[1], parts[2]
    return None


def holds_graph(path: str) -> bool:
    """Whether a path is a graph, by names, and where these are not clear by the columns. Opens a file or two."""
    if os.path.isdir(path) and not is_table(path):
        if os.path.isfile(os.path.join(path, MANIFEST)):
            return True
        with os.scandir(path) as found:  # of a folder of photos not all is looked at
            files = sorted(file.path for file in islice(found, LOOKED) if is_table(file.name))
        files = [file for file in files if triple_of(file) or stem(file) == "edges"]
        return any(stem(file).split(".")[0] == "edges" or _has_ends(file, triple_of(file)) for file in files[:3])
    if path.lower().endswith(".json"):
        return os.path.basename(path) == MANIFEST and os.path.isfile(path)
    bare = os.path.splitext(path)[0] if path.lower().endswith(PACKED) else path
    named = stem(path).split(".")[0] == "edges" or bare.lower().endswith(LISTS)
    return os.path.exists(path) and is_table(path) and (named or _has_ends(path, triple_of(path, alone=True)))


def _has_ends(path: str, triple: tuple[str, str, str] | None) -> bool:
    """Whether columns are named as ends of edges, and none as those of a log; in a .txt nothing else stands there."""
    try:
        table = open_table(path, triple=triple)
    except DataError:
        return False
    logged = all(any(plain(column) in NAMES[role] for column in table.columns) for role in ("user", "item"))
    ends = usual_ends(table.columns, triple)
    alone = ".txt" not in os.path.basename(path).lower() or (table.columns[:2] == ends and len(table.columns) <= 3)
    return table.header and not logged and ends is not None and alone


def _from_manifest(path: str, name: str) -> Listing:
    with errors(path):
        try:
            with open(path, encoding="utf-8") as opened:
                said = json.load(opened)
        except json.JSONDecodeError as error:
            raise DataError(f"'{path}' is no JSON: {error}") from None
    folder = os.path.dirname(path)
    shape = 'it holds {"relations": [{"file": ..., "source": ..., "name": ..., "target": ...}]}'
    if not isinstance(said, dict) or not isinstance(said.get("relations"), list) or not said["relations"]:
        raise DataError(f"'{path}' names no relations: {shape}")
    for key in said:
        if key not in ("relations", "names", "labels"):
            raise DataError(f"'{path}': {unknown('entry', key, ('relations', 'names', 'labels'))}")
    found = Listing(name if name != MANIFEST else os.path.basename(os.path.abspath(folder)), [])
    for relation in said["relations"]:
        parts = [str(relation.get(key) or "") for key in ENTRIES[:4]] if isinstance(relation, dict) else [""]
        if not all(parts):
            raise DataError(f"'{path}': a relation lacks file, source, name or target: {json.dumps(relation)}; {shape}")
        for key in relation:
            if key not in ENTRIES:
                raise DataError(f"'{path}': {unknown('entry', key, ENTRIES)}")
        file, source, called, target = parts
        directed = relation.get("directed", True) is not False
        if not directed and source != target:
            raise DataError(f"'{path}': {file} joins {source} and {target}, so it cannot be undirected")
        found.relations.append(RelationFile(_there(path, folder, file), source, called, target, directed))
    kinds = {kind for relation in found.relations for kind in (relation.source, relation.target)}
    for key, out in (("names", found.nodes), ("labels", found.labels)):
        files = said.get(key, {})
        if not isinstance(files, dict):
            raise DataError(f"'{path}', {key}: give a file for each type, {{type: file}}")
        for kind, file in files.items():
            if kind not in kinds:
                raise DataError(f"'{path}', {key}: {unknown('type', kind, kinds)}")
            out[kind] = _there(path, folder, file)
    return found


def _there(manifest: str, folder: str, file: str) -> str:
    path = os.path.join(folder, file)
    if not os.path.exists(path):
        raise DataError(f"'{manifest}' names '{file}', which is not there")
    return path
