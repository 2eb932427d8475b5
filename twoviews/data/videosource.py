"""A source of videos: which stretches it holds, and which of their frames `read` gives. `videos` makes one."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import BrokenItem, UserError, unknown
from .check import in_order
from .image import STAMPED, spread
from .mediafiles import Recordings, item
from .moments import backward, mixed
from .videofiles import Clips

Moments = Callable[[int, np.random.Generator | None], np.ndarray]  # (frames there are, dice or None) -> (clips, frames)
ORDERS = ("", "reversed", "shuffled")
KEPT = 256  # lists of frames that a process remembers


@dataclass(eq=False, repr=False)
class Videos:
    """Stretches of videos by number: names, labels and places, each decoded when read. Made by `videos`.

    As it is made each item is a whole video, or a row of a list with times; `cut` gives windows of them.

    file:     (N,) int64, the video in the listing that each item is of.
    begin:    (N,) float64, its first second, and end: (N,) float64, its last, counted from the first frame; NaN: whole.
    heads:    (videos of the listing,) what their headers say; 0 of those left out.
    max_side: the shorter side in pixels that frames are reduced to while decoding, or None.
    rate:     frames a second that a video is read at (the one shown at each moment), or None: every frame there is.
    labels:   (N,) int64 with -1 for "no label", or None; `classes` names them.
    splits:   names of the splits, and split: (N,) int8 places in them, -1 for none; None where there are none.
    moments:  which frames `read` gives; set by `sampled`. None: all.
    epoch:    None: nothing is random; a number: the moments of that epoch of training.
    order:    "", "reversed" or "shuffled": in which order the frames of a clip are given; set by `ordered`.
    held:     frames by video, once `hold` has decoded them; of one that cannot be, the reason. lists: their indices.
    notes:    file -> why it is left out, as far as its header tells.
    said:     what matching labels with videos found, in words.
    """

    name: str
    listing: Recordings
    file: np.ndarray
    begin: np.ndarray
    end: np.ndarray
    heads: np.ndarray
    max_side: int | None = None
    rate: float | None = None
    labels: np.ndarray | None = None
    classes: list[str] | None = None
    splits: Sequence[str] = ()
    split: np.ndarray | None = None
    moments: Moments | None = None
    seed: int = 0
    epoch: int | None = None
    order: str = ""
    held: dict[int, np.ndarray | str] | None = None
    notes: dict[str, str] = field(default_factory=dict)
    said: list[str] = field(default_factory=list)
    lists: dict[int, Any] = field(default_factory=dict)
    indices: OrderedDict[int, Any] = field(default_factory=OrderedDict)

    channels = 3  # of every frame that is read

    def __len__(self) -> int:
        return len(self.file)

    def span(self, index: int) -> tuple[float, float]:
        """The item's first and last second."""
        begin, end = float(self.begin[index]), float(self.end[index])
        length = float(self.heads["seconds"][self.file[index]])
        return (0.0 if np.isnan(begin) else begin), (length if np.isnan(end) else end)

    def measured(self, index: int) -> tuple[float, float]:
        """The same by the video's frames, for headers may tell the length of the sound."""
        begin, end = self.span(index)
        return begin, (self._measured(int(self.file[index])) if np.isnan(self.end[index]) else end)

    def key(self, index: int) -> str:
        """The video's name; of a stretch with its seconds, as talk.mp4#12.00-24.00."""
        name = self.listing.key(int(self.file[index]))
        if np.isnan(self.begin[index]) and np.isnan(self.end[index]):
            return name
        begin, end = self.span(index)
        return f"{name}#{begin:.2f}-{end:.2f}"

    def read(self, index: int) -> Tensor:
        """uint8 (F, h, 3 * w): the frames at this item's moments, the three colours of a pixel side by side.

        So a canvas of them is a canvas of photos. Raises BrokenItem with the reason.
        """
        x = self.frames(index)
        return torch.from_numpy(x).flatten(2)

    def frames(self, index: int) -> np.ndarray:
        """(F, h, w, 3) uint8: the same."""
        file = int(self.file[index])
        places = self.places(index)
        rng = None if self.epoch is None else np.random.default_rng([self.seed, self.epoch, index])
        chosen = np.arange(len(places))[None] if self.moments is None else self.moments(len(places), rng)
        if self.order == "reversed":
            chosen = np.stack([backward(clip) for clip in chosen])
        elif self.order == "shuffled":
            chosen = chosen[:, mixed(chosen.shape[1], np.random.default_rng([self.seed, index]))]
        places = places[chosen].ravel()  # of (clips, frames)
        if isinstance(self.listing.store, Clips):
            x = self.listing.store.frames(file)[places]
        elif self.held is not None and file in self.held:
            held = self.held[file]
            if isinstance(held, str):
                raise BrokenItem(held)
            x = held[places]
        else:
            from .videodecode import frames_at

            x = frames_at(item(self.listing, file), self.index_of(file), places, self.max_side)
        return np.ascontiguousarray(x)

    def sampled(self, moments: Moments, seed: int = 0) -> Videos:
        """The same items, read at these moments (those of views, as `views.moments`)."""
        return replace(self, moments=moments, seed=seed)

    def at(self, epoch: int) -> Videos:
        """The same items with the random moments of an epoch: by seed, epoch and item alone."""
        return replace(self, epoch=epoch)

    def ordered(self, order: str) -> Videos:
        """The same items, their frames "reversed" or "shuffled" (by item, always the same, never as they were)."""
        if order not in ORDERS:
            raise unknown("order", order, ORDERS)
        return replace(self, order=order)

    def cut(self, seconds: float, step: float | None = None) -> Videos:
        """Windows of so many seconds, `step` apart (None: end to end), as items.

        What is left at an end is a window too where it is at least half as long; an item shorter than one stays whole.
        """
        step = seconds if step is None else step
        if not (0 < seconds < np.inf and 0 < step < np.inf):
            raise UserError(f"windows need seconds and a step above 0, got {seconds} and {step}")
        files = np.unique(self.file).tolist()
        measured = in_order(lambda row: self._measured(files[row]), len(files))
        lengths = dict(zip(files, measured, strict=True))
        row, begin, end = [], [], []
        for i in range(len(self)):
            first, last = self.span(i)
            length = lengths[int(self.file[i])]
            last = length if np.isnan(self.end[i]) else min(last, length)
            count = max(1, int(np.floor((last - first - seconds / 2) / step + 1e-9)) + 1)
            whole = last - first <= seconds
            for k in range(1 if whole else count):
                row.append(i)
                begin.append(self.begin[i] if whole else first + k * step)
                end.append(self.end[i] if whole else min(first + k * step + seconds, last))
        return replace(self.subset(np.array(row)), begin=np.array(begin), end=np.array(end))

    def hold(self, progress: Callable[[int, int], None] | None = None) -> Videos:
        """The same items with every frame decoded once and held in memory, as `max_side` says."""
        if isinstance(self.listing.store, Clips) or self.held is not None:
            return self
        from .videodecode import frames_at

        files = np.unique(self.file).tolist()

        def one(row: int) -> tuple[np.ndarray | str, Any]:
            index = None
            try:
                index = self.index_of(files[row])
                return frames_at(item(self.listing, files[row]), index, np.arange(len(index)), self.max_side), index
            except BrokenItem as broken:
                return str(broken), index

        held, lists = dict[int, np.ndarray | str](), dict[int, Any]()
        for row, (frames, index) in enumerate(in_order(one, len(files), task=1)):
            held[files[row]] = frames
            if index is not None:
                lists[files[row]] = index
            if progress:
                progress(row + 1, len(files))
        return replace(self, held=held, lists=lists)

    def lost(self) -> dict[int, str]:
        """Items that are known not to be readable once videos are held: those of broken ones, and without a frame."""
        if self.held is None:
            return {}
        lost = {}
        for i, file in enumerate(self.file.tolist()):
            held = self.held[file]
            try:
                if isinstance(held, str):
                    raise BrokenItem(held)
                self.places(i)
            except BrokenItem as broken:
                lost[i] = str(broken)
        return lost

    @property
    def bytes(self) -> float:
        """Of all frames of all videos when they are held, as far as headers tell; 0 where they are in memory."""
        if isinstance(self.listing.store, Clips) or self.held is not None:
            return 0.0
        heads = self.heads[np.unique(self.file)]
        short, long = np.minimum(heads["width"], heads["height"]), np.maximum(heads["width"], heads["height"])
        side = short if self.max_side is None else np.minimum(short, self.max_side)
        return float((heads["seconds"] * np.maximum(heads["rate"], 1) * 3 * side * side * long / short).sum())

    def subset(self, indices: Any) -> Videos:
        """The chosen items, in the order given (integers or a mask), from the same storage."""
        chosen = np.asarray(indices)
        chosen = np.flatnonzero(chosen) if chosen.dtype == bool else chosen.astype(np.int64)
        parts = {name: getattr(self, name) for name in ("file", "begin", "end", "labels", "split")}
        return replace(self, **{name: part[chosen] for name, part in parts.items() if part is not None})

    def fingerprint(self) -> str:
        """16 hex digits of all names, stretches and settings, and of up to 1,024 videos' sizes or checksums."""
        digest = blake2b(repr((self.max_side, self.rate)).encode(), digest_size=8)
        for start in range(0, len(self), 2**16):
            files = self.file[start : start + 2**16].tolist()
            digest.update("\0".join(map(self.listing.key, files)).encode())
        digest.update(self.begin.tobytes() + self.end.tobytes())
        for place in self.file[spread(len(self), STAMPED)].tolist():
            digest.update(b"%d," % self.listing.store.stamp(place))
        return digest.hexdigest()

    def __repr__(self) -> str:
        more = f", {len(self.classes)} classes" if self.classes else ""
        return f"<{self.name}: {len(self):,} clips of {len(np.unique(self.file)):,} videos{more}>"

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "indices": OrderedDict()}  # a worker makes its own

    def places(self, index: int) -> np.ndarray:
        """(n,) int64: which frames of its video an item has, in the order of time. Raises BrokenItem for none."""
        found = self._places(index)
        if not len(found):
            begin, end = self.span(index)
            length = self._length(int(self.file[index]))
            raise BrokenItem(f"no frame from {begin:.2f} to {end:.2f} s: it is {length:.2f} s long")
        return found

    def _measured(self, file: int) -> float:
        """A video's length by its frames; if they cannot be listed, its header's."""
        try:
            return self._length(file)
        except BrokenItem:
            return float(self.heads["seconds"][file])

    def index_of(self, file: int) -> Any:
        """The list of a video's frames (videoindex.py); those used last are remembered. Raises BrokenItem."""
        from .videodecode import index_of

        if file in self.lists:
            return self.lists[file]
        found = self.indices.pop(file, None) or index_of(item(self.listing, file))
        self.indices[file] = found  # as the one used last
        while len(self.indices) > KEPT:
            self.indices.popitem(last=False)
        return found

    def _places(self, index: int) -> np.ndarray:
        shown = self._shown(int(self.file[index]))
        begin, end = self.begin[index], self.end[index]
        first = 0 if np.isnan(begin) else int(np.searchsorted(shown, begin - 1e-6))
        last = len(shown) if np.isnan(end) else int(np.searchsorted(shown, end - 1e-6))
        if self.rate is None:
            return np.arange(first, last)
        start, stop = shown[0] if np.isnan(begin) else begin, self._length(int(self.file[index]))
        stop = stop if np.isnan(end) else min(end, stop)
        ticks = start + np.arange(max(0, int(np.ceil((stop - start) * self.rate - 1e-6)))) / self.rate
        return np.searchsorted(shown, ticks + 1e-6, side="right") - 1

    def _shown(self, file: int) -> np.ndarray:
        """(n,) seconds at which the frames of a video appear; of an array one a second."""
        if isinstance(self.listing.store, Clips):
            return np.arange(self.listing.store.clips.shape[1], dtype=np.float64)
        return self.index_of(file).seconds

    def _length(self, file: int) -> float:
        store = self.listing.store
        return float(store.clips.shape[1]) if isinstance(store, Clips) else self.index_of(file).length
