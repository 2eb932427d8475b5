"""The doctor on runs that predict what comes next: rules on courses whose illness is known, small runs, checkups."""

import math
from contextlib import closing
from functools import partial

import numpy as np
import pytest
import torch

from twoviews import Run
from twoviews.build import build, describe, learn, make_loader, make_optimizer
from twoviews.data.sounds import sounds
from twoviews.data.soundviews import whole, windows
from twoviews.doctor.ahead import look_ahead, predicts
from twoviews.doctor.checkup import checkup
from twoviews.doctor.course import Course, read_course
from twoviews.doctor.rules import diagnose
from twoviews.encoders.mel import mel
from twoviews.encoders.wave import wave
from twoviews.folder import write_json
from twoviews.log import Log
from twoviews.methods import SimCLR
from twoviews.methods.cpc import CPC
from twoviews.optim import adamw

LOG_N = 6.0
CPU = torch.device("cpu")


def course(bounds, checkup=None, looks=50, horizons=12, **series):
    """200 steps of a run whose bound at horizon k ends at bounds(k) nats, growing through the first half."""
    about = {
        "run": {
            "epochs": 20,
            "batch_size": 64,
            "method": {"call": "twoviews.methods.cpc:CPC", "first": 1, "group": 8},
            "optimizer": {"lr": 0.001},
            "views": {"length": 20480},
        },
        "data": {"items": 640},
    }
    c = Course(about, checkup=checkup or {})
    for i in range(looks):
        at = min(1.0, 2 * i / max(1, looks - 1))
        values = {"z_rank": 4.0, "z_spread": 0.1, "uniformity": -0.06, "h_rank": 8.0, "update": 0.01} | series
        for k in range(1, horizons + 1):
            bound = at * bounds(k)
            accuracy = max(math.exp(bound - LOG_N), 0.0)
            values |= {f"loss_{k}": LOG_N - bound, f"bound_{k}": bound, f"accuracy_{k}": accuracy}
        losses = [values[f"loss_{k}"] for k in range(1, horizons + 1)]
        c.add({"step": 4 * (i + 1), "loss": sum(losses) / len(losses), **values})
    return c


def healthy(k):
    return 3.0 * k**-0.6


HEALTHY = {"padded": 0.2, "too_short": 0.0, "own": 1.0, "others": 1.5}
ILL = {
    "predicts nothing": {"bounds": lambda k: 0.01},
    "learning rate too high": {"bounds": lambda k: 0.0, "update": 0.4},
    "contexts all alike": {"bounds": lambda k: 0.2, "h_rank": 1.01},
    "too short to predict": {"bounds": healthy, "checkup": HEALTHY | {"too_short": 0.8}},
    "tells items apart only": {"bounds": lambda k: 5.9},
    "bound at its ceiling": {"bounds": lambda k: 5.8 if k < 3 else 1.0},
    "only the nearest is predicted": {"bounds": lambda k: 3.0 if k == 1 else 0.05},
    "mostly padding": {"bounds": healthy, "checkup": HEALTHY | {"padded": 0.8}},
}


@pytest.mark.parametrize("name", ILL)
def test_each_illness_has_its_name(name):
    found = diagnose(course(**ILL[name]))
    assert [finding.name for finding in found.findings] == [name]
    assert found.verdict in ("ill", "watch")
    assert found.findings[0].remedy


@pytest.mark.parametrize("bounds", [healthy, lambda k: 1.0, lambda k: 5.0 / k, lambda k: 0.2])
@pytest.mark.parametrize("horizons", [1, 2, 12])
def test_healthy_courses_are_left_in_peace(bounds, horizons):
    found = diagnose(course(bounds, HEALTHY, horizons=horizons))
    assert found.verdict == "healthy"
    assert "at horizon 1" in found.sentence
    assert f"{math.exp(-LOG_N):.2%}" in found.sentence


def test_large_first_steps_do_no_harm_where_it_learns():
    assert diagnose(course(healthy, HEALTHY, update=0.3)).verdict == "healthy"


def test_a_voice_that_gives_the_item_away_is_seen_by_the_checkup():
    found = diagnose(course(lambda k: 3.0, HEALTHY | {"own": 0.01, "others": 3.5}))
    assert (found.verdict, found.findings[0].name) == ("ill", "tells items apart only")
    assert "3.50 nats" in found.sentence


def test_horizons_that_no_item_reaches_say_nothing():
    """They are logged as zeros."""
    c = course(healthy, HEALTHY, horizons=4)
    for look in c.looks:
        look |= {"loss_4": 0.0, "bound_4": 0.0, "accuracy_4": 0.0}
    assert diagnose(c).verdict == "healthy"
    for look in c.looks:
        look |= {f"{part}_{k}": 0.0 for part in ("loss", "bound", "accuracy") for k in range(1, 5)}
    found = diagnose(c)
    assert (found.verdict, found.findings[0].name) == ("ill", "too short to predict")


