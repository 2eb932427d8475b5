"""What is most alike to what is met most: the ten nearest of the same type, by cosine."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from ..evaluate.alike import others
from .naming import kinds_of, name_of, types_of

if TYPE_CHECKING:
    from ..data.entries import Entries
    from ..data.nodelabels import NodeLabels

SHOWN, NEAR = 12, 10  # cards in all, at least two of a type; neighbours on each
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
        parts = {0: torch.from_numpy(known)}
        scores, found = others(weight.float(), asked, np.zeros_like(asked), parts, min(NEAR, len(known) - 1))
        for row, near, score in zip(asked.tolist(), found.tolist(), scores.tolist(), strict=True):
            cards.append(_card(entries, row, near, score, classes, kind if entries.typed else ""))
    if not cards:
        return "<p>Nothing was met often enough to be compared.</p>", ""
    of, same = (" of each type", " others of that type") if entries.typed else ("", " others")
    mark = " ✓ marks one of the same label." if classes else ""
    return f'<div class="grid">{"".join(cards)}</div>', LEAD.format(of=of, same=same, mark=mark)


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
