"""Photos as grids of patches: where each comes from, what happens to it alone, what is refused."""

import numpy as np
import pytest
import torch

from twoviews.data.dice import Dice
from twoviews.data.ops import MEAN, STD
from twoviews.data.patches import dropped_colours, grid, mosaic, patches, random_squares, shifted, side_and_stride
from twoviews.errors import UserError

STILL = {"flip": 0.0, "jitter": 0.0, "crop": (1.0, 1.0)}


def batch(b=4, c=3, h=30, w=30, seed=0):
    images = torch.randint(0, 256, (b, c, h, w), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))
    return images, torch.tensor([h, w]).expand(b, 2), Dice(0, 0, torch.arange(b))


def back(x):
    """Normalised pixels as they were, 0 ... 255."""
    return (x * STD + MEAN) * 255


@pytest.mark.parametrize(
    ("size", "count", "overlap", "side", "stride"),
    [(256, 7, 0.5, 64, 32), (64, 7, 0.5, 16, 8), (30, 5, 0.5, 10, 5), (64, 4, 0.0, 16, 16), (52, 4, 0.25, 16, 12)],
)
def test_patches_are_where_they_should_be(size, count, overlap, side, stride):
    images, sizes, dice = batch(2, 3, size, size)
    (x,) = patches(size, count, overlap=overlap, **STILL)(images, sizes, dice)
    assert x.shape == (2, count, count, 3, side, side)
    for r in range(count):
        for w in range(count):
            here = images[:, :, r * stride : r * stride + side, w * stride : w * stride + side]
            torch.testing.assert_close(back(x[:, r, w]), here.float(), atol=0.01, rtol=0)
    (same,) = grid(size, count, overlap=overlap, crop=1.0)(images, sizes)
    torch.testing.assert_close(same, x)


def test_the_random_square_is_one_of_the_photo():
    """30 of 32 pixels at nine places, each also mirrored; all of them are drawn."""
    images, _, _ = batch(1, 3, 32, 32)
    images, sizes = images.expand(200, -1, -1, -1), torch.tensor([32, 32]).expand(200, 2)
    (x,) = patches(30, 5, jitter=0.0, crop=(30 / 32, 30 / 32))(images, sizes, Dice(0, 0, torch.arange(200)))
    square = back(mosaic(x)).round()  # patches side by side
    first = square[:, :, :10, :10]
    met = set()
    for top in range(3):
        for left in range(3):
            for mirrored in (False, True):
                crop = images[0, :, top : top + 30, left : left + 30].float()
                here = (crop.flip(2) if mirrored else crop)[:, :10, :10]
                hits = (first - here).abs().amax((1, 2, 3)) < 0.5
                assert hits.any()
                met |= set(hits.nonzero()[:, 0].tolist())
    assert len(met) == 200


def test_squares_stay_inside_and_reach_every_corner():
    sizes = torch.tensor([[20, 50]]).expand(2000, 2)
    boxes = random_squares(sizes, Dice(0, 0, torch.arange(2000)), 0.5, 1.0)
    assert (boxes[:, 2] == boxes[:, 3]).all()
    assert (boxes[:, :2] >= 0).all()
    assert (boxes[:, :2] + boxes[:, 2:] <= sizes).all()
    assert boxes[:, 2].unique().tolist() == list(range(10, 21))
    full = boxes[boxes[:, 2] == 20]
    assert full[:, 1].unique().tolist() == list(range(31))


def test_a_shifted_patch_equals_the_loop():
    x, margin = torch.rand(2, 3, 3, 2, 8, 8), 1
    by = torch.randint(-1, 2, (2, 3, 3, 2), generator=torch.Generator().manual_seed(0))
    expected = torch.full_like(x, MEAN)
    for b, r, w in np.ndindex(2, 3, 3):
        up, left = by[b, r, w].tolist()
        expected[b, r, w, :, 1:7, 1:7] = x[b, r, w, :, 1 + up : 7 + up, 1 + left : 7 + left]
    assert torch.equal(shifted(x, by, margin), expected)


def test_jitter_takes_a_part_of_each_patch_on_its_own():
    images, sizes, _ = batch(64, 3, 64, 64)
    still, moved = (
        patches(64, 7, flip=0.0, jitter=jitter, crop=(1.0, 1.0))(images, sizes, Dice(0, 0, torch.arange(64)))[0]
        for jitter in (0.0, 1 / 8)
    )
    assert (moved[..., :2, :] == 0).all()  # 12 of 16 pixels, grey around them
    assert (moved[..., -2:] == 0).all()
    inside = moved[..., 2:14, 2:14]
    places = [
        [(inside - still[..., r : r + 12, w : w + 12]).abs().amax((3, 4, 5)) < 1e-6 for w in range(5)] for r in range(5)
    ]
    found = torch.stack([torch.stack(row) for row in places])  # (5, 5, B, R, W)
    assert (found.sum((0, 1)) == 1).all()
    often = found.float().mean((2, 3, 4)) * 25
    assert (often - 1).abs().max() < 0.25  # 64 * 49 patches over 25 places: a standard deviation of 0.09


