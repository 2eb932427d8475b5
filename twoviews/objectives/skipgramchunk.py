"""One chunk of skip-gram, compiled: what its rows gain by their positives and their negatives.

    S = X N^T          scores against K negatives that the chunk shares     (BLAS)
    dX = G N + ...     dN = G^T X                                           (BLAS)
    the band of positive pairs, by hand: a window covers too little of X Y^T

Shared negatives: Ji et al. 2016, arXiv:1604.04661 (pWord2Vec), here over a chunk instead of one window.
"""

from typing import NamedTuple

import numpy as np

from ..compiled import compiled
from .lanes import LANES, fma, load, splat, store, total

SGNS, NCE, INFO_NCE = range(3)  # the places of objectives.skipgram.LOSSES
AT_ONCE = 4  # rows that a loop of vectors reads together
FAR = 30.0  # beyond it a score counts as this large
fast = compiled(fastmath=True, error_model="numpy")  # without which a division stands in the way of vectors


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
