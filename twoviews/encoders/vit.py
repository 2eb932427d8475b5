"""ViT, of photos and of clips: all tokens look at all others.

    x_0 = [class, E patch_1 ... E patch_N] + positions;  x_l = block(x_{l-1});  h = norm(x_L)_class, or the mean

Dosovitskiy et al. 2020, arXiv:2010.11929. A clip is cut into boxes of `tubelet` frames: model 1 of ViViT, joint
attention (Arnab et al. 2021, arXiv:2103.15691), with gelu="tanh" as its authors' code has it. Without most of its
tokens it is the encoder of MAE and VideoMAE (`visible`).
"""

from __future__ import annotations

from math import prod

import torch
from torch import Tensor, nn

from ..errors import unknown
from .blocks import Block, Tubelets, built, clip, depths, first_weights, learned, resized, sines, sized, table, through
from .convert import with_weights

POOLS = ("cls", "mean")
POSITIONS = ("learned", "sine", "none")


class ViT(nn.Module):
    """The encoder of `vit` and `vivit1`. The class token, where there is one, has the first row of `pos`.

    frames, image: what positions are made for; clips of other lengths and sizes have them resized.
    Raises UserError on an unknown size, pool, positions or gelu and where the tubelets do not divide the clip.
    """

    def __init__(
        self,
        channels: int,
        frames: int,
        image: int,
        tubelet: int,
        patch: int,
        size: str,
        pool: str,
        positions: str,
        mlp: float,
        gelu: str,
        eps: float,
        drop_path: float,
    ):
        super().__init__()
        if pool not in POOLS:
            raise unknown("pool", pool, POOLS)
        if positions not in POSITIONS:
            raise unknown("positions", positions, POSITIONS)
        dim, depth, heads = sized(size)
        self.dim, self.positions = dim, positions
        self.built = built(frames, image, tubelet, patch)
        self.prefix = int(pool == "cls")  # tokens ahead of those of places
        self.patch = Tubelets(channels, tubelet, patch, dim)
        self.cls = learned(1, 1, dim) if self.prefix else None
        rows = self.prefix + prod(self.built)
        if positions == "sine":
            self.register_buffer("pos", sines(rows, dim)[None], persistent=False)
        else:
            self.pos: Tensor | None = table(positions, 1, rows, dim)
        self.blocks = nn.ModuleList(Block(dim, heads, mlp, eps, gelu, rate) for rate in depths(drop_path, depth))
        self.norm = nn.LayerNorm(dim, eps)
        self.apply(first_weights)

    def patches(self, x: Tensor) -> Tensor:
        """(B, C, [F,] H, W) -> (B, N, P): the pixels of each token, frame by frame and row by row."""
        return self.patch.cut(clip(x)).flatten(1, 2)

    def grid(self, x: Tensor) -> tuple[int, int, int]:
        """(T, h, w): the tokens of x along time, height and width."""
        return self.patch.grid(clip(x))

    def encode(
        self, patches: Tensor, grid: tuple[int, int, int], keep: Tensor | None = None, only: int | None = None
    ) -> Tensor:
        """(B, N, P) -> (B, prefix + N, D): what all blocks make of the patches, of those at `keep` (B, K) alone.

        only: how many of the first rows are asked for.
        """
        pos = self.positions_at(grid)  # (1, N, D) or None
        if keep is not None:
            patches = patches.gather(1, keep[..., None].expand(-1, -1, patches.shape[2]))
            pos = None if pos is None else pos[0][keep]
        x = self.patch.proj(patches)
        x = x if pos is None else x + pos
        if self.cls is not None:
            first = self.cls if self.pos is None else self.cls + self.pos[:, :1]
            x = torch.cat([first.expand(x.shape[0], -1, -1).to(x.dtype), x], 1)
        return self.norm(through(self.blocks, x, only))

    def positions_at(self, grid: tuple[int, int, int]) -> Tensor | None:
        """(1, N, D): the positions of a grid's tokens, resized where it was built for another one."""
        if self.pos is None:
            return None
        if self.positions == "sine" and grid != self.built:
            return sines(self.prefix + prod(grid), self.dim).to(self.pos)[None, self.prefix :]
        return resized(self.pos[0, self.prefix :], self.built, grid)[None]

    def visible(self, x: Tensor, keep: Tensor) -> Tensor:
        """(B, [1 +] K, D): a class token and the tokens at places keep (B, K) int64; no others are seen (MAE)."""
        return self.encode(self.patches(x), self.grid(x), keep)

    def tokens(self, x: Tensor) -> Tensor:
        """(B, C, [F,] H, W) -> (B, N, D), the class token left out."""
        return self.encode(self.patches(x), self.grid(x))[:, self.prefix :]

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, [F,] H, W) -> (B, D): the class token, or the mean of all."""
        x = self.encode(self.patches(x), self.grid(x), only=self.prefix or None)
        return x[:, 0] if self.prefix else x.mean(1)


def vit(
    channels: int = 3,
    image: int = 224,
    patch: int = 16,
    size: str = "base",
    pool: str = "cls",
    positions: str = "learned",
    mlp: float = 4,
    gelu: str = "erf",
    eps: float = 1e-6,
    drop_path: float = 0.0,
    weights: str | None = None,
) -> ViT:
    """ViT for photos of `image` pixels a side; of other sizes its positions are resized. Sizes: `blocks.SIZES`.

    weights: a file of published ones to begin with (convert.py says of whose).
    """
    encoder = ViT(channels, 1, image, 1, patch, size, pool, positions, mlp, gelu, eps, drop_path)
    return with_weights(encoder, weights)


def vivit1(
    channels: int = 3,
    frames: int = 16,
    image: int = 224,
    tubelet: int = 2,
    patch: int = 16,
    size: str = "base",
    pool: str = "cls",
    positions: str = "learned",
    mlp: float = 4,
    gelu: str = "tanh",
    eps: float = 1e-6,
    drop_path: float = 0.0,
    weights: str | None = None,
) -> ViT:
    """ViViT's model 1: every box of a clip looks at every other one. Boxes of 2 frames as in the paper's best.

    weights: a file of published ones to begin with, of ViViT's model 1 or VideoMAE (convert.py says of whose).
    """
    encoder = ViT(channels, frames, image, tubelet, patch, size, pool, positions, mlp, gelu, eps, drop_path)
    return with_weights(encoder, weights)
