"""Files and lists read as documents: numbers of words, and where documents and sentences end."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..errors import BrokenItem, DataError
from .text import make_room
from .textfiles import Lines, Pieces, Shelf, files, opened

WHOLE = 0.5  # share of lines that end in a stop from which on lines are not wrapped


@dataclass
class Found:
    """What reading gave. lines: where each line ends, blank ones too; closes: where documents do, where that is known.

    documents: their names, where they have any.
    """

    name: str
    shelf: Shelf = field(default_factory=Shelf)
    lexicon: Any = None
    lines: list[np.ndarray] = field(default_factory=list)
    closes: np.ndarray | None = None
    documents: list[str] | None = None
    skipped: dict[str, str] = field(default_factory=dict)

    def put(self, file: Any) -> None:
        """Read what has `readinto`; nothing is kept of what raises BrokenItem."""
        ends: list[np.ndarray] = []
        self.shelf.put(_seen(self.lexicon.number(file), self.shelf.size, ends))
        self.lines += ends


def _seen(pieces: Pieces, at: int, ends: list[np.ndarray]) -> Pieces:
    """The pieces, while where their lines end is noted: a shelf forgets blank ones."""
    for tokens, lines in pieces:
        ends.append(lines + at)
        at += len(tokens)
        yield tokens, lines


def read_documents(data: Any) -> Found:
    """Raises DataError where there is nothing to read."""
    from .textkernels import Lexicon

    paths = [data] if isinstance(data, str | os.PathLike) else data
    if not hasattr(paths, "__iter__"):
        raise DataError(f"cannot read documents from a {type(data).__name__}: give a path, texts or lists of sentences")
    if isinstance(paths, list | tuple) and paths and (paths is not data or isinstance(paths[0], os.PathLike)):
        return _read_files([os.path.expanduser(os.fspath(path)) for path in paths])
    found, sizes = Found(type(data).__name__, lexicon=Lexicon()), list[int]()
    try:
        found.put(Lines(_sentences(paths, sizes)))
    except BrokenItem as why:
        raise DataError(f"cannot read the text of a {found.name}: {why}") from None
    found.closes = np.concatenate([[0], *found.lines])[np.cumsum(sizes)] if sizes else np.zeros(0, np.int64)
    return found


def _sentences(documents: Iterable[Any], sizes: list[int]) -> Iterator[str]:
    """Documents line by line: each is a text, or a list of sentences. sizes: filled with their lines."""
    for i, document in enumerate(documents):
        if not isinstance(document, str | list | tuple):
            raise DataError(f"text is lists of sentences, or texts, but document {i:,} is {str(document)[:40]!r}")
        lines = [document] if isinstance(document, str) else document
        sizes.append(len(lines))
        yield from lines


def _read_files(paths: list[str]) -> Found:
    from .textkernels import Lexicon

    name = os.path.basename(os.path.abspath(paths[0])) + (f" and {len(paths) - 1:,} more" if paths[1:] else "")
    listed = [(file, path) for path in paths for file in files(path)]
    found, closes = Found(name, lexicon=Lexicon()), list[int]()
    make_room(name, [file for file, _ in listed], found.shelf.most)
    for file, _ in listed:
        try:
            with opened(file) as stream:
                found.put(stream)
        except BrokenItem as why:
            found.skipped[file] = str(why)
        closes.append(found.shelf.size)
    if len(found.skipped) == len(listed):
        path, reason = next(iter(found.skipped.items()))
        raise DataError(f"cannot read '{path}': {reason}" + (f"; nor {len(listed) - 1:,} more" if listed[1:] else ""))
    if len(listed) > 1:
        found.closes = np.array(closes)
        inside = (os.path.relpath(file, path) if os.path.isdir(path) else file for file, path in listed)
        found.documents = [part.replace(os.sep, "/") for part in inside]
    return found


def layout_of(found: Found, tokens: np.ndarray, stops: np.ndarray, words: int) -> tuple[np.ndarray, np.ndarray, str]:
    """Where sentences end whatever the words, where documents do too, and how both were told, in words.

    Lines end sentences where most of them end in a stop, else they may be wrapped; of a text without stops where
    documents have several.
    """
    lines = np.concatenate([np.zeros(0, np.int64), *found.lines])
    size = np.diff(lines, prepend=0)
    filled = lines[size > 0]
    closes, one = found.closes, "a file" if found.documents else "an entry"
    if closes is None:
        blank = (size == 0) & (lines > 0) & (lines < len(tokens))
        one = "a block between blank lines" if blank.any() else "a line"
        closes = np.append(np.unique(lines[blank]), len(tokens)) if blank.any() else lines
    marked = bool(stops.any())
    if one == "an entry":
        broken = len(filled) > len(closes)
    else:
        broken = stops[tokens[filled - 1]].mean() >= WHOLE if marked else len(filled) >= 2 * len(closes)
        broken = broken and one != "a line"
    ended = [". ! ?"] * marked + ["the ends of lines"] * bool(broken)
    ended = ended or [f"every {words} words"]
    lines = filled if broken else filled[:0]
    breaks = np.concatenate([lines, closes])
    order = np.argsort(breaks, kind="stable")  # a line before the document that it ends
    return breaks[order], (order >= len(lines)), f"each {one}; sentences end at {' and '.join(ended)}"
