"""Several runs on one page, from what lies in their folders."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from ..errors import UserError
from ..evaluate.score import INTERVALS, Score, difference
from ..evaluate.table import H, Z
from . import curves, figures, measures, spectra, verdict
from .parts import document, save, section
from .record import Record, read_record

STYLES = (
    "".join(part.STYLE for part in (verdict, measures, curves, figures))
    + """
.run { border-top: 5px solid; margin: 0; } .run h3 { display: flex; justify-content: space-between; gap: .6rem; }
.run p { margin: .4rem 0 0; font-size: .9375rem; }
#measures h3 { margin-top: 1.4rem; }
.measures code { white-space: normal; overflow-wrap: anywhere; }
"""
)
BEST = (
    "Best: better than each of the others by more than the error of the test, that is, the 95 % interval of the "
    "difference leaves out zero. Where none is marked, the test items cannot tell. "
)
OTHER_DATA = (
    "These runs were not trained and measured on the same data: "
    "their figures cannot be compared, and no best is marked."
)
OTHER_LOSS = (
    "Losses of other objectives, temperatures, queues or batch sizes are not on one scale: compare their shapes alone."
)
OURS = "the model"
OTHER_VIEWS = "<p>The runs draw other views, so what they were asked here differs.</p>"


def write_comparison(folders: Sequence[Path], out: Path) -> Path:
    """Write the page that compares the runs in `folders` to `out` and return its path.

    Reads what a run's page reads, and no weights or data. Raises UserError on fewer than two folders, on one that is
    not a run, and when the page cannot be written.
    """
    if len(folders) < 2:
        raise UserError(f"a comparison needs two runs or more, got {len(folders)}: give their folders")
    records = dict(zip(names(folders), map(read_record, folders), strict=True))
    colours = {name: figures.COLOURS[i % len(figures.COLOURS)] for i, name in enumerate(records)}
    alike = same_data(records)
    cards = "".join(_card(name, record, colours[name], out) for name, record in records.items())
    warning = "" if alike else f'<div class="card verdict watch"><p>{OTHER_DATA}</p></div>'
    said = "" if same(records, "method", "batch_size", "accumulate") else OTHER_LOSS
    said = " ".join(filter(None, [said, curves.lead(records.values())]))
    title = f"{len(records)} runs side by side"
    body = "".join(
        [
            f"<style>{STYLES}</style><h1>{title}</h1>{warning}",
            section("verdicts", "Verdicts", f'<div class="grid">{cards}</div>'),
            section("measures", "How good are they?", _measures(records, alike), BEST + INTERVALS if alike else ""),
            section("numbers", "In numbers", _numbers(records)),
            section("training", "Training", figures.key(colours) + curves.overlaid(records, colours), said),
            section("spectra", "Directions in use", spectra.overlaid_spectra(records, colours), spectra.LEAD),
            section("settings", "Settings in which they differ", _settings(records)),
        ]
    )
    return save(out, document(title, body, figures.scripts()))


def names(folders: Sequence[Path]) -> list[str]:
    """A name for each run: its folder's, with as many parents before it as tell it from the others."""
    whole = [folder.resolve().parts for folder in folders]
    for length in range(1, max(map(len, whole)) + 1):
        found = ["/".join(parts[-length:]) for parts in whole]
        if len(set(found)) == len(found):
            return found
    raise UserError(f"the same run is given twice: {', '.join(map(str, folders))}")


def same_data(records: Mapping[str, Record]) -> bool:
    """Were all trained and measured on the same items?"""
    prints = {record.about["data"].get("fingerprint") for record in records.values()}
    return len(prints) == 1 and same(records, "test", "holdout")


def same(records: Mapping[str, Record], *parts: str) -> bool:
    """Have all runs the same settings there?"""
    settings = [[record.about["run"].get(part) for part in parts] for record in records.values()]
    return all(one == settings[0] for one in settings)


def best(scores: Mapping[str, Score]) -> str | None:
    """Whose score is larger than every other by more than the error of the test, if anyone's."""
    if len(scores) < 2 or len({score.n for score in scores.values()}) > 1:
        return None
    top = max(scores, key=lambda name: scores[name].value)
    beats = all(difference(scores[top], score)[0] > 0 for name, score in scores.items() if name != top)
    return top if beats else None


def differing(records: Mapping[str, Record]) -> dict[str, dict[str, str]]:
    """{setting: {run: value}} for each setting of run.json that is not the same in all."""
    flat = {name: _flat(record.about["run"]) for name, record in records.items()}
    keys = sorted({key for values in flat.values() for key in values})
    table = {key: {name: values.get(key, "") for name, values in flat.items()} for key in keys}
    return {key: row for key, row in table.items() if len(set(row.values())) > 1}


