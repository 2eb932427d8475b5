"""Random numbers by counter, and views made of them."""

import json
import math
import os
import threading
from functools import partial
from pathlib import Path
from zipfile import ZipFile

import pytest
import torch
from scipy import stats
from torch._subclasses.fake_tensor import FakeTensorMode

from twoviews.data import ops
from twoviews.data.chain import blur_kernel
from twoviews.data.dice import Dice
from twoviews.data.views import center, multi_crop, one_thread, random_boxes, random_squares, two_crops
from twoviews.errors import UserError

N = 20_000
EVERYTHING = {
    "blur": (1.0, 0.3),
    "solarize": (0.0, 0.5),
    "invert": 0.3,
    "quarter_turns": True,
    "turn": 15.0,
    "cutout": 0.5,
    "sobel": 0.3,
}


def dice(n=N, seed=0, epoch=0):
    return Dice(seed, epoch, torch.arange(n))


def batch(b=8, c=3, h=32, w=32, seed=0):
    images = torch.randint(0, 256, (b, c, h, w), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))
    return images, torch.tensor([h, w]).expand(b, 2)


def splitmix(x):
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
    x = (x ^ (x >> 27)) * 0x94D049BB133111EB % 2**64
    return x ^ (x >> 31)


@pytest.mark.parametrize("seed", [0, 7, -3, 2**64 + 5])
def test_dice_equal_the_same_arithmetic_in_python(seed):
    golden, ids = 0x9E3779B97F4A7C15, [0, 1, -2, 2**62]
    bits = Dice(seed, 3, torch.tensor(ids)).view(1).bits(70)
    for i, row in zip(ids, bits.tolist(), strict=True):
        state = splitmix((i + golden) % 2**64)
        for number in (seed, 3, 1):
            state = splitmix(((state ^ number % 2**64) + golden) % 2**64)
        expected = [splitmix((state + golden * k) % 2**64) for k in range(1, 71)]
        assert [b % 2**64 for b in row] == expected


def test_dice_are_frozen():
    """Changing these numbers changes the views of every run: note it in the changelog if you must."""
    d = Dice(7, 3, torch.tensor([0, 1, 1_000_000])).view(1)
    assert [round(u, 6) for u in d.uniform().tolist()] == [0.01781, 0.543237, 0.17375]
    assert d.integers(1000).tolist() == [794, 571, 961]
    assert d.shuffles(4).tolist() == [[1, 2, 3, 0], [3, 1, 0, 2], [0, 2, 1, 3]]


def test_dice_are_uniform():
    n = 5000
    for d in (dice(n), dice(n).view(0), dice(n).view(5), dice(n, epoch=9), dice(n, seed=123)):
        u = d.uniform(n=70)
        assert u.dtype == torch.float32
        assert u.min() >= 0
        assert u.max() < 1
        for draw in (0, 1, 63, 64, 69):
            assert stats.kstest(u[:, draw].numpy(), "uniform", method="asymp").pvalue > 1e-4
        assert stats.kstest(u[0].numpy(), "uniform").pvalue > 1e-3  # one item's own stream
    assert stats.chisquare(torch.bincount(dice().integers(7), minlength=7).numpy()).pvalue > 1e-3
    ones = torch.stack([(dice().bits()[:, 0] >> k) & 1 for k in range(64)]).float().mean(1)
    assert (ones - 0.5).abs().max() < 5 * 0.5 / math.sqrt(N)


def test_dice_ranges():
    d = dice()
    u = d.uniform(-2, 3)
    assert -2 <= u.min() < -1.99
    assert 2.99 < u.max() <= 3
    sides = torch.arange(N) % 9 + 1
    k = d.integers(sides)
    assert (k >= 0).all()
    assert (k < sides).all()
    assert stats.chisquare(torch.bincount(k[sides == 9], minlength=9).numpy()).pvalue > 1e-3
    assert not d.chance(0).any()
    assert d.chance(1).all()
    assert abs(d.chance(0.2).float().mean() - 0.2) < 5 * 0.4 / math.sqrt(N)
    orders = (d.shuffles(4) * torch.tensor([64, 16, 4, 1])).sum(1)
    counts = torch.unique(orders, return_counts=True)[1]
    assert len(counts) == 24
    assert stats.chisquare(counts.numpy()).pvalue > 1e-3


