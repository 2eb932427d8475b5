"""What can be wrong with any run that learns by steps, whatever its method compares: its loss, its data, its speed."""

from __future__ import annotations

from statistics import median

from .course import Course
from .diagnosis import Finding

FAST = 0.1  # of the weights' length, in one step


def diverged(c: Course) -> Finding | None:
    if c.bad is None:
        return None
    steps = sorted(c.values("update"))
    if steps and steps[-1] > FAST:
        return too_fast(c)
    return Finding(
        "diverged",
        "ill",
        f"the loss was not finite at step {c.bad:,}",
        "Lower the learning rate, raise the temperature or use precision=fp32",
    )


def reads_labels(c: Course) -> Finding | None:
    if not c.checkup.get("reads_labels") or c.method["call"].endswith(":Supervised"):
        return None
    return Finding(
        "labels in training",
        "ill",
        "the loss changes when the labels of a batch are shuffled, so the method learns from them, and where they come "
        "from folder or file names the measure is of those names",
        "Take batch.labels out of the method's forward, or compare it with method=supervised",
    )


def known_test(c: Course) -> Finding | None:
    leak = c.evaluation.get("leak") or {}
    if (copies := leak.get("copies")) and copies["share"]["value"] > 0.01:
        return Finding(
            "test items known",
            "ill",
            f"{copies['share']['value']:.0%} of the test items lie in the training data under another name "
            f"({' is '.join(copies['examples'][0])})",
            "Remove the copies (`twoviews check` lists them) and measure again",
        )
    family = leak.get("siblings")
    if family and family["drop"][1] > 0.02:
        return Finding(
            "test items known",
            "ill" if family["drop"][1] > 0.05 else "watch",
            f"kNN falls from {family['control']['value']:.0%} to {family['apart']['value']:.0%} when training items "
            f"that share a test item's file name may not vote ({' and '.join(family['examples'][0])})",
            "The split tore photos of one original apart: put all of one original on one side, as train/ and test/",
        )
    return None


def too_fast(c: Course) -> Finding | None:
    moves = sorted(((k["update"], k["step"]) for k in c.looks if k.get("update", 0) > FAST), reverse=True)
    if not moves:
        return None
    worst, step = moves[0]
    after = "" if c.bad is None else f" and the loss was not finite at step {c.bad:,}"
    return Finding(
        "learning rate too high",
        "ill",
        f"at step {step:,} one step moved the weights by {worst:.0%} of their length{after}; 1 % is usual",
        f"Divide optimizer.lr{c.given('lr', 'optimizer')} by 10 or more",
    )


def starved(c: Course) -> Finding | None:
    if len(c.waits) < 10:
        return None
    share, seconds = (median(values) for values in zip(*c.waits, strict=True))
    if not (share > 0.3 and seconds > 0.01):  # a wait of milliseconds is no illness, and steps of as many no run
        return None
    return Finding(
        "waiting for data",
        "watch",
        f"half of the steps wait {1000 * seconds:.0f} ms and more for data, {share:.0%} of their time",
        "Leave the process more cores, or give it fewer and larger batches (batch_size)"
        if c.of_histories
        else "Give more workers (workers=N), hold the photos in memory (memory=True) or store them smaller",
    )
