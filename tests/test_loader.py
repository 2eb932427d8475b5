"""What is seen depends on the seed alone: not on workers, memory, where a run went on, or the number of processes."""

import subprocess
import sys
from textwrap import dedent

import numpy as np
import pytest
import torch

from twoviews.data import loader as loader_module
from twoviews.data.digits import digits
from twoviews.data.image import photos
from twoviews.data.loader import Loader, collate
from twoviews.data.views import two_crops
from twoviews.errors import BrokenItem, DataError, UserError

VIEWS = two_crops(size=12)


class Source:
    """Photos of several sizes, some broken."""

    name, classes, channels = "made", None, 3

    def __init__(self, n=23, broken=()):
        g = np.random.default_rng(0)
        self.items = [torch.from_numpy(g.integers(0, 256, (3, *g.integers(8, 20, 2)), np.uint8)) for _ in range(n)]
        self.broken, self.labels = set(broken), np.arange(n) % 3

    def __len__(self):
        return len(self.items)

    def key(self, index):
        return f"{index}.png"

    def read(self, index):
        if index in self.broken:
            raise BrokenItem("truncated")
        return self.items[index]


def epochs(source=None, views=VIEWS, start=0, **settings):
    loader = Loader(source or Source(), views, 8, seed=3, **settings)
    return [b for e in range(2) for b in loader.epoch(e, start)], loader


def same(a, b):
    return len(a) == len(b) and all(
        torch.equal(x.ids, y.ids) and all(torch.equal(v, w) for v, w in zip(x.views, y.views, strict=True))
        for x, y in zip(a, b, strict=True)
    )


@pytest.mark.parametrize(
    "settings", [{"memory": True}, {"memory": False, "workers": 0}, {"memory": False, "workers": 2}]
)
def test_memory_and_workers_change_nothing(settings):
    expected, _ = epochs()
    assert same(epochs(**settings)[0], expected)


def test_an_epoch_can_be_entered_anywhere():
    whole = list(Loader(Source(), VIEWS, 8, seed=3).epoch(1))
    assert same(list(Loader(Source(), VIEWS, 8, seed=3).epoch(1, start=1)), whole[1:])


def test_each_item_is_seen_once_an_epoch_in_a_new_order():
    loader = Loader(Source(24), VIEWS, 8)
    first, second = (torch.cat([b.ids for b in loader.epoch(e)]) for e in range(2))
    assert sorted(first.tolist()) == list(range(24))
    assert first.tolist() != second.tolist()
    assert all(torch.equal(b.labels, b.ids % 3) for b in loader.epoch(0))


def test_accumulation_splits_the_same_batches():
    whole, _ = epochs()
    parts, loader = epochs(accumulate=2)
    assert loader.steps == 2
    joined = [a.ids.tolist() + b.ids.tolist() for a, b in zip(parts[::2], parts[1::2], strict=True)]
    assert joined == [b.ids.tolist() for b in whole]


def test_two_processes_share_what_one_would_see(monkeypatch):
    whole, _ = epochs()
    shares = []
    monkeypatch.setattr(loader_module, "world", lambda: 2)
    for rank in range(2):
        monkeypatch.setattr(loader_module, "rank", lambda rank=rank: rank)
        shares.append(epochs()[0])
    for one, a, b in zip(whole, *shares, strict=True):
        assert torch.equal(one.ids, torch.cat([a.ids, b.ids]))
        assert all(torch.equal(v, torch.cat([x, y])) for v, x, y in zip(one.views, a.views, b.views, strict=True))


def test_broken_items_are_left_out_of_memory_and_listed():
    batches, loader = epochs(Source(broken=(2, 5)), memory=True)
    assert loader.skipped == {"2.png": "truncated", "5.png": "truncated"}
    assert not {2, 5} & {i for b in batches for i in b.ids.tolist()}


@pytest.mark.parametrize("workers", [0, 1])
def test_the_place_of_a_broken_item_in_a_stream_goes_to_the_next(workers):
    batches, loader = epochs(Source(24, broken=(22, 23)), memory=False, workers=workers)
    assert loader.skipped == {"22.png": "truncated", "23.png": "truncated"}
    assert [len(b.ids) for b in batches] == [8] * 6
    assert sorted(i for b in batches[:3] for i in b.ids.tolist()) == sorted([*range(22), 0, 0])


def test_photos_of_several_sizes_share_a_canvas():
    a, b = torch.ones(3, 2, 5, dtype=torch.uint8), torch.full((3, 4, 3), 2, dtype=torch.uint8)
    canvas, sizes = collate([a, b])
    assert canvas.shape == (2, 3, 4, 5)
    assert sizes.tolist() == [[2, 5], [4, 3]]
    assert torch.equal(canvas[0, :, :2], a)
    assert torch.equal(canvas[1, :, :, :3], b)
    assert canvas.sum() == a.sum() + b.sum()


@pytest.mark.parametrize("batch", [0, 2, 7, -8])
def test_a_batch_must_divide(batch):
    with pytest.raises(UserError, match="batch_size must divide by processes x accumulate = 1 x 2 into parts"):
        Loader(Source(), VIEWS, batch, accumulate=2)


def test_fewer_photos_than_a_batch_is_an_error_in_words():
    with pytest.raises(UserError, match="5 readable photos are fewer than one batch of 8; set batch_size to at most 5"):
        Loader(Source(5), VIEWS, 8)


@pytest.mark.parametrize("memory", [True, False])
def test_when_nothing_can_be_read_the_first_reason_is_told(memory):
    with pytest.raises(DataError, match="none of 9 photos could be read; the first, 0.png: truncated"):
        Loader(Source(9, broken=range(9)), VIEWS, 8, memory=memory)


def test_digits_are_the_same_for_the_same_seed_and_train_and_test_share_none():
    train, again, other = digits(items=50), digits(items=50), digits(items=50, seed=1)
    assert all(torch.equal(train.read(i), again.read(i)) for i in range(50))
    assert not all(torch.equal(train.read(i), other.read(i)) for i in range(50))
    assert train.read(0).shape == (3, 20, 20)
    assert set(digits("test", items=300).labels) == set(range(10))
    with pytest.raises(UserError, match="did you mean 'train'"):
        digits("trian")


def test_real_photos_load(cifar):
    source = photos(cifar, split="test").subset(range(0, 10_000, 100))
    loader = Loader(source, two_crops(size=32), 50)
    batch = next(loader.epoch(0))
    assert [v.shape for v in batch.views] == [(50, 3, 32, 32)] * 2
    assert batch.labels.max() < 10


def test_python_ends_though_workers_are_left():
    """An iterator that lives until the end, as one in an error's traceback does."""
    code = """
        import sys
        from torch.utils.data import DataLoader
        from twoviews.data.loader import unmoved
        sys.kept = iter(DataLoader(range(9), num_workers=1, worker_init_fn=unmoved))
        next(sys.kept)
    """
    done = subprocess.run([sys.executable, "-c", dedent(code)], timeout=60, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
