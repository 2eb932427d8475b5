"""Weighted k-nearest-neighbour classification, the quickest honest measure of an encoder.

    votes(c) = sum over the k nearest train items i of class c of exp(cos(h, h_i) / T)

Wu et al. 2018, "Unsupervised feature learning via non-parametric instance discrimination", section 3.4,
arXiv:1805.01978.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize

from ..errors import UserError
from ..types import Features
from .score import Score, score
from .split import labelled

ROWS, COLUMNS = 2048, 16384  # of one block of similarities: 128 MiB


def knn(
    train: Features,
    test: Features,
    k: int = 20,
    temperature: float = 0.07,
) -> Score:
    """Accuracy of the k-nearest-neighbour vote of `train` on `test`, in float32 on the device of train.h.

    The defaults are solo-learn's and DINO's; figures published by lightly use k=200, temperature=0.1.
    Items labelled -1 are left out; a test item of a class that train lacks counts as wrong.
    Raises UserError when k is larger than the labelled train set.
    """
    data = labelled(train, test)
    if not 1 <= k <= len(data.x):
        raise UserError(
            f"kNN with k={k} cannot vote among {len(data.x)} labelled train items: give k from 1 to {len(data.x)}"
        )
    if temperature <= 0:
        raise UserError(f"the temperature of kNN must be above 0, got {temperature}")
    similarity, nearest = neighbours(data.t, data.x, k)
    correct = 0
    for s, i, u in zip(similarity.split(ROWS), nearest.split(ROWS), data.u.split(ROWS), strict=True):
        weight = ((s - s[:, :1]) / temperature).exp()  # (B, k); the nearest weighs 1, so nothing overflows
        votes = weight.new_zeros(len(s), data.classes).scatter_add_(1, data.y[i], weight)
        correct += int((votes.argmax(1) == u).sum())
    return score(correct, len(data.t), k=k, temperature=temperature, train=len(data.x))


def neighbours(
    queries: Tensor, items: Tensor, k: int, rows: int = ROWS, columns: int = COLUMNS
) -> tuple[Tensor, Tensor]:
    """The k largest cosine similarities of queries (M, D) to items (N, D), descending, and whose: both (M, k).

    Computed in blocks of rows x columns with the best k so far kept, so memory grows with M k, not M N.
    """
    best: list[tuple[Tensor, Tensor]] = []
    for start in range(0, len(items), columns):
        block = normalize(items[start : start + columns].float(), dim=1)
        for number, q in enumerate(queries.split(rows)):
            q = normalize(q.to(block.device).float(), dim=1)
            s, i = (q @ block.T).topk(min(k, len(block)), dim=1)  # (B, k)
            i += start
            if start == 0:
                best.append((s, i))
                continue
            s, i = torch.cat([best[number][0], s], 1), torch.cat([best[number][1], i], 1)
            s, order = s.topk(min(k, s.shape[1]), dim=1)
            best[number] = s, i.gather(1, order)
    return torch.cat([s for s, _ in best]), torch.cat([i for _, i in best])
