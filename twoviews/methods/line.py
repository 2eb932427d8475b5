"""LINE: nodes with an edge are alike (first order), and so are nodes whose neighbours are alike (second order).

    first    - log s(x_u . x_v) - k E_n log s(-x_u . x_n)       one table for both ends of an edge
    second   - log s(x_u . y_v) - k E_n log s(-x_u . y_n)       a table for nodes, one for them as neighbours

Tang et al. 2015, arXiv:1503.03578. Edges are drawn by weight (views=edges), negatives by degree^0.75.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.functional import normalize

from ..errors import UserError
from .word2vec import Part, SkipGram


class LINE(SkipGram):
    """order: 1, 2, or "both": half of the columns each, normalised and side by side, as the paper joins them."""

    def __init__(
        self, encoder: nn.Module, order: int | str = "both", negatives: int = 5, shared: int = 32, power: float = 0.75
    ):
        super().__init__(encoder, window=1, shrink=False, negatives=negatives, shared=shared, power=power)
        if order not in (1, 2, "both"):
            raise UserError(f"method.order must be 1, 2 or both, got {order!r}")
        rows, dim = self.encoder.weight.shape
        if order == "both" and dim % 2:
            raise UserError(f"method.order=both gives each order half of the columns, and encoder.dim={dim} is odd")
        self.order = order
        if order == 1:
            self.contexts = None
        if order == "both":
            self.contexts = nn.Parameter(torch.zeros(rows, dim // 2))

    def parts(self) -> list[Part]:
        nodes, neighbours = self.encoder.weight, self.contexts
        half = nodes.shape[1] // (2 if self.order == "both" else 1)
        first = Part(nodes, nodes, 0, 0, half)
        if neighbours is None:
            return [first]
        second = Part(nodes, neighbours, nodes.shape[1] - half, 0, half)
        return [second] if self.order == 2 else [first, second]

    @torch.no_grad()
    def finish(self) -> None:
        """Normalise the halves, in place."""
        if self.order == "both":
            for half in self.encoder.weight.chunk(2, dim=1):
                half.copy_(normalize(half, dim=1))
