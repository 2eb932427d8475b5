"""Two views of a word in a text: the word, and what stands near it.

    sentences(sample=1e-3).over(corpus, size=2**16, seed=0).block(epoch, index) -> Tokens

Frequent words are thinned out anew in each epoch: word w of frequency f is kept with the chance sqrt(t / f) + t / f, as
word2vec's code has it (its paper says sqrt(t / f)). Mikolov et al. 2013, arXiv:1310.4546, section 2.3.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from ..errors import UserError
from ..types import Stream, Tokens
from .histories import tally
from .text import Corpus
from .textfiles import Shelf

LONGEST = 1000  # tokens of a line that is not cut
LINES = 2**14  # of which held ones are parted at once


@dataclass(frozen=True)
class sentences:
    """Lines of a text, in blocks whose order changes with the epoch.

    sample:  t, the frequency above which a word is thinned out; 0 for none.
    longest: tokens from which on a line is cut in two, which costs windows at the cut alone.
    Raises UserError where one is out of range.
    """

    sample: float = 1e-3
    longest: int = LONGEST

    def __post_init__(self) -> None:
        if not 0 <= self.sample <= 1:
            raise UserError(f"views.sample must be a frequency from 0 (none is left out) to 1, got {self.sample}")
        if self.longest < 2:
            raise UserError(f"views.longest must be 2 or more tokens, got {self.longest}")

    def over(self, corpus: Corpus, size: int, seed: int = 0) -> Stream:
        """The stream of a corpus. size: tokens of a block, about, before any is left out."""
        if size < 2:
            raise UserError(f"batch_size must be 2 or more tokens, got {size}")
        n = len(corpus.tokens)
        keep = kept(corpus.counts(), self.sample)
        return Sentences(corpus, size, seed, min(self.longest, size), keep, n, -(-n // size))


TEXT_VIEWS = {"sentences": sentences}


def kept(counts: np.ndarray, sample: float) -> np.ndarray:
    """(V,) float32: the chance that a token of each word is kept. Frequencies are of the vocabulary's tokens."""
    if not sample:
        return np.ones(len(counts), np.float32)
    share = np.maximum(counts, 1) / (sample * max(1, counts.sum()))  # f / t
    return np.minimum(1, share**-0.5 + 1 / share).astype(np.float32)


@dataclass(eq=False)
class Sentences:
    """A Stream of a corpus, of which tokens are kept or not by (seed, epoch, place).

    keep:  (V,) float32, the chance of each word.
    items: tokens an epoch, those that are left out among them: as word2vec counts.
    """

    corpus: Corpus
    size: int
    seed: int
    longest: int
    keep: np.ndarray
    items: int
    blocks: int

    def counts(self) -> np.ndarray:
        """(V,) int64: how often each word occurs before any is left out, as word2vec draws negatives by."""
        return self.corpus.counts()

    def block(self, epoch: int, index: int) -> Tokens:
        """About `size` tokens in whole lines, those that are kept. A line with less than two is not there."""
        from .textkernels import thinned

        place = int(np.random.default_rng((self.seed, epoch)).permutation(self.blocks)[index])
        edges = self._edges(place)
        start = edges[0]
        tokens = self.corpus.tokens[start : edges[-1]]
        out, bounds = np.empty(len(tokens), np.int32), np.empty(len(edges), np.int64)
        n, m = thinned(tokens, start, self.keep, self.seed, epoch, edges - start, out, bounds)
        return Tokens(out[:n], bounds[: m + 1])

    def _edges(self, place: int) -> np.ndarray:
        """(m + 1,) int64: where the sequences of a block begin in the corpus, and where the last one ends."""
        bounds = self.corpus.bounds
        begin, end = self._edge(place * self.size), self._edge((place + 1) * self.size)
        first, last = np.searchsorted(bounds, begin, "right") - 1, np.searchsorted(bounds, end, "left")
        starts = bounds[first:last].copy()
        starts[:1] = begin  # a line that was begun before: at a multiple of `longest`
        return cut(starts, end, self.longest)

    def _edge(self, token: int) -> int:
        """The first place at or behind a token where a sequence ends."""
        bounds = self.corpus.bounds
        if token >= bounds[-1]:
            return int(bounds[-1])
        line = np.searchsorted(bounds, token, "right") - 1
        start = int(bounds[line])
        return min(start - (start - token) // self.longest * self.longest, int(bounds[line + 1]))


def cut(starts: np.ndarray, end: int, longest: int) -> np.ndarray:
    """Where lines begin and the last one ends, with those that are too long cut into several: (m + 1,) int64."""
    parts = -(-np.diff(starts, append=end) // longest)
    steps = np.arange(parts.sum()) - np.repeat(np.cumsum(parts) - parts, parts)
    return np.append(np.repeat(starts, parts) + longest * steps, end)


def held_out(corpus: Corpus, share: float, most: int, seed: int = 0) -> tuple[Corpus, Corpus]:
    """The corpus without some lines, and these, drawn by chance: `share` of the tokens, `most` at most, about.

    Lines of more than a thousand tokens are cut, in both. Both keep the vocabulary and have counts of their own: a word
    may have none left in one of them. Raises UserError where there are less than four tokens.
    """
    n = len(corpus.tokens)
    bounds = cut(corpus.bounds[:-1], n, min(LONGEST, max(2, n // 2)))
    lengths = np.diff(bounds)
    if len(lengths) < 2:
        raise UserError(f"{corpus.name} has {n} tokens, of which none can be held out; give more text, or holdout=0")
    order = np.random.default_rng(seed).permutation(len(lengths))
    some = np.searchsorted(np.cumsum(lengths[order]), min(share * n, most), "right")
    held = np.zeros(len(lengths), bool)
    held[order[: np.clip(some, 1, len(lengths) - 1)]] = True
    return _part(corpus, bounds, ~held), _part(corpus, bounds, held)


def _part(corpus: Corpus, bounds: np.ndarray, chosen: np.ndarray) -> Corpus:
    """Some lines, (m,) bool."""
    shelf = Shelf()

    def pieces() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for begin in range(0, len(chosen), LINES):
            lines = slice(begin, min(begin + LINES, len(chosen)))
            lengths, some = np.diff(bounds[lines.start : lines.stop + 1]), chosen[lines]
            tokens = corpus.tokens[bounds[lines.start] : bounds[lines.stop]]
            yield tokens[np.repeat(some, lengths)], np.cumsum(lengths[some])

    shelf.put(pieces())
    tokens, ends = shelf.arrays()
    return replace(corpus, tokens=tokens, bounds=np.append(0, ends), counts_=tally(tokens, len(corpus)), counted={})
