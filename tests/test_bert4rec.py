"""BERT4Rec and SASRec against transformers, RecBole, the authors' code, and a log whose answers are known."""

import copy
import itertools
import math

import numpy as np
import pytest
import torch
from scipy.stats import chisquare
from test_dist import launch
from torch.nn.functional import cross_entropy

from twoviews import dist
from twoviews.data.cloze import ask, cloze, following
from twoviews.data.dice import Dice
from twoviews.data.histories import Histories
from twoviews.data.rows import HistoryLoader
from twoviews.encoders.sequence import bert, causal
from twoviews.export.bert import bert_config, bert_input, bert_state
from twoviews.methods.bert4rec import BERT4Rec
from twoviews.methods.sasrec import SASRec
from twoviews.optim import adamw, bert_adam, linear
from twoviews.types import FIRST, MASK, PAD, Blanks

V, T, D = 23, 12, 16


def model(kind=BERT4Rec, seed=0, **settings):
    torch.manual_seed(seed)
    make = causal if kind is SASRec else bert
    parts = {k: settings.pop(k) for k in ("loss", "specials", "negatives") if k in settings}
    shape = {"width": D, "heads": 2, "length": T, "dropout": 0.0, "norm": "post", "init": "normal"} | settings
    method = kind(make(V, **shape), **parts)
    with torch.no_grad():
        for p in method.parameters():  # nothing stays zero or one, where a fault would not show
            p.add_(torch.randn_like(p) * 0.1)
    return method


def rows(lengths, seed=0):
    """Tokens (B, T) padded at the right."""
    g = torch.Generator().manual_seed(seed)
    x = torch.randint(FIRST, FIRST + V, (len(lengths), max(lengths)), generator=g)
    return x.masked_fill(torch.arange(max(lengths)) >= torch.tensor(lengths)[:, None], PAD)


def blanks(lengths=(12, 5, 1, 9, 12, 3), share=0.4, seed=0):
    whole = rows(lengths, seed)
    drawn = cloze(T, share, last=0.3)(whole, torch.tensor(lengths), Dice(seed, 0, torch.arange(len(lengths))))
    return Blanks([drawn[0], drawn[1]], torch.arange(len(lengths)), places=drawn[2])


def batches(kind):
    if kind is BERT4Rec:
        return blanks()
    lengths = (12, 5, 2, 9)
    holed, whole, places = following(T)(rows(lengths), torch.tensor(lengths), Dice(0, 0, torch.arange(4)))
    return Blanks([holed, whole], torch.arange(4), places=places)


both = pytest.mark.parametrize("kind", [BERT4Rec, SASRec])


# Against other implementations


@pytest.fixture(scope="module")
def transformers():
    return pytest.importorskip("transformers", reason="the oracle: pip install transformers")


def theirs_of(transformers, method):
    config = transformers.BertConfig(**bert_config(method))
    config._attn_implementation = "eager"
    oracle = transformers.BertForMaskedLM(config).to(method.bias.dtype)
    found = oracle.load_state_dict(bert_state(method), strict=False)
    assert not found.unexpected_keys
    assert {k.rpartition(".")[0] for k in found.missing_keys} <= {"cls.predictions.decoder", "bert.embeddings"}
    oracle.tie_weights()
    return oracle.eval()


