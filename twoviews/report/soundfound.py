"""A page of what was searched for among recordings and what was found, to listen to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from ..evaluate.search import Found
from .gallery import Neighbour, Row, alike, found_page, named
from .parts import document, save
from .players import STYLE, Players
from .soundclips import picture

SHOWN = 30  # queries on a page at most
WIDE = "<style>.frame img { object-fit: fill; }</style>"


def write_found_sounds(
    path: Path,
    title: str,
    note: str,
    found: Sequence[Found],
    queries: Mapping[str, Tensor],
    items: Mapping[str, Tensor],
    rate: int,
) -> Path:
    """Write a page of what was searched for and found; of the first 30 queries where there are more.

    queries, items: key -> float32 (1, 1, T), of which the first 2 seconds can be heard; a name alone stands where there
    is none.  rate: samples a second of all of them.  Raises UserError when it cannot be written.
    """
    players = Players()

    def shown(kind: str, key: str, sounds: Mapping[str, Tensor], label: str | None) -> dict[str, Any]:
        x, caption = sounds.get(key), named(key, label)
        if x is None:
            return {"picture": None, "caption": caption}
        return {"picture": picture(x), "caption": caption, "sound": players.add(f"{kind} {key}", x[0, 0], rate)}

    rows = []
    for one in found[:SHOWN]:
        near = [
            Neighbour(**shown("item", key, items, label), similarity=similarity, same=alike(label, one.label))
            for key, similarity, label in zip(one.keys, one.similarities, one.labels, strict=True)
        ]
        rows.append(Row(**shown("query", one.query, queries, one.label), found=near))
    body = f"<style>{STYLE}</style>{found_page(title, note, rows, len(found))}{WIDE}"
    return save(path, document(title, body, players.html()))
