"""Histories: what each user met, oldest first, as one flat array of items."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    import pyarrow as pa

CHUNK = 2**22  # values looked at together


@dataclass(frozen=True, eq=False)
class Histories:
    """A source of histories. History i is items[starts[i] : stops[i]]; splits are other stops over the same items.

    items:      (E,) int32, places in `vocabulary`, oldest first.
    starts, stops: (N,) int64, one history a user.
    users:      (N,) names.  vocabulary: (V,) names of items.
    times:      (E,) int64 as the log gave them, or None.
    counted:    what reading found and did, in words -> how often.
    split:      how to divide it for measuring, a name in twoviews.data.splits.SPLITS.
    """

    name: str
    items: np.ndarray
    starts: np.ndarray
    stops: np.ndarray
    users: pa.Array
    vocabulary: pa.Array
    times: np.ndarray | None = None
    counted: dict[str, int] = field(default_factory=dict)
    split: str = "leave-one-out"

    labels = None
    classes = None

    def __len__(self) -> int:
        return len(self.starts)

    @property
    def catalogue(self) -> int:
        """V, the number of items."""
        return len(self.vocabulary)

    @property
    def lengths(self) -> np.ndarray:
        return self.stops - self.starts

    @property
    def events(self) -> int:
        return int(self.lengths.sum())

    def key(self, index: int) -> str:
        return str(self.users[int(index)].as_py())

    def read(self, index: int) -> Tensor:
        """History `index`, (T,) int32."""
        return torch.from_numpy(self.items[self.starts[index] : self.stops[index]])

    def subset(self, indices: np.ndarray) -> Histories:
        """Some of the users, by number or as a mask."""
        rows = np.asarray(indices)
        rows = np.flatnonzero(rows) if rows.dtype == bool else rows
        return replace(self, starts=self.starts[rows], stops=self.stops[rows], users=self.users.take(rows))

    def between(self, starts: np.ndarray, stops: np.ndarray) -> Histories:
        """The same users with other parts of their histories."""
        return replace(self, starts=starts, stops=np.maximum(starts, stops))

    def last(self, rows: np.ndarray, length: int) -> tuple[np.ndarray, np.ndarray]:
        """The last `length` items of some histories: (B, T) int32 padded with -1 at the right, and their lengths."""
        return padded(self.items, np.maximum(self.starts[rows], self.stops[rows] - length), self.stops[rows])

    def counts(self) -> np.ndarray:
        """(V,) int64: how often each item occurs."""
        return tally(self.flat(self.items), self.catalogue)

    def flat(self, values: np.ndarray) -> np.ndarray:
        """Those of (E,) values that lie in a history, in the order of the array."""
        if self.events == len(values):
            return values
        inside = np.zeros(len(values) + 1, np.int8)  # a history begins before it stops, and none overlap
        kept = self.lengths > 0
        inside[self.starts[kept]] += 1
        inside[self.stops[kept]] -= 1
        return values[np.cumsum(inside[:-1], dtype=np.int8).view(bool)]

    def fingerprint(self) -> str:
        """16 hex digits of the items, the histories and their names."""
        out = blake2b(digest_size=8)
        for numbers in (self.items, self.starts, self.stops, self.times):
            out.update(b"-" if numbers is None else np.ascontiguousarray(numbers).view(np.uint8).data)
        for names in (self.users, self.vocabulary):
            for part in buffers(names):
                out.update(part)
        return out.hexdigest()


def tally(items: np.ndarray, catalogue: int) -> np.ndarray:
    """(catalogue,) int64: how often each of 0 .. catalogue - 1 occurs. numpy would make int64 of all at once."""
    out = np.zeros(catalogue, np.int64)
    for begin in range(0, len(items), CHUNK):
        out += np.bincount(items[begin : begin + CHUNK], minlength=catalogue)
    return out


def buffers(names: pa.Array) -> tuple[bytes, bytes | memoryview, bytes | memoryview]:
    """The type of names, where each ends in their text, and the text."""
    import pyarrow as pa

    text: Any = names.cast(pa.large_string())
    ends = np.frombuffer(text.buffers()[1], np.int64)[text.offset :][: len(text) + 1]
    return str(names.type).encode(), (ends - ends[0]).tobytes(), memoryview(text.buffers()[2])[ends[0] : ends[-1]]


def padded(items: np.ndarray, starts: np.ndarray, stops: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """items[starts[i] : stops[i]] as rows: (B, T) padded with -1 at the right, T the longest, and (B,) lengths."""
    lengths = stops - starts
    steps = np.arange(max(1, int(lengths.max(initial=0))))
    inside = steps < lengths[:, None]
    if not len(items):
        return np.full(inside.shape, -1, np.int32), lengths
    places = np.minimum(starts[:, None] + steps, len(items) - 1)
    return np.where(inside, items[places], -1), lengths
