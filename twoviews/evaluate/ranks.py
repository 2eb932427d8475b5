"""What ranks say: recall, NDCG, MRR with intervals, and what kind of items are recommended.

Intervals are percentile bootstrap intervals over users (Efron 1979), 1,000 draws. They cover the draw of the users,
not the seed of the training.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from ..errors import UserError
from .score import Z95, Score, score

DRAWS = 1000
VALUES = 4096  # different values of a measure up to which it is drawn; beyond, mean and error are normal enough
RARE = 5  # an item met less often in training is rare


@dataclass(frozen=True)
class Ranks:
    """Where the targets of N users stood.

    rows:   (N,) the users that were asked, as rows of the question; `left_out` had no history or no target.
    owners: (M,) whose target, a place in `rows`, ascending.  items: (M,) int32 the targets.
    ranks:  (M,) int64 from 1.  tied: (M,) how many other items have the same score.
    lists:  (N, k) int32 the best items of each user, best first, -1 where there are fewer.
    counts: (V,) how often each item occurs in training.
    sampled: how the rivals were drawn, "" for all items.
    """

    rows: np.ndarray
    owners: np.ndarray
    items: np.ndarray
    ranks: np.ndarray
    tied: np.ndarray
    lists: np.ndarray
    counts: np.ndarray
    left_out: int = 0
    notes: list[str] = field(default_factory=list)
    sampled: str = ""

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def met(self) -> np.ndarray:
        """(M,) how often each target occurs in training."""
        return self.counts[self.items]

    def groups(self) -> dict[str, Ranks]:
        """The targets apart: cold (never in training), rare (less than 5 times) and warm. Only those there are."""
        met = self.met
        masks = {"cold": met == 0, "rare": (met > 0) & (met < RARE), "warm": met >= RARE}
        return {name: self.only(mask) for name, mask in masks.items() if mask.any()}

    def only(self, targets: np.ndarray) -> Ranks:
        """Some of the targets, (M,) bool, and the users who have one."""
        users, owners = np.unique(self.owners[targets], return_inverse=True)
        parts = {name: getattr(self, name)[targets] for name in ("items", "ranks", "tied")}
        return replace(self, rows=self.rows[users], owners=owners, lists=self.lists[users], **parts)

    def recall(self, k: int) -> Score:
        """The share of a user's targets among the k best, mean over users; with one target also called hit rate."""
        return bootstrapped(self.recalls(k))

    def ndcg(self, k: int) -> Score:
        """Normalised discounted cumulative gain: sum of 1 / log2(1 + rank) over the targets among the k best, over
        what it is when they stand first (Jarvelin and Kekalainen 2002)."""
        return bootstrapped(self.ndcgs(k))

    def mrr(self) -> Score:
        """Mean of 1 / the best rank of a user's targets, not cut off."""
        best = np.full(len(self), np.iinfo(np.int64).max)
        np.minimum.at(best, self.owners, self.ranks)
        return bootstrapped(1 / best)

    def recalls(self, k: int) -> np.ndarray:
        """(N,) `recall` of each user."""
        return np.bincount(self.owners, self.ranks <= k, len(self)) / np.bincount(self.owners, minlength=len(self))

    def ndcgs(self, k: int) -> np.ndarray:
        """(N,) `ndcg` of each user."""
        gains = np.where(self.ranks <= k, 1 / np.log2(self.ranks + 1), 0)
        ideal = np.cumsum(1 / np.log2(np.arange(2, k + 2)))
        targets = np.bincount(self.owners, minlength=len(self))
        return np.bincount(self.owners, gains, len(self)) / ideal[np.minimum(targets, k) - 1]

    def coverage(self, k: int) -> float:
        """The share of the catalogue that is among the k best of anyone."""
        return len(np.unique(self._listed(k))) / len(self.counts)

    def novelty(self, k: int) -> float:
        """Bits: mean of -log2 of an item's share of the training events over all that is among the k best.

        An item that does not occur counts as if it did once. Uniform recommendations of V equally popular items have
        log2(V). 0 where nothing was recommended.
        """
        share = np.maximum(self.counts, 1) / max(1, self.counts.sum())
        listed = self._listed(k)
        return float(-np.log2(share[listed]).mean()) if len(listed) else 0.0

    def popularity(self, k: int) -> float:
        """The mean percentile, 0 to 1, of the popularity in training of what is among the k best; .5 on average
        over the catalogue, 0 where nothing was recommended."""
        _, place, alike = np.unique(self.counts, return_inverse=True, return_counts=True)
        percentile = (np.cumsum(alike) - alike / 2) / len(self.counts)
        listed = self._listed(k)
        return float(percentile[place[listed]].mean()) if len(listed) else 0.0

    def _listed(self, k: int) -> np.ndarray:
        if k > self.lists.shape[1]:
            raise UserError(
                f"the {self.lists.shape[1]} best items of a user are kept, asked for {k}: rank with larger k"
            )
        listed = self.lists[:, :k]
        return listed[listed >= 0]


def bootstrapped(values: np.ndarray, seed: int = 0) -> Score:
    """The mean of (N,) values with its 95 % interval over their draw.

    Draws of equal values are drawn together, so the cost depends on how many different values there are, and not on N.
    More than 4,096 of them: mean +- 1.96 standard errors. Where all are 0 or all 1: Wilson's interval of a share.
    """
    n, mean = len(values), float(np.mean(values))
    levels, many = np.unique(values, return_counts=True)
    if len(levels) == 1 and mean in (0, 1):
        return score(round(mean * n), n)
    if len(levels) > VALUES:
        half = Z95 * float(values.std()) / n**0.5
        return Score(mean, mean - half, mean + half, n)
    draws = np.random.default_rng(seed).multinomial(n, many / n, DRAWS) @ levels / n  # (DRAWS,)
    low, high = np.percentile(draws, (2.5, 97.5))
    return Score(mean, float(low), float(high), n)


def gap(a: Ranks, b: Ranks, k: int = 10) -> Score:
    """The NDCG@k of a less that of b, with an interval of the differences user by user.

    Raises UserError where they are not of the same users.
    """
    if not np.array_equal(a.rows, b.rows):
        raise UserError("two rankings are compared user by user: rank both for the same question")
    return bootstrapped(a.ndcgs(k) - b.ndcgs(k))
