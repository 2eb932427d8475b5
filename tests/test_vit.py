"""ViT and ViViT 1 against timm, torchvision and transformers; the parts that all transformers over pictures share."""

import copy
from math import prod

import pytest
import torch
from torch.nn.functional import interpolate
from torch.utils.flop_counter import FlopCounterMode

from twoviews.encoders.blocks import Attention, Block, DropPath, Tubelets, attend, resized, sines
from twoviews.encoders.convert import load_into
from twoviews.encoders.vit import vit, vivit1
from twoviews.errors import UserError

TINY = {"image": 32, "patch": 8, "size": "test"}


def randomised(module, scale=0.2):
    """The module with every parameter from N(0, scale): zeros would prove nothing."""
    with torch.no_grad():
        for p in module.parameters():
            p.normal_(0, scale)
    return module.eval()


def agree(ours, theirs, x, read, dtype, source=None):
    """Outputs, and in float64 all gradients of the sum of squares, of two models with the same weights.

    read: what of theirs is h. Gradients have the names of weights, so the converter renames them too.
    """
    ours, theirs, x = ours.eval().to(dtype), theirs.to(dtype), x.to(dtype)
    load_into(ours, theirs.state_dict(), source)
    y, h = read(theirs, x), ours(x)
    assert (h - y).abs().max() <= (1e-5 if dtype == torch.float32 else 1e-10) * y.abs().max()
    if dtype == torch.float64:
        y.square().sum().backward()
        h.square().sum().backward()
        moved = copy.deepcopy(ours)
        zero = torch.zeros_like
        load_into(moved, {k: zero(p) if p.grad is None else p.grad for k, p in theirs.named_parameters()}, source)
        for (name, p), expected in zip(ours.named_parameters(), moved.parameters(), strict=True):
            assert (p.grad - expected).abs().max() <= 1e-8 * expected.abs().max(), name


def timms():
    models = pytest.importorskip("timm.models.vision_transformer")
    theirs = models.VisionTransformer(32, 8, embed_dim=64, depth=4, num_heads=4, num_classes=0)
    return theirs, lambda m, x: m(x)


def torchvisions():
    models = pytest.importorskip("torchvision.models")
    theirs = models.VisionTransformer(32, 8, 4, 4, 64, 256)
    theirs.heads = torch.nn.Identity()
    return theirs, lambda m, x: m(x)


