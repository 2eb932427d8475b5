"""Supervised training with labels: not a way to learn without them, but the yardstick beside the ways that do.

L = mean over views of cross entropy(linear(encoder(view)), label)
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from ..dist import total, world
from ..errors import UserError
from ..types import Batch, Encoder, Method, Out


class Supervised(Method):
    """`classes` is the number of labels; an item with label -1 does not count."""

    def __init__(self, encoder: Encoder, classes: int, smoothing: float = 0.0):
        super().__init__()
        self.encoder = encoder
        self.head = nn.Linear(encoder.dim, classes)
        self.smoothing = smoothing

    def project(self, h: Tensor) -> Tensor:
        return self.head(h)

    def forward(self, batch: Batch) -> Out:
        if batch.labels is None:
            raise UserError("the method 'supervised' needs labels and the data has none; choose another method")
        h = self.encoder(torch.cat(batch.views))  # (V*B, D)
        logits = self.project(h)  # (V*B, classes)
        labels = batch.labels.repeat(len(batch.views))
        wide = logits.to(torch.promote_types(logits.dtype, torch.float32))
        loss = cross_entropy(wide, labels, ignore_index=-1, label_smoothing=self.smoothing, reduction="sum")
        # The mean over the labelled rows of all ranks, of which DDP takes the mean over ranks.
        loss = loss * world() / total((labels >= 0).sum()).clamp(min=1)
        return Out(loss, z=logits[: len(batch.ids)], h=h[: len(batch.ids)])
