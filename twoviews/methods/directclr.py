"""DirectCLR: no head; the loss sees the first dimensions of h alone.

    z_v = encoder(view v)[:d0] / |.|
    L = mean over both directions (i, j) of
        -log exp(z_i.z_j/t) / (exp(z_i.z_j/t) + sum_n exp(z_i.z_n/t)),  n over view j of the other images

A head keeps the loss from pressing h into few dimensions. To show the loss only d0 of them does the same, without
weights. The others get no gradient from the loss itself: they learn because the encoder's last block adds its input
to its output, and what passes through them serves the first d0 inside that block (figure 10). Without such a block
they stay as they were.

Jing et al. 2021, section 6, arXiv:2110.09348 (d0 = 360 of 2048, t = 0.1). As in the authors' code, and unlike SimCLR,
each view goes through the encoder by itself and meets the B - 1 other images of the other view, not the 2B - 2 of both:
https://github.com/facebookresearch/directclr/blob/main/directclr/main.py
"""

from __future__ import annotations

import math

from torch import Tensor

from ..dist import world
from ..errors import UserError
from ..heads import unit
from ..objectives.contrast import symmetric_info_nce
from ..types import Batch, Contrast, Encoder, Method, Out

SHARE = 360 / 2048


class DirectCLR(Method):
    """`dim` is d0; None: the paper's share of the encoder's width, 360 of 2048 and 90 of 512."""

    def __init__(self, encoder: Encoder, dim: int | None = None, temperature: float = 0.1):
        super().__init__()
        usual = max(2, round(SHARE * encoder.dim))
        self.encoder = encoder
        self.dim = usual if dim is None else dim
        self.temperature = temperature
        if not 2 <= self.dim <= encoder.dim:  # one dimension of length 1 is a sign and has no gradient
            raise UserError(
                f"DirectCLR's dim must be from 2 to {encoder.dim}, the encoder's width, got {self.dim}: "
                f"leave it out for {usual}"
            )

    def project(self, h: Tensor) -> Tensor:
        return unit(h[:, : self.dim])

    def forward(self, batch: Batch) -> Out:
        h1, h2 = (self.encoder(x) for x in batch.compared("DirectCLR"))  # (B, D)
        z1, z2 = self.project(h1), self.project(h2)  # (B, d0)
        loss = symmetric_info_nce(z1, z2, self.temperature)
        chance = math.log(len(z1) * world())
        return Out(loss, z=z1, h=h1, contrast=Contrast(z2, None, self.temperature, chance))
