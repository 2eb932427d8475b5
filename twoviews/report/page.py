"""RUN/index.html: one self-contained page that shows what a run has come to."""

from __future__ import annotations

import base64
import html
import io
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..checkpoint import writing
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
    sections = {
        "Measures": section("measures", "How good is it?", measures.measures(record.evaluation)),
        "Training": section("training", "Training", curves.curves(record), curves.lead([record])),
        "Spectra": section("spectra", "Directions in use", *_spectra(record, items)),
        "Views": section("views", "What the method saw", saw.views(run, source), SAW),
        **_map(items, run.seed),
        "Data": section("data", "The data", about.data(record, source, test)),
        "Repeat": section("repeat", "How to do it again", about.repeat(record)),
    }
    links = "".join(f'<a href="#{name.lower()}">{name}</a>' for name in sections)
    body = f"<style>{STYLES}</style>{_head(record, method)}<nav>{links}</nav>{''.join(sections.values())}"
    page = document(record.title, body, figures.scripts() + f"<script>{atlas.SCRIPT}</script>")
    return save(folder / "index.html" if out is None else out, page)


def shown(items: Items) -> Items | str:
    """The items, or why they cannot be laid out."""
    if len(items) > 1:
        return items
    return f"Nothing to lay out: {items.infinite:,} of {len(items) + items.infinite:,} embeddings are not finite."


def _head(record: Record, method: Method) -> str:
    """Title, what was trained for how long, and the verdict."""
    run, steps = record.about["run"], [line["step"] for line in record.metrics]
    encoder = f"{called(run, 'encoder')} encoder"
    dim = getattr(method.encoder, "dim", None)
    facts = [
        f"{encoder}, {dim:,} dimensions" if isinstance(dim, int) else encoder,
        f"{record.about['data'].get('items', 0):,} items",
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
    sorted_by = groups(items)
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


# What follows is the page before this one.

OLD_STYLE = """
:root { color-scheme: light dark; --line: #8884; --soft: #8881; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 52rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; margin-bottom: .2rem; } h2 { font-size: 1.1rem; margin-top: 2rem; }
.verdict { font-size: 1.15rem; padding: .8rem 1rem; background: var(--soft); border-left: 4px solid #3a7; }
.wide { overflow-x: auto; } table { border-collapse: collapse; min-width: 60%; }
th, td { text-align: left; padding: .3rem .9rem .3rem 0; border-bottom: 1px solid var(--line); white-space: nowrap; }
figure { margin: 0; } img { image-rendering: pixelated; max-width: 100%; } figcaption, small { opacity: .75; }
pre { background: var(--soft); padding: .8rem; overflow-x: auto; }
"""


def write_page(
    folder: Path,
    *,
    title: str,
    verdict: str,
    table: Mapping[str, Mapping[str, str]],
    views: list[Tensor],
    skipped: int,
) -> Path:
    """Write the page of a finished run.

    table: {row: {measure: "82.1 % [80.0, 84.1]"}} in order; empty when nothing could be measured.
    views: V tensors (B, C, S, S) in [0, 1], the views of the same B items.
    """
    about = json.loads((folder / "run.json").read_text())
    data, versions, hardware = about["data"], about["versions"], about["hardware"]
    classes = f" in {len(data['classes'])} classes" if data.get("classes") else ", no labels"
    listed = " (see skipped.csv)" if skipped else ""
    page = f"""<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content="width=device-width">
<title>{html.escape(title)}</title><style>{OLD_STYLE}</style><body>
<h1>{html.escape(title)}</h1><p class=verdict>{html.escape(verdict)}</p>
{_table(table)}
<h2>What the method saw</h2><figure><img alt="views" src="{_picture(views)}">
<figcaption>Each column: {len(views)} views of one item. The method learns that they belong together.
</figcaption></figure>
<h2>Data</h2>
<p>{data["items"]:,} items from {html.escape(data["name"])}{classes}; {skipped} could not be read{listed}.</p>
<h2>To repeat it</h2><pre>{html.escape(about["command"])}</pre><small>{_pairs(versions)}; {_pairs(hardware)}</small>
<details><summary>Every setting</summary><pre>{html.escape(json.dumps(about["run"], indent=2))}</pre></details>
</body></html>"""
    path = folder / "index.html"
    with writing(path):
        path.write_text(page)
    return path


def _table(table: Mapping[str, Mapping[str, str]]) -> str:
    if not table:
        return ""
    columns = list(dict.fromkeys(c for row in table.values() for c in row))
    head = "".join(f"<th>{html.escape(c)}</th>" for c in ["", *columns])
    rows = (
        f"<tr><td>{html.escape(name)}</td>"
        + "".join(f"<td>{html.escape(row.get(c, ''))}</td>" for c in columns)
        + "</tr>"
        for name, row in table.items()
    )
    body = f"<table><tr>{head}</tr>{''.join(rows)}</table>"
    return f"<h2>Measures</h2><div class=wide>{body}</div><small>Brackets: 95 % intervals over the test items.</small>"


def _picture(views: list[Tensor], most: int = 12) -> str:
    """The views as one PNG: a column an item, a row a view, small ones enlarged."""
    from PIL import Image

    side = max(v.shape[-1] for v in views)
    rows = []
    for v in views:
        x = v[:most, :3].expand(-1, 3, -1, -1) if v.shape[1] < 3 else v[:most, :3]
        pad = side - x.shape[-1]
        x = torch.nn.functional.pad(x.float().cpu(), (1, 1 + pad, 1, 1 + pad), value=0.5)
        rows.append(torch.cat(list(x), dim=2))
    pixels = (torch.cat(rows, dim=1).clamp(0, 1) * 255).byte().permute(1, 2, 0).numpy()
    picture = Image.fromarray(pixels)
    scale = max(1, 64 // side)
    picture = picture.resize((picture.width * scale, picture.height * scale), Image.Resampling.NEAREST)
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def _pairs(values: Mapping[str, Any]) -> str:
    return html.escape(", ".join(f"{k} {v}" for k, v in values.items() if v))
