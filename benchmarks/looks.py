"""What the doctor costs while training: steps that look at the embeddings beside steps that do not, in one run.

    python benchmarks/looks.py                                        # the demo, two epochs, a look at every 4th step
    python benchmarks/looks.py --data cifar10_jpeg.zip method=moco

Processor time, so that other work on the machine counts little; on a GPU wall time. A run looks at every 20th step, so
its share is that of a look over 20 steps.
"""

import argparse
import time
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import torch

from twoviews.build import build, find_device, make_loader, make_optimizer, sources
from twoviews.cli import pairs
from twoviews.fit_photos import look
from twoviews.log import Log
from twoviews.recipes.cifar10 import cifar10_simclr
from twoviews.recipes.demo import demo
from twoviews.train import LOOK, Meter, train

OFTEN = 4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("settings", nargs="*", help="KEY=VALUE")
    parser.add_argument("--data", help="CIFAR-10; default: the embedded digits")
    args = parser.parse_intermixed_args()
    run = (cifar10_simclr(args.data) if args.data else demo()).override({"epochs": 2, **pairs(args.settings)})
    device = find_device(None)
    clock = time.perf_counter if device.type == "cuda" else time.process_time
    source, test = sources(run)
    run = run.resolved(source)
    method = build(run).to(device)
    loader = make_loader(run, source, device, Log(quiet=True))
    spent: dict[bool, list[float]] = {True: [], False: []}
    before = clock()

    def note(step: int, values: dict) -> None:
        nonlocal before
        spent["z_rank" in values].append(clock() - before)
        before = clock()

    Meter.looks = lambda self, step: step % OFTEN == 0
    with TemporaryDirectory() as folder:
        (Path(folder) / "run.json").write_text("{}")
        log = Log(Path(folder), quiet=True)
        log.listeners.append(note)
        train(method, loader, make_optimizer(run, method), run.schedule, epochs=run.epochs, device=device, log=log)
    plain, looking = (median(spent[kind][3:]) for kind in (False, True))
    begun = clock()
    look(run, method, source, test, device)
    checkup = clock() - begun
    epoch = plain * loader.steps
    print("| | ms | share of the time |\n|---|---:|---:|")
    print(f"| a step | {1e3 * plain:.1f} | |")
    print(
        f"| a look | {1e3 * (looking - plain):.1f} | {(looking - plain) / (LOOK * plain):.2%} at every {LOOK}th step |"
    )
    print(f"| a checkup | {1e3 * checkup:.0f} | {checkup / epoch:.1%} of an epoch of {loader.steps} steps |")
    print(f"\n{len(spent[False])} and {len(spent[True])} steps, {device}, torch {torch.__version__}")


if __name__ == "__main__":
    main()