def _card(name: str, record: Record, colour: str, out: Path) -> str:
    page = record.folder / "index.html"
    link = quote(os.path.relpath(page.resolve(), out.resolve().parent).replace(os.sep, "/"))
    title = f'<a href="{link}">{escape(name)}</a>' if page.exists() else escape(name)
    sentence = verdict.examined(record) if record.doctor else "Not examined by the doctor."
    return (
        f'<div class="card run" style="border-top-color:{colour}">'
        f"<h3>{title}{verdict.pill(verdict.level_of(record))}</h3>"
        f"<small>{escape(record.title)}</small><p>{escape(sentence)}</p>"
        f"<p>{escape(verdict.learned(record) or 'Not measured.')}</p></div>"
    )


def _measures(records: Mapping[str, Record], alike: bool) -> str:
    """For each probe the rows of the evaluation over the runs."""
    found = {name: _rows(record) for name, record in records.items()}
    ranked = any(OURS in rows for rows in found.values())
    probes = dict.fromkeys(probe for rows in found.values() for cells in rows.values() for probe in cells)
    parts = []
    for probe in probes:
        lines = dict.fromkeys(row for rows in found.values() for row, cells in rows.items() if probe in cells)
        asked_alike = probe != "retrieval" or same(records, "views")  # retrieval is of the run's own views
        all_of_it = [cells[probe] for rows in found.values() for cells in rows.values() if probe in cells]
        how: dict[str, Any] = {"most": measures.largest(all_of_it), "places": 2} if ranked else {}
        alone = ranked and any(score.detail for score in all_of_it)  # of some targets, or no share of them
        table = {}
        for line in lines:
            got = {name: rows[line][probe] for name, rows in found.items() if probe in rows.get(line, ())}
            top = best(got) if alike and asked_alike and line in (H, Z, OURS) and not alone else None
            table[line] = {name: measures.cell(got.get(name), "best" if name == top else "", **how) for name in records}
        note = "" if asked_alike else OTHER_VIEWS
        drawn = measures.grid(list(records), table, OURS if ranked else H)
        parts.append(f"<h3>{escape(probe)}</h3>{note}{drawn}")
    return "".join(parts) or "<p>Not measured.</p>"


def _rows(record: Record) -> dict[str, dict[str, Score]]:
    """The rows of an evaluation. That of a model of histories bears its name, which differs between runs."""
    ours = (record.evaluation or {}).get("ours")
    return {OURS if row == ours else row: cells for row, cells in measures.scores(record.evaluation).items()}


def _numbers(records: Mapping[str, Record]) -> str:
    rows: dict[str, Callable[[Record], float | None]] = {
        "steps": lambda record: _end(record, "step"),
        "loss at the end": lambda record: math.nan if _broke(record) else _end(record, "loss"),
        "loss of knowing nothing": lambda record: _end(record, "chance"),
        "pairs matched at the end": lambda record: _end(record, "matched"),
        "effective rank of h": lambda record: _rank(record, "h"),
        "effective rank of z": lambda record: _rank(record, "z"),
        "items a second, median": lambda record: _median(record.curve("items_per_second")[1]),
    }
    cells = {row: {name: _plain(value(record)) for name, record in records.items()} for row, value in rows.items()}
    return measures.grid(list(records), cells)


def _settings(records: Mapping[str, Record]) -> str:
    table = differing(records)
    if not table:
        return "<p>None: they were given the same settings.</p>"
    rows = {key: {name: f"<code>{escape(value)}</code>" for name, value in row.items()} for key, row in table.items()}
    return measures.grid(list(records), rows)


def _flat(value: Any, prefix: str = "") -> dict[str, str]:
    """Nested settings as {"method.queue": "4096"}; a part's call under the part's own name."""
    if not isinstance(value, dict):
        return {prefix: value if isinstance(value, str) else json.dumps(value)}
    out = {}
    for key, inner in value.items():
        if key == "call":
            out[prefix] = str(inner).rpartition(":")[2]
        else:
            out |= _flat(inner, f"{prefix}.{key}" if prefix else key)
    return out


def _end(record: Record, name: str) -> float | None:
    values = record.curve(name)[1]
    return float(values[-1]) if len(values) else None


def _broke(record: Record) -> bool:
    """Did the run end with a loss that is not finite?"""
    return bool(record.metrics) and "not_finite" in record.metrics[-1]


def _median(values: np.ndarray) -> float | None:
    values = values[np.isfinite(values)]
    return float(np.median(values)) if len(values) else None


def _rank(record: Record, name: str) -> float | None:
    part = (record.checkup or {}).get(name)
    return float(part["rank"]) if spectra.usable(part) else None


def _plain(value: float | None) -> str:
    return (
        '<span class="dim">not measured</span>'
        if value is None
        else "not finite"
        if not math.isfinite(value)
        else f"{value:,.4g}"
        if value < 1e4
        else f"{value:,.0f}"
    )
