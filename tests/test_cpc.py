"""CPC: its formula, its heads against torch's own layers, what every method promises, and a code that it must crack."""

import copy
import math

import pytest
import torch
from safetensors.torch import load_file, save_file
from test_dist import launch
from torch import nn

from twoviews import calls
from twoviews.errors import UserError
from twoviews.horizons import Linear, Transformer
from twoviews.methods import AHEAD, METHODS
from twoviews.methods.cpc import CPC
from twoviews.objectives.predictive import NEGATIVES, ahead
from twoviews.optim import adamw, constant
from twoviews.train import train
from twoviews.types import Batch, Places

SETTINGS = {
    "plain": {},
    "transformer": {"heads": "transformer"},
    "others, drawn": {"negatives": "others", "sampled": 5},
    "current, apart": {"negatives": "current", "neighbours": 1},
    "two ahead": {"first": 2},
    "narrow context": {"encoder": (6, 4)},
}
methods = pytest.mark.parametrize("name", SETTINGS)


class Listener(nn.Module):
    """(B, R, W, 3) to places, each column by itself. A place that is all 0 is not seen."""

    def __init__(self, width=6, context=8):
        super().__init__()
        self.width, self.context, self.dim = width, context, context
        self.look = nn.Sequential(nn.Linear(3, 16), nn.ReLU(), nn.Linear(16, width))
        self.past = nn.GRU(width, context, batch_first=True)

    def places(self, x):
        z = self.look(x)
        c = self.past(z.transpose(1, 2).flatten(0, 1))[0].unflatten(0, (len(x), -1)).transpose(1, 2)
        return Places(z, c, x.any(-1))

    def forward(self, x):
        found = self.places(x)
        return (found.c * found.seen[..., None]).sum((1, 2)) / found.seen.sum((1, 2)).clamp(min=1)[:, None]


def build(name="plain", **settings):
    torch.manual_seed(0)
    settings = {"steps": 3, "group": 2, "encoder": (6, 8)} | SETTINGS[name] | settings
    return CPC(Listener(*settings.pop("encoder")), **settings).eval()


def batch(seed=0, items=5, rows=9, across=2, dtype=torch.float32):
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(items, rows, across, 3, generator=g, dtype=dtype)
    x[1, 6:] = 0
    return Batch([x], torch.arange(items))


def snapshot(method):
    return {k: v.clone() for k, v in method.state_dict().items()}


def test_it_is_a_method():
    assert METHODS["cpc"] is AHEAD["cpc"] is CPC


def test_it_is_the_formula():
    method, one = build(steps=2).double(), batch(dtype=torch.float64)
    found = method.encoder.places(one.views[0])
    w = method.heads.all.weight.view(2, 6, 8)
    losses = []
    for k in (1, 2):
        rows = []
        for b, r, v in found.seen.nonzero().tolist():
            if r + k >= 9 or not found.seen[b, r + k, v]:
                continue
            group = slice(b // 2 * 2, b // 2 * 2 + 2)
            p = w[k - 1] @ found.c[b, r, v]
            scores = found.z[group][found.seen[group]] @ p / 6**0.5
            rows.append(scores.logsumexp(0) - found.z[b, r + k, v] @ p / 6**0.5)
        losses.append(torch.stack(rows).mean())
    out = method(one)
    torch.testing.assert_close(out.loss, torch.stack(losses).mean(), rtol=1e-12, atol=0)
    torch.testing.assert_close(torch.stack([out.logs["loss_1"], out.logs["loss_2"]]), torch.stack(losses))
    torch.testing.assert_close(out.h, method.encoder(one.views[0]))


@methods
def test_forward_gives_a_loss_curves_and_rows(name):
    method = build(name)
    out = method(batch())
    horizons = range(method.first, method.first + 3)
    assert list(out.logs) == [f"{what}_{k}" for what in ("loss", "accuracy", "bound") for k in horizons]
    assert all(x.shape == () and x.isfinite() and not x.requires_grad for x in out.logs.values())
    assert out.loss.shape == ()
    assert out.loss.item() == pytest.approx(sum(float(out.logs[f"loss_{k}"]) for k in horizons) / 3, rel=1e-6)
    assert (out.z.shape, out.h.shape) == ((5, 6), (5, method.encoder.dim))


@methods
def test_forward_and_backward_write_nothing_and_every_weight_learns(name):
    method = build(name)
    before = snapshot(method)
    method(batch()).loss.backward()
    assert all(torch.equal(before[k], v) for k, v in method.state_dict().items())
    for key, p in method.named_parameters():
        assert p.grad.isfinite().all(), key
        assert p.grad.any(), key


@methods
def test_saved_and_loaded_gives_the_same_next_loss(name, tmp_path):
    method, other = build(name).train(), build(name).train()
    save_file(method.state_dict(), tmp_path / "m.safetensors")
    with torch.no_grad():
        for p in other.parameters():
            p.zero_()
    other.load_state_dict(load_file(tmp_path / "m.safetensors"))
    losses = []
    for each in (method, other):
        torch.manual_seed(1)
        losses.append(each(batch()).loss)
    assert torch.equal(*losses)


@methods
def test_it_learns_one_batch(name):
    method, one = build(name, sampled=0), batch()
    optimizer = torch.optim.Adam(method.parameters(), lr=0.01)
    losses = []
    for _ in range(80):
        out = method(one)
        optimizer.zero_grad()
        out.loss.backward()
        optimizer.step()
        losses.append(out.loss.item())
    assert losses[-1] < 0.85 * losses[0]


def test_every_default_can_be_written_down():
    described = calls.describe(CPC)
    assert calls.describe(calls.rebuild(described)) == described


@pytest.mark.parametrize("heads", ["linear", "transformer"])
def test_silence_costs_nothing(heads):
    method = build(heads=heads)
    silent = batch()
    silent.views[0].zero_()
    out = method(silent)
    out.loss.backward()
    assert out.loss.item() == 0
    assert not any(p.grad.any() for p in method.parameters())
    assert out.z.isfinite().all()
    assert out.h.isfinite().all()


def test_more_horizons_than_rows_are_left_out():
    long, short = build(steps=12), build(steps=3)
    with torch.no_grad():
        long.heads.all.weight[:18] = short.heads.all.weight
    one = batch(rows=4)
    torch.testing.assert_close(long(one).loss, short(one).loss)
    assert "loss_3" in long(one).logs
    assert "loss_4" not in long(one).logs


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"steps": 0}, "steps must be 1 or more"),
        ({"heads": "transfomer"}, "did you mean 'transformer'"),
        ({"negatives": "self"}, "unknown negatives"),
        ({"negatives": "others", "group": 1}, "group must be 2 or more"),
    ],
)
def test_what_cannot_be_is_said_in_a_line(settings, said):
    with pytest.raises(UserError, match=said) as error:
        build(**settings)
    assert "\n" not in str(error.value)


