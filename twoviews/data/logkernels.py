"""The passes over a large log, compiled: a counting sort by user, then each user by time."""

import numpy as np

from ..compiled import compiled


@compiled()
def place(users, items, times, ends, out, when):
    """Put some events behind those that their users have so far. ends: (N,) where each user's next event goes."""
    for i in range(len(users)):
        at = ends[users[i]]
        ends[users[i]] = at + 1
        out[at] = items[i]
        if len(times):
            when[at] = times[i]


@compiled()
def settle(starts, items, times, catalogue):
    """Sort each user's events by time, keep one of those with the same item and time, and close up; all in place.

    Returns the events kept, those left out, and those of an item that the user had before.
    """
    kept, twice, repeats, moment = 0, 0, 0, 0
    seen_then = np.full(catalogue, -1, np.int64)  # the moment at which an item was met last
    seen_by = np.full(catalogue, -1, np.int64)  # the user who met it last
    for user in range(len(starts) - 1):
        start, stop = starts[user], starts[user + 1]
        starts[user] = kept
        if len(times):
            for i in range(start + 1, stop):
                if times[i] < times[i - 1]:
                    order = np.argsort(times[start:stop], kind="mergesort")
                    times[start:stop] = times[start:stop][order]
                    items[start:stop] = items[start:stop][order]
                    break
        for i in range(start, stop):
            item = items[i]
            if len(times):
                if i == start or times[i] != times[i - 1]:
                    moment += 1
                if seen_then[item] == moment:
                    twice += 1
                    continue
                seen_then[item] = moment
                last = times[i]
                times[kept] = last
            repeats += seen_by[item] == user
            seen_by[item] = user
            items[kept] = item
            kept += 1
    starts[-1] = kept
    return kept, twice, repeats
