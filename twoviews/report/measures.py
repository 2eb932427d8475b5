"""The table of measures: every figure with its interval, beside what no learning gives."""

from __future__ import annotations

import math
from collections.abc import Mapping
from html import escape
from typing import Any

from ..evaluate.score import Score
from ..evaluate.table import H

STYLE = """
.measures { table-layout: fixed; }
.measures thead td { width: clamp(6.2rem, 24vw, 17rem); }
.measures th:first-child { position: sticky; left: 0; background: var(--paper); }
.measures tbody th { font-weight: 400; }
.measures b { font-weight: 600; } .measures b, .measures small { white-space: nowrap; }
.measures tr.ours th, .measures tr.ours b { font-weight: 700; color: var(--ours); }
.bar { display: block; width: 100%; height: 10px; margin-top: .2rem; }
.bar .track { fill: var(--soft); } .bar .value { fill: var(--other); } .ours .bar .value { fill: var(--ours); }
.bar path { stroke: var(--ink); stroke-width: 1.5; vector-effect: non-scaling-stroke; fill: none; }
.measures i { color: var(--healthy); font: 600 .8rem system-ui, sans-serif; margin-right: .2rem; }
"""


def scores(evaluation: Mapping[str, Any] | None) -> dict[str, dict[str, Score]]:
    """The rows of evaluation.json, {row: {probe: Score}}; what cannot be read as a score is left out."""
    found: dict[str, dict[str, Score]] = {}
    for row, cells in ((evaluation or {}).get("rows") or {}).items():
        for probe, cell in cells.items():
            try:
                value, low, high = (float(cell[part]) for part in ("value", "low", "high"))
                found.setdefault(row, {})[probe] = Score(value, low, high, int(cell["n"]))
            except (KeyError, TypeError, ValueError):
                continue
    return found


def measures(evaluation: Mapping[str, Any] | None) -> str:
    """The table with a bar and a whisker in each cell, and its notes."""
    rows = scores(evaluation)
    if not evaluation or not rows:
        return "<p>Not measured.</p>"
    probes = list(dict.fromkeys(probe for cells in rows.values() for probe in cells))
    body = {row: {probe: cell(cells.get(probe)) for probe in probes} for row, cells in rows.items()}
    notes = "".join(f"<li>{escape(str(note))}</li>" for note in evaluation.get("notes") or ())
    return f'{grid(probes, body)}<ul class="dim">{notes}</ul>'


def grid(columns: list[str], rows: Mapping[str, Mapping[str, str]]) -> str:
    """A table of cells in HTML; the names of rows and columns are plain text. The row of h stands out."""
    head = "".join(f'<th scope="col">{escape(column)}</th>' for column in columns)
    lines = (
        f'<tr class="{"ours" if row == H else ""}"><th scope="row">{escape(row)}</th>'
        + "".join(f"<td>{cells.get(column, '')}</td>" for column in columns)
        + "</tr>"
        for row, cells in rows.items()
    )
    table = f'<table class="measures" style="min-width:{6.2 + 6.9 * len(columns):.1f}rem">'
    table += f"<thead><tr><td></td>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table>"
    return f'<div class="wide" role="region" aria-label="a table" tabindex="0">{table}</div>'


def cell(score: Score | None, mark: str = "") -> str:
    """A figure, its interval and both as a bar; `mark` is a word to set behind it."""
    if score is None:
        return '<span class="dim">not measured</span>'
    if not all(math.isfinite(x) for x in (score.value, score.low, score.high)):
        return "not finite"
    low, high, value = (round(100 * min(1.0, max(0.0, x)), 2) for x in (score.low, score.high, score.value))
    whisker = f"M{low} 5H{high}M{low} 1.5V8.5M{high} 1.5V8.5"
    return (
        f"<b>{100 * score.value:.1f} %</b> {f'<i>{escape(mark)}</i> ' if mark else ''}"
        f"<small>[{100 * score.low:.1f}, {100 * score.high:.1f}]</small>"
        '<svg class="bar" viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true">'
        f'<rect class="track" width="100" height="10" rx="1"/><rect class="value" width="{value}" height="10" rx="1"/>'
        f'<path d="{whisker}"/></svg>'
    )
