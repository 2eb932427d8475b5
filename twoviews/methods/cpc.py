"""CPC: predict what comes next, as the one right answer among many.

    z_r   = g_enc(place r)                     a frame of sound, a row of patches, a sentence
    c_r   = g_ar(z_1 ... z_r)                  what has been seen until then
    p_k   = W_k c_r                            for each horizon k = first ... first + steps - 1
    s_kj  = p_k . z_j / sqrt(D)
    L     = mean over k of the mean over r of -log( exp s_k,r+k / sum over candidates j of exp s_kj )

All rows and all horizons of a batch are one product for p and few for the scores (objectives/predictive.py). Positives
are never among their own negatives. Pictures are read from the top: place (r, w) predicts (r + k, w).

van den Oord et al. 2018, arXiv:1807.03748: mixed negatives, 12 horizons of 10 ms. heads="transformer" is the modified
CPC of Riviere et al. 2020, arXiv:2002.02848, without their relative positions: contexts know where they are.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout, layer_norm, linear, relu, scaled_dot_product_attention

from ..errors import UserError, unknown
from ..objectives.predictive import ahead, check
from ..types import Batch, Method, Out

DROPOUT = 0.1


class CPC(Method):
    """Needs an encoder with `places(x) -> Places`, `width` (of z) and `context` (of c).

    steps: horizons, from `first` rows ahead on; those that a clip is too short for are left out.
    negatives, sampled, neighbours, group: see `ahead`.
    heads: what tells a horizon's prediction from c: "linear", W_k without bias; or "transformer", a causal layer before
           it, whose 8 heads and inner width of 8 C are those of the paper at C = 256.
    Logs loss_k, accuracy_k and bound_k by horizon. There is no `project`: h is compared with nothing.
    Raises UserError on settings that are not allowed, and where no row of a batch has one `first` rows ahead.
    """

    encoder: Any
    heads: Any

    def __init__(
        self,
        encoder: Any,
        steps: int = 12,
        first: int = 1,
        negatives: str = "all",
        sampled: int = 0,
        neighbours: int = 0,
        group: int = 8,
        heads: str = "linear",
    ):
        super().__init__()
        if not hasattr(encoder, "places"):
            name = type(encoder).__name__
            raise UserError(
                f"method=cpc needs an encoder that predicts what comes next, and {name} has no places(x): "
                "use encoder=wave for recordings, patch_net for photos, sentence_net for documents"
            )
        if heads not in HEADS:
            raise unknown("heads", heads, HEADS)
        if steps < 1:
            raise UserError(f"steps must be 1 or more, got {steps}")
        check(first, group, negatives, sampled, neighbours)
        self.encoder = encoder
        self.heads = HEADS[heads](encoder.context, encoder.width, steps)
        self.steps, self.first = steps, first
        self.negatives, self.sampled, self.neighbours, self.group = negatives, sampled, neighbours, group

    def forward(self, batch: Batch) -> Out:
        places = self.encoder.places(batch.views[0])
        z, c, seen = places.z, places.c, places.seen
        p, candidates = self.heads.sides(c, z)
        found = ahead(
            p,
            candidates,
            seen,
            first=self.first,
            group=self.group,
            negatives=self.negatives,
            sampled=self.sampled,
            neighbours=self.neighbours,
        )
        curves = {"loss": found.losses, "accuracy": found.accuracies, "bound": found.bounds}
        horizons = range(self.first, min(self.first + self.steps, z.shape[1]))
        logs = {f"{name}_{k}": x for name, values in curves.items() for k, x in zip(horizons, values, strict=False)}
        return Out(found.loss, z=_mean(z, seen), h=_mean(c, seen), logs=logs)


class Linear(nn.Module):
    """W_k for each horizon, all in one product: (..., C) -> (K, ..., D)."""

    def __init__(self, context: int, width: int, steps: int):
        super().__init__()
        self.all, self.shape = nn.Linear(context, steps * width, bias=False), (steps, width)

    def forward(self, c: Tensor) -> Tensor:
        return self.all(c).unflatten(-1, self.shape).movedim(-2, 0)

    def sides(self, c: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
        """What `ahead` multiplies: W_k c and z, or c and W_k^T z where C is less than D and the scores cost less so."""
        steps, width = self.shape
        context = c.shape[-1]
        if context >= width:
            return self(c), z
        back = self.all.weight.unflatten(0, self.shape).mT.reshape(-1, width)  # (K * C, D)
        scale = (context / width) ** 0.5  # the scores are of width D
        return c[None] * scale, linear(z, back).unflatten(-1, (steps, context)).movedim(-2, 0)


class Transformer(nn.Module):
    """For each horizon a causal transformer layer along the rows, and W_k: (B, R, W, C) -> (K, B, R, W, D).

    LayerNorm behind both sums. Each weight is one tensor over all horizons.
    """

    def __init__(self, context: int, width: int, steps: int):
        super().__init__()
        inner = 8 * context
        self.count = next(n for n in (8, 4, 2, 1) if context % n == 0)
        self.mix_in = _weight(steps, context, 3 * context)
        self.mix_out = _weight(steps, context, context)
        self.up, self.up_bias = _weight(steps, context, inner), nn.Parameter(torch.zeros(steps, 1, inner))
        self.down, self.down_bias = _weight(steps, inner, context), nn.Parameter(torch.zeros(steps, 1, context))
        self.norm = nn.Parameter(torch.ones(2, steps, 1, context))
        self.norm_bias = nn.Parameter(torch.zeros(2, steps, 1, context))
        self.out = _weight(steps, context, width)

    def forward(self, c: Tensor) -> Tensor:
        batch, rows, across, width = c.shape
        x = c.transpose(1, 2).reshape(1, -1, width).expand(len(self.out), -1, -1)  # (K, B * W * R, C)
        heads = (x @ self.mix_in).view(-1, rows, 3, self.count, width // self.count)
        q, k, v = heads.permute(2, 0, 3, 1, 4)  # (K * B * W, heads, R, C / heads)
        rate = DROPOUT if self.training else 0.0
        mixed = scaled_dot_product_attention(q, k, v, dropout_p=rate, is_causal=True)
        y = self._normed(x + mixed.transpose(1, 2).reshape(x.shape) @ self.mix_out, 0)
        inside = dropout(relu(torch.baddbmm(self.up_bias, y, self.up)), DROPOUT, self.training)
        y = self._normed(y + torch.baddbmm(self.down_bias, inside, self.down), 1) @ self.out
        return y.view(len(y), batch, across, rows, -1).transpose(2, 3)

    def sides(self, c: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
        return self(c), z

    def _normed(self, x: Tensor, place: int) -> Tensor:
        return layer_norm(x, x.shape[-1:]) * self.norm[place] + self.norm_bias[place]


HEADS = {"linear": Linear, "transformer": Transformer}


def _weight(steps: int, width: int, out: int) -> nn.Parameter:
    """(K, width, out), each as nn.Linear begins."""
    return nn.Parameter(torch.empty(steps, width, out).uniform_(-1, 1) / math.sqrt(width))


def _mean(x: Tensor, seen: Tensor) -> Tensor:
    """(B, R, W, D) -> (B, D): the mean over what is seen."""
    x, seen = x.detach(), seen[..., None]
    return (x * seen).sum((1, 2)) / seen.sum((1, 2)).clamp(min=1)
