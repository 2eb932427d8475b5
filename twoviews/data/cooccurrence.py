"""What is met together: decayed counts of items that follow each other, and vectors made of them.

Vectors are the singular vectors of positive pointwise mutual information (Levy and Goldberg 2014, "Neural word
embedding as implicit matrix factorization"), found by random projections (Halko et al. 2011, arXiv:0909.4061).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from .histories import Histories

EVENTS = 2**22  # items whose pairs are added at once
ROUNDS = 2  # power iterations
STD = 0.02  # of an item vector's numbers at the start of training, as in BERT


def entries(histories: Histories, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Some histories one behind the other: whose each item is, as a place in `rows`, and the items."""
    starts, lengths = histories.starts[rows], histories.lengths[rows]
    owners = np.repeat(np.arange(len(rows)), lengths)
    places = np.arange(len(owners)) + np.repeat(starts - np.cumsum(lengths) + lengths, lengths)
    return owners, histories.items[places]


def following(train: Histories, window: int = 5) -> Any:
    """(V, V) float32 scipy CSR: row a, column b is the sum of 1 / j over all times that b came j items after a.

    Pairs up to `window` apart count, within one history. Memory: 8 bytes for each pair of items that is ever met, twice
    that while they are added up, and no (V, V). 100 million events of a million items at random: 5.7 GB, 77 s.
    """
    import scipy.sparse as sparse

    shape = (train.catalogue, train.catalogue)
    out = sparse.csr_matrix(shape, dtype=np.float32)
    for rows in portions(train.lengths):
        owners, items = entries(train, rows)
        pairs = [(j, np.flatnonzero(owners[:-j] == owners[j:])) for j in range(1, window + 1)]
        before = np.concatenate([items[at] for _, at in pairs])
        after = np.concatenate([items[at + j] for j, at in pairs])
        weights = np.repeat([np.float32(1 / j) for j, _ in pairs], [len(at) for _, at in pairs])
        out = out + sparse.coo_matrix((weights, (before, after)), shape=shape).tocsr()  # which adds up equal pairs
    return out


def portions(lengths: np.ndarray) -> list[np.ndarray]:
    """Places of histories, in order, about EVENTS items together; a longer history comes alone."""
    if not len(lengths):
        return []
    part = (np.cumsum(lengths) - 1) // EVENTS
    return np.split(np.arange(len(lengths)), np.flatnonzero(np.diff(part)) + 1)


def svd_vectors(train: Histories, width: int, window: int = 5, seed: int = 0) -> np.ndarray:
    """(V, D) float32: items that are met together lie together. Standard deviation .02, as a start for training.

    U sqrt(S) of the positive pointwise mutual information of `following`, both ways added. Items that were never met
    with another get random vectors, and so do columns beyond what the catalogue can fill.
    """
    from sklearn.utils.extmath import randomized_svd
    from sklearn.utils.sparsefuncs import inplace_column_scale, inplace_row_scale

    counts = following(train, window)
    counts = (counts + counts.T).tocsr()
    met = np.asarray(counts.sum(1, dtype=np.float64))[:, 0]  # (V,)
    out = np.random.default_rng(seed).normal(0, STD, (train.catalogue, width)).astype(np.float32)
    known = np.flatnonzero(met)
    if not len(known):
        return out
    rarity = (1 / np.where(met, met, 1)).astype(np.float32)
    inplace_row_scale(counts, rarity)
    inplace_column_scale(counts, rarity * np.float32(met.sum()))
    np.log(np.maximum(counts.data, 1, out=counts.data), out=counts.data)
    counts.eliminate_zeros()
    if not counts.nnz:
        return out
    rank = min(width, len(known))
    u, s, _ = randomized_svd(counts, rank, n_iter=ROUNDS, random_state=seed)
    vectors = (u * np.sqrt(s))[known]
    out[known, :rank] = vectors * (STD / vectors.std())
    return out
