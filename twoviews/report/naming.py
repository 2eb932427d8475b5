"""What a page calls the rows of a table of vectors, and their types."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from ..data.entries import Entries


def name_of(entries: Entries, row: int) -> str:
    """The name of a row, or its id where it has none."""
    return entries.name(row) or str(entries.ids[row].as_py())


def titled(entries: Entries, row: int) -> str:
    """What a row is, and its name where it has one."""
    name, key = entries.name(row), entries.key(row)
    return f"{key}, {name}" if name else key


def types_of(entries: Entries) -> tuple[str, ...]:
    return entries.types or ("word",)


def kinds_of(entries: Entries) -> np.ndarray:
    """(V,) places in the types."""
    return np.zeros(len(entries.counts), np.uint8) if entries.kinds is None else entries.kinds
