"""The doctor on runs on histories: small trainings made sick on purpose, planted numbers, and what a checkup sees."""

import json
import math
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch

from twoviews import Run, fit
from twoviews.after import doctor
from twoviews.build import build
from twoviews.data.cloze import ask, cloze, following
from twoviews.data.logs import histories
from twoviews.data.splits import divided
from twoviews.doctor.course import Course, read_course
from twoviews.doctor.histories import checkup_histories, correlation, likeness, percentiles, popularity, shuffled
from twoviews.doctor.rules import diagnose
from twoviews.encoders.sequence import bert, causal
from twoviews.errors import TrainingError
from twoviews.evaluate.ranking import model_scorer, rank
from twoviews.methods.bert4rec import BERT4Rec
from twoviews.methods.sasrec import SASRec
from twoviews.optim import adamw, cosine

ITEMS = 120


def a_log(users=300, follow=3, noise=0.15, seed=0, shortest=5, longest=20):
    """Histories of a Markov chain: each item is followed by one of `follow`, or now and then by any."""
    random = np.random.default_rng(seed)
    after = random.integers(0, ITEMS, (ITEMS, follow))
    popular = 1 / np.arange(1, ITEMS + 1) ** 0.8
    out = {}
    for user in range(users):
        items = [int(random.choice(ITEMS, p=popular / popular.sum()))]
        for _ in range(int(random.integers(shortest, longest)) - 1):
            any_item = int(random.choice(ITEMS, p=popular / popular.sum()))
            items.append(any_item if random.random() < noise else int(after[items[-1], random.integers(follow)]))
        out[f"u{user}"] = [f"i{item}" for item in items]
    return out


def a_run(log=None, method=SASRec, **changed):
    both = {SASRec: (following, causal, False), BERT4Rec: (cloze, bert, True)}
    views, encoder, blank = both[next(kind for kind in both if issubclass(method, kind))]
    run = Run(
        data=partial(histories, data=a_log() if log is None else log),
        views=partial(views, length=20),
        test_view=partial(ask, length=20, blank=blank),
        encoder=partial(encoder, length=20, width=32),
        method=partial(method),
        optimizer=partial(adamw, lr=3e-3, betas=(0.9, 0.98)),
        schedule=partial(cosine, warmup=0.05),
        epochs=25,
        batch_size=64,
        clip=5.0,
        watch=5,
    )
    return run.override(changed)


def names(diagnosis):
    return {finding.name for finding in diagnosis.findings}


# Runs that were trained


class Constant(BERT4Rec):
    """Whatever a user has met, the answer is one."""

    def project(self, h):
        return h * 0 + self.encoder.norm.bias


@pytest.fixture(scope="module")
def healthy(tmp_path_factory):
    folder = tmp_path_factory.mktemp("doctor") / "run"
    return folder, fit(a_run(), folder, quiet=True)


def test_a_healthy_run_is_left_in_peace(healthy):
    folder, result = healthy
    assert result.diagnosis.findings == () or names(result.diagnosis) == {
        "floor not beaten"
    }  # the log is a Markov chain
    assert result.diagnosis.verdict in ("healthy", "watch")
    course = read_course(folder)
    assert course.of_histories
    assert len(course.validation) == 5
    seen = course.checkup
    assert json.loads((folder / "doctor.json").read_text()) == result.diagnosis.to_json()
    assert seen["vectors"]["dim"] == 32
    assert seen["ndcg"] > 3 * seen["ndcg_shuffled"]
    assert seen["order_low"] > 0
    assert seen["alike"] < 0.3
    assert seen["ahead_of_popular"][0] > 0
    again = diagnose(replace(course, evaluation={}, checkup={k: v for k, v in seen.items() if "ahead" not in k}))
    assert again.verdict == "healthy"
    assert "two users share" in again.sentence


def test_one_answer_for_all_is_named(tmp_path):
    found = fit(a_run(method=Constant, epochs=12, **{"optimizer.lr": 1e-2}), tmp_path / "run", quiet=True).diagnosis
    assert (found.verdict, found.findings[0].name) == ("ill", "recommends the same to all")
    assert "100% of their ten best" in found.sentence


