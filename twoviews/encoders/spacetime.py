"""Transformers over clips, one file: they differ in which tokens look at which.

    vivit2       frames alone, then their class tokens in time          ViViT's model 2, "factorised encoder"
    vivit3       in every block: over time, then over places            model 3, "factorised self-attention"
    vivit4       in every block: half of the heads over time            model 4, "factorised dot-product attention"
    timesformer  "divided": over time, then in each frame with the class token; "joint": all over all; "space"
    space_only   frames alone, then the mean: TimeSformer's "space", a control that is blind to order

Model 1, all over all, is `vivit1` in vit.py; `vtn`, model 2 with a Longformer over time, is in vtn.py. Inside, tokens
lie (T, B, N, D): both axes are views (blocks.py). ViViT: Arnab et al. 2021, arXiv:2103.15691. TimeSformer: Bertasius et
al. 2021, arXiv:2102.05095.

Where this departs from the authors' code: stochastic depth leaves out whole examples (of frames alone: frames) and
makes up for it as timm does; scenic does not, and has none in model 3; TimeSformer leaves out frames and places.
Model 3's attention in time starts with only its output at zero: with all its weights at zero it has no gradient and
never learns. Positions of other lengths are interpolated linearly (TimeSformer takes the nearest).
"""

from __future__ import annotations

from math import prod

import torch
from torch import Tensor, nn

from ..errors import UserError, unknown
from .blocks import (
    Attention,
    Block,
    DropPath,
    Mlp,
    Tubelets,
    attend,
    built,
    clip,
    depths,
    first_weights,
    learned,
    queries,
    resized,
    sized,
    table,
    through,
)
from .convert import with_weights
from .vit import ViT

ORDERS = ("time_space", "space_time")
ATTENTIONS = ("divided", "joint", "space")
EPS = 1e-6  # of all norms


class OverTime(nn.Module):
    """A transformer over frames with a class token of its own: (B, T, D) -> (B, 1 + T, D), or `only` its first rows."""

    def __init__(self, frames: int, blocks: list[Block], dim: int, positions: str):
        super().__init__()
        self.frames = frames
        self.cls, self.pos = learned(1, 1, dim), table(positions, 1, 1 + frames, dim)
        self.blocks, self.norm = nn.ModuleList(blocks), nn.LayerNorm(dim, EPS)
        self.apply(first_weights)

    def forward(self, x: Tensor, only: int | None = None) -> Tensor:
        first: Tensor = self.cls
        if self.pos is not None:
            first = first + self.pos[:, :1]
            x = x + resized(self.pos[0, 1:], (self.frames, 1, 1), (x.shape[1], 1, 1))
        x = torch.cat([first.expand(x.shape[0], -1, -1).to(x.dtype), x], 1)
        return self.norm(through(self.blocks, x, only))


