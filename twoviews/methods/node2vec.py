"""node2vec: a node must find the nodes near it on walks that stay near (large q) or go far (small q).

    L = - log s(x_v . y_c) - k E_{n ~ Pn} log s(-x_v . y_n),    |place of c - place of v| <= 10 on a walk

Grover and Leskovec 2016, arXiv:1607.00653. p and q are settings of the walks: views=node2vec_walks.
"""

from __future__ import annotations

from torch import nn

from .word2vec import SkipGram


def node2vec(
    encoder: nn.Module,
    window: int = 10,
    shrink: bool = True,
    negatives: int = 5,
    shared: int = 128,
    loss: str = "sgns",
) -> SkipGram:
    """Skip-gram on `node2vec_walks`; the paper takes 10 walks of 80 nodes from every node, and 128 dimensions."""
    return SkipGram(encoder, window, shrink, negatives, shared, loss)