def test_steps_too_large_are_named(tmp_path):
    with pytest.raises(TrainingError):
        fit(a_run(**{"optimizer.lr": 100.0, "clip": None}), tmp_path / "run", quiet=True)
    found = doctor(tmp_path / "run", quiet=True)
    assert (found.verdict, found.findings[0].name) == ("ill", "learning rate too high")


def test_steps_too_small_are_named(tmp_path):
    found = fit(a_run(**{"optimizer.lr": 1e-7}), tmp_path / "run", quiet=True).diagnosis
    assert (found.verdict, found.findings[0].name) == ("ill", "does not learn")


def test_a_log_without_order_cannot_teach_it(tmp_path):
    """Users of four kinds who meet the items of their kind in any order."""
    random = np.random.default_rng(0)
    log = [random.choice(30, 15, replace=False) + 30 * (user % 4) for user in range(300)]
    found = fit(a_run([[f"i{i}" for i in items] for items in log]), tmp_path / "run", quiet=True).diagnosis
    assert "ignores order" in names(found)
    assert "not better than what is popular" not in names(found)


def test_a_log_of_chance_teaches_nothing(tmp_path):
    random = np.random.default_rng(0)
    log = [[f"i{i}" for i in random.integers(0, 400, 12)] for user in range(300)]
    found = fit(a_run(log, epochs=30), tmp_path / "run", quiet=True).diagnosis
    assert names(found) & {"not better than what is popular", "recommends the same to all", "overfits"}


def test_few_histories_learned_by_heart_are_named(tmp_path):
    run = a_run(a_log(100, noise=0.6), epochs=30, watch=3, batch_size=16)
    run = run.override({"encoder.dropout": 0.0, "encoder.width": 64})
    found = fit(run, tmp_path / "run", quiet=True).diagnosis
    assert "overfits" in names(found)


def test_too_few_epochs_are_named(tmp_path):
    slow = {"optimizer.lr": 3e-4, "schedule.warmup": 0.9, "encoder.init": "normal"}
    run = a_run(epochs=8, watch=1, **slow)
    found = fit(run, tmp_path / "run", quiet=True).diagnosis
    assert "stopped too early" in names(found)


# Numbers that were planted


def about(**run):
    method = {"call": "twoviews.methods.bert4rec:BERT4Rec", "negatives": 1024}
    settings = {"epochs": 20, "batch_size": 128, "method": method, "optimizer": {"lr": 0.001}, "encoder": {"width": 64}}
    return {"run": settings | run, "data": {"items": 1280, "catalogue": 5000, "events": 10_000, "name": "log"}}


WELL = {
    "alike": 0.05, "alike_chance": 0.002, "alike_popular": 0.1, "ndcg": 0.05, "ndcg_shuffled": 0.03, "order_low": 0.01,
    "order_high": 0.03, "cold": 0.0, "coverage": 0.3, "reached": 0.3, "never": 0.6, "taken_coverage": 0.3, "short": 0.1,
    "vectors_met": {"dim": 64, "rank": 45.0},
}  # fmt: skip


def course(checkup=None, validation=(), rows=None, loss=(8.5, 5.0), looks=50, **series):
    c = Course(about(), checkup=WELL | (checkup or {}), evaluation={"rows": rows or {}, "ours": "BERT4Rec"})
    for i in range(looks):
        at = min(1.0, 2 * i / (looks - 1))
        usual = {
            "loss": loss[0] + at * (loss[1] - loss[0]),
            "z_rank": 30.0,
            "uniformity": -2.0,
            "update": 0.01,
        } | series
        c.add({"step": 4 * (i + 1), **usual})
    for epoch, ndcg in validation:
        c.add({"step": 10 * epoch, "epoch": epoch, "ndcg": ndcg, "recall": 2 * ndcg})
    return c


def rows(ours, popular=0.01, markov=0.03, n=2000):
    found = {"popular": popular, "markov": markov, "BERT4Rec": ours}
    return {
        row: {"NDCG@10": {"value": x, "low": x - 0.004, "high": x + 0.004, "n": n, "detail": {}}}
        for row, x in found.items()
    }


