"""The measures of a table of vectors, a table for each thing that was asked, and F1 over the share of known labels."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

from ..evaluate.score import Score
from ..evaluate.table import CHANCE
from .curves import BESIDE, OURS
from .figures import key, line, plot
from .measures import cell, grid, scores

ASKED = ("macro-F1", "micro-F1", "NMI")  # of labels; before them stands the type, where several have labels
LINKS = "link AUC"
Rows = Mapping[str, Mapping[str, Score]]


def asked(evaluation: Mapping[str, Any] | None) -> str:
    """All that evaluation.json holds of nodes or words."""
    rows = scores(evaluation)
    if not evaluation or not rows:
        return "<p>Not measured.</p>"
    ours, out = evaluation.get("ours", ""), []
    probes = dict.fromkeys(probe for cells in rows.values() for probe in cells)
    for title in dict.fromkeys(map(part_of, probes)):
        mine = [probe for probe in probes if part_of(probe) == title]
        body = {row: {_short(p, title): _cell(p, cells[p]) for p in mine if p in cells} for row, cells in rows.items()}
        out.append((f"<h3>{escape(title)}</h3>" if title else "") + grid([_short(p, title) for p in mine], body, ours))
        out.append(_curves(rows, mine, title, ours))
    out.append(_sections(rows))
    notes = "".join(f"<li>{escape(str(note))}</li>" for note in evaluation.get("notes") or ())
    return f'{"".join(out)}<ul class="dim">{notes}</ul>'


def part_of(probe: str) -> str:
    """What a measure is of: a type of nodes, held-out links, or "" for all else."""
    kind, _, rest = probe.rpartition(", ")
    if probe.startswith(LINKS):
        return "Held-out links"
    return f"Labels of {kind}" if kind and rest.startswith(ASKED) else ""


def _short(probe: str, title: str) -> str:
    return probe.rpartition(", ")[2] if title.startswith("Labels of ") else probe


def _cell(probe: str, score: Score) -> str:
    """A correlation is no per cent, a mean over splits has its deviation, and a figure without an interval none."""
    if probe.endswith("rho"):
        written = f"{score.value:.3f}", f"[{score.low:.3f}, {score.high:.3f}]"
    else:
        interval = f"[{100 * score.low:.1f}, {100 * score.high:.1f}]" if score.low < score.high else ""
        spread = f"± {100 * (score.high - score.value):.1f}" if "values" in score.detail else interval
        written = f"{100 * score.value:.1f} %", spread
    return cell(score, written=written)


def _sections(rows: Rows) -> str:
    """Analogies by section, folded away."""
    found = {row: x.detail["sections"] for row, cells in rows.items() for x in cells.values() if "sections" in x.detail}
    sections = list(dict.fromkeys(section for each in found.values() for section in each))
    if not sections:
        return ""
    body = {
        section: {row: f"{100 * each[section]['value']:.1f} %" for row, each in found.items() if section in each}
        for section in sections
    }
    return f"<details><summary>Analogies by section</summary>{grid(list(found), body)}</details>"


def _curves(rows: Rows, probes: list[str], title: str, ours: str) -> str:
    """Macro and micro F1 of each row over the share of nodes whose label was known; "" where there is one share."""
    found = ((row, _curve(cells[p])) for row, cells in rows.items() for p in probes if p in cells)
    curves = {row: curve for row, curve in found if curve}
    if not curves or max(len(curve["fractions"]) for curve in curves.values()) < 2:
        return ""
    colours = {row: OURS if row == ours else "var(--other)" for row in curves}
    beside = [row for row in curves if row not in (ours, CHANCE)]
    colours |= dict(zip(beside[::-1], (BESIDE, "var(--healthy)"), strict=False))  # the strongest floors stand last
    panels = []
    for name in ("macro", "micro"):
        dash = {row: {"dash": "solid" if row == ours else "dash"} for row in curves}
        lines = [
            line(curve["fractions"], curve[name], row, colours[row], mode="lines+markers", line=dash[row])
            for row, curve in curves.items()
        ]
        drawn = plot(
            lines,
            f"{name}-F1 over the share of labelled nodes: {', '.join(curves)}",
            height=260,
            xaxis={"tickformat": ".0%", "title": {"text": "nodes whose label is known", "standoff": 4}},
            yaxis={"tickformat": ".0%", "hoverformat": ".1%"},
        )
        head = f"<h3>{name.title()}-F1</h3>{key(colours)}"
        panels.append(f'<figure class="card panel">{head}{drawn}</figure>')
    return f'<div class="grid two">{"".join(panels)}</div>'


def _curve(score: Score) -> dict[str, list[float]] | None:
    curve = score.detail.get("curve")
    return curve if isinstance(curve, dict) and {"fractions", "macro", "micro"} <= curve.keys() else None
