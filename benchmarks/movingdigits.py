"""Moving digits with labels: which space-time encoders learn which way a digit moves, and do they need the order?

    python benchmarks/movingdigits.py                                  # every encoder, `turn` and `direction`
    python benchmarks/movingdigits.py --tasks turn --encoders vivit2 space_only --epochs 2

Supervised, from 16,000 clips of 8 frames, tested on 1,500 of digits not seen. One row an encoder: accuracy on frames in
order, shuffled and reversed, and the CPU seconds of training until 95 % (all threads, tests left out); 98 % ends it. A
single frame tells nothing, so `space_only`, which sees frames alone and no time, must stay at chance.
"""

from __future__ import annotations

import argparse
import sys
import time
from itertools import chain
from typing import Any

import torch

from twoviews.build import build, make_optimizer
from twoviews.data.loader import Loader
from twoviews.data.movingdigits import moving_digits
from twoviews.evaluate.embed import features, model
from twoviews.recipes.demo import DEMOS
from twoviews.types import Method, Source

ENOUGH, WELL = 0.95, 0.98  # of the test clips: what is asked for, and where training ends
TEST = 1500
LOOK = 100  # steps between two looks at the test clips
ORDERS = ("", "shuffled", "reversed")
ENCODERS: dict[str, dict[str, Any]] = {
    "vivit1": {"tubelet": 2, "pool": "mean"},
    "vivit2": {"tubelet": 2},
    "vivit3": {"tubelet": 2},
    "vivit4": {"tubelet": 2},
    "timesformer": {},
    "vtn": {"tubelet": 2},
    "mvit": {},
    "swin3d": {},
    "space_only": {},
}


def accuracy(method: Method, test: Source, view: Any) -> float:
    found = features(model(method.encoder, method.project), test, view, batch_size=128)
    assert found.z is not None
    assert found.labels is not None
    return float((found.z.argmax(1) == found.labels).float().mean())


def learned(task: str, encoder: str, settings: dict[str, Any], clips: int, epochs: int, batch: int, lr: float) -> str:
    """Train one encoder on one task; its row of the table."""
    source, test = moving_digits(clips, task), moving_digits(TEST, task, "test")
    run = DEMOS["video"]().override({"method": "supervised", "encoder": encoder, "epochs": epochs, "batch_size": batch})
    run = run.override({"optimizer.lr": lr, **{f"encoder.{name}": value for name, value in settings.items()}})
    run = run.resolved(source)
    view = run.test_view()  # for training too: clips as they are
    loader = Loader(source.sampled(view.moments), view, batch, seed=run.seed)
    test, method = test.sampled(view.moments), build(run)
    optimizer = make_optimizer(run, method)
    spent, reached, steps = 0.0, None, loader.steps * epochs
    base = [group["lr"] for group in optimizer.param_groups]
    begun = time.process_time()
    for step, one in enumerate(chain.from_iterable(map(loader.epoch, range(epochs))), 1):
        for group, lr in zip(optimizer.param_groups, base, strict=True):
            group["lr"] = lr * run.schedule(step - 1, steps)
        loss = method(one).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(method.parameters(), 1.0)
        optimizer.step()
        if step % LOOK and step < steps:
            continue
        spent += time.process_time() - begun
        found = accuracy(method, test, view)
        print(f"{task} {encoder} step {step:,}: {found:.3f}, {spent:.0f} CPU s", file=sys.stderr, flush=True)
        if found >= ENOUGH and reached is None:
            reached = spent
        if found >= WELL:
            break
        begun = time.process_time()
    scores = [accuracy(method, test.ordered(order) if order else test, view) for order in ORDERS]
    when = "not reached" if reached is None else f"{reached:,.0f}"
    weights = sum(p.numel() for p in method.encoder.parameters()) / 1e3
    shares = " | ".join(f"{x:.3f}" for x in scores)
    return f"| {task} | {encoder} | {weights:,.0f}k | {shares} | {when} | {spent:,.0f} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="+", default=["turn", "direction"])
    parser.add_argument("--encoders", nargs="+", default=[*ENCODERS], choices=[*ENCODERS])
    parser.add_argument("--clips", type=int, default=16_000)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--lr", type=float, default=1e-3)
    args = parser.parse_args()
    print("| task | encoder | weights | in order | shuffled | reversed | CPU s to 95 % | CPU s |")
    print("|---|---|---:|---:|---:|---:|---:|---:|")
    for task in args.tasks:
        for encoder in args.encoders:
            settings = dict(ENCODERS[encoder])
            if task == "direction" and "tubelet" in settings:
                settings["tubelet"] = 1  # two frames a tubelet would tell the direction without attention over time
            print(learned(task, encoder, settings, args.clips, args.epochs, args.batch, args.lr), flush=True)


if __name__ == "__main__":
    main()
