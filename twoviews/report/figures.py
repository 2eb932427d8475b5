"""Plots: Plotly's figures in colours of the page's style, drawn again when light turns to dark.

Colours are written as names of the style, "var(--ours)"; the script gives them their value of the moment.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

AXIS = {"gridcolor": "var(--line)", "zeroline": False, "automargin": True, "linecolor": "var(--line)", "nticks": 6}
LAYOUT = {
    "template": {},
    "paper_bgcolor": "rgba(0,0,0,0)",
    "plot_bgcolor": "rgba(0,0,0,0)",
    "font": {"family": "system-ui, sans-serif", "size": 12, "color": "var(--dim)"},
    "margin": {"l": 8, "r": 8, "t": 8, "b": 8},
    "hovermode": "x unified",
    "hoverlabel": {"bgcolor": "var(--card)", "bordercolor": "var(--line)", "font": {"color": "var(--ink)"}},
    "showlegend": False,
    "uirevision": "kept",
}
COLOURS = ("#4c78d8", "#f0a430", "#e4584f", "#4fb3a5", "#58a83c", "#e883ac", "#9a67e0", "#8a6d4f", "#5aa9e0", "#8d94a0")
STYLE = """
.plot { width: 100%; }
.plot .hoverlayer .legend text.legendtext { fill: var(--ink) !important; }
.key { display: flex; flex-wrap: wrap; gap: .1rem .9rem; font-size: .875rem; color: var(--dim); }
.key i { display: inline-block; width: 1.1em; border-top: 3px solid; vertical-align: .25em; margin-right: .35em; }
"""
SCRIPT = """
const probe = document.body.appendChild(document.createElement('span'));
probe.hidden = true;
function paint(value) {
  if (typeof value == 'string' && value.startsWith('var(')) {
    probe.style.color = value;
    return getComputedStyle(probe).color;
  }
  if (Array.isArray(value)) return value.map(paint);
  if (value && typeof value == 'object')
    return Object.fromEntries(Object.entries(value).map(([name, inner]) => [name, paint(inner)]));
  return value;
}
function draw(div) {
  const {data, layout} = paint(div.figure);
  if (matchMedia('(hover: none)').matches) layout.dragmode = false;  // a finger scrolls the page
  return Plotly.react(div, data, layout, {responsive: true, displayModeBar: false});
}
const plots = [...document.querySelectorAll('.plot')];
for (const div of plots) {
  div.figure = JSON.parse(div.firstElementChild.textContent);
  div.replaceChildren();
  const closed = div.closest('details:not([open])');
  if (closed) closed.addEventListener('toggle', () => draw(div));
  else draw(div);
}
const redraw = () => plots.filter(div => !div.closest('details:not([open])')).forEach(draw);
matchMedia('(prefers-color-scheme: dark)').addEventListener('change', redraw);
matchMedia('print').addEventListener('change', redraw);
addEventListener('scheme', redraw);
"""


def plot(
    traces: Sequence[Mapping[str, Any]],
    alt: str,
    *,
    height: int = 220,
    name: str = "",
    xaxis: Mapping[str, Any] | None = None,
    yaxis: Mapping[str, Any] | None = None,
    **layout: Any,
) -> str:
    """A figure as HTML; `scripts()` must stand once at the end of the page.

    traces: Plotly's, as dicts; text in them is HTML of a kind, so names from data come escaped.
    alt:    in plain words what is drawn.  name: the element's id.
    """
    import plotly.graph_objects as go

    axes = {"xaxis": {**AXIS, "showgrid": False, **(xaxis or {})}, "yaxis": {**AXIS, **(yaxis or {})}}
    figure = go.Figure(list(traces), {**LAYOUT, "height": height, **axes, **layout})
    inner = str(figure.to_json()).replace("<", "\\u003c")
    label, named = escape(alt, quote=True), f'id="{name}" ' if name else ""
    return (
        f'<div class="plot" {named}role="img" aria-label="{label}" style="height:{height}px">'
        f'<script type="application/json">{inner}</script></div>'
    )


def line(x: Any, y: Any, name: str, colour: str, **more: Any) -> dict[str, Any]:
    """A curve. name: as hover shows it, plain text."""
    drawn = {"color": colour, "width": 2, **more.pop("line", {})}
    return {"type": "scatter", "mode": "lines", "x": x, "y": y, "name": escape(name), "line": drawn, **more}


def key(entries: Mapping[str, str]) -> str:
    """Which colour is what, as text: {name: colour}."""
    rows = (f'<span><i style="color:{colour}"></i>{escape(name)}</span>' for name, colour in entries.items())
    return f'<div class="key">{"".join(rows)}</div>'


def scripts() -> str:
    """Plotly itself, whole (about 4.8 MB: the package has no smaller build), and what draws the figures."""
    from plotly.offline import get_plotlyjs

    return f"<script>{get_plotlyjs()}</script><script>{SCRIPT}</script>"
