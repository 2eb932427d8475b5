"""Random views of photos, made in batches on the device.

    views = two_crops(size=96)
    x1, x2 = views(images, sizes, Dice(seed, epoch, ids))       each (B, C, 96, 96)

images (B, C, H, W) uint8 (or float in [0, 1]) holds each image at the top left of a canvas, sizes (B, 2)
int64 is its true height and width; dice gives the random numbers. The ops are in ops.py; here is which of
them, how often and how strongly; chain.py does what was drawn. To add an op, write it in ops.py, what is drawn for it
and its line in chain.py, its knob and its line in `Knobs.draw` here.

SimCLR: Chen et al. 2020, arXiv:2002.05709, appendix A.  Multi-crop: Caron et al. 2020, arXiv:2006.09882.
"""

import math
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import KW_ONLY, dataclass
from typing import Protocol

import torch
from torch import Tensor

from ..errors import UserError
from .chain import Drawn, make
from .dice import Dice

Range = tuple[float, float]
PerView = float | list[float] | tuple[float, ...]  # one value, or one a view, the last for all further views
Window = tuple[int, Range]  # the size of a view, and the share of the image's area it shows
_turn = threading.RLock()

PER_VIEW = ("blur", "solarize")
CHANCES = ("flip", "jitter", "grey", "invert", "cutout", "sobel", *PER_VIEW)
REACHES = ("strength", "brightness", "contrast", "saturation", "hue", "turn")


class Views(Protocol):
    """What makes views of a batch of images: normalised for an encoder, or as pictures in [0, 1] to look at."""

    def __call__(self, images: Tensor, sizes: Tensor, dice: Dice) -> list[Tensor]: ...

    def pictures(self, images: Tensor, sizes: Tensor, dice: Dice) -> list[Tensor]: ...


