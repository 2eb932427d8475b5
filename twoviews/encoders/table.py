"""A table of vectors: the encoder of what has no inside, a node or a word."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..errors import UserError


class Table(nn.Module):
    """One vector a row. Begins as word2vec does: uniform in +-1/2D (Mikolov et al. 2013, arXiv:1310.4546, its code)."""

    def __init__(self, rows: int, dim: int):
        super().__init__()
        if dim < 1 or rows < 1:
            raise UserError(f"a table needs at least one row and one column, got {rows} x {dim}")
        self.dim = dim
        self.weight = nn.Parameter(torch.empty(rows, dim).uniform_(-0.5 / dim, 0.5 / dim))

    def forward(self, x: Tensor) -> Tensor:
        """(B,) int64 -> (B, D)."""
        return self.weight[x]

    def tokens(self, x: Tensor) -> Tensor:
        """(B, N) int64 -> (B, N, D)."""
        return self.weight[x]


def table(rows: int = 1, dim: int = 128) -> Table:
    """A vector for each node or word; `rows` comes from the data."""
    return Table(rows, dim)
