"""MViT against torchvision's, number for number; away from its size against the definition; Video Swin's contract."""

import math
import sys

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from twoviews.encoders import convert
from twoviews.encoders.convert_mvit import SLOWFAST_MVIT, TORCHVISION_MVIT
from twoviews.encoders.convert_rows import found
from twoviews.encoders.mvit import PooledAttention, mvit, strided
from twoviews.encoders.swin3d import swin3d
from twoviews.errors import UserError

FULL = {1: ("base", "mvit_v1_b", 36_610_672), 2: ("small", "mvit_v2_s", 34_537_744)}


def randomised(model: nn.Module, seed: int = 0) -> nn.Module:
    """Every parameter from a normal of 0.2 (kernels and maps narrower, as is their fan-in), norms about 1."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for name, p in model.named_parameters():
            p.normal_(0, min(0.2, p[0].numel() ** -0.5) if p.ndim > 1 and "pos" not in name else 0.2)
            if "norm" in name and name.endswith("weight"):
                p.add_(1)
    return model.eval()


def far(a: torch.Tensor, b: torch.Tensor) -> float:
    return ((a - b).abs().max() / b.abs().max()).item()


def theirs_of(version: int, frames: int = 8, image: int = 32):
    """torchvision's MViT with the settings of our size "test"."""
    video = pytest.importorskip("torchvision.models.video.mvit")
    wide = (
        [(32, 64), (64, 128), (128, 128), (128, 128)] if version == 1 else [(32, 32), (32, 64), (64, 128), (128, 128)]
    )
    strides = [1, 2, 2, 1]
    blocks = [
        video.MSBlockConfig(
            num_heads=heads,
            input_channels=a,
            output_channels=b,
            kernel_q=[3, 3, 3] if version == 2 or q > 1 else [],
            kernel_kv=[3, 3, 3],
            stride_q=[1, q, q] if version == 2 or q > 1 else [],
            stride_kv=[1, kv, kv],
        )
        for heads, (a, b), q, kv in zip((1, 2, 4, 4), wide, strides, (4, 2, 1, 1), strict=True)
    ]
    new = version == 2
    model = video.MViT((image, image), frames, blocks, new, False, new, new, num_classes=3)
    model.head = nn.Identity()
    return model


@pytest.mark.parametrize("version", [1, 2])
def test_the_published_sizes_are_torchvisions(version):
    video = pytest.importorskip("torchvision.models.video")
    size, name, parameters = FULL[version]
    theirs = randomised(getattr(video, name)())
    ours = mvit(version=version, size=size).eval()
    report = convert.load_into(ours, theirs.state_dict())
    assert report.left == ["head.1.bias", "head.1.weight"]
    assert sum(p.numel() for p in ours.parameters()) + 400 * (768 + 1) == parameters
    theirs.head = nn.Identity()
    x = torch.randn(1, 3, 16, 224, 224)
    with torch.no_grad():
        assert far(ours(x), theirs(x)) < 2e-5


@pytest.mark.parametrize("version", [1, 2])
def test_gradients_are_torchvisions(version):
    theirs = randomised(theirs_of(version)).double()
    ours = mvit(3, 8, 32, version, "test").eval().double()
    convert.load_into(ours, theirs.state_dict())
    x = torch.randn(2, 3, 8, 32, 32, dtype=torch.float64, requires_grad=True)
    y, z = ours(x), theirs(x)
    assert far(y, z) < 1e-12
    (gx,) = torch.autograd.grad(y.square().sum(), x, retain_graph=True)
    (hx,) = torch.autograd.grad(z.square().sum(), x, retain_graph=True)
    assert far(gx, hx) < 1e-10
    y.square().sum().backward()
    z.square().sum().backward()
    want = dict(theirs.named_parameters())
    rows = {name: found(TORCHVISION_MVIT, name)[1][0] for name, _ in ours.named_parameters()}
    assert set(rows.values()) == set(want)  # no weight of theirs is without one of ours
    for name, p in ours.named_parameters():
        grad = want[rows[name]].grad
        assert (p.grad.flatten() - grad.flatten()).abs().max() < 1e-8 * max(1, grad.abs().max()), name