@dataclass(frozen=True)
class Knobs:
    """What a random view may do; the defaults are SimCLR's. An op that is off costs nothing.

    size: pixels of a side.  ratio: least and largest width / height of a crop.
    flip, jitter, grey, blur, solarize, invert, cutout, sobel: the chance of each op. blur and solarize may
        list one chance a view; the last holds for all further views (BYOL: blur=(1, 0.1), solarize=(0, 0.2)).
    brightness, contrast, saturation, hue: reach of the jitter, each times strength. Factors go from 1 - b to
        1 + b, the hue by up to so many turns of the colour circle. MoCo v2: 0.4, 0.4, 0.4, 0.1 at jitter=0.8;
        v1: 0.4 each at jitter=1, blur=0.
    quarter_turns: turn by 0, 90, 180 or 270 degrees.  turn: turn by up to so many degrees either way.
    """

    size: int = 32
    _: KW_ONLY
    ratio: Range = (3 / 4, 4 / 3)
    flip: float = 0.5
    jitter: float = 0.8
    strength: float = 1.0
    brightness: float = 0.8
    contrast: float = 0.8
    saturation: float = 0.8
    hue: float = 0.2
    grey: float = 0.2
    blur: PerView = 0.5
    solarize: PerView = 0.0
    invert: float = 0.0
    quarter_turns: bool = False
    turn: float = 0.0
    cutout: float = 0.0
    sobel: float = 0.0

    def __post_init__(self) -> None:
        for name in CHANCES:
            given = getattr(self, name)
            chances = _listed(given) if name in PER_VIEW else [given]
            right = len(chances) > 0 and all(_number(p) and 0 <= p <= 1 for p in chances)
            _check(right, f"{name}={given}", "a chance from 0 to 1")
        for name in REACHES:
            given = getattr(self, name)
            _check(_number(given) and given >= 0, f"{name}={given}", "0 (off) or more")
        _check(
            _rising(self.ratio),
            f"ratio={self.ratio}",
            "the least and the largest width / height, as (0.75, 1.33)",
        )
        for size, scale in self.windows():
            check_size(size)
            right = _rising(scale) and scale[1] <= 1
            _check(right, f"scale={scale}", "the least and the largest share of the area, as (0.08, 1)")

    def windows(self) -> list[Window]:
        """One window a view."""
        raise NotImplementedError

    def __call__(self, images: Tensor, sizes: Tensor, dice: Dice) -> list[Tensor]:
        """V views (B, C, size, size) float32, normalised, as an encoder reads them."""
        return self._views(images, sizes, dice, normal=True)

    def pictures(self, images: Tensor, sizes: Tensor, dice: Dice) -> list[Tensor]:
        """The same views in [0, 1], to look at."""
        return self._views(images, sizes, dice, normal=False)

    def _views(self, images: Tensor, sizes: Tensor, dice: Dice, normal: bool) -> list[Tensor]:
        views = list(enumerate(self.windows()))
        with one_thread():
            drawn = [self.draw(sizes, dice.view(v), v, size, scale) for v, (size, scale) in views]
        return [make(images, size, d, normal) for d, (_, (size, _)) in zip(drawn, views, strict=True)]

    def draw(self, sizes: Tensor, dice: Dice, v: int, size: int, scale: Range) -> Drawn:
        """All that is random about view v of each image. The order of the lines decides which number is for what."""
        blur, solarize = _of_view(self.blur, v), _of_view(self.solarize, v)
        drawn = Drawn(random_boxes(sizes, dice, scale, self.ratio), dice.chance(self.flip))
        if self.quarter_turns:
            drawn.quarters = dice.integers(4)
        if self.turn:
            drawn.degrees = dice.uniform(-self.turn, self.turn)
        if self.jitter:
            self._jitter(drawn, dice)
        if self.grey:
            drawn.grey = dice.chance(self.grey)
        if blur:
            drawn.sigma = dice.uniform(0.1, 2.0)
            drawn.blur = dice.chance(blur)
        if solarize:
            drawn.solarize = dice.chance(solarize)
        if self.invert:
            drawn.invert = dice.chance(self.invert)
        if self.cutout:
            drawn.squares = random_squares(dice, size, self.cutout)
        if self.sobel:
            drawn.sobel = dice.chance(self.sobel)
        return drawn

    def _jitter(self, drawn: Drawn, dice: Dice) -> None:
        """Brightness, contrast, saturation and hue in random order, with chance `jitter`."""
        on = dice.chance(self.jitter)
        reach = [r * self.strength for r in (self.brightness, self.contrast, self.saturation)]
        drawn.factors = torch.stack([torch.where(on, dice.uniform(max(0.0, 1 - r), 1 + r), 1.0) for r in reach], dim=1)
        turn = min(0.5, self.hue * self.strength)
        if turn:
            drawn.shift = torch.where(on, dice.uniform(-turn, turn), 0.0)
        drawn.order = dice.shuffles(4)


@dataclass(frozen=True)
class two_crops(Knobs):  # a class used as a function, like functools.partial
    """Two random crops of each image. scale: least and largest share of the image's area."""

    scale: Range = (0.08, 1.0)

    def windows(self) -> list[Window]:
        return [(self.size, self.scale)] * 2


@dataclass(frozen=True)
class one_crop(Knobs):
    """One random crop of each image and nothing else: what is to be drawn again (MAE)."""

    scale: Range = (0.2, 1.0)
    _: KW_ONLY
    jitter: float = 0.0
    grey: float = 0.0
    blur: PerView = 0.0

    def windows(self) -> list[Window]:
        return [(self.size, self.scale)]


@dataclass(frozen=True)
class multi_crop(Knobs):
    """Two large crops of each image, then `locals` small ones of `local_size` pixels (SwAV, DINO)."""

    local_size: int = 16
    locals: int = 6
    global_scale: Range = (0.4, 1.0)
    local_scale: Range = (0.05, 0.4)

    def windows(self) -> list[Window]:
        return [(self.size, self.global_scale)] * 2 + [(self.local_size, self.local_scale)] * self.locals


