"""The map: embeddings laid out in two dimensions, each with its picture under the pointer.

t-SNE (van der Maaten and Hinton 2008) of unit vectors after PCA, with fixed seeds. It keeps neighbourhoods: which
items lie together says something, how far apart the islands are says nothing.
"""

from __future__ import annotations

import json
import math
from html import escape
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import interpolate, normalize

from .figures import COLOURS, plot
from .groups import Groups
from .items import Items
from .parts import SMALL, picture

FEW = 12  # items below which PCA draws the map alone
PCA = 50  # dimensions that t-SNE reads
BYTES = 3_000_000  # of the sprite
SHAPES = ("circle", "diamond")
NO_AXIS = {"visible": False, "range": [-1.04, 1.04]}
FLAT: dict[str, Any] = {  # how a map is drawn
    "height": 560,
    "name": "atlas",
    "hovermode": "closest",
    "xaxis": NO_AXIS,
    "yaxis": NO_AXIS,
    "dragmode": "zoom",
}
STYLE = """
.legend { display: flex; flex-wrap: wrap; gap: .35rem; margin-bottom: .6rem; }
.legend button { display: inline-flex; align-items: center; gap: .4rem; max-width: 100%; color: var(--ink); }
.legend small { font-size: .75rem; }
.legend button[aria-pressed=false] { opacity: .45; text-decoration: line-through; }
.legend i { width: .7rem; height: .7rem; flex: none; border-radius: 50%; }
.legend i.diamond { border-radius: 0; transform: rotate(45deg) scale(.85); }
#tip { position: fixed; z-index: 9; width: 136px; padding: 8px; pointer-events: none; overflow-wrap: anywhere;
  font-size: .8rem; line-height: 1.3; box-shadow: 0 6px 24px #0004; }
#tip i { display: block; width: 118px; height: 118px; border-radius: 6px; margin-bottom: .4rem; }
#tip span { display: block; color: var(--dim); font-size: .72rem; }
"""
SCRIPT = """
(() => {
  const map = document.getElementById('atlas'), tip = document.getElementById('tip');
  if (!map) return;
  const {columns, rows, keys, names} = JSON.parse(document.getElementById('items').textContent);
  const [image, name, key] = tip.children, size = 118;
  const show = ({points, event}) => {
    const i = points[0].customdata;
    image.style.backgroundSize = `${columns * size}px ${rows * size}px`;
    image.style.backgroundPosition = `${-(i % columns) * size}px ${-Math.floor(i / columns) * size}px`;
    name.textContent = names[i];
    key.textContent = keys[i];
    tip.hidden = false;
    const {clientX: x, clientY: y} = event, w = tip.offsetWidth, h = tip.offsetHeight;
    tip.style.left = Math.max(4, Math.min(x - w / 2, document.documentElement.clientWidth - w - 4)) + 'px';
    tip.style.top = (y - h - 12 > 0 ? y - h - 12 : y + 16) + 'px';
  };
  const hide = () => { tip.hidden = true; };
  map.on('plotly_hover', show);
  map.on('plotly_click', show);
  map.on('plotly_unhover', hide);
  addEventListener('scroll', hide, {passive: true});
  const buttons = [...document.querySelectorAll('.legend button')];
  const press = chosen => {
    buttons.forEach((button, i) => {
      button.setAttribute('aria-pressed', chosen[i]);
      map.figure.data[i].visible = chosen[i];
    });
    hide();
    draw(map);
  };
  buttons.forEach((button, i) => {
    button.onclick = () => press(buttons.map((b, j) => (b.getAttribute('aria-pressed') == 'true') != (i == j)));
    button.ondblclick = () => {
      const alone = buttons.every((b, j) => (b.getAttribute('aria-pressed') == 'true') == (i == j));
      press(buttons.map((b, j) => (alone && b.parentNode == button.parentNode) || i == j));
    };
  });
})();
"""


