"""The parts that transformers over pictures and clips are made of.

Tokens of a clip lie as (T, B, N, D): frames, clips, places of a frame, width. Attention over time (axis 0) and over
places (axis 2) are then both views of one memory: nothing is copied between them. Token sequences are (B, N, D).

ViT: Dosovitskiy et al. 2020, arXiv:2010.11929.  Stochastic depth: Huang et al. 2016, arXiv:1603.09382.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, linear, scaled_dot_product_attention

from ..errors import UserError, unknown

SIZES = {  # dim, depth, heads
    "test": (64, 4, 4),
    "tiny": (192, 12, 3),
    "small": (384, 12, 6),
    "base": (768, 12, 12),
    "large": (1024, 24, 16),
}
GELUS = {"erf": "none", "tanh": "tanh"}


def attend(q: Tensor, k: Tensor, v: Tensor, axis: int = -2, mask: Tensor | None = None) -> Tensor:
    """softmax(q k / sqrt(d)) v along one axis of tokens. q, k, v: (..., H, d), where tokens (..., D) lie at `axis`.

    Everything else is a batch, seen through views. mask: (Q, K) bool, True where a query may look.
    """
    axis = axis - 1 if axis < 0 else axis  # of tokens (..., D), then of q, which has heads
    q, k, v = (x.movedim(axis, -2) for x in (q, k, v))  # (..., H, N, d)
    lead = q.shape[:-3]
    q, k, v = (x.flatten(0, -4) for x in (q, k, v))  # 4-D: what the fast kernels take
    out = scaled_dot_product_attention(q, k, v, attn_mask=mask)
    return out.unflatten(0, lead).movedim(-2, axis)


def queries(x: Tensor, qkv: nn.Linear, heads: int, only: int | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """(..., N, D) -> q, k, v: each (..., N, H, d), views of one product; q of the first `only` tokens alone."""
    if only is None:
        q, k, v = qkv(x).unflatten(-1, (3, heads, -1)).unbind(-3)
        return q, k, v
    dim = x.shape[-1]
    q = linear(x[..., :only, :], qkv.weight[:dim], qkv.bias[:dim]).unflatten(-1, (heads, -1))
    k, v = linear(x, qkv.weight[dim:], qkv.bias[dim:]).unflatten(-1, (2, heads, -1)).unbind(-3)
    return q, k, v


class Attention(nn.Module):
    """Multi-head self-attention of tokens (..., D) along one of their axes.

    only: how many of the first tokens along axis -2 are asked for; the others are looked at and compute nothing.
    """

    def __init__(self, dim: int, heads: int):
        super().__init__()
        if dim % heads:
            raise UserError(f"a width of {dim} does not divide into {heads} heads; give a multiple of {heads}")
        self.heads = heads
        self.qkv, self.proj = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)

    def forward(self, x: Tensor, axis: int = -2, only: int | None = None) -> Tensor:
        return self.proj(attend(*queries(x, self.qkv, self.heads, only), axis).flatten(-2))


class Mlp(nn.Module):
    def __init__(self, dim: int, hidden: int, gelu: str = "erf"):
        super().__init__()
        if gelu not in GELUS:
            raise unknown("gelu", gelu, GELUS)
        self.fc1, self.act, self.fc2 = nn.Linear(dim, hidden), nn.GELU(GELUS[gelu]), nn.Linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(self.act(self.fc1(x)))


class DropPath(nn.Module):
    """Leaves a branch out, an example at a time, and makes up for it where it stays (as timm). axis: of examples."""

    def __init__(self, rate: float, axis: int = 0):
        super().__init__()
        if not 0 <= rate < 1:
            raise UserError(f"drop_path must be from 0 to below 1, got {rate}")
        self.rate, self.axis = rate, axis

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or not self.rate:
            return x
        shape = [1] * x.ndim
        shape[self.axis] = x.shape[self.axis]
        return x * x.new_empty(shape).bernoulli_(1 - self.rate).div_(1 - self.rate)


class Block(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x)). eps: of the norms; axis: of the examples; only: see Attention."""

    def __init__(
        self,
        dim: int,
        heads: int,
        mlp: float = 4,
        eps: float = 1e-6,
        gelu: str = "erf",
        drop: float = 0.0,
        axis: int = 0,
        attention: type[Attention] = Attention,
    ):
        super().__init__()
        self.norm1, self.attn = nn.LayerNorm(dim, eps), attention(dim, heads)
        self.norm2, self.mlp = nn.LayerNorm(dim, eps), Mlp(dim, int(mlp * dim), gelu)
        self.drop = DropPath(drop, axis)

    def forward(self, x: Tensor, only: int | None = None) -> Tensor:
        x = x[..., :only, :] + self.drop(self.attn(self.norm1(x), only=only))
        return x + self.drop(self.mlp(self.norm2(x)))


def through(blocks: Iterable[nn.Module], x: Tensor, only: int | None = None) -> Tensor:
    """Tokens (..., N, D) through all blocks; of the last one the first `only` tokens alone.

    Where a class token is all that is kept, the others need not be computed once more: 10 / 12 of a block.
    """
    *most, last = blocks
    for block in most:
        x = block(x)
    return last(x, only=only)