@dataclass(frozen=True)
class center:
    """The view for evaluation: the central square of each image, resized to size; nothing random."""

    size: int = 32

    def __post_init__(self) -> None:
        check_size(self.size)

    def __call__(self, images: Tensor, sizes: Tensor, dice: Dice | None = None) -> list[Tensor]:
        """One view (B, C, size, size) float32, normalised."""
        return [make(images, self.size, Drawn(central(sizes)), normal=True)]

    def pictures(self, images: Tensor, sizes: Tensor, dice: Dice | None = None) -> list[Tensor]:
        """The same view in [0, 1], to look at."""
        return [make(images, self.size, Drawn(central(sizes)), normal=False)]


@contextmanager
def one_thread() -> Iterator[None]:
    """Torch shares out even a few thousand numbers, and its threads then wait for each other longer than for them."""
    with _turn:  # else who comes while another is inside would take its one thread for the usual number
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            yield
        finally:
            torch.set_num_threads(threads)


def central(sizes: Tensor) -> Tensor:
    """The boxes (B, 4) of the largest central squares."""
    side = sizes.amin(1, keepdim=True)
    return torch.cat([(sizes - side) // 2, side, side], dim=1)


def random_boxes(sizes: Tensor, dice: Dice, scale: Range, ratio: Range, tries: int = 10) -> Tensor:
    """Crops of a random share of the area and a random shape: (B, 4) int64 top, left, height, width.

    As torchvision's RandomResizedCrop: the first of `tries` draws that fits, else the largest central crop of
    an allowed shape.
    """
    size = sizes.float()
    area = size.prod(1, keepdim=True) * dice.uniform(*scale, n=tries)  # (B, tries)
    aspect = dice.uniform(math.log(ratio[0]), math.log(ratio[1]), n=tries).exp()
    drawn = torch.stack([(area / aspect).sqrt(), (area * aspect).sqrt()], dim=2).round()  # (B, tries, 2)
    fits = ((drawn >= 1) & (drawn <= size[:, None])).all(2)
    first = fits.byte().argmax(1)
    drawn = drawn[torch.arange(len(sizes), device=sizes.device), first]
    height, width = size.unbind(1)
    central = torch.stack([height.minimum(width / ratio[0]), width.minimum(height * ratio[1])], dim=1).round()
    found = fits.any(1, keepdim=True)
    shape = torch.where(found, drawn, central.clamp(min=1)).long()  # (B, 2)
    room = sizes - shape
    corner = torch.stack([dice.integers(room[:, 0] + 1), dice.integers(room[:, 1] + 1)], dim=1)
    return torch.cat([torch.where(found, corner, room // 2), shape], dim=1)


def random_squares(dice: Dice, size: int, chance: float) -> Tensor:
    """Squares half as wide as the view, centred anywhere in it (DeVries and Taylor 2017, arXiv:1708.04552):
    (B, 4) int64, of side 0 where the chance says no."""
    side = size // 2 * dice.chance(chance)
    return torch.stack([dice.integers(size) - size // 4, dice.integers(size) - size // 4, side, side], dim=1)


def _listed(value: PerView) -> list[float] | tuple[float, ...]:
    return value if isinstance(value, (list, tuple)) else [value]


def _of_view(value: PerView, v: int) -> float:
    values = _listed(value)
    return values[min(v, len(values) - 1)]


def _number(value: object) -> bool:
    return isinstance(value, (int, float))


def _rising(pair: object) -> bool:
    return isinstance(pair, (list, tuple)) and len(pair) == 2 and all(map(_number, pair)) and 0 < pair[0] <= pair[1]


def _check(ok: bool, given: str, allowed: str) -> None:
    if not ok:
        raise UserError(f"views: {given} is not possible; give {allowed}.")


def check_size(size: int) -> None:
    _check(size >= 4, f"a size of {size} pixels", "4 or more")


PHOTO_VIEWS = {"two_crops": two_crops, "one_crop": one_crop, "multi_crop": multi_crop}
