"""The encoder of patches: what each place knows, what it does not, and a run with it from data to page."""

import json
from functools import partial

import numpy as np
import pytest
import torch

from twoviews.build import build
from twoviews.data.dice import Dice
from twoviews.data.digits import digits
from twoviews.data.image import photos
from twoviews.data.patches import grid, patches
from twoviews.encoders import ENCODERS
from twoviews.encoders.patches import patch_net
from twoviews.errors import UserError
from twoviews.evaluate.embed import raw_pixels
from twoviews.evaluate.table import RAW, UNTRAINED, H
from twoviews.fit import fit
from twoviews.methods import CPC
from twoviews.optim import adamw
from twoviews.recipes.predicted import cpc_photos
from twoviews.run import Run
from twoviews.types import Batch

SMALL = {"width": 8, "dim": 32, "context": 24, "layers": 3}


def net(**more):
    torch.manual_seed(0)
    return patch_net(**{**SMALL, **more})


@pytest.mark.parametrize("channels", [1, 3, 5])
@pytest.mark.parametrize(("side", "stem"), [(8, 1), (10, 2), (33, 4)])
def test_contract(channels, side, stem):
    encoder = net(channels=channels, stem=stem).eval()
    x = torch.randn(2, 4, 5, channels, side, side)
    places, h, tokens = encoder.places(x), encoder(x), encoder.tokens(x)
    assert places.z.shape == (2, 4, 5, encoder.width)
    assert places.c.shape == (2, 4, 5, encoder.context)
    assert places.seen.shape == (2, 4, 5)
    assert places.seen.all()
    assert tokens.shape == (2, 20, encoder.dim)
    torch.testing.assert_close(h, tokens.mean(1))
    torch.testing.assert_close(tokens, places.z.flatten(1, 2))


def test_the_defaults_are_named_on_the_command_line():
    encoder = ENCODERS["patch_net"]()
    assert (encoder.width, encoder.context, encoder.dim) == (256, 256, 256)


def test_z_is_of_its_patch_alone():
    encoder = net().double()
    x = torch.randn(2, 3, 3, 3, 10, 10, dtype=torch.float64, requires_grad=True)
    z = encoder.places(x).z
    (slope,) = torch.autograd.grad(z[1, 2, 0].square().sum(), x)
    touched = slope.abs().sum((3, 4, 5)) > 0
    assert touched.nonzero().tolist() == [[1, 2, 0]]


def test_context_knows_its_row_and_those_above_and_nothing_else():
    """By gradients: every place of the rows above within reach, none below, none of another item."""
    encoder = net(layers=4).double()
    x = torch.randn(2, 5, 5, 3, 10, 10, dtype=torch.float64, requires_grad=True)
    c = encoder.places(x).c
    for r in range(5):
        for w in range(5):
            (slope,) = torch.autograd.grad(c[0, r, w].square().sum(), x, retain_graph=True)
            touched = slope.abs().sum((3, 4, 5)) > 0
            assert not touched[1].any()
            assert not touched[0, r + 1 :].any()
            near = (torch.arange(5) - w).abs() <= 4
            assert touched[0, : r + 1, near].all()


