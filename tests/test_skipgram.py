"""Skip-gram: gradients against autograd, what is drawn against what should be, the engine against itself."""

import json
import os
import signal
from contextlib import closing
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from twoviews import checkpoint, skipgram
from twoviews.encoders.table import Table
from twoviews.errors import TrainingError, UserError
from twoviews.log import Log
from twoviews.methods import TABLES
from twoviews.methods.line import LINE
from twoviews.methods.word2vec import SkipGram
from twoviews.objectives import skipgramdraws as draws
from twoviews.objectives import skipgramkernels as kernels
from twoviews.objectives.skipgram import LOSSES
from twoviews.objectives.skipgrambatch import batched
from twoviews.objectives.skipgramchunk import chunk, gradients
from twoviews.optim import linear
from twoviews.train import Interrupted, Stopped
from twoviews.types import Batch, Tokens

V, D, SEED = 40, 20, 3
KINDS = np.repeat(np.arange(3, dtype=np.uint8), [5, 20, 15])
RNG = np.random.default_rng(0)
COUNTS = RNG.integers(1, 100, V)


def made(lengths, rng=RNG):
    """Tokens of sequences of these lengths."""
    return Tokens(rng.integers(0, V, sum(lengths)).astype(np.int32), np.cumsum([0, *lengths]).astype(np.int64))


def method_of(loss="sgns", typed=False, **settings):
    torch.manual_seed(0)
    method = SkipGram(Table(V, D), window=3, shared=8, loss=loss, typed=typed, **settings).double()
    for p in method.parameters():
        torch.nn.init.normal_(p, std=0.5)
    return method


def parts_of(method, kinds=KINDS):
    how = draws.how_of(method, LOSSES.index(method.loss))._replace(rows=64)
    noise, chances = draws.noise_of(COUNTS, method.power, kinds if method.typed else None)
    if method.bias is not None:
        method.correction.copy_(torch.from_numpy(np.log(method.negatives * chances)))
    return how, noise


def pairs_of(tokens, todo, groups, shared, kinds):
    """Centres, contexts and the negatives of each pair of one chunk, written out from the plan."""
    centres, contexts, negatives = [], [], []
    for i in range(len(tokens.tokens)):
        for j in range(todo.first[0] + todo.low[0, i], todo.first[0] + todo.high[0, i]):
            if i == j:
                continue
            group = kinds[tokens.tokens[j]] if groups > 1 else 0
            centres.append(tokens.tokens[i])
            contexts.append(tokens.tokens[j])
            negatives.append(todo.drawn[0, group * shared : (group + 1) * shared])
    return [torch.from_numpy(np.array(a)).long() for a in (centres, contexts, negatives)]


@pytest.mark.parametrize("typed", [False, True], ids=["plain", "typed"])
@pytest.mark.parametrize("loss", LOSSES)
def test_gradients_are_those_of_autograd(loss, typed):
    method, tokens, lr = method_of(loss, typed), made([9, 1, 30, 2, 17]), 1e-3
    how, noise = parts_of(method)
    todo = draws.plan(tokens.tokens, tokens.bounds, noise, how, SEED, 0, 0)
    views = pairs_of(tokens, todo, len(noise.starts) - 1, method.shared, KINDS)
    out = method(Batch(views, torch.arange(len(views[0]))))
    (out.loss * len(views[0])).backward()
    wanted = {name: p.detach() - lr * p.grad for name, p in method.named_parameters()}

    before = {name: p.detach().clone() for name, p in method.named_parameters()}
    table = kernels.tables_of(method, method.parts()[0])
    value, count = kernels.learn(tokens.tokens, tokens.bounds, table, noise, how, np.float64(lr), SEED, 0, 0)
    assert count == len(views[0])
    assert value / count == pytest.approx(out.loss.item(), rel=1e-9)
    for name, p in method.named_parameters():
        torch.testing.assert_close(p.detach(), wanted[name], rtol=0, atol=1e-10)

    method.load_state_dict(before)
    value, count, finite = batched(method, how, noise, SEED)(tokens, lr, 0, 0)
    assert finite
    assert value / count == pytest.approx(out.loss.item(), rel=1e-9)
    for name, p in method.named_parameters():
        torch.testing.assert_close(p.detach(), wanted[name], rtol=0, atol=1e-10)


