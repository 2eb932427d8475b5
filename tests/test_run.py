"""A run is a value: written down, changed by name, built again, refused in words."""

import json
from functools import partial

import numpy as np
import pytest

from twoviews import calls
from twoviews.data.digits import digits
from twoviews.data.documents import documents
from twoviews.data.image import photos
from twoviews.data.patches import grid, patches
from twoviews.data.views import two_crops
from twoviews.encoders import ENCODERS
from twoviews.errors import UserError
from twoviews.methods import METHODS, SimCLR
from twoviews.optim import OPTIMIZERS
from twoviews.recipes import RECIPES
from twoviews.run import Run


def a_run(**settings):
    return Run(data=partial(digits, items=20), encoder=ENCODERS["small"], method=partial(SimCLR, hidden=8), **settings)


def round_trip(run):
    return Run.from_json(json.loads(json.dumps(run.to_json())))


@pytest.mark.parametrize("name", ["cifar10_simclr", "cifar10_moco"])  # test_fit_histories.py has those of logs
def test_a_recipe_survives_json(name):
    run = RECIPES[name]("some/where.zip")
    assert round_trip(run).to_json() == run.to_json()


def test_json_holds_every_default():
    written = a_run().to_json()
    assert written["method"] == {
        "call": "twoviews.methods.simclr:SimCLR", "dim": 128, "hidden": 8, "temperature": 0.1
    }  # fmt: skip
    assert written["views"]["scale"] == [0.08, 1.0]
    assert round_trip(a_run()).views().size == 32


def test_settings_are_changed_by_name():
    run = a_run().override(
        {"method.queue": 64, "method": "moco", "epochs": 3, "views.scale": [0.5, 1], "views.blur": (1, 0.1), "clip": 1}
    )
    assert run.method.func is METHODS["moco"]
    assert calls.knobs(run.method)["queue"] == 64
    assert run.epochs == 3
    assert run.views().scale == (0.5, 1)
    assert calls.knobs(run.optimizer)["lr"] == 0.06


def test_parts_can_be_given_as_python():
    class Mine(SimCLR):
        pass

    run = a_run().override({"method": Mine, "views": partial(two_crops, size=24), "optimizer": OPTIMIZERS["adamw"]})
    assert run.method is Mine
    assert run.views().size == 24


def test_measures_and_reading_follow_the_size_of_the_views():
    run = Run(data=partial(photos, data="x", max_side=64), encoder=ENCODERS["small"], method=SimCLR)
    run = run.override({"views.size": 96, "views.blur": [1, 0.1]})
    assert run.test_view().size == 96
    assert calls.knobs(run.data)["max_side"] == 192
    assert run.views().blur == (1, 0.1)


def test_measures_follow_the_patches_of_the_views():
    run = a_run(views=patches, test_view=grid).override({"views.size": 30, "views.grid": 5, "views.overlap": 0.5})
    assert (run.test_view().size, run.test_view().grid, run.test_view().overlap) == (30, 5, 0.5)
    own = a_run(views=patches, test_view=grid).override({"views.size": 30, "views.grid": 5, "test_view.grid": 2})
    assert (own.test_view().size, own.test_view().grid) == (30, 2)


def test_positional_settings_are_written_down_too():
    assert calls.describe(partial(photos, "ph"))["data"] == "ph"


def test_a_new_choice_of_views_keeps_the_size_of_the_data():
    run = a_run(views=partial(two_crops, size=20)).override({"views": "multi_crop"})
    assert run.views().size == 20
    assert len(run.views().windows()) == 8


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("method.temprature", 1.0, "did you mean 'temperature'"),
        ("epcohs", 3, "did you mean 'epochs'"),
        ("method", "simcrl", "did you mean 'simclr'"),
        ("encoder", "resnet19", "did you mean 'resnet1"),
        ("method.temperature", "hot", "must be a number, got 'hot'"),
        ("method.hidden", 8.5, "must be a whole number"),
        ("views.quarter_turns", 1, "must be True or False"),
        ("epochs", "many", "must be a whole number"),
        ("epochs.x", 1, "no settings of its own"),
        ("epochs", None, "must be a whole number, got None"),
        ("epochs", 0, "epochs must be at least 1, got 0"),
        ("clip", "abc", "clip must be a number or None"),
        ("precision", "half", "precision must be one of fp32, bf16, fp16"),
        ("optimizer.betas", 0.9, "sgd has no 'betas'"),
        ("views.scale", 0.5, "must be a list"),
        ("views.flip", [0.5, 1], "must be a number"),
        ("test", "elsewhere", "cannot be 'elsewhere'"),
        ("data", "elsewhere", "cannot be 'elsewhere'"),
    ],
)
def test_a_wrong_setting_is_one_clear_line(key, value, message):
    with pytest.raises(UserError, match=message) as error:
        a_run().override({key: value})
    assert "\n" not in str(error.value)


def test_what_only_the_data_knows_is_filled_in():
    source = digits(items=20)
    run = a_run().override({"method": "supervised"}).resolved(source)
    assert calls.knobs(run.method)["classes"] == 10
    assert calls.knobs(run.encoder)["channels"] == 3
    with pytest.raises(UserError, match="needs labels"):
        a_run().override({"method": "supervised"}).resolved(photos(np.zeros((4, 8, 8), np.uint8)))


def test_only_names_of_the_package_are_imported():
    calls_elsewhere = (
        "os:system",
        "builtins:eval",
        "twoviews.cli:main",
        "twoviewsx:y",
        "None",
        "twoviews:import_module",
    )
    for call in (*calls_elsewhere, "twoviews.api:train", "twoviews.data.loader:ThreadPoolExecutor"):
        with pytest.raises(UserError):
            calls.rebuild({"call": call})


def test_an_object_given_from_python_must_be_given_again():
    run = Run(data=partial(photos, data=np.zeros((4, 8, 8), np.uint8)), encoder=ENCODERS["small"], method=SimCLR)
    written = json.loads(json.dumps(run.to_json()))
    with pytest.raises(UserError, match="'data' was a numpy.ndarray given from Python"):
        Run.from_json(written)
    assert Run.from_json(written, data=run.data).epochs == 200


def test_a_list_that_is_data_is_not_written_whole():
    few, many = ["a b."] * 9, ["a b."] * 25_556
    written = calls.describe(partial(documents, data=many, labels=few))
    assert written["data"] == {"object": "list of 25,556"}
    assert written["labels"] == few
    with pytest.raises(UserError, match="'data' was a list of 25,556 given from Python: give it again"):
        calls.rebuild(written)
    assert calls.rebuild(calls.describe(partial(documents, data=few))).keywords["data"] == tuple(few)


@pytest.mark.parametrize(
    ("text", "value"),
    [("3", 3), ("0.5", 0.5), ("1e-4", 1e-4), ("True", True), ("true", True), ("None", None), ("null", None),
     ("(1, 2)", (1, 2)), ("[1,2]", [1, 2]), ("moco", "moco"), ("timm:vit_tiny", "timm:vit_tiny")],
)  # fmt: skip
def test_values_are_read_as_python_or_json(text, value):
    assert calls.parse(text) == value
