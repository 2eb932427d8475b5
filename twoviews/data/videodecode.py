"""A video's header, the exact list of its frames, and any of them, decoded.

    index = index_of(file)                       every packet read once, none decoded: n frames and when each is shown
    frames_at(file, index, [0, 7, 299], 128)     uint8 (3, h, w, 3), the shorter side 128 pixels

PyAV decodes (MP4, Matroska, WebM, AVI ...), or torchcodec where it is asked for. What containers declare of their number
of frames is not believed. Every call opens the file anew and shares nothing, so threads and forked workers may read at
once. Frames are upright: a rotation that a phone has noted is carried out.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, Any, NamedTuple

import av
import numpy as np

from ..errors import BrokenItem, UserError, unknown

File = bytes | IO[bytes]  # a path, or a file
READERS = ("pyav", "torchcodec")
READER = "TWOVIEWS_VIDEO_READER"  # the environment's choice
NONE = "no video in it"
FAILURES = (av.FFmpegError, OSError, ValueError, IndexError, EOFError, RuntimeError, UnicodeDecodeError)


class VideoError(BrokenItem):
    """A video that cannot be read as asked, with the reason."""


class Header(NamedTuple):
    """seconds: None where it does not say; width, height: pixels as stored; rate: frames a second, 0 where it does not
    say; streams: of video."""

    seconds: float | None
    width: int
    height: int
    rate: float
    streams: int


@dataclass(frozen=True)
class VideoIndex:
    """When each frame is shown.

    pts:  (n,) int64, ascending, in units of the stream.  keys: (k,) int64, those that decoding can begin at.
    base: seconds of a unit.  rate: frames a second, on average.
    """

    pts: np.ndarray
    keys: np.ndarray
    base: float
    rate: float

    def __len__(self) -> int:
        return len(self.pts)

    @property
    def seconds(self) -> np.ndarray:
        """(n,) float64: when each frame appears, from the first one on."""
        return (self.pts - self.pts[0]) * self.base

    @property
    def length(self) -> float:
        """Seconds until the last frame goes."""
        return float((self.pts[-1] - self.pts[0]) * self.base + 1 / self.rate)


def header(file: File) -> Header:
    """What a video says of itself, nothing decoded. Raises VideoError."""
    with opened(file) as (container, stream):
        seconds = None
        if stream.duration is not None and stream.time_base is not None:
            seconds = float(stream.duration * stream.time_base)
        elif container.duration is not None:
            seconds = container.duration / av.time_base
        width, height = stream.codec_context.width, stream.codec_context.height
        if not width or not height:
            raise VideoError(NONE)
        rate = float(stream.average_rate or stream.guessed_rate or 0)
        return Header(seconds if seconds and seconds > 0 else None, width, height, rate, len(container.streams.video))


def index_of(file: File) -> VideoIndex:
    """The list of a video's frames. Raises VideoError where there is none, or packets cannot be read."""
    with opened(file) as (container, stream):
        pts: list[int] = []
        keys, told = [], True
        base = float(stream.time_base or 0)
        for packet in container.demux(stream):
            if packet.size == 0 or packet.is_discard:
                continue
            if packet.is_corrupt:
                raise VideoError(f"damaged: its packet {len(pts) + 1:,} is")
            told = told and packet.pts is not None
            pts.append(packet.pts if told else 0)
            if packet.is_keyframe and told:
                keys.append(packet.pts)
        declared = float(stream.average_rate or stream.guessed_rate or 25)
    if not pts:
        raise VideoError("it has no frames")
    if not told:
        pts, keys = _decoded(file)
    places, starts = np.unique(np.array(pts, np.int64)), np.unique(np.array(keys or pts[:1], np.int64))
    shown = float(places[-1] - places[0]) * base
    return VideoIndex(places, starts, base, (len(places) - 1) / shown if shown > 0 else declared)


def frames_at(
    file: File, index: VideoIndex, places: Any, max_side: int | None = None, reader: str | None = None
) -> np.ndarray:
    """uint8 (F, h, w, 3): the frames at some places (F,) of the index, in any order, also several times.

    max_side: pixels that the shorter side is reduced to; nothing is enlarged.
    reader:   "pyav" or "torchcodec"; None: the environment's TWOVIEWS_VIDEO_READER, else pyav.
    Raises VideoError unless every one of them is decoded whole: no frame stands in for another.
    """
    reader = reader or os.environ.get(READER) or READERS[0]
    if reader not in READERS:
        raise unknown("video reader", reader, READERS)
    places = np.asarray(places, np.int64)
    wanted, where = np.unique(places, return_inverse=True)
    if len(wanted) and not 0 <= wanted[0] <= wanted[-1] < len(index):
        raise UserError(f"frames {wanted[0]} to {wanted[-1]} of a video that has {len(index):,}")
    found = _by_torchcodec(file, index, wanted, max_side) if reader == "torchcodec" else None
    if found is None:
        found = _by_pyav(file, index, wanted, max_side)
    return found if len(wanted) == len(places) and (where[:-1] < where[1:]).all() else found[where]


