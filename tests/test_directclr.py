"""DirectCLR and SimCLR's three heads against their formulas, and what the loss leaves to the residual path."""

import math
from functools import partial

import pytest
import torch
from conftest import Numbers, Tiny
from torch import nn

from twoviews import calls
from twoviews.data.digits import digits
from twoviews.encoders.small import small
from twoviews.errors import UserError
from twoviews.methods import DirectCLR, SimCLR
from twoviews.run import Run
from twoviews.types import Batch


def batch(views=2, rows=8):
    g = torch.Generator().manual_seed(3)
    x = torch.randn(rows, 5, generator=g, dtype=torch.float64)
    noise = [torch.randn(rows, 5, generator=g, dtype=torch.float64) for _ in range(views)]
    return Batch([x + 0.3 * n for n in noise], torch.arange(rows))


def images(seed=0):
    g = torch.Generator().manual_seed(seed)
    return Batch([torch.rand(6, 3, 16, 16, generator=g) for _ in range(2)], torch.arange(6))


def width(dim):
    encoder = nn.Identity()
    encoder.dim = dim
    return encoder


def cosine(a, b):
    return float(a @ b) / math.sqrt(float(a @ a) * float(b @ b))


def test_directclr_is_the_formula():
    """Both directions; a query's negatives are the other items' keys and nothing of its own view."""
    method, one = DirectCLR(Tiny(), dim=3, temperature=0.3).double(), batch()
    r = [method.encoder(v)[:, :3].detach() for v in one.views]
    losses = []
    for q, k in (r, r[::-1]):
        for i in range(8):
            terms = [math.exp(cosine(q[i], k[j]) / 0.3) for j in range(8)]
            losses.append(-math.log(terms[i] / sum(terms)))
    assert method(one).loss.item() == pytest.approx(sum(losses) / 16, rel=1e-12)


def test_the_loss_does_not_see_the_other_dimensions():
    method, one = DirectCLR(Tiny(), dim=4).double(), batch()
    before = method(one)
    with torch.no_grad():
        method.encoder.net[-1].weight[4:] += 1
    after = method(one)
    assert torch.equal(before.loss, after.loss)
    assert torch.equal(before.z, after.z)
    assert not torch.equal(before.h, after.h)


def test_the_other_dimensions_learn_through_the_residual_path_alone():
    torch.manual_seed(0)
    method = DirectCLR(small(width=4), dim=5)
    method(images()).loss.backward()
    last = method.encoder.stages[-1]  # y + f(y): f's rows past dim reach nothing, y's reach f
    assert not last.conv2.weight.grad[5:].any()
    assert last.conv2.weight.grad[:5].flatten(1).any(1).all()
    assert last.conv1.weight.grad.flatten(1).any(1).all()

    plain = DirectCLR(Tiny(), dim=4)  # a last layer without a shortcut
    plain(Numbers().batch(0)).loss.backward()
    assert not plain.encoder.net[-1].weight.grad[4:].any()


@pytest.mark.parametrize(("wide", "dim"), [(2048, 360), (512, 90), (128, 22), (6, 2)])
def test_the_default_is_the_papers_share(wide, dim):
    assert DirectCLR(width(wide)).dim == dim


@pytest.mark.parametrize("dim", [1, 0, -3, 7])
def test_dim_must_fit_the_encoder(dim):
    with pytest.raises(UserError, match=f"dim must be from 2 to 6, the encoder's width, got {dim}: leave it out for 2"):
        DirectCLR(Tiny(), dim=dim)


def test_directclr_wants_two_views():
    with pytest.raises(UserError, match="compares two views, got 3: choose views=two_crops"):
        DirectCLR(Tiny()).double()(batch(views=3))


@pytest.mark.parametrize(
    ("make", "views"),
    [
        (partial(DirectCLR, dim=4), 2),
        (SimCLR, 2),
        (SimCLR, 3),
        (partial(SimCLR, hidden=0), 2),
        (partial(SimCLR, dim=0), 4),
    ],
)
def test_contrast_says_what_was_compared(make, views):
    method, one = make(Tiny(), temperature=0.3).double().eval(), batch(views)
    out = method(one)
    assert torch.equal(out.h, method.encoder(one.views[0]))
    torch.testing.assert_close(out.z, method.project(out.h))
    torch.testing.assert_close(out.contrast.positive, method.project(method.encoder(one.views[1])))
    assert (out.contrast.negatives, out.contrast.temperature) == (None, 0.3)
    same = Batch([one.views[0][:1].expand(8, 5)] * views, one.ids)  # nothing can be told apart
    assert method(same).loss.item() == pytest.approx(out.contrast.chance, rel=1e-12)


@pytest.mark.parametrize(
    ("settings", "layers"),
    [
        ({"dim": 0}, []),
        ({"dim": 0, "hidden": 0}, []),
        ({"dim": 4, "hidden": 0}, [(4, 6)]),
        ({"dim": 4, "hidden": 9}, [(9, 6), (4, 9)]),
    ],
)
def test_simclr_with_each_head_is_the_formula(settings, layers):
    method, one = SimCLR(Tiny(), temperature=0.5, **settings).double().eval(), batch()
    assert [tuple(p.shape) for p in method.head.parameters() if p.ndim == 2] == layers
    z = torch.cat([method.head(method.encoder(v)) for v in one.views]).detach()  # (2 B, D)
    losses = []
    for i in range(16):
        positive = math.exp(cosine(z[i], z[(i + 8) % 16]) / 0.5)
        others = sum(math.exp(cosine(z[i], z[j]) / 0.5) for j in range(16) if j % 8 != i % 8)
        losses.append(-math.log(positive / (positive + others)))
    assert method(one).loss.item() == pytest.approx(sum(losses) / 16, rel=1e-12)


def test_without_a_head_z_is_h_made_unit():
    method, one = SimCLR(Tiny(), dim=0).double(), batch()
    h = method.encoder(one.views[0])
    torch.testing.assert_close(method(one).z, h / h.norm(dim=1, keepdim=True), rtol=1e-12, atol=0)
    assert not list(method.head.parameters())


@pytest.mark.parametrize("settings", [{"dim": -1}, {"hidden": -8}])
def test_a_head_cannot_have_a_negative_width(settings):
    with pytest.raises(UserError, match="must be 0 or more"):
        SimCLR(Tiny(), **settings)


@pytest.mark.parametrize(
    "settings",
    [{"method.dim": 0}, {"method.hidden": 0}, {"method": "directclr"}, {"method": "directclr", "method.dim": 9}],
)
def test_each_is_a_setting_of_a_run_and_learns(settings):
    run = Run(data=partial(digits, items=20), encoder=partial(small, width=8), method=SimCLR)
    run = Run.from_json(run.override(settings).to_json())
    torch.manual_seed(0)
    method = calls.rebuild(calls.describe(run.method))(run.encoder())
    optimizer, one = torch.optim.Adam(method.parameters(), lr=0.01), images()
    losses = []
    for _ in range(30):
        loss = method(one).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]
