"""What can be wrong with what a run on videos has learned: its score does not need the order of frames."""

from __future__ import annotations

from ..evaluate.table import CHANCE, H
from .course import Course
from .diagnosis import Finding

NEEDED = 0.95  # of the score that shuffled frames give, above which it does not show time


def order_unused(c: Course) -> Finding | None:
    rows = c.evaluation.get("rows") or {}
    ours, mixed, chance = (rows.get(row, {}).get("linear") for row in (H, f"{H}, shuffled", CHANCE))
    if not (ours and mixed and chance) or not ours["low"] > chance["value"]:
        return None  # no video, or nothing learned whose order could matter
    if mixed["value"] < NEEDED * ours["value"]:
        return None
    return Finding(
        "order of frames unused",
        "watch",
        f"the linear probe has {ours['value']:.1%} with frames in order and {mixed['value']:.1%} with frames shuffled: "
        "the score does not show that time is seen",
        "If motion matters, measure on labels that need it, take an encoder with attention over time "
        "(encoder=timesformer, vivit3) and clips that move more (views.stride larger)",
    )
