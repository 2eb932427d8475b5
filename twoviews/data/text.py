"""Text: words by how often they occur, and lines of their numbers.

files, lines or lists -> numbers of words as they come -> Corpus: the commonest word is 0, rare ones are left out

One pass reads; no word of a file is ever a Python object. A token takes 4 bytes, in a temporary file where that is more
than half of the free memory; a line 8.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from dataclasses import dataclass, field
from hashlib import blake2b
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ..errors import BrokenItem, DataError, UserError
from ..log import console
from .histories import buffers, tally
from .listing import few
from .textfiles import PACKED, Lines, Names, Shelf, files, is_text, opened

if TYPE_CHECKING:
    import pyarrow as pa

WRITTEN = 6  # bytes of a token in a file, with its blank
EXPANDS = 4  # what packed text grows by, about
SAID = 2**28  # tokens from which on an estimate is said before they are read
EMPTY = "lines without a word"
RARE = "distinct words that are too rare"
OUT = "tokens of words that are left out"
BARE = "lines with rare words alone"
LOST = "bytes that are no UTF-8"
RULES = {EMPTY: "left out", RARE: "left out", OUT: "windows reach over them", BARE: "left out", LOST: "read as U+FFFD"}
__all__ = ["Corpus", "is_text", "notes", "text"]


@dataclass(frozen=True, eq=False)
class Corpus:
    """A source whose items are words. Line i is tokens[bounds[i] : bounds[i + 1]].

    tokens:  (n,) int32 places in the vocabulary; words that are left out are not there.
    bounds:  (m + 1,) int64, of lines with at least one word.
    vocabulary: (V,) words, the commonest first, equals by name.  counts_: (V,) int64, how often each occurs.
    counted: what reading found and did, in words -> how often.
    skipped: files that cannot be read, with the reason.
    """

    name: str
    tokens: np.ndarray
    bounds: np.ndarray
    vocabulary: pa.Array
    counts_: np.ndarray
    counted: dict[str, int] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)

    labels = None
    classes = None
    kinds = None

    def __len__(self) -> int:
        """V: the items are the words."""
        return len(self.vocabulary)

    @property
    def rows(self) -> int:
        """V, the rows of a table of vectors."""
        return len(self)

    @property
    def lines(self) -> int:
        return len(self.bounds) - 1

    def counts(self) -> np.ndarray:
        """(V,) int64: how often each word occurs."""
        return self.counts_

    def key(self, index: int) -> str:
        return str(self.vocabulary[int(index)].as_py())

    def read(self, index: int) -> Tensor:
        """The word's number, for who reads a table."""
        return torch.tensor(index)

    def subset(self, indices: np.ndarray) -> Any:
        raise UserError("a text is held out by lines, see twoviews.data.sentences.held_out")

    def fingerprint(self) -> str:
        """16 hex digits of the words, the tokens and the lines."""
        out = blake2b(digest_size=8)
        for numbers in (self.tokens, self.bounds):
            out.update(np.ascontiguousarray(numbers).view(np.uint8).data)
        for part in buffers(self.vocabulary):
            out.update(part)
        return out.hexdigest()


