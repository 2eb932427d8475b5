"""The doctor: rules on courses whose illness is known, checkups, the verdict inside training and on the command line.

Whole runs made sick on purpose are in benchmarks/sick.py.
"""

import json
import math
import os
import sys
from contextlib import closing
from datetime import timedelta
from functools import partial

import numpy as np
import pytest
import torch
from conftest import Numbers, Tiny
from test_cli import QUICK, folder, tv  # noqa: F401
from torch import nn

from twoviews import Run, dist, fit, photos
from twoviews.checkpoint import steps
from twoviews.data.views import center, two_crops
from twoviews.doctor.checkup import checkup, experiments, spectra
from twoviews.doctor.course import Course, read_course
from twoviews.doctor.diagnosis import Diagnosis, Finding
from twoviews.doctor.rules import diagnose
from twoviews.doctor.watch import Watch
from twoviews.encoders.small import small
from twoviews.errors import TrainingError, UserError
from twoviews.heads import unit
from twoviews.log import Log
from twoviews.methods import MoCo, SimCLR
from twoviews.norm import set_batchnorm
from twoviews.train import Meter, Stopped, train
from twoviews.types import Features

CHANCE = math.log(255)


def about(**method):
    settings = {"call": "twoviews.methods.simclr:SimCLR", "dim": 64, "temperature": 0.2} | method
    return {
        "run": {"epochs": 20, "batch_size": 128, "method": settings, "optimizer": {"lr": 0.06}},
        "data": {"items": 1280},
    }


def course(method=None, checkup=None, evaluation=None, looks=50, **series):
    """A healthy SimCLR run of 200 steps, with some of its series replaced: numbers, or (first, last)."""
    usual = {
        "loss": (6.0, 3.5),
        "chance": CHANCE,
        "matched": (0.02, 0.3),
        "z_rank": (48, 28),
        "h_rank": (31, 24),
        "z_spread": 0.99,
        "alignment": (1.9, 0.6),
        "uniformity": (-3.5, -3.1),
        "in_play": (0.5, 0.3),
        "gradient": (8, 1.5),
        "update": (0.02, 1e-7),
    } | series
    c = Course(about(**(method or {})), checkup=checkup or {}, evaluation=evaluation or {})
    for i in range(looks):
        at = min(1.0, 2 * i / max(looks - 1, 1))  # settled after half of the run
        values = {
            k: v[0] + at * (v[1] - v[0]) if isinstance(v, tuple) else v for k, v in usual.items() if v is not None
        }
        c.add({"step": 4 * (i + 1), "data_wait": 0.01, **values})
    return c


QUEUE = {"queue_gap": 0.02, "queue_variety": 1.0, "queue_age": 8}
SCORE = {"value": 0.5, "low": 0.45, "high": 0.55, "n": 300}
SIBLINGS = {"control": SCORE | {"value": 0.9}, "apart": SCORE, "drop": [0.4, 0.3, 0.5], "examples": [["a_1", "a_2"]]}
ILL = {
    "complete collapse": {"z_rank": (40, 1.5), "z_spread": (0.9, 0.02), "uniformity": (-3, -0.001), "loss": (2, 0.01)},
    "dimensional collapse": {"z_rank": (40, 2.2), "uniformity": (-3, -0.5), "z_spread": (0.9, 0.5)},
    "temperature too low": {"in_play": (0.004, 0.7), "loss": (500, 5.4)},
    "views too alike": {"checkup": {"views_apart": 0.0}, "matched": 1.0, "alignment": 0.0},
    "views too different": {"loss": (6.8, CHANCE), "alignment": 2.0, "matched": 0.004},
    "learning rate too high": {"update": (0.3, 0.001)},
    "BatchNorm leaks": {"checkup": {"matched": 0.9, "matched_apart": 0.2, "leak": 0.7, "leak_low": 0.6}},
    "labels in training": {"checkup": {"reads_labels": True}},
    "test items known": {"evaluation": {"leak": {"siblings": SIBLINGS}}},
    "queue not informative": QUEUE | {"queue_age": 0},
    "inconsistent keys": QUEUE | {"queue_gap": (20, 0)},
}


