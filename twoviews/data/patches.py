"""Photos as grids of patches that overlap, for encoders that predict a row of patches from the rows above it.

    views = patches(size=64, grid=7)
    (x,) = views(images, sizes, Dice(seed, epoch, ids))       (B, R, W, C, p, p), R = W = grid

One view: a random square of the photo, perhaps mirrored, is cut into patches, and each patch is lit, shifted and loses
colours on its own, so that what crosses a border (an edge, a cast, a lens's fringe) does not give its neighbour away.

CPC: van den Oord et al. 2018, arXiv:1807.03748, section 3.2 (256 of 300 pixels, 7 x 7 patches of 64 that overlap by
half, 60 of 64 of each). Colour dropping: Doersch et al. 2015, arXiv:1505.05192; Henaff et al. 2019, arXiv:1905.09272.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass
from typing import Any

import torch
from torch import Tensor

from ..errors import UserError
from .chain import Drawn, make
from .dice import Dice
from .ops import MEAN, normalize
from .views import one_thread

GAP = 1  # white pixels between patches in a picture


@dataclass(frozen=True)
class patches:  # a class used as a function, as two_crops
    """Training's view: a random square in patches.

    size:    pixels of a side of the square, which the patches fill: 64 for 7 x 7 of 16, 30 for 5 x 5 of 10.
    grid:    patches a side.  overlap: the share of a patch that the next one shows too.
    crop:    least and largest side of the square, as a share of the photo's shorter side.
    flip:    chance that the square is mirrored.
    jitter:  a patch loses so large a share of its side at each border and shows the rest shifted by up to as much;
             1 / 32 takes 60 of 64 pixels and nothing of patches below 17.
    drop:    chance that a patch keeps only one of three colours.
    light:   reach of a patch's own contrast, from 1 - light to 1 + light, and of the brightness of each of its colours,
             half that either way.
    Raises UserError on what is not possible.
    """

    size: int = 64
    grid: int = 7
    _: KW_ONLY
    overlap: float = 0.5
    crop: tuple[float, float] = (0.85, 0.85)
    flip: float = 0.5
    jitter: float = 1 / 32
    drop: float = 0.0
    light: float = 0.0

    def __post_init__(self) -> None:
        side_and_stride(self.size, self.grid, self.overlap)
        low, high = self.crop
        for ok, given, allowed in (
            (0 < low <= high <= 1, f"crop={self.crop}", "the least and the largest share of the side, as (0.8, 1)"),
            (0 <= self.flip <= 1, f"flip={self.flip}", "a chance from 0 to 1"),
            (0 <= self.drop <= 1, f"drop={self.drop}", "a chance from 0 to 1"),
            (0 <= self.light <= 1, f"light={self.light}", "a reach from 0 to 1"),
            (0 <= self.jitter <= 0.25, f"jitter={self.jitter}", "a share of the patch from 0 to 0.25"),
        ):
            if not ok:
                raise UserError(f"views: {given} is not possible; give {allowed}.")

    def __call__(self, images: Tensor, sizes: Tensor, dice: Dice) -> list[Tensor]:
        """One view (B, R, W, C, p, p) float32, normalised, as an encoder reads it."""
        return [normalize(self._patches(images, sizes, dice))]

    def pictures(self, images: Tensor, sizes: Tensor, dice: Dice) -> list[Tensor]:
        """The same patches side by side, white between them: (B, C, S, S) in [0, 1], to look at."""
        return [mosaic(self._patches(images, sizes, dice))]

    def _patches(self, images: Tensor, sizes: Tensor, dice: Dice) -> Tensor:
        count, (side, _) = self.grid**2, side_and_stride(self.size, self.grid, self.overlap)
        margin = round(side * self.jitter)
        with one_thread():
            dice = dice.view(0)  # the order of the lines decides which number is for what
            drawn = Drawn(random_squares(sizes, dice, *self.crop), dice.chance(self.flip))
            shifts = _up_to(2 * margin, dice, 2 * count) - margin if margin else None
            dropped = dice.uniform(n=count) < self.drop if self.drop else None
            kept = _up_to(2, dice, count) if self.drop else None
            light = dice.uniform(-self.light, self.light, n=count * (1 + images.shape[1])) if self.light else None
        x = unfolded(make(images, self.size, drawn, normal=False), self.grid, self.overlap)
        if light is not None:
            x = lit(x, light.view(*x.shape[:3], -1))
        if shifts is not None:
            x = shifted(x, shifts.view(len(x), self.grid, self.grid, 2), margin)
        if dropped is not None and kept is not None and x.shape[3] == 3:
            kept = torch.where(dropped, kept, -1).view(x.shape[:3])
            x = dropped_colours(x, kept)
        return x


@dataclass(frozen=True)
class grid:
    """The view for evaluation: the central square in patches, nothing random. As `patches`; crop is the square's side
    as a share of the photo's shorter side."""

    size: int = 64
    grid: int = 7
    _: KW_ONLY
    overlap: float = 0.5
    crop: float = 0.85

    def __post_init__(self) -> None:
        side_and_stride(self.size, self.grid, self.overlap)
        if not 0 < self.crop <= 1:
            raise UserError(f"views: crop={self.crop} is not possible; give a share of the side above 0, up to 1.")

    def __call__(self, images: Tensor, sizes: Tensor, dice: Dice | None = None) -> list[Tensor]:
        """One view (B, R, W, C, p, p) float32, normalised."""
        return [normalize(self._patches(images, sizes))]

    def pictures(self, images: Tensor, sizes: Tensor, dice: Dice | None = None) -> list[Tensor]:
        """The same patches side by side, to look at."""
        return [mosaic(self._patches(images, sizes))]

    def _patches(self, images: Tensor, sizes: Tensor) -> Tensor:
        side = (sizes.amin(1, keepdim=True) * self.crop).round().long().clamp(min=1)
        boxes = torch.cat([(sizes - side) // 2, side, side], dim=1)
        return unfolded(make(images, self.size, Drawn(boxes), normal=False), self.grid, self.overlap)


def side_and_stride(size: int, count: int, overlap: float) -> tuple[int, int]:
    """Pixels of a patch and from one to the next, so that `count` of them fill `size` pixels.

    Raises UserError where they do not come out whole, with a size that does.
    """
    if count < 2 or not 0 <= overlap < 1:
        raise UserError(f"views: grid={count}, overlap={overlap} is not possible; give 2 or more and a share below 1.")
    side = round(size / (1 + (count - 1) * (1 - overlap)))
    stride = round(side * (1 - overlap))
    if side < 4 or stride < 1 or side + (count - 1) * stride != size:
        sides = range(4, 4 * max(size, 4))
        even = [n for n in sides if abs(n * overlap - round(n * overlap)) < 1e-6] or [*sides]
        near = min((n + (count - 1) * round(n * (1 - overlap)) for n in even), key=lambda n: abs(n - size))
        raise UserError(f"views: {count} patches that overlap by {overlap} do not fill size={size}; give size={near}.")
    return side, stride


def random_squares(sizes: Tensor, dice: Dice, low: float, high: float) -> Tensor:
    """Squares of a random share of the shorter side anywhere in a photo: (B, 4) int64 top, left, height, width."""
    side = (sizes.amin(1) * dice.uniform(low, high)).round().long().clamp(min=1)
    height, width = sizes.unbind(1)
    return torch.stack([dice.integers(height - side + 1), dice.integers(width - side + 1), side, side], dim=1)


def unfolded(x: Tensor, count: int, overlap: float) -> Tensor:
    """(B, C, S, S) -> (B, R, W, C, p, p), a view of the same memory."""
    side, stride = side_and_stride(x.shape[2], count, overlap)
    return x.unfold(2, side, stride).unfold(3, side, stride).permute(0, 2, 3, 1, 4, 5)


def shifted(x: Tensor, by: Tensor, margin: int) -> Tensor:
    """Each patch of x (B, R, W, C, p, p) by (B, R, W, 2) pixels up and left, grey within `margin` of its borders.

    by is within -margin ... margin, so what is shown comes from the patch itself.
    """
    side = x.shape[-1]
    place = torch.arange(side, device=x.device)
    rows, columns = ((place + n[..., None]).clamp(0, side - 1)[:, :, :, None] for n in by.unbind(3))  # (B, R, W, 1, p)
    x = x.gather(4, rows[..., None].expand_as(x)).gather(5, columns[..., None, :].expand_as(x))
    inside = (place >= margin) & (place < side - margin)
    return torch.where(inside[:, None] & inside, x, MEAN)


def lit(x: Tensor, by: Tensor) -> Tensor:
    """Patches of x (B, R, W, C, p, p) in another light: by (B, R, W, 1 + C) of contrast and of each colour."""
    contrast, colours = by[..., None, None].split([1, x.shape[3]], dim=3)
    return (x - MEAN) * (1 + contrast) + (MEAN + colours / 2)


def dropped_colours(x: Tensor, kept: Tensor) -> Tensor:
    """Patches (B, R, W, 3, p, p) of which only the colour `kept` (B, R, W) is left, the others grey; -1 keeps all."""
    colour = torch.arange(3, device=x.device)
    keep = (kept[..., None] < 0) | (kept[..., None] == colour)
    return torch.where(keep[..., None, None], x, MEAN)


def mosaic(x: Tensor) -> Tensor:
    """(B, R, W, C, p, p) -> (B, C, R * (p + 1) - 1, W * (p + 1) - 1): patches side by side, white between them."""
    x = torch.nn.functional.pad(x, (0, GAP, 0, GAP), value=1.0)
    b, r, w, c, p, q = x.shape
    return x.permute(0, 3, 1, 4, 2, 5).reshape(b, c, r * p, w * q)[..., :-GAP, :-GAP]


def _up_to(most: int, dice: Dice, n: int) -> Tensor:
    """(B, n) int64 from 0 to `most`."""
    return (dice.uniform(n=n) * (most + 1)).long().clamp(max=most)


PATCH_VIEWS: dict[str, Callable[..., Any]] = {"patches": patches}
