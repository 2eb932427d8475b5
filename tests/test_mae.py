"""MAE and VideoMAE: the masks, the loss, parity with transformers, and what every method promises."""

import copy
import math

import pytest
import torch
from conftest import Tiny
from test_dist import launch
from torch import nn
from torch.nn.functional import scaled_dot_product_attention

from twoviews import calls, dist
from twoviews.decoder import places
from twoviews.encoders.vit import vit, vivit1
from twoviews.errors import UserError
from twoviews.masks import tubes
from twoviews.methods.mae import MAE
from twoviews.recompute import lean
from twoviews.types import Batch


def clips(rows=4, channels=2, seed=0, frames=4, size=16):
    return torch.randn(rows, channels, frames, size, size, generator=torch.Generator().manual_seed(seed))


def batch(x):
    return Batch([x], torch.arange(len(x)))


def build(x=None, encoder=None, **settings):
    torch.manual_seed(0)
    encoder = encoder or vivit1(2, frames=4, image=16, patch=4, size="test", pool="mean")
    return MAE(encoder, decoder_dim=32, decoder_depth=1, **settings)


def shuffle(method, seed=1, std=0.2):
    """Every weight random: zeros prove nothing."""
    g = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in method.parameters():
            p.copy_(torch.randn(p.shape, generator=g) * std)
    return method


# the masks


