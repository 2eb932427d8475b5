"""Small videos written with PyAV: what tests of videos read."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

TICKS = 1000  # units of a second that frames' times are given in


def pattern(frames: int, height: int = 48, width: int = 64, seed: int = 0) -> np.ndarray:
    """(frames, height, width, 3) uint8: a moving ramp under still blocks; no two frames and no two corners alike."""
    rng = np.random.default_rng(seed)
    blocks = rng.integers(0, 120, (-(-height // 8), -(-width // 8), 3)).repeat(8, 0).repeat(8, 1)[:height, :width]
    x, t = np.arange(width), np.arange(frames)
    ramp = (x[None] * 2 + t[:, None] * 9) % 128  # (frames, width)
    out = blocks[None] + ramp[:, None, :, None]
    out[:, : height // 4, : width // 4] = (40 + 5 * t[:, None, None, None]) % 256  # a clock
    return out.astype(np.uint8)


def write_video(
    path: Path | str,
    clip: np.ndarray,
    rate: int = 25,
    codec: str = "libx264",
    pixels: str = "yuv420p",
    gop: int = 10,
    times: Sequence[int] | None = None,
    sound: bool = False,
    more: Sequence[np.ndarray] = (),
    options: dict[str, str] | None = None,
    **open_with: Any,
) -> Path:
    """Write clips (T, H, W, 3) uint8 as a video, its kind by the ending of the name.

    times: milliseconds at which frames appear; None: `rate` frames a second.  gop: frames from key frame to key frame.
    more:  further video streams.  sound: a second of noise beside it.
    """
    given = {"crf": "18", "preset": "ultrafast"} if codec == "libx264" else {}
    with av.open(str(path), "w", **open_with) as out:
        streams = []
        for x in (clip, *more):
            stream = out.add_stream(codec, rate=rate, options={**given, **(options or {})})
            stream.width, stream.height, stream.pix_fmt = x.shape[2], x.shape[1], pixels
            stream.codec_context.gop_size = gop
            if times is not None:
                stream.time_base = stream.codec_context.time_base = Fraction(1, TICKS)
            streams.append(stream)
        voice = out.add_stream("aac", rate=16000, layout="mono") if sound else None
        for stream, x in zip(streams, (clip, *more), strict=True):
            for i, one in enumerate(x):
                frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(one), format="rgb24")
                frame.pts, frame.time_base = (i, Fraction(1, rate)) if times is None else (times[i], Fraction(1, TICKS))
                out.mux(stream.encode(frame))
            out.mux(stream.encode())
        if voice is not None:
            _speak(out, voice)
    return Path(path)


def write_sound(path: Path | str) -> Path:
    """A second of noise in a video's container, and no video."""
    with av.open(str(path), "w") as out:
        _speak(out, out.add_stream("aac", rate=16000, layout="mono"))
    return Path(path)


def turn(path: Path, degrees: int) -> Path:
    """Note in an MP4 file's display matrix that it is shown turned clockwise by 90, 180 or 270 degrees."""
    a, b = {90: (0, 1), 180: (-1, 0), 270: (0, -1)}[degrees]
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 4 + 4 + 20 + 16  # version and flags; times, track, duration; layer, group, volume
    one, whole = 2**16, 2**30
    data[at : at + 36] = struct.pack(">9i", a * one, b * one, 0, -b * one, a * one, 0, 0, 0, whole)
    path.write_bytes(data)
    return path


def decoded(path: Path | str) -> np.ndarray:
    """(n, h, w, 3) uint8: every frame of the best stream, one after the other, as stored."""
    with av.open(str(path)) as container:
        stream = container.streams.best("video")
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(stream)])


def _speak(out: Any, voice: Any) -> None:
    noise = np.random.default_rng(0).normal(0, 0.1, (1, 16000)).astype(np.float32)
    frame = av.AudioFrame.from_ndarray(noise, format="fltp", layout="mono")
    frame.sample_rate = 16000
    out.mux(voice.encode(frame))
    out.mux(voice.encode())
