"""ProNE: vectors of nodes from two sparse products and no walk, in seconds. The floor that trained vectors must beat.

    r_ij = log p_ij - log n_j  on edges, 0 elsewhere;   p_ij = w_ij / sum_k w_ik;   n_j ~ (sum_i p_ij) ^ alpha
    F    = unit rows of U S^1/2,  U S V' = the largest singular values of r        (randomised; Halko et al. 2011)
    G    = exp(-theta (1/2 (L - mu)^2 - 1)) F,  L = 1 - D^-1 (1 + A)               (a Chebyshev series of `step` terms)
    out  = unit rows of U S^1/2,  U S V' = (1 + A) (F - G)

Zhang et al. 2019, "ProNE: Fast and Scalable Network Representation Learning", IJCAI; and the authors' code, from which
the last line is. That code subtracts log(w_ij n_j), so that the weights cancel; here it is the paper's n_j.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from ..errors import DataError, UserError
from ..objectives.spectral import factorised, inverse, singular, unit_rows
from ..types import Batch, Method, Out

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix, spmatrix


class ProNE(Method):
    """encoder: with `weight` (V, D), as Table.  step, mu, theta: terms, centre and width of the filter."""

    def __init__(
        self, encoder: nn.Module, alpha: float = 0.75, step: int = 10, mu: float = 0.2, theta: float = 0.5
    ) -> None:
        super().__init__()
        if step < 2:
            raise UserError(f"the filter of ProNE needs two terms or more, got step={step}")
        self.encoder = encoder
        self.alpha, self.step, self.mu, self.theta = alpha, step, mu, theta

    def forward(self, batch: Batch) -> Out:
        raise UserError("ProNE is solved, not trained step by step: call solve(adjacency)")

    @torch.no_grad()
    def solve(self, adjacency: spmatrix, seed: int = 0) -> None:
        """Fill encoder.weight; a node without an edge keeps its vector.

        adjacency: (V, V) weights of the edges, taken in both directions; those from a node to itself do not count.
        Raises UserError where it is not of the table's rows or has a weight below 0, DataError where it has no edge.
        """
        weight: torch.Tensor = self.encoder.weight  # type: ignore[assignment]
        rows, width = weight.shape
        if adjacency.shape != (rows, rows):
            raise UserError(f"the table has {rows:,} rows, so its graph is {rows} x {rows}, got {adjacency.shape}")
        a = _both_ways(adjacency)
        if not a.nnz:
            raise DataError("the graph has no edge between two nodes: there is nothing to factorise")
        joined = np.flatnonzero(np.diff(a.indptr))
        a = a[joined][:, joined]
        found = factorised(log_ratio(a, self.alpha), width, seed)
        found = propagated(a, found, self.step, self.mu, self.theta)
        at = torch.from_numpy(joined).to(weight.device)
        weight[at, : found.shape[1]] = torch.from_numpy(found).to(weight)
        weight[at, found.shape[1] :] = 0  # fewer nodes than columns


def log_ratio(a: csr_matrix, alpha: float) -> csr_matrix:
    """(V, V) weights, no row empty -> r as above, on the same edges."""
    sources = np.repeat(np.arange(a.shape[0]), np.diff(a.indptr))
    p = a.data / np.bincount(sources, a.data)[sources]
    noise = np.bincount(a.indices, p, a.shape[1]) ** alpha
    ratio = np.log(p) - np.log(noise / noise.sum())[a.indices]
    return type(a)((ratio.astype(a.dtype), a.indices, a.indptr), a.shape)


def propagated(a: csr_matrix, f: np.ndarray, step: int, mu: float, theta: float) -> np.ndarray:
    """The vectors F (V, D) through the filter, and as unit rows of U S^1/2 again."""
    from scipy.sparse import diags, identity
    from scipy.special import iv

    one = identity(a.shape[0], a.dtype, "csr")
    looped = a + one
    degree = np.asarray(looped.sum(axis=1), a.dtype).ravel()
    m = (one * np.float32(1 - mu) - diags(1 / degree) @ looped).tocsr()  # L - mu
    last, now = f, 0.5 * (m @ (m @ f)) - f  # Chebyshev polynomials of m^2 / 2 - 1
    terms = [(-1) ** i * (1 + (i > 0)) * float(iv(i, theta)) for i in range(step)]
    smooth = terms[0] * last + terms[1] * now
    for i in range(2, step):
        last, now = now, m @ (m @ now) - 2 * now - last
        smooth += terms[i] * now
    x = looped @ (f - smooth)
    s, v = singular(x)
    return unit_rows(x @ (v * inverse(s) ** 0.5))


def _both_ways(adjacency: spmatrix) -> csr_matrix:
    from scipy.sparse import csr_matrix, diags

    a = csr_matrix(adjacency, dtype=np.float32)
    if a.nnz and a.data.min() < 0:
        raise UserError(f"edges weigh 0 or more, got {a.data.min():g}")
    a = a.maximum(a.T).tocsr()
    a = (a - diags(a.diagonal())).tocsr()
    a.eliminate_zeros()
    a.sort_indices()
    return a
