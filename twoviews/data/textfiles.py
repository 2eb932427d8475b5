"""Where text lies: files of lines, plain or packed, folders and patterns of them, lines and lists in memory.

All of it comes as pieces: numbers of words, and how many there were at the end of each line. The next piece overwrites
it. Words are numbered in the order in which they are met.
"""

from __future__ import annotations

import glob
import io
import os
import re
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from lzma import LZMAError
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from ..errors import BrokenItem, DataError
from .listing import EXTENSIONS
from .remote import is_pattern, is_url
from .room import free_memory

if TYPE_CHECKING:
    import pyarrow as pa

SUFFIXES = (".txt", ".text")
PACKED = (".gz", ".xz", ".bz2", ".zst")
OTHERS = (".csv", ".tsv", ".inter", ".dat", ".parquet", ".tar", ".zip", ".npy", ".npz")  # of logs, graphs and photos
ABOUT = ("readme", "license", "licence")  # files that say what the others are
Pieces: TypeAlias = Iterator[tuple[np.ndarray, np.ndarray]]
HEAD = 2**16  # bytes by which a file is known
TOKENS = 2**16  # of lists, numbered at once
FIELDS = 6  # a table of words has no more columns
WORDS = 0.8  # share of tokens that are words, from which on lines are text
EVEN = 0.9  # share of lines with as many tokens as the most, from which on they are rows of a table
WORD = re.compile(r"[^\W\d_]+(['\u2019-][^\W\d_]+)*")


def files(path: str) -> list[str]:
    """The files that a path, folder or pattern means, in the order of their names. Raises DataError for none."""
    if is_url(path):
        raise DataError(f"cannot read text from '{path}': text is read from files; fetch it first")
    if is_pattern(path):
        found = sorted(p for p in glob.glob(path, recursive=True) if os.path.isfile(p))
    elif os.path.isdir(path):
        found = sorted(os.path.join(f, file) for f, _, names in os.walk(path) for file in names if _part(file))
    else:
        found = [path] if os.path.exists(path) else []
    if not found and os.path.isdir(path):
        raise DataError(f"no text in folder '{path}': no {' or '.join(SUFFIXES)} file (packed or not); give a pattern")
    if not found:
        raise DataError(f"no such file or folder: '{path}'")
    return found


def _bare(path: str) -> str:
    """A path in small letters, without what says how it is packed."""
    lower = path.lower()
    return os.path.splitext(lower)[0] if lower.endswith(PACKED) else lower


def _part(file: str) -> bool:
    return file[0] not in "._" and _bare(file).endswith(SUFFIXES) and not file.lower().startswith(ABOUT)


def is_text(data: Any) -> bool:
    """Whether data is text rather than a log, a graph or photos, by its names and first lines alone.

    A .txt or .text file (packed or not) whose first lines are words, a folder or pattern of such with nothing else in
    it that could be data; a list of lines; an iterator, or what can only be iterated. Lists of lists are logs.
    """
    if isinstance(data, str | os.PathLike):
        return _path_is_text(os.path.expanduser(os.fspath(data)))
    if isinstance(data, list | tuple):
        return bool(data) and all(isinstance(line, str) for line in data[:100]) and any(" " in s for s in data[:100])
    if isinstance(data, Mapping) or hasattr(data, "__arrow_c_stream__"):
        return False
    return hasattr(data, "__iter__") and not hasattr(data, "__len__") and not hasattr(data, "__getitem__")


def _path_is_text(path: str) -> bool:
    if is_url(path):
        return False
    if is_pattern(path):
        found = sorted(p for p in islice(glob.iglob(path, recursive=True), 1000) if os.path.isfile(p))
        return bool(found) and not _bare(found[0]).endswith(_data()) and _wordy(found[0])
    if not os.path.isdir(path):
        return _bare(path).endswith(SUFFIXES) and os.path.isfile(path) and _wordy(path)
    names = [os.path.join(f, name) for f, _, names in islice(os.walk(path), 1000) for name in names]
    if any(_bare(name).endswith(_data()) for name in names):
        return False
    parts = sorted(name for name in names if _part(os.path.basename(name)))
    return bool(parts) and _wordy(parts[0])


def _data() -> tuple[str, ...]:
    return OTHERS + tuple(f".{e.decode()}" for e in EXTENSIONS)


def _wordy(path: str) -> bool:
    """Whether the first lines of a file are text, and no table or log: these have numbers, or as many fields a line,
    or begin each line with a name that stands nowhere else.
    """
    try:
        with opened(path) as file:
            head = file.read(HEAD)
    except BrokenItem:
        return False
    if b"\0" in head:
        return False
    lines = [line.lower().split() for line in head.decode("utf-8-sig", "ignore").splitlines() if line.strip()]
    lines = lines[:-1] if len(head) == HEAD and len(lines) > 1 else lines
    tokens = [token.strip(".,;:!?()[]\"'") for line in lines for token in line]
    named = [token for token in tokens if any(map(str.isalnum, token))]
    if not named or sum(bool(WORD.fullmatch(token)) for token in named) < WORDS * len(named):
        return False
    if len(lines) < 2:
        return len(tokens) > 2
    widths = [len(line) for line in lines]
    usual = max(set(widths), key=widths.count)
    if usual <= FIELDS and widths.count(usual) >= EVEN * len(widths):
        return False
    firsts = [line[0] for line in lines]
    return len(set(firsts)) < len(firsts) or bool(set(firsts) & {token for line in lines for token in line[1:]})


