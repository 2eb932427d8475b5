"""Sound: one way in for folders, archives and Parquet of recordings.

data -> Listing (names, places, labels) -> headers -> Sounds -> float32 (1, 1, T) at one rate, a stretch at a time
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from torch import Tensor

from .listing import Listing


@dataclass(eq=False, repr=False)
class Sounds:
    """Stretches of recordings by number: names, labels and places, each decoded when read. Made by `sounds`.

    As it is made each item is a whole recording; `cut` gives the same recordings in pieces.

    file:     (N,) int64, the recording in the listing that each item is of.
    start:    (N,) int64, its first sample, and length: (N,) int64, its samples, both counted at `rate`.
    rate:     samples a second of every item that is read.
    labels:   (N,) int64 with -1 for "no label", or None; `classes` names them.
    speakers: (N,) int64 with -1 for "not known", or None: who is heard; `voices` names them.
    notes:    file -> why it is left out, as far as its header tells.
    """

    name: str
    listing: Listing
    file: np.ndarray
    start: np.ndarray
    length: np.ndarray
    rate: int
    labels: np.ndarray | None = None
    classes: list[str] | None = None
    speakers: np.ndarray | None = None
    voices: list[str] | None = None
    notes: dict[str, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.file)

    def key(self, index: int) -> str:
        """The recording's name; of a piece with its seconds, as talk.flac#12.0-24.0."""
        raise NotImplementedError

    def read(self, index: int) -> Tensor:
        """float32 (1, 1, T): mono, resampled, as loud as it is. Raises BrokenItem with the reason."""
        raise NotImplementedError

    def cut(self, seconds: float) -> Sounds:
        """The same recordings in equal pieces of at most so many seconds."""
        raise NotImplementedError

    def subset(self, indices: Any) -> Sounds:
        """The chosen items, in the order given (integers or a mask), from the same storage."""
        raise NotImplementedError

    def fingerprint(self) -> str:
        raise NotImplementedError
