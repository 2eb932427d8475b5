"""Random walks, many in lock step: while one waits for memory, the others go on.

A step of a group is two loops: one finds where each walk's next node stands, the other fetches it. No iteration waits
for another, so a core keeps all its outstanding loads busy; a loop over one walk after another waits for each of them
("step interleaving" of ThunderRW, Sun et al. 2021, arXiv:2107.11983).

Edges are read where relations keep them: a step is six numbers, among them the addresses of its arrays, so steps of any
number and kind are one compiled signature. Random numbers are a function of (seed, epoch, walk, step).
"""

from typing import Any

import numpy as np
from numba import types, uint64
from numba.extending import intrinsic

from ..compiled import below, compiled, draw, stream, unit

GROUP = 128  # walks in lock step
FIRST, WIDE, STARTS, TARGETS, SHARES, OTHERS = range(6)  # the fields of a step, see `walks`


def _pointer(kind: Any) -> Any:
    """A function that reads an address as the first of many numbers of one kind."""

    @intrinsic
    def cast(context, address):
        pointer = types.CPointer(kind)

        def generate(context, builder, signature, arguments):
            return builder.inttoptr(arguments[0], context.get_value_type(pointer))

        return pointer(address), generate

    return cast


int32s, int64s, float32s = _pointer(types.int32), _pointer(types.int64), _pointer(types.float32)


@compiled()
def shuffled(i, n, key):
    """The place of i in a random order of 0 .. n - 1: a Feistel network of four rounds, walked until it is below n."""
    half = uint64(1)
    while (uint64(1) << (half + half)) < uint64(n):
        half += uint64(1)
    mask = (uint64(1) << half) - uint64(1)
    place = uint64(i)
    while True:
        left, right = place >> half, place & mask
        for turn in range(4):
            left, right = right, left ^ (draw(key + uint64(turn), right) & mask)
        place = (left << half) | right
        if place < uint64(n):
            return np.int64(place)


@compiled()
def walks(steps, cyclic, starts, work, length, kept, kinds, tokens, bounds):
    """Walks of one path, end to end in tokens and bounds; returns how many tokens and how many sequences those are.

    steps:  (S, 6) int64, walked round and round where `cyclic`: the number of the node of the first row; whether starts
            are int64; the addresses of starts and targets, and of an alias table's shares and others, or 0.
    starts: the first node that walks start from, how many there are, and an alias table that draws one of them, shares
            and others: two empty arrays where each starts one walk, in random order.
    work:   begin and stop, which walks of the epoch; the number of the first among those of all paths; seed, epoch.
    kept:   (T,) bool, which types are tokens, by kinds (V,) uint8; empty: all are.
    """
    first, count, shares, others = starts
    begin, stop, item, seed, epoch = work
    nodes, columns = np.empty(GROUP, np.int64), np.empty(GROUP, np.int64)
    states, places, ends = np.empty(GROUP, np.uint64), np.empty(GROUP, np.int64), np.empty(GROUP, np.int64)
    key = stream(seed, epoch, ~item)
    at = sequences = 0
    bounds[0] = 0
    for group in range(begin, stop, GROUP):
        walkers = min(GROUP, stop - group)
        for w in range(walkers):
            if len(shares):
                states[w] = stream(seed, epoch, item + group + w)
                start = _drawn(shares, others, draw(states[w], 0))
            else:
                start = shuffled(group + w, count, key)
                states[w] = stream(seed, epoch, item + start)
            nodes[w], columns[w], ends[w] = first + start, w, length
            tokens[at + w * length] = first + start
        alive = walkers
        for turn in range(1, length if cyclic else min(length, len(steps) + 1)):
            alive = _advance(steps[(turn - 1) % len(steps)], nodes, states, turn, columns, alive, places, ends)
            if not alive:
                break
            for w in range(alive):
                tokens[at + columns[w] * length + turn] = nodes[w]
        if not cyclic:
            for w in range(walkers):
                ends[w] = min(ends[w], len(steps) + 1)
        at, sequences = pack(tokens, bounds, at, sequences, length, ends, walkers, kept, kinds)
    return at, sequences


