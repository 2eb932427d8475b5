"""Encoders: the contract, torchvision's weights and outputs, timm's models, errors in words."""

import subprocess
import sys

import pytest
import torch
from torch import nn

from twoviews.encoders import ENCODERS, PHOTO_ENCODERS, encoder_factory
from twoviews.encoders.resnet import Basic, Bottleneck, resnet18, resnet50
from twoviews.encoders.small import small
from twoviews.encoders.timm import timm_encoder
from twoviews.errors import UserError

# Parameters of torchvision's models without the classifier: published counts less 1000 (D + 1).
PARAMETERS = {
    "resnet18": 11_689_512 - 513_000,
    "resnet34": 21_797_672 - 513_000,
    "resnet50": 25_557_032 - 2_049_000,
    "resnet101": 44_549_160 - 2_049_000,
}


def parameters(module):
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize("name", PHOTO_ENCODERS)
@pytest.mark.parametrize("channels", [1, 3, 5])
def test_contract(name, channels):
    small = {"small": {"width": 8}, "vit": {"size": "test", "patch": 11, "image": 33, "pool": "mean"}}
    encoder = ENCODERS[name](channels=channels, **small.get(name, {"width": 1 / 8})).eval()
    x = torch.randn(2, channels, 33, 44)
    h, tokens = encoder(x), encoder.tokens(x)
    assert h.shape == (2, encoder.dim)
    assert tokens.shape[::2] == (2, encoder.dim)
    assert tokens.shape[1] > 1
    torch.testing.assert_close(h, tokens.mean(1))


@pytest.mark.parametrize("make", [resnet18, small])
def test_tokens_follow_the_image_row_by_row(make):
    encoder = make().eval()
    x = torch.zeros(1, 3, 64, 128)
    x[..., 90:] = 1.0  # only the right third differs
    with torch.no_grad():
        moved = (encoder.tokens(x) - encoder.tokens(0 * x)).abs().sum(2)[0]
    grid = moved.unflatten(0, (-1, 2 * int((len(moved) / 2) ** 0.5)))  # (h, w), w = 2 h
    assert (grid[:, -1] > grid[:, 0]).all()


@pytest.mark.parametrize("name", PARAMETERS)
def test_resnets_are_torchvisions(name):
    models = pytest.importorskip("torchvision.models")
    torch.manual_seed(0)
    theirs, ours = models.get_model(name, weights=None).eval(), ENCODERS[name]().eval()
    with torch.no_grad():
        for norm in theirs.modules():  # trained statistics, not the initial ones
            if isinstance(norm, nn.BatchNorm2d):
                norm.running_mean.normal_(0, 0.1)
                norm.running_var.uniform_(0.5, 1.5)
                norm.weight.uniform_(0.1, 0.9)
    weights = theirs.state_dict()
    del weights["fc.weight"], weights["fc.bias"]
    theirs.fc = nn.Identity()
    ours.load_state_dict(weights, strict=True)
    theirs.load_state_dict(ours.state_dict(), strict=True)
    x = torch.randn(2, 3, 33, 33)
    with torch.no_grad():
        torch.testing.assert_close(ours(x), theirs(x), rtol=1e-6, atol=1e-6)
    assert parameters(ours) == PARAMETERS[name]


def test_resnets_start_as_torchvisions():
    models = pytest.importorskip("torchvision.models")
    torch.manual_seed(0)
    theirs, ours = models.resnet18(), resnet18().state_dict()
    for name, w in theirs.state_dict().items():
        if w.ndim == 4:
            assert ours[name].std() == pytest.approx(w.std().item(), rel=0.1)
        elif not name.startswith("fc"):
            assert torch.equal(ours[name], w)


def test_zero_init_residual_starts_blocks_as_their_shortcut():
    for make, block, last in ((resnet18, Basic, "bn2"), (resnet50, Bottleneck, "bn3")):
        started = make(width=0.25, zero_init_residual=True)
        blocks = [m for m in started.modules() if isinstance(m, block)]
        assert all(not getattr(b, last).weight.any() for b in blocks)
        assert all(b.bn1.weight.all() for b in blocks)
        x = torch.rand(2, blocks[1].conv1.in_channels, 4, 4)
        assert torch.equal(blocks[1](x), x)
        assert all(getattr(m, last).weight.all() for m in make(width=0.25).modules() if isinstance(m, block))


@pytest.mark.parametrize(("width", "millions"), [(1, 24), (2, 94), (4, 375)])
def test_width_multiplies_all_channels_as_in_simclr(width, millions):
    """SimCLR, figure 1 and table 1 give these sizes for ResNet-50."""
    with torch.device("meta"):
        encoder = resnet50(width=width)
    assert encoder.dim == 2048 * width
    assert encoder.conv1.out_channels == 64 * width
    assert round(parameters(encoder) / 1e6) == millions


