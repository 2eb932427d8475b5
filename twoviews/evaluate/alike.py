"""The rows of a table that are most alike to some, exactly: all of them compared, a block at a time."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from ..errors import UserError
from .knn import neighbours
from .recommend import blocks

BLOCK = 2**18  # rows that are compared at once


def check_k(k: int, others: int) -> None:
    """Raises UserError when there are fewer than k others."""
    if not 1 <= k <= others:
        raise UserError(f"k={k}, but there are {others:,} others to find: give k from 1 to {others}")


def nearest(
    queries: Tensor, vectors: Tensor, rows: Tensor, k: int, device: torch.device | str = "cpu"
) -> tuple[Tensor, Tensor]:
    """The k largest cosines of queries (Q, D) to some rows of vectors (V, D), descending, and which: both (Q, k), on
    the CPU. All are given where there are fewer. Of the vectors a block alone is copied.

    Raises UserError when a cosine is not finite.
    """
    queries = queries.to(device)
    score, found = torch.empty(len(queries), 0), torch.empty(len(queries), 0, dtype=torch.int64)
    for some in blocks(len(rows), BLOCK):
        here = rows[some]
        s, place = neighbours(queries, vectors[here].to(device), min(k, len(here)))
        score = torch.cat([score, s.cpu()], 1)
        score, order = score.topk(min(k, score.shape[1]), dim=1)
        found = torch.cat([found, here[place.cpu()]], 1).gather(1, order)
    if not score.isfinite().all():
        raise UserError("the vectors are not finite: the training has diverged")
    return score, found


def others(
    vectors: Tensor,
    rows: np.ndarray,
    wanted: np.ndarray,
    among: Mapping[int, Tensor],
    k: int,
    device: torch.device | str = "cpu",
) -> tuple[Tensor, Tensor]:
    """Cosines and rows, both (Q, k), of the k most alike to each of some rows (Q,), which are not found themselves.

    wanted: (Q,) which part of `among`, the rows to find, each asks for. A part has at least k others.
    """
    asked, part = torch.from_numpy(rows), torch.from_numpy(wanted)
    score, found = torch.empty(len(asked), k), torch.empty(len(asked), k, dtype=torch.int64)
    for number, candidates in among.items():
        mine = torch.nonzero(part == number).flatten()
        if len(mine):
            s, r = nearest(vectors[asked[mine]], vectors, candidates, k + 1, device)
            order = (r == asked[mine, None]).int().argsort(dim=1, stable=True)[:, :k]  # itself comes last and is cut
            score[mine], found[mine] = s.gather(1, order), r.gather(1, order)
    return score, found
