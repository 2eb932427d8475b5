"""Item vectors to begin with from a table of the items: their texts, categories, numbers, or vectors from elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..data.cooccurrence import ROUNDS, STD
from ..data.vocabulary import find, item_column, near, read_table
from ..errors import DataError
from .growth import featured

if TYPE_CHECKING:
    import pyarrow as pa


def described_vectors(path: str, names: pa.Array, width: int, column: str | None = None, seed: int = 0) -> np.ndarray:
    """(V, D) float32: items of which the table says alike lie together. Standard deviation .02, as a start.

    The left singular vectors of `featured`, each as long as its singular value. Items that the table lacks get random
    vectors, and so do columns beyond what it can fill.
    path:   a table with a column of items and any others.  names: (V,) the vocabulary.  column: that of items.
    Raises DataError when it names no item of the log.
    """
    from sklearn.utils.extmath import randomized_svd

    what = f"the table '{path}'"
    table = read_table(path, "table of items")
    item = item_column(table, what, column)
    said = table[item].combine_chunks()
    row = find(names, said)  # (V,) of each item in the table
    known = np.flatnonzero(row >= 0)
    if not len(known):
        raise DataError(f"{what} names no item of the log, such as '{said[0].as_py()}'; {near(said[0].as_py(), names)}")
    inside = np.zeros(len(table), bool)
    inside[row[known]] = True
    x = featured(table, item, inside)[row[known]]
    rank = min(width, *x.shape)
    u, s, _ = randomized_svd(x, rank, n_iter=ROUNDS, random_state=seed)
    vectors = u * s
    out = np.random.default_rng(seed).normal(0, STD, (len(names), width)).astype(np.float32)
    out[known, :rank] = vectors * (STD / max(vectors.std(), 1e-12))
    return out
