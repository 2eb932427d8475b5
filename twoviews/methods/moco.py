"""MoCo v1 and v2: momentum keys and a queue of negatives.

    q = head(encoder(view 1))                 gradients flow here
    k = ema(head . encoder)(view 2)           and not here
    L = -log exp(q.k/t) / (exp(q.k/t) + sum_n exp(q.n/t)),  n over the queue

He et al. 2020, arXiv:1911.05722 (v1).  Chen et al. 2020, arXiv:2003.04297 (v2: MLP head, t = 0.2).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..dist import gather, shuffled, world
from ..ema import EMA
from ..heads import linear, mlp, unit
from ..negatives import Queue
from ..objectives.contrast import info_nce
from ..types import Batch, Contrast, Encoder, Method, Out


class MoCo(Method):
    """MoCo v2. `hidden=0` is v1's linear head; `symmetric` lets each view be query and key in turn.

    `queue=0` is the paper's first baseline, end-to-end (figure 2a): no queue and no slow weights, the batch's other
    keys are the negatives and gradients flow through both sides.
    """

    def __init__(
        self,
        encoder: Encoder,
        dim: int = 128,
        hidden: int = 2048,
        queue: int = 65536,
        temperature: float = 0.2,
        momentum: float = 0.999,
        symmetric: bool = False,
    ):
        super().__init__()
        self.encoder = encoder
        self.head = mlp(encoder.dim, hidden, dim) if hidden else linear(encoder.dim, dim)
        self.target = EMA(self.encoder, self.head, momentum=momentum) if queue else None
        self.queue = Queue(queue, dim) if queue else None
        self.temperature = temperature
        self.symmetric = symmetric

    def project(self, h: Tensor) -> Tensor:
        return unit(self.head(h))

    def query(self, x: Tensor) -> Tensor:
        return self.project(self.encoder(x))  # (B, D)

    def key(self, x: Tensor) -> Tensor:
        if self.target is None:
            return self.query(x)
        return unit(shuffled(self.target, x))  # (B, D)

    def forward(self, batch: Batch) -> Out:
        x1, x2 = batch.compared("MoCo")
        negatives = self.queue.keys if self.queue is not None else None
        h = self.encoder(x1)
        q, k = self.project(h), self.key(x2)
        loss, keys = info_nce(q, k, negatives, self.temperature), k
        if self.symmetric:
            q2, k2 = self.query(x2), self.key(x1)
            loss = (loss + info_nce(q2, k2, negatives, self.temperature)) / 2
            keys = torch.stack([k, k2], 1).flatten(0, 1)  # item by item: the same order on any number of ranks
        return Out(loss, z=q, memory=keys.detach(), h=h, contrast=self.contrast(k, negatives))

    def contrast(self, k: Tensor, negatives: Tensor | None) -> Contrast:
        """For diagnosis: what the loss compared the queries with."""
        count = len(k) * world() - 1 if negatives is None else len(negatives)
        age = None if self.queue is None else self.queue.age
        return Contrast(k, negatives, self.temperature, math.log1p(count), age)

    def after_batch(self, out: Out) -> None:
        if self.queue is not None and out.memory is not None:
            self.queue.push(gather(out.memory))  # after backward: autograd still needed the old queue

    def after_step(self) -> None:
        if self.target is not None:
            self.target.update(self.encoder, self.head)


def moco_v1(
    encoder: Encoder, dim: int = 128, queue: int = 65536, temperature: float = 0.07, momentum: float = 0.999
) -> MoCo:
    """MoCo v1: a linear head and a lower temperature."""
    return MoCo(encoder, dim, 0, queue, temperature, momentum)


def end_to_end(encoder: Encoder, dim: int = 128, hidden: int = 2048, temperature: float = 0.2) -> MoCo:
    """MoCo's first baseline (figure 2a): `MoCo` without queue and slow weights."""
    return MoCo(encoder, dim, hidden, 0, temperature)