@pytest.mark.parametrize("version", [1, 2])
def test_weights_go_there_and_back(version):
    theirs = randomised(theirs_of(version)).state_dict()
    ours = mvit(3, 8, 32, version, "test")
    assert convert.load_into(ours, theirs).origin == "torchvision mvit"
    again = convert.back(ours, {name: torch.zeros_like(x) for name, x in theirs.items()})
    assert all(torch.equal(again[name], theirs[name]) for name in theirs)
    slow = {found(SLOWFAST_MVIT, name)[1][0]: x for name, x in ours.state_dict().items()}
    fresh = mvit(3, 8, 32, version, "test")
    assert convert.load_into(fresh, slow).origin == "slowfast mvit"
    assert all(torch.equal(x, ours.state_dict()[name]) for name, x in fresh.state_dict().items())


def counted(encoder, x: torch.Tensor) -> float:
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        encoder.tokens(x)
    return counter.get_total_flops() / 2e9


def test_compute_and_sizes_are_the_papers():
    """Parameters with a head of 400 classes, multiply-accumulates of a clip; the head's are in neither."""
    with torch.device("meta"):
        million = {
            (version, size): (sum(p.numel() for p in e.parameters()) + 400 * (e.dim + 1)) / 1e6
            for version, size, frames, image in (
                (2, "base", 32, 224),
                (2, "large", 40, 312),
            )
            for e in [mvit(3, frames, image, version, size)]
        }
        clip = torch.empty(1, 3, 16, 224, 224)
        first, second = (counted(mvit(version=v, size=FULL[v][0]), clip) for v in (1, 2))
    assert million[2, "base"] == pytest.approx(51.2, abs=0.1)
    assert million[2, "large"] == pytest.approx(217.6, rel=1e-3)
    assert first == pytest.approx(70.6, rel=5e-3)
    assert second - folded() == pytest.approx(64.2, rel=5e-3)


def folded() -> float:
    """10^9 multiply-accumulates that relative positions as channels of q, k and v add in mvit_v2_s (padded to 8)."""
    more, grid = 0, (8, 56, 56)
    for s, count in enumerate((1, 2, 11, 2)):
        for block in range(count):
            q = strided(grid, 2 if s and not block else 1)
            k = strided(grid, 2 ** (3 - s))
            extra = math.ceil((96 + sum(k)) / 8) * 8 - 96
            more += 2**s * 2 * (1 + math.prod(q)) * (1 + math.prod(k)) * extra
            grid = q
    return more / 1e9


def stretched(table: torch.Tensor, rows: int) -> torch.Tensor:
    """A table read linearly at `rows` places, pixel centres apart, its ends held."""
    n = len(table)
    out = []
    for i in range(rows):
        at = min(max((i + 0.5) * n / rows - 0.5, 0), n - 1)
        low = min(int(at), n - 2) if n > 1 else 0
        out.append(table[low] + (at - low) * (table[min(low + 1, n - 1)] - table[low]))
    return torch.stack(out)


def by_definition(self, q, k, v, grid, seen):
    """Version 2's attention, its bias written out pair by pair."""
    places = [[(t, h, w) for t in range(g[0]) for h in range(g[1]) for w in range(g[2])] for g in (grid, seen)]
    bias = q.new_zeros(len(q), self.heads, q.shape[1], k.shape[1])
    for axis, name in enumerate("thw"):
        n, m = grid[axis], seen[axis]
        table = stretched(getattr(self, f"rel_{name}"), 2 * max(n, m) - 1)
        rows = [
            [math.floor(i[axis] * max(m / n, 1) + (m - 1 - j[axis]) * max(n / m, 1) + 1e-9) for j in places[1]]
            for i in places[0]
        ]
        bias[:, :, 1:, 1:] += torch.einsum("bqhd,qkd->bhqk", q[:, 1:], table[torch.tensor(rows)])
    scores = torch.einsum("bqhd,bkhd->bhqk", q, k) * q.shape[-1] ** -0.5 + bias
    return torch.einsum("bhqk,bkhd->bqhd", scores.softmax(-1), v)


@pytest.mark.parametrize("shape", [(8, 32, 32), (5, 24, 44), (1, 32, 20), (12, 9, 37)])
def test_other_lengths_and_sizes_are_the_definition(monkeypatch, shape):
    encoder = randomised(mvit(3, 8, 32, 2, "test")).double()
    x = torch.randn(2, 3, *shape, dtype=torch.float64)
    with torch.no_grad():
        got, tokens = encoder(x), encoder.tokens(x)
        monkeypatch.setattr(PooledAttention, "attend_near", by_definition)
        want = encoder.encode(x)
    assert far(got, want[:, 0]) < 1e-12  # the class token alone, and with all others
    assert far(tokens, want[:, 1:]) < 1e-12
    grid = encoder.grid(x)
    assert tokens.shape[1] == math.prod(strided(strided(grid, 2), 2))


