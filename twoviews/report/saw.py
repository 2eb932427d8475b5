"""What the method saw: some items, each beside the views that training draws of it."""

from __future__ import annotations

from html import escape

import numpy as np
import torch
from torch import Tensor

from ..data.dice import Dice
from ..data.loader import collate
from ..errors import BrokenItem
from ..run import Run
from ..types import Source
from .parts import SMALL, thumbnail

ITEMS = 12
SIDE = 128  # pixels of a picture, at most
STYLE = """
.saw { display: grid; gap: 1rem;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, clamp(9rem, 23vw, 15rem)), 1fr)); }
.saw figure { display: grid; grid-template-columns: repeat(auto-fit, minmax(3rem, 1fr)); gap: 4px; margin: 0; }
.saw img { display: block; width: 100%; aspect-ratio: 1; object-fit: contain; background: var(--soft); }
.saw img:first-child { outline: 2px solid var(--other); outline-offset: -2px; }
"""


def views(run: Run, source: Source) -> str:
    """The grid: an item, then its views, again and again."""
    images, ids = [], []
    for i in np.random.default_rng(run.seed).permutation(len(source)).tolist():
        try:
            images.append(source.read(i))
            ids.append(i)
        except BrokenItem:
            continue
        if len(images) == ITEMS:
            break
    if not images:
        return "<p>No item could be read.</p>"
    drawn = run.views().pictures(*collate(images), Dice(run.seed, 0, torch.tensor(ids)))
    seen = [(view.clamp(0, 1) * 255).round().byte().cpu() for view in drawn]  # V x (B, C, S, S)
    figures = []
    for b, image in enumerate(images):
        name = source.key(ids[b])
        pictures = [_picture(image, f"{name}, as it is")]
        pictures += [_picture(view[b], f"{name}, view {v}") for v, view in enumerate(seen, 1)]
        figures.append(f"<figure>{''.join(pictures)}</figure>")
    return f'<div class="saw">{"".join(figures)}</div>'


def _picture(image: Tensor, alt: str) -> str:
    pixels = ' class="pixels"' if max(image.shape[1:]) <= SMALL else ""
    return f'<img{pixels} src="{thumbnail(image, SIDE)}" alt="{escape(alt, quote=True)}">'
