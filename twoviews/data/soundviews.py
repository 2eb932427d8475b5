"""Random views of sounds, made in batches on the device.

    views = windows(length=20480)
    (x,) = views(sounds, sizes, Dice(seed, epoch, ids))         (B, 20480)

sounds (B, 1, 1, T) float32 holds each recording at the left of a canvas, sizes (B, 2) is (1, its samples); dice gives
the random numbers. A view is (B, length) float32: one recording each, its offset removed, divided by its root mean
square, exact zeros after a clip that is shorter; silence is all 0. Nothing is known of rates: frequencies are shares of
the spectrum. The ops are in soundops.py; here is which of them, how often and how strongly.

CPC: van den Oord et al. 2018, arXiv:1807.03748.  Augmented sound: Kharitonov et al. 2020, arXiv:2007.00991.
"""

from __future__ import annotations

import math
from dataclasses import KW_ONLY, dataclass

import torch
from torch import Tensor

from ..errors import UserError
from .dice import Dice
from .soundops import ONE, PLACES, Drawn, augment, cut, level, spectrogram
from .views import Range, one_thread

CHANCES = ("noise", "band", "mix")
MASKS = 2  # in time and in the spectrum, as SpecAugment's policies have


@dataclass(frozen=True)
class windows:  # a class used as a function, like functools.partial
    """One random window of each sound: what CPC predicts along.

    length:   samples.
    together: so many items in a row of a batch are of one speaker (0: mixed), and so are their negatives. The loader
        orders each epoch so, by the source's `speakers`, else by its labels.
    """

    length: int = 20480
    together: int = 0

    def __post_init__(self) -> None:
        _check_length(self.length)
        right = isinstance(self.together, int) and self.together >= 0 and self.together != 1
        _check(right, f"together={self.together}", "0 (mixed), or 2 or more items of one speaker in a row")

    def __call__(self, sounds: Tensor, sizes: Tensor, dice: Dice) -> list[Tensor]:
        """One view (B, length) float32."""
        lengths = sizes[:, 1]
        start = _start(lengths, self.length, dice.view(0))
        return [level(cut(sounds[:, 0, 0], start, self.length), lengths.clamp(max=self.length))]

    def pictures(self, sounds: Tensor, sizes: Tensor, dice: Dice) -> list[Tensor]:
        """The same view as a spectrogram (B, 1, 64, 128) in [0, 1], to look at."""
        return [spectrogram(x) for x in self(sounds, sizes, dice)]


@dataclass(frozen=True)
class two_sounds:
    """Two random windows of each sound, augmented each in its own way (SimCLR, MoCo). An op that is off costs nothing.

    length: samples.
    shift:  played up to so much faster or slower: 0.05 for 5 %; the pitch moves with it.
    mix:    the chance that another place of the same recording, played backwards, is mixed in. No other item is: a view
        would depend on which items share its batch.
    noise:  the chance of white, pink or brown noise.
    above:  least and most decibels by which the sound is louder than what is mixed in or the noise.
    band:   the chance of a filter: low-pass, high-pass, band-pass or band-stop.
    bands, times: two masks of the spectrum and two in time, each up to such a share of it wide (SpecAugment).
    gain:   louder or quieter by up to so many decibels.
    """

    length: int = 20480
    _: KW_ONLY
    shift: float = 0.05
    mix: float = 0.2
    noise: float = 0.5
    above: Range = (5.0, 30.0)
    band: float = 0.5
    bands: float = 0.1
    times: float = 0.1
    gain: float = 6.0

    def __post_init__(self) -> None:
        _check_length(self.length)
        for name in CHANCES:
            given = getattr(self, name)
            _check(_within(given, 0, 1), f"{name}={given}", "a chance from 0 to 1")
        for name in ("bands", "times"):
            given = getattr(self, name)
            _check(_within(given, 0, 0.5), f"{name}={given}", "a share from 0 (off) to 0.5")
        _check(_within(self.shift, 0, 1), f"shift={self.shift}", "0 (off) to 1, twice as fast")
        _check(_within(self.gain, 0, 60), f"gain={self.gain}", "0 (off) to 60 decibels")
        pair = isinstance(self.above, (list, tuple)) and len(self.above) == 2
        right = pair and all(_within(x, 0, 120) for x in self.above) and self.above[0] <= self.above[1]
        _check(right, f"above={self.above}", "the least and the most decibels, as (5, 30)")

    def __call__(self, sounds: Tensor, sizes: Tensor, dice: Dice) -> list[Tensor]:
        """Two views (B, length) float32."""
        lengths = sizes[:, 1]
        with one_thread():
            drawn = [self.draw(lengths, dice.view(v)) for v in range(2)]
        return [augment(sounds[:, 0, 0], lengths, self.length, d) for d in drawn]

    def pictures(self, sounds: Tensor, sizes: Tensor, dice: Dice) -> list[Tensor]:
        """The same views as spectrograms (B, 1, 64, 128) in [0, 1], to look at."""
        return [spectrogram(x) for x in self(sounds, sizes, dice)]

    def draw(self, lengths: Tensor, dice: Dice) -> Drawn:
        """All that is random about a view of each sound. The order of the lines decides which number is for what."""
        if self.shift:
            octaves = math.log2(1 + self.shift)
            step = (dice.uniform(-octaves, octaves).exp2() * ONE).round().long()
            drawn = Drawn(_start(lengths, ((self.length - 1) * step >> 20) + 2, dice), step)
        else:
            drawn = Drawn(_start(lengths, self.length, dice))
        if self.mix:
            drawn.other = _start(lengths, self.length, dice)
            drawn.mix = self._amount(self.mix, dice)
        if self.noise:
            drawn.place, drawn.colour = dice.integers(PLACES), dice.integers(3)
            drawn.noise = self._amount(self.noise, dice)
        if self.band:
            drawn.low, drawn.high, drawn.stop = random_filter(dice, self.band)
        if self.bands:
            drawn.bands = random_masks(dice, self.bands).square()  # nearly mels: half of them in the lowest quarter
        if self.times:
            drawn.times = random_masks(dice, self.times)
        if self.gain:
            drawn.gain = _factor(dice.uniform(-self.gain, self.gain))
        return drawn

    def _amount(self, chance: float, dice: Dice) -> Tensor:
        return torch.where(dice.chance(chance), _factor(-dice.uniform(*self.above)), 0)


