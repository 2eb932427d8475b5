"""An encoder of grids of patches that predicts: each patch alone, and what stands in its row and in those above.

    z = mean over pixels of a residual network, patch by patch           g_enc
    c = masked convolutions over the grid of z                           g_ar

CPC: van den Oord et al. 2018, arXiv:1807.03748, section 3.2: a pre-activation ResNet without BatchNorm, of which the
mean of z is probed, and a PixelCNN (arXiv:1606.05328) whose vertical stack is meant here. GroupNorm, as batch
statistics would tell patches about each other: Henaff et al. 2019, arXiv:1905.09272, section 3.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import UserError
from ..types import Places

GROUP = 16  # channels that are normalised together


class Block(nn.Module):
    """x + conv(conv(x)), each convolution after norm and ReLU (He et al. 2016, arXiv:1603.05027)."""

    def __init__(self, channels: int, out: int, stride: int):
        super().__init__()
        self.norm1, self.conv1 = norm(channels), nn.Conv2d(channels, out, 3, stride, 1, bias=False)
        self.norm2, self.conv2 = norm(out), nn.Conv2d(out, out, 3, 1, 1, bias=False)
        changes = stride > 1 or channels != out
        self.shortcut = nn.Conv2d(channels, out, 1, stride, bias=False) if changes else None

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.norm1(x))
        x = x if self.shortcut is None else self.shortcut(y)
        return x + self.conv2(F.relu(self.norm2(self.conv1(y))))


class Above(nn.Module):
    """x + what stands around a place in its own row and in the row above it.

    A 3 x 3 kernel whose last row is masked is a 2 x 3 kernel: nothing has to be multiplied by a mask. The norm is of
    each place alone; one over the grid would tell of the rows below.
    """

    def __init__(self, width: int):
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.conv, self.out = nn.Conv2d(width, width, (2, 3)), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:  # (B, R, W, C)
        y = F.pad(self.norm(x).movedim(3, 1), (1, 1, 1, 0))  # a column at each side, a row above
        return x + self.out(F.relu(self.conv(y)).movedim(1, 3))


class PatchNet(nn.Module):
    """The encoder of `patch_net`.

    width: D, of z.  context: C, of c.  dim: D, of h, the mean of z.
    """

    def __init__(self, channels: int, width: int, blocks: int, stem: int, dim: int, context: int, layers: int):
        super().__init__()
        for name, given in (("width", width), ("blocks", blocks), ("stem", stem), ("dim", dim), ("context", context)):
            if given < 1:
                raise UserError(f"patch_net: {name} must be at least 1, got {given}")
        self.stem = nn.Conv2d(channels, width, 2 * stem + 1, stem, stem, bias=False)
        stages, now = [], width
        for stage, out in enumerate((width, 2 * width, dim)):
            for i in range(blocks):
                stages.append(Block(now, out, stride=2 if stage and not i else 1))
                now = out
        self.blocks = nn.Sequential(*stages)
        self.norm = norm(dim)
        self.enter = nn.Linear(dim, context)
        self.above = nn.Sequential(*(Above(context) for _ in range(layers)))
        self.leave = nn.LayerNorm(context)
        self.width = self.dim = dim
        self.context = context

    def patches(self, x: Tensor) -> Tensor:
        """(B, R, W, C, p, p) -> (B, R, W, D): z."""
        if x.ndim != 6:
            raise UserError(
                f"patch_net reads patches (B, R, W, C, p, p), got {tuple(x.shape)}: use views=patches, test_view=grid"
            )
        y = self.stem(x.flatten(0, 2).contiguous(memory_format=torch.channels_last))  # (B * R * W, width, h, w)
        return self.norm(self.blocks(y)).mean((2, 3)).unflatten(0, x.shape[:3])  # no ReLU: scores may be negative

    def places(self, x: Tensor) -> Places:
        """z and c at every place; c at a place knows its own row and those above."""
        z = self.patches(x)
        c = self.leave(self.above(self.enter(z)))
        return Places(z, c, torch.ones(z.shape[:3], dtype=torch.bool, device=z.device))

    def tokens(self, x: Tensor) -> Tensor:
        """(B, R, W, C, p, p) -> (B, R * W, D): z, row by row."""
        return self.patches(x).flatten(1, 2)

    def forward(self, x: Tensor) -> Tensor:
        """(B, R, W, C, p, p) -> (B, D): the mean of z."""
        return self.patches(x).mean((1, 2))


def norm(channels: int) -> nn.GroupNorm:
    """Over the pixels of one patch, groups of about 16 channels."""
    groups = max(1, channels // GROUP)
    return nn.GroupNorm(groups if channels % groups == 0 else 1, channels)


def patch_net(
    channels: int = 3,
    width: int = 32,
    blocks: int = 1,
    stem: int = 2,
    dim: int = 256,
    context: int = 256,
    layers: int = 4,
) -> PatchNet:
    """D = dim.

    width:   channels of the first of three stages; the second has twice as many, the third `dim`.
    blocks:  in each stage.  stem: the stride of the first convolution: 1 for 8 to 16 pixels, 4 for 64.
    context: width of c.  layers: masked convolutions, each of which sees one row further up.
    Raises UserError on a size below 1.
    """
    return PatchNet(channels, width, blocks, stem, dim, context, layers)
