"""A video's header, and the exact list of its frames: when each is shown, and where decoding can begin.

    index = index_of(file)     every packet read once, none decoded

PyAV reads MP4, Matroska, WebM, AVI, MPEG ... What containers declare of their number of frames is not believed.
Every call opens the file anew and shares nothing, so threads and forked workers may read at once.
"""

from __future__ import annotations

import os
import string
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import IO, Any, NamedTuple

import av
import numpy as np

from ..errors import BrokenItem

File = bytes | IO[bytes]  # a path, or a file
NONE = "no video in it"
LISTS = ("concat", "hls", "dash")  # files that name others
FAILURES = (av.FFmpegError, OSError, ValueError, IndexError, EOFError, RuntimeError)
EBML, SEGMENT = b"\x1aE\xdf\xa3", b"\x18S\x80g"
BOXES = (b"ftyp", b"moov", b"mdat", b"moof", b"free", b"skip", b"wide", b"pnot")  # that MP4 and MOV begin with


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

    pts:     (n,) int64, ascending, in units of the stream.  keys: (k,) int64, those that decoding can begin at.
    base:    seconds of a unit.  rate: frames a second, on average.
    counted: decoded frames do not bear these times (H.264 with B-frames in AVI, bare streams): the i-th is frame i.
    """

    pts: np.ndarray
    keys: np.ndarray
    base: float
    rate: float
    counted: bool = False

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
    _whole(file)
    with opened(file) as (container, stream):
        seconds = None
        if stream.duration is not None and stream.time_base is not None:
            seconds = float(stream.duration * stream.time_base)
        elif container.duration is not None:
            seconds = container.duration / av.time_base
        width, height = stream.codec_context.width, stream.codec_context.height
        if not width or not height:
            raise VideoError(NONE)
        return Header(seconds if seconds and seconds > 0 else None, width, height, _rate(stream), _streams(container))


def index_of(file: File) -> VideoIndex:
    """The list of a video's frames. Raises VideoError where there is none, or packets are damaged or missing."""
    _whole(file)
    pts: list[int | None] = []
    keys: list[int] = []
    begin: int | None = None
    with opened(file) as (container, stream):
        base, rate = float(stream.time_base or 0), _rate(stream) or 25.0
        for packet in container.demux(stream):
            if packet.is_keyframe and begin is None:
                begin = len(pts)  # what comes before cannot be decoded: a broadcast that was joined in its midst
            if packet.size == 0 or packet.is_discard:
                continue
            if packet.is_corrupt:
                raise VideoError(f"damaged or cut short: {len(pts):,} frames are whole, the next is not")
            pts.append(packet.pts)
            if packet.is_keyframe and packet.pts is not None:
                keys.append(packet.pts)
        shuffled = container.format.name == "avi" and stream.codec_context.has_b_frames  # AVI tells the order alone
    pts = pts[begin or 0 :]
    if not pts:
        raise VideoError("it has no frames")
    if any(time is None for time in pts):
        pts, keys = _decoded(file)
    counted = pts[0] is None
    if counted:
        pts, keys, base = list(range(len(pts))), [0], 1 / rate
    times = np.array(pts, np.int64)
    counted = counted or bool(shuffled and (np.diff(times) > 0).all())
    places, starts = np.unique(times), np.unique(np.array(keys or times[:1], np.int64))
    shown = float(places[-1] - places[0]) * base
    return VideoIndex(places, starts, base, (len(places) - 1) / shown if shown > 0 else rate, counted)


@contextmanager
def opened(file: File) -> Iterator[tuple[Any, Any]]:
    """The container and its best video stream; closed at the end, whatever happens. Raises VideoError."""
    container = None
    try:
        source: Any = file
        if isinstance(file, bytes):
            source = os.path.abspath(os.fsdecode(file))  # else a colon in a name is read as a protocol
        else:
            file.seek(0)
        container = av.open(source, metadata_errors="replace", options={"protocol_whitelist": "file"})
        if container.format.name in LISTS:
            raise VideoError("a list of videos, not a video")
        stream = container.streams.best("video")
        if stream is None or stream.codec_context is None:
            raise VideoError(NONE)
        yield container, stream
    except FAILURES as error:
        raise VideoError(_unread(file) if isinstance(error, av.InvalidDataError) else _words(error)) from None
    finally:
        if container is not None:
            container.close()  # else its memory stays until Python collects it