@pytest.mark.parametrize("name", ILL)
def test_each_illness_has_its_name_and_is_ill(name):
    found = diagnose(course(**ILL[name]))
    assert found.findings
    assert found.findings[0].name == name
    assert (found.verdict, found.code) == ("ill", 2)


@pytest.mark.parametrize(
    "series",
    [
        {},
        QUEUE,
        {"loss": (7, 5.0), "alignment": (2, 1.0)},
        {"chance": None, "matched": None, "alignment": None, "in_play": None},  # a method that compares nothing
        {"checkup": {"views_apart": 0.8, "matched": 0.4, "matched_apart": 0.38, "reads_labels": False}},
        {"evaluation": {"leak": {"siblings": SIBLINGS | {"drop": [0.01, -0.01, 0.03]}}}},
    ],
)
def test_a_healthy_course_is_left_in_peace(series):
    found = diagnose(course(**series))
    assert found.findings == ()
    assert (found.verdict, found.code) == ("healthy", 0)
    assert "Nothing found" in found.sentence


def test_causes_are_named_before_what_they_cause():
    collapsed = ILL["complete collapse"]
    assert diagnose(course(**collapsed, **QUEUE | {"queue_age": 0})).findings[0].name == "queue not informative"
    assert diagnose(course({"momentum": 0.0}, **collapsed, **QUEUE)).findings[0].name == "inconsistent keys"
    assert diagnose(course({"momentum": 0.999}, **collapsed, **QUEUE)).findings[0].name == "complete collapse"
    both = diagnose(course(**ILL["views too alike"], evaluation=ILL["test items known"]["evaluation"]))
    assert {f.name for f in both.findings} == {"views too alike", "test items known"}  # neither explains the other


def test_a_temperature_too_low_is_seen_in_a_sample_of_a_long_queue():
    long = {"chance": math.log1p(65536), "negatives": 4096.0, "in_play": (1.2 / 4096, 0.7), "loss": (500, 8)}
    found = diagnose(course(**QUEUE, **long))
    assert found.findings[0].name == "temperature too low"
    assert "1.2 of 4,096 negatives" in found.sentence


def test_one_negative_of_a_few_is_no_sign_of_a_low_temperature():
    """A batch of 4 has 6 negatives: that one or two of them carry the gradient is as it must be."""
    few = {"chance": math.log(7), "negatives": 6.0, "in_play": (1.5 / 6, 0.7), "loss": (5.2, 1.0)}
    assert "temperature too low" not in {f.name for f in diagnose(course(**few)).findings}
    many = few | {"negatives": 60.0, "in_play": (1.5 / 60, 0.7)}
    assert diagnose(course(**many)).findings[0].name == "temperature too low"


def test_a_setting_that_is_no_number_is_left_out_of_the_remedy():
    schedule = {"momentum": {"call": "mine:rising"}}
    found = diagnose(course(schedule, **ILL["inconsistent keys"]))
    assert found.findings[0].name == "inconsistent keys"
    assert "Raise method.momentum to 0.99" in found.sentence


def test_supervised_may_read_labels():
    call = {"call": "twoviews.methods.supervised:Supervised"}
    assert diagnose(course(call, checkup={"reads_labels": True})).verdict == "healthy"


def test_a_loss_that_is_not_finite_is_named_with_its_step():
    c = course(looks=2)
    c.add({"step": 9, "not_finite": 9})
    found = diagnose(c)
    assert found.findings[0].name == "diverged"
    assert "step 9" in found.sentence
    fast = course(looks=3, update=0.5)
    fast.add({"step": 13, "not_finite": 13})
    assert diagnose(fast).findings[0].name == "learning rate too high"


def test_watch_is_between_healthy_and_ill():
    waits = course()
    waits.waits = [(0.6, 0.2)] * 50
    found = diagnose(waits)
    assert (found.verdict, found.code, found.findings[0].name) == ("watch", 1, "waiting for data")
    waits.waits = [(0.6, 0.002)] * 50
    assert diagnose(waits).verdict == "healthy"  # milliseconds


