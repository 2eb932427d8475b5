"""Several runs on one page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path


def write_comparison(folders: Sequence[Path], out: Path) -> Path:
    """Write the page that compares the runs in `folders` to `out`."""
    raise NotImplementedError
