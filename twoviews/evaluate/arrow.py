"""Forward or backward? What frozen features know of the arrow of time, which needs no labels.

Pickup et al. 2014, "Seeing the arrow of time", CVPR; Wei et al. 2018, "Learning and using the arrow of time", CVPR.
A linear probe is learned from clips and the same clips reversed, and judged on videos that it has not seen.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from ..errors import UserError
from .linear import path
from .score import Score, score
from .split import check_finite

FOLDS, STRENGTH = 5, 10.0


def arrow(forward: Tensor, backward: Tensor, groups: np.ndarray, folds: int = FOLDS, seed: int = 0) -> Score:
    """The share of clips whose direction is told; 50 % is chance.

    forward, backward: (N, D) features of the clips and of the same clips reversed.
    groups: (N,) the video that each is of: one is never on both sides of a fold, nor are the versions of a clip.
    The interval counts what lies in one video together. Raises UserError with fewer than two videos.
    """
    names, group = np.unique(groups, return_inverse=True)
    if len(names) < 2:
        raise UserError(f"forward or backward is judged on videos not learned from: {len(names)} is too few, give two")
    check_finite(torch.cat([forward, backward]), "test")
    fold = np.random.default_rng(seed).permutation(len(names))[group] % min(folds, len(names))
    right = np.zeros(len(group))
    for number in range(fold.max() + 1):
        rest, held = (torch.from_numpy(np.flatnonzero(rows)) for rows in (fold != number, fold == number))
        x = torch.cat([forward[rest], backward[rest]]).float()
        y = torch.arange(2, device=x.device).repeat_interleave(len(rest))
        model = next(path(x, y, 2, [STRENGTH]))
        for side, features in enumerate((forward, backward)):
            right[held.numpy()] += (model(features[held]).argmax(1) == side).cpu().numpy()
    n, p = 2 * len(group), right.sum() / (2 * len(group))
    off = np.bincount(group, right - 2 * p)  # by video, how many more are right than usual
    variance = np.square(off).sum() * len(names) / (len(names) - 1) / n**2
    count = len(names) if not 0 < p < 1 else np.clip(p * (1 - p) / max(variance, 1e-12), len(names), n)
    return replace(score(p * count, float(count)), n=n, detail={"videos": len(names), "strength": STRENGTH})  # type: ignore[arg-type]
