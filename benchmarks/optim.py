"""LARS and slow weights on a ResNet-50: how much each step dispatches, reads back and costs, ours beside lightly's.

    pip install 'twoviews[benchmarks]'
    python benchmarks/optim.py [--encoder resnet50] [--rounds 7]

Dispatched operations are what the host hands to the device, one by one, in a step; where a GPU computes, the host's
time is mostly theirs. A value read back (`if norm != 0`) makes the host wait for the device. Times are of the CPU.
"""

import argparse
import copy
import time
from collections import Counter
from statistics import median

import torch
from lightly.models.utils import update_momentum
from lightly.utils.lars import LARS
from torch.utils._python_dispatch import TorchDispatchMode

from twoviews.ema import EMA
from twoviews.encoders import ENCODERS
from twoviews.malloc import kept
from twoviews.optim import lars, param_groups


class Counted(TorchDispatchMode):
    """Which operations are dispatched."""

    def __init__(self):
        super().__init__()
        self.seen = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.seen[str(func)] += 1
        return func(*args, **(kwargs or {}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--encoder", default="resnet50", choices=ENCODERS)
    parser.add_argument("--rounds", type=int, default=7)
    args = parser.parse_args()
    torch.manual_seed(0)
    ours = ENCODERS[args.encoder]()
    theirs = copy.deepcopy(ours)
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        a.grad = torch.randn_like(a)
        b.grad = a.grad.clone()
    slow, copied = EMA(ours), copy.deepcopy(theirs).requires_grad_(False)
    settings = {"lr": 0.3, "momentum": 0.9, "weight_decay": 1e-6}
    mine = lars(ours, **settings)
    other = LARS([{k: v for k, v in g.items() if k != "adapt"} for g in param_groups(theirs, 1e-6)], **settings)
    work = {
        "LARS": (mine.step, other.step),
        "slow weights": (lambda: slow.update(ours), lambda: update_momentum(theirs, copied, 0.99)),
    }
    print(f"{args.encoder}, {sum(1 for _ in ours.parameters())} parameters, {torch.get_num_threads()} threads\n")
    print("| | | dispatched | read back | ms |\n|---|---|---:|---:|---:|")
    for name, sides in work.items():
        spent: list[list[float]] = [[], []]
        with kept():  # as while training
            for _ in range(args.rounds + 1):  # in turn; the first warms up
                for side, step in enumerate(sides):
                    begun = time.perf_counter()
                    step()
                    spent[side].append(time.perf_counter() - begun)
        for label, step, seconds in zip(("twoviews", "lightly"), sides, spent, strict=True):
            with Counted() as counted:
                step()
            read = sum(n for op, n in counted.seen.items() if "_local_scalar_dense" in op or "is_nonzero" in op)
            ms = 1000 * median(seconds[1:])
            print(f"| {name} | {label} | {sum(counted.seen.values())} | {read} | {ms:.1f} |")


if __name__ == "__main__":
    main()
