"""BatchNorm over all processes, or over groups of a batch, against plain BatchNorm on the same items."""

import copy
import os

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from twoviews.errors import UserError
from twoviews.norm import set_batchnorm

ITEMS = (5, 3)  # per rank: different data, uneven


def network(momentum=0.1):
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.BatchNorm2d(4, momentum=momentum),
        nn.Conv2d(4, 6, 3),
        nn.BatchNorm2d(6, momentum=momentum),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(6 * 9, 5),
        nn.BatchNorm1d(5, momentum=momentum),
    ).double()
    for p in net.parameters():
        nn.init.normal_(p)
    return net


def data():
    x = torch.randn(sum(ITEMS), 4, 5, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    x[ITEMS[0] :] = 3 * x[ITEMS[0] :] + 1  # the ranks see different things
    x[:, 0] += 1e4  # where E[x^2] - E[x]^2 would lose eight digits
    return x


def loss(y, first=0):
    """A sum over items that treats each item and output differently."""
    weight = torch.arange(first, first + len(y), dtype=y.dtype).add(1).log()[:, None]
    return (weight * (y + torch.arange(y.shape[1])).sin()).sum()


def train_step(net, x, first=0):
    x = x.clone().requires_grad_()
    y = net(x)
    loss(y, first).backward()
    return {"y": y.detach(), "x": x.grad, "grads": [p.grad for p in net.parameters()]}


def work(rank, folder):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/init", rank=rank, world_size=2)
    own = slice(rank * ITEMS[0], ITEMS[0] + rank * ITEMS[1])
    out = {}
    for momentum in (0.1, None):
        net = set_batchnorm(network(momentum), "global")
        for _ in range(2):  # twice, so that the running statistics have a history
            net.zero_grad()
            out[str(momentum)] = train_step(net, data()[own], own.start)
        out[str(momentum)]["state"] = net.state_dict()
        out[str(momentum)]["eval"] = net.eval()(data()).detach()
    ddp = DistributedDataParallel(set_batchnorm(network(), "global"), broadcast_buffers=False)
    out["ddp"] = train_step(ddp, data()[own], own.start)["grads"]
    out["half"] = set_batchnorm(nn.BatchNorm2d(3), "global")(data()[own, 1:].bfloat16()).detach()
    torch.save(out, folder / f"{rank}.pt")
    dist.destroy_process_group()
    os._exit(0)  # as test_dist.enter: a thread of gloo may abort the interpreter's end


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ranks")
    torch.multiprocessing.spawn(work, (folder,), nprocs=2)
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in (0, 1)]


def same(a, b, tolerance=1e-10):
    torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("momentum", [0.1, None])
def test_two_processes_equal_one_on_the_joined_batch(ranks, momentum):
    net = network(momentum)
    for _ in range(2):
        net.zero_grad()
        expected = train_step(net, data())
    got = [r[str(momentum)] for r in ranks]
    same(torch.cat([g["y"] for g in got]), expected["y"])
    same(torch.cat([g["x"] for g in got]), expected["x"])
    for summed, gradient in zip(zip(*(g["grads"] for g in got), strict=True), expected["grads"], strict=True):
        same(sum(summed), gradient)
    for g in got:
        same(dict(g["state"]), dict(net.state_dict()))
        same(g["eval"], copy.deepcopy(net).eval()(data()).detach())


def test_ddp_averages_the_same_gradients(ranks):
    expected = train_step(network(), data())["grads"]
    for rank in ranks:
        same([2 * g for g in rank["ddp"]], expected)


def test_bfloat16_is_normalised_in_float32(ranks):
    expected = nn.BatchNorm2d(3)(data()[:, 1:].bfloat16().float()).bfloat16()
    same(torch.cat([r["half"] for r in ranks]), expected.detach(), 1e-2)
    assert ranks[0]["half"].dtype == torch.bfloat16


@pytest.mark.parametrize("groups", [2, 4])
def test_groups_equal_separate_forwards(groups):
    split, plain = set_batchnorm(network(), groups), network()
    got = train_step(split, data())
    parts = [(copy.deepcopy(plain), data()[g::groups]) for g in range(groups)]
    xs = [x.clone().requires_grad_() for _, x in parts]
    ys = [net(x) for (net, _), x in zip(parts, xs, strict=True)]
    y = torch.stack(ys, 1).flatten(0, 1)  # item j of group g was item j * groups + g
    loss(y).backward()
    same(got["y"], y.detach())
    same(got["x"], torch.stack([x.grad for x in xs], 1).flatten(0, 1))
    for i, gradient in enumerate(got["grads"]):
        same(gradient, sum(list(net.parameters())[i].grad for net, _ in parts))
    for name, value in split.state_dict().items():
        same(value.double(), torch.stack([net.state_dict()[name].double() for net, _ in parts]).mean(0))


@pytest.mark.parametrize("scope", ["global", "local", 1, 3])
def test_state_and_evaluation_are_those_of_batchnorm(scope):
    net = network()
    net(data())
    expected, tensors = net.eval()(data()), net.state_dict(keep_vars=True)
    scoped = set_batchnorm(set_batchnorm(net, scope), scope)  # twice: no harm
    assert scoped is net
    after = scoped.state_dict(keep_vars=True)
    assert list(after) == list(tensors)
    assert all(after[name] is tensors[name] for name in tensors)
    assert torch.equal(scoped(data()), expected)
    same(scoped(data()[:1]), expected[:1])  # no group needs to divide


def test_scopes_can_be_changed_back():
    net = set_batchnorm(set_batchnorm(network(), 4), "local")
    got, expected = train_step(net, data()), train_step(network(), data())
    same(got, expected, 0)
    net = set_batchnorm(network(), "global")  # one process: the same
    same(train_step(net, data()), expected, 0)


def test_shared_and_outermost_norms_are_replaced():
    norm = nn.BatchNorm1d(3)
    twice = set_batchnorm(nn.Sequential(norm, norm), 2)
    assert twice[0] is twice[1] is not norm
    assert set_batchnorm(norm, 2).weight is norm.weight
    assert set_batchnorm(norm, "local") is norm


def test_copies_have_statistics_of_their_own():
    net = set_batchnorm(network(), 2)
    before = net[0].running_mean.clone()
    copy.deepcopy(net)(data())
    assert torch.equal(net[0].running_mean, before)


def test_timm_norm_keeps_its_activation():
    layers = pytest.importorskip("timm.layers")
    torch.manual_seed(0)
    x = torch.randn(6, 4, 3, 3)
    plain = layers.BatchNormAct2d(4)
    expected = torch.stack([copy.deepcopy(plain)(x[g::2]) for g in range(2)], 1).flatten(0, 1)
    assert (expected == 0).any()
    torch.testing.assert_close(set_batchnorm(plain, 2)(x), expected)


@pytest.mark.parametrize("scope", ["everywhere", 0, -2, True, 1.5, None])
def test_other_scopes_are_refused(scope):
    with pytest.raises(UserError, match="'global', 'local' or a number"):
        set_batchnorm(network(), scope)


def test_a_batch_that_does_not_divide_is_refused():
    with pytest.raises(UserError, match="3 groups, got 8"):
        set_batchnorm(network(), 3)(data())


def test_a_norm_of_another_kind_is_refused():
    class Odd(nn.BatchNorm2d):
        pass

    with pytest.raises(UserError, match="Odd"):
        set_batchnorm(nn.Sequential(Odd(3)), "global")
    set_batchnorm(nn.Sequential(Odd(3)), "local")
