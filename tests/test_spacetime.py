"""Space-time encoders against their authors' numbers, loops where those have none, and beginning as an image ViT."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from test_vit import TINY, agree, macs, randomised
from torch.nn.functional import gelu, layer_norm, linear
from torch.utils.flop_counter import FlopCounterMode

from twoviews.encoders import blocks
from twoviews.encoders.convert import load_into
from twoviews.encoders.spacetime import ATTENTIONS, ORDERS, space_only, timesformer, vivit2, vivit3, vivit4
from twoviews.encoders.start import init_from_image
from twoviews.encoders.vit import vit, vivit1
from twoviews.encoders.vtn import Longformer, vtn
from twoviews.errors import UserError
from twoviews.recompute import lean

FIXTURE = Path(os.environ.get("TWOVIEWS_DATA", Path(__file__).parents[2] / "shared/data")) / "video/vivit_reference.npz"
KINDS = {
    "spacetime": vivit1,
    "factorized_encoder": vivit2,
    "factorized_self_attention_block": vivit3,
    "factorized_dot_product_attention": vivit4,
}
ALL = {
    "vivit1": (vivit1, {}),
    "vivit2": (vivit2, {}),
    **{f"vivit3 {order}": (vivit3, {"order": order}) for order in ORDERS},
    "vivit4": (vivit4, {}),
    **{f"timesformer {a}": (timesformer, {"attention": a}) for a in ATTENTIONS},
    "vtn": (vtn, {}),
}


def make(name, **more):
    torch.manual_seed(0)
    factory, given = ALL[name]
    return factory(**({"frames": 8} | TINY | given | more))


@pytest.mark.parametrize("kind", KINDS)
def test_vivit_is_its_authors(kind, monkeypatch):
    if not FIXTURE.exists():
        pytest.skip(f"no reference at {FIXTURE}; set TWOVIEWS_DATA")
    monkeypatch.setitem(blocks.SIZES, "reference", (32, 2, 4))
    more = {"time_depth": 2} if KINDS[kind] is vivit2 else {}
    encoder = KINDS[kind](frames=8, image=32, patch=8, size="reference", mlp=2, **more).eval()
    with np.load(FIXTURE) as file:
        start = f"{kind}/params/"
        weights = {name.removeprefix(start).replace("/", "."): file[name] for name in file if name.startswith(start)}
        x, expected = torch.from_numpy(file["input"]), torch.from_numpy(file[f"{kind}/output"])
    left = load_into(encoder, weights).left
    assert left == ["output_projection.bias", "output_projection.kernel"]
    head, bias = (torch.from_numpy(weights[f"output_projection.{x}"]) for x in ("kernel", "bias"))
    with torch.no_grad():
        y = encoder(x.permute(0, 4, 1, 2, 3)) @ head + bias
    assert (y - expected).abs().max() <= 2e-6 * expected.abs().max()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("attention", ["divided", "joint"])
def test_timesformer_is_transformers(attention, dtype):
    hf = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = hf.TimesformerConfig(
        image_size=32, patch_size=8, num_frames=6, hidden_size=64, num_hidden_layers=4, num_attention_heads=4,
        intermediate_size=256, attention_type=f"{attention}_space_time",
    )  # fmt: skip
    theirs = randomised(hf.TimesformerModel(config))
    ours = timesformer(frames=6, attention=attention, **TINY)
    x = torch.randn(2, 3, 6, 32, 32)
    agree(ours, theirs, x, lambda m, x: m(x.transpose(1, 2)).last_hidden_state[:, 0], dtype)


def looks(x, name, weights, heads):
    """Attention of tokens (N, D), as a loop over heads and tokens."""
    q, k, v = linear(x, weights[f"{name}.qkv.weight"], weights[f"{name}.qkv.bias"]).chunk(3, 1)
    out = torch.empty_like(x)
    for part in torch.arange(x.shape[1]).chunk(heads):
        for i in range(len(x)):
            weight = torch.stack([q[i, part] @ k[j, part] for j in range(len(x))]) / len(part) ** 0.5
            out[i, part] = weight.softmax(0) @ v[:, part]
    return linear(out, weights[f"{name}.proj.weight"], weights[f"{name}.proj.bias"])


def normed(x, name, weights):
    return layer_norm(x, x.shape[-1:], weights[f"{name}.weight"], weights[f"{name}.bias"], 1e-6)


def fed(x, name, weights):
    y = gelu(
        linear(normed(x, f"{name}.norm2", weights), weights[f"{name}.mlp.fc1.weight"], weights[f"{name}.mlp.fc1.bias"])
    )
    return x + linear(y, weights[f"{name}.mlp.fc2.weight"], weights[f"{name}.mlp.fc2.bias"])


def test_divided_attention_of_another_length_is_a_loop(monkeypatch):
    """TimeSformer built for 4 frames reads 3 of another shape, where transformers gives wrong numbers."""
    monkeypatch.setitem(blocks.SIZES, "two", (8, 2, 2))
    encoder = randomised(timesformer(frames=4, image=8, patch=4, size="two")).double()
    x = torch.randn(1, 3, 3, 8, 12, dtype=torch.float64)
    w = encoder.state_dict()
    places = blocks.resized(w["pos"][0, 1:], (1, 2, 2), (1, 2, 3))
    times = blocks.resized(w["pos_time"][0], (4, 1, 1), (3, 1, 1))
    cls, tokens = w["cls"][0, 0] + w["pos"][0, 0], torch.empty(3, 6, 8, dtype=torch.float64)
    for t in range(3):
        for n in range(6):
            box = x[0, :, t, n // 3 * 4 : n // 3 * 4 + 4, n % 3 * 4 : n % 3 * 4 + 4].flatten()
            tokens[t, n] = linear(box, w["patch.proj.weight"], w["patch.proj.bias"]) + places[n] + times[t]
    for i in range(2):
        name, fc = f"blocks.{i}", f"blocks.{i}.time_fc"
        for n in range(6):
            line = looks(normed(tokens[:, n], f"{name}.time_norm", w), f"{name}.time", w, 2)
            tokens[:, n] += linear(line, w[f"{fc}.weight"], w[f"{fc}.bias"])
        frames = [torch.cat([cls[None], frame]) for frame in tokens]
        seen = [looks(normed(frame, f"{name}.norm1", w), f"{name}.attn", w, 2) for frame in frames]
        cls = cls + sum(y[0] for y in seen) / 3
        tokens = tokens + torch.stack([y[1:] for y in seen])
        cls, tokens = fed(cls, name, w), fed(tokens, name, w)
    with torch.no_grad():
        torch.testing.assert_close(encoder(x)[0], normed(cls, "norm", w), rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(
            encoder.tokens(x)[0], normed(tokens.flatten(0, 1), "norm", w), rtol=1e-10, atol=1e-10
        )


@pytest.mark.parametrize("order", ORDERS)
def test_model_3_is_a_loop_in_both_orders(order, monkeypatch):
    monkeypatch.setitem(blocks.SIZES, "two", (8, 1, 2))
    encoder = randomised(vivit3(frames=4, image=8, patch=4, size="two", order=order)).double()
    encoder.blocks[0].mlp.act.approximate = "none"  # the loop's; the fixture holds the kind that is right
    x, w = torch.randn(1, 3, 4, 8, 8, dtype=torch.float64), encoder.state_dict()
    with torch.no_grad():
        tokens = encoder.patch(x)[0] + w["pos"].view(2, 4, 8)
        for axis in order.split("_"):
            norm, name = ("time_norm", "time") if axis == "time" else ("norm1", "attn")
            lines = tokens.transpose(0, 1) if axis == "time" else tokens
            seen = [looks(normed(line, f"blocks.0.{norm}", w), f"blocks.0.{name}", w, 2) for line in lines]
            tokens = tokens + (torch.stack(seen, 1) if axis == "time" else torch.stack(seen))
        expected = normed(fed(tokens, "blocks.0", w), "norm", w).mean((0, 1))
        torch.testing.assert_close(encoder(x)[0], expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(
    ("frames", "dtype"), [(16, torch.float64), (16, torch.float32), (35, torch.float32), (250, torch.float32)]
)
def test_vtn_looks_over_time_as_longformer_does(frames, dtype, monkeypatch):
    hf = pytest.importorskip("transformers")
    softmax = torch.nn.functional.softmax  # theirs is float32 whatever the model is
    monkeypatch.setattr("torch.nn.functional.softmax", lambda x, dim, dtype=None: softmax(x, dim))
    torch.manual_seed(0)
    config = hf.LongformerConfig(
        attention_window=[18] * 3, hidden_size=32, num_hidden_layers=3, num_attention_heads=4, intermediate_size=128,
        max_position_embeddings=288, type_vocab_size=2, pad_token_id=0, vocab_size=3, layer_norm_eps=1e-12,
    )  # fmt: skip
    theirs = randomised(hf.LongformerModel(config, add_pooling_layer=False)).to(dtype)
    ours = Longformer(32, 4, 3, 18, "learned", 4, 0.0).eval().to(dtype)
    copy_longformer(ours, theirs)
    x = torch.randn(2, frames, 32, dtype=dtype)
    rows = -(-(frames + 1) // 18) * 18 - frames - 1  # padding that its chunks need
    given = torch.nn.functional.pad(torch.cat([ours.cls.detach().expand(2, 1, 32), x], 1), (0, 0, 0, rows))
    mask = torch.cat([torch.full((1,), 2), torch.ones(frames), torch.zeros(rows)]).long().expand(2, -1)
    kind = torch.zeros_like(mask)
    kind[:, 0] = 1
    place = torch.cat([torch.tensor([286]), torch.arange(frames) % 286, torch.full((rows,), 287)]).expand(2, -1)
    more = {"attention_mask": (mask > 0).long(), "global_attention_mask": (mask == 2).long()}
    expected = theirs(inputs_embeds=given, position_ids=place, token_type_ids=kind, **more)[0][:, : frames + 1]
    h = ours(x)
    close = 1e-5 if dtype == torch.float32 else 1e-10
    assert (h - expected).abs().max() <= close * expected.abs().max()
    assert (ours(x, only=1) - expected[:, :1]).abs().max() <= close * expected.abs().max()
    if dtype == torch.float64:
        expected.square().sum().backward()
        h.square().sum().backward()
        table = theirs.embeddings.position_embeddings.weight.grad
        table[0] = ours.pos.grad[0]  # to transformers row 0 is padding and has no gradient
        torch.testing.assert_close(ours.pos.grad, table, rtol=1e-8, atol=1e-8 * table.abs().max().item())
        for mine, other in zip(ours.blocks, theirs.encoder.layer, strict=True):
            grads = [getattr(other.attention.self, f"{x}_global").weight.grad for x in ("query", "key", "value")]
            torch.testing.assert_close(
                mine.qkv_global.weight.grad, torch.cat(grads), rtol=1e-8, atol=1e-8 * grads[2].abs().max().item()
            )


@torch.no_grad()
def copy_longformer(ours, theirs):
    def put(to, *of):
        to.weight.copy_(torch.cat([x.weight for x in of]))
        to.bias.copy_(torch.cat([x.bias for x in of]))

    ours.pos.copy_(theirs.embeddings.position_embeddings.weight)
    ours.kind.copy_(theirs.embeddings.token_type_embeddings.weight)
    put(ours.norm, theirs.embeddings.LayerNorm)
    for mine, other in zip(ours.blocks, theirs.encoder.layer, strict=True):
        own = other.attention.self
        put(mine.attn.qkv, own.query, own.key, own.value)
        put(mine.qkv_global, own.query_global, own.key_global, own.value_global)
        put(mine.attn.proj, other.attention.output.dense)
        put(mine.norm1, other.attention.output.LayerNorm)
        put(mine.mlp.fc1, other.intermediate.dense)
        put(mine.mlp.fc2, other.output.dense)
        put(mine.norm2, other.output.LayerNorm)


def test_vtns_frame_number_wraps():
    torch.manual_seed(0)
    time = randomised(Longformer(16, 2, 1, 2, "learned", 1, 0.0))
    x = torch.randn(1, 1, 16).expand(1, 290, 16)
    with torch.no_grad():
        h = time(x)[0, 1:]
    torch.testing.assert_close(h[287], h[1])  # between frames 286 % 286 = 0 and 288 % 286 = 2, as frame 1 is
    assert (h[287] - h[2]).abs().max() > 1e-3


HEAD = 400 * 769  # classes of Kinetics, on 768 numbers
PUBLISHED = {  # parameters with the head, GMACs of a clip
    "vivit2": (vivit2, {"frames": 32}, 115.1e6, 283.3),
    "vivit3": (vivit3, {"frames": 32}, 117.3e6, 371.0),
    "vivit4": (vivit4, {"frames": 32}, 88_954_000 - 2 * 768, 276.2),  # model 1 without its class token
    "space": (timesformer, {"attention": "space"}, 86.1e6, 140.5),
    "joint": (timesformer, {"attention": "joint"}, 86_112_400, 179.6),
    "divided": (timesformer, {}, 121_566_352, 195.8),
    "HR": (timesformer, {"frames": 16, "image": 448}, 122.0e6, 1702.7),
    "L": (timesformer, {"frames": 96}, 121.6e6, 2379.9),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameters_and_multiplications_are_the_published(name):
    factory, given, parameters, gmacs = PUBLISHED[name]
    with torch.device("meta"):
        encoder = factory(**given).eval()
    count = sum(p.numel() for p in encoder.parameters()) + HEAD
    assert abs(count - parameters) <= (0 if isinstance(parameters, int) else 0.05e6)
    t, n = given.get("frames", 8) // encoder_tubelet(encoder), (given.get("image", 224) // 16) ** 2
    shape = (1, 3, given.get("frames", 8), given.get("image", 224), given.get("image", 224))
    counted = macs(encoder, shape)
    if factory is vivit2:  # its last block over places computes class tokens alone
        counted += t * (n * 10 * 768**2 + 2 * n * (n + 1) * 768)
    assert counted / 1e9 == pytest.approx(gmacs, rel=0.005)


def encoder_tubelet(encoder):
    return getattr(encoder, "space", encoder).patch.tubelet


def test_vtns_parameters_and_multiplications():
    with torch.device("meta"):
        encoder = vtn(frames=250).eval()
    head = 2 * 768 + 768 * 769 + 768 * 400 + 400 + 768 * 769  # norm, two layers, and the pooler that no one reads
    assert sum(p.numel() for p in encoder.parameters()) + head == pytest.approx(114.0e6, abs=0.15e6)
    left_out = 250 * (196 * 10 * 768**2 + 2 * 196 * 197 * 768)
    assert (macs(encoder, (1, 3, 250, 224, 224)) + left_out) / 1e9 == pytest.approx(4396, rel=0.005)


@pytest.mark.parametrize("name", ALL)
def test_contract(name):
    encoder = randomised(make(name))
    x = torch.randn(3, 3, 8, 32, 32)
    with torch.no_grad():
        h, tokens = encoder(x), encoder.tokens(x)
        assert h.shape == (3, encoder.dim)
        assert tokens.shape[::2] == (3, encoder.dim)
        assert tokens.shape[1] in (4, 8, 4 * 16, 8 * 16)
        torch.testing.assert_close(encoder(x[1:2]), h[1:2], rtol=1e-4, atol=1e-5)  # alone as in a batch
        if name.startswith("vivit3") or name == "vivit4":
            torch.testing.assert_close(tokens.mean(1), h)
        assert encoder(torch.randn(2, 3, 12, 16, 24)).shape == (2, encoder.dim)  # another length and shape
        with torch.autocast("cpu", torch.bfloat16):
            assert (encoder(x).float() - h).abs().max() <= 3e-2 * max(1, h.abs().max())


@pytest.mark.parametrize("name", ALL)
def test_every_weight_gets_a_gradient(name):
    encoder = make(name, drop_path=0.1).train()
    encoder(torch.randn(2, 3, 8, 32, 32)).square().sum().backward()
    assert [name for name, p in encoder.named_parameters() if p.grad is None] == []


@pytest.mark.parametrize("name", ALL)
def test_read_in_parts_and_computed_again(name):
    """What train.py may do to an encoder: micro_batch and recompute give the same gradients."""
    method = torch.nn.Module()
    method.encoder = encoder = make(name)
    x, found = torch.randn(4, 3, 8, 32, 32), []
    for more in ({}, {"micro_batch": 2, "blocks": True}):
        encoder.zero_grad()
        with lean(method, **more):
            encoder(x).square().sum().backward()
        found.append([p.grad for p in encoder.parameters()])
    for once, again in zip(*found, strict=True):
        torch.testing.assert_close(again, once, rtol=1e-4, atol=1e-4)
    assert not hasattr(encoder, "places")  # the name by which encoders that predict are known


def test_vtn_is_the_same_in_training():
    """There its last block computes frames that no one reads, so that every weight has a gradient."""
    encoder, x = make("vtn"), torch.randn(2, 3, 8, 32, 32)
    torch.testing.assert_close(encoder.train()(x), encoder.eval()(x))


@pytest.mark.parametrize("name", ALL)
def test_order_blind_without_positions(name):
    """What a control must be, with tubelets of one frame. Every frame of this clip is in every window of VTN's."""
    encoder = randomised(make(name, tubelet=1, positions="none")).double()
    x = torch.randn(2, 3, 8, 32, 32, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(encoder(x[:, :, [3, 0, 7, 1, 6, 2, 5, 4]]), encoder(x), rtol=0, atol=1e-10)


@pytest.mark.parametrize("name", [*ALL, "narrow vtn"])
def test_all_but_space_only_see_order(name):
    encoder = vtn(window=2, positions="none", **TINY) if name == "narrow vtn" else make(name)
    encoder = randomised(encoder).double()
    x = torch.randn(2, 3, 8, 32, 32, dtype=torch.float64)
    with torch.no_grad():
        moved = (encoder(x[:, :, [3, 0, 7, 1, 6, 2, 5, 4]]) - encoder(x)).abs().max().item()
    assert moved < 1e-10 if name == "timesformer space" else moved > 1e-6


def test_space_only_is_timesformers_space():
    encoders = [f(**TINY) for f in (lambda **given: timesformer(attention="space", **given), space_only)]
    encoders[1].load_state_dict(encoders[0].state_dict())
    x = torch.randn(2, 3, 8, 32, 32)
    torch.testing.assert_close(encoders[0](x), encoders[1](x))


@pytest.mark.parametrize("patch", ["central", "inflate"])
@pytest.mark.parametrize("name", [*ALL, "vivit1 mean"])
def test_a_still_clip_is_the_photo(name, patch):
    """Begun as an image ViT, an encoder whose attention in time adds nothing gives a still clip the photo's h."""
    torch.manual_seed(0)
    pool = "mean" if name.startswith("vivit3") or name == "vivit1 mean" else "cls"
    image = randomised(vit(pool=pool, gelu="tanh" if name.startswith("vivit") else "erf", **TINY))
    encoder = vivit1(frames=8, pool="mean", **TINY) if name == "vivit1 mean" else make(name)
    with torch.no_grad():
        for p in encoder.parameters():
            p.add_(1)  # what is not written shows
    if name in ("vivit1", "vivit2", "vivit4", "vtn", "timesformer joint"):
        encoder = make(name)
    init_from_image(encoder.eval(), image, patch)
    x = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        h, still = image(x), x[:, :, None].expand(-1, -1, 8, -1, -1)
        if name in ("vivit2", "vtn"):
            torch.testing.assert_close(encoder.frames(still)[:, 3], h, rtol=1e-4, atol=1e-5)
        elif name in ("vivit1", "vivit4", "timesformer joint"):  # a softmax over copies, or heads over time: near it
            assert torch.isfinite(encoder(still)).all()
            torch.testing.assert_close(encoder.blocks[1].attn.qkv.weight, image.blocks[1].attn.qkv.weight)
        else:
            torch.testing.assert_close(encoder(still), h, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("temporal", ["copy", "random"])
@pytest.mark.parametrize("name", ["vivit3 time_space", "vivit3 space_time", "timesformer divided"])
def test_time_starts_at_nothing_and_learns(name, temporal):
    """Its branch adds nothing at step 0; after a step q, k and v have gradients, which an all-zero start never has."""
    image = randomised(vit(pool="mean" if "vivit" in name else "cls", **TINY))
    for start in (lambda encoder: None, lambda encoder: init_from_image(encoder, image, temporal=temporal)):
        encoder = make(name)
        start(encoder)
        x = torch.randn(2, 3, 8, 32, 32)
        h = encoder(x)
        without = make(name)
        without.load_state_dict(encoder.state_dict())
        with torch.no_grad():
            for block in without.blocks:
                block.time.qkv.weight.normal_()
                block.time_norm.weight.normal_()
        torch.testing.assert_close(without(x), h)  # frame by frame: no weight in time matters
        optimizer = torch.optim.SGD(encoder.parameters(), 0.1)
        (h[:, 0] - 1).square().sum().backward()
        optimizer.step()
        encoder.zero_grad()
        (encoder(x)[:, 0] - 1).square().sum().backward()
        for block in encoder.blocks:
            for part in block.time.qkv.weight.grad.chunk(3):
                assert part.abs().max() > 0


def test_what_time_begins_with():
    image = randomised(vit(**TINY))
    three, divided = make("vivit3 time_space"), make("timesformer divided")
    fresh = three.blocks[0].time_norm.weight.clone()
    for encoder in (three, divided):
        init_from_image(encoder, image, "central", "copy")
        for block, own in zip(encoder.blocks, image.blocks, strict=True):
            torch.testing.assert_close(block.time.qkv.weight, own.attn.qkv.weight)
            torch.testing.assert_close(block.attn.qkv.weight, own.attn.qkv.weight)
            torch.testing.assert_close(block.mlp.fc2.bias, own.mlp.fc2.bias)
    torch.testing.assert_close(three.blocks[0].time_norm.weight, fresh)  # model 3's is new
    assert three.blocks[0].time.proj.weight.abs().max() == 0
    torch.testing.assert_close(divided.blocks[0].time_norm.weight, image.blocks[0].norm1.weight)
    torch.testing.assert_close(divided.blocks[0].time.proj.weight, image.blocks[0].attn.proj.weight)
    assert divided.blocks[0].time_fc.weight.abs().max() == divided.pos_time.abs().max() == 0
    torch.testing.assert_close(three.pos.view(4, 16, 64), image.pos[:, 1:].expand(4, -1, -1))
    larger = vivit1(frames=4, image=48, patch=8, size="test")
    init_from_image(larger, image, "inflate")
    places = blocks.resized(image.pos[0, 1:], (1, 4, 4), (1, 6, 6))
    torch.testing.assert_close(larger.pos[0, 1:].view(2, 36, 64), places.expand(2, -1, -1))
    torch.testing.assert_close(larger.pos[:, 0] + larger.cls[0], image.pos[:, 0] + image.cls[0])
    box = larger.patch.proj.weight.view(64, 3, 2, 64)
    torch.testing.assert_close(box[:, :, 1], image.patch.proj.weight.view(64, 3, 64) / 2)


def test_compiled_is_the_same():
    """One graph, without breaks; what a compiler makes of it is not ours to check."""
    encoder = randomised(timesformer(frames=4, image=16, patch=8, size="test"))
    x = torch.randn(2, 3, 4, 16, 16)
    compiled = torch.compile(encoder, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(x), encoder(x), rtol=1e-4, atol=1e-5)


def test_the_last_block_computes_class_tokens_alone():
    encoder = vivit2(frames=4, **TINY).eval()
    x = torch.empty(1, 3, 4, 32, 32)
    with FlopCounterMode(display=False) as counter:
        encoder.frames(x)
    d, n = 64, 17
    whole = 2 * (16 * 384 * d + 4 * (12 * n * d * d + 2 * n * n * d))
    assert counter.get_total_flops() / 2 == whole - 2 * (16 * 10 * d * d + 2 * 16 * 17 * d)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (lambda: vivit4(size="tiny"), "has 3; take a size with an even number"),
        (lambda: vivit2(size="hge"), "unknown size 'hge'"),
        (lambda: vivit3(order="space", size="test"), "unknown order 'space'"),
        (lambda: vivit3(positions="sine", size="test"), "unknown positions 'sine'"),
        (lambda: timesformer(attention="axial", size="test"), "unknown attention 'axial'"),
        (lambda: vivit2(time_depth=0, size="test"), "time_depth must be at least 1"),
        (lambda: vtn(time_depth=0, size="test"), "time_depth must be at least 1"),
        (lambda: vtn(window=3, size="test"), "window must be even"),
        (lambda: vivit4(frames=7, size="test"), "frames=7 and image=224 do not divide"),
        (lambda: make("vivit2")(torch.zeros(1, 3, 7, 32, 32)), "7 frames of 32 x 32 pixels does not divide"),
        (lambda: make("vtn")(torch.zeros(1, 3, 7, 30, 32)), "7 frames of 30 x 32 pixels does not divide"),
        (lambda: make("vivit3 time_space")(torch.zeros(3, 32, 32)), "got a tensor of shape (3, 32, 32)"),
        (lambda: init_from_image(make("vtn"), vit(**TINY), "middle"), "unknown patch 'middle'"),
        (lambda: init_from_image(make("vtn"), vit(**TINY), temporal="zero"), "unknown temporal 'zero'"),
        (lambda: init_from_image(torch.nn.Linear(1, 1), vit(**TINY)), "Linear does not begin as an image ViT"),
        (lambda: init_from_image(make("vivit2"), make("vivit1")), "reads an encoder of `vit`"),
        (lambda: init_from_image(make("vivit2"), vit(image=32, patch=16, size="test")), "has patch=16"),
        (lambda: init_from_image(make("vivit2"), vit(image=32, patch=8, size="tiny")), "does not fit"),
        (lambda: init_from_image(make("vivit2"), vit(channels=1, **TINY)), "does not fit"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(wrong, says):
    with pytest.raises(UserError) as error:
        wrong()
    assert says in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ALL)
def test_learned_positions_begin_about_as_large_as_tokens(name):
    """The papers' 0.02 drowns among Glorot tokens: a small encoder finds time late or never."""
    tables = [p for key, p in make(name).named_parameters() if key.rsplit(".", 1)[-1] in ("pos", "pos_time")]
    assert tables
    assert all(0.9 < p.detach().std() < 1.1 for p in tables)
