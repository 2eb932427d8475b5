"""The queue against a list; the bank, its method and the slow weights against their formulas."""

import pytest
import torch
from conftest import Numbers, Tiny
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn.functional import normalize

from twoviews.ema import EMA
from twoviews.methods.instdisc import InstDisc
from twoviews.negatives import Bank, Queue
from twoviews.types import Batch


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


def test_the_age_of_a_queue_survives_a_checkpoint():
    queue, other = Queue(10, 2), Queue(10, 2)
    queue.push(torch.rand(4, 2))
    queue.push(torch.rand(4, 2))
    other.load_state_dict(queue.state_dict())
    assert other.age == queue.age == 2
    other.set_extra_state(torch.tensor([8, 8]))  # as it was written at first
    assert (other.place, other.filled, other.age) == (8, 8, 0)


def test_a_queue_needs_room():
    with pytest.raises(ValueError, match="at least 1"):
        Queue(0, 4)


def test_rows_of_the_bank_follow_the_formula_and_no_other_row_moves():
    bank = Bank(7, 3, momentum=0.8).double()
    before, z = bank.memory.clone(), normalize(torch.randn(3, 3).double(), dim=1)
    bank.move(torch.tensor([5, 0, 2]), z)
    for row, i in enumerate([5, 0, 2]):
        torch.testing.assert_close(bank.memory[i], normalize(0.8 * before[i] + 0.2 * z[row], dim=0))
    assert torch.equal(bank.memory[[1, 3, 4, 6]], before[[1, 3, 4, 6]])


def test_an_item_that_comes_twice_is_moved_once_by_the_last():
    bank = Bank(5, 2, momentum=0.0).double()
    z = normalize(torch.randn(4, 2).double(), dim=1)
    bank.move(torch.tensor([3, 1, 3, 3]), z)
    torch.testing.assert_close(bank.rows(torch.tensor([3, 1])), z[[3, 1]])


@pytest.mark.parametrize(("items", "momentum", "message"), [(1, 0.5, "2 items or more"), (9, 1.0, "never move")])
def test_a_bank_that_could_teach_nothing_is_refused(items, momentum, message):
    with pytest.raises(ValueError, match=message):
        Bank(items, 4, momentum)


@pytest.mark.parametrize("negatives", [0, 50])
def test_instance_discrimination_is_the_formula(negatives):
    """K = 50 draws of 12 items: many repeat, and each row must leave out its own."""
    method = InstDisc(Tiny(), items=12, dim=4, negatives=negatives, temperature=0.3).double()
    one = Numbers().batch(0)
    one = Batch([v.double() for v in one.views], one.ids + 3)
    torch.manual_seed(1)
    drawn = torch.randint(12, (negatives,)).tolist() if negatives else range(12)
    z = [normalize(method.head(method.encoder(view)), dim=1) for view in one.views]
    v, losses = method.bank.memory, []
    for rows in z:
        for row, i in zip(rows, one.ids.tolist(), strict=True):
            logits = torch.stack([row @ v[i], *(row @ v[n] for n in drawn if n != i)]) / 0.3
            losses.append(logits.logsumexp(0) - logits[0])
    torch.manual_seed(1)
    out = method(one)
    torch.testing.assert_close(out.loss, torch.stack(losses).mean(), rtol=1e-12, atol=0)
    before = v.clone()
    method.after_batch(out)
    torch.testing.assert_close(v[3:11], normalize(before[3:11] + (z[0] + z[1]) / 2, dim=1))


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