@pytest.mark.parametrize("layers", [0, 1, 2])
def test_each_layer_sees_a_row_further_up(layers):
    encoder = net(layers=layers).double()
    x = torch.randn(1, 5, 5, 3, 8, 8, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(encoder.places(x).c[0, 4, 2].square().sum(), x)
    touched = slope.abs().sum((3, 4, 5))[0] > 0
    assert touched.any(1).tolist() == [row >= 4 - layers for row in range(5)]


def test_what_is_planted_below_changes_nothing_above():
    encoder = net().eval()
    x = torch.randn(2, 5, 5, 3, 10, 10)
    other = x.clone()
    other[:, 3:] = 100 * torch.randn_like(x[:, 3:])
    with torch.no_grad():
        a, b = encoder.places(x).c, encoder.places(other).c
    assert torch.equal(a[:, :3], b[:, :3])
    assert not torch.isclose(a[:, 3:], b[:, 3:]).all(3).any()


def test_a_constant_patch_is_finite():
    encoder = net()
    x = torch.zeros(2, 3, 3, 3, 10, 10)
    places = encoder.places(x)
    places.c.sum().backward()
    assert places.z.isfinite().all()
    assert all(p.grad.isfinite().all() for p in encoder.parameters() if p.grad is not None)


def test_what_is_no_grid_and_no_width_is_refused():
    with pytest.raises(UserError, match="views=patches"):
        net()(torch.randn(2, 3, 32, 32))
    for name in ("width", "blocks", "stem", "dim", "context"):
        with pytest.raises(UserError, match=f"{name} must be at least 1"):
            patch_net(**{name: 0})


def test_raw_pixels_of_a_grid_are_the_mean_of_each_part():
    x = torch.rand(2, 4, 4, 3, 16, 16)
    h, z = raw_pixels(x)
    expected = x.unflatten(4, (8, 2)).unflatten(6, (8, 2)).mean((5, 7))  # 8 pixels a patch, so 32 a side
    assert z is None
    torch.testing.assert_close(h, expected.flatten(1))
    assert raw_pixels(torch.rand(2, 5, 5, 3, 10, 10))[0].shape == (2, 25 * 3 * 6 * 6)
    assert raw_pixels(torch.rand(2, 50, 50, 1, 4, 4))[0].shape == (2, 2500)


def a_run(method, **parts):
    data = partial(digits, items=96, size=20)
    return Run(
        data=data,
        test=partial(digits, split="test", items=40, size=20),
        views=partial(patches, size=20, grid=4, jitter=0.0),
        test_view=partial(grid, size=20, grid=4),
        encoder=partial(patch_net, width=8, dim=16, context=16, layers=2),
        method=method,
        optimizer=partial(adamw, lr=1e-3),
        **{"epochs": 4, "batch_size": 32, **parts},
    )


def test_a_run_from_digits_to_page(tmp_path):
    result = fit(a_run(partial(CPC, steps=2, first=2), watch=2), tmp_path / "run", quiet=True)
    assert {RAW, UNTRAINED, H} <= set(result.table.rows)
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    losses = [line["loss"] for line in lines if "loss" in line]
    assert losses[-1] < losses[0]
    assert any("knn" in line for line in lines)
    page = (tmp_path / "run" / "index.html").read_text()
    assert "its patches as training draws them" in page
    assert json.loads((tmp_path / "run" / "checkup.json").read_text())["h"]["dim"] == 16


def test_without_labels_two_draws_of_one_photo_are_measured(tmp_path):
    images = torch.randint(0, 256, (40, 3, 20, 20), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    run = a_run(partial(CPC, steps=2, first=2), epochs=1, batch_size=8)
    run = run.with_part("data", partial(photos, data=images.numpy())).with_part("test", None)
    result = fit(run, tmp_path / "run", quiet=True)
    assert result.table.rows[RAW]["retrieval"].n > 1


@pytest.mark.parametrize(("side", "count", "patch"), [(32, 5, 10), (64, 7, 16), (130, 7, 24)])
def test_the_recipe_follows_the_photos(side, count, patch):
    images = np.random.default_rng(0).integers(0, 256, (16, 3, side, side), np.uint8)
    run = cpc_photos(images)
    run = run.resolved(run.data())
    canvas, sizes = torch.from_numpy(images), torch.tensor([side, side]).expand(16, 2)
    (x,) = run.views()(canvas, sizes, Dice(0, 0, torch.arange(16)))
    (y,) = run.test_view()(canvas, sizes)
    assert x.shape == y.shape == (16, count, count, 3, patch, patch)
    out = build(run)(Batch([x[:4]], torch.arange(4)))
    assert [f"loss_{k}" for k in range(2, count)] == [name for name in out.logs if name.startswith("loss")]
    assert 0 < out.loss < 2 * np.log(4 * count**2)
