"""MViT: a transformer whose grid of tokens gets coarser and whose width grows, for clips and photos of any size.

    q, k, v = norm(conv(x W))        a 3 x 3 x 3 convolution in every channel of a head pools the grid: q at the start
                                     of a stage, k and v so far that a frame has few keys everywhere
    version 2: softmax(q k / sqrt(d) + q r_t + q r_h + q r_w) v + q,  r: learned, by distance along an axis

Fan et al. 2021, arXiv:2104.11227; version 2: Li et al. 2022, arXiv:2112.01526. As in the authors' code one convolution
serves all heads and the class token is never pooled.

Relative positions need no matrix of queries x keys: [q, q r_t, q r_h, q r_w] . [k, one-hot of k's t, h, w] is the
same sum, an ordinary attention with a few more channels.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import max_pool3d, pad, scaled_dot_product_attention

from ..errors import unknown
from .blocks import DropPath, Mlp, attend, clip, depths, first_weights, learned, queries, resized
from .convert import with_weights

Grid = tuple[int, int, int]  # time, height, width

STAGES = {  # by version and size: width and heads of the first stage, blocks of each; both double from stage to stage
    1: {"test": (32, 1, (1, 1, 2)), "base": (96, 1, (1, 2, 11, 2))},
    2: {
        "test": (32, 1, (1, 1, 2)),
        "tiny": (96, 1, (1, 2, 5, 2)),
        "small": (96, 1, (1, 2, 11, 2)),
        "base": (96, 1, (2, 3, 16, 3)),
        "large": (144, 2, (2, 6, 36, 4)),
    },
}
EPS = 1e-6  # of all norms
AXES = ("t", "h", "w")


def strided(grid: Grid, stride: int) -> Grid:
    """The grid that a convolution or pooling of 3 x 3 x 3 with a stride in space leaves."""
    return grid[0], (grid[1] - 1) // stride + 1, (grid[2] - 1) // stride + 1


class Pool(nn.Module):
    """Tokens of heads (B, 1 + L, H, d) -> (B, 1 + L', H, d): convolved, then normed; the class token only normed."""

    def __init__(self, dim: int, stride: int):
        super().__init__()
        self.conv = nn.Conv3d(dim, dim, 3, (1, stride, stride), 1, groups=dim, bias=False)
        self.norm = nn.LayerNorm(dim, EPS)

    def forward(self, x: Tensor, grid: Grid) -> Tensor:
        heads = x.shape[2]
        places = x[:, 1:].flatten(2).unflatten(1, grid).movedim(-1, 1)  # (B, H * d, T, h, w), channels last in memory
        weight = self.conv.weight.repeat(heads, 1, 1, 1, 1)  # instead of heads as examples, which moves all tokens
        places = torch.conv3d(places, weight, None, self.conv.stride, self.conv.padding, 1, len(weight))
        return self.norm(torch.cat([x[:, :1], places.flatten(2).transpose(1, 2).unflatten(2, (heads, -1))], 1))


def distances(table: Tensor, q: int, k: int) -> Tensor:
    """(q, k, d): the rows of a table (2 n - 1, d) for q queries and k keys evenly along one axis.

    The table is interpolated linearly where n is not the larger of them; a distance between two rows is rounded down.
    """
    most = max(q, k)
    table = resized(table, (len(table), 1, 1), (2 * most - 1, 1, 1))
    i, j = torch.arange(q, device=table.device)[:, None], torch.arange(k, device=table.device)
    return table[(i * k + (k - 1 - j) * q) * most // (q * k)]


def one_hot(grid: Grid, like: Tensor) -> Tensor:
    """(L, T + h + w): of every place its number along each axis."""
    eyes = [torch.eye(n, dtype=like.dtype, device=like.device) for n in grid]
    t, h, w = (eye.view([-1 if a == axis else 1 for a in range(3)] + [len(eye)]) for axis, eye in enumerate(eyes))
    return torch.cat([x.expand(*grid, -1) for x in (t, h, w)], -1).flatten(0, 2)


class PooledAttention(nn.Module):
    """Tokens (B, 1 + L, D) -> (B, 1 + L', D'), with q pooled by `stride` and k and v by `reach`; D' = dim.

    grid: what relative positions are made for; None: none of them, and no q added to the output (version 1).
    """

    def __init__(self, width: int, dim: int, heads: int, stride: int, reach: int, grid: Grid | None):
        super().__init__()
        self.heads, self.stride, self.reach, self.relative = heads, stride, reach, grid is not None
        head = dim // heads
        self.qkv, self.proj = nn.Linear(width, 3 * dim), nn.Linear(dim, dim)
        self.pool_q = Pool(head, stride) if stride > 1 or grid else None
        self.pool_k, self.pool_v = Pool(head, reach), Pool(head, reach)
        if grid:
            finer = min(
                stride, reach
            )  # the grid of q or of k, whichever has more places; rounded down as the authors do
            for axis, n in zip(AXES, (grid[0], grid[1] // finer, grid[2] // finer), strict=True):
                setattr(self, f"rel_{axis}", learned(2 * max(n, 1) - 1, head))

    def forward(self, x: Tensor, grid: Grid, only: int | None = None) -> Tensor:
        """only: 1 where just the class token is asked for, else None. Not where q is pooled: weights would lie idle,
        which training on several devices does not bear."""
        q, k, v = queries(x, self.qkv, self.heads, only)  # (B, 1 + L, H, d)
        k, v = self.pool_k(k, grid), self.pool_v(v, grid)
        if self.pool_q:
            q = self.pool_q(q, grid)
        if not self.relative:
            return self.proj(attend(q, k, v).flatten(2))
        y = self.attend_near(q, k, v, strided(grid, self.stride), strided(grid, self.reach))
        return self.proj(torch.cat([y[:, :1], y[:, 1:] + q[:, 1:]], 1).flatten(2))

    def attend_near(self, q: Tensor, k: Tensor, v: Tensor, grid: Grid, seen: Grid) -> Tensor:
        """Attention with relative positions; none for the class token, as query or as key."""
        dim, extra = q.shape[-1], sum(seen)
        extra += -(dim + extra) % 8  # what fast kernels take
        near = pad(one_hot(seen, k), (0, extra - sum(seen), 1, 0))  # (1 + L', E)
        k = torch.cat([k, near[None, :, None].expand(*k.shape[:3], -1)], -1)
        v = pad(v, (0, extra))
        places = q[:, 1:].unflatten(1, grid)  # (B, T, h, w, H, d)
        tables = [
            distances(getattr(self, f"rel_{a}"), m, n) * dim**0.5 for a, m, n in zip(AXES, grid, seen, strict=True)
        ]
        rules = ("bthwnc,tkc->bthwnk", "bthwnc,hkc->bthwnk", "bthwnc,wkc->bthwnk")
        sums = [torch.einsum(rule, places, table) for rule, table in zip(rules, tables, strict=True)]
        far = torch.cat(sums, -1).flatten(1, 3)  # (B, L, H, T + h + w)
        q = torch.cat([q, pad(far, (0, extra - sum(seen), 0, 0, 1, 0))], -1)
        q, k, v = (x.transpose(1, 2) for x in (q, k, v))
        return scaled_dot_product_attention(q, k, v, scale=dim**-0.5).transpose(1, 2)[..., :dim]


class PooledBlock(nn.Module):
    """Attention, then the MLP. The width changes in the attention (early) or in the MLP; the skip is then a linear map
    of what was normed. grid: see PooledAttention."""

    def __init__(
        self, width: int, out: int, early: bool, heads: int, stride: int, reach: int, grid: Grid | None, drop: float
    ):
        super().__init__()
        self.early, self.stride = early, stride
        dim = out if early else width
        self.norm1 = nn.LayerNorm(width, EPS)
        self.attn = PooledAttention(width, dim, heads, stride, reach, grid)
        self.norm2, self.mlp = nn.LayerNorm(dim, EPS), Mlp(dim, 4 * dim)
        self.mlp.fc2 = nn.Linear(4 * dim, out)
        self.proj = nn.Linear(width, out) if out != width else None
        self.drop = DropPath(drop)

    def forward(self, x: Tensor, grid: Grid, only: int | None = None) -> Tensor:
        y = self.norm1(x)
        if self.proj and self.early:
            x = self.proj(y)
        x = self.skip(x, grid)[:, :only] + self.drop(self.attn(y, grid, only))
        y = self.norm2(x)
        if self.proj and not self.early:
            x = self.proj(y)
        return x + self.drop(self.mlp(y))

    def skip(self, x: Tensor, grid: Grid) -> Tensor:
        if self.stride == 1:
            return x
        s = self.stride
        places = max_pool3d(x[:, 1:].unflatten(1, grid).movedim(-1, 1), (1, s + 1, s + 1), (1, s, s), (0, 1, 1))
        return torch.cat([x[:, :1], places.flatten(2).transpose(1, 2)], 1)


class MViT(nn.Module):
    """The encoder of `mvit`. Version 1 has positions of places, frames and the class token; version 2 relative ones."""

    def __init__(self, channels: int, frames: int, image: int, version: int, size: str, drop_path: float):
        super().__init__()
        if version not in STAGES:
            raise unknown("version", str(version), map(str, STAGES))
        if size not in STAGES[version]:
            raise unknown(f"size of version {version}", size, STAGES[version])
        width, heads, blocks = STAGES[version][size]
        stage = [s for s, count in enumerate(blocks) for _ in range(count)]
        self.strides = [1 + (s not in stage[:i] and i > 0) for i, s in enumerate(stage)]
        self.patch = nn.Conv3d(channels, width, (3, 7, 7), (2, 4, 4), (1, 3, 3))
        self.built = grid = self.grid(torch.empty(1, channels, frames, image, image, device="meta"))
        self.cls = learned(1, 1, width)
        if version == 1:
            self.pos, self.pos_time = learned(1, grid[1] * grid[2], width), learned(1, grid[0], width)
            self.pos_cls: Tensor | None = learned(1, 1, width)
        else:
            self.pos_cls = None
        self.blocks = nn.ModuleList()
        early = version == 2 and size != "large"  # the authors' largest has its width change as version 1
        for i, (s, drop) in enumerate(zip(stage, depths(drop_path, len(stage)), strict=True)):
            last, after = stage[max(i - 1, 0)], stage[min(i + 1, len(stage) - 1)]
            widths = [width * 2**n for n in ((last, s) if early else (s, after))]
            stride, reach = self.strides[i], 2 ** (len(blocks) - 1 - s)
            near = grid if version == 2 else None
            self.blocks.append(PooledBlock(widths[0], widths[1], early, heads * 2**s, stride, reach, near, drop))
            grid = grid[0], grid[1] // stride, grid[2] // stride
        self.dim = width * 2 ** stage[-1]
        self.norm = nn.LayerNorm(self.dim, EPS)
        self.apply(first_weights)

    def grid(self, x: Tensor) -> Grid:
        """(T, h, w): the tokens of x along time, height and width, ahead of the first block."""
        t, h, w = clip(x).shape[2:]
        return (t - 1) // 2 + 1, (h - 1) // 4 + 1, (w - 1) // 4 + 1

    def encode(self, x: Tensor, only: int | None = None) -> Tensor:
        """(B, C, [F,] H, W) -> (B, 1 + L, D) of the last grid, or the `only` first of them."""
        grid = self.grid(x)
        x = self.patch(clip(x)).flatten(2).transpose(1, 2)  # (B, L, D)
        first: Tensor = self.cls
        if self.pos_cls is not None:
            pos = resized(self.pos[0], (1, *self.built[1:]), (1, *grid[1:]))
            time = resized(self.pos_time[0], (self.built[0], 1, 1), (grid[0], 1, 1))
            x, first = x + (time[:, None] + pos).flatten(0, 1), first + self.pos_cls
        x = torch.cat([first.expand(x.shape[0], -1, -1).to(x.dtype), x], 1)
        for block, stride in zip(self.blocks, self.strides, strict=True):
            x = block(x, grid, only if block is self.blocks[-1] else None)
            grid = strided(grid, stride)
        return self.norm(x)

    def tokens(self, x: Tensor) -> Tensor:
        """(B, C, [F,] H, W) -> (B, L, D): of the last, coarsest grid, frame by frame; the class token left out."""
        return self.encode(x)[:, 1:]

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, [F,] H, W) -> (B, D): the class token."""
        return self.encode(x, 1 if self.pos_cls is not None else None)[:, 0]


def mvit(
    channels: int = 3,
    frames: int = 16,
    image: int = 224,
    version: int = 2,
    size: str = "small",
    drop_path: float = 0.0,
    weights: str | None = None,
) -> MViT:
    """MViT for clips of `frames` frames of `image` pixels a side; of others its positions are resized.

    size: of version 1 "test" and "base", of version 2 "test", "tiny", "small", "base", "large".
    "test" is for small clips on a CPU: 8 frames of 32 pixels.
    weights: a file of published ones to begin with, of torchvision or SlowFast.
    Raises UserError on another version or size.
    """
    return with_weights(MViT(channels, frames, image, version, size, drop_path), weights)
