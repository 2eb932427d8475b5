"""What a context says of each horizon: W_k, alone or behind a causal transformer layer, all horizons at once.

W_k: van den Oord et al. 2018, arXiv:1807.03748.  Layers: Riviere et al. 2020, arXiv:2002.02848.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout, layer_norm, linear, relu, scaled_dot_product_attention

DROPOUT = 0.1


class Linear(nn.Module):
    """W_k for each horizon, all in one product: (..., C) -> (K, ..., D)."""

    def __init__(self, context: int, width: int, steps: int):
        super().__init__()
        self.all, self.shape = nn.Linear(context, steps * width, bias=False), (steps, width)

    def forward(self, c: Tensor) -> Tensor:
        return self.all(c).unflatten(-1, self.shape).movedim(-2, 0)

    def sides(self, c: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
        """What `ahead` multiplies: W_k c and z, or c and W_k^T z where C is less than D and the scores cost less so."""
        steps, width = self.shape
        context = c.shape[-1]
        if context >= width:
            return self(c), z
        back = self.all.weight.unflatten(0, self.shape).mT.reshape(-1, width)  # (K * C, D)
        scale = (context / width) ** 0.5  # the scores are of width D
        return c[None] * scale, linear(z, back).unflatten(-1, (steps, context)).movedim(-2, 0)


class Transformer(nn.Module):
    """For each horizon a causal transformer layer along the rows, and W_k: (B, R, W, C) -> (K, B, R, W, D).

    LayerNorm behind both sums. Each weight is one tensor over all horizons.
    """

    def __init__(self, context: int, width: int, steps: int):
        super().__init__()
        inner = 8 * context
        self.count = next(n for n in (8, 4, 2, 1) if context % n == 0)
        self.mix_in = _weight(steps, context, 3 * context)
        self.mix_out = _weight(steps, context, context)
        self.up, self.up_bias = _weight(steps, context, inner), nn.Parameter(torch.zeros(steps, 1, inner))
        self.down, self.down_bias = _weight(steps, inner, context), nn.Parameter(torch.zeros(steps, 1, context))
        self.norm = nn.Parameter(torch.ones(2, steps, 1, context))
        self.norm_bias = nn.Parameter(torch.zeros(2, steps, 1, context))
        self.out = _weight(steps, context, width)

    def forward(self, c: Tensor) -> Tensor:
        batch, rows, across, width = c.shape
        x = c.transpose(1, 2).reshape(1, -1, width).expand(len(self.out), -1, -1)  # (K, B * W * R, C)
        heads = (x @ self.mix_in).view(-1, rows, 3, self.count, width // self.count)
        q, k, v = heads.permute(2, 0, 3, 1, 4)  # (K * B * W, heads, R, C / heads)
        rate = DROPOUT if self.training else 0.0
        mixed = scaled_dot_product_attention(q, k, v, dropout_p=rate, is_causal=True)
        y = self._normed(x + mixed.transpose(1, 2).reshape(x.shape) @ self.mix_out, 0)
        inside = dropout(relu(torch.baddbmm(self.up_bias, y, self.up)), DROPOUT, self.training)
        y = self._normed(y + torch.baddbmm(self.down_bias, inside, self.down), 1) @ self.out
        return y.view(len(y), batch, across, rows, -1).transpose(2, 3)

    def sides(self, c: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
        return self(c), z

    def _normed(self, x: Tensor, place: int) -> Tensor:
        return layer_norm(x, x.shape[-1:]) * self.norm[place] + self.norm_bias[place]


HEADS = {"linear": Linear, "transformer": Transformer}


def _weight(steps: int, width: int, out: int) -> nn.Parameter:
    """(K, width, out), each as nn.Linear begins."""
    return nn.Parameter(torch.empty(steps, width, out).uniform_(-1, 1) / math.sqrt(width))
