"""What of a run depends on its items being recordings: windows to learn from, pieces to look at, measures, page."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

from .build import learn, make_loader, readers, sources, untrained
from .checkpoint import save_encoder
from .data.loader import Loader
from .data.sounds import Sounds, notes_of_sounds
from .doctor.diagnosis import Diagnosis
from .encoders.wave import Wave
from .ending import conclude, measured
from .errors import UserError
from .evaluate.sounds import measure_sounds
from .evaluate.split import portion
from .evaluate.table import Table
from .fit_photos import look, watch
from .log import Log
from .methods.cpc import CPC
from .report.sounds import write_sound_report
from .run import Run
from .types import Features, Method

WINDOWS = 4  # of training that a piece of a long recording has room for: an epoch sees one of each piece
LOOKED = 10.0  # seconds of a piece that checkups look at


class SoundTask:
    """A run on recordings, as `fit` sees it."""

    parts = "recordings"

    def __init__(self, run: Run, source: Sounds):
        self.source, self.test = (open_sounds(side) for side in sources(run, source))
        self.run = run.resolved(self.source)
        length = getattr(self.run.views(), "length", None)
        if length is None:
            raise UserError("recordings need views=windows, or views=two_sounds for methods that compare two views")
        longest = int(self.source.length.max())
        if length > max(2 * longest, self.source.rate):  # it may be too long for memory, too
            raise UserError(f"views.length={length:,} is mostly padding: the longest recording has {longest:,} samples")
        self.pieces = self.source.cut(WINDOWS * length / self.source.rate)
        self.looked = self.pieces, self.test.cut(LOOKED)

    def loader(self, device: torch.device, log: Log) -> Loader:
        for line in notes_of_sounds(self.source):
            log.say(line)
        loader = make_loader(self.run, self.pieces, device, log)
        loader.skipped |= self.source.notes
        return loader

    def lost(self) -> dict[str, str]:
        """Recordings that are left out, as far as their headers tell."""
        return self.source.notes

    def begin(self, method: Method, log: Log) -> None:
        """Weights that start from the data: none."""
        if self.run.start is not None:
            raise UserError("start=RUN goes on with a run on histories; leave it out for recordings")
        longest = int(self.pieces.length.max())
        heard = method.encoder
        if isinstance(method, CPC) and isinstance(heard, Wave) and heard.frames(longest) <= method.first:
            raise UserError(
                f"no recording reaches from one frame to what is predicted, method.first={method.first} ahead: "
                f"the longest has {longest:,} samples; give longer ones"
            )

    def learn(self, method: Method, loader: Any, optimizer: torch.optim.Optimizer, **how: Any) -> int:
        return learn(self.run, method, loader, optimizer, **how)

    def watch(self, method: Method, folder: Path, device: torch.device) -> Callable[[int], dict[str, Any]]:
        learned, judged = map(portion, self.looked)
        return watch(self.run, method, learned, judged, device)

    def checkup(self, method: Method, device: torch.device) -> dict[str, Any]:
        return look(self.run, method, *self.looked, device)

    def report(self, folder: Path, method: Method, device: torch.device, log: Log, out: Path | None = None) -> Path:
        with log.progress("writing the report", len(self.test)) as bar:
            how: dict[str, Any] = {"device": device, "workers": readers(self.test), "progress": bar, "out": out}
            return write_sound_report(folder, self.run, method, self.source, self.test, **how)

    def finish(
        self, folder: Path, method: Method, device: torch.device, log: Log, skipped: dict[str, str]
    ) -> tuple[Table | None, Diagnosis]:
        save_encoder(folder, method.encoder)
        table = measured(folder, log, partial(measure, self.run, method, self.source, self.test, device, log, skipped))
        return table, conclude(self, folder, method, device, log, skipped, self.checkup(method, device))


def measure(
    run: Run,
    method: Method,
    source: Sounds,
    test: Sounds,
    device: torch.device,
    log: Log,
    skipped: dict[str, str] | None = None,
    keep: list[Features] | None = None,
) -> Table:
    """A trained method beside chance, loudness and duration, MFCC, and its encoder before training."""
    source = portion(source)  # type: ignore[assignment]
    with log.progress("measuring", len(source) + len(test)) as bar:
        return measure_sounds(
            method.encoder,
            untrained(run).encoder,
            source,
            test,
            run.test_view(),
            device=device,
            seed=run.seed,
            progress=bar,
            skipped=skipped,
            keep=keep,
        )


def open_sounds(source: Any) -> Sounds:
    if not isinstance(source, Sounds):
        raise UserError(f"{source.name} holds no recordings, but the other part of the data does: give both alike")
    return source
