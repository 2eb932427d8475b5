"""What embeddings say about a run: pure functions, exact, without an N x N matrix held in memory.

    spectrum, effective_rank, participation_ratio    how many directions are in use (Jing et al., Garrido et al.)
    spread, alignment, uniformity                    how points lie on the sphere (Wang & Isola)
    matched, in_play, negatives_gap                  what the objective has to tell apart, and with what
    observe                                          all of them for one step of training

Jing et al. 2021, arXiv:2110.09348.  Wang & Isola 2020, arXiv:2005.10242.
RankMe: Garrido et al. 2023, arXiv:2210.02885.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import normalize

from .types import Contrast, Out

TILE = 2048  # rows of one tile of similarities
ROWS = 512  # of a batch that `observe` looks at
NEGATIVES = 4096  # of a queue that `observe` looks at


def spread(x: Tensor) -> Tensor:
    """(N, D) -> (D,): standard deviation of each dimension. Unit vectors spread evenly have 1 / sqrt(D) each."""
    return x.double().std(0, correction=0)


def spectrum(x: Tensor) -> Tensor:
    """(N, D) -> (min(N, D),): singular values of the centred x over sqrt(N), descending.

    Their squares are the eigenvalues of the covariance, which Jing et al. draw on a log scale: a block near zero is
    dimensional collapse. Computed in float64 from the smaller of the two Gram matrices.
    """
    x = x.double()
    return _singular(x - x.mean(0)) / math.sqrt(len(x))


def effective_rank(x: Tensor) -> Tensor:
    """(N, D) -> scalar from 1 to min(N, D): exp of the entropy of the singular values (RankMe, equation 1).

    x is not centred, as published: where all rows are equal the answer is 1. At most N, so use some times D rows.
    """
    s = _singular(x.double())
    p = s / s.sum().clamp_min(torch.finfo(s.dtype).tiny)
    return torch.special.entr(p).sum().exp()


def participation_ratio(x: Tensor) -> Tensor:
    """(N, D) -> scalar from 1 to min(N, D): (sum of variances)^2 / sum of squares, over principal directions."""
    variance = spectrum(x).square()
    return variance.sum().square() / variance.square().sum().clamp_min(torch.finfo(variance.dtype).tiny)


def alignment(x: Tensor, y: Tensor, power: float = 2.0) -> Tensor:
    """Mean of |x_i - y_i|^power over pairs, both (N, D) of unit vectors: 0 when views agree (Wang & Isola, eq. 2)."""
    return (x - y).norm(dim=1).pow(power).mean()


def uniformity(x: Tensor, t: float = 2.0, tile: int = TILE) -> Tensor:
    """log of the mean of exp(-t |x_i - x_j|^2) over pairs i < j of unit vectors (N, D) (Wang & Isola, equation 3).

    0 when all are one point, about -2t where they are spread evenly over a sphere of many dimensions. Only tiles of the
    upper triangle are computed, `tile` x `tile` at a time.
    """
    n = len(x)
    if n < 2:
        return x.new_full((), math.nan)
    sums = []
    for i in range(0, n, tile):
        for j in range(i, n, tile):
            a, b = x[i : i + tile], x[j : j + tile]
            kernel = (2 * t * (a @ b.T - 1)).double().exp()  # |a - b|^2 = 2 - 2 a.b
            sums.append(kernel.triu(1).sum() if i == j else kernel.sum())
    return (torch.stack(sums).sum() / (n * (n - 1) / 2)).log()


def matched(positive: Tensor, negatives: Tensor) -> Tensor:
    """Contrastive accuracy: the share of rows whose positive (B,) is larger than each of their negatives (B, K)."""
    return (positive > negatives.max(1).values).double().mean()


def in_play(negatives: Tensor, temperature: float) -> Tensor:
    """How many negatives carry the gradient: exp of the entropy of their softmax, mean over rows of (B, K).

    From 1 (the hardest alone) to K (all alike). Far below K the temperature is low, or few negatives are near.
    """
    p = (negatives.double() / temperature).softmax(1)
    return torch.special.entr(p).sum(1).exp().mean()


def negatives_gap(z: Tensor, positive: Tensor, negatives: Tensor) -> Tensor:
    """How much further negatives lie from z than others in the batch do: mean of 1 - cos over that of others, less 1.

    z, positive: (B, D), negatives: (K, D), unit vectors. 0 when the negatives are embeddings of other items as the
    encoder makes them today; above 1 when a queue holds what only looks different because it is old or no embedding.
    """
    b = len(z)
    others = (z.sum(0) @ positive.sum(0) - (z * positive).sum()) / (b * max(b - 1, 1))
    return (1 - z.mean(0) @ negatives.mean(0)) / (1 - others).clamp_min(1e-6) - 1


def variety(x: Tensor, y: Tensor) -> Tensor:
    """The total variance of x (N, D) over that of y (M, D): 0 when all x are one vector."""
    return (x - x.mean(0)).square().sum(1).mean() / (y - y.mean(0)).square().sum(1).mean().clamp_min(1e-12)


def false_negatives(labels: Tensor, others: Tensor | None = None) -> Tensor:
    """The share of negatives that are of the item's own class, which an oracle would leave out (MoCHi, section 4.3).

    labels: (B,) of the items, others: (K,) of the negatives; None: the other items of the batch. -1 counts as nothing.
    """
    known = labels[labels >= 0]
    against = known if others is None else others[others >= 0]
    same = (known[:, None] == against).sum() - (len(known) if others is None else 0)
    pairs = len(known) * (len(against) - (1 if others is None else 0))
    return same.double() / max(pairs, 1)


@torch.no_grad()
def observe(out: Out, labels: Tensor | None = None) -> dict[str, Tensor]:
    """One step of training under these measures, as float64 scalars by name. Reads at most 512 rows of the batch.

    z_rank, h_rank   effective rank          z_spread   mean spread over 1 / sqrt(D): 1 is even, 0 one point
    uniformity       of z                    false_negatives   where labels are known
    and where the method compares: negatives (how many are looked at here, at most 1022 of a batch and 4096 of a queue),
    alignment, matched, in_play (a share of those negatives), chance, bound (chance - loss: mutual information that the
    views are shown to share, in nats; van den Oord et al. 2018, section 2.3), queue_gap, queue_variety and queue_age
    where the negatives come from a memory.
    """
    z = normalize(out.z[:ROWS].detach().float(), dim=1)
    seen = {
        "z_rank": effective_rank(z),
        "z_spread": spread(z).mean() * math.sqrt(z.shape[1]),
        "uniformity": uniformity(z),
    }
    if out.h is not None:
        seen["h_rank"] = effective_rank(out.h[:ROWS].detach())
    if labels is not None:
        seen["false_negatives"] = false_negatives(labels[:ROWS])
    if out.contrast is not None:
        seen |= _compared(z, out.contrast)
        seen["chance"] = torch.full_like(seen["z_rank"], out.contrast.chance)
        seen["bound"] = out.contrast.chance - out.loss.detach().double()
    return seen


def _compared(z: Tensor, contrast: Contrast) -> dict[str, Tensor]:
    positive = contrast.positive[: len(z)].detach().float()
    if contrast.negatives is None:
        apart = torch.eye(len(z), dtype=torch.bool, device=z.device)
        blocks = [(z @ side.T).masked_fill(apart, -torch.inf) for side in (positive, z)]
        negatives, count = torch.cat(blocks, 1), 2 * len(z) - 2
    else:
        memory = contrast.negatives.detach()
        memory = memory[:: math.ceil(len(memory) / NEGATIVES)].float()
        negatives, count = z @ memory.T, len(memory)
    seen = {
        "alignment": alignment(z, positive).double(),
        "matched": matched((z * positive).sum(1), negatives),
        "in_play": in_play(negatives, contrast.temperature) / max(count, 1),
    }
    seen["negatives"] = torch.full_like(seen["matched"], count)
    if contrast.negatives is not None:
        seen["queue_gap"] = negatives_gap(z, positive, memory).double()
        seen["queue_variety"] = variety(memory, positive).double()
    if contrast.age is not None:
        seen["queue_age"] = torch.full_like(seen["matched"], contrast.age)
    return seen


def _singular(x: Tensor) -> Tensor:
    """Singular values of float64 (N, D), descending."""
    gram = x.T @ x if x.shape[1] <= x.shape[0] else x @ x.T
    if not gram.isfinite().all():
        return torch.full((len(gram),), math.nan, dtype=x.dtype, device=x.device)
    return torch.linalg.eigvalsh(gram).clamp_min(0).sqrt().flip(0)
