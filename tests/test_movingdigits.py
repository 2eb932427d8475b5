"""Moving digits: what one frame must not tell, what the order of frames must, and that a clip is its own."""

import numpy as np
import pytest

from twoviews.data.movingdigits import COMPASS, TASKS, clip, moving_digits
from twoviews.errors import UserError


def many(task, split, count, frames=8):
    made = [clip(0, i, split, task, frames) for i in range(count)]
    return np.stack([x for x, _ in made]), np.array([label for _, label in made])


def test_a_clip_is_its_own():
    one, label = clip(3, 5, "train", "direction")
    again, same = clip(3, 5, "train", "direction")
    assert one.shape == (8, 32, 32)
    assert one.dtype == np.float32
    assert 0 <= one.min() < one.max() <= 1
    assert (one == again).all()
    assert label == same
    for other in (clip(4, 5, "train", "direction"), clip(3, 6, "train", "direction"), clip(3, 5, "test", "direction")):
        assert (one != other[0]).any()


def test_the_source_holds_these_clips():
    source = moving_digits(6, "turn", "test", seed=2)
    assert len(source) == 6
    assert source.classes == TASKS["turn"] or sorted(source.classes) == sorted(TASKS["turn"])
    for i in (0, 5):
        x, label = clip(2, i, "test", "turn")
        assert source.classes[source.labels[i]] == TASKS["turn"][label]
        frames = source.frames(i)
        assert frames.shape == (8, 32, 32, 3)
        assert np.abs(frames[..., 0] / 255 - x).max() <= 0.5 / 255 + 1e-6
        assert (frames == frames[..., :1]).all()
    shorter = moving_digits(3, "turn", "test", seed=2)
    assert (shorter.frames(2) == source.frames(2)).all()  # whatever the count


def moved(x):
    """(n, frames - 1, 7, 7): how well each frame, shifted by -3 ... 3 pixels, agrees with the next."""
    x = x - x.mean(1, keepdims=True)  # what stands still
    shifts = [
        [(np.roll(x[:, :-1], (dy, dx), (2, 3)) * x[:, 1:]).mean((2, 3)) for dx in range(-3, 4)] for dy in range(-3, 4)
    ]
    return np.moveaxis(np.array(shifts), (0, 1), (-2, -1))


def test_it_goes_where_its_label_says():
    x, labels = many("direction", "train", 200)
    best = moved(x).sum(1).reshape(200, 49).argmax(1)
    way = np.stack(np.divmod(best, 7), 1) - 3
    assert (np.sign(way) == np.array(COMPASS)[labels]).all(1).mean() > 0.9
    x, labels = many("speed", "train", 200)
    way = np.stack(np.divmod(moved(x).sum(1).reshape(200, 49).argmax(1), 7), 1) - 3
    assert (np.abs(way).max(1) == labels + 1).mean() > 0.9


def test_there_and_back_shows_each_frame_twice():
    x, _ = many("turn", "train", 60)
    assert np.abs(x - x[:, ::-1]).mean() < 0.08  # but for the noise
    x, _ = many("turn", "train", 20, frames=12)
    assert x.shape == (20, 12, 32, 32)
    assert np.abs(x - x[:, ::-1]).mean() < 0.08


def test_a_longer_clip_goes_on():
    x, labels = many("direction", "train", 100, frames=14)
    late = moved(x[:, 6:]).sum(1).reshape(100, 49).argmax(1)
    way = np.stack(np.divmod(late, 7), 1) - 3
    assert (np.sign(way) == np.array(COMPASS)[labels]).all(1).mean() > 0.85


def accuracy(train, test, seen, asked):
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    scale = StandardScaler().fit(train)
    model = LogisticRegression(C=0.01, max_iter=100, tol=0.01).fit(scale.transform(train), seen)
    return model.score(scale.transform(test), asked)


@pytest.mark.parametrize(("task", "order"), [("direction", 0.95), ("speed", 0.95), ("turn", 0.97), ("first", 0.95)])
def test_one_frame_tells_nothing_and_the_order_all(task, order):
    x, seen = many(task, "train", 800)
    y, asked = many(task, "test", 600)
    chance = 1 / len(TASKS[task])
    sigma = np.sqrt(chance * (1 - chance) / 600)
    for place in (0, 4):
        one = [part[:, place, ::2, ::2].reshape(len(part), -1) for part in (x, y)]
        assert accuracy(*one, seen, asked) < chance + 4 * sigma
    if task != "speed":  # how often all places are visited tells how fast
        both = [np.concatenate([part.mean(1), part.max(1)], 1)[:, ::2, ::2].reshape(len(part), -1) for part in (x, y)]
        assert accuracy(*both, seen, asked) < (0.6 if task == "direction" else 0.5 + 4 * sigma)
    a, b = [moved(part) for part in (x, y)]
    assert accuracy(a.reshape(800, -1), b.reshape(600, -1), seen, asked) > order


def test_splits_share_no_digit():
    from twoviews.data.movingdigits import _glyphs

    train, test = _glyphs("train"), _glyphs("test")
    assert len(train) + len(test) == 1797
    assert len(test) == 360
    assert train.shape[1:] == (16, 16)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"task": "turns"}, "turn"),
        ({"split": "val"}, "train"),
        ({"count": 0}, "count must be 1 or more"),
        ({"task": "turn", "frames": 7}, "even"),
        ({"frames": 1}, "frames 2 or more"),
    ],
)
def test_what_there_is_not(wrong, said):
    with pytest.raises(UserError, match=said) as raised:
        moving_digits(**{"count": 2, **wrong})
    assert "\n" not in str(raised.value)
