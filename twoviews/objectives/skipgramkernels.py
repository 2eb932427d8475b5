"""Skip-gram compiled for processors: tokens in chunks, each chunk a few small matrix products.

A chunk is a run of some 64 tokens, the centres, with the tokens that their windows reach. Its rows are gathered once,
all gradients are taken at these values, and what they change is added back once:

    S = X N^T          scores against K negatives that the chunk shares     (BLAS)
    dX = G N + ...     dN = G^T X                                           (BLAS)
    the band of positive pairs, by hand: a window covers too little of X Y^T

Shared negatives: Ji et al. 2016, arXiv:1604.04661 (pWord2Vec), here over a chunk instead of one window. Threads write
to the tables without locks: Recht et al. 2011, arXiv:1106.5730 (Hogwild).
"""

from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from ..compiled import below, compiled, draw, stream, unit
from ..errors import UserError
from .lanes import LANES, fma, load, prefetch, splat, store, total

SGNS, NCE, INFO_NCE = range(3)  # the places of objectives.skipgram.LOSSES
CHUNK = 64  # centres of a chunk, at most
STEPS = 64
SAMPLED = 64  # the loss is read at every so many chunks
AT_ONCE = 4  # rows that a loop of vectors reads together
AHEAD = 6  # rows between one that is copied and one that is asked for
FAR = 30.0  # beyond it a score counts as this large
FARTHEST = 1.0  # that a chunk moves a row: hubs that stand in it often would run away
fast = compiled(fastmath=True, error_model="numpy")  # without which a division stands in the way of vectors


class How(NamedTuple):
    """The hyper-parameters that kernels read. loss: SGNS, NCE or INFO_NCE.  rows: centres of a chunk, see `how_of`."""

    window: int
    shrink: bool
    negatives: int
    shared: int
    loss: int
    rows: int = CHUNK


def how_of(method: Any, loss: int) -> How:
    """The hyper-parameters of a method. All that a chunk asks of a negative is one step, so it must not be too much:
    chunks are as short as it takes for a negative to stand for some STEPS drawn ones at most.
    """
    pairs = method.window + 1 if method.shrink else 2 * method.window
    rows = int(STEPS * method.shared / (pairs * method.negatives)) // 8 * 8
    settings = method.window, method.shrink, method.negatives, method.shared, loss
    return How(*settings, min(max(rows, 8), CHUNK))


class Noise(NamedTuple):
    """What negatives are drawn from: alias tables (Walker 1977), one for each of G groups of rows.

    starts: (G + 1,) int64, group g is the rows starts[g] .. starts[g + 1] - 1.
    share, other: (V,) float32 and int32: a row that was drawn stays with this probability, else the other is taken.
    kinds: (V,) uint8, the group of each row; empty where there is one.
    """

    starts: np.ndarray
    share: np.ndarray
    other: np.ndarray
    kinds: np.ndarray


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


@compiled()
def aliases(weights, share, other):
    """Fill an alias table: row i is drawn in proportion to weights[i]. weights: (n,) float64, is overwritten."""
    n = len(weights)
    weights *= n / weights.sum()
    small, large = np.empty(n, np.int32), np.empty(n, np.int32)
    few = many = 0
    for i in range(n):
        other[i] = i
        if weights[i] < 1:
            small[few] = i
            few += 1
        else:
            large[many] = i
            many += 1
    while few and many:
        few -= 1
        i, j = small[few], large[many - 1]
        share[i], other[i] = weights[i], j
        weights[j] -= 1 - weights[i]
        if weights[j] < 1:
            many -= 1
            small[few] = j
            few += 1
    for k in range(many):
        share[large[k]] = 1
    for k in range(few):  # left by rounding
        share[small[k]] = 1


def noise_of(counts: np.ndarray, power: float, kinds: np.ndarray | None = None) -> tuple[Noise, np.ndarray]:
    """What negatives are drawn from, count^power, and (V,) float64 the chance of each row within its group.

    kinds: (V,), ascending; None: one group.  A row that never occurs is never drawn.
    Raises UserError where the rows of a group are apart.
    """
    starts = np.array([0, len(counts)])
    if kinds is not None:
        if (np.diff(kinds.astype(np.int64)) < 0).any():
            raise UserError("method.typed=true needs rows in order of their types, and these are mixed")
        starts = np.searchsorted(kinds, np.arange(int(kinds[-1]) + 2))
    share, other = np.ones(len(counts), np.float32), np.arange(len(counts), dtype=np.int32)
    chances = np.zeros(len(counts))
    for begin, end in pairwise(starts):
        weights = np.where(counts[begin:end] > 0, counts[begin:end].astype(np.float64) ** power, 0)
        if weights.sum():
            chances[begin:end] = weights / weights.sum()
            aliases(weights, share[begin:end], other[begin:end])
            other[begin:end] += np.int32(begin)
    groups = np.empty(0, np.uint8) if kinds is None else kinds.astype(np.uint8)
    return Noise(starts.astype(np.int64), share, other, groups), chances