@dataclass(frozen=True)
class whole:
    """The view for evaluation: each sound as long as it is; nothing random. most: of longer ones the middle samples."""

    most: int | None = None

    def __post_init__(self) -> None:
        if self.most is not None:
            _check_length(self.most)

    def __call__(self, sounds: Tensor, sizes: Tensor, dice: Dice | None = None) -> list[Tensor]:
        """One view (B, T) float32, T the longest of the batch or `most`."""
        lengths = sizes[:, 1]
        most = min(self.most or sounds.shape[3], sounds.shape[3])
        start = (lengths - most).clamp(min=0) // 2
        return [level(cut(sounds[:, 0, 0], start, most), lengths.clamp(max=most))]

    def pictures(self, sounds: Tensor, sizes: Tensor, dice: Dice | None = None) -> list[Tensor]:
        """The same view as a spectrogram (B, 1, 64, 128) in [0, 1], to look at."""
        return [spectrogram(x) for x in self(sounds, sizes)]


def random_filter(dice: Dice, chance: float) -> tuple[Tensor, Tensor, Tensor]:
    """(low, high, stop), each (B,): a low-pass, high-pass, band-pass or band-stop, all alike; edges by octaves.

    The lower edge lies 6 to 2 octaves below the top of the spectrum, the upper one at least one above it and up to 3
    below the top.
    """
    on, kind = dice.chance(chance), dice.integers(4)
    low, high = dice.uniform(-6, -2).exp2(), dice.uniform(-3, 0).exp2()
    high = high.maximum(2 * low)
    low = torch.where(on & (kind != 0), low, -1)  # beyond the spectrum: passes all
    high = torch.where(on & (kind != 1), high, 2)
    return low, high, on & (kind == 3)


def random_masks(dice: Dice, widest: float) -> Tensor:
    """(B, 2, 2): where each of two masks begins and ends in 0 ... 1, up to `widest` wide."""
    width = dice.uniform(0, widest, n=MASKS)
    first = dice.uniform(n=MASKS) * (1 - width)
    return torch.stack([first, first + width], dim=2)


def _start(lengths: Tensor, span: int | Tensor, dice: Dice) -> Tensor:
    """(B,) int64: where a stretch of `span` samples begins, anywhere it fits, else at 0."""
    return dice.integers((lengths - span).clamp(min=0) + 1)


def _factor(decibels: Tensor) -> Tensor:
    return (decibels * (math.log2(10) / 20)).exp2()


def _within(value: object, least: float, most: float) -> bool:
    return isinstance(value, (int, float)) and least <= value <= most


def _check_length(length: int) -> None:
    _check(isinstance(length, int) and length >= 16, f"a length of {length} samples", "a whole number, 16 or more")


def _check(ok: bool, given: str, allowed: str) -> None:
    if not ok:
        raise UserError(f"views: {given} is not possible; give {allowed}.")


SOUND_VIEWS = {"windows": windows, "two_sounds": two_sounds}
