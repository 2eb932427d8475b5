"""Our transformers beside their originals, number for number: outputs, gradients, parameters, multiply-accumulates.

    pip install timm torchvision transformers
    TWOVIEWS_DATA=../shared/data python benchmarks/parity.py [--only ViT] [--full]

Every parameter of a reference is drawn from N(0, .2) (heads, positions and projections that begin at zero would prove
nothing), goes through `load_into` into ours, and the same input through both. Differences of outputs are the greatest
over the greatest output; gradients of the sum of squares of the outputs, in float64, the greatest over the greatest
gradient of any parameter. Parameters and multiply-accumulates (FlopCounter / 2) are counted without numbers, at the
published sizes, for every token as papers do, and for what `forward` computes. --full: also MViT's published sizes.
"""

from __future__ import annotations

import argparse
import copy
import os
import platform
import resource
import sys
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from twoviews.encoders.blocks import SIZES, resized
from twoviews.encoders.convert import back, load_into
from twoviews.encoders.mvit import mvit
from twoviews.encoders.spacetime import space_only, timesformer, vivit2, vivit3, vivit4
from twoviews.encoders.swin3d import swin3d
from twoviews.encoders.vit import vit, vivit1
from twoviews.encoders.vtn import vtn

DATA = Path(os.environ.get("TWOVIEWS_DATA", Path(__file__).parents[2] / "shared" / "data"))
WIDTH = {"hidden_size": 64, "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 256}


class Pair(NamedTuple):
    """A reference, how it is asked, and ours that is to give the same for an input of `shape`."""

    name: str
    model: nn.Module
    theirs: Callable[[nn.Module, Tensor], Tensor]
    encoder: nn.Module
    ours: Callable[[nn.Module, Tensor], Tensor]
    shape: tuple[int, ...]
    limit: float = 1e-5
    quick: bool = False  # too large for float64 and gradients


def every(encoder: nn.Module, x: Tensor) -> Tensor:
    """(B, prefix + N, D) of a ViT."""
    return encoder.encode(encoder.patches(x), encoder.grid(x))


def forward(encoder: nn.Module, x: Tensor) -> Tensor:
    return encoder(x)


def timm_vit() -> Pair:
    import timm

    sizes = {"patch_size": 8, "img_size": 32, "embed_dim": 64, "depth": 4, "num_heads": 4, "num_classes": 5}
    model = timm.models.VisionTransformer(**sizes)
    ours = vit(image=32, patch=8, size="test")
    return Pair("ViT, timm", model, lambda m, x: m.forward_features(x), ours, every, (2, 3, 32, 32))


def torchvision_vit() -> Pair:
    from torchvision.models.vision_transformer import VisionTransformer

    def theirs(m, x):
        x = m._process_input(x)
        return m.encoder(torch.cat([m.class_token.expand(len(x), -1, -1), x], 1))

    model = VisionTransformer(32, 8, 4, 4, 64, 256)
    return Pair("ViT, torchvision", model, theirs, vit(image=32, patch=8, size="test"), every, (2, 3, 32, 32))


def transformers_vit() -> Pair:
    from transformers import ViTConfig, ViTModel

    model = ViTModel(ViTConfig(image_size=32, patch_size=8, **WIDTH), add_pooling_layer=False)
    ours = vit(image=32, patch=8, size="test", eps=1e-12)
    return Pair("ViT, transformers", model, lambda m, x: m(x).last_hidden_state, ours, every, (2, 3, 32, 32))


def of_frames(m: nn.Module, x: Tensor) -> Tensor:
    return m(x.transpose(1, 2)).last_hidden_state


def transformers_vivit() -> Pair:
    from transformers import VivitConfig, VivitModel

    config = VivitConfig(image_size=32, num_frames=6, tubelet_size=[2, 8, 8], **WIDTH)
    model = VivitModel(config, add_pooling_layer=False)
    ours = vivit1(frames=6, image=32, patch=8, size="test")
    return Pair("ViViT 1, transformers", model, of_frames, ours, every, (2, 3, 6, 32, 32))


def videomae() -> Pair:
    from transformers import VideoMAEConfig, VideoMAEModel

    config = VideoMAEConfig(image_size=32, patch_size=8, num_frames=6, use_mean_pooling=False, **WIDTH)
    model = VideoMAEModel(config)
    ours = vivit1(frames=6, image=32, patch=8, size="test", pool="mean", positions="sine", gelu="erf", eps=1e-12)
    ours.pos.copy_(model.embeddings.position_embeddings)  # the same sines, rounded from float64
    return Pair("VideoMAE's encoder, transformers", model, of_frames, ours, every, (2, 3, 6, 32, 32))


def transformers_timesformer(frames: int = 8, of: int = 8) -> Pair:
    """At another number of frames: theirs built for it, with its table of times resized by our rule."""
    from transformers import TimesformerConfig, TimesformerModel

    model = TimesformerModel(TimesformerConfig(image_size=32, patch_size=8, num_frames=frames, **WIDTH))
    ours = timesformer(frames=of, image=32, patch=8, size="test")

    def first(m, x):
        return of_frames(m, x)[:, 0]

    name = "TimeSformer, transformers" + ("" if frames == of else f", {frames} frames by our rule for {of}")
    return Pair(name, model, first, ours, forward, (2, 3, frames, 32, 32))


def longformer(frames: int) -> Pair:
    import timm
    from transformers import LongformerConfig, LongformerModel

    more = {"max_position_embeddings": 288, "attention_window": [18] * 3, "vocab_size": 288, "type_vocab_size": 2}
    more |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, "layer_norm_eps": 1e-12}
    more |= {"pad_token_id": 287, "bos_token_id": None, "eos_token_id": None, "sep_token_id": 2}
    model = nn.Module()
    sizes = {"patch_size": 16, "img_size": 16, "embed_dim": 64, "depth": 4, "num_heads": 4, "num_classes": 0}
    model.backbone = timm.models.VisionTransformer(**sizes)
    model.cls_token = nn.Parameter(torch.randn(1, 1, 64))
    config = LongformerConfig(**WIDTH | {"num_hidden_layers": 3}, **more)
    model.temporal_encoder = LongformerModel(config, add_pooling_layer=False)

    def theirs(m, x):
        b, f = len(x), x.shape[2]
        tokens = m.backbone(x.transpose(1, 2).flatten(0, 1)).unflatten(0, (b, f))
        first = torch.zeros(b, f + 1, dtype=torch.long)
        first[:, 0] = 1
        out = m.temporal_encoder(
            inputs_embeds=torch.cat([m.cls_token.expand(b, -1, -1), tokens], 1),
            attention_mask=torch.ones_like(first),
            global_attention_mask=first,
            token_type_ids=first,
            position_ids=torch.cat([torch.tensor([286]), torch.arange(f)]).expand(b, -1),
        )
        return out.last_hidden_state[:, 0]

    ours = vtn(frames=frames, image=16, size="test")
    return Pair(f"VTN, timm + LongformerModel, {frames} frames", model, theirs, ours, forward, (2, 3, frames, 16, 16))


