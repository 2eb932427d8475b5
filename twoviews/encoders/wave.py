"""Sound to frames of 10 ms and what has been heard so far: the encoder of Contrastive Predictive Coding.

    samples --g_enc--> z_1 ... z_R --g_ar--> c_1 ... c_R

van den Oord et al. 2018, arXiv:1807.03748, section 3.1: five strided convolutions of 512 channels and a GRU of 256.
Norms are of one frame over its channels, as in Riviere et al. 2020, arXiv:2002.02848: BatchNorm would let frames see
each other.

A clip ends at its last sample that is not 0. All zeros that convolutions need are put around the samples, none between
layers, so a frame is a function of the `field` samples around its middle whatever is padded behind the clip.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, pad

from ..errors import UserError, unknown
from ..types import Places
from .contexts import context as make_context
from .spectra import FLOOR, before, frames, span, valid_log_mel

STRIDES = {
    8000: (5, 4, 2, 2),
    16000: (5, 4, 2, 2, 2),
    24000: (5, 4, 3, 2, 2),
    32000: (5, 4, 4, 2, 2),
    44100: (7, 7, 3, 3),
    48000: (6, 5, 4, 2, 2),
}


class Wave(nn.Module):
    """(B, T) float32 samples, padded with zeros at the right, to frames. The encoder of `wave`.

    dim, context: C, the width of c.  width: D, the width of z.
    stride, field: samples from frame to frame, and samples that z of a frame is a function of.
    """

    def __init__(self, rate: int, dim: int, width: int, context: str, layers: int, front: str):
        super().__init__()
        if rate not in STRIDES:
            allowed = ", ".join(map(str, STRIDES))
            raise UserError(f"rate must be one of {allowed}, got {rate}: resample the sounds to one of them")
        if front not in FRONTS:
            raise unknown("front", front, FRONTS)
        self.past = make_context(context, width, dim, layers)
        self.front = FRONTS[front](rate, width)
        self.rate, self.dim, self.context, self.width = rate, dim, dim, width
        self.stride: int = self.front.stride
        self.field: int = self.front.field

    def frames(self, samples: Any) -> Any:
        """How many frames a clip of so many samples has: those whose middle lies in it, at least one."""
        return frames(samples, self.stride)

    def places(self, x: Tensor) -> Places:
        """(B, T) -> Places with one frame a row. A clip of zeros alone has one frame."""
        z, c, _ = self.stream(None, x, last=True)
        seen = first(self.frames(lengths(x)), z.shape[1])
        return Places(z[:, :, None], c[:, :, None], seen[:, :, None])

    def tokens(self, x: Tensor) -> Tensor:
        """(B, T) -> (B, R, C): c of each frame, also of those behind the end of a clip."""
        return self.stream(None, x, last=True)[1]

    def forward(self, x: Tensor) -> Tensor:
        """(B, T) -> (B, C): the mean of c over the frames of each clip."""
        return seen_mean(self.tokens(x), self.frames(lengths(x)))

    def stream(self, state: Any, x: Tensor, last: bool = False) -> tuple[Tensor, Tensor, Any]:
        """Frames of a recording that comes in pieces: (B, t) -> z (B, r, D), c (B, r, C) and the state for the next.

        state: None at the beginning.  last: no more will come, so the frames that reach beyond the end are due too.
        All pieces together give what the whole gives; a piece gives the frames whose field has come, perhaps none.
        """
        stride, field, left = self.stride, self.field, before(self.field, self.stride)
        rest, past = (x.new_zeros(x.shape[0], left), None) if state is None else state
        x = torch.cat([rest, x], 1)
        count = max((x.shape[1] - field) // stride + 1, 0)
        if last:
            new = x.shape[1] - left
            count = self.frames(new) if past is None else (new + (stride - 1) // 2) // stride
            x = pad(x, (0, (count - 1) * stride + field - x.shape[1]))
        if count == 0:
            return x.new_zeros(x.shape[0], 0, self.width), x.new_zeros(x.shape[0], 0, self.dim), (x, past)
        z = self.front(x[:, : (count - 1) * stride + field])
        c, past = self.past(z, past)
        return z, c, (x[:, count * stride :], past)


class Samples(nn.Module):
    """g_enc on samples: (B, T) -> (B, (T - field) // stride + 1, D)."""

    def __init__(self, rate: int, width: int):
        super().__init__()
        self.layers = nn.Sequential(*(Strided(width if i else 1, width, s) for i, s in enumerate(STRIDES[rate])))
        self.stride, self.field = 1, 1
        for s in STRIDES[rate]:
            self.field += (2 * s - 1) * self.stride
            self.stride *= s

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x[..., None])


