"""Transformers that read sequences of items: both ways (BERT) or from the past alone (causal).

Sun et al. 2019 (BERT4Rec), arXiv:1904.06690, section 3.3 to 3.5; Kang and McAuley 2018 (SASRec), arXiv:1808.09781.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, scaled_dot_product_attention

from ..errors import UserError
from ..types import FIRST, PAD


class Sequence(nn.Module):
    """(B, T) int64 tokens, padded with PAD at the right, to states. Token FIRST + i is item i of the catalogue.

    catalogue: V items.  width: D.  length: T at most.  heads: None makes them 32 wide, as in the paper.
    norm:      "post", LayerNorm after each sum as in BERT; "pre", before each part, and once at the end.
    positions: learned places, counted from the "start" or from the "end", or "none".
    causal:    a state sees its own and earlier tokens only.
    init:      how the item vectors begin: "normal", "svd" of what is met together, or from a table of the items, its
               path: of their texts, categories, numbers or vectors. Set before training.
    """

    def __init__(
        self,
        catalogue: int,
        width: int = 64,
        layers: int = 2,
        heads: int | None = None,
        length: int = 200,
        inner: int | None = None,
        dropout: float = 0.2,
        attention_dropout: float = 0.0,
        norm: str = "post",
        positions: str = "end",
        causal: bool = False,
        init: str = "svd",
    ):
        super().__init__()
        heads = max(1, width // 32) if heads is None else heads
        inner = 4 * width if inner is None else inner
        check(norm, positions, width=width, heads=heads, layers=layers, length=length, inner=inner)
        check_shares(dropout=dropout, attention_dropout=attention_dropout)
        self.dim, self.catalogue, self.length, self.causal, self.init = width, catalogue, length, causal, init
        self.counted_from = positions
        self.items = nn.Embedding(FIRST + catalogue, width)
        self.positions = nn.Embedding(length, width) if positions != "none" else None
        self.norm = nn.LayerNorm(width, eps=1e-12)  # of what goes in; with norm="pre" of what comes out
        self.before = norm == "pre"
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(
            Block(width, heads, inner, dropout, attention_dropout, self.before) for _ in range(layers)
        )
        self.apply(begin)

    def tokens(self, x: Tensor, past: bool = False) -> Tensor:
        """(B, T) -> (B, T, D). past: look at the past alone, also where the encoder reads both ways."""
        return self._states(x, past)[0]

    def attention(self, x: Tensor) -> Tensor:
        """(B, T) -> (L, B, heads, T, T): the weights by which each state looks at the others, without dropout."""
        return torch.stack(self._states(x, weights=True)[1])

    def forward(self, x: Tensor) -> Tensor:
        """(B, T) -> (B, D): the state of the last token."""
        return self.tokens(x)[torch.arange(x.shape[0], device=x.device), self.sizes(x) - 1]

    def sizes(self, x: Tensor) -> Tensor:
        return x.ne(PAD).sum(1).clamp(min=1)

    def _states(self, x: Tensor, past: bool = False, weights: bool = False) -> tuple[Tensor, list[Tensor]]:
        steps = x.shape[1]
        if steps > self.length:
            raise UserError(f"a history of {steps} tokens is longer than the encoder's length={self.length}")
        h = self.items(x)  # (B, T, D)
        if self.positions is not None:
            places = torch.arange(steps, device=x.device)
            if self.counted_from == "end":
                places = (self.sizes(x)[:, None] - 1 - places).clamp(min=0)
            h = h + self.positions(places)
        h = self.dropout(h if self.before else self.norm(h))
        past = past or self.causal
        seen = None if past else self._seen(x)  # padding comes after all that is past
        maps = []
        block: Any
        for block in self.blocks:
            if weights:
                maps.append(block.attention(h, seen, past))
            h = block(h, seen, past)
        return (self.norm(h) if self.before else h), maps

    def _seen(self, x: Tensor) -> Tensor | None:
        """(B, 1, 1, T) bool, what may be looked at; None where all may."""
        if x.device.type == "cpu" and not torch.compiler.is_compiling() and not bool((x == PAD).any()):
            return None
        return x.ne(PAD)[:, None, None, :]


class Block(nn.Module):
    """Attention and a feed-forward network, each added to what came in."""

    def __init__(self, width: int, heads: int, inner: int, dropout: float, attention_dropout: float, before: bool):
        super().__init__()
        self.heads, self.attention_dropout, self.before = heads, attention_dropout, before
        self.qkv, self.mix = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.grow, self.shrink = nn.Linear(width, inner), nn.Linear(inner, width)
        self.norm1, self.norm2 = nn.LayerNorm(width, eps=1e-12), nn.LayerNorm(width, eps=1e-12)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, seen: Tensor | None, causal: bool) -> Tensor:
        if self.before:
            x = x + self.dropout(self._attend(self.norm1(x), seen, causal))
            return x + self.dropout(self._feed(self.norm2(x)))
        x = self.norm1(x + self.dropout(self._attend(x, seen, causal)))
        return self.norm2(x + self.dropout(self._feed(x)))

    def _heads(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        b, t, d = x.shape
        q, k, v = self.qkv(x).view(b, t, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4)  # (B, heads, T, d)
        return q, k, v

    def _attend(self, x: Tensor, seen: Tensor | None, causal: bool) -> Tensor:
        q, k, v = self._heads(x)
        p = self.attention_dropout if self.training else 0.0
        out = scaled_dot_product_attention(q, k, v, attn_mask=seen, dropout_p=p, is_causal=causal)
        return self.mix(out.transpose(1, 2).flatten(2))

    def attention(self, x: Tensor, seen: Tensor | None, causal: bool) -> Tensor:
        """(B, heads, T, T): softmax(Q K^T / sqrt(d))."""
        q, k, _ = self._heads(self.norm1(x) if self.before else x)
        logits = q @ k.mT * q.shape[-1] ** -0.5
        if causal:
            logits = logits.masked_fill(torch.ones_like(logits[0, 0]).triu(1).bool(), -torch.inf)
        return (logits if seen is None else logits.masked_fill(~seen, -torch.inf)).softmax(-1)

    def _feed(self, x: Tensor) -> Tensor:
        return self.shrink(gelu(self.grow(x)))


def bert(
    catalogue: int,
    width: int = 64,
    layers: int = 2,
    heads: int | None = None,
    length: int = 200,
    inner: int | None = None,
    dropout: float = 0.2,
    attention_dropout: float = 0.0,
    norm: str = "post",
    positions: str = "end",
    init: str = "svd",
) -> Sequence:
    """Reads both ways: `Sequence` without `causal`."""
    more = (heads, length, inner, dropout, attention_dropout, norm, positions)
    return Sequence(catalogue, width, layers, *more, causal=False, init=init)


def causal(
    catalogue: int,
    width: int = 64,
    layers: int = 2,
    heads: int | None = None,
    length: int = 200,
    inner: int | None = None,
    dropout: float = 0.2,
    attention_dropout: float = 0.0,
    norm: str = "pre",
    positions: str = "end",
    init: str = "svd",
) -> Sequence:
    """Reads the past alone: `Sequence` with `causal`."""
    more = (heads, length, inner, dropout, attention_dropout, norm, positions)
    return Sequence(catalogue, width, layers, *more, causal=True, init=init)


def begin(module: nn.Module) -> None:
    """BERT's start: normal with deviation .02, cut at two deviations; biases 0."""
    if isinstance(module, (nn.Linear, nn.Embedding)):
        nn.init.trunc_normal_(module.weight, std=0.02, a=-0.04, b=0.04)
    if isinstance(module, nn.Linear):
        nn.init.zeros_(module.bias)


def check(norm: str, positions: str, **sizes: int) -> None:
    for name, size in sizes.items():
        if size < 1:
            raise UserError(f"{name} must be 1 or more, got {size}")
    width, heads = sizes["width"], sizes["heads"]
    if width % heads:
        raise UserError(f"width must divide by heads, got width={width} and heads={heads}")
    if norm not in ("post", "pre"):
        raise UserError(f"norm must be post or pre, got '{norm}'")
    if positions not in ("start", "end", "none"):
        raise UserError(f"positions must be start, end or none, got '{positions}'")


def check_shares(**shares: float) -> None:
    for name, share in shares.items():
        if not 0 <= share < 1:
            raise UserError(f"{name} must be from 0 to below 1, got {share:g}")
