"""The sound encoders: what a frame hears, padding, streaming, contexts against plain forms, clips as pictures."""

import pytest
import torch
from torch import nn
from torch.nn.functional import conv1d, pad

from twoviews.encoders import contexts, mel, wave
from twoviews.encoders.contexts import CONTEXTS, Look, context
from twoviews.encoders.spectra import before
from twoviews.encoders.wave import STRIDES, Samples, lengths
from twoviews.errors import UserError
from twoviews.export.write import silent
from twoviews.recompute import blocks_of

FRONTS = ("samples", "mel")


def made(kind="gru", front="samples", layers=1, dtype=torch.float32, **more):
    torch.manual_seed(0)
    encoder = wave(8000, 16, 12, kind, layers, front, **more).eval().to(dtype)
    with torch.no_grad():  # norms as after training
        for module in encoder.modules():
            if isinstance(module, nn.LayerNorm):
                module.weight.uniform_(0.5, 1.5)
                module.bias.uniform_(-0.5, 0.5)
    return encoder


@pytest.mark.parametrize("rate", STRIDES)
def test_strided_layers_are_convolutions(rate):
    front = Samples(rate, 6).double()
    x = torch.randn(2, front.field + 3 * front.stride, dtype=torch.float64)
    y = front(x)
    h = x[:, None]
    for layer in front.layers:
        h = layer.conv(h)
        h = layer.norm(h.mT).mT.relu()
    torch.testing.assert_close(y, h.mT)
    assert y.shape[1] == 4
    ours, theirs = (torch.autograd.grad(v.square().sum(), front.parameters()) for v in (y, h))
    torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("front", FRONTS)
@pytest.mark.parametrize("rate", STRIDES)
def test_frames_are_ten_milliseconds(rate, front):
    encoder = wave(rate, 4, 4, front=front)
    assert encoder.stride * 100 == rate
    assert encoder.frames(rate) == 100
    assert 0.024 < encoder.field / rate < 0.03


def test_the_paper_in_numbers():
    encoder = wave()
    assert (encoder.stride, encoder.field, encoder.frames(20480)) == (160, 465, 128)
    assert (encoder.dim, encoder.context, encoder.width) == (256, 256, 512)
    weights = sum(layer.conv.weight.numel() for layer in encoder.front.layers)
    assert weights == 512 * 10 + 512 * 512 * (8 + 4 + 4 + 4)