class Strided(nn.Module):
    """A convolution with a kernel of twice its stride, a norm over the channels of each place, and ReLU.

    Such a kernel reads each block of `stride` places twice, as its first half and as its second. So it is one matrix
    product of blocks and halves, and sums of neighbours: less CPU time than conv1d, and no transposes for the norm.
    """

    def __init__(self, channels: int, out: int, stride: int):
        super().__init__()
        self.conv, self.norm = nn.Conv1d(channels, out, 2 * stride, stride), nn.LayerNorm(out)

    def forward(self, x: Tensor) -> Tensor:
        """(B, stride * (n + 1), C) -> (B, n, D)"""
        stride, (weight, bias) = self.conv.stride[0], self.conv.parameters()
        if x.shape[2] == 1:  # of few numbers, which may as well be copied
            y = linear(x[..., 0].unfold(1, 2 * stride, stride), weight[:, 0], bias)
        else:
            blocks = x.unflatten(1, (-1, stride)).flatten(2)  # (B, n + 1, stride * C)
            halves = weight.unflatten(2, (2, stride)).permute(2, 0, 3, 1).flip(0).flatten(2).flatten(0, 1)
            y = linear(blocks, halves, pad(bias, (len(bias), 0)))  # of each block: the second half, then the first
            y = y.unflatten(2, (2, -1)).flatten(1, 2)[:, 1:-1].unflatten(1, (-1, 2)).sum(2)
        return self.norm(y).relu_()


class Mel(nn.Module):
    """g_enc on log-mel energies of each frame alone: two layers, each with a norm over its channels and ReLU."""

    def __init__(self, rate: int, width: int, bins: int = 80):
        super().__init__()
        self.rate, self.bins = rate, bins
        self.field, self.stride = span(rate)
        self.layers = nn.Sequential(
            *(nn.Sequential(nn.Linear(size, width), nn.LayerNorm(width), nn.ReLU()) for size in (bins, width))
        )

    def forward(self, x: Tensor) -> Tensor:
        x = valid_log_mel(x, self.rate, self.bins) / -math.log(FLOOR)
        return self.layers(2 * x - 1)  # -1 is silence, 1 the level of white noise


FRONTS: dict[str, Any] = {"samples": Samples, "mel": Mel}


def wave(
    rate: int = 16000,
    dim: int = 256,
    width: int = 512,
    context: str = "gru",
    layers: int = 1,
    front: str = "samples",
) -> Wave:
    """Frames of 10 ms of sound at `rate` (8, 16, 24, 32, 44.1 or 48 kHz), each with what was heard until then.

    dim: width of the context.  width: channels of the convolutions.  layers: of the context.
    context: "gru", "conv" (sees 63 frames a layer) or "attention" (256 frames a layer).
    front: strided convolutions of the "samples", or two layers on 80 log "mel" energies.
    """
    return Wave(rate, dim, width, context, layers, front)


def lengths(x: Tensor) -> Tensor:
    """(B, T) -> (B,) int64: how many samples each clip has, that is until its last that is not 0."""
    places = torch.arange(1, x.shape[1] + 1, device=x.device)
    return torch.where(x != 0, places, 0).amax(1)


def first(counts: Tensor, n: int) -> Tensor:
    """(B,) -> (B, n) bool: the first counts[b] places of each row."""
    return torch.arange(n, device=counts.device) < counts[:, None]


def seen_mean(x: Tensor, counts: Tensor) -> Tensor:
    """(B, N, D), (B,) -> (B, D): the mean of the first counts[b] of each row."""
    return (x * first(counts, x.shape[1])[..., None]).sum(1) / counts[:, None]
