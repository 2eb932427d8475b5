"""How every run ends, whatever its items are: best weights, checkup, what was skipped, the verdict, the page."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from .checkpoint import fill, save_weights, weights
from .doctor.course import read_course
from .doctor.diagnosis import Diagnosis
from .doctor.rules import diagnose
from .errors import UserError
from .evaluate.table import Table
from .folder import write_json, write_skipped
from .log import Log
from .types import Method

if TYPE_CHECKING:
    from .fit import Task


def keep_best(folder: Path, method: Method, found: dict[str, Any], by: str) -> None:
    """Keep the weights in RUN/best where `found[by]`, larger is better, beats what lies there."""
    best = folder / "best"
    if found[by] > _kept(best).get(by, -1.0):
        best.mkdir(exist_ok=True)
        save_weights(method, best / "method.safetensors")
        write_json(best / "best.json", found)


def fill_best(folder: Path, method: Method, log: Log) -> None:
    """Give a method the weights of RUN/best, where there are any."""
    best = folder / "best"
    if kept := _kept(best):
        fill(method, weights(best / "method.safetensors"), str(best))
        log.say(f"kept: the weights after epoch {kept['epoch']}")


def measured(
    folder: Path, log: Log, measure: Callable[[], Table], more: Callable[[], dict[str, Any]] = dict
) -> Table | None:
    """Write evaluation.json: the table and what more there is to say, or in one line why there is none."""
    try:
        table = measure()
        write_json(folder / "evaluation.json", table.to_json() | more())
        return table
    except UserError as why:
        write_json(folder / "evaluation.json", {"verdict": f"Not measured: {why}"})
        log.say(f"not measured: {why}")
        return None


def conclude(
    task: Task,
    folder: Path,
    method: Method,
    device: torch.device,
    log: Log,
    skipped: dict[str, str],
    checkup: dict[str, Any],
) -> Diagnosis:
    """Write checkup.json, skipped.csv, doctor.json and the page of a run that has been measured."""
    write_json(folder / "checkup.json", checkup)
    write_skipped(folder / "skipped.csv", skipped)
    diagnosis = diagnose(read_course(folder))
    write_json(folder / "doctor.json", diagnosis.to_json())
    task.report(folder, method, device, log)
    return diagnosis


def _kept(best: Path) -> dict[str, Any]:
    try:
        return json.loads((best / "best.json").read_text())
    except OSError:
        return {}
