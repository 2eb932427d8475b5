"""Projection heads: from h, which users keep, to z, which the objective sees."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize


def unit(x: Tensor) -> Tensor:
    """Rows of length 1, in float32 at least: in float16 the guard against a row of zeros is itself zero."""
    return normalize(x.to(torch.promote_types(x.dtype, torch.float32)), dim=1)


def linear(dim: int, out: int) -> nn.Module:
    """One linear layer, the head of MoCo v1."""
    return nn.Linear(dim, out)


def mlp(dim: int, hidden: int, out: int, batchnorm: bool = False) -> nn.Sequential:
    """Linear, ReLU, linear. `batchnorm` adds one before the ReLU and one at the end, as SimCLR's released code does."""
    if not batchnorm:
        return nn.Sequential(nn.Linear(dim, hidden), nn.ReLU(inplace=True), nn.Linear(hidden, out))
    return nn.Sequential(
        nn.Linear(dim, hidden, bias=False),
        nn.BatchNorm1d(hidden),
        nn.ReLU(inplace=True),
        nn.Linear(hidden, out, bias=False),
        nn.BatchNorm1d(out),
    )
