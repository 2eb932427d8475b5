"""Loops compiled by numba, with the machine code kept where it can be, and random numbers by counter for them.

A random number is a hash of what it is for, as in twoviews.data.dice: `stream(seed, epoch, walk)` is the state of one
walk and `draw(state, n)` its n-th number. So neither threads nor blocks change what is drawn. The hash is the
finaliser of SplitMix64 (Steele, Lea, Flood 2014, "Fast splittable pseudorandom number generators").
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import njit, uint64

GOLDEN = np.uint64(0x9E3779B97F4A7C15)
FIRST, SECOND = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)


def compiled(**options: Any) -> Callable[[Callable], Any]:
    """A decorator: numba's njit without the GIL. options: further ones, as fastmath=True."""

    def make(function: Callable) -> Any:
        try:
            return njit(cache=True, nogil=True, **options)(function)
        except RuntimeError:  # there is no folder that machine code could be kept in
            return njit(nogil=True, **options)(function)

    return make


@compiled(inline="always")
def mix(x):
    """uint64 -> uint64: every input bit flips every output bit half of the time."""
    x = (x ^ (x >> uint64(30))) * FIRST
    x = (x ^ (x >> uint64(27))) * SECOND
    return x ^ (x >> uint64(31))


@compiled(inline="always")
def stream(seed, epoch, item):
    """The state of one stream of random numbers, uint64."""
    return mix((mix((mix(uint64(item) + GOLDEN) ^ uint64(seed)) + GOLDEN) ^ uint64(epoch)) + GOLDEN)


@compiled(inline="always")
def draw(state, n):
    """The n-th number of a stream, uint64 with all bits random."""
    return mix(state + (uint64(n) + uint64(1)) * GOLDEN)


@compiled(inline="always")
def below(bits, n):
    """A whole number in 0 .. n - 1 from 64 random bits, without a division; n is at most 2 ** 32."""
    return ((bits >> uint64(32)) * uint64(n)) >> uint64(32)


@compiled(inline="always")
def unit(bits):
    """A float32 in [0, 1) from the lowest 24 of 64 random bits: `below` takes the high half, and may use the same."""
    return np.float32((bits & uint64(0xFFFFFF)) * np.float32(2.0**-24))
