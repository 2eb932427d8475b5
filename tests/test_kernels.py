"""The compiled chain equals the ops in float64: each op alone, all together, in any layout, on any threads."""

import itertools

import pytest
import torch

from twoviews.data import chain, ops
from twoviews.data.chain import Drawn, blur_kernel, by_kernel, by_ops, make

pytest.importorskip("numba")


def generator(seed):
    return torch.Generator().manual_seed(seed)


def photos(b, c, h, w, seed=0):
    return torch.randint(0, 256, (b, c, h, w), dtype=torch.uint8, generator=generator(seed))


def boxes_in(sizes, g):
    """Boxes of any size and place, log-uniform, so that one pixel and all of them are both met."""
    u = torch.rand(len(sizes), 4, generator=g)
    shape = (sizes ** u[:, :2]).round().long().clamp(min=1)
    return torch.cat([(u[:, 2:] * (sizes - shape + 1)).long(), shape], dim=1)


def everything(sizes, seed, chance=0.7):
    """Parameters of all ops, each item with its own share of them."""
    g, b = generator(seed), len(sizes)

    def some(p):
        return torch.rand(b, generator=g) < p

    on = some(chance)
    factors = torch.where(on[:, None], 2 * torch.rand(b, 3, generator=g), 1.0)
    return Drawn(
        boxes_in(sizes, g),
        flip=some(0.5),
        factors=torch.where(torch.rand(b, 3, generator=g) < 0.2, 1.0, factors),  # a factor of 1 is skipped
        shift=torch.where(on & some(0.8), torch.rand(b, generator=g) - 0.5, 0.0),
        order=torch.rand(b, 4, generator=g).argsort(1),
        grey=some(0.3),
        sigma=0.1 + 1.9 * torch.rand(b, generator=g),
        blur=some(chance),
        solarize=some(0.3),
    )


def exact(images, size, drawn):
    """The ops in float64."""
    doubles = {k: v.double() for k, v in vars(drawn).items() if k in ("factors", "shift", "sigma") and v is not None}
    return by_ops(images.double() / 255, size, Drawn(**{**vars(drawn), **doubles}))


def close(ours, theirs):
    assert ours.dtype == torch.float32
    torch.testing.assert_close(ours.double(), theirs, atol=1e-5, rtol=0)