def test_copies_of_training_items_among_the_test():
    leak = {"copies": {"share": SCORE | {"value": 0.2}, "examples": [["test/a.jpg", "train/b.jpg"]]}}
    found = diagnose(course(evaluation={"leak": leak}))
    assert found.findings[0].name == "test items known"
    assert "test/a.jpg is train/b.jpg" in found.sentence


def test_too_early_to_say_is_said():
    found = diagnose(course(looks=3))
    assert (found.verdict, found.code) == ("too early", 3)
    assert "Too early" in found.sentence
    found = diagnose(course(looks=3, evaluation=ILL["test items known"]["evaluation"]))
    assert found.verdict == "ill"  # what is known is said at once


def test_a_plateau_is_no_illness_before_the_run_had_its_time():
    c = course(looks=12, **ILL["views too different"])  # 48 of 200 steps
    assert diagnose(c).verdict == "healthy"


def test_the_sentence_names_evidence_then_illness_then_remedy():
    found = diagnose(course(**ILL["dimensional collapse"]))
    text = found.sentence
    assert text.index("effective rank of z is") < text.index("dimensional collapse") < text.index("directclr")
    written = found.to_json()
    assert json.loads(json.dumps(written)) == written
    assert written["findings"][0].keys() == {"name", "level", "evidence", "remedy"}


# The checkup


def images(n=60, side=12):
    rng = np.random.default_rng(0)
    return photos((rng.integers(0, 256, (n, side, side, 3), np.uint8), np.arange(n) % 3))


def build(method=SimCLR, **settings):
    torch.manual_seed(0)
    return method(small(width=4), **{"dim": 8, "hidden": 8} | settings)


def test_spectra_of_known_shapes():
    h = torch.eye(5).repeat(4, 1)
    found = spectra(Features(h, [str(i) for i in range(20)], z=torch.ones(20, 3)))
    assert found["h"]["rank"] == pytest.approx(5)
    assert found["h"]["dim"] == 5
    assert found["z"]["rank"] == pytest.approx(1)
    assert found["z"]["spectrum"] == pytest.approx([0, 0, 0], abs=1e-6)
    assert spectra(Features(h, ["a"] * 20))["z"] is None


def test_checkup_leaves_the_method_as_it_was():
    method = build(MoCo, queue=32).train()
    before = {k: v.clone() for k, v in method.state_dict().items()}
    state = torch.get_rng_state()
    source = images()
    found = checkup(method, source, source, two_crops(12), center(12), batch_size=16)
    assert all(torch.equal(v, before[k]) for k, v in method.state_dict().items())
    assert method.training
    assert method.encoder.training
    assert torch.equal(state, torch.get_rng_state())
    assert {"h", "z", "views_apart", "matched", "matched_apart", "leak", "reads_labels"} <= found.keys()
    assert not found["reads_labels"]


def test_views_that_are_equal_are_seen():
    off = two_crops(12, scale=(1, 1), ratio=(1, 1), flip=0, jitter=0, grey=0, blur=0)
    rows = {"rows": 16, "groups": 1, "seed": 0, "device": "cpu"}
    with torch.no_grad():
        assert experiments(build(), images(), off, **rows)["views_apart"] < 1e-9
        assert experiments(build(), images(), two_crops(12), **rows)["views_apart"] > 0.1


class Peeking(SimCLR):
    def forward(self, batch):
        out = super().forward(batch)
        out.loss = out.loss + (batch.labels * torch.arange(len(batch.ids))).sum()
        return out


def test_a_method_that_reads_labels_is_seen():
    rows = {"rows": 16, "groups": 1, "seed": 0, "device": "cpu"}
    with torch.no_grad():
        assert experiments(build(Peeking), images(), two_crops(12), **rows)["reads_labels"]


