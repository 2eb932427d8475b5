"""What every method promises, tested on every method there is."""

import copy
import inspect

import pytest
import torch
from conftest import Numbers, Tiny
from safetensors.torch import load_file, save_file
from torch.nn.functional import normalize

from twoviews import calls
from twoviews.encoders.small import small
from twoviews.heads import encode
from twoviews.methods import PAIRS
from twoviews.methods.moco import MoCo
from twoviews.types import Batch

SMALL = {"dim": 4, "hidden": 8, "queue": 20, "classes": 3, "items": 8, "negatives": 6}


def build(name, **settings):
    torch.manual_seed(0)
    known = inspect.signature(PAIRS[name]).parameters
    return PAIRS[name](Tiny(), **{k: v for k, v in (SMALL | settings).items() if k in known})


def batch(seed=0):
    return Numbers().batch(seed)


def snapshot(method):
    return {k: v.clone() for k, v in method.state_dict().items() if "running" not in k and "tracked" not in k}


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


methods = pytest.mark.parametrize("name", PAIRS)


@methods
def test_forward_gives_a_finite_scalar_and_rows_of_z(name):
    out = build(name)(batch())
    assert out.loss.shape == ()
    assert out.loss.isfinite()
    assert out.z.shape[0] == 8
    assert out.z.ndim == 2
    assert out.memory is None or not out.memory.requires_grad


@methods
def test_forward_and_backward_write_nothing(name):
    method = build(name)
    method.after_batch(method(batch(1)))
    before = snapshot(method)
    method(batch()).loss.backward()
    assert same(before, snapshot(method))


@methods
def test_every_learned_weight_gets_a_gradient_and_no_other_does(name):
    method = build(name)
    method.after_batch(method(batch(1)))
    method(batch()).loss.backward()
    for key, p in method.named_parameters():
        assert (p.grad is not None) == p.requires_grad, key
        if p.requires_grad and not key.startswith("target"):
            assert p.grad.isfinite().all(), key
    assert all(p.grad.abs().sum() > 0 for p in method.encoder.parameters())


@methods
def test_a_method_learns_one_batch(name):
    method, one = build(name, momentum=0.5), batch()
    method.after_batch(method(batch(1)))
    optimizer = torch.optim.Adam([p for p in method.parameters() if p.requires_grad], lr=0.01)
    losses = []
    for _ in range(100):
        out = method(one)
        optimizer.zero_grad()
        out.loss.backward()
        optimizer.step()
        method.after_step()
        losses.append(out.loss.item())
    assert losses[-1] < 0.5 * losses[0]


@methods
def test_saved_and_loaded_gives_the_same_next_loss(name, tmp_path):
    method = build(name)
    method.after_batch(method(batch(1)))
    method.after_step()
    save_file({k: v.contiguous() for k, v in method.state_dict().items()}, tmp_path / "m.safetensors")
    other = build(name)
    with torch.no_grad():
        for p in other.parameters():
            p.zero_()
    other.load_state_dict(load_file(tmp_path / "m.safetensors"))
    torch.manual_seed(1)
    a = method(batch(2)).loss
    torch.manual_seed(1)
    assert torch.equal(a, other(batch(2)).loss)


@methods
def test_no_two_entries_of_the_state_share_memory(name):
    places = [v.data_ptr() for v in build(name).state_dict().values()]
    assert len(places) == len(set(places))


@methods
def test_labels_are_not_read(name):
    if name == "supervised":
        pytest.skip("reads labels, and that is its point")
    method, with_labels = build(name), batch()
    other = copy.deepcopy(method)
    without = Batch(with_labels.views, with_labels.ids, None)
    torch.manual_seed(1)
    a = method(with_labels).loss
    torch.manual_seed(1)
    assert torch.equal(a, other(without).loss)


@methods
def test_project_is_what_the_loss_saw(name):
    method, one = build(name).eval(), batch()
    torch.testing.assert_close(method.project(method.encoder(one.views[0])), method(one).z)


@methods
def test_every_default_can_be_written_down(name):
    described = calls.describe(PAIRS[name])
    assert calls.describe(calls.rebuild(described)) == described
    assert not any(isinstance(v, dict) for v in described.values())


@pytest.mark.parametrize("symmetric", [False, True])
def test_a_positive_is_never_among_its_negatives(symmetric):
    """With a queue that holds exactly the pushed keys, a perfect query pays log(1 + K e^-..) and no more."""
    method = MoCo(Tiny(), dim=4, hidden=0, queue=16, symmetric=symmetric)
    seen = []
    for seed in range(6):
        out = method(batch(seed))
        keys = set(map(tuple, method.queue.memory.tolist()))
        assert not keys & set(map(tuple, out.memory.tolist()))
        method.after_batch(out)
        seen += out.memory.tolist()
        assert set(map(tuple, method.queue.keys.tolist())) == set(map(tuple, seen[-16:]))


def test_views_of_several_sizes_are_encoded_size_by_size():
    encoder = small(width=4).eval()
    views = [torch.rand(3, 3, size, size) for size in (16, 16, 8, 8, 16)]
    torch.testing.assert_close(encode(encoder, views), torch.cat([encoder(v) for v in views]))
    seen = []
    encoder.register_forward_hook(lambda module, x, h: seen.append(tuple(x[0].shape)))
    encode(encoder, views)
    assert seen == [(9, 3, 16, 16), (6, 3, 8, 8)]


def test_moco_is_the_formula():
    method, one = MoCo(Tiny(), dim=4, hidden=8, queue=16, temperature=0.3).double(), batch()
    one.views = [v.double() for v in one.views]
    method.after_batch(method(batch_double(7)))
    q = normalize(method.head(method.encoder(one.views[0])), dim=1)
    k = normalize(method.target.modules_[1](method.target.modules_[0](one.views[1])), dim=1)
    losses = [
        torch.stack([q[i] @ k[i], *(q[i] @ n for n in method.queue.keys)]).div(0.3).log_softmax(0)[0].neg()
        for i in range(8)
    ]
    torch.testing.assert_close(method(one).loss, torch.stack(losses).mean(), rtol=1e-12, atol=0)


def batch_double(seed):
    one = batch(seed)
    one.views = [v.double() for v in one.views]
    return one


def test_slow_weights_move_only_after_a_step():
    method = MoCo(Tiny(), dim=4, hidden=8, queue=16, momentum=0.5)
    with torch.no_grad():
        method.head[0].weight.add_(1)
    before = method.target.modules_[1][0].weight.clone()
    method.after_batch(method(batch()))
    assert torch.equal(before, method.target.modules_[1][0].weight)
    method.after_step()
    torch.testing.assert_close(method.target.modules_[1][0].weight, before + 0.5)


def test_end_to_end_lets_gradients_through_the_keys():
    method, one = build("end_to_end"), batch()
    one.views[1].requires_grad_()
    method(one).loss.backward()
    assert one.views[1].grad.abs().sum() > 0
    assert method.queue is None
    assert method.target is None
