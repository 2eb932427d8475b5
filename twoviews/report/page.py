"""RUN/index.html: one self-contained page that shows what a run has come to."""

from __future__ import annotations

import html
from collections.abc import Callable
from pathlib import Path

import torch

from ..data.patches import patches
from ..errors import UserError
from ..run import Run
from ..types import Method, Source
from . import about, atlas, curves, figures, measures, nearest, saw, spectra, verdict
from .gallery import gallery
from .groups import groups
from .items import Items, collect
from .parts import document, save, section
from .record import Record, called, read_record

STYLES = "".join(part.STYLE for part in (verdict, measures, curves, figures, saw, atlas, nearest, about))
SAW = (
    "Framed: a photo as it is. Beside it: views of it as training draws them. The method learns that they belong "
    "together, so what differs between them is what it learns to overlook."
)
SAW_PATCHES = (
    "Framed: a photo as it is. Beside it: its patches as training draws them, which overlap. The method learns to tell "
    "from the rows above which patches stand below."
)
MAP = (
    "Each point is {n} in the space of h, laid out flat by {how}. Point at one, or tap it, to see it; drag to zoom in, "
    "double-click to zoom out. What lies together is alike to the encoder; how far apart the islands are says nothing."
)
NEAR = (
    "One item of each {kind} in turn, drawn by the run's seed, and up to eight others of {n} that are most alike to "
    "the encoder, with their cosine similarity."
)


def write_report(
    folder: Path,
    run: Run,
    method: Method,
    source: Source,
    test: Source,
    *,
    device: torch.device,
    workers: int = 0,
    out: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Write a run's page to `out`, RUN/index.html where None, and return its path.

    Reads run.json, and metrics.jsonl, evaluation.json, doctor.json, checkup.json and skipped.csv where they are there;
    embeds at most 2,000 test items. progress: called with (items done, all items).
    Raises UserError when the folder is not a run or the page cannot be written.
    """
    record = read_record(folder)
    try:
        items: Items | str = shown(collect(run, method, test, device, workers, progress))
    except UserError as why:  # the rest of the page is worth having
        items = f"The test items could not be shown: {why}"
    lead = SAW_PATCHES if isinstance(run.views(), patches) else SAW
    sections = {
        "Measures": section("measures", "How good is it?", measures.measures(record.evaluation)),
        "Training": section("training", "Training", curves.curves(record), curves.lead([record])),
        "Spectra": section("spectra", "Directions in use", *_spectra(record, items)),
        "Views": section("views", "What the method saw", saw.views(run, source), lead),
        **_map(items, run.seed),
        "Data": section("data", "The data", about.data(record, source, test)),
        "Repeat": section("repeat", "How to do it again", about.repeat(record)),
    }
    links = "".join(f'<a href="#{name.lower()}">{name}</a>' for name in sections)
    body = f"<style>{STYLES}</style>{head(record, method)}<nav>{links}</nav>{''.join(sections.values())}"
    page = document(record.title, body, figures.scripts() + f"<script>{atlas.SCRIPT}</script>")
    return save(folder / "index.html" if out is None else out, page)


def shown(items: Items) -> Items | str:
    """The items, or why they cannot be laid out."""
    if len(items) > 1:
        return items
    return f"Nothing to lay out: {items.infinite:,} of {len(items) + items.infinite:,} embeddings are not finite."


def head(record: Record, method: Method, amount: str = "") -> str:
    """Title, what was trained for how long, and the verdict. amount: of data, where it is not in run.json."""
    run, steps = record.about["run"], [line["step"] for line in record.metrics]
    data = record.about["data"]
    amount = amount or f"{data.get('items', 0):,} items"
    if "catalogue" in data:
        amount = f"{data['events']:,} events of {data['items']:,} users and {data['catalogue']:,} items"
    encoder = f"{called(run, 'encoder')} encoder"
    dim = getattr(method.encoder, "dim", None)
    facts = [
        f"{encoder}, {dim:,} dimensions" if isinstance(dim, int) else encoder,
        amount,
        f"{run.get('epochs')} epochs, {max(steps):,.0f} steps" if steps else f"{run.get('epochs')} epochs",
    ]
    said = "".join(f"<span>{html.escape(fact)}</span>" for fact in facts)
    return f'<h1>{html.escape(record.title)}</h1><p class="dim stated">{said}</p>{verdict.verdict(record)}'


def _spectra(record: Record, items: Items | str) -> tuple[str, str]:
    if record.checkup is None and not isinstance(items, Items):
        return f"<p>{html.escape(items)}</p>", ""
    checkup = record.checkup or spectra.measured(items.features)  # type: ignore[union-attr]
    return spectra.spectra(checkup), spectra.LEAD


def _map(items: Items | str, seed: int) -> dict[str, str]:
    """The map and the neighbours, or why they are not there."""
    if isinstance(items, str):
        return {"Map": section("map", "The test items", f"<p>{html.escape(items)}</p>")}
    sorted_by = groups(items.features)
    drawn, how = atlas.atlas(items, sorted_by)
    some = (
        f"{len(items):,} of {items.total:,} test items" if len(items) < items.total else f"{items.total:,} test items"
    )
    left_out = {"could not be read": len(items.broken), "have embeddings that are not finite": items.infinite}
    notes = "".join(f"<p>{count:,} items {why}.</p>" for why, count in left_out.items() if count)
    near = NEAR.format(n=some, kind="cluster" if sorted_by.clusters else "class")
    return {
        "Map": section(
            "map", "The test items as the encoder sees them", drawn + notes, MAP.format(n=f"one of {some}", how=how)
        ),
        "Neighbours": section(
            "neighbours", "Nearest neighbours", gallery(nearest.nearest(items, sorted_by, seed)), near
        ),
    }
