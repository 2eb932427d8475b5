"""What a model of histories must beat: what is popular, and what followed the last items before. Neither learns.

    popular   how often an item occurs in training
    markov    sum over the last items of a history, decay^d of the one d before the end:
              (times the item followed it, 1 / j for j items later) / sqrt(all that followed it)

Full rankings of published BERT4Rec models lie below `markov` on sparse data such as Beauty.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from ..data.cooccurrence import following

if TYPE_CHECKING:
    from ..data.histories import Histories
    from .ranking import Scorer

LAST = 5  # items of a history that `markov` looks at
BELOW = 1e-4  # the score of the most popular item: below all that has followed, and float32 keeps it apart


def popular(train: Histories) -> Scorer:
    """The items that occur most often, for everyone."""
    order = np.unique(train.counts(), return_inverse=True)[1]  # counts above 2^24 would be equal in float32
    scores = torch.from_numpy(order.astype(np.float32))

    def score(histories: Histories, rows: np.ndarray) -> Tensor:
        return scores.repeat(len(rows), 1)

    return score


def markov(train: Histories, window: int = 5, decay: float = 0.6) -> Scorer:
    """What came up to `window` items after the last five items of a history, in training.

    Where that says nothing, or the same of two items, the more popular one comes first.
    """
    import scipy.sparse as sparse
    from sklearn.utils.sparsefuncs import inplace_row_scale

    follows = following(train, window)
    totals = np.asarray(follows.sum(1, dtype=np.float64))[:, 0]
    inplace_row_scale(follows, np.where(totals, totals, 1).astype(np.float32) ** -0.5)
    counts = train.counts()
    below = torch.from_numpy((BELOW / max(1, counts.max(initial=0)) * counts).astype(np.float32))

    def score(histories: Histories, rows: np.ndarray) -> Tensor:
        items, lengths = histories.last(rows, LAST)  # (B, T)
        steps = lengths[:, None] - 1 - np.arange(items.shape[1])
        inside = items >= 0
        owners = np.broadcast_to(np.arange(len(rows))[:, None], items.shape)[inside]
        weights = (decay ** steps[inside]).astype(np.float32)
        asked = sparse.csr_matrix((weights, (owners, items[inside])), shape=(len(rows), train.catalogue))
        found = asked @ follows
        out = below.repeat(len(rows), 1)
        owners = np.repeat(np.arange(len(rows)), np.diff(found.indptr))
        out[owners, found.indices] += torch.from_numpy(found.data)
        return out

    return score
