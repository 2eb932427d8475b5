"""Which items a probe learns from and which it is judged on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from ..data.image import ImageSource
from ..errors import UserError
from ..types import Features, Source

LEARNED, RUNS = 50_000, 10  # items of a long stream that probes learn from, and the places they are read at


def holdout(
    labels: np.ndarray | Tensor | Sequence[int] | int, share: float = 0.2, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """(train, test): ascending indices, `share` of the items in test, of every class alike.

    labels: one per item, or the number of items. An only item of its class stays in train.
    Raises UserError when there is nothing to hold out.
    """
    if not 0 < share < 1:
        raise UserError(f"the share to hold out must lie between 0 and 1, got {share}")
    if isinstance(labels, int | np.integer):
        labels = np.zeros(labels, np.int64)
    labels = labels.cpu().numpy() if isinstance(labels, Tensor) else np.asarray(labels)
    order = np.random.default_rng(seed).permutation(len(labels))
    order = order[np.argsort(labels[order], kind="stable")]  # class by class, at random within each
    _, which, count = np.unique(labels, return_inverse=True, return_counts=True)
    order = order[count[which[order]] > 1]
    steps = np.floor(np.arange(len(order) + 1) * share + 0.5)  # every 1/share-th, so classes share alike
    test = np.sort(order[np.diff(steps) > 0])
    if not len(test):
        raise UserError(f"{len(labels)} items are too few to hold out {share:.0%} of them: give more per class")
    return np.setdiff1d(np.arange(len(labels)), test), test


def is_stream(source: Source) -> bool:
    """Whether a source lies in shards, of which neighbours are read together."""
    return isinstance(source, ImageSource) and source.shards() is not None


def tail(source: Source, share: float) -> tuple[Source, Source]:
    """(train, test) of a stream: its last items are kept from training, neighbours, so that few shards hold them."""
    cut = len(source) - max(2, round(share * len(source)))
    return source.subset(range(cut)), source.subset(range(cut, len(source)))  # type: ignore[arg-type]


def portion(source: Source) -> Source:
    """What is read of a source to measure by: all; of a long stream 50,000 items, ten runs of neighbours."""
    if len(source) <= LEARNED or not is_stream(source):
        return source
    run = np.arange(LEARNED // RUNS)
    starts = np.linspace(0, len(source) - len(run), RUNS).astype(np.int64)
    return source.subset((starts[:, None] + run).ravel())


def take(features: Features, index: np.ndarray) -> Features:
    """The features of some of the items."""
    rows = torch.from_numpy(index)
    return replace(
        features,
        h=features.h[rows.to(features.h.device)],
        keys=[features.keys[i] for i in index.tolist()],
        labels=None if features.labels is None else features.labels[rows.to(features.labels.device)],
        z=None if features.z is None else features.z[rows.to(features.z.device)],
    )


@dataclass(frozen=True)
class Labelled:
    """What a probe computes with: x, y of the labelled train items, t, u of the test items.

    y and u count the classes of train from 0; u is -1 for any other class, where no prediction can be right.
    """

    x: Tensor  # (N, D)
    y: Tensor  # (N,)
    t: Tensor  # (M, D)
    u: Tensor  # (M,)
    classes: int


def labelled(train: Features, test: Features) -> Labelled:
    """Leave out items without a label (-1) and number the classes of train; test classes are matched by name.

    Raises UserError where there are no labels, one class only, features of different width or not finite.
    """
    x, y = known(train, "train")
    t, u = known(test, "test")
    if x.shape[1] != t.shape[1]:
        raise UserError(
            f"train features are {x.shape[1]} wide, test features {t.shape[1]}: embed both with one encoder"
        )
    if train.classes and test.classes and train.classes != test.classes:
        place = {name: i for i, name in enumerate(train.classes)}
        u = torch.tensor([place.get(name, -1) for name in test.classes], device=u.device)[u]
    present, y = y.unique(return_inverse=True)
    if len(present) < 2:
        name = train.classes[present[0]] if train.classes else int(present[0])
        raise UserError(f"all {len(y)} labelled train items are of class '{name}': a probe needs at least two classes")
    u = u.to(present.device)
    at = torch.searchsorted(present, u).clamp(max=len(present) - 1)
    return Labelled(x, y, t, torch.where(present[at] == u, at, -1), len(present))


def known(features: Features, part: str) -> tuple[Tensor, Tensor]:
    """h and labels of the items that have a label. Raises UserError when none has, or h is not finite."""
    h, labels = features.h, features.labels
    if labels is None or not len(labels) or int(labels.max()) < 0:
        raise UserError(f"no {part} item has a label: a probe needs labels (without any, measure retrieval)")
    rows = (labels >= 0).to(h.device)
    if not rows.all():
        h, labels = h[rows], labels[labels >= 0]
    check_finite(h, part)
    return h, labels.to(h.device)


def check_finite(h: Tensor, part: str) -> None:
    """Raises UserError when an embedding holds NaN or infinity."""
    bad = sum(int((~block.isfinite().all(dim=1)).sum()) for block in h.split(65536))
    if bad:
        raise UserError(
            f"{bad} of {len(h)} {part} embeddings are not finite: the encoder has diverged; "
            "use an earlier checkpoint or train again with a lower learning rate"
        )
