"""Batches in which items of one speaker stand together: full, equal for every seed, epoch and number of processes."""

from collections import Counter

import numpy as np
import pytest
import torch
from scipy import stats

from twoviews.data import loader as loader_module
from twoviews.data.loader import Loader
from twoviews.data.order import groups_of, instead, together
from twoviews.data.soundviews import windows
from twoviews.errors import BrokenItem, DataError, UserError

SPEAKERS = np.repeat([7, 3, -1, 5, 9], [13, 8, 5, 3, 11])[np.random.default_rng(0).permutation(40)]


class Sounds:
    """Noise of several lengths by several speakers, some broken."""

    name, classes = "made", None

    def __init__(self, speakers=SPEAKERS, labels=None, broken=()):
        g = torch.Generator().manual_seed(0)
        n = 40 if speakers is None else len(speakers)
        self.items = [torch.randn(1, 1, 20 + 7 * (i % 5), generator=g) for i in range(n)]
        self.speakers, self.labels, self.broken = speakers, labels, set(broken)

    def __len__(self):
        return len(self.items)

    def key(self, index):
        return f"{index}.wav"

    def read(self, index):
        if index in self.broken:
            raise BrokenItem("truncated")
        return self.items[index]


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def loader(source=None, many=4, batch=8, **settings):
    return Loader(source or Sounds(), windows(16, together=many), batch, seed=3, **settings)


