"""What the doctor asks of a run, by what it learns from: causes before what they cause, one function an illness.

Each reads the course of a run and returns a Finding or None. The first cause that is found explains the symptoms
below it, so a run gets one name, and beside it only what has nothing to do with that. Where the thresholds come from
is in docs/healthy.md: runs made sick on purpose by benchmarks/sick.py.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from . import ahead_rules as of_ahead
from . import hidden_rules as of_hidden
from . import history_rules as of_histories
from . import pair_rules as of_pairs
from . import table_rules as of_tables
from .common_rules import diverged, known_test, reads_labels, starved, too_fast
from .course import LOOKS, STEPS, Course
from .diagnosis import Diagnosis, Finding
from .video_rules import order_unused

Rule = Callable[[Course], Finding | None]


class Rules(NamedTuple):
    """What is asked in turn until a cause is found, where there is none, and always; what is said where all is well."""

    causes: tuple[Rule, ...]
    worse: tuple[Rule, ...]
    beside: tuple[Rule, ...]
    well: Callable[[Course], str]


MEASURED = (reads_labels, known_test, order_unused, starved)
PAIRS = Rules(of_pairs.CAUSES, (), MEASURED, of_pairs.well)
AHEAD = Rules(of_ahead.CAUSES, (), (*MEASURED[:2], *of_ahead.BESIDE, *MEASURED[2:]), of_ahead.well)
HIDDEN = Rules((too_fast, *of_hidden.CAUSES), (), MEASURED, of_hidden.well)
HISTORIES = Rules(
    (too_fast, *of_histories.CAUSES), of_histories.WORSE, (*of_histories.BESIDE, starved), of_histories.well
)
TABLES = Rules(of_tables.CAUSES, of_tables.WORSE, of_tables.BESIDE, of_tables.well)


def rules_of(course: Course) -> Rules:
    if course.of_histories:
        return HISTORIES
    if course.of_tables:
        return TABLES
    if course.horizons:  # it predicts, whatever it reads
        return AHEAD
    if course.values("explained"):  # it draws what is hidden
        return HIDDEN
    return PAIRS


def diagnose(course: Course) -> Diagnosis:
    """The verdict on a run: the first cause that is found, and beside it what has nothing to do with it."""
    causes, worse, beside, well = rules_of(course)
    early = too_early(course)
    cause = of_tables.diverged(course) if course.of_tables else diverged(course)
    if cause is None and not early:
        cause = next((f for rule in causes if (f := rule(course))), None)
        beside = beside if cause else (*worse, *beside)
    found = [cause, *(rule(course) for rule in beside)]
    findings = sorted((f for f in found if f), key=lambda f: f.level != "ill")
    said = ""
    if not findings:
        said = still_early(course) if early and not course.of_tables else well(course)
    return Diagnosis(course.step, tuple(findings), said, early)


def too_early(c: Course) -> bool:
    if c.of_tables:  # which may be of few steps, and are looked at when they have been taken
        return not c.checkup.get("vectors")
    return len(c.looks) < LOOKS or c.step < STEPS


def still_early(c: Course) -> str:
    return f"Too early to say after {c.step} steps; {STEPS} are needed, and {LOOKS} looks at the embeddings."
