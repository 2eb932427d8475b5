"""Names into codes and events into histories: by user, then by time, equal times in the order they came in.

The same result by a compiled pass (`logkernels`, a counting sort by user) for a large log and by numpy for a small one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pyarrow as pa

WAITING = 2**22  # names of batches that wait to be made one list
LARGE = 2**20  # events from which on the compiled pass saves more than it costs to load
Chunks = list[np.ndarray]


class Coder:
    """Names as codes 0, 1, 2 ... in the order they first appear, batch by batch.

    Each batch has codes of its own at first. When the names that wait outnumber those known they are joined, so that a
    name is looked at a few times in all and no more are held than twice the distinct ones.
    """

    def __init__(self) -> None:
        self.names: pa.Array | None = None
        self.codes: Chunks = []  # (n,) int32 of each batch
        self._waiting: list[pa.Array] = []  # the names of the last batches
        self._count = 0

    def add(self, column: pa.Array) -> None:
        coded = column.dictionary_encode()
        self.codes.append(coded.indices.to_numpy())
        self._waiting.append(coded.dictionary)
        self._count += len(coded.dictionary)
        if self._count > max(WAITING, 0 if self.names is None else len(self.names)):
            self.join()

    def join(self) -> None:
        """Make all codes those of `names`."""
        import pyarrow as pa

        if not self._waiting:
            return
        at = 0 if self.names is None else len(self.names)
        together = pa.concat_arrays([*([] if self.names is None else [self.names]), *self._waiting]).dictionary_encode()
        places = together.indices.to_numpy()
        for chunk, names in enumerate(self._waiting, len(self.codes) - len(self._waiting)):
            self.codes[chunk] = places[at : at + len(names)][self.codes[chunk]]
            at += len(names)
        self.names, self._waiting, self._count = together.dictionary, [], 0


@dataclass
class Sorted:
    """items (E,) int32, times (E,) int64 or None, starts (N + 1,) int64.

    twice:   events left out since one of the same user, item and time is there; looked for where there are times.
    repeats: events of an item that the user had before.
    """

    items: np.ndarray
    times: np.ndarray | None
    starts: np.ndarray
    twice: int = 0
    repeats: int = 0


def by_user(users: Chunks, items: Chunks, times: Chunks | None, people: int, catalogue: int) -> Sorted:
    """Empties the lists as it goes, so that an event is held about once. users, items: int32 codes."""
    if sum(map(len, users)) >= LARGE and (kernels := _kernels()):
        return _compiled(kernels, users, items, times, people, catalogue)
    joined = [np.concatenate(chunks) for chunks in (users, items, times or [np.zeros(0, np.int64)])]
    return _plain(joined[0], joined[1], joined[2] if times is not None else None, people, catalogue)


def _kernels() -> Any:
    try:
        from . import logkernels
    except ImportError:  # numba is not there
        return None
    return logkernels


def _compiled(kernels: Any, users: Chunks, items: Chunks, times: Chunks | None, people: int, catalogue: int) -> Sorted:
    starts = np.zeros(people + 1, np.int64)
    for chunk in users:
        starts[1:] += np.bincount(chunk, minlength=people)
    np.cumsum(starts, out=starts)
    events = int(starts[-1])
    out, when = np.empty(events, np.int32), np.empty(0 if times is None else events, np.int64)
    ends, none = starts[:-1].copy(), np.zeros(0, np.int64)
    for chunks in (users, items, times or []):
        chunks.reverse()
    while users:
        kernels.place(users.pop(), items.pop(), times.pop() if times else none, ends, out, when)
    kept, twice, repeats = kernels.settle(starts, out, when, catalogue)
    return Sorted(out[:kept], None if times is None else when[:kept], starts, twice, repeats)


def _plain(users: np.ndarray, items: np.ndarray, times: np.ndarray | None, people: int, catalogue: int) -> Sorted:
    order = np.argsort(users, kind="stable") if times is None else np.lexsort((times, users))
    users, items, times = users[order], items[order], None if times is None else times[order]
    twice = 0
    if times is not None:
        near = np.lexsort((items, times, users))
        same = (np.diff(users[near]) == 0) & (np.diff(items[near]) == 0) & (np.diff(times[near]) == 0)
        kept = np.ones(len(users), bool)
        kept[near[1:][same]] = False
        users, items, times, twice = users[kept], items[kept], times[kept], int(same.sum())
    starts = np.zeros(people + 1, np.int64)
    np.cumsum(np.bincount(users, minlength=people), out=starts[1:])
    distinct = len(np.unique(users.astype(np.int64) * catalogue + items))
    return Sorted(items, times, starts, twice, len(items) - distinct)