def torchvision_mvit(version: int) -> Pair:
    """Of the size "test", which torchvision has no name for."""
    from torchvision.models.video.mvit import MSBlockConfig, MViT

    two = version == 2
    blocks = [
        MSBlockConfig(
            heads,
            width,
            out,
            [3] * 3 if two or s > 1 else [],
            [3] * 3,
            [1, s, s] if two or s > 1 else [],
            [1, reach, reach],
        )
        for heads, width, out, s, reach in (
            [(1, 32, 32, 1, 4), (2, 32, 64, 2, 2), (4, 64, 128, 2, 1), (4, 128, 128, 1, 1)]
            if two
            else [(1, 32, 64, 1, 4), (2, 64, 128, 2, 2), (4, 128, 128, 2, 1), (4, 128, 128, 1, 1)]
        )
    ]
    flags = {"residual_pool": two, "residual_with_cls_embed": False, "rel_pos_embed": two, "proj_after_attn": two}
    model = MViT((32, 32), 8, blocks, **flags, dropout=0)
    model.head = nn.Identity()
    ours = mvit(frames=8, image=32, version=version, size="test")
    return Pair(f"MViT v{version}, torchvision, small", model, forward, ours, forward, (2, 3, 8, 32, 32), 2e-5)


def full_mvit(version: int) -> Pair:
    from torchvision.models.video import mvit_v1_b, mvit_v2_s

    model, size = (mvit_v1_b(), "base") if version == 1 else (mvit_v2_s(), "small")
    model.head = nn.Identity()
    ours = mvit(version=version, size=size)
    name = f"MViT v{version} {size}, torchvision, 16 x 224"
    return Pair(name, model, forward, ours, forward, (1, 3, 16, 224, 224), 2e-5, True)


