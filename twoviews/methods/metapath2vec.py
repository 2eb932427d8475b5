"""metapath2vec: a node must find the nodes near it on walks along meta-paths of a typed graph.

    p(c | v)   = exp(y_c . x_v) / sum over u of V         of exp(y_u . x_v)       metapath2vec
    p(c | v)   = exp(y_c . x_v) / sum over u of type t(c) of exp(y_u . x_v)       metapath2vec++
    L = - log s(x_v . y_c) - k E_{n ~ P} log s(-x_v . y_n),   P over all nodes, or over those of c's type

Dong, Chawla and Swami 2017, KDD, doi:10.1145/3097983.3098036. The authors' program draws negatives of the type of v;
this follows the paper.
"""

from __future__ import annotations

from torch import nn

from .word2vec import SkipGram


def metapath2vec(
    encoder: nn.Module,
    window: int = 7,
    negatives: int = 5,
    plus_plus: bool = False,
    shared: int = 32,
    shrink: bool = False,
    loss: str = "sgns",
) -> SkipGram:
    """Skip-gram on `walks`; the paper takes 1000 walks of 100 nodes, 128 dimensions and windows that do not shrink."""
    return SkipGram(encoder, window, shrink, negatives, shared, loss, typed=plus_plus)
