"""Splits: the same arrays with other bounds, nothing found in training that is to be found."""

import gzip
from dataclasses import replace
from hashlib import sha256

import numpy as np
import pyarrow as pa
import pytest
from conftest import DATA

from twoviews.data.histories import Histories, padded
from twoviews.data.logs import histories
from twoviews.data.splits import SPLITS, divided, reached
from twoviews.errors import DataError, UserError

LENGTHS = [6, 1, 10, 2, 3, 5]


def log(lengths=LENGTHS, split="leave-one-out", seed=0):
    """Users one after the other, every event an item of its own, times rising in each user."""
    random = np.random.default_rng(seed)
    stops = np.cumsum(lengths)
    events = int(stops[-1])
    times = np.concatenate([np.sort(random.integers(0, 100, n)) for n in lengths])
    users = pa.array([f"u{i}" for i in range(len(lengths))])
    items = np.arange(events, dtype=np.int32)
    return Histories("toy", items, stops - lengths, stops, users, pa.array(range(events)), times, {}, split)


def spans(part):
    """{user: the places of their events}."""
    return {part.key(i): list(range(part.starts[i], part.stops[i])) for i in range(len(part))}


def whole(source):
    return spans(source)


@pytest.mark.parametrize(
    ("split", "train", "valid", "test"),
    [
        (
            "leave-one-out",
            lambda h: h[:-2] if len(h) > 2 else h,
            lambda h: (h[:-2], h[-2:-1]),
            lambda h: (h[:-1], h[-1:]),
        ),
        ("leave-one-out-paper", lambda h: h[:-1] if len(h) > 1 else h, None, lambda h: (h[:-1], h[-1:])),
        ("none", lambda h: h, None, None),
    ],
)
def test_splits_by_place(split, train, valid, test):
    source = log(split=split)
    found = divided(source)
    assert spans(found.train) == {user: train(h) for user, h in whole(source).items()}
    least = 2 if split == "leave-one-out-paper" else 3
    asked = {user: h for user, h in whole(source).items() if len(h) >= least}
    for question, expected in ((found.valid, valid), (found.test, test)):
        assert (question is None) == (expected is None)
        if question is not None:
            assert spans(question.history) == {user: expected(h)[0] for user, h in asked.items()}
            assert spans(question.truth) == {user: expected(h)[1] for user, h in asked.items()}


@pytest.mark.parametrize("split", ["ratio", "ratio:0.5", "ratio:0.1"])
def test_ratio_takes_the_same_share_of_each_user(split):
    source = log([6, 1, 10, 2, 3, 5, 40], split)
    found = divided(source)
    share = float(split.partition(":")[2] or 0.8)
    train, test, valid = spans(found.train), spans(found.test.truth), spans(found.valid.truth)
    for user, h in whole(source).items():
        if len(h) < 3:
            assert train[user] == h
            assert user not in test
            continue
        assert train[user] + valid[user] + test[user] == h
        assert len(valid[user]) == len(test[user]) >= 1
        assert len(train[user]) >= 1
        assert abs(len(test[user]) - (1 - share) / 2 * len(h)) <= 1
        assert spans(found.test.history)[user] == train[user] + valid[user]
        assert spans(found.valid.history)[user] == train[user]
    assert len(train["u6"]) == round(40 * share)


@pytest.mark.parametrize("split", ["time", "time:0.7"])
@pytest.mark.parametrize("seed", [0, 1])
def test_time_divides_at_moments_for_all(split, seed):
    source = log([30, 1, 25, 2, 3, 40, 5, 1], split, seed)
    share = float(split.partition(":")[2] or 0.9)
    times = np.sort(source.times)
    first, second = times[round((2 * share - 1) * len(times))], times[round(share * len(times))]
    found = divided(source)
    for user, h in whole(source).items():
        before = [i for i in h if source.times[i] < first]
        middle = [i for i in h if first <= source.times[i] < second]
        after = [i for i in h if source.times[i] >= second]
        assert spans(found.train)[user] == before
        assert spans(found.valid.truth).get(user, []) == (middle if before else [])
        assert spans(found.test.truth).get(user, []) == (after if before + middle else [])
        assert spans(found.test.history).get(user, before + middle) == before + middle
    assert abs(found.train.events - (2 * share - 1) * source.events) <= 0.05 * source.events + 1


@pytest.mark.parametrize("split", ["time", "time:0.99"])
def test_time_divides_a_log_of_few_events(split):
    found = divided(replace(log([4], split), times=np.arange(4)))
    assert (spans(found.train), spans(found.test.truth)) == ({"u0": [0, 1, 2]}, {"u0": [3]})


def test_reached_bisects_each_history():
    source = log([4, 0, 1, 9])
    for moment in range(-1, 102):
        expected = [
            a + int((source.times[a:b] < moment).sum()) for a, b in zip(source.starts, source.stops, strict=True)
        ]
        assert reached(source, moment).tolist() == expected


