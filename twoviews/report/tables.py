"""RUN/index.html of a run on a graph or a text: how good its vectors are, what lies near what, and what it saw."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ..calls import knobs
from ..data.graph import Graph
from ..doctor.course import read_json
from ..errors import UserError
from ..run import Run
from ..types import Method, Source
from . import about, alike, atlas, curves, figures, lengths, measures, schema, tablemap, verdict, walked
from .naming import kinds_of, titled, types_of
from .page import head
from .parts import document, save, section
from .record import read_record
from .shares import asked

if TYPE_CHECKING:
    from ..data.entries import Entries
    from ..data.nodelabels import NodeLabels

PARTS = (verdict, measures, curves, figures, atlas, tablemap, alike, schema, walked, about)
STYLES = "".join(part.STYLE for part in PARTS) + (
    "#measures > h3, #made > h3, #measures .grid { margin-top: 1.4rem; }"
    "@media (min-width: 56rem) { .grid.two { grid-template-columns: 1fr 1fr; } }"
)
SEEN = 2**14  # tokens of which the walks that are shown are drawn, about
LISTED = 100  # of what was never met


def write_table_report(
    folder: Path,
    run: Run,
    method: Method,
    source: Source,
    entries: Entries,
    labels: Sequence[NodeLabels] = (),
    *,
    out: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Write a run's page to `out`, RUN/index.html where None, and return its path.

    source: the Graph or the Corpus.  entries: what the V rows of the table stand for.  labels: of nodes, for the map.
    Reads run.json, and metrics.jsonl, evaluation.json, doctor.json, checkup.json and metapaths.json where they are
    there.  progress: called with (parts done, all parts).
    Raises UserError when the folder is not a run or the page cannot be written.
    """
    record = read_record(folder)
    weight = method.encoder.weight.detach()  # type: ignore[operator]
    made = "The graph" if isinstance(source, Graph) else "The text"
    parts: dict[str, Callable[[], str]] = {
        "Measures": lambda: section("measures", "How good is it?", asked(record.evaluation)),
        "Alike": lambda: _of_vectors("alike", "What is alike", alike.alike, weight, entries, labels),
        "Map": lambda: _of_vectors("map", "The map", tablemap.table_map, weight, entries, labels, run.seed),
        "Walks": lambda: _walks(run.views(), method, source, entries, run.seed),
        "Training": lambda: section("training", "Training", curves.curves(record), curves.lead([record])),
        "Spectra": lambda: section("spectra", "Directions in use", lengths.spectra(record.checkup), lengths.SPECTRA),
        "Lengths": lambda: _of_vectors("lengths", "How long vectors are", _lengths, weight, entries, source, run.seed),
        "Made": lambda: section("made", made, _made(folder, run, source, entries)),
        "Repeat": lambda: section("repeat", "How to do it again", about.repeat(record)),
        "Next": lambda: section("next", "What to do with it", next_steps(folder, entries)),
    }
    sections = []
    for done, make in enumerate(parts.values()):
        if progress:
            progress(done, len(parts))
        sections.append(make())
    if progress:
        progress(len(parts), len(parts))
    called = {"Walks": "Walks" if isinstance(source, Graph) else "Sentences", "Made": made.removeprefix("The ").title()}
    links = "".join(f'<a href="#{name.lower()}">{called.get(name, name)}</a>' for name in parts)
    body = f"<style>{STYLES}</style>{head(record, method, amount(source))}<nav>{links}</nav>{''.join(sections)}"
    scripts = figures.scripts() + f"<script>{atlas.SCRIPT}</script><script>{tablemap.SCRIPT}</script>"
    return save(folder / "index.html" if out is None else out, document(record.title, body, scripts))


def amount(source: Source) -> str:
    """How much there was to learn from, in words."""
    if isinstance(source, Graph):
        types = f" of {len(source.types):,} types" if len(source.types) > 1 else ""
        return f"{len(source):,} nodes{types}, {source.edges:,} edges"
    return f"{len(source):,} words, {len(getattr(source, 'tokens', ())):,} tokens"