def tables_of(method: Any, part: Any) -> Tables:
    """The arrays of a part of a method (methods/word2vec.py), which are its memory."""
    nothing = np.empty(0, part.inputs.detach().numpy().dtype)
    inputs, contexts = part.inputs.detach().numpy(), part.contexts.detach().numpy()
    if method.bias is None:
        return Tables(inputs, contexts, part.left, part.right, part.width, nothing, nothing)
    more = method.bias.detach().numpy(), method.correction.numpy()
    return Tables(inputs, contexts, part.left, part.right, part.width, *more)


@compiled()
def negatives(noise, shared, state, first, rows):
    """Draw `shared` rows of each group, by the numbers of a stream from `first` on. rows: (G * shared,) int32."""
    for g in range(len(noise.starts) - 1):
        begin, size = noise.starts[g], noise.starts[g + 1] - noise.starts[g]
        if size == 0:  # a type without rows: nothing is a context of that type, so any row will do
            begin, size = 0, 1
        for k in range(g * shared, (g + 1) * shared):
            bits = draw(state, first + k)
            i = begin + np.int64(below(bits, size))
            rows[k] = i if unit(bits) < noise.share[i] else noise.other[i]


class Plan(NamedTuple):
    """What is drawn for a block of C chunks. first, last: (C,), the tokens that the chunk sees are first .. last - 1.

    low, high: (C, L), centre i sees all first + low[i] .. first + high[i] - 1 but itself; equal beyond the end.
    drawn: (C, Q) int32, the negatives.
    """

    first: np.ndarray
    last: np.ndarray
    low: np.ndarray
    high: np.ndarray
    drawn: np.ndarray


@compiled()
def plan(tokens, bounds, noise, how, seed, epoch, block):
    """Windows and negatives of a block, a function of (seed, epoch, block). Windows stay within their sequence."""
    count, groups = (len(tokens) + how.rows - 1) // how.rows, len(noise.starts) - 1
    first, last = np.full(count, len(tokens)), np.zeros(count, np.int64)
    low, high = np.zeros((count, how.rows), np.int64), np.zeros((count, how.rows), np.int64)
    drawn = np.zeros((count, groups * how.shared), np.int32)
    steps, picks = stream(seed, epoch, 2 * block), stream(seed, epoch, 2 * block + 1)
    for sequence in range(len(bounds) - 1):
        begin, end = bounds[sequence], bounds[sequence + 1]
        for p in range(begin, end):
            reach = how.window
            if how.shrink:
                reach = 1 + np.int64(below(draw(steps, p), how.window))
            n = p // how.rows
            a, b = max(p - reach, begin), min(p + reach + 1, end)
            low[n, p % how.rows], high[n, p % how.rows] = a, b
            first[n], last[n] = min(first[n], a), max(last[n], b)
    for n in range(count):
        rows = min(how.rows, len(tokens) - n * how.rows)
        low[n, :rows] -= first[n]
        high[n, :rows] -= first[n]
        negatives(noise, how.shared, picks, n * drawn.shape[1], drawn[n])
    return Plan(first, last, low, high, drawn)


@fast
def exp(s):
    """s <- exp(s) in place, for -FAR .. FAR: Taylor at s / 64, squared six times, which becomes vectors. s: (n,)."""
    t = s.dtype.type
    one, far, part = t(1), t(FAR), t(1 / 64)
    b, c, d, e, f = t(1 / 2), t(1 / 3), t(1 / 4), t(1 / 5), t(1 / 6)
    g, h, i, j = t(1 / 7), t(1 / 8), t(1 / 9), t(1 / 10)
    for k in range(len(s)):
        x = min(max(s[k], -far), far) * part
        y = one + x * g * (one + x * h * (one + x * i * (one + x * j)))
        y = one + x * (one + x * b * (one + x * c * (one + x * d * (one + x * e * (one + x * f * y)))))
        y *= y
        y *= y
        y *= y
        y *= y
        y *= y
        y *= y
        s[k] = y


