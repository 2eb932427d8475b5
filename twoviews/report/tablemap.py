"""The map of a table: some rows of each type in two dimensions, coloured by type, by label or by frequency."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from .atlas import FLAT, SHAPES, button, layout, points
from .catalogue import COLOURS as OFTEN
from .catalogue import PARTS
from .figures import COLOURS, plot
from .groups import MOST as CLASSES
from .naming import kinds_of, name_of, types_of

if TYPE_CHECKING:
    from ..data.entries import Entries
    from ..data.nodelabels import NodeLabels

MOST = 2000  # points
STYLE = """
.legend[hidden] { display: none; }
.choose { display: flex; flex-wrap: wrap; gap: .35rem; margin-bottom: .6rem; }
.choose button[aria-pressed=true] { color: var(--paper); background: var(--ours); border-color: var(--ours); }
"""
SCRIPT = """
(() => {
  const map = document.getElementById('atlas'), legends = [...document.querySelectorAll('.legend')];
  const choices = [...document.querySelectorAll('.choose button')];
  choices.forEach((choice, k) => {
    choice.onclick = () => {
      choices.forEach((other, j) => other.setAttribute('aria-pressed', j == k));
      legends.forEach((legend, j) => { legend.hidden = j != k; });
      [...document.querySelectorAll('.legend button')].forEach((button, i) => {
        const shown = button.parentNode == legends[k];
        button.setAttribute('aria-pressed', shown);
        map.figure.data[i].visible = shown;
      });
      draw(map);
    };
  });
})();
"""
LEAD = (
    "Each point is one of {n}, by its vector, laid out flat by {how}. Point at one, or tap it, to see its name; drag "
    "to zoom in, double-click to zoom out. What lies together is met in like company; how far apart the islands are "
    "says nothing. {drawn}"
)
DRAWN = {
    "words": "A third are the most frequent words, the others are drawn at random.",
    "nodes": "Of each type a third are met most, the others are drawn at random, where there are labels among those.",
}


@dataclass(frozen=True)
class Colouring:
    """of: (N,) the group of each point.  names, colours: of the groups.  rest: is the last one what belongs to none?"""

    by: str
    of: np.ndarray
    names: list[str]
    colours: Sequence[str] = COLOURS
    rest: bool = False


def table_map(weight: Tensor, entries: Entries, labels: Sequence[NodeLabels], seed: int) -> tuple[str, str]:
    """The map as HTML, and what is to be said before it. weight: (V, D), finite."""
    rows = chosen(entries, labels, seed)
    flat, how = layout(weight[torch.from_numpy(rows).to(weight.device)].float().cpu())
    of = "words" if entries.types is None else "nodes"
    told = {"keys": [said(entries, row) for row in rows.tolist()]}
    told |= {"names": [name_of(entries, row) for row in rows.tolist()]}
    html = coloured(
        flat, colourings(rows, entries, labels), told, f"Map of {len(rows):,} {of} in two dimensions by {how}"
    )
    some = (
        f"{len(rows):,} of {len(entries.counts):,} {of}" if len(rows) < len(entries.counts) else f"{len(rows):,} {of}"
    )
    return html, LEAD.format(n=some, how=how, drawn=DRAWN[of])


def coloured(flat: Tensor, ways: Sequence[Colouring], told: dict[str, list[str]], alt: str) -> str:
    """A map whose colours can be chosen. flat: (N, 2). told: the names and keys of its points, plain text."""
    traces, legends = [], []
    for k, way in enumerate(ways):
        buttons = []
        for g, name in enumerate(way.names):
            here = np.flatnonzero(way.of == g)
            rest = way.rest and g == len(way.names) - 1
            many = len(way.colours)
            colour, shape = ("var(--other)", "circle") if rest else (way.colours[g % many], SHAPES[g // many % 2])
            traces.append({**points(flat[here], torch.from_numpy(here), name, colour, shape), "visible": k == 0})
            buttons.append(button(name, colour, shape, len(here)))
        legends.append(
            f'<div class="legend" role="group" aria-label="What is shown"{"" if k == 0 else " hidden"}>'
            f"{''.join(buttons)}</div>"
        )
    choices = "".join(
        f'<button type="button" aria-pressed="{str(k == 0).lower()}">by {escape(way.by)}</button>'
        for k, way in enumerate(ways)
    )
    told = {"columns": 1, "rows": 1, **told}  # type: ignore[dict-item]
    drawn = plot(traces, f"{alt}, coloured by {ways[0].by}", **FLAT)
    return (
        (f'<div class="choose" role="group" aria-label="Colours">{choices}</div>' if len(ways) > 1 else "")
        + "".join(legends)
        + f'<div class="card">{drawn}</div>'
        + '<div id="tip" class="card" role="status" hidden><i hidden></i><strong></strong><span></span></div>'
        + "<style>#tip { width: 200px; } #tip i { display: none; }</style>"
        + f'<script type="application/json" id="items">{json.dumps(told).replace("<", chr(92) + "u003c")}</script>'
    )


def chosen(entries: Entries, labels: Sequence[NodeLabels], seed: int) -> np.ndarray:
    """The rows on the map: of each type as many as of the others, where it has them; never what was not trained."""
    counts = entries.counts
    random = np.random.default_rng(seed)
    kinds = kinds_of(entries)
    known = [np.flatnonzero((kinds == k) & (counts > 0)) for k in range(len(types_of(entries)))]
    labelled = np.zeros(len(counts), bool)
    for each in labels:
        labelled[each.nodes] = True
    out, left = [], MOST
    for done, mine in enumerate(sorted(known, key=len)):
        many = min(len(mine), left // (len(known) - done))
        first = mine[np.argsort(-counts[mine], kind="stable")[: -(-many // 3)]]
        rest = random.permutation(np.setdiff1d(mine, first))
        rest = rest[np.argsort(~labelled[rest], kind="stable")][: many - len(first)]
        out += [first, rest]
        left -= many
    return np.sort(np.concatenate(out))


def colourings(rows: np.ndarray, entries: Entries, labels: Sequence[NodeLabels]) -> list[Colouring]:
    """By type where there are several, by label where there are any, else by how often a row is met."""
    ways = []
    if entries.typed:
        of = kinds_of(entries)[rows]
        here = np.unique(of)
        ways.append(
            Colouring(
                "type",
                np.searchsorted(here, of),
                [types_of(entries)[k] for k in here],
                [COLOURS[k % len(COLOURS)] for k in here],
            )
        )
    if any(len(each.nodes) for each in labels):
        ways.append(by_label(rows, labels))
    return ways or [by_frequency(rows, entries.counts)]


def by_label(rows: np.ndarray, labels: Sequence[NodeLabels]) -> Colouring:
    """The largest classes by name, whatever type they are of; the rest is of rare ones, of several or of none."""
    found = np.full(len(rows), "", dtype=object)
    for each in labels:
        place = np.searchsorted(rows, each.nodes)
        here = np.flatnonzero((place < len(rows)) & (rows[np.minimum(place, len(rows) - 1)] == each.nodes))
        for node in here[each.matrix[here].sum(1) == 1]:
            found[place[node]] = each.classes[int(each.matrix[node].argmax())]
    names, of, count = np.unique(found.astype(str), return_inverse=True, return_counts=True)
    order = [i for i in np.argsort(-count, kind="stable") if names[i]][:CLASSES]
    rank = np.full(len(names), len(order))
    rank[order] = np.arange(len(order))
    rest = bool((rank[of] == len(order)).any())
    return Colouring("label", rank[of], [*(str(names[i]) for i in order), *(["no or another label"] * rest)], rest=rest)


def by_frequency(rows: np.ndarray, counts: np.ndarray) -> Colouring:
    known = np.sort(counts[counts > 0])[::-1]
    place = np.searchsorted(-known, -counts[rows], side="left")
    of = np.searchsorted(list(PARTS.values()), (place + 0.5) / max(1, len(known)))
    here = np.unique(of)
    names = [list(PARTS)[k].replace("popular", "frequent") for k in here]
    return Colouring("frequency", np.searchsorted(here, of), names, [OFTEN[k] for k in here])


def said(entries: Entries, row: int) -> str:
    """What stands under a name: what it is, and how often it is met."""
    return f"{entries.key(row)}, met {int(entries.counts[row]):,} times"