@contextmanager
def opened(file: File) -> Iterator[tuple[Any, Any]]:
    """The container and its best video stream; closed at the end, whatever happens. Raises VideoError."""
    if not isinstance(file, bytes):
        file.seek(0)
    container = None
    try:
        container = av.open(os.fsdecode(file) if isinstance(file, bytes) else file, metadata_errors="replace")
        stream = container.streams.best("video")
        if stream is None or stream.codec_context is None:
            raise VideoError(NONE)
        yield container, stream
    except FAILURES as error:
        raise VideoError(_reason(error)) from None
    finally:
        if container is not None:
            container.close()  # else its memory stays until Python collects it


def _by_pyav(file: File, index: VideoIndex, wanted: np.ndarray, max_side: int | None) -> np.ndarray:
    """Decode from the last key frame before each wanted frame, or on from where decoding stands if that is nearer."""
    left = dict(zip(index.pts[wanted].tolist(), range(len(wanted)), strict=True))
    out: np.ndarray | None = None
    before = index.keys[np.searchsorted(index.keys, index.pts[wanted], side="right") - 1]
    with opened(file) as (container, stream):
        stream.thread_type = "SLICE"  # frames in parallel cost a delay at each seek
        frames, at = None, -(2**63)
        for pts, key in zip(index.pts[wanted].tolist(), before.tolist(), strict=True):
            if pts not in left:
                continue
            if frames is None or key > at:
                if key > int(index.keys[0]):  # of some files the first packets cannot be sought
                    container.seek(key, stream=stream)
                elif frames is not None:
                    container.seek(int(index.pts[0]), stream=stream)
                frames, at = container.decode(stream), key
            for frame in frames:
                if frame.pts is None or frame.pts not in left:
                    if frame.pts is not None and frame.pts > pts:
                        break
                    continue
                if frame.is_corrupt:
                    raise VideoError(_short(file, index))
                x, at = _pixels(frame, max_side), frame.pts
                out = np.empty((len(wanted), *x.shape), np.uint8) if out is None else out
                if x.shape != out.shape[1:]:
                    raise VideoError(f"its frames change their size, from {out.shape[1:3]} to {x.shape[:2]}")
                out[left.pop(frame.pts)] = x
                if frame.pts >= pts:
                    break
            if pts in left:
                raise VideoError(_short(file, index))
    assert out is not None
    return out


def _by_torchcodec(file: File, index: VideoIndex, wanted: np.ndarray, max_side: int | None) -> np.ndarray | None:
    """The same by torchcodec; None where it counts other frames."""
    try:
        from torchcodec.decoders import VideoDecoder
    except (ImportError, RuntimeError, OSError) as error:
        raise _unloaded(error) from None
    source: Any = os.fsdecode(file) if isinstance(file, bytes) else file
    if not isinstance(file, bytes):
        file.seek(0)
    try:
        decoder = VideoDecoder(source, dimension_order="NHWC", num_ffmpeg_threads=1)
        if len(decoder) != len(index):
            return None
        x = decoder.get_frames_at(wanted.tolist()).data.numpy()
    except (RuntimeError, ValueError, IndexError) as error:
        if "libtorchcodec" in str(error):
            raise _unloaded(error) from None
        raise VideoError(f"cannot be decoded ({str(error).strip().splitlines()[0][:200]})") from None
    size = _size(x.shape[2], x.shape[1], max_side)
    if size == (x.shape[2], x.shape[1]):
        return x
    return np.stack([_reduced(av.VideoFrame.from_ndarray(one, format="rgb24"), size) for one in x])


def _unloaded(error: BaseException) -> UserError:
    why = str(error).strip().split("\n")[0]
    return UserError(f"the video reader 'torchcodec' does not load ({why}); leave {READER} out to use PyAV")


def _pixels(frame: Any, max_side: int | None) -> np.ndarray:
    """(h, w, 3) uint8, upright."""
    turns = round(frame.rotation / 90) % 4
    x = _reduced(frame, _size(frame.width, frame.height, max_side))
    return np.rot90(x, turns) if turns else x


def _reduced(frame: Any, size: tuple[int, int]) -> np.ndarray:
    return frame.reformat(*size, format="rgb24", interpolation="AREA").to_ndarray()


def _size(width: int, height: int, max_side: int | None) -> tuple[int, int]:
    short = min(width, height)
    if max_side is None or short <= max_side:
        return width, height
    return max(1, round(width * max_side / short)), max(1, round(height * max_side / short))


def _decoded(file: File) -> tuple[list[int], list[int]]:
    """The times of frames and key frames of a file whose packets do not tell them."""
    pts, keys = [], []
    with opened(file) as (container, stream):
        for frame in container.decode(stream):
            if frame.pts is None:
                raise VideoError("it does not say when its frames are shown")
            pts.append(frame.pts)
            if frame.key_frame:
                keys.append(frame.pts)
    if not pts:
        raise VideoError("it has no frames")
    return pts, keys


def _short(file: File, index: VideoIndex) -> str:
    """How much of a damaged file can be read, from its beginning."""
    good = 0
    try:
        with opened(file) as (container, stream):
            for frame in container.decode(stream):
                if frame.is_corrupt:
                    break
                good += 1
    except VideoError:
        pass
    return f"damaged or cut short: {good:,} of {len(index):,} frames can be read"


def _reason(error: BaseException) -> str:
    if isinstance(error, VideoError):
        return str(error)
    words = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return f"cannot be read as a video ({' '.join(words.lower().split())[:200]})"
