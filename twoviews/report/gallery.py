"""Queries and what was found for each, as pictures: a fragment for the report, a page for `twoviews search`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from torch import Tensor

from ..evaluate.search import Found
from .parts import SMALL, document, save, thumbnail

SIDE = 96  # pixels of a thumbnail at most
SHOWN = 100  # queries on a page at most

STYLE = """<style>
.row { display: grid; grid-template-columns: 7rem 1fr; gap: .4rem 1.4rem; padding: 1rem 0;
  border-top: 1px solid var(--line); break-inside: avoid; }
.row figure { margin: 0; min-width: 0; } .row figcaption { font-size: .75rem; line-height: 1.35; margin-top: .3rem; }
.row figcaption b { color: var(--ink); font-variant-numeric: tabular-nums; display: block; font-weight: 600; }
.found { display: grid; grid-template-columns: repeat(auto-fill, minmax(clamp(4.6rem, 9vw, 6.6rem), 1fr));
  gap: .8rem .7rem; list-style: none; margin: 0; padding: 0; align-content: start; }
.frame { display: grid; place-items: center; aspect-ratio: 1; border: 3px solid transparent; border-radius: 8px;
  background: var(--soft); overflow: hidden; color: var(--dim); font-size: .75rem; text-align: center; }
.frame img { width: 100%; height: 100%; object-fit: contain; display: block; }
.same { border-color: var(--healthy); } .another { border-color: var(--ill); border-style: dashed; }
@media (max-width: 40rem) {
  .row { grid-template-columns: 1fr; }
  .row > figure { display: grid; grid-template-columns: 5rem 1fr; gap: .8rem; align-items: center; }
}
</style>"""
LEGEND = '<p class="dim">A solid frame: the label of the query. A dashed one: another label.</p>'


@dataclass(frozen=True)
class Neighbour:
    """One thing found. picture: uint8 (C, h, w), or None where it cannot be read.

    same: has it the label of the query? None where one of the two has no label.
    sound: the number of what a press on it plays (players.py), or None.
    """

    picture: Tensor | None
    caption: str
    similarity: float
    same: bool | None = None
    sound: int | None = None


@dataclass(frozen=True)
class Row:
    """A query and what was found for it, the most alike first. picture, sound: as in `Neighbour`."""

    picture: Tensor | None
    caption: str
    found: Sequence[Neighbour]
    sound: int | None = None


def gallery(rows: Sequence[Row]) -> str:
    """The rows as a fragment of HTML with its style, for a page that `document` makes."""
    marked = any(one.same is not None for row in rows for one in row.found)
    return STYLE + (LEGEND if marked else "") + "".join(map(_row, rows))


def write_found(
    path: Path,
    title: str,
    note: str,
    found: Sequence[Found],
    queries: Mapping[str, Tensor],
    items: Mapping[str, Tensor],
) -> Path:
    """Write a page of what was searched for and found; of the first 100 queries where there are more.

    queries, items: key -> picture, as in `Neighbour`.  Raises UserError when it cannot be written.
    """
    rows = [
        Row(queries.get(one.query), named(one.query, one.label), [*_neighbours(one, items)]) for one in found[:SHOWN]
    ]
    return save(path, document(title, found_page(title, note, rows, len(found))))


def found_page(title: str, note: str, rows: Sequence[Row], queries: int) -> str:
    """The body of a page of what was found. queries: how many there were, of which the rows are the first."""
    if queries > len(rows):
        note += f" These are the first {len(rows)} of {queries:,} queries."
    return f"<h1>{escape(title)}</h1><p>{escape(note)}</p>{gallery(rows)}"


def _neighbours(one: Found, items: Mapping[str, Tensor]) -> Iterator[Neighbour]:
    for key, similarity, label in zip(one.keys, one.similarities, one.labels, strict=True):
        yield Neighbour(items.get(key), named(key, label), similarity, alike(label, one.label))


def alike(label: str | None, other: str | None) -> bool | None:
    """Whether two labels are the same; None where one of them is not known."""
    return label == other if label and other else None


def named(key: str, label: str | None) -> str:
    return f"{key} ({label})" if label else key


def _row(row: Row) -> str:
    query = f"<figure>{_frame(row)}<figcaption>{_broken(row.caption)}</figcaption></figure>"
    return f'<div class="row">{query}<ol class="found">{"".join(map(_found, row.found))}</ol></div>'


def _found(one: Neighbour) -> str:
    mark = {None: "", True: " same", False: " another"}[one.same]
    caption = f"<b>{one.similarity:.3f}</b>{_broken(one.caption)}"
    return f"<li><figure>{_frame(one, mark)}<figcaption>{caption}</figcaption></figure></li>"


def _frame(one: Row | Neighbour, mark: str = "") -> str:
    inner = "no picture" if one.picture is None else _picture(one.picture, one.caption)
    if one.sound is None:
        return f'<div class="frame{mark}">{inner}</div>'
    label = escape(f"play {one.caption}")
    return f'<button type="button" class="frame{mark}" data-sound="{one.sound}" aria-label="{label}">{inner}</button>'


def _picture(image: Tensor, caption: str) -> str:
    pixels = ' class="pixels"' if max(image.shape[1:]) <= SMALL else ""
    return f'<img{pixels} src="{thumbnail(image, SIDE)}" alt="{escape(caption)}">'


def _broken(caption: str) -> str:
    """Escaped, and free to go on in a new line after a slash."""
    return escape(caption).replace("/", "/<wbr>")
