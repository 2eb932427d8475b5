"""From the bytes of an image file, a PIL image or an array to one uint8 tensor (C, H, W).

    open -> 16 bits to 8, alpha on white -> smaller -> upright -> the channels asked for

Pillow decodes; TIFF that Pillow cannot hold (many channels, several of 16 bits) goes to tifffile, plain JPEG to
simplejpeg where that is installed: the same pixels in two thirds of the time. A file that ends too early is broken,
however much of it could be shown.
"""

from __future__ import annotations

import codecs
import io
import logging
import threading
import warnings
from dataclasses import dataclass
from functools import lru_cache
from types import ModuleType
from typing import Any

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from ..errors import BrokenItem
from .pixels import (
    eight_bits,
    on_white,
    reduce_array,
    reduce_image,
    sixteen_bits,
    target_size,
    upright,
    with_channels,
    without_alpha,
)

FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF", "PPM")
FULL = (0, 65535)
ORIENTATION = 0x0112  # EXIF tag
BITS, SAMPLES = 258, 277  # TIFF tags
MAGIC = {
    b"\xff\xd8\xff": "JPEG",
    b"\x89PNG": "PNG",
    b"RIFF": "WebP",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"II+\0": "TIFF",
    b"MM\0+": "TIFF",
    b"BM": "BMP",
    b"GIF8": "GIF",
    b"P5": "PGM",
    b"P6": "PPM",
}


@dataclass(frozen=True)
class Native:
    """What an image was before it became uint8: its size upright, and the range of its 16-bit pixels."""

    format: str
    mode: str
    depth: int
    width: int
    height: int
    low: int | None = None
    high: int | None = None


def decode(
    item: Any, channels: int | None = None, range16: tuple[int, int] = FULL, max_side: int | None = None
) -> tuple[Tensor, Native]:
    """bytes, a PIL image or an array (C, H, W) -> uint8 (C, H, W) in memory of its own, and what it was.

    Colour from a file lies in memory as its decoder leaves it, pixel after pixel.

    channels: grey and colour become each other; None: as many as the image has. Alpha is laid on white, unless
              2 or 4 channels are asked for; of an array it is the last of 2 or 4, of a TIFF file what it says.
    range16:  what becomes 0 and 255 of 16-bit pixels, linearly. Float pixels must lie in 0..1.
    max_side: see `photos`.
    Raises BrokenItem with the reason in plain words.
    """
    with _quiet:
        try:
            opened = _open(item) if isinstance(item, bytes) else item
            if isinstance(opened, Image.Image):
                array, native, turn = _from_pillow(opened, item, channels, range16, max_side)
            else:
                raw = opened if isinstance(opened, _Raw) else _Raw(opened, "array")
                array, native, turn = _from_array(raw, channels, range16)
            array = with_channels(upright(reduce_array(array, max_side), turn), channels)
            if min(array.strides) < 0 or (isinstance(item, np.ndarray) and np.may_share_memory(array, item)):
                array = array.copy(order="K")
        except (BrokenItem, MemoryError):
            raise
        except Exception as error:  # decoders raise nearly every class there is on damaged files
            raise BrokenItem(_reason(item, error)) from None
    return torch.from_numpy(array), native


@dataclass
class _Raw:
    """An array as it came. alpha: may the last of 2 or 4 channels be taken for it?"""

    array: Any
    format: str
    turn: int = 1
    alpha: bool = True


def _open(data: bytes) -> Image.Image | _Raw:
    if not data:
        raise BrokenItem("empty file")
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
    except UnidentifiedImageError:
        if _format(data) == "TIFF":
            return _tiff(data)
        raise
    if image.format == "TIFF":
        tags, bands = image.tag_v2, len(image.getbands())  # type: ignore[attr-defined]
        deep = bands > 1 and max(tags.get(BITS, (8,))) > 8
        stack = image.mode in ("L", "F") or image.mode[0] == "I"
        lossy = deep or tags.get(SAMPLES, bands) not in (1, bands)  # Pillow would drop bits or channels
        if lossy or (stack and image.n_frames > 1):  # type: ignore[attr-defined]
            return _tiff(data)
    return image


def _tiff(data: bytes) -> _Raw:
    """The first image of a TIFF file; grey pages of one size are the channels of one image."""
    import tifffile

    logging.getLogger("tifffile").setLevel(logging.CRITICAL)
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        part: Any = file.series[0]
        if part.ndim > 3:
            part = part.pages[0]
        axes = part.axes
        _check_size(part.shape[axes.index("X")], part.shape[axes.index("Y")])
        array = part.asarray()
        turn = file.pages.first.tags.valueof(ORIENTATION, default=1)
        alpha = any(int(kind) in (1, 2) for kind in file.pages.first.extrasamples)
    if array.ndim == 2:
        array = array[None]
    else:
        array = np.moveaxis(array, next(i for i, axis in enumerate(axes) if axis not in "YX"), 0)
    return _Raw(array, "TIFF", turn, alpha)


def _from_array(raw: _Raw, channels: int | None, range16: tuple[int, int]) -> tuple[np.ndarray, Native, int]:
    array = raw.array
    if not isinstance(array, np.ndarray):
        raise BrokenItem(f"not an image: {type(array).__name__}")
    if array.ndim != 3 or not array.size:
        raise BrokenItem(f"not an image: an array of shape {array.shape}")
    c, h, w = array.shape
    mode = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}.get(c, f"{c} channels")
    native = _native(raw.format, mode, 8 * array.dtype.itemsize, (w, h), raw.turn, array)
    array = eight_bits(array, range16)
    return without_alpha(array) if raw.alpha and c in (2, 4) and c != channels else array, native, raw.turn


