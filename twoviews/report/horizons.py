"""How far ahead a run predicts: accuracy by horizon, as figure 3 of CPC (van den Oord et al. 2018, arXiv:1807.03748).

Read from what CPC logs of each horizon k: loss_k, accuracy_k and bound_k. Loss and bound add up to log N, of which
chance is exp(-log N) and the ceiling of the bound log N itself.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from .curves import BESIDE, OURS
from .figures import key, line, plot
from .record import Record

MOMENTS = {"in the first twentieth": (0.0, 0.05), "in the first quarter": (0.15, 0.25), "at the end": (0.9, 1.0)}
LOOKS = {"in the first twentieth": ("var(--other)", "dot"), "in the first quarter": (BESIDE, "dash")}  # else ours
PARTS = ("loss", "accuracy", "bound")
LEAD = (
    "How often what really follows scores above every other candidate, by how far ahead it lies{each}. A curve that "
    "falls with the distance is as it should be: what is near is easier. The bound says how much of what follows the "
    "context is shown to know; it can never say more than log N of its N candidates, and does not rank encoders."
)


def steps_ahead(record: Record) -> list[int]:
    """The horizons that were logged, the nearest first; none of a method that does not predict."""
    names = {name for values in record.metrics for name in values}
    found = {int(name.rpartition("_")[2]) for name in names if re.fullmatch(r"accuracy_\d+", name)}
    return sorted(k for k in found if {f"{part}_{k}" for part in PARTS} <= names)


def names(record: Record) -> set[str]:
    """What of the log is drawn here."""
    return {f"{part}_{k}" for part in PARTS for k in steps_ahead(record)}


def horizons(record: Record) -> str:
    """Two figures: accuracy with chance, and the bound with its ceiling, early, later and at the end."""
    ks = steps_ahead(record)
    seen = {name: found for name, share in MOMENTS.items() if (found := _means(record, ks, *share))}
    if not seen:
        return "<p>Nothing was logged by horizon.</p>"
    last = seen[next(reversed(seen))]
    ceiling = last["loss"] + last["bound"]
    accuracy, bound = ({name: each[part] for name, each in seen.items()} for part in ("accuracy", "bound"))
    percent = {"tickformat": ".0%", "hoverformat": ".1%", "rangemode": "tozero"}
    return (
        f'<div class="grid two">{_figure("Accuracy by horizon", ks, accuracy, "chance", np.exp(-ceiling), percent)}'
        f"{_figure('Bound by horizon', ks, bound, 'log N', ceiling, {'hoverformat': '.2f', 'rangemode': 'tozero'})}"
        "</div>"
    )


def _figure(
    title: str, ks: list[int], curves: dict[str, np.ndarray], limit: str, level: np.ndarray, yaxis: dict[str, Any]
) -> str:
    looks = {name: LOOKS.get(name, (OURS, "solid")) for name in curves}
    mode = "lines+markers"
    traces = [line(ks, y, name, looks[name][0], line={"dash": looks[name][1]}, mode=mode) for name, y in curves.items()]
    traces.append(
        line(ks, level, limit, "var(--dim)", line={"dash": "dash", "width": 1}, mode=mode if len(ks) < 2 else "lines")
    )
    end = [(k, y, at) for k, y, at in zip(ks, list(curves.values())[-1], level, strict=True) if np.isfinite(y)]
    first, last = (f"{_written(y, yaxis)} at horizon {k}" for k, y, _ in (end[0], end[-1]))
    said = f"At the end {first}" + (f" and {last}" if len(end) > 1 else "")
    drawn = plot(
        traces,
        f"{title}. {said}; {limit} is {_written(float(end[0][2]), yaxis)}",
        height=280,
        xaxis={"title": {"text": "places ahead", "standoff": 4}, "tickformat": "d"},
        yaxis={"title": {"text": "nats" if limit == "log N" else ""}, **yaxis},
    )
    names = key({**{name: colour for name, (colour, _) in looks.items()}, limit: "var(--dim)"})
    return f'<figure class="card panel"><h3>{title}</h3>{names}{drawn}<figcaption>{said}.</figcaption></figure>'


def _means(record: Record, ks: list[int], begin: float, end: float) -> dict[str, np.ndarray]:
    """{part: (K,)} over a share of the run; {} where nothing was logged in it."""
    reach = max((values["step"] for values in record.metrics), default=0)
    out = {part: np.full(len(ks), np.nan) for part in PARTS}
    for i, k in enumerate(ks):
        for part in PARTS:
            steps, values = record.curve(f"{part}_{k}")
            within = values[(steps >= begin * reach) & (steps <= max(end * reach, 1)) & np.isfinite(values)]
            out[part][i] = within.mean() if len(within) else np.nan
    asked = out["loss"] + out["bound"] > 0  # all is 0 where no item reached so far
    return {part: np.where(asked, values, np.nan) for part, values in out.items()} if asked.any() else {}


def _written(value: float, axis: dict[str, Any]) -> str:
    return f"{value:.1%}" if "%" in axis.get("tickformat", "") else f"{value:.2f}"