RISING = [(epoch, 0.02 + 0.002 * epoch) for epoch in range(2, 21, 2)]
ILL = {
    "recommends the same to all": {"checkup": {"alike": 0.9}},
    "does not learn": {"loss": (8.5, 8.49)},
    "item vectors collapsed": {"checkup": {"vectors_met": {"dim": 64, "rank": 1.4}}},
    "not better than what is popular": {"rows": rows(0.009)},
    "learning rate too high": {"update": 0.5},
}
WATCH = {
    "floor not beaten": {"rows": rows(0.02)},
    "ignores order": {"checkup": {"ndcg_shuffled": 0.0499, "order_low": -0.001, "order_high": 0.001}},
    "few items reached": {"checkup": {"coverage": 0.01, "reached": 0.01}},
    "overfits": {"validation": [(2, 0.03), (4, 0.05), (10, 0.04), (16, 0.035), (20, 0.03)]},
    "stopped too early": {"validation": RISING},
    "test items unknown": {"checkup": {"cold": 0.2}},
    "histories too short": {"checkup": {"short": 0.7}},
}


@pytest.mark.parametrize("name", ILL | WATCH)
def test_each_illness_has_its_name_its_level_and_a_remedy(name):
    found = diagnose(course(**(ILL | WATCH)[name]))
    assert [finding.name for finding in found.findings] == [name]
    assert found.verdict == ("ill" if name in ILL else "watch")
    assert any(digit in found.findings[0].evidence for digit in "0123456789")
    assert found.findings[0].remedy[0].isupper()


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"rows": rows(0.05)},
        {"rows": rows(0.027)},  # not clearly below the floor
        {"validation": [(e, 0.05 - 0.03 / e) for e in range(2, 21, 2)]},
        {"validation": [(5, 0.03), (10, 0.05), (15, 0.048), (20, 0.047)]},
        {"checkup": {"ndcg_shuffled": 0.0499, "order_low": -0.03, "order_high": 0.03}},  # too few users to tell
        {"checkup": {"cold": 0.03, "short": 0.4}},
        {"matched": 1.0, "queue_gap": 5.0, "queue_age": 0.0, "queue_variety": 0.0},  # what rules for photos look at
    ],
)
def test_what_is_well_is_left_in_peace(changed):
    found = diagnose(course(**changed))
    assert found.findings == ()
    assert found.verdict == "healthy"
    assert found.sentence.startswith("Nothing found")


def test_differences_of_the_same_users_count_before_intervals_of_each():
    planted = rows(0.027)
    assert diagnose(course({"ahead_of_markov": [-0.004, -0.001]}, rows=planted)).findings[0].name == "floor not beaten"
    clear = {"ahead_of_popular": [0.001, 0.003], "ahead_of_markov": [0.001, 0.002]}
    assert diagnose(course(clear, rows=rows(0.012, 0.010, 0.011))).findings == ()
    few = rows(0.009, n=40)
    assert diagnose(course(rows=few)).verdict == "watch"  # of so few users


def test_states_that_lie_together_are_told_while_it_trains():
    c = course(uniformity=-0.001)
    c.checkup = {}
    assert diagnose(c).findings[0].name == "recommends the same to all"
    early = course(uniformity=-0.001, looks=12)  # 48 of 200 steps
    early.checkup = {}
    assert diagnose(early).findings == ()


def test_waiting_for_data_speaks_of_no_photos():
    c = course()
    c.waits = [(0.6, 0.2)] * 50
    found = diagnose(c).findings[0]
    assert found.name == "waiting for data"
    assert "photos" not in found.remedy


def test_photos_are_judged_by_their_own_rules():
    c = course({"views_apart": 0.0})
    assert diagnose(c).findings == ()
    c.about["data"].pop("catalogue")
    assert "views too alike" in names(diagnose(c))


# The checkup


def test_known_lists_have_known_likeness():
    counts = np.array([9, 8, 7, 1, 1, 1, 1, 1])
    random = np.random.default_rng(0)
    same = likeness(np.tile([2, 0, 1], (50, 1)), counts, random)
    assert same == {"alike": 1.0, "alike_chance": 3 / 8, "alike_popular": 1.0}
    two = likeness(np.array([[0, 1, 3], [1, 4, 5]]), counts, random)
    assert two["alike"] == pytest.approx(1 / 3)
    assert two["alike_popular"] == pytest.approx((2 + 1) / 6)