@pytest.mark.parametrize("frames", [1, 3])
@pytest.mark.parametrize("share", [0.5, 0.75, 0.9])
def test_each_place_is_seen_or_hidden_and_the_same_in_all_frames(frames, share):
    keep, drop = tubes(torch.rand(5, 16), frames, share)
    assert drop.shape[1] == frames * round(16 * share)
    assert torch.cat([keep, drop], 1).sort(1).values.tolist() == [list(range(16 * frames))] * 5
    for row in drop:
        by_frame = [sorted((row[row // 16 == t] % 16).tolist()) for t in range(frames)]
        assert by_frame == [by_frame[0]] * frames


def test_rows_have_masks_of_their_own_and_all_places_are_hidden_alike():
    torch.manual_seed(0)
    _, drop = tubes(torch.rand(4000, 16), 1, 0.75)
    counts = torch.bincount(drop.flatten(), minlength=16) / 4000
    assert (counts - 0.75).abs().max() < 0.04  # six deviations


@pytest.mark.parametrize("share", [0.01, 0.99])
def test_a_mask_that_leaves_nothing_is_refused(share):
    with pytest.raises(UserError, match="of the 16 patches"):
        build(mask=share)(batch(clips()))


def test_photos_and_clips_have_the_shares_of_their_papers():
    seen = {}
    for name, encoder, x in (
        ("photo", vit(2, 16, 4, "test"), clips()[:, :, 0]),
        ("clip", vivit1(2, 4, 16, 2, 4, "test"), clips()),
    ):
        encoder.visible = lambda x, keep, e=encoder, name=name: (
            seen.update({name: keep.shape}),
            type(e).visible(e, x, keep),
        )[1]
        build(encoder=encoder)(batch(x))
    assert seen == {"photo": (4, 4), "clip": (4, 2 * 2)}  # 16 places: 12 and 14 of them hidden


# the loss


@pytest.mark.parametrize("kind", ["photo", "clip"])
@pytest.mark.parametrize("normalise", [True, False])
def test_the_loss_is_the_formula(kind, normalise):
    """A loop over patches in float64, from pixels cut by hand."""
    x = clips(3).double() if kind == "clip" else clips(3).double()[:, :, 0]
    method = build(normalise=normalise, mask=0.5).double()
    if kind == "photo":
        method = build(encoder=vit(2, 16, 4, "test", pool="mean"), normalise=normalise, mask=0.5).double()
    shuffle(method)
    torch.manual_seed(3)
    keep, drop = tubes(torch.rand(3, 16), 2 if kind == "clip" else 1, 0.5)
    torch.manual_seed(3)
    found = method(batch(x))
    guess = method.decoder(method.encoder.visible(x, keep), keep, drop, method.encoder.grid(x))
    whole, total = x if kind == "clip" else x[:, :, None], []
    step = 2 if kind == "clip" else 1
    for b in range(3):
        for i, place in enumerate(drop[b].tolist()):
            t, (r, c) = place // 16, divmod(place % 16, 4)
            box = whole[b, :, step * t : step * (t + 1), 4 * r : 4 * r + 4, 4 * c : 4 * c + 4]
            if normalise and kind == "clip":
                box = torch.stack([(one - one.mean()) / (one.std() + 1e-6) for one in box])
            elif normalise:
                box = (box - box.mean()) / (box.var() + 1e-6).sqrt()
            total.append((guess[b, i] - box.flatten()).square())
    torch.testing.assert_close(found.loss, torch.stack(total).mean(), rtol=1e-12, atol=0)


def test_a_patch_of_one_colour_gives_a_finite_loss():
    out = build()(batch(torch.ones(2, 2, 4, 16, 16)))
    out.loss.backward()
    assert out.loss.isfinite()
    assert out.logs["explained"] <= 0 or out.logs["explained"].isnan()


def test_dropping_tokens_is_attention_that_does_not_look_at_them(monkeypatch):
    encoder = shuffle(vivit1(2, 4, 16, 2, 4, "test", pool="mean").double())
    x = clips(1).double()
    keep, _ = tubes(torch.rand(1, 16), 2, 0.75)
    alone = encoder.visible(x, keep)
    look = torch.zeros(32, dtype=torch.bool)
    look[keep[0]] = True

    def masked(q, k, v, attn_mask=None):
        return scaled_dot_product_attention(q, k, v, attn_mask=look.expand(32, 32))

    monkeypatch.setattr("twoviews.encoders.blocks.scaled_dot_product_attention", masked)
    torch.testing.assert_close(alone, encoder.tokens(x)[:, keep[0]], rtol=1e-11, atol=1e-11)


def test_what_is_hidden_reaches_nothing_but_the_target():
    method, x = shuffle(build(mask=0.5)), clips(2)
    keep, drop = tubes(torch.rand(2, 16), 2, 0.5)
    pixels = x.clone().requires_grad_()
    guess = method.decoder(method.encoder.visible(pixels, keep), keep, drop, method.encoder.grid(x))
    guess.square().sum().backward()
    gradient = method.encoder.patches(pixels.grad).abs().sum(2)  # (B, N)
    assert (gradient.gather(1, drop) == 0).all()
    assert (gradient.gather(1, keep) > 0).all()


# what every method promises


def test_clips_of_another_length_and_size_need_no_other_method():
    method = build()
    for frames, size in ((4, 16), (8, 16), (4, 32), (2, 20)):
        assert method(batch(clips(2, frames=frames, size=size))).loss.isfinite()


def test_forward_writes_nothing_and_every_weight_learns():
    method = build()
    before = copy.deepcopy(method.state_dict())
    out = method(batch(clips()))
    out.loss.backward()
    assert all(torch.equal(before[k], v) for k, v in method.state_dict().items())
    for name, p in method.named_parameters():
        assert p.grad.isfinite().all(), name
        assert p.grad.abs().sum() > 0, name
    assert out.loss.shape == ()
    assert out.z.shape == (4, 64)
    assert not out.z.requires_grad


def test_the_step_seed_alone_draws_the_masks():
    method, x = build(), clips()
    torch.manual_seed(5)
    a, b = method(batch(x)).loss, method(batch(x)).loss
    torch.manual_seed(5)
    assert torch.equal(method(batch(x)).loss, a)
    assert not torch.equal(a, b)


def test_it_learns_one_batch():
    method, one = build(mask=0.5), batch(clips(channels=2).cumsum(3).cumsum(4) / 16)
    optimizer = torch.optim.Adam(method.parameters(), lr=3e-3)
    explained = []
    for _ in range(150):
        torch.manual_seed(0)
        out = method(one)
        optimizer.zero_grad()
        out.loss.backward()
        optimizer.step()
        explained.append(out.logs["explained"].item())
    assert explained[0] < 0.1
    assert explained[-1] > 0.5


def test_every_default_can_be_written_down():
    described = calls.describe(MAE)
    assert calls.describe(calls.rebuild(described)) == described


def test_autocast_leaves_targets_and_loss_in_float32():
    method, x = build(), clips()
    torch.manual_seed(0)
    whole = method(batch(x)).loss
    torch.manual_seed(0)
    with torch.autocast("cpu", torch.bfloat16):
        half = method(batch(x)).loss
        assert method._pixels(x, torch.zeros(4, 1, dtype=torch.int64)).dtype == torch.float32
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, whole, rtol=3e-2, atol=0)


def learned(rank, world, folder):
    rows = {1: [5], 2: [3, 2]}[world]
    begin = sum(rows[:rank])
    method = shuffle(build().double())
    torch.manual_seed(7 + rank)  # ranks draw different numbers, and rank 0's count
    x = clips(5).double()[begin : begin + rows[rank]]
    out = method(batch(x))
    out.loss.backward()
    return dist.mean(out.loss), [dist.mean(p.grad) for p in method.parameters()]


def test_two_ranks_with_unequal_rows_are_one(tmp_path):
    loss, gradients = learned(0, 1, tmp_path)
    for other, theirs in launch(2, learned, tmp_path):
        torch.testing.assert_close(other, loss, rtol=1e-10, atol=0)
        torch.testing.assert_close(theirs, gradients, rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("settings", [{"mask": 0.0}, {"mask": 1.0}, {"mask": 1.5}])
def test_a_share_out_of_range_is_refused(settings):
    with pytest.raises(UserError, match="method.mask"):
        build(**settings)


@pytest.mark.parametrize(
    "settings", [{"decoder_dim": 30}, {"decoder_dim": 100}, {"decoder_depth": 0}, {"decoder_dim": 0}]
)
def test_a_decoder_that_does_not_divide_is_refused(settings):
    with pytest.raises(UserError, match="decoder_dim"):
        MAE(vit(size="test"), **settings)


def test_an_encoder_that_cannot_drop_tokens_is_refused_in_one_line():
    with pytest.raises(UserError, match="Tiny has no patches, no grid, no visible.*vivit1") as told:
        MAE(Tiny())
    assert "\n" not in str(told.value)


# against transformers

TINY = {
    "hidden_size": 64,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "intermediate_size": 256,
    "decoder_hidden_size": 128,
    "decoder_num_hidden_layers": 2,
    "decoder_num_attention_heads": 2,
    "decoder_intermediate_size": 512,
    "layer_norm_eps": 1e-6,
    "image_size": 16,
    "patch_size": 4,
    "num_channels": 2,
}


def _linear(ours, theirs, bias=True):
    ours.weight.copy_(theirs.weight)
    ours.bias.copy_(theirs.bias) if bias and theirs.bias is not None else ours.bias.zero_()


def _qkv(weight, bias, theirs):
    """Query, key and value as one; a key has no bias in VideoMAE."""
    weight.copy_(torch.cat([part.weight for part in theirs]))
    bias.copy_(
        torch.cat([part.weight.new_zeros(len(part.weight)) if part.bias is None else part.bias for part in theirs])
    )


def _parts(layer):
    """query, key, value, out, fc1, fc2 of a layer of either reference."""
    if hasattr(layer, "mlp"):
        a, m = layer.attention, layer.mlp
        return (a.q_proj, a.k_proj, a.v_proj), a.o_proj, m.fc1, m.fc2
    a = layer.attention.attention
    return (a.query, a.key, a.value), layer.attention.output.dense, layer.intermediate.dense, layer.output.dense


@torch.no_grad()
def copied(method, encoder_layers, embedding, encoder_norm, decoder, pixels):
    """Weights of a reference into ours. pixels: the order in which they list a patch's pixels, as places in ours."""
    ours = method.encoder
    ours.patch.proj.weight.copy_(embedding.weight.flatten(1))
    ours.patch.proj.bias.copy_(embedding.bias)
    for mine, layer in zip(ours.blocks, encoder_layers, strict=True):
        qkv, out, up, down = _parts(layer)
        _qkv(mine.attn.qkv.weight, mine.attn.qkv.bias, qkv)
        _linear(mine.attn.proj, out), _linear(mine.mlp.fc1, up), _linear(mine.mlp.fc2, down)
        _linear(mine.norm1, layer.layernorm_before), _linear(mine.norm2, layer.layernorm_after)
    if encoder_norm is None:
        ours.norm = nn.Identity()
    else:
        _linear(ours.norm, encoder_norm)
    enter, token, layers, norm, leave = decoder
    _linear(method.decoder.enter, enter)
    method.decoder.hidden.copy_(token[0, 0])
    for mine, layer in zip(method.decoder.blocks, layers, strict=True):
        qkv, out, up, down = _parts(layer)
        _qkv(mine.self_attn.in_proj_weight, mine.self_attn.in_proj_bias, qkv)
        _linear(mine.self_attn.out_proj, out), _linear(mine.linear1, up), _linear(mine.linear2, down)
        _linear(mine.norm1, layer.layernorm_before), _linear(mine.norm2, layer.layernorm_after)
    _linear(method.decoder.norm, norm)
    method.decoder.leave.weight[pixels] = leave.weight
    method.decoder.leave.bias[pixels] = leave.bias


def _compared(ours, theirs, pairs, dtype):
    """Losses and the gradients of weights that are the same."""
    limit = {torch.float32: 1e-5, torch.float64: 1e-10}[dtype]
    torch.testing.assert_close(ours, theirs, rtol=limit, atol=0)
    ours.backward()
    theirs.backward()
    for mine, reference in pairs:
        reference = reference.grad.reshape(mine.grad.shape)
        assert (mine.grad - reference).abs().max() <= 10 * limit * reference.abs().max()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_clips_against_transformers(dtype):
    """Its fixed positions are replaced by ours, which order the columns of the decoder's otherwise."""
    transformers = pytest.importorskip("transformers", reason="the reference of VideoMAE is in transformers")
    config = transformers.VideoMAEConfig(
        num_frames=4, tubelet_size=2, norm_pix_loss=True, use_mean_pooling=False, attn_implementation="eager", **TINY
    )
    theirs = shuffle(transformers.VideoMAEForPreTraining(config)).to(dtype)
    encoder = vivit1(2, 4, 16, 2, 4, "test", pool="mean", positions="sine", gelu="erf")
    method = MAE(encoder, mask=0.75, decoder_dim=128, decoder_depth=2).to(dtype)
    theirs.decoder.norm.eps = 1e-6  # as the authors' code and every other norm
    pixels = torch.arange(2 * 32).view(2, 32).T.flatten()  # they list the channels of a pixel side by side
    inner = theirs.videomae
    copied(
        method,
        inner.encoder.layer,
        inner.embeddings.patch_embeddings.projection,
        inner.layernorm,
        (
            theirs.encoder_to_decoder,
            theirs.mask_token,
            theirs.decoder.decoder_layers,
            theirs.decoder.norm,
            theirs.decoder.head,
        ),
        pixels,
    )
    x = clips(3).to(dtype)
    grid = encoder.grid(x)
    inner.embeddings.position_embeddings = encoder.positions_at(grid)
    theirs.position_embeddings = places(grid, 128)[None].to(dtype)
    torch.manual_seed(2)
    _, drop = tubes(torch.rand(3, 16), 2, 0.75)
    hidden = torch.zeros(3, 32, dtype=torch.bool).scatter_(1, drop, True)
    torch.manual_seed(2)
    _compared(
        method(batch(x)).loss,
        theirs(x.transpose(1, 2), bool_masked_pos=hidden).loss,
        [
            (encoder.patch.proj.weight, inner.embeddings.patch_embeddings.projection.weight),
            (encoder.blocks[2].mlp.fc1.weight, inner.encoder.layer[2].intermediate.dense.weight),
            (method.decoder.enter.weight, theirs.encoder_to_decoder.weight),
            (method.decoder.hidden, theirs.mask_token),
        ],
        dtype,
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_photos_against_transformers(dtype):
    transformers = pytest.importorskip("transformers", reason="the reference of MAE is in transformers")
    config = transformers.ViTMAEConfig(norm_pix_loss=True, mask_ratio=0.75, attn_implementation="sdpa", **TINY)
    theirs = transformers.ViTMAEForPreTraining(config)
    shuffle(theirs)
    # Its own are zeros in a fresh model, so both read ours, which the next test checks.
    theirs.decoder.decoder_pos_embed.data[0, 1:] = places((1, 4, 4), 128)
    theirs.decoder.decoder_pos_embed.data[0, 0] = 0
    theirs = theirs.to(dtype)
    encoder = vit(2, 16, 4, "test")
    method = MAE(encoder, decoder_dim=128, decoder_depth=2).to(dtype)
    inner, net = theirs.vit, theirs.decoder
    copied(
        method,
        inner.layers,
        inner.embeddings.patch_embeddings.projection,
        inner.layernorm,
        (net.decoder_embed, net.mask_token, net.decoder_layers, net.decoder_norm, net.decoder_pred),
        torch.arange(2 * 16).view(2, 16).T.flatten(),
    )
    with torch.no_grad():
        encoder.cls.copy_(inner.embeddings.cls_token)
        encoder.pos.copy_(inner.embeddings.position_embeddings)
    x = clips(3)[:, :, 0].to(dtype)
    torch.manual_seed(2)
    noise = torch.rand(3, 16)
    torch.manual_seed(2)
    _compared(
        method(batch(x)).loss,
        theirs(x, noise=noise).loss,
        [
            (encoder.patch.proj.weight, inner.embeddings.patch_embeddings.projection.weight),
            (encoder.cls, inner.embeddings.cls_token),
            (encoder.blocks[2].mlp.fc1.weight, inner.layers[2].mlp.fc1.weight),
            (method.decoder.enter.weight, net.decoder_embed.weight),
            (method.decoder.hidden, net.mask_token),
        ],
        dtype,
    )


def test_positions_are_those_of_the_papers():
    """A photo: half of the columns tell the column, half the row. A clip: the place in the row of all."""
    rates = [10_000 ** (-i / 4) for i in range(4)]
    found = places((1, 3, 5), 16)
    for i, row in enumerate(found.tolist()):
        expected = [f(p * r) for p in (i % 5, i // 5) for f in (math.sin, math.cos) for r in rates]
        assert row == pytest.approx(expected, abs=1e-6)
    found = places((2, 3, 5), 8)
    for i, row in enumerate(found.tolist()):
        assert row == pytest.approx([f(i * r) for f in (math.sin, math.cos) for r in rates], abs=2e-6)


def test_a_batch_in_parts_gives_the_gradients_of_the_whole():
    found = []
    for rows in (None, 2):
        torch.manual_seed(0)
        method = build(mask=0.5).double()
        with lean(method, micro_batch=rows):
            torch.manual_seed(1)
            method(batch(clips(5).double())).loss.backward()
        found.append([p.grad for p in method.parameters()])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)
