"""Two and four processes, each with its own data, learn what one learns from all of it; so do sharded weights."""

import contextlib
import functools
import importlib
import itertools
import re
import shutil
import sys
from pathlib import Path

import pytest
import torch
from conftest import Numbers, Tiny
from test_dist import SETTINGS, build, launch
from torch import nn
from torch.utils._pytree import tree_leaves

from twoviews import checkpoint, dist, fsdp
from twoviews.build import sharded
from twoviews.errors import UserError
from twoviews.log import Log
from twoviews.methods import PAIRS
from twoviews.optim import adamw, cosine, lars, sgd
from twoviews.train import Stopped, train
from twoviews.types import Batch

CPU = torch.device("cpu")
ORDER = {2: [[4, 5, 6, 7], [0, 1, 2, 3]], 4: [[2, 3], [6, 7], [0, 1], [4, 5]]}
LAYOUTS = {  # the items of each rank
    "even": {2: [[0, 1, 2, 3], [4, 5, 6, 7]], 4: [[0, 1], [2, 3], [4, 5], [6, 7]]},
    "uneven": {2: [[0, 1, 2, 3, 4], [5, 6, 7]], 4: [[0, 1, 2], [3], [4, 5], [6, 7]]},
    "permuted": ORDER,
}


class Blocky(nn.Module):
    """Residual blocks with sizes that do not divide by the number of processes."""

    dim = 7

    def __init__(self):
        super().__init__()
        self.stem = nn.Linear(5, 7)
        self.blocks = nn.ModuleList(nn.Sequential(nn.Linear(7, 9), nn.GELU(), nn.Linear(9, 7)) for _ in range(2))
        self.norm = nn.LayerNorm(7)

    def forward(self, x):
        x = self.stem(x)
        for block in self.blocks:
            x = x + block(x)
        return self.norm(x)


def rows(batch, own):
    labels = batch.labels.clone()
    labels[3] = -1
    return Batch([v[own].double() for v in batch.views], batch.ids[own], labels[own])


def steps(method, model, layout, rank):
    """Three steps of SGD by hand; returns what must not depend on the number of processes."""
    losses = []
    for seed in range(3):
        torch.manual_seed(seed + 1000 * rank)
        out = model(rows(Numbers().batch(seed), layout[rank]))
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
    return losses, grads, {k: v.clone() for k, v in method.state_dict().items()}


def replicas(rank, world, folder):
    found = {}
    for name, (kind, layouts) in itertools.product(SETTINGS, LAYOUTS.items()):
        method = build(name)
        found[name, kind] = steps(method, dist.replicated(method, CPU), layouts[world], rank)
    return found


@pytest.fixture(scope="module", params=[2, 4])
def ranks(request, tmp_path_factory):
    return launch(request.param, replicas, tmp_path_factory.mktemp("replicas"))


