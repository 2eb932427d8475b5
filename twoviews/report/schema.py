"""What a graph is made of, drawn: types as circles, relations as arrows; and the meta-paths that were chosen."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from ..data.graph import Graph, Relation, given
from .figures import COLOURS

WIDTH, SMALLEST, LARGEST = 720, 30, 52  # of the drawing; radius of a circle
LONGEST, MOST = 26, 6  # characters of a relation's name, and names, beside an arrow
STYLE = """
.schema { min-width: 30rem; max-width: 46rem; margin: 0 auto; width: 100%; height: auto; display: block;
  font: 13px system-ui, sans-serif; }
.schema circle { stroke-width: 2; fill-opacity: .22; }
.schema path { fill: none; stroke: var(--other); stroke-width: 1.6; }
.schema marker path { fill: var(--other); stroke: none; }
.schema text { text-anchor: middle; fill: var(--dim); paint-order: stroke; stroke: var(--card); stroke-width: 6px;
  stroke-linejoin: round; }
.schema .in { fill: var(--ink); stroke: none; } .schema .name { font-weight: 600; font-size: 15px; }
"""
Point = tuple[float, float]
Drawn = tuple[str, str]


def schema(graph: Graph) -> str:
    """The picture, and every relation with its edges as a table."""
    forward = [relation for relation in graph.relations if relation.reverse is None]
    back = len(graph.relations) - len(forward)
    said = "Each relation can be walked backwards, too." if back else ""
    lines = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in _row(graph, r))}</tr>" for r in forward)
    head = "".join(f"<th>{name}</th>" for name in ("from", "relation", "to", "edges", "weights"))
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{lines}</tbody></table>"
    return (
        f'<figure class="card"><div class="wide" role="region" aria-label="types and relations" tabindex="0">'
        f"{drawn(graph, forward)}</div><figcaption>{said}</figcaption></figure>"
        f'<details><summary>{len(forward):,} relations as a table</summary><div class="wide">{table}</div></details>'
    )


def drawn(graph: Graph, relations: Sequence[Relation]) -> str:
    """An SVG. Relations that join the same two types share one line, with an arrow where one of them leads."""
    at, height = places(graph, relations)
    sizes = [int(b - a) for a, b in zip(graph.offsets[:-1], graph.offsets[1:], strict=True)]
    radius = {name: _radius(size, max(sizes)) for name, size in zip(graph.types, sizes, strict=True)}
    joined: dict[tuple[str, str], list[Relation]] = defaultdict(list)
    for relation in relations:
        joined[min((relation.source, relation.target), (relation.target, relation.source))].append(relation)
    lines = [_arrow(graph, at, radius, ends, some) for ends, some in joined.items()]
    arrows, words = "".join(line for line, _ in lines), "".join(told for _, told in lines)
    circles = "".join(
        f'<circle cx="{x:.0f}" cy="{y:.0f}" r="{radius[name]:.0f}" fill="{colour}" stroke="{colour}"/>'
        f'<text class="in name" x="{x:.0f}" y="{y - 1:.0f}">{escape(name)}</text>'
        f'<text class="in" x="{x:.0f}" y="{y + 16:.0f}">{sizes[t]:,}</text>'
        for t, name in enumerate(graph.types)
        for (x, y), colour in [(at[name], COLOURS[t % len(COLOURS)])]
    )
    told = "; ".join(f"{r.source} {r.name} {r.target}, {given(graph, r):,} edges" for r in relations)
    tip = '<path d="M0 0L8 4L0 8z"/>'
    return (
        f'<svg class="schema" viewBox="0 0 {WIDTH} {height:.0f}" role="img" aria-label="{escape(told, quote=True)}">'
        f'<defs><marker id="arrow" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="8" markerHeight="8" '
        f'orient="auto-start-reverse" markerUnits="userSpaceOnUse">{tip}</marker></defs>{arrows}{circles}{words}</svg>'
    )


def places(graph: Graph, relations: Sequence[Relation]) -> tuple[dict[str, Point], float]:
    """Where each type stands, and the height of the drawing: side by side, or in a ring, round the type that joins all
    others where there is one."""
    others = {name: set[str]() for name in graph.types}
    for relation in relations:
        if relation.source != relation.target:
            others[relation.source].add(relation.target)
            others[relation.target].add(relation.source)
    many = len(graph.types)
    hub = next((name for name in graph.types if many > 2 and len(others[name]) == many - 1), None)
    ring = [name for name in graph.types if name != hub]
    if len(ring) <= 2:
        row = [*ring[:1], *([hub] if hub else []), *ring[1:]]
        loops = any(relation.source == relation.target for relation in relations)
        y = 150.0 if loops else 66.0
        return {name: (WIDTH * (i + 0.5) / len(row), y) for i, name in enumerate(row)}, y + 62
    sides = len(ring) == 3 and hub is not None  # to the left, above and to the right leaves most room
    height = 320.0 if sides else 440.0 if len(ring) < 8 else 560.0
    y = 250.0 if sides else height / 2
    at = {hub: (WIDTH / 2, y)} if hub else {}
    for i, name in enumerate(ring):
        angle = math.pi * (1 + (i / 2 if sides else 2 * i / len(ring)))
        far = 184.0 if sides else height / 2 - 66
        at[name] = (WIDTH / 2 + (WIDTH / 2 - 80) * math.cos(angle), y + far * math.sin(angle))
    return at, height


def metapaths(found: Mapping[str, Any] | None, asked: Sequence[str]) -> str:
    """What `metapaths=auto` chose and why, what GTN has learned, or what the run was asked for. found: what
    metapaths.json holds."""
    found = found or {}
    paths = [str(path) for path in found.get("paths") or found.get("lines") or asked if path]
    if not paths:
        return "<h3>Meta-paths</h3><p>None: any edge counts.</p>"
    said = "".join(f"<li><code>{escape(path)}</code></li>" for path in paths)
    why = f"<p>{escape(str(found['said']))}</p>" if found.get("said") else ""
    return f"<h3>Meta-paths</h3><ul>{said}</ul>{why}{_tried(found.get('tried') or [])}"


def _tried(tried: Sequence[Mapping[str, Any]]) -> str:
    """The short runs that were made to choose, as a table."""
    rows = "".join(
        f"<tr><td>{run['round']}</td><td>{escape(' + '.join(run['paths']))}</td><td>{100 * run['score']['value']:.1f} %"
        f"</td><td>{run['seconds']:.1f} s</td><td>{escape(str(run['fate']))}</td></tr>"
        for run in tried
    )
    head = "".join(f"<th>{name}</th>" for name in ("round", "meta-paths", "link AUC", "CPU time", "what became of it"))
    table = f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>'
    return f"<details><summary>The {len(tried):,} short runs</summary>{table}</details>" if tried else ""


def _arrow(
    graph: Graph, at: Mapping[str, Point], radius: Mapping[str, float], ends: tuple[str, str], some: list[Relation]
) -> Drawn:
    """The line with its arrows, and the words beside it."""
    (x, y), (u, v) = at[ends[0]], at[ends[1]]
    if ends[0] == ends[1]:
        r = radius[ends[0]]
        path = (
            f"M{x - r * 0.6:.0f} {y - r * 0.8:.0f}C{x - 2 * r:.0f} {y - 2.6 * r:.0f} {x + 2 * r:.0f} {y - 2.6 * r:.0f} "
        )
        path += f"{x + r * 0.6:.0f} {y - r * 0.8:.0f}"
        middle, tips = (x, y - 2.2 * r - 15 * len(some[:MOST])), "marker-end='url(#arrow)'"
    else:
        far = math.hypot(u - x, v - y)
        dx, dy = (u - x) / far, (v - y) / far
        a, b = radius[ends[0]] + 3, radius[ends[1]] + 3
        path = f"M{x + a * dx:.0f} {y + a * dy:.0f}L{u - b * dx:.0f} {v - b * dy:.0f}"
        middle = (x + (a + far - b) / 2 * dx, y + (a + far - b) / 2 * dy - 10 - 15 * (len(some[:MOST]) - 1))
        tips = "marker-end='url(#arrow)' " if any(r.target == ends[1] for r in some) else ""
        tips += "marker-start='url(#arrow)'" if any(r.target == ends[0] for r in some) else ""
    lines = [f"{escape(_short(r.name))} {given(graph, r):,}" for r in some[:MOST]]
    told = "".join(
        f'<text x="{middle[0]:.0f}" y="{middle[1] + 4 + 15 * i:.0f}">{line}</text>' for i, line in enumerate(lines)
    )
    return f'<path d="{path}" {tips}/>', told


def _radius(size: int, largest: int) -> float:
    return SMALLEST + (LARGEST - SMALLEST) * math.log1p(size) / math.log1p(max(1, largest))


def _row(graph: Graph, relation: Relation) -> tuple[str, ...]:
    weights = relation.weights
    scale = "equal" if weights is None or not len(weights) else f"{weights.min():.3g} to {weights.max():.3g}"
    return escape(relation.source), escape(relation.name), escape(relation.target), f"{given(graph, relation):,}", scale


def _short(name: str) -> str:
    return name if len(name) <= LONGEST else f"{name[: LONGEST - 1]}…"
