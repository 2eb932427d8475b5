"""Relatives across train and test, by name and by pixels, against brute force and planted cases."""

import json
import math

import numpy as np
import pytest
import torch
from PIL import Image

from twoviews.data.image import photos
from twoviews.errors import UserError
from twoviews.evaluate import leak
from twoviews.evaluate.knn import knn
from twoviews.evaluate.leak import copies, families, original, paired, siblings
from twoviews.evaluate.split import holdout, take
from twoviews.types import Features


def planted(alike, seed=0, classes=4, originals=30, crops=5, dim=12, name="{c}/{o:04d}_{i}.jpg"):
    """(train, test): crops of originals, split at random. alike: the share of variance that crops have in common."""
    g = torch.Generator().manual_seed(seed)
    c, o, i = (a.flatten() for a in np.indices((classes, originals, crops)))
    centre = torch.randn(classes, dim, generator=g) / 2
    own = torch.randn(classes, originals, dim, generator=g)
    noise = torch.randn(len(c), dim, generator=g)
    h = centre[c] + math.sqrt(alike) * own[c, o] + math.sqrt(1 - alike) * noise
    keys = [name.format(c=f"class{a}", o=b, i=d) for a, b, d in zip(c, o, i, strict=True)]
    everything = Features(h, keys, torch.from_numpy(c), [f"class{a}" for a in range(classes)])
    return tuple(take(everything, rows) for rows in holdout(c, 0.3, seed))


def by_hand(train, test, k, temperature, silent):
    """kNN accuracy in float64, item by item; silent(train name, test name) may not vote."""
    x, t = (f.h.double() / f.h.double().norm(dim=1, keepdim=True) for f in (train, test))
    right = 0
    for row, label, key in zip(t, test.labels.tolist(), test.keys, strict=True):
        similarity = (x @ row).tolist()
        voters = [i for i in sorted(range(len(x)), key=lambda i: -similarity[i]) if not silent(train.keys[i], key)]
        votes = {}
        for i in voters[:k]:
            c = int(train.labels[i])
            votes[c] = votes.get(c, 0.0) + math.exp(similarity[i] / temperature)
        right += max(votes, key=votes.get) == label
    return right / len(t)


def akin(a, b):
    return a.rpartition("_")[0] == b.rpartition("_")[0]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("0001_2.jpg", "0001"),
        ("a/0001-flip.jpg", "0001"),
        ("0001-hflip.jpg", "0001"),
        ("clip12_frame003.jpg", "clip12"),
        ("IMG_7 (copy).jpg", "IMG_7"),
        ("IMG_7 - Copy (2).jpg", "IMG_7"),
        ("IMG_7(2).jpg", "IMG_7"),
        ("leaf_rot90.png", "leaf"),
        ("leaf_90deg.png", "leaf"),
        ("leaf_new30degFlipLR.JPG", "leaf"),
        ("leaf_aug_3.png", "leaf"),
        ("leaf_jpg.rf.0123456789abcdef.jpg", "leaf_jpg"),
        ("a-1-2.jpg", "a-1"),
        ("2031.jpg", None),
        ("17", None),
        ("_12.jpg", None),
        ("big_carrot.jpg", None),
        (".jpg", None),
    ],
)
def test_one_mark_is_taken_from_a_name(name, expected):
    assert original(name)[2] == expected


def test_the_folder_of_a_split_does_not_tell_families_apart():
    assert original("set/train/cat/1_2.jpg")[0] == original("set/test/cat/1_3.jpg")[0] == "set/cat"
    assert original("set/train/dog/1_2.jpg")[0] == "set/dog"


def test_families_are_what_was_planted():
    names, expected = [], []
    for c in range(2):
        for o in range(6):
            for i in range(o % 3 + 1):  # of one, two or three items
                names.append(f"{'train' if i else 'test'}/{c}/{o}_{i}.png")
                expected.append((c, o) if o % 3 else None)
            if o == 4:
                names.append(f"test/{c}/{o}.png")  # the original itself, under its bare name
                expected.append((c, o))
        names += [f"train/{c}/{letter}_1.png" for letter in "abcdefghij"]
        expected += [None] * 10
    names += [f"train/{c}/x{o}_{i}.png" for c in range(2) for o in range(3) for i in range(2)]
    expected += [(c, f"x{o}") for c in range(2) for o in range(3) for _ in range(2)]
    classes = np.array([int(n.split("/")[1]) for n in names])
    found = families(names, classes)
    assert [f < 0 for f in found] == [e is None for e in expected]
    same = {}
    for f, e in zip(found.tolist(), expected, strict=True):
        if e is not None:
            assert same.setdefault(f, e) == e
    assert len(same) == len(set(expected) - {None})
    assert (families(names, np.full(len(names), -1)) < 0).all()


