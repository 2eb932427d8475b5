"""Do two views of one item find each other? A measure that needs no labels."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from ..data.dice import Dice
from ..errors import UserError
from ..types import Source
from .embed import Model, Progress, Views, batches, nothing_read, slices
from .knn import neighbours
from .score import INTERVALS, Score, score
from .split import check_finite
from .table import CHANCE, Table, Z

ITEMS = 2000


def retrieval(view1: Tensor, view2: Tensor) -> Score:
    """The share of items whose second view is the nearest, under cosine, of all N second views to their first.

    view1, view2: (N, D), row i of both from item i. Chance is 1/N: compare figures of equal N only. It says that
    views are recognised, not that the embedding is of use.
    Raises UserError for fewer than two items or embeddings that are not finite.
    """
    n = len(view1)
    if n < 2 or len(view2) != n:
        raise UserError(f"retrieval needs two views of the same 2 or more items, got {n} and {len(view2)}")
    for view in (view1, view2):
        check_finite(view, "view")
    _, nearest = neighbours(view1, view2, k=1)
    correct = int((nearest[:, 0] == torch.arange(n, device=nearest.device)).sum())
    return score(correct, n, chance=1 / n)


def retrieval_table(
    models: Mapping[str, Model],
    source: Source,
    pair: Views,
    *,
    seed: int = 0,
    batch_size: int = 256,
    device: torch.device | str = "cpu",
    workers: int = 0,
    progress: Progress | None = None,
    skipped: dict[str, str] | None = None,
) -> Table:
    """`retrieval` under each model, and for its z where it has one, over at most 2,000 items drawn by `seed`.

    pair: (images, sizes, Dice) -> two random views, or one, which then is drawn twice. The rest as in `features_of`.
    """
    skipped = {} if skipped is None else skipped
    chosen = np.sort(np.random.default_rng(seed).permutation(len(source))[:ITEMS]).tolist()
    groups = [chosen[few.start : few.stop] for few in slices(0, len(chosen), batch_size)]
    seen: dict[str, tuple[list[Tensor], list[Tensor]]] = {}  # row -> its embeddings of view 1, of view 2
    done = 0
    for group, batch in zip(groups, batches(source, groups, device, workers), strict=True):
        skipped |= batch.broken
        if batch.images is not None:
            two = _two(pair, batch.images, batch.sizes, seed, batch.ids.to(device))
            for name, run in models.items():
                for side, x in enumerate(two):
                    h, z = run(x)
                    seen.setdefault(name, ([], []))[side].append(h)
                    if z is not None:
                        seen.setdefault(Z, ([], []))[side].append(z)
        done += len(group)
        if progress:
            progress(done, len(chosen))
    if not seen:
        raise nothing_read(source, skipped)
    rows = {name: {"retrieval": retrieval(torch.cat(a), torch.cat(b))} for name, (a, b) in seen.items()}
    n = next(iter(rows.values()))["retrieval"].n
    notes = [
        f"Retrieval: the share of {n:,} items whose second random view is the nearest of all to their first.",
        "It shows that views are recognised, not what the features are good for; only labels show that.",
        INTERVALS,
    ]
    chance = {"retrieval": Score(1 / n, 1 / n, 1 / n, n)}
    return Table("Do two views of one item find each other?", {CHANCE: chance, **rows}, notes)


def _two(pair: Views, images: Tensor, sizes: Tensor | None, seed: int, ids: Tensor) -> list[Tensor]:
    """Two random views of each item."""
    views = list(pair(images, sizes, Dice(seed, 0, ids)))[:2]
    return views if len(views) == 2 else [*views, *pair(images, sizes, Dice(seed, 1, ids))]
