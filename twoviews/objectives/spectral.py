"""Singular vectors of tall matrices and large sparse ones, from products of their columns.

Randomised factorisation with power rounds: Halko, Martinsson, Tropp 2011, arXiv:0909.4061.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

MORE, ROUNDS = 10, 5  # columns beyond those kept, and powers, as in ProNE's code
BLOCK = 2**14  # rows that are squared at once


def factorised(matrix: csr_matrix, width: int, seed: int) -> np.ndarray:
    """(V, V) -> (V, min(D, V)): unit rows of U S^1/2."""
    rows = matrix.shape[0]
    back = matrix.T.tocsr()
    more = min(width + MORE, rows)
    q = matrix @ np.random.default_rng(seed).standard_normal((rows, more), dtype=matrix.dtype)
    for _ in range(ROUNDS):
        q = matrix @ orthonormal(back @ orthonormal(q))
    q = orthonormal(q)
    s, v = singular(back @ q)
    return unit_rows((q @ v[:, :width]) * np.sqrt(s[:width]))


def singular(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(V, D) -> the singular values (D,), largest first, and V (D, D) of x = U S V', from the products of columns."""
    squares = np.zeros((x.shape[1], x.shape[1]))
    for start in range(0, len(x), BLOCK):
        block = x[start : start + BLOCK].astype(np.float64)
        squares += block.T @ block
    squares, v = np.linalg.eigh(squares)
    return np.sqrt(np.maximum(squares[::-1], 0)).astype(x.dtype), v[:, ::-1].astype(x.dtype)


def inverse(s: np.ndarray) -> np.ndarray:
    """1 / s, and 0 where the numbers in x hold nothing but rounding."""
    least = max(1e-6 * s[0], np.finfo(s.dtype).tiny)
    return np.where(s > least, 1 / np.maximum(s, least), 0).astype(s.dtype)


def orthonormal(x: np.ndarray) -> np.ndarray:
    """(V, D) -> U: a basis of what the columns span."""
    s, v = singular(x)
    return x @ (v * inverse(s))


def unit_rows(x: np.ndarray) -> np.ndarray:
    return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)
