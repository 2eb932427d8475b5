"""What can be wrong with a run on histories, one function an illness, causes before what they cause.

Thresholds were set while looking at small runs made sick on purpose beside healthy ones, on a synthetic Markov log,
MovieLens-100K, and parts of MovieLens-1M and Beauty; docs/healthy.md, "Histories", has the figures.
"""

from __future__ import annotations

import math
from typing import Any

from ..evaluate.score import Score, difference
from .course import Course
from .diagnosis import Finding, few_directions

FEW = 100  # users or items below which a share says little
SETTLED = 0.3  # of a run, before which all users may still get much the same


def same_for_all(c: Course) -> Finding | None:
    """By how much of their lists two users share, beyond chance; while it trains, by how alike the answers are."""
    alike, chance = c.checkup.get("alike", math.nan), c.checkup.get("alike_chance", 0.0)
    blanks = (c.about["run"].get("views") or {}).get(
        "following", 0.0
    )  # the share of the run after which a blank means something
    if c.step <= max(SETTLED, blanks + 0.1) * c.steps:
        return None
    if alike - chance > 0.7 * (1 - chance):
        popular = c.checkup.get("alike_popular", 0.0)
        evidence = (
            f"two users have {alike:.0%} of their ten best in common, whatever they met, and {popular:.0%} of these "
            "are the ten items that occur most"
        )
    elif math.isnan(alike) and c.late("uniformity") > -0.05:
        evidence = f"all blanks get nearly one answer (effective rank of z {c.late('z_rank'):.1f})"
    else:
        return None
    return Finding(
        "recommends the same to all",
        "ill",
        evidence,
        f"Train longer (epochs={_more(c)}), divide optimizer.lr{c.given('lr', 'optimizer')} by 3 where it is above "
        "0.001, or use --recipe sasrec, which learns from every place of a history",
    )


def loss_stands(c: Course) -> Finding | None:
    losses = c.values("loss")
    if len(losses) < 10 or c.step < 0.5 * c.steps or not c.late("loss") > 0.995 * losses[0]:
        return None
    return Finding(
        "does not learn",
        "ill",
        f"after {c.step:,} steps the loss is {c.late('loss'):.2f}; it began at {losses[0]:.2f}",
        f"Raise optimizer.lr{c.given('lr', 'optimizer')}: 0.001 is usual",
    )


def vectors_collapsed(c: Course) -> Finding | None:
    """The effective rank of the item vectors, each as often as it occurs: an unused catalogue is no health."""
    part = c.checkup.get("vectors_met") or {}
    dim, rank = part.get("dim", 0), part.get("rank", math.nan)
    if (level := few_directions(rank, dim)) is None:
        return None
    return Finding(
        "item vectors collapsed",
        level,
        f"the effective rank of the item vectors is {rank:.1f} of {dim}",
        f"Divide optimizer.lr{c.given('lr', 'optimizer')} by 3, lower optimizer.weight_decay"
        f"{c.given('weight_decay', 'optimizer')}, or begin with encoder.init=svd",
    )


def not_better_than_popular(c: Course) -> Finding | None:
    measure, ours, floor = measured(c, "popular")
    if ours is None or floor is None or ahead(c, "popular", ours, floor)[0] > 0:
        return None
    sure = ours.n >= FEW and ours.value <= floor.value
    return Finding(
        "not better than what is popular",
        "ill" if sure else "watch",
        f"{measure} is {_percent(ours.value)}, and {_percent(floor.value)} for recommending to everyone what occurs "
        "most",
        f"Train longer (epochs={_more(c)}), raise optimizer.lr{c.given('lr', 'optimizer')} threefold, and see that "
        "times put the log in order (data.time=NAME)",
    )


def floor_not_beaten(c: Course) -> Finding | None:
    measure, ours, floor = measured(c, "markov")
    if ours is None or floor is None or ahead(c, "markov", ours, floor)[1] >= 0:
        return None
    wider = c.number("width", "encoder")
    other = "" if c.method["call"].endswith(":SASRec") else " or use --recipe sasrec"
    return Finding(
        "floor not beaten",
        "watch",
        f"{measure} is {_percent(ours.value)}, and {_percent(floor.value)} for counting what followed the last items "
        "(markov), which learns nothing",
        f"Train longer (epochs={_more(c)}) or wider (encoder.width={2 * (wider or 64):g}){other}",
    )


def below_floors(c: Course) -> Finding | None:
    return not_better_than_popular(c) or floor_not_beaten(c)


def ignores_order(c: Course) -> Finding | None:
    usual, other = c.checkup.get("ndcg", math.nan), c.checkup.get("ndcg_shuffled", math.nan)
    if not (usual > 0 and other > 0.97 * usual and c.checkup.get("order_high", math.inf) < 0.1 * usual):
        return None
    return Finding(
        "ignores order",
        "watch",
        f"NDCG@10 is {_percent(usual)}, and {_percent(other)} when histories are shuffled before they are read",
        "See that times put the log in order (data.time=NAME) and that encoder.positions is not none; where "
        "histories are sets, this is no fault",
    )