@pytest.mark.parametrize("samples", [0, 1, 39, 40, 41, 79, 80, 120, 121, 799, 800, 840, 841, 5000])
@pytest.mark.parametrize("rate", [8000, 44100])
def test_a_frame_is_seen_when_its_middle_is(samples, rate):
    encoder = wave(rate, 4, 4)
    middles = range(encoder.stride // 2, samples, encoder.stride)
    assert encoder.frames(samples) == max(1, len(middles))
    assert encoder.frames(torch.tensor([samples])).tolist() == [max(1, len(middles))]
    assert encoder.places(torch.randn(1, max(samples, 1))).seen.shape == (1, max(1, len(middles)), 1)


@pytest.mark.parametrize("front", FRONTS)
def test_a_frame_hears_its_field(front):
    encoder = made(front=front)
    x = torch.randn(1, 4000, requires_grad=True)
    z = encoder.places(x).z[0, :, 0]
    for n in (0, 7, len(z) - 1):
        heard = torch.autograd.grad(z[n].square().sum(), x, retain_graph=True)[0][0].nonzero()[:, 0]
        start = n * encoder.stride - before(encoder.field, encoder.stride)
        ends = (1 if front == "mel" else 0, 1)  # a Hann window is 0 at its first sample
        assert heard.min() == max(start + ends[0], 0)
        assert heard.max() == min(start + encoder.field, 4000) - 1
        assert start + (encoder.field - 1) // 2 == n * encoder.stride + encoder.stride // 2  # its middle is the frame's


@pytest.mark.parametrize("front", FRONTS)
@pytest.mark.parametrize("kind", CONTEXTS)
def test_contexts_hear_the_past_alone(kind, front):
    encoder = made(kind, front)
    x = torch.randn(1, 4000, requires_grad=True)
    c = encoder.places(x).c[0, :, 0]
    for n in (0, 20):
        heard = torch.autograd.grad(c[n].square().sum(), x, retain_graph=True)[0][0].nonzero()[:, 0]
        assert heard.max() == n * encoder.stride - before(encoder.field, encoder.stride) + encoder.field - 1
        assert heard.min() <= 1


@pytest.mark.parametrize("front", FRONTS)
@pytest.mark.parametrize("kind", CONTEXTS)
def test_padding_changes_nothing(kind, front):
    encoder = made(kind, front, layers=2)
    sizes = [3000, 1777, 30, 0]
    x = torch.randn(4, 3000)
    for clip, size in zip(x, sizes, strict=True):
        clip[size:] = 0
    assert lengths(x).tolist() == sizes
    places, h = encoder.places(x), encoder(x)
    assert torch.equal(encoder.tokens(x), places.c[:, :, 0])
    for i, size in enumerate(sizes):
        n = encoder.frames(size)
        assert places.seen[i, :, 0].tolist() == [True] * n + [False] * (places.seen.shape[1] - n)
        alone = encoder.places(x[i : i + 1, : max(size, 1)])
        assert alone.z.shape == (1, n, 1, encoder.width)
        assert alone.c.shape == (1, n, 1, encoder.context)
        torch.testing.assert_close(places.z[i, :n], alone.z[0], atol=1e-6, rtol=1e-5)
        torch.testing.assert_close(places.c[i, :n], alone.c[0], atol=1e-6, rtol=1e-5)
        torch.testing.assert_close(h[i], alone.c[0, :, 0].mean(0), atol=1e-6, rtol=1e-5)
    assert h.isfinite().all()


@pytest.mark.parametrize("front", FRONTS)
@pytest.mark.parametrize("kind", CONTEXTS)
@torch.no_grad()
def test_pieces_give_what_the_whole_gives(kind, front, monkeypatch):
    monkeypatch.setattr(contexts, "WINDOW", 8)
    encoder = made(kind, front, layers=2)
    x = torch.randn(2, 12_345)
    whole = encoder.places(x)
    for sizes in ([777] * 15 + [690], [12_000, 345], [7, 3, 12_300, 34, 1], [12_345, 0]):
        state, zs, cs = None, [], []
        for i, piece in enumerate(x.split(sizes, 1), 1):
            z, c, state = encoder.stream(state, piece, last=i == len(sizes))
            zs.append(z)
            cs.append(c)
        torch.testing.assert_close(torch.cat(zs, 1), whole.z[:, :, 0], atol=1e-5, rtol=0)
        torch.testing.assert_close(torch.cat(cs, 1), whole.c[:, :, 0], atol=1e-5, rtol=0)


def test_a_state_stays_small():
    for kind in CONTEXTS:
        encoder = made(kind)
        _, _, state = encoder.stream(None, torch.randn(1, 40_000))
        _, _, later = encoder.stream(state, torch.randn(1, 40_000))
        assert size(later) == size(state) < 40_000


def size(state):
    return state.numel() if isinstance(state, torch.Tensor) else sum(size(part) for part in state)


def test_dilated_convolutions():
    c = context("conv", 5, 6, 2).double()
    x = torch.randn(2, 150, 5, dtype=torch.float64)
    h = c.enter(x)
    for block in c.blocks:
        d = block.dilation
        kernel = block.taps.weight.unflatten(1, (3, 6)).mT  # (out, in, taps)
        y = conv1d(pad(h.mT, (2 * d, 0)), kernel, block.taps.bias, dilation=d).mT
        h = h + block.norm(y).relu()
    torch.testing.assert_close(c(x)[0], h)
    x.requires_grad_()
    heard = torch.autograd.grad(c(x)[0][0, 140].sum(), x)[0][0].abs().sum(1).nonzero()[:, 0]
    assert (heard.min(), heard.max()) == (140 - 124, 140)  # 1 + 62 places a layer


def test_attention_by_hand(monkeypatch):
    monkeypatch.setattr(contexts, "WINDOW", 5)
    look = Look(8, 2).double()
    x = torch.randn(1, 12, 8, dtype=torch.float64)
    q, k, v = look.qkv(look.norm1(x))[0].view(12, 3, 2, 4).unbind(1)
    out = torch.zeros(12, 2, 4, dtype=torch.float64)
    for head in range(2):
        for i in range(12):
            near = range(max(0, i - 4), i + 1)
            a, b = (torch.complex(u[:, head, :2], u[:, head, 2:]) for u in (q, k))
            scores = []
            for j in near:
                angle = torch.tensor([1, 0.01], dtype=torch.float64) * (j - i)
                scores.append((a[i].conj() * b[j] * torch.polar(torch.ones_like(angle), angle)).real.sum())
            weights = torch.stack(scores).div(2).softmax(0)
            out[i, head] = sum(w * v[j, head] for w, j in zip(weights, near, strict=True))
    y = x[0] + look.mix(out.flatten(1))
    y = y + look.shrink(nn.functional.gelu(look.grow(look.norm2(y))))
    torch.testing.assert_close(look(x, None)[0][0], y, atol=1e-6, rtol=1e-6)  # angles are float32


@pytest.mark.parametrize("front", FRONTS)
@pytest.mark.parametrize("kind", CONTEXTS)
def test_it_learns_from_the_start(kind, front):
    encoder = wave(8000, 32, 64, kind, front=front)
    places = encoder.places(torch.randn(4, 8000).cumsum(1))
    assert places.c.std((0, 1)).mean() > 0.01  # neither constant
    assert (places.z == 0).all(0).all(0).float().mean() < 0.5  # nor dead
    places.c.square().mean().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in encoder.parameters())


