"""Let a CPU process keep the memory that it frees, while it trains.

Each step frees its activations and needs as much again a moment later. glibc gives large blocks back to the system at
once, which then has to clear every page anew: 10 to 30 % of a step (benchmarks/steps.py).
"""

from __future__ import annotations

import ctypes
import platform
from collections.abc import Iterator
from contextlib import contextmanager

TRIM_THRESHOLD, MMAP_MAX = -1, -4  # names of glibc's mallopt(3)
USUAL = {TRIM_THRESHOLD: 128 * 1024, MMAP_MAX: 65536}
KEEP = {TRIM_THRESHOLD: 2**31 - 1, MMAP_MAX: 0}


@contextmanager
def kept() -> Iterator[None]:
    """Freed memory stays with the process inside the context and goes back after it. Nothing happens without glibc."""
    if platform.libc_ver()[0] != "glibc":
        yield
        return
    libc = ctypes.CDLL(None)
    for name, value in KEEP.items():
        libc.mallopt(name, value)
    try:
        yield
    finally:
        for name, value in USUAL.items():
            libc.mallopt(name, value)
        libc.malloc_trim(0)
