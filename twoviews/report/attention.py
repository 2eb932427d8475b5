"""Where the heads of a transformer look, on average: the paper's figure 2 as a page.

Sun et al. 2019, arXiv:1904.06690, section 4.7.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from . import figures
from .parts import document, save, section

ROWS = 128  # histories at a time
LEAD = (
    "Each square is a head: from the state in the row, how much it looks at the place in the column. Places count from "
    "the end; a row sums to 1."
)


@torch.inference_mode()
def attention(method: torch.nn.Module, tokens: Tensor) -> Tensor:
    """(B, T) tokens of histories of one length -> (L, heads, T, T): the mean attention of each head."""
    encoder = method.encoder
    parts = [encoder.attention(some).sum(1) for some in tokens.split(ROWS)]  # type: ignore[operator,union-attr]
    return torch.stack(parts).sum(0) / len(tokens)


def write_attention(path: Path, title: str, note: str, maps: Tensor, last: str) -> Path:
    """Write a page of maps (L, heads, T, T). last: what the last place is called. Raises UserError when it cannot."""
    steps = maps.shape[-1]
    places = [*(str(place - steps + 1) for place in range(steps - 1)), last]
    layers = []
    for layer, heads in enumerate(maps.cpu().numpy(), 1):
        drawn = "".join(
            f'<figure class="card panel"><h3>head {head}</h3>{square(weights, places, f"layer {layer}, head {head}")}'
            "</figure>"
            for head, weights in enumerate(heads, 1)
        )
        layers.append(section(f"layer{layer}", f"Layer {layer}", f'<div class="grid">{drawn}</div>'))
    body = f"<style>{figures.STYLE}</style><h1>{title}</h1><p>{note}</p><p>{LEAD}</p>{''.join(layers)}"
    return save(path, document(title, body, figures.scripts()))


def square(weights: np.ndarray, places: list[str], said: str) -> str:
    """One head as a heat map."""
    peak = np.unravel_index(weights.argmax(), weights.shape)
    steps = list(range(len(places)))
    shown = steps[:: -max(1, len(steps) // 5)]
    axis = {"tickmode": "array", "tickvals": shown, "ticktext": [places[i] for i in shown], "constrain": "domain"}
    trace = {
        "type": "heatmap",
        "z": np.round(weights, 4),
        "customdata": [[f"{row} looks at {column}" for column in places] for row in places],
        "hovertemplate": "%{customdata}: %{z:.3f}<extra></extra>",
        "colorscale": [[0, "var(--soft)"], [1, "var(--ours)"]],
        "zmin": 0,
        "showscale": False,
    }
    return figures.plot(
        [trace],
        f"Mean attention of {said}; the most is {weights.max():.2f}, from {places[peak[0]]} to {places[peak[1]]}.",
        height=300,
        xaxis=axis,
        yaxis={**axis, "autorange": "reversed", "scaleanchor": "x", "showgrid": False},
        hovermode="closest",
    )
