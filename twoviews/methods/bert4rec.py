"""BERT4Rec: fill in the blanks of a history, looking both ways.

    h    = encoder(history with blanks)                           at the blanks
    P(v) = softmax_v(GELU(h W + b) . E_v + c_v)                   E: the vectors by which items are read, c: a bias
    L    = mean over blanks of -log P(the item that stood there)

To ask what comes next, a blank is put behind the history.

Sun et al. 2019, arXiv:1904.06690, equations 7 and 8. Their code has a LayerNorm behind the GELU, which equation 7
leaves out, takes the mean over all blanks of a batch, and lets the softmax run over special tokens too (`specials`).
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from ..dist import total, world
from ..errors import UserError
from ..objectives.catalogue import Catalogue, catalogue_loss, check_loss
from ..types import FIRST, Batch, Blanks, Method, Out


class BERT4Rec(Method):
    """Needs an encoder of sequences that looks both ways.

    loss, negatives, specials, logq: see `catalogue_loss`.
    """

    encoder: Any

    def __init__(
        self,
        encoder: Any,
        loss: str = "auto",
        negatives: int = 1024,
        specials: bool = False,
        logq: bool = False,
    ):
        super().__init__()
        check_loss(loss, negatives)
        check(encoder, causal=False, method="bert4rec", mend="encoder=bert, or --recipe sasrec")
        self.encoder, dim = encoder, encoder.dim
        self.head = nn.Sequential(nn.Linear(dim, dim), nn.GELU(), nn.LayerNorm(dim, eps=1e-12))
        nn.init.trunc_normal_(self.head[0].weight, std=0.02, a=-0.04, b=0.04)  # type: ignore[arg-type]
        nn.init.zeros_(self.head[0].bias)  # type: ignore[arg-type]
        self.bias = nn.Parameter(encoder.items.weight.new_zeros(len(encoder.items.weight)))
        self.loss, self.negatives, self.specials, self.logq = loss, negatives, specials, logq

    def project(self, h: Tensor) -> Tensor:
        """(M, D) -> (M, D): what items are compared with."""
        return self.head(h)

    def catalogue(self) -> Catalogue:
        """The items as the objective compares them: vectors and biases, the first items after special tokens."""
        return Catalogue(self.encoder.items.weight, self.bias, FIRST)

    def forward(self, batch: Batch) -> Out:
        assert isinstance(batch, Blanks)
        return filled(self, batch)


def check(encoder: nn.Module, causal: bool, method: str, mend: str) -> None:
    """Raises UserError where the encoder does not read sequences, or looks the wrong way."""
    if getattr(encoder, "causal", None) is not causal:
        way = "from the past alone" if causal else "both ways"
        raise UserError(f"method={method} needs an encoder that reads histories {way}: use {mend}")


def filled(method: Any, batch: Blanks) -> Out:
    """The loss at the blanks alone: the softmax never sees the other places."""
    holed, whole = batch.views
    h = method.encoder.tokens(holed, batch.past).flatten(0, 1)[batch.places]  # (M, D)
    z = method.project(h)
    items = whole.flatten()[batch.places] - FIRST
    how = {"logq": method.logq, "specials": method.specials}
    losses = catalogue_loss(z, items, method.catalogue(), method.loss, method.negatives, **how)  # (M,)
    count = losses.new_full((), float(len(losses)))  # made where it is: a copy from the CPU would wait for the GPU
    mean = losses.sum() * (world() / total(count))  # over the blanks of all ranks, which hold different numbers
    return Out(mean, z=z, h=h)
