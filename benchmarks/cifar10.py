"""The CIFAR-10 recipes, whole or on a part: the table of measures, minutes and peak memory.

    python benchmarks/cifar10.py cifar10_simclr                                          # a GPU: 200 epochs, ResNet-18
    python benchmarks/cifar10.py cifar10_simclr --items 10000 encoder=small epochs=40    # two cores

kNN with k = 200, T = 0.1, as the published bars; the last epoch's, once on the test set.
"""

import argparse
import resource
import time
from functools import partial
from pathlib import Path

import torch

from twoviews.build import find_device, sources
from twoviews.cli import pairs
from twoviews.data.image import photos
from twoviews.fit import fit
from twoviews.fit_photos import measure
from twoviews.log import Log
from twoviews.recipes import RECIPES


def part(data: str, split: str, items: int):
    """Evenly spaced photos of a split."""
    source = photos(data, split=split)
    return source.subset(range(0, len(source), len(source) // items))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", choices=["cifar10_simclr", "cifar10_moco"])
    parser.add_argument("settings", nargs="*", help="KEY=VALUE")
    parser.add_argument("--data", default="../shared/data/images/cifar10_jpeg.zip")
    parser.add_argument("--items", type=int, help="train on so many photos and measure on a fifth as many")
    parser.add_argument("--out")
    args = parser.parse_intermixed_args()  # settings may stand after options

    settings = pairs(args.settings)
    if args.items:
        settings["data"] = partial(part, data=args.data, split="train", items=args.items)
        settings["test"] = partial(part, data=args.data, split="test", items=args.items // 5)
    run = RECIPES[args.recipe](args.data).override(settings)
    out = Path(args.out or f"runs/benchmark-{args.recipe}")
    begun = time.monotonic()
    result = fit(run, out, fresh=True)
    minutes = (time.monotonic() - begun) / 60
    source, test = sources(result.run)
    device = find_device(None)
    table = measure(
        result.run, result.method, source, test, device, Log(quiet=True), probe={"k": 200, "temperature": 0.1}
    )
    print(table.markdown())
    memory = torch.cuda.max_memory_allocated() if device.type == "cuda" else 1024 * peak_rss()
    print(f"\n{minutes:.1f} minutes, peak memory {memory / 2**30:.1f} GiB, {device}, torch {torch.__version__}")


def peak_rss() -> int:
    """KiB of this process."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


if __name__ == "__main__":
    main()