@compiled()
def pack(tokens, bounds, at, sequences, length, ends, walkers, kept, kinds):
    """Closes the gaps that short walks and dropped nodes leave among the tokens of a group, which begins at `at`."""
    base = at
    for w in range(walkers):
        begin = base + w * length
        if not len(kept) and at == begin:
            at += ends[w]
        else:
            for t in range(begin, begin + ends[w]):
                if not len(kept) or kept[kinds[tokens[t]]]:
                    tokens[at] = tokens[t]
                    at += 1
        if at > bounds[sequences]:
            sequences += 1
            bounds[sequences] = at
    return at, sequences


@compiled()
def _drawn(shares, others, bits):
    """A number by an alias table (Walker 1977)."""
    i = np.int64(below(bits, len(shares)))
    return i if unit(bits) < shares[i] else np.int64(others[i])


@compiled()
def _advance(step, nodes, states, turn, columns, alive, places, ends):
    """One step of `alive` walks; returns how many go on. Those at a dead end leave the group."""
    if step[WIDE]:
        dead = _places(int64s(step[STARTS]), step[FIRST], nodes, states, turn, alive, places)
    else:
        dead = _places(int32s(step[STARTS]), step[FIRST], nodes, states, turn, alive, places)
    if dead:
        kept = 0
        for w in range(alive):
            if places[w] < 0:
                ends[columns[w]] = turn
            else:
                states[kept], columns[kept], places[kept] = states[w], columns[w], places[w]
                kept += 1
        alive = kept
    fetch(step, states, turn, alive, places, nodes)
    return alive


@compiled()
def _places(starts, first, nodes, states, turn, alive, places):
    """Where the next node of each walk stands among the targets, -1 at a dead end. Returns how many of those."""
    dead = 0
    for w in range(alive):
        low, high = np.int64(starts[nodes[w] - first]), np.int64(starts[nodes[w] - first + 1])
        place = low + np.int64(below(draw(states[w], turn), high - low))
        places[w] = place if high > low else -1
        dead += high == low
    return dead


@compiled()
def fetch(step, states, turn, alive, places, nodes):
    """The nodes that stand at `places`, or those that their alias tables give for them."""
    targets = int32s(step[TARGETS])
    if step[SHARES]:
        shares, others = float32s(step[SHARES]), int32s(step[OTHERS])
        for w in range(alive):
            p = places[w]
            nodes[w] = targets[p] if unit(draw(states[w], turn)) < shares[p] else others[p]
    else:
        for w in range(alive):
            nodes[w] = targets[places[w]]


@compiled()
def aliases(starts, targets, weights, shares, others):
    """Alias tables of all rows (Vose 1991): the entry at p is its own target with chance shares[p], else others[p].

    Takes time in proportion to E. What weighs 0 is never drawn, unless all of its row does.
    """
    widest = 0
    for row in range(len(starts) - 1):
        widest = max(widest, starts[row + 1] - starts[row])
    chance, order = np.empty(widest, np.float64), np.empty(widest, np.int64)
    for row in range(len(starts) - 1):
        low, n = starts[row], starts[row + 1] - starts[row]
        total, heaviest = 0.0, 0
        for i in range(n):
            total += weights[low + i]
            heaviest = i if weights[low + i] > weights[low + heaviest] else heaviest
        small, large = 0, n  # order holds what has too little from the left, what has enough from the right
        for i in range(n):
            chance[i] = weights[low + i] * (n / total)
            if chance[i] < 1:
                order[small] = i
                small += 1
            else:
                large -= 1
                order[large] = i
        while small > 0 and large < n:
            small -= 1
            poor, rich = order[small], order[large]
            shares[low + poor], others[low + poor] = chance[poor], targets[low + rich]
            chance[rich] -= 1 - chance[poor]
            if chance[rich] < 1:
                large += 1
                order[small] = rich
                small += 1
        while small > 0:  # what rounding left over
            small -= 1
            i = order[small]
            shares[low + i], others[low + i] = weights[low + i] > 0, targets[low + heaviest]
        for i in range(large, n):
            shares[low + order[i]], others[low + order[i]] = 1, targets[low + order[i]]


@compiled()
def tally(tokens, bounds, counts):
    """Adds to counts (V,) how often each token occurs, the first of each sequence aside."""
    for i in range(len(bounds) - 1):
        for t in range(bounds[i] + 1, bounds[i + 1]):
            counts[tokens[t]] += 1
