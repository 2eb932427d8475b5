"""Projection heads: from h, which users keep, to z, which the objective sees."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from .errors import UserError


def encode(encoder: nn.Module, views: Sequence[Tensor]) -> Tensor:
    """(V*B, D), view after view. Views of one size go through together, so that BatchNorm sees them as one batch."""
    shapes = dict.fromkeys(v.shape for v in views)
    h: dict[int, Tensor] = {}
    for shape in shapes:
        places = [i for i, v in enumerate(views) if v.shape == shape]
        together = encoder(torch.cat([views[i] for i in places]))
        h |= zip(places, together.chunk(len(places)), strict=True)
    return torch.cat([h[i] for i in range(len(views))])


def unit(x: Tensor) -> Tensor:
    """Rows of length 1, in float32 at least: in float16 the guard against a row of zeros is itself zero."""
    return normalize(x.to(torch.promote_types(x.dtype, torch.float32)), dim=1)


def linear(dim: int, out: int) -> nn.Module:
    """One linear layer, the head of MoCo v1."""
    _check(out)
    return nn.Linear(dim, out)


def mlp(dim: int, hidden: int, out: int, batchnorm: bool = False) -> nn.Sequential:
    """Linear, ReLU, linear. `batchnorm` adds one before the ReLU and one at the end, as SimCLR's released code does."""
    _check(hidden, out)
    if not batchnorm:
        return nn.Sequential(nn.Linear(dim, hidden), nn.ReLU(inplace=True), nn.Linear(hidden, out))
    return nn.Sequential(
        nn.Linear(dim, hidden, bias=False),
        nn.BatchNorm1d(hidden),
        nn.ReLU(inplace=True),
        nn.Linear(hidden, out, bias=False),
        nn.BatchNorm1d(out),
    )


def _check(*widths: int) -> None:
    if min(widths) < 1:
        raise UserError(f"a head's widths must be at least 1, got {list(widths)}")
