"""Which frames of a video make a clip: one pure function of whole numbers.

    sample(300, frames=16, stride=4)           the middle 61 frames, every fourth
    sample(300, frames=16, stride="uniform")   16 parts of the whole, the middle of each

With random numbers a clip begins anywhere, or a frame is any of its part (TSN: Wang et al. 2016, arXiv:1608.00859). A
video that is too short shows its last frame until the clip is full. Several clips of one video: Feichtenhofer et al.
2021, arXiv:2104.14558. Two that each begin anywhere lie the less often apart the further it is, linearly, which is what
Qian et al. 2021 (CVRL), arXiv:2008.03800, draw; `gap` says at which share of the video it falls to 0.
"""

from __future__ import annotations

import numpy as np

from ..errors import UserError

UNIFORM = "uniform"


def sample(
    total: int,
    frames: int,
    stride: int | str = 1,
    clips: int = 1,
    rng: np.random.Generator | None = None,
    *,
    speed: float = 1.0,
    gap: float = 1.0,
) -> np.ndarray:
    """(clips, frames) int64, places from 0 to total - 1 of the frames of each clip, in order.

    stride: frames from one to the next, or "uniform": the whole video, whatever its length.
    rng:    None: nothing random; one clip is the middle, several lie evenly from the first to the last.
    speed:  a stride in frames is multiplied by a number between 1 / speed and speed, drawn for each clip.
    gap:    clips begin at most this share of the places apart at which one can begin, from 0 to 1.
    Raises UserError where there is no frame, or a number is not possible.
    """
    check(frames, stride, clips, speed, gap)
    if total < 1:
        raise UserError(f"a video of {total} frames has none to show")
    if stride == UNIFORM:
        edges = np.arange(frames + 1) * total // frames  # part i is edges[i] ... edges[i + 1] - 1, at least one frame
        low, size = edges[:-1], np.maximum(1, np.diff(edges))
        middle = size * (2 * np.arange(clips)[:, None] + 1) // (2 * clips)  # of one clip; several lie evenly in a part
        within = middle if rng is None else rng.integers(0, size, (clips, frames))
        return np.minimum(low + within, total - 1).astype(np.int64)
    steps = np.full(clips, float(stride))
    if rng is not None and speed > 1:
        steps = steps * speed ** rng.uniform(-1, 1, clips)
    offsets = np.round(np.arange(frames) * steps[:, None]).astype(np.int64)  # (clips, frames)
    room = np.maximum(total - 1 - offsets[:, -1], 0)  # last place that a clip can begin at
    if rng is None:
        begin = room // 2 if clips == 1 else room * np.arange(clips) // (clips - 1)
    else:
        reach = np.floor(gap * room).astype(np.int64)
        begin = rng.integers(0, (room - reach).min() + 1) + rng.integers(0, reach + 1)
    return np.minimum(begin[:, None] + offsets, total - 1)


def backward(clip: np.ndarray) -> np.ndarray:
    """(F,) places, backwards; what fills a clip that is longer than its item stays at the end.

    Else stillness at one end would tell which way a clip runs.
    """
    found, place = np.unique(clip, return_inverse=True)
    return found[::-1][place]


def mixed(count: int, rng: np.random.Generator) -> np.ndarray:
    """An order of so many frames that is not their own."""
    while True:
        order = rng.permutation(count)
        if count < 2 or (order != np.arange(count)).any():
            return order


def check(frames: int, stride: int | str, clips: int, speed: float, gap: float = 1.0) -> None:
    """Raises UserError on what `sample` cannot do."""
    for name, given in (("frames", frames), ("clips", clips)):
        if not isinstance(given, int) or given < 1:
            raise UserError(f"{name} must be a whole number, 1 or more, got {given!r}")
    if stride != UNIFORM and (not isinstance(stride, int) or stride < 1):
        raise UserError(f"stride must be 1 or more frames, or '{UNIFORM}' for the whole video, got {stride!r}")
    if not 1 <= speed <= 4:
        raise UserError(f"speed must be 1 (off) to 4 times as fast, got {speed!r}")
    if not 0 <= gap <= 1:
        raise UserError(f"gap must be 0 (clips begin together) to 1 (anywhere), got {gap!r}")
