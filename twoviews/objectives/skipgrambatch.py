"""Skip-gram on a GPU: the chunks of the compiled kernels, many at a time, by the update in closed form.

What is drawn is what `skipgramdraws.plan` draws, so one chunk here changes the tables as one does there. Chunks of a
batch see the tables as they were before it, so what they ask of a frequent row adds up to a step that is too long: of
more than MOST steps of single pairs only the direction is kept, at that length.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .skipgram import update
from .skipgramdraws import How, Noise, plan
from .skipgramkernels import FARTHEST

TOGETHER = 32  # chunks, fewer where there are few rows
MOST = 128


def batched(
    method: Any, how: How, noise: Noise, seed: int
) -> Callable[[Any, float, int, int], tuple[float, int, bool]]:
    """What trains one block: (tokens, lr, epoch, index) -> sum of the loss, pairs, whether it is finite."""
    device = method.encoder.weight.device
    groups = len(noise.starts) - 1
    together = min(max(len(method.encoder.weight) // (4 * how.rows), 1), TOGETHER)
    kinds = torch.from_numpy(noise.kinds.astype(np.int64)).to(device)

    @torch.no_grad()
    def block(tokens: Any, lr: float, epoch: int, index: int) -> tuple[float, int, bool]:
        todo = plan(tokens.tokens, tokens.bounds, noise, how, seed, epoch, index)
        first, low, high, drawn = (
            torch.from_numpy(a).to(device) for a in (todo.first, todo.low, todo.high, todo.drawn)
        )
        words = torch.from_numpy(tokens.tokens).to(device).long()
        loss, pairs = torch.zeros(2, device=device, dtype=torch.float64)
        for begin in range(0, len(first), together):
            part = slice(begin, begin + together)
            chunks = _Chunks(words, begin, first[part], low[part], high[part], drawn[part].long(), how)
            value, count = _learn(method, chunks, kinds, groups, lr)
            loss, pairs = loss + value, pairs + count
        return float(loss), int(pairs), bool(loss.isfinite())

    return block


class _Chunks:
    """B chunks as rows of the tables. centres: (B, L).  contexts: (B, M).  drawn: (B, Q).  pair: (B, L, M) bool."""

    def __init__(self, words: Tensor, begin: int, first: Tensor, low: Tensor, high: Tensor, drawn: Tensor, how: How):
        last, device = len(words) - 1, words.device
        numbers = torch.arange(begin, begin + len(first), device=device)
        centres = numbers[:, None] * how.rows + torch.arange(how.rows, device=device)  # (B, L)
        seen = torch.arange(how.rows + 2 * how.window, device=device)  # (M,)
        contexts = first[:, None] + seen  # (B, M)
        inside = (seen >= low[..., None]) & (seen < high[..., None])  # (B, L, M)
        self.pair = inside & (contexts[:, None] != centres[..., None])
        self.centres, self.contexts = words[centres.clamp(max=last)], words[contexts.clamp(max=last)]
        self.drawn = drawn


def _learn(method: Any, c: _Chunks, kinds: Tensor, groups: int, lr: float) -> tuple[Tensor, Tensor]:
    """Change the tables by one batch of chunks. Rows that no pair has get zeros."""
    weight = method.encoder.weight
    pair = c.pair[..., None].to(weight.dtype)  # (B, L, M, 1)
    if groups > 1:
        pair = pair * torch.nn.functional.one_hot(kinds[c.contexts], groups)[:, None].to(weight.dtype)  # (B, L, M, G)
    drawn = c.drawn.view(len(c.drawn), groups, -1)  # (B, G, K)
    shift = weight.new_zeros(()).expand(len(weight)) if method.bias is None else method.bias - method.correction
    held = _held(pair, c, drawn, len(weight), method.negatives)
    loss, count = weight.new_zeros(()), weight.new_zeros(())
    for part in method.parts():
        inputs = part.inputs[:, part.left : part.left + part.width]
        contexts = part.contexts[:, part.right : part.right + part.width]
        rows = inputs[c.centres], contexts[c.contexts], contexts[drawn], shift[c.contexts], shift[drawn]
        found = update(*rows, pair, loss=method.loss, negatives=method.negatives, lr=lr)
        inputs.index_add_(0, c.centres.flatten(), (found.dx * (_near(found.dx) * held[0])[..., None]).flatten(0, 1))
        contexts.index_add_(0, c.contexts.flatten(), (found.dy * (_near(found.dy) * held[1])[..., None]).flatten(0, 1))
        contexts.index_add_(0, drawn.flatten(), (found.dn * (_near(found.dn) * held[2])[..., None]).flatten(0, 2))
        if method.bias is not None:
            method.bias.index_add_(0, c.contexts.flatten(), (found.dyb * held[1]).flatten())
            method.bias.index_add_(0, drawn.flatten(), (found.dnb * held[2]).flatten())
        loss, count = loss + found.loss, found.pairs
    return loss, count


def _near(change: Tensor) -> Tensor:
    """(..., D) -> (...): what to multiply changes of rows with, so that none is longer than FARTHEST."""
    return FARTHEST / change.norm(dim=-1).clamp(min=FARTHEST)


def _held(pair: Tensor, c: _Chunks, drawn: Tensor, rows: int, negatives: int) -> tuple[Tensor, Tensor, Tensor]:
    """What to multiply the changes of centres (B, L), contexts (B, M) and negatives (B, G, K) with."""
    if len(pair) == 1:  # as compiled: chunks are short enough alone
        return tuple(pair.new_ones(n.shape) for n in (c.centres, c.contexts, drawn))  # type: ignore[return-value]
    weight = negatives / drawn.shape[2]
    ask = pair.sum((2, 3)) * (1 + negatives), pair.sum((1, 3)), pair.sum((1, 2))[..., None].expand(drawn.shape) * weight
    first, second = pair.new_zeros(rows), pair.new_zeros(rows)
    first.index_add_(0, c.centres.flatten(), ask[0].flatten())
    second.index_add_(0, c.contexts.flatten(), ask[1].flatten())
    second.index_add_(0, drawn.flatten(), ask[2].flatten())
    first, second = ((MOST / n.clamp(min=MOST)) for n in (first, second))
    return first[c.centres], second[c.contexts], second[drawn]
