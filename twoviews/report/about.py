"""What the run was made of: its data, what could not be read, and how to do it again."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from html import escape
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from ..types import Source
from .record import Record

CLASSES, SKIPPED = 40, 50  # listed one by one
STYLE = """
.classes { display: grid; grid-template-columns: minmax(4rem, max-content) 1fr max-content; gap: .15rem .8rem;
  font-size: .875rem; align-items: center; margin: .8rem 0; max-width: 40rem; }
.classes i { display: block; height: .55rem; border-radius: 3px; background: var(--ours); min-width: 1px; }
.classes b { font-weight: 400; color: var(--dim); font-variant-numeric: tabular-nums; }
.facts { display: grid; grid-template-columns: max-content 1fr; gap: .2rem 1.2rem; margin: .6rem 0; }
.facts dt { color: var(--dim); } .facts dd { margin: 0; }
.listed { font-size: .875rem; } .listed td { border: 0; padding: .15rem .9rem .15rem 0; }
@media (max-width: 30rem) { .facts { grid-template-columns: 1fr; } .facts dd { margin-bottom: .4rem; } }
"""


def data(record: Record, source: Source, test: Source) -> str:
    """How much there was of what, and what was left out."""
    of = "of which none were kept back" if test is source else f"and {len(test):,} test items"
    classes = len(source.classes or ())
    labels = f"{classes:,} classes" if source.labels is not None and classes else "no labels"
    said = f"<p>{len(source):,} items of {escape(source.name)} to learn from, {of}; {labels}.</p>"
    return said + _classes(source, test) + _skipped(record.folder / "skipped.csv")


def repeat(record: Record) -> str:
    """The command, the seed, versions, hardware and every setting."""
    about = record.about
    facts = {
        "Seed": about["run"].get("seed"),
        "Data": f"{about['data'].get('name')}, fingerprint {about['data'].get('fingerprint')}",
        "Versions": _pairs(about.get("versions")),
        "Hardware": _pairs(about.get("hardware")),
    }
    listed = "".join(f"<dt>{name}</dt><dd>{escape(str(value))}</dd>" for name, value in facts.items())
    settings = escape(json.dumps(about["run"], indent=2))
    return (
        f'<pre tabindex="0">{escape(str(about.get("command", "")))}</pre><dl class="facts">{listed}</dl>'
        f"<details><summary>Every setting</summary><pre>{settings}</pre></details>"
    )


def _classes(source: Source, test: Source) -> str:
    if source.labels is None or not source.classes:
        return ""
    learn, judge = (_counts(s, len(source.classes)) for s in (source, test))
    order = np.argsort(-learn, kind="stable")[:CLASSES]
    most = max(1, int(learn.max()))
    rows = "".join(
        f'<span>{escape(source.classes[c])}</span><i style="width:{100 * learn[c] / most:.1f}%"></i>'
        f"<b>{learn[c]:,}{'' if test is source else f' + {judge[c]:,}'}</b>"
        for c in order
    )
    rest = len(source.classes) - len(order)
    more = f'<p class="dim">and {rest:,} more classes of at most {learn[order[-1]]:,} items each</p>' if rest else ""
    none = int((source.labels < 0).sum())
    said = "" if test is source else '<p class="dim">Of each class: items to learn from + test items.</p>'
    return f'{said}<div class="classes">{rows}</div>{more}' + (f"<p>{none:,} items have no label.</p>" if none else "")


def _counts(source: Source, classes: int) -> np.ndarray:
    labels = np.array([]) if source.labels is None else source.labels[source.labels >= 0]
    return np.bincount(labels.astype(np.int64), minlength=classes)


def _skipped(path: Path) -> str:
    try:
        with path.open(newline="", encoding="utf-8", errors="replace") as file:
            lines = csv.reader(file)
            next(lines, None)  # key,reason
            first = list(islice(lines, SKIPPED))
            rest = sum(1 for _ in lines)
    except FileNotFoundError:
        first = []
    if not first:
        return "<p>All items could be read.</p>"
    rows = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in line)}</tr>" for line in first)
    more = f"<p>and {rest:,} more, in skipped.csv</p>" if rest else ""
    return (
        f"<details><summary>{len(first) + rest:,} items could not be read</summary>"
        f'<div class="wide"><table class="listed">{rows}</table></div>{more}</details>'
    )


def _pairs(values: Mapping[str, Any] | None) -> str:
    shown = {k: ", ".join(map(str, v)) if isinstance(v, list) else v for k, v in (values or {}).items()}
    return ", ".join(f"{name} {value}" for name, value in shown.items() if value)
