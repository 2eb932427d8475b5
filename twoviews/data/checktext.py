"""What a text holds, before hours are spent on it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from .text import OUT, RARE, Corpus, notes

COMMON = 100  # the commonest words, whose share is said
SHOWN = 10


@dataclass
class Report:
    """What `check_text` found.

    words:   V, of `distinct`; tokens: that are kept, of `read`.  documents: lines that keep a word.
    lengths: least, median, mean and largest number of a line's kept tokens.
    top:     share of the kept tokens that are of the hundred commonest words; common: the first ten of them.
    once:    words that occur as rarely as any that is kept; least: how often that is.
    counted: the rules that reading met, and how often.  skipped: files and reasons.  bytes: held for tokens and lines.
    """

    name: str
    words: int
    distinct: int
    tokens: int
    read: int
    documents: int
    lengths: tuple[int, float, float, int]
    top: float
    common: list[str]
    least: int
    once: int
    counted: dict[str, int]
    skipped: dict[str, str]
    notes: list[str]
    bytes: int

    @property
    def whole(self) -> bool:
        """Whether all files could be read."""
        return not self.skipped

    def to_dict(self) -> dict[str, Any]:
        """The report in types that JSON knows."""
        return {key: value for key, value in asdict(self).items() if key != "notes"}

    def lines(self) -> list[str]:
        """The report as plain text."""
        least, median, mean, most = self.lengths
        return [
            f"{self.name}: {self.read:,} tokens of {self.distinct:,} distinct words in {self.documents:,} lines, "
            f"{self.bytes / 2**20:,.1f} MiB in memory",
            f"words      {self.words:,} are kept, {self.tokens / self.read:.1%} of the tokens; {self.once:,} of them "
            f"occur {self.least:,} times, the fewest",
            f"common     {self.top:.1%} of tokens are of the {min(COMMON, self.words)} commonest: "
            f"{' '.join(self.common)} ...",
            f"lines      {least:,} to {most:,} tokens, median {median:g}, mean {mean:.2f}",
            *(f"rule       {note}" for note in self.notes),
        ]


def check_text(corpus: Corpus) -> Report:
    """Count what is there, and what is left of it."""
    lengths, counts = np.diff(corpus.bounds), corpus.counts()
    n = len(corpus.tokens)
    return Report(
        name=corpus.name,
        words=len(corpus),
        distinct=len(corpus) + corpus.counted.get(RARE, 0),
        tokens=n,
        read=n + corpus.counted.get(OUT, 0),
        documents=corpus.lines,
        lengths=(int(lengths.min()), float(np.median(lengths)), float(lengths.mean()), int(lengths.max())),
        top=float(counts[:COMMON].sum() / n),
        common=[corpus.key(i) for i in range(min(SHOWN, len(corpus)))],
        least=int(counts[-1]),
        once=int((counts == counts[-1]).sum()),
        counted=dict(corpus.counted),
        skipped=dict(corpus.skipped),
        notes=notes(corpus)[1:],
        bytes=corpus.tokens.nbytes + corpus.bounds.nbytes,
    )