def test_dice_do_not_correlate():
    u = dice().uniform(n=2)
    neighbours = {
        "id": (u[:-1, 0], u[1:, 0]),
        "draw": (u[:, 0], u[:, 1]),
        "view": (dice().view(0).uniform(), dice().view(1).uniform()),
        "no view": (u[:, 0], dice().view(0).uniform()),
        "epoch": (u[:, 0], dice(epoch=1).uniform()),
        "seed": (u[:, 0], dice(seed=1).uniform()),
        "seed and epoch swapped": (dice(seed=1).uniform(), dice(epoch=1).uniform()),
        "draw of the next id": (u[1:, 0], u[:-1, 1]),
    }
    for name, (a, b) in neighbours.items():
        r = torch.corrcoef(torch.stack([a, b]))[0, 1]
        assert abs(r) < 4.5 / math.sqrt(N), name


def test_dice_depend_on_the_item_alone():
    ids = torch.tensor([5, 900, 3, 77])
    together = Dice(1, 2, ids).view(1)
    first, then = together.uniform(), together.integers(50)
    for i, item in enumerate(ids):
        alone = Dice(1, 2, item[None]).view(1)
        assert alone.uniform() == first[i]
        assert alone.integers(50) == then[i]


FACTORIES = [
    two_crops(),
    partial(two_crops, size=20, **EVERYTHING)(),
    multi_crop(24, local_size=12, locals=3, **EVERYTHING),
    center(24),
]


@pytest.mark.parametrize("views", FACTORIES, ids=str)
@pytest.mark.parametrize("channels", [1, 3, 5])
def test_views_are_a_function_of_the_items(views, channels):
    images, sizes = batch(8, channels)
    ids = torch.arange(8) + 40
    whole = views(images, sizes, Dice(0, 0, ids))
    again = views(images, sizes, Dice(0, 0, ids))
    order = torch.tensor([3, 0, 7, 4, 1, 6, 2, 5])
    shuffled = views(images[order], sizes[order], Dice(0, 0, ids[order]))
    halves = [views(images[h], sizes[h], Dice(0, 0, ids[h])) for h in (slice(0, 4), slice(4, 8))]
    one = views(images[:1], sizes[:1], Dice(0, 0, ids[:1]))
    for v, x in enumerate(whole):
        size = getattr(views, "local_size", views.size) if v > 1 else views.size
        assert x.shape == (8, channels, size, size)
        assert x.dtype == torch.float32
        assert -2.00001 <= x.min() < x.max() <= 2.00001
        assert torch.equal(x, again[v])
        torch.testing.assert_close(x[order], shuffled[v], atol=1e-5, rtol=0)
        torch.testing.assert_close(x, torch.cat([h[v] for h in halves]), atol=1e-5, rtol=0)
        torch.testing.assert_close(x[:1], one[v], atol=1e-5, rtol=0)


def test_views_differ_between_views_epochs_and_seeds():
    images, sizes = batch()
    ids = torch.arange(8)
    a, b = two_crops()(images, sizes, Dice(0, 0, ids))
    c, _ = two_crops()(images, sizes, Dice(0, 1, ids))
    d, _ = two_crops()(images, sizes, Dice(1, 0, ids))
    for x, y in [(a, b), (a, c), (a, d)]:
        assert ((x - y).abs().amax(dim=(1, 2, 3)) > 0.1).all()


@pytest.mark.parametrize("views", [two_crops(16, **EVERYTHING), center(16)], ids=str)
def test_padding_is_never_seen(views):
    images, _ = batch(6, h=40, w=40)
    sizes = torch.tensor([[40, 40], [17, 40], [40, 9], [5, 7], [1, 1], [30, 31]])
    padded = images.clone()
    for i, (h, w) in enumerate(sizes.tolist()):
        padded[i, :, h:], padded[i, :, :, w:] = 0, 0
    together = views(padded, sizes, Dice(0, 0, torch.arange(6)))
    for i, (h, w) in enumerate(sizes.tolist()):
        alone = views(images[i : i + 1, :, :h, :w], sizes[i : i + 1], Dice(0, 0, torch.tensor([i])))
        for x, y in zip(together, alone, strict=True):
            torch.testing.assert_close(x[i : i + 1], y, atol=1e-5, rtol=0)