@pytest.mark.parametrize("split", ["leave-one-out", "leave-one-out-paper", "time", "ratio"])
def test_nothing_to_be_found_is_in_training(split):
    """Every event of the toy log is an item of its own, so items tell events apart."""
    source = log([30, 1, 25, 2, 3, 40], split)
    found = divided(source)
    trained = set(source.items[np.repeat(*_marks(found.train))].tolist())
    for question in (found.valid, found.test):
        if question is None:
            continue
        sought = set(source.items[np.repeat(*_marks(question.truth))].tolist())
        known = set(source.items[np.repeat(*_marks(question.history))].tolist())
        assert not sought & trained
        assert not sought & known
        assert question.history.users.equals(question.truth.users)
        assert (question.truth.lengths > 0).all()
        assert (question.history.lengths > 0).all()
        assert question.truth.items is source.items  # a view
    assert found.train.users.equals(source.users)
    if split != "time":  # users who came late are nowhere else
        assert trained | sought | known == set(range(source.events))


def _marks(part):
    """Each event's place, once."""
    inside = np.zeros(len(part.items), int)
    for a, b in zip(part.starts, part.stops, strict=True):
        inside[a:b] += 1
    return np.arange(len(inside)), inside


def test_counts_and_flat_are_of_the_part():
    train = divided(log()).train
    places, inside = _marks(train)
    assert train.counts().tolist() == inside.tolist()
    assert train.flat(train.times).tolist() == train.times[places[inside > 0]].tolist()
    assert train.subset(np.array([2, 0])).counts().sum() == train.lengths[[2, 0]].sum()


def test_what_was_done_is_said():
    assert divided(log()).said == (
        "the last event of 4 users is to be found given all before it; the last but one chooses the checkpoint; "
        "neither is trained on; 2 users of fewer than 3 events are trained on and not asked"
    )
    assert "1 users of 1 event are trained on" in divided(log(split="leave-one-out-paper")).said
    late = replace(log([5, 5, 2], "time:0.75"), times=np.array([1, 2, 3, 4, 5, 1, 2, 3, 4, 9, 10, 11]))
    assert divided(late).said.endswith("; 1 users who came after it are not asked")
    assert set(SPLITS) == {"leave-one-out", "leave-one-out-paper", "time", "ratio", "none"}


@pytest.mark.parametrize(
    ("split", "message"),
    [
        ("loo", r"unknown split 'loo'.*Allowed: leave-one-out, leave-one-out-paper, none, ratio, time\."),
        ("none:0.5", "data.split=none:0.5: 'none' takes no number; say data.split=none"),
        ("time:0.4", "data.split=time:0.4: the number must be above 0.5, below 1, such as time:0.9"),
        ("time:", "the number must be above 0.5"),
        ("ratio:most", "the number must be above 0, below 1"),
        ("ratio:nan", "the number must be above 0, below 1"),
    ],
)
def test_wrong_names_are_refused(split, message):
    with pytest.raises(UserError, match=message):
        divided(log(split=split))


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (replace(log(split="time"), times=None), "toy has no times; say data.time=NAME, or data.split=ratio"),
        (log([2, 2, 1]), "no user of toy has 3 events, so nothing can be held out; data.split=none trains all"),
        (log([1, 1], "none"), "every user of toy has one event, so nothing follows anything; say data.user=NAME"),
        (
            replace(log(split="time"), times=np.zeros(27, np.int64)),
            "no user of toy has events before and after one moment",
        ),
        (
            replace(log([3]), vocabulary=pa.array(["x"]), items=np.zeros(3, np.int32)),
            "toy has one item, 'x', so there is",
        ),
    ],
)
def test_logs_that_cannot_be_divided(source, message):
    with pytest.raises(UserError, match=message) as caught:
        divided(source)
    assert isinstance(caught.value, DataError) or "times" in message


SIZES = {  # events trained on, users asked
    "ml-1m_sas.txt.gz": {"leave-one-out": (987_531, 6040), "leave-one-out-paper": (993_571, 6040)},
    "beauty_bert4rec.txt.gz": {"leave-one-out": (273_510, 40_226), "leave-one-out-paper": (313_736, 40_226)},
}


@pytest.fixture(scope="module", params=SIZES)
def real(request):
    path = DATA / "rec" / request.param
    if not path.exists():
        pytest.skip(f"{request.param} is not there; set TWOVIEWS_DATA to the folder of the data sets")
    return request.param, histories(path)


def test_split_sizes_of_real_logs(real):
    name, source = real
    for split, (trained, asked) in SIZES[name].items():
        found = divided(replace(source, split=split))
        assert found.train.events == trained
        assert len(found.test) == asked
        assert (found.test.truth.lengths == 1).all()
        assert (found.valid is None) == (split == "leave-one-out-paper")
        assert found.train.counts().sum() == trained


def test_no_test_target_of_real_logs_is_trained_on(real):
    """No user repeats an item in either set, so that a target in the user's training part would be a leak."""
    name, source = real
    found = divided(source)
    trained, _ = padded(source.items, found.train.starts, found.train.stops)
    for question in (found.valid, found.test):
        assert not (trained == source.items[question.truth.starts, None]).any()
    cold = found.train.counts()[source.items[found.test.truth.starts]] == 0
    assert cold.mean() == pytest.approx({"ml-1m_sas.txt.gz": 0.0, "beauty_bert4rec.txt.gz": 0.0999}[name], abs=1e-4)


def test_ml_1m_is_the_published_file():
    path = DATA / "rec" / "ml-1m_sas.txt.gz"
    if not path.exists():
        pytest.skip(f"{path.name} is not there; set TWOVIEWS_DATA to the folder of the data sets")
    unpacked = sha256(gzip.decompress(path.read_bytes())).hexdigest()
    assert unpacked == "b725f3acb3986fe3130bffd1e77a74d182a1f51799567a236dbd60270f95b0a2"
