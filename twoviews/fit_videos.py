"""What of a run depends on its items being videos: clips to learn from, measures with the order of frames, page."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from . import calls
from .build import learn, make_loader, readers, sources, untrained
from .checkpoint import save_encoder
from .data.listing import few
from .data.loader import Loader
from .data.videos import Videos, notes_of_videos
from .doctor.diagnosis import Diagnosis
from .encoders import CLIP_ENCODERS, ENCODERS
from .encoders.timm import timm_encoder
from .encoders.vit import vit
from .ending import conclude, measured
from .errors import UserError
from .evaluate.table import Table
from .evaluate.videos import measure_videos
from .fit_photos import look, watch
from .log import Log
from .report.videos import write_video_report
from .run import Run
from .train import DTYPES
from .types import Features, Method

OTHERS = {*ENCODERS.values(), timm_encoder} - {*CLIP_ENCODERS.values(), vit}  # what reads no clips
AT_ONCE = 32  # clips that are embedded at a time


class VideoTask:
    """A run on videos, as `fit` sees it."""

    parts = "videos"

    def __init__(self, run: Run, source: Videos):
        self.source, self.test = held_out(run, source)
        self.run = run.resolved(self.source)
        views, view = self.run.views(), self.run.test_view()
        if not hasattr(views, "moments") or not hasattr(view, "moments"):
            raise UserError(
                "videos need views=one_clip (mae, cpc, supervised), or views=two_clips for methods that compare two "
                "views, and test_view=central_clip"
            )
        self.learned = self.source.sampled(views.moments, run.seed)
        if calls.function(run.encoder) in OTHERS:
            given = calls.name(run.encoder)
            raise UserError(f"encoder={given} reads no clips; choose one of {', '.join(CLIP_ENCODERS)}")
        self.seen, self.judged = (side.sampled(view.moments, run.seed) for side in (self.source, self.test))

    def loader(self, device: torch.device, log: Log) -> Loader:
        for line in notes_of_videos(self.source):
            log.say(line)
        if self.test.listing is not self.source.listing:
            for line in notes_of_videos(self.test):
                log.say(f"to measure on: {line}")
        loader = make_loader(self.run, self.learned, device, log)
        loader.skipped |= self.lost()
        return loader

    def lost(self) -> dict[str, str]:
        """Videos that are left out, as far as their headers tell, of what is measured on too."""
        return self.source.notes | self.test.notes

    def begin(self, method: Method, log: Log) -> None:
        """Weights that start from the data: none."""
        if self.run.start is not None:
            raise UserError("start=RUN goes on with a run on histories; videos have encoder.weights")

    def learn(self, method: Method, loader: Any, optimizer: torch.optim.Optimizer, **how: Any) -> int:
        return learn(self.run, method, loader, optimizer, **how)

    def watch(self, method: Method, folder: Path, device: torch.device) -> Callable[[int], dict[str, Any]]:
        return watch(self.run, method, self.seen, self.judged, device, drawn=self.learned.at(0), at_once=AT_ONCE)

    def checkup(self, method: Method, device: torch.device) -> dict[str, Any]:
        return look(self.run, method, self.learned.at(0), self.judged, device, AT_ONCE)

    def report(self, folder: Path, method: Method, device: torch.device, log: Log, out: Path | None = None) -> Path:
        with log.progress("writing the report", len(self.test)) as bar:
            how: dict[str, Any] = {"device": device, "workers": readers(self.test), "progress": bar, "out": out}
            return write_video_report(folder, self.run, method, self.source, self.test, **how)

    def finish(
        self, folder: Path, method: Method, device: torch.device, log: Log, skipped: dict[str, str]
    ) -> tuple[Table | None, Diagnosis]:
        save_encoder(folder, method.encoder)
        table = measured(folder, log, partial(measure, self.run, method, self.seen, self.judged, device, log, skipped))
        return table, conclude(self, folder, method, device, log, skipped, self.checkup(method, device))


def measure(
    run: Run,
    method: Method,
    source: Videos,
    test: Videos,
    device: torch.device,
    log: Log,
    skipped: dict[str, str] | None = None,
    keep: list[Features] | None = None,
) -> Table:
    """A trained method beside chance, raw pixels and its encoder before training, and without the order of frames."""
    skipped = {} if skipped is None else skipped
    with log.progress("measuring", len(source) + 3 * len(test)) as bar:  # test in three orders
        table = measure_videos(
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
            workers=readers(source),
            precision=None if run.precision == "fp32" else DTYPES[run.precision],
        )
    if skipped:
        some = "; ".join(few((f"{key}: {reason}" for key, reason in skipped.items()), 3))
        table.notes.append(f"Left out, for they cannot be read: {len(skipped):,}, {some}.")
    return table


def held_out(run: Run, source: Videos) -> tuple[Videos, Videos]:
    """What to train on and what to measure on: where several items are of one video, all of them on one side."""
    files, first = np.unique(source.file, return_index=True)
    if run.test is not None or not run.holdout or len(files) == len(source):
        rest, held = sources(run, source)
        return open_videos(rest), open_videos(held)
    whole = replace(source.subset(first), labels=None, classes=None)
    kept, _ = sources(run, whole)  # by video: of its labels the first says nothing of the others
    mine = np.isin(source.file, open_videos(kept).file)
    return source.subset(mine), source.subset(~mine)


def open_videos(source: Any) -> Videos:
    if not isinstance(source, Videos):
        raise UserError(f"{source.name} holds no videos, but the other part of the data does: give both alike")
    return source