def test_float_images_give_the_same_views():
    images, sizes = batch()
    ids = torch.arange(8)
    for x, y in zip(
        two_crops()(images, sizes, Dice(0, 0, ids)),
        two_crops()(images / 255, sizes, Dice(0, 0, ids)),
        strict=True,
    ):
        torch.testing.assert_close(x, y, atol=1e-4, rtol=0)


def test_autocast_does_not_reach_the_views():
    images, sizes = batch()
    for views in FACTORIES:
        plain = views(images, sizes, dice(8))
        with torch.autocast("cpu", dtype=torch.bfloat16):
            cast = views(images, sizes, dice(8))
        assert all(torch.equal(x, y) for x, y in zip(plain, cast, strict=True))


def test_nothing_waits_for_the_device():
    """Fake tensors hold no values, so anything that reads one (`.item()`, a mask as index) raises."""
    with FakeTensorMode():
        images, sizes = torch.empty(4, 3, 32, 32, dtype=torch.uint8), torch.empty(4, 2, dtype=torch.int64)
        for views in FACTORIES:
            for x in views(images, sizes, Dice(0, 0, torch.empty(4, dtype=torch.int64))):
                assert x.shape[:2] == (4, 3)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_the_device_does_not_matter():
    images, sizes = batch()
    ids = torch.arange(8)
    assert torch.equal(Dice(0, 0, ids).bits(99), Dice(0, 0, ids.cuda()).bits(99).cpu())
    on_device = images.cuda(), sizes.cuda(), Dice(0, 0, ids.cuda())
    for views in FACTORIES:
        torch.cuda.set_sync_debug_mode("error")
        there = views(*on_device)
        torch.cuda.set_sync_debug_mode("default")
        for x, y in zip(views(images, sizes, Dice(0, 0, ids)), there, strict=True):
            assert ((x - y.cpu()).abs() > 1e-3).float().mean() < 1e-3  # a crop may round to another pixel


@pytest.mark.parametrize(
    ("h", "w", "scale", "ratio"),
    [
        (32, 32, (0.08, 1.0), (3 / 4, 4 / 3)),
        (48, 120, (0.08, 1.0), (3 / 4, 4 / 3)),
        (200, 40, (0.2, 1.0), (3 / 4, 4 / 3)),  # often no draw fits
        (12, 90, (0.5, 1.0), (0.5, 2.0)),  # never
    ],
)
def test_boxes_are_distributed_as_in_torchvision(h, w, scale, ratio):
    transforms = pytest.importorskip("torchvision.transforms")
    n = 3000
    ours = random_boxes(torch.tensor([[h, w]]).expand(n, 2), dice(n), scale, ratio)
    image = torch.empty(3, h, w)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        draw = transforms.RandomResizedCrop.get_params
        theirs = torch.tensor([draw(image, list(scale), list(ratio)) for _ in range(n)])
    for name, of in {
        "area": lambda b: b[:, 2] * b[:, 3],
        "ratio": lambda b: b[:, 3] / b[:, 2],
        "top": lambda b: b[:, 0],
        "left": lambda b: b[:, 1],
        "right": lambda b: b[:, 1] + b[:, 3],
    }.items():
        assert stats.ks_2samp(of(ours).numpy(), of(theirs).numpy()).pvalue > 1e-3, name
    assert (ours[:, :2] >= 0).all()
    assert (ours[:, :2] + ours[:, 2:] <= torch.tensor([h, w])).all()
    assert (ours[:, 2:] >= 1).all()


def test_boxes_of_tiny_images():
    sizes = torch.tensor([[1, 1], [1, 300], [300, 1], [2, 1]])
    for ratio in [(3 / 4, 4 / 3), (3.0, 4.0)]:
        boxes = random_boxes(sizes, dice(4), (0.08, 1.0), ratio)
        assert (boxes[:, 2:] >= 1).all()
        assert (boxes[:, :2] + boxes[:, 2:] <= sizes).all()


