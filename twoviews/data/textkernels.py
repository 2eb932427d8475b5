"""Text cut into words and numbered, compiled: one pass over bytes, no word is ever a Python object."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from numba import uint8, uint64

from ..compiled import compiled, draw, mix, stream, unit
from ..errors import BrokenItem

if TYPE_CHECKING:
    import pyarrow as pa

    from .textfiles import Pieces

BLOCK = 2**20  # bytes numbered at once, and the longest word

OFFSET, PRIME = np.uint64(0xCBF29CE484222325), np.uint64(0x100000001B3)  # of FNV-1a
NEWLINE = 10
THIN = np.uint64(0x7468696E)  # which stream of random numbers thins out: apart from those of blocks


@compiled(inline="always")
def blank(text, i, stop):
    """How many bytes of white space begin at i, 0 for none: what str.split() splits at, in UTF-8."""
    b = text[i]
    if b <= 32:
        return 1 if b == 32 or 9 <= b <= 13 or 28 <= b <= 31 else 0
    if b < 0xC2 or b > 0xE3:
        return 0
    if b == 0xC2 and i + 1 < stop:
        return 2 if text[i + 1] == 0x85 or text[i + 1] == 0xA0 else 0
    if i + 2 < stop:
        c, d = text[i + 1], text[i + 2]
        if b == 0xE1:
            return 3 if c == 0x9A and d == 0x80 else 0
        if b == 0xE2:
            if c == 0x80:
                return 3 if 0x80 <= d <= 0x8A or d == 0xA8 or d == 0xA9 or d == 0xAF else 0
            return 3 if c == 0x81 and d == 0x9F else 0
        if b == 0xE3:
            return 3 if c == 0x80 and d == 0x80 else 0
    return 0


@compiled()
def number(text, begin, stop, tokens, lines, slots, hashes, letters, ends, known):
    """Number the whole words of text[begin:stop]; a word that may go on behind it is left for later.

    tokens, lines: what is found: numbers of words, and how many tokens there were at the end of each line.
    slots:   (S,) int32, S a power of 2, a word's number or -1, by its hash in `hashes`.
    letters: the words one behind the other, with room for all of text; ends: (W + 1,) where each ends, known: W.
    Returns how far it came, tokens, lines, words. It comes less far where the slots are half full, or `ends` is.
    """
    mask = uint64(len(slots) - 1)
    most = min(len(slots) // 2, len(ends) - 1)
    i, n, m = begin, 0, 0
    while i < stop:
        wide = blank(text, i, stop)
        if wide:
            if text[i] == NEWLINE:
                lines[m] = n
                m += 1
            i += wide
            continue
        first, key = i, OFFSET
        while i < stop and not blank(text, i, stop):
            key = (key ^ uint64(text[i])) * PRIME
            i += 1
        if i == stop or known == most:
            return first, n, m, known
        size, key = i - first, mix(key)
        at = key & mask
        while slots[at] >= 0:
            if hashes[at] == key:
                start = ends[slots[at]]
                if ends[slots[at] + 1] - start == size:
                    same = True
                    for j in range(size):
                        if letters[start + j] != text[first + j]:
                            same = False
                            break
                    if same:
                        break
            at = (at + uint64(1)) & mask
        if slots[at] < 0:
            slots[at], hashes[at] = known, key
            start = ends[known]
            for j in range(size):
                letters[start + j] = uint8(text[first + j])
            known += 1
            ends[known] = start + size
        tokens[n] = slots[at]
        n += 1
    return i, n, m, known


@compiled()
def grown(slots, hashes):
    """The same table with four times the slots."""
    wide, keys = np.full(4 * len(slots), -1, np.int32), np.empty(4 * len(slots), np.uint64)
    mask = uint64(len(wide) - 1)
    for i in range(len(slots)):
        if slots[i] >= 0:
            at = hashes[i] & mask
            while wide[at] >= 0:
                at = (at + uint64(1)) & mask
            wide[at], keys[at] = slots[i], hashes[i]
    return wide, keys


class Lexicon:
    """The distinct words of bytes: their letters, one behind the other, and a table of hashes to find them by."""

    def __init__(self) -> None:
        self.slots, self.hashes = np.full(2**17, -1, np.int32), np.empty(2**17, np.uint64)
        self.letters, self.ends = np.empty(2 * BLOCK, np.uint8), np.zeros(2**16 + 1, np.int64)
        self.known = 0
        self._found = np.empty(BLOCK // 2 + 1, np.int32), np.empty(BLOCK, np.int64)

    def __len__(self) -> int:
        return self.known

    def number(self, file: Any) -> Pieces:
        """Pieces of what is left of a file, which has `readinto`. Raises BrokenItem where it is no text."""
        text = np.empty(BLOCK, np.uint8)
        held, ended, begun = 0, True, False  # bytes of a word not yet whole; whether a line was; whether any was
        while True:
            read = file.readinto(text.data[held:-1])
            start, stop = 0, held + read
            if not read:
                if ended and not held:
                    return
                text[stop], stop = ord("\n"), stop + 1
            elif not begun:
                begun = True
                start = 3 if bytes(text[:3]) == b"\xef\xbb\xbf" else 0
                if not text[:stop].all():
                    raise BrokenItem("it is not text in UTF-8: it holds zeros")
            for at, tokens, lines in self._numbered(text, start, stop):
                start = at
                ended = lines[-1] == len(tokens) if len(lines) else ended and not len(tokens)
                yield tokens, lines
            held = stop - start
            if held == BLOCK - 1:
                raise BrokenItem(f"it is not text with white space: a word has more than {BLOCK:,} bytes")
            text[:held] = text[start:stop].copy()

    def _numbered(self, text: np.ndarray, at: int, stop: int) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
        while len(self.letters) < self.ends[self.known] + len(text):
            self.letters = np.resize(self.letters, 2 * len(self.letters))
        while True:
            tables = (self.slots, self.hashes, self.letters, self.ends)
            at, n, m, self.known = number(text, at, stop, *self._found, *tables, self.known)
            yield at, self._found[0][:n], self._found[1][:m]
            if self.known < len(self.ends) - 1:
                return
            self.slots, self.hashes = grown(self.slots, self.hashes)
            self.ends = np.concatenate([self.ends, np.zeros(len(self.slots) // 2 + 1 - len(self.ends), np.int64)])

    def words(self) -> tuple[pa.Array, np.ndarray]:
        """The words as text, those that are no UTF-8 with U+FFFD, and (W,) int64 how many bytes of each are none."""
        import pyarrow as pa

        ends = self.ends[: self.known + 1]
        buffers = [None, pa.py_buffer(ends.data), pa.py_buffer(self.letters[: ends[-1]].data)]
        words = pa.Array.from_buffers(pa.large_string(), self.known, buffers)
        lost = np.zeros(self.known, np.int64)
        try:
            words.validate(full=True)
        except pa.ArrowInvalid:
            raw: Any = words.cast(pa.large_binary()).to_pylist()
            text = [word.decode("utf-8", "replace") for word in raw]
            for i, word in enumerate(raw):
                if "\ufffd" in text[i]:
                    lost[i] = len(word) - len(word.decode("utf-8", "ignore").encode())
            words = pa.array(text, pa.large_string())
        return words, lost


@compiled()
def settled(tokens, ends, codes, out):
    """Recode lines and close up what is left out: codes are -1 for it. `out` may be `tokens`.

    ends: (m,) where each line ends in tokens, and after that where each kept line ends in `out`.
    Returns the tokens kept and the lines that kept one.
    """
    n, m, i = 0, 0, 0
    for line in range(len(ends)):
        stop, before = ends[line], n
        while i < stop:
            code = codes[tokens[i]]
            if code >= 0:
                out[n] = code
                n += 1
            i += 1
        if n > before:
            ends[m] = n
            m += 1
    return n, m


@compiled()
def thinned(tokens, start, keep, seed, epoch, edges, out, bounds):
    """Sub-sample: tokens[i] stays with the chance keep[tokens[i]], drawn for (seed, epoch, start + i).

    edges: (m + 1,) where sequences begin and end in tokens. out, bounds: (n,), (m + 1,), for what stays.
    Sequences with less than two tokens left hold no pair and are left out. Returns tokens and sequences kept.
    """
    state = stream(seed, epoch, THIN)
    n, m = 0, 0
    bounds[0] = 0
    for line in range(len(edges) - 1):
        for i in range(edges[line], edges[line + 1]):
            if unit(draw(state, start + i)) < keep[tokens[i]]:
                out[n] = tokens[i]
                n += 1
        if n - bounds[m] < 2:
            n = bounds[m]
        else:
            m += 1
            bounds[m] = n
    return n, m
