"""Peak memory and time of a step in one pass, in parts (micro_batch), with recomputed blocks, and both.

    python benchmarks/memory.py [--encoder small] [--batch 4096] [--micro 128] [--size 32] [--steps 3] [--method simclr]

Each way in a process of its own, on the same random pictures; the loss after the last step says that they compute the
same (an encoder with BatchNorm takes its statistics over parts, so there the numbers are near and not equal). Peak
memory is that of the process above what it holds before the first step: weights, views and libraries. On a GPU it is
torch's.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from statistics import median

import torch

from twoviews.encoders import ENCODERS
from twoviews.methods import METHODS
from twoviews.optim import constant, sgd
from twoviews.train import train
from twoviews.types import Batch

WAYS = {
    "one pass": {},
    "micro_batch": {"micro_batch": True},
    "recompute": {"recompute": True},
    "both": {"micro_batch": True, "recompute": True},
}


class Pictures:
    accumulate = 1

    def __init__(self, args, device: torch.device):
        self.steps = args.steps + 2  # the first warms up, the last is not seen to end
        g = torch.Generator().manual_seed(0)
        shape = (args.batch, 3, args.size, args.size)
        self.views = [torch.randn(shape, generator=g).to(device) for _ in range(2)]
        self.ids = torch.arange(args.batch, device=device)
        self.asked: list[float] = []

    def epoch(self, epoch: int, start: int = 0):
        for _ in range(start, self.steps):
            self.asked.append(time.perf_counter())
            yield Batch(self.views, self.ids)


class Losses:
    """A log that keeps the last loss."""

    def __init__(self):
        from twoviews.log import Log

        self.log, self.loss = Log(quiet=True), 0.0
        self.log.listeners.append(self.note)

    def note(self, step: int, values: dict) -> None:
        self.loss = values.get("loss", self.loss)


def one(args) -> dict[str, float]:
    """A way's median step after the first, and its peak, in this process."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.manual_seed(0)
    stem = {"stem": "cifar"} if args.encoder.startswith("resnet") and args.size < 64 else {}
    settings = {"hidden": 512, "dim": 128} if args.method in ("simclr", "moco") else {}
    method = METHODS[args.method](ENCODERS[args.encoder](**stem), **settings).to(device)
    method.to(memory_format=torch.channels_last)
    pictures, seen = Pictures(args, device), Losses()
    how = {k: args.micro if k == "micro_batch" else v for k, v in WAYS[args.way].items()}
    before = peak(device)
    train(method, pictures, sgd(method, 0.01), constant, epochs=1, device=device, log=seen.log, **how)
    seconds = [b - a for a, b in zip(pictures.asked, pictures.asked[1:], strict=False)][1:]
    return {"seconds": median(seconds), "MiB": peak(device) - before, "loss": seen.loss}


def peak(device: torch.device) -> float:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated() / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--encoder", default="small", choices=ENCODERS)
    parser.add_argument("--method", default="simclr", choices=METHODS)
    parser.add_argument("--batch", type=int, default=4096)
    parser.add_argument("--micro", type=int, default=128)
    parser.add_argument("--size", type=int, default=32, help="pixels of a side")
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--way", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.way:
        return print(json.dumps(one(args)))
    print(f"{args.method}, {args.encoder}, batch {args.batch}, micro_batch {args.micro}, {args.size} pixels\n")
    print("| | seconds a step | of one pass | MiB above inputs | less | loss |\n|---|---:|---:|---:|---:|---:|")
    first = None
    for way in WAYS:
        call = [sys.executable, __file__, *sys.argv[1:], "--way", way]
        found = json.loads(subprocess.run(call, capture_output=True, check=True).stdout)
        first = first or found
        row = [f"{found['seconds']:.2f}", f"{found['seconds'] / first['seconds']:.2f}x", f"{found['MiB']:,.0f}"]
        row += [f"{first['MiB'] / found['MiB']:.1f}x", f"{found['loss']:.4f}"]
        print(f"| {way} | {' | '.join(row)} |")


if __name__ == "__main__":
    main()
