"""RUN/index.html: one self-contained page with the measures, what the method saw, the data and how to repeat it."""

from __future__ import annotations

import base64
import html
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..checkpoint import writing

STYLE = """
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
<title>{html.escape(title)}</title><style>{STYLE}</style><body>
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


def write_report(folder, run, method, source, test, *, device, workers=0, out=None, progress=None) -> Path:
    """Collect and write a run's page."""
    raise NotImplementedError
