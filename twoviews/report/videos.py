"""RUN/index.html of a run on videos: how good it is with and without the order of frames, and clips to look at."""

from __future__ import annotations

from collections.abc import Callable
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..data.dice import Dice
from ..data.loader import collate
from ..data.videos import Videos, notes_of_videos
from ..errors import BrokenItem, UserError
from ..methods.mae import MAE
from ..run import Run
from ..types import Method
from . import about, atlas, curves, figures, measures, nearest, spectra, verdict, videoclips
from .gallery import gallery
from .groups import groups
from .items import Items
from .nearest import spread
from .page import head, shown
from .parts import document, save, section
from .record import Record, read_record

STYLES = "".join(part.STYLE for part in (verdict, measures, curves, figures, atlas, nearest, videoclips, about))
SHEET, DRAWN = 8, 4  # test clips, and videos whose views are shown
CLIPS = "One test clip of each {kind} in turn, as the encoder is given it: to play, and some of its frames in order."
VIEWS = "Clips as training draws them, of {n} videos.{pairs} The crop and the colours are the same for all frames."
PAIRS = " What differs between the clips of one video is what is learned to overlook."
MAP = (
    "Each point is one of {n}, by its middle frame, laid out flat by {how} in the space of h. Point at one, or tap it, "
    "to see it. What lies together is alike to the encoder; how far apart the islands are says nothing."
)
NEAR = (
    "One clip of each {kind} in turn, drawn by the run's seed, by its middle frame, and up to eight others of {n} that "
    "are most alike to the encoder, with their cosine similarity."
)


def write_video_report(
    folder: Path,
    run: Run,
    method: Method,
    train: Videos,
    test: Videos,
    *,
    device: torch.device,
    workers: int = 0,
    progress: Callable[[int, int], None] | None = None,
    out: Path | None = None,
) -> Path:
    """Write a run's page to `out`, RUN/index.html where None, and return its path.

    Reads run.json, and metrics.jsonl, evaluation.json, doctor.json, checkup.json and skipped.csv where they are there;
    embeds at most 300 test clips. progress: called with (clips done, all clips).
    Raises UserError when the folder is not a run or the page cannot be written.
    """
    record = read_record(folder)
    try:
        items: Items | str = shown(videoclips.collect(run, method, test, device, workers, progress))
    except UserError as why:  # the rest of the page is worth having
        items = f"The test clips could not be shown: {why}"
    sections = {
        "Measures": section("measures", "How good is it?", measures.measures(record.evaluation)),
        **_of_items(items, run, test),
        "Views": section("views", "What the method saw", *_views(run, method, train)),
        "Training": section("training", "Training", curves.curves(record), curves.lead([record])),
        "Spectra": section("spectra", "Directions in use", spectra.spectra(record.checkup), spectra.LEAD),
        "Data": section("data", "The videos", _data(record, train, test)),
        "Repeat": section("repeat", "How to do it again", about.repeat(record)),
    }
    links = "".join(f'<a href="#{name.lower()}">{name}</a>' for name in sections)
    top = head(record, method, f"{len(train):,} clips of {len(np.unique(train.file)):,} videos")
    body = f"<style>{STYLES}</style>{top}<nav>{links}</nav>{''.join(sections.values())}"
    page = document(record.title, body, figures.scripts() + f"<script>{atlas.SCRIPT}</script>")
    return save(folder / "index.html" if out is None else out, page)


def _of_items(items: Items | str, run: Run, test: Videos) -> dict[str, str]:
    """The contact sheet, the map and the neighbours, or why they are not there."""
    if isinstance(items, str):
        return {"Clips": section("clips", "The test clips", f"<p>{escape(items)}</p>")}
    sorted_by = groups(items.features)
    kind = "cluster" if sorted_by.clusters else "class"
    drawn, how = atlas.atlas(items, sorted_by)
    n = f"{len(items):,} of {items.total:,} test clips" if len(items) < items.total else f"{items.total:,} test clips"
    left_out = {"could not be read": len(items.broken), "have embeddings that are not finite": items.infinite}
    notes = "".join(f"<p>{count:,} clips {why}.</p>" for why, count in left_out.items() if count)
    sheet = _sheet(items, spread(sorted_by.of, SHEET, run.seed).tolist(), run, test)
    near = gallery(nearest.nearest(items, sorted_by, run.seed))
    return {
        "Clips": section("clips", "The test clips", sheet, CLIPS.format(kind=kind)),
        "Map": section("map", "The test clips as the encoder sees them", drawn + notes, MAP.format(n=n, how=how)),
        "Neighbours": section("neighbours", "Nearest neighbours", near, NEAR.format(n=n, kind=kind)),
    }


def _sheet(items: Items, chosen: list[int], run: Run, test: Videos) -> str:
    view = run.test_view()
    number = {test.key(i): i for i in range(len(test))}
    captions = [items.features.keys[i] for i in chosen]
    named = [f"{key}: {items.label(i)}" for key, i in zip(captions, chosen, strict=True)]
    _, clips = _pictures(view, test.sampled(view.moments, run.seed), [number[key] for key in captions], run.seed)
    return "".join(map(videoclips.figure, clips[0], named))


def _views(run: Run, method: Method, train: Videos) -> tuple[str, str]:
    """Clips of some videos as the first epoch draws them, and what is to be said before them."""
    views = run.views()
    source = train.sampled(views.moments, run.seed).at(0)
    order = np.random.default_rng(run.seed).permutation(len(train)).tolist()
    ids, clips = _pictures(views, source, order, run.seed)
    if not ids:
        return "<p>No video could be read.</p>", ""
    clips = [view.cpu() for view in clips]
    named = [f", clip {v}" if len(clips) > 1 else "" for v in range(1, len(clips) + 1)]
    if isinstance(method, MAE):
        clips.append(torch.stack([videoclips.masked(method, x, i) for i, x in zip(ids, clips[0], strict=True)]))
        named.append(", what the encoder is shown")
    out = [
        videoclips.figure(view[b], train.key(i) + name)
        for b, i in enumerate(ids)
        for view, name in zip(clips, named, strict=True)
    ]
    return "".join(out), VIEWS.format(n=len(ids), pairs=PAIRS if len(clips) > 1 and not isinstance(method, MAE) else "")


def _pictures(views: Any, source: Videos, order: list[int], seed: int) -> tuple[list[int], list[torch.Tensor]]:
    """The first that can be read, and their views in [0, 1]; of training 4, of a test view all that are named."""
    most = DRAWN if source.epoch is not None else len(order)
    items, ids = [], []
    for i in order:
        try:
            items.append(source.read(i))
            ids.append(i)
        except BrokenItem:
            continue
        if len(ids) == most:
            break
    return ids, views.pictures(*collate(items), Dice(seed, 0, torch.tensor(ids))) if ids else []


def _data(record: Record, train: Videos, test: Videos) -> str:
    said = "".join(f"<li>{escape(line)}</li>" for line in notes_of_videos(train))
    return f"<ul>{said}</ul>" + about.data(record, train, test)
