"""Where recordings lie: `mediafiles` for sounds, and lists of samples in memory."""

from __future__ import annotations

import os
from typing import Any

from .mediafiles import SOUND, Recordings, is_of, item, list_media

__all__ = ["Recordings", "is_sound", "item", "list_sounds"]


def list_sounds(data: Any) -> Recordings:
    """Names and places of all recordings; nothing is decoded. Raises DataError when there are none."""
    if isinstance(data, str | os.PathLike):
        return list_media(data, SOUND)
    from .mediatables import list_arrays

    return list_arrays(data)


def is_sound(data: Any) -> bool:
    """Whether some data is of sounds, by the endings of its names (the most frequent kind), or by its columns."""
    if isinstance(data, str | os.PathLike):
        return is_of(data, SOUND)
    from .mediatables import in_memory

    return in_memory(data)
