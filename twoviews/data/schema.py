"""Meta-paths: which kinds of edges a walk follows, in turn (Dong, Chawla, Swami 2017, "metapath2vec", section 3.2).

    author-paper-venue-paper-author                  by types: all relations that lead there are walked as one
    author -writes-> paper -published_in-> venue     by relations

A path that ends at the type it began with is walked round and round. One that does not is walked once.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import DataError, UserError, unknown
from .graph import Graph

Wanted = tuple[str | None, str | None, str | None]  # source, relation, target of a step, None where it is not said


@dataclass(frozen=True)
class MetaPath:
    """steps: S steps, each the numbers of the relations that are walked as one.  types: S + 1 names.

    name: how it is written; `parse` reads it again.
    """

    steps: tuple[tuple[int, ...], ...]
    types: tuple[str, ...]
    name: str

    @property
    def cyclic(self) -> bool:
        return self.types[0] == self.types[-1]

    def __str__(self) -> str:
        return self.name


def parse(graph: Graph, spec: str | Sequence) -> MetaPath:
    """One meta-path.

    spec: "a-b-a", "a>b>a" or ("a", "b", "a") by types; "a -likes-> b -rev_likes-> a", "likes>rev_likes",
    ("likes", "rev_likes") or triples (source, relation, target) by relations. Names that hold a "-" are parted by ">".
    Raises UserError that names the break and what could follow; DataError where a step has no edge.
    """
    wanted, written = _read(graph, spec)
    steps: list[tuple[int, ...]] = []
    types: list[str] = []
    for source, name, target in wanted:
        at = types[-1] if types else source
        fits = [i for i, r in enumerate(graph.relations) if at in (None, r.source) and name in (None, r.name)]
        fits = [i for i in fits if source in (None, at) and target in (None, graph.relations[i].target)]
        ends = sorted({(graph.relations[i].source, graph.relations[i].target) for i in fits})
        if not ends:
            raise UserError(f"{written}: {_break(graph, at, source, name, target)}")
        if len(ends) > 1:
            both = " and ".join(f"{a} to {b}" for a, b in ends)
            raise UserError(f"{written}: {name} leads from {both}; write TYPE -{name}-> TYPE to say which")
        if not any(len(graph.relations[i]) for i in fits):
            names = ", ".join(graph.relations[i].name for i in fits)
            raise DataError(f"{written}: no edge leads from {ends[0][0]} to {ends[0][1]} ({names} has none)")
        steps.append(tuple(fits))
        types = types or [ends[0][0]]
        types.append(ends[0][1])
    return MetaPath(tuple(steps), tuple(types), written)


def parse_all(graph: Graph, specs: str | Sequence) -> list[MetaPath]:
    """Several meta-paths: text with commas, or one after another. Names or triples alone are one path."""
    if isinstance(specs, str):
        return [parse(graph, spec) for spec in specs.split(",") if spec.strip()]
    names = {*graph.types, *(r.name for r in graph.relations), *(r.triple for r in graph.relations)}
    if len(specs) > 1 and all((spec if isinstance(spec, str) else tuple(spec)) in names for spec in specs):
        return [parse(graph, specs)]
    return [parse(graph, spec) for spec in specs]


def candidates(graph: Graph, length: int = 4) -> list[MetaPath]:
    """Meta-paths worth a trial: the symmetric ones of up to `length` steps, and one that comes by every type.

    None is another one repeated. One that begins elsewhere in the same round is kept: others start its walks.
    """
    joined = _joined(graph)
    found: list[tuple[str, ...]] = []
    for steps in range(1, length + 1):
        halves: list[tuple[str, ...]] = [(kind,) for kind in graph.types]
        for _ in range(steps // 2):
            halves = [(*half, kind) for half in halves for kind in graph.types if (half[-1], kind) in joined]
        for half in halves:
            path = half + half[::-1] if steps % 2 else half + half[-2::-1]
            if all(pair in joined for pair in zip(path, path[1:], strict=False)) and not _repeats(path):
                found.append(path)
    tour = _tour(graph, joined)
    if tour and tour not in found:
        found.append(tour)
    return [parse(graph, path) for path in found]


def _read(graph: Graph, spec: str | Sequence) -> tuple[list[Wanted], str]:
    """The steps that are asked for, and how the path is written."""
    if isinstance(spec, str) and "->" in spec:
        *parts, last = (part.strip() for part in spec.split("->"))
        pairs = [_begun(graph, part) for part in parts]
        kinds = [*(kind for kind, _ in pairs), last]
        for kind in kinds:
            if kind not in graph.types:
                raise unknown("node type", kind or "", graph.types)
        text = "".join(f"{kind} -{name}-> " if name else f"{kind} -> " for kind, name in pairs) + last
        return [(*pair, kind) for pair, kind in zip(pairs, kinds[1:], strict=True)], text
    words: list[Any] = [word.strip() for word in _split(graph, spec)] if isinstance(spec, str) else list(spec)
    if not all(isinstance(word, str) for word in words):
        known = [r.triple for r in graph.relations]
        for triple in words:
            if tuple(triple) not in known:
                raise UserError(f"no relation {tuple(triple)}; the graph has {', '.join(map(str, known))}")
        return [tuple(triple) for triple in words], "".join(f"{a} -{name}-> " for a, name, _ in words) + words[-1][-1]
    relations = {r.name for r in graph.relations}.difference(graph.types)
    by_relation = not relations.isdisjoint(words)
    for word in words:
        if word not in (relations if by_relation else graph.types):
            raise unknown("relation" if by_relation else "node type", word, relations if by_relation else graph.types)
    if by_relation:
        return [(None, word, None) for word in words], ">".join(words)
    if len(words) < 2:
        near = _onward(graph, words[0]) if words else f"types are {', '.join(graph.types)}"
        raise UserError(f"meta-path '{'-'.join(words)}' has no step, give two types or more; {near}")
    mark = ">" if any("-" in word for word in words) else "-"
    return [(a, None, b) for a, b in zip(words, words[1:], strict=False)], mark.join(words)


def _split(graph: Graph, spec: str) -> list[str]:
    """The names of a path without arrows; one of a graph's own may hold a "-"."""
    known = {*graph.types, *(r.name for r in graph.relations)}
    words = spec.split(">")
    return words if len(words) > 1 and known.issuperset(map(str.strip, words)) else re.split(">|-", spec)