class FramesThenTime(nn.Module):
    """Frames one by one, then their class tokens in time: ViViT's model 2 and VTN.

    Its tokens are those of the frames after time, (B, T, D): the places of a frame never meet another frame.
    """

    def __init__(self, space: ViT, time: nn.Module):
        super().__init__()
        self.dim, self.space, self.time = space.dim, space, time

    def frames(self, x: Tensor) -> Tensor:
        """(B, C, F, H, W) -> (B, T, D): the class token of every frame, or of every box of frames."""
        x = clip(x)
        t, h, w = self.space.grid(x)
        x = self.space.encode(self.space.patch.cut(x).flatten(0, 1), (1, h, w), only=1)  # (B * T, 1, D)
        return x[:, 0].unflatten(0, (-1, t))

    def tokens(self, x: Tensor) -> Tensor:
        """(B, C, F, H, W) -> (B, T, D)"""
        return self.time(self.frames(x))[:, 1:]

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, F, H, W) -> (B, D): the class token of time."""
        return self.time(self.frames(x), only=1)[:, 0]


class HalfTime(Attention):
    """Attention of tokens (T, B, N, D): the first half of the heads over time, the second over places (ViViT 4)."""

    def __init__(self, dim: int, heads: int):
        super().__init__(dim, heads)
        if heads % 2:
            raise UserError(f"model 4 gives half of its heads to time and has {heads}; take a size with an even number")

    def forward(self, x: Tensor, axis: int = -2, only: int | None = None) -> Tensor:
        q, k, v = queries(x, self.qkv, self.heads)  # (T, B, N, H, d)
        (q, q1), (k, k1), (v, v1) = (y.chunk(2, -2) for y in (q, k, v))
        return self.proj(torch.cat([attend(q, k, v, 0), attend(q1, k1, v1)], -2).flatten(-2))


class SelfBlock(nn.Module):
    """Tokens (T, B, N, D): attention over time and over places, each with its norm, then the MLP (ViViT 3)."""

    def __init__(self, dim: int, heads: int, mlp: float, drop: float, order: str):
        super().__init__()
        self.order = order
        self.time_norm, self.time = nn.LayerNorm(dim, EPS), Attention(dim, heads)
        self.norm1, self.attn = nn.LayerNorm(dim, EPS), Attention(dim, heads)
        self.norm2, self.mlp = nn.LayerNorm(dim, EPS), Mlp(dim, int(mlp * dim), "tanh")
        self.drop = DropPath(drop, axis=1)

    def forward(self, x: Tensor) -> Tensor:
        if self.order == "time_space":
            x = x + self.drop(self.time(self.time_norm(x), 0))
        x = x + self.drop(self.attn(self.norm1(x)))
        if self.order == "space_time":
            x = x + self.drop(self.time(self.time_norm(x), 0))
        return x + self.drop(self.mlp(self.norm2(x)))


class Factorised(nn.Module):
    """ViViT's models 3 and 4: no class token, positions of the whole grid, the mean of all tokens."""

    def __init__(self, patch: Tubelets, grid: tuple[int, int, int], blocks: list[nn.Module], positions: str):
        super().__init__()
        self.dim = dim = patch.proj.out_features
        self.patch, self.built, self.pos = patch, grid, table(positions, 1, prod(grid), dim)
        self.blocks, self.norm = nn.ModuleList(blocks), nn.LayerNorm(dim, EPS)
        self.apply(first_weights)

    def encode(self, x: Tensor) -> Tensor:
        """(B, C, F, H, W) -> (T, B, N, D)"""
        x = clip(x)
        grid = self.patch.grid(x)
        x = self.patch(x).transpose(0, 1).contiguous()  # (T, B, N, D)
        if self.pos is not None:
            x = x + resized(self.pos[0], self.built, grid).unflatten(0, (grid[0], 1, -1))
        for block in self.blocks:
            x = block(x)
        return self.norm(x)

    def tokens(self, x: Tensor) -> Tensor:
        """(B, C, F, H, W) -> (B, T * N, D), frame by frame."""
        return self.encode(x).transpose(0, 1).flatten(1, 2)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, F, H, W) -> (B, D)"""
        return self.encode(x).mean((0, 2))


class DividedBlock(nn.Module):
    """TimeSformer's block. Tokens (T, B, 1 + N, D): the class token stands in every frame, the same in all."""

    def __init__(self, dim: int, heads: int, mlp: float, drop: float):
        super().__init__()
        self.time_norm, self.time, self.time_fc = nn.LayerNorm(dim, EPS), Attention(dim, heads), nn.Linear(dim, dim)
        self.norm1, self.attn = nn.LayerNorm(dim, EPS), Attention(dim, heads)
        self.norm2, self.mlp = nn.LayerNorm(dim, EPS), Mlp(dim, int(mlp * dim))
        self.drop = DropPath(drop, axis=1)

    def forward(self, x: Tensor, only: int | None = None) -> Tensor:
        past = self.time_fc(self.drop(self.time(self.time_norm(x), 0)))
        past[:, :, 0] = 0  # the class token takes no part in time
        x = x + past
        x = x[:, :, :only] + self.drop(self.attn(self.norm1(x), only=only))
        x[:, :, 0] = x[:, :, 0].mean(0)  # every frame's word for it
        return x + self.drop(self.mlp(self.norm2(x)))


class TimeSformer(nn.Module):
    """TimeSformer: one class token, positions of the places (its first row: the class token's) and of the frames."""

    def __init__(
        self, patch: Tubelets, grid: tuple[int, int, int], blocks: list[nn.Module], attention: str, positions: str
    ):
        super().__init__()
        self.dim = dim = patch.proj.out_features
        self.patch, self.built, self.attention = patch, grid, attention
        self.cls, self.pos = learned(1, 1, dim), table(positions, 1, 1 + grid[1] * grid[2], dim)
        self.pos_time = table("none" if attention == "space" else positions, 1, grid[0], dim)
        self.blocks, self.norm = nn.ModuleList(blocks), nn.LayerNorm(dim, EPS)
        self.apply(first_weights)

    def encode(self, x: Tensor, only: int | None = None) -> Tensor:
        """(B, C, F, H, W) -> (T, B, 1 + N, D); joint: (1, B, 1 + T * N, D)."""
        x = clip(x)
        t, h, w = self.patch.grid(x)
        first: Tensor = self.cls
        x = self.patch(x).transpose(0, 1)  # (T, B, N, D)
        if self.pos is not None:
            x = x + resized(self.pos[0, 1:], (1, *self.built[1:]), (1, h, w))
            first = first + self.pos[:, :1]
        if self.pos_time is not None:
            x = x + resized(self.pos_time[0], (self.built[0], 1, 1), (t, 1, 1))[:, None, None]
        if self.attention == "joint":
            x = x.transpose(0, 1).flatten(1, 2)[None]  # (1, B, T * N, D)
        x = torch.cat([first.expand(*x.shape[:2], 1, -1).to(x.dtype), x], 2)
        return through(self.blocks, x, only)

    def tokens(self, x: Tensor) -> Tensor:
        """(B, C, F, H, W) -> (B, T * N, D), frame by frame."""
        return self.norm(self.encode(x)[:, :, 1:].transpose(0, 1).flatten(1, 2))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, F, H, W) -> (B, D): the class token; where frames are alone, the mean of theirs before the norm."""
        return self.norm(self.encode(x, 1)[:, :, 0].mean(0))


def quiet(encoder: nn.Module) -> nn.Module:
    """The same encoder, whose attention in time adds nothing at first: what each block's ends in is zero."""
    for block in encoder.modules():
        if isinstance(block, (SelfBlock, DividedBlock)):
            last = block.time_fc if isinstance(block, DividedBlock) else block.time.proj
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)
    return encoder