class Signs(nn.Module):
    """BatchNorm over groups of two rows: what comes out is which of the two is larger, in each dimension."""

    dim = 12

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(12, affine=False)

    def forward(self, x):
        return self.norm(x)


class Unshuffled(MoCo):
    """Keys are made in the company of their queries."""

    @torch.no_grad()
    def key(self, x):
        return unit(self.target(x))


@pytest.mark.parametrize(("method", "leaks"), [(Unshuffled, True), (MoCo, False)])
def test_statistics_that_give_the_answer_away_are_seen(method, leaks):
    g = torch.Generator().manual_seed(0)

    def views(pictures, sizes, dice):
        own = torch.randn(len(pictures), 12, generator=g)
        return [own + 0.3 * torch.randn(len(own), 12, generator=g) for _ in range(2)]

    torch.manual_seed(0)
    tested = method(Signs(), dim=12, hidden=0, queue=64)
    with torch.no_grad():
        for head in (tested.head, tested.target.modules_[1]):
            head.weight.copy_(torch.eye(12))
            head.bias.zero_()
        found = experiments(set_batchnorm(tested, 32), images(200), views, rows=64, groups=32, seed=0, device="cpu")
    assert (found["leak"] > 0.3) == leaks, found
    assert (diagnose(course(checkup=found)).verdict == "ill") == leaks


@pytest.mark.parametrize(
    ("batch_size", "groups", "rows", "kept"),
    [(128, 8, 128, 8), (128, 32, 128, 32), (1024, 8, 256, 2), (4096, 8, 256, 2), (512, 1, 256, 1), (640, 10, 256, 4)],
)
def test_a_large_batch_is_cut_by_groups_not_inside_them(monkeypatch, batch_size, groups, rows, kept):
    seen = {}
    monkeypatch.setattr(sys.modules["twoviews.doctor.checkup"], "experiments", lambda *a, **how: seen.update(how) or {})
    checkup(build(), images(), images(), two_crops(12), center(12), batch_size=batch_size, groups=groups)
    assert (seen["rows"], seen["groups"]) == (rows, kept)


def test_processes_with_statistics_of_their_own_are_groups_of_the_checkup(monkeypatch):
    seen, part = [], sys.modules["twoviews.fit_photos"]
    monkeypatch.setattr(part, "checkup", lambda *a, **how: seen.append((how["batch_size"], how["groups"])) or {})
    monkeypatch.setattr(part.dist, "world", lambda: 4)
    for scope in ("global", "local", 2):
        part.look(tiny(batch_size=64, accumulate=2, batchnorm=scope), build(), images(), images(), torch.device("cpu"))
    assert seen == [(32, 1), (32, 4), (32, 8)]


def test_weights_that_are_not_finite_read_no_labels():
    method = build()
    for p in method.parameters():
        p.data.fill_(math.nan)
    found = checkup(method, images(), images(), two_crops(12), center(12), batch_size=16)
    assert not found["reads_labels"]
    assert found["h"] is found["z"] is None
    json.dumps(found, allow_nan=False)


def test_few_items_or_other_views_are_no_error():
    method, rows = build(), {"groups": 1, "seed": 0, "device": "cpu"}
    with torch.no_grad():
        assert experiments(method, images(9), two_crops(12), rows=16, **rows) == {}
        three = lambda *a: two_crops(12)(*a) + center(12)(*a)  # noqa: E731
        assert experiments(method, images(), three, rows=16, **rows) == {}


# Inside training, in the folder, on the command line


def tiny(**settings):
    run = Run(
        data=partial(photos, (np.random.default_rng(0).integers(0, 256, (80, 12, 12, 3), np.uint8), np.arange(80) % 2)),
        views=partial(two_crops, size=12),
        test_view=partial(center, size=12),
        encoder=partial(small, width=4),
        method=partial(SimCLR, dim=8, hidden=8),
        epochs=4,
        batch_size=16,
    )
    return run.override(settings)


