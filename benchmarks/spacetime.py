"""Transformers over clips beside other libraries', and what each variant costs as clips get longer.

    pip install timm torchvision transformers vit-pytorch
    python benchmarks/spacetime.py                                              # two cores: about ten minutes
    python benchmarks/spacetime.py --sweep 8 16 32 64 128                       # the second table
    python benchmarks/spacetime.py --device cuda --size base --batch 8 --repeats 50 --bf16
    python benchmarks/spacetime.py --device cuda --size base --sweep 8 16 32 64 96 128 --bf16

Same weights (through `load_into`), same input, and the same numbers, or the script stops; vit-pytorch's models are
other functions of equal dimensions, beside them only time counts. Both sides are timed in turn in one process, forward
alone and forward with backward; medians. Memory is what the work adds at its peak, in a process of its own that holds
the models (Linux; on a GPU what is allocated). --only takes part of a name, --threads is of both sides.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from math import isnan
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from twoviews.encoders.blocks import SIZES
from twoviews.encoders.convert import load_into
from twoviews.encoders.mvit import mvit
from twoviews.encoders.spacetime import space_only, timesformer, vivit2, vivit3, vivit4
from twoviews.encoders.swin3d import swin3d
from twoviews.encoders.vit import vit, vivit1
from twoviews.encoders.vtn import vtn

Sides = tuple[nn.Module, nn.Module, Callable[[Any], Tensor], bool]  # ours, theirs, its class token, the same function?


def config(args: argparse.Namespace) -> dict[str, Any]:
    """What transformers calls a size."""
    dim, depth, heads = SIZES[args.size]
    return {
        "image_size": args.image,
        "patch_size": 16,
        "hidden_size": dim,
        "num_hidden_layers": depth,
        "num_attention_heads": heads,
        "intermediate_size": 4 * dim,
        "layer_norm_eps": 1e-6,
    }


def first(out: Any) -> Tensor:
    """The class token of what transformers' models give."""
    return out.last_hidden_state[:, 0]


def plain(out: Any) -> Tensor:
    return out


