"""From a Run to a folder that explains itself: data, training, the finished encoder, measures, a page."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch

from . import dist
from .build import build, describe, find_device, make_optimizer, sharded, untrained, whole
from .calls import function
from .checkpoint import steps
from .data.documents import Documents
from .data.graph import Graph
from .data.histories import Histories
from .data.once import taken
from .data.sounds import Sounds
from .data.text import Corpus
from .data.videos import Videos
from .doctor.diagnosis import Diagnosis
from .doctor.watch import Watch
from .errors import DataError, UserError
from .evaluate.table import Table
from .fit_documents import DocumentTask
from .fit_gtn import GTNTask
from .fit_histories import HistoryTask
from .fit_photos import PhotoTask
from .fit_sounds import SoundTask
from .fit_tables import TableTask
from .fit_videos import VideoTask
from .folder import free_folder, locked, open_folder, refuse_another, write_skipped
from .log import Log, console
from .methods.gtn import GTN
from .recompute import lean
from .run import Run
from .types import Method, Source


class Task(Protocol):
    """What of a run depends on what its items are: the files fit_*.py."""

    @property
    def run(self) -> Run:
        """With what only the data knows."""
        ...

    @property
    def source(self) -> Source:
        """What is trained on."""
        ...

    def loader(self, device: torch.device, log: Log) -> Any: ...

    @property
    def parts(self) -> str:
        """What the larger parts of the data are."""
        ...

    def lost(self) -> dict[str, str]:
        """Those that cannot be read, with the reason."""
        ...

    def begin(self, method: Method, log: Log) -> None:
        """Set the weights that start from the data."""
        ...

    def learn(self, method: Method, loader: Any, optimizer: torch.optim.Optimizer, **how: Any) -> int:
        """Train, with what `train` takes beside the run's own settings."""
        ...

    def watch(self, method: Method, folder: Path, device: torch.device) -> Callable[[int], dict[str, Any]]:
        """What is looked at between epochs, on all ranks; what rank 0 returns is logged."""
        ...

    def checkup(self, method: Method, device: torch.device) -> dict[str, Any]:
        """A close look at the network, as checkup.json holds it."""
        ...

    def report(self, folder: Path, method: Method, device: torch.device, log: Log, out: Path | None = None) -> Path:
        """Write the page, RUN/index.html where `out` is None."""
        ...

    def finish(
        self, folder: Path, method: Method, device: torch.device, log: Log, skipped: dict[str, str]
    ) -> tuple[Table | None, Diagnosis]:
        """What a finished run leaves: the encoder alone, the measures, the page. On rank 0."""
        ...


@dataclass
class Result:
    """What `fit` leaves: the folder, the method with its trained encoder, on rank 0 the measures and the diagnosis.

    Of a run with shard=True only rank 0 has the whole method.
    """

    folder: Path
    run: Run
    method: Method
    table: Table | None
    rank: int = 0
    diagnosis: Diagnosis | None = None


def open_task(run: Run) -> Task:
    source = taken(run.data)
    if isinstance(source, Histories):
        return HistoryTask(run, source)
    if isinstance(source, Graph) and function(run.method) is GTN:
        return GTNTask(run, source)
    if isinstance(source, Graph | Corpus):
        return TableTask(run, source)
    if isinstance(source, Sounds):
        return SoundTask(run, source)
    if isinstance(source, Documents):
        return DocumentTask(run, source)
    if isinstance(source, Videos):
        return VideoTask(run, source)
    return PhotoTask(run, source)


def fit(
    run: Run,
    out: str | Path,
    *,
    device: str | None = None,
    fresh: bool = False,
    quiet: bool = False,
    say: tuple[str, ...] = (),
    number: bool = False,
    stop_when_ill: bool = False,
) -> Result:
    """Train a run in the folder `out` and measure it there; goes on where an earlier call was stopped.

    fresh:  throw away what the folder holds.  say: lines to print first, such as what was chosen and why.
    number: where `out` holds another run, take out-2, out-3 ... instead of refusing.
    stop_when_ill: end the training when the doctor has called the run ill twice in a row.
    Raises UserError on anything a user can mend, TrainingError when the loss is not finite or the run is stopped as
    ill, Interrupted on a signal.
    """
    with dist.launched(find_device(device)) as where:
        leads = dist.rank() == 0
        task = open_task(run)
        run, source = task.run, task.source
        about = describe(run, source)
        one_data(about["data"])
        folder = Path(out)
        if leads:
            folder = free_folder(folder, about) if number else refuse_another(folder, about, fresh)
        folder = dist.from_leader(folder)
        early = Log(quiet=quiet or not leads)
        for line in (*say, f"run folder: {folder}"):
            early.say(line)
        goes_on = bool(steps(folder)) and not fresh
        method = untrained(run) if goes_on else build(run)  # a file of weights may be gone: a checkpoint holds all
        if loaded := getattr(method.encoder, "loaded", None):
            early.say(str(loaded))
        plain = run.shard or any(p.ndim == 5 for p in method.parameters())  # FSDP2, convolutions over time: no other
        layout = torch.contiguous_format if plain else torch.channels_last
        with lean(method, run.micro_batch, run.recompute):  # can it be?
            pass
        loader = task.loader(where, early)
        if not goes_on:
            task.begin(method, early)
        method = method.to(where).to(memory_format=layout)
        method = sharded(method, where) if run.shard else method
        optimizer = make_optimizer(run, method)
        # All that can be wrong has been tried: from here on the folder is written.
        with locked(folder, leads):
            if leads:
                if open_folder(folder, about, fresh):
                    early.say("it was begun before, but stopped ahead of its first checkpoint: starting over")
                write_skipped(folder / "skipped.csv", loader.skipped)
            dist.barrier()
            with closing(Log(folder if leads else None, early.quiet, run.loggers)) as log:
                lost = task.lost()
                if lost:
                    log.say(f"{len(lost):,} {task.parts} could not be read whole; see skipped.csv there")
                if broken := len(loader.skipped.keys() - lost):
                    log.say(f"{broken:,} of {len(source):,} items could not be read; see skipped.csv there")
                doctor = Watch(folder, log.say, stop_when_ill)
                told = dict(loader.skipped)

                def tell() -> None:
                    """List what any rank could not read: who goes on from a checkpoint does not meet it again."""
                    news = dist.from_all(dict(loader.skipped.items() - told.items()))
                    for found in news:
                        loader.skipped.update(found)
                    told.update(loader.skipped)
                    if leads and any(news):
                        write_skipped(folder / "skipped.csv", loader.skipped)

                log.listeners += [doctor.see] if leads else []
                try:
                    task.learn(
                        method,
                        loader,
                        optimizer,
                        device=where,
                        folder=folder,
                        log=log,
                        every_epoch=task.watch(method, folder, where),
                        stop=doctor.reason,
                        before_save=tell,
                    )
                except DataError as why:
                    if not leads:  # rank 0 has not met it and will end without a word of it
                        console.print(f"process {dist.rank()}: {why}")
                    raise
                result = Result(folder, run, whole(run, method, where), None, dist.rank())
                if leads:
                    result.table, result.diagnosis = task.finish(folder, result.method, where, log, loader.skipped)
            dist.barrier()
    return result


def one_data(about: dict[str, Any]) -> None:
    """Raises UserError, on all ranks, where one sees other data than rank 0: they would wait for each other forever."""
    first, *others = dist.from_all(about)
    for rank, other in enumerate(others, 1):
        if other != first:
            raise UserError(
                f"process {rank} sees other data ({other['items']:,} items) than process 0 ({first['items']:,} items): "
                "give all hosts the same files, and start again where one could not be reached"
            )
