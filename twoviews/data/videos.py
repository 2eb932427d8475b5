"""Video: one way in for folders, archives, Parquet, lists with times and arrays of clips.

data -> listing (names, places, labels) -> headers -> Videos -> uint8 frames, at the moments that views ask for
"""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np

from ..errors import BrokenItem, DataError, UserError, unknown
from .check import in_order
from .listing import Names, few
from .mediafiles import Recordings, item
from .medialabels import Known, known
from .videofiles import Clips, Spans, is_video, list_videos
from .videosource import ORDERS, Videos

HEAD = np.dtype([("seconds", "f8"), ("width", "i4"), ("height", "i4"), ("rate", "f4"), ("streams", "i2")])
SHOWN = 3  # names or counts of a kind that a note has
__all__ = ["ORDERS", "Videos", "is_video", "notes_of_videos", "splits", "videos"]


def videos(
    data: Any,
    *,
    labels: Any = None,
    label: str | None = None,
    split: str | None = None,
    max_side: int | None = None,
    rate: float | None = None,
    name: str | None = None,
) -> Videos:
    """A source of videos, their headers read and nothing decoded yet.

    data:     a folder (any depth), .zip, .tar (.gz), .parquet file or folder of them with the files' bytes; a .csv,
              .tsv or .parquet list with a column of paths and maybe of start and end in seconds, each row an item;
              clips uint8 (N, T, H, W[, C]) as array, (array, labels), .npy or .npz.
    labels:   a .csv, .tsv or .parquet file with a column of paths; a pattern of file names as "{action}_{_}"; a list of
              integers or words. None: what the data has (sub-folders, columns), if anything.
    label:    which column or field. None: one called label, else the first of few words or small whole numbers.
    split:    "train", "test" ... of a column `split` or `subset`, or of top folders (see `splits`); None: all of it.
    max_side: reduce the shorter side to this many pixels while decoding; nothing is enlarged.
    rate:     frames a second; None: every frame.
    Raises DataError when the data cannot be used, UserError when an option cannot.
    """
    if max_side is not None and max_side < 4:
        raise UserError(f"max_side must be 4 or more pixels, got {max_side}")
    if rate is not None and not 0 < rate <= 1000:
        raise UserError(f"rate must be above 0 and at most 1,000 frames a second, got {rate}")
    listing, spans = list_videos(data)
    about = _known(listing, spans, labels, label)
    source, places = name or listing.name, np.arange(len(spans.file) if spans else listing.count)
    if split is not None:
        if not about.splits:
            raise DataError(f"{source} has no splits, so there is no '{split}' to choose; leave the split out")
        if split not in about.splits:
            raise DataError(f"{source}: {unknown('split', split, about.splits)}")
        source, places = f"{source}:{split}", np.flatnonzero(about.split == list(about.splits).index(split))
    file = spans.file[places] if spans else places
    heads, notes = read_heads(listing, np.unique(file))
    kept = heads["width"][file] > 0
    if not kept.any():
        key, reason = next(iter(notes.items()))
        raise DataError(f"none of {len(places):,} videos in {source} can be read; the first, {key}: {reason}")
    places, file = places[kept], file[kept]
    nothing = np.full(len(places), np.nan)
    own = None if about.labels is None or (about.labels[places] < 0).all() else about.labels[places]
    return Videos(
        source,
        listing,
        file,
        spans.begin[places] if spans else nothing,
        spans.end[places] if spans else nothing.copy(),
        heads,
        max_side,
        rate,
        own,
        None if own is None else about.classes,
        about.splits,
        None if about.split is None else about.split[places],
        notes=notes,
        said=[*(spans.said if spans else ()), *about.said],
    )


def splits(data: Any, labels: Any = None) -> list[str]:
    """The splits of some data, such as ["train", "val", "test"]; [] when there are none. Raises DataError."""
    return list(_known(*list_videos(data), labels).splits)


def read_heads(listing: Recordings, places: np.ndarray) -> tuple[np.ndarray, dict[str, str]]:
    """The headers of the videos at some places, and of those left out the reason."""
    heads, notes = np.zeros(listing.count, HEAD), dict[str, str]()
    if isinstance(listing.store, Clips):
        _, frames, height, width = listing.store.clips.shape[:4]
        heads[places] = (frames, width, height, 1, 1)
        return heads, notes
    from .videodecode import header, index_of

    listing.load(places)

    def one(row: int) -> tuple | str:
        try:
            file = item(listing, int(places[row]))
            found = header(file)
            seconds = index_of(file).length if found.seconds is None else found.seconds
            return seconds, found.width, found.height, found.rate, found.streams
        except BrokenItem as broken:
            return str(broken)

    for place, found in zip(places.tolist(), in_order(one, len(places)), strict=True):
        if isinstance(found, str):
            notes[listing.key(place)] = found
        else:
            heads[place] = found
    return heads, notes


def notes_of_videos(source: Videos) -> list[str]:
    """What a user should know of a source: how much there is, how it is read, what is left out."""
    files = np.unique(source.file)
    heads, n = source.heads[files], len(files)
    stretches = f" in {len(source):,} stretches" if len(source) > n else ""
    if isinstance(source.listing.store, Clips):
        out = [f"{n:,} clips of {int(heads['seconds'][0])} frames{stretches}"]
    else:
        sizes = Counter(f"{w} x {h}" for w, h in zip(heads["width"].tolist(), heads["height"].tolist(), strict=True))
        shown = ", ".join(few((f"{size} ({count:,})" for size, count in sizes.most_common()), SHOWN))
        minutes = float(heads["seconds"].sum()) / 60
        length = f"{minutes / 60:,.2f} hours" if minutes >= 60 else f"{minutes:.2f} minutes"
        out = [f"{length} in {n:,} videos{stretches}: {shown}"]
        if several := int((heads["streams"] > 1).sum()):
            out.append(f"{several:,} have several video streams, of which the best is read")
    if source.notes:
        reasons = [f"{key}: {reason}" for key, reason in source.notes.items()]
        out.append(f"{len(reasons):,} are left out: {'; '.join(few(reasons, SHOWN))}")
    return out + source.said


def _known(listing: Recordings, spans: Spans | None, labels: Any, label: str | None = None) -> Known:
    """What is known of each item. A table or a pattern tells of videos, so of all stretches of one the same; where it
    has no splits the list's own count."""
    if spans is None:
        return known(listing, labels, label)
    names = Names([listing.key(int(file)).encode("utf-8", "surrogateescape") for file in spans.file])
    stretches = replace(listing, count=len(spans.file), names=names, columns=spans.columns)
    if not isinstance(labels, str | os.PathLike):
        return known(stretches, labels, label)
    found = known(listing, labels, label)
    codes = {name: getattr(found, name) for name in ("labels", "split")}
    found = replace(found, **{name: x[spans.file] for name, x in codes.items() if x is not None})
    if found.split is None and (own := known(stretches, None)).split is not None:
        return replace(found, splits=own.splits, split=own.split)
    return found
