"""Every op equals torchvision's, item by item, given the same parameters."""

import itertools
import math

import pytest
import torch
from torch.nn import functional as F

from twoviews.data import ops

tv = pytest.importorskip("torchvision.transforms.v2.functional")

SHAPES = [(6, 3, 32, 32), (5, 3, 17, 23), (1, 3, 9, 9), (4, 1, 12, 15)]


def photos(*shape, dtype=torch.float32, seed=0):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def each(function, x, *parameters):
    """The oracle: the function called for one item at a time with plain numbers."""
    rows = zip(x, *(p.tolist() for p in parameters), strict=True)
    return torch.stack([function(image, *row) for image, *row in rows])


def close(ours, theirs, atol=1e-5):
    torch.testing.assert_close(ours, theirs, atol=atol, rtol=0)


def mask_of(x):
    return torch.arange(len(x)) % 2 == 0


BOXES = [
    [0, 0, 40, 60],  # everything
    [0, 0, 1, 1],  # one pixel, in each corner
    [39, 59, 1, 1],
    [3, 5, 8, 8],  # the size of the view or less: enlarged
    [3, 5, 16, 16],  # the very size: a copy
    [7, 0, 33, 9],  # down to the lower border, odd
    [0, 31, 5, 29],  # at the right border, odd
]


@pytest.mark.parametrize("size", [16, 7, 45])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_crop_resize(size, dtype):
    boxes = torch.tensor(BOXES)
    x = photos(len(boxes), 3, 40, 60, dtype=dtype)
    theirs = each(lambda im, *box: tv.resized_crop(im, *box, [size, size], antialias=True), x, *boxes.T)
    close(ops.crop_resize(x, boxes, size), theirs, atol=1e-5 if dtype == torch.float32 else 1e-12)
    assert ops.crop_resize(x, boxes, size).dtype == dtype

    flip = mask_of(x)
    close(ops.crop_resize(x, boxes, size, flip), torch.where(flip[:, None, None, None], theirs.flip(3), theirs))


def test_crop_of_uint8_is_crop_of_float_and_a_whole_box_is_a_copy():
    x = torch.randint(0, 256, (3, 3, 32, 32), dtype=torch.uint8)
    boxes = torch.tensor([[0, 0, 32, 32], [4, 3, 20, 11], [31, 0, 1, 32]])
    close(ops.crop_resize(x, boxes, 24), ops.crop_resize(x / 255, boxes, 24), atol=1e-6)
    assert torch.equal(ops.crop_resize(x, torch.tensor([[0, 0, 32, 32]] * 3), 32), x / 255)


@pytest.mark.parametrize("shape", SHAPES)
def test_blends(shape):
    x = photos(*shape)
    factor = torch.linspace(0, 2, len(x))
    for ours, theirs in [
        (ops.brightness, tv.adjust_brightness),
        (ops.contrast, tv.adjust_contrast),
        (ops.saturation, tv.adjust_saturation),
    ]:
        close(ours(x, factor), each(theirs, x, factor))
        close(ours(x.double(), factor), each(theirs, x.double(), factor), atol=1e-12)


