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
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from .checkpoint import read_run, steps, writing
from .errors import UserError

LOCK = ".lock"
FREE = ("workers", "loggers", "shard", "recompute")  # settings that change no result
MEND = "choose another folder with --out or start over in this one with --fresh"


def free_folder(out: Path, about: dict[str, Any]) -> Path:
    """`out`, or out-2, out-3 ...: the first that is free or holds this very run."""
    for number in range(1, 1000):
        try:
            return refuse_another(out if number == 1 else out.with_name(f"{out.name}-{number}"), about)
        except UserError:
            continue
    raise UserError(f"{out} and {out}-2 to {out}-999 hold other runs: {MEND}")


def refuse_another(out: Path, about: dict[str, Any], fresh: bool = False) -> Path:
    """`out`; raises UserError when it holds the weights of another run, was begun on other data, or is no run."""
    if not (out / "run.json").exists():
        if out.exists() and (not out.is_dir() or any(f.name != LOCK for f in out.iterdir())):
            raise UserError(f"{out} is not empty and not a run: choose another folder with --out")
        return out
    if fresh or not steps(out):
        return out
    before = read_run(out)
    there, here = _flat(before["run"]), _flat(about["run"])
    for key in here | there:
        if here.get(key) != there.get(key):
            raise UserError(
                f"{out} holds another run ({key} is {there.get(key)!r} there, {here.get(key)!r} here): {MEND}"
            )
    if before["data"] != about["data"]:
        then, now = before["data"]["items"], about["data"]["items"]
        raise UserError(
            f"the data has changed since {out} was begun ({then} items then, {now} now): put it back, {MEND}"
        )
    return out


@contextmanager
def locked(out: Path, leads: bool = True) -> Iterator[None]:
    """Let no second process train in this folder. The lock goes with the process, however it ends."""
    if not leads:
        yield
        return
    if find_spec("fcntl") is None:  # Windows
        out.mkdir(parents=True, exist_ok=True)
        yield
        return
    import fcntl

    with writing(out):
        out.mkdir(parents=True, exist_ok=True)
        file = (out / LOCK).open("w")
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise UserError(f"another process is training in {out}: wait for it, or choose another --out") from None
        yield


def open_folder(out: Path, about: dict[str, Any], fresh: bool = False) -> bool:
    """Make the folder of a run that `refuse_another` let pass; one that can go on is left as it is.

    Returns whether a run had been begun here of which nothing was left to go on from.
    """
    if steps(out) and not fresh:
        return False
    begun = (out / "run.json").exists()
    with writing(out):
        for old in out.iterdir():
            if old.is_dir():
                shutil.rmtree(old)
            elif old.name != LOCK:
                old.unlink()
    write_json(out / "run.json", about)
    return begun and not fresh


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
    """Nested settings as {"method.queue": 4096}, without those that change no result and so may differ."""
    if not isinstance(value, dict):
        return {prefix: value}
    inner = (_flat(v, f"{prefix}.{k}" if prefix else k) for k, v in value.items() if k not in FREE)
    return {k: v for part in inner for k, v in part.items()}
