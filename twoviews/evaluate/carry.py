"""Yesterday's weights in a model of today's catalogue, item by item by name."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ..checkpoint import steps, weights
from ..data.vocabulary import find, read_items
from ..errors import UserError
from .catalogue import put, rows_of
from .growth import spread, together

if TYPE_CHECKING:
    import pyarrow as pa

BY_ITEM = ("encoder.items.weight", "bias")  # what has a row for each item, behind those of special tokens


def weights_of(folder: Path) -> Path:
    """The file of a run's method: as validation liked it best, else as the last checkpoint has it."""
    best = folder / "best" / "method.safetensors"
    if best.exists():
        return best
    if found := steps(folder):
        return found[-1] / "method.safetensors"
    raise UserError(f"{folder} has no weights: it has not reached its first checkpoint, or diverged before")


def carried(method: Any, folder: str | Path, names: pa.Array, histories: Any = None) -> dict[str, int]:
    """Fill a method that was built for today's catalogue with the weights of a run; in place.

    names:     (V,) today's vocabulary.
    histories: today's; where given, a new item begins as the mean of what it is met with, else as the mean of all.
    Returns how many items are `kept`, `new` and `gone`. Raises UserError when the run's network is another one, or it
    shares no item.
    """
    folder = Path(folder)
    before = read_items(folder).names
    place = find(names, before)  # (V,) where each of today's items was yesterday
    kept = np.flatnonzero(place >= 0)
    if not len(kept):
        raise UserError(f"{folder} shares no item with this log: its items are such as '{before[0].as_py()}'")
    old, new = weights(weights_of(folder)), method.state_dict()
    if wrong := sorted(old.keys() ^ new.keys()):
        raise UserError(f"{folder} is of another network: '{wrong[0]}' is not in both; go on with the same method")
    for name, value in new.items():
        if name in BY_ITEM:
            old[name] = _moved(old[name], value, place, len(before))
        if old[name].shape != value.shape:
            there, here = tuple(old[name].shape), tuple(value.shape)
            raise UserError(
                f"{folder} is of another network: '{name}' is {there} there, {here} here; go on with its settings"
            )
    method.load_state_dict(old)
    added = np.flatnonzero(place < 0)
    if histories is not None and len(added):
        rows = rows_of(method).cpu()
        known = rows[torch.from_numpy(kept)]
        rows, seen = together(histories, rows, place >= 0, added)
        if seen.any():
            made = spread(rows[torch.from_numpy(seen)], known, method.encoder.dim)
            put(method, torch.from_numpy(added[seen]), made)
    gone = len(before) - len(np.unique(place[kept]))
    return {"kept": len(kept), "new": len(added), "gone": gone}


def _moved(old: Tensor, new: Tensor, place: np.ndarray, before: int) -> Tensor:
    """Yesterday's rows in today's order; the mean of all for a new item."""
    first = len(old) - before
    items = old[first:]
    if items.shape[1:] != new.shape[1:]:
        return old
    index = torch.from_numpy(place)
    known = (index >= 0).view(-1, *[1] * (items.ndim - 1))
    rows = torch.where(known, items[index.clamp(min=0)], items.float().mean(0).to(items.dtype))
    return torch.cat([old[:first], rows])