class FramesFirst(nn.Module):
    """transformers reads (B, T, C, H, W)."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Any:
        return self.model(x.transpose(1, 2))


def vit_timm(args: argparse.Namespace) -> Sides:
    from timm.models.vision_transformer import VisionTransformer

    dim, depth, heads = SIZES[args.size]
    theirs = VisionTransformer(args.image, 16, embed_dim=dim, depth=depth, num_heads=heads, num_classes=0)
    return vit(image=args.image, size=args.size), theirs, plain, True


def vit_transformers(args: argparse.Namespace) -> Sides:
    from transformers import ViTConfig, ViTModel

    theirs = ViTModel(ViTConfig(**config(args)), add_pooling_layer=False)
    return vit(image=args.image, size=args.size), theirs, first, True


def vivit1_transformers(args: argparse.Namespace) -> Sides:
    from transformers import VivitConfig, VivitModel

    settings = config(args) | {
        "num_frames": args.frames,
        "tubelet_size": [2, 16, 16],
        "hidden_act": "gelu_pytorch_tanh",
    }
    theirs = FramesFirst(VivitModel(VivitConfig(**settings), add_pooling_layer=False))
    return vivit1(frames=args.frames, image=args.image, size=args.size), theirs, first, True


def timesformer_transformers(args: argparse.Namespace) -> Sides:
    from transformers import TimesformerConfig, TimesformerModel

    theirs = FramesFirst(TimesformerModel(TimesformerConfig(**config(args) | {"num_frames": args.frames})))
    return timesformer(frames=args.frames, image=args.image, size=args.size), theirs, first, True


def vit_pytorch(ours: Callable[..., nn.Module], variant: str) -> Callable[[argparse.Namespace], Sides]:
    def sides(args: argparse.Namespace) -> Sides:
        from vit_pytorch.vivit import ViViT

        dim, depth, heads = SIZES[args.size]
        theirs = ViViT(
            image_size=args.image,
            image_patch_size=16,
            frames=args.frames,
            frame_patch_size=2,
            num_classes=dim,  # they have no headless form: one small product more
            dim=dim,
            spatial_depth=depth,
            temporal_depth=4 if variant == "factorized_encoder" else depth,
            heads=heads,
            dim_head=dim // heads,
            mlp_dim=4 * dim,
            variant=variant,
        )
        return ours(frames=args.frames, image=args.image, size=args.size), theirs, plain, False

    return sides


def mvit_torchvision(version: int) -> Callable[[argparse.Namespace], Sides]:
    def sides(args: argparse.Namespace) -> Sides:
        from torchvision.models import video

        theirs = (video.mvit_v1_b if version == 1 else video.mvit_v2_s)(stochastic_depth_prob=0.0)
        theirs.head = nn.Identity()
        return mvit(version=version, size="base" if version == 1 else "small"), theirs, plain, True

    return sides


def swin_torchvision(args: argparse.Namespace) -> Sides:
    from torchvision.models.video import swin3d_t

    theirs = swin3d_t()
    theirs.head = nn.Identity()
    return swin3d(), theirs, plain, True


PAIRS: dict[str, Callable[[argparse.Namespace], Sides]] = {
    "ViT, timm": vit_timm,
    "ViT, transformers": vit_transformers,
    "ViViT 1, transformers": vivit1_transformers,
    "TimeSformer, transformers": timesformer_transformers,
    "ViViT 2, vit-pytorch": vit_pytorch(vivit2, "factorized_encoder"),
    "ViViT 3, vit-pytorch": vit_pytorch(vivit3, "factorized_self_attention"),
    "MViT v1-B, torchvision": mvit_torchvision(1),
    "MViT v2-S, torchvision": mvit_torchvision(2),
    "Swin 3D-T, torchvision": swin_torchvision,
}


def clips(name: str, args: argparse.Namespace) -> Tensor:
    """(B, 3, [F,] S, S); MViT's size is fixed in torchvision."""
    if name.startswith("ViT"):
        return torch.randn(args.batch, 3, args.image, args.image, device=args.device)
    frames, image = (16, 224) if name.startswith("MViT") else (args.frames, args.image)
    return torch.randn(args.batch, 3, frames, image, image, device=args.device)


def sides_of(name: str, args: argparse.Namespace) -> dict[str, Callable[[Tensor], Tensor]]:
    """Ours and theirs with one set of weights, as functions of a clip. Stops where they are not the same function."""
    torch.manual_seed(0)
    ours, theirs, head, same = PAIRS[name](args)
    with torch.no_grad():
        for p in theirs.parameters():  # zeros of a fresh model would prove nothing
            p.add_(torch.randn_like(p), alpha=0.02)
    if same:
        load_into(ours, {key.removeprefix("model."): x for key, x in theirs.state_dict().items()})
    ours, theirs = ours.to(args.device).train(), theirs.to(args.device).train()
    for module in theirs.modules():
        if isinstance(getattr(module, "p", None), float):  # dropout and stochastic depth
            module.p = 0.0  # type: ignore[assignment]

    def run(model: nn.Module, read: Callable[[Any], Tensor]) -> Callable[[Tensor], Tensor]:
        def call(x: Tensor) -> Tensor:
            with torch.autocast(x.device.type, torch.bfloat16, enabled=args.bf16):
                return read(model(x))

        return call

    functions = {"ours": run(ours, plain), "theirs": run(theirs, head)}
    if same and not args.side:
        with torch.no_grad():
            x = clips(name, args)[:1]
            a, b = (f(x) for f in functions.values())
        off = ((a - b).abs().max() / b.abs().max()).item()
        assert off < (5e-2 if args.bf16 else 1e-4), f"{name}: outputs differ by {off:.1e} of the greatest"
    return functions


