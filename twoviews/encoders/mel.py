"""Sound as pictures: log-mel energies read by a two-dimensional network, for methods that compare whole clips.

A clip is read in windows of 96 frames of 64 energies, each a picture of its own, as in VGGish (Hershey et al. 2017,
arXiv:1609.09430): so what a clip gives does not depend on how far its batch is padded, and no length is too long.
"""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor, nn
from torch.nn.functional import pad

from ..errors import UserError, unknown
from .resnet import resnet18
from .small import small
from .spectra import FLOOR, check, frames, log_mel, span
from .wave import first, lengths, seen_mean

NETS = {"small": 8, "resnet18": 32}  # frames that one column of their maps stands for


class MelNet(nn.Module):
    """(B, T) float32 samples, padded with zeros at the right, to h. The encoder of `mel`.

    stride: samples from token to token.
    """

    def __init__(self, rate: int, bins: int, dim: int, net: str, window: int):
        super().__init__()
        check(rate, bins=bins)
        if net not in NETS:
            raise unknown("net", net, NETS)
        if dim < 8 or dim % 8:
            raise UserError(f"dim must be a multiple of 8, got {dim}")
        if window < 1 or window % NETS[net]:
            raise UserError(f"window must be a multiple of {NETS[net]} frames for net={net}, got {window}")
        self.net: Any = small(1, dim // 4) if net == "small" else resnet18(1, dim / 512)
        self.rate, self.bins, self.window, self.hop = rate, bins, window, NETS[net]
        self.dim: int = self.net.dim
        self.stride = self.hop * span(rate)[1]

    def frames(self, samples: Any) -> Any:
        """How many tokens a clip of so many samples has: those whose middle lies in it, at least one."""
        return frames(frames(samples, span(self.rate)[1]), self.hop)

    def tokens(self, x: Tensor) -> Tensor:
        """(B, T) -> (B, N, D): one token per `hop` frames, also of those behind the end of a clip."""
        heard = frames(lengths(x), span(self.rate)[1])
        x = log_mel(x, self.rate, self.bins) / -math.log(FLOOR)  # 1 is the level of white noise
        x = x * first(heard, x.shape[1])[..., None]  # the frame behind the last has heard its end
        x = pad(x, (0, 0, 0, -x.shape[1] % self.window))  # zeros are silence
        windows = x.unflatten(1, (-1, self.window)).flatten(0, 1)  # (B * n, window, bins)
        maps = self.net.maps(windows.mT[:, None])  # (B * n, D, bins / hop, window / hop)
        return maps.mean(2).mT.unflatten(0, (x.shape[0], -1)).flatten(1, 2)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T) -> (B, D): the mean over the tokens of each clip."""
        return seen_mean(self.tokens(x), self.frames(lengths(x)))


def mel(rate: int = 16000, bins: int = 64, dim: int = 128, net: str = "small", window: int = 96) -> MelNet:
    """The network of photos (`small` or `resnet18`, for which 512 is the usual `dim`) on log-mel pictures of sound.

    window: frames of 10 ms that are read together; shorter clips are padded to one window.
    """
    return MelNet(rate, bins, dim, net, window)