def test_popularity_of_known_lists():
    counts = np.array([100, 5, 5, 1, 0])
    found = popularity(np.array([[0, 1], [0, -1]]), np.array([3, 4]), counts)
    assert percentiles(counts).tolist() == pytest.approx([0.9, 0.6, 0.6, 0.3, 0.1])
    assert found["recommended_percentile"] == pytest.approx((0.9 + 0.6 + 0.9) / 3)
    assert found["taken_percentile"] == pytest.approx(0.2)
    assert found["recommended_most"] == pytest.approx(2 / 3)
    assert found["taken_most"] == 0
    assert found["coverage"] == pytest.approx(2 / 5)
    assert found["reached"] == pytest.approx(2 / 3)
    assert found["never"] == pytest.approx(1 / 2)
    assert found["taken_coverage"] == pytest.approx(2 / 5)


def test_shuffling_keeps_what_is_older_and_who_met_what():
    log = histories([[f"i{i}" for i in range(30)], ["i3", "i4"], ["i5"]])
    some = log.subset([2, 0])
    mixed = shuffled(some, 10, np.random.default_rng(0))
    old, new = some.read(1).tolist(), mixed.read(1).tolist()
    assert mixed.read(0).tolist() == some.read(0).tolist()
    assert new[:20] == old[:20]
    assert new[20:] != old[20:]
    assert sorted(new) == sorted(old)


def test_correlation_is_pearsons():
    x, y = np.random.default_rng(0).normal(size=(2, 50))
    assert correlation(x, y) == pytest.approx(np.corrcoef(x, y)[0, 1])
    assert math.isnan(correlation(x, np.ones(50)))


@pytest.mark.parametrize("kind", [SASRec, BERT4Rec])
def test_a_checkup_changes_nothing_and_agrees_with_the_measures(kind):
    run = a_run(method=kind)
    division = divided(run.data())
    method = build(run.resolved(division.train)).train()
    if kind is BERT4Rec:
        torch.nn.init.normal_(method.bias)
    before = {k: v.clone() for k, v in method.state_dict().items()}
    state = torch.get_rng_state()
    found = checkup_histories(method, run.test_view(), division)
    assert method.training
    assert all(torch.equal(v, before[k]) for k, v in method.state_dict().items())
    assert torch.equal(state, torch.get_rng_state())
    ranks = rank(model_scorer(method, run.test_view()), division.test, division.train.counts())
    assert found["ndcg"] == pytest.approx(ranks.ndcg(10).value, rel=1e-4)
    assert found["coverage"] == pytest.approx(ranks.coverage(10), rel=1e-4)
    assert found["users"] == len(division.test)
    assert ("bias_popularity" in found) == (kind is BERT4Rec)
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_without_a_test_the_rest_is_looked_at():
    run = a_run().override({"data.split": "none"})
    division = divided(run.data())
    found = checkup_histories(build(run.resolved(division.train)), run.test_view(), division)
    assert {"vectors", "h", "alike"} <= found.keys()
    assert "ndcg" not in found


def test_weights_that_are_not_finite_leave_little_to_say():
    run = a_run()
    division = divided(run.data())
    method = build(run.resolved(division.train))
    for p in method.parameters():
        p.data.fill_(math.nan)
    found = checkup_histories(method, run.test_view(), division)
    assert found["vectors"] is None
    json.dumps(found, allow_nan=False)
    assert diagnose(course(found)).verdict in ("healthy", "watch")


def test_the_doctor_looks_at_a_run_that_has_no_checkup(healthy, tmp_path):
    folder, result = healthy
    before = json.loads((folder / "checkup.json").read_text())
    (folder / "checkup.json").unlink()
    try:
        found = doctor(folder, quiet=True)
        assert names(found) <= {"floor not beaten"}
    finally:
        (folder / "checkup.json").write_text(json.dumps(before))
