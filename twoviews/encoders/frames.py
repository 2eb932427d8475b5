"""An encoder of clips that predicts: each frame alone, and what has been seen until then.

    z_t = g_enc(frame t)                       convolutions, or a ViT
    c_t = g_ar(z_1 ... z_t)                    a GRU, dilated convolutions or causal attention (`contexts`)

CPC: van den Oord et al. 2018, arXiv:1807.03748, with frames of a clip where its section 3.1 has frames of sound. Dense
predictive coding (Han et al. 2019, arXiv:1909.04656) does so for each place of a map; here a frame is one vector.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..errors import UserError, unknown
from ..types import Places
from .contexts import context as make_context
from .patches import Block, norm
from .vit import vit

FRAMES = ("conv", "vit")


class Conv(nn.Module):
    """Frames (B, C, H, W) -> (B, D): three stages halve a frame, and one linear layer reads all that is left.

    Places stay apart until then, for a mean over them would hide where things are, and motion is a change of where.
    GroupNorm, as batch statistics would tell frames about each other (`patches`).
    """

    def __init__(self, channels: int, image: int, width: int, dim: int):
        super().__init__()
        if image % 8:
            raise UserError(f"encoder.image must be a multiple of 8 pixels with frame=conv, got {image}")
        self.image = image
        self.stages = nn.Sequential(
            nn.Conv2d(channels, width, 3, 2, 1, bias=False),
            Block(width, 2 * width, 2),
            Block(2 * width, 4 * width, 2),
            norm(4 * width),
            nn.ReLU(),
        )
        self.out = nn.Linear(4 * width * (image // 8) ** 2, dim)

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[2:] != (self.image, self.image):
            raise UserError(
                f"the encoder reads frames of {self.image} x {self.image} pixels, got {x.shape[2]} x {x.shape[3]}: "
                "give views.size and encoder.image the same value"
            )
        return self.out(self.stages(x.contiguous(memory_format=torch.channels_last)).flatten(1))


class FrameNet(nn.Module):
    """(B, C, T, H, W) to frames. The encoder of `frame_net`.

    dim, context: C, the width of c.  width: D, the width of z.
    """

    def __init__(self, frame: nn.Module, width: int, dim: int, context: str, layers: int):
        super().__init__()
        self.frame, self.past = frame, make_context(context, width, dim, layers)
        self.width, self.dim, self.context = width, dim, dim

    def frames(self, x: Tensor) -> Tensor:
        """(B, C, T, H, W) -> (B, T, D): z, each frame alone."""
        if x.ndim != 5:
            raise UserError(f"frame_net reads clips (B, C, T, H, W), got a tensor of shape {tuple(x.shape)}")
        return self.frame(x.transpose(1, 2).flatten(0, 1)).unflatten(0, (x.shape[0], -1))

    def places(self, x: Tensor) -> Places:
        """z and c of each frame, a row of one place; c_t knows frames 1 ... t."""
        z = self.frames(x)
        c, _ = self.past(z)
        return Places(z[:, :, None], c[:, :, None], torch.ones(*z.shape[:2], 1, dtype=torch.bool, device=z.device))

    def tokens(self, x: Tensor) -> Tensor:
        """(B, C, T, H, W) -> (B, T, C): c."""
        return self.past(self.frames(x))[0]

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, T, H, W) -> (B, C): the mean of c."""
        return self.tokens(x).mean(1)


def frame_net(
    channels: int = 3,
    image: int = 64,
    frame: str = "conv",
    width: int = 128,
    dim: int = 128,
    context: str = "gru",
    layers: int = 1,
    stem: int = 16,
    size: str = "test",
    patch: int = 8,
) -> FrameNet:
    """Clips of any length to h: the mean of c over the frames.

    image:   pixels a side of a frame.  width: D, of z.  dim: C, of c and of h.
    frame:   "conv", whose three stages have stem, 2 stem and 4 stem channels, or "vit", of `size` and `patch`, whose
             width is then D.
    context, layers: see `contexts.context`.
    Raises UserError on an unknown kind, sizes below 1 and frames of another size.
    """
    if frame not in FRAMES:
        raise unknown("frame", frame, FRAMES)
    if min(width, stem) < 1:
        raise UserError(f"encoder.width and encoder.stem must be 1 or more, got {width} and {stem}")
    if frame == "conv":
        return FrameNet(Conv(channels, image, stem, width), width, dim, context, layers)
    net = vit(channels, image, patch, size, pool="mean")
    return FrameNet(net, net.dim, dim, context, layers)
