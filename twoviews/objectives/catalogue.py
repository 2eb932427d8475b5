"""Softmax over a catalogue of items, exact or sampled, without ever holding all logits of a large one.

    full      cross-entropy over all V items
    chunked   the same numbers, a tile of logits at a time (softmax.py)
    sampled   cross-entropy over the item and K others: every row of a step meets the same K, so that they are a
              product with a small matrix, and not M x K vectors gathered
    gbce      binary cross-entropy of the item and the same K others, with the item's probability to the power beta,
              which undoes the overconfidence of few negatives (Petrov and Macdonald 2023, arXiv:2308.07192)
    auto      full below CELLS logits; chunked above; sampled where the catalogue has more than MANY items

The others are drawn uniformly, once for all ranks: a row's loss does not depend on which rank has it. Where a row's own
item is drawn it does not count. With `logq` each drawn item stands for V / K (Bengio and Senecal 2008): the sum then
estimates that of all items.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, embedding, linear, softplus

from ..dist import agreed
from ..errors import UserError, unknown
from .softmax import table_cross_entropy

LOSSES = ("auto", "full", "chunked", "sampled", "gbce")
CELLS = {"cpu": 2**22, "cuda": 2**27}  # logits: up to here they are held, which saves a tenth of the time at most
MANY = {"cpu": 2**15, "cuda": 2**20}  # items of which a softmax takes several times as long as the encoder
CALIBRATION = 0.75  # gBCE's t, as in gSASRec


class Catalogue(NamedTuple):
    """vectors: (first + V, D), the whole table, of which item 0 is row `first`. bias: (first + V,) or None."""

    vectors: Tensor
    bias: Tensor | None
    first: int


def catalogue_loss(
    z: Tensor,
    items: Tensor,
    catalogue: Catalogue,
    loss: str = "auto",
    negatives: int = 1024,
    *,
    logq: bool = False,
    specials: bool = False,
) -> Tensor:
    """-log P(item) of each row, or what stands for it: (M,) float32 at least.

    z: (M, D).  items: (M,) int64 from 0 on.  loss: one of LOSSES.
    negatives: K of sampled and gbce; from V on sampled is exact.  logq: correct sampled for the draw.
    specials:  the softmax of full and chunked runs over the rows before item 0, too.
    Raises UserError on another loss, or on fewer than one negative.
    """
    check_loss(loss, negatives)
    e, c, first = catalogue
    right, size = items + first, len(e) - first
    if loss == "auto":
        loss = chosen(len(z), size, z.device.type)
    if loss == "gbce":
        return gbce(z, right, catalogue, negatives)
    if loss == "sampled" and negatives < size:
        return sampled(z, right, catalogue, negatives, logq)
    begin = 0 if specials else first
    if loss == "full":
        logits = linear(z, e[begin:], None if c is None else c[begin:])
        return cross_entropy(logits.to(_wide(z)), right - begin, reduction="none")
    return table_cross_entropy(z, e, c, right, begin)


def check_loss(loss: str, negatives: int) -> None:
    """Raises UserError on another loss, or on fewer than one negative."""
    if loss not in LOSSES:
        raise unknown("loss", loss, LOSSES)
    if negatives < 1:
        raise UserError(f"method.negatives must be 1 or more, got {negatives}")


def chosen(rows: int, size: int, device: str) -> str:
    """What `auto` is. A catalogue is sampled or not whatever the batch, and all ranks choose alike."""
    if size > MANY.get(device, MANY["cuda"]):
        return "sampled"
    return "full" if rows * size <= CELLS.get(device, CELLS["cuda"]) else "chunked"


def sampled(z: Tensor, right: Tensor, catalogue: Catalogue, negatives: int, logq: bool = False) -> Tensor:
    """Softmax over a row's own item and the shared ones. right: (M,) rows of the table."""
    own, others, hit = _scores(z, right, catalogue, negatives)
    if logq:
        others = others + math.log((len(catalogue.vectors) - catalogue.first) / negatives)
    others = others.masked_fill(hit, -torch.inf)
    return torch.cat([own[:, None], others], 1).logsumexp(1) - own


def gbce(z: Tensor, right: Tensor, catalogue: Catalogue, negatives: int, calibration: float = CALIBRATION) -> Tensor:
    """(-beta log s(own) - sum over others of log(1 - s(other))) / (K + 1), s the sigmoid.

    With a = K / (V - 1), the share of items that are drawn, and calibration t: beta = a (t (1 - 1 / a) + 1 / a). So
    t = 0 is plain binary cross-entropy, and t = 1 is calibrated.
    """
    own, others, hit = _scores(z, right, catalogue, negatives)
    share = min(1.0, negatives / max(1, len(catalogue.vectors) - catalogue.first - 1))
    beta = share * (calibration * (1 - 1 / share) + 1 / share)
    wrong = softplus(others).masked_fill(hit, 0.0).sum(1)
    return (beta * softplus(-own) + wrong) / (negatives + 1)


def _scores(z: Tensor, right: Tensor, catalogue: Catalogue, negatives: int) -> tuple[Tensor, Tensor, Tensor]:
    """Scores of the rows' own items (M,), of K items drawn for all of them (M, K), and where the two are the same."""
    e, c, first = catalogue
    drawn = agreed(torch.randint(first, len(e), (negatives,), device=z.device))
    both = torch.cat([right, drawn])
    vectors = embedding(both, e)  # in one, for its gradient is as large as the table
    biases = None if c is None else c[both]
    own = torch.einsum("md,md->m", z, vectors[: len(z)]).to(_wide(z))
    others = (z @ vectors[len(z) :].T).to(_wide(z))
    if biases is not None:
        own, others = own + biases[: len(z)], others + biases[len(z) :]
    return own, others, drawn == right[:, None]


def _wide(z: Tensor) -> torch.dtype:
    return torch.promote_types(z.dtype, torch.float32)
