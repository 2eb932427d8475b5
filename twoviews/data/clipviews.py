"""Views of videos: which frames are read, and what is made of them on the device.

    views = two_clips(size=112, frames=16, stride=4)
    source.sampled(views.moments)                               reads 2 x 16 frames of each video
    x1, x2 = views(canvas, sizes, Dice(seed, epoch, ids))       each (B, 3, 16, 112, 112)

canvas (B, F, H, 3 W) uint8 holds the F frames of each item, pixel after pixel; sizes (B, 2) is (height, 3 width). It is
a canvas of B * F photos, so the photos' own ops make the views. What is drawn is drawn once for all frames of a clip:
one crop, one flip, one change of colours, or the views would hide what moves (Qian et al. 2021, arXiv:2008.03800).
"""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass, fields
from typing import Any

import numpy as np
from torch import Tensor

from .chain import Drawn, make
from .dice import Dice
from .moments import check, sample
from .views import Knobs, PerView, Range, Window, central, check_size, one_thread

CHANNELS = 3


@dataclass(frozen=True)
class Clips(Knobs):
    """What random views of clips share: frames and stride as in `moments.sample`, and the knobs of photos."""

    frames: int = 16
    stride: int | str = 4
    scale: Range = (0.2, 1.0)
    speed: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check(self.frames, self.stride, len(self.windows()), self.speed)

    def moments(self, total: int, rng: np.random.Generator | None) -> np.ndarray:
        """(V, frames) int64: the frames that the views of one item are made of."""
        return sample(total, self.frames, self.stride, len(self.windows()), rng, speed=self.speed)

    def _views(self, images: Tensor, sizes: Tensor, dice: Dice, normal: bool) -> list[Tensor]:
        sizes = sizes // sizes.new_tensor([1, CHANNELS])
        with one_thread():
            drawn = [self.draw(sizes, dice.view(v), v, *window) for v, window in enumerate(self.windows())]
        cut = images.split(self.frames, 1)
        return [clips(x, self.size, one, normal) for x, one in zip(cut, drawn, strict=True)]


@dataclass(frozen=True)
class two_clips(Clips):
    """`clips` clips of each video, each cropped and coloured in its own way: SimCLR, MoCo (rho of Feichtenhofer et al.
    2021, arXiv:2104.14558).

    speed: a clip is up to so many times faster or slower.  gap: how far apart clips may begin, as a share of the video.
    """

    clips: int = 2
    gap: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check(self.frames, self.stride, self.clips, self.speed, self.gap)

    def windows(self) -> list[Window]:
        return [(self.size, self.scale)] * self.clips

    def moments(self, total: int, rng: np.random.Generator | None) -> np.ndarray:
        return sample(total, self.frames, self.stride, self.clips, rng, speed=self.speed, gap=self.gap)


@dataclass(frozen=True)
class one_clip(Clips):
    """One clip of each video, cropped and mirrored and else as it is: MAE, CPC, training with labels.

    flip=0 where left and right are not the same.
    """

    scale: Range = (0.5, 1.0)
    _: KW_ONLY
    jitter: float = 0.0
    grey: float = 0.0
    blur: PerView = 0.0

    def windows(self) -> list[Window]:
        return [(self.size, self.scale)]


@dataclass(frozen=True)
class central_clip:
    """The view for evaluation: the central square of each frame, of the middle of the video; nothing random.

    clips: so many from the first to the last moment, whose embeddings are averaged.
    """

    size: int = 32
    frames: int = 16
    stride: int | str = 4
    clips: int = 1

    def __post_init__(self) -> None:
        check_size(self.size)
        check(self.frames, self.stride, self.clips, 1)

    def moments(self, total: int, rng: np.random.Generator | None) -> np.ndarray:
        """(clips, frames) int64"""
        return sample(total, self.frames, self.stride, self.clips)

    def __call__(self, images: Tensor, sizes: Tensor, dice: Dice | None = None) -> list[Tensor]:
        """`clips` views (B, 3, frames, size, size) float32, normalised."""
        return self._central(images, sizes, normal=True)

    def pictures(self, images: Tensor, sizes: Tensor, dice: Dice | None = None) -> list[Tensor]:
        """The same views in [0, 1], to look at."""
        return self._central(images, sizes, normal=False)

    def _central(self, images: Tensor, sizes: Tensor, normal: bool) -> list[Tensor]:
        drawn = Drawn(central(sizes // sizes.new_tensor([1, CHANNELS])))
        return [clips(x, self.size, drawn, normal) for x in images.split(self.frames, 1)]


def clips(canvas: Tensor, size: int, drawn: Drawn, normal: bool) -> Tensor:
    """(B, F, H, 3 W) -> (B, 3, F, size, size) float32: every frame as it was drawn for its clip."""
    count = canvas.shape[1]
    frames = canvas.unflatten(3, (-1, CHANNELS)).flatten(0, 1).permute(0, 3, 1, 2)  # (B F, 3, H, W), pixel after pixel
    return make(frames, size, repeated(drawn, count), normal).unflatten(0, (-1, count)).transpose(1, 2)


def repeated(drawn: Drawn, count: int) -> Drawn:
    """What was drawn for each clip, for each of its frames."""
    each: dict[str, Any] = {f.name: getattr(drawn, f.name) for f in fields(Drawn)}
    each = {name: None if x is None else x.repeat_interleave(count, 0) for name, x in each.items()}
    return Drawn(**each)


CLIP_VIEWS = {"two_clips": two_clips, "one_clip": one_clip}
