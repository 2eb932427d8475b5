"""The test items that a page shows: their embeddings and small pictures of them, read in one pass."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..data.views import center
from ..evaluate.embed import batches, gather, model, nothing_read, slices
from ..evaluate.split import take
from ..run import Run
from ..train import DTYPES
from ..types import Features, Method, Source

MOST = 2000  # items on a page
SIDE = 96  # pixels of a picture, at most


@dataclass(frozen=True)
class Items:
    """features: (N, D), all finite. pictures: (N, 1 or 3, S, S) uint8, the central square of each, row by row.

    total: items of the test set. broken: key -> reason. infinite: embeddings left out because they are not finite.
    """

    features: Features
    pictures: Tensor
    total: int
    broken: dict[str, str]
    infinite: int

    def __len__(self) -> int:
        return len(self.features)

    def label(self, item: int) -> str:
        """The name of an item's class."""
        labels, classes = self.features.labels, self.features.classes
        number = -1 if labels is None else int(labels[item])
        return "no label" if number < 0 else classes[number] if classes else str(number)


def collect(
    run: Run,
    method: Method,
    test: Source,
    device: torch.device,
    workers: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Items:
    """At most 2,000 test items, drawn by the run's seed. Raises DataError when none can be read."""
    chosen = np.sort(np.random.default_rng(run.seed).permutation(len(test))[:MOST]).tolist()
    groups = [chosen[few.start : few.stop] for few in slices(0, len(chosen), 256)]
    project = None if type(method).project is Method.project else method.project
    embed = model(method.encoder, project, None if run.precision == "fp32" else DTYPES[run.precision])
    views, small = run.test_view(), None
    ids, hs, zs, pictures = [], [], [], []
    broken: dict[str, str] = {}
    done = 0
    for group, batch in zip(groups, batches(test, groups, device, workers), strict=True):
        broken |= batch.broken
        if batch.images is not None and batch.sizes is not None:
            h, z = embed(views(batch.images, batch.sizes, None)[0])  # nothing random
            small = small or center(min(SIDE, max(8, int(batch.sizes.amin(1).median()))))
            shown = batch.images[:, : 3 if batch.images.shape[1] >= 3 else 1]
            pictures.append((small.pictures(shown, batch.sizes)[0].clamp(0, 1) * 255).round().byte().cpu())
            ids.append(batch.ids)
            hs.append(h.cpu())
            zs.append(None if z is None else z.cpu())
        done += len(group)
        if progress:
            progress(done, len(chosen))
    if not ids:
        raise nothing_read(test, broken)
    features = gather(test, ids, hs, zs)
    finite = features.h.isfinite().all(1)
    kept = take(features, np.flatnonzero(finite))
    return Items(kept, torch.cat(pictures)[finite], len(test), broken, int((~finite).sum()))
