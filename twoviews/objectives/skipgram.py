"""What skip-gram minimises, twice: as losses for autograd, and as the update in closed form that GPUs apply.

    SGNS      -log s(x.y) - k E_n log s(-x.n)                     Mikolov et al. 2013, arXiv:1310.4546
    NCE       the same of  x.y + b_c - log(k Pn(c))               Gutmann and Hyvarinen 2012, JMLR 13
    InfoNCE   -x.y + log(exp x.y + sum_n exp x.n)                 van den Oord et al. 2018, arXiv:1807.03748

The expectation over Pn is the mean over the negatives there are. One that equals the context is kept: it is what the
expectation says, and what makes x.y = PMI - log k the solution (Levy and Goldberg 2014).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import softplus

LOSSES = ("sgns", "nce", "info_nce")


def logistic(positive: Tensor, negative: Tensor, negatives: int) -> Tensor:
    """The mean over P pairs of SGNS, or of NCE where the scores are corrected. (P,), (P, K) -> scalar."""
    return (softplus(-positive) + negatives * softplus(negative).mean(1)).mean()


def softmax(positive: Tensor, negative: Tensor) -> Tensor:
    """InfoNCE, the mean over P pairs. (P,), (P, K) -> scalar."""
    return (torch.cat([positive[:, None], negative], 1).logsumexp(1) - positive).mean()


class Found(NamedTuple):
    """What is to be added to the rows of a batch of chunks, in their shapes; loss: its sum over `pairs` pairs."""

    dx: Tensor
    dy: Tensor
    dn: Tensor
    dyb: Tensor
    dnb: Tensor
    loss: Tensor
    pairs: Tensor


def update(
    x: Tensor, y: Tensor, n: Tensor, yb: Tensor, nb: Tensor, pair: Tensor, *, loss: str, negatives: int, lr: float
) -> Found:
    """-lr times the gradient of the sum over all pairs of B chunks, as skipgramchunk.gradients gives it for one.

    x:    (B, L, D) centres.  y: (B, M, D) what they see.  n: (B, G, K, D) negatives of each group.
    yb:   (B, M), nb: (B, G, K), what is added to their scores.
    pair: (B, L, M, G) of x's type, 1 where y_m is a context of x_l and of that group.
    """
    p = x @ y.mT + yb[:, None]  # (B, L, M)
    s = torch.einsum("bld,bgkd->blgk", x, n) + nb[:, None]  # (B, L, G, K)
    many = pair.sum(2)  # (B, L, G)
    real = pair.sum(3)  # (B, L, M)
    if loss == "info_nce":
        others = s.logsumexp(3)  # (B, L, G)
        own = (pair @ others[..., None]).squeeze(3)  # (B, L, M): that of the context's group
        whole = torch.logaddexp(p, own)
        value = (real * (whole - p)).sum()
        p_grad = real * ((p - whole).exp() - 1)
        back = torch.einsum("blm,blmg->blg", (own - whole).exp(), pair)  # each pair's share of the negatives
        s_grad = (s - others[..., None]).exp() * back[..., None]
    else:
        weight = many[..., None] * (negatives / n.shape[2])
        value = (real * softplus(-p)).sum() + (weight * softplus(s)).sum()
        p_grad = -real * torch.sigmoid(-p)
        s_grad = weight * torch.sigmoid(s)
    p_grad, s_grad = -lr * p_grad, -lr * s_grad
    return Found(
        dx=p_grad @ y + torch.einsum("blgk,bgkd->bld", s_grad, n),
        dy=p_grad.mT @ x,
        dn=torch.einsum("blgk,bld->bgkd", s_grad, x),
        dyb=p_grad.sum(1),
        dnb=s_grad.sum(1),
        loss=value,
        pairs=real.sum(),
    )
