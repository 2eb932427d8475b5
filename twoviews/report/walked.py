"""What the method saw: some walks or sentences as they were drawn, each with one token and what stands near it."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

import numpy as np

from ..types import Tokens
from .figures import COLOURS
from .naming import kinds_of, name_of, types_of

if TYPE_CHECKING:
    from ..data.entries import Entries

SHOWN, LONGEST, NAME = 8, 15, 28  # sequences, tokens of one, characters of a name
STYLE = """
.walked { list-style: none; padding: 0; margin: 0; display: grid; gap: .9rem; }
.walked li { line-height: 1.9; }
.walked span, .walked b { display: inline-block; max-width: 100%; line-height: 1.5; }
.walked span { color: var(--dim); border-radius: 6px; padding: .12rem .4rem; margin-right: .15rem; }
.walked .near { background: var(--soft); color: var(--ink); }
.walked b { border: 1.5px solid var(--ours); border-radius: 6px; padding: .1rem .4rem; margin-right: .15rem; }
.walked i { display: inline-block; width: .55rem; height: .55rem; border-radius: 50%; margin-right: .35rem; }
"""
LEAD = (
    "{n} of {total}, drawn by the run's seed. Framed: one token. Shaded: what stands within {window} of it, which the "
    "method learns to tell from what does not. {more}"
)


def walked(block: Tokens, entries: Entries, window: int, seed: int) -> tuple[str, str]:
    """The sequences as HTML, and what is to be said before them. window: as the method reads them, in tokens."""
    lengths = np.diff(block.bounds)
    order = np.random.default_rng(seed).permutation(np.flatnonzero(lengths > 1))
    if not len(order):
        return "<p>None of the sequences that were looked at has two tokens: there is nothing to learn.</p>", ""
    shown = [block.tokens[block.bounds[i] : block.bounds[i + 1]] for i in order[:SHOWN]]
    lines = "".join(f"<li>{_line(tokens.tolist(), entries, window)}</li>" for tokens in shown)
    words = entries.types is None
    kind = f"{len(lengths):,} pieces of text" if words else f"{len(lengths):,} walks"
    more = "Frequent words are left out at random, as in training." if words else ""
    lead = LEAD.format(n=f"{len(shown):,}", total=kind, window=f"{window:,}", more=more)
    return f'<div class="card"><ul class="walked">{lines}</ul></div>', lead


def _line(tokens: list[int], entries: Entries, window: int) -> str:
    middle = min(len(tokens), LONGEST) // 2
    out = []
    for place, row in enumerate(tokens[:LONGEST]):
        name = name_of(entries, row)
        name = escape(name if len(name) <= NAME else f"{name[: NAME - 1]}…")
        dot = _dot(entries, row)
        if place == middle:
            out.append(f"<b>{dot}{name}</b>")
        else:
            out.append(f"<span{' class=near' if abs(place - middle) <= window else ''}>{dot}{name}</span>")
    rest = len(tokens) - LONGEST
    return " ".join(out) + (f" <small>and {rest:,} more</small>" if rest > 0 else "")


def _dot(entries: Entries, row: int) -> str:
    """A mark in the colour of the row's type."""
    if not entries.typed:
        return ""
    kind = int(kinds_of(entries)[row])
    title = escape(types_of(entries)[kind], quote=True)
    return f'<i style="background:{COLOURS[kind % len(COLOURS)]}" title="{title}"></i>'
