"""Less memory, the same numbers: parts of a batch and blocks that are recomputed."""

import copy
import os
import weakref

import pytest
import torch
import torch.multiprocessing as mp
from conftest import Numbers, Tiny
from test_dist import SETTINGS, WORLD
from test_dist import build as rows_apart
from torch import nn

from twoviews import dist
from twoviews.encoders import resnet18, small
from twoviews.errors import UserError
from twoviews.methods import PAIRS
from twoviews.methods.moco import MoCo
from twoviews.methods.simclr import SimCLR
from twoviews.norm import set_batchnorm
from twoviews.optim import cosine, sgd
from twoviews.recompute import blocks_of, lean
from twoviews.train import train
from twoviews.types import Batch


def doubles(seed=0, rows=8):
    batch = Numbers(rows=rows).batch(seed)
    return Batch([v.double() for v in batch.views], batch.ids, batch.labels)


def photos(rows=6, size=16):
    g = torch.Generator().manual_seed(0)
    return Batch([torch.rand(rows, 3, size, size, generator=g).double() for _ in range(2)], torch.arange(rows))


def gradients(method, batch, **how):
    method.zero_grad()
    torch.manual_seed(3)
    with lean(method, **how):
        out = method(batch)
        out.loss.backward()
    return out.loss.detach(), [p.grad.clone() for p in method.parameters() if p.requires_grad]


def assert_same(a, b):
    torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("rows", [2, 3, 5, 16])
@pytest.mark.parametrize("name", PAIRS)
def test_parts_have_the_gradient_of_the_whole_batch(name, rows):
    method = rows_apart(name)
    method.after_batch(method(doubles(1)))
    assert_same(gradients(method, doubles(), micro_batch=rows), gradients(method, doubles()))


@pytest.mark.parametrize("how", [{"recompute": 1}, {"micro_batch": 4}, {"micro_batch": 4, "recompute": 1}])
@pytest.mark.parametrize("encoder", [small, resnet18])
def test_recomputed_blocks_have_the_same_gradient_and_statistics(encoder, how):
    """Parts of 4 of 12 rows of two views, and BatchNorm in 1 part or in parts, against the same by hand."""
    torch.manual_seed(0)
    method = SimCLR(encoder(width=2 if encoder is small else 0.05), dim=4, hidden=8).double()
    plain = copy.deepcopy(method)
    if parts := how.get("micro_batch"):
        whole = plain.encoder.forward
        plain.encoder.forward = lambda x: torch.cat([whole(part) for part in x.split(parts)])
    expected = gradients(plain, photos())
    how = {"micro_batch": parts, "blocks": "recompute" in how}
    assert_same(gradients(method, photos(), **how), expected)
    for (key, a), b in zip(method.state_dict().items(), plain.state_dict().values(), strict=True):
        assert torch.equal(a, b), key  # BatchNorm's statistics moved once for each part


@pytest.mark.parametrize("scope", ["local", 2])
def test_grouped_statistics_move_once(scope):
    torch.manual_seed(0)
    method = set_batchnorm(SimCLR(small(width=2), dim=4, hidden=8).double(), scope)
    before = copy.deepcopy(method)
    gradients(method, photos(), blocks=True)
    gradients(before, photos())
    assert all(torch.equal(a, b) for a, b in zip(method.buffers(), before.buffers(), strict=True))


def test_dropout_is_the_same_in_both_forwards():
    encoder = Tiny()
    encoder.net.append(nn.Dropout(0.5))
    method = SimCLR(encoder, dim=4, hidden=8).double()
    by_hand = copy.deepcopy(method)
    forward = by_hand.encoder.forward
    by_hand.encoder.forward = lambda x: torch.cat([forward(part) for part in x.split(4)])
    assert_same(gradients(method, doubles(), micro_batch=4), gradients(by_hand, doubles()))


def alive(method, batch, **how):
    """Bytes of the block outputs inside the encoder that live when backward begins."""
    seen = []
    hooks = [
        m.register_forward_hook(lambda m, x, y: seen.append((weakref.ref(y), y.nbytes)))
        for m in method.encoder.modules()
        if isinstance(m, nn.BatchNorm2d)
    ]
    with lean(method, **how):
        out = method(batch)
        held = sum(size for ref, size in seen if ref() is not None)
        out.loss.backward()
    for hook in hooks:
        hook.remove()
    return held


@pytest.mark.parametrize("how", [{"micro_batch": 2}, {"blocks": True}])
def test_activations_are_not_held(how):
    method = SimCLR(small(width=2), dim=4, hidden=8).double()
    assert alive(method, photos()) > 0
    assert alive(method, photos(), **how) == 0


def test_slow_copies_read_in_parts_too():
    method = MoCo(small(width=2), dim=4, hidden=8, queue=8)
    seen = []
    method.target.modules_[0].stages[0].register_forward_hook(lambda m, x, y: seen.append(len(y)))
    with lean(method, micro_batch=4):
        method(Batch([v.float() for v in photos(rows=9).views], torch.arange(9)))
    assert seen == [3, 3, 3]  # as even as they divide


