"""Reading a stream as its `Plan` says: each lane holds the bytes of one window and fetches the next ahead of need.

    Plan -> Lane (a window: fetched whole, seen in shuffled order) -> parts of batches, by worker -> batches

A worker has lanes of its own, so nothing is read twice, and a batch is put together from the parts of all workers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import IterableDataset, get_worker_info

from ..errors import BrokenItem, DataError
from ..types import Source
from .image import ImageSource
from .plan import LANES, Plan
from .shards import Lost, Reader, Shards

WINDOW = 8 * 2**20  # bytes of encoded photos in a lane's window; the next one is fetched meanwhile
FETCHING = 8  # threads of a worker that fetch
TRIED = 64  # windows without a readable photo after which a run ends
Window = tuple[np.ndarray, list[bytes | BrokenItem]]  # ids and bytes
Collate = Callable[[list[Tensor]], tuple[Tensor, Tensor]]
Part = tuple[Tensor | None, Tensor | None, Tensor, dict[str, str]]  # images, sizes, ids, broken: key -> reason


def plan_of(source: object, batch: int, seed: int) -> Plan | None:
    """How a source is to be streamed; None for one whose items are read in any order at the same price."""
    if not isinstance(source, ImageSource) or (counts := source.shards()) is None:
        return None
    return Plan(counts, batch, max(1, int(WINDOW / _store(source).item_bytes)), seed)


def described(source: Source, plan: Plan) -> str:
    """What streaming holds in memory, in a line."""
    held = plan.lanes * min(2 * plan.window, plan.length) * _store(source).item_bytes
    few = f" (few, for little divides a batch of {plan.batch}: a multiple of 32 mixes better)"
    few = few if 4 * plan.lanes < min(plan.batch, LANES) else ""
    return (
        f"streaming {len(source):,} photos from {np.count_nonzero(plan.counts):,} shards, {plan.lanes} places at once"
        f"{few}, shuffled in windows of {plan.window:,}: {held / 2**20:,.0f} MiB held over all processes"
    )


def stored_bytes(source: Source) -> float:
    """What the photos of a stream take where they lie."""
    return len(source) * _store(source).item_bytes


def notes_of(source: Source) -> dict[str, str]:
    """shard -> why it cannot be read whole, as far as it was known from the start."""
    return dict(getattr(getattr(source, "listing", None), "notes", {}))


def name_of(source: Source, index: int, broken: BrokenItem) -> str:
    """What is listed as broken: the item, or the shard that it is lost with."""
    return broken.shard if isinstance(broken, Lost) else source.key(index)


def _store(source: Source) -> Shards:
    assert isinstance(source, ImageSource)
    assert isinstance(source.listing.store, Shards)
    return source.listing.store


class Lane:
    """One lane of an epoch, whose items are taken by number, in order from any number on."""

    def __init__(self, source: ImageSource, plan: Plan, epoch: int, number: int, pool: ThreadPoolExecutor):
        self.source, self.plan, self.epoch, self.number, self.pool = source, plan, epoch, number, pool
        self.reader = Reader(_store(source))
        self.window, self.ids, self.items = -1, np.empty(0, np.int64), list[bytes | BrokenItem]()
        self.ahead: tuple[int, Future[Window]] | None = None  # which window, and its fetching
        self.spare: Window | None = None
        self.broken: dict[str, str] = {}

    def begin(self, number: int) -> None:
        """Start to fetch the window of an item, before it is asked for."""
        window, first, stop = self.plan.bounds(self.number, number)
        self.ahead = window, self.pool.submit(self._fetch, first, stop)

    def take(self, number: int) -> tuple[Tensor, int]:
        """An item's photo and id; where it is broken those of the next that is not, in its window or in a spare one."""
        window, first, stop = self.plan.bounds(self.number, number)
        if window != self.window:
            ahead, found = self.ahead or (-1, None)
            fetched = found.result() if found else None  # waited for in any case: both would read with one reader
            # A rank that shares the lane with others may pass over the window that was fetched ahead.
            self.ids, self.items = fetched if fetched and ahead == window else self._fetch(first, stop)
            self.window, self.ahead, self.spare = window, None, None
            if stop < self.plan.length:
                self.begin(stop)
        if taken := self._readable(self.ids, self.items, number - first):
            return taken
        if not self.spare:
            self.spare = self._another(first)  # by the window, not by the item at which a run may have gone on
        taken = self._readable(*self.spare, (number - first) % len(self.spare[0]))
        assert taken  # a spare window has a readable photo
        return taken

    def _another(self, number: int) -> Window:
        """A window with a readable photo: the one at the same place of a later lane, or a later one of this."""
        lanes, tried = self.plan.lanes, 0
        for step in range(1, TRIED + 1):
            lane = Lane(self.source, self.plan, self.epoch, (self.number + step) % lanes, self.pool)
            shift = (self.number + step) // lanes * self.plan.window
            ids, items = lane._fetch(*self.plan.bounds(lane.number, (number + shift) % self.plan.length)[1:])
            if self._readable(ids, items, 0):
                return ids, items
            tried += len(ids)
        raise DataError(f"none of {tried:,} photos of {self.source.name} that were tried in a row could be read")

    def _fetch(self, first: int, stop: int) -> Window:
        """The ids and bytes of a window, in the order in which they are seen."""
        store, index = _store(self.source), self.source.index
        items: list[bytes | BrokenItem] = []
        ids: list[np.ndarray] = []
        for item, end in self.plan.runs(self.epoch, self.number, first, stop):
            shard, row = store.shard(int(index[item]))
            items += self.reader.run(shard, row, row + end - item)
            ids.append(np.arange(item, end))
        found = np.concatenate(ids)
        order = self.plan.shuffled(self.epoch, found)
        return found[order], [items[i] for i in order.tolist()]

    def _readable(self, ids: np.ndarray, items: list[bytes | BrokenItem], start: int) -> tuple[Tensor, int] | None:
        for at in (*range(start, len(items)), *range(start)):
            try:
                if isinstance(item := items[at], BrokenItem):
                    raise item
                return self.source.decoded(item), int(ids[at])
            except BrokenItem as reason:
                self.broken[name_of(self.source, int(ids[at]), reason)] = str(reason)
                items[at] = reason
        return None