@pytest.mark.parametrize("shape", SHAPES)
def test_hue(shape):
    x = photos(*shape)
    x[..., :2] = x[:, :1, :, :2]  # grey pixels
    x[..., 2:4] = x[..., 2:4].round()  # pure colours, black, white: two channels tie
    shift = torch.linspace(-0.5, 0.5, len(x))
    close(ops.hue(x, shift), each(tv.adjust_hue, x, shift))
    close(ops.hue(x, torch.zeros(len(x))), x, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_color_jitter_in_every_order(dtype):
    order = torch.tensor(list(itertools.permutations(range(4))))  # (24, 4)
    x = photos(24, 3, 11, 13, dtype=dtype)
    draw = photos(4, 24, seed=1)
    factors = draw[0] * 1.6 + 0.2, draw[1] * 1.6 + 0.2, draw[2] * 1.6 + 0.2, draw[3] - 0.5
    steps = [tv.adjust_brightness, tv.adjust_contrast, tv.adjust_saturation, tv.adjust_hue]

    def one(image, *parameters):
        numbers, turns = parameters[:4], parameters[4:]
        for i in turns:
            image = steps[i](image, numbers[i])
        return image

    kept = x.clone()
    close(ops.color_jitter(x, *factors, order), each(one, x, *factors, *order.T))
    assert torch.equal(x, kept)

    still = *factors[:3], torch.zeros(24)
    close(ops.color_jitter(x, *still[:3], None, order), each(one, x, *still, *order.T))


def test_color_ops_on_other_channels():
    order = torch.tensor(list(itertools.permutations(range(4))))
    factors = photos(4, 24, seed=1) + 0.5
    grey_image, bands = photos(24, 1, 8, 8), photos(24, 5, 8, 8)

    def one(image, b, c, *turns):
        for i in turns:
            if i == 0:
                image = (b * image).clamp(0, 1)
            if i == 1:
                image = (c * image + (1 - c) * image.mean()).clamp(0, 1)
        return image

    for x in grey_image, bands:
        ours = ops.color_jitter(x, *factors[:3], factors[3] - 1, order)
        close(ours, each(one, x, *factors[:2], *order.T))
        assert torch.equal(ops.saturation(x, factors[2]), x)
        assert torch.equal(ops.hue(x, factors[3]), x)
        assert torch.equal(ops.grey(x, mask_of(x)), x)
    close(ops.contrast(grey_image, factors[1]), each(tv.adjust_contrast, grey_image, factors[1]))


@pytest.mark.parametrize("shape", SHAPES[:3])
def test_masked_ops(shape):
    x = photos(*shape)
    mask = mask_of(x)
    for ours, theirs in [
        (ops.hflip(x, mask), tv.horizontal_flip(x)),
        (ops.grey(x, mask), tv.rgb_to_grayscale(x, 3)),
        (ops.solarize(x, 0.5, mask), tv.solarize(x, 0.5)),
        (ops.solarize(x, 0.0, mask), tv.invert(x)),
    ]:
        close(ours[mask], theirs[mask], atol=1e-6)
        assert torch.equal(ours[~mask], x[~mask])


@pytest.mark.parametrize(("shape", "kernel"), [((5, 3, 32, 32), 3), ((4, 1, 24, 31), 9), ((1, 5, 12, 12), 23)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_blur(shape, kernel, dtype):
    x = photos(*shape, dtype=dtype)
    sigma = torch.linspace(0.1, 2.0, len(x))
    everywhere = torch.ones(len(x), dtype=torch.bool)
    theirs = each(lambda image, s: tv.gaussian_blur(image, [kernel, kernel], [s, s]), x, sigma)
    close(ops.blur(x, sigma, kernel, everywhere), theirs, atol=1e-5 if dtype == torch.float32 else 1e-12)
    mask = mask_of(x)
    some = ops.blur(x, sigma, kernel, mask)
    close(some[mask], theirs[mask])
    assert torch.equal(some[~mask], x[~mask])


def test_quarter_turns():
    x = photos(6, 2, 9, 9)
    k = torch.tensor([0, 1, 2, 3, 4, -1])
    assert torch.equal(ops.quarter_turns(x, k), each(lambda im, n: torch.rot90(im, n, (1, 2)), x, k))


@pytest.mark.parametrize(("h", "w"), [(33, 33), (32, 32), (24, 41)])
def test_turn(h, w):
    degrees = torch.tensor([0.0, 7.5, -20.0, 45.0, 90.0])
    x = photos(len(degrees), 3, h, w)
    theirs = each(lambda im, d: tv.rotate(im, d, tv.InterpolationMode.BILINEAR), x, degrees)
    seen = each(lambda im, d: tv.rotate(im, d, tv.InterpolationMode.BILINEAR), torch.ones_like(x), degrees)
    inside = seen > 1 - 1e-5  # where no corner came into sight
    assert inside.float().mean() > 0.5
    ours = ops.turn(x, degrees)
    close(ours[inside], theirs[inside], atol=1e-4)  # their grid is rounded to float32 before it is scaled
    close(ours[0], x[0], atol=1e-5)
    flat = torch.full_like(x, 0.7)
    close(ops.turn(flat, degrees), flat)  # no black corners


def test_cutout():
    boxes = torch.tensor([[2, 3, 4, 5], [0, 0, 0, 0], [-3, 6, 8, 8], [9, -2, 50, 50]])
    x = photos(4, 3, 10, 12)
    ours = ops.cutout(x, boxes, 0.25)
    theirs = x.clone()
    for image, (top, left, height, width) in zip(theirs, boxes.tolist(), strict=True):
        for i, j in itertools.product(range(10), range(12)):
            if top <= i < top + height and left <= j < left + width:
                image[:, i, j] = 0.25
    assert torch.equal(ours, theirs)
    assert torch.equal(ours[0], tv.erase(x[0], 2, 3, 4, 5, torch.tensor(0.25)))


@pytest.mark.parametrize("shape", SHAPES)
def test_sobel(shape):
    x = photos(*shape)
    kernel = torch.tensor([[-1.0, 0, 1], [-2, 0, 2], [-1, 0, 1]])
    padded = F.pad(x, (1, 1, 1, 1), mode="replicate").flatten(0, 1)[:, None]
    gx, gy = F.conv2d(padded, kernel[None, None]), F.conv2d(padded, kernel.T[None, None])
    theirs = ((gx**2 + gy**2).sqrt() / 4).clamp(max=1).view_as(x)
    mask = mask_of(x)
    ours = ops.sobel(x, mask)
    close(ours[mask], theirs[mask])
    assert torch.equal(ours[~mask], x[~mask])


def test_sobel_of_a_step_is_one():
    x = torch.zeros(1, 1, 6, 6)
    x[..., 3:] = 1
    edge = ops.sobel(x, torch.tensor([True]))[0, 0]
    assert torch.equal(edge[:, 2:4], torch.ones(6, 2))
    assert edge.sum() == 12


def test_normalize():
    x = photos(2, 3, 4, 4)
    close(ops.normalize(x), tv.normalize(x, [0.5] * 3, [0.25] * 3), atol=1e-6)
    assert math.isclose(ops.normalize(torch.tensor(1.0)).item(), 2.0)
