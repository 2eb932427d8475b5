"""Photos in many tar or Parquet files, local or by URL, by number: nothing is unpacked or fetched whole.

Runs of neighbours in one shard are read with one request. `shardlist` finds the shards and counts what they hold.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import closing
from itertools import islice

import numpy as np

from ..errors import BrokenItem
from . import remote
from .parquet import image_bytes
from .remote import File
from .tarindex import TarIndex, tar_index

GAP = 2**18  # bytes between two photos that are read over rather than asked for apart
RUN = 8 * 2**20  # bytes read at once where items are asked for in order
ROWS = 16  # of a Parquet file decoded at once
INDICES = 128  # of shards held at once, about half a megabyte each


class Lost(BrokenItem):
    """Cannot be read because of its shard, which is told of once: why, and how many photos that costs."""

    def __init__(self, shard: str, why: str, lost: int):
        super().__init__(f"{why}, {lost:,} photos lost")
        self.shard = shard


class Shards:
    """The items of many shards by number. Safe to share between threads and to carry into worker processes."""

    def __init__(self, files: list[File], names: list[str], counts: np.ndarray, column: str | None):
        self.files, self.names, self.counts, self.column = files, names, counts, column
        self.ends = np.cumsum(counts)
        self.item_bytes = sum(file.size for file in files) / max(1, int(counts.sum()))  # in a shard, on average
        self.indices: OrderedDict[int, TarIndex] = OrderedDict()
        self.lock, self.here = threading.Lock(), threading.local()

    def __reduce__(self):
        return Shards, (self.files, self.names, self.counts, self.column)

    def shard(self, index: int) -> tuple[int, int]:
        """The shard that holds an item, and its number there."""
        shard = int(np.searchsorted(self.ends, index, side="right"))
        return shard, index - int(self.ends[shard] - self.counts[shard])

    def index(self, shard: int) -> TarIndex:
        with self.lock:
            if shard in self.indices:
                self.indices.move_to_end(shard)
                return self.indices[shard]
        found = tar_index(self.files[shard])
        with self.lock:
            self.indices[shard] = found
            while len(self.indices) > INDICES:
                self.indices.popitem(last=False)
        return found

    def key(self, index: int) -> str:
        shard, row = self.shard(index)
        if self.column is None:
            try:
                return f"{self.names[shard]}/{self.index(shard).names[row].decode('utf-8', 'backslashreplace')}"
            except Exception:  # whatever keeps the shard from being read; its number names the item too
                pass
        return f"{self.names[shard]}:{row}"

    def fetch(self, index: int) -> bytes:
        """The bytes of an item. Where a thread asks for one after the other, several are read at once."""
        here = self.here
        if getattr(here, "process", 0) != os.getpid():  # a forked one would share the place in an open file
            here.process, here.reader, here.run, here.next = os.getpid(), Reader(self), (0, []), -1
        start, items = here.run
        if not start <= index < start + len(items):
            many = max(1, int(RUN / self.item_bytes)) if index == here.next else 1
            shard, row = self.shard(index)
            start, items = index, here.reader.run(shard, row, min(row + many, int(self.counts[shard])))
            here.run = start, items
        here.next = index + 1
        item = items[index - start]
        if isinstance(item, BrokenItem):
            raise item
        return item

    def stamp(self, index: int) -> int:
        return self.files[self.shard(index)[0]].size


class Reader:
    """Reads runs of neighbours. Each thread or lane has its own, for it keeps its place in a Parquet file."""

    def __init__(self, shards: Shards):
        self.shards = shards
        self.at: tuple[int, int] | None = None
        self.rows: Iterator[bytes | None] = iter(())
        self.groups = np.empty(0, np.int64)  # where the row groups of the open file end

    def run(self, shard: int, start: int, stop: int) -> list[bytes | BrokenItem]:
        """The items start ... stop - 1 of a shard: bytes, or why there are none."""
        try:
            if self.shards.column is None:
                return self._members(shard, start, stop)
            url = self.shards.files[shard].url
            rows = lambda: self._rows(shard, start, stop)  # noqa: E731
            return remote.patiently(rows) if remote.is_url(url) else rows()
        except Exception as error:  # every file system has errors of its own
            whole = self.shards.column is None or isinstance(error, FileNotFoundError | PermissionError)
            lost = int(self.shards.counts[shard]) if whole else stop - start
            return self._lost(shard, remote.reason(error), lost, stop - start)

    def _lost(self, shard: int, why: str, lost: int, many: int) -> list[bytes | BrokenItem]:
        return [Lost(self.shards.names[shard], why, lost)] * many

    def _members(self, shard: int, start: int, stop: int) -> list[bytes | BrokenItem]:
        index, url = self.shards.index(shard), self.shards.files[shard].url
        there = min(stop, len(index))
        ends = index.offset + index.size
        apart = np.flatnonzero(index.offset[start + 1 : there] - ends[start : there - 1] > GAP) + start + 1
        items: list[bytes | BrokenItem] = []
        for a, b in zip([start, *apart.tolist()], [*apart.tolist(), there], strict=True):
            if a >= b:
                continue
            first = int(index.offset[a])
            data = remote.read(url, first, int(ends[b - 1]))
            for at, end in zip((index.offset[a:b] - first).tolist(), (ends[a:b] - first).tolist(), strict=True):
                items.append(data[at:end])
            beyond = ends > first + len(data)
            if many := int(beyond[a:b].sum()):
                items[-many:] = self._lost(shard, "ends early", int(beyond.sum()), many)
        if there < stop:
            why, lost = index.note or "holds fewer than was counted", int(self.shards.counts[shard]) - len(index)
            items += self._lost(shard, why, lost, stop - max(start, there))
        return items

    def _rows(self, shard: int, start: int, stop: int) -> list[bytes | BrokenItem]:
        at, self.at = self.at, None  # until all is read
        if at and at[0] == shard and at[1] <= start and self._group(at[1]) == self._group(start):
            for _ in islice(self.rows, start - at[1]):  # what lies between is decoded anyhow
                pass
        else:
            self.rows = self._from(shard, start)
        rows = list(islice(self.rows, stop - start))
        self.at = shard, stop
        short = stop - start - len(rows)
        lost = self._lost(shard, "holds fewer than was counted", short, short)
        return [BrokenItem("no image bytes in its row") if item is None else item for item in rows] + lost

    def _group(self, row: int) -> int:
        return int(np.searchsorted(self.groups, row, side="right"))

    def _from(self, shard: int, start: int) -> Iterator[bytes | None]:
        """The rows of a Parquet file from one on, read on from the row group that holds it."""
        import pyarrow.parquet as pq

        with (
            closing(remote.open_file(self.shards.files[shard].url)) as stream,
            pq.ParquetFile(stream, pre_buffer=False, buffer_size=2**20) as file,
        ):
            about = file.metadata
            self.groups = ends = np.cumsum([about.row_group(g).num_rows for g in range(about.num_row_groups)])
            group = self._group(start)
            skip = start - (int(ends[group - 1]) if group else 0)
            for array in image_bytes(file, str(self.shards.column), ROWS, range(group, len(ends))):
                yield from array[skip:].to_pylist()
                skip = max(0, skip - len(array))
