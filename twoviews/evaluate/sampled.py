"""Ranks among a few drawn items, as the BERT4Rec paper reports them. Only to compare with papers.

Such figures order models otherwise than ranks among all items do (Krichene and Rendle 2020, "On sampled metrics for
item recommendation"), so they are made on request only and always carry their label.

Sun et al. 2019, arXiv:1904.06690, section 4.2: each target among 100 items drawn by popularity.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from ..errors import DataError
from .embed import Progress
from .ranking import SCORES, USERS, Pairs, Scorer, answerable, checked, distinct
from .ranks import Ranks

if TYPE_CHECKING:
    from ..data.splits import Question

TRIES = 3  # items drawn for each that is wanted, before those left are looked through


def rank_sampled(
    scorer: Scorer,
    question: Question,
    counts: np.ndarray,
    all_counts: np.ndarray,
    negatives: int = 100,
    popular: bool = True,
    seed: int = 0,
    progress: Progress | None = None,
) -> Ranks:
    """The rank of each user's target among itself and `negatives` items drawn without replacement. Ties count against.

    Of several targets of a user each is ranked by itself among the same items. The history and the targets are not
    drawn. Every scorer meets the same items under the same seed.
    counts:     (V,) how often each item occurs in training, for `Ranks.groups`.
    all_counts: (V,) the same in all of the data, test included, as in the paper: items are drawn in proportion.
    popular:    off draws all items alike.
    Raises DataError when nobody has a history and a target.
    """
    asked = answerable(question)
    history, truth = question.history, question.truth
    catalogue = history.catalogue
    weights = all_counts if popular else np.ones(catalogue)
    size = max(1, min(USERS, SCORES // catalogue))
    parts, fewest = [], negatives
    for begin in range(0, len(asked), size):
        rows = asked[begin : begin + size]
        scores = checked(scorer(history, rows), len(rows), catalogue)
        target = distinct(truth, rows, catalogue)
        without = [distinct(history, rows, catalogue), target]
        drawn = draw(weights, negatives, without, (seed, begin), len(rows))
        fewest = min(fewest, int((drawn >= 0).sum(1).min()))
        parts.append((begin + target.owners, target.items, *_places(scores, target, drawn)))
        del scores  # before the next are made
        if progress:
            progress(begin + len(rows), len(asked))
    owners, items, ranks, tied = map(np.concatenate, zip(*parts, strict=True))
    said = f"sampled, {negatives} {'popular' if popular else 'uniform'} negatives"
    notes = [f"Ranks are {said}: they order models otherwise than a full ranking does; ties are pessimistic."]
    if fewest < negatives:
        notes.append(f"A user has only {fewest} items that are neither in the history nor a target.")
    none = np.empty((len(asked), 0), np.int32)
    left_out = len(history) - len(asked)
    return Ranks(asked, owners, items.astype(np.int32), ranks, tied, none, counts, left_out, notes, said)


def _places(scores: Tensor, target: Pairs, drawn: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(n,) each: the rank of a target among the items drawn for its user, and how many of them have its score."""
    owners, items = (torch.from_numpy(x).to(scores.device) for x in target)
    at = torch.from_numpy(drawn).to(scores.device)[owners]  # (n, K)
    own, rivals = scores[owners, items][:, None], scores[owners[:, None], at.clamp(min=0)]
    ahead = ((rivals >= own) | own.isnan()) & (at >= 0)
    tied = (rivals == own) & (at >= 0)
    return 1 + ahead.sum(1).cpu().numpy(), tied.sum(1).cpu().numpy()


def draw(weights: np.ndarray, k: int, without: list[Pairs], seed: tuple[int, int], users: int) -> np.ndarray:
    """(users, k) items, one after the other in proportion to their weights, none twice and none of `without`.

    -1 where there are fewer. Raises DataError when no item has a weight.
    """
    random, catalogue = np.random.default_rng(seed), len(weights)
    ends = np.cumsum(weights, dtype=np.float64)
    if not catalogue or not ends[-1]:
        raise DataError("no item to draw: none occurs in the data")
    tries = np.searchsorted(ends, random.random((users, TRIES * k)) * ends[-1], side="right")
    keys = np.arange(users)[:, None] * catalogue + np.minimum(tries, np.flatnonzero(weights)[-1])  # (B, tries)
    fresh = np.zeros(keys.size, bool)
    fresh[np.unique(keys, return_index=True)[1]] = True  # where an item comes up for the first time
    taken = np.concatenate([pairs.owners * catalogue + pairs.items for pairs in without])
    fresh = fresh.reshape(keys.shape) & ~np.isin(keys, taken)
    place = np.cumsum(fresh, 1) - 1
    fresh &= place < k
    drawn = np.full((users, k), -1)
    owners, at = np.nonzero(fresh)
    drawn[owners, place[owners, at]] = keys[owners, at] % catalogue
    for user in np.flatnonzero(drawn[:, -1] < 0):  # the rest of a race that is won by the smallest E / weight
        have = drawn[user][drawn[user] >= 0]
        left = weights.astype(np.float64)
        for pairs in without:
            left[pairs.items[pairs.owners == user]] = 0
        left[have] = 0
        able = np.flatnonzero(left)
        more = able[np.argsort(random.exponential(size=len(able)) / left[able])][: k - len(have)]
        drawn[user, len(have) : len(have) + len(more)] = more
    return drawn
