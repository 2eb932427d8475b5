"""What lies in a run's folder, read for a page. Whatever is missing or cut short is None, never an error."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..checkpoint import read_run
from ..doctor.course import read_json, read_metrics

Curve = tuple[np.ndarray, np.ndarray]  # steps and values, both (N,) float64


@dataclass(frozen=True)
class Record:
    """about: run.json. metrics: the lines of metrics.jsonl. The rest: the file of that name, or None."""

    folder: Path
    about: dict[str, Any]
    metrics: list[dict[str, Any]]
    evaluation: dict[str, Any] | None
    doctor: dict[str, Any] | None
    checkup: dict[str, Any] | None

    @property
    def title(self) -> str:
        return f"{called(self.about['run'], 'method')} on {self.about['data']['name']}"

    def curve(self, name: str) -> Curve:
        """A logged number over the steps at which it was logged; empty where it never was."""
        pairs = [(line["step"], line[name]) for line in self.metrics if _number(line.get(name))]
        steps, values = np.array(pairs, dtype=np.float64).reshape(-1, 2).T
        return steps, values


def read_record(folder: Path) -> Record:
    """Raises UserError where the folder is not a run."""
    parts = (read_json(folder / f"{name}.json") for name in ("evaluation", "doctor", "checkup"))
    return Record(folder, read_run(folder), list(read_metrics(folder)), *parts)


def called(run: dict[str, Any], part: str) -> str:
    """What a part of a run is called: "MoCo" of {"method": {"call": "twoviews.methods.moco:MoCo", ...}}."""
    value = run.get(part)
    return re.split("[:.]", str(value["call"]))[-1] if isinstance(value, dict) and "call" in value else str(value)


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
