"""Log-sum-exps of negatives and logits of positives for losses of any size: differentiable, by tiles.

    views     all views of all items against each other            NT-Xent
    towers    queries against the batch's keys, and back           InfoNCE, in one sweep for both directions
    queue     queries against keys that all of them share          MoCo

Over several ranks each takes its own rows against the columns of all. In backward the ranks exchange log-sums and the
gradients that arrived at them, two numbers a row: with these a rank knows what its vectors are worth as columns of
others, and computes all of its own gradient. That takes 3 products of own rows with all columns (a triangle shared out
would take 2), but no gradient of all columns has to be held or reduced, and it is exact whatever gradient arrives, also
where that differs between ranks.

Inputs are float32 or float64 unit vectors. No second derivatives.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from ..dist import counts, gather, rank, world
from .tiles import Weights, add_gradients, log_sums

LN_2 = math.log(2)


def views(z: Sequence[Tensor], temperature: float) -> tuple[Tensor, Tensor]:
    """V tensors (B, D) -> log-sum-exps of each row's negatives (V, B), logits of each pair of views (V(V-1)/2, B).

    Negatives are all views of all other items, of all ranks. Pairs are in the order of `itertools.combinations`.
    """
    return _Views.apply(temperature, *z)


def towers(q: Tensor, k: Tensor, temperature: float, both: bool = False) -> tuple[Tensor, ...]:
    """(B, D) twice -> log-sum-exps of each query's negatives, with `both` of each key's, logits of the pairs: all (B,).

    A query's negatives are the keys of all other items, of all ranks; a key's are the queries of all others.
    """
    return _Towers.apply(q, k, temperature, both)


def queue(q: Tensor, keys: Tensor, temperature: float) -> Tensor:
    """(B, D), (K, D) -> log-sum-exp of each query's logits (B,)."""
    return _Queue.apply(q, keys, temperature, torch.is_grad_enabled() and q.requires_grad)


class _Views(Function):
    @staticmethod
    def forward(ctx: Any, temperature: float, *z: Tensor) -> tuple[Tensor, Tensor]:
        everyone, ctx.own = _everyone(z)
        log2, _ = log_sums(z, everyone, temperature, ctx.own)
        ctx.save_for_backward(log2, *z, *(() if everyone is z else everyone))
        ctx.temperature = temperature
        return log2 * LN_2, torch.stack([_dots(a, b) for a, b in combinations(z, 2)]) / temperature

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_sums: Tensor, of_positives: Tensor) -> tuple[Tensor | None, ...]:
        log2, *saved = ctx.saved_tensors
        z, everyone = saved[: len(log2)], saved[len(log2) :]
        dz = [_blank(x, needed) for x, needed in zip(z, ctx.needs_input_grad[1:], strict=True)]
        mine = log2, of_sums
        if everyone:
            add_gradients(z, everyone, ctx.temperature, ctx.own, mine, _shared(mine), dz)
        else:
            add_gradients(z, z, ctx.temperature, ctx.own, mine, mine, dz, dz)
        for (a, b), c in zip(combinations(range(len(z)), 2), of_positives / ctx.temperature, strict=True):
            _pull(dz[a], z[b], c)
            _pull(dz[b], z[a], c)
        return None, *dz


class _Towers(Function):
    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, temperature: float, both: bool) -> tuple[Tensor, ...]:
        (queries, keys), ctx.own = _everyone((q, k))
        ctx.alone = queries is q
        of_q, of_k = log_sums((q,), (keys,), temperature, ctx.own, both and ctx.alone)
        if both and not ctx.alone:
            of_k, _ = log_sums((k,), (queries,), temperature, ctx.own)
        ctx.save_for_backward(q, k, queries, keys, of_q, of_k)
        ctx.temperature = temperature
        sums = (of_q, of_k) if both else (of_q,)
        return *(log2[0] * LN_2 for log2 in sums), _dots(q, k) / temperature

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, at_q: Tensor, *others: Tensor) -> tuple[Tensor | None, ...]:
        *at_k, of_positives = others
        q, k, queries, keys, log2_q, log2_k = ctx.saved_tensors
        dq, dk = _blank(q, ctx.needs_input_grad[0]), _blank(k, ctx.needs_input_grad[1])
        of_q = log2_q, at_q[None]
        of_k = (log2_k, at_k[0][None]) if at_k else None
        if ctx.alone:
            add_gradients((q,), (k,), ctx.temperature, ctx.own, of_q, of_k, (dq,), (dk,))
        else:
            if dq is not None:
                add_gradients((q,), (keys,), ctx.temperature, ctx.own, of_q, of_k and _shared(of_k), (dq,))
            if dk is not None:
                add_gradients((k,), (queries,), ctx.temperature, ctx.own, of_k, _shared(of_q), (dk,))
        _pull(dq, k, of_positives / ctx.temperature)
        _pull(dk, q, of_positives / ctx.temperature)
        return dq, dk, None, None


class _Queue(Function):
    """Where only queries learn, their gradient is a softmax-weighted mean of keys: made in forward, in one sweep."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, keys: Tensor, temperature: float, learns: bool) -> Tensor:
        pulled = torch.zeros_like(q) if learns and not keys.requires_grad else None
        log2, _ = log_sums((q,), (keys,), temperature, None, pulled=pulled)
        ctx.save_for_backward(*((q, keys, log2) if pulled is None else (pulled,)))
        ctx.temperature = temperature
        return log2[0] * LN_2

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        if len(ctx.saved_tensors) == 1:
            return ctx.saved_tensors[0] * (upstream / ctx.temperature)[:, None], None, None, None
        q, keys, log2 = ctx.saved_tensors
        dq, dk = _blank(q, ctx.needs_input_grad[0]), _blank(keys, ctx.needs_input_grad[1])
        add_gradients((q,), (keys,), ctx.temperature, None, (log2, upstream[None]), None, (dq,), (dk,))
        return dq, dk, None, None


def _everyone(own: tuple[Tensor, ...]) -> tuple[tuple[Tensor, ...], int]:
    """V tensors (B, D) -> those of all ranks, V of (N, D), and where this rank's first row is among them."""
    if world() == 1:
        return own, 0
    rows = counts(len(own[0]))
    return gather(torch.cat(own, 1)).split(own[0].shape[1], 1), sum(rows[: rank()])


def _shared(weights: Weights) -> Weights:
    """The log-sums and gradients of all ranks' rows, (V, B) -> (V, N)."""
    log2, upstream = gather(torch.cat(weights).T).T.contiguous().chunk(2)
    return log2, upstream


def _dots(a: Tensor, b: Tensor) -> Tensor:
    return torch.einsum("bd,bd->b", a, b)


def _blank(x: Tensor, needed: bool) -> Tensor | None:
    return torch.zeros_like(x) if needed else None


def _pull(into: Tensor | None, other: Tensor, c: Tensor) -> None:
    """Add the gradient of a row's dot product with `other`'s row, c of them (B,)."""
    if into is not None:
        into.addcmul_(other, c[:, None])
