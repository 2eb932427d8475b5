"""A dozen test items and what lies nearest to each: the choice follows a rule, not what looks good."""

from __future__ import annotations

import torch
from torch import Tensor

from ..evaluate.knn import neighbours
from .gallery import Neighbour, Row
from .groups import Groups
from .items import Items

QUERIES, FOUND = 12, 8
STYLE = """
#neighbours .found { grid-template-columns: repeat(4, 1fr); }
@media (min-width: 44rem) { #neighbours .found { grid-template-columns: repeat(8, 1fr); } }
"""


def nearest(items: Items, sorted_by: Groups, seed: int) -> list[Row]:
    """Queries spread evenly over the groups, each with its 8 nearest other items under the cosine of h."""
    queries = spread(sorted_by.of, QUERIES, seed)
    h = items.features.h
    similarity, place = neighbours(h[queries], h, min(FOUND + 1, len(h)))
    rows = []
    for query, near, at in zip(queries.tolist(), similarity.tolist(), place.tolist(), strict=True):
        others = [(i, s) for i, s in zip(at, near, strict=True) if i != query][:FOUND]
        found = [_found(items, query, i, s) for i, s in others]
        rows.append(Row(items.pictures[query], _caption(items, query), found))
    return rows


def spread(of: Tensor, count: int, seed: int) -> Tensor:
    """`count` items of N, or all: one of each group in turn, in an order drawn by the seed. of: (N,) groups."""
    order = torch.randperm(len(of), generator=torch.Generator().manual_seed(seed))
    turn = torch.zeros(len(of), dtype=torch.int64)  # how many of its group come before an item
    for g in of.unique():
        mine = of[order] == g
        turn[order[mine]] = torch.arange(int(mine.sum()))
    wait = turn * (int(of.max()) + 1) + of  # first of each group, then second of each
    return wait.argsort()[:count]


def _found(items: Items, query: int, i: int, similarity: float) -> Neighbour:
    labels = items.features.labels
    same = None if labels is None or min(labels[query], labels[i]) < 0 else bool(labels[query] == labels[i])
    mark = {None: "", True: "✓ ", False: "✗ "}[same]
    return Neighbour(items.pictures[i], mark + _caption(items, i), similarity, same)


def _caption(items: Items, i: int) -> str:
    return items.features.keys[i] if items.features.labels is None else items.label(i)