def test_an_encoder_without_places_and_clips_without_rows_are_refused():
    with pytest.raises(UserError, match="needs an encoder that predicts what comes next, and Linear has no places"):
        CPC(nn.Linear(3, 3))
    with pytest.raises(UserError, match="clips of 2 rows have none 2 ahead of another for steps=3 to predict"):
        build(first=2)(batch(rows=2, across=1))


# Heads


def test_linear_heads_are_a_matrix_for_each_horizon():
    heads = build().heads
    c = torch.randn(2, 5, 2, 8)
    for k, w in enumerate(heads.all.weight.view(3, 6, 8)):
        torch.testing.assert_close(heads(c)[k], c @ w.T)


def test_transformer_heads_are_torchs_own_layers():
    heads = Transformer(8, 6, 3).double().eval()
    with torch.no_grad():
        for p in heads.parameters():  # nothing stays zero or one, where a fault would not show
            p.add_(torch.randn_like(p) * 0.3)
    c = torch.randn(2, 7, 2, 8, dtype=torch.float64)
    found = heads(c)
    assert found.shape == (3, 2, 7, 2, 6)
    for k in range(3):
        theirs = nn.TransformerEncoderLayer(8, 8, 64, batch_first=True).double().eval()
        state = {
            "self_attn.in_proj_weight": heads.mix_in[k].T,
            "self_attn.in_proj_bias": torch.zeros(24),
            "self_attn.out_proj.weight": heads.mix_out[k].T,
            "self_attn.out_proj.bias": torch.zeros(8),
            "linear1.weight": heads.up[k].T,
            "linear1.bias": heads.up_bias[k, 0],
            "linear2.weight": heads.down[k].T,
            "linear2.bias": heads.down_bias[k, 0],
        }
        for i, norm in enumerate(("norm1", "norm2")):
            state |= {f"{norm}.weight": heads.norm[i, k, 0], f"{norm}.bias": heads.norm_bias[i, k, 0]}
        theirs.load_state_dict(state)
        mask = nn.Transformer.generate_square_subsequent_mask(7, dtype=torch.float64)
        for column in range(2):
            y = theirs(c[:, :, column], src_mask=mask) @ heads.out[k]
            torch.testing.assert_close(found[k, :, :, column], y, rtol=1e-10, atol=1e-12)


