"""How often a row is met and how long its vector is; and the directions that the vectors use."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ..data.graph import Graph
from .curves import BESIDE, OURS
from .figures import COLOURS, key, plot
from .naming import kinds_of, name_of, types_of
from .spectra import chart, usable

if TYPE_CHECKING:
    from ..data.entries import Entries

POINTS = 2000
SPECTRA = (
    "The singular values of the vectors, the largest first, over the rows that were met: each once, and each as often "
    "as it is met. A line that stays up uses its dimensions; one that falls off a cliff has collapsed into a few. The "
    "effective rank says how many directions are in use, as one number."
)
FACTS = {
    "cosine": "Two vectors have a cosine of {:.2f} on average; near 1 all are alike.",
    "first_share": "The first direction has {:.0%} of the variance; its correlation with how often a row is met is "
    "{first_count:.2f}.",
    "norm_count": "The length of a vector and how often it is met, as a logarithm, have a correlation of {:.2f}.",
    "hottest": "The most frequent 1 % of the rows are {:.0%} of all tokens.",
    "cut": "{:.0%} of {walks:,} walks ended before their {asked:,} nodes.",
}


def spectra(checkup: Mapping[str, Any] | None) -> str:
    """The spectra of a checkup, and its other numbers in words."""
    lines = {"vectors": ("each once", OURS), "vectors_met": ("as often as it is met", BESIDE)}
    parts = {name: (checkup or {}).get(name) for name in lines}
    found = {name: part for name, part in parts.items() if usable(part)}
    if not checkup or not found:
        return "<p>Not measured.</p>"
    words = {
        f"{lines[name][0]}: effective rank {part['rank']:,.1f} of {part['dim']:,}": lines[name][1]
        for name, part in found.items()
    }
    drawn = chart({lines[name][0]: (part, lines[name][1]) for name, part in found.items()}, "; ".join(words))
    told = [said for name, text in FACTS.items() if (said := _told(checkup, name, text))]
    facts = "".join(f"<li>{escape(each)}</li>" for each in told)
    return f'<figure class="card">{key(words)}{drawn}</figure><ul class="dim">{facts}</ul>'


def lengths(weight: Tensor, entries: Entries, source: Any, seed: int) -> str:
    """Each row by its degree in the graph, or by how often a word occurs, and the length of its vector."""
    graph = isinstance(source, Graph)
    amount = degrees(source) if graph else entries.counts
    known = np.flatnonzero((amount > 0) & (entries.counts > 0))
    often = known[np.argsort(-amount[known], kind="stable")]
    some = np.concatenate(
        [often[: POINTS // 4], np.random.default_rng(seed).permutation(often[POINTS // 4 :])[: POINTS - POINTS // 4]]
    )
    size = weight[torch.from_numpy(some).to(weight.device)].float().norm(dim=1).cpu().numpy()
    kinds, names = kinds_of(entries)[some], types_of(entries)
    of = "edges of a node" if graph else "times a word occurs"
    traces = []
    for k in np.unique(kinds):
        here = kinds == k
        traces.append(
            {
                "type": "scatter",
                "mode": "markers",
                "x": amount[some][here],
                "y": size[here],
                "text": [escape(name_of(entries, row)) for row in some[here].tolist()],
                "hovertemplate": f"%{{text}}<br>%{{x:,.0f}} {'edges' if graph else 'times'}"
                "<br>length %{y:.2f}<extra></extra>",
                "marker": {"color": COLOURS[k % len(COLOURS)], "size": 6, "opacity": 0.55},
                "name": escape(names[k]),
            }
        )
    drawn = plot(
        traces,
        f"Vectors of {len(some):,} rows by {of} and their length",
        height=320,
        hovermode="closest",
        xaxis={"type": "log", "dtick": "D2", "title": {"text": of, "standoff": 4}},
        yaxis={"rangemode": "tozero", "title": {"text": "length of its vector"}},
    )
    colours = {names[k]: COLOURS[k % len(COLOURS)] for k in np.unique(kinds)} if len(names) > 1 else {}
    note = f"{len(some):,} of {len(known):,} rows that were met, the most frequent quarter of these included."
    return f'<figure class="card">{key(colours) if colours else ""}{drawn}<figcaption>{note}</figcaption></figure>'


def degrees(graph: Graph) -> np.ndarray:
    """(V,) int64: edges at each node, those given and those they were reversed to; of a loop both ends."""
    out = np.zeros(len(graph), np.int64)
    for relation in graph.relations:
        out[graph.between(relation.source)] += np.diff(relation.starts)
    return out


def _told(checkup: Mapping[str, Any], name: str, words: str) -> str:
    """The sentence; "" where a number that it needs is not there."""
    try:
        return words.format(checkup[name], **checkup)
    except (KeyError, TypeError, ValueError):
        return ""
