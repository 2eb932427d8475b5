"""From a run to its folder, from Python: going on, one's own parts, tiny sets, folders that are taken."""

from functools import partial

import numpy as np
import pytest
import torch
from conftest import STOP, stopping
from torch import nn
from torch.nn.functional import mse_loss

import twoviews
from twoviews import Method, Out, Run, fit, photos
from twoviews.data.views import center, two_crops
from twoviews.encoders.small import small
from twoviews.errors import UserError
from twoviews.folder import locked
from twoviews.methods import MoCo, SimCLR
from twoviews.train import Interrupted


class Mine(Method):
    """A method of a user's own, without a projection."""

    def __init__(self, encoder):
        super().__init__()
        self.encoder = encoder

    def forward(self, batch):
        a, b = (self.encoder(v) for v in batch.views)
        return Out(mse_loss(a, b), z=a)


class Own(nn.Module):
    """An encoder of a user's own."""

    dim = 5

    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Flatten(), nn.Linear(3 * 12 * 12, 5))

    def forward(self, x):
        return self.net(x)


def images(n=40, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, 3, 14, 14), np.uint8)


def a_run(n=40, **parts):
    data = images(n), np.arange(n) % 2
    parts = {
        "data": partial(photos, data=data),
        "views": partial(two_crops, size=12),
        "test_view": partial(center, size=12),
        "encoder": partial(small, width=4),
        "method": partial(SimCLR, dim=4, hidden=8),
        "epochs": 2,
        "batch_size": 8,
    } | parts
    return Run(**parts)


def weights(result):
    return [v.clone() for v in result.method.state_dict().values()]


@pytest.mark.parametrize("source", [{"memory": True}, {"memory": False, "workers": 1}])
def test_a_run_that_was_stopped_equals_one_that_was_not(source, tmp_path):
    moco = partial(MoCo, dim=4, hidden=8, queue=16)
    run = a_run(views=partial(stopping, size=12), method=moco, batchnorm=2, **source)
    whole = fit(run, tmp_path / "whole", quiet=True)
    STOP["after"] = 6
    with pytest.raises(Interrupted):
        fit(run, tmp_path / "parts", quiet=True)
    STOP["after"] = None
    parts = fit(run, tmp_path / "parts", quiet=True)
    assert all(torch.equal(a, b) for a, b in zip(weights(whole), weights(parts), strict=True))
    assert whole.table.to_json() == parts.table.to_json()


def test_the_verbs_of_the_package_stay_functions(tmp_path):
    for out in ("a", "b"):
        result = twoviews.train(images(), out=tmp_path / out, quiet=True, epochs=1, batch_size=8)
        assert twoviews.evaluate(result, quiet=True).rows
    assert callable(twoviews.fit)
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        twoviews.trian  # noqa: B018


def test_a_method_and_an_encoder_of_ones_own(tmp_path):
    result = fit(a_run(method=Mine, encoder=Own), tmp_path / "run", quiet=True)
    assert "ours, z" not in result.table.rows
    assert np.load(twoviews.embed(result, images(6), tmp_path / "e.npy", quiet=True)).shape == (6, 5)
    assert twoviews.evaluate(result, quiet=True).to_json() == result.table.to_json()
    with pytest.raises(UserError, match="'Own' of test_fit is your own code"):
        twoviews.embed(tmp_path / "run", images(6), tmp_path / "f.npy")
    loaded = twoviews.load_encoder(tmp_path / "run", encoder=Own())
    assert torch.equal(loaded.net[1].weight, result.method.encoder.net[1].weight)


def test_a_method_must_keep_the_contract(tmp_path):
    with pytest.raises(UserError, match=r"subclass of twoviews.Method, got Linear"):
        fit(a_run(method=lambda encoder: nn.Linear(2, 2)), tmp_path / "run", quiet=True)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("n", [4, 5, 8, 12])