def test_version_1_resizes_its_positions():
    encoder = randomised(mvit(3, 8, 32, 1, "test")).double()
    other = mvit(3, 14, 48, 1, "test").double().eval()
    state = encoder.state_dict()
    places = state["pos"].unflatten(1, (8, 8)).permute(0, 3, 1, 2)
    places = nn.functional.interpolate(places, (12, 12), mode="bicubic", antialias=True)
    state["pos"] = places.permute(0, 2, 3, 1).flatten(1, 2)
    state["pos_time"] = stretched(state["pos_time"][0], 7)[None]
    other.load_state_dict(state)
    x = torch.randn(2, 3, 14, 48, 48, dtype=torch.float64)
    with torch.no_grad():
        assert far(encoder(x), other(x)) < 1e-12
        assert not torch.equal(encoder(x), encoder(x.flip(2)))  # the order of frames matters


@pytest.mark.parametrize("version", [1, 2])
def test_photos_are_clips_of_one_frame_and_items_do_not_meet(version):
    encoder = randomised(mvit(1, 8, 32, version, "test"))
    x = torch.randn(3, 1, 32, 40)
    with torch.no_grad():
        y = encoder(x)
        assert torch.equal(y, encoder(x[:, :, None]))
        assert far(encoder(x[1:2]), y[1:2]) < 1e-5
        with torch.autocast("cpu", torch.bfloat16):
            assert far(encoder(x).float(), y) < 3e-2
    assert y.shape == (3, encoder.dim)


def test_drop_path_leaves_out_whole_examples_in_training_alone():
    encoder = randomised(mvit(1, 4, 16, 2, "test", drop_path=0.6))
    x = torch.randn(1, 1, 4, 16, 16).expand(8, -1, -1, -1, -1)
    with torch.no_grad():
        assert far(encoder(x)[:1], encoder(x)[1:2]) < 1e-5
        assert len({tuple(row.tolist()) for row in encoder.train()(x)}) > 1


def test_wrong_names_are_one_line():
    with pytest.raises(UserError, match="unknown version '3'. Allowed: 1, 2"):
        mvit(version=3)
    with pytest.raises(UserError, match="unknown size of version 1 'large'. Allowed: base, test"):
        mvit(version=1, size="large")
    with pytest.raises(UserError, match=r"\(B, C, H, W\)"):
        mvit(3, 8, 32, 2, "test")(torch.zeros(3, 32, 32))


@pytest.mark.parametrize("shape", [(8, 32, 32), (5, 30, 45), (1, 33, 17)])
def test_swin_is_torchvisions_at_any_size(shape):
    swin = pytest.importorskip("torchvision.models.video.swin_transformer")
    theirs = randomised(swin.SwinTransformer3d([2, 4, 4], 32, [2, 2], [2, 4], [2, 4, 4], num_classes=3))
    ours = swin3d(size="test").eval()
    report = convert.load_into(ours, theirs.state_dict())
    assert report.left == ["head.bias", "head.weight"]
    theirs.head = nn.Identity()
    x = torch.randn(2, 3, *shape)
    with torch.no_grad():
        assert far(ours(x), theirs(x)) < 2e-6
        assert far(ours.tokens(x).mean(1), ours(x)) < 1e-6
    assert ours.dim == 64


@pytest.mark.parametrize(("size", "million"), [("tiny", 28.158070), ("small", 49.816678), ("base", 88.048984)])
def test_swins_published_sizes(size, million):
    pytest.importorskip("torchvision")
    with torch.device("meta"):
        encoder = swin3d(size=size)
    assert (sum(p.numel() for p in encoder.parameters()) + 400 * (encoder.dim + 1)) == round(million * 1e6)


def test_swin_reads_one_channel_and_photos():
    pytest.importorskip("torchvision")
    encoder = swin3d(channels=1, size="test").eval()
    x = torch.randn(2, 1, 24, 24)
    with torch.no_grad():
        assert torch.equal(encoder(x), encoder(x[:, :, None]))


def test_swin_without_torchvision_is_one_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchvision.models.video.swin_transformer", None)
    with pytest.raises(UserError, match="swin3d needs torchvision: pip install torchvision"):
        swin3d()
    with pytest.raises(UserError, match="unknown size 'huge'"):
        swin3d(size="huge")
