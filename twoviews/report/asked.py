"""Users whose next item was asked for: what they are recommended, read in one pass for all that a page shows of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ..data.histories import Histories
from ..data.splits import Division, Question
from ..data.vocabulary import Items
from ..evaluate.recommend import recommendations
from ..types import Method

USERS = 2000  # on a page
K = 10


@dataclass(frozen=True)
class Asked:
    """history: N users, none empty.  truth: what they met next, empty where nothing was held out.

    lists: (N, k) the best items for each, best first, -1 where there are fewer.  total: users who could be asked.
    """

    history: Histories
    truth: Histories
    lists: np.ndarray
    items: Items
    total: int

    def __len__(self) -> int:
        return len(self.lists)

    def hit(self, user: int) -> bool:
        return bool(np.isin(self.lists[user], self.truth.read(user).numpy()).any())


def ask_some(
    method: Method,
    ask: Callable,
    division: Division,
    items: Items,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Asked:
    """At most 2,000 users of the test, drawn by the run's seed. Raises UserError where weights are not finite."""
    train = division.train
    question = division.test or Question(train, train.between(train.stops, train.stops))
    known = np.flatnonzero(question.history.lengths > 0)
    chosen = np.sort(np.random.default_rng(seed).permutation(known)[:USERS])
    history, truth = question.history.subset(chosen), question.truth.subset(chosen)
    k = min(K, train.catalogue)
    parts = [part.items for part in recommendations(method, ask, history, items.counts, k, progress=progress)]
    return Asked(history, truth, np.concatenate(parts), items, len(known))


def named(items: Items, place: int) -> str:
    """The title of an item, or its name where it has none."""
    return items.title(place) or items.name(place)