def few_reached(c: Course) -> Finding | None:
    reached, never = c.checkup.get("reached", math.nan), c.checkup.get("never", math.nan)
    taken = c.checkup.get("taken_coverage", math.nan)
    size = c.about["data"].get("catalogue", 0)
    if size < FEW or not (reached < 0.1 and c.checkup["coverage"] < 0.5 * taken):
        return None
    return Finding(
        "few items reached",
        "watch",
        f"{c.checkup['coverage']:.1%} of the catalogue is recommended to anyone, where {taken:.1%} of it was taken "
        f"next, and {never:.0%} of the items met in training never come up",
        f"Train longer (epochs={_more(c)}), use the exact loss (method.loss=chunked) or more method.negatives"
        f"{c.given('negatives')}",
    )


def overfits(c: Course) -> Finding | None:
    if len(c.validation) < 4:
        return None
    best = max(c.validation, key=lambda v: v["ndcg"])
    after = [v["ndcg"] for v in c.validation if v["epoch"] > best["epoch"]]
    losses = [k["loss"] for k in c.looks if k["step"] <= best["step"] and "loss" in k]
    if len(after) < 2 or not max(after[-2:]) < 0.85 * best["ndcg"] or not losses or c.late("loss") > 0.95 * losses[-1]:
        return None
    return Finding(
        "overfits",
        "watch",
        f"NDCG@10 in validation fell from {_percent(best['ndcg'])} after epoch {best['epoch']:,} to "
        f"{_percent(after[-1])} while the loss fell from {losses[-1]:.2f} to {c.late('loss'):.2f}",
        f"The weights of epoch {best['epoch']:,} are kept; to do better raise "
        f"encoder.dropout{c.given('dropout', 'encoder')} or take a smaller encoder.width{c.given('width', 'encoder')}",
    )


def stopped_early(c: Course) -> Finding | None:
    """By how much validation rose over the last quarter, in which the usual schedules hardly move the weights."""
    epochs = c.about["run"]["epochs"]
    before = [v["ndcg"] for v in c.validation if v["epoch"] <= 0.75 * epochs]
    last = c.validation[-1] if c.validation else {}
    if len(before) < 2 or last["epoch"] != epochs or not last["ndcg"] > 1.1 * max(before):
        return None
    return Finding(
        "stopped too early",
        "watch",
        f"NDCG@10 in validation was still rising: {_percent(max(before))} until three quarters of the run, "
        f"{_percent(last['ndcg'])} at its end",
        f"Train longer: epochs={_more(c)}",
    )


def unknown_targets(c: Course) -> Finding | None:
    cold = c.checkup.get("cold", 0.0)
    if not cold > 0.05:
        return None
    return Finding(
        "test items unknown",
        "watch",
        f"{cold:.1%} of the items to be found never occur in training, so no more than {1 - cold:.1%} can be found",
        "Give new items vectors by what they are: twoviews add-items RUN items.csv -o NEW",
    )


def too_short(c: Course) -> Finding | None:
    short = c.checkup.get("short", 0.0)
    if not short > 0.5:
        return None
    return Finding(
        "histories too short",
        "watch",
        f"{short:.0%} of the users have fewer than 3 events in training: little follows anything",
        "See that data.user names the user and not a session or an order; where it does, counting (markov) is hard "
        "to beat",
    )


CAUSES = (loss_stands, same_for_all, vectors_collapsed)
WORSE = (below_floors, ignores_order, few_reached, stopped_early)  # each may be told beside the others
BESIDE = (overfits, unknown_targets, too_short)


def measured(c: Course, floor: str) -> tuple[str, Score | None, Score | None]:
    """A measure of NDCG by name, and what the run and a floor have of it."""
    rows: dict[str, Any] = c.evaluation.get("rows") or {}
    ours = rows.get(c.evaluation.get("ours") or c.method["call"].rpartition(":")[2]) or {}
    name = next((name for name in ours if name.startswith("NDCG@")), "")
    found = (ours.get(name), (rows.get(floor) or {}).get(name))
    return name, *(Score(**cell) if cell else None for cell in found)  # type: ignore[return-value]


def ahead(c: Course, floor: str, ours: Score, other: Score) -> tuple[float, float]:
    """The interval of ours less a floor's: user by user where the checkup has it, else as if drawn independently."""
    low, high = c.checkup.get(f"ahead_of_{floor}") or difference(ours, other)
    return low, high


def well(c: Course) -> str:
    """What is said of a run in which nothing was found."""
    said: list[str] = []
    for floor, words in (("popular", "what is popular"), ("markov", "markov")):
        measure, ours, other = measured(c, floor)
        if ours is not None and other is not None:
            said += [] if said else [f"{measure} {_percent(ours.value)}"]
            said.append(f"{_percent(other.value)} for {words}")
    if "alike" in c.checkup:
        said.append(f"two users share {c.checkup['alike']:.0%} of their ten best")
    if not said:
        said = [f"effective rank of z {c.late('z_rank'):.0f}"]
    return f"Nothing found: {', '.join(said)}."


def _percent(share: float) -> str:
    return f"{100 * share:.2f} %"


def _more(c: Course) -> int:
    return 3 * int(c.about["run"]["epochs"])