def layout(h: Tensor) -> tuple[Tensor, str]:
    """(N, D) finite -> (N, 2) from -1 to 1, the longer axis first, and how it was made: "t-SNE" or "PCA"."""
    from sklearn.manifold import TSNE

    x = normalize(h.double(), dim=1)
    u, s, _ = torch.linalg.svd(x - x.mean(0), full_matrices=False)
    x = u[:, :PCA] * s[:PCA]  # (N, PCA)
    flat = torch.nn.functional.pad(x[:, :2], (0, max(0, 2 - x.shape[1])))
    how = "PCA"
    if len(x) >= FEW and s[0] > 1e-6:
        begin = (flat / flat[:, 0].std() * 1e-4).float().numpy()
        tsne = TSNE(perplexity=min(30.0, (len(x) - 1) / 3), init=begin, learning_rate="auto", random_state=0)
        flat, how = torch.from_numpy(tsne.fit_transform(x.float().numpy())).double(), "t-SNE"
        _, _, axes = torch.linalg.svd(flat - flat.mean(0), full_matrices=False)
        flat = flat @ axes.T
    low, high = flat.amin(0), flat.amax(0)
    return (2 * flat - low - high) / (high - low).clamp_min(1e-9), how


def atlas(items: Items, sorted_by: Groups) -> tuple[str, str]:
    """The map as HTML and how it was laid out; its pictures are one sprite, names and keys one JSON element."""
    flat, how = layout(items.features.h)
    traces, buttons = [], []
    for g, name in enumerate(sorted_by.names):
        rows = (sorted_by.of == g).nonzero()[:, 0]
        rest = sorted_by.rest and g == len(sorted_by.names) - 1
        colour, shape = "var(--other)" if rest else COLOURS[g % len(COLOURS)], SHAPES[g // len(COLOURS) % 2]
        traces.append(points(flat[rows], rows, name, colour, shape))
        buttons.append(button(name, colour, shape, len(rows)))
    names = sorted_by.names
    about = [names[g] if sorted_by.clusters else items.label(i) for i, g in enumerate(sorted_by.of.tolist())]
    sheet, columns = sprite(items.pictures)
    told = {"columns": columns, "rows": math.ceil(len(items) / columns), "keys": items.features.keys, "names": about}
    drawn = plot(
        traces,
        f"Map of {len(items):,} test items in two dimensions by {how}, coloured by "
        f"{'cluster' if sorted_by.clusters else 'label'}: {', '.join(names)}",
        **FLAT,
    )
    crisp = " image-rendering: pixelated;" if items.pictures.shape[-1] <= SMALL else ""
    html = (
        f'<div class="legend" role="group" aria-label="What is shown">{"".join(buttons)}</div>'
        f'<div class="card">{drawn}</div>'
        f'<div id="tip" class="card" role="status" hidden><i></i><strong></strong><span></span></div>'
        f"<style>#tip i {{ background-image: url({sheet});{crisp} }}</style>"
        f'<script type="application/json" id="items">{json.dumps(told).replace("<", chr(92) + "u003c")}</script>'
    )
    return html, how


def sprite(pictures: Tensor) -> tuple[str, int]:
    """(N, C, S, S) uint8 -> all of them in one picture, row by row, as a data URI, and its number of columns."""
    side = min(pictures.shape[-1], 64 if len(pictures) <= 1000 else 48)
    if side < pictures.shape[-1]:
        pictures = interpolate(pictures.float(), side, mode="bilinear", antialias=True).round().byte()
    columns = math.ceil(math.sqrt(len(pictures)))
    room = columns * math.ceil(len(pictures) / columns) - len(pictures)
    cells = torch.cat([pictures, pictures.new_zeros(room, *pictures.shape[1:])])
    cells = cells.unflatten(0, (-1, columns)).permute(2, 0, 3, 1, 4)  # (C, rows, S, columns, S)
    sheet = cells.flatten(3, 4).flatten(1, 2)
    for quality in (85, 60, 30):
        uri = picture(sheet, format="JPEG", quality=quality, subsampling=0)  # full colour: the cells are small
        if len(uri) < BYTES:
            break
    return uri, columns


def points(at: Tensor, rows: Tensor, name: str, colour: str, shape: str) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "markers",
        "x": at[:, 0].float().numpy(),
        "y": at[:, 1].float().numpy(),
        "customdata": rows.tolist(),
        "name": escape(name),
        "hoverinfo": "none",
        "marker": {"color": colour, "symbol": shape, "size": 7, "opacity": 0.85, "line": {"width": 0}},
    }


def button(name: str, colour: str, shape: str, count: int) -> str:
    inner = f'<i class="{shape}" style="background:{colour}"></i><span>{escape(name)}</span><small>{count:,}</small>'
    return f'<button type="button" aria-pressed="true">{inner}</button>'
