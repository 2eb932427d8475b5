"""RUN/index.html of a run on histories: what it recommends, beside the floors, and what it makes that from."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from html import escape
from pathlib import Path
from typing import Any

import torch

from ..data.splits import Division
from ..data.vocabulary import Items, read_items
from ..errors import UserError
from ..evaluate.recommend import embed_items
from ..run import Run
from ..types import Method
from . import about, asked, atlas, catalogue, curves, events, examples, figures, measures, popularity, spectra, verdict
from .page import head
from .parts import document, save, section
from .record import Record, read_record

STYLES = "".join(part.STYLE for part in (verdict, measures, curves, figures, atlas, examples, about)) + (
    "#measures h3 { margin-top: 1.4rem; } @media (min-width: 56rem) { .grid.two { grid-template-columns: 1fr 1fr; } }"
)
SPECTRA = (
    "The singular values of the states of users (h, and z as it is compared with items) and of the item vectors, the "
    "largest first. A line that stays up uses its dimensions; one that falls off a cliff has collapsed into a few. The "
    "effective rank says how many directions are in use, as one number."
)


def write_history_report(
    folder: Path,
    run: Run,
    method: Method,
    division: Division,
    *,
    out: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Write a run's page to `out`, RUN/index.html where None, and return its path.

    method: on the device that it is to be read on.  progress: called with (users asked, all users to ask).
    Reads what `write_report` reads, and items.parquet; asks for at most 2,000 users of the test.
    Raises UserError when the folder is not a run or the page cannot be written.
    """
    record = read_record(folder)
    items = items_of(folder, division)
    try:
        some: asked.Asked | str = asked.ask_some(method, run.test_view(), division, items, run.seed, progress)
    except UserError as why:  # the rest of the page is worth having
        some = f"Nothing can be recommended: {why}"
    sections = {
        "Measures": section("measures", "How good is it?", measures.measures(record.evaluation)),
        "Examples": _examples(some, run.seed),
        "Training": section("training", "Training", curves.curves(record), curves.lead([record])),
        "Popularity": _popularity(some, record),
        "Spectra": section("spectra", "Directions in use", spectra.spectra(record.checkup), SPECTRA),
        "Map": _map(method, items, run.seed),
        "Data": section("data", "The log", events.events(division)),
        "Repeat": section("repeat", "How to do it again", about.repeat(record)),
        "Next": section("next", "What to do with it", next_steps(folder, items)),
    }
    links = "".join(f'<a href="#{name.lower()}">{name}</a>' for name in sections)
    body = f"<style>{STYLES}</style>{head(record, method)}<nav>{links}</nav>{''.join(sections.values())}"
    page = document(record.title, body, figures.scripts() + f"<script>{atlas.SCRIPT}</script>")
    return save(folder / "index.html" if out is None else out, page)


def items_of(folder: Path, division: Division) -> Items:
    """The catalogue as the run wrote it, with titles where it has them; of one that has not finished, the log's."""
    try:
        return read_items(folder)
    except UserError:
        return Items(division.train.vocabulary, division.train.counts())


def next_steps(folder: Path, items: Items) -> str:
    """Commands to go on with."""
    run = shlex.quote(str(folder) if not folder.is_absolute() else folder.name)
    item = shlex.quote(items.name(0))
    steps = {
        "recommend to all users": f"twoviews recommend {run} -k 20 -o recs.parquet",
        "to histories it has never seen": f"twoviews recommend {run} today.parquet -o recs.parquet",
        "items most alike to one": f"twoviews similar {run} {item}",
        "a vector for each user": f"twoviews embed {run} today.parquet -o users.parquet",
        "teach it new items by what they are": f"twoviews add-items {run} items.csv -o {run}-grown",
    }
    width = max(map(len, steps.values()))
    return (
        f'<pre tabindex="0">{escape(chr(10).join(f"{step:{width}}  # {what}" for what, step in steps.items()))}</pre>'
    )


def _examples(some: asked.Asked | str, seed: int) -> str:
    if isinstance(some, str):
        return section("examples", "What it recommends", f"<p>{escape(some)}</p>")
    return section("examples", "What it recommends", examples.examples(some, seed), examples.lead(some))


def _popularity(some: asked.Asked | str, record: Record) -> str:
    if isinstance(some, str):
        return section("popularity", "Popularity", f"<p>{escape(some)}</p>")
    return section("popularity", "Popularity", popularity.popularity(some, record.checkup), popularity.LEAD)


def _map(method: Any, items: Items, seed: int) -> str:
    vectors: torch.Tensor = embed_items(method).cpu()
    if not vectors.isfinite().all() or len(items) < 3:
        why = "not finite" if len(items) > 2 else "too few"
        return section("map", "The items as the model sees them", f"<p>Nothing to lay out: the items are {why}.</p>")
    drawn, lead = catalogue.item_map(vectors, items, seed)
    return section("map", "The items as the model sees them", drawn, lead)
