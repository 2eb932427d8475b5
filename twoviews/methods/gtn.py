"""Graph Transformer Networks: which meta-paths tell the classes apart, learned with the classifier.

    h = ||_c relu((D + I)^-1 (A_c + I) X W)     A_c: a soft meta-path, see twoviews.encoders.relational
    L = cross entropy(linear(h), label)         over the labelled nodes

Yun et al., NeurIPS 2019, arXiv:1911.06455; there macro-F1 94.18 on DBLP, 92.68 on ACM and 60.92 on IMDB. It learns from
labels, as `supervised` does: the paths it finds are what walks without labels can then be given.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from ..errors import UserError
from ..types import Batch, Encoder, Method, Out

STAYS = "the node itself"  # the path without steps


class GTN(Method):
    """encoder: a Relational.  classes: the number of labels. Reads `views` = [numbers of nodes (B,)]."""

    def __init__(self, encoder: Encoder, classes: int):
        super().__init__()
        self.encoder = encoder
        self.head = nn.Linear(encoder.dim, classes)

    def project(self, h: Tensor) -> Tensor:
        return self.head(h)

    def forward(self, batch: Batch) -> Out:
        if batch.labels is None:
            raise UserError("the method 'gtn' needs labels of nodes and the data has none; metapath2vec needs none")
        h = self.encoder(batch.views[0])  # (B, D)
        logits = self.project(h)  # (B, classes)
        return Out(cross_entropy(logits.float(), batch.labels), z=logits, h=h)


class Relation(Protocol):
    @property
    def source(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def target(self) -> str: ...


def readable(method: Any, relations: Sequence[Relation], start: str | None = None) -> list[list[tuple[str, float]]]:
    """The meta-paths of each channel with their weights, heaviest first: ("author -writes-> paper", 0.71).

    A weight is the product of what its steps take of their relations; steps that stay fall out, so one path may come
    from several products, which are added. Paths whose types do not chain are no paths: the rest sum to 1.
    relations: in the order of the encoder's.  start: paths from nodes of this type alone.
    """
    return [weighed(steps, relations, start) for steps in method.encoder.weights().tolist()]


def weighed(steps: list[list[float]], relations: Sequence[Relation], start: str | None) -> list[tuple[str, float]]:
    """The paths of one channel, of its weights (L, K + 1)."""
    found: dict[tuple[int, ...], float] = {(): 1.0}  # numbers of relations -> weight
    for step in steps:
        longer: dict[tuple[int, ...], float] = {}
        for path, weight in found.items():
            longer[path] = longer.get(path, 0.0) + weight * step[0]
            end = relations[path[-1]].target if path else start
            for k, relation in enumerate(relations):
                if end is None or relation.source == end:
                    further = (*path, k)
                    longer[further] = longer.get(further, 0.0) + weight * step[k + 1]
        found = longer
    total = sum(found.values())
    ordered = sorted(found.items(), key=lambda item: -item[1])
    return [(named([relations[k] for k in path]), weight / total) for path, weight in ordered]


def named(path: Sequence[Relation]) -> str:
    steps = "".join(f" -{relation.name}-> {relation.target}" for relation in path)
    return path[0].source + steps if path else STAYS
