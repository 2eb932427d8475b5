"""Sound: one way in for folders, archives, Parquet and arrays of recordings.

data -> Listing (names, places, labels) -> headers -> Sounds -> float32 (1, 1, T) at one rate, a stretch at a time
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import BrokenItem, DataError, UserError, unknown
from .check import in_order
from .image import STAMPED, spread
from .listing import few
from .medialabels import known
from .soundfiles import Recordings, is_sound, item, list_sounds

HEAD = np.dtype([("frames", "i8"), ("rate", "i4"), ("channels", "i2"), ("kind", "S5")])
SLOW, USUAL = 8_000, 16_000  # rates that are chosen where none is given
BETWEEN = 12_000  # most recordings are below it: SLOW
SHOWN = 3  # names or counts of a kind that a note has
__all__ = ["Sounds", "is_sound", "notes_of_sounds", "sounds", "splits"]


@dataclass(eq=False, repr=False)
class Sounds:
    """Stretches of recordings by number: names, labels and places, each decoded when read. Made by `sounds`.

    As it is made each item is a whole recording; `cut` gives the same recordings in pieces.

    file:     (N,) int64, the recording in the listing that each item is of.
    start:    (N,) int64, its first sample, and length: (N,) int64, its samples, both counted at `rate`.
    rate:     samples a second of every item that is read.
    heads:    (recordings of the listing,) what their headers say: frames, rate, channels and kind; 0 of those left out.
    labels:   (N,) int64 with -1 for "no label", or None; `classes` names them.
    speakers: (N,) int64 with -1 for "not known", or None: who is heard; `voices` names them.
    splits:   names of the splits, and split: (N,) int8 places in them, -1 for none; None where there are none.
    notes:    file -> why it is left out, as far as its header tells.
    said:     what matching labels with recordings found, in words.
    """

    name: str
    listing: Recordings
    file: np.ndarray
    start: np.ndarray
    length: np.ndarray
    rate: int
    heads: np.ndarray
    labels: np.ndarray | None = None
    classes: list[str] | None = None
    speakers: np.ndarray | None = None
    voices: list[str] | None = None
    splits: Sequence[str] = ()
    split: np.ndarray | None = None
    notes: dict[str, str] = field(default_factory=dict)
    said: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.file)

    @property
    def seconds(self) -> float:
        """Of all items together."""
        return float(self.length.sum() / self.rate)

    def whole(self, index: int) -> bool:
        """Whether an item is a recording from end to end."""
        from .sounddecode import resampled

        head = self.heads[self.file[index]]
        return int(self.length[index]) == resampled(int(head["frames"]), int(head["rate"]), self.rate)

    def key(self, index: int) -> str:
        """The recording's name; of a piece with its seconds, as talk.flac#12.0-24.0."""
        name = self.listing.key(int(self.file[index]))
        if self.whole(index):
            return name
        start = int(self.start[index])
        return f"{name}#{_seconds(start, self.rate)}-{_seconds(start + int(self.length[index]), self.rate)}"

    def read(self, index: int) -> Tensor:
        """float32 (1, 1, T): mono, resampled, as loud as it is. Raises BrokenItem with the reason."""
        from .sounddecode import stretch

        file = item(self.listing, int(self.file[index]), self.whole(index))
        samples = stretch(file, int(self.start[index]), int(self.length[index]), self.rate)
        return torch.from_numpy(samples.reshape(1, 1, -1))

    def cut(self, seconds: float) -> Sounds:
        """The same recordings in equal pieces of at most so many seconds: ceil(T / most), that differ by one sample."""
        most = int(seconds * self.rate)
        if most < 1:
            raise UserError(f"pieces of {seconds} seconds hold no sample at {self.rate:,} Hz")
        count = -(-self.length // most)  # (N,) pieces of each
        row = np.repeat(np.arange(len(self)), count)
        part = np.arange(len(row)) - np.repeat(np.cumsum(count) - count, count)
        begin, end = ((part + i) * self.length[row] // count[row] for i in (0, 1))
        return replace(self.subset(row), start=self.start[row] + begin, length=end - begin)

    def subset(self, indices: Any) -> Sounds:
        """The chosen items, in the order given (integers or a mask), from the same storage."""
        chosen = np.asarray(indices)
        chosen = np.flatnonzero(chosen) if chosen.dtype == bool else chosen.astype(np.int64)
        names = ("file", "start", "length", "labels", "speakers", "split")
        parts = {name: getattr(self, name) for name in names}
        return replace(self, **{name: part[chosen] for name, part in parts.items() if part is not None})

    def fingerprint(self) -> str:
        """16 hex digits of all names, stretches and the rate, and of up to 1,024 recordings' sizes or checksums."""
        digest = blake2b(b"%d" % self.rate, digest_size=8)
        for start in range(0, len(self), 2**16):
            files = self.file[start : start + 2**16].tolist()
            digest.update("\0".join(map(self.listing.key, files)).encode())
        digest.update(self.start.tobytes() + self.length.tobytes())
        for place in self.file[spread(len(self), STAMPED)].tolist():
            digest.update(b"%d," % self.listing.store.stamp(place))
        return digest.hexdigest()

    def __repr__(self) -> str:
        more = "".join(
            f", {len(names)} {what}" for names, what in ((self.classes, "classes"), (self.voices, "speakers")) if names
        )
        return f"<{self.name}: {len(self):,} sounds, {self.seconds / 3600:,.2f} hours at {self.rate:,} Hz{more}>"


def sounds(
    data: Any,
    *,
    labels: Any = None,
    label: str | None = None,
    speaker: str | None = None,
    split: str | None = None,
    rate: int | None = None,
) -> Sounds:
    """A source of sounds, their headers read and nothing decoded yet.

    data:    a folder (any depth), .zip, .tar (.gz), .parquet file or folder of them; a list of (samples, rate).
    labels:  a .csv, .tsv or .parquet file with a column of paths; a pattern of file names as "{digit}_{speaker}_{_}";
             a list of integers or words. None: what the data has (sub-folders, columns of Parquet), if anything.
    label:   which column or field. None: one called label, else the first of few words or small whole numbers.
    speaker: which column or field says who is heard. None: one called speaker or speaker_id, if there is one.
    split:   "train", "test" ... of a column `split` or `subset`, or of top folders (see `splits`); None: all of it.
    rate:    samples a second that all is resampled to. None: 8,000 where most recordings have less than 12,000, else
             16,000.
    Raises DataError when the data cannot be used, UserError when an option cannot.
    """
    from .sounddecode import FASTEST, SLOWEST, resampled

    if rate is not None and not SLOWEST <= rate <= FASTEST:
        raise UserError(f"rate must be {SLOWEST:,} to {FASTEST:,} samples a second, got {rate}")
    listing = list_sounds(data)
    about = known(listing, labels, label, speaker)
    name, places = listing.name, np.arange(listing.count)
    if split is not None:
        if not about.splits:
            raise DataError(f"{name} has no splits, so there is no '{split}' to choose; leave the split out")
        if split not in about.splits:
            raise DataError(f"{name}: {unknown('split', split, about.splits)}")
        name, places = f"{name}:{split}", np.flatnonzero(about.split == list(about.splits).index(split))
    listing.load(places)
    heads, notes = read_heads(listing, places)
    kept = places[heads["frames"][places] > 0]
    if not len(kept):
        key, reason = next(iter(notes.items()))
        raise DataError(f"none of {len(places):,} recordings in {name} can be read; the first, {key}: {reason}")
    if rate is None:
        rate = SLOW if np.median(heads["rate"][kept]) < BETWEEN else USUAL
    length = np.asarray(resampled(heads["frames"][kept], heads["rate"][kept].astype(np.int64), rate))
    notes |= {listing.key(int(i)): "too short: not one sample" for i in kept[length == 0]}
    kept, length = kept[length > 0], length[length > 0]
    own = None if about.labels is None or (about.labels[kept] < 0).all() else about.labels[kept]
    who = None if about.speakers is None or (about.speakers[kept] < 0).all() else about.speakers[kept]
    return Sounds(
        name,
        listing,
        kept,
        np.zeros(len(kept), np.int64),
        length,
        rate,
        heads,
        own,
        None if own is None else about.classes,
        who,
        None if who is None else about.voices,
        about.splits,
        None if about.split is None else about.split[kept],
        notes,
        about.said,
    )


def splits(data: Any, labels: Any = None) -> list[str]:
    """The splits of some data, such as ["train", "val", "test"]; [] when there are none. Raises DataError."""
    return list(known(list_sounds(data), labels).splits)


def read_heads(listing: Recordings, places: np.ndarray) -> tuple[np.ndarray, dict[str, str]]:
    """The headers of the recordings at some places, and of those left out the reason."""
    from .sounddecode import Header, header

    def one(row: int) -> Header | str:
        try:
            return header(item(listing, int(places[row])))
        except BrokenItem as broken:
            return str(broken)

    heads, notes = np.zeros(listing.count, HEAD), {}
    for place, found in zip(places.tolist(), in_order(one, len(places)), strict=True):
        if isinstance(found, str):
            notes[listing.key(place)] = found
        else:
            heads[place] = found
    return heads, notes


def notes_of_sounds(source: Sounds) -> list[str]:
    """What a user should know of a source: how much there is, what is resampled, mixed down, left out."""
    files = np.unique(source.file)
    heads, n = source.heads[files], len(files)
    pieces = f" in {len(source):,} pieces" if len(source) > n else ""
    out = [f"{source.seconds / 3600:,.2f} hours in {n:,} recordings{pieces}, read at {source.rate:,} Hz"]
    others = heads["rate"][heads["rate"] != source.rate]
    if len(others):
        out.append(f"{len(others):,} are resampled: {_counts(f'{rate:,} Hz' for rate in others.tolist())}")
    if mixed := int((heads["channels"] > 1).sum()):
        out.append(f"{mixed:,} have several channels, which are mixed down")
    if pieces and (slow := int((heads["kind"] == b"MP3").sum())):
        out.append(f"{slow:,} are MP3, decoded from the start for each piece; FLAC or WAV would be read faster")
    if source.notes:
        reasons = [f"{key}: {reason}" for key, reason in source.notes.items()]
        out.append(f"{len(reasons):,} are left out: {'; '.join(few(reasons, SHOWN))}")
    return out + source.said


def _counts(words: Any) -> str:
    return ", ".join(few((f"{word} ({n:,})" for word, n in Counter(words).most_common()), SHOWN))


def _seconds(samples: int, rate: int) -> str:
    """12.0, 0.64 or 1.284: to the millisecond, with as few digits as say it."""
    whole, rest = f"{samples / rate:.3f}".split(".")
    return f"{whole}.{rest[0]}{rest[1:].rstrip('0')}"
