"""The parts of a run made real: its device, sources, method, optimizer and loader."""

from __future__ import annotations

import shlex
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from . import dist, fsdp
from .calls import PACKAGE
from .checkpoint import fill, load, steps, tensors, unfetched, weights
from .data.histories import Histories
from .data.loader import Loader, cores
from .data.videos import Videos
from .ema import EMA
from .errors import UserError
from .evaluate.split import holdout, is_stream, tail
from .folder import hardware, versions
from .log import Log
from .norm import set_batchnorm
from .recompute import blocks_of
from .run import Run
from .train import Batches, train
from .types import Method, Source

MEASURED = 2000  # items that are held out at most


def find_device(name: str | None) -> torch.device:
    """The device of that name; None: a GPU when there is one. Raises UserError on a device that is not there."""
    gpus = torch.cuda.device_count()
    try:
        device = torch.device(name or ("cuda" if gpus else "cpu"))
    except RuntimeError:
        raise UserError(f"device must be cpu, cuda or cuda:NUMBER, got '{name}'") from None
    if device.type not in ("cpu", "cuda"):
        raise UserError(f"device must be cpu, cuda or cuda:NUMBER, got '{name}'")
    if device.type == "cuda" and (device.index or 0) >= gpus:
        raise UserError(f"device '{name}' is not there: torch sees {gpus} CUDA devices; use --device cpu")
    return device


def sources(run: Run, source: Source | None = None) -> tuple[Source, Source]:
    """What to train on and what to measure on: `run.test`, or a share held out of the data (`source`, where open)."""
    source = run.data() if source is None else source
    if run.test is not None:
        return source, run.test()
    if not run.holdout:
        return source, source
    n = len(source)
    if n < 4:
        few = "none can be held out of so few; give at least 4, or holdout=0 to measure on all"
        raise UserError(f"{source.name} holds {n} items: {few}")
    share = min(max(run.holdout, 2 / n), max(MEASURED / n, 2 / n))
    if is_stream(source):
        return tail(source, share)
    try:
        rest, held = holdout(n if source.labels is None else source.labels, share)  # of every class alike
    except UserError:  # too few of each
        rest, held = holdout(n, share)
    return source.subset(rest), source.subset(held)


def build(run: Run) -> Method:
    """The method with its encoder as they are before training; equal for equal seeds."""
    torch.manual_seed(run.seed)
    method = run.method(run.encoder())
    if not isinstance(method, Method):
        raise UserError(f"a method must be a subclass of twoviews.Method, got {type(method).__name__}")
    return set_batchnorm(method, run.batchnorm)  # type: ignore[return-value]


def sharded(method: Method, device: torch.device) -> Method:
    """The method with its weights spread over the processes, block by block; so are its slow copies. In place."""
    networks = [method.encoder, *(m for ema in method.modules() if isinstance(ema, EMA) for m in ema.modules_)]
    return fsdp.sharded(method, [b for network in networks for b in blocks_of(network)], device)  # type: ignore[return-value]


def whole(run: Run, method: Method, device: torch.device) -> Method:
    """The method as rank 0 can use it alone: itself, or of a sharded one a copy. All ranks must ask."""
    if not fsdp.is_sharded(method):
        return method
    weights = tensors(method)
    if dist.rank() != 0:
        return method
    copy = untrained(run).to(device)
    fill(copy, weights, "the shards")
    return copy


def make_optimizer(run: Run, method: Method) -> torch.optim.Optimizer:
    try:
        return run.optimizer(method)
    except ValueError as error:  # torch's words for a learning rate below 0, say
        raise UserError(f"optimizer: {error}") from None


def learn(run: Run, method: Method, batches: Batches, optimizer: torch.optim.Optimizer, **how: Any) -> int:
    """`train` a network with the settings of its run. how: what else `train` takes."""
    settings: dict[str, Any] = {"epochs": run.epochs, "precision": run.precision, "clip": run.clip, "seed": run.seed}
    settings |= {"micro_batch": run.micro_batch, "recompute": run.recompute}
    return train(method, batches, optimizer, run.schedule, **settings, **how)


def untrained(run: Run) -> Method:
    """The method with nothing learned: not even weights from elsewhere that the run begins with."""
    return build(replace(run, encoder=unfetched(run.encoder)))


def trained(run: Run, folder: Path) -> Method:
    """The method with the weights that a run kept as its best, else with those of its last checkpoint."""
    if (best := folder / "best" / "method.safetensors").exists():
        method = untrained(run)
        fill(method, weights(best), str(best))
        return method
    found = steps(folder)
    if not found:
        raise UserError(f"{folder} has no weights: it has not reached its first checkpoint, or diverged before")
    method = untrained(run)
    load(found[-1], method)
    if hasattr(method, "finish"):  # of tables: what is done once they are trained
        method.finish()  # type: ignore[operator]
    return method


def make_loader(run: Run, source: Source, device: torch.device, log: Log) -> Loader:
    with log.progress("reading", len(source)) as bar:
        return Loader(
            source,
            run.views(),
            run.batch_size,
            accumulate=run.accumulate,
            seed=run.seed,
            device=device,
            workers=run.workers,
            memory=run.memory,
            progress=bar,
        )


def describe(run: Run, source: Source) -> dict[str, Any]:
    """What run.json holds."""
    data = {
        "name": source.name,
        "items": len(source),
        "classes": source.classes,
        "fingerprint": source.fingerprint(),
    }
    if isinstance(source, Histories):
        data |= {"events": source.events, "catalogue": source.catalogue, "split": source.split}
    for known in ("rows", "rate", "words"):
        if hasattr(source, known) and not isinstance(source, Videos):
            data[known] = getattr(source, known)
    if isinstance(source, Videos):
        data["videos"] = len(set(source.file.tolist()))
    return {"run": run.to_json(), "data": data, "versions": versions(), "hardware": hardware(), "command": command()}


def of_histories(about: dict[str, Any]) -> bool:
    """Whether a run, by its run.json, learned from histories."""
    return "catalogue" in about["data"]


def of_tables(about: dict[str, Any]) -> bool:
    """Whether a run, by its run.json, has a table of vectors: it learned from a graph or a text."""
    return "rows" in about["data"]


def of_sounds(about: dict[str, Any]) -> bool:
    """Whether a run, by its run.json, learned from recordings."""
    return "rate" in about["data"]


def of_documents(about: dict[str, Any]) -> bool:
    """Whether a run, by its run.json, learned from sentences of documents."""
    return "words" in about["data"]


def of_videos(about: dict[str, Any]) -> bool:
    """Whether a run, by its run.json, learned from videos."""
    return "videos" in about["data"]


def command() -> str:
    """The command line of this process, to repeat it."""
    program = Path(sys.argv[0])
    if PACKAGE not in (program.stem, program.parent.name):
        return "begun from Python: twoviews.fit(run, folder) with the settings below"
    ranks = f"torchrun --nproc-per-node {dist.world()} -m " if dist.world() > 1 else ""
    return ranks + shlex.join([PACKAGE, *sys.argv[1:]])


def readers(source: Source) -> int:
    """Worker processes to read a source with, none for a small one."""
    return cores() if len(source) > 2000 else 0