def vivit2(
    channels: int = 3,
    frames: int = 16,
    image: int = 224,
    tubelet: int = 2,
    patch: int = 16,
    size: str = "base",
    time_depth: int = 4,
    positions: str = "learned",
    mlp: float = 4,
    drop_path: float = 0.0,
    weights: str | None = None,
) -> nn.Module:
    """ViViT's model 2. time_depth: blocks over time, after the 12 of a base size over places."""
    if time_depth < 1:
        raise UserError(f"time_depth must be at least 1, got {time_depth}; space_only has no blocks over time")
    t, dim, heads = built(frames, image, tubelet, patch)[0], *sized(size)[::2]
    space = ViT(channels, tubelet, image, tubelet, patch, size, "cls", positions, mlp, "tanh", EPS, drop_path)
    blocks = [Block(dim, heads, mlp, EPS, "tanh", rate) for rate in depths(drop_path, time_depth)]
    return with_weights(FramesThenTime(space, OverTime(t, blocks, dim, positions)), weights)


def vivit3(
    channels: int = 3,
    frames: int = 16,
    image: int = 224,
    tubelet: int = 2,
    patch: int = 16,
    size: str = "base",
    order: str = "time_space",
    positions: str = "learned",
    mlp: float = 4,
    drop_path: float = 0.0,
    weights: str | None = None,
) -> nn.Module:
    """ViViT's model 3. order: "time_space" or "space_time". At the start attention in time adds nothing."""
    if order not in ORDERS:
        raise unknown("order", order, ORDERS)
    dim, depth, heads = sized(size)
    blocks = [SelfBlock(dim, heads, mlp, rate, order) for rate in depths(drop_path, depth)]
    grid = built(frames, image, tubelet, patch)
    encoder = Factorised(Tubelets(channels, tubelet, patch, dim), grid, [*blocks], positions)
    return with_weights(quiet(encoder), weights)


def vivit4(
    channels: int = 3,
    frames: int = 16,
    image: int = 224,
    tubelet: int = 2,
    patch: int = 16,
    size: str = "base",
    positions: str = "learned",
    mlp: float = 4,
    drop_path: float = 0.0,
    weights: str | None = None,
) -> nn.Module:
    """ViViT's model 4: as many weights as a ViT. Raises UserError where a size has an odd number of heads."""
    dim, depth, heads = sized(size)
    blocks = [Block(dim, heads, mlp, EPS, "tanh", rate, 1, HalfTime) for rate in depths(drop_path, depth)]
    grid = built(frames, image, tubelet, patch)
    return with_weights(Factorised(Tubelets(channels, tubelet, patch, dim), grid, [*blocks], positions), weights)


def timesformer(
    channels: int = 3,
    frames: int = 8,
    image: int = 224,
    tubelet: int = 1,
    patch: int = 16,
    size: str = "base",
    attention: str = "divided",
    positions: str = "learned",
    mlp: float = 4,
    drop_path: float = 0.0,
    weights: str | None = None,
) -> nn.Module:
    """TimeSformer. attention: "divided", "joint" or "space". At the start divided attention in time adds nothing."""
    if attention not in ATTENTIONS:
        raise unknown("attention", attention, ATTENTIONS)
    dim, depth, heads = sized(size)
    if attention == "divided":
        blocks: list[nn.Module] = [DividedBlock(dim, heads, mlp, rate) for rate in depths(drop_path, depth)]
    else:
        blocks = [Block(dim, heads, mlp, EPS, drop=rate, axis=1) for rate in depths(drop_path, depth)]
    grid = built(frames, image, tubelet, patch)
    encoder = TimeSformer(Tubelets(channels, tubelet, patch, dim), grid, blocks, attention, positions)
    return with_weights(quiet(encoder), weights)


def space_only(
    channels: int = 3,
    frames: int = 8,
    image: int = 224,
    tubelet: int = 1,
    patch: int = 16,
    size: str = "base",
    positions: str = "learned",
    mlp: float = 4,
    drop_path: float = 0.0,
    weights: str | None = None,
) -> nn.Module:
    """Frames alone, then the mean of their class tokens. With tubelets of one frame it cannot tell their order."""
    return timesformer(channels, frames, image, tubelet, patch, size, "space", positions, mlp, drop_path, weights)
