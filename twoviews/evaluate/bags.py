"""Bags of words: tf-idf of sentences in the directions of its singular value decomposition.

Deerwester et al. 1990, "Indexing by latent semantic analysis".
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..types import PAD

DIMENSIONS = 300
LEARNED = 20_000  # sentences that the decomposition is made of, at most


class Bag:
    """(n, L) int64 words, 0 where there is none -> (n, D) float32.

    words: (N, S, L) of the documents that it learns from.  rows: V + 1.
    """

    def __init__(self, words: Tensor, rows: int, seed: int = 0):
        from sklearn.decomposition import TruncatedSVD
        from sklearn.feature_extraction.text import TfidfTransformer

        sentences = words.flatten(0, 1)
        sentences = sentences[(sentences != PAD).any(1)]
        chosen = np.sort(np.random.default_rng(seed).permutation(len(sentences))[:LEARNED])
        counts = self._counts(sentences[torch.from_numpy(chosen)], rows)
        self.rows, self.weights = rows, TfidfTransformer(sublinear_tf=True).fit(counts)
        size = max(1, min(DIMENSIONS, rows - 1, len(chosen) - 1))
        self.svd = TruncatedSVD(size, random_state=seed).fit(self.weights.transform(counts))

    def __call__(self, words: Tensor) -> Tensor:
        found = self.svd.transform(self.weights.transform(self._counts(words, self.rows)))
        return torch.from_numpy(found.astype(np.float32))

    @staticmethod
    def _counts(words: Tensor, rows: int) -> Any:
        from scipy.sparse import csr_matrix

        held = words.numpy()
        row, column = np.nonzero(held)
        out = csr_matrix((np.ones(len(row), np.float32), (row, held[row, column])), shape=(len(held), rows))
        out.sum_duplicates()
        return out
