"""Which frames make a clip: against tables, a brute force, and the densities that are promised."""

import numpy as np
import pytest

from twoviews.data.moments import UNIFORM, sample
from twoviews.errors import UserError

TABLE = [  # total, frames, stride, clips -> places without random numbers
    (8, 4, 2, 1, [[0, 2, 4, 6]]),
    (9, 4, 2, 1, [[1, 3, 5, 7]]),
    (10, 4, 1, 1, [[3, 4, 5, 6]]),
    (10, 3, 2, 3, [[0, 2, 4], [2, 4, 6], [5, 7, 9]]),
    (3, 4, 2, 1, [[0, 2, 2, 2]]),  # too short: the last frame stays
    (1, 4, 2, 2, [[0, 0, 0, 0], [0, 0, 0, 0]]),
    (8, 4, UNIFORM, 1, [[1, 3, 5, 7]]),
    (8, 8, UNIFORM, 1, [[0, 1, 2, 3, 4, 5, 6, 7]]),
    (2, 4, UNIFORM, 1, [[0, 0, 1, 1]]),
    (10, 3, UNIFORM, 2, [[0, 3, 7], [2, 5, 9]]),
]


@pytest.mark.parametrize(("total", "frames", "stride", "clips", "places"), TABLE)
def test_without_random_numbers(total, frames, stride, clips, places):
    found = sample(total, frames, stride, clips)
    assert found.dtype == np.int64
    assert found.tolist() == places


def test_uniform_frames_lie_beside_those_of_scenic():
    """ViViT's own rule, round(arange(f / (n + 1), f, f / (n + 1))), leaves more at the ends; both are the whole."""
    for total, frames in ((250, 32), (300, 16), (64, 8)):
        gap = total / (frames + 1)
        scenic = np.round(np.arange(gap, total, gap))[:frames]
        assert np.abs(sample(total, frames, UNIFORM)[0] - scenic).max() <= total / frames + 1


@pytest.mark.parametrize("stride", [1, 3, UNIFORM])
@pytest.mark.parametrize("total", [1, 2, 5, 16, 17, 61])
def test_random_frames_are_there_and_in_order(total, stride):
    rng = np.random.default_rng(total)
    for frames in (1, 2, 4, 16):
        found = np.concatenate([sample(total, frames, stride, 2, rng, speed=2.0, gap=0.5) for _ in range(50)])
        assert found.shape == (100, frames)
        assert found.min() >= 0
        assert found.max() < total
        assert (np.diff(found, axis=1) >= 0).all()


def test_a_dense_clip_begins_anywhere_with_the_same_chance():
    rng = np.random.default_rng(0)
    found = np.concatenate([sample(10, 3, 2, 1, rng) for _ in range(6000)])
    assert (np.diff(found, axis=1) == 2).all()
    counts = np.bincount(found[:, 0])
    assert len(counts) == 6  # 0 ... 5: as many as fit
    assert np.abs(counts - 1000).max() < 5 * np.sqrt(1000)


def test_a_uniform_frame_is_any_of_its_part():
    rng = np.random.default_rng(0)
    found = np.concatenate([sample(11, 4, UNIFORM, 1, rng) for _ in range(2000)])
    parts = [set(range(i * 11 // 4, (i + 1) * 11 // 4)) for i in range(4)]
    assert [set(column) for column in found.T.tolist()] == parts
    assert set().union(*parts) == set(range(11))


def test_speed_is_drawn_for_each_clip_and_never_at_test():
    rng = np.random.default_rng(0)
    found = np.concatenate([sample(1000, 9, 4, 2, rng, speed=2.0) for _ in range(500)])
    spans = found[:, -1] - found[:, 0]
    assert spans.min() >= 16
    assert spans.max() <= 64
    assert np.median(spans) == pytest.approx(32, abs=2)  # as often slower as faster
    assert (spans[::2] != spans[1::2]).mean() > 0.9
    assert (np.diff(sample(1000, 9, 4, 1, speed=2.0)) == 4).all()


@pytest.mark.parametrize("gap", [0.0, 0.3, 1.0])
def test_clips_are_the_rarer_the_further_apart_and_never_further_than_asked(gap):
    rng = np.random.default_rng(0)
    two = np.stack([sample(104, 5, 1, 2, rng, gap=gap)[:, 0] for _ in range(6000)])
    assert two.min() < 4
    assert 95 < two.max() <= 99
    reach = int(gap * 99)
    apart = np.bincount(np.abs(two[:, 0] - two[:, 1]), minlength=reach + 1) / 6000
    assert len(apart) == reach + 1
    want = 2 * (reach + 1 - np.arange(reach + 1)) / (reach + 1) ** 2  # falls linearly, as CVRL's
    want[0] /= 2
    assert np.abs(apart - want).max() < 5 * np.sqrt(want.max() / 6000)


def test_the_same_generator_gives_the_same_frames():
    one, two = (sample(90, 8, 4, 3, np.random.default_rng([1, 2, 3]), speed=1.5) for _ in range(2))
    assert (one == two).all()
    assert (one != sample(90, 8, 4, 3, np.random.default_rng([1, 2, 4]), speed=1.5)).any()


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"total": 0}, "0 frames has none"),
        ({"frames": 0}, "frames must be a whole number"),
        ({"clips": 0}, "clips must be a whole number"),
        ({"stride": 0}, "stride must be 1 or more"),
        ({"stride": "dense"}, "'uniform' for the whole video, got 'dense'"),
        ({"speed": 0.5}, "speed must be 1"),
        ({"gap": 2}, "gap must be 0"),
    ],
)
def test_what_cannot_be_is_said_in_a_line(wrong, said):
    with pytest.raises(UserError, match=said) as raised:
        sample(**{"total": 9, "frames": 4, **wrong})
    assert "\n" not in str(raised.value)
