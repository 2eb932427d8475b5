"""SimCLR: two views of an image attract, views of other images in the batch repel.

    z_v = head(encoder(view v)) / |.|
    L = mean over ordered pairs (i, j) of views of one image of
        -log exp(z_i.z_j/t) / (exp(z_i.z_j/t) + sum_n exp(z_i.z_n/t)),  n over all views of the other images

Chen et al. 2020, arXiv:2002.05709 (two-layer head 2048-128, t = 0.1 on ImageNet, 0.5 on CIFAR-10).
"""

from __future__ import annotations

from torch import Tensor

from ..heads import encode, mlp, unit
from ..objectives.contrast import nt_xent
from ..types import Batch, Encoder, Method, Out


class SimCLR(Method):
    def __init__(self, encoder: Encoder, dim: int = 128, hidden: int = 2048, temperature: float = 0.1):
        super().__init__()
        self.encoder = encoder
        self.head = mlp(encoder.dim, hidden, dim, batchnorm=True)
        self.temperature = temperature

    def project(self, h: Tensor) -> Tensor:
        return unit(self.head(h))

    def forward(self, batch: Batch) -> Out:
        views = self.project(encode(self.encoder, batch.views)).chunk(len(batch.views))  # V of (B, D)
        return Out(nt_xent(views, self.temperature), z=views[0])