class Chunk(NamedTuple):
    """What one chunk needs, its rows gathered and padded to whole LANES; rows not in use hold what was there before.

    x: (L, P) centres.  y: (M, P) what they see.  n: (Q, P) negatives, `shared` of each group.
    yb, nb: (M,), (Q,), what NCE adds to their scores.  kind: (M,) group of each y.  low, high: (L,), places in y.
    p: (L, S), place c - low[i] belongs to y_c.  s: (L, Q).  many: (L, G), positives of each group.
    dx, dy, dn, dyb, dnb: what is to be added to each.  turned: (M, S), p by columns.
    """

    x: np.ndarray
    y: np.ndarray
    n: np.ndarray
    yb: np.ndarray
    nb: np.ndarray
    kind: np.ndarray
    low: np.ndarray
    high: np.ndarray
    p: np.ndarray
    s: np.ndarray
    many: np.ndarray
    dx: np.ndarray
    dy: np.ndarray
    dn: np.ndarray
    dyb: np.ndarray
    dnb: np.ndarray
    turned: np.ndarray


@compiled()
def chunk(how, groups, width, like):
    """An empty Chunk of `like`'s type. Four rows are always read at once, so there are a few more than needed."""
    rows, seen, drawn = how.rows + AT_ONCE, how.rows + 2 * how.window + AT_ONCE, groups * how.shared
    wide, span, t = (width + LANES - 1) // LANES * LANES, 2 * how.window + AT_ONCE, like.dtype
    return Chunk(
        np.zeros((rows, wide), t),
        np.zeros((seen, wide), t),
        np.zeros((drawn, wide), t),
        np.zeros(seen, t),
        np.zeros(drawn, t),
        np.zeros(seen, np.uint8),
        np.zeros(how.rows, np.int64),
        np.zeros(how.rows, np.int64),
        np.zeros((how.rows, span), t),
        np.zeros((how.rows, drawn), t),
        np.zeros((how.rows, groups), t),
        np.zeros((how.rows, wide), t),
        np.zeros((seen, wide), t),
        np.zeros((drawn, wide), t),
        np.zeros(seen, t),
        np.zeros(drawn, t),
        np.zeros((seen, span), t),
    )


@fast
def _band_scores(x, y, low, high, p):
    """p[i, j - low[i]] = x_i . y_j for low[i] <= j < high[i], and a few beyond."""
    width, span = x.shape[1], p.shape[1]
    flat_x, flat_y, out = x.reshape(x.size), y.reshape(y.size), p.reshape(p.size)
    nothing = splat(x.dtype.type(0))
    for i in range(len(low)):
        a, at = i * width, i * span
        for j in range(low[i], high[i], AT_ONCE):
            b = j * width
            s0, s1, s2, s3 = nothing, nothing, nothing, nothing
            for k in range(0, width, LANES):
                v = load(flat_x, a + k)
                s0 = fma(v, load(flat_y, b + k), s0)
                s1 = fma(v, load(flat_y, b + width + k), s1)
                s2 = fma(v, load(flat_y, b + 2 * width + k), s2)
                s3 = fma(v, load(flat_y, b + 3 * width + k), s3)
            out[at], out[at + 1], out[at + 2], out[at + 3] = total(s0), total(s1), total(s2), total(s3)
            at += AT_ONCE


@fast
def _band_sums(p, y, first, count, out):
    """out_i += sum of p[i, k] y_(first + k) over count values of k, rounded up to fours; p is 0 there."""
    width = y.shape[1]
    flat, target = y.reshape(y.size), out.reshape(out.size)
    for i in range(len(out)):
        a = i * width
        for k in range(0, count[i], AT_ONCE):
            b = (first[i] + k) * width
            g0, g1, g2, g3 = splat(p[i, k]), splat(p[i, k + 1]), splat(p[i, k + 2]), splat(p[i, k + 3])
            for at in range(0, width, LANES):
                o = fma(g0, load(flat, b + at), load(target, a + at))
                o = fma(g1, load(flat, b + width + at), o)
                o = fma(g2, load(flat, b + 2 * width + at), o)
                store(target, a + at, fma(g3, load(flat, b + 3 * width + at), o))


