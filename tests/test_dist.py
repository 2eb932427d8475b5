"""Two processes, each with its own data, do what one process does with all of it."""

import os

import pytest
import torch
import torch.multiprocessing as mp
from conftest import Numbers, Tiny

from twoviews import dist
from twoviews.methods import METHODS
from twoviews.types import Batch

WORLD = 2
SETTINGS = {
    "simclr": {"dim": 4, "hidden": 8},
    "moco": {"dim": 4, "hidden": 8, "queue": 20},
    "moco_v1": {"dim": 4, "queue": 20},
    "end_to_end": {"dim": 4, "hidden": 8},
    "directclr": {},
    "supervised": {"classes": 3},
}


def build(name):
    torch.manual_seed(0)
    method = METHODS[name](Tiny(), **SETTINGS[name])
    for module in list(method.modules()):  # a head with BatchNorm is tested in test_norm; here rows stay apart
        for key, child in list(module.named_children()):
            if isinstance(child, torch.nn.BatchNorm1d):
                setattr(module, key, torch.nn.LayerNorm(child.num_features))
    return method.double()


def part(batch, rank, world):
    rows = len(batch.ids) // world
    own = slice(rank * rows, (rank + 1) * rows)
    return Batch([v[own].double() for v in batch.views], batch.ids[own], batch.labels[own])


def steps(method, model, rank, world):
    """Three steps of SGD by hand; returns what must not depend on the number of processes."""
    losses = []
    for seed in range(3):
        out = model(part(Numbers().batch(seed), rank, world))
        out.loss.backward()
        method.after_batch(out)
        losses.append(dist.mean(out.loss))
        grads = [p.grad.clone() for p in method.parameters() if p.requires_grad]
        with torch.no_grad():
            for p in method.parameters():
                if p.requires_grad:
                    p.sub_(p.grad, alpha=0.1)
                    p.grad = None
        method.after_step()
    return losses, grads, method.state_dict()


def worker(rank, world, folder):
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/init", rank=rank, world_size=world)
    torch.manual_seed(100 + rank)  # ranks must agree on a shuffle without sharing a generator
    found = {}
    for name in METHODS:
        method = build(name)
        found[name] = steps(method, dist.replicated(method, torch.device("cpu")), rank, world)
    x = torch.arange(6.0, dtype=torch.float64).view(3, 2) + 10 * rank
    x.requires_grad_()
    weights = torch.arange(12.0, dtype=torch.float64).view(6, 2) * (1 + rank)
    (dist.gather_grad(x) * weights).sum().backward()
    found["gather"] = dist.gather(x), x.grad
    found["shuffled"] = dist.shuffled(lambda rows: rows * 2, x), x.detach()
    found["any"] = dist.any_rank(rank == 1), dist.any_rank(False)
    torch.save(found, os.path.join(folder, f"{rank}.pt"))
    torch.distributed.destroy_process_group()


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ranks")
    mp.spawn(worker, (WORLD, str(folder)), nprocs=WORLD)
    return [torch.load(folder / f"{r}.pt", weights_only=False) for r in range(WORLD)]


@pytest.mark.parametrize("name", METHODS)
def test_loss_gradient_queue_and_teacher_are_those_of_one_process(name, ranks):
    method = build(name)
    losses, grads, state = steps(method, method, 0, 1)
    for found in ranks:
        torch.testing.assert_close(found[name][0], losses, rtol=1e-10, atol=1e-12)
        torch.testing.assert_close(found[name][1], grads, rtol=1e-8, atol=1e-12)
        torch.testing.assert_close(dict(found[name][2]), dict(state), rtol=1e-8, atol=1e-12)


def test_gather_keeps_rank_order_and_sums_gradients_from_all_ranks(ranks):
    x = torch.arange(6.0, dtype=torch.float64).view(3, 2)
    weights = torch.arange(12.0, dtype=torch.float64).view(6, 2) * 3  # 1 + 2 from the two ranks
    for rank, found in enumerate(ranks):
        torch.testing.assert_close(found["gather"][0], torch.cat([x, x + 10]))
        torch.testing.assert_close(found["gather"][1], weights[3 * rank :][:3])


def test_shuffled_rows_come_back_to_their_place(ranks):
    for found in ranks:
        torch.testing.assert_close(found["shuffled"][0], 2 * found["shuffled"][1])


def test_one_rank_is_enough_to_stop_all(ranks):
    assert [found["any"] for found in ranks] == [(True, False)] * WORLD


def test_alone_everything_is_the_identity():
    x = torch.randn(4, 3, requires_grad=True)
    assert dist.gather_grad(x) is x
    assert torch.equal(dist.gather(x), x)
    torch.testing.assert_close(dist.shuffled(lambda rows: rows + 1, x), x + 1)
    assert (dist.rank(), dist.world()) == (0, 1)