def _from_pillow(
    image: Image.Image, item: Any, channels: int | None, range16: tuple[int, int], max_side: int | None
) -> tuple[np.ndarray, Native, int]:
    _check_size(*image.size)
    format, mode, size = image.format or "image", image.mode, image.size
    if image is not item and max_side and format in ("JPEG", "MPO"):
        image.draft(None, target_size(*size, max_side)[0])  # a photo of 12 megapixels is decoded at an eighth
    if isinstance(item, bytes) and format == "JPEG" and mode in ("L", "RGB") and not _reduces(image, max_side):
        array = _plain_jpeg(item, image)
        if array is not None:
            turn = _orientation(image)
            return array.transpose(2, 0, 1), _native(format, mode, 8, size, turn), turn
    image.load()
    if format == "TIFF":
        size = image.size  # it is turned upright by loading it
    turn = _orientation(image)
    if mode == "F" or mode[0] == "I":  # floats, or 16 bits, which older Pillow calls I
        array = np.asarray(image)
        if mode != "F":
            array, mode = sixteen_bits(array), "I;16"
        native = _native(format, mode, 8 * array.dtype.itemsize, size, turn, array)
        return eight_bits(array[None], range16), native, turn
    deep = format == "PNG" and isinstance(item, bytes) and item[24] == 16
    native = _native(format, mode, 1 if mode == "1" else 16 if deep else 8, size, turn)
    if mode in ("LA", "RGBA") and channels == len(image.getbands()):
        pass  # these channels were asked for, so the last is not taken for alpha
    elif image.has_transparency_data:
        image = on_white(image)
    elif mode not in ("L", "RGB"):
        image = image.convert("L" if mode == "1" else "RGB")
    if max_side:
        image = reduce_image(image, max_side)
    array = np.array(image)
    return array[None] if array.ndim == 2 else array.transpose(2, 0, 1), native, turn


def _reduces(image: Image.Image, max_side: int | None) -> bool:
    return max_side is not None and target_size(*image.size, max_side)[0] != image.size


def _plain_jpeg(data: bytes, image: Image.Image) -> np.ndarray | None:
    """(H, W, 1 or 3) of the size that `image` has, or None: let Pillow decode it, or say why it cannot."""
    simplejpeg = _simplejpeg()
    if simplejpeg is None:
        return None
    w, h = image.size
    try:
        array = simplejpeg.decode_jpeg(data, "GRAY" if image.mode == "L" else "RGB", min_height=h, min_width=w)
    except ValueError:  # also where Pillow would only warn
        return None
    return array if array.shape[:2] == (h, w) else None


@lru_cache(1)
def _simplejpeg() -> ModuleType | None:
    try:
        import simplejpeg
    except ImportError:
        return None
    return simplejpeg


def _native(
    format: str, mode: str, depth: int, size: tuple[int, int], turn: int, array: np.ndarray | None = None
) -> Native:
    width, height = size if turn < 5 else size[::-1]
    if array is None or array.dtype.kind not in "iu" or array.dtype.itemsize != 2:
        return Native(format, mode, depth, width, height)
    return Native(format, mode, depth, width, height, int(array.min()), int(array.max()))


def _orientation(image: Image.Image) -> int:
    try:
        turn = image.getexif().get(ORIENTATION, 1)
    except Exception:  # a damaged EXIF block does not make a photo unreadable
        return 1
    return turn if turn in range(1, 9) else 1


def _check_size(width: int, height: int) -> None:
    limit = Image.MAX_IMAGE_PIXELS
    if limit and width * height > 2 * limit:
        raise BrokenItem(f"{width} x {height} pixels, over the limit of {2 * limit:,} pixels")


def _format(data: bytes) -> str | None:
    return next((name for magic, name in MAGIC.items() if data.startswith(magic)), None)


def _reason(item: Any, error: Exception) -> str:
    if not isinstance(item, bytes):
        return f"cannot be decoded: {error}"
    if isinstance(error, Image.DecompressionBombError):
        return f"over the limit of {2 * (Image.MAX_IMAGE_PIXELS or 0):,} pixels"
    format = _format(item)
    if format is None:
        if item[4:8] == b"ftyp":
            return "HEIC, AVIF or video, which is not read"
        return "not an image: text" if _is_text(item[:512]) else "not an image, or of a kind that is not read"
    message = str(error).lower()
    if "imagecodecs" in message:
        return "TIFF packed in a way that needs the package imagecodecs"
    return f"{'truncated' if _cut(item, format, message) else 'damaged'} {format}"


def _is_text(head: bytes) -> bool:
    try:
        text = codecs.getincrementaldecoder("utf-8")().decode(head)  # the last letter may be cut in two
    except UnicodeDecodeError:
        return False
    return all(c.isprintable() or c.isspace() for c in text)


def _cut(data: bytes, format: str, message: str) -> bool:
    """Does the file end too early?"""
    if format == "PNG":
        return b"IEND" not in data[-64:]
    if format == "WebP":
        return len(data) < 8 + int.from_bytes(data[4:8], "little")
    return len(data) < 64 or any(word in message for word in ("truncated", "not enough", "failed to read"))


class _Quiet:
    """Warnings off while any thread is inside. `catch_warnings` alone is not made for overlapping threads."""

    def __init__(self) -> None:
        self.lock, self.inside = threading.Lock(), 0

    def __enter__(self) -> None:
        with self.lock:
            self.inside += 1
            if self.inside == 1:
                self.saved = warnings.catch_warnings()
                self.saved.__enter__()
                warnings.simplefilter("ignore")

    def __exit__(self, *_: object) -> None:
        with self.lock:
            self.inside -= 1
            if self.inside == 0:
                self.saved.__exit__(None, None, None)


_quiet = _Quiet()
