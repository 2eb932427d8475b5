"""What was logged while training, as curves."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from html import escape, unescape
from typing import Any

import numpy as np

from .figures import key, line, plot
from .record import Curve, Record

POINTS = 500  # of a curve that is drawn
DRAWN = {"step", "epoch"}  # what needs no curve of its own


@dataclass(frozen=True)
class Panel:
    """lines: what is drawn together, {logged name: (what it is called, colour, dash)}. form: d3's, for the axis."""

    title: str
    lines: Mapping[str, tuple[str, str, str]]
    form: str = ".3~s"


STYLE = """
.panel { margin: 0; min-width: 0; } .panel.loss { grid-column: 1 / -1; }
.panel h3 { display: flex; flex-wrap: wrap; gap: 0 1rem; justify-content: space-between; }
.panel h3 .dim { font-weight: 400; font-variant-numeric: tabular-nums; }
"""
OURS, BESIDE = "var(--ours)", "var(--watch)"
PANELS = (
    Panel("Loss", {"loss": ("loss", OURS, "solid"), "chance": ("an encoder that knows nothing", "var(--dim)", "dash")}),
    Panel("Effective rank", {"h_rank": ("h", OURS, "solid"), "z_rank": ("z", BESIDE, "solid")}),
    Panel("Pairs matched", {"matched": ("rows whose positive beats all negatives", OURS, "solid")}, ".0%"),
    Panel("Hidden patches explained", {"explained": ("share of their variance", OURS, "solid")}, ".1%"),
    Panel("kNN on the test items", {"knn": ("kNN", OURS, "solid")}, ".0%"),
    Panel("Validation", {"ndcg": ("NDCG@10", OURS, "solid"), "recall": ("Recall@10", BESIDE, "solid")}, ".1%"),
    Panel("Held-out links", {"links": ("AUC", OURS, "solid")}, ".1%"),
    Panel("Learning rate", {"lr": ("learning rate", OURS, "solid")}, "~g"),
    Panel("Items a second", {"items_per_second": ("items a second", OURS, "solid")}),
    Panel("Waiting for data", {"data_wait": ("share of the time", OURS, "solid")}, ".0%"),
)


def curves(record: Record, elsewhere: Collection[str] = ()) -> str:
    """All that was logged and is not drawn elsewhere: the panels that a reader looks at first, the rest folded away."""
    known = {name for panel in PANELS for name in panel.lines} | set(elsewhere)
    logged = dict.fromkeys(name for values in record.metrics for name in values)
    more = [Panel(name, {name: (name, OURS, "solid")}) for name in logged if name not in known | DRAWN]
    first, rest = (_panels(panels, record) for panels in (PANELS, more))
    if not first and not rest:
        return "<p>Nothing was logged.</p>"
    folded = f'<details><summary>All else that was logged</summary><div class="grid">{rest}</div></details>'
    return f'<div class="grid">{first}</div>' + (folded if rest else "")


def lead(records: Iterable[Record]) -> str:
    """What is to be said before the curves."""
    most = max(len(record.metrics) for record in records)
    few = -(-most // POINTS)
    return f"Curves of more than {POINTS} values are drawn as means of up to {few} neighbours." if few > 1 else ""


def overlaid(records: Mapping[str, Record], colours: Mapping[str, str]) -> str:
    """The same measures of several runs in one plot each; records and colours by the runs' names."""
    out = []
    for panel in PANELS:
        for name, (label, _, _) in panel.lines.items():
            found = {run: record.curve(name) for run, record in records.items()}
            found = {run: curve for run, curve in found.items() if len(curve[0])}
            if not found or name == "chance":
                continue
            traces = [line(*thin(curve), run, colours[run]) for run, curve in found.items()]
            title = panel.title if len(panel.lines) == 1 or name == "loss" else f"{panel.title} of {label}"
            missing = [run for run in records if run not in found]
            out.append(_panel(title, traces, panel.form, [f"not logged: {', '.join(missing)}"] if missing else []))
    return f'<div class="grid">{"".join(out)}</div>' if out else "<p>Nothing was logged.</p>"


def thin(curve: Curve, most: int = POINTS) -> Curve:
    """Steps and values as means of neighbours, so that no more than `most` are left.

    Values that are not finite count for nothing; where there is no other the mean is NaN, a gap.
    """
    steps, values = curve
    edges = np.linspace(0, len(values), min(most, len(values)) + 1).astype(int)
    sizes = np.diff(edges)
    finite = np.isfinite(values)
    with np.errstate(over="ignore"):
        total = np.add.reduceat(np.where(finite, values, 0.0), edges[:-1])
    count = np.add.reduceat(finite.astype(int), edges[:-1])
    mean = np.divide(total, count, out=np.full(len(sizes), np.nan), where=count > 0)
    return np.add.reduceat(steps, edges[:-1]) / sizes, mean


def _panels(panels: Any, record: Record) -> str:
    out = []
    for panel in panels:
        traces, notes = [], []
        for name, (label, colour, dash) in panel.lines.items():
            curve = record.curve(name)
            if not len(curve[0]):
                continue
            seen = {"mode": "lines+markers"} if len(curve[0]) == 1 else {}  # one point makes no line
            traces.append(line(*thin(curve), label, colour, line={"dash": dash}, **seen))
            if bad := int((~np.isfinite(curve[1])).sum()):
                notes.append(f"{bad:,} of {len(curve[1]):,} values of {label} are not finite.")
        if traces:
            out.append(_panel(panel.title, traces, panel.form, notes, _last(record, panel)))
    return "".join(out)


def _panel(title: str, traces: list[dict[str, Any]], form: str, notes: list[str], last: str = "") -> str:
    called = [unescape(trace["name"]) for trace in traces]
    loss = title == "Loss"
    drawn = plot(
        traces,
        height=280 if loss else 210,
        alt=f"{title} over training steps: {' and '.join(called)}. {last}",
        xaxis={"title": {"text": "step", "standoff": 4}},
        yaxis={"tickformat": form, "hoverformat": f".{int(form[1]) + 1}%" if form.endswith("%") else ".4~g"},
    )
    colours = [trace["line"]["color"] for trace in traces]
    names = dict(zip(called, colours, strict=True)) if last and len(traces) > 1 else {}
    note = f"<figcaption>{escape(' '.join(notes))}</figcaption>" if notes else ""
    head = f'<h3>{escape(title)}<span class="dim">{escape(last)}</span></h3>{key(names) if names else ""}'
    return f'<figure class="card panel{" loss" if loss else ""}">{head}{drawn}{note}</figure>'


def _last(record: Record, panel: Panel) -> str:
    """The last finite value of each line, for the head of a panel."""
    ends = []
    for name, (label, _, _) in panel.lines.items():
        _, values = record.curve(name)
        values = values[np.isfinite(values)]
        if len(values) and name != "chance":
            value = f"{100 * values[-1]:.{panel.form[1]}f} %" if panel.form.endswith("%") else f"{values[-1]:,.4g}"
            ends.append(f"{label} {value}" if len(panel.lines) > 1 and name != "loss" else value)
    return ", ".join(ends)