@pytest.mark.parametrize("front", FRONTS)
@pytest.mark.parametrize("kind", CONTEXTS)
def test_bfloat16(kind, front):
    encoder = made(kind, front)
    x = torch.randn(2, 4000)
    exact = encoder(x)
    with torch.autocast("cpu", torch.bfloat16):
        coarse = encoder(x)
    coarse.float().sum().backward()
    assert 0 < (coarse - exact).abs().max() < 0.05 * exact.abs().max()


@pytest.mark.parametrize("make", [lambda: wave(8000, 8, 8, "attention"), lambda: mel(8000, dim=8, window=16)])
def test_export_takes_any_length(make):  # torch.export counts the steps of a GRU, so with one the length is fixed
    encoder, auto = make().eval(), torch.export.Dim.AUTO
    with silent():
        program = torch.export.export(encoder, (torch.randn(2, 1500),), dynamic_shapes=({0: auto, 1: auto},))
    for shape in ((2, 1500), (3, 3333)):
        x = torch.randn(shape)
        x[0, 1000:] = 0
        torch.testing.assert_close(program.module()(x), encoder(x))


def test_blocks_can_be_computed_again():
    assert len(blocks_of(made("gru"))) == 4
    assert len(blocks_of(made("conv"))) == 4 + 5
    assert len(blocks_of(made("attention", "mel", layers=2))) == 2 + 2
    assert len(blocks_of(mel(8000))) == 3


@pytest.mark.parametrize("net", ["small", "resnet18"])
def test_pictures_of_sound(net):
    torch.manual_seed(0)
    encoder = mel(8000, dim=16, net=net).eval()
    sizes = [17_000, 9_999, 30, 0]
    x = torch.randn(4, 17_000)
    for clip, size in zip(x, sizes, strict=True):
        clip[size:] = 0
    h, tokens = encoder(x), encoder.tokens(x)
    assert h.shape == (4, 16) == (4, encoder.dim)
    assert tokens.shape == (4, 3 * 96 // encoder.hop, 16)  # 213 frames are 3 windows
    assert encoder.stride == 80 * encoder.hop
    for i, size in enumerate(sizes):
        torch.testing.assert_close(h[i], encoder(x[i : i + 1, : max(size, 1)])[0], atol=1e-5, rtol=0)
        torch.testing.assert_close(h[i], tokens[i, : encoder.frames(size)].mean(0), atol=1e-5, rtol=0)
    encoder.train()(x).sum().backward()
    assert all(p.grad.isfinite().all() for p in encoder.parameters())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: wave(22050), "rate must be one of 8000, 16000, 24000, 32000, 44100, 48000, got 22050"),
        (lambda: wave(front="fft"), "unknown front 'fft'.*Allowed: mel, samples"),
        (lambda: wave(context="lstm"), "unknown context 'lstm'.*Allowed: attention, conv, gru"),
        (lambda: wave(layers=0), "layers must be 1 or more, got 0"),
        (lambda: wave(width=0), "width must be 1 or more, got 0"),
        (lambda: wave(dim=100, context="attention"), None),
        (lambda: wave(dim=200, context="attention"), "context=attention needs a dim"),
        (lambda: mel(8000, net="vgg"), "unknown net 'vgg'"),
        (lambda: mel(8000, dim=12), "dim must be a multiple of 8, got 12"),
        (lambda: mel(8000, window=100), "window must be a multiple of 8 frames for net=small, got 100"),
        (lambda: mel(8000, bins=0), "bins must be 1 or more"),
        (lambda: mel(1), "rate is samples a second"),
    ],
)
def test_settings(make, message):
    if message is None:
        assert make().dim == 100
        return
    with pytest.raises(UserError, match=message) as error:
        make()
    assert "\n" not in str(error.value)
