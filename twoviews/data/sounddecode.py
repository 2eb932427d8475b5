"""A recording's header, and a stretch of it as one channel at one rate.

libsndfile decodes (WAV, FLAC, OGG with Vorbis or Opus, MP3, AIFF, AU, CAF ...), soxr resamples. Every call opens the
recording anew and shares nothing, so threads and forked workers may read at once.
"""

from __future__ import annotations

import math
import os
import string
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import IO, Any, NamedTuple

import numpy as np
import soundfile
import soxr

from ..errors import BrokenItem

SLOWEST, FASTEST = 1_000, 768_000  # samples a second of a recording that is read
UNKNOWN = 2**40  # frames from which on a header does not say
BLOCK = 2**22  # frames decoded at once
FINE = 2**12  # frames decoded at once where a recording breaks off
MARGIN = 256  # samples, at the lower of both rates, that resampling reads beyond a stretch: within 3e-7 of the whole
TAIL = 2**20  # frames that the last page of Vorbis holds at most: a seek into it lands beside its target
LEAD = 4  # seconds that Opus is decoded before a stretch: what it predicts from has met the whole's after 2 at most
STREAMED = 0x7FFF0000  # sizes from here on say that the length was not known when the file was begun
SIGNS = (
    (4, b"ftyp", "an MP4 or M4A file"),
    (0, b"\x1aE\xdf\xa3", "a Matroska or WebM file"),
    (8, b"AVI ", "an AVI video"),
    (0, b"\0\0\1\xba", "an MPEG video"),
    (0, b"0&\xb2u", "a Windows Media file"),
)


class Header(NamedTuple):
    """frames: samples of each channel; rate: samples a second; kind: FLAC, WAV, OGG ..."""

    frames: int
    rate: int
    channels: int
    kind: str


class _Sound(soundfile.SoundFile):
    """soundfile seeks after each read, and a seek in MP3 loses what earlier frames hold for later ones."""

    def seekable(self) -> bool:
        return False


def header(file: bytes | IO[bytes]) -> Header:
    """What a recording says of itself: a path or an open file. Raises BrokenItem with the reason."""
    with _opened(file) as sound:
        found = Header(sound.frames, sound.samplerate, sound.channels, sound.format)
    if found.frames <= 0:
        raise BrokenItem("no sound in it: its length is zero")
    if found.frames >= UNKNOWN:
        raise BrokenItem("its header does not say how long it is; write it again, for example with sox or flac")
    if not SLOWEST <= found.rate <= FASTEST:
        raise BrokenItem(f"{found.rate:,} samples a second; {SLOWEST:,} to {FASTEST:,} are read")
    if found.kind in ("WAV", "WAVEX", "AIFF", "OGG") and (reason := _cut_short(file, found.kind)):
        raise BrokenItem(reason)
    return found


def resampled(frames: Any, rate: Any, to: int) -> Any:
    """Samples that recordings have at another rate: to the nearest, as soxr gives them. Integers or arrays."""
    return (2 * frames * to + rate) // (2 * rate)


def stretch(file: bytes | IO[bytes], start: int, length: int, rate: int) -> np.ndarray:
    """float32 (length,): samples start to start + length, counted at `rate`, of all channels' mean.

    A stretch is what it is as part of the whole: to 1e-6, and to 3e-5 where the rates have no common part.
    Raises BrokenItem for samples that do not decode or are no numbers, and for a recording that never changes.
    """
    with _opened(file) as sound:
        frames, native = sound.frames, sound.samplerate
        if start + length > resampled(frames, native, rate):
            raise BrokenItem(f"its length has changed since it was listed: it has {frames / native:.2f} s")
        shared = math.gcd(native, rate)
        up, down = rate // shared, native // shared
        margin = 0 if up == down else MARGIN * max(1, math.ceil(rate / native))
        begin = max(0, start - margin) // up * up  # where both rates have a sample
        first, last = begin // up * down, min(frames, -(-(start + length + margin) * down // up))
        try:
            x = _joined(list(_blocks(sound, first, last)))
        except soundfile.LibsndfileError:
            x = np.zeros(0, np.float32)
    if len(x) < last - first:
        raise BrokenItem(f"damaged or cut short: {_readable(file) / native:.2f} of {frames / native:.2f} s can be read")
    with np.errstate(over="ignore", invalid="ignore"):
        finite = np.isfinite(np.dot(x, x))
    if not finite:
        raise BrokenItem(_no_numbers(x))
    if x[0] == x[-1] and x.min() == x.max() and not _changes(file):
        raise BrokenItem(f"silent from end to end: every sample is {x[0]:g}")
    if up != down:
        x = soxr.resample(x, native, rate, "HQ")
    return x[start - begin : start - begin + length]


