"""The table every evaluation ends with, as text, Markdown and JSON, and what it says in one sentence."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from itertools import accumulate
from typing import Any

from rich.table import Table as RichTable

from .score import Score, difference

CHANCE, RAW, UNTRAINED, H, Z = "chance", "raw pixels", "the same encoder, untrained", "ours, h", "ours, z"


@dataclass(frozen=True)
class Table:
    """rows: name -> probe -> Score, in the order shown. notes: what a reader must know to read it right.

    said: the verdict, where it is not to be found from the rows as of photos.  ours: the row that it is about.
    """

    title: str
    rows: dict[str, dict[str, Score]]
    notes: list[str] = field(default_factory=list)
    said: str | None = None
    ours: str = H

    @property
    def probes(self) -> list[str]:
        return list(next(iter(self.rows.values())))

    @property
    def verdict(self) -> str:
        """One sentence: under the first probe, is h better than the baselines by more than the error of the test?"""
        if self.said is not None:
            return self.said
        probe = self.probes[0]
        names = {RAW: "raw pixels", UNTRAINED: "the untrained encoder"}
        others = {names[row]: scores[probe] for row, scores in self.rows.items() if row in names}
        if H not in self.rows or not others:
            return ""
        h = self.rows[H][probe]
        worse = {name: other for name, other in others.items() if difference(h, other)[0] <= 0}
        if not worse:
            margins = [f"than {name} by {100 * (h.value - other.value):.0f}" for name, other in others.items()]
            margins[0] += " points"
            return f"By {probe}, h is better {' and '.join(margins)}: it has learned."
        margins = [f"{name} ({100 * other.value:.1f} %)" for name, other in worse.items()]
        return (
            f"By {probe}, h ({100 * h.value:.1f} %) is not clearly better than {' nor than '.join(margins)} on "
            f"{h.n:,} test items: train longer, on more items or with other views."
        )

    def cells(self) -> dict[str, dict[str, str]]:
        """row -> probe -> "82.1 % [80.0, 84.1]"."""
        return {row: {probe: str(score) for probe, score in scores.items()} for row, scores in self.rows.items()}

    def rich(self, width: int | None = None) -> RichTable:
        """Table and notes for a terminal: console.print(table.rich(console.width)).

        width: how many characters a line holds. The last columns that do not fit are left out, which a note says.
        """
        shown = self.probes if width is None else self.probes[: self._fitting(width)]
        left = "; ".join(self.probes[len(shown) :])
        more = [f"No room here for {left}: a wider terminal and `evaluate --json` show them."] if left else []
        caption = "\n".join([*more, *self.notes])
        out = RichTable(title=self.title, caption=caption, title_justify="left", caption_justify="left")
        out.add_column()
        for probe in shown:
            out.add_column(probe, justify="right")
        for row, cells in self.cells().items():
            out.add_row(row, *(cells.get(probe, "") for probe in shown), style="bold" if row == self.ours else None)
        return out

    def _fitting(self, width: int) -> int:
        """How many of the probes stand side by side in so many characters; one at least."""
        cells = self.cells()
        sizes = [max(map(len, (probe, *(row.get(probe, "") for row in cells.values())))) for probe in self.probes]
        ends = accumulate((size + 3 for size in sizes), initial=max(map(len, cells)) + 4)  # a cell, its blanks, a line
        return max(1, sum(end <= width for end in ends) - 1)

    def markdown(self) -> str:
        """Title, verdict, table and notes."""
        lines = [["", *self.probes], ["---", *("---:" for _ in self.probes)]]
        lines += [[row, *(cells.get(probe, "") for probe in self.probes)] for row, cells in self.cells().items()]
        table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
        notes = "\n".join(f"- {note}" for note in self.notes)
        return "\n\n".join(filter(None, [f"**{self.title}**", self.verdict, table, notes]))

    def to_json(self) -> dict[str, Any]:
        """Plain values, for json.dumps."""
        rows = {row: {probe: asdict(score) for probe, score in scores.items()} for row, scores in self.rows.items()}
        out = {"title": self.title, "rows": rows, "notes": self.notes, "verdict": self.verdict}
        return out if self.ours == H else out | {"ours": self.ours}