def test_a_patch_keeps_one_colour_or_all():
    x = torch.rand(1, 2, 2, 3, 4, 4)
    kept = dropped_colours(x, torch.tensor([[[0, 1], [2, -1]]]))
    for place, left in (((0, 0), {0}), ((0, 1), {1}), ((1, 0), {2}), ((1, 1), {0, 1, 2})):
        for colour in range(3):
            patch = kept[0][place][colour]
            assert torch.equal(patch, x[0][place][colour]) if colour in left else (patch == MEAN).all()
    images, sizes, dice = batch(200)
    (x,) = patches(30, 5, drop=0.6, **STILL)(images, sizes, dice)
    grey = (x == 0).all(5).all(4).sum(3)  # colours lost: of 0 ... 255 none is the mean
    assert set(grey.unique().tolist()) == {0, 2}
    assert abs(float((grey == 2).float().mean()) - 0.6) < 0.04  # 5,000 patches


def test_each_patch_has_a_light_of_its_own():
    images, sizes, dice = batch(50)
    still, seen = (
        patches(30, 5, light=light, **STILL)(images, sizes, Dice(0, 0, torch.arange(50)))[0] for light in (0.0, 0.4)
    )
    a, b = (x.flatten(4).double() for x in (still, seen))  # (B, R, W, C, p * p)
    contrast = b.std(4) / a.std(4)
    torch.testing.assert_close(contrast, contrast[..., :1].expand_as(contrast), atol=1e-4, rtol=0)
    brightness = (b.mean(4) - contrast * a.mean(4)) * STD  # of each colour
    for found, low, high in ((contrast[..., 0], 0.6, 1.4), (brightness, -0.2, 0.2)):
        assert found.min() >= low - 1e-3
        assert found.max() <= high + 1e-3
        assert found.max() - found.min() > 0.95 * (high - low)
    assert brightness.flatten(0, 2).std(0).min() > 0.08


def test_a_view_depends_on_its_photo_alone():
    images, sizes, _ = batch(6)
    views = patches(30, 5, drop=0.5, jitter=0.1, light=0.4)
    (x,) = views(images, sizes, Dice(3, 1, torch.arange(6)))
    (y,) = views(images[4:], sizes[4:], Dice(3, 1, torch.tensor([4, 5])))
    assert torch.equal(x[4:], y)
    (z,) = views(images, sizes, Dice(3, 2, torch.arange(6)))
    assert not torch.equal(x, z)


def test_one_channel_and_floats():
    images, sizes, dice = batch(3, c=1, h=40, w=50)
    views = patches(30, 5, drop=1.0)  # nothing to drop
    (x,) = views(images, sizes, dice)
    assert x.shape == (3, 5, 5, 1, 10, 10)
    (y,) = views(images.float() / 255, sizes, Dice(0, 0, torch.arange(3)))
    torch.testing.assert_close(x, y, atol=1e-4, rtol=0)


def test_a_picture_shows_all_patches():
    images, sizes, dice = batch(2)
    (picture,) = patches(30, 5, **STILL).pictures(images, sizes, dice)
    assert picture.shape == (2, 3, 54, 54)
    torch.testing.assert_close(picture[:, :, 11:21, 22:32] * 255, images[:, :, 5:15, 10:20].float(), atol=0.01, rtol=0)
    assert (picture[:, :, 10] == 1).all()
    assert (grid(30, 5).pictures(images, sizes)[0].shape) == (2, 3, 54, 54)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"size": 32, "grid": 5}, "size=30"),
        ({"size": 256, "grid": 1}, "grid=1"),
        ({"overlap": 1.0}, "overlap=1.0"),
        ({"crop": (0.9, 0.5)}, "crop="),
        ({"drop": 1.5}, "drop=1.5"),
        ({"light": -0.1}, "light=-0.1"),
        ({"jitter": 0.5}, "jitter=0.5"),
        ({"flip": -1}, "flip=-1"),
    ],
)
def test_what_is_not_possible_is_said(given, says):
    with pytest.raises(UserError, match=says):
        patches(**given)


def test_a_size_that_does_not_come_out_names_one_that_does():
    for size in range(10, 120):
        try:
            side, stride = side_and_stride(size, 5, 0.5)
        except UserError as error:
            near = int(str(error).rsplit("size=", 1)[1].rstrip("."))
            side, stride = side_and_stride(near, 5, 0.5)
            size = near
        assert side + 4 * stride == size