def _opened(file: bytes | IO[bytes]) -> _Sound:
    if not isinstance(file, bytes):
        file.seek(0)
    try:
        return _Sound(file)
    except (soundfile.LibsndfileError, OSError):
        raise BrokenItem(_unread(file)) from None


def _blocks(sound: _Sound, first: int, last: int, size: int = BLOCK) -> Iterator[np.ndarray]:
    """Frames first to last as their channels' mean, some at a time; fewer where the recording breaks off."""
    at = _landing(sound, first)
    if at:
        sound.seek(at)
    while at < last:
        stop = min(first if at < first else last, at + size)
        x = sound.read(stop - at, dtype="float32")
        if at >= first:
            with np.errstate(invalid="ignore", over="ignore"):  # infinite samples are told of later
                yield x if x.ndim == 1 else x.mean(1)
        if len(x) < stop - at:
            return
        at = stop


def _landing(sound: _Sound, first: int) -> int:
    """The frame to seek to, from where on all that is decoded up to `first` and beyond is exact."""
    if sound.format == "MP3":
        return 0
    if sound.subtype == "VORBIS":
        return max(0, min(first, sound.frames - TAIL))
    return max(0, first - LEAD * sound.samplerate) if sound.subtype == "OPUS" else first


def _joined(blocks: list[np.ndarray]) -> np.ndarray:
    return blocks[0] if len(blocks) == 1 else np.concatenate([np.zeros(0, np.float32), *blocks])


def _readable(file: bytes | IO[bytes]) -> int:
    """Frames from the start that decode."""
    count = 0
    with _opened(file) as sound:
        try:
            for x in _blocks(sound, 0, sound.frames, FINE):
                count += len(x)
        except soundfile.LibsndfileError:
            pass
    return count


def _changes(file: bytes | IO[bytes]) -> bool:
    """Whether any two samples of the recording differ."""
    first = None
    with _opened(file) as sound:
        try:
            for x in _blocks(sound, 0, sound.frames):
                first = x[0] if first is None and len(x) else first
                if (x != first).any():
                    return True
        except soundfile.LibsndfileError:  # what breaks later is no reason against this stretch
            return True
    return False


def _no_numbers(x: np.ndarray) -> str:
    bad = np.isnan(x).sum() or np.isinf(x).sum()
    if not bad:
        return f"samples as large as {np.abs(x).max():.3g}; full scale is 1"
    return f"{bad:,} of {len(x):,} samples are {'NaN' if np.isnan(x).any() else 'infinite'}"


def _cut_short(file: bytes | IO[bytes], kind: str) -> str:
    """Why a file that libsndfile reads as far as it goes is not whole, "" where it is."""
    with _stream(file) as stream:
        size = stream.seek(0, os.SEEK_END)
        if kind == "OGG":
            stream.seek(max(0, size - 2**16))  # pages are smaller
            tail = stream.read()
            page = tail.rfind(b"OggS")
            ends = page < 0 or page + 5 < len(tail) and tail[page + 5] & 4  # bit 2: the last page
            return "" if ends else "cut short: its last page is missing"
        stream.seek(4)
        claimed = 8 + int.from_bytes(stream.read(4), "big" if kind == "AIFF" else "little")
        cut = size + 8 < claimed < STREAMED  # some programs count the eight bytes of the header too
        return f"cut short: {size:,} of {claimed:,} bytes are there" if cut else ""


def _unread(file: bytes | IO[bytes]) -> str:
    """Why libsndfile does not open it."""
    try:
        with _stream(file) as stream:
            stream.seek(0)
            head = stream.read(64)
    except PermissionError:
        return "no permission to read it"
    except FileNotFoundError:
        return "no such file (moved, deleted, or a link that leads nowhere)"
    except OSError as error:
        return f"cannot be read: {(error.strerror or str(error)).lower()}"
    if not head:
        return "empty: it has no bytes"
    for place, sign, what in SIGNS:
        if head[place:].startswith(sign):
            return f"{what}, which is not read; convert its sound to FLAC or WAV"
    if head[:4] in (b"RIFF", b"fLaC", b"OggS", b"FORM"):
        return "damaged: its header cannot be read"
    text = set(head) <= set(string.printable.encode())
    return "a text, not a sound" if text else "not a sound, or of a kind that is not read"


def _stream(file: bytes | IO[bytes]) -> AbstractContextManager[IO[bytes]]:
    return open(file, "rb") if isinstance(file, bytes) else nullcontext(file)
