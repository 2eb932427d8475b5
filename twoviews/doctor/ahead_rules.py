"""What can be wrong with a run that predicts what comes next (CPC), one function an illness, causes first.

Thresholds were set while looking at runs of a minute on FSDD: healthy ones (negatives from all, from the current item,
two sampled, horizons from 8 on, windows of 8 frames) and sick ones (steps too small and too large, windows of padding).
Bounds are judged as shares of their ceiling log N, so the numbers of candidates need not be alike.
"""

from __future__ import annotations

import math
from statistics import fmean

from .course import Course
from .diagnosis import Finding

FAST, ONE = 0.1, 1.2  # of the weights' length in one step; effective rank of what is one vector
FAIR = 0.5  # of a run, after which something must have been learned
NOTHING, FULL = 0.01, 0.9  # of the ceiling: what is no more than chance, and what leaves nothing to learn


def ceiling_of(c: Course, k: int) -> float:
    """log N at a horizon, in nats; 0 where nothing was predicted."""
    return c.late(f"bound_{k}") + c.late(f"loss_{k}")


def asked(c: Course) -> list[int]:
    """The horizons at which something was predicted, the nearest first."""
    return [k for k in c.horizons if ceiling_of(c, k) > 1e-6]


def shares(c: Course) -> list[float]:
    """The bound over its ceiling at each horizon that was asked."""
    return [c.late(f"bound_{k}") / ceiling_of(c, k) for k in asked(c)]


def too_short(c: Course) -> Finding | None:
    short = c.checkup.get("too_short", 0.0)
    if not (short > 0.3 or (c.looks and not shares(c))):
        return None
    few = f"{short:.0%} of the items have no place" if shares(c) else "no item has a place"
    return Finding(
        "too short to predict",
        "ill" if short > 0.7 or not shares(c) else "watch",
        f"{few} as far ahead as the first horizon{c.given('first')}, so they teach nothing",
        "Lower method.first, leave out the shortest, or take an encoder with a smaller stride",
    )


def steps_too_large(c: Course) -> Finding | None:
    """By steps that moved the weights far, where nothing was learned: the first ones may be large and do no harm."""
    moves = [(k["update"], k["step"]) for k in c.looks if k.get("update", 0) > FAST]
    if not moves or (c.late("h_rank") > ONE and max(shares(c), default=0.0) > NOTHING):
        return None
    worst, step = max(moves)
    return Finding(
        "learning rate too high",
        "ill",
        f"at step {step:,} one step moved the weights by {worst:.0%} of their length, and nothing is predicted since",
        f"Divide optimizer.lr{c.given('lr', 'optimizer')} by 10 or more",
    )


def context_collapsed(c: Course) -> Finding | None:
    rank = c.late("h_rank")
    if not rank < ONE:
        return None
    return Finding(
        "contexts all alike",
        "ill",
        f"the effective rank of h is {rank:.2f} from step {c.last_step('h_rank', ONE):,} on: whatever came before, the "
        "context is one vector",
        f"Divide optimizer.lr{c.given('lr', 'optimizer')} by 10, and see in the report that the views are not silent",
    )


def at_chance(c: Course) -> Finding | None:
    found = shares(c)
    if c.step < FAIR * c.steps or not found or max(found) > NOTHING:
        return None
    k = asked(c)[0]
    return Finding(
        "predicts nothing",
        "ill" if c.step >= 200 else "watch",
        f"after {c.step:,} steps {c.late(f'accuracy_{k}'):.2%} of the places find what follows at horizon {k}, where "
        f"guessing finds {math.exp(-ceiling_of(c, k)):.2%}, and it is no better further on",
        f"Raise optimizer.lr{c.given('lr', 'optimizer')} threefold, train longer "
        f"(epochs={2 * c.about['run']['epochs']}), and see in the report that the windows hold what you expect",
    )


def tells_items_apart(c: Course) -> Finding | None:
    """Near the ceiling at every horizon alike, or only where negatives come from other items."""
    found = shares(c)
    own, others = c.checkup.get("own"), c.checkup.get("others")
    flat = len(found) > 1 and min(found) > FULL and found[-1] > 0.97 * found[0]
    known = own is not None and others is not None and others > 1.0 and own < 0.05 * others
    if not found or not (flat or known):
        return None
    evidence = (
        f"what follows is told from places of other items by {others:.2f} nats, from those of its own item by {own:.2f}"
        if known
        else f"at every horizon alike {c.late(f'accuracy_{asked(c)[-1]}'):.0%} and more find what follows"
    )
    return Finding(
        "tells items apart only",
        "ill" if known and own < 0.01 * others else "watch",  # type: ignore[operator]
        f"{evidence}: level, channel, noise or a voice may give the item away, and nothing need be predicted",
        "Take negatives of the same item (method.negatives=current) or of the same speaker (views.together=8)",
    )


def at_ceiling(c: Course) -> Finding | None:
    found = shares(c)
    if not found or not max(found) > FULL:
        return None
    k = asked(c)[0]
    bound, ceiling = c.late(f"bound_{k}"), ceiling_of(c, k)
    return Finding(
        "bound at its ceiling",
        "watch",
        f"the bound at horizon {k} is {bound:.2f} of at most {ceiling:.2f} nats (log N): the "
        "candidates are too few to tell more",
        f"Give more of them: method.group{c.given('group')} larger, method.sampled=0, or look further ahead "
        "(method.first, method.steps)",
    )


def nearest_only(c: Course) -> Finding | None:
    found = shares(c)
    if len(found) < 3 or c.step < FAIR * c.steps or not (found[0] > 0.1 and max(found[1:]) < 0.1 * found[0]):
        return None
    return Finding(
        "only the nearest is predicted",
        "watch",
        f"at horizon {asked(c)[0]} the bound is {found[0]:.0%} of what it could be, at {asked(c)[1]} "
        f"{found[1]:.1%}: neighbours that share samples or pixels are found, and nothing of what comes later",
        "Begin where places no longer overlap (method.first=2), and train longer",
    )


def mostly_padding(c: Course) -> Finding | None:
    padded = c.checkup.get("padded", 0.0)
    if not padded > 0.5:
        return None
    return Finding(
        "mostly padding",
        "watch",
        f"{padded:.0%} of the places of a batch hold nothing: most items are much shorter than what is cut from them",
        f"Shorten the views (views.length{c.given('length', 'views')}), so that less is computed for nothing",
    )


CAUSES = (too_short, steps_too_large, context_collapsed, at_chance, tells_items_apart, at_ceiling, nearest_only)
BESIDE = (mostly_padding,)


def well(c: Course) -> str:
    """What is said of a run in which nothing was found."""
    ks = asked(c)
    near, far = (f"{c.late(f'accuracy_{k}'):.1%} at horizon {k}" for k in (ks[0], ks[-1]))
    found = f"{near} and {far}" if len(ks) > 1 else near
    chance = math.exp(-fmean(ceiling_of(c, k) for k in ks))
    said = f"loss {c.late('loss'):.2f}, what follows is found in {found}, where guessing finds {chance:.2%}"
    return f"Nothing found: {said}."