def forward(f: Callable[[Tensor], Tensor], x: Tensor) -> None:
    with torch.no_grad():
        f(x)


def step(f: Callable[[Tensor], Tensor], x: Tensor) -> None:
    f(x).float().square().sum().backward()


WORKS = {"forward": forward, "step": step}


def timed(work: Callable[[], None], device: str) -> tuple[float, float]:
    """Seconds on the clock and of the processor."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - wall, time.process_time() - cpu


def added(work: Callable[[], None], device: str) -> float:
    """MiB that work adds at its peak to what this process holds."""
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        allocated = torch.cuda.memory_allocated()
        work()
        return (torch.cuda.max_memory_allocated() - allocated) / 2**20
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before = held("VmRSS")
    work()
    return held("VmHWM") - before


def held(what: str) -> float:
    """MiB of this process by one line of its status."""
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(lines[what].split()[0]) / 2**10


def child(args: argparse.Namespace, *more: str) -> list[float]:
    """The numbers that this script prints in a process of its own."""
    keep = [f"--{k}={getattr(args, k)}" for k in ("size", "frames", "image", "batch", "threads", "device")]
    command = [sys.executable, __file__, *keep, *(["--bf16"] if args.bf16 else []), *more]
    return [float(x) for x in subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()]


def side_by_side(args: argparse.Namespace) -> None:
    """The first table."""
    print(f"{args.size}, {args.frames} frames of {args.image} px, batch {args.batch}, {args.device}\n")
    print("| encoder, against | work | clips/s ours | theirs | ratio | CPU s ours | theirs | MiB ours | theirs |")
    print("|---|---|---|---|---|---|---|---|---|")
    for name in PAIRS:
        if args.only.lower() not in name.lower():
            continue
        functions, x = sides_of(name, args), clips(name, args)
        more = [child(args, "--only", name, "--side", side) for side in functions]
        for row, (what, work) in enumerate(WORKS.items()):
            for f in functions.values():
                work(f, x)
            pairs = [[timed(partial(work, f, x), args.device) for f in functions.values()] for _ in range(args.repeats)]
            wall, cpu = ([statistics.median(p[side][i] for p in pairs) for side in (0, 1)] for i in (0, 1))
            speed = [len(x) / t for t in wall]
            print(
                f"| {name} | {what} | {speed[0]:.2f} | {speed[1]:.2f} | {wall[1] / wall[0]:.2f} | {cpu[0]:.2f} | "
                f"{cpu[1]:.2f} | {more[0][row]:,.0f} | {more[1][row]:,.0f} |",
                flush=True,
            )


def memory(args: argparse.Namespace) -> None:
    """In a child: prints how many MiB one side's forward and its step add to the built models."""
    f, x = sides_of(args.only, args)[args.side], clips(args.only, args)
    print(*(added(partial(work, f, x), args.device) for work in WORKS.values()))


Cost = Callable[[int, int, int, int], float]  # frames, places, width, depth -> multiply-accumulates
SWEEP: dict[str, tuple[Callable[..., nn.Module], int, Cost]] = {  # factory, frames of a tubelet, formula
    "space only": (space_only, 1, lambda t, n, d, k: k * t * (12 * (n + 1) * d * d + 2 * (n + 1) ** 2 * d)),
    "ViViT 1": (vivit1, 2, lambda t, n, d, k: k * (12 * (t * n + 1) * d * d + 2 * (t * n + 1) ** 2 * d)),
    "ViViT 2": (
        vivit2,
        2,
        lambda t, n, d, k: (
            k * t * (12 * (n + 1) * d * d + 2 * (n + 1) ** 2 * d) + 4 * (12 * (t + 1) * d * d + 2 * (t + 1) ** 2 * d)
        ),
    ),
    "ViViT 3": (vivit3, 2, lambda t, n, d, k: k * (16 * t * n * d * d + 2 * t * n * n * d + 2 * n * t * t * d)),
    "ViViT 4": (vivit4, 2, lambda t, n, d, k: k * (12 * t * n * d * d + t * n * n * d + n * t * t * d)),
    "TimeSformer": (
        timesformer,
        1,
        lambda t, n, d, k: k * (17 * t * n * d * d + 2 * t * (n + 1) ** 2 * d + 2 * n * t * t * d),
    ),
    "VTN": (
        vtn,
        1,
        lambda t, n, d, k: (
            k * t * (12 * (n + 1) * d * d + 2 * (n + 1) ** 2 * d) + 3 * (12 * (t + 1) * d * d + 2 * (t + 1) * 19 * d)
        ),
    ),
    "MViT v2-S": (mvit, 2, lambda t, n, d, k: float("nan")),
    "Swin 3D-T": (swin3d, 2, lambda t, n, d, k: float("nan")),
}


