"""DeepWalk: a node must find the nodes near it on uniform random walks.

    L = - log s(x_v . y_c) - k E_{n ~ Pn} log s(-x_v . y_n),    |place of c - place of v| <= 10 on a walk

Perozzi et al. 2014, arXiv:1403.6652, with negative sampling in place of hierarchical softmax.
"""

from __future__ import annotations

from torch import nn

from .word2vec import SkipGram


def deepwalk(
    encoder: nn.Module,
    window: int = 10,
    shrink: bool = True,
    negatives: int = 5,
    shared: int = 128,
    loss: str = "sgns",
) -> SkipGram:
    """Skip-gram on `walks`; the paper takes 80 walks of 40 nodes from every node, and 128 dimensions."""
    return SkipGram(encoder, window, shrink, negatives, shared, loss)