def test_every_knob_does_its_part():
    """On one plain crop, each knob alone gives what its op gives; each chance is met."""
    n = 400
    images, sizes = batch(n, h=16, w=16)
    off = dict.fromkeys(["flip", "jitter", "grey", "blur"], 0.0)
    x = images / 255

    def first(**knobs):
        views = two_crops(16, scale=(1.0, 1.0), ratio=(1.0, 1.0), **{**off, **knobs})
        return views.pictures(images, sizes, dice(n))[0]

    def share(seen, expected):
        changed = (seen - x).abs().amax(dim=(1, 2, 3)) > 1e-4
        torch.testing.assert_close(seen[changed], expected[changed], atol=1e-5, rtol=0)
        return changed.float().mean().item()

    always = torch.ones(n, dtype=torch.bool)
    torch.testing.assert_close(first(), x)
    assert share(first(flip=0.5), x.flip(3)) == pytest.approx(0.5, abs=0.1)
    assert share(first(grey=0.2), ops.grey(x, always)) == pytest.approx(0.2, abs=0.1)
    assert share(first(solarize=0.3), ops.solarize(x, 0.5, always)) == pytest.approx(0.3, abs=0.1)
    assert share(first(invert=0.6), 1 - x) == pytest.approx(0.6, abs=0.1)
    assert share(first(sobel=0.4), ops.sobel(x, always)) == pytest.approx(0.4, abs=0.1)

    for knobs, chance in [
        ({"jitter": 0.8}, 0.8),
        ({"blur": 0.5}, 0.4),  # sigma below 0.2 changes nothing
        ({"turn": 10.0}, 1.0),
        ({"quarter_turns": True}, 0.75),
    ]:
        changed = (first(**knobs) - x).abs().amax(dim=(1, 2, 3)) > 1e-3
        assert changed.float().mean().item() == pytest.approx(chance, abs=0.1)

    seen = first(cutout=0.5)
    filled = (seen == 0.5).all(1).flatten(1).sum(1)  # x holds no 0.5: 255 is odd
    assert (filled > 0).float().mean().item() == pytest.approx(0.5, abs=0.1)
    assert filled.max() == 64
    assert filled[filled > 0].min() >= 16
    assert torch.equal(random_squares(dice(n), 16, 0.0)[:, 2:], torch.zeros(n, 2, dtype=torch.int64))


