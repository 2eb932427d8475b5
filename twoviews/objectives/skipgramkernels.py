"""Skip-gram compiled for processors: tokens in chunks, each chunk a few small matrix products.

A chunk is a run of some 64 tokens, the centres, with the tokens that their windows reach. Its rows are gathered once,
all gradients are taken at these values, and what they change is added back once.

Threads write to the tables without locks: Recht et al. 2011, arXiv:1106.5730 (Hogwild).
"""

from typing import Any, NamedTuple

import numpy as np

from ..compiled import compiled
from .lanes import LANES, fma, load, prefetch, splat, store, total
from .skipgramchunk import chunk, fast, gradients
from .skipgramdraws import plan

SAMPLED = 64  # the loss is read at every so many chunks
AHEAD = 6  # rows between one that is copied and one that is asked for
FARTHEST = 1.0  # that one place of a chunk moves its row: a hub that stands in many would run away


class Tables(NamedTuple):
    """The two tables and what NCE adds to a score.

    inputs, contexts: (V, >= D), of which `width` columns are learned, from `left` and `right` on.
    bias: (V,), b_c. correction: (V,), log(k Pn(c)). Both empty but for NCE.
    """

    inputs: np.ndarray
    contexts: np.ndarray
    left: int
    right: int
    width: int
    bias: np.ndarray
    correction: np.ndarray


def tables_of(method: Any, part: Any) -> Tables:
    """The arrays of a part of a method (methods/word2vec.py), which are its memory."""
    nothing = np.empty(0, part.inputs.detach().numpy().dtype)
    inputs, contexts = part.inputs.detach().numpy(), part.contexts.detach().numpy()
    if method.bias is None:
        return Tables(inputs, contexts, part.left, part.right, part.width, nothing, nothing)
    more = method.bias.detach().numpy(), method.correction.numpy()
    return Tables(inputs, contexts, part.left, part.right, part.width, *more)


@fast
def _read(table, left, width, rows, out):
    """out[i, :width] = table[rows[i], left : left + width], each row asked for a little ahead."""
    source, target, far = table.reshape(table.size), out.reshape(out.size), len(rows) - AHEAD
    across, wide, whole = np.int64(table.shape[1]), out.shape[1], width // LANES * LANES
    for i in range(len(rows)):
        a, b = rows[i] * across + left, i * wide
        if i < far:
            ahead = rows[i + AHEAD] * across + left
            for k in range(0, width, LANES):
                prefetch(source, ahead + k)
        for k in range(0, whole, LANES):
            store(target, b + k, load(source, a + k))
        for k in range(whole, width):
            target[b + k] = source[a + k]


@fast
def _add(table, left, width, rows, found):
    """table[rows[i], left : left + width] += found[i, :width], one row after the other, none by more than FARTHEST."""
    target, source = table.reshape(table.size), found.reshape(found.size)
    across, wide, whole = np.int64(table.shape[1]), found.shape[1], width // LANES * LANES
    t, nothing = found.dtype.type, splat(found.dtype.type(0))
    for i in range(len(rows)):
        a, b = rows[i] * across + left, i * wide
        squares = nothing
        for k in range(0, wide, LANES):
            v = load(source, b + k)
            squares = fma(v, v, squares)
        length = np.sqrt(total(squares))
        part = t(1) if length <= t(FARTHEST) else t(FARTHEST) / length
        scale = splat(part)
        for k in range(0, whole, LANES):
            store(target, a + k, fma(scale, load(source, b + k), load(target, a + k)))
        for k in range(whole, width):
            target[a + k] += part * source[b + k]


@fast
def gather(c, centres, contexts, drawn, tables, noise):
    """Read the rows of a chunk. centres, contexts, drawn: (rows,), (seen,), (Q,) int32."""
    t = tables
    _read(t.inputs, t.left, t.width, centres, c.x)
    _read(t.contexts, t.right, t.width, contexts, c.y)
    _read(t.contexts, t.right, t.width, drawn, c.n)
    if len(noise.kinds):
        for j in range(len(contexts)):
            c.kind[j] = noise.kinds[contexts[j]]
    if len(t.bias):
        for j in range(len(contexts)):
            c.yb[j] = t.bias[contexts[j]] - t.correction[contexts[j]]
        for k in range(len(drawn)):
            c.nb[k] = t.bias[drawn[k]] - t.correction[drawn[k]]


@fast
def scatter(c, centres, contexts, drawn, tables):
    """Add to the tables what `gradients` found."""
    t = tables
    _add(t.inputs, t.left, t.width, centres, c.dx)
    _add(t.contexts, t.right, t.width, contexts, c.dy)
    _add(t.contexts, t.right, t.width, drawn, c.dn)
    if len(t.bias):
        for j in range(len(contexts)):
            t.bias[contexts[j]] += c.dyb[j]
        for k in range(len(drawn)):
            t.bias[drawn[k]] += c.dnb[k]


@compiled()
def learn(tokens, bounds, tables, noise, how, lr, seed, epoch, block):
    """Train the tables on one block. Gives the sum of the loss over the pairs where it was read, and how many those.

    tokens, bounds: as in types.Tokens, whose sequences cover all tokens.  lr: of the tables' type.
    """
    c = chunk(how, len(noise.starts) - 1, tables.width, tables.inputs)
    todo = plan(tokens, bounds, noise, how, seed, epoch, block)
    loss, read = 0.0, 0
    for n in range(len(todo.first)):
        begin, end, first, last = n * how.rows, min((n + 1) * how.rows, len(tokens)), todo.first[n], todo.last[n]
        c.low[:], c.high[:] = todo.low[n], todo.high[n]
        gather(c, tokens[begin:end], tokens[first:last], todo.drawn[n], tables, noise)
        found, pairs = gradients(c, end - begin, last - first, begin - first, how, lr, n % SAMPLED == 0)
        scatter(c, tokens[begin:end], tokens[first:last], todo.drawn[n], tables)
        if n % SAMPLED == 0:
            loss += found
            read += pairs
    return loss, read
