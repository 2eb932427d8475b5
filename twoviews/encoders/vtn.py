"""VTN: frames alone by a ViT, then their class tokens by a Longformer, in which a frame looks at those near it.

    x = norm(x + attention(x));  x = norm(x + mlp(x));  frame i sees frame j where |i - j| <= window / 2, and the class

One dense attention with a mask, the numbers of transformers' LongformerModel without its padding and chunks; dropout is
left out. Neimark et al. 2021, arXiv:2102.00719.  Beltagy et al. 2020, arXiv:2004.05150.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..errors import UserError
from .blocks import Attention, DropPath, Mlp, attend, built, depths, first_weights, learned, queries, sized, table
from .convert import with_weights
from .spacetime import FramesThenTime
from .vit import ViT

EPS = 1e-12
FRAMES = 286  # rows of the table that frames go through; then one for the class token and one for padding


class WindowBlock(nn.Module):
    """Longformer's block, norms last: a frame looks at those near it and at the class token, which looks at all.

    The class token looks with weights of its own (`qkv_global`).
    """

    def __init__(self, dim: int, heads: int, mlp: float, drop: float):
        super().__init__()
        self.attn, self.qkv_global = Attention(dim, heads), nn.Linear(dim, 3 * dim)
        self.norm1, self.norm2 = nn.LayerNorm(dim, EPS), nn.LayerNorm(dim, EPS)
        self.mlp, self.drop = Mlp(dim, int(mlp * dim)), DropPath(drop)

    def forward(self, x: Tensor, mask: Tensor, only: int | None = None) -> Tensor:
        heads = self.attn.heads
        seen = attend(*queries(x, self.qkv_global, heads, 1))  # (B, 1, H, d)
        if only != 1 or self.training:  # training, all weights need a gradient, be it of zeros: DDP waits for them
            near = attend(*queries(x, self.attn.qkv, heads), mask=mask)
            seen = torch.cat([seen, near[:, 1:]], 1)
        x = self.norm1(x[:, :only] + self.drop(self.attn.proj(seen[:, :only].flatten(-2))))
        return self.norm2(x + self.drop(self.mlp(x)))


class Longformer(nn.Module):
    """VTN's transformer over frames: (B, T, D) -> (B, 1 + T, D), or the class token alone (only=1).

    The row of a frame in the table of positions is its number modulo 286, by definition: VTN reads whole films.
    """

    def __init__(self, dim: int, heads: int, depth: int, window: int, positions: str, mlp: float, drop_path: float):
        super().__init__()
        if depth < 1:
            raise UserError(f"time_depth must be at least 1, got {depth}")
        if window < 2 or window % 2:
            raise UserError(f"window must be even and at least 2 (half of it on each side of a frame), got {window}")
        self.window = window
        self.cls = nn.Parameter(torch.randn(1, 1, dim))
        self.pos = table(positions, FRAMES + 2, dim)
        self.kind = learned(2, dim)  # of frames, of the class token
        self.norm = nn.LayerNorm(dim, EPS)
        self.blocks = nn.ModuleList(WindowBlock(dim, heads, mlp, rate) for rate in depths(drop_path, depth))
        self.apply(first_weights)

    def forward(self, x: Tensor, only: int | None = None) -> Tensor:
        frame = torch.arange(x.shape[1] + 1, device=x.device) - 1  # -1: the class token
        x = torch.cat([self.cls.expand(x.shape[0], -1, -1).to(x.dtype), x], 1) + self.kind[(frame < 0).long()]
        if self.pos is not None:
            x = x + self.pos[torch.where(frame < 0, FRAMES, frame % FRAMES)]
        x = self.norm(x)
        mask = ((frame[:, None] - frame).abs() <= self.window // 2) | (frame < 0)
        *most, last = self.blocks
        for block in most:
            x = block(x, mask)
        return last(x, mask, only=only)


def vtn(
    channels: int = 3,
    frames: int = 16,
    image: int = 224,
    tubelet: int = 1,
    patch: int = 16,
    size: str = "base",
    time_depth: int = 3,
    window: int = 18,
    positions: str = "learned",
    mlp: float = 4,
    drop_path: float = 0.0,
    weights: str | None = None,
) -> FramesThenTime:
    """VTN. window: frames in reach of a frame, half of them on each side; of two blocks in time, twice as many.

    Nothing depends on `frames`: clips of any length are read, and without positions order still shows in the windows.
    """
    built(frames, image, tubelet, patch)
    dim, _, heads = sized(size)
    space = ViT(channels, tubelet, image, tubelet, patch, size, "cls", positions, mlp, "erf", 1e-6, drop_path)
    time = Longformer(dim, heads, time_depth, window, positions, mlp, drop_path)
    return with_weights(FramesThenTime(space, time), weights)
