"""What one may search for: a photo or a sound in any form, many of them, an item by its key, or a vector."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from difflib import get_close_matches
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..data.image import TAR, ImageSource, photos
from ..data.listing import Names, few
from ..data.pixels import reduce_array
from ..data.sounds import Sounds, sounds
from ..errors import BrokenItem, DataError, UserError
from ..types import Features, Source

MANY = (".zip", *TAR, ".parquet", ".npy", ".npz")  # files that hold several photos
COMPARED = 100_000  # keys that a wrong one is compared with


def as_photos(query: Any, **reading: Any) -> ImageSource | None:
    """The photos that a query is: each of a folder, archive or set is one query. None where it is a name of no file.

    query:   a path, a PIL image, an array or tensor (H, W), (H, W, C) or (C, H, W), or what `photos` takes.
    reading: settings of `photos`.
    Raises DataError when there are no photos in it, UserError when a single one cannot be read.
    """
    from PIL import Image

    if isinstance(query, str | os.PathLike):
        path = os.path.expanduser(os.fspath(query))
        if not os.path.exists(path):
            return None
        if os.path.isdir(path) or path.lower().endswith(MANY):
            return photos(path, **reading)
        try:
            with open(path, "rb") as file:
                return _one({"bytes": file.read()}, path, reading)
        except OSError as error:
            raise UserError(f"cannot read '{path}': {(error.strerror or str(error)).lower()}") from None
    if isinstance(query, Image.Image) or (isinstance(query, np.ndarray | Tensor) and query.ndim in (2, 3)):
        return _one(query, "photo", reading)
    return photos(query, **reading)


def as_sounds(query: Any, rate: int) -> Sounds | None:
    """The sounds that a query is: each of a folder, archive or list is one query. None where it is a name of no file.

    query: a path, a pair (samples, their rate), or what `sounds` takes.  rate: that all are read at, the encoder's.
    Raises DataError when there are no sounds in it, UserError when a single one cannot be read.
    """
    if isinstance(query, tuple) and len(query) == 2 and np.ndim(query[1]) == 0:
        return _one_sound(*query, "sound", rate)
    if not isinstance(query, str | os.PathLike):
        return sounds(query, rate=rate)
    path = os.path.expanduser(os.fspath(query))
    if not os.path.exists(path):
        return None
    if os.path.isdir(path) or path.lower().endswith(MANY):
        return sounds(path, rate=rate)
    from ..data.sounddecode import header, resampled, stretch

    try:
        file = os.fsencode(path)
        head = header(file)
        samples = stretch(file, 0, int(resampled(head.frames, head.rate, rate)), rate)
    except BrokenItem as reason:
        raise UserError(f"'{path}' cannot be searched for: {reason}") from None
    return _one_sound(samples, rate, path, rate)


def as_vector(query: Any) -> Features | None:
    """A query that is h itself: an array or tensor (D,). None where it is something else.

    Raises UserError when it is not of numbers or has no direction: not finite, or all 0.
    """
    if not (isinstance(query, np.ndarray | Tensor) and query.ndim == 1):
        return None
    if isinstance(query, np.ndarray) and query.dtype.kind not in "fiu":
        raise UserError(f"a vector to search for must be of numbers, got {query.dtype}: give one query at a time")
    h = torch.as_tensor(query).detach().cpu().float()
    if not h.isfinite().all() or not h.any():
        raise UserError("a vector to search for must be finite and not all 0")
    return Features(h[None], ["vector"])


def find_key(name: str, keys: Sequence[str]) -> str:
    """The key that `name` is, or else the only one that ends in it: cat/0012.jpg for train/cat/0012.jpg.

    Raises UserError when there is none, with the nearest names, or several, with some of them.
    """
    if name in keys:
        return name
    fits = [key for key in keys if key.endswith(f"/{name}")]
    if len(fits) == 1:
        return fits[0]
    if fits:
        raise UserError(f"'{name}' may be {', '.join(few(fits, 3))}: give more of the name")
    parts = name.count("/") + 1
    ends = {"/".join(key.split("/")[-parts:]): key for key in islice(keys, COMPARED)}
    near = [f"'{ends[end]}'" for end in get_close_matches(name, ends, n=2)]
    hint = f"did you mean {' or '.join(near)}?" if near else f"its items have names such as '{keys[0]}'"
    raise UserError(f"'{name}' is neither a file nor an item of the run's data; {hint}")


def pictures(source: Source, keys: Iterable[str], side: int = 192) -> dict[str, Tensor]:
    """The items of those keys, uint8 (C, h, w), the shorter side at most `side`; without those that cannot be read."""
    wanted, out = set(keys), {}
    for i in range(len(source)):
        if (key := source.key(i)) in wanted:
            with suppress(BrokenItem):
                out[key] = torch.from_numpy(reduce_array(source.read(i).numpy(), side))
    return out


def heard(source: Source, keys: Iterable[str], rate: int, seconds: float = 2.0) -> dict[str, Tensor]:
    """The items of those keys, float32 (1, 1, T), no longer than so many seconds; without those that cannot be read."""
    wanted, out = set(keys), {}
    for i in range(len(source)):
        if (key := source.key(i)) in wanted:
            with suppress(BrokenItem):
                out[key] = source.read(i)[..., : round(seconds * rate)]
    return out


def _one_sound(samples: Any, given: int, name: str, rate: int) -> Sounds:
    """A source of one sound. Raises UserError with the reason when it cannot be read."""
    try:
        source = sounds([(samples, given)], rate=rate)
        source.read(0)
    except (BrokenItem, DataError) as reason:
        raise UserError(f"'{name}' cannot be searched for: {reason}") from None
    return replace(source, name=name, listing=replace(source.listing, names=Names([os.fsencode(name)])))


def _one(item: Any, name: str, reading: dict[str, Any]) -> ImageSource:
    """A source of one photo. Raises UserError with the reason when it cannot be read."""
    source = photos([item], **reading)
    try:
        source.read(0)
    except BrokenItem as reason:
        raise UserError(f"'{name}' cannot be searched for: {reason}") from None
    return replace(source, name=name, listing=replace(source.listing, names=Names([os.fsencode(name)])))