def test_fit_leaves_a_diagnosis(tmp_path):
    result = fit(tiny(), tmp_path / "run", quiet=True)
    written = json.loads((tmp_path / "run" / "doctor.json").read_text())
    assert written == result.diagnosis.to_json()
    seen = read_course(tmp_path / "run")
    assert len(seen.looks) == 16
    assert seen.checkup["h"]["dim"] == result.method.encoder.dim
    epochs = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [r["epoch"] for r in epochs if "checkup" in r] == [1, 4]
    assert read_course(tmp_path / "run").evaluation["leak"]["copies"]["share"]["value"] == 0


def test_looking_changes_no_weight(tmp_path, monkeypatch):
    a = fit(tiny(), tmp_path / "a", quiet=True)
    monkeypatch.setattr(sys.modules["twoviews.train"].Meter, "looks", lambda self, step: False)
    b = fit(tiny(), tmp_path / "b", quiet=True)
    assert len(read_course(tmp_path / "b").looks) == 0
    for x, y in zip(a.method.state_dict().values(), b.method.state_dict().values(), strict=True):
        assert torch.equal(x, y)


def test_an_ill_run_is_stopped_and_can_go_on(tmp_path, capsys):
    off = {f"views.{k}": 0.0 for k in ("flip", "jitter", "grey", "blur")}
    off |= {"views.scale": (1.0, 1.0), "views.ratio": (1.0, 1.0), "epochs": 30, "seed": 1}
    with pytest.raises(Stopped, match=r"stopped at step \d+ of \d+, for the run is ill: the two views of an item"):
        fit(tiny(**off), tmp_path / "run", stop_when_ill=True)
    assert "views too alike" in capsys.readouterr().err
    stopped = int(steps(tmp_path / "run")[-1].name.removeprefix("step-"))
    assert 0 < stopped < 4 * 30
    result = fit(tiny(**off), tmp_path / "run", quiet=True)
    whole = fit(tiny(**off), tmp_path / "whole", quiet=True)
    for x, y in zip(result.method.state_dict().values(), whole.method.state_dict().values(), strict=True):
        assert torch.equal(x, y)


def test_train_asks_for_a_reason_to_stop_and_saves(tmp_path):
    torch.manual_seed(0)
    method = SimCLR(Tiny(), dim=4, hidden=8)
    optimizer = torch.optim.SGD(method.parameters(), lr=0.1)
    asked = iter([None, None, "enough"])
    with pytest.raises(Stopped, match="stopped at step 3 of 8, for the run is ill: enough") as caught:
        train(
            method,
            Numbers(),
            optimizer,
            lambda step, total: 1.0,
            epochs=2,
            device=torch.device("cpu"),
            folder=tmp_path,
            stop=lambda: next(asked),
        )
    assert isinstance(caught.value, TrainingError)
    assert steps(tmp_path)[-1].name == "step-00000003"


def test_the_negatives_are_seen_before_the_batch_overwrites_them(monkeypatch):
    torch.manual_seed(0)
    method = MoCo(Tiny(), dim=4, hidden=8, queue=8)  # each batch of 8 fills it anew
    found, plain = [], sys.modules["twoviews.train"].diagnostics.observe

    def observe(out, labels):
        keys, negatives = out.memory, out.contrast.negatives
        found.append((keys[:, None] == negatives).all(2).any().item())
        return plain(out, labels)

    monkeypatch.setattr(sys.modules["twoviews.train"].diagnostics, "observe", observe)
    optimizer = torch.optim.SGD(method.parameters(), lr=0.1)
    train(method, Numbers(accumulate=2), optimizer, lambda step, total: 1.0, epochs=1, device=torch.device("cpu"))
    assert found == [False] * 4


