"""Documents: stretches of consecutive sentences, as numbers of words.

files or lists -> numbers of words as they come -> sentences -> Documents; rare words are left out, the commonest is 1

The reading is that of text.py: one pass over bytes, no word of a file is ever a Python object. Marks that end a
sentence are looked for in the distinct words alone. A token takes 4 bytes, a sentence 8.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ..errors import DataError, UserError
from .documentfiles import layout_of, read_documents
from .histories import buffers, tally
from .labels import encode
from .listing import few
from .text import LOST, OUT, RARE

if TYPE_CHECKING:
    import pyarrow as pa

STOPPED = 0.01  # share of tokens that end in . ! ? from which on a text has such marks
STOP = r"""[.!?…。]["'”’)\]]*$"""
ABBREVIATED = r"^[^\pL\pN]*(\pL|\pL\.[\pL.]+|mr|mrs|ms|dr|prof|st|vs|jr|sr|cf|fig|gen|col|rev)\.$"  # no end
EDGES = r"^[^\pL\pN]+|[^\pL\pN]+$"
ALONE = "documents of fewer than two sentences"
WORDS = "words.parquet"
CUT = "sentences that are too long"
RULES = {
    RARE: "left out",
    OUT: "left out",
    LOST: "read as U+FFFD",
    CUT: "cut into equal parts",
    ALONE: "left out",
}


@dataclass(frozen=True, eq=False)
class Documents:
    """A source whose items are stretches of sentences. Sentence j is tokens[ends[j] : ends[j + 1]], of words 1 .. V.

    tokens:   (n,) int32.  ends: (s + 1,) int64.
    first:    (N,) int64, the first sentence of each item, and count: (N,) int64, how many it has.
    document: (N,) int64, the document that each item is of, as they were met; `names` are the documents', or None.
    sentences, longest: the most sentences of an item and words of a sentence: S and L of what is read.
    labels:   (N,) int64 of the item's document, -1 for none, or None.  vocabulary: (V,) words, the commonest first.
    layout:   how documents and sentences were told apart.  counted, skipped: what was left out, as of a Corpus.
    """

    name: str
    tokens: np.ndarray
    ends: np.ndarray
    first: np.ndarray
    count: np.ndarray
    document: np.ndarray
    vocabulary: pa.Array
    sentences: int
    longest: int
    layout: str
    names: list[str] | None = None
    labels: np.ndarray | None = None
    classes: list[str] | None = None
    counted: dict[str, int] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.first)

    @property
    def words(self) -> int:
        """V + 1, the rows of an embedding: of nothing, and of each word."""
        return len(self.vocabulary) + 1

    def key(self, index: int) -> str:
        """The document with the place of its first sentence: talk.txt#0, or doc 17#32 where it has no name."""
        of = int(self.document[index])
        begin = int(self.first[index] - self._begins[np.searchsorted(self._known, of)])
        return f"{self.names[of] if self.names else f'doc {of}'}#{begin}"

    @cached_property
    def _known(self) -> np.ndarray:
        return np.unique(self.document)

    @cached_property
    def _begins(self) -> np.ndarray:
        """The first sentence of each document in `_known`, as far as it is here."""
        out = np.full(len(self._known), np.iinfo(np.int64).max)
        np.minimum.at(out, np.searchsorted(self._known, self.document), self.first)
        return out

    def read(self, index: int) -> Tensor:
        """int32 (1, S, L): sentences below each other, 0 where there is no word."""
        bounds = self.ends[self.first[index] : self.first[index] + self.count[index] + 1]
        size = np.diff(bounds)
        out = np.zeros((1, self.sentences, self.longest), np.int32)
        places = np.arange(self.longest) < size[:, None]
        out[0, : len(size)][places] = self.tokens[bounds[0] : bounds[-1]]
        return torch.from_numpy(out)

    def said(self, tokens: Tensor | np.ndarray) -> str:
        """Words (L,) as text."""
        return " ".join(str(self.vocabulary[int(word) - 1]) for word in tokens if word)

    def subset(self, indices: Any) -> Documents:
        """The chosen items, in the order given (integers or a mask), from the same storage."""
        chosen = {name: getattr(self, name)[indices] for name in ("first", "count", "document")}
        return replace(self, **chosen, labels=None if self.labels is None else self.labels[indices])

    def fingerprint(self) -> str:
        """16 hex digits of the words, the tokens, the sentences and the items."""
        out = blake2b(digest_size=8)
        for numbers in (self.tokens, self.ends, self.first, self.count):
            out.update(np.ascontiguousarray(numbers).view(np.uint8).data)
        for part in buffers(self.vocabulary):
            out.update(part)
        return out.hexdigest()


