"""Contrastive objectives: pure functions of embeddings.

The loss of one positive with similarity p against negatives n is, in every form here,

    -log( exp(p/t) / (exp(p/t) + sum_n exp(n/t)) )  =  softplus( logsumexp_n(n/t) - p/t )

so a positive stands alone against its negatives and is never one of them. Logits are float32 (float64 for
float64 inputs) also under autocast: stored in bfloat16 they would be wrong by up to .025 at t = .07.

The plain forms here store all logits and are used where these are few; larger ones are never stored (streamed.py), with
equal results. Over several ranks, which may hold different numbers of rows, each returns its share: the mean of
these over the ranks, and DDP's mean of their gradients, is the loss of one process that holds all rows.

van den Oord et al. 2018, arXiv:1807.03748.  Chen et al. 2020, arXiv:2002.05709.  He et al. 2020, arXiv:1911.05722.
Radford et al. 2021, arXiv:2103.00020 (both directions).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import torch
from torch import Tensor
from torch.nn.functional import softplus

from ..dist import counts, gather_grad, rank
from ..errors import UserError
from . import streamed

FEW = 1 << 16  # logits; more of them are streamed: faster on a CPU from here on (one direction alone: from 1 << 20)


def info_nce(q: Tensor, k: Tensor, negatives: Tensor | None, temperature: float) -> Tensor:
    """InfoNCE of queries with one key each (He et al. 2020, equation 1). Returns this rank's share of the mean.

    q, k:      (B, D) unit vectors, row i of one belonging to row i of the other. B may differ between ranks.
    negatives: (K, D) unit vectors, shared by all queries; None: the other keys of the batch, of all ranks.
    Raises ValueError on shapes that do not fit or a temperature that is not positive.
    """
    q, k = _pairs(q, k, temperature)
    with torch.autocast(q.device.type, enabled=False):
        rows = counts(len(q))
        if negatives is None and _many(rows, sum(rows)):
            against, positive = streamed.towers(q, k, temperature)
            return _share(_loss(against, positive), rows)
        if negatives is None:
            logits = _without_own(q @ gather_grad(k).T / temperature, rows)  # (B, N)
            against = logits.logsumexp(1)
        elif _many([len(q)], len(negatives)):
            against = streamed.queue(q, _wide(negatives), temperature)
        else:
            against = (q @ _wide(negatives).T / temperature).logsumexp(1)  # of (B, K)
        return _share(_loss(against, (q * k).sum(1) / temperature), rows)


def symmetric_info_nce(q: Tensor, k: Tensor, temperature: float) -> Tensor:
    """The mean of both directions: each query among all keys and each key among all queries (Radford et al. 2021).

    q, k: as for `info_nce`. Returns this rank's share of the mean. Raises ValueError as `info_nce` does.
    """
    q, k = _pairs(q, k, temperature)
    with torch.autocast(q.device.type, enabled=False):
        rows = counts(len(q))
        if not _many(rows, sum(rows)):
            return (info_nce(q, k, None, temperature) + info_nce(k, q, None, temperature)) / 2
        *against, positive = streamed.towers(q, k, temperature, both=True)
        return _share(torch.stack([_loss(negatives, positive) for negatives in against]).mean(0), rows)


def nt_xent(views: Sequence[Tensor], temperature: float) -> Tensor:
    """NT-Xent over any number of views (Chen et al. 2020, equation 1). Returns this rank's share of the mean.

    views: V >= 2 tensors (B, D) of unit vectors, row i of each showing the same item. B may differ between ranks.
    The loss is the mean over all ordered pairs of views of one item; the negatives of a pair are all views of all
    other items of all ranks. For V = 2 this is SimCLR's loss: 2N - 2 negatives for each of 2N rows.
    Raises ValueError on fewer than two views, differing shapes or a temperature that is not positive.
    """
    _check(temperature)
    v = len(views)
    if v < 2 or any(x.shape != views[0].shape for x in views):
        raise ValueError(f"nt_xent needs two or more views of one shape (B, D), got {[tuple(x.shape) for x in views]}")
    with torch.autocast(views[0].device.type, enabled=False):
        z = [_wide(x) for x in views]
        rows = counts(len(z[0]))
        if _many(rows, sum(rows) * v * v):
            against, positive = streamed.views(z, temperature)  # (V, B), (V(V-1)/2, B)
        else:
            own = torch.stack(z)  # (V, B, D)
            everyone = gather_grad(own.transpose(0, 1)).transpose(0, 1)  # (V, N, D)
            logits = own[:, None] @ everyone.mT / temperature  # (V, V, B, N)
            against = _without_own(logits, rows).logsumexp((1, 3))
            positive = torch.stack([(a * b).sum(1) for a, b in combinations(z, 2)]) / temperature
        pairs = zip(combinations(range(v), 2), positive, strict=True)
        losses = torch.stack([_loss(against[a], p) + _loss(against[b], p) for (a, b), p in pairs])  # (V(V-1)/2, B)
        return _share(losses.mean(0) / 2, rows)


def _loss(negatives: Tensor, positive: Tensor) -> Tensor:
    """-log(exp(p) / (exp(p) + exp(n))) from the log-sum-exp n of the negatives; keeps tiny losses exact."""
    return softplus(negatives - positive, threshold=50)  # torch's own threshold of 20 rounds at 1e-9


def _without_own(logits: Tensor, rows: list[int]) -> Tensor:
    """(..., B, N): -inf where the column is the row's own item."""
    b, n = logits.shape[-2:]
    own = torch.arange(b, device=logits.device) + sum(rows[: rank()])
    return logits.masked_fill(own[:, None] == torch.arange(n, device=logits.device), -torch.inf)


def _share(losses: Tensor, rows: list[int]) -> Tensor:
    """The sum over this rank's rows over what a rank holds on average: also right where this one holds none."""
    return losses.sum() / (sum(rows) / len(rows))


def _many(rows: list[int], columns: int) -> bool:
    """Whether to stream the logits; all ranks must decide alike, for they exchange different things."""
    return max(rows) * columns > FEW


def _pairs(q: Tensor, k: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    _check(temperature)
    if q.shape != k.shape or q.ndim != 2:
        raise ValueError(f"q and k must both be (B, D), got {tuple(q.shape)} and {tuple(k.shape)}")
    return _wide(q), _wide(k)


def _wide(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _check(temperature: float) -> None:
    if not temperature > 0:
        raise UserError(f"temperature must be positive, got {temperature}")
