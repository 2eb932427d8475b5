"""What can be wrong with a run that compares two views: of its views, its negatives, its keys, its embeddings."""

from __future__ import annotations

import math

from .common_rules import too_fast
from .course import LOOKS, Course
from .diagnosis import Finding


def views_alike(c: Course) -> Finding | None:
    apart = c.checkup.get("views_apart", math.nan)
    if not apart < 0.02:
        return None
    return Finding(
        "views too alike",
        "ill",
        f"the two views of an item differ by {apart:.1%} of what views of different items differ by"
        + (f", and {m:.0%} of them were matched from the start" if (m := c.early("matched")) > 0.5 else ""),
        "Turn augmentation on: views.scale=[0.2,1.0] views.jitter=0.8 views.flip=0.5",
    )


def temperature_low(c: Course) -> Finding | None:
    looks = [k for k in c.looks[: max(3, len(c.looks) // 5)] if k.get("in_play") and k.get("chance")]
    if not looks:
        return None
    worst = min(looks, key=lambda k: k["in_play"])
    negatives = worst.get("negatives", math.expm1(worst["chance"]))
    few = worst["in_play"] < 0.1 and worst["in_play"] * negatives < 2  # of six, one or two are no sign
    if not (few and worst["loss"] > 2 * worst["chance"]):
        return None
    return Finding(
        "temperature too low",
        "ill",
        f"at step {worst['step']:,} {worst['in_play'] * negatives:.1f} of {negatives:,.0f} negatives carried the "
        f"gradient and the loss was {worst['loss']:,.1f}, where knowing nothing costs {worst['chance']:.1f}",
        f"Raise method.temperature{c.given('temperature')}: 0.07 to 0.5 is usual",
    )


def leaks(c: Course) -> Finding | None:
    same, apart = c.checkup.get("matched", 0.0), c.checkup.get("matched_apart", 0.0)
    if c.checkup.get("reads_labels") or not (c.checkup.get("leak_low", 0) > 0.02 and apart < 0.75 * same):
        return None  # a loss that reads labels pairs other items when the company changes
    return Finding(
        "BatchNorm leaks",
        "ill",
        f"{same:.0%} of the items find their second view as in training, but {apart:.0%} when the two are encoded "
        "among other items: the statistics of the batch give the answer away",
        "Take statistics over more items (batchnorm=global), shuffle keys over groups (method=moco batchnorm=8), or "
        "use an encoder without BatchNorm",
    )


def queue_empty(c: Course) -> Finding | None:
    gap, variety, age = c.late("queue_gap"), c.late("queue_variety"), c.late("queue_age")
    if math.isnan(gap) or len(c.looks) < LOOKS:
        return None
    if variety < 0.1:
        evidence = f"the keys of the queue vary by {variety:.1%} of what the keys of one batch do"
    elif age == 0:
        evidence = f"nothing has come into the queue by step {c.step:,}"
    elif gap > 1 and variety > 3:
        evidence = f"the keys of the queue lie {1 + gap:,.1f} times as far from the queries as those of one batch"
    else:
        return None
    chance = c.late("chance")
    stuck = c.late("loss") > 0.98 * chance
    return Finding(
        "queue not informative",
        "ill",
        evidence + (f", and the loss stands at ln(K+1) = {chance:.2f}" if stuck else ""),
        "Push the keys of each batch in after_batch, normalised along the dimension, not along the batch",
    )


def keys_inconsistent(c: Course) -> Finding | None:
    gaps = [(k["queue_gap"], k["step"]) for k in c.looks if "queue_gap" in k]
    momentum = c.number("momentum")
    worst, step = max(gaps, default=(0.0, 0))
    ran_away = sum(g > 1 for g, _ in gaps) >= 2
    if not gaps or not (ran_away or (momentum is not None and momentum < 0.5 and _collapsed(c))):
        return None
    return Finding(
        "inconsistent keys",
        "ill",
        f"at step {step:,} the keys of the queue lay {1 + worst:,.1f} times as far from the queries as fresh ones: the "
        "key encoder moves faster than the queue is renewed",
        f"Raise method.momentum{c.given('momentum')} to 0.99 or 0.999, or shorten method.queue{c.given('queue')}",
    )


def complete_collapse(c: Course) -> Finding | None:
    if not _collapsed(c) or len(c.looks) < LOOKS:
        return None
    gone = c.last_step("z_spread", 0.25)
    fell = "while the loss kept falling" if c.late("loss") < 0.5 * c.early("loss") else "and the loss says nothing"
    return Finding(
        "complete collapse",
        "ill",
        f"from step {gone:,} on nearly all items have one embedding (z spreads over {c.late('z_spread'):.1%} of what "
        f"it could, effective rank {c.late('z_rank'):.1f}) {fell}",
        "The objective needs something that keeps items apart: negatives (method=simclr), or a slow teacher with a "
        "predictor; check that the loss compares with other items",
    )


def dimensional_collapse(c: Course) -> Finding | None:
    dim, rank = (c.checkup.get("z") or {}).get("dim"), c.late("z_rank")
    dim = dim or c.method.get("dim")
    if not dim or len(c.looks) < LOOKS or not rank < max(3.0, 0.06 * dim) or dim < 16:
        return None
    fell = "while the loss fell" if c.late("loss") < 0.95 * c.early("loss") else "and the loss hardly falls"
    return Finding(
        "dimensional collapse",
        "ill" if rank < max(2.0, 0.04 * dim) else "watch",
        f"the effective rank of z is {rank:.0f} of {dim} from step {c.last_step('z_rank', max(3.0, 0.06 * dim)):,} on "
        f"{fell}",
        "Lower the strength of the colour jitter (views.strength=0.5), add a projection layer (method.hidden=2048) or "
        "use method=directclr",
    )


def views_different(c: Course) -> Finding | None:
    if not _at_chance(c, 0.97, after=0.3):
        return None
    chance, loss = c.late("chance"), c.late("loss")
    nearer = c.late("alignment") / (2 * c.late("z_spread") ** 2 + 1e-12)
    if not nearer > 0.75:
        return None
    return Finding(
        "views too different",
        "ill" if _at_chance(c, 0.985, after=0.5) else "watch",
        f"after {c.step:,} steps the loss is {loss:.2f}, where knowing nothing costs {chance:.2f}, and two views of "
        f"one item are no nearer to each other than to those of others ({c.late('matched'):.1%} find theirs)",
        "Make the views easier: larger crops (views.scale=[0.3,1.0]), views.strength=0.5, fewer operations; if they "
        "look right in the report, train longer or raise optimizer.lr",
    )


def stuck(c: Course) -> Finding | None:
    if not _at_chance(c, 0.985, after=0.5):
        return None
    return Finding(
        "stuck at chance",
        "watch",
        f"after {c.step:,} steps the loss is {c.late('loss'):.2f}; knowing nothing costs {c.late('chance'):.2f}",
        "Raise optimizer.lr threefold, train longer, or make the views easier",
    )


def too_easy(c: Course) -> Finding | None:
    if not (c.early("matched") > 0.9 and c.late("matched") > 0.98):
        return None
    return Finding(
        "task too easy",
        "watch",
        f"{c.early('matched'):.0%} of the items found their second view within the first {c.step // 5:,} steps: there "
        "may be a short cut, such as colour, a border or a watermark",
        "Make the views differ more (views.scale, views.strength, views.blur) and look at the pairs in the report",
    )


def _at_chance(c: Course, share: float, after: float) -> bool:
    """Whether the loss is above a share of chance once a share of the run is over; False where there is no chance."""
    return len(c.looks) >= 2 * LOOKS and c.step >= after * c.steps and c.late("loss") > share * c.late("chance")


def _collapsed(c: Course) -> bool:
    return c.late("uniformity") > -0.1


def well(c: Course) -> str:
    """What is said of a run in which nothing was found."""
    said = [f"effective rank of z {c.late('z_rank'):.0f}"]
    if not math.isnan(chance := c.late("chance")):
        said = [f"loss {c.late('loss'):.2f} against {chance:.2f} for knowing nothing", *said]
        others = c.late("negatives") if c.values("negatives") else math.expm1(chance)
        said.append(f"{c.late('matched'):.0%} of the items find their second view among {others:,.0f} others")
    return f"Nothing found: {', '.join(said)}."


CAUSES = (
    views_alike,
    temperature_low,
    leaks,
    queue_empty,
    too_fast,
    keys_inconsistent,
    views_different,
    complete_collapse,
    dimensional_collapse,
    stuck,
    too_easy,
)