def transformers_():
    hf = pytest.importorskip("transformers")
    config = hf.ViTConfig(
        hidden_size=64, num_hidden_layers=4, num_attention_heads=4, intermediate_size=256, image_size=32, patch_size=8,
        layer_norm_eps=1e-6,
    )  # fmt: skip
    return hf.ViTModel(config, add_pooling_layer=False), lambda m, x: m(x).last_hidden_state[:, 0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("make", [timms, torchvisions, transformers_])
def test_vit_is_theirs(make, dtype):
    torch.manual_seed(0)
    theirs, read = make()
    agree(vit(**TINY), randomised(theirs), torch.randn(2, 3, 32, 32), read, dtype)


def test_vit_on_other_sizes_is_timms():
    models = pytest.importorskip("timm.models.vision_transformer")
    torch.manual_seed(0)
    theirs = models.VisionTransformer(
        32, 8, embed_dim=64, depth=4, num_heads=4, num_classes=0, dynamic_img_size=True
    )  # bicubic with antialiasing
    agree(vit(**TINY), randomised(theirs), torch.randn(2, 3, 48, 24), lambda m, x: m(x), torch.float32)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_vivit1_is_transformers(dtype):
    hf = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = hf.VivitConfig(
        image_size=32, num_frames=8, tubelet_size=[2, 8, 8], hidden_size=64, num_hidden_layers=4, num_attention_heads=4,
        intermediate_size=256,
    )  # fmt: skip
    theirs = randomised(hf.VivitModel(config, add_pooling_layer=False))
    x = torch.randn(2, 3, 8, 32, 32)
    agree(vivit1(frames=8, **TINY), theirs, x, lambda m, x: m(x.transpose(1, 2)).last_hidden_state[:, 0], dtype)


def test_parameters_and_multiplications_are_the_published():
    with torch.device("meta"):
        image, clip = vit(), vivit1(frames=32)
    count = [sum(p.numel() for p in m.parameters()) for m in (image, clip)]
    assert count == [86_567_656 - 769_000, 88_954_000 - 307_600]  # less the heads
    for encoder, shape, published in (image, (1, 3, 224, 224), 17.56), (clip, (1, 3, 32, 224, 224), 451.5):
        assert macs(encoder, shape) / 1e9 == pytest.approx(published, rel=0.005)


def macs(encoder, shape):
    """Multiply-accumulates of all tokens, without weights or memory."""
    with FlopCounterMode(display=False) as counter:
        encoder.eval().tokens(torch.empty(shape, device="meta"))
    return counter.get_total_flops() / 2


def test_the_last_block_computes_what_is_kept_and_it_is_the_same():
    torch.manual_seed(0)
    block = randomised(Block(16, 4)).double()
    x = torch.randn(3, 2, 7, 16, dtype=torch.float64, requires_grad=True)
    torch.testing.assert_close(block(x, only=2), block(x)[..., :2, :])
    (whole,) = torch.autograd.grad(block(x)[..., :2, :].square().sum(), x)
    (part,) = torch.autograd.grad(block(x, only=2).square().sum(), x)
    torch.testing.assert_close(part, whole)
    encoder = vivit1(frames=4, **TINY)
    x = torch.empty(1, 3, 4, 32, 32)
    with FlopCounterMode(display=False) as counter:
        encoder(x)
    d, n = encoder.dim, 2 * 16  # tokens that the last block leaves out: 10 D^2 each and their attention
    assert counter.get_total_flops() / 2 == macs(encoder.to("meta"), x.shape) - n * 10 * d * d - 2 * n * (n + 1) * d


@pytest.mark.parametrize("axis", [0, 1, 2, -2])
def test_attention_along_any_axis_is_a_loop(axis):
    torch.manual_seed(0)
    q, k, v = (torch.randn(3, 2, 5, 2, 4, dtype=torch.float64) for _ in range(3))  # (T, B, N, H, d)
    out, place = attend(q, k, v, axis), axis % 4  # -2 of tokens (T, B, N, D) is 2
    expected = torch.empty_like(out)
    others = [range(n) for i, n in enumerate(q.shape[:3]) if i != place]
    for i in others[0]:
        for j in others[1]:
            at = [i, j]
            at.insert(place, slice(None))
            for head in range(2):
                a, b, c = (y[tuple(at)][:, head] for y in (q, k, v))
                expected[(*at, head)] = (a @ b.T / 2).softmax(-1) @ c
    torch.testing.assert_close(out, expected)


def test_time_and_space_are_views(monkeypatch):
    """What the fast kernels are given is the memory that qkv wrote: no copies."""
    given = []
    real = torch.nn.functional.scaled_dot_product_attention
    monkeypatch.setattr(
        "twoviews.encoders.blocks.scaled_dot_product_attention",
        lambda q, k, v, **more: given.append((q, k, v)) or real(q, k, v, **more),
    )
    attention, kept = Attention(16, 4), []
    attention.qkv.register_forward_hook(lambda module, args, out: kept.append(out))
    for axis in (0, -2):
        attention(torch.randn(3, 2, 5, 16), axis)
    for product, parts in zip(kept, given, strict=True):
        assert all(part.untyped_storage().data_ptr() == product.untyped_storage().data_ptr() for part in parts)


def test_tubelets_are_a_conv3d():
    torch.manual_seed(0)
    cut, conv = Tubelets(3, 2, 4, 10), torch.nn.Conv3d(3, 10, (2, 4, 4), (2, 4, 4))
    with torch.no_grad():
        cut.proj.weight.copy_(conv.weight.flatten(1))
        cut.proj.bias.copy_(conv.bias)
    x = torch.randn(2, 3, 6, 8, 12)
    torch.testing.assert_close(cut(x), conv(x).flatten(3).permute(0, 2, 3, 1))
    assert cut.grid(x) == (3, 2, 3)


def test_positions_resize_along_time_and_in_space():
    torch.manual_seed(0)
    table = torch.randn(4 * 3 * 5, 6, dtype=torch.float64)
    assert resized(table, (4, 3, 5), (4, 3, 5)) is table
    grid = table.view(4, 3, 5, 6)
    longer = resized(table, (4, 3, 5), (7, 3, 5)).view(7, 3, 5, 6)
    for t in range(7):  # half-pixel centres, linear
        at = min(max((t + 0.5) * 4 / 7 - 0.5, 0), 3)
        low = min(int(at), 2)
        torch.testing.assert_close(longer[t], grid[low] + (at - low) * (grid[low + 1] - grid[low]))
    wide = resized(table, (4, 3, 5), (4, 6, 4)).view(4, 6, 4, 6)
    for t in range(4):
        x = interpolate(grid[t].permute(2, 0, 1)[None], (6, 4), mode="bicubic", antialias=True)[0]
        torch.testing.assert_close(wide[t], x.permute(1, 2, 0))
    both = resized(table, (4, 3, 5), (2, 2, 2))
    assert both.shape == (8, 6)
    assert both.dtype == torch.float64


def test_drop_path_leaves_out_whole_examples_and_makes_up_for_it():
    torch.manual_seed(0)
    drop, x = DropPath(0.3, axis=1), torch.ones(2, 4000, 3)
    y = drop(x)
    assert (y == y[:1, :, :1]).all()  # an example is left out whole
    assert y.unique().tolist() == pytest.approx([0, 1 / 0.7])
    assert y.mean().item() == pytest.approx(1, abs=4 * (0.3 / 0.7 / 4000) ** 0.5)
    assert drop.eval()(x) is x


def test_drop_path_grows_with_depth():
    rates = [block.drop.rate for block in vit(size="test", drop_path=0.3).blocks]
    assert rates == pytest.approx([0, 0.1, 0.2, 0.3])


def test_some_tokens_alone():
    """MAE's encoder: as if the others were not there; with all of them, the same as ever."""
    torch.manual_seed(0)
    encoder = randomised(vivit1(frames=4, **TINY)).double()
    x = torch.randn(2, 3, 4, 32, 32, dtype=torch.float64)
    order = torch.stack([torch.randperm(32) for _ in range(2)])
    with torch.no_grad():
        whole = encoder.tokens(x)
        every = encoder.visible(x, order)
        torch.testing.assert_close(every[:, 0], encoder(x))  # the class token comes first
        torch.testing.assert_close(every[:, 1:], whole.gather(1, order[..., None].expand_as(whole)))
        keep = order[:, :5]
        seen = encoder.visible(x, keep)
        other = encoder.patches(x)
        other = torch.full_like(other, 7).scatter(1, keep[..., None].expand(-1, -1, other.shape[2]), other.gather(
            1, keep[..., None].expand(-1, -1, other.shape[2])
        ))  # fmt: skip
        torch.testing.assert_close(encoder.encode(other, encoder.grid(x), keep), seen)
    assert prod(encoder.grid(x)) == 32


def test_sines():
    table = sines(5, 6)
    for n in range(5):
        for i in range(3):
            angle = torch.tensor(n / 10_000 ** (2 * i / 6), dtype=torch.float64)
            assert table[n, 2 * i].item() == pytest.approx(angle.sin().item(), abs=1e-6)
            assert table[n, 2 * i + 1].item() == pytest.approx(angle.cos().item(), abs=1e-6)


@pytest.mark.parametrize("kind", ["learned", "sine", "none"])
@pytest.mark.parametrize("pool", ["cls", "mean"])
def test_pools_and_positions(pool, kind):
    torch.manual_seed(0)
    encoder = vivit1(frames=4, pool=pool, positions=kind, **TINY).eval()
    assert encoder(torch.randn(2, 3, 8, 16, 24)).shape == (2, 64)
    x = torch.randn(2, 3, 4, 32, 32)
    with torch.no_grad():
        h, back = encoder(x), encoder(x.unflatten(2, (2, 2)).flip(2).flatten(2, 3))  # boxes in another order
        if pool == "mean":
            torch.testing.assert_close(h, encoder.tokens(x).mean(1))
    assert torch.allclose(h, back, atol=1e-5) == (kind == "none")


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: vit(size="huge"), "unknown size 'huge'"),
        (lambda: vit(pool="max"), "unknown pool"),
        (lambda: vit(size="test", positions="relative"), "unknown positions"),
        (lambda: vit(size="test", gelu="relu"), "unknown gelu"),
        (lambda: vivit1(frames=5, size="test"), "frames=5 and image=224 do not divide"),
        (lambda: vit(image=225, size="test"), "image=225 do not divide"),
        (lambda: vit(size="test", drop_path=1.0), "drop_path must be from 0"),
        (lambda: vit(**TINY)(torch.zeros(2, 3, 30, 32)), "1 frames of 30 x 32 pixels does not divide"),
        (lambda: vivit1(frames=4, **TINY)(torch.zeros(2, 3, 3, 32, 32)), "3 frames of 32 x 32 pixels does not divide"),
        (lambda: vit(**TINY)(torch.zeros(3, 32, 32)), "got a tensor of shape (3, 32, 32)"),
        (lambda: Attention(10, 4), "a width of 10 does not divide into 4 heads"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(make, says):
    with pytest.raises(UserError) as error:
        make()
    assert says in str(error.value)
    assert "\n" not in str(error.value)