def swept(name: str, frames: int, args: argparse.Namespace) -> nn.Module:
    factory = SWEEP[name][0]
    if factory is swin3d:
        return swin3d()
    return factory(frames=frames, image=args.image, **({} if factory is mvit else {"size": args.size}))


def sweep(args: argparse.Namespace) -> None:
    """The second table. Formulas are of all tokens in all blocks, with the cutting into patches; `forward` leaves out
    of its last block what it does not give back."""
    print(f"{args.size}, {args.image} px, batch 1, {args.device}; MViT and Swin in their own sizes\n")
    print("| encoder | frames | GMACs, formula | counted | forward, s | CPU s | MiB |\n|---|---|---|---|---|---|---|")
    dim, depth, heads = SIZES[args.size]
    places = (args.image // 16) ** 2
    for name, (factory, tubelet, formula) in SWEEP.items():
        if args.only.lower() not in name.lower() or (factory is vivit4 and heads % 2):
            continue
        for frames in args.sweep:
            t = frames // tubelet
            macs = (formula(t, places, dim, depth) + t * places * dim * 768 * tubelet) / 1e9
            with torch.device("meta"), torch.no_grad(), FlopCounterMode(display=False) as counter:
                swept(name, frames, args)(torch.empty(1, 3, frames, args.image, args.image))
            counted = counter.get_total_flops() / 2e9
            ran = "| | "
            if counted <= args.most:
                more = child(args, "--only", name, "--sweep", str(frames), "--alone")
                ran = f"{more[0]:.2f} | {more[1]:.2f} | {more[2]:,.0f}"
            told = "" if isnan(macs) else f"{macs:.1f}"
            print(f"| {name} | {frames} | {told} | {counted:.1f} | {ran} |", flush=True)


def alone(args: argparse.Namespace) -> None:
    """In a child: seconds, processor seconds and MiB of one variant's forward pass."""
    encoder = swept(args.only, args.sweep[0], args).to(args.device).eval()
    x = torch.randn(1, 3, args.sweep[0], args.image, args.image, device=args.device)
    with torch.no_grad(), torch.autocast(args.device, torch.bfloat16, enabled=args.bf16):
        more = added(lambda: encoder(x), args.device)
        print(*timed(lambda: encoder(x), args.device), more)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="small", choices=SIZES)
    parser.add_argument("--frames", type=int, default=8)
    parser.add_argument("--image", type=int, default=224)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--bf16", action="store_true", help="autocast of both sides")
    parser.add_argument("--only", default="", help="part of a name")
    parser.add_argument("--sweep", type=int, nargs="*", help="frames of the second table")
    parser.add_argument("--most", type=float, default=300, help="GMACs above which the sweep only counts")
    parser.add_argument("--alone", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--side", help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if args.side:
        memory(args)
    elif args.alone:
        alone(args)
    elif args.sweep:
        sweep(args)
    else:
        side_by_side(args)


if __name__ == "__main__":
    main()