def test_jitter_reaches_as_far_as_it_says():
    images = torch.full((N // 10, 1, 4, 4), 100, dtype=torch.uint8)
    knobs = {"jitter": 1.0, "contrast": 0.0, "flip": 0.0, "grey": 0.0, "blur": 0.0}
    views = two_crops(4, strength=0.5, brightness=0.8, **knobs)
    factor = views.pictures(images, torch.full((len(images), 2), 4), dice(len(images)))[0][:, 0, 0, 0] * 255 / 100
    assert stats.kstest(factor.numpy(), "uniform", args=(0.6, 0.8)).pvalue > 1e-3


def test_chances_of_each_view():
    """BYOL's asymmetric pair: blur in 1 and 0.1, solarize in 0 and 0.2; further views as the last."""
    n = 500
    images, sizes = batch(n, h=8, w=8)
    plain = {"flip": 0, "jitter": 0, "grey": 0, "ratio": (1, 1)}

    def changed(**knobs):
        whole = {"global_scale": (1, 1), "local_scale": (1, 1), "local_size": 8, "locals": 2}
        views = multi_crop(8, **whole, **plain, **knobs).pictures(images, sizes, dice(n))
        return [((x - images / 255).abs().amax(dim=(1, 2, 3)) > 1e-4).float().mean().item() for x in views]

    assert changed(blur=0, solarize=[0, 0.2]) == pytest.approx([0, 0.2, 0.2, 0.2], abs=0.06)
    assert changed(blur=(1, 0.1)) == pytest.approx([0.97, 0.1, 0.1, 0.1], abs=0.06)
    assert changed(blur=0) == [0, 0, 0, 0]


def test_knobs_survive_json():
    views = multi_crop(24, local_size=12, **EVERYTHING)
    knobs = json.loads(json.dumps(vars(views)))
    images, sizes = batch(2)
    for x, y in zip(views(images, sizes, dice(2)), multi_crop(**knobs)(images, sizes, dice(2)), strict=True):
        assert torch.equal(x, y)


def test_center():
    images, _ = batch(3, h=40, w=60)
    sizes = torch.tensor([[40, 60], [40, 20], [24, 24]])
    (x,) = center(24).pictures(images, sizes)
    expected = ops.crop_resize(images, torch.tensor([[0, 10, 40, 40], [10, 0, 20, 20], [0, 0, 24, 24]]), 24)
    torch.testing.assert_close(x, expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(x[2], images[2, :, :24, :24] / 255)
    torch.testing.assert_close(center(24)(images, sizes)[0], ops.normalize(x))


def test_blur_kernel_is_a_tenth_made_odd():
    assert [blur_kernel(s) for s in (4, 32, 96, 224)] == [3, 3, 9, 23]


@pytest.mark.parametrize(
    ("views", "knobs", "word"),
    [
        (two_crops, {"flip": 1.5}, "flip=1.5"),
        (two_crops, {"blur": (0.5, -1)}, "blur=(0.5, -1)"),
        (two_crops, {"size": 2}, "2 pixels"),
        (two_crops, {"flip": (0.5, 1)}, "flip=(0.5, 1)"),
        (two_crops, {"blur": ()}, "blur=()"),
        (two_crops, {"scale": (0.5, 0.2)}, "scale=(0.5, 0.2)"),
        (two_crops, {"scale": 0.2}, "scale=0.2"),
        (two_crops, {"scale": (0.2, 1.5)}, "scale=(0.2, 1.5)"),
        (two_crops, {"hue": (0, 1)}, "hue=(0, 1)"),
        (two_crops, {"ratio": (0, 1)}, "ratio=(0, 1)"),
        (two_crops, {"strength": -1}, "strength=-1"),
        (multi_crop, {"local_size": 3}, "3 pixels"),
        (multi_crop, {"local_scale": (0, 0.4)}, "0.4"),
        (center, {"size": 0}, "0 pixels"),
    ],
)
def test_wrong_knobs_are_told(views, knobs, word):
    with pytest.raises(UserError) as error:
        views(**knobs)
    assert word in str(error.value)
    assert "\n" not in str(error.value)


def test_views_of_real_photos_agree_with_torchvision():
    """Statistics of SimCLR's views of 100 CIFAR photos, against those of torchvision's random transforms."""
    v2 = pytest.importorskip("torchvision.transforms.v2")
    archive = Path(os.environ.get("TWOVIEWS_DATA", "../shared/data")) / "images/cifar10_jpeg.zip"
    if not archive.exists():
        pytest.skip(f"no {archive}; set TWOVIEWS_DATA")
    from PIL import Image

    with ZipFile(archive) as photos:
        names = sorted(n for n in photos.namelist() if n.startswith("test/") and n.endswith(".jpg"))[::100]
        images = torch.stack([v2.functional.pil_to_tensor(Image.open(photos.open(n)).convert("RGB")) for n in names])
    sizes = torch.full((len(images), 2), 32)
    jitter = v2.RandomApply([v2.ColorJitter(0.8, 0.8, 0.8, 0.2)], p=0.8)
    theirs = v2.Compose(
        [
            v2.ToDtype(torch.float32, scale=True),
            v2.RandomResizedCrop(32, antialias=True),
            v2.RandomHorizontalFlip(),
            jitter,
            v2.RandomGrayscale(0.2),
            v2.RandomApply([v2.GaussianBlur(3, (0.1, 2.0))], p=0.5),
        ]
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        expected = torch.stack([theirs(x) for x in images])
    ours = two_crops().pictures(images, sizes, dice(len(images)))[0]
    for name, of in {
        "mean": lambda x: x.mean(dim=(1, 2, 3)),
        "spread": lambda x: x.std(dim=(1, 2, 3)),
        "colour": lambda x: (x - x.mean(1, keepdim=True)).abs().mean(dim=(1, 2, 3)),
        "sharpness": lambda x: x.diff(dim=3).abs().mean(dim=(1, 2, 3)),
    }.items():
        assert stats.ks_2samp(of(ours).numpy(), of(expected).numpy()).pvalue > 1e-3, name


def test_threads_that_draw_at_once_leave_their_number_as_it_was():
    before, seen = torch.get_num_threads(), []

    def draw():
        with one_thread():
            seen.append(torch.get_num_threads())
        seen.append(torch.get_num_threads())

    torch.set_num_threads(3)
    try:
        other = threading.Thread(target=draw)
        with one_thread():
            other.start()
            other.join(0.2)  # it waits for its turn
        other.join()
        assert seen == [1, 3]
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
