"""Meta-paths chosen softly: each step of a path is a mixture of all relations, and what nodes are passes along it.

    Q_l = sum_k softmax(w_l)_k A_k                  A_1 .. A_K the relations with rows that sum to 1, A_0 = I: no step
    A   = D^-1 (.. D^-1 (D^-1 Q_1 Q_2) Q_3 ..)      D: what makes rows sum to 1
    h   = ||_c relu((D + I)^-1 (A + I) X W)         for each of C meta-paths with weights w of their own

Yun et al. 2019, "Graph Transformer Networks", arXiv:1911.06455. As D is diagonal and stands on the left, A is
D^-1 Q_1 .. Q_L with one D, which is Q_1 .. Q_L applied to ones; so A X needs no product of relations, only L products
with X from right to left (Yun et al. 2021, "FastGTNs", arXiv:2106.06218). Both forms are here and equal. Rows that sum
to 1 are of the second paper's code: they make the weights of relations of unlike degree comparable.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import embedding_bag, pad

from ..errors import UserError

SHARP = 10.0  # a step of Adam moves a choice by 10 learning rates: relations are sought faster than weights are fitted


class Relational(nn.Module):
    """Vectors of all nodes of a graph, from their features or a learned table and from those at the ends of paths.

    rows:      V, the nodes.  relations: K, of which `connect` gives the edges; they are no part of the saved state.
    features:  F, columns of the nodes' features; 0: a table of vectors is learned in their place.
    dim:       width for each meta-path, so h is paths * dim wide.
    paths:     C, meta-paths sought at once (the paper's channels).  length: L, their most steps.
    multiply:  form the paths' own edges, as the first paper does: for small graphs, its memory grows with them.
    """

    def __init__(
        self,
        rows: int = 1,
        relations: int = 1,
        features: int = 0,
        dim: int = 64,
        paths: int = 2,
        length: int = 3,
        multiply: bool = False,
    ):
        super().__init__()
        if min(rows, relations, dim, paths, length) < 1 or features < 0:
            raise UserError("rows, relations, dim, paths and length must be at least 1, and features not below 0")
        self.rows, self.relations, self.features, self.multiply = rows, relations, features, multiply
        self.dim = paths * dim
        self.choice = nn.Parameter(0.1 / SHARP * torch.randn(paths, length, relations + 1))
        self.weight = nn.Parameter(nn.init.xavier_uniform_(torch.empty(features or rows, dim)))
        self.edges = nn.ModuleList()
        self.register_buffer("given", None, persistent=False)
        self.register_buffer("scale", None, persistent=False)

    def connect(self, matrices: Sequence[Any], features: Any = None) -> Relational:
        """Take the edges and the features; returns itself.

        matrices: K scipy.sparse.csr_matrix (V, V), of which entry (i, j) is the weight of an edge that a path takes
                  from i to j.  features: (V, F).
        Raises UserError where their shapes are others.
        """
        shapes = {matrix.shape for matrix in matrices}
        if len(matrices) != self.relations or shapes != {(self.rows, self.rows)}:
            wanted = f"{self.relations} of ({self.rows}, {self.rows})"
            raise UserError(f"this encoder reads {wanted} relations, got {len(matrices)} of {sorted(shapes)}")
        given = (self.rows, 0) if features is None else tuple(features.shape)
        if given != (self.rows, self.features):
            raise UserError(f"this encoder reads {self.features} features of {self.rows} nodes, got {given}")
        self.edges = nn.ModuleList(Edges(matrix) for matrix in matrices).to(self.weight)
        self.given = None if features is None else torch.as_tensor(features).to(self.weight)
        counts = np.sqrt(sum(np.bincount(matrix.indices, minlength=self.rows) for matrix in matrices))
        self.scale = torch.from_numpy(counts / max(counts.mean(), 1e-12))[:, None].to(self.weight)
        return self

    def own(self, asked: Tensor) -> Tensor:
        """X W, (V, dim). From a table: of a node that others lead to often the row is learned faster, as where its
        gradients add up, which Adam levels; and while it is trained, nodes that are asked for have no row to be learned
        by heart. Else the first path that tells the nodes apart is as good as one that tells the classes apart.
        """
        if self.given is not None:
            return (self.given @ self.weight).to(self.weight)
        rows = self.weight * self.scale
        return rows.index_fill(0, asked, 0.0) if self.training else rows

    def weights(self) -> Tensor:
        """(C, L, K + 1): how much each step takes of each relation, at 0 of staying."""
        return (SHARP * self.choice).softmax(2)

    def forward(self, x: Tensor) -> Tensor:
        """(B,) int64 numbers of nodes -> (B, C * dim). All nodes are computed, whichever are asked for."""
        if not len(self.edges):
            raise UserError("the encoder has no edges yet: give it those of its graph with connect")
        own = self.own(x)
        there, reached = (multiplied if self.multiply else applied)(own, self.weights(), self.edges)
        return ((there + own[:, None]) / (1 + reached)).relu().flatten(1)[x]

    def tokens(self, x: Tensor) -> Tensor:
        """(B,) -> (B, C, dim): one vector a meta-path."""
        return self(x).unflatten(1, (len(self.choice), -1))


class Edges(nn.Module):
    """A relation and its transpose, as compressed rows from the first to the last that has an edge."""

    def __init__(self, matrix: Any):
        super().__init__()
        sums = np.asarray(matrix.sum(1)).ravel()
        matrix = matrix.multiply(1 / np.where(sums > 0, sums, 1)[:, None]).tocsr()
        self.ahead, self.back = Rows(matrix), Rows(matrix.T.tocsr())


class Rows(nn.Module):
    """Compressed rows begin .. end - 1 of a matrix, the others being empty."""

    starts: Tensor
    columns: Tensor
    values: Tensor

    def __init__(self, matrix: Any):
        super().__init__()
        filled = np.flatnonzero(np.diff(matrix.indptr))
        self.begin, self.end = (int(filled[0]), int(filled[-1]) + 1) if len(filled) else (0, 0)
        parts = {"starts": matrix.indptr[self.begin : self.end + 1], "columns": matrix.indices, "values": matrix.data}
        for name, part in parts.items():
            self.register_buffer(name, torch.from_numpy(np.ascontiguousarray(part)), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """(V, ...) -> (end - begin, ...): these rows of the matrix times x."""
        flat = x.flatten(1)
        how: dict[str, Any] = {"mode": "sum", "include_last_offset": True, "per_sample_weights": self.values}
        return embedding_bag(self.columns, flat, self.starts, **how).unflatten(1, x.shape[1:])


def applied(own: Tensor, weights: Tensor, edges: nn.ModuleList) -> tuple[Tensor, Tensor]:
    """A X and whether a path leaves the node: (V, C, dim) and (V, C, 1), of X = own (V, dim), weights (C, L, K + 1)."""
    x = pad(own, (0, 1), value=1.0)[:, None]  # (V, 1, dim + 1): the ones become D
    for step in reversed(range(weights.shape[1])):
        x = Mix.apply(x, weights[:, step], edges)  # (V, C, dim + 1)
    sums = x[..., -1:]
    reached = sums > 0
    return x[..., :-1] / torch.where(reached, sums, 1), reached


class Mix(torch.autograd.Function):
    """sum_k w_k A_k x in memory of a few x: backward keeps x alone, for d w_k = <x, A_k' dy>."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weights: Tensor, edges: nn.ModuleList) -> Tensor:
        """x (V, C or 1, D), weights (C, K + 1) -> (V, C, D)."""
        ctx.save_for_backward(x, weights)
        ctx.edges = edges
        out = weights[:, :1] * x
        for k, relation in enumerate(edges, 1):
            rows: Any = relation.ahead
            out[rows.begin : rows.end] += weights[:, k, None] * rows(x)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        x, weights = ctx.saved_tensors
        grad = grad.contiguous()
        shared = x.shape[1] < grad.shape[1]

        def down(gx: Tensor) -> Tensor:
            return gx.sum(1, keepdim=True) if shared else gx

        by_weight = torch.empty_like(weights)
        by_weight[:, 0] = (x * grad).sum((0, 2))
        by_x = down(weights[:, :1] * grad)
        for k, relation in enumerate(ctx.edges, 1):
            rows = relation.back
            came = rows(grad)  # (end - begin, C, D)
            by_weight[:, k] = (x[rows.begin : rows.end] * came).sum((0, 2))
            by_x[rows.begin : rows.end] += down(weights[:, k, None] * came)
        return by_x, by_weight, None


def multiplied(own: Tensor, weights: Tensor, edges: nn.ModuleList) -> tuple[Tensor, Tensor]:
    """What `applied` gives, with A of each path formed as sparse products."""
    paths = [adjacency(steps, edges, len(own)) for steps in weights]
    there = torch.stack([torch.sparse.mm(path, own) for path in paths], 1)
    sums = torch.stack([torch.sparse.mm(path, torch.ones_like(own[:, :1])) for path in paths], 1)
    return there, sums > 0


def adjacency(weights: Tensor, edges: nn.ModuleList, rows: int) -> Tensor:
    """A of one path, sparse (V, V) with rows that sum to 1 or 0; weights (L, K + 1)."""
    here = torch.arange(rows, device=weights.device)
    parts = [(torch.stack([here, here]), weights.new_ones(rows))]
    for relation in edges:
        ahead: Any = relation.ahead
        degrees = ahead.starts.diff().long()
        sources = here[ahead.begin : ahead.end].repeat_interleave(degrees)
        parts.append((torch.stack([sources, ahead.columns.long()]), ahead.values))
    places = torch.cat([place for place, _ in parts], 1)
    path = None
    for step in weights:
        values = torch.cat([w * value for w, (_, value) in zip(step, parts, strict=True)])
        mixture = sparse(places, values, rows)
        path = mixture if path is None else normalised(product(path, mixture))
    assert path is not None
    return normalised(path)


def product(a: Tensor, b: Tensor) -> Tensor:
    with warnings.catch_warnings():  # torch computes it in a layout that it calls beta
        warnings.filterwarnings("ignore", "Sparse CSR tensor", UserWarning)
        return torch.sparse.mm(a, b)


def sparse(places: Tensor, values: Tensor, rows: int) -> Tensor:
    return torch.sparse_coo_tensor(places, values, (rows, rows), check_invariants=False).coalesce()


def normalised(path: Tensor) -> Tensor:
    """D^-1 A."""
    path = path.coalesce()
    places, values = path.indices(), path.values()
    sums = values.new_zeros(path.shape[0]).index_add(0, places[0], values)
    return sparse(places, values / sums[places[0]], path.shape[0])
