"""What draws hidden patches from those that are seen: the small transformer of MAE and VideoMAE.

He et al. 2021, arXiv:2111.06377.  Tong et al. 2022, arXiv:2203.12602.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .errors import UserError

HEAD = 64  # width of an attention head
EPS = 1e-6


class Decoder(nn.Module):
    """(B, [1 +] K, D) seen at places keep -> (B, M, P): pixels at places drop (B, M) of a grid (T, h, w)."""

    def __init__(self, dim: int, width: int, depth: int, pixels: int):
        super().__init__()
        if width < 4 or width % 4 or width > HEAD and width % HEAD or depth < 1:
            raise UserError(
                f"method.decoder_dim must be a multiple of {HEAD} (below it, of 4) and method.decoder_depth 1 or more, "
                f"got {width} and {depth}"
            )
        self.enter, self.hidden = nn.Linear(dim, width), nn.Parameter(torch.empty(width).normal_(std=0.02))
        self.blocks = nn.ModuleList(
            nn.TransformerEncoderLayer(
                width, max(1, width // HEAD), 4 * width, 0.0, "gelu", EPS, batch_first=True, norm_first=True
            )
            for _ in range(depth)
        )
        self.norm, self.leave = nn.LayerNorm(width, EPS), nn.Linear(width, pixels)
        for name, p in self.named_parameters():
            if p.ndim == 2:
                nn.init.xavier_uniform_(p)
            elif name.endswith("bias"):
                nn.init.zeros_(p)

    def forward(self, seen: Tensor, keep: Tensor, drop: Tensor, grid: tuple[int, int, int]) -> Tensor:
        y = self.enter(seen)
        first = y.shape[1] - keep.shape[1]  # a class token ahead has no place
        table = places(grid, y.shape[2], y.device).to(y.dtype)
        y = torch.cat([y[:, :first], y[:, first:] + table[keep], self.hidden.to(y.dtype) + table[drop]], 1)
        for block in self.blocks:
            y = block(y)
        return self.leave(self.norm(y[:, -drop.shape[1] :]))


def places(grid: tuple[int, int, int], dim: int, device: torch.device | None = None) -> Tensor:
    """(T * h * w, D) float32 sine positions: of column and row for a photo, of the place in the row of all for a clip,
    as MAE and VideoMAE have it (but for the order of VideoMAE's columns, sines here first)."""
    t, h, w = grid
    index = torch.arange(t * h * w, device=device)
    return waves(index, dim) if t > 1 else torch.cat([waves(index % w, dim // 2), waves(index // w, dim // 2)], 1)


def waves(index: Tensor, dim: int) -> Tensor:
    """(N,) -> (N, D): sines, then cosines, of D / 2 wavelengths."""
    half = dim // 2
    angle = index[:, None] / 10_000 ** (torch.arange(half, device=index.device) / half)
    return torch.cat([angle.sin(), angle.cos()], 1)
