"""Sounds inside a page: each is kept once, short and small, and played by whatever bears its number.

MP3 by libsndfile, for every browser plays it: about 3 kB for a second of speech.
"""

from __future__ import annotations

import base64
import io
import json
from html import escape

import numpy as np
from torch import Tensor

SECONDS = 2.0  # of a sound that is played, at most
RATES = (8000, 16000)  # that sounds are kept at: the larger where they have it
LOUD = 0.7  # of full scale, the highest peak
STYLE = """
.play { display: inline-flex; align-items: center; gap: .45rem; }
.play::before { content: '▶'; font-size: .7em; } .play.on::before { content: '■'; }
.play.on, .frame.on { color: var(--ours); border-color: var(--ours); }
button.frame { position: relative; width: 100%; padding: 0; cursor: pointer; }
button.frame::after { content: '▶'; position: absolute; right: .35rem; bottom: .3rem; width: 1.5rem; height: 1.5rem;
  border-radius: 50%; display: grid; place-items: center; font-size: .65rem; color: #fff; background: #000a; }
button.frame.on::after { content: '■'; background: var(--ours); }
@media print { button.frame::after, .play { display: none; } }
"""
SCRIPT = """
(() => {
  const held = document.getElementById('sounds');
  if (!held) return;
  const sounds = JSON.parse(held.textContent), player = new Audio();
  let button = null;
  const rest = () => { button?.classList.remove('on'); button = null; };
  const play = (number, from) => {
    const again = from && from == button;
    player.pause();
    rest();
    if (again) return;
    button = from;
    button?.classList.add('on');
    player.src = 'data:audio/mpeg;base64,' + sounds[number];
    player.play().catch(rest);
  };
  player.onended = rest;
  addEventListener('click', event => {
    const pressed = event.target.closest('[data-sound]');
    if (pressed) play(pressed.dataset.sound, pressed);
  });
  const map = document.getElementById('atlas');
  if (map) map.on('plotly_click', ({points}) => play(points[0].customdata, null));
})();
"""


class Players:
    """The sounds of one page. `add` gives the number by which one is played."""

    def __init__(self) -> None:
        self.sounds: list[str] = []
        self.numbers: dict[str, int] = {}

    def add(self, key: str, x: Tensor, rate: int) -> int:
        """A sound float32 (T,), of which the first seconds are kept; one number for one key."""
        if key not in self.numbers:
            self.numbers[key] = len(self.sounds)
            self.sounds.append(base64.b64encode(small(x, rate)).decode())
        return self.numbers[key]

    def html(self) -> str:
        """The sounds and what plays them, to stand once behind all else on a page."""
        return (
            f'<script type="application/json" id="sounds">{json.dumps(self.sounds)}</script><script>{SCRIPT}</script>'
        )


def play(number: int, name: str, said: str = "play") -> str:
    """A button that plays a sound of the page. name: of the sound, plain text."""
    label = escape(f"play {name}", quote=True)
    return f'<button type="button" class="play" data-sound="{number}" aria-label="{label}">{escape(said)}</button>'


def small(x: Tensor, rate: int) -> bytes:
    """A sound float32 (T,) as MP3: its first seconds, without offset and as loud as any other."""
    import soundfile
    import soxr

    kept = RATES[rate >= 12_000]
    wave = x[: int(SECONDS * rate)].numpy()
    wave = wave if rate == kept else soxr.resample(wave, rate, kept)
    wave = wave - wave.mean() if len(wave) else np.zeros(1, np.float32)
    peak = float(np.abs(wave).max())
    wave = wave * (LOUD / peak) if peak > 0 else wave
    file = io.BytesIO()
    soundfile.write(file, wave, kept, format="MP3", compression_level=0.99)
    return file.getvalue()
