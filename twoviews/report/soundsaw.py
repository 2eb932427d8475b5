"""What the method saw of sounds: some windows as training draws them, as a wave and as a spectrogram, to listen to."""

from __future__ import annotations

from contextlib import suppress
from html import escape

import numpy as np
import torch
from torch import Tensor

from ..data.dice import Dice
from ..data.loader import collate
from ..data.sounds import Sounds
from ..errors import BrokenItem
from ..run import Run
from .parts import picture
from .players import SECONDS, Players, play
from .soundclips import painted

ITEMS = 6
PIECE = 20.0  # seconds of a long recording that a window is drawn from here
COLUMNS = 160  # of a wave
STYLE = """
.window { margin: 0; min-width: 0; break-inside: avoid; }
.window svg { display: block; width: 100%; height: 3.4rem; background: var(--soft); border-radius: 6px 6px 0 0; }
.window path { fill: var(--ours); } .window figcaption { display: flex; gap: .8rem; align-items: center; }
.window img { display: block; width: 100%; height: 5rem; border-radius: 0 0 6px 6px; }
.window figcaption { justify-content: space-between; margin-top: .35rem; }
"""
LEAD = (
    "Windows as training draws them, of {n} recordings drawn by the run's seed: the wave, and below it the spectrogram "
    "with low notes at the bottom.{pairs}"
)
PAIRS = " Two windows of one recording stand side by side: what differs between them is what is learned to overlook."


def windows(run: Run, source: Sounds, players: Players) -> tuple[str, str]:
    """The windows as HTML, and what is to be said before them."""
    pieces = source.cut(PIECE)
    items, ids = [], []
    for i in np.random.default_rng(run.seed).permutation(len(pieces)).tolist():
        with suppress(BrokenItem):
            items.append(pieces.read(i))
            ids.append(i)
        if len(items) == ITEMS:
            break
    if not items:
        return "<p>No recording could be read.</p>", ""
    views, dice = run.views(), Dice(run.seed, 0, torch.tensor(ids))
    canvas, sizes = collate(items)
    seen, painted_views = views(canvas, sizes, dice), views.pictures(canvas, sizes, dice)
    figures = []
    for b, i in enumerate(ids):
        for v, (x, look) in enumerate(zip(seen, painted_views, strict=True)):
            name = pieces.key(i) + (f", view {v + 1}" if len(seen) > 1 else "")
            number = players.add(f"window {i} {v}", x[b], source.rate)
            figures.append(_figure(x[b], painted(look[b]), name, number, source.rate))
    return f'<div class="grid">{"".join(figures)}</div>', LEAD.format(n=len(ids), pairs=PAIRS if len(seen) > 1 else "")


def _figure(x: Tensor, look: Tensor, name: str, number: int, rate: int) -> str:
    alt = escape(f"wave and spectrogram of {name}", quote=True)
    heard = int(x.nonzero().max()) + 1 if x.any() else 0
    lasts = f"{len(x) / rate:.2f} s" + ("" if heard == len(x) else f", {heard / rate:.2f} s of it sound")
    more = "" if len(x) <= SECONDS * rate else f", the first {SECONDS:g} s to hear"
    return (
        f'<figure class="window"><svg viewBox="0 -1 {COLUMNS} 2" preserveAspectRatio="none" aria-hidden="true">'
        f'<path d="{wave(x)}"/></svg><img src="{picture(look)}" alt="{alt}">'
        f"<figcaption><span>{escape(name)}<br>{lasts}{more}</span>{play(number, name)}</figcaption></figure>"
    )


def wave(x: Tensor) -> str:
    """The outline of a sound (T,) as an SVG path from -1 to 1: its least and largest sample in each of 160 columns."""
    parts = x.float().tensor_split(min(COLUMNS, len(x)))
    peak = float(x.abs().max()) or 1.0
    high = [-float(part.max()) / peak for part in parts]  # y grows downwards
    low = [-float(part.min()) / peak for part in parts]
    step = COLUMNS / len(parts)
    there = [f"{step * i:.0f} {y - 0.01:.2f}" for i, y in enumerate(high)]
    back = [f"{step * i:.0f} {y + 0.01:.2f}" for i, y in enumerate(low)][::-1]
    return f"M{'L'.join(there + back)}Z"
