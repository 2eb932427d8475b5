"""word2vec's skip-gram: a word must find the words near it among words drawn at random.

    L = - log s(x_w . y_c) - k E_{n ~ Pn} log s(-x_w . y_n),    Pn(n) ~ count(n)^0.75

for each word w and each c at most `window` away; x is what users keep. The expectation is taken over `shared` words
that a chunk of the text draws together, so its value is that of k draws a pair.

Mikolov et al. 2013, arXiv:1301.3781, arXiv:1310.4546.  loss=nce learns log p(c|w) itself, with a bias for each word
(Gutmann and Hyvarinen 2012, JMLR 13; Mnih and Teh 2012, arXiv:1206.6426); loss=info_nce is one softmax over the
context and the shared negatives (van den Oord et al. 2018, arXiv:1807.03748).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ..errors import UserError, unknown
from ..objectives.skipgram import LOSSES, logistic, softmax
from ..types import Batch, Method, Out


class Part(NamedTuple):
    """Two tables that learn together: columns left .. left + width of `inputs`, and right .. of `contexts`."""

    inputs: nn.Parameter
    contexts: nn.Parameter
    left: int
    right: int
    width: int


class SkipGram(Method):
    """Two tables, trained by `skipgram.learn`; `forward` is the loss for whoever wants to read or check it.

    encoder:   a table, with `weight` (V, D).
    window:    how far a context may be; shrink: as far as is drawn from 1 .. window for each word.
    negatives: k, how much negatives weigh; shared: how many a chunk of 64 words draws, of each type where `typed`.
    power:     of the counts that negatives are drawn by.
    typed:     negatives are of the type of the context (metapath2vec++).
    """

    encoder: Any
    contexts: Any
    correction: Any  # log(k Pn(c)), (V,), once the counts are known

    def __init__(
        self,
        encoder: nn.Module,
        window: int = 5,
        shrink: bool = True,
        negatives: int = 5,
        shared: int = 32,
        loss: str = "sgns",
        power: float = 0.75,
        typed: bool = False,
    ):
        super().__init__()
        if not isinstance(getattr(encoder, "weight", None), Tensor):
            raise UserError(f"skip-gram learns a table of vectors, not {type(encoder).__name__}: use encoder=table")
        if loss not in LOSSES:
            raise unknown("loss", loss, LOSSES)
        for name, value in {"window": window, "negatives": negatives, "shared": shared}.items():
            if value < 1:
                raise UserError(f"method.{name} must be at least 1, got {value}")
        self.encoder, self.loss = encoder, loss
        self.window, self.shrink = window, shrink
        self.negatives, self.shared = negatives, shared
        self.power, self.typed = power, typed
        rows, dim = self.encoder.weight.shape
        self.contexts = nn.Parameter(torch.zeros(rows, dim))
        self.bias = nn.Parameter(torch.zeros(rows)) if loss == "nce" else None
        correction = torch.zeros(rows) if loss == "nce" else None
        self.register_buffer("correction", correction, persistent=False)

    def parts(self) -> list[Part]:
        return [Part(self.encoder.weight, self.contexts, 0, 0, self.encoder.weight.shape[1])]

    def forward(self, batch: Batch) -> Out:
        """views: centres (P,), their contexts (P,), and the negatives of each pair (P, K), all rows of the tables."""
        centres, contexts, negatives = batch.views
        loss = torch.zeros((), device=centres.device, dtype=self.encoder.weight.dtype)
        for part in self.parts():
            x = part.inputs[centres, part.left : part.left + part.width]  # (P, D)
            y = part.contexts[:, part.right : part.right + part.width]
            positive = (x * y[contexts]).sum(1)  # (P,)
            negative = (y[negatives] @ x[:, :, None]).squeeze(2)  # (P, K)
            if self.bias is not None:
                shift = self.bias - self.correction
                positive, negative = positive + shift[contexts], negative + shift[negatives]
            if self.loss == "info_nce":
                loss = loss + softmax(positive, negative)
            else:
                loss = loss + logistic(positive, negative, self.negatives)
        return Out(loss, z=self.encoder.weight[centres])

    def project(self, h: Tensor) -> Tensor:
        return h

    def finish(self) -> None:
        """What is to be done with the table once it is trained; doing it twice changes nothing."""