@pytest.mark.parametrize("typed", [False, True], ids=["plain", "typed"])
def test_many_chunks_are_the_same_on_both_engines(typed, monkeypatch):
    monkeypatch.setattr("twoviews.objectives.skipgrambatch.TOGETHER", 1)  # one after the other, as compiled
    tokens = made([70, 3, 1, 100, 128, 40])
    one, two = method_of(typed=typed), method_of(typed=typed)
    how, noise = parts_of(one)
    table = kernels.tables_of(one, one.parts()[0])
    kernels.learn(tokens.tokens, tokens.bounds, table, noise, how, np.float64(0.05), SEED, 1, 2)
    batched(two, how, noise, SEED)(tokens, 0.05, 1, 2)
    torch.testing.assert_close(one.encoder.weight, two.encoder.weight, rtol=0, atol=1e-10)
    torch.testing.assert_close(one.contexts, two.contexts, rtol=0, atol=1e-10)


def star(walks=20, length=41):
    """Walks from the hub of a star, row 0, to a leaf and back and on."""
    tokens = np.zeros((walks, length), np.int32)
    tokens[:, 1::2] = RNG.integers(1, V, (walks, length // 2))
    return Tokens(tokens.ravel(), np.arange(walks + 1) * length)


@pytest.mark.parametrize("engine", ["compiled", "torch"])
def test_a_hub_does_not_run_away(engine):
    """At this rate a step adds up to hundreds of single ones in the hub's row, each of them too long already."""
    torch.manual_seed(0)
    method, tokens = SkipGram(Table(V, D), window=10, shared=8).double(), star()
    counts = np.bincount(tokens.tokens, minlength=V)
    train = skipgram.trainer(method, counts, None, SEED, torch.device("cpu"), engine)
    for step in range(4):
        assert train(tokens, 1.0, 0, step)[2]
    assert all(p.isfinite().all() for p in method.parameters())
    assert method.encoder.weight.norm(dim=1).max() < 100  # without, 10^9


@pytest.mark.parametrize("engine", ["compiled", "torch"])
def test_no_change_of_a_row_is_longer_than_allowed(engine):
    method, lr = method_of(), 100.0
    how, noise = parts_of(method)
    tokens = Tokens(np.array([3, 7], np.int32), np.array([0, 2]))
    drawn = draws.plan(tokens.tokens, tokens.bounds, noise, how, SEED, 0, 0).drawn[0]
    x, y = (p.detach().clone() for p in (method.encoder.weight, method.contexts))
    wanted = x.clone(), y.clone()

    def near(change):
        return change / max(1, change.norm())

    s = torch.sigmoid(x[[3, 7]] @ y[drawn].T) * how.negatives / how.shared
    for i, j in ((0, 1), (1, 0)):
        a, b = tokens.tokens[[i, j]]
        miss = torch.sigmoid(-(x[a] @ y[b]))
        wanted[0][a] += near(lr * (miss * y[b] - s[i] @ y[drawn]))
        wanted[1][b] += near(lr * miss * x[a])
    for k, n in enumerate(drawn):
        wanted[1][n] += near(-lr * (s[:, k] @ x[[3, 7]]))
    if engine == "torch":
        batched(method, how, noise, SEED)(tokens, lr, 0, 0)
    else:
        table = kernels.tables_of(method, method.parts()[0])
        kernels.learn(tokens.tokens, tokens.bounds, table, noise, how, np.float64(lr), SEED, 0, 0)
    torch.testing.assert_close(method.encoder.weight.detach(), wanted[0], rtol=0, atol=1e-10)
    torch.testing.assert_close(method.contexts.detach(), wanted[1], rtol=0, atol=1e-10)


@pytest.mark.parametrize("order", [1, 2, "both"])
def test_line_trains_by_the_gradient_of_its_orders(order):
    torch.manual_seed(0)
    method = LINE(Table(V, D), order=order, shared=8).double()
    for p in method.parameters():
        torch.nn.init.normal_(p, std=0.5)
    tokens = made([2] * 30)
    how, noise = parts_of(method)
    todo = draws.plan(tokens.tokens, tokens.bounds, noise, how, SEED, 0, 0)
    views = pairs_of(tokens, todo, 1, method.shared, KINDS)
    assert len(views[0]) == 60  # both directions of each edge
    out = method(Batch(views, torch.arange(60)))
    (out.loss * 60).backward()
    wanted = [p.detach() - 1e-3 * p.grad for p in method.parameters()]
    for part in method.parts():
        table = kernels.tables_of(method, part)
        kernels.learn(tokens.tokens, tokens.bounds, table, noise, how, np.float64(1e-3), SEED, 0, 0)
    for p, q in zip(method.parameters(), wanted, strict=True):
        torch.testing.assert_close(p.detach(), q, rtol=0, atol=1e-10)
    method.finish()
    once = method.encoder.weight.detach().clone()
    method.finish()
    torch.testing.assert_close(method.encoder.weight.detach(), once)
    if order == "both":
        assert torch.allclose(once[:, : D // 2].norm(dim=1), torch.ones(V, dtype=torch.float64))


def test_shared_negatives_weigh_what_drawn_ones_do():
    """Over all draws of the shared negatives the update is that of the expectation, brute force on three nodes."""
    counts = np.array([5, 1, 2])
    chances = counts**0.75 / (counts**0.75).sum()
    tokens = Tokens(np.array([0, 1, 2, 1], np.int32), np.array([0, 4]))
    torch.manual_seed(0)
    method = SkipGram(Table(3, 4), window=1, shrink=False, shared=2).double()
    torch.nn.init.normal_(method.contexts)
    x, y = method.encoder.weight, method.contexts
    loss = 0
    for i, c in [(0, 1), (1, 0), (1, 2), (2, 1), (2, 1), (1, 2)]:
        loss = loss + torch.nn.functional.softplus(-x[i] @ y[c])
        loss = loss + 5 * (torch.from_numpy(chances) * torch.nn.functional.softplus(y @ x[i])).sum()
    grads = torch.autograd.grad(loss, (x, y))
    how, noise = draws.How(1, False, 5, 2, 0), draws.noise_of(counts, 0.75)[0]
    table = kernels.tables_of(method, method.parts()[0])
    c = chunk(how, 1, 4, table.inputs)
    c.low[:4], c.high[:4] = [0, 0, 1, 2], [2, 3, 4, 4]
    found = [np.zeros((3, 4)), np.zeros((3, 4))]
    for drawn in np.ndindex(3, 3):
        kernels.gather(c, tokens.tokens, tokens.tokens, np.array(drawn, np.int32), table, noise)
        gradients(c, 4, 4, 0, how, np.float64(-1), False)
        chance = chances[list(drawn)].prod()
        np.add.at(found[0], tokens.tokens, chance * c.dx[:4, :4])
        np.add.at(found[1], tokens.tokens, chance * c.dy[:4, :4])
        np.add.at(found[1], list(drawn), chance * c.dn[:, :4])
    for a, b in zip(found, grads, strict=True):
        np.testing.assert_allclose(a, b.numpy(), atol=1e-12)


def drawn(kinds, shared=50, blocks=4):
    noise, chances = draws.noise_of(COUNTS, 0.75, kinds)
    how = draws.How(3, True, 5, shared, 0)
    tokens = made([64] * 100)
    plans = [draws.plan(tokens.tokens, tokens.bounds, noise, how, SEED, 0, b).drawn for b in range(blocks)]
    return np.concatenate(plans), chances, shared


def test_negatives_come_as_often_as_their_chance():
    from scipy.stats import chisquare

    rows, chances, _ = drawn(None)
    assert chances.sum() == pytest.approx(1)
    np.testing.assert_allclose(chances, COUNTS**0.75 / (COUNTS**0.75).sum())
    assert chisquare(np.bincount(rows.ravel(), minlength=V), rows.size * chances).pvalue > 1e-3


def test_typed_negatives_are_of_their_type():
    from scipy.stats import chisquare

    rows, chances, shared = drawn(KINDS)
    for kind in range(3):
        own = rows[:, kind * shared : (kind + 1) * shared]
        of = np.flatnonzero(kind == KINDS)
        assert set(KINDS[own.ravel()]) == {kind}
        assert chisquare(np.bincount(own.ravel(), minlength=V)[of], own.size * chances[of]).pvalue > 1e-3


def test_rows_that_never_occur_are_never_drawn_and_mixed_types_are_refused():
    counts = np.array([0, 3, 0, 4, 0])
    noise, chances = draws.noise_of(counts, 0.75, np.array([0, 0, 2, 2, 3]))  # type 1 has no rows, type 3 no counts
    out = np.zeros(4 * 200, np.int32)
    draws.negatives(noise, 200, np.uint64(1), 0, out)
    assert set(out[:200]) == {1}
    assert set(out[400:600]) == {3}
    assert chances.tolist() == [0, 1, 0, 1, 0]
    with pytest.raises(UserError, match="order of their types"):
        draws.noise_of(counts, 0.75, np.array([0, 1, 0, 1, 1]))


def test_windows_stay_in_their_sequence_and_shrink_evenly():
    from scipy.stats import chisquare

    tokens = made([1, 2, 300, 5, 400])
    noise = draws.noise_of(COUNTS, 0.75)[0]
    reach = []
    for block in range(20):
        todo = draws.plan(tokens.tokens, tokens.bounds, noise, draws.How(4, True, 5, 4, 0), SEED, 0, block)
        low, high = ((a + todo.first[:, None]).ravel()[: len(tokens.tokens)] for a in (todo.low, todo.high))
        for begin, end in zip(tokens.bounds, tokens.bounds[1:], strict=False):
            assert (low[begin:end] >= begin).all()
            assert (high[begin:end] <= end).all()
        place = np.arange(len(low))
        middle = slice(3 + 4, 3 + 300 - 4)
        assert (place - low == high - place - 1)[middle].all()
        reach.append((place - low)[middle])
    assert chisquare(np.bincount(np.concatenate(reach), minlength=5)[1:]).pvalue > 1e-3
    todo = draws.plan(tokens.tokens, tokens.bounds, noise, draws.How(4, False, 5, 4, 0), SEED, 0, 0)
    assert ((todo.high - todo.low).ravel()[middle] == 9).all()


class Cliques:
    """Walks that stay in one of two halves of the nodes, but for a few."""

    blocks, items = 6, 6 * 4000

    def __init__(self, after=None):
        self.after = after

    def block(self, epoch, index):
        if self.after == (epoch, index):
            os.kill(os.getpid(), signal.SIGTERM)
        rng = np.random.default_rng([epoch, index])
        half = rng.integers(0, 2, 100)[:, None]
        walks = half * (V // 2) + rng.integers(0, V // 2, (100, 40))
        return Tokens(walks.astype(np.int32).ravel(), np.arange(101) * 40)

    def counts(self):
        return np.full(V, 600)


def run(folder=None, threads=1, stream=None, method=None, log=None, lr=0.05, epochs=2, **settings):
    torch.manual_seed(0)
    method = (method or SkipGram(Table(V, D), window=3, shared=8)).double()  # of one type: compiled once
    more = {"threads": threads, "folder": folder, "log": log, "schedule": linear, "epochs": epochs}
    steps = skipgram.learn(method, stream or Cliques(), lr=lr, **more, **settings)
    return method, steps


def told_apart(method):
    """How much more alike nodes of one half are than nodes of two."""
    h = torch.nn.functional.normalize(method.encoder.weight.detach(), dim=1)
    like = (h @ h.T).view(2, V // 2, 2, V // 2).mean((1, 3))
    return float(like.diag().mean() - like[0, 1])


def test_learns_two_cliques_on_one_thread_on_two_and_by_torch(tmp_path):
    with closing(Log(tmp_path, quiet=True)) as log:
        method, steps = run(log=log)
    assert steps == 12
    alone = told_apart(method)
    assert alone > 0.7
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(1, 13))
    assert lines[-1]["loss"] < 0.75 * lines[0]["loss"] < 0.75 * 6 * np.log(2)
    assert lines[0]["lr"] == 0.05
    assert {"items_per_second", "data_wait"} <= lines[0].keys()
    assert told_apart(run(threads=2)[0]) == pytest.approx(alone, abs=0.1)
    assert told_apart(run(engine="torch", epochs=1)[0]) > 0.5


def test_one_thread_gives_the_same_bits_and_goes_on_where_it_stopped(tmp_path):
    whole, again = run()[0], run()[0]
    assert torch.equal(whole.encoder.weight, again.encoder.weight)
    with pytest.raises(Interrupted) as stopped:
        run(tmp_path, stream=Cliques(after=(0, 3)))
    assert stopped.value.step == 4
    assert {"encoder.weight", "contexts"} == checkpoint.weights(
        checkpoint.steps(tmp_path)[-1] / "method.safetensors"
    ).keys()
    method, steps = run(tmp_path)
    assert steps == 12
    assert torch.equal(whole.encoder.weight, method.encoder.weight)
    assert torch.equal(whole.contexts, method.contexts)


def test_threads_finish_what_they_began_before_a_checkpoint(tmp_path):
    with pytest.raises(Interrupted) as stopped:
        run(tmp_path, threads=2, stream=Cliques(after=(0, 2)))
    assert checkpoint.load(checkpoint.steps(tmp_path)[-1], method_of())["step"] == stopped.value.step
    assert 3 <= stopped.value.step <= 7
    assert run(tmp_path, threads=2)[1] == 12


def test_tables_are_read_some_rows_at_a_time(tmp_path, monkeypatch):
    method = method_of("nce")
    path = checkpoint.save(tmp_path, 1, method, {"step": 1})
    with pytest.raises(UserError, match="do not fit SkipGram"):
        checkpoint.load(path, method_of())  # which has no bias
    monkeypatch.setattr(checkpoint, "ROWS", 7)
    monkeypatch.setattr(checkpoint, "load_file", None)  # all at once
    other = SkipGram(Table(V, D), window=3, shared=8, loss="nce").double()
    assert checkpoint.load(path, other)["step"] == 1
    assert all(torch.equal(p, q) for p, q in zip(method.parameters(), other.parameters(), strict=True))


@pytest.mark.parametrize(("together", "apart", "true"), [(2, 5.0, 400), (20, 0.01, 2e6)], ids=["long", "short"])
def test_the_rate_counts_blocks_that_end_together(together, apart, true, tmp_path, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(skipgram, "time", SimpleNamespace(monotonic=lambda: now[0]))
    with closing(Log(tmp_path, quiet=True)) as log:
        meter = skipgram.Meter(log, 40)
        for step in range(40):
            now[0] += apart if step % together == 0 else 0
            meter.add(skipgram.Done(step, 1000, 1.0, 10, 0.0, apart, True), 0.1, lambda step, note: None)
    rates = [json.loads(line)["items_per_second"] for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert max(rates) <= 1.01 * true
    assert rates[-1] == pytest.approx(true, rel=0.15)


def test_epochs_are_looked_at_and_a_reason_stops(tmp_path):
    seen = []
    run(every_epoch=lambda epoch: seen.append(epoch) or {}, threads=2)
    assert seen == [1, 2]
    with pytest.raises(Stopped, match="step 1 of 12.*too odd"):
        run(tmp_path, stop=lambda: "too odd")
    assert [path.name for path in checkpoint.steps(tmp_path)] == ["step-00000001"]


def test_what_does_not_fit_or_diverges_is_said():
    method = SkipGram(Table(V, D), window=3, shared=8)
    torch.nn.init.constant_(method.contexts, torch.inf)
    with pytest.raises(TrainingError, match="not finite.*optimizer.lr"):
        run(method=method)
    with pytest.raises(UserError, match="40 rows, the table 7"):
        run(method=SkipGram(Table(7, D)))
    with pytest.raises(UserError, match="loss 'sgn'"):
        SkipGram(Table(7, D), loss="sgn")
    with pytest.raises(UserError, match="method.window must be at least 1"):
        SkipGram(Table(7, D), window=0)
    with pytest.raises(UserError, match="encoder=table"):
        SkipGram(torch.nn.Linear(3, 3).requires_grad_(False).weight)
    with pytest.raises(UserError, match=r"order must be 1, 2 or both"):
        LINE(Table(7, D), order=3)
    with pytest.raises(UserError, match="odd"):
        LINE(Table(7, 5))


def test_too_little_memory_is_refused(monkeypatch):
    monkeypatch.setattr(skipgram, "free_memory", lambda: 1000)
    with pytest.raises(UserError, match="lower encoder.dim"):
        run()


class Chain:
    """Pairs (a, b) of a known law p(b | a) on six words."""

    blocks, items = 40, 40 * 4000
    law = np.random.default_rng(5).dirichlet(np.ones(6), 6)

    def block(self, epoch, index):
        rng = np.random.default_rng([epoch, index, 1])
        a = rng.integers(0, 6, 2000)
        b = (rng.random(2000)[:, None] > self.law[a].cumsum(1)).sum(1)
        both = np.stack([a, 6 + np.minimum(b, 5)], 1)
        return Tokens(both.astype(np.int32).ravel(), np.arange(2001) * 2)

    def counts(self):
        return np.concatenate([np.full(6, 1e4), 1e4 * self.law.sum(0)]).astype(np.int64)


def test_nce_learns_normalised_probabilities():
    torch.manual_seed(0)
    method = SkipGram(Table(12, 16), window=1, shrink=False, negatives=10, shared=32, loss="nce")
    run(method=method, stream=Chain(), lr=0.05, epochs=3)
    scores = method.encoder.weight[:6] @ method.contexts[6:].T + method.bias[6:]
    p = scores.detach().exp().numpy()
    np.testing.assert_allclose(p.sum(1), 1, atol=0.15)
    np.testing.assert_allclose(p, Chain.law, atol=0.06)


def test_methods_take_their_papers_values_and_forward_writes_nothing():
    settings = {name: make(Table(V, D)) for name, make in TABLES.items() if name not in ("prone", "gtn")}
    assert [(m.window, m.shrink, m.negatives) for m in settings.values()] == [
        (5, True, 5),
        (10, True, 5),
        (10, True, 5),
        (7, False, 5),
        (1, False, 5),
    ]
    assert TABLES["metapath2vec"](Table(V, D), plus_plus=True).typed
    views = [torch.randint(0, V, size) for size in [(9,), (9,), (9, 4)]]
    for method in settings.values():
        before = {k: v.clone() for k, v in method.state_dict().items()}
        assert method(Batch(views, torch.arange(9))).loss.isfinite()
        assert all(torch.equal(v, before[k]) for k, v in method.state_dict().items())


def test_checkpoints_copy_only_what_is_shared():
    own, view = torch.nn.Parameter(torch.ones(3, 4)), torch.ones(2, 6)
    module = torch.nn.Module()
    module.own, module.tied = own, own
    module.register_buffer("part", view[:1])
    found = checkpoint.tensors(module)
    assert found["own"].data_ptr() == own.data_ptr()
    assert found["tied"].data_ptr() != own.data_ptr()
    assert found["part"].data_ptr() != view.data_ptr()
    assert torch.equal(found["tied"], found["own"])