@fast
def gradients(c, rows, seen, me, how, lr, read):
    """Fill dx, dy, dn, dyb, dnb of a chunk with -lr times the gradient. Gives its loss where `read`, and its pairs.

    rows, seen: centres and y in use.  me: the place in y of the first centre, which the others follow.
    lr: of the tables' type.
    """
    t = c.x.dtype.type
    one, shared = t(1), how.shared
    x, s, p, low, high = c.x[:rows], c.s[:rows], c.p[:rows], c.low[:rows], c.high[:rows]
    _band_scores(c.x, c.y, low, high, p)
    np.dot(x, c.n.T, s)
    pairs, loss = _positives(c, rows, me), 0.0
    if how.loss == NCE:
        for i in range(rows):
            for j in range(low[i], high[i]):
                p[i, j - low[i]] += c.yb[j]
            s[i] += c.nb
    if how.loss == INFO_NCE:
        loss = _softmax(c, rows, me, how, lr, read)
    else:
        if read:
            loss = _logistic_loss(c, rows, me, how)
        exp(s.reshape(s.size))
        exp(p.reshape(p.size))
        for i in range(rows):
            for g in range(c.many.shape[1]):
                scale = -lr * c.many[i, g] * t(how.negatives) / t(shared)
                for k in range(g * shared, (g + 1) * shared):
                    s[i, k] = scale * s[i, k] / (one + s[i, k])
            for k in range(high[i] - low[i]):
                p[i, k] = lr / (one + p[i, k])
    np.dot(s, c.n, c.dx[:rows])
    np.dot(s.T, x, c.dn)
    _spread(c, rows, seen, me, how)
    if how.loss == NCE:
        for j in range(seen):
            c.dyb[j] = c.turned[j].sum()
        c.dnb[:] = 0
        for i in range(rows):
            c.dnb[:] += s[i]
    return loss, pairs


@fast
def _positives(c, rows, me):
    """Count the pairs, by centre and group into `many`, and all."""
    pairs, groups = 0, c.many.shape[1]
    for i in range(rows):
        pairs += c.high[i] - c.low[i] - 1
        if groups == 1:
            c.many[i, 0] = c.high[i] - c.low[i] - 1
        else:
            c.many[i] = 0
            for j in range(c.low[i], c.high[i]):
                if j != me + i:
                    c.many[i, c.kind[j]] += c.many.dtype.type(1)
    return pairs


@fast
def _spread(c, rows, seen, me, how):
    """What the positives change: dx_i += sum over j of p_ij y_j,  dy_j = sum over i of p_ij x_i."""
    c.turned[:seen] = 0
    c.dy[:seen] = 0
    first, count = np.empty(seen, np.int64), np.empty(seen, np.int64)
    for j in range(seen):
        first[j] = max(j - me - how.window, 0)
        count[j] = max(min(j - me + how.window + 1, rows) - first[j], 0)
    for i in range(rows):
        width = c.high[i] - c.low[i]
        c.p[i, width:] = 0
        c.p[i, me + i - c.low[i]] = 0
        for k in range(width):
            j = c.low[i] + k
            c.turned[j, i - first[j]] = c.p[i, k]
    _band_sums(c.p, c.y, c.low[:rows], c.high[:rows] - c.low[:rows], c.dx[:rows])
    _band_sums(c.turned, c.x, first, count, c.dy[:seen])


@fast
def _softmax(c, rows, me, how, lr, read):
    """InfoNCE: from scores to -lr times their gradient. A pair: -p + log(e^p + sum of e^s over the context's group)."""
    t, loss = c.x.dtype.type, 0.0
    one = t(1)
    for i in range(rows):
        s, p = c.s[i], c.p[i, : c.high[i] - c.low[i]]
        p[me + i - c.low[i]] = s[0]  # no pair: it must not be the largest
        top = max(s.max(), p.max())
        s -= top
        p -= top
        exp(s)
        exp(p)
        for g in range(c.many.shape[1]):
            part = s[g * how.shared : (g + 1) * how.shared]
            others, back = part.sum(), t(0)
            for j in range(c.low[i], c.high[i]):
                if j != me + i and c.kind[j] == g:
                    k = j - c.low[i]
                    whole = p[k] + others
                    if read:
                        loss -= np.log(p[k] / whole)
                    p[k] = lr * others / whole
                    back += one / whole
            part *= -lr * back
    return loss


@fast
def _logistic_loss(c, rows, me, how):
    """sum of -log sigma(p) over positives and of -negatives / K log sigma(-s), as often as each stands."""
    loss = 0.0
    for i in range(rows):
        for j in range(c.low[i], c.high[i]):
            if j != me + i:
                loss += _softplus(-c.p[i, j - c.low[i]])
        for k in range(c.s.shape[1]):
            loss += c.many[i, k // how.shared] * how.negatives / how.shared * _softplus(c.s[i, k])
    return loss


@fast
def _softplus(x):
    return max(x, 0.0) + np.log1p(np.exp(-abs(x)))


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