def _begun(graph: Graph, part: str) -> tuple[str | None, str | None]:
    """Type and relation of "author -writes", which goes before an arrow."""
    fits = [kind for kind in graph.types if part.startswith(kind) and part[len(kind) :].lstrip()[:1] in ("", "-")]
    kind = max(fits, key=len, default=part.partition("-")[0].strip())
    return kind or None, part[len(kind) :].strip().removeprefix("-").strip() or None


def _break(graph: Graph, at: str | None, source: str | None, name: str | None, target: str | None) -> str:
    if source not in (None, at):
        return f"a step begins at {source}, but the one before ends at {at}; {_onward(graph, at)}"
    what = f"'{name}'" if name else "relation"
    where = f" from {at}" + (f" to {target}" if target else "")
    return f"no {what} leads{where}; {_onward(graph, at)}"


def _onward(graph: Graph, kind: str | None) -> str:
    found = [f"{r.name} (to {r.target})" for r in graph.relations if r.source == kind]
    return f"from {kind} lead {', '.join(found)}" if found else f"nothing leads from {kind}"


def _joined(graph: Graph) -> set[tuple[str, str]]:
    """The pairs of types from one of which an edge leads to the other."""
    return {(r.source, r.target) for r in graph.relations if len(r)}


def _repeats(path: tuple[str, ...]) -> bool:
    """Whether a round is a shorter one walked several times."""
    cycle = path[:-1]
    return any(cycle == cycle[:n] * (len(cycle) // n) for n in range(1, len(cycle)))


def _tour(graph: Graph, joined: set[tuple[str, str]]) -> tuple[str, ...]:
    """A round that comes by every type, along a tree and back, from the type of most nodes; () where there is none."""
    first = max(graph.types, key=lambda kind: graph.between(kind).stop - graph.between(kind).start)
    seen = {first}

    def around(kind: str) -> tuple[str, ...]:
        path: tuple[str, ...] = (kind,)
        for other in graph.types:
            if other not in seen and {(kind, other), (other, kind)} <= joined:
                seen.add(other)
                path += (*around(other), kind)
        return path

    path = around(first)
    return path if len(path) > 1 and len(seen) == len(graph.types) and not _repeats(path) else ()
