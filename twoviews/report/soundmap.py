"""The map of test pieces by what they sound like to the encoder, each heard by a press, and figures beside it.

t-SNE of 300 pieces as figure 2 of CPC (van den Oord et al. 2018, arXiv:1807.03748); a plot is no evidence, so the vote
of neighbours (Wu et al. 2018) and the silhouette (Rousseeuw 1987) stand below it.
"""

from __future__ import annotations

import numpy as np
import torch
from torch.nn.functional import normalize, one_hot

from ..evaluate.score import Score, score
from ..types import Features
from .atlas import layout
from .groups import groups
from .measures import cell, grid
from .players import Players
from .soundclips import Clips
from .tablemap import Colouring, coloured

K, SHARP = 5, 0.07  # neighbours that vote, and the temperature of their votes
LEAD = (
    "Each point is {n}, by its mean embedding h, laid out flat by {how}. Click one, or tap it, to hear it; drag to "
    "zoom in, double-click to zoom out. What lies together is alike to the encoder; how far apart the islands are says "
    "nothing. A picture is no evidence, so the figures below are of the embeddings themselves."
)
BESIDE = (
    "kNN: how many of these pieces have the label that the five nearest of other recordings vote for, beside the share "
    "of the most frequent one. Silhouette: how much nearer a piece lies to its own kind than to the next, from -1 to 1."
)


def sound_map(clips: Clips, players: Players) -> tuple[str, str]:
    """The map with its figures as HTML, and what is to be said before it. The sound of point i has the number i."""
    assert not players.sounds, "the map is played by the numbers of its points"
    for i in range(len(clips)):
        clips.sound(players, i)
    flat, how = layout(clips.features.h)
    ways = colourings(clips)
    told = {"keys": clips.features.keys, "names": clips.captions()}
    drawn = coloured(flat, ways, told, f"Map of {len(clips):,} pieces of recordings in two dimensions by {how}")
    some = (
        f"one of {len(clips):,} pieces"
        if len(clips) == clips.total
        else f"one of {len(clips):,} of {clips.total:,} pieces"
    )
    return drawn + figures(clips), LEAD.format(n=f"{some} of the test recordings", how=how)


def colourings(clips: Clips) -> list[Colouring]:
    """By label and by speaker where these are known, else by cluster."""
    ways = []
    for by, each in (clips.known() or {"cluster": Features(clips.features.h, clips.features.keys)}).items():
        found = groups(each)
        ways.append(Colouring(by, found.of.numpy(), found.names, rest=found.rest))
    return ways


def figures(clips: Clips) -> str:
    """kNN and silhouette for what is known of the pieces."""
    rows = {}
    for by, each in clips.known().items():
        near, apart, often = evidence(each, clips.source.file)
        if near is not None:
            rows[by] = {"kNN": cell(near), "most frequent": cell(often)}
            rows[by] |= {} if apart is None else {"silhouette": cell(apart, written=(f"{apart.value:.2f}", ""))}
    if not rows:
        return "<p>No labels are known of two or more kinds, so there is nothing to vote for.</p>"
    columns = [name for name in ("kNN", "most frequent", "silhouette") if any(name in cells for cells in rows.values())]
    return f'{grid(columns, rows, "")}<p class="dim">{BESIDE}</p>'


def evidence(features: Features, recording: np.ndarray) -> tuple[Score | None, Score | None, Score]:
    """The vote of the 5 nearest pieces of other recordings, the silhouette, and the share of the most frequent label.

    recording: (N,), of which each piece is. None where there is nothing to compare with.
    """
    assert features.labels is not None
    known = features.labels >= 0
    x, y = normalize(features.h[known].double(), dim=1), features.labels[known]
    places = torch.from_numpy(recording)[known]
    often = score(int(y.bincount().max()), len(y))
    alike = (x @ x.T).masked_fill(places[:, None] == places, -torch.inf)
    near, at = alike.topk(min(K, len(x)), dim=1)
    votes = (((near - near[:, :1]) / SHARP).exp().nan_to_num()[..., None] * one_hot(y)[at]).sum(1)  # (N, classes)
    asked = near[:, 0].isfinite()
    vote = score(int((votes.argmax(1) == y)[asked].sum()), int(asked.sum())) if asked.any() else None
    return vote, _silhouette(x.numpy(), y.numpy()), often


def _silhouette(x: np.ndarray, y: np.ndarray) -> Score | None:
    from sklearn.metrics import silhouette_score

    if not 2 <= len(np.unique(y)) < len(y):
        return None
    value = float(silhouette_score(x, y, metric="cosine"))
    return Score(value, value, value, len(y))
