"""What an encoder says of each frame of a recording, in batches or, of a long one, piece by piece.

    short:  level -> encoder.places                                        B clips of about one length at once
    long:   offset and level of the whole, then encoder.stream             20 s in memory, whatever its length

Both give the same frames, to 1e-4, so an hour is embedded as a word is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..data.sounds import Sounds
from ..types import Encoder

LONG = 20  # seconds: of a longer recording so many are read at a time
TOGETHER = 2**21  # samples of a batch, its padding among them: 131 s at 16 kHz
LEAST = 1e-6  # root mean square, as a share of the offset, below which a recording is constant: as `soundops.level`

Framed = Callable[[Tensor], tuple[Tensor, Tensor]]


def framed(encoder: Any) -> Framed:
    """x (B, T) -> c (B, N, C) float32 and seen (B, N) bool, without gradients, in eval mode.

    By `places`; else by `tokens`, seen where their middle lies in the clip; else `forward` gives one frame.
    """

    def run(x: Tensor) -> tuple[Tensor, Tensor]:
        with judging(encoder):
            if hasattr(encoder, "places"):
                places = encoder.places(x)
                return places.c.float().flatten(1, 2), places.seen.flatten(1, 2)
            if has_frames(encoder):
                c = encoder.tokens(x).float()
                return c, within(x, c.shape[1])
            c = encoder(x).float()[:, None]
            return c, torch.ones(c.shape[:2], dtype=torch.bool, device=x.device)

    return run


def has_frames(encoder: nn.Module) -> bool:
    """Whether it says more of a recording than one vector."""
    tokens = getattr(type(encoder), "tokens", Encoder.tokens)
    return hasattr(encoder, "places") or tokens is not Encoder.tokens


@contextmanager
def judging(module: nn.Module) -> Iterator[None]:
    """No gradients, and its parts in eval mode meanwhile."""
    training = [part for part in module.modules() if part.training]
    for part in training:
        part.training = False
    try:
        with torch.no_grad():
            yield
    finally:
        for part in training:
            part.training = True


def within(x: Tensor, count: int) -> Tensor:
    """(B, T) -> (B, count): which of so many even parts of T have their middle in the clip; the first in any."""
    places = torch.arange(1, x.shape[1] + 1, device=x.device)
    length = torch.where(x != 0, places, 0).amax(1)  # (B,)
    middles = (torch.arange(count, device=x.device) + 0.5) * (x.shape[1] / count)
    seen = middles < length[:, None]
    seen[:, 0] = True
    return seen


def by_length(source: Sounds, size: int, items: Sequence[int] | None = None) -> list[list[int]]:
    """Items in groups of about one length, at most `size` and TOGETHER samples, the longest first."""
    items = range(len(source)) if items is None else items
    ordered = sorted(items, key=lambda i: -int(source.length[i]))
    groups: list[list[int]] = []
    while ordered:
        rows = min(size, max(1, TOGETHER // max(1, int(source.length[ordered[0]]))))
        groups.append(ordered[:rows])
        ordered = ordered[rows:]
    return groups


def frames_of(encoder: Any, source: Sounds, index: int, device: torch.device | str = "cpu") -> Iterator[Tensor]:
    """c of each frame of one recording, in blocks (n, C) on the CPU, of which LONG seconds are in memory at a time.

    The offset and the level of the whole are found in a first reading. An encoder without `stream` sees pieces of LONG
    seconds, each for itself at that level. Raises BrokenItem where a piece cannot be read.
    """
    pieces = source.subset([index]).cut(LONG)
    offset, level = _level(pieces)
    state, stream = None, getattr(encoder, "stream", None)
    run = framed(encoder)
    for number in range(len(pieces)):
        x = ((pieces.read(number)[0].double() - offset) * level).float().to(device)  # (1, t)
        if stream is None:
            c, seen = run(x)
            yield c[seen].cpu()
            continue
        with judging(encoder):
            _, c, state = stream(state, x, last=number == len(pieces) - 1)
        yield c[0].float().cpu()


def _level(pieces: Sounds) -> tuple[float, float]:
    """The mean of all samples, and one over their deviation; 0 for a constant."""
    count, mean, squares = 0, 0.0, 0.0
    for number in range(len(pieces)):
        x = pieces.read(number).double()
        n, m = x.nelement(), float(x.mean())
        gap, count = m - mean, count + n
        squares += float((x - m).square().sum()) + gap * gap * n * (count - n) / count
        mean += gap * n / count
    deviation = (squares / count) ** 0.5
    return mean, 0.0 if deviation <= LEAST * (deviation**2 + mean**2) ** 0.5 else 1 / deviation


def times(encoder: Any, rate: int, start: int, count: int) -> np.ndarray:
    """(count,) float32: seconds of the middle of frames start, start + 1 ..."""
    stride = encoder.stride
    return ((np.arange(start, start + count) * stride + stride // 2) / rate).astype(np.float32)
