"""Walks of node2vec, many in lock step (Grover and Leskovec 2016, arXiv:1607.00653, section 3.2).

From v, reached from t, a walk goes to x in proportion to weight(v, x) times 1/p if x is t, else 1 if an edge leads from
t to x, else 1/q. An edge is drawn by weight alone and kept with the chance that is left, else drawn again in the next
round, while other walks go on ("KnightKing", Yang et al. 2019). So nothing is stored for pairs of edges.
"""

import numpy as np
from numba import uint32, uint64

from ..compiled import GOLDEN, below, compiled, draw, mix, stream, unit
from .walkkernels import GROUP, STARTS, TARGETS, WIDE, fetch, int32s, int64s, pack, shuffled


@compiled()
def biased(step, count, work, length, p, q, simple, sieve, tokens, bounds):
    """One walk from each of `count` nodes; step, work, tokens, bounds and what is returned as in `walkkernels.walks`.

    simple: no edge has a weight or stands there twice. Then what a way back has above other edges lies beside the row,
    as an area of its own, and a low p costs no more tries.
    sieve:  see `sifted`; it may be empty where q is 1.
    """
    begin, stop, item, seed, epoch = work
    back, near, far = 1.0 / p, 1.0, 1.0 / q
    sure, most = min(near, far), max(near, far)
    beside = back - most if simple and back > most else 0.0
    most = most if beside > 0 else max(most, back)
    nodes, last, found = np.empty(GROUP, np.int64), np.empty(GROUP, np.int64), np.empty(GROUP, np.int64)
    low, degree = np.empty(GROUP, np.int64), np.empty(GROUP, np.int64)
    last_low, last_degree = np.empty(GROUP, np.int64), np.empty(GROUP, np.int64)
    states, places, columns = np.empty(GROUP, np.uint64), np.empty(GROUP, np.int64), np.empty(GROUP, np.int64)
    right, asked, returns = np.empty(GROUP, np.bool_), np.empty(GROUP, np.int64), np.empty(GROUP, np.bool_)
    probes, sizes = np.empty(GROUP, np.int64), np.empty(GROUP, np.int64)
    ends, kept, kinds = np.empty(GROUP, np.int64), np.empty(0, np.bool_), np.empty(0, np.uint8)
    targets, key = int32s(step[TARGETS]), stream(seed, epoch, ~item)
    at = sequences = 0
    bounds[0] = 0
    for group in range(begin, stop, GROUP):
        walkers = alive = min(GROUP, stop - group)
        for w in range(walkers):
            start = shuffled(group + w, count, key)
            nodes[w], columns[w], ends[w], last[w] = start, w, 1, -1
            states[w] = stream(seed, epoch, item + start)
            low[w], degree[w] = _row(step, start)
            tokens[at + w * length] = start
        while True:
            going = 0  # those that ended in the last round leave, the others close their ranks
            for w in range(alive):
                if ends[columns[w]] < length and degree[w] > 0:
                    nodes[going], last[going], states[going], columns[going] = nodes[w], last[w], states[w], columns[w]
                    low[going], degree[going] = low[w], degree[w]
                    last_low[going], last_degree[going] = last_low[w], last_degree[w]
                    going += 1
            alive = going
            if not alive:
                break
            for w in range(alive):
                states[w] += uint64(2) * GOLDEN
                places[w] = low[w] + np.int64(below(draw(states[w], 0), degree[w]))
            fetch(step, states, 0, alive, places, found)
            n = 0
            for w in range(alive):
                chance = unit(draw(states[w], 1)) * (most + beside / degree[w])
                first, again = (last[w] < 0) | (degree[w] == 1), found[w] == last[w]  # first: no choice to weigh
                returns[w] = (chance >= most) & (not first)
                found[w] = last[w] if returns[w] else found[w]
                right[w] = first | (chance < (min(back, most) if again else sure))
                asked[n] = w
                n += returns[w] | ((chance < max(near, far)) & (not (first | again | right[w])))
            n = _sift(sieve, nodes, last, found, returns, near <= far, asked, n, right)
            _search(
                targets, low, degree, last_low, last_degree, found, returns, near > far, asked, n, probes, sizes, right
            )
            for w in range(alive):
                if right[w]:
                    last[w], last_low[w], last_degree[w], nodes[w] = nodes[w], low[w], degree[w], found[w]
                    low[w], degree[w] = _row(step, nodes[w])
                    tokens[at + columns[w] * length + ends[columns[w]]] = nodes[w]
                    ends[columns[w]] += 1
        at, sequences = pack(tokens, bounds, at, sequences, length, ends, walkers, kept, kinds)
    return at, sequences


@compiled()
def _row(step, node):
    """Where a node's row begins and how long it is."""
    if step[WIDE]:
        low, high = int64s(step[STARTS])[node], int64s(step[STARTS])[node + 1]
    else:
        low, high = np.int64(int32s(step[STARTS])[node]), np.int64(int32s(step[STARTS])[node + 1])
    return low, high - low


@compiled()
def sifted(starts, targets, sieve):
    """Sets a bit of sieve, (a power of two,) uint32 zeros, for each edge: one that is not set says that there is none.

    With 8 bits an edge it answers most questions for edges that are not there with one read, where a search takes ten.
    """
    for row in range(len(starts) - 1):
        for i in range(starts[row], starts[row + 1]):
            bit = _bit(sieve, row, targets[i])
            sieve[bit >> uint64(5)] |= uint32(1) << uint32(bit & uint64(31))


@compiled()
def _bit(sieve, node, target):
    return mix((uint64(node) << uint64(32)) | uint64(target)) & uint64(32 * len(sieve) - 1)


@compiled()
def _sift(sieve, nodes, last, found, returns, otherwise, asked, n, right):
    """Answers for walks whose edge is not in the sieve; returns how many are still to be asked."""
    kept = 0
    for i in range(n if len(sieve) else 0):
        w = asked[i]
        bit = _bit(sieve, nodes[w] if returns[w] else last[w], found[w])
        right[w] = otherwise and not returns[w]
        asked[kept] = w
        kept += (sieve[bit >> uint64(5)] >> uint32(bit & uint64(31))) & 1
    return kept if len(sieve) else n


@compiled()
def _search(targets, low, degree, last_low, last_degree, found, returns, wanted, asked, n, probes, sizes, right):
    """Whether found[w] is in the row of the node before, as wanted, or for a return in the row of the node itself."""
    widest = 0
    for i in range(n):
        w = asked[i]
        probes[i], sizes[i] = (low[w], degree[w]) if returns[w] else (last_low[w], last_degree[w])
        widest = max(widest, sizes[i])
    while widest > 1:
        for i in range(n):
            half = sizes[i] >> 1
            probes[i] += half if targets[probes[i] + half] <= found[asked[i]] else 0
            sizes[i] -= half
        widest -= widest >> 1
    for i in range(n):
        w = asked[i]
        right[w] = (targets[probes[i]] == found[w]) == (wanted or returns[w])
