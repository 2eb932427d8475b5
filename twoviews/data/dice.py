"""Random numbers by counter: a value depends on what it is for, never on how the work was divided.

Every number is a hash of (seed, epoch, item id, view, draw number), mixed with the finaliser of SplitMix64
(Steele, Lea, Flood 2014, "Fast splittable pseudorandom number generators"). So the views of a photo are the
same in any batch, order, worker or rank and on any device, and a resumed epoch needs no generator's state.
"""

import torch
from torch import Tensor

_GOLDEN = 0x9E3779B97F4A7C15
_BLOCK = 48  # numbers hashed at once: one view needs about 40


class Dice:
    """One stream of random numbers an item.

    seed and epoch are ints, ids is (B,) int64; the numbers live on the device of the ids. Each call draws
    anew; the same calls on equal Dice give the same numbers. Streams of different views are independent.
    """

    def __init__(self, seed: int, epoch: int, ids: Tensor):
        self._start(_absorb(_absorb(_mix(ids + _signed(_GOLDEN)), seed), epoch))

    def _start(self, state: Tensor) -> None:
        self._state = state  # (B,) int64
        self._drawn = 0
        self._ready = state[:, None][:, :0]

    def view(self, v: int) -> "Dice":
        """The stream of view v, from its first number."""
        dice = Dice.__new__(Dice)
        dice._start(_absorb(self._state, v))
        return dice

    def bits(self, n: int = 1) -> Tensor:
        """The next n numbers of each item: (B, n) int64, all 64 bits random."""
        while self._ready.shape[1] < n:
            counter = torch.arange(self._drawn + 1, self._drawn + _BLOCK + 1, device=self._state.device)
            block = _mix(self._state[:, None] + counter * _signed(_GOLDEN))
            self._ready = torch.cat([self._ready, block], 1)
            self._drawn += _BLOCK
        out, self._ready = self._ready[:, :n], self._ready[:, n:]
        return out

    def uniform(self, low: float = 0.0, high: float = 1.0, n: int | None = None) -> Tensor:
        """(B,) float32 from low to high, or (B, n)."""
        out = _shift(self.bits(n or 1), 40).float().mul_(2.0**-24)
        out = out.mul_(high - low).add_(low)
        return out if n else out[:, 0]

    def integers(self, n: int | Tensor) -> Tensor:
        """(B,) int64 in 0 ... n - 1; n is a number or (B,), at most 2 ** 31."""
        return _shift(_shift(self.bits()[:, 0], 32) * n, 32)

    def chance(self, p: float | Tensor) -> Tensor:
        """(B,) bool, True with probability p."""
        return self.uniform() < p

    def shuffles(self, n: int) -> Tensor:
        """(B, n) int64: one order of 0 ... n - 1 an item, all equally likely."""
        return _shift(self.bits(n), 1).argsort(dim=1)


def _signed(number: int) -> int:
    """The int64 with the same 64 bits."""
    return (number + 2**63) % 2**64 - 2**63


def _shift(x: Tensor, n: int) -> Tensor:
    """Logical right shift; `>>` of int64 alone would copy the sign."""
    return (x >> n).bitwise_and_(2 ** (64 - n) - 1)


def _mix(x: Tensor) -> Tensor:
    """The finaliser of SplitMix64: every input bit flips every output bit half of the time."""
    x = _shift(x, 30).bitwise_xor_(x).mul_(_signed(0xBF58476D1CE4E5B9))  # in place: fresh memory costs more than this
    x = _shift(x, 27).bitwise_xor_(x).mul_(_signed(0x94D049BB133111EB))
    return _shift(x, 31).bitwise_xor_(x)


def _absorb(state: Tensor, number: int) -> Tensor:
    return _mix((state ^ _signed(number)) + _signed(_GOLDEN))
