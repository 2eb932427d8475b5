"""SASRec: from the past alone, what comes next, asked at every place of a history.

    h    = causal encoder(history)
    P(v) = softmax_v(h . E_v)
    L    = mean over places of -log P(the item that follows)

Kang and McAuley 2018, arXiv:1808.09781, with the loss over the whole catalogue instead of one negative: Klenitskiy and
Vasilev 2023, arXiv:2309.07602.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from ..objectives.catalogue import Catalogue, check_loss
from ..types import FIRST, Batch, Blanks, Method, Out
from .bert4rec import check, filled


class SASRec(Method):
    """Needs a causal encoder of sequences and the views `following`. loss, negatives, logq: see `catalogue_loss`."""

    encoder: Any
    specials = False

    def __init__(self, encoder: nn.Module, loss: str = "auto", negatives: int = 1024, logq: bool = False):
        super().__init__()
        check_loss(loss, negatives)
        check(encoder, causal=True, method="sasrec", mend="--recipe sasrec")
        self.encoder, self.loss, self.negatives, self.logq = encoder, loss, negatives, logq

    def project(self, h: Tensor) -> Tensor:
        return h

    def catalogue(self) -> Catalogue:
        """The items as the objective compares them: vectors, the first after special tokens, and no biases."""
        return Catalogue(self.encoder.items.weight, None, FIRST)

    def forward(self, batch: Batch) -> Out:
        assert isinstance(batch, Blanks)
        return filled(self, batch)
