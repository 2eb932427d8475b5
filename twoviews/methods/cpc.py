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

from typing import Any

from torch import Tensor

from ..errors import UserError, unknown
from ..horizons import HEADS
from ..objectives.predictive import ahead, check
from ..types import Batch, Method, Out


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
                "use encoder=wave for recordings, patch_net for photos, frame_net for videos, sentence_net for texts"
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


def _mean(x: Tensor, seen: Tensor) -> Tensor:
    """(B, R, W, D) -> (B, D): the mean over what is seen."""
    x, seen = x.detach(), seen[..., None]
    return (x * seen).sum((1, 2)) / seen.sum((1, 2)).clamp(min=1)