@pytest.mark.parametrize("positions", ["start", "end", "none"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_logits_loss_and_gradients_are_those_of_transformers(positions, dtype, transformers):
    method = model(positions=positions, specials=True, loss="full", layers=3, inner=40).to(dtype)
    oracle, batch = theirs_of(transformers, method), blanks()
    holed, whole = batch.views
    given, wanted = bert_input(method, holed), bert_input(method, whole)["input_ids"]
    at_blanks = given["input_ids"] == MASK
    logits = oracle(**given).logits[at_blanks]
    theirs = cross_entropy(logits, wanted[at_blanks])
    theirs.backward()
    out = method(batch)
    out.loss.backward()
    e, c, _ = method.catalogue()
    atol = 1e-5 if dtype == torch.float32 else 1e-12
    torch.testing.assert_close(out.z @ e.T + c, logits, atol=atol, rtol=0)
    torch.testing.assert_close(out.loss, theirs, atol=atol, rtol=0)
    slopes = copy.deepcopy(method)
    for p, q in zip(slopes.parameters(), method.parameters(), strict=True):
        p.data = q.grad
    found = bert_state(slopes)  # gradients by the names of weights
    compared = 0
    for name, p in oracle.named_parameters():
        if name in found and not (positions == "none" and "position" in name) and "token_type" not in name:
            torch.testing.assert_close(found[name], p.grad, atol=atol, rtol=0, msg=lambda m, n=name: f"{n}: {m}")
            compared += 1
    assert compared == 2 + 1 + 6 + 3 * 16 - (positions == "none")  # tables, bias, norms and head, blocks


class Stub(dict):
    """As much of RecBole's config and dataset as its BERT4Rec asks for."""

    def num(self, field):
        return V + 1  # with padding


@pytest.mark.filterwarnings("ignore")
def test_loss_and_gradients_are_those_of_recbole():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(np, "float", float, raising=False)  # which RecBole 1.2 still asks for
        module = pytest.importorskip(
            "recbole.model.sequential_recommender.bert4rec",
            reason="the oracle: pip install recbole",
            exc_type=ImportError,
        )
    config = Stub(
        USER_ID_FIELD="user", ITEM_ID_FIELD="item", LIST_SUFFIX="_list", ITEM_LIST_LENGTH_FIELD="length",
        NEG_PREFIX="neg_", MAX_ITEM_LIST_LENGTH=T, device="cpu", n_layers=2, n_heads=2, hidden_size=D,
        inner_size=40, hidden_dropout_prob=0.0, attn_dropout_prob=0.0, hidden_act="gelu", layer_norm_eps=1e-12,
        mask_ratio=0.4, MASK_ITEM_SEQ="holed",
        POS_ITEMS="right", NEG_ITEMS="wrong", MASK_INDEX="places", loss_type="CE", initializer_range=0.02,
    )  # fmt: skip
    theirs = module.BERT4Rec(config, Stub()).double().eval()
    ours = model(positions="start", inner=40, loss="chunked").double()
    state, e = {}, ours.encoder
    order = [PAD, *range(FIRST, FIRST + V), MASK]  # their rows: padding, items, blank
    state["item_embedding.weight"] = e.items.weight[order]
    state["position_embedding.weight"] = e.positions.weight
    state["output_bias"] = ours.bias[order[:-1]].index_fill(0, torch.tensor(0), -1e9)  # their softmax has the padding
    names = {"LayerNorm": e.norm, "output_ffn": ours.head[0], "output_ln": ours.head[2]}
    for n, block in enumerate(e.blocks):
        at = f"trm_encoder.layer.{n}"
        names |= {f"{at}.multi_head_attention.dense": block.mix, f"{at}.multi_head_attention.LayerNorm": block.norm1}
        names |= {f"{at}.feed_forward.dense_1": block.grow, f"{at}.feed_forward.dense_2": block.shrink}
        names |= {f"{at}.feed_forward.LayerNorm": block.norm2}
        for kind in ("weight", "bias"):
            for name, part in zip(("query", "key", "value"), getattr(block.qkv, kind).chunk(3), strict=True):
                state[f"{at}.multi_head_attention.{name}.{kind}"] = part
    state |= {f"{name}.{kind}": getattr(m, kind) for name, m in names.items() for kind in ("weight", "bias")}
    theirs.load_state_dict({k: v.detach() for k, v in state.items()})

    lengths = (12, 5, 9, 2)
    whole = rows(lengths)
    chosen = [[3, 7, 11], [2, 4, 0], [1, 8, 0], [1, 0, 0]]  # 0 fills up; a blank at place 0 they never learn
    holed = whole.clone()
    for row, places in zip(holed, chosen, strict=True):
        row[[p for p in places if p]] = MASK
    rename = torch.tensor([0, V + 1, *range(1, V + 1)])  # our tokens as theirs
    right = whole.gather(1, torch.tensor(chosen)).masked_fill(torch.tensor(chosen) == 0, PAD)
    told = {"holed": rename[holed], "right": rename[right], "wrong": None, "places": torch.tensor(chosen)}
    torch.set_default_dtype(torch.float64)  # of which it makes a matrix
    try:
        expected = theirs.calculate_loss(told)
    finally:
        torch.set_default_dtype(torch.float32)
    expected.backward()
    batch = Blanks([holed, whole], torch.arange(4), places=(holed == MASK).flatten().nonzero()[:, 0])
    loss = ours(batch).loss
    loss.backward()
    torch.testing.assert_close(loss, expected, atol=1e-12, rtol=1e-12)
    slopes = e.items.weight.grad[order]
    torch.testing.assert_close(slopes[1:], theirs.item_embedding.weight.grad[1:], atol=1e-12, rtol=1e-9)
    torch.testing.assert_close(ours.bias.grad[FIRST:], theirs.output_bias.grad[1:], atol=1e-12, rtol=1e-9)
    for name, module in names.items():
        for kind in ("weight", "bias"):
            gradient = getattr(theirs.get_submodule(name), kind).grad
            torch.testing.assert_close(getattr(module, kind).grad, gradient, atol=1e-12, rtol=1e-9)


def their_adam(weights, grads, moments, decays, lr, b1=0.9, b2=0.999, eps=1e-6, decay=0.01):
    """AdamWeightDecayOptimizer.apply_gradients of the authors' optimization.py."""
    for w, g, mv, decayed in zip(weights, grads, moments, decays, strict=True):
        m = b1 * mv[0] + (1.0 - b1) * g
        v = b2 * mv[1] + (1.0 - b2) * g**2
        update = m / (np.sqrt(v) + eps)
        if decayed:
            update += decay * w
        w -= lr * update
        mv[:] = m, v


def their_rate(step, steps, warmup):
    decayed = (1.0 - 0.0) * (1 - min(step, steps) / steps) ** 1.0 + 0.0
    return step / warmup if step < warmup else decayed


def test_bert_adam_and_its_schedule_are_those_of_the_authors(tmp_path):
    method = model().double()
    optimizer = bert_adam(method)
    base = [group["lr"] for group in optimizer.param_groups]
    weights = [p.detach().numpy().copy() for p in method.parameters()]
    names = [name for name, _ in method.named_parameters()]
    plain = [not ("bias" in name or "norm" in name or "head.2" in name) for name in names]
    assert plain[names.index("encoder.items.weight")]  # the vectors of items decay
    moments = [[0.0, 0.0] for _ in weights]
    g = torch.Generator().manual_seed(0)
    for step in range(12):
        if step == 6:  # a state that went through a file
            torch.save(optimizer.state_dict(), tmp_path / "state.pt")
            optimizer = bert_adam(method)
            optimizer.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
        for p in method.parameters():
            p.grad = torch.randn(p.shape, generator=g, dtype=p.dtype) * 10.0 ** (-step / 2)  # down to where eps counts
        for group, lr in zip(optimizer.param_groups, base, strict=True):
            group["lr"] = lr * linear(step, 12, warmup=4)
        their_adam(
            weights, [p.grad.numpy() for p in method.parameters()], moments, plain, 1e-4 * their_rate(step, 12, 4)
        )
        optimizer.step()
        for p, w in zip(method.parameters(), weights, strict=True):
            np.testing.assert_allclose(p.detach().numpy(), w, rtol=1e-12, atol=1e-15)
    assert not any(torch.equal(p, q) for p, q in zip(method.parameters(), model().double().parameters(), strict=True))


def test_linear_takes_steps_or_a_share():
    assert linear(0, 1000, 100) == 0
    assert linear(99, 1000, 100) == 0.99
    assert [linear(s, 1000, 0.1) for s in range(1001)] == [linear(s, 1000, 100) for s in range(1001)]
    assert (linear(100, 1000, 100), linear(1000, 1000, 100), linear(1, 2)) == (0.9, 0, 0.5)


# Blanks


def drawn_blanks(lengths, epoch=0, **settings):
    lengths = torch.as_tensor(lengths)
    whole = rows(lengths.tolist())
    holed, _, places = cloze(**settings)(whole, lengths, Dice(1, epoch, torch.arange(len(lengths))))
    assert torch.equal((holed == MASK).flatten().nonzero()[:, 0], places)
    assert torch.equal(holed.flatten()[holed.flatten() != MASK], whole.flatten()[holed.flatten() != MASK])
    return holed == MASK


@pytest.mark.parametrize(("share", "most"), [(0.6, 30), (0.4, 20), (0.2, 40), (0.2, 20), (0.15, None), (1.0, None)])
def test_as_many_blanks_as_the_authors_draw(share, most):
    lengths = list(range(1, 201))
    count = drawn_blanks(lengths, length=200, share=share, last=0.0, most=most).sum(1).tolist()
    half_up = lambda x: math.floor(x + 0.5)  # noqa: E731  Python 2's round
    assert count == [min(most or 10**9, max(1, half_up(n * share))) for n in lengths]


def test_places_of_blanks_are_equally_likely():
    masks = drawn_blanks([20] * 6000, length=20, share=0.2, last=0.0)
    assert (masks.sum(1) == 4).all()
    assert chisquare(masks.sum(0).numpy()).pvalue > 1e-3
    pairs = (masks[:, :, None] & masks[:, None, :]).sum(0)[np.triu_indices(20, 1)]
    assert chisquare(pairs.numpy()).pvalue > 1e-3
    again = drawn_blanks([20] * 6000, epoch=1, length=20, share=0.2, last=0.0)
    assert (masks == again).all(1).float().mean() < 0.01  # drawn anew in each epoch


@pytest.mark.parametrize("last", [0.0, 0.3, 1.0])
def test_a_share_of_the_rows_hides_the_last_item_alone(last):
    masks = drawn_blanks([15] * 4000, length=15, share=0.4, last=last)
    alone = masks.sum(1) == 1
    assert masks[alone][:, -1].all()
    assert abs(int(alone.sum()) - 4000 * last) <= 4 * (4000 * last * (1 - last)) ** 0.5


def a_log(lengths, seed=0):
    import pyarrow as pa

    g, stops = np.random.default_rng(seed), np.cumsum(lengths)
    items = g.integers(0, V, stops[-1]).astype(np.int32)
    names = pa.array([str(i) for i in range(V)])
    return Histories("log", items, stops - lengths, stops, pa.array(range(len(lengths))), names)


def their_windows(length, longest, proportion):
    """create_training_instances of the authors' gen_data_fin.py: where windows begin."""
    step = int(proportion * longest)
    if length <= longest:
        return [(0, length)]
    begins = [*range(length - longest, 0, -step), 0]
    return [(i, i + longest) for i in begins[::-1]]


@pytest.mark.parametrize(("longest", "proportion"), [(50, 0.1), (50, 0.5), (200, 0.5), (7, 1.0), (9, 0.33)])
def test_windows_and_copies_are_those_of_the_authors(longest, proportion):
    lengths = np.array([1, 2, 6, 7, 8, 9, 10, 49, 50, 51, 54, 55, 56, 199, 200, 201, 300, 301, 777])
    log = a_log(lengths)
    found = cloze(longest, slide=proportion, copies=10).rows(log)
    expected = [
        sorted((int(begin) + a, int(begin) + b) for a, b in their_windows(n, longest, proportion))
        for begin, n in zip(log.starts, lengths, strict=True)
    ]
    expected = list(itertools.chain.from_iterable(expected))
    every = sorted(zip(found.starts.tolist(), found.stops.tolist(), found.fixed.tolist(), strict=True))
    assert every == [(a, b, k) for a, b in expected for k in range(11)]


def test_copies_keep_their_blanks_and_one_hides_the_last():
    log = a_log(np.array([8, 5, 30, 12]))
    seen = {}
    for epoch in (0, 1, 5):
        loader = HistoryLoader(log, cloze(10, 0.4, slide=0.5, copies=3), 4, seed=3)
        for batch in loader.epoch(epoch):
            for row, whole, place in zip(*batch.views, batch.ids.tolist(), strict=True):
                kept = row[row != PAD].tolist(), whole[whole != PAD].tolist()
                assert seen.setdefault(place, kept) == kept
    assert len(seen) > 20
    for place, (holed, whole) in seen.items():
        if place % 4 == 3:
            assert holed == [*whole[:-1], MASK]
    assert len({tuple(h) for h, _ in seen.values()}) > len(seen) // 2


@pytest.mark.parametrize(("most", "mixed"), [(0, False), (1, True)])
def test_batches_of_the_papers_blanks_mix_lengths(most, mixed):
    """Their mean over a batch then weighs blanks as it does for the authors; other batches are of like length."""
    loader = HistoryLoader(a_log(np.array([3, 40] * 64)), cloze(50, last=0.0, copies=most), 16)
    lengths = [(batch.views[1] != PAD).sum(1) for batch in loader.epoch(0)]
    assert all(len(n.unique()) == 2 for n in lengths) == mixed


@pytest.mark.parametrize(
    ("epochs", "share", "past"),
    [(1, 0.6, [False]), (2, 0.6, [True, False]), (5, 0.6, [True] * 3 + [False] * 2), (2, 1.0, [True] * 2)],
)
def test_however_short_a_training_blanks_are_in_it(epochs, share, past):
    loader = HistoryLoader(a_log(np.array([6] * 4)), cloze(6, following=share), 4, epochs=epochs)
    assert [next(loader.epoch(epoch)).past for epoch in range(epochs)] == past


def test_rows_are_cut_before_blanks_are_drawn():
    loader = HistoryLoader(a_log(np.array([100] * 8)), cloze(10, 0.3, last=0.0), 8)
    (batch,) = loader.epoch(0)
    holed, whole = batch.views
    assert whole.shape == (8, 10)
    assert ((holed == MASK).sum(1) == 3).all()  # none is lost with what was cut
    assert len(batch.places) == 24


def test_what_is_asked_is_the_end_of_a_history_with_a_blank_behind_it():
    log = a_log(np.array([3, 30, 1]))
    x = ask(10)(log, np.arange(3))
    first, second = log.items[:3] + FIRST, log.items[24:33] + FIRST
    assert x[0].tolist() == [*first, MASK, *[PAD] * 6]  # a short history keeps its oldest item
    assert x[1].tolist() == [*second, MASK]
    assert x[2].tolist() == [log.items[33] + FIRST, MASK, *[PAD] * 8]
    assert ask(10, blank=False)(log, np.arange(3))[1].tolist() == (log.items[23:33] + FIRST).tolist()


# Encoders


@pytest.mark.parametrize("norm", ["post", "pre"])
@pytest.mark.parametrize("positions", ["start", "end", "none"])
@both
def test_a_state_does_not_depend_on_padding_or_on_other_rows(kind, positions, norm):
    encoder = model(kind, positions=positions, norm=norm).double().encoder
    lengths = (12, 5, 1, 9)
    x = rows(lengths)
    together = encoder.tokens(x)
    for row, n, state in zip(x, lengths, together, strict=True):
        torch.testing.assert_close(encoder.tokens(row[None, :n])[0], state[:n])
    torch.testing.assert_close(encoder(x), torch.stack([s[n - 1] for s, n in zip(together, lengths, strict=True)]))


@pytest.mark.parametrize("norm", ["post", "pre"])
def test_a_causal_state_does_not_know_the_future_and_others_do(norm):
    for kind, sees in ((SASRec, False), (BERT4Rec, True)):
        encoder = model(kind, positions="start", norm=norm).double().encoder
        x = rows([12, 12])
        other = x.clone()
        other[:, 7:] = (x[:, 7:] - FIRST + 1) % V + FIRST
        before, after = encoder.tokens(x), encoder.tokens(other)
        assert torch.equal(before[:, :7], after[:, :7]) != sees
        assert not torch.equal(before[:, 7:], after[:, 7:])


@both
def test_attention_maps_are_the_weights_that_states_are_made_with(kind):
    encoder = model(kind, layers=1, positions="end").double().eval().encoder
    x = rows([12, 5])
    maps = encoder.attention(x)
    assert maps.shape == (1, 2, 2, 12, 12)
    torch.testing.assert_close(maps.sum(-1), torch.ones_like(maps[..., 0]))
    assert not maps[0, 1, :, :5, 5:].any()
    block, seen = encoder.blocks[0], (x != PAD)[:, None, None, :]
    h = torch.randn(2, 12, D, dtype=torch.float64)
    v = block._heads(h)[2]
    made = block.mix((block.attention(h, seen, encoder.causal) @ v).transpose(1, 2).flatten(2))
    torch.testing.assert_close(made[:, :5], block._attend(h, None if encoder.causal else seen, encoder.causal)[:, :5])


# What every method promises


@both
@pytest.mark.parametrize("loss", ["full", "chunked", "sampled", "gbce"])
def test_forward_writes_nothing_and_all_that_learns_gets_a_gradient(kind, loss):
    method, batch = model(kind, loss=loss, negatives=8), batches(kind)
    before = {k: v.clone() for k, v in method.state_dict().items()}
    views = [v.clone() for v in batch.views]
    out = method(batch)
    out.loss.backward()
    assert out.loss.shape == ()
    assert out.z.shape == out.h.shape == (len(batch.places), D)
    assert all(torch.equal(v, method.state_dict()[k]) for k, v in before.items())
    assert all(map(torch.equal, views, batch.views))
    assert all(p.grad.isfinite().all() and p.grad.abs().sum() > 0 for p in method.parameters())


@both
def test_the_loss_is_the_mean_over_blanks_of_the_plain_softmax(kind):
    method, batch = model(kind, loss="chunked").double(), batches(kind)
    holed, whole = batch.views
    h = method.encoder.tokens(holed)
    losses = []
    for b, t in itertools.product(range(whole.shape[0]), range(whole.shape[1])):
        asked = holed[b, t] == MASK if kind is BERT4Rec else whole[b, t] != PAD
        if asked:
            scores = method.project(h[b, t]) @ method.encoder.items.weight[FIRST:].T
            scores = scores + method.bias[FIRST:] if kind is BERT4Rec else scores
            losses.append(scores.logsumexp(0) - scores[whole[b, t] - FIRST])
    torch.testing.assert_close(method(batch).loss, torch.stack(losses).mean())


@both
def test_a_method_learns_one_batch(kind):
    method, batch = model(kind), batches(kind)
    optimizer, losses = adamw(method, lr=0.01), []
    for _ in range(60):
        out = method(batch)
        losses.append(out.loss.item())
        optimizer.zero_grad()
        out.loss.backward()
        optimizer.step()
    assert losses[-1] < 0.3 * losses[0]


# Many processes


def part(batch, own):
    """Some rows of a batch, and their blanks."""
    (holed, whole), steps = batch.views, batch.views[0].shape[1]
    places = [int(p) for p in batch.places if own.start * steps <= p < own.stop * steps]
    return Blanks([holed[own], whole[own]], batch.ids[own], places=torch.tensor(places) - own.start * steps)


RANKS = [(kind, loss) for kind in (BERT4Rec, SASRec) for loss in ("chunked", "sampled", "gbce")]


def learn(method, net, batch, seed):
    found = []
    for step in range(2):
        torch.manual_seed(seed + step)
        out = net(batch)
        out.loss.backward()
        found += [dist.mean(out.loss), [p.grad.clone() for p in method.parameters()]]
        with torch.no_grad():
            for p in method.parameters():
                p -= 0.1 * p.grad
                p.grad = None
    return found


def on_ranks(rank, world, folder):
    found = {}
    for kind, loss in RANKS:
        method, batch = model(kind, loss=loss, negatives=8).double(), batches(kind)
        own = slice(0, 3) if rank == 0 else slice(3, len(batch.ids))  # unlike numbers of rows and of blanks
        net = dist.replicated(method, torch.device("cpu"))
        found[kind.__name__, loss] = learn(method, net, part(batch, own), 100 * rank)
    return found


def test_two_processes_learn_what_one_learns(tmp_path):
    ranks = launch(2, on_ranks, tmp_path)
    for kind, loss in RANKS:
        method = model(kind, loss=loss, negatives=8).double()
        alone = learn(method, method, batches(kind), 0)
        for found in ranks:
            torch.testing.assert_close(found[kind.__name__, loss], alone, rtol=1e-9, atol=1e-12)


# A log whose answers are known


def markov_log(users=400, length=20, items=20, likely=0.7, seed=0):
    """Each item has one likely successor, else any other follows: the best guess is right with `likely`."""
    import pyarrow as pa

    successor = np.random.default_rng(100).permutation(items)
    g = np.random.default_rng(seed)
    log = np.empty((users, length), np.int32)
    log[:, 0] = g.integers(0, items, users)
    for t in range(1, length):
        other = (successor[log[:, t - 1]] + g.integers(1, items, users)) % items
        log[:, t] = np.where(g.random(users) < likely, successor[log[:, t - 1]], other)
    stops = np.arange(1, users + 1) * length
    names = pa.array([str(i) for i in range(items)])
    return Histories("markov", log.ravel(), stops - length, stops, pa.array(range(users)), names), successor


@both
def test_next_items_of_a_markov_chain_are_learned(kind):
    """95 % of the hits that the chain itself allows, after histories that were not trained on."""
    likely, items = 0.7, 20
    log, successor = markov_log(items=items, likely=likely)
    views = cloze(20, 0.2, last=0.8) if kind is BERT4Rec else following(20)
    make = bert if kind is BERT4Rec else causal
    torch.manual_seed(0)
    method = kind(make(items, width=32, layers=1, length=20, dropout=0.1, init="normal"))
    optimizer = adamw(method, lr=5e-3, weight_decay=0.0)
    loader = HistoryLoader(log, views, 50)
    for epoch in range(45 if kind is BERT4Rec else 12):
        for batch in loader.epoch(epoch):
            optimizer.zero_grad()
            method(batch).loss.backward()
            optimizer.step()
    method.eval()
    fresh, _ = markov_log(items=items, likely=likely, seed=1)
    e, c, first = method.catalogue()
    with torch.no_grad():
        z = method.project(method.encoder(ask(20, blank=kind is BERT4Rec)(fresh, np.arange(len(fresh)))))
        best = (z @ e[first:].T + (0 if c is None else c[first:])).argmax(1).numpy()
    right = best == successor[fresh.items[fresh.stops - 1]]
    rate = likely * right.mean() + (1 - likely) / (items - 1) * (1 - right.mean())  # what it hits on average
    assert rate >= 0.95 * likely
