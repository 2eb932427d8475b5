"""Instance discrimination (InstDisc): every item is a class of its own, and a memory bank holds the classes' vectors.

    z_i = head(encoder(view of i)) / |.|
    L = -log exp(z_i.v_i/t) / (exp(z_i.v_i/t) + sum_n exp(z_i.v_n/t)),  n over K other items drawn from the bank
    v_i <- normalize(m v_i + (1 - m) z_i)                               after backward

Wu et al. 2018, arXiv:1805.01978 (K = 4096, t = 0.07, m = 0.5, 128 dimensions, a linear head).

The paper estimates the softmax over all N items by noise-contrastive estimation, with a constant Z that its code takes
from the first batch and never again. Here the positive and K drawn items are the classes (InfoNCE): there is no Z, and
no item is its own negative. `negatives=0` is the paper's equation 2, the softmax over all N items: exact, at the price
of B x N logits, so for some 100,000 items at most. Several views are each compared with the item's row, which follows
their mean; the paper has one.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from ..dist import agreed, counts, gather, share
from ..errors import UserError
from ..heads import encode, linear, unit
from ..negatives import Bank
from ..types import Batch, Contrast, Encoder, Method, Out


class InstDisc(Method):
    """`items` is N, the number of items of the data; `negatives` is K, drawn once a batch and shared by its rows."""

    def __init__(
        self,
        encoder: Encoder,
        items: int,
        dim: int = 128,
        negatives: int = 4096,
        temperature: float = 0.07,
        momentum: float = 0.5,
    ):
        super().__init__()
        if negatives < 0:
            raise UserError(f"InstDisc's negatives must be 0 (all items) or more, got {negatives}")
        if not temperature > 0:
            raise UserError(f"temperature must be positive, got {temperature}")
        self.encoder = encoder
        self.head = linear(encoder.dim, dim)
        self.bank = Bank(items, dim, momentum)
        self.negatives = negatives
        self.temperature = temperature

    def project(self, h: Tensor) -> Tensor:
        return unit(self.head(h))

    def forward(self, batch: Batch) -> Out:
        b, v = len(batch.ids), len(batch.views)
        h = encode(self.encoder, batch.views)  # (V*B, D)
        z, ids = self.project(h), batch.ids.repeat(v)
        with torch.autocast(z.device.type, enabled=False):
            logits, target = self._against_all(z, ids) if self.negatives == 0 else self._against_drawn(z, ids)
            loss = cross_entropy(logits / self.temperature, target) * share(counts(b))
        chance = math.log1p(self.negatives or len(self.bank.memory) - 1)
        seen = z.detach().view(v, b, -1).mean(0).double()  # (B, D)
        return Out(
            loss,
            z=z[:b],
            memory=torch.cat([batch.ids.double()[:, None], seen], 1),  # (B, 1 + D); float64 holds any id exactly
            h=h[:b],
            contrast=Contrast(self.bank.rows(batch.ids), None, self.temperature, chance),
        )

    def _against_all(self, z: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
        return z @ self.bank.memory.to(z.dtype).T, ids  # (V*B, N)

    def _against_drawn(self, z: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
        """The positive in column 0, then K items, the same on all ranks; a row's own is left out."""
        drawn = torch.randint(len(self.bank.memory), (self.negatives,)).to(z.device, non_blocking=True)
        drawn = agreed(drawn)  # (K,)
        positive = (z * self.bank.rows(ids)).sum(1, keepdim=True)
        negative = (z @ self.bank.rows(drawn).to(z.dtype).T).masked_fill(drawn == ids[:, None], -torch.inf)
        return torch.cat([positive, negative], 1), torch.zeros_like(ids)  # (V*B, 1 + K)

    def after_batch(self, out: Out) -> None:
        if out.memory is not None:
            everyone = gather(out.memory)  # after backward: autograd still needed the old rows
            self.bank.move(everyone[:, 0].long(), everyone[:, 1:])
