"""A run's folder, which explains itself.

run.json         the run with every value resolved, what the data was, versions and hardware
metrics.jsonl    one JSON object a line: step, loss, learning rate, items a second, share of time waiting for data
checkpoints/     the last two
skipped.csv      items that could not be read, with the reason
encoder.safetensors, evaluation.json, index.html    written at the end
"""

from __future__ import annotations

import csv
import json
import os
import platform
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .checkpoint import read_run, writing
from .errors import UserError

MEND = "choose another folder with --out or start over in this one with --fresh"


def open_folder(out: Path, run: dict[str, Any], data: dict[str, Any], command: str, fresh: bool = False) -> None:
    """Make the folder of a run, or check that it holds this very run so that it can go on.

    Raises UserError when it holds another run or something else.
    """
    if fresh and (out / "run.json").exists():
        shutil.rmtree(out)
    if (out / "run.json").exists():
        before = read_run(out)
        there, here = _flat(before["run"]), _flat(run)
        for key in here:
            if here[key] != there.get(key):
                raise UserError(
                    f"{out} holds another run ({key} is {there.get(key)!r} there, {here[key]!r} here): {MEND}"
                )
        if before["data"] != data:
            then, now = before["data"]["items"], data["items"]
            raise UserError(f"the data has changed since {out} was begun ({then} items then, {now} now): {MEND}")
        return
    with writing(out):
        if out.exists() and any(out.iterdir()):
            raise UserError(f"{out} is not empty and not a run: choose another folder with --out")
        out.mkdir(parents=True, exist_ok=True)
        about = {"run": run, "data": data, "versions": versions(), "hardware": hardware(), "command": command}
        write_json(out / "run.json", about)


def write_json(path: Path, value: Any) -> None:
    with writing(path):
        temporary = path.with_suffix(".tmp")
        temporary.write_text(json.dumps(value, indent=2) + "\n")
        os.replace(temporary, path)


def write_skipped(path: Path, skipped: Mapping[str, str]) -> None:
    """key,reason for every item that could not be read; adds to what is there."""
    if not skipped:
        return
    known = {}
    if path.exists():
        with path.open(newline="") as f:
            known = {row["key"]: row["reason"] for row in csv.DictReader(f)}
    with writing(path), path.open("w", newline="") as f:
        writer = csv.writer(f)
        writer.writerow(["key", "reason"])
        writer.writerows(sorted({**known, **skipped}.items()))


def versions() -> dict[str, str]:
    import numpy
    import PIL
    import torch

    from . import __version__

    found = {"twoviews": __version__, "torch": torch.__version__, "numpy": numpy.__version__, "pillow": PIL.__version__}
    return found | {"python": platform.python_version()}


def hardware() -> dict[str, Any]:
    import torch

    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {"machine": platform.machine(), "system": platform.system(), "cores": os.cpu_count(), "gpus": gpus}


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    """Nested settings as {"method.queue": 4096}. How many workers read changes no result, so it may differ."""
    if not isinstance(value, dict):
        return {prefix: value}
    inner = (_flat(v, f"{prefix}.{k}" if prefix else k) for k, v in value.items() if k not in ("workers", "loggers"))
    return {k: v for part in inner for k, v in part.items()}