def test_what_is_seen_after_an_epoch_is_logged_once_where_its_last_step_ends_the_call(tmp_path):
    def go_on(stop):
        torch.manual_seed(0)
        method = SimCLR(Tiny(), dim=4, hidden=8)
        optimizer = torch.optim.SGD(method.parameters(), lr=0.1)
        with closing(Log(tmp_path, quiet=True)) as log:
            how = {"epochs": 3, "device": torch.device("cpu"), "folder": tmp_path, "log": log, "stop": stop}
            see = {"every_epoch": lambda epoch: {"epoch": epoch}}
            train(method, Numbers(), optimizer, lambda step, total: 1.0, **how, **see)

    asked = iter([None] * 3 + ["enough"])
    with pytest.raises(Stopped, match="step 4"):  # the last of the first epoch
        go_on(lambda: next(asked))
    go_on(lambda: None)
    records = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [(r["step"], r["epoch"]) for r in records if "epoch" in r] == [(4, 1), (8, 2), (12, 3)]


def a_rank(rank, place, case):
    """One of two processes, on which numbers are read every 20th step as on a GPU, and looks are more frequent."""
    torch.set_num_threads(1)
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": "2"}
    file = f"file://{place}/init"
    torch.distributed.init_process_group(
        "gloo", init_method=file, rank=rank, world_size=2, timeout=timedelta(seconds=60)
    )
    dist._hosts = torch.distributed.new_group(backend="gloo")
    begin = Meter.__init__

    def rarely(self, *args):
        begin(self, *args)
        self.every = 20

    class Broken(MoCo):
        def forward(self, batch):
            out = super().forward(batch)
            seen.append(1)
            if case == "nan" and rank == 1 and len(seen) == 33:
                out.loss = out.loss * math.nan
            return out

    Meter.__init__ = rarely
    torch.manual_seed(0)
    seen = []
    method = Broken(Tiny(), dim=4, hidden=8, queue=32)
    optimizer = torch.optim.SGD(method.parameters(), lr=0.1)
    how = {"epochs": 4, "device": torch.device("cpu"), "folder": place / "run"}
    try:
        done = train(
            method,
            Numbers(steps=25),
            optimizer,
            lambda step, total: 1.0,
            stop=lambda: "enough" if case == "stop" and len(seen) == 37 else None,
            **how,
        )
        said = f"done {done}"
    except TrainingError as error:
        said = f"{type(error).__name__}: {error}"
    (place / f"{rank}.txt").write_text(said)
    torch.distributed.destroy_process_group()
    os._exit(0)  # as test_dist.enter: a thread of gloo may abort the interpreter's end


@pytest.mark.parametrize(
    ("case", "said", "last"),
    [
        ("well", "done 100", ["step-00000100"]),
        ("stop", "Stopped: stopped at step 37 of 100, for the run is ill: enough", ["step-00000037"]),
        ("nan", "TrainingError: the loss is not finite at step", []),
    ],
)
def test_two_processes_look_and_stop_together(tmp_path, case, said, last):
    torch.multiprocessing.spawn(a_rank, (tmp_path, case), nprocs=2)
    for rank in range(2):
        assert (tmp_path / f"{rank}.txt").read_text().startswith(said)
    assert [path.name for path in steps(tmp_path / "run")] == last


def test_what_is_logged_is_json_and_is_read_without_gaps(tmp_path):
    log = Log(tmp_path, quiet=True)
    log.metrics(1, {"z_rank": 3.0, "gradient": math.inf, "update": math.nan, "checkup": {"leak": math.nan, "items": 4}})
    log.close()
    text = (tmp_path / "metrics.jsonl").read_text()
    assert json.loads(text, parse_constant=pytest.fail) == {"step": 1, "z_rank": 3.0, "checkup": {"items": 4}}
    for key in ("update", "queue_gap", "in_play", "gradient", "matched"):
        found = diagnose(course(**QUEUE | {key: math.nan}))
        assert found.verdict == "healthy", key
        assert "nan" not in found.sentence or key == "matched"