@contextmanager
def opened(path: str) -> Iterator[Any]:
    """A file to read bytes from, unpacked. Raises BrokenItem with the reason where it cannot be opened or read."""
    import pyarrow as pa

    try:
        if path.lower().endswith(".xz"):
            import lzma

            with lzma.open(path) as packed:
                yield packed
        else:
            with pa.input_stream(path, compression="detect") as stream:
                yield stream
    except PermissionError:
        raise BrokenItem("no permission to read it") from None
    except EOFError:
        raise BrokenItem("it is cut short") from None
    except (OSError, LZMAError, pa.ArrowException) as error:
        raise BrokenItem(str(error).strip().split("\n")[0].rstrip(".") or type(error).__name__) from None


class Names(dict):
    """The distinct tokens of lists, which may be any text, or numbers."""

    def __missing__(self, token: Any) -> int:
        self[token] = len(self)
        return self[token]

    def number(self, lists: Iterable[Sequence[Any]]) -> Pieces:
        """Pieces of lists of tokens. Raises DataError where one is none."""
        codes: list[int] = []
        ends: list[int] = []
        for i, tokens in enumerate(lists):
            try:
                if isinstance(tokens, str):
                    raise TypeError
                codes.extend(map(self.__getitem__, tokens))
            except TypeError:
                raise DataError(
                    f"text is lists of tokens, or lines, but number {i:,} is {str(tokens)[:40]!r}"
                ) from None
            ends.append(len(codes))
            if len(codes) >= TOKENS:
                yield np.array(codes, np.int32), np.array(ends)
                codes, ends = [], []
        yield np.array(codes, np.int32), np.array(ends, np.int64)

    def words(self) -> tuple[pa.Array, np.ndarray]:
        """As of a Lexicon; 7 and "7" stand here both."""
        import pyarrow as pa

        text = [str(token).encode("utf-8", "replace").decode() for token in self]
        return pa.array(text, pa.large_string()), np.zeros(len(self), np.int64)


class Lines(io.RawIOBase):
    """Lines of text in memory as a file. A line break within one is a blank."""

    def __init__(self, lines: Iterator[str]):
        self.lines, self.left = lines, memoryview(b"")

    def readinto(self, room: Any) -> int:
        if not self.left:
            some = list(islice(self.lines, 1000))
            for line in some:
                if not isinstance(line, str):
                    raise DataError(f"text is lines, or lists of tokens, but one of the lines is {str(line)[:40]!r}")
            joined = "".join(line.replace("\n", " ") + "\n" for line in some)
            self.left = memoryview(joined.encode("utf-8", "surrogatepass"))
        size = min(len(room), len(self.left))
        room[:size], self.left = self.left[:size], self.left[size:]
        return size


class Shelf:
    """Tokens as they come: in memory, or where they are more than `most` in a temporary file."""

    def __init__(self, most: int | None = None) -> None:
        free = free_memory()
        self.most = most if most is not None else free // 8 if free is not None else 2**62
        self.size = self.empty = 0
        self.chunks: list[np.ndarray] = []
        self.ends: list[np.ndarray] = []
        self.file: Any = None

    def put(self, pieces: Pieces) -> None:
        """Keep some pieces, which end with a line, or none of them where one raises BrokenItem."""
        before = self.size, self.empty, len(self.ends), len(self.chunks)
        last = self.size
        try:
            for tokens, lines in pieces:
                ends = lines + self.size
                full = np.diff(ends, prepend=last) > 0
                last = int(ends[-1]) if len(ends) else last
                self.ends.append(ends[full])
                self.empty += len(full) - int(full.sum())
                self.size += len(tokens)
                self._write(tokens)
        except BrokenItem:
            self.size, self.empty, m, k = before
            del self.ends[m:], self.chunks[k:]
            if self.file is not None:
                self.file.seek(4 * self.size)
                self.file.truncate()
            raise

    def _write(self, tokens: np.ndarray) -> None:
        if self.file is None:
            self.chunks.append(tokens.copy())
            if self.size <= self.most:
                return
            self.file = tempfile.TemporaryFile()  # noqa: SIM115 (it lives as long as the tokens)
            tokens = np.concatenate(self.chunks)
            self.chunks = []
        self.file.write(tokens.data)

    def arrays(self) -> tuple[np.ndarray, np.ndarray]:
        """(n,) int32 tokens and (m,) int64 where lines end. The shelf is empty after."""
        ends = np.concatenate([np.zeros(0, np.int64), *self.ends])
        self.ends = []
        if self.file is not None and self.size:
            with self.file:  # the map has a handle of its own
                self.file.flush()
                return np.asarray(np.memmap(self.file, np.int32, "r+", shape=(self.size,))), ends
        tokens = np.empty(self.size, np.int32)
        at = self.size
        while self.chunks:  # from behind, so that what is copied is free
            chunk = self.chunks.pop()
            tokens[at - len(chunk) : at] = chunk
            at -= len(chunk)
        return tokens, ends
