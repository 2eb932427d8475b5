"""What needs no test of words: true neighbours told from drawn words, and vectors that only count neighbours."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ..data.sentences import sentences
from ..types import Stream
from .ranks import bootstrapped
from .score import Score

if TYPE_CHECKING:
    from ..data.text import Corpus

NEIGHBOURS = "neighbours told"
DRAWN = 50_000  # pairs of neighbours that are asked for
TOKENS, BLOCKS = 2**20, 32  # whose neighbours are counted at once, and how many such blocks at most
FLOOR = 50_000  # words that `ppmi_vectors` counts
ROUNDS = 3  # power iterations


def neighbours(lines: Corpus, counts: np.ndarray, window: int, sample: float, seed: int = 0) -> np.ndarray:
    """(N, 3) int64: a word, one that stands up to `window` from it in some lines, and one drawn by count^.75.

    counts: (V,) of training.  Lines are thinned out as in training; distances are uniform in 1 .. window.
    """
    found = sentences(sample).over(lines, max(2, len(lines.tokens)), seed).block(0, 0)
    random = np.random.default_rng(seed)
    line = np.repeat(np.arange(len(found.bounds) - 1), np.diff(found.bounds))
    other = np.arange(len(line)) + random.integers(1, window + 1, len(line))
    near = np.flatnonzero(other < len(line))
    near = random.permutation(near[line[near] == line[other[near]]])[:DRAWN]
    pairs = np.stack([found.tokens[near], found.tokens[other[near]]], 1)  # (N, 2)
    turned = random.random(len(pairs)) < 0.5
    pairs[turned] = pairs[turned, ::-1]
    ends = np.cumsum(counts.astype(np.float64) ** 0.75)
    drawn = np.searchsorted(ends, random.random(len(pairs)) * ends[-1], "right")
    return np.column_stack([pairs, drawn]).astype(np.int64)


def told_apart(vectors: np.ndarray, contexts: np.ndarray | None, asked: np.ndarray) -> Score:
    """How often the neighbour scores above the drawn word, ties by half: the area under the curve of a word's own.

    The score of (word, other) is vectors[word] . contexts[other]; without contexts the cosine of both vectors.
    asked: (N, 3) of `neighbours`.
    """
    word, near, drawn = asked.T
    right = vectors if contexts is None else contexts
    scale = np.maximum(np.linalg.norm(right, axis=1), 1e-30) if contexts is None else np.ones(len(right))
    left = vectors[word]  # (N, D)
    true, other = ((left * right[of]).sum(1) / scale[of] for of in (near, drawn))
    return bootstrapped((true > other) + 0.5 * (true == other))


def ppmi_vectors(
    corpus: Corpus, dim: int, *, window: int = 5, sample: float = 1e-3, most: int = FLOOR, seed: int = 0
) -> np.ndarray:
    """(V, D) float32: what counting gives. The `most` commonest words have vectors, others zeros.

    U sqrt(S) of the positive pointwise mutual information of words up to `window` apart, weighted by 1 / distance,
    in thinned lines with contexts by count^.75: Levy, Goldberg and Dagan 2015, "Improving distributional similarity
    with lessons learned from word embeddings". By random projections (Halko et al. 2011, arXiv:0909.4061). Of a larger
    text 32 blocks of a million tokens are counted.
    """
    from sklearn.utils.extmath import randomized_svd
    from sklearn.utils.sparsefuncs import inplace_column_scale, inplace_row_scale

    size = min(most, len(corpus))
    met = _met(sentences(sample).over(corpus, TOKENS, seed), window, size)
    totals = np.asarray(met.sum(1, dtype=np.float64))[:, 0]  # (size,)
    smooth = totals**0.75
    inverse = [np.divide(1, x, out=np.zeros_like(x), where=x > 0) for x in (totals, smooth)]
    inplace_row_scale(met, inverse[0].astype(np.float32))
    inplace_column_scale(met, (inverse[1] * smooth.sum()).astype(np.float32))
    np.log(np.maximum(met.data, 1, out=met.data), out=met.data)
    met.eliminate_zeros()
    out = np.zeros((len(corpus), dim), np.float32)
    if met.nnz:
        rank = min(dim, size)
        u, s, _ = randomized_svd(met, rank, n_iter=ROUNDS, random_state=seed)
        out[:size, :rank] = u * np.sqrt(s)
    return out


def _met(stream: Stream, window: int, size: int) -> Any:
    """(size, size) float32 scipy CSR: how often two words stand near each other, each by 1 / distance, both ways."""
    import scipy.sparse as sparse

    out = sparse.csr_matrix((size, size), dtype=np.float32)
    for block in range(min(BLOCKS, stream.blocks)):
        found = stream.block(0, block)
        line = np.repeat(np.arange(len(found.bounds) - 1), np.diff(found.bounds))
        for j in range(1, window + 1):
            a, b = found.tokens[:-j], found.tokens[j:]
            near = (line[:-j] == line[j:]) & (a < size) & (b < size)
            weights = np.full(np.count_nonzero(near), 1 / j, np.float32)
            out = out + sparse.coo_matrix((weights, (a[near], b[near])), shape=out.shape).tocsr()
    return (out + out.T).tocsr()
