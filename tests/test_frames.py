"""frame_net: each frame alone, what was seen until then, and CPC on it, the method unchanged."""

import pytest
import torch

from twoviews.encoders.frames import frame_net
from twoviews.errors import UserError
from twoviews.methods.cpc import CPC
from twoviews.recompute import lean
from twoviews.types import Batch

KINDS = [
    {"frame": "conv", "stem": 4},
    {"frame": "conv", "stem": 4, "context": "attention", "layers": 2},
    {"frame": "conv", "stem": 4, "context": "conv"},
    {"frame": "vit", "size": "test", "patch": 8},
]


def build(**settings):
    torch.manual_seed(0)
    return frame_net(**{"channels": 2, "image": 16, "width": 12, "dim": 8} | settings)


def clips(rows=3, frames=6, seed=0):
    return torch.randn(rows, 2, frames, 16, 16, generator=torch.Generator().manual_seed(seed))


kinds = pytest.mark.parametrize("settings", KINDS, ids=str)


@kinds
def test_shapes_and_what_they_are_made_of(settings):
    net, x = build(**settings).eval(), clips()
    seen = net.places(x)
    assert seen.z.shape == (3, 6, 1, net.width)
    assert seen.c.shape == (3, 6, 1, net.context)
    assert seen.seen.shape == (3, 6, 1)
    assert seen.seen.all()
    torch.testing.assert_close(net.tokens(x), seen.c[:, :, 0])
    torch.testing.assert_close(net(x), seen.c.mean((1, 2)))
    assert net(x).shape == (3, net.dim)


@kinds
def test_z_is_of_its_frame_alone_and_c_of_the_past_alone(settings):
    net, x = build(**settings).double(), clips().double()
    x.requires_grad_()
    seen = net.places(x)
    for which, value in (("z", seen.z), ("c", seen.c)):
        (gradient,) = torch.autograd.grad(value[1, 3].square().sum(), x, retain_graph=True)
        met = gradient.abs().sum((1, 3, 4)) > 0  # (B, T)
        now = [False, False, False, True, False, False] if which == "z" else [True] * 4 + [False] * 2
        assert met.tolist() == [[False] * 6, now, [False] * 6]


@kinds
def test_rows_and_lengths_do_not_matter_to_each_other(settings):
    net, x = build(**settings).double(), clips().double()
    whole = net.tokens(x)
    torch.testing.assert_close(torch.cat([net.tokens(row[None]) for row in x]), whole)
    torch.testing.assert_close(net.tokens(x[:, :, :4]), whole[:, :4])


def test_where_a_thing_is_reaches_z():
    """A mean over places would give nearly one vector for a square wherever it is."""
    net = build(frame="conv", stem=4)
    x = torch.zeros(1, 2, 2, 16, 16)
    x[:, :, 0, 2:6, 2:6] = x[:, :, 1, 10:14, 10:14] = 1
    a, b = net.frames(x)[0]
    assert (a - b).norm() > 0.2 * a.norm()


def test_cpc_learns_frames_that_follow_each_other():
    """A square goes right or left, so what comes next is known from two frames and not from one."""
    net = build(frame="conv", stem=8, width=32, dim=32)
    method = CPC(net, steps=2)
    optimizer = torch.optim.Adam(method.parameters(), lr=3e-3)
    for step in range(60):
        g = torch.Generator().manual_seed(step)
        x, way = torch.zeros(16, 2, 5, 16, 16), torch.randint(0, 2, (16,), generator=g) * 8 - 4
        for i, place in enumerate(torch.randint(0, 16, (16,), generator=g).tolist()):
            for t in range(5):
                columns = (place + int(way[i]) * t + torch.arange(4)) % 16
                x[i, :, t, 4:8, columns] = 1
        out = method(Batch([x + 0.05 * torch.randn(x.shape, generator=g)], torch.arange(16)))
        optimizer.zero_grad()
        out.loss.backward()
        optimizer.step()
        if step == 0:
            before = float(out.logs["bound_1"])
    assert all(p.grad.isfinite().all() for p in method.parameters())
    assert out.z.shape == (16, 32)
    assert float(out.logs["bound_1"]) > before + 1


def test_less_memory_gives_the_same_gradients():
    method, x = CPC(build(frame="conv", stem=4), steps=2).double(), clips(4).double()
    method(Batch([x], torch.arange(4))).loss.backward()
    whole = [p.grad.clone() for p in method.parameters()]
    method.zero_grad()
    with lean(method, micro_batch=2):
        method(Batch([x], torch.arange(4))).loss.backward()
    torch.testing.assert_close([p.grad for p in method.parameters()], whole)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"frame": "resnet"}, "frame"),
        ({"context": "lstm"}, "context"),
        ({"width": 0}, "encoder.width"),
        ({"stem": 0}, "stem"),
        ({"image": 20}, "multiple of 8"),
    ],
)
def test_settings_that_are_not_allowed(settings, told):
    with pytest.raises(UserError, match=told):
        build(**settings)


@pytest.mark.parametrize(("shape", "told"), [((2, 2, 16, 16), "clips"), ((2, 2, 3, 24, 24), "views.size")])
def test_clips_that_do_not_fit(shape, told):
    with pytest.raises(UserError, match=told):
        build(frame="conv").places(torch.zeros(shape))
