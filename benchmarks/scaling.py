"""Memory and communication of a training step, computed: nothing is trained and no GPU is needed.

    python benchmarks/scaling.py                 # the table of docs/scaling.md

Weights, gradients, optimizer and slow weights are float32. What forward keeps for backward is counted on tensors
without data (device "meta") through autograd's own hooks, in bfloat16 and with fused attention, and grows linearly
with the rows. Traffic is what one GPU sends in rings. tests/test_scaling.py holds these functions against real steps.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from unittest.mock import patch

import torch
from torch import nn
from torch.autograd.graph import saved_tensors_hooks

from twoviews.encoders import resnet50
from twoviews.encoders.timm import timm_encoder
from twoviews.heads import mlp
from twoviews.objectives.tiles import CELLS
from twoviews.recompute import blocks_of

GB = 1e9
FLOAT = 4


@dataclass(frozen=True)
class Case:
    """A run. `states`: copies of the weights that the optimizer keeps; `rows`: what the encoder reads at once."""

    name: str
    encoder: Callable[[], nn.Module]
    batch: int
    gpus: int
    states: int
    rows: int | None = None
    recompute: bool = False
    shard: bool = False
    queue: int = 0
    size: int = 224
    dim: int = 128
    hidden: int = 2048


VIT_L = partial(timm_encoder, "vit_large_patch14_224")
VIT_G = partial(timm_encoder, "vit_giant_patch14_224")
CASES = [
    Case("SimCLR, ResNet-50, LARS", resnet50, 4096, 8, states=1),
    Case("the same, `micro_batch=128`", resnet50, 4096, 8, states=1, rows=128),
    Case("MoCo v2, ResNet-50, SGD, queue 65,536", resnet50, 256, 8, states=1, queue=65536),
    Case("SimCLR, ViT-L/14, AdamW, `micro_batch=128`", VIT_L, 32768, 64, states=2, rows=128),
    Case("the same, a batch of a million", VIT_L, 1048576, 256, states=2, rows=128),
    Case("SimCLR, ViT-g/14, AdamW, `recompute=True`", VIT_G, 8192, 64, states=2, recompute=True),
    Case("the same, `shard=True`", VIT_G, 8192, 64, states=2, recompute=True, shard=True),
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="cases whose name holds this text")
    only = parser.parse_args().only
    heads = ["weights", "gradients", "optimizer", "slow copy", "activations", "z and tiles", "queue", "**sum**"]
    print(f"| run | batch | GPUs | {' | '.join(heads)} | stored logits | sent, weights | sent, z |")
    print("|---|---:|---:|" + "---:|" * (len(heads) + 3))
    for case in CASES:
        if only in case.name:
            held, sent = memory(case), traffic(case)
            numbers = [*held.values(), sum(held.values()), logits(case), sent["weights"], sent["z"]]
            print(f"| {case.name} | {case.batch:,} | {case.gpus} | {' | '.join(f'{n / GB:,.2f}' for n in numbers)} |")


def memory(case: Case) -> dict[str, float]:
    """Bytes on one GPU at the end of forward, by what they are for."""
    network, head = networks(case)
    learned = size_of(network) + size_of(head)
    views = case.batch * 2 // case.gpus  # rows of one GPU
    whole, lean = kept_of(network, case.size)
    read = views if not case.queue else views // 2  # MoCo's keys keep nothing
    at_once = min(read, case.rows or read)
    one = learned / case.gpus + together(network, head) if case.shard else learned
    share = case.gpus if case.shard else 1
    gathered = 2 * case.batch * case.dim * FLOAT if not case.queue else case.batch * case.dim * FLOAT
    return {
        "weights": one,
        "gradients": learned / share,
        "optimizer": case.states * learned / share,
        "slow": learned / share if case.queue else 0,
        "activations": (lean if case.recompute else whole) * at_once + FLOAT * read * network.dim,
        "z": gathered + 2 * FLOAT * CELLS["cuda"],
        "queue": case.queue * case.dim * FLOAT,
    }


def traffic(case: Case) -> dict[str, float]:
    """Bytes that one GPU sends a step: W - 1 of W parts of what is gathered, as often of what is reduced."""
    network, head = networks(case)
    away = (case.gpus - 1) / case.gpus
    rounds = 3 if case.shard else 2  # gathered twice and reduced once, or reduced and given back
    weights = rounds * away * (size_of(network) + size_of(head))
    if case.queue:  # views of keys, dealt anew (ShuffleBN); keys, to be put back and for the queue
        return {"weights": weights, "z": away * case.batch * (3 * case.size**2 + 2 * case.dim) * FLOAT}
    z = 2 * case.batch * case.dim * FLOAT
    sums = 2 * 2 * case.batch * FLOAT  # backward: of each row of two views a log-sum and a gradient
    return {"weights": weights, "z": away * (z + sums)}


def logits(case: Case) -> float:
    """What autograd would hold of a GPU's rows against all columns, were they stored: once, in float32."""
    rows, columns = 2 * case.batch // case.gpus, case.queue or 2 * case.batch
    return FLOAT * (rows // 2 if case.queue else rows) * columns


def networks(case: Case) -> tuple[nn.Module, nn.Module]:
    with torch.device("meta"):
        network = case.encoder()
        return network, mlp(network.dim, case.hidden, case.dim, batchnorm=not case.queue)


def together(network: nn.Module, head: nn.Module) -> float:
    """Bytes of sharded weights that are whole at one time: what is in no block, the block at work and the next."""
    blocks = [size_of(block) for block in blocks_of(network)]
    return size_of(network) + size_of(head) - sum(blocks) + 2 * max(blocks, default=0)


def size_of(module: nn.Module) -> int:
    return sum(p.nbytes for p in module.parameters())


def kept_of(
    network: nn.Module, size: int, channels: int = 3, dtype: torch.dtype = torch.bfloat16
) -> tuple[float, float]:
    """Bytes a row that forward keeps for backward: all, and with the blocks recomputed (one of them at a time)."""
    network = network.to(dtype)
    few, many = (torch.empty(n, channels, size, size, device="meta", dtype=dtype) for n in (2, 4))
    counts = zip(kept(network, few), kept(network, many), strict=True)
    network.to(torch.float32)
    whole, lean = ((b - a) / 2 for a, b in counts)
    return whole, lean


def kept(network: nn.Module, x: torch.Tensor) -> tuple[int, int]:
    """Bytes that network(x) keeps for backward; the same where blocks keep their inputs, and one of them all."""
    seen: dict[int, torch.Tensor] = {}
    inside, inputs, begun = [], {}, []

    def total() -> int:
        return sum(t.untyped_storage().nbytes() for t in seen.values())

    def pack(t: torch.Tensor) -> torch.Tensor:
        seen[t.untyped_storage()._cdata] = t
        return t

    def enter(block: nn.Module, args: tuple[torch.Tensor, ...]) -> None:
        inputs[args[0].untyped_storage()._cdata] = args[0]
        begun.append(total())

    def leave(block: nn.Module, args: tuple[torch.Tensor, ...], out: torch.Tensor) -> None:
        inside.append(total() - begun.pop())

    hooks = [b.register_forward_pre_hook(enter) for b in blocks_of(network)]
    hooks += [b.register_forward_hook(leave) for b in blocks_of(network)]
    with (
        saved_tensors_hooks(pack, lambda t: t),
        patch("torch.nn.functional.scaled_dot_product_attention", Fused.attend),
    ):
        out = network(x)
    for hook in hooks:
        hook.remove()
    del out
    stored = sum(t.untyped_storage().nbytes() for t in inputs.values())
    return total(), total() - sum(inside) + stored + max(inside, default=0)


class Fused(torch.autograd.Function):
    """What a fused kernel keeps of attention. Without data torch would take the path that stores all weights."""

    @staticmethod
    def forward(ctx, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        out = torch.empty_like(q)
        ctx.save_for_backward(q, k, v, out, torch.empty(q.shape[:-1], dtype=torch.float32, device=q.device))
        return out

    @classmethod
    def attend(cls, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, **_: object) -> torch.Tensor:
        return cls.apply(q, k, v)


if __name__ == "__main__":
    main()
