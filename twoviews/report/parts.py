"""What every page is made of: the document, its style, and small pictures written into it.

A page is one file that asks nothing of any network; the browser is told so (Content-Security-Policy).
"""

from __future__ import annotations

import base64
import io
import os
from html import escape
from pathlib import Path
from typing import Any

from torch import Tensor
from torch.nn.functional import interpolate

from ..checkpoint import writing

POLICY = "default-src 'none'; img-src data:; media-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
SMALL = 48  # pixels of a side up to which a picture is kept exactly, and enlarged without blur

STYLE = """
:root {
  color-scheme: light dark;
  --paper: light-dark(#fbfbfa, #14161a); --card: light-dark(#ffffff, #1b1e24); --ink: light-dark(#1b1e23, #e8eaed);
  --dim: light-dark(#5b626c, #a0a7b2); --line: light-dark(#e2e4e8, #30343c); --soft: light-dark(#f1f3f5, #22262d);
  --ours: light-dark(#2563c9, #74a7fa); --other: light-dark(#a4acb8, #69727e);
  --healthy: light-dark(#17794e, #4cc38a); --watch: light-dark(#93600b, #e5b454); --ill: light-dark(#b3261e, #f2807a);
}
:root[data-scheme=light] { color-scheme: light; }
:root[data-scheme=dark] { color-scheme: dark; }
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; scroll-behavior: smooth; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 16px/1.55 system-ui, sans-serif; }
main { max-width: 66rem; margin: 0 auto; padding: 2rem 1.25rem 4rem; }
h1, h2, h3 { line-height: 1.25; letter-spacing: -.012em; margin: 0 0 .3rem; }
h1 { font-size: clamp(1.5rem, 4vw, 2.1rem); } h2 { font-size: 1.25rem; } h3 { font-size: 1rem; }
h1, h2, h3, p, li, dd, td, th, figcaption, summary { overflow-wrap: anywhere; }
section { margin-top: 3.2rem; }
p { margin: .3rem 0 .8rem; max-width: 46rem; }
ul { margin: .5rem 0; padding-left: 1.15rem; }
a { color: var(--ours); }
small, .dim { color: var(--dim); font-size: .875rem; }
code, pre { font: .85rem/1.5 ui-monospace, monospace; }
pre { background: var(--soft); border-radius: 8px; padding: .9rem 1rem; overflow-x: auto; margin: .6rem 0; }
details { margin: .8rem 0; } summary { cursor: pointer; color: var(--dim); }
figure { margin: .8rem 0; } figcaption { color: var(--dim); font-size: .875rem; }
img { max-width: 100%; }
button { font: inherit; font-size: .875rem; color: var(--dim); background: var(--card); border: 1px solid var(--line);
  border-radius: 99px; padding: .15rem .75rem; cursor: pointer; }
:focus-visible { outline: 2px solid var(--ours); outline-offset: 2px; }
.scheme { float: right; margin-left: 1rem; }
.card { background: var(--card); border: 1px solid var(--line); border-radius: 12px; padding: 1rem 1.15rem; }
.grid { display: grid; gap: 1rem; grid-template-columns: repeat(auto-fill, minmax(min(100%, 19rem), 1fr)); }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: .5rem .9rem .5rem 0; border-bottom: 1px solid var(--line); vertical-align: top; }
thead th { font-size: .875rem; color: var(--dim); } th { font-weight: 600; }
.pixels { image-rendering: pixelated; }
@media print {
  :root { color-scheme: light !important; }
  main { max-width: none; padding: 0; } .scheme, nav { display: none; } .card, figure, tr { break-inside: avoid; }
}
"""

SCHEME = """
document.querySelector('.scheme').onclick = () => {
  const root = document.documentElement;
  const dark = root.dataset.scheme ? root.dataset.scheme == 'dark' : matchMedia('(prefers-color-scheme: dark)').matches;
  root.dataset.scheme = dark ? 'light' : 'dark';
  dispatchEvent(new Event('scheme'));
};
"""


def document(title: str, body: str, scripts: str = "") -> str:
    """A whole page in the common style.

    title:   plain text.  body: HTML, with every name that came from data already escaped.
    scripts: <style> and <script> elements, placed after the body.
    """
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{POLICY}"><title>{escape(title)}</title>
<link rel="icon" href="data:,"><style>{STYLE}</style></head>
<body><main><button class="scheme" type="button">light / dark</button>
{body}
</main><script>{SCHEME}</script>
{scripts}</body></html>
"""


def save(path: Path, page: str) -> Path:
    """Write a page whole or not at all. Raises UserError when it cannot be written."""
    temporary = path.with_name(f".{path.name}.tmp")
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            temporary.write_text(page, encoding="utf-8", errors="replace")  # the name of a folder may be no text
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
    return path


def section(name: str, title: str, body: str, lead: str = "") -> str:
    """A part of a page that can be linked to as #name; lead and body are HTML."""
    lead = f'<p class="dim">{lead}</p>' if lead else ""
    return f'<section id="{name}"><h2>{title}</h2>{lead}{body}</section>'


def thumbnail(image: Tensor, side: int = 64) -> str:
    """An image, uint8 (C, h, w), as a data URI of at most side x side pixels, its shape kept."""
    return picture(reduced(image, side / max(image.shape[1:])))


def reduced(image: Tensor, scale: float) -> Tensor:
    """uint8 (C, h, w) -> uint8 (C, h * scale, w * scale) by antialiased averaging; never enlarged."""
    if scale >= 1:
        return image
    size = [max(1, round(n * scale)) for n in image.shape[1:]]
    return interpolate(image[None].float(), size, mode="bilinear", antialias=True)[0].round().byte()


def picture(image: Tensor, **how: Any) -> str:
    """An image, uint8 (C, h, w), as a data URI in its own size: WebP, without loss where it is small.

    One or two channels are shown grey, three in colour, of more the first three. how: Pillow's format and its options.
    """
    from PIL import Image

    pixels = image[:3] if len(image) >= 3 else image[:1].expand(3, -1, -1)
    drawn = Image.fromarray(pixels.permute(1, 2, 0).contiguous().numpy())
    how = how or {"format": "WEBP", "quality": 80, "lossless": max(drawn.size) <= SMALL}
    file = io.BytesIO()
    drawn.save(file, **how)
    return f"data:image/{how['format'].lower()};base64,{base64.b64encode(file.getvalue()).decode()}"