def test_a_copy_reads_with_its_own_weights():
    method = SimCLR(Tiny(), dim=4, hidden=8)
    with lean(method, micro_batch=2):
        twin = copy.deepcopy(method)
        with torch.no_grad():
            for p in method.parameters():
                p.zero_()
        assert twin(Numbers().batch(0)).h.abs().sum() > 0
    assert "forward" not in vars(method.encoder)


class Blocks(nn.Module):
    """Blocks that take more than their input, or change it in place."""

    dim = 6

    def __init__(self, in_place=False):
        super().__init__()
        self.stem = nn.Linear(5, 6)
        self.blocks = nn.ModuleList(Scaled(in_place) for _ in range(2))

    def forward(self, x):
        x = self.stem(x)
        for block in self.blocks:
            x = block(x, scale=x.mean())
        return x


class Scaled(nn.Module):
    def __init__(self, in_place):
        super().__init__()
        self.layers, self.in_place = nn.Sequential(nn.Linear(6, 6), nn.Tanh()), in_place

    def forward(self, x, scale):
        x = x.mul_(2) if self.in_place else x
        return x + scale * self.layers(x)


@pytest.mark.parametrize("how", [{"blocks": True}, {"blocks": True, "micro_batch": 16}])
def test_blocks_may_take_arguments_by_name(how):
    torch.manual_seed(0)
    method = SimCLR(Blocks(), dim=4, hidden=8).double()
    assert_same(gradients(method, doubles(), **how), gradients(method, doubles()))


@pytest.mark.parametrize("how", [{"blocks": True}, {"blocks": True, "micro_batch": 4}])
def test_a_block_that_changes_its_input_is_refused(how):
    method = SimCLR(Blocks(in_place=True), dim=4, hidden=8).double()
    gradients(method, doubles())
    with pytest.raises(UserError, match="Scaled changes its input in place"):
        gradients(method, doubles(), **how)


def test_a_forward_of_its_own_and_a_block_that_is_there_twice_stay():
    encoder = Blocks()
    encoder.again = nn.ModuleList(encoder.blocks)
    own = encoder.forward = lambda x: 2 * Blocks.forward(encoder, x)
    with lean(SimCLR(encoder, dim=4, hidden=8), micro_batch=4, blocks=True):
        assert encoder.forward is not own
    assert encoder.forward is own
    assert all("forward" not in vars(block) for block in encoder.blocks)


def test_blocks_are_found():
    assert len(blocks_of(resnet18(width=0.1))) == 8
    assert len(blocks_of(small(width=2))) == 3
    timm = pytest.importorskip("timm")
    assert len(blocks_of(timm.create_model("vit_tiny_patch16_224", num_classes=0))) == 12


def test_what_cannot_be_is_said():
    method = SimCLR(Tiny(), dim=4, hidden=8)
    with pytest.raises(UserError, match="made of blocks, and Tiny has none"), lean(method, blocks=True):
        pass
    with pytest.raises(UserError, match="2 or more rows"), lean(method, micro_batch=1):
        pass


class Doubles(Numbers):
    def batch(self, seed):
        return doubles(seed, self.rows)


def test_training_in_parts_equals_training_whole():
    finished = []
    for parts in (None, 4):
        torch.manual_seed(0)
        method = SimCLR(Tiny(), dim=4, hidden=8).double()
        train(method, Doubles(), sgd(method), cosine, epochs=2, device=torch.device("cpu"), micro_batch=parts)
        finished.append(torch.cat([p.detach().flatten() for p in method.parameters()]))
    torch.testing.assert_close(*finished, rtol=1e-9, atol=1e-10)


def test_recomputing_knows_of_autocast():
    torch.manual_seed(0)
    method = SimCLR(small(width=4), dim=4, hidden=8)
    batch = Batch([v.float() for v in photos().views], torch.arange(6))
    with torch.autocast("cpu", torch.bfloat16):
        whole, blocks = gradients(method, batch), gradients(method, batch, blocks=True)
    torch.testing.assert_close(blocks, whole, rtol=0, atol=0)


def worker(rank, world, folder):
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/init", rank=rank, world_size=world)
    method = rows_apart("simclr")
    model = dist.replicated(method, torch.device("cpu"))
    whole = doubles()
    own = slice(rank * 4, rank * 4 + 4)
    with lean(method, micro_batch=3):
        model(Batch([v[own] for v in whole.views], whole.ids[own])).loss.backward()
    torch.save([p.grad for p in method.parameters()], os.path.join(folder, f"{rank}.pt"))
    torch.distributed.destroy_process_group()
    os._exit(0)  # as test_dist.enter: a thread of gloo may abort the interpreter's end


def test_two_processes_in_parts_have_the_gradient_of_one(tmp_path):
    assert "simclr" in SETTINGS
    mp.spawn(worker, (WORLD, str(tmp_path)), nprocs=WORLD)
    _, expected = gradients(rows_apart("simclr"), doubles())
    for rank in range(WORLD):
        assert_same(torch.load(tmp_path / f"{rank}.pt", weights_only=True), expected)
