"""The queue against a list, and the slow weights against their formula."""

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from twoviews.ema import EMA
from twoviews.negatives import Queue


@pytest.mark.parametrize("sizes", [(4, 4, 4), (3, 5, 2, 7), (10,), (1,) * 25, (13, 4), (25, 1)])
def test_the_queue_is_a_fifo_that_loses_no_key(sizes):
    queue, said = Queue(10, 2), []
    for size in sizes:
        keys = torch.arange(len(said), len(said) + size).float()[:, None].expand(-1, 2)
        queue.push(keys)
        said += keys[:, 0].tolist()
        assert sorted(queue.keys[:, 0].tolist()) == said[-10:]


def test_a_new_queue_holds_unit_vectors_that_the_first_keys_replace():
    queue = Queue(8, 3)
    torch.testing.assert_close(queue.keys.norm(dim=1), torch.ones(8))
    queue.push(torch.full((2, 3), 7.0))
    assert queue.keys.tolist() == [[7.0] * 3] * 2


def test_place_and_fill_survive_a_checkpoint(tmp_path):
    queue = Queue(10, 2)
    queue.push(torch.rand(7, 2))
    save_file(queue.state_dict(), tmp_path / "queue.safetensors")
    other = Queue(10, 2)
    other.load_state_dict(load_file(tmp_path / "queue.safetensors"))
    more = torch.rand(5, 2)
    queue.push(more)
    other.push(more)
    assert torch.equal(queue.keys, other.keys)
    assert (queue.place, queue.filled) == (other.place, other.filled) == (2, 10)


def test_a_queue_needs_room():
    with pytest.raises(ValueError, match="at least 1"):
        Queue(0, 4)


def test_slow_weights_follow_the_formula_and_share_nothing():
    fast = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)).double()
    slow = EMA(fast, momentum=0.9)
    start = [p.clone() for p in fast.parameters()]
    with torch.no_grad():
        for p in fast.parameters():
            p.add_(1)
    slow.update(fast)
    for s, p, was in zip(slow.parameters(), fast.parameters(), start, strict=True):
        torch.testing.assert_close(s, 0.9 * was + 0.1 * p)
        assert not s.requires_grad
        assert s.data_ptr() != p.data_ptr()


def test_a_momentum_is_a_share():
    with pytest.raises(ValueError, match="momentum"):
        EMA(nn.Linear(2, 2), momentum=1.5)
