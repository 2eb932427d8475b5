"""Moving digits: generated clips in which one frame tells nothing and the order of frames all.

A handwritten digit of scikit-learn's moves over clutter on a torus of 32 x 32 pixels, by whole pixels. It starts
anywhere, so any frame at any place is independent of the label; played backwards a clip is one of another class, so for
`turn` and `first` even all frames without their order tell nothing, and for `direction` at most the axis.

    direction  8 classes, in steps of 45 degrees, 1 to 3 pixels a frame
    speed      3 classes, 1, 2 or 3 pixels a frame, in any direction
    turn       2 classes: there and back again, to the right or to the left first
    first      2 classes: of two digits the one that moves across or the one that moves up or down goes first
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from ..errors import UserError, unknown
from .videos import Videos, videos

SIDE, GLYPH, BLOCK = 32, 16, 8  # pixels of a frame, a digit and a block of clutter
CLUTTER, NOISE = 0.3, 0.05
COMPASS = [(0, 1), (-1, 1), (-1, 0), (-1, -1), (0, -1), (1, -1), (1, 0), (1, 1)]  # (down, right), from the east on
TASKS = {
    "direction": ["east", "north-east", "north", "north-west", "west", "south-west", "south", "south-east"],
    "speed": ["1 pixel", "2 pixels", "3 pixels"],
    "turn": ["right first", "left first"],
    "first": ["across first", "up or down first"],
}
SPLITS = {"train": 0, "test": 1}


def moving_digits(
    count: int = 4000, task: str = "direction", split: str = "train", frames: int = 8, seed: int = 0
) -> Videos:
    """`count` clips of a task with its labels, the digits of each split its own. Clip i depends on seed, i and split.

    frames: of a clip; there is and back again, or one after the other, only in an even number.
    Raises UserError on what there is not.
    """
    if task not in TASKS:
        raise unknown("task", task, TASKS)
    if split not in SPLITS:
        raise unknown("split", split, SPLITS)
    if count < 1 or frames < 2 or (task in ("turn", "first") and frames % 2):
        raise UserError(
            f"count must be 1 or more and frames 2 or more (even for turn and first), got {count}, {frames}"
        )
    clips, labels = np.empty((count, frames, SIDE, SIDE), np.uint8), np.empty(count, np.int64)
    for i in range(count):
        x, labels[i] = clip(seed, i, split, task, frames)
        np.rint(x * 255, out=clips[i], casting="unsafe")
    return videos((clips, [TASKS[task][label] for label in labels]), name=f"moving_digits:{task}:{split}")


def clip(seed: int, index: int, split: str, task: str, frames: int = 8) -> tuple[np.ndarray, int]:
    """(frames, 32, 32) float32 in [0, 1], and its label."""
    glyphs = _glyphs(split)
    rng = np.random.default_rng([seed, index, SPLITS[split]])
    label = int(rng.integers(len(TASKS[task])))
    still = np.kron(rng.uniform(0, CLUTTER, (SIDE // BLOCK, SIDE // BLOCK)), np.ones((BLOCK, BLOCK)))
    out = np.repeat(still[None].astype(np.float32), frames, 0)
    time = np.arange(frames)
    half = frames // 2
    if task == "first":
        across, along = rng.choice((-1, 1), 2)
        ways = np.array([(0, across), (along, 0)])
        early, late = np.minimum(time, half - 1), np.maximum(time - half, 0)
        for way, steps in ((ways[label], early), (ways[1 - label], late)):
            _draw(out, glyphs[rng.integers(len(glyphs))], rng.integers(0, SIDE, 2), steps[:, None] * way)
    else:
        pace, way = int(rng.integers(1, 4)), np.array(COMPASS[rng.integers(8)])
        steps = time
        if task == "direction":
            way = np.array(COMPASS[label])
        elif task == "speed":
            pace = label + 1
        else:
            pace, way = 1, np.array(COMPASS[0 if label == 0 else 4])
            steps = np.minimum(time, frames - 1 - time)
        _draw(out, glyphs[rng.integers(len(glyphs))], rng.integers(0, SIDE, 2), steps[:, None] * way * pace)
    out += rng.normal(0, NOISE, out.shape).astype(np.float32)
    return out.clip(0, 1), label


def _draw(frames: np.ndarray, glyph: np.ndarray, start: np.ndarray, moved: np.ndarray) -> None:
    """Lay a digit over each frame, where it has moved to. moved: (frames, 2) pixels down and to the right."""
    at = (start + moved)[:, :, None] + np.arange(GLYPH)  # (frames, 2, 16)
    place = np.arange(len(frames))[:, None, None], at[:, 0, :, None] % SIDE, at[:, 1, None, :] % SIDE
    frames[place] = np.maximum(frames[place], glyph)


@lru_cache(2)
def _glyphs(split: str) -> np.ndarray:
    """(n, 16, 16) float32 in [0, 1]: every fifth digit is kept for the test."""
    from sklearn.datasets import load_digits

    found = load_digits()
    held = np.arange(len(found.target)) % 5 == 0
    mine = held if split == "test" else ~held
    return (found.images[mine] / 16).astype(np.float32).repeat(2, 1).repeat(2, 2)
