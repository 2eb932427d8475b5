"""What is most alike to what is met most: the ten nearest of the same type, by cosine."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from .naming import kinds_of, name_of, types_of

if TYPE_CHECKING:
    from ..data.entries import Entries
    from ..data.nodelabels import NodeLabels

SHOWN, NEAR = 12, 10  # cards in all, at least two of a type; neighbours on each
BLOCK = 100_000  # rows compared at a time
STYLE = """
.alike h3 { display: flex; justify-content: space-between; gap: .6rem; }
.alike h3 small { font-weight: 400; flex: none; }
.alike ol { margin: .3rem 0 0; padding-left: 1.6rem; font-size: .9rem; line-height: 1.45; }
.alike li small { float: right; margin-left: .6rem; font-variant-numeric: tabular-nums; }
.alike .same { color: var(--healthy); font-weight: 600; }
.alike.card { break-inside: avoid; }
"""
LEAD = (
    "What is met most{of}, and the ten{same} whose vectors are most alike to its own, with their cosine; what was "
    "never met is not found.{mark}"
)


def alike(weight: Tensor, entries: Entries, labels: Sequence[NodeLabels]) -> tuple[str, str]:
    """Cards, and what is to be said before them. weight: (V, D), finite."""
    types, kinds = types_of(entries), kinds_of(entries)
    classes = classes_of(labels)
    cards = []
    for k, kind in enumerate(types):
        known = np.flatnonzero((kinds == k) & (entries.counts > 0))
        if len(known) < 2:
            continue
        share = max(2, SHOWN // len(types))
        asked = known[np.argsort(-entries.counts[known], kind="stable")[:share]]
        for row, (found, score) in zip(asked.tolist(), nearest(weight, asked, known), strict=True):
            cards.append(_card(entries, row, found, score, classes, kind if entries.typed else ""))
    if not cards:
        return "<p>Nothing was met often enough to be compared.</p>", ""
    of, same = (" of each type", " others of that type") if entries.typed else ("", " others")
    mark = " ✓ marks one of the same label." if classes else ""
    return f'<div class="grid">{"".join(cards)}</div>', LEAD.format(of=of, same=same, mark=mark)


def nearest(
    weight: Tensor, asked: np.ndarray, known: np.ndarray, k: int = NEAR, block: int = BLOCK
) -> list[tuple[list[int], list[float]]]:
    """For each of some rows the k others among `known` with the largest cosine, best first; `block` rows at a time."""
    rows = torch.from_numpy(known)
    query = normalize(_taken(weight, torch.from_numpy(asked)), dim=1)
    best = torch.full((len(asked), k), -2.0)
    place = torch.full((len(asked), k), -1)
    for some in rows.split(block):
        score = query @ normalize(_taken(weight, some), dim=1).T
        score[some == torch.from_numpy(asked)[:, None]] = -2.0
        both, at = torch.cat([best, score], 1).topk(k, dim=1)
        place = torch.cat([place, some.expand(len(asked), -1)], 1).gather(1, at)
        best = both
    cut = [int((row > -2.0).sum()) for row in best]
    return [(place[i, :n].tolist(), best[i, :n].tolist()) for i, n in enumerate(cut)]


def classes_of(labels: Sequence[NodeLabels]) -> dict[int, tuple[int, np.ndarray]]:
    """Labelled row -> of which labels, and its classes there."""
    return {int(node): (i, each.matrix[n]) for i, each in enumerate(labels) for n, node in enumerate(each.nodes)}


def _card(entries: Entries, row: int, found: list[int], score: list[float], classes: dict, kind: str) -> str:
    lines = []
    for other, s in zip(found, score, strict=True):
        same = _same(classes.get(row), classes.get(other))
        name = escape(name_of(entries, other))
        lines.append(f"<li{' class=same' if same else ''}><small>{s:.2f}</small>{'✓ ' if same else ''}{name}</li>")
    small = f"{kind}, " if kind else ""
    small = f"<small>{escape(small)}{int(entries.counts[row]):,} times</small>"
    head = f"<h3><span>{escape(name_of(entries, row))}</span>{small}</h3>"
    return f'<div class="card alike">{head}<ol>{"".join(lines)}</ol></div>'


def _same(a: tuple[int, np.ndarray] | None, b: tuple[int, np.ndarray] | None) -> bool:
    return a is not None and b is not None and a[0] == b[0] and bool((a[1] & b[1]).any())


def _taken(weight: Tensor, rows: Tensor) -> Tensor:
    return weight[rows.to(weight.device)].float().cpu()