def torchvision_swin() -> Pair:
    """Their module behind our contract: what is shown is the names and the face."""
    from torchvision.models.video.swin_transformer import SwinTransformer3d

    model = SwinTransformer3d([2, 4, 4], 32, [2, 2], [2, 4], [2, 4, 4], stochastic_depth_prob=0)
    model.head = nn.Identity()
    return Pair("Swin3D, torchvision, odd sizes", model, forward, swin3d(size="test"), forward, (2, 3, 7, 37, 51), 2e-5)


FULL = [lambda: full_mvit(1), lambda: full_mvit(2)]
PAIRS = [
    timm_vit,
    torchvision_vit,
    transformers_vit,
    transformers_vivit,
    videomae,
    transformers_timesformer,
    lambda: transformers_timesformer(5, 8),
    lambda: transformers_timesformer(16, 8),
    lambda: longformer(16),
    lambda: longformer(35),
    lambda: longformer(250),
    lambda: torchvision_mvit(1),
    lambda: torchvision_mvit(2),
    torchvision_swin,
]


@torch.no_grad()
def randomise(model: nn.Module) -> None:
    g = torch.Generator().manual_seed(0)
    for p in model.parameters():
        p.copy_(torch.randn(p.shape, generator=g) * 0.2)


def difference(a: Tensor, b: Tensor) -> float:
    a, b = a.detach().double(), b.detach().double()
    return float((a - b).abs().max() / b.abs().max())