def test_tiny_sets_train_and_say_what_could_not_be_measured(n, tmp_path):
    result = fit(a_run(n, batch_size=2, epochs=1), tmp_path / "run", quiet=True)
    assert (result.folder / "encoder.safetensors").exists()
    page = (result.folder / "index.html").read_text()
    assert result.table is not None or "Not measured" in page


def test_without_a_holdout_all_items_are_learned_from(tmp_path):
    result = fit(a_run(holdout=0.0, epochs=1), tmp_path / "run", quiet=True)
    assert any("have seen" in note or "kept from the probes" in note for note in result.table.notes)


def test_one_folder_one_process(tmp_path):
    with locked(tmp_path / "run"), pytest.raises(UserError, match="another process is training in"):
        fit(a_run(), tmp_path / "run", quiet=True)


def test_a_folder_that_is_taken_is_passed_by_when_asked(tmp_path):
    first = fit(a_run(epochs=1), tmp_path / "run", quiet=True, number=True)
    again = fit(a_run(epochs=1), tmp_path / "run", quiet=True, number=True)
    other = fit(a_run(epochs=1, seed=1), tmp_path / "run", quiet=True, number=True)
    assert (first.folder.name, again.folder.name, other.folder.name) == ("run", "run", "run-2")


def test_a_wrong_setting_leaves_no_folder_and_fresh_destroys_nothing_before_it_is_right(tmp_path):
    with pytest.raises(UserError, match="fewer than one batch"):
        fit(a_run(batch_size=64), tmp_path / "run", quiet=True)
    assert not (tmp_path / "run").exists()
    fit(a_run(), tmp_path / "run", quiet=True)
    before = (tmp_path / "run" / "encoder.safetensors").read_bytes()
    with pytest.raises(UserError, match="fewer than one batch"):
        fit(a_run(batch_size=64), tmp_path / "run", quiet=True, fresh=True)
    assert (tmp_path / "run" / "encoder.safetensors").read_bytes() == before


def test_unfinished_weights_are_called_so(tmp_path, capsys):
    STOP["after"] = 3
    with pytest.raises(Interrupted):
        fit(a_run(views=partial(stopping, size=12)), tmp_path / "run", quiet=True)
    STOP["after"] = None
    twoviews.embed(tmp_path / "run", images(6), tmp_path / "e.npy")
    assert "has not finished: these are its weights after step 3" in capsys.readouterr().err


def test_a_run_says_when_it_has_nothing_to_go_on_from(tmp_path, capsys):
    fit(a_run(epochs=1), tmp_path / "run", quiet=True)
    for checkpoint in (tmp_path / "run" / "checkpoints").iterdir():
        for file in checkpoint.iterdir():
            file.unlink()
        checkpoint.rmdir()
    fit(a_run(epochs=1), tmp_path / "run")
    assert "stopped ahead of its first checkpoint: starting over" in capsys.readouterr().err


def test_changed_data_is_not_measured_as_if_it_were_the_same(tmp_path, monkeypatch):
    np.save(tmp_path / "x.npy", images(40))
    run = a_run(data=partial(photos, data=str(tmp_path / "x.npy")), epochs=1)
    fit(run, tmp_path / "run", quiet=True)
    np.save(tmp_path / "x.npy", images(44, seed=1))
    with pytest.raises(UserError, match="the data has changed since"):
        twoviews.evaluate(tmp_path / "run", quiet=True)
    assert twoviews.evaluate(tmp_path / "run", str(tmp_path / "x.npy"), quiet=True).rows


def test_knn_is_watched_while_training(tmp_path):
    import json

    fit(a_run(watch=1), tmp_path / "run", quiet=True)
    lines = map(json.loads, (tmp_path / "run" / "metrics.jsonl").read_text().splitlines())
    seen = [line for line in lines if "knn" in line]
    assert [line["epoch"] for line in seen] == [1, 2]
    assert all(0 <= line["knn"] <= 1 for line in seen)