def _rate(stream: Any) -> float:
    return float(stream.average_rate or stream.guessed_rate or 0)


def _streams(container: Any) -> int:
    """Streams of video, without pictures of a cover."""
    return sum(not stream.disposition & stream.disposition.attached_pic for stream in container.streams.video)


def _decoded(file: File) -> tuple[list[int | None], list[int]]:
    """The times of frames and key frames where packets do not tell them; None where frames do not either."""
    with opened(file) as (container, stream):
        frames = [(frame.pts, frame.key_frame) for frame in container.decode(stream)]
    if not frames:
        raise VideoError("it has no frames")
    if any(pts is None for pts, _ in frames):
        return [None] * len(frames), []
    return [pts for pts, _ in frames], [pts for pts, key in frames if key]


def _whole(file: File) -> None:
    """Raises VideoError for a file that ends before it says: FFmpeg reads many of them as if they were short."""
    try:
        with _stream(file) as stream:
            stream.seek(0)
            head = stream.read(128)
            size = stream.seek(0, os.SEEK_END)
            if head.startswith(EBML):
                end = _end_of_matroska(head)
            elif head[:4] == b"RIFF" or head[4:8] in BOXES:
                end = _end_of_boxes(stream, size, riff=head[:4] == b"RIFF")
            else:
                return
    except OSError:
        return  # to open it tells why
    if end > size:
        raise VideoError(f"cut short: {size:,} of {end:,} bytes are there")


def _end_of_matroska(head: bytes) -> int:
    """Where its segment says that it ends; 0 where it does not."""
    at = head.find(SEGMENT) + len(SEGMENT)
    if not len(SEGMENT) <= at < len(head) or not head[at]:
        return 0
    width = 9 - head[at].bit_length()  # bytes of the number that follows, as its leading zeros say
    length = int.from_bytes(head[at : at + width], "big") - (1 << 7 * width)
    return 0 if length == (1 << 7 * width) - 1 else at + width + length  # all ones: not known when it was begun


def _end_of_boxes(stream: IO[bytes], size: int, riff: bool) -> int:
    """Where the last box of a file says that it ends: those of MP4 and MOV, or the chunks of AVI."""
    at = 0
    while at + 8 <= size:
        stream.seek(at)
        head = stream.read(16)
        name = head[:4] if riff else head[4:8]
        if riff:
            length = int.from_bytes(head[4:8], "little")
            known, length = name == b"RIFF" and 0 < length < 2**32 - 1, 8 + length + length % 2
        else:
            length = int.from_bytes(head[:4], "big")
            length = int.from_bytes(head[8:16], "big") if length == 1 else length
            known = name.isalnum() and length >= 8  # 0: to the end of the file
        if not known:
            break
        at += length
    return at


def _unread(file: File) -> str:
    """Why FFmpeg finds no video in a file."""
    with _stream(file) as stream:
        stream.seek(0)
        head = stream.read(64)
    if not head:
        return "empty: it has no bytes"
    if head[4:8] == b"ftyp":
        return "cut short or damaged: its table of frames cannot be read"
    if head.startswith(EBML) or head[8:12] == b"AVI ":
        return "damaged: its header cannot be read"
    text = set(head) <= set(string.printable.encode())
    return "a text, not a video" if text else "not a video, or of a kind that is not read"


def _words(error: BaseException) -> str:
    words = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return f"cannot be read: {' '.join(words.lower().split())[:200]}"


def _stream(file: File) -> AbstractContextManager[IO[bytes]]:
    return open(file, "rb") if isinstance(file, bytes) else nullcontext(file)
