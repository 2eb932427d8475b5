"""Write, load again, compare, keep: no path is returned of an export that its target reads as something else."""

from __future__ import annotations

import io
import json
import logging
import os
import shutil
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ..checkpoint import read_run, sync, writing
from ..errors import UserError, unknown
from ..log import Log
from ..types import Method
from .graphs import FACTS, load_onnx, load_torch_export, write_onnx, write_torch_export
from .huggingface import load_huggingface, write_huggingface
from .subject import Subject, outputs, subject
from .weights import (
    load_safetensors,
    load_timm,
    load_torchvision,
    write_safetensors,
    write_timm,
    write_torchvision,
)

BATCHES = (1, 3, 8)
TOLERANCE = 1e-4  # of the largest value that the encoder gives


class Format(NamedTuple):
    """write makes `files` in a folder; load reads them as the target does. needs: packages. head: can it hold one?"""

    write: Callable[[Subject, Path], None]
    load: Callable[[Subject, Path], Callable[[Tensor], Any]]
    files: tuple[str, ...]
    needs: tuple[str, ...] = ()
    head: bool = True


HUB = ("model.safetensors", "config.json", "preprocessor_config.json", "README.md")
FORMATS = {
    "safetensors": Format(write_safetensors, load_safetensors, ("encoder.safetensors",)),
    "torchvision": Format(
        write_torchvision, load_torchvision, ("encoder.safetensors",), needs=("torchvision",), head=False
    ),
    "timm": Format(write_timm, load_timm, ("model.safetensors", "config.json"), needs=("timm",), head=False),
    "onnx": Format(write_onnx, load_onnx, ("encoder.onnx",), needs=("onnx", "onnxscript", "onnxruntime")),
    "torch-export": Format(write_torch_export, load_torch_export, ("encoder.pt2",)),
    "huggingface": Format(write_huggingface, load_huggingface, HUB),
}


def export_encoder(
    folder: Path,
    encoder: nn.Module,
    to: str,
    *,
    out: Path | None = None,
    method: Method | None = None,
    log: Log | None = None,
) -> Path:
    """Write a trained encoder as FORMATS[to] with preprocessing.json beside it. Returns the new folder.

    folder: the run's, for run.json and evaluation.json.  out: None is RUN/export-FORMAT; an earlier export of the same
    format there is replaced.  method: adds its projection, h -> z.
    It is loaded again by the target's own loader and compared on batches of 1, 3 and 8 random inputs before anything
    appears under `out`. Raises UserError when it differs by more than TOLERANCE, on an unknown format, a missing
    package, an encoder that the format cannot hold, and a folder that holds something else.
    """
    if to not in FORMATS:
        raise unknown("format", to, FORMATS)
    kind, out = FORMATS[to], out or folder / f"export-{to}"
    if method is not None and not kind.head:
        raise UserError(f"--to {to} holds the encoder alone: leave --head out, or use another format")
    needed(to, kind.needs)
    refuse_another(out, to, {*kind.files, FACTS})
    with silent():
        it = subject(encoder, method, read_run(folder), read_figures(folder), Path(os.path.abspath(out)).name)
    with placing(out) as temporary:
        kind.write(it, temporary)
        facts = {"format": to, **it.facts, "compared": compare(it, kind.load(it, temporary), to)}
        (temporary / FACTS).write_text(json.dumps(facts, indent=2) + "\n")
    if log:
        given = ", ".join(f"{k} {shape(v)}" for k, v in facts["outputs"].items())
        gap = facts["compared"]["largest_difference"]
        same = f"equal to {gap:.0e}" if gap else "equal bit for bit"
        log.say(f"image {shape(facts['input']['image'])} -> {given}; loaded again by its own loader and {same}")
        log.say(f"prepare photos: {it.prepare}; see {FACTS}")
    return out


def needed(to: str, packages: Sequence[str]) -> None:
    """Raises UserError when one of the packages that a format needs is missing."""
    if missing := [package for package in packages if find_spec(package) is None]:
        install = missing[0] if len(packages) == 1 else "'twoviews[export]'"
        raise UserError(f"--to {to} needs {' and '.join(missing)}: pip install {install}")


@contextmanager
def placing(out: Path) -> Iterator[Path]:
    """A folder to write in, quietly, that takes the place of `out` when all went well."""
    place = Path(os.path.abspath(out))
    temporary = place.with_name(f".{place.name}.tmp")
    with writing(out), silent():
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        try:
            yield temporary
            for file in temporary.iterdir():
                sync(file)
            if out.exists():
                shutil.rmtree(out)
            os.replace(temporary, out)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def compare(it: Subject, loaded: Callable[[Tensor], Any], to: str) -> dict[str, Any]:
    """How far apart what was loaded and the original are, for preprocessing.json. Raises UserError beyond TOLERANCE."""
    worst = 0.0
    for items in BATCHES:
        x = it.random(items, seed=items)
        with torch.no_grad():
            pairs = zip(outputs(it.network(x)), outputs(loaded(x)), strict=True)
            for ours, theirs in pairs:
                same = ours.shape == theirs.shape
                gap = float((ours - theirs).abs().max() / ours.abs().max().clamp(min=1e-12)) if same else float("nan")
                if not gap <= TOLERANCE:  # also for NaN
                    raise UserError(
                        f"--to {to}: loaded again, {it.encoder_name} gives other values (off by {gap:.2g} of the "
                        f"largest, {TOLERANCE:.0e} is allowed), so nothing was kept: use safetensors"
                    )
                worst = max(worst, gap)
    return {"batches": BATCHES, "largest_difference": worst, "allowed": TOLERANCE, "relative_to": "the largest value"}


def refuse_another(out: Path, to: str, files: set[str]) -> None:
    """Raises UserError when `out` holds anything but an earlier export of this format."""
    if out.suffix in (".onnx", ".pt2", ".pth", ".pt", ".safetensors") and not out.is_dir():
        raise UserError(f"an export is a folder with its preprocessing beside it: give --out {out.with_suffix('')}")
    if not out.exists():
        return
    held = {f.name for f in out.iterdir()} if out.is_dir() else {out.name}
    try:
        earlier = not held or json.loads((out / FACTS).read_text())["format"] == to
    except (OSError, ValueError, KeyError, TypeError):
        earlier = False
    if not earlier or held - files:
        other = min(held - files, default=FACTS)
        raise UserError(f"{out} holds {other}, no part of an earlier export to {to}: choose another folder with --out")


def read_figures(folder: Path) -> dict[str, Any] | None:
    try:
        return json.loads((folder / "evaluation.json").read_text())
    except (OSError, ValueError):  # not measured, or not yet
        return None


def shape(sizes: Sequence[int | str]) -> str:
    return f"({', '.join(map(str, sizes))})"


@contextmanager
def silent() -> Iterator[None]:
    """Exporters talk on all channels; what a user must know is in the error."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
