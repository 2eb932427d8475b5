"""How a page sorts its items: by label where labels are known, else by cluster; the rarest classes as one."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import normalize

from ..evaluate.search import label_names
from ..types import Features

MOST = 20  # groups that have a colour of their own
CLUSTERS = 8


@dataclass(frozen=True)
class Groups:
    """of: (N,) int64, the group of each item. names: of the groups, the largest first.

    clusters: were they found by k-means? rest: is the last one what is left over, items of rare classes or no label?
    """

    of: Tensor
    names: list[str]
    clusters: bool = False
    rest: bool = False


def groups(features: Features) -> Groups:
    """Labels of which at least two are met, else k-means clusters of h as unit vectors."""
    labels = features.labels
    if labels is None or len(labels[labels >= 0].unique()) < 2:
        of = clusters(features.h)
        return Groups(of, [f"cluster {i + 1}" for i in range(int(of.max()) + 1)], clusters=True)
    found, place, count = labels.unique(return_inverse=True, return_counts=True)
    known = (found >= 0).nonzero()[:, 0]
    order = known[count[known].argsort(descending=True, stable=True)]
    own = order if len(order) <= MOST else order[: MOST - 1]
    rank = torch.full((len(found),), len(own))
    rank[own] = torch.arange(len(own))
    of = rank[place]
    called = label_names(features)
    names = [str(called[int((place == i).nonzero()[0])]) for i in own]
    if rest := int(of.max()) == len(own):
        names.append("all other classes" if len(own) < len(order) else "no label")
    return Groups(of, names, rest=rest)


def clusters(h: Tensor) -> Tensor:
    """(N, D) -> (N,) int64: k-means clusters of the rows as unit vectors, the largest first."""
    from sklearn.cluster import KMeans

    x = normalize(h, dim=1)
    many = min(CLUSTERS, max(1, len(h) // 5), len(x.unique(dim=0)))
    found = torch.from_numpy(KMeans(many, n_init=4, random_state=0).fit_predict(x.numpy())).long()
    rank = torch.bincount(found, minlength=many).argsort(descending=True, stable=True).argsort()
    return rank[found]
