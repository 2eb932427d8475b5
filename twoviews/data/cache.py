"""Arrays kept from one run to the next in the user's cache folder, each file whole or not there. Nothing is pickled."""

from __future__ import annotations

import os
import tempfile
import zipfile
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path

import numpy as np

VERSION = "1"  # of what the arrays mean


def folder() -> Path:
    """TWOVIEWS_CACHE, else twoviews in XDG_CACHE_HOME, in ~/.cache, or in the folder for temporary files."""
    if own := os.environ.get("TWOVIEWS_CACHE"):
        return Path(own)
    if base := os.environ.get("XDG_CACHE_HOME"):
        return Path(base) / "twoviews"
    try:
        return Path.home() / ".cache" / "twoviews"
    except RuntimeError:  # a user without a home
        return Path(tempfile.gettempdir()) / "twoviews"


def place(*marks: object) -> Path:
    """Where the arrays of that which the marks name are kept."""
    name = blake2b(
        "\0".join(map(str, (VERSION, *marks))).encode("utf-8", "surrogateescape"), digest_size=16
    ).hexdigest()
    return folder() / "shards" / name[:2] / f"{name[2:]}.npz"


def load(path: Path) -> dict[str, np.ndarray] | None:
    """The arrays kept there, None where there are none that can be read."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return dict(arrays)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile):
        return None


def save(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """Keep the arrays, if they can be kept: without room they are made again."""
    part = path.with_suffix(f".{os.getpid()}.part")
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]
        os.replace(part, path)
    with suppress(OSError):
        part.unlink(missing_ok=True)