class Tubelets(nn.Module):
    """Cuts clips into boxes of t frames x p x p pixels and maps each linearly to D: what a Conv3d with kernel = stride
    does, as one matrix product. A row of `proj.weight` runs over channel, frame, row, column as the Conv3d's does."""

    def __init__(self, channels: int, tubelet: int, patch: int, dim: int):
        super().__init__()
        self.tubelet, self.patch = tubelet, patch
        self.proj = nn.Linear(channels * tubelet * patch * patch, dim)

    def grid(self, x: Tensor) -> tuple[int, int, int]:
        """(T, h, w) of the boxes of clips (B, C, F, H, W). Raises UserError where they do not divide."""
        f, h, w = x.shape[2:]
        if f % self.tubelet or h % self.patch or w % self.patch:
            raise UserError(
                f"a clip of {f} frames of {h} x {w} pixels does not divide into tubelets of {self.tubelet} frames of "
                f"{self.patch} x {self.patch}; set views.frames or encoder.tubelet, views.size or encoder.patch"
            )
        return f // self.tubelet, h // self.patch, w // self.patch

    def cut(self, x: Tensor) -> Tensor:
        """(B, C, F, H, W) -> (B, T, N, P): the boxes, a row of numbers each."""
        t, h, w = self.grid(x)
        b, c, s, p = x.shape[0], x.shape[1], self.tubelet, self.patch
        return x.reshape(b, c, t, s, h, p, w, p).permute(0, 2, 4, 6, 1, 3, 5, 7).reshape(b, t, h * w, c * s * p * p)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, F, H, W) -> (B, T, N, D)"""
        return self.proj(self.cut(x))


def clip(x: Tensor) -> Tensor:
    """(B, C, H, W) or (B, C, F, H, W) -> (B, C, F, H, W): a photo is a clip of one frame. Raises UserError else."""
    if x.ndim == 4:
        return x[:, :, None]
    if x.ndim != 5:
        raise UserError(
            f"the encoder reads photos (B, C, H, W) or clips (B, C, T, H, W), got a tensor of shape {tuple(x.shape)}"
        )
    return x


def resized(table: Tensor, old: Sequence[int], new: Sequence[int]) -> Tensor:
    """A table of positions (N, D) of a grid (T, h, w) for another one: linear along time, bicubic in space."""
    if tuple(old) == tuple(new):
        return table
    x = table.to(torch.promote_types(table.dtype, torch.float32)).unflatten(0, tuple(old))  # (T, h, w, D)
    if old[0] != new[0]:
        x = interpolate(x.flatten(1).T[None], new[0], mode="linear")[0].T.unflatten(1, (*old[1:], -1))
    if tuple(old[1:]) != tuple(new[1:]):
        x = interpolate(x.permute(0, 3, 1, 2), tuple(new[1:]), mode="bicubic", antialias=True).permute(0, 2, 3, 1)
    return x.flatten(0, 2).to(table.dtype)


def sines(count: int, dim: int) -> Tensor:
    """(N, D) float32: sin and cos of places 0 ... N - 1, D / 2 wavelengths each (Vaswani et al. 2017)."""
    angle = torch.arange(count, dtype=torch.float64)[:, None] / 10_000 ** (torch.arange(0, dim, 2) / dim).double()
    return torch.stack([angle.sin(), angle.cos()], -1).flatten(1)[:, :dim].float()


def first_weights(module: nn.Module) -> None:
    """Linear weights uniform as Glorot and Bengio's, biases 0, for `Module.apply`: as ViT and MAE begin in flax.

    timm's normal of 0.02 is close to it at a width of 768, and too small to learn from at 64.
    """
    if isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def depths(rate: float, count: int) -> list[float]:
    """Rates of stochastic depth that grow from 0 to `rate` over the blocks."""
    return [rate * i / max(1, count - 1) for i in range(count)]


def built(frames: int, image: int, tubelet: int, patch: int) -> tuple[int, int, int]:
    """The grid (T, h, w) of clips that an encoder is made for. Raises UserError where tubelets do not divide them."""
    if image % patch or frames % tubelet:
        raise UserError(
            f"clips of frames={frames} and image={image} do not divide into tubelet={tubelet} and patch={patch}; "
            "give multiples of them (in a run views.frames and views.size)"
        )
    return frames // tubelet, image // patch, image // patch


def sized(size: str) -> tuple[int, int, int]:
    """(dim, depth, heads) of a named size. Raises UserError on another name."""
    if size not in SIZES:
        raise unknown("size", size, SIZES)
    return SIZES[size]


def learned(*shape: int) -> nn.Parameter:
    """Learned vectors, from a normal of 0.02."""
    return nn.Parameter(nn.init.trunc_normal_(torch.empty(*shape), std=0.02))


def table(positions: str, *shape: int) -> nn.Parameter | None:
    """Learned positions where that is the word, nothing where it is "none". Raises UserError on another word.

    From a normal of 1, about as large as the tokens they are added to, as sine positions are; the papers' 0.02 drowns
    among them, and a small encoder finds time late or never (benchmarks/movingdigits.py).
    """
    if positions not in ("learned", "none"):
        raise unknown("positions", positions, ("learned", "none"))
    return nn.Parameter(torch.randn(shape)) if positions == "learned" else None
