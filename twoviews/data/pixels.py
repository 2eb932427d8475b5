"""Arrays of pixels (C, H, W): to 8 bits, alpha on white, reduced, turned upright, made grey or colour."""

from __future__ import annotations

import numpy as np
from PIL import Image

from ..errors import BrokenItem


def eight_bits(array: np.ndarray, range16: tuple[int, int]) -> np.ndarray:
    kind, size = array.dtype.kind, array.dtype.itemsize
    if array.dtype == np.uint8:
        return array
    if kind == "b":
        return array.astype(np.uint8) * np.uint8(255)
    if kind in "iu" and size == 2:
        low, high = range16
        return np.rint((array.astype(np.float32) - low) * (255 / (high - low))).clip(0, 255).astype(np.uint8)
    if kind not in "iuf":
        raise BrokenItem(f"pixels of kind {array.dtype}, expected uint8, uint16 or float in 0..1")
    least, most = array.min(), array.max()
    if kind == "f" and least >= 0 and most <= 1:  # false for NaN
        return np.rint(array * 255).astype(np.uint8)
    if kind in "iu" and least >= 0 and most <= 255:
        return array.astype(np.uint8)
    allowed = "0..1" if kind == "f" else "0..255, or uint16"
    raise BrokenItem(f"{array.dtype} pixels from {least:.6g} to {most:.6g}, expected {allowed}")


def sixteen_bits(array: np.ndarray) -> np.ndarray:
    """Pillow's 32-bit integers, which mostly hold 16."""
    low, high = int(array.min()), int(array.max())
    for kind in (np.uint16, np.int16):
        if np.iinfo(kind).min <= low and high <= np.iinfo(kind).max:
            return array.astype(kind)
    raise BrokenItem(f"32-bit pixels from {low} to {high}; save it with 8 or 16 bits")


def upright(array: np.ndarray, turn: int) -> np.ndarray:
    """Undo an EXIF orientation on (C, H, W)."""
    if turn > 4:
        array = array.transpose(0, 2, 1)
    if turn in (3, 4, 7, 8):
        array = array[:, ::-1]
    if turn in (2, 3, 6, 7):
        array = array[:, :, ::-1]
    return array


def without_alpha(array: np.ndarray) -> np.ndarray:
    """(2 or 4, H, W), the last of them alpha -> (1 or 3, H, W) on white."""
    image = np.array(on_white(Image.fromarray(np.ascontiguousarray(array.transpose(1, 2, 0)))))
    return image[None] if image.ndim == 2 else image.transpose(2, 0, 1)


def on_white(image: Image.Image) -> Image.Image:
    """Lay an image with transparency on white: "L" for a grey one, else "RGB"."""
    grey = image.mode in ("L", "LA", "La")
    image = image.convert("RGBA")
    image = Image.alpha_composite(Image.new("RGBA", image.size, (255, 255, 255, 255)), image)
    return image.convert("RGB").convert("L" if grey else "RGB")


def with_channels(array: np.ndarray, channels: int | None) -> np.ndarray:
    """The asked number of channels."""
    c = len(array)
    if channels is None or channels == c:
        return array
    if c == 1 and channels == 3:
        return np.repeat(array, 3, axis=0)
    if c == 3 and channels == 1:
        r, g, b = array.astype(np.uint32)
        return ((19595 * r + 38470 * g + 7471 * b + 32768) >> 16).astype(np.uint8)[None]  # ITU-R 601, as in Pillow
    raise BrokenItem(f"{c} channel{'s' if c > 1 else ''} where {channels} are expected")


def target_size(width: int, height: int, max_side: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """The size to reduce to, and the part (w, h) to take: the longer side is at most twice the shorter."""
    short = min(width, height)
    box = (min(width, 2 * short), min(height, 2 * short))
    scale = min(1.0, max_side / short)
    return (round(box[0] * scale), round(box[1] * scale)), box


def reduce_image(image: Image.Image, max_side: int) -> Image.Image:
    size, (w, h) = target_size(*image.size, max_side)
    left, top = (image.width - w) // 2, (image.height - h) // 2
    if (w, h) != image.size:
        image = image.crop((left, top, left + w, top + h))
    return image if size == image.size else image.resize(size, Image.Resampling.BILINEAR)  # antialiased by Pillow


def reduce_array(array: np.ndarray, max_side: int | None) -> np.ndarray:
    h, w = array.shape[1:]
    if not max_side or target_size(w, h, max_side)[0] == (w, h):
        return array
    return np.stack([np.asarray(reduce_image(Image.fromarray(np.ascontiguousarray(band)), max_side)) for band in array])