@pytest.mark.parametrize("kind", LAYOUTS)
@pytest.mark.parametrize("name", SETTINGS)
def test_loss_gradient_memory_and_slow_weights_are_those_of_one_process(name, kind, ranks):
    together = [sum(LAYOUTS[kind][len(ranks)], [])]  # in rank order, for a queue keeps it
    method = build(name)
    losses, grads, state = steps(method, method, together, 0)
    for found in ranks:
        torch.testing.assert_close(found[name, kind][0], losses, rtol=1e-10, atol=1e-12)
        torch.testing.assert_close(found[name, kind][1], grads, rtol=1e-8, atol=1e-12)
        torch.testing.assert_close(found[name, kind][2], state, rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("name", PAIRS)
def test_the_order_of_the_items_changes_neither_loss_nor_gradient(name):
    found = []
    for order in (range(8), [4, 5, 6, 7, 0, 1, 2, 3]):
        method = build(name)
        found.append(steps(method, method, [list(order)], 0))
    for a, b in zip(*(f[:2] for f in found), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("name", SETTINGS)
def test_every_rank_ends_with_the_same_bits(name, ranks):
    for kind in LAYOUTS:
        first = ranks[0][name, kind][2]
        for found in ranks[1:]:
            assert all(torch.equal(v, first[k]) for k, v in found[name, kind][2].items())


class Rows(Numbers):
    """This rank's part of each batch, in float64."""

    def batch(self, seed):
        batch = super().batch(seed)
        own = torch.arange(len(batch.ids)).chunk(dist.world())[dist.rank()].tolist()
        return Batch([v[own].double() for v in batch.views], batch.ids[own], batch.labels[own])


SPEED = ("items_per_second", "data_wait")


def learn(name, shard, folder=None, stop=None, optimizer=sgd, accumulate=1, encoder=Blocky, **settings):
    """A short run of the loop; what it logged, and its weights put together."""
    method = build(name, encoder)
    method = sharded(method, CPU) if shard else method
    logged = []
    with contextlib.closing(Log(quiet=True)) as log, contextlib.suppress(Stopped):
        log.listeners.append(lambda step, values: logged.append((step, values)))
        reason = (lambda: "so" if logged and logged[-1][0] == stop else None) if stop else None
        schedule = functools.partial(cosine, warmup=0.2)
        how = {"epochs": 2, "device": CPU, "seed": 3, "folder": folder, "log": log, "stop": reason} | settings
        train(method, Rows(steps=3, accumulate=accumulate), optimizer(method, lr=0.1), schedule, **how)
    kept = [(step, {k: v for k, v in values.items() if k not in SPEED}) for step, values in logged]
    return kept, fsdp.whole(dict(method.state_dict()))


def by_pytree(x):
    return [t for t in tree_leaves(x) if isinstance(t, torch.Tensor) and t.requires_grad]


@contextlib.contextmanager
def as_older_torch():
    """FSDP2 finds the tensors in what a module returns by pytree alone, as before it looked into dataclasses."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("_fsdp_state", "_fsdp_param_group"):
            module = importlib.import_module(f"torch.distributed.fsdp._fully_shard.{name}")
            patch.setattr(module, "collect_grad_tensors", by_pytree, raising=False)
        yield


HOW = {
    "sgd": {"clip": 0.5},
    "adamw": {"optimizer": adamw, "clip": 0.5},
    "lars": {"optimizer": lars},
    "recompute": {"recompute": True},
    "micro_batch": {"micro_batch": 2},
    "accumulate": {"accumulate": 2},
    "fp16": {
        "precision": "fp16"
    },  # nothing is rounded, for all is float64, but losses are scaled and gradients checked
}


def shardings(rank, world, folder):
    found = {}
    if world == 2:
        with as_older_torch():
            found["no blocks"] = learn("moco", False, encoder=Tiny), learn("moco", True, encoder=Tiny)
    for what in [*PAIRS, *HOW] if world == 2 else ["simclr", "lars"]:
        name, settings = (what, {}) if what in PAIRS else ("moco", HOW[what])
        found[what] = learn(name, False, **settings), learn(name, True, **settings)
    found["adamw unclipped"] = learn("moco", False, optimizer=adamw)
    for begun in (False, True) if world == 2 else ():
        learn("moco", begun, Path(folder) / f"sharded-{begun}", stop=3, optimizer=adamw)
    torch.distributed.barrier()
    for begun in (False, True):
        place = Path(folder) / f"sharded-{begun}-{world}"
        if rank == 0:
            shutil.copytree(Path(folder) / f"sharded-{begun}", place)
        torch.distributed.barrier()
        found["resumed", begun] = learn("moco", not begun, place, optimizer=adamw)
    method = sharded(build("moco", Blocky), CPU)
    found["parts"] = [(tuple(p.shape), p.to_local().shape[0]) for p in method.parameters()]
    found["together"] = [type(m).__name__ for m in method.modules() if type(m).__name__.startswith("FSDP")]
    return found


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    folder = tmp_path_factory.mktemp("parts")
    return {world: launch(world, shardings, folder) for world in (2, 4)}, folder


def assert_same(a, b):
    torch.testing.assert_close(a[0], b[0], rtol=2e-6, atol=1e-9)  # what is logged has six digits
    torch.testing.assert_close(a[1], b[1], rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize(("what", "world"), [*((w, 2) for w in (*PAIRS, *HOW)), ("simclr", 4), ("lars", 4)])
def test_sharded_weights_learn_what_whole_ones_learn(what, world, parts):
    plain, split = parts[0][world][0][what]
    assert [step for step, _ in plain[0]] == list(range(1, 7))
    assert all({"loss", "gradient", "update"} <= values.keys() for _, values in plain[0])
    assert_same(split, plain)


def test_an_encoder_without_blocks_is_sharded_too(parts):
    assert_same(*parts[0][2][0]["no blocks"])


@pytest.mark.parametrize("world", [2, 4])
@pytest.mark.parametrize("begun", [False, True])
def test_a_checkpoint_goes_on_sharded_or_not_in_any_number_of_processes(begun, world, parts):
    whole = parts[0][2][0]["adamw unclipped"]
    logged, state = parts[0][world][0]["resumed", begun]
    of_all = [
        [(step, [values[k] for k in ("loss", "gradient", "update")]) for step, values in run[-3:]]
        for run in (logged, whole[0])
    ]
    assert_same((of_all[0], state), (of_all[1], whole[1]))


def test_a_checkpoint_of_shards_is_whole(parts):
    folder = parts[1]
    names = ("method.safetensors", "state.pt")
    weights, optimizers = [], []
    for begun in (False, True):
        place = checkpoint.steps(folder / f"sharded-{begun}")[-1]
        assert sorted(f.name for f in place.iterdir()) == sorted(names)
        method = build("moco", Blocky)
        state = checkpoint.load(place, method)
        assert state["step"] == 3
        weights.append(method.state_dict())
        optimizers.append([v["exp_avg"] for v in state["optimizer"]["state"].values()])
    torch.testing.assert_close(weights[1], weights[0], rtol=1e-9, atol=1e-11)
    torch.testing.assert_close(optimizers[1], optimizers[0], rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("world", [2, 4])
def test_each_rank_holds_a_part_and_blocks_are_put_together_one_by_one(world, parts):
    held = [found["parts"] for found in parts[0][world]]
    for weight in zip(*held, strict=True):
        shape = weight[0][0]
        sizes = [n for _, n in weight]
        assert sum(sizes) == shape[0]
        assert max(sizes) == -(-shape[0] // world)
    names = parts[0][world][0]["together"]
    assert sorted(names) == ["FSDPMoCo"] + 4 * ["FSDPSequential"]  # two blocks of the encoder and two of its slow copy


def test_one_process_has_nothing_to_shard():
    with pytest.raises(UserError, match="there is one: start with torchrun"):
        sharded(build("simclr"), CPU)


def test_a_torch_without_sharding_is_one_clear_line(monkeypatch):
    monkeypatch.setattr(fsdp, "world", lambda: 2)
    monkeypatch.setitem(sys.modules, "torch.distributed.fsdp", None)
    with pytest.raises(UserError, match=f"torch {re.escape(torch.__version__)} lacks") as error:
        sharded(build("simclr"), CPU)
    assert "\n" not in str(error.value)