def test_watch_says_a_finding_once(tmp_path):
    (tmp_path / "run.json").write_text(json.dumps(about()))
    said = []
    watch = Watch(tmp_path, said.append, stop_when_ill=True)
    records = course(**ILL["learning rate too high"]).looks
    (tmp_path / "metrics.jsonl").write_text(json.dumps(records[0]) + "\n")
    for record in records[:5]:
        watch.see(record["step"], {k: v for k, v in record.items() if k != "step"})
        assert watch.reason() is None or watch.ill >= 2
    for record in records[5:]:
        watch.see(record["step"], {k: v for k, v in record.items() if k != "step"})
    assert len(said) == 1
    assert "learning rate too high" in said[0]
    assert "learning rate too high" in watch.reason()
    assert len(watch.course.looks) == len(records)


def test_doctor_on_the_command_line(tv, folder, tmp_path):  # noqa: F811
    assert tv("train", folder, *QUICK, "--out", "run", "-q")[0] == 0
    code, out, err = tv("doctor", "run")
    assert (code, err) == (3, "")  # of 8 steps nothing is said
    assert "too early" in out
    code, out, _ = tv("doctor", "run", "--json")
    written = json.loads(out)
    assert written == json.loads((tmp_path / "run" / "doctor.json").read_text())
    (tmp_path / "run" / "checkup.json").unlink()  # as in a run that has not finished: it is made from the weights
    assert tv("doctor", "run")[0] == code
    for path in folder.rglob("*.jpg"):
        if path.is_file():
            path.unlink()
    code, out, err = tv("doctor", "run")
    assert "judged by what was logged alone: " in err


def test_what_cannot_be_diagnosed_takes_one_line(tv, tmp_path):  # noqa: F811
    code, out, err = tv("doctor", tmp_path / "nowhere")
    assert (code, out) == (3, "")
    assert err.count("\n") == 1
    assert "is not a run" in err
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.json").write_text(json.dumps(about()))
    code, out, err = tv("doctor", "run")
    assert (code, out) == (3, "")
    assert err == "twoviews: run has no steps yet: nothing to diagnose; let it train and ask again\n"


def test_diagnosis_is_the_worst_of_its_findings():
    watch, ill = (Finding("n", level, "e", "r") for level in ("watch", "ill"))
    assert Diagnosis(1, (watch, ill)).verdict == "ill"
    assert Diagnosis(1, (watch,)).code == 1
    assert Diagnosis(1, (), "all well").lines() == ["healthy (step 1). all well"]


@pytest.mark.parametrize("text", ["null", "[]", '{"run": {}}', "{"])
def test_a_run_json_of_something_else_takes_one_line(tv, tmp_path, text):  # noqa: F811
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.json").write_text(text)
    code, _, err = tv("doctor", "run")
    assert code == 3
    assert err.count("\n") == 1


def test_a_line_cut_short_is_left_out(tmp_path):
    (tmp_path / "run.json").write_text(json.dumps(about()))
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "z_rank": 3.0, "loss": 1}\n{"step": 2, "z_ra')
    assert read_course(tmp_path).step == 1
    with pytest.raises(UserError, match="is not a run"):
        read_course(tmp_path / "no")


@pytest.mark.parametrize(
    ("series", "name"),
    [
        ({"explained": (-0.3, 0.2)}, None),
        ({"explained": (-0.3, 0.2), "uniformity": -0.03, "z_spread": 0.1, "z_rank": 2}, None),  # alike by nature
        ({"explained": (-0.3, 0.0)}, "nothing drawn yet"),
        ({"explained": (0.5, 0.97)}, "task too easy"),
        ({"explained": (-0.3, 0.2), "update": (0.3, 0.001)}, "learning rate too high"),
        (
            {
                "explained": (-0.3, 0.2),
                "evaluation": {
                    "rows": {
                        "chance": {"linear": SCORE | {"value": 0.1}},
                        "ours, h": {"linear": SCORE},
                        "ours, h, shuffled": {"linear": SCORE},
                    }
                },
            },
            "order of frames unused",
        ),
    ],
)
def test_what_draws_hidden_patches_is_judged_by_what_it_explains(series, name):
    found = diagnose(course(chance=None, matched=None, alignment=None, in_play=None, **series))
    assert [f.name for f in found.findings] == [name] * (name is not None)
    assert name or "20.0% of what the hidden patches hold" in found.sentence
