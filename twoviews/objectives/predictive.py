"""InfoNCE of what is to come: each place predicts the places some rows ahead of it, all of them in one batch.

With p_k(r) = W_k c(r), what a place of row r says of the one k rows ahead in its column,

    s_k(r, j) = p_k(r) . z_j / sqrt(D)
    L_k = mean over r of -log( exp s_k(r, r + k) / sum over candidates j of exp s_k(r, j) )

Candidates are the positive and its negatives, places that are seen in the items of its group. Which of them count is a
mask on the same products (aheadtiles.py). For one context the sum runs over places z, as in the paper.
log N_k - L_k, N_k the candidates, is a lower bound of the mutual information where negatives are drawn independently of
the positive, and never more than log N_k; without a sequence's own places they are drawn from elsewhere.

van den Oord et al. 2018, arXiv:1807.03748, equations 3 and 4. The factor 1 / sqrt(D) is ours and keeps
scores of all widths alike.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from ..dist import total, world
from ..errors import UserError, unknown
from .aheadtiles import Plan, sweep

NEGATIVES = ("all", "others", "current")


class Ahead(NamedTuple):
    """What was predicted. By horizon, and over several ranks each one's share: their mean is that of one process.

    loss:       scalar with a gradient, the mean of `losses` over the horizons that have a row.
    losses:     (K,) mean over rows; 0 without one, as all that follows.
    accuracies: (K,) share of rows whose positive scores higher than every other candidate.
    bounds:     (K,) mean over rows of log N - loss, in nats.
    counts:     (K,) rows, of all ranks together.
    """

    loss: Tensor
    losses: Tensor
    accuracies: Tensor
    bounds: Tensor
    counts: Tensor


def ahead(
    p: Tensor,
    z: Tensor,
    seen: Tensor,
    *,
    first: int = 1,
    group: int = 8,
    negatives: str = "all",
    sampled: int = 0,
    neighbours: int = 0,
) -> Ahead:
    """The loss of every pair of places that are a horizon apart and both seen.

    p: (K, B, R, W, D), what place (r, w) says of (r + first + k, w).  z: (B, R, W, D), or (K, B, R, W, D) where places
       are another thing to each horizon; p may then be (1, B, R, W, D), the same for all.
    seen: (B, R, W) bool; elsewhere p and z count nowhere, but must be finite.
    group: so many items in a row are candidates for each other; the last group is smaller where they do not divide B.
    negatives: "all" places of the group, those of "others" than the own item, or those of the "current" item alone.
    sampled: so many of these, drawn for each row without replacement; 0 or more than there are: all.
    neighbours: the own item's places within so many rows and columns of the positive are none.
    A positive is never among its negatives, and a row without a negative does not count.
    Scores are float32 (float64 for float64), products of the precision of autocast. No second derivatives.
    Raises UserError where R <= first or on settings that are not allowed, ValueError on shapes that do not fit.
    """
    check(first, group, negatives, sampled, neighbours)
    z = z if z.ndim == 5 else z[None]
    steps, rows = max(len(p), len(z)), z.shape[2]
    if p.shape[1:] != z.shape[1:] or seen.shape != z.shape[1:4] or {len(p), len(z)} - {1, steps}:
        shapes = tuple(p.shape), tuple(z.shape), tuple(seen.shape)
        raise ValueError(f"p (K, B, R, W, D), z (B, R, W, D) and seen (B, R, W) must fit, got {shapes}")
    if rows <= first:
        raise UserError(
            f"clips of {rows} rows have none {first} ahead of another for steps={steps} to predict: give longer clips"
        )
    device = p.device.type
    low = torch.is_autocast_enabled(device)
    dtype = torch.get_autocast_dtype(device) if low else torch.promote_types(p.dtype, z.dtype)
    wide = torch.promote_types(dtype, torch.float32)
    with torch.autocast(device, enabled=False):
        against = _against(seen, group, negatives, neighbours)  # (B, R, W)
        if sampled:
            against = against.clamp(max=sampled)
        counted, candidates = _rows(seen, against, first, steps, wide)
        counts = total(counted.sum((1, 2, 3)).to(wide))
        share = world() / counts.clamp(min=1)  # of one row in the mean over all ranks' rows
        weights = share / (counts > 0).sum().clamp(min=1)
        size = 1 if negatives == "current" else group
        plan = Plan(seen, counted, weights, dtype, first, size, negatives == "others", sampled, neighbours)
        loss, losses, right = sweep(p, z, plan)
        losses = losses * share
        return Ahead(loss, losses, right * share, candidates * share - losses, counts)


def check(first: int, group: int, negatives: str, sampled: int, neighbours: int) -> None:
    """Raises UserError on settings that are not allowed."""
    if negatives not in NEGATIVES:
        raise unknown("negatives", negatives, NEGATIVES)
    for name, value, least in (("first", first, 1), ("sampled", sampled, 0), ("neighbours", neighbours, 0)):
        if value < least:
            raise UserError(f"{name} must be {least} or more, got {value}")
    least = 2 if negatives == "others" else 1
    if group < least:
        raise UserError(f"group must be {least} or more items with negatives={negatives}, got {group}")


def _against(seen: Tensor, group: int, negatives: str, neighbours: int) -> Tensor:
    """(B, R, W) int64: how many negatives each place has as a positive."""
    own = seen.sum((1, 2))  # (B,)
    together = own if negatives == "current" else torch.cat([part.sum().expand(len(part)) for part in own.split(group)])
    if negatives == "others":
        return (together - own)[:, None, None].expand(seen.shape)
    near = avg_pool2d(seen.float(), 2 * neighbours + 1, 1, neighbours, divisor_override=1)
    return together[:, None, None] - near.long()


def _rows(seen: Tensor, against: Tensor, first: int, steps: int, wide: torch.dtype) -> tuple[Tensor, Tensor]:
    """(K, B, R, W) bool, rows that count: the place is seen, and what it predicts is, and has a negative. Their sums of
    log N (K,)."""
    counted, candidates = seen.new_zeros(steps, *seen.shape), torch.zeros(steps, dtype=wide, device=seen.device)
    worth, log_n = seen & (against > 0), against.to(wide).log1p()
    for k in range(min(steps, seen.shape[1] - first)):
        ahead = first + k
        counted[k, :, :-ahead] = seen[:, :-ahead] & worth[:, ahead:]
        candidates[k] = (log_n[:, ahead:] * counted[k, :, :-ahead]).sum()
    return counted, candidates
