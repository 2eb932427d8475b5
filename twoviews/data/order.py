"""The order of an epoch where items of one group stand together: a batch then holds negatives of the same speaker."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from ..errors import DataError, UserError
from ..types import Source


def together(groups: Tensor, many: int, generator: torch.Generator) -> Tensor:
    """A random order of items in which every `many` in a row are of one group: places (n,) int64, each at most once.

    groups: (N,) int64, below 0 for an item of no known group, which is left out. Of each other group as many items as
    do not fill a last run are left out too, others each time.
    """
    order = torch.randperm(len(groups), generator=generator)
    order = order[groups[order].argsort(stable=True)]  # by group, at random within each
    _, counts = groups[order].unique_consecutive(return_counts=True)
    number = torch.arange(len(order)) - (counts.cumsum(0) - counts).repeat_interleave(counts)  # within the group
    kept = (number < (counts // many * many).repeat_interleave(counts)) & (groups[order] >= 0)
    runs = order[kept].view(-1, many)
    return runs[torch.randperm(len(runs), generator=generator)].flatten()


def groups_of(source: Source, many: int, micro: int) -> np.ndarray | None:
    """(N,) int64: the speaker of each item, else its label; None where nothing is to stand together (many = 0).

    Raises UserError where a batch of `micro` items holds no whole number of runs, DataError where there are no groups.
    """
    if not many:
        return None
    if micro % many:
        raise UserError(
            f"together={many} does not divide the {micro} items of a batch on each process; "
            f"set batch_size so that it does, or together=0"
        )
    groups = getattr(source, "speakers", None)
    groups = source.labels if groups is None else groups
    if groups is None:
        raise DataError(
            f"together={many} needs to know who is heard, and {source.name} has neither speakers nor labels; "
            f"name their column or set together=0"
        )
    return groups


def instead(index: int, size: int, groups: np.ndarray | None) -> Iterator[int]:
    """An item, then those that take its place while it and they are broken: the next ones, of its group first."""
    yield index
    others = (index + np.arange(1, size)) % size
    if groups is not None:
        others = others[np.argsort(groups[others] != groups[index], kind="stable")]
    yield from others.tolist()