def documents(
    data: Any,
    *,
    least: int = 5,
    most: int | None = None,
    lower: bool = True,
    sentences: int = 16,
    words: int = 20,
    labels: Sequence[Any] | None = None,
    vocabulary: str | os.PathLike | None = None,
) -> Documents:
    """Documents of sentences, in stretches of at most `sentences`.

    data:   a folder or pattern of text files (packed or not), each a document; one file, of which a document is a block
            between blank lines or else a line; any iterable of documents as text, or as lists of sentences.
    least:  words that occur less often are left out.  most: words that are kept at most, the commonest.
    words:  of a sentence at most; a longer one is cut into equal parts. A text without . ! ? has sentences of so many.
    labels: one a document, words or integers; None: the folders that files lie in, where there are two or more.
    vocabulary: the folder of a run, whose words alone are known, by its numbers; least and most then say nothing.
    Raises DataError when there is no document of two sentences, UserError for a setting.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    from .documentkernels import parted

    for name, value, low in (("least", least, 1), ("sentences", sentences, 3), ("words", words, 2)):
        if value < low:
            raise UserError(f"data.{name} must be {low} or more, got {value}")
    if most is not None and most < 1:
        raise UserError(f"data.most must be 1 or more words, or None for all, got {most}")
    read = read_documents(data)
    raw, lost = read.lexicon.words()
    tokens, _ = read.shelf.arrays()
    if not len(tokens):
        raise DataError(f"no words in {read.name}: it is empty")
    counts = tally(tokens, len(raw))
    stops, distinct, codes = _words(raw, lower)
    held = np.bincount(codes, counts, len(distinct)).astype(np.int64)
    held[0] = 0  # marks that stand alone
    known = read_words(vocabulary) if vocabulary is not None else _common(read.name, distinct, held, least, most)
    place = pc.index_in(distinct, value_set=known.cast(distinct.type)).fill_null(-1).to_numpy().astype(np.int32) + 1
    place[0] = 0
    codes = place[codes]
    met = held > 0
    counted = {RARE: int((met & (place == 0)).sum()), OUT: int(held[place == 0].sum())}
    marks = int(counts[stops].sum())
    stops &= marks >= STOPPED * len(tokens)
    breaks, closes, layout = layout_of(read, tokens, stops, words)
    d = int(closes.sum())
    classed = _labels(labels, read.documents, d)
    ends = np.empty(marks + len(breaks) + len(tokens) // words, np.int64)
    bounds, origins = np.empty(d + 1, np.int64), np.empty(d, np.int64)
    d, cut, alone = parted(tokens, breaks, closes, codes, stops, words, tokens, ends, bounds, origins)
    if not d:
        raise DataError(
            f"{read.name}: none of {len(origins):,} documents ({layout}) has two sentences; give longer documents, "
            "a smaller data.words, or blank lines between documents"
        )
    ends = np.concatenate([[0], ends[: bounds[d]]])
    first, count, of = _stretches(bounds[: d + 1], sentences)
    of = origins[of]
    found = {**counted, LOST: int(lost @ counts), CUT: cut if stops.any() else 0, ALONE: alone}
    return Documents(
        read.name,
        tokens[: ends[-1]],
        ends,
        first,
        count,
        of,
        known.cast(pa.string()),
        sentences,
        words,
        layout,
        read.documents,
        None if classed is None else classed[0][of],
        None if classed is None else classed[1],
        {what: n for what, n in found.items() if n},
        read.skipped,
    )


def notes(source: Documents) -> list[str]:
    """What was read, how it was parted and what was left out, in lines to print."""
    sentences = int(source.count.sum())
    mean = len(source.tokens) / (len(source.ends) - 1)
    out = [
        f"documents {len(np.unique(source.document)):,} ({source.layout}), sentences {sentences:,} of {mean:.1f} "
        f"words, stretches {len(source):,}, distinct words {len(source.vocabulary):,}"
    ]
    out += [f"{count:,} {what}: {RULES[what]}" for what, count in source.counted.items()]
    return out + few((f"skipped {path}: {why}" for path, why in source.skipped.items()), 5)


def write_words(folder: Path, source: Documents) -> None:
    """What the rows of a run's embedding stand for, as RUN/words.parquet."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    temporary = folder / f".{WORDS}.tmp"
    pq.write_table(pa.table({"word": source.vocabulary}), temporary)
    os.replace(temporary, folder / WORDS)


