"""Contrastive objectives: pure functions of embeddings.

The loss of one positive with similarity p against negatives n is, in every form here,

    -log( exp(p/t) / (exp(p/t) + sum_n exp(n/t)) )  =  softplus( logsumexp_n(n/t) - p/t )

so a positive stands alone against its negatives and is never one of them. Logits are float32 (float64 for
float64 inputs) also under autocast: stored in bfloat16 they would be wrong by up to .025 at t = .07.

van den Oord et al. 2018, arXiv:1807.03748.  Chen et al. 2020, arXiv:2002.05709.  He et al. 2020, arXiv:1911.05722.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import softplus

from ..dist import gather_grad, rank
from ..errors import UserError


def info_nce(q: Tensor, k: Tensor, negatives: Tensor | None, temperature: float) -> Tensor:
    """InfoNCE of queries with one key each (He et al. 2020, equation 1). Returns the mean over this rank's rows.

    q, k:      (B, D) unit vectors, row i of one belonging to row i of the other.
    negatives: (K, D) unit vectors, shared by all queries; None: the other keys of the batch, of all ranks.
    Raises ValueError on shapes that do not fit or a temperature that is not positive.
    """
    _check(temperature)
    if q.shape != k.shape or q.ndim != 2:
        raise ValueError(f"q and k must both be (B, D), got {tuple(q.shape)} and {tuple(k.shape)}")
    with torch.autocast(q.device.type, enabled=False):
        q, k = _wide(q), _wide(k)
        positive = (q * k).sum(1) / temperature  # (B,)
        if negatives is None:
            logits = q @ gather_grad(k).T / temperature  # (B, W*B)
            own = torch.arange(len(q), device=q.device) + rank() * len(q)
            logits = logits.masked_fill(own[:, None] == torch.arange(logits.shape[1], device=q.device), -torch.inf)
        else:
            logits = q @ _wide(negatives).T / temperature  # (B, K)
        return _against(logits.logsumexp(1), positive).mean()


def nt_xent(views: Sequence[Tensor], temperature: float) -> Tensor:
    """NT-Xent over any number of views (Chen et al. 2020, equation 1). Returns the mean over this rank's rows.

    views: V >= 2 tensors (B, D) of unit vectors, row i of each showing the same item.
    The loss is the mean over all ordered pairs of views of one item; the negatives of a pair are all views of all
    other items of all ranks. For V = 2 this is SimCLR's loss: 2N - 2 negatives for each of 2N rows.
    Raises ValueError on fewer than two views, differing shapes or a temperature that is not positive.
    """
    _check(temperature)
    if len(views) < 2 or any(v.shape != views[0].shape for v in views):
        raise ValueError(f"nt_xent needs two or more views of one shape (B, D), got {[tuple(v.shape) for v in views]}")
    with torch.autocast(views[0].device.type, enabled=False):
        z = torch.stack([_wide(v) for v in views], 1)  # (B, V, D)
        everyone = gather_grad(z)  # (W*B, V, D)
        b, v, _ = z.shape
        logits = z.flatten(0, 1) @ everyone.flatten(0, 1).T / temperature  # (B*V, W*B*V)
        item = torch.arange(len(everyone), device=z.device).repeat_interleave(v)  # (W*B*V,)
        own = item[rank() * b * v :][: b * v]
        negative = logits.masked_fill(own[:, None] == item, -torch.inf).logsumexp(1).view(b, v, 1)
        positive = z @ z.mT / temperature  # (B, V, V)
        losses = _against(negative, positive)
        apart = 1 - torch.eye(v, device=z.device, dtype=losses.dtype)
        return (losses * apart).sum() / (b * v * (v - 1))


def _against(negatives: Tensor, positive: Tensor) -> Tensor:
    """-log(exp(p) / (exp(p) + exp(n))) from the log-sum-exp n of the negatives; keeps tiny losses exact."""
    return softplus(negatives - positive, threshold=50)  # torch's own threshold of 20 rounds at 1e-9


def _wide(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _check(temperature: float) -> None:
    if not temperature > 0:
        raise UserError(f"temperature must be positive, got {temperature}")
