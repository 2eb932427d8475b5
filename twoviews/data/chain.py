"""From images and what was drawn for them to views: op after op, or on a CPU in one compiled kernel.

Both are the same within 1e-5 (in [0, 1]). A kernel knows the usual ops; the rare ones follow it as ops, and an
image that is turned by some degrees goes through ops alone. Items are spread over torch's number of threads;
numba's own parallel loops may not be entered from two threads at once.
"""

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from . import ops


@dataclass
class Drawn:
    """What was drawn for one view of each of B images, in the order of the ops; None: that op is off.

    Masks are (B,) bool, all else that has no shape here (B,) float.
    """

    boxes: Tensor  # (B, 4) int64, as in ops.crop_resize
    flip: Tensor | None = None  # mask
    degrees: Tensor | None = None
    factors: Tensor | None = None  # (B, 3) brightness, contrast, saturation
    shift: Tensor | None = None  # of the hue
    order: Tensor | None = None  # (B, 4) int64, of the four
    grey: Tensor | None = None  # mask
    sigma: Tensor | None = None  # pixels
    blur: Tensor | None = None  # mask
    solarize: Tensor | None = None  # mask
    quarters: Tensor | None = None  # int64
    invert: Tensor | None = None  # mask
    squares: Tensor | None = None  # (B, 4) int64, as in ops.cutout
    sobel: Tensor | None = None  # mask


def make(images: Tensor, size: int, drawn: Drawn, normal: bool = True) -> Tensor:
    """The view that was drawn of each image: (B, C, H, W) -> (B, C, size, size) float32, normalised or in [0, 1]."""
    with torch.autocast(images.device.type, enabled=False):
        late = any(x is not None for x in (drawn.quarters, drawn.invert, drawn.squares, drawn.sobel))
        if drawn.degrees is not None or not _bytes_here(images) or _kernel() is None:
            x = by_ops(images, size, drawn)
        elif normal and not late:
            return by_kernel(images, size, drawn, ops.MEAN, ops.STD)
        else:
            x = by_kernel(images, size, drawn)
        if drawn.quarters is not None:  # nothing before knows up from down, so it may come last
            x = ops.quarter_turns(x, drawn.quarters)
        if drawn.invert is not None:
            x = ops.solarize(x, 0.0, drawn.invert)
        if drawn.squares is not None:
            x = ops.cutout(x, drawn.squares, fill=0.5)
        if drawn.sobel is not None:
            x = ops.sobel(x, drawn.sobel)
        return ops.normalize(x) if normal else x


def by_ops(images: Tensor, size: int, drawn: Drawn) -> Tensor:
    """The usual ops one after the other: (B, C, size, size) in [0, 1]."""
    x = ops.crop_resize(images, drawn.boxes, size, drawn.flip)
    if drawn.degrees is not None:
        x = ops.turn(x, drawn.degrees)
    if drawn.factors is not None and drawn.order is not None:
        brightness, contrast, saturation = drawn.factors.unbind(1)
        x = ops.color_jitter(x, brightness, contrast, saturation, drawn.shift, drawn.order)
    if drawn.grey is not None:
        x = ops.grey(x, drawn.grey)
    if drawn.sigma is not None and drawn.blur is not None:
        x = ops.blur(x, drawn.sigma, blur_kernel(size), drawn.blur)
    if drawn.solarize is not None:
        x = ops.solarize(x, 0.5, drawn.solarize)
    return x


def by_kernel(images: Tensor, size: int, drawn: Drawn, mean: float = 0.0, std: float = 1.0) -> Tensor:
    """The same in one go, of uint8 images on the CPU: (x - mean) / std. What an item gives depends on it alone."""
    b, c = images.shape[:2]
    pixelwise = images.stride(1) == 1 and images.stride(3) >= c
    images = images if pixelwise or images.stride(3) == 1 else images.contiguous()
    last = sum((n - 1) * step for n, step in zip(images.shape, images.stride(), strict=True))
    pixels, steps = images.as_strided((last + 1,), (1,)).numpy(), np.array(images.stride())
    out = np.empty((b, c, size, size), np.float32)
    kernel, parameters = _kernel(), _parameters(drawn, b)
    widest, reach = max(drawn.boxes[:, 3].tolist(), default=0), blur_kernel(size) // 2
    scale = np.float32(mean), np.float32(1 / std)

    def some(start: int, stop: int) -> None:
        kernel(start, stop, pixels, steps, c if pixelwise else 1, parameters, widest, reach, *scale, out)

    threads = min(torch.get_num_threads(), b)
    if threads <= 1:
        some(0, b)
    else:
        part = -(-b // (4 * threads))  # several parts a thread: items differ in what they drew
        for job in [_pool(threads).submit(some, i, min(i + part, b)) for i in range(0, b, part)]:
            job.result()
    return torch.from_numpy(out)


def _parameters(drawn: Drawn, b: int) -> tuple[np.ndarray, ...]:
    """boxes, flip, (B, 4) factors and shift, order, grey, sigma or 0, solarize, with all that is None turned off."""
    off, ones = torch.zeros(b), torch.ones((b, 3))
    factors, shift, order = drawn.factors, drawn.shift, drawn.order
    tensors = [
        drawn.boxes,
        off.bool() if drawn.flip is None else drawn.flip,
        torch.column_stack([ones if factors is None else factors, off if shift is None else shift]).float(),
        torch.arange(4).repeat(b, 1) if order is None else order,
        off.bool() if drawn.grey is None else drawn.grey,
        off if drawn.sigma is None or drawn.blur is None else torch.where(drawn.blur, drawn.sigma.float(), 0.0),
        off.bool() if drawn.solarize is None else drawn.solarize,
    ]
    return tuple(x.contiguous().numpy() for x in tensors)


@lru_cache(1)
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, "views")


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pool.cache_clear)  # threads do not survive a fork


def blur_kernel(size: int) -> int:
    """A tenth of the view made odd: 3 for 32 pixels, 23 for 224."""
    return 2 * max(1, size // 20) + 1


def _bytes_here(images: Tensor) -> bool:
    """uint8 in this machine's memory, and no tensor that only stands for one, as in tracing."""
    return type(images) is Tensor and images.device.type == "cpu" and images.dtype == torch.uint8


@lru_cache(1)
def _kernel() -> Any:
    """The compiled kernel, whose import takes a moment; None where numba is not there."""
    try:
        from .kernels import items
    except ImportError:
        return None
    return items
