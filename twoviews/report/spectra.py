"""The spectra of h and z: how many directions of the space are in use.

A block of singular values near zero is dimensional collapse (Jing et al. 2021, arXiv:2110.09348); the effective rank
is RankMe's (Garrido et al. 2023, arXiv:2210.02885).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from html import escape
from typing import Any, TypeGuard

import numpy as np

from ..doctor.checkup import spectra as spectra_of
from ..types import Features
from .curves import BESIDE, OURS
from .figures import key, line, plot
from .record import Record

LEAD = (
    "The singular values of the test embeddings, the largest first. A line that stays up uses its dimensions; one that "
    "falls off a cliff has collapsed into a few. The effective rank says how many directions are in use, as one number."
)
FLOOR = 1e-10  # of the largest value, what is drawn for less


def measured(features: Features) -> dict[str, Any]:
    """What checkup.json says of h and z, from finite features of two items or more."""
    z = features.z if features.z is not None and features.z.isfinite().all() else None
    return {"items": len(features), **spectra_of(replace(features, z=z))}


def spectra(checkup: Mapping[str, Any] | None) -> str:
    """h and z of one run. checkup: what checkup.json holds, or `measured` gives."""
    found = ((name, checkup.get(name)) for name in ("h", "z", "vectors")) if checkup else ()
    parts = {name: part for name, part in found if usable(part)}
    if not checkup or not parts:
        return "<p>Not measured.</p>"
    colours, called = {"h": OURS, "z": BESIDE, "vectors": "var(--healthy)"}, {"vectors": "item vectors"}
    words = [
        f"{called.get(name, name)}: effective rank {part['rank']:,.1f} of {part['dim']:,}"
        for name, part in parts.items()
    ]
    entries = {said: colours[name] for said, name in zip(words, parts, strict=True)}
    lines = {called.get(name, name): (part, colours[name]) for name, part in parts.items()}
    drawn = chart(lines, "; ".join(words))
    counted = next((name for name in ("items", "users") if isinstance(checkup.get(name), int)), None)
    items = f"Measured on {checkup[counted]:,} {counted}." if counted else ""
    missing = "" if "z" in parts else " There is no z, or it could not be measured."
    return f'<figure class="card">{key(entries)}{drawn}<figcaption>{items}{missing}</figcaption></figure>'


def overlaid_spectra(records: Mapping[str, Record], colours: Mapping[str, str]) -> str:
    """The spectra of several runs over each other, h and z apart."""
    out = []
    for name in ("h", "z"):
        found = ((run, (record.checkup or {}).get(name)) for run, record in records.items())
        parts = {run: part for run, part in found if usable(part)}
        missing = [run for run in records if run not in parts]
        note = f"<figcaption>not measured: {escape(', '.join(missing))}</figcaption>" if missing else ""
        words = {f"{run}: {part['rank']:,.1f} of {part['dim']:,}": colours[run] for run, part in parts.items()}
        drawn = chart({run: (part, colours[run]) for run, part in parts.items()}, "; ".join(words)) if parts else ""
        out.append(f'<figure class="card panel"><h3>{name}</h3>{key(words)}{drawn}{note}</figure>')
    return f'<div class="grid">{"".join(out)}</div>'


def chart(lines: Mapping[str, tuple[Mapping[str, Any], str]], said: str) -> str:
    """Singular values over their rank on a log axis. lines: {name: (part of a checkup, colour)}."""
    traces = []
    for name, (part, colour) in lines.items():
        values = np.array(part["spectrum"], dtype=np.float64)
        shown = np.log10(np.maximum(values, max(values.max(), np.finfo(float).tiny) * FLOOR))
        marks = "lines+markers" if len(values) < 30 else "lines"
        traces.append(line(np.arange(1, len(values) + 1), shown, name, colour, mode=marks))
    return plot(
        traces,
        f"Singular values of the embeddings by rank, on a logarithmic axis. {said}",
        height=300,
        xaxis={"title": {"text": "rank of the singular value", "standoff": 4}},
        yaxis={"title": {"text": "log10 of the singular value"}, "hoverformat": ".2f"},
    )


def usable(part: Any) -> TypeGuard[dict[str, Any]]:
    """Is it h or z of a checkup with a spectrum that can be drawn?"""
    if not isinstance(part, dict) or not all(name in part for name in ("dim", "rank", "spectrum")):
        return False
    try:
        values = np.array(part["spectrum"], dtype=np.float64)
    except (TypeError, ValueError):
        return False
    return values.ndim == 1 and len(values) > 0 and bool(np.isfinite(values).all())
