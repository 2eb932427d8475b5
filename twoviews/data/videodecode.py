"""Any frames of a video, decoded: in any order, upright, at a size.

    index = index_of(file)                       n frames and when each is shown (videoindex.py)
    frames_at(file, index, [0, 7, 299], 128)     uint8 (3, h, w, 3), the shorter side 128 pixels

PyAV decodes, or torchcodec where it is asked for. A rotation that a phone has noted is carried out.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any

import av
import numpy as np
from av.video.reformatter import VideoReformatter

from ..errors import UserError, unknown
from .videoindex import File, Header, VideoError, VideoIndex, header, index_of, opened

__all__ = ["Header", "VideoError", "VideoIndex", "each_frame", "frames_at", "header", "index_of"]
READERS = ("pyav", "torchcodec")
READER = "TWOVIEWS_VIDEO_READER"  # the environment's choice
NEAR = 8  # frames that are decoded rather than skipped by a seek


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
    if not len(wanted):
        raise UserError("no frames are asked for; give places from 0 on")
    if not 0 <= wanted[0] <= wanted[-1] < len(index):
        raise UserError(f"frames {wanted[0]} to {wanted[-1]} of a video that has {len(index):,}")
    found = _by_torchcodec(file, index, wanted, max_side) if reader == "torchcodec" else None
    if found is None:
        out = np.empty(0, np.uint8)

        def keep(row: int, x: np.ndarray, _: Any) -> None:
            nonlocal out
            out = out if out.size else np.empty((len(wanted), *x.shape), np.uint8)
            out[row] = x

        each_frame(file, index, wanted, keep, max_side)
        found = out
    return found if len(wanted) == len(places) and (where[:-1] < where[1:]).all() else found[where]


def each_frame(
    file: File,
    index: VideoIndex,
    wanted: np.ndarray,
    keep: Callable[[int, np.ndarray, Any], None],
    max_side: int | None = None,
) -> None:
    """Call keep(i, (h, w, 3) uint8, PyAV's frame) for each of some places, ascending; only one frame is held.

    By seeking; of files whose key frames cannot be sought or begun at all over again, from one earlier or from the
    beginning. Raises VideoError.
    """
    for back in (len(index.keys),) if index.counted else (0, 1, len(index.keys)):
        if _sought(file, index, wanted, max_side, back, keep):
            return
    raise VideoError(_short(file, index))


def _sought(
    file: File, index: VideoIndex, wanted: np.ndarray, max_side: int | None, back: int, keep: Callable[..., None]
) -> bool:
    """Decode from some key frame before each wanted frame, or on from where decoding stands; False where one fails.

    back: 0: from the last key frame before it, 1: from the one before that, and so on.
    """
    times = index.pts[wanted]
    starts = index.keys[np.maximum(np.searchsorted(index.keys, times, side="right") - 1 - back, 0)]
    places = np.searchsorted(index.pts, starts)
    shape: tuple[int, ...] | None = None
    with opened(file) as (container, stream):
        stream.thread_type, stream.thread_count = "SLICE", 1  # frames in parallel cost a delay at each seek
        frames, at, shaper = _decoded(container, stream, index, times), 0, VideoReformatter()
        for row, (pts, start, place) in enumerate(zip(times.tolist(), starts.tolist(), places.tolist(), strict=True)):
            if place > at + NEAR and start > int(index.keys[0]):  # of some files the first packets cannot be sought
                container.seek(start, stream=stream)
                frames = _decoded(container, stream, index, times)
            frame = _next(frames, pts)
            if frame is None:
                return False
            x, at = _pixels(frame, max_side, shaper), int(wanted[row])
            shape = shape or x.shape
            if x.shape != shape:
                raise VideoError(f"its frames change their size, from {shape[:2]} to {x.shape[:2]}")
            keep(row, x, frame)
    return True


def _decoded(container: Any, stream: Any, index: VideoIndex, times: np.ndarray) -> Iterator[tuple[int | None, Any]]:
    """Frames with their times from where the container stands. Of H.264, those that neither are wanted nor are others
    made from are left out before they are decoded."""
    if index.counted:
        yield from zip(index.pts.tolist(), container.decode(stream), strict=False)
        return
    codec, wanted = stream.codec_context, set(times.tolist())
    leaves = codec.name == "h264"
    for packet in container.demux(stream):
        if leaves:
            codec.skip_frame = "DEFAULT" if packet.pts is None or packet.pts in wanted else "NONREF"
        for frame in packet.decode():
            yield frame.pts, frame


def _next(frames: Iterator[tuple[int | None, Any]], pts: int) -> Any:
    """The frame of a time; None where it is missing, or something before it that it may rest on is damaged."""
    try:
        for time, frame in frames:
            if frame.is_corrupt:
                return None
            if time is not None and time >= pts:
                return frame if time == pts else None
    except av.FFmpegError:
        pass
    return None


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
    shaper = VideoReformatter()
    return np.stack([_reduced(av.VideoFrame.from_ndarray(one, format="rgb24"), size, shaper) for one in x])


def _unloaded(error: BaseException) -> UserError:
    why = str(error).strip().split("\n")[0]
    return UserError(f"the video reader 'torchcodec' does not load ({why}); leave {READER} out to use PyAV")


def _pixels(frame: Any, max_side: int | None, shaper: Any) -> np.ndarray:
    """(h, w, 3) uint8, upright."""
    turns = round(frame.rotation / 90) % 4
    x = _reduced(frame, _size(frame.width, frame.height, max_side), shaper)
    return np.rot90(x, turns) if turns else x


def _reduced(frame: Any, size: tuple[int, int], shaper: Any) -> np.ndarray:
    """(h, w, 3) uint8: the mean over what a pixel covers. shaper: of many frames, for its tables are made once."""
    how = (
        "BILINEAR" if size == (frame.width, frame.height) else "AREA"
    )  # as FFmpeg does where only colours are converted
    return shaper.reformat(frame, *size, format="rgb24", interpolation=how).to_ndarray()


def _size(width: int, height: int, max_side: int | None) -> tuple[int, int]:
    short = min(width, height)
    if max_side is None or short <= max_side:
        return width, height
    return max(1, round(width * max_side / short)), max(1, round(height * max_side / short))


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
