"""Who is shown: how often items are recommended, beside how often they occur and how often they are taken."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

import numpy as np

from .asked import Asked, named
from .curves import BESIDE, OURS
from .figures import key, line, plot

BINS, POINTS = 16, 1500
LEAD = (
    "A recommender that has learned little recommends to all what all have met. Where the two lines run together, "
    "items are recommended as often as they are wanted."
)
FACTS = {
    "coverage": "{:.1%} of the catalogue is recommended to anyone; {never:.0%} of the items met in training never "
    "come up.",
    "recommended_percentile": "What is recommended is more popular than {:.0%} of the catalogue on average; what users "
    "took next, than {taken_percentile:.0%}.",
    "recommended_most": "{:.1%} of all recommendations are of the most popular 1 % of items, as are {taken_most:.1%} "
    "of what was taken.",
    "alike": "Two users have {:.0%} of their ten best in common, what they have met included; {alike_popular:.0%} of "
    "these are the ten items that occur most.",
}


def popularity(asked: Asked, checkup: Mapping[str, Any] | None) -> str:
    """Two plots, and the numbers of the checkup in words."""
    counts, given = asked.items.counts, asked.lists[asked.lists >= 0]
    taken = asked.truth.flat(asked.truth.items)
    told = list(filter(None, (_told(checkup or {}, name, words) for name, words in FACTS.items())))
    said = f'<ul class="dim">{"".join(f"<li>{escape(each)}</li>" for each in told)}</ul>' if told else ""
    return f'<div class="grid two">{_shares(counts, given, taken)}{_items(asked, counts, given)}</div>{said}'


def _shares(counts: np.ndarray, given: np.ndarray, taken: np.ndarray) -> str:
    """The share of what is recommended, and of what is taken, that goes to items of each popularity."""
    edges = np.unique(np.round(np.geomspace(1, max(2, counts.max()) + 1, BINS + 1)).astype(np.int64))
    place = np.digitize(counts, edges)  # 0: those that never occur
    centre = np.concatenate([[0.5], np.sqrt(edges[:-1] * (edges[1:] - 1.0))])
    lines = {"recommended": (given, OURS), "taken next": (taken, BESIDE)}
    traces, colours = [], {}
    for name, (items, colour) in lines.items():
        if len(items):
            share = np.bincount(place[items], minlength=len(centre))[: len(centre)] / len(items)
            traces.append(line(centre, share, name, colour, mode="lines+markers"))
            colours[name] = colour
    drawn = plot(
        traces,
        f"Share of all that is {' and of all that is '.join(colours)}, by how often an item occurs in training",
        height=300,
        xaxis={"type": "log", "title": {"text": "times an item occurs in training", "standoff": 4}},
        yaxis={"tickformat": ".0%", "hoverformat": ".1%", "rangemode": "tozero"},
    )
    cold = "The leftmost point is of items that never occur." if (counts == 0).any() else ""
    head = f"<h3>Popular and rare items</h3>{key(colours)}"
    return f'<figure class="card panel">{head}{drawn}<figcaption>{cold}</figcaption></figure>'


def _items(asked: Asked, counts: np.ndarray, given: np.ndarray) -> str:
    times = np.bincount(given, minlength=len(counts))
    shown = np.argsort(-times, kind="stable")
    shown = shown[times[shown] > 0]
    rest = np.random.default_rng(0).permutation(shown[POINTS // 2 :])[: POINTS // 2]
    some = np.concatenate([shown[: POINTS // 2], rest])
    trace = {
        "type": "scatter",
        "mode": "markers",
        "x": np.maximum(counts[some], 0.5),
        "y": times[some],
        "text": [escape(named(asked.items, int(place))) for place in some],
        "hovertemplate": "%{text}<br>occurs %{x:,.0f} times<br>recommended %{y:,.0f} times<extra></extra>",
        "marker": {"color": OURS, "size": 6, "opacity": 0.55},
        "name": "items",
    }
    drawn = plot(
        [trace],
        f"Items by how often they occur in training and how often they are recommended to {len(asked):,} users",
        height=300,
        hovermode="closest",
        xaxis={"type": "log", "title": {"text": "times an item occurs in training", "standoff": 4}},
        yaxis={"type": "log", "title": {"text": f"times recommended to {len(asked):,} users"}},
    )
    drawn_of = f"{len(some):,} of the " if len(some) < len(shown) else ""
    note = f"{drawn_of}{len(shown):,} items that are recommended at all, of {len(counts):,}."
    return f'<figure class="card panel"><h3>Each item</h3>{drawn}<figcaption>{note}</figcaption></figure>'


def _told(checkup: Mapping[str, Any], name: str, words: str) -> str:
    """The sentence; "" where a number that it needs is not there."""
    try:
        return words.format(checkup[name], **checkup)
    except (KeyError, TypeError, ValueError):
        return ""
