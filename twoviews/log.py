"""What a run says while it works: metrics.jsonl, a progress bar, and TensorBoard or W&B where installed and asked for.

Only rank 0 has a log; other ranks get one that is silent.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn

from .errors import UserError, unknown

Sink = tuple[Callable[[int, Mapping[str, float]], None], Callable[[], None]]  # write(step, numbers), close()
console = Console(stderr=True, highlight=False, soft_wrap=True, markup=False)


class Log:
    """Metrics of one run, one JSON object a line, and the line a user watches."""

    def __init__(self, folder: Path | None = None, quiet: bool = False, loggers: tuple[str, ...] = ()):
        self.folder, self.quiet = folder, quiet
        self.sinks = [_sink(name, folder) for name in loggers] if folder else []
        self.file = (folder / "metrics.jsonl").open("a", buffering=1) if folder else None
        self.listeners: list[Callable[[int, Mapping[str, Any]], None]] = []  # called with each line of metrics

    def metrics(self, step: int, values: Mapping[str, Any]) -> None:
        values = finite(values)
        if self.file:
            self.file.write(json.dumps({"step": step, **values}) + "\n")
        for listen in self.listeners:
            listen(step, values)
        numbers = {k: v for k, v in values.items() if isinstance(v, int | float)}
        for write, _ in self.sinks:
            write(step, numbers)

    def forget_after(self, step: int) -> None:
        """Drop lines later than the checkpoint a run goes on from, so that no step is told twice."""
        if not (self.folder and self.file):
            return
        self.file.close()
        path = self.folder / "metrics.jsonl"
        lines = [line for line in path.read_text().splitlines() if _step(line) <= step]
        temporary = path.with_suffix(".tmp")
        temporary.write_text("".join(line + "\n" for line in lines))
        os.replace(temporary, path)
        self.file = path.open("a", buffering=1)

    def say(self, text: str) -> None:
        if not self.quiet:
            console.print(text)

    @contextmanager
    def progress(self, what: str, total: int, done: int = 0, brief: bool = False) -> Iterator[Callable[..., None]]:
        """A bar with the time left; yields `update(done, total, note)`. Without a terminal: a line now and then,
        and one at the end unless what is done is `brief`.
        """
        if self.quiet:
            yield lambda done, total=None, note="": None
        elif console.is_terminal:
            columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(bar_width=24))
            end = (TextColumn("{task.percentage:>3.0f} %"), TextColumn("{task.fields[note]}"), TimeRemainingColumn())
            with Progress(*columns, *end, console=console, transient=True) as bar:
                task = bar.add_task(what, total=total, completed=done, note="")
                yield lambda done, total=None, note="": bar.update(task, completed=done, total=total, note=note)
        else:
            yield _lines(what, total, brief)

    def close(self) -> None:
        if self.file:
            self.file.close()
        for _, close in self.sinks:
            close()


def finite(values: Mapping[str, Any]) -> dict[str, Any]:
    """Without numbers that are not finite, which JSON cannot hold; so with mappings in it."""
    return {
        k: finite(v) if isinstance(v, Mapping) else v
        for k, v in values.items()
        if not isinstance(v, float) or math.isfinite(v)
    }


def _lines(what: str, total: int, brief: bool) -> Callable[..., None]:
    begun = last = time.monotonic()

    def update(done: int, total: int = total, note: str = "") -> None:
        nonlocal last
        now = time.monotonic()
        if now - last > 30 or (done == total and not brief):
            last = now
            print(f"{what} {done:,} of {total:,}  {note}  ({now - begun:.0f} s)", file=sys.stderr, flush=True)

    return update


def _step(line: str) -> float:
    try:
        return json.loads(line)["step"]
    except (ValueError, KeyError):  # a line cut short by a kill
        return float("inf")


def _tensorboard(folder: Path) -> Sink:
    from torch.utils.tensorboard import SummaryWriter

    writer = SummaryWriter(str(folder))

    def write(step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            writer.add_scalar(name, value, step)

    return write, writer.close


def _wandb(folder: Path) -> Sink:
    import wandb

    run_id = hashlib.blake2b((folder / "run.json").read_bytes(), digest_size=8).hexdigest()
    run = wandb.init(project="twoviews", dir=str(folder), name=folder.name, id=run_id, resume="allow")
    return lambda step, values: run.log(dict(values), step=step), run.finish


SINKS: dict[str, Callable[[Path], Sink]] = {"tensorboard": _tensorboard, "wandb": _wandb}


def _sink(name: str, folder: Path) -> Sink:
    if name not in SINKS:
        raise unknown("logger", name, SINKS)
    if find_spec(name) is None:
        raise UserError(f"loggers={name} needs it installed: pip install {name}")
    return SINKS[name](folder)
