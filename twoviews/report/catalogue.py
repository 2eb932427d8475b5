"""The map of the items: their vectors laid out in two dimensions, coloured by how often they occur."""

from __future__ import annotations

import json

import numpy as np
import torch
from torch import Tensor

from ..data.vocabulary import Items
from .asked import named
from .atlas import FLAT, button, layout, points
from .figures import plot

MOST = 1500  # items on the map
PARTS = {"the most popular 1 %": 0.01, "to 5 %": 0.05, "to 20 %": 0.2, "to half": 0.5, "the rest": 1.0}
COLOURS = ("#e4584f", "#f0a430", "#58a83c", "#5aa9e0", "#9a67e0")
LEAD = (
    "Each point is one of {n}, by the vector it has in the model, laid out flat by {how}. Point at one, or tap it, "
    "to see its name. What lies together is met in like company; how far apart the islands are says nothing. The "
    "most popular items are all there, the others drawn at random."
)


def item_map(vectors: Tensor, items: Items, seed: int) -> tuple[str, str]:
    """The map as HTML, and what is to be said before it. vectors: (V, D), finite."""
    known = np.flatnonzero(items.counts)
    order = known[np.argsort(-items.counts[known], kind="stable")]
    rest = np.random.default_rng(seed).permutation(order[MOST // 3 :])[: MOST - MOST // 3]
    shown = np.concatenate([order[: MOST // 3], rest])
    flat, how = layout(vectors[shown])
    place = np.empty(len(items), np.int64)
    place[order] = np.arange(len(order))
    part = np.searchsorted(list(PARTS.values()), (place[shown] + 0.5) / max(1, len(order)))
    traces, buttons = [], []
    for g, name in enumerate(PARTS):
        rows = np.flatnonzero(part == g)
        if len(rows):
            traces.append(points(flat[rows], torch.from_numpy(rows), name, COLOURS[g], "circle"))
            buttons.append(button(name, COLOURS[g], "circle", len(rows)))
    about = [f"{items.name(i)}, met {items.counts[i]:,} times" for i in shown.tolist()]
    told = {"columns": 1, "rows": 1, "keys": about, "names": [named(items, i) for i in shown.tolist()]}
    drawn = plot(
        traces,
        f"Map of {len(shown):,} items in two dimensions by {how}, coloured by how often they occur",
        **FLAT,
    )
    html = (
        f'<div class="legend" role="group" aria-label="What is shown">{"".join(buttons)}</div>'
        f'<div class="card">{drawn}</div>'
        '<div id="tip" class="card" role="status" hidden><i hidden></i><strong></strong><span></span></div>'
        "<style>#tip { width: 180px; } #tip i { display: none; }</style>"
        f'<script type="application/json" id="items">{json.dumps(told).replace("<", chr(92) + "u003c")}</script>'
    )
    some = f"{len(shown):,} of {len(items):,} items" if len(shown) < len(items) else f"{len(items):,} items"
    return html, LEAD.format(n=some, how=how)