LAYOUTS = {
    "channel after channel": lambda x: x,
    "pixel after pixel": lambda x: x.to(memory_format=torch.channels_last),
    "four bytes a pixel": lambda x: torch.cat([x, x[:, :1]], 1).to(memory_format=torch.channels_last)[:, : x.shape[1]],
    "rows with gaps": lambda x: torch.cat([x, x], 3)[..., : x.shape[3]],
    "turned": lambda x: x.mT.contiguous().mT,
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(
    ("b", "c", "h", "w", "size"),
    [
        (24, 3, 32, 32, 32),
        (24, 1, 28, 28, 24),
        (12, 4, 40, 31, 33),
        (12, 3, 150, 90, 48),
        (12, 2, 9, 300, 20),
        (3, 3, 260, 340, 224),
        (8, 3, 500, 20, 4),
    ],
)
def test_all_ops_together(b, c, h, w, size, layout):
    images, sizes = photos(b, c, h, w), torch.tensor([h, w]).expand(b, 2)
    drawn = everything(sizes, seed=b * h + size)
    close(by_kernel(LAYOUTS[layout](images), size, drawn), exact(images, size, drawn))


@pytest.mark.parametrize("size", [32, 7, 45])
def test_boxes(size):
    """The whole, one pixel, the borders, enlarged, a copy, and down to a hundredth."""
    boxes = [[0, 0, 40, 600], [0, 0, 1, 1], [39, 599, 1, 1], [3, 5, 8, 8], [3, 5, 32, 32], [7, 0, 33, 9]]
    boxes = torch.tensor([*boxes, [0, 31, 5, 29], [0, 0, 2, 600], [0, 300, 40, 1], [17, 0, 3, 450]])
    images = photos(len(boxes), 3, 40, 600)
    for flip in torch.zeros(len(boxes), dtype=torch.bool), torch.ones(len(boxes), dtype=torch.bool):
        drawn = Drawn(boxes, flip)
        close(by_kernel(images, size, drawn), exact(images, size, drawn))
    whole = Drawn(torch.tensor([[0, 0, 40, 40]]))
    torch.testing.assert_close(by_kernel(photos(1, 3, 40, 40), 40, whole), photos(1, 3, 40, 40) / 255)


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_every_order_of_the_jitter(channels):
    order = torch.tensor(list(itertools.permutations(range(4))))
    images, boxes = photos(24, channels, 12, 12), torch.tensor([[0, 0, 12, 12]]).expand(24, 4)
    images[..., :3] = images[:, :1, :, :3]  # grey pixels
    images[..., 3:6] = (images[..., 3:6] > 127) * 255  # pure colours, black, white
    u = torch.rand(4, 24, generator=generator(1))
    drawn = Drawn(boxes, factors=2 * u[:3].T, shift=u[3] - 0.5, order=order)
    close(by_kernel(images, 12, drawn), exact(images, 12, drawn))


ALONE = {
    "brightness": {"factors": torch.tensor([[1.7, 1, 1], [0.0, 1, 1]])},
    "contrast": {"factors": torch.tensor([[1, 1.7, 1], [1, 0.0, 1]])},
    "saturation": {"factors": torch.tensor([[1, 1, 1.7], [1, 1, 0.0]])},
    "hue": {"shift": torch.tensor([0.5, -0.31]), "factors": torch.ones(2, 3)},
    "grey": {"grey": torch.tensor([True, False])},
    "blur": {"sigma": torch.tensor([0.1, 2.0]), "blur": torch.tensor([True, True])},
    "solarize": {"solarize": torch.tensor([False, True])},
}


@pytest.mark.parametrize("op", ALONE)
@pytest.mark.parametrize("size", [16, 64])
def test_each_op_alone(op, size):
    images, boxes = photos(2, 3, size, size), torch.tensor([[0, 0, size, size]]).expand(2, 4)
    drawn = Drawn(boxes, **{"order": torch.tensor([[3, 1, 0, 2]] * 2), **ALONE[op]})
    ours = by_kernel(images, size, drawn)
    close(ours, exact(images, size, drawn))
    assert not torch.allclose(ours, images / 255, atol=1e-2)
    scaled = by_kernel(images, size, drawn, ops.MEAN, ops.STD)
    torch.testing.assert_close(scaled, ops.normalize(ours), atol=1e-6, rtol=0)


def test_an_item_alone_and_threads_change_nothing():
    sizes = torch.tensor([[60, 50], [17, 50], [60, 9], [5, 7], [1, 1], [33, 31]]).repeat(7, 1)
    images, drawn = photos(42, 3, 60, 50), everything(sizes, seed=3)
    one = by_kernel(images, 24, drawn)
    before = torch.get_num_threads()
    try:
        for threads in 2, 5:
            torch.set_num_threads(threads)
            assert torch.equal(by_kernel(images, 24, drawn), one)
    finally:
        torch.set_num_threads(before)
    for i in range(0, 42, 5):
        h, w = sizes[i].tolist()
        item = Drawn(**{k: v if v is None else v[i : i + 1] for k, v in vars(drawn).items()})
        assert torch.equal(by_kernel(images[i : i + 1, :, :h, :w], 24, item)[0], one[i])


def test_which_path_is_taken(monkeypatch):
    images, sizes = photos(6, 3, 20, 20), torch.tensor([[20, 20]] * 6)
    drawn = everything(sizes, seed=4)
    drawn.quarters, drawn.invert = torch.arange(6) % 4, torch.arange(6) % 2 == 0
    drawn.squares, drawn.sobel = torch.tensor([[2, 3, 4, 5]] * 6), torch.arange(6) % 3 == 0
    fast = make(images, 16, drawn)

    def never(*_):
        raise AssertionError("the kernel was called")

    with monkeypatch.context() as patch:
        patch.setattr(chain, "_kernel", lambda: None)  # as if numba was missing
        torch.testing.assert_close(make(images, 16, drawn), fast, atol=1e-4, rtol=0)
    monkeypatch.setattr(chain, "by_kernel", never)
    make(images / 255, 16, drawn)
    drawn.degrees = torch.full((6,), 10.0)
    make(images, 16, drawn)
    drawn.degrees = None
    with pytest.raises(AssertionError, match="was called"):
        make(images, 16, drawn)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(("h", "w"), [(1, 1), (1, 5), (5, 1), (2, 2)])
def test_photos_of_a_few_pixels(h, w, layout):
    images = LAYOUTS[layout](photos(4, 3, h, w))
    drawn = everything(torch.tensor([[h, w]] * 4), seed=5)
    close(by_kernel(images, 8, drawn), exact(images, 8, drawn))


def test_no_items():
    none = Drawn(torch.empty((0, 4), dtype=torch.int64))
    assert by_kernel(photos(0, 3, 8, 8), 6, none).shape == (0, 3, 6, 6)


def test_blur_reaches_as_far_as_it_says():
    """A point of light: nothing outside blur_kernel(size) pixels, however wide sigma is."""
    images = torch.zeros(1, 1, 64, 64, dtype=torch.uint8)
    images[..., 32, 32] = 255
    blur = {"sigma": torch.tensor([9.0]), "blur": torch.tensor([True])}
    seen = by_kernel(images, 64, Drawn(torch.tensor([[0, 0, 64, 64]]), **blur))[0, 0] > 0
    assert seen.sum() == blur_kernel(64) ** 2
    assert seen.sum(0)[32] == blur_kernel(64)


def test_machine_code_need_not_be_kept(monkeypatch):
    """Where no folder can be written, numba finds no place for its cache; the kernels compile all the same."""
    from numba.core import caching

    from twoviews.data.kernels import _compiled

    monkeypatch.setattr(caching.CacheImpl, "_locator_classes", [])
    assert _compiled(lambda x: x + 1)(2) == 3
