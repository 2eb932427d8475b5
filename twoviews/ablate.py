"""What positions, width and length are worth on a log: the paper's figures 4 and 5 and table 5 as one page.

Sun et al. 2019, arXiv:1904.06690, section 4.5 to 4.8.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from .api import train
from .calls import knobs
from .errors import UserError, unknown
from .evaluate.score import Score
from .fit import Result
from .log import Log
from .report.figures import STYLE, plot, scripts
from .report.parts import document, save, section

STUDIES: dict[str, tuple[str, tuple[Any, ...], str]] = {  # what is varied -> the setting, its values, in words
    "positions": ("encoder.positions", ("end", "start", "none"), "Does the order of a history matter?"),
    "width": ("encoder.width", (16, 32, 64, 128, 256), "How wide must a vector be?"),
    "length": ("views.length", (10, 20, 50, 100, 200), "How much of a history must be read?"),
}
MEASURE, FLOORS = "NDCG@10", ("popular", "markov")


def ablate(
    data: Any,
    *,
    out: str | Path = "runs/ablate",
    studies: Sequence[str] = tuple(STUDIES),
    recipe: str = "auto",
    device: str | None = None,
    quiet: bool = False,
    settings: Mapping[str, Any] | None = None,
) -> Path:
    """Train a run for each value of each study, all else equal, and draw how well each ranks: OUT/index.html.

    studies:  positions, width, length, or some of them.
    settings: of all runs, as {"epochs": 20}.
    Each run has a folder of its own in `out`, so a call that was stopped goes on where it was.
    """
    if wrong := [name for name in studies if name not in STUDIES]:
        raise unknown("study", wrong[0], STUDIES)
    place, log, common = Path(out), Log(quiet=quiet), dict(settings or {})
    how: dict[str, Any] = {"recipe": recipe, "device": device, "quiet": quiet}
    usual = train(data, out=place / "usual", settings=common, **how)
    base = {study: value_of(usual, STUDIES[study][0]) for study in studies}
    found: dict[str, dict[Any, Score]] = {}
    for study in studies:
        setting, values, _ = STUDIES[study]
        found[study] = {}
        for value in dict.fromkeys((*values, base[study])):
            same, name = value == base[study], f"{study}-{value}"
            log.say(f"{setting}={value}" + (", the usual run" if same else ""))
            one = usual if same else train(data, out=place / name, settings={**common, setting: value}, **how)
            found[study][value] = measured(one)
    return save(place / "index.html", page(usual, found, base))


def value_of(result: Result, setting: str) -> Any:
    part, _, knob = setting.partition(".")
    return knobs(getattr(result.run, part))[knob]


def measured(result: Result) -> Score:
    """NDCG@10 of a run. Raises UserError where it was not measured."""
    rows = result.table.rows if result.table else {}
    name = type(result.method).__name__
    if MEASURE not in rows.get(name, {}):
        raise UserError(f"{result.folder} was not measured by {MEASURE}, so there is nothing to compare")
    return rows[name][MEASURE]


def page(usual: Result, found: Mapping[str, Mapping[Any, Score]], base: Mapping[str, Any]) -> str:
    title = f"What matters in {usual.folder.resolve().parent.name}"
    rows = usual.table.rows if usual.table else {}
    floors = {name: rows[name][MEASURE].value for name in FLOORS if name in rows}
    parts = [
        section(study, STUDIES[study][2], figure(study, scores, floors) + table(scores, base[study]))
        for study, scores in found.items()
    ]
    lead = (
        f"One setting at a time is changed, all else is as in {escape(str(usual.folder))}. {MEASURE} over the whole "
        "catalogue, with 95 % intervals for the draw of the users; they do not cover the seed."
    )
    body = f"<style>{STYLE}</style><h1>{escape(title)}</h1><p>{lead}</p>{''.join(parts)}"
    return document(title, body, scripts())


def figure(study: str, scores: Mapping[Any, Score], floors: Mapping[str, float]) -> str:
    """The measure over the setting, with the floors as dashed lines."""
    names = [str(value) for value in scores]
    values = list(scores.values())
    bars = {
        "type": "scatter",
        "mode": "markers" if study == "positions" else "lines+markers",
        "x": names,
        "y": [s.value for s in values],
        "error_y": {
            "type": "data",
            "array": [s.high - s.value for s in values],
            "arrayminus": [s.value - s.low for s in values],
            "color": "var(--ours)",
        },
        "line": {"color": "var(--ours)"},
        "marker": {"color": "var(--ours)", "size": 9},
        "name": MEASURE,
    }
    lines = [
        {
            "type": "scatter",
            "mode": "lines+text",
            "x": [names[0], names[-1]],
            "y": [value, value],
            "text": [floor, ""],
            "textposition": "top right",
            "line": {"color": "var(--other)", "dash": "dash"},
            "name": floor,
        }
        for floor, value in floors.items()
    ]
    said = "; ".join(f"{name}: {score.value:.4f}" for name, score in zip(names, values, strict=True))
    axes: dict[str, Any] = {
        "xaxis": {"title": {"text": STUDIES[study][0], "standoff": 4}, "type": "category"},
        "yaxis": {"title": {"text": MEASURE}, "rangemode": "tozero"},
    }
    return f'<figure class="card">{plot([*lines, bars], f"{MEASURE} by {study}. {said}", height=300, **axes)}</figure>'


def table(scores: Mapping[Any, Score], base: Any) -> str:
    rows = "".join(
        f"<tr><td>{escape(str(value))}{' (as usual)' if value == base else ''}</td>"
        f"<td>{score.value:.4f}</td><td>{score.low:.4f} to {score.high:.4f}</td></tr>"
        for value, score in scores.items()
    )
    head = f"<thead><tr><th>value</th><th>{MEASURE}</th><th>95 % interval</th></tr></thead>"
    return f'<div class="wide"><table>{head}<tbody>{rows}</tbody></table></div>'