def next_steps(folder: Path, entries: Entries) -> str:
    """Commands to go on with."""
    run = shlex.quote(str(folder) if not folder.is_absolute() else folder.name)
    first = shlex.quote(entries.key(int(np.argmax(entries.counts))))
    steps = {
        "what is most alike to one": f"twoviews similar {run} {first}",
        "to many": f"twoviews search {run} ids.txt -o found.parquet",
        "every vector with its id": f"twoviews embed {run} -o vectors.parquet",
        "the same for gensim": f"twoviews embed {run} -o vectors.bin",
    }
    width = max(map(len, steps.values()))
    lines = "\n".join(f"{step:{width}}  # {what}" for what, step in steps.items())
    return f'<pre tabindex="0">{escape(lines)}</pre>'


def _of_vectors(name: str, title: str, make: Callable[..., Any], weight: torch.Tensor, entries: Any, *how: Any) -> str:
    """A section that is made of the vectors, or why there is none."""
    known = np.flatnonzero(entries.counts)
    if len(known) < 3:
        return section(name, title, "<p>Too few rows were met in training.</p>")
    if not weight.isfinite().all():
        return section(name, title, "<p>Nothing to show: the vectors are not finite.</p>")
    made = make(weight, entries, *how)
    return section(name, title, *((made,) if isinstance(made, str) else made))


def _lengths(weight: torch.Tensor, entries: Entries, source: Source, seed: int) -> str:
    return lengths.lengths(weight, entries, source, seed)


def _walks(views: Any, method: Any, source: Source, entries: Entries, seed: int) -> str:
    title = "What the method saw"
    if not hasattr(method, "window"):
        return section("walks", title, "<p>This method reads the graph as a whole.</p>")
    try:
        block = views.over(source, size=SEEN, seed=seed).block(0, 0)
    except UserError as why:
        return section("walks", title, f"<p>{escape(str(why))}</p>")
    return section("walks", title, *walked.walked(block, entries, method.window, seed))


def _made(folder: Path, run: Run, source: Source, entries: Entries) -> str:
    if isinstance(source, Graph):
        from ..data.graphs import notes as graph_notes

        given = knobs(run.views).get("metapaths") or ()
        paths = schema.metapaths(read_json(folder / "metapaths.json"), [given] if isinstance(given, str) else given)
        return _lines(graph_notes(source)) + schema.schema(source) + paths + never_met(entries)
    from ..data.text import notes as text_notes

    return _lines(text_notes(source)) + never_met(entries)  # type: ignore[arg-type]


def never_met(entries: Entries) -> str:
    """How many rows were never trained, by type, and the first of them by name."""
    none = np.flatnonzero(entries.counts == 0)
    if not len(none):
        return "<h3>Never met</h3><p>Every row was met in training.</p>"
    of = ""
    if entries.typed:
        types = types_of(entries)
        each = np.bincount(kinds_of(entries)[none], minlength=len(types))
        of = f": {', '.join(f'{n:,} of type {escape(t)}' for t, n in zip(types, each, strict=True) if n)}"
    names = "".join(f"<li>{escape(titled(entries, row))}</li>" for row in none[:LISTED].tolist())
    rest = f"<p>and {len(none) - LISTED:,} more, in untrained.csv</p>" if len(none) > LISTED else ""
    return (
        f"<h3>Never met</h3><p>{len(none):,} of {len(entries.counts):,} rows are never met{of}. They keep the vector "
        f"they began with, and are not found.</p><details><summary>Which</summary><ul>{names}</ul>{rest}</details>"
    )


def _lines(notes: Sequence[str]) -> str:
    return f"<ul>{''.join(f'<li>{escape(line)}</li>' for line in notes)}</ul>"
