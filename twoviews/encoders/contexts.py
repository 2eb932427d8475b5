"""Contexts: what has been met so far, as a function of a row of vectors, for sounds and for sentences.

    (B, T, D), state -> (B, T, C), state        c_t is a function of x_1 ... x_t alone

A state holds what the past leaves for what comes next, so pieces one after the other give what the whole gives. None is
the beginning.

GRU: Cho et al. 2014, arXiv:1406.1078. Dilated convolutions: van den Oord et al. 2016 (WaveNet), arXiv:1609.03499.
Attention with rotary positions: Su et al. 2021, arXiv:2104.09864; transformer contexts for CPC: Riviere et al. 2020,
arXiv:2002.02848.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, scaled_dot_product_attention

from ..errors import UserError, unknown

DILATIONS = (1, 2, 4, 8, 16)
WINDOW = 256  # places that attention looks back on, its own among them


class Recurrent(nn.Module):
    """A GRU over the whole row at once; its state is its own."""

    def __init__(self, width: int, dim: int, layers: int):
        super().__init__()
        self.gru = nn.GRU(width, dim, layers, batch_first=True)

    def forward(self, x: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return self.gru(x, state)


class Convolutional(nn.Module):
    """Causal convolutions of three taps, dilated by 1, 2, 4, 8 and 16 in each layer: c_t sees 1 + 62 * layers places.

    The state is what each convolution still needs of its past.
    """

    def __init__(self, width: int, dim: int, layers: int):
        super().__init__()
        self.enter = nn.Linear(width, dim)
        self.blocks = nn.ModuleList(Dilated(dim, dilation) for _ in range(layers) for dilation in DILATIONS)

    def forward(self, x: Tensor, state: list[Tensor] | None = None) -> tuple[Tensor, list[Tensor]]:
        x, after = self.enter(x), []
        for i, block in enumerate(self.blocks):
            x, rest = block(x, None if state is None else state[i])
            after.append(rest)
        return x, after


class Dilated(nn.Module):
    """x_t + relu(norm(W (x_{t - 2d}, x_{t - d}, x_t))), where nothing was before the beginning."""

    def __init__(self, dim: int, dilation: int):
        super().__init__()
        self.dilation, self.taps, self.norm = dilation, nn.Linear(3 * dim, dim), nn.LayerNorm(dim)

    def forward(self, x: Tensor, past: Tensor | None) -> tuple[Tensor, Tensor]:
        d, count = self.dilation, x.shape[1]
        past = x.new_zeros(x.shape[0], 2 * d, x.shape[2]) if past is None else past
        long = torch.cat([past, x], 1)  # (B, 2 d + T, D)
        taps = torch.cat([long[:, :count], long[:, d : d + count], x], -1)
        return x + self.norm(self.taps(taps)).relu(), long[:, count:]


class Attention(nn.Module):
    """A causal transformer, norms first; each of its layers looks back on WINDOW places, however long the row is.

    The state is the keys and values of the last WINDOW - 1 places.
    """

    def __init__(self, width: int, dim: int, layers: int):
        super().__init__()
        heads = max(1, dim // 64)
        if dim % (2 * heads):
            raise UserError(f"context=attention needs a dim that is even below 128, else a multiple of 64, got {dim}")
        self.enter, self.norm = nn.Linear(width, dim), nn.LayerNorm(dim)
        self.blocks = nn.ModuleList(Look(dim, heads) for _ in range(layers))

    def forward(self, x: Tensor, state: list[Tensor] | None = None) -> tuple[Tensor, list[Tensor]]:
        x, after = self.enter(x), []
        for i, block in enumerate(self.blocks):
            x, rest = block(x, None if state is None else state[i])
            after.append(rest)
        return self.norm(x), after


class Look(nn.Module):
    """Attention over the past and a feed-forward network, each added to what came in."""

    def __init__(self, dim: int, heads: int):
        super().__init__()
        self.heads = heads
        self.norm1, self.qkv, self.mix = nn.LayerNorm(dim), nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.norm2, self.grow, self.shrink = nn.LayerNorm(dim), nn.Linear(dim, 4 * dim), nn.Linear(4 * dim, dim)

    def forward(self, x: Tensor, past: Tensor | None) -> tuple[Tensor, Tensor]:
        b, t, d = x.shape
        qkv = self.qkv(self.norm1(x)).view(b, t, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4)
        q, kv = qkv[0], qkv[1:]  # (B, heads, T, d), (2, B, heads, T, d)
        kv = kv if past is None else torch.cat([past, kv], 3)
        held = kv.shape[3]
        places = torch.arange(held, device=x.device)  # only differences of places matter: counted from what is held
        back = places[held - t :, None] - places
        near = (back >= 0) & (back < WINDOW)  # (T, held)
        out = scaled_dot_product_attention(turned(q, places[held - t :]), turned(kv[0], places), kv[1], attn_mask=near)
        x = x + self.mix(out.transpose(1, 2).flatten(2))
        return x + self.shrink(gelu(self.grow(self.norm2(x)))), kv[:, :, :, -(WINDOW - 1) :]


def turned(x: Tensor, places: Tensor) -> Tensor:
    """(B, heads, T, d) with each pair of its numbers turned by place times frequency: 1 down to 1 / 10000."""
    half = x.shape[-1] // 2
    speed = 10000 ** -(torch.arange(half, device=x.device) / half)
    angle = places[:, None] * speed  # (T, d / 2), in float32
    cos, sin = angle.cos().to(x.dtype), angle.sin().to(x.dtype)
    a, b = x[..., :half], x[..., half:]
    return torch.cat([a * cos - b * sin, a * sin + b * cos], -1)


CONTEXTS: dict[str, Any] = {"gru": Recurrent, "conv": Convolutional, "attention": Attention}


def context(kind: str, width: int, dim: int, layers: int = 1) -> nn.Module:
    """The context of that kind, of vectors of `width`, in vectors of `dim`. Raises UserError on another kind."""
    if kind not in CONTEXTS:
        raise unknown("context", kind, CONTEXTS)
    for name, size in {"width": width, "dim": dim, "layers": layers}.items():
        if size < 1:
            raise UserError(f"{name} must be 1 or more, got {size}")
    return CONTEXTS[kind](width, dim, layers)
