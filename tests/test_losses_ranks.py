"""Losses over 1, 2 and 4 processes that hold different data and different numbers of rows."""

import os

import pytest
import torch
import torch.multiprocessing as mp
from test_objectives import units
from torch.nn.functional import normalize

from twoviews import dist
from twoviews.objectives import contrast, tiles
from twoviews.objectives.contrast import info_nce, nt_xent, symmetric_info_nce

N, D, T = 13, 4, 0.1
SPLITS = {  # name: the items of each rank
    "two": [[0, 1, 2, 3, 4, 5, 6, 7], [8, 9, 10, 11, 12]],
    "two, permuted": [[12, 9, 3], [0, 7, 2, 1, 11, 5, 4, 10, 6, 8]],
    "four": [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11], [12]],
    "four, permuted": [[8, 9, 10, 11], [12], [4, 5, 6, 7], [0, 1, 2, 3]],
    "four, one empty": [[0, 1, 2, 3, 4], [], [5, 6], [7, 8, 9, 10, 11, 12]],
}
FORMS = {"plain": (1 << 40, None), "tiles": (-1, False), "online tiles": (-1, True)}  # FEW, online
LOSSES = {
    "two views": lambda z: nt_xent(z[:2], T),
    "three views": lambda z: nt_xent(z, T),
    "batch": lambda z: info_nce(z[0], z[1], None, T),
    "fixed keys": lambda z: info_nce(z[0], z[1].detach(), None, T),
    "both": lambda z: symmetric_info_nce(z[0], z[1], T),
    "queue": lambda z: info_nce(z[0], z[1], units(20, D, seed=9), T),
    "learned queue": lambda z: info_nce(z[0], z[1], units(20, D, seed=9) * z[2].new_ones(1).requires_grad_(), T),
}


def data():
    return [units(N, 5, seed=s) for s in range(3)]


def answers(items):
    """Loss and gradients of a shared matrix for each form and loss: the mean over ranks, as DDP takes it."""
    found = {}
    usual = contrast.FEW, tiles.CELLS["cpu"], tiles._may_overflow
    for form, (few, online) in FORMS.items():
        contrast.FEW, tiles.CELLS["cpu"] = few, 9
        if online is not None:
            tiles._may_overflow = lambda *_, online=online: online
        for name, loss in LOSSES.items():
            weight = torch.randn(5, D, generator=torch.Generator().manual_seed(1), dtype=torch.float64).requires_grad_()
            z = [normalize(x[items] @ weight, dim=1) for x in data()]
            for x in z:
                x.retain_grad()
            value = loss(z)
            value.backward(retain_graph=True)
            mean = dist.mean(value), dist.mean(weight.grad.clone())
            for x in z:
                x.grad = None
            (value * (1 + dist.rank())).backward()  # upstream gradients that differ
            found[form, name] = *mean, [x.grad for x in z if x.grad is not None]
    contrast.FEW, tiles.CELLS["cpu"], tiles._may_overflow = usual
    return found


def worker(rank, folder):
    torch.set_num_threads(1)
    found = {}
    for world, kind in ((4, "four"), (2, "two")):
        if rank < world:
            init = f"file://{folder}/{kind}"
            torch.distributed.init_process_group("gloo", init_method=init, rank=rank, world_size=world)
            found |= {split: answers(items[rank]) for split, items in SPLITS.items() if split.startswith(kind)}
            torch.distributed.destroy_process_group()
    torch.save(found, os.path.join(folder, f"{rank}.pt"))
    os._exit(0)  # as test_dist.enter: a thread of gloo may abort the interpreter's end


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ranks")
    mp.spawn(worker, (str(folder),), nprocs=4)
    return [torch.load(folder / f"{r}.pt", weights_only=False) for r in range(4)]


@pytest.fixture(scope="module")
def one():
    return answers(list(range(N)))


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("form", FORMS)
def test_loss_and_gradient_are_those_of_one_process(split, form, ranks, one):
    for name in LOSSES:
        for found in ranks[: len(SPLITS[split])]:
            for ours, exact in zip(found[split][form, name][:2], one["plain", name][:2], strict=True):
                torch.testing.assert_close(ours, exact, rtol=1e-12, atol=1e-12, msg=lambda m, name=name: f"{name}: {m}")


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("form", ["tiles", "online tiles"])
def test_gradients_are_exact_where_upstream_differs(split, form, ranks):
    """Autograd through the plain form, which gathers columns with gradient, is the oracle."""
    for name in LOSSES:
        for found in ranks[: len(SPLITS[split])]:
            ours, exact = (found[split][f, name][2] for f in (form, "plain"))
            assert len(ours) == len(exact) > 0
            torch.testing.assert_close(ours, exact, rtol=1e-12, atol=1e-12, msg=lambda m, name=name: f"{name}: {m}")