def text(data: Any, *, least: int = 5, most: int | None = None, lower: bool = False) -> Corpus:
    """Lines of words: one sentence or document a line, words separated by white space.

    data:  a file (.gz, .xz, .bz2, .zst), a folder of .txt and .text files, a pattern such as 'dump/**/wiki_*'; any
           iterable of lines or of lists of tokens, read once.
    least: words that occur less often are left out.  most: words that are kept at most, the commonest.
    lower: capitals become small letters.
    Raises DataError when there is no text, or none of its words occurs `least` times; UserError for a setting.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    from .textkernels import settled

    if least < 1:
        raise UserError(f"data.least must be 1 or more occurrences of a word, got {least}")
    if most is not None and most < 1:
        raise UserError(f"data.most must be 1 or more words, or None for all, got {most}")
    name, shelf, found, skipped = _read(data)
    words, lost = found.words()
    tokens, ends = shelf.arrays()
    if not len(tokens):
        raise DataError(f"no words in {name}: it is empty")
    counts = tally(tokens, len(words))
    counted = {EMPTY: shelf.empty, LOST: int(lost @ counts)}
    codes = np.arange(len(words), dtype=np.int32)
    if lower or lost.any() or isinstance(found, Names):  # names that differed may not any more
        encoded = (pc.utf8_lower(words) if lower else words).dictionary_encode()
        words, codes = encoded.dictionary, encoded.indices.to_numpy()
        counts = np.bincount(codes, counts, len(words)).astype(np.int64)
    kept = np.flatnonzero(counts >= least)
    if not len(kept):
        top = int(counts.argmax())
        raise DataError(
            f"{name}: a vocabulary emptied by least={least}: the commonest word, '{words[top]}', occurs "
            f"{counts[top]:,} times; give a smaller data.least, or more text"
        )
    table = pa.table({"count": counts[kept], "word": words.take(pa.array(kept))})
    order = pc.sort_indices(table, sort_keys=[("count", "descending"), ("word", "ascending")])[:most]
    kept = kept[order.to_numpy()]
    place = np.full(len(words), -1, np.int32)
    place[kept] = np.arange(len(kept), dtype=np.int32)
    vocabulary = table["word"].combine_chunks().take(order)
    vocabulary = vocabulary.cast(pa.string()) if vocabulary.nbytes < 2**31 else vocabulary
    n, m = settled(tokens, ends, place[codes], tokens)
    bounds = np.concatenate([[0], ends[:m]])
    counted |= {RARE: int((counts > 0).sum()) - len(kept), OUT: len(tokens) - n, BARE: len(ends) - m}
    counted = {words: count for words, count in counted.items() if count}
    return Corpus(name, tokens[:n], bounds, vocabulary, counts[kept], counted, skipped)


def notes(corpus: Corpus) -> list[str]:
    """What was read and what was left out, in lines to print."""
    n, m = len(corpus.tokens), corpus.lines
    raw, distinct = n + corpus.counted.get(OUT, 0), len(corpus) + corpus.counted.get(RARE, 0)
    out = [
        f"words {len(corpus):,} of {distinct:,} distinct, tokens {n:,} of {raw:,} ({n / raw:.1%}), lines {m:,}, "
        f"mean length {n / m:.1f}"
    ]
    out += [f"{count:,} {words}: {RULES[words]}" for words, count in corpus.counted.items()]
    return out + few((f"skipped {path}: {why}" for path, why in corpus.skipped.items()), 5)


def _read(data: Any) -> tuple[str, Shelf, Any, dict[str, str]]:
    """A name, the tokens, what knows their words, and what could not be read. Raises DataError where nothing can."""
    from .textkernels import Lexicon

    shelf, skipped = Shelf(), dict[str, str]()
    paths = [data] if isinstance(data, str | os.PathLike) else data
    if isinstance(paths, list | tuple) and paths and (paths is not data or isinstance(paths[0], os.PathLike)):
        given = [os.path.expanduser(os.fspath(path)) for path in paths]
        name = os.path.basename(os.path.abspath(given[0])) + (f" and {len(given) - 1:,} more" if given[1:] else "")
        found = [file for path in given for file in files(path)]
        make_room(name, found, shelf.most)
        words = Lexicon()
        for file in found:
            try:
                with opened(file) as stream:
                    shelf.put(words.number(stream))
            except BrokenItem as why:
                skipped[file] = str(why)
        if len(skipped) == len(found):
            path, reason = next(iter(skipped.items()))
            more = f"; nor any of {len(found) - 1:,} more" if found[1:] else ""
            raise DataError(f"cannot read '{path}': {reason}{more}")
        return name, shelf, words, skipped
    if not hasattr(data, "__iter__"):
        raise DataError(f"cannot read text from a {type(data).__name__}: give a path, lines or lists of tokens")
    lines = iter(data)
    first = next(lines, "")
    lines, name = chain([first], lines), type(data).__name__
    if isinstance(first, str):
        words = Lexicon()
        try:
            shelf.put(words.number(Lines(lines)))
        except BrokenItem as why:
            raise DataError(f"cannot read the text of a {name}: {why}") from None
        return name, shelf, words, skipped
    names = Names()
    shelf.put(names.number(lines))
    return name, shelf, names, skipped


def make_room(name: str, found: list[str], most: int) -> None:
    """Say what a large text will take, and refuse one that there is no room for."""
    size = sum(os.path.getsize(file) * (EXPANDS if file.lower().endswith(PACKED) else 1) for file in found)
    tokens = size // WRITTEN
    if tokens < SAID:
        return
    said = f"{name}: about {tokens:,} tokens take about {4 * tokens / 2**30:,.1f} GiB"
    if tokens > most:
        folder = tempfile.gettempdir()
        free = shutil.disk_usage(folder).free
        said += f" in a temporary file in {folder}"
        if free < 4 * tokens:
            raise UserError(f"{said}, which has {free / 2**30:,.1f} GiB free; set TMPDIR to a larger disk")
    console.print(said)