@pytest.mark.parametrize(
    "name",
    [
        "cat/cat_{i:03d}.jpg",
        "cat/IMG_{i:04d}.jpg",
        "cat/{i:05d}.jpg",
        "{part}/cat/{i:05d}.jpg",
        "cat/n02123045_{i}.JPEG",
        "{i}",
        "cat/{i:032x}.jpg",
        "cat/{kind}_{i}.jpg",  # two cameras: fewer than five groups are not families
    ],
)
def test_usual_names_form_no_families(name):
    names = [name.format(i=i % 50, part=("train", "test")[i // 50], kind="ab"[i % 2]) for i in range(100)]
    assert (families(names, np.zeros(100, int)) < 0).all()


def test_a_family_holds_at_most_a_fifth_of_its_class():
    names = [f"{o}_{i}.png" for o in range(5) for i in range(4)]
    assert (families(names, np.zeros(20, int)) >= 0).all()
    assert (families(names[:19], np.zeros(19, int)) < 0).all()  # four of four are more than a fifth of 19
    assert (families(names[:16], np.zeros(16, int)) < 0).all()  # and four families are too few


@pytest.mark.parametrize(("alike", "k"), [(0.0, 5), (0.5, 20), (0.9, 3)])
def test_siblings_equal_brute_force(alike, k):
    train, test = planted(alike)
    found = siblings(train, test, k=k, temperature=0.1)
    assert found.together.value == by_hand(train, test, k, 0.1, lambda a, b: False)
    assert found.together.value == knn(train, test, k=k, temperature=0.1).value
    assert found.apart.value == by_hand(train, test, k, 0.1, akin)
    assert found.families == 4 * 30
    related = [any(akin(a, b) for a in train.keys) for b in test.keys]
    assert (found.share.value, found.share.n) == (np.mean(related), len(test))
    assert all(akin(a, b) and a in test.keys and b in train.keys for a, b in found.examples)
    assert len(found.examples) == 10


def test_the_control_silences_as_many_others_of_the_class():
    """Each stranger has an equal chance, whatever it is worth: the mean over seeds is that of draws by hand."""
    train, test = planted(0.6, originals=8, crops=4, seed=2)
    ours = np.mean([siblings(train, test, k=4, seed=s).control.value for s in range(20)])
    rng, theirs = np.random.default_rng(7), []
    for _ in range(20):
        out = {}
        for key, label in zip(test.keys, test.labels, strict=True):
            others = [a for a, c in zip(train.keys, train.labels, strict=True) if c == label and not akin(a, key)]
            out[key] = set(rng.choice(others, sum(akin(a, key) for a in train.keys), replace=False))
        theirs.append(by_hand(train, test, 4, 0.07, lambda a, b, out=out: a in out[b]))
    assert 0.3 < np.mean(theirs) < 0.95
    assert ours == pytest.approx(np.mean(theirs), abs=3 * np.std(theirs) / math.sqrt(10))


def test_a_leak_is_found_and_its_size_said():
    """Items are noise but for their original: without siblings kNN knows next to nothing."""
    g = torch.Generator().manual_seed(0)
    c, o, i = (a.flatten() for a in np.indices((5, 40, 5)))
    own = torch.randn(5, 40, 16, generator=g)
    h = own[c, o] + 0.1 * torch.randn(1000, 16, generator=g)
    keys = [f"class{a}/clip{b}_frame{d:03d}.jpg" for a, b, d in zip(c, o, i, strict=True)]
    train, test = (take(Features(h, keys, torch.from_numpy(c)), rows) for rows in holdout(c, 0.2))
    found = siblings(train, test, k=3)
    assert found.leaks
    assert found.together.value > 0.95
    assert found.control.value > 0.95
    assert found.apart.low < 0.35
    assert found.drop[0] == pytest.approx(found.control.value - found.apart.value)
    written = json.loads(json.dumps(found.to_json()))
    assert written["leaks"] is True
    assert written["apart"]["value"] == found.apart.value


def test_families_that_do_not_leak_are_no_finding():
    """Items of a family are no more alike than others of their class: hardly one set in 40 is called a leak."""
    calls, costs = [], []
    for seed in range(40):
        found = siblings(*planted(0.0, seed=seed, classes=3, originals=12, crops=4), k=5)
        calls.append(found.leaks)
        costs.append(found.together.value - found.apart.value)
        assert found.share.value > 0.7
    assert sum(calls) <= 2  # at most 2.5 % each
    assert np.mean(costs) > 0.005  # fewer voters of the class do cost, and that is what the control takes out


def test_siblings_on_one_side_alone_change_nothing():
    """A split by original: families there are, but none has items on both sides."""
    train, test = planted(0.5)
    whole = Features(torch.cat([train.h, test.h]), train.keys + test.keys, torch.cat([train.labels, test.labels]))
    held = np.array([int(key.split("/")[1][:4]) < 8 for key in whole.keys])
    found = siblings(take(whole, np.flatnonzero(~held)), take(whole, np.flatnonzero(held)))
    assert found.share.value == 0
    assert found.together.value == found.apart.value == found.control.value
    assert not found.leaks
    assert found.examples == []


def test_names_without_families_give_none():
    train, test = planted(0.9, name="{c}/{c}_{o:04d}{i}.jpg")
    assert siblings(train, test) is None


def test_unlabelled_items_neither_vote_nor_are_judged():
    train, test = planted(0.6)
    expected = siblings(train, test).to_json()
    for part in (train, test):
        extra = part.h[:7] * 1.01
        part.h, part.keys = torch.cat([extra, part.h]), part.keys[:7] + part.keys
        part.labels = torch.cat([torch.full((7,), -1), part.labels])
    assert siblings(train, test).to_json() == expected
    train.labels = None
    with pytest.raises(UserError, match="no train item has a label"):
        siblings(train, test)


def test_many_test_items_are_thinned_evenly(monkeypatch):
    train, test = planted(0.6)
    monkeypatch.setattr(leak, "ITEMS", 50)
    rows = np.unique(np.linspace(0, len(test) - 1, 50).astype(int))
    thin = take(test, rows)
    found = siblings(train, test)
    assert found.together.n == 50
    assert found.apart.value == by_hand(train, thin, 20, 0.07, akin)


def test_paired_interval():
    """Wald's interval of the mean difference, over the items and half an item in each of the four cells."""
    rng = np.random.default_rng(0)
    a = rng.random(200) < 0.8
    b = np.where(rng.random(200) < 0.9, a, ~a)
    gap, low, high = paired(a, b)
    assert gap == pytest.approx(a.mean() - b.mean())
    weights = np.r_[np.ones(200), np.full(4, 0.5)] / 202
    values = np.r_[a.astype(float) - b, [0, 1, -1, 0]]
    mean = weights @ values
    half = 1.959964 * math.sqrt(weights @ (values - mean) ** 2 / 202)
    assert (low, high) == pytest.approx((mean - half, mean + half))
    assert paired(a, a)[1] < 0 < paired(a, a)[2]


def test_paired_interval_covers_the_truth():
    rng = np.random.default_rng(1)
    hits = 0
    for _ in range(2000):
        cell = rng.choice(4, 300, p=[0.72, 0.1, 0.03, 0.15])
        _, low, high = paired((cell == 0) | (cell == 1), (cell == 0) | (cell == 2))
        hits += low <= 0.07 <= high
    assert 0.94 < hits / 2000 < 0.965


@pytest.fixture
def sources(tmp_path):
    """train: 12 photos; test: 3 of them under other names and formats, 5 of its own, one broken."""
    rng = np.random.default_rng(0)
    for i in range(17):
        pixels = Image.fromarray(rng.integers(0, 256, (9, 11, 3), dtype=np.uint8))
        part, name = ("train", f"{i}.png") if i < 12 else ("test", f"{i}.png")
        (tmp_path / part).mkdir(exist_ok=True)
        pixels.save(tmp_path / part / name)
        if i in (2, 3, 7):
            (tmp_path / "test").mkdir(exist_ok=True)
            pixels.save(tmp_path / "test" / f"again{i}.bmp")
    (tmp_path / "test" / "broken.png").write_bytes(b"\x89PNG")
    return photos(tmp_path, split="train"), photos(tmp_path, split="test")


@pytest.mark.parametrize("workers", [1, 3])
def test_copies_are_counted_by_pixels(sources, workers):
    seen = []
    found = copies(*sources, workers=workers, progress=lambda done, total: seen.append((done, total)))
    assert (found.share.value, found.share.n) == (3 / 8, 8)
    assert (found.searched, found.train) == (12, 12)
    assert found.examples == [(f"test/again{i}.bmp", f"train/{i}.png") for i in (2, 3, 7)]
    assert seen[-1] == (21, 21)
    assert json.loads(json.dumps(found.to_json()))["examples"][0] == ["test/again2.bmp", "train/2.png"]


def test_copies_read_no_more_than_asked(sources):
    train, test = sources
    found = copies(train, test, most=4)
    assert (found.searched, found.train) == (4, 12)
    held = {train.key(i) for i in (0, 3, 7, 11)}
    assert {b for _, b in found.examples} == held & {"train/2.png", "train/3.png", "train/7.png"}


def test_copies_of_a_set_in_itself_are_not_asked_for(sources):
    train, test = sources
    assert copies(train, train) is None
    assert copies(train, test.subset([i for i in range(len(test)) if "broken" in test.key(i)])) is None