@pytest.mark.parametrize("many", [2, 3, 4, 8, 14])
def test_runs_are_of_one_group_and_as_many_as_there_can_be(many):
    groups = torch.from_numpy(SPEAKERS)
    order = together(groups, many, generator())
    assert len(set(order.tolist())) == len(order)
    runs = groups[order].view(-1, many)
    assert (runs == runs[:, :1]).all()
    counts = Counter(SPEAKERS[SPEAKERS >= 0].tolist())
    assert Counter(runs[:, 0].tolist()) == {g: n // many for g, n in counts.items() if n >= many}


def test_orders_are_random_and_told_by_the_seed():
    groups = torch.arange(4).repeat_interleave(6)  # two runs of three each
    orders = torch.stack([together(groups, 3, generator(s)) for s in range(2000)])
    assert torch.equal(orders[5], together(groups, 3, generator(5)))
    for place in (0, 2, 13, 23):
        counts = torch.bincount(orders[:, place], minlength=24)
        assert stats.chisquare(counts.numpy()).pvalue > 1e-3
    partners = torch.bincount(orders[(orders[:, 0] == 0), 1], minlength=24)
    assert (partners[1:6] > 0).all()
    assert partners[[0, *range(6, 24)]].sum() == 0
    neighbours = groups[orders.view(-1, 8, 3)[:, :2, 0]]  # what group follows another's run
    assert (neighbours[:, 0] == neighbours[:, 1]).double().mean() == pytest.approx(1 / 7, abs=0.03)


def test_other_items_are_left_over_each_time():
    groups = torch.zeros(10, dtype=torch.int64)
    seen = [set(together(groups, 4, generator(s)).tolist()) for s in range(50)]
    assert {len(s) for s in seen} == {8}
    assert set.union(*seen) == set(range(10))
    assert len({frozenset(s) for s in seen}) > 20


@pytest.mark.parametrize("groups", [[], [-1, -1, -1], [0, 1, 2]])
def test_where_no_run_fits_nothing_is_left(groups):
    assert together(torch.tensor(groups, dtype=torch.int64), 2, generator()).tolist() == []


def test_many_items_are_ordered():
    """Against runs made one by one."""
    groups = torch.randint(-1, 500, (100_000,), generator=generator(1))
    order = together(groups, 8, generator())
    waiting: dict[int, list[int]] = {}
    for item in groups.tolist():
        waiting.setdefault(item, []).append(item)
    assert len(order) == sum(len(v) // 8 * 8 for g, v in waiting.items() if g >= 0)
    assert len(order.unique()) == len(order)
    runs = groups[order].view(-1, 8)
    assert (runs == runs[:, :1]).all()


@pytest.mark.parametrize("memory", [True, False])
def test_batches_are_of_whole_runs(memory):
    ours = loader(memory=memory, workers=0)
    assert ours.steps == (12 + 8 + 8) // 8
    epochs = [[b.ids for b in ours.epoch(e)] for e in range(2)]
    for batches in epochs:
        assert [len(ids) for ids in batches] == [8] * 3
        ids = torch.cat(batches)
        assert len(ids.unique()) == 24
        runs = torch.from_numpy(SPEAKERS)[ids].view(-1, 4)
        assert (runs == runs[:, :1]).all()
        assert (runs >= 0).all()
    assert not torch.equal(torch.cat(epochs[0]), torch.cat(epochs[1]))


def same(ours, theirs):
    return len(ours) == len(theirs) and all(
        torch.equal(a.ids, b.ids) and torch.equal(a.views[0], b.views[0]) for a, b in zip(ours, theirs, strict=True)
    )


def test_workers_memory_and_a_restart_change_nothing():
    expected = list(loader().epoch(1))
    assert same(list(loader(memory=False, workers=0).epoch(1)), expected)
    assert same(list(loader(memory=False, workers=2).epoch(1)), expected)
    assert same(list(loader().epoch(1, start=2)), expected[2:])


def test_two_processes_and_parts_see_what_one_would(monkeypatch):
    expected = [b.ids for b in loader(batch=16, many=4).epoch(0)]
    parts = [b.ids for b in loader(batch=16, many=4, accumulate=2).epoch(0)]
    assert [torch.cat(pair).tolist() for pair in zip(parts[::2], parts[1::2], strict=True)] == [
        x.tolist() for x in expected
    ]
    monkeypatch.setattr(loader_module, "world", lambda: 2)
    shares = []
    for rank in range(2):
        monkeypatch.setattr(loader_module, "rank", lambda rank=rank: rank)
        shares.append([b.ids for b in loader(batch=16, many=4).epoch(0)])
    assert [torch.cat(pair).tolist() for pair in zip(*shares, strict=True)] == [x.tolist() for x in expected]
    with pytest.raises(UserError, match="together=4 does not divide the 2 items of a batch on each process"):
        loader(batch=4, many=4)


def test_labels_stand_in_for_speakers():
    source = Sounds(speakers=None, labels=np.arange(40) % 5)
    for batch in loader(source).epoch(0):
        runs = (batch.ids % 5).view(-1, 4)
        assert (runs == runs[:, :1]).all()


@pytest.mark.parametrize("memory", [True, False])
def test_a_broken_item_leaves_runs_whole(memory):
    broken = np.flatnonzero(SPEAKERS == 3)[:4].tolist()
    ours = loader(Sounds(broken=broken), memory=memory, workers=0)
    for batch in ours.epoch(0):
        runs = torch.from_numpy(SPEAKERS)[batch.ids].view(-1, 4)
        assert (runs == runs[:, :1]).all()
        assert not set(broken) & set(batch.ids.tolist())
    assert set(ours.skipped) <= {f"{i}.wav" for i in broken}
    assert ours.skipped


def test_what_takes_the_place_of_a_broken_item():
    assert list(instead(2, 5, None)) == [2, 3, 4, 0, 1]
    assert list(instead(2, 5, np.array([1, 0, 1, 0, 1]))) == [2, 4, 0, 3, 1]
    assert list(instead(0, 1, None)) == [0]


def test_mixed_batches_keep_their_order():
    """together=0 takes the permutation that every other run takes, from any source."""
    expected = torch.randperm(40, generator=torch.Generator().manual_seed(3 * 1_000_003 + 1))
    batches = loader(Sounds(speakers=None), many=0).epoch(1)
    assert torch.equal(torch.cat([b.ids for b in batches]), expected)


def test_wrong_settings_are_told():
    with pytest.raises(UserError, match="together=3 does not divide the 8 items of a batch on each process"):
        loader(many=3)
    with pytest.raises(DataError, match="together=4 needs to know who is heard, and made has neither speakers nor"):
        loader(Sounds(speakers=None))
    with pytest.raises(UserError, match="8 of 40 items are in runs of 8 of one speaker, fewer than one batch of 16"):
        loader(Sounds(np.repeat(np.arange(5), 8) * (np.arange(40) < 8) - (np.arange(40) >= 8)), many=8, batch=16)
    with pytest.raises(UserError, match="40 readable items are fewer than one batch of 64; set batch_size to at most"):
        loader(many=0, batch=64)
    with pytest.raises(DataError, match="none of 40 items could be read; the first, 0.wav: truncated"):
        loader(Sounds(broken=range(40)))
    assert groups_of(Sounds(), 0, 3) is None
