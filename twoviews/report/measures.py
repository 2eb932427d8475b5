"""The table of measures: every figure with its interval, beside what no learning gives."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
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
                found.setdefault(row, {})[probe] = Score(
                    value, low, high, int(cell["n"]), dict(cell.get("detail") or {})
                )
            except (KeyError, TypeError, ValueError):
                continue
    return found


def measures(evaluation: Mapping[str, Any] | None) -> str:
    """The table with a bar and a whisker in each cell, and its notes."""
    rows = scores(evaluation)
    if not evaluation or not rows:
        return "<p>Not measured.</p>"
    probes = list(dict.fromkeys(probe for cells in rows.values() for probe in cells))
    ours = evaluation.get("ours", H)
    if ours == H:
        body = {row: {probe: cell(cells.get(probe)) for probe in probes} for row, cells in rows.items()}
        tables = grid(probes, body)
    else:
        tables = ranked(rows, probes, ours)
    notes = "".join(f"<li>{escape(str(note))}</li>" for note in evaluation.get("notes") or ())
    return f'{tables}<ul class="dim">{notes}</ul>'


def ranked(rows: Mapping[str, Mapping[str, Score]], probes: list[str], ours: str) -> str:
    """Measures of all users, then those of some targets and of what is recommended; bars fill a column's largest."""
    some = [probe for probe in probes if any(cells[probe].detail for cells in rows.values() if probe in cells)]
    parts = []
    for title, columns in (("", [p for p in probes if p not in some]), ("Cold and warm, coverage and novelty", some)):
        most = {p: largest(cells[p] for cells in rows.values() if p in cells) for p in columns}
        body = {row: {p: cell(cells.get(p), most=most[p], places=2) for p in columns} for row, cells in rows.items()}
        parts.append((f"<h3>{title}</h3>" if title else "") + grid(columns, body, ours) if columns else "")
    return "".join(parts)


def largest(scores: Iterable[Score]) -> float:
    """The upper end of the highest interval, for the length of bars."""
    return max((score.high for score in scores if math.isfinite(score.high)), default=1.0) or 1.0


def grid(columns: list[str], rows: Mapping[str, Mapping[str, str]], ours: str = H) -> str:
    """A table of cells in HTML; the names of rows and columns are plain text. The row of `ours` stands out."""
    head = "".join(f'<th scope="col">{escape(column)}</th>' for column in columns)
    lines = (
        f'<tr class="{"ours" if row == ours else ""}"><th scope="row">{escape(row)}</th>'
        + "".join(f"<td>{cells.get(column, '')}</td>" for column in columns)
        + "</tr>"
        for row, cells in rows.items()
    )
    table = f'<table class="measures" style="min-width:{6.2 + 6.9 * len(columns):.1f}rem">'
    table += f"<thead><tr><td></td>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table>"
    return f'<div class="wide" role="region" aria-label="a table" tabindex="0">{table}</div>'


def cell(
    score: Score | None, mark: str = "", *, most: float = 1.0, places: int = 1, written: tuple[str, str] | None = None
) -> str:
    """A figure, its interval and both as a bar; `mark` is a word to set behind it, `most` the length of the bar.

    written: the figure and its interval in words, where they are no per cent.
    """
    if score is None:
        return '<span class="dim">not measured</span>'
    if not all(math.isfinite(x) for x in (score.value, score.low, score.high)):
        return "not finite"
    low, high, value = (round(100 * min(1.0, max(0.0, x / most)), 2) for x in (score.low, score.high, score.value))
    whisker = f"M{low} 5H{high}M{low} 1.5V8.5M{high} 1.5V8.5" if score.low < score.high else ""
    unit = score.detail.get("unit")
    figure = f"{score.value:.2f} {unit}" if unit else f"{100 * score.value:.{places}f} %"
    interval = f"[{100 * score.low:.{places}f}, {100 * score.high:.{places}f}]"
    figure, interval = written or (figure, "" if unit or score.detail.get("brief") else interval)
    return (
        f"<b>{escape(figure)}</b> {f'<i>{escape(mark)}</i> ' if mark else ''}"
        f"{f'<small>{escape(interval)}</small>' if interval else ''}"
        '<svg class="bar" viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true">'
        f'<rect class="track" width="100" height="10" rx="1"/><rect class="value" width="{value}" height="10" rx="1"/>'
        f'<path d="{whisker}"/></svg>'
    )