def test_either_side_of_the_scores_is_the_same():
    heads, c, z = Linear(4, 6, 3).double(), torch.randn(2, 5, 2, 4).double(), torch.randn(2, 5, 2, 6).double()
    p, candidates = heads.sides(c, z)
    assert (p.shape, candidates.shape) == ((1, 2, 5, 2, 4), (3, 2, 5, 2, 4))
    seen = torch.ones(2, 5, 2, dtype=torch.bool)
    ours, theirs = ahead(p, candidates, seen).loss, ahead(heads(c), z, seen).loss
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=0)
    slopes = [torch.autograd.grad(loss, heads.all.weight)[0] for loss in (ours, theirs)]
    torch.testing.assert_close(*slopes, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("heads", ["linear", "transformer"])
def test_a_prediction_does_not_know_the_future(heads):
    method = build(heads=heads)
    c = torch.randn(1, 9, 2, 8)
    other = c.clone()
    other[:, 5:] += 1
    before, after = method.heads(c), method.heads(other)
    torch.testing.assert_close(before[:, :, :5], after[:, :, :5])
    assert not torch.isclose(before[:, :, 5:], after[:, :, 5:]).all(-1).any()


# Training


class Codes:
    """Sequences of symbols that a rule carries on: after a come a + 1, a + 2 ... or a - 1, a - 2 ... of 8 in a ring.

    The first symbol and the direction are drawn for each. Read by one number of noise and an angle.
    """

    def __init__(self, steps=20, items=8, rows=16, accumulate=1):
        self.steps, self.items, self.rows, self.accumulate = steps, items, rows, accumulate

    def epoch(self, epoch, start=0):
        for i in range(start * self.accumulate, self.steps * self.accumulate):
            yield self.batch(epoch * 10_000 + i)

    def batch(self, seed):
        g = torch.Generator().manual_seed(seed)
        begin = torch.randint(8, (self.items, 1), generator=g)
        way = 2 * torch.randint(2, (self.items, 1), generator=g) - 1
        angle = (begin + way * torch.arange(self.rows)) * (math.pi / 4)
        noise = torch.randn(self.items, self.rows, generator=g)
        x = torch.stack([angle.cos(), angle.sin(), noise], -1)[:, :, None]
        return Batch([x], torch.arange(self.items))


def trained(method, batches, **settings):
    steps = train(method, batches, adamw(method, lr=0.01), constant, device=torch.device("cpu"), **settings)
    assert steps == settings["epochs"] * batches.steps
    return method


@pytest.mark.parametrize("heads", ["linear", "transformer"])
def test_it_learns_the_rule_and_claims_no_more_than_there_is(heads):
    """One symbol tells of the next two; two tell all. The noise tells nothing, so 3 bits are all there is to say."""
    method = build(heads=heads, steps=3, group=8).train()
    before = method.encoder(Codes().batch(99_000).views[0])
    trained(method, Codes(), epochs=6).eval()
    with torch.no_grad():
        logs = [method(Codes(items=64).batch(100_000 + i)).logs for i in range(4)]
    assert not torch.equal(before, method.encoder(Codes().batch(99_000).views[0]))
    for k in (1, 2, 3):
        bound = sum(float(x[f"bound_{k}"]) for x in logs) / 4
        assert 0.65 * math.log(8) < bound < 1.03 * math.log(8)  # of log 128 = 4.85 that could be claimed


def test_accuracy_where_answers_are_unique():
    """Every symbol once in a sequence: its own sequence alone has one right answer, and noise cannot hide it."""
    method = trained(build(steps=2, negatives="current").train(), Codes(rows=8), epochs=6).eval()
    logs = method(Codes(rows=8, items=64).batch(100_000)).logs
    assert logs["accuracy_1"] > 0.5  # chance: .125
    assert logs["accuracy_2"] > 0.5


def test_interrupted_is_uninterrupted(tmp_path):
    whole = trained(build("others, drawn"), Codes(steps=3), epochs=2)
    trained(build("others, drawn"), Codes(steps=3), epochs=1, folder=tmp_path)
    other = trained(build("others, drawn", steps=3), Codes(steps=3), epochs=2, folder=tmp_path)
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), other.parameters(), strict=True))


def test_parts_of_whole_groups_are_the_batch():
    """What accumulation adds up: groups do not see each other."""
    method, other = build().double(), build().double()
    x = torch.randn(4, 9, 1, 3, dtype=torch.float64)
    method(Batch([x], torch.arange(4))).loss.backward()
    for part in x.split(2):
        (other(Batch([part], torch.arange(2))).loss / 2).backward()
    for a, b in zip(method.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-10, atol=1e-14)


def test_autocast_trains_and_logs_float32():
    method, one = build(), batch()
    exact = copy.deepcopy(method)(one)
    with torch.autocast("cpu", torch.bfloat16):
        out = method(one)
    out.loss.backward()
    assert out.loss.dtype == out.logs["bound_1"].dtype == torch.float32
    torch.testing.assert_close(out.loss, exact.loss, rtol=0.01, atol=0)


def gradients(items, negatives):
    method, one = build(negatives=negatives).double(), batch(items=6, dtype=torch.float64)
    out = method(Batch([one.views[0][items]], one.ids[items]))
    out.loss.backward()
    return out.loss.detach(), *out.logs.values(), *(p.grad for p in method.parameters())


def of_rank(rank, world, folder):
    own = [slice(0, 4), slice(4, 6)][rank]
    return [gradients(own, negatives) for negatives in NEGATIVES]


def test_two_processes_with_ragged_items_are_one(tmp_path):
    for negatives, *parts in zip(NEGATIVES, *launch(2, of_rank, tmp_path), strict=True):
        for a, b, c in zip(*parts, gradients(slice(6), negatives), strict=True):
            torch.testing.assert_close((a + b) / 2, c, rtol=1e-10, atol=1e-14)
