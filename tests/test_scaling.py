"""The formulas of benchmarks/scaling.py against the bytes of real steps."""

import sys
from pathlib import Path

import pytest
import torch
from test_dist import launch
from torch.autograd.graph import saved_tensors_hooks

from twoviews import dist
from twoviews.build import sharded
from twoviews.encoders import resnet18
from twoviews.methods.moco import MoCo
from twoviews.methods.simclr import SimCLR
from twoviews.objectives import contrast
from twoviews.optim import adamw, lars
from twoviews.recompute import lean
from twoviews.types import Batch

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
import scaling

SMALL = {"size": 32, "dim": 16, "hidden": 24}


def encoder():
    return resnet18(width=0.125, stem="cifar")


def photos(rows):
    return torch.rand(rows, 3, 32, 32, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("optimizer", "states"), [(lars, 1), (adamw, 2)])
def test_weights_gradients_and_states_are_as_large_as_said(optimizer, states):
    case = scaling.Case("small", encoder, batch=8, gpus=1, states=states, queue=32, **SMALL)
    method = MoCo(encoder(), dim=16, hidden=24, queue=32)
    opt = optimizer(method)
    out = method(Batch([photos(8), photos(8)], torch.arange(8)))
    out.loss.backward()
    opt.step()
    said = scaling.memory(case)
    learned = [p for p in method.parameters() if p.requires_grad]
    assert said["weights"] == sum(p.nbytes for p in learned)
    assert said["gradients"] == sum(p.grad.nbytes for p in learned)
    assert said["slow"] == sum(p.nbytes for p in method.target.parameters())
    assert said["queue"] == method.queue.memory.nbytes
    kept = [v for state in opt.state.values() for v in state.values() if v.ndim]
    assert said["optimizer"] == sum(v.nbytes for v in kept)


def held_by(work, network):
    """What work() keeps for backward, by its place in memory, without the weights."""
    held = {}

    def pack(t):
        held[t.untyped_storage().data_ptr()] = t.untyped_storage().nbytes()
        return t

    with saved_tensors_hooks(pack, lambda t: t):
        out = work()
    assert out.requires_grad
    return {k: n for k, n in held.items() if k not in {p.data_ptr() for p in network.parameters()}}


def test_what_forward_keeps_is_counted_without_data():
    """Of two and four rows without data, against six real ones; BatchNorm's statistics do not grow with the rows."""
    whole, recomputed = scaling.kept_of(encoder().to("meta"), 32, dtype=torch.float32)
    network = encoder()
    assert whole * 6 == pytest.approx(sum(held_by(lambda: network(photos(6)), network).values()), rel=0.01)

    inputs, most = {}, 0
    for block in scaling.blocks_of(network):
        block.register_forward_pre_hook(lambda block, x: inputs.update({block: x[0]}))
    with lean(SimCLR(network, dim=16, hidden=24), blocks=True):
        outside = held_by(lambda: network(photos(6)), network)
    outside |= {x.data_ptr(): x.nbytes for x in inputs.values()}
    for block, x in dict(inputs).items():
        inside = held_by(lambda block=block, x=x: block(x.detach().clone()), network)
        most = max(most, sum(inside.values()))
    assert recomputed * 6 == pytest.approx(sum(outside.values()) + most, rel=0.15)  # `most` holds a block's input again


def counted(rank, world, folder, queue):
    """Bytes that are gathered and reduced in one step."""
    found = {"gathered": 0, "reduced": 0}
    all_gather = torch.distributed.all_gather_into_tensor

    def gather(out, x, **how):
        found["gathered"] += out.nbytes if out.is_floating_point() else 0  # how many rows each has is not counted
        return all_gather(out, x, **how)

    def reduce(state, bucket) -> torch.futures.Future[torch.Tensor]:
        found["reduced"] += bucket.buffer().nbytes
        sums = torch.distributed.all_reduce(bucket.buffer(), async_op=True).get_future()
        return sums.then(lambda f: f.value()[0] / world)

    contrast.FEW = 0  # tiles, as at any size that matters
    torch.distributed.all_gather_into_tensor = gather
    heads = {"dim": 16, "hidden": 24}
    method = MoCo(encoder(), queue=queue, **heads) if queue else SimCLR(encoder(), **heads)
    model = dist.replicated(method, torch.device("cpu"))
    model.register_comm_hook(None, reduce)
    out = model(Batch([photos(4), photos(4)], torch.arange(4)))
    out.loss.backward()
    method.after_batch(out)
    return found


@pytest.mark.parametrize("queue", [0, 32])
def test_traffic_is_what_a_step_of_two_processes_sends(queue, tmp_path):
    found = launch(2, counted, tmp_path, queue)[0]
    said = scaling.traffic(scaling.Case("small", encoder, batch=8, gpus=2, states=1, queue=queue, **SMALL))
    assert said["z"] == found["gathered"] / 2  # one of two parts is another's
    assert said["weights"] == 2 * found["reduced"] / 2


def held(rank, world, folder):
    method = MoCo(encoder(), dim=16, hidden=24, queue=32)
    method = sharded(method, torch.device("cpu"))
    return sum(p.to_local().nbytes for p in method.parameters() if p.requires_grad)


def test_shards_are_as_large_as_said(tmp_path):
    case = scaling.Case("small", encoder, batch=8, gpus=2, states=1, queue=32, shard=True, **SMALL)
    assert sum(launch(2, held, tmp_path)) == 2 * scaling.memory(case)["gradients"]
