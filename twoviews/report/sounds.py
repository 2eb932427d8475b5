"""RUN/index.html of a run on recordings: how good it is, how far ahead it predicts, and what sounds alike to it."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..data.sounds import Sounds, notes_of_sounds
from ..errors import UserError
from ..run import Run
from ..types import Method
from . import about, atlas, curves, figures, horizons, measures, players, soundsaw, spectra, tablemap, verdict
from .page import head
from .parts import document, save, section
from .record import Record, read_record
from .soundclips import Clips, collect
from .soundmap import sound_map
from .soundnear import nearest_sounds

PARTS = (verdict, measures, curves, figures, atlas, tablemap, soundsaw, players, about)
STYLES = "".join(part.STYLE for part in PARTS) + (
    "@media (min-width: 56rem) { .grid.two { grid-template-columns: 1fr 1fr; } }"
    "#map .measures { margin-top: 1.2rem; max-width: 40rem; } #neighbours .frame img { object-fit: fill; }"
    "#neighbours .found { grid-template-columns: repeat(auto-fill, minmax(clamp(4.6rem, 13vw, 9rem), 1fr)); }"
)
MAP, NEAR = "The test recordings as the encoder hears them", "Nearest neighbours to listen to"


def write_sound_report(
    folder: Path,
    run: Run,
    method: Method,
    train: Sounds,
    test: Sounds,
    *,
    device: torch.device,
    workers: int = 0,
    progress: Callable[[int, int], None] | None = None,
    out: Path | None = None,
) -> Path:
    """Write a run's page to `out`, RUN/index.html where None, and return its path.

    Reads run.json, and metrics.jsonl, evaluation.json, doctor.json, checkup.json and skipped.csv where they are there;
    embeds and keeps at most 300 pieces of 2 seconds of each side.  progress: called with (pieces done, all of a side).
    Raises UserError when the folder is not a run or the page cannot be written.
    """
    record = read_record(folder)
    held = players.Players()
    shown = _clips(run, method, train, test, device, workers, progress)
    sections = {
        "Measures": section("measures", "How good is it?", measures.measures(record.evaluation)),
        **_horizons(record, method, train.rate),
        "Map": _of_clips("map", MAP, shown, lambda some, _: sound_map(some, held)),
        "Neighbours": _of_clips(
            "neighbours", NEAR, shown, lambda some, more: nearest_sounds(some, more, held, run.seed)
        ),
        "Windows": section("windows", "What the method saw", *soundsaw.windows(run, train, held)),
        "Training": section(
            "training", "Training", curves.curves(record, horizons.names(record)), curves.lead([record])
        ),
        "Spectra": section("spectra", "Directions in use", spectra.spectra(record.checkup), spectra.LEAD),
        "Data": section("data", "The recordings", _data(record, train, test)),
        "Repeat": section("repeat", "How to do it again", about.repeat(record)),
        "Next": section("next", "What to do with it", next_steps(folder)),
    }
    links = "".join(f'<a href="#{name.lower()}">{name}</a>' for name in sections)
    body = f"<style>{STYLES}</style>{head(record, method, amount(train))}<nav>{links}</nav>{''.join(sections.values())}"
    scripts = figures.scripts() + f"<script>{atlas.SCRIPT}</script><script>{tablemap.SCRIPT}</script>{held.html()}"
    return save(folder / "index.html" if out is None else out, document(record.title, body, scripts))


def amount(source: Sounds) -> str:
    """How much there was to learn from, in words."""
    hours, seconds = source.seconds / 3600, source.seconds
    long = (
        f"{hours:,.1f} hours" if hours >= 1 else f"{seconds / 60:.1f} minutes" if seconds >= 60 else f"{seconds:.0f} s"
    )
    return f"{len(source):,} recordings, {long} at {source.rate:,} Hz"


def next_steps(folder: Path) -> str:
    """Commands to go on with."""
    run = shlex.quote(str(folder) if not folder.is_absolute() else folder.name)
    steps = {
        "what sounds most alike to one": f"twoviews search {run} query.wav --html found.html",
        "a vector for each recording": f"twoviews embed {run} recordings/ -o vectors.parquet",
        "a vector for each hundredth of a second": f"twoviews embed {run} recordings/ --frames -o frames.parquet",
    }
    width = max(map(len, steps.values()))
    lines = "\n".join(f"{step:{width}}  # {what}" for what, step in steps.items())
    return f'<pre tabindex="0">{escape(lines)}</pre>'


def _clips(run: Run, method: Method, train: Sounds, test: Sounds, *how: Any) -> tuple[Clips, Clips | None] | str:
    """Pieces of the test and of the training recordings, None where they are the same, or why there are none."""
    try:
        some = collect(run, method, test, *how)
        more = None if train is test else collect(run, method, train, *how)
    except UserError as why:  # the rest of the page is worth having
        return f"The recordings could not be shown: {why}"
    if len(some) > 2:
        return some, more
    return f"Nothing to lay out: {some.infinite:,} of {len(some) + some.infinite:,} embeddings are not finite."


def _of_clips(name: str, title: str, shown: tuple[Clips, Clips | None] | str, make: Callable[..., Any]) -> str:
    if isinstance(shown, str):
        return section(name, title, f"<p>{escape(shown)}</p>")
    drawn, lead = make(*shown)
    left_out = {"could not be read": len(shown[0].broken), "have embeddings that are not finite": shown[0].infinite}
    notes = "".join(f"<p>{count:,} pieces {why}.</p>" for why, count in left_out.items() if count)
    return section(name, title, drawn + notes, lead)


def _horizons(record: Record, method: Method, rate: int) -> dict[str, str]:
    """How far ahead it predicts; nothing of a method that does not."""
    if not horizons.steps_ahead(record):
        return {}
    stride = getattr(method.encoder, "stride", None)
    each = f", in steps of {1000 * stride / rate:g} ms" if isinstance(stride, int) else ""
    lead = horizons.LEAD.format(each=each)
    return {"Horizons": section("horizons", "How far ahead does it predict?", horizons.horizons(record), lead)}


def _data(record: Record, train: Sounds, test: Sounds) -> str:
    said = notes_of_sounds(train)
    if train.speakers is not None:
        said.append(f"{len(np.unique(train.speakers[train.speakers >= 0])):,} speakers")
    return f"<ul>{''.join(f'<li>{escape(line)}</li>' for line in said)}</ul>" + about.data(record, train, test)