def test_cifar_stem_keeps_the_resolution():
    encoder = resnet18(stem="cifar").eval()
    assert encoder.conv1.kernel_size == (3, 3)
    assert encoder.tokens(torch.randn(1, 3, 32, 32)).shape == (1, 16, 512)
    assert resnet18().eval().tokens(torch.randn(1, 3, 32, 32)).shape == (1, 1, 512)
    assert parameters(encoder) == PARAMETERS["resnet18"] - 64 * 3 * (49 - 9)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [({"stem": "cfar"}, "'imagenet' or 'cifar', got 'cfar'"), ({"width": 0}, "at least one, got 0")],
)
def test_resnet_settings_are_checked(wrong, words):
    with pytest.raises(UserError, match=words):
        resnet18(**wrong)


def test_small_is_small_and_scales():
    assert small().dim == 128
    assert small(width=8).dim == 32
    assert parameters(small()) < 300_000
    assert small().tokens(torch.randn(2, 3, 20, 20)).shape == (2, 9, 128)
    assert all(w.is_contiguous() for w in small().state_dict().values())  # safetensors takes no other
    with pytest.raises(UserError, match="got 0"):
        small(width=0)


def test_small_learns():
    """The gradient reaches every parameter and fits a batch."""
    torch.manual_seed(0)
    encoder, x, y = small(width=8), torch.randn(8, 3, 20, 20), torch.randn(8, 32)
    optimizer = torch.optim.Adam(encoder.parameters(), 1e-2)
    losses = []
    for _ in range(20):
        loss = (encoder(x) - y.abs()).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert all(p.grad.abs().sum() > 0 for p in encoder.parameters())
    assert losses[-1] < losses[0] / 2


def timm_names():
    try:
        import timm
    except ImportError:
        return []
    return [*timm.list_models("test_*"), "mobilenetv3_small_050"]


@pytest.mark.parametrize("name", timm_names())
def test_timm_models(name):
    encoder = encoder_factory(f"timm:{name}")(channels=2).eval()
    x = torch.randn(1, 2, *encoder.model.default_cfg["input_size"][1:])
    with torch.no_grad():
        h, tokens = encoder(x), encoder.tokens(x)
    assert h.shape == (1, encoder.dim)
    assert tokens.shape[::2] == (1, encoder.model.num_features)
    assert int(tokens.shape[1] ** 0.5) ** 2 == tokens.shape[1] > 1  # a square grid, no class token


def test_timm_tokens_of_channels_last_models():
    """Swin gives (B, H, W, D)."""
    pytest.importorskip("timm")
    with torch.device("meta"):
        encoder = timm_encoder("swin_tiny_patch4_window7_224").eval()
    assert encoder.tokens(torch.empty(1, 3, 224, 224, device="meta")).shape == (1, 49, 768)


def test_timm_image_size():
    pytest.importorskip("timm")
    with torch.device("meta"):
        x, name = torch.empty(1, 3, 32, 32), "vit_tiny_patch16_224"
        with pytest.raises(UserError, match=r"Input height \(32\).*img_size=32"):
            timm_encoder(name)(x)
        assert timm_encoder(name, img_size=32)(x).shape == (1, 192)
    with pytest.raises(UserError, match="leave img_size out"):
        timm_encoder("test_resnet", img_size=32)


def test_timm_several_grids():
    pytest.importorskip("timm")
    with torch.device("meta"):
        encoder = timm_encoder("crossvit_9_240")
    with pytest.raises(UserError, match="several grids"):
        encoder.tokens(torch.empty(1, 3, 240, 240, device="meta"))


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("resnet_50", "did you mean .*resnet50"),
        ("mobilenetv3_smal", "did you mean mobilenetv3_small_050 or"),
        ("qqqqqqqqqq", "list_models"),
        ("resnet18.foo", "Invalid pretrained tag"),
    ],
)
def test_unknown_timm_names(name, hint):
    pytest.importorskip("timm")
    with pytest.raises(UserError, match=hint) as error:
        timm_encoder(name)
    assert "\n" not in str(error.value)


def test_timm_weights_out_of_reach(monkeypatch, tmp_path):
    pytest.importorskip("timm")
    constants = pytest.importorskip("huggingface_hub.constants")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(UserError, match="timm cannot build 'test_resnet'.*pretrained=False") as error:
        timm_encoder("test_resnet", pretrained=True)
    assert "\n" not in str(error.value)


def test_timm_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(UserError, match="'timm:vit' needs timm: pip install timm"):
        timm_encoder("vit")


def test_names():
    assert encoder_factory("resnet18") is resnet18
    assert encoder_factory("timm:test_vit").keywords == {"name": "test_vit"}
    with pytest.raises(UserError, match="unknown encoder 'resnet19', did you mean 'resnet18'.*timm:NAME"):
        encoder_factory("resnet19")


def test_importing_is_cheap():
    code = "import sys, twoviews.encoders; assert not {'timm', 'torchvision'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
