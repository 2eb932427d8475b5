"""The log that a run on histories learned from: what was counted, how long histories are, how popular items are."""

from __future__ import annotations

from html import escape

import numpy as np

from ..data.histories import Histories
from ..data.logs import notes
from ..data.splits import Division
from .curves import OURS
from .figures import line, plot

BINS, POINTS = 30, 200


def events(division: Division) -> str:
    train = division.train
    lines = "".join(f"<li>{escape(each)}</li>" for each in (*notes(train), division.said))
    return f'<p>What was trained on:</p><ul>{lines}</ul><div class="grid two">{_lengths(train)}{_curve(train)}</div>'


def _lengths(train: Histories) -> str:
    lengths = train.lengths
    some = lengths[lengths > 0]
    edges = np.unique(np.round(np.geomspace(some.min(), some.max() + 1, BINS + 1)).astype(np.int64))
    users = np.histogram(lengths, edges)[0]
    names = [f"{a:,}" if b - a == 1 else f"{a:,} to {b - 1:,}" for a, b in zip(edges[:-1], edges[1:], strict=True)]
    trace = {"type": "bar", "x": names, "y": users, "marker": {"color": OURS}, "name": "users"}
    said = (
        f"Half of the {len(train):,} users have {np.median(lengths):,.0f} or more; the longest has {lengths.max():,}."
    )
    if len(some) < len(lengths):
        said += f" {len(lengths) - len(some):,} have none here: all of theirs is to be found."
    drawn = plot(
        [trace],
        f"Users by the length of their history in training. {said}",
        height=260,
        xaxis={"type": "category", "title": {"text": "events of a user", "standoff": 4}},
        yaxis={"title": {"text": "users"}},
        bargap=0.08,
    )
    return f'<figure class="card panel"><h3>Lengths</h3>{drawn}<figcaption>{said}</figcaption></figure>'


def _curve(train: Histories) -> str:
    """The share of all events that the most popular items have."""
    counts = np.sort(train.counts())[::-1]
    share = np.cumsum(counts) / max(1, counts.sum())
    at = np.unique(np.linspace(1, len(counts), min(POINTS, len(counts))).astype(np.int64))
    tenth = share[max(1, round(len(counts) / 10)) - 1]
    said = f"The most popular tenth of {len(counts):,} items has {tenth:.0%} of the events."
    x, y = np.concatenate([[0], at / len(counts)]), np.concatenate([[0], share[at - 1]])
    drawn = plot(
        [line(x, y, "share of events", OURS)],
        f"Share of all events over the share of the catalogue, the most popular items first. {said}",
        height=260,
        xaxis={"tickformat": ".0%", "title": {"text": "share of the catalogue", "standoff": 4}},
        yaxis={"tickformat": ".0%", "hoverformat": ".1%", "range": [0, 1.02], "title": {"text": "of all events"}},
    )
    return f'<figure class="card panel"><h3>Popularity</h3>{drawn}<figcaption>{said}</figcaption></figure>'
