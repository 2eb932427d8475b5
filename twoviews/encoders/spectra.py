"""Spectra of sound: log-mel energies and MFCC, frame by frame, in torch operations.

Frame n stands for the n-th 10 ms of a clip and looks at 25 ms around its middle; before and behind the clip there are
zeros. So what is padded with zeros at the right gives the same frames as the clip alone, and more behind them.

Davis and Mermelstein 1980 (MFCC); conventions of HTK and of python_speech_features 0.6, in whose terms `mfcc` is 13 of
26 filters, preemphasis .97, no window, lifter 22, and the log energy in place of c_0.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from ..errors import UserError

FLOOR = 1e-6  # of the energy of white noise of deviation 1: 60 dB below the level that clips are brought to


def log_mel(x: Tensor, rate: int, bins: int = 80) -> Tensor:
    """(B, T) -> (B, frames, bins): log(1 + energy / FLOOR) in triangles on the HTK mel scale; silence is exactly 0.

    Energies are those of a Hann window of 25 ms, scaled so that white noise of deviation 1 has 1 at each frequency.
    """
    check(rate, bins=bins)
    return valid_log_mel(centred(x, *span(rate)), rate, bins)


def valid_log_mel(x: Tensor, rate: int, bins: int) -> Tensor:
    """The same of frames that lie in x altogether: (B, T) -> (B, (T - window) // hop + 1, bins)."""
    window, hop = span(rate)
    size = max(512, 1 << (window - 1).bit_length())  # finer than the narrowest triangle
    shape = torch.hann_window(window, device=x.device)
    with torch.autocast(x.device.type, enabled=False):
        energy = spectrum(x.float().unfold(1, window, hop) * (shape / shape.square().sum().sqrt()), size)
        mel = energy @ torch.from_numpy(triangles(rate, size, bins)).to(x.device).mT  # (B, frames, bins)
        return torch.log1p(mel / FLOOR)


def mfcc(x: Tensor, rate: int, count: int = 13) -> Tensor:
    """(B, T) -> (B, frames, count), at most 26: the log energy of each frame and its mel-frequency cepstrum."""
    check(rate, count=count)
    if count > 26:
        raise UserError(f"count must be at most 26, the number of filters, got {count}")
    window, hop = span(rate)
    size = 1 << (window - 1).bit_length()
    with torch.autocast(x.device.type, enabled=False):
        x = centred(x.float(), window, hop)
        x = x - 0.97 * pad(x, (1, -1))
        energy = spectrum(x.unfold(1, window, hop), size) / size  # (B, frames, size / 2 + 1)
        tiny = torch.finfo(torch.float64).eps
        mel = (energy @ torch.from_numpy(steps(rate, size, 26)).to(x.device).mT).clamp(min=tiny).log()
        cepstrum = mel @ torch.from_numpy(cosines(26, count)).to(x.device).mT
        loudness = energy.sum(-1, keepdim=True).clamp(min=tiny).log()
        return torch.cat([loudness, cepstrum[..., 1:]], -1)


def spectrum(x: Tensor, size: int) -> Tensor:
    """(..., n) -> (..., size / 2 + 1): |DFT|^2 of frames padded with zeros to `size`."""
    parts = torch.view_as_real(torch.fft.rfft(x, size))
    return parts.square().sum(-1)


def frames(samples: Any, hop: int) -> Any:
    """How many frames a clip of so many samples has, at least 1. samples: an int or a tensor of them.

    Frame n is seen when the sample in the middle of its stretch, n * hop + hop // 2, lies in the clip.
    """
    count = (samples + (hop - 1) // 2) // hop
    return count.clamp(min=1) if isinstance(samples, Tensor) else max(count, 1)


def before(field: int, hop: int) -> int:
    """Where the field of a frame begins: so many samples before the frame's own stretch."""
    return (field - 1) // 2 - hop // 2


def centred(x: Tensor, field: int, hop: int) -> Tensor:
    """(B, T) with the zeros that all `frames(T, hop)` fields need at both ends."""
    left = before(field, hop)
    return pad(x, (left, (frames(x.shape[1], hop) - 1) * hop + field - left - x.shape[1]))


def span(rate: int) -> tuple[int, int]:
    """Samples of 25 ms and of 10 ms, halves rounded up."""
    return (rate + 20) // 40, (rate + 50) // 100


def check(rate: int, **sizes: int) -> None:
    if rate < 1000:
        raise UserError(f"rate is samples a second, at least 1000 for frames of 10 ms, got {rate}")
    for name, size in sizes.items():
        if size < 1:
            raise UserError(f"{name} must be 1 or more, got {size}")


def edges(rate: int, count: int) -> np.ndarray:
    """(count + 2,) Hz, evenly spaced in mel = 2595 log10(1 + Hz / 700) from 0 to rate / 2."""
    top = 2595 * math.log10(1 + rate / 1400)
    return 700 * (10 ** (np.linspace(0, top, count + 2) / 2595) - 1)


@lru_cache
def triangles(rate: int, size: int, count: int) -> np.ndarray:
    """(count, size / 2 + 1) float32: triangles between `edges`, of height 1."""
    hertz = edges(rate, count)[:, None]
    bins = np.arange(size // 2 + 1) * (rate / size)
    rise = (bins - hertz[:-2]) / (hertz[1:-1] - hertz[:-2])
    fall = (hertz[2:] - bins) / (hertz[2:] - hertz[1:-1])
    return np.maximum(np.minimum(rise, fall), 0).astype(np.float32)


@lru_cache
def steps(rate: int, size: int, count: int) -> np.ndarray:
    """The same with the edges moved down to whole bins, as python_speech_features has them."""
    at = np.floor((size + 1) * edges(rate, count) / rate)[:, None]
    bins = np.arange(size // 2 + 1)
    low, mid, high = at[:-2], at[1:-1], at[2:]
    rise = (bins >= low) & (bins < mid)
    fall = (bins >= mid) & (bins < high)
    up, down = np.maximum(mid - low, 1), np.maximum(high - mid, 1)
    return (rise * (bins - low) / up + fall * (high - bins) / down).astype(np.float32)


@lru_cache
def cosines(filters: int, count: int) -> np.ndarray:
    """(count, filters) float32: the orthonormal DCT-II with a lifter of 22."""
    k, n = np.arange(count)[:, None], np.arange(filters)
    basis = np.sqrt(2 / filters) * np.cos(np.pi * k * (2 * n + 1) / (2 * filters))
    basis[0] /= np.sqrt(2)
    return (basis * (1 + 11 * np.sin(np.pi * k / 22))).astype(np.float32)
