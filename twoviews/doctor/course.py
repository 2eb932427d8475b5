"""The course of a run as the doctor reads it: what was logged, what the run is, what its checkups found."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from ..checkpoint import read_run
from ..errors import UserError
from ..log import finite

EARLY, LATE = 0.2, 0.3  # shares of the looks that count as the beginning and as the end
LOOKS, STEPS = 5, 20  # before which nothing is said about embeddings


@dataclass
class Course:
    """looks: the records of metrics.jsonl that look at embeddings, by step.

    waits: the share of a step's time spent waiting for data, and its seconds.
    validation: the records of a run on histories that hold what was measured while it trained.
    about: run.json. checkup: the last one, {} where there was none. evaluation: evaluation.json, {} likewise.
    step: the last one that was logged. bad: the step at which the loss was not finite.
    """

    about: Mapping[str, Any]
    looks: list[Mapping[str, Any]] = field(default_factory=list)
    waits: list[tuple[float, float]] = field(default_factory=list)
    validation: list[Mapping[str, Any]] = field(default_factory=list)
    checkup: Mapping[str, Any] = field(default_factory=dict)
    evaluation: Mapping[str, Any] = field(default_factory=dict)
    step: int = 0
    bad: int | None = None

    def add(self, record: Mapping[str, Any]) -> None:
        """One line of metrics.jsonl."""
        record = finite(record)
        self.step = record.get("step", self.step)
        if "z_rank" in record:
            self.looks.append(record)
        if record.get("items_per_second") and "data_wait" in record and len(self.waits) < 10_000:
            step = self.about["run"]["batch_size"] / record["items_per_second"]
            self.waits.append((record["data_wait"], record["data_wait"] * step))
        if "ndcg" in record:
            self.validation.append(record)
        if "checkup" in record:
            self.checkup = record["checkup"]
        if "not_finite" in record:
            self.bad = record["not_finite"]

    @property
    def steps(self) -> int:
        """Of the whole run, as far as run.json tells."""
        run = self.about["run"]
        return max(self.step, run["epochs"] * (self.about["data"]["items"] // max(run["batch_size"], 1)))

    @property
    def method(self) -> Mapping[str, Any]:
        return self.about["run"]["method"]

    @property
    def of_histories(self) -> bool:
        return "catalogue" in self.about["data"]

    @property
    def of_tables(self) -> bool:
        """Of a graph or a text."""
        return "rows" in self.about["data"]

    @property
    def horizons(self) -> list[int]:
        """How far ahead each prediction is, the nearest first, of a run that predicts what comes next; else []."""
        names = {name for look in self.looks[:1] + self.looks[-1:] for name in look}
        return sorted(int(name.removeprefix("bound_")) for name in names if re.fullmatch(r"bound_\d+", name))

    def number(self, name: str, part: str = "method") -> float | None:
        """A setting of the run; None where it was not given or is no number."""
        value = self.about["run"][part].get(name)
        return value if isinstance(value, int | float) else None

    def given(self, name: str, part: str = "method") -> str:
        """The setting as words to set behind its name, " (now 0.2)"; "" where there are none."""
        value = self.number(name, part)
        return "" if value is None else f" (now {value:g})"

    def values(self, key: str) -> list[float]:
        return [v for look in self.looks if (v := look.get(key)) is not None and math.isfinite(v)]

    def early(self, key: str) -> float:
        """The median over the first fifth of the looks, NaN where there is nothing."""
        values = self.values(key)
        return median(values[: max(3, round(EARLY * len(values)))]) if values else math.nan

    def late(self, key: str) -> float:
        """The median over the last looks."""
        values = self.values(key)
        return median(values[-max(3, round(LATE * len(values))) :]) if values else math.nan

    def last_step(self, key: str, beyond: float) -> int:
        """The step from which on `key` stayed below a value; the last step where it did not."""
        step = self.step
        for look in reversed(self.looks):
            if not look.get(key, math.inf) < beyond:
                break
            step = look["step"]
        return step


def read_course(folder: str | Path) -> Course:
    """The course of the run in `folder`. Raises UserError when that is no run or nothing was logged."""
    folder = Path(folder)
    course = Course(read_run(folder), evaluation=read_json(folder / "evaluation.json") or {})
    for record in read_metrics(folder):
        course.add(record)
    if final := read_json(folder / "checkup.json"):
        course.checkup = finite(final)
    if not course.step and course.bad is None:
        raise UserError(f"{folder} has no steps yet: nothing to diagnose; let it train and ask again")
    return course


def read_metrics(folder: Path) -> Iterator[dict[str, Any]]:
    """The lines of metrics.jsonl; none where it is missing, and without one that was cut short by a kill."""
    try:
        text = (folder / "metrics.jsonl").read_text(errors="replace")
    except OSError:
        return
    for line in text.splitlines():
        try:
            values = json.loads(line)
        except ValueError:
            continue
        if isinstance(values, dict) and isinstance(values.get("step"), int):
            yield values


def read_json(path: Path) -> dict[str, Any] | None:
    """What a file of a run's folder holds; None where it is missing or cut short."""
    try:
        value = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None