def compare(pair: Pair) -> list[str]:
    """A line of the table: float32, float64, gradients, bfloat16."""
    model, encoder = pair.model.eval(), pair.encoder.eval()
    randomise(model)
    state = model.state_dict()
    report = load_into(encoder, {k: v for k, v in state.items() if "word_embeddings" not in k})
    times = [k for k in state if "time_embeddings" in k]
    if report.resized:  # theirs gets the table of times that ours makes of its own
        with torch.no_grad():
            encoder.pos_time.normal_(0, 0.2)
            old, new = encoder.pos_time.shape[1], state[times[0]].shape[1]
            state[times[0]].copy_(resized(encoder.pos_time[0], (old, 1, 1), (new, 1, 1))[None])
    x = torch.randn(pair.shape, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        plain = pair.ours(encoder, x)
        single = difference(plain, pair.theirs(model, x))
        with torch.autocast("cpu", torch.bfloat16):
            half = difference(pair.ours(encoder, x), plain)
    if pair.quick:
        return [pair.name, f"{single:.1e}", "-", "-", f"{half:.1e}", f"{pair.limit:.0e}"]
    model, encoder, x = model.double(), encoder.double(), x.double()
    if report.resized:
        with torch.no_grad():
            table = resized(encoder.pos_time[0], (old, 1, 1), (new, 1, 1))[None]
            model.state_dict()[times[0]].copy_(table)
    theirs, ours = pair.theirs(model, x), pair.ours(encoder, x)
    double = difference(ours, theirs)
    theirs.square().sum().backward()
    ours.square().sum().backward()
    gradient = "-" if report.resized else f"{gradients(model, encoder, set(report.left)):.1e}"
    return [pair.name, f"{single:.1e}", f"{double:.1e}", gradient, f"{half:.1e}", f"{pair.limit:.0e}"]


def gradients(model: nn.Module, encoder: nn.Module, left: set[str]) -> float:
    """The greatest difference of any parameter's gradient, ours written back in their names."""
    own = copy.deepcopy(encoder)
    with torch.no_grad():
        for p, q in zip(own.parameters(), encoder.parameters(), strict=True):
            p.copy_(torch.zeros_like(q) if q.grad is None else q.grad)
    theirs = {k: p.grad for k, p in model.named_parameters() if k not in left and p.grad is not None}
    ours = back(own, {k: torch.zeros_like(v) for k, v in model.state_dict().items()})
    top = max(float(g.abs().max()) for g in theirs.values())
    return max(float((ours[k] - g).abs().max()) for k, g in theirs.items()) / top


def scenic() -> list[list[str]]:
    """ViViT 1 to 4 beside the numbers of the authors' JAX code."""
    file = DATA / "video" / "vivit_reference.npz"
    if not file.exists():
        print(f"{file.name} is not there: set TWOVIEWS_DATA", file=sys.stderr)
        return []
    SIZES["reference"] = (32, 2, 4)
    sizes = {"frames": 8, "image": 32, "tubelet": 2, "patch": 8, "size": "reference", "mlp": 2}
    encoders = {
        "spacetime": vivit1(**sizes),
        "factorized_encoder": vivit2(**sizes, time_depth=2),
        "factorized_self_attention_block": vivit3(**sizes),
        "factorized_dot_product_attention": vivit4(**sizes),
    }
    data, lines = np.load(file), []
    x = torch.from_numpy(data["input"]).permute(0, 4, 1, 2, 3)
    for i, (kind, encoder) in enumerate(encoders.items(), 1):
        weights = {k.removeprefix(f"{kind}/params/"): data[k] for k in data.files if k.startswith(f"{kind}/params/")}
        load_into(encoder.eval(), weights)
        w, b = (torch.from_numpy(weights[f"output_projection/{n}"]) for n in ("kernel", "bias"))
        with torch.no_grad():
            y = encoder(x)
            single = difference(y @ w + b, torch.from_numpy(data[f"{kind}/output"]))
            with torch.autocast("cpu", torch.bfloat16):
                half = difference(encoder(x), y)
        lines.append(
            [f"ViViT {i}, scenic (JAX), its stored outputs", f"{single:.1e}", "-", "-", f"{half:.1e}", "2e-06"]
        )
    return lines


class Count(NamedTuple):
    name: str
    build: Callable[[], nn.Module]
    shape: tuple[int, ...]
    classes: int  # of the head that published parameters include
    params: float  # published, millions
    macs: float  # published, GMACs


def clip(frames: int, image: int = 224) -> tuple[int, ...]:
    return 1, 3, frames, image, image


COUNTS = [
    Count("ViT-B/16", vit, (1, 3, 224, 224), 1000, 86.567656, 17.56),
    Count("ViViT-B/16x2 1, 32 f", lambda: vivit1(frames=32), clip(32), 400, 88.954, 451.5),
    Count("ViViT-B/16x2 2, 32 f", lambda: vivit2(frames=32), clip(32), 400, 115.1, 283.3),
    Count("ViViT-B/16x2 3, 32 f", lambda: vivit3(frames=32), clip(32), 400, 117.3, 371.0),
    Count("ViViT-B/16x2 4, 32 f", lambda: vivit4(frames=32), clip(32), 400, 88.9, 276.2),
    Count("TimeSformer space, 8 f", space_only, clip(8), 400, 86.1, 140.5),
    Count("TimeSformer joint, 8 f", lambda: timesformer(attention="joint"), clip(8), 400, 86.1124, 179.6),
    Count("TimeSformer divided, 8 f", timesformer, clip(8), 400, 121.566352, 195.8),
    Count("TimeSformer-HR, 16 f, 448", lambda: timesformer(frames=16, image=448), clip(16, 448), 400, 122.0, 1702.7),
    Count("TimeSformer-L, 96 f", lambda: timesformer(frames=96), clip(96), 400, 121.6, 2379.9),
    Count("VTN ViT-B, 250 f", lambda: vtn(frames=250), clip(250), 400, 114.0, 4396),
    Count("MViT v1 base, 16 f", lambda: mvit(version=1, size="base"), clip(16), 400, 36.610672, 70.6),
    Count("MViT v1 base, 32 f", lambda: mvit(frames=32, version=1, size="base"), clip(32), 400, 36.6, 170),
    Count("MViT v1 base, 64 f", lambda: mvit(frames=64, version=1, size="base"), clip(64), 400, 36.6, 455),
    Count("MViT v2 small, 16 f", mvit, clip(16), 400, 34.537744, 64.2),
    Count("MViT v2 base, 32 f", lambda: mvit(frames=32, size="base"), clip(32), 400, 51.2, 225),
    Count(
        "MViT v2 large, 40 f, 312", lambda: mvit(frames=40, image=312, size="large"), clip(40, 312), 400, 217.6, 2828
    ),
    Count("Swin3D tiny, 32 f", swin3d, clip(32), 400, 28.2, 87.8),
    Count("Swin3D small, 32 f", lambda: swin3d(size="small"), clip(32), 400, 49.8, 165.7),
    Count("Swin3D base, 32 f", lambda: swin3d(size="base"), clip(32), 400, 88.0, 281.3),
]


def all_tokens(encoder: nn.Module, x: Tensor) -> Tensor:
    """As papers count: nothing left out of the last block."""
    if not hasattr(encoder, "time"):
        return encoder.tokens(x)
    t, h, w = encoder.space.grid(x)
    frames = encoder.space.encode(encoder.space.patch.cut(x).flatten(0, 1), (1, h, w))
    return encoder.time(frames[:, 0].unflatten(0, (-1, t)))


def count(c: Count) -> list[str]:
    with torch.device("meta"):
        encoder, x = c.build().eval(), torch.empty(c.shape)
    macs = []
    for ask in (all_tokens, forward):
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            ask(encoder, x)
        macs.append(counter.get_total_flops() / 2e9)
    params = sum(p.numel() for p in encoder.parameters()) + (encoder.dim + 1) * c.classes
    return [c.name, f"{params:,}", f"{c.params:g} M", f"{macs[0]:.1f}", f"{c.macs:g}", f"{macs[1]:.1f}"]


def table(heads: list[str], lines: list[list[str]]) -> None:
    print("| " + " | ".join(heads) + " |\n|" + "---|" * len(heads))
    for line in lines:
        print("| " + " | ".join(line) + " |")
    print(flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="pairs and models whose name has this in it")
    parser.add_argument("--full", action="store_true", help="also whole MViTs, a minute or two")
    args = parser.parse_args()
    torch.manual_seed(0)
    started = time.process_time()
    lines = scenic()
    for build in [*PAIRS, *(FULL if args.full else [])]:
        pair = build()
        if args.only in pair.name:
            lines.append(compare(pair))
    table(
        ["pair", "float32", "float64", "gradients, float64", "bfloat16 beside our float32", "allowed in float32"], lines
    )
    lines = [count(c) for c in COUNTS if args.only in c.name]
    heads = ["model", "parameters with its head", "published", "GMACs, every token", "published", "GMACs of `forward`"]
    table(heads, lines)
    versions = ", ".join(
        f"{m} {import_module(m).__version__}" for m in ("torch", "torchvision", "timm", "transformers")
    )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    spent = time.process_time() - started
    print(f"{versions}, Python {platform.python_version()}; {spent:.0f} s of CPU, {peak:.1f} GiB at most.")


if __name__ == "__main__":
    main()
