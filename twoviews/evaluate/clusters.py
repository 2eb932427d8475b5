"""Shares of things that come in clusters, as the frames of a recording do: its fifty frames are not fifty draws.

The interval is Wilson's with the number of draws that would spread as the clusters do (the design effect of Kish 1965,
in an interval of this kind by Korn and Graubard 1998). A gap between two shares over the same clusters is judged by
how it varies from cluster to cluster, the ratio's first-order (Taylor) variance.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from .score import Z95, Score, score


@dataclass(frozen=True)
class Tally:
    """right, many: (G,) how many things of each cluster were told right, and how many there were."""

    right: np.ndarray
    many: np.ndarray

    @property
    def share(self) -> float:
        return float(self.right.sum() / self.many.sum())

    @property
    def influence(self) -> np.ndarray:
        """(G,): how far each cluster pulls the share from its mean."""
        return (self.right - self.share * self.many) / self.many.sum()

    def score(self, **detail: Any) -> Score:
        """The share with its interval; n is the number of things."""
        n, p, error = float(self.many.sum()), self.share, float(np.square(self.influence).sum())
        clusters = int((self.many > 0).sum())
        draws = min(n, p * (1 - p) / error) if error > 0 else clusters
        return replace(score(p * draws, draws, **detail), n=int(n))  # type: ignore[arg-type]


def tally(right: np.ndarray, cluster: np.ndarray, clusters: int) -> Tally:
    """right (N,): 1, 0 or NaN for what does not count.  cluster: (N,) int in 0 ... clusters - 1."""
    counts = np.isfinite(right)
    cluster = cluster[counts]
    return Tally(np.bincount(cluster, right[counts], clusters), np.bincount(cluster, minlength=clusters).astype(float))


def gap(a: Tally, b: Tally) -> tuple[float, float]:
    """a - b over the same clusters, and half of its 95 % interval."""
    pull = a.influence - b.influence
    groups = max(2, int(((a.many > 0) | (b.many > 0)).sum()))
    return a.share - b.share, Z95 * float(np.sqrt(np.square(pull).sum() * groups / (groups - 1)))