class Lanes(IterableDataset):
    """This rank's part of an epoch's batches, cut into the parts of its workers.

    cuts: [first, stop) in the plan's order, of each micro-batch.
    Every worker gives a part of each batch, an empty one too; in the order of the workers they are the batch.
    """

    def __init__(self, source: ImageSource, plan: Plan, epoch: int, cuts: Sequence[tuple[int, int]], collate: Collate):
        self.source, self.plan, self.epoch, self.cuts, self.collate = source, plan, epoch, cuts, collate

    def __iter__(self) -> Iterator[Part | DataError]:
        info = get_worker_info()
        worker, workers = (info.id, info.num_workers) if info else (0, 1)
        numbers = lanes_of(self.plan, self.cuts)
        own = set(numbers[len(numbers) * worker // workers : len(numbers) * (worker + 1) // workers])
        pool = ThreadPoolExecutor(FETCHING)
        lanes = {n: Lane(self.source, self.plan, self.epoch, n, pool) for n in own}
        begun: set[int] = set()
        try:
            for first, stop in self.cuts:
                places = [p for p in map(self.plan.place, range(first, stop)) if p[0] in own]
                for lane, number in places:
                    if lane not in begun:
                        begun.add(lane)
                        lanes[lane].begin(number)
                try:
                    taken = [lanes[lane].take(number) for lane, number in places]
                except DataError as error:  # handed over: raised in a worker it would come with its traceback
                    yield error
                    return
                images, sizes = self.collate([photo for photo, _ in taken]) if taken else (None, None)
                yield images, sizes, torch.tensor([i for _, i in taken], dtype=torch.int64), _broken(lanes.values())
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def lanes_of(plan: Plan, cuts: Iterable[tuple[int, int]]) -> list[int]:
    """The lanes that some batches are taken from, ascending."""
    share = plan.batch // plan.lanes
    rows = {(first % plan.batch, stop - first) for first, stop in cuts}
    return sorted({lane for row, many in rows for lane in range(row // share, (row + many - 1) // share + 1)})


def _broken(lanes: Iterable[Lane]) -> dict[str, str]:
    """What was found since it was last asked for."""
    found: dict[str, str] = {}
    for lane in lanes:
        found |= lane.broken
        lane.broken = {}
    return found
