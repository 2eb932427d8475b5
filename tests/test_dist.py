"""What processes tell each other: two and four of them, with as many rows each or not, and what one does alone."""

import os
from datetime import timedelta

import pytest
import torch
import torch.multiprocessing as mp
from conftest import Tiny

from twoviews import dist
from twoviews.methods import PAIRS

WORLD = 2
SETTINGS = {
    "simclr": {"dim": 4, "hidden": 8},
    "moco": {"dim": 4, "hidden": 8, "queue": 20},
    "moco symmetric": {"dim": 4, "hidden": 8, "queue": 20, "symmetric": True},
    "moco_v1": {"dim": 4, "queue": 20},
    "end_to_end": {"dim": 4, "hidden": 8},
    "directclr": {},
    "instdisc": {"items": 8, "dim": 4, "negatives": 6},
    "supervised": {"classes": 3},
}
LAYOUTS = {2: {"even": [3, 3], "uneven": [4, 1]}, 4: {"even": [2, 2, 2, 2], "uneven": [3, 1, 2, 2]}}


def build(name, encoder=Tiny):
    torch.manual_seed(0)
    method = PAIRS[name.split()[0]](encoder(), **SETTINGS[name])
    for module in list(method.modules()):  # a head with BatchNorm is tested in test_norm; here rows stay apart
        for key, child in list(module.named_children()):
            if isinstance(child, torch.nn.BatchNorm1d):
                setattr(module, key, torch.nn.LayerNorm(child.num_features))
    return method.double()


def launch(world, work, folder, *args):
    """work(rank, world, folder, *args) in `world` processes that speak by gloo; what each returns."""
    for again in ("", "-again"):
        try:
            mp.start_processes(enter, (work, world, str(folder), again, args), nprocs=world, start_method="spawn")
            break
        except mp.ProcessRaisedException as error:  # on a busy machine gloo's first meeting may fail, once
            if again or "connectFullMesh" not in str(error):
                raise
    return [torch.load(os.path.join(folder, f"{rank}.pt"), weights_only=False) for rank in range(world)]


def enter(rank, work, world, folder, again, args):
    torch.set_num_threads(1)
    wait = timedelta(seconds=60)
    init = f"file://{folder}/init-{world}{again}"
    torch.distributed.init_process_group("gloo", init_method=init, rank=rank, world_size=world, timeout=wait)
    torch.save(work(rank, world, folder, *args), os.path.join(folder, f"{rank}.pt"))
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
    os._exit(0)  # a thread of gloo that still lets go of a hook written in Python would abort the interpreter's end


def own_rows(layout, rank):
    """This rank's rows of a (N, 2, 3) that is the same everywhere, and their place."""
    own = slice(sum(layout[:rank]), sum(layout[: rank + 1]))
    return numbers(sum(layout))[own], own


def numbers(rows, seed=0):
    return torch.randn(rows, 2, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def refuse(*args, **kwargs):
    raise RuntimeError("Backend gloo does not support _reduce_scatter_base")


def speak(rank, world, folder):
    torch.manual_seed(100 + rank)  # ranks must agree on a shuffle without sharing a generator
    found = {}
    for name, layout in LAYOUTS[world].items():
        x, _ = own_rows(layout, rank)
        gathered = []
        for reduce in (torch.distributed.reduce_scatter_tensor, refuse):  # as in an older gloo
            usual, torch.distributed.reduce_scatter_tensor = torch.distributed.reduce_scatter_tensor, reduce
            x = x.detach().requires_grad_()
            (dist.gather_grad(x) * numbers(sum(layout), seed=1 + rank)).sum().backward()
            gathered.append(x.grad)
            torch.distributed.reduce_scatter_tensor = usual
        found[name] = {
            "counts": dist.counts(len(x)),
            "share": dist.share(layout),
            "rows": dist.gather(x),
            "names": dist.gather(torch.arange(len(x)) + 10 * rank),
            "gradient": gathered,
            "shuffled": dist.shuffled(lambda rows: torch.cat([rows, torch.full_like(rows, len(rows))], 1), x),
        }
    found["largest"] = dist.largest(rank), dist.largest(0)
    found["leader"] = dist.from_leader({"rank": rank})
    found["agreed"] = dist.agreed(torch.rand(3))
    found["sums"] = dist.mean(torch.tensor(float(rank))), dist.total(torch.tensor(rank))
    with dist.alone():
        found["alone"] = dist.world(), dist.gather_grad(x) is x, dist.largest(rank)
    return found


@pytest.fixture(scope="module", params=LAYOUTS)
def ranks(request, tmp_path_factory):
    return launch(request.param, speak, tmp_path_factory.mktemp("speak"))


@pytest.mark.parametrize("name", ["even", "uneven"])
def test_rows_of_all_ranks_in_rank_order_whatever_their_number(ranks, name):
    layout = LAYOUTS[len(ranks)][name]
    for rank, found in enumerate(ranks):
        assert found[name]["counts"] == layout
        assert found[name]["share"] == pytest.approx(layout[rank] * len(layout) / sum(layout))
        assert torch.equal(found[name]["rows"], numbers(sum(layout)))
        assert found[name]["names"].tolist() == [10 * r + i for r, n in enumerate(layout) for i in range(n)]


@pytest.mark.parametrize("name", ["even", "uneven"])
def test_gradients_of_all_ranks_come_back_to_the_rows_they_are_of(ranks, name):
    layout = LAYOUTS[len(ranks)][name]
    expected = sum(numbers(sum(layout), seed=1 + rank) for rank in range(len(ranks)))
    for rank, found in enumerate(ranks):
        for gradient in found[name]["gradient"]:
            torch.testing.assert_close(gradient, expected[own_rows(layout, rank)[1]])


@pytest.mark.parametrize("name", ["even", "uneven"])
def test_shuffled_rows_come_back_to_their_place(ranks, name):
    layout = LAYOUTS[len(ranks)][name]
    met = []
    for rank, found in enumerate(ranks):
        rows, company = found[name]["shuffled"].split(2, dim=1)
        assert torch.equal(rows, own_rows(layout, rank)[0])
        met += company[:, 0, 0].tolist()
    assert sorted(met) == sorted(n for n in layout for _ in range(n))  # rows went round in batches of the old sizes


def test_all_decide_alike(ranks):
    world = len(ranks)
    for found in ranks:
        assert found["largest"] == (world - 1, 0)
        assert found["leader"] == {"rank": 0}
        assert torch.equal(found["agreed"], ranks[0]["agreed"])
        assert [float(x) for x in found["sums"]] == [(world - 1) / 2, world * (world - 1) / 2]
    assert [found["alone"] for found in ranks] == [(1, True, rank) for rank in range(world)]


def test_alone_everything_is_the_identity():
    x = torch.randn(4, 3, requires_grad=True)
    assert dist.gather_grad(x) is x
    assert torch.equal(dist.gather(x), x)
    torch.testing.assert_close(dist.shuffled(lambda rows: rows + 1, x), x + 1)
    assert (dist.rank(), dist.world(), dist.largest(3), dist.counts(4)) == (0, 1, 3, [4])
