"""A diagnosis: healthy, watch or ill, with what is wrong, by which evidence, and what to do; or too early."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

VERDICTS = ("healthy", "watch", "ill", "too early")


@dataclass(frozen=True)
class Finding:
    """name: what it is called. level: watch or ill. evidence and remedy: a sentence each."""

    name: str
    level: str
    evidence: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.evidence}: {self.name}. {self.remedy}."


def few_directions(rank: float, dim: int) -> str | None:
    """How bad it is that a table of vectors has an effective rank, of `dim` at most: "watch", "ill" or not at all."""
    if dim < 16 or not rank < max(3.0, 0.1 * dim):
        return None
    return "ill" if rank < max(2.0, 0.05 * dim) else "watch"


@dataclass(frozen=True)
class Diagnosis:
    """findings: the most likely cause first. note: what a reader should know where there is no finding.

    early: too few looks for a healthy run to be called so.
    """

    step: int
    findings: tuple[Finding, ...] = ()
    note: str = ""
    early: bool = False

    @property
    def verdict(self) -> str:
        if self.early and not self.findings:
            return "too early"
        return VERDICTS[max((VERDICTS.index(f.level) for f in self.findings), default=0)]

    @property
    def code(self) -> int:
        """Exit code: 0 healthy, 1 watch, 2 ill, 3 too early."""
        return VERDICTS.index(self.verdict)

    @property
    def sentence(self) -> str:
        return str(self.findings[0]) if self.findings else self.note

    def lines(self) -> list[str]:
        """For a terminal."""
        head = f"{self.verdict} (step {self.step:,})"
        return [head, *(f"- {f}" for f in self.findings)] if self.findings else [f"{head}. {self.note}"]

    def to_json(self) -> dict[str, Any]:
        return {
            "verdict": self.verdict,
            "step": self.step,
            "sentence": self.sentence,
            "findings": [asdict(f) for f in self.findings],
        }