def read_words(folder: str | os.PathLike) -> Any:
    """The words that a run knows. Raises UserError where it has not written them."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.read_table(Path(folder) / WORDS)["word"].combine_chunks()
    except (OSError, KeyError, pa.ArrowException):
        raise UserError(f"no {WORDS} in '{folder}': give the folder of a finished run on documents") from None


def _words(raw: Any, lower: bool) -> tuple[np.ndarray, Any, np.ndarray]:
    """Of W tokens which end a sentence; the distinct words, the empty one first; and (W,) the word of each."""
    import pyarrow as pa
    import pyarrow.compute as pc

    stops = pc.match_substring_regex(raw, STOP).to_numpy(zero_copy_only=False)
    stops = stops & ~pc.match_substring_regex(raw, ABBREVIATED, ignore_case=True).to_numpy(zero_copy_only=False)
    words = pc.replace_substring_regex(raw, EDGES, "")
    words = pc.utf8_lower(words) if lower else words
    encoded = pa.concat_arrays([pa.array([""], words.type), words]).dictionary_encode()
    return stops, encoded.dictionary, encoded.indices.to_numpy()[1:]


def _common(name: str, words: Any, counts: np.ndarray, least: int, most: int | None) -> Any:
    """The words that occur often enough, the commonest first, equals by name."""
    import pyarrow as pa
    import pyarrow.compute as pc

    kept = np.flatnonzero(counts >= least)
    if not len(kept):
        top = int(counts.argmax())
        raise DataError(
            f"{name}: a vocabulary emptied by least={least}: the commonest word, '{words[top]}', occurs "
            f"{counts[top]:,} times; give a smaller data.least, or more text"
        )
    table = pa.table({"count": pa.array(counts[kept]), "word": words.take(pa.array(kept))})
    order = pc.sort_indices(table, sort_keys=[("count", "descending"), ("word", "ascending")])[:most]
    return table["word"].combine_chunks().take(order)


def _labels(labels: Sequence[Any] | None, names: list[str] | None, n: int) -> tuple[np.ndarray, list[str]] | None:
    """One a document and what they stand for: as given, or the top folders of files; None where there are none."""
    if labels is not None:
        if len(labels) != n:
            raise UserError(f"data.labels must be one a document: got {len(labels):,} for {n:,} documents")
        return encode(list(labels))
    tops = [name.split("/")[0] for name in names or () if "/" in name]
    return encode(tops) if names and len(tops) == n and len(set(tops)) > 1 else None


def _stretches(bounds: np.ndarray, most: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Documents of sentences bounds[i] .. bounds[i + 1] in as few equal parts as have at most so many sentences.

    Returns of each part its first sentence, how many it has, and the document.
    """
    size = np.diff(bounds)
    parts = -(-size // most)
    of = np.repeat(np.arange(len(size)), parts)
    place = np.arange(len(of)) - np.repeat(np.cumsum(parts) - parts, parts)
    begin, end = (bounds[of] + size[of] * at // parts[of] for at in (place, place + 1))
    return begin, end - begin, of
