"""Video: one way in for folders, archives, Parquet, lists with times and arrays of clips.

data -> listing (names, places, labels) -> headers -> Videos -> uint8 frames, at the moments that views ask for
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from torch import Tensor

Moments = Callable[[int, np.random.Generator | None], np.ndarray]  # (frames there are, dice or None) -> frames to read


@dataclass(eq=False, repr=False)
class Videos:
    """Stretches of videos by number: names, labels and places, each decoded when read. Made by `videos`.

    As it is made each item is a whole video, or a row of a list with times; `cut` gives windows of them.

    file:     (N,) int64, the video in the listing that each item is of.
    begin:    (N,) float64, its first second, and end: (N,) float64, its last, counted from the first frame; NaN: whole.
    max_side: the shorter side in pixels that frames are reduced to while decoding, or None.
    rate:     frames a second that a video is read at (the frame shown at each moment), or None: every frame there is.
    channels: of every frame read, 3, or 1 of arrays of grey clips.
    labels:   (N,) int64 with -1 for "no label", or None; `classes` names them.
    splits:   names of the splits, and split: (N,) int8 places in them, -1 for none; None where there are none.
    moments:  which frames `read` gives; set by `sampled`.
    epoch:    None: the moments of evaluation, with nothing random; a number: those of that epoch of training.
    order:    "", "reversed" or "shuffled": in which order frames are given; set by `ordered`.
    notes:    file -> why it is left out, as far as its header tells.
    """

    name: str
    listing: Any
    file: np.ndarray
    begin: np.ndarray
    end: np.ndarray
    max_side: int | None = None
    rate: float | None = None
    channels: int = 3
    labels: np.ndarray | None = None
    classes: list[str] | None = None
    splits: Sequence[str] = ()
    split: np.ndarray | None = None
    moments: Moments | None = None
    seed: int = 0
    epoch: int | None = None
    order: str = ""
    notes: dict[str, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.file)

    def key(self, index: int) -> str:
        """The video's name; of a window with its seconds, as talk.mp4#12.0-24.0."""
        raise NotImplementedError

    def read(self, index: int) -> Tensor:
        """uint8 (F, h, C * w): the frames at this item's moments, each pixel's channels side by side.

        That is memory (F, h, w, C), so that a canvas of them is a canvas of photos. Raises BrokenItem with the reason.
        """
        raise NotImplementedError

    def sampled(self, moments: Moments, seed: int = 0) -> Videos:
        """The same items, read at these moments (those of views, as `views.moments`)."""
        raise NotImplementedError

    def at(self, epoch: int) -> Videos:
        """The same items with the random moments of an epoch, by seed, epoch and item alone."""
        raise NotImplementedError

    def ordered(self, order: str) -> Videos:
        """The same items, their frames given "reversed" or "shuffled" (by item, always the same): what an encoder that
        sees no time cannot tell."""
        raise NotImplementedError

    def cut(self, seconds: float, step: float | None = None) -> Videos:
        """Windows of so many seconds, `step` apart (None: end to end), as items."""
        raise NotImplementedError

    def clips(self, count: int) -> Videos:
        """`count` equal parts of each item as items, one after the other: clips at test, whose features are averaged."""
        raise NotImplementedError

    def hold(self, progress: Callable[[int, int], None] | None = None) -> Videos:
        """The same items decoded once and held in memory as uint8, as `max_side` says."""
        raise NotImplementedError

    def subset(self, indices: Any) -> Videos:
        """The chosen items, in the order given (integers or a mask), from the same storage."""
        raise NotImplementedError

    def fingerprint(self) -> str:
        """A short digest by which changed data is recognised."""
        raise NotImplementedError