def test_too_early_is_said_and_a_loss_that_is_not_finite_comes_first():
    assert diagnose(course(healthy, looks=3)).verdict == "too early"
    c = course(healthy, HEALTHY)
    c.add({"step": 201, "not_finite": 201})
    assert (diagnose(c).verdict, diagnose(c).findings[0].name) == ("ill", "diverged")


# Small runs


def clips(n=48, seconds=0.3, rate=8000, tones=True):
    """Tones that glide, each with noise; or noise alone."""
    random = np.random.default_rng(0)
    out = []
    for _ in range(n):
        t = np.arange(int(rate * seconds * random.uniform(0.8, 1.2))) / rate
        low, high = random.uniform(200, 800), random.uniform(800, 2500)
        tone = np.sin(2 * np.pi * (low * t + (high - low) * t**2)) if tones else 0
        out.append(((tone + 0.05 * random.standard_normal(len(t))).astype(np.float32), rate))
    return out


def a_run(data=None, **changed):
    run = Run(
        data=partial(sounds, data=clips() if data is None else data, rate=8000),
        views=partial(windows, length=1600),
        test_view=partial(whole),
        encoder=partial(wave, rate=8000, width=16, dim=16),
        method=partial(CPC, steps=3),
        optimizer=partial(adamw, lr=5e-3),
        epochs=20,
        batch_size=16,
    )
    return run.override(changed)


def trained(run, folder):
    """The diagnosis of a run, by its log and its checkup."""
    folder.mkdir()
    source = run.data()
    method = build(run)
    write_json(folder / "run.json", describe(run, source))
    with closing(Log(folder, quiet=True)) as log:
        learn(run, method, make_loader(run, source, CPU, log), make_optimizer(run, method), device=CPU, log=log)
    found = checkup(method, source, source, run.views(), run.test_view(), batch_size=run.batch_size)
    write_json(folder / "checkup.json", found)
    return diagnose(read_course(folder)), found


def test_a_run_that_learns_is_healthy(tmp_path):
    found, seen = trained(a_run(), tmp_path / "run")
    assert found.verdict == "healthy", found.lines()
    assert "Nothing found" in found.sentence
    assert 0 <= seen["padded"] < 0.1
    assert seen["too_short"] == 0
    assert seen["h"]["dim"] == 16


def test_steps_too_small_teach_nothing(tmp_path):
    found, _ = trained(a_run(**{"optimizer.lr": 1e-8}), tmp_path / "run")
    assert [finding.name for finding in found.findings] == ["predicts nothing"]


def test_steps_too_large_are_named(tmp_path):
    found, _ = trained(a_run(**{"optimizer.lr": 5.0, "epochs": 8}), tmp_path / "run")
    assert found.findings[0].name == "learning rate too high"


def test_windows_of_padding_are_named(tmp_path):
    found, seen = trained(a_run(**{"views.length": 8000, "epochs": 8}), tmp_path / "run")
    assert "mostly padding" in {finding.name for finding in found.findings}
    lengths = np.minimum([len(x) for x, _ in clips()], 8000)
    assert seen["padded"] == pytest.approx(1 - lengths.mean() / 8000, abs=0.02)


# Checkups


def test_a_look_ahead_changes_nothing_and_counts():
    run = a_run(clips(10) + [(x[:60], rate) for x, rate in clips(10)], **{"method.negatives": "others"})
    method, source = build(run), run.data()
    before = {k: v.clone() for k, v in method.state_dict().items()}
    seen = look_ahead(method, source, run.views(), seed=0, device="cpu")
    assert seen == look_ahead(method, source, run.views(), seed=0, device="cpu")
    assert all(torch.equal(v, before[k]) for k, v in method.state_dict().items())
    assert (method.negatives, method.training) == ("others", True)
    assert seen["too_short"] == 0.5
    assert {"own", "others"} <= seen.keys()
    assert abs(seen["own"]) < 0.5  # nothing learned


def test_a_look_ahead_where_nothing_is_long_enough():
    run = a_run([(x[:60], rate) for x, rate in clips(8)], **{"views.length": 80})
    seen = look_ahead(build(run), run.data(), run.views(), seed=0, device="cpu")
    assert seen == {"padded": 0.0, "too_short": 1.0}


def test_methods_that_compare_two_views_are_looked_at_as_before():
    assert not predicts(SimCLR(mel(8000, bins=16, dim=8), dim=4, hidden=8))
    assert predicts(build(a_run()))
