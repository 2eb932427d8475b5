"""The doctor inside training: judges as the run goes, says what it finds once, and may ask to stop."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from .course import Course, read_course
from .diagnosis import Diagnosis
from .rules import diagnose

SURE = 2  # judgements in a row that call a run ill before it is stopped


class Watch:
    """Listens to a run's log. `see` takes each line of it; `reason` says why to stop, or None."""

    def __init__(self, folder: Path, say: Callable[[str], None], stop_when_ill: bool = False):
        self.folder, self.say, self.stop_when_ill = folder, say, stop_when_ill
        self.course: Course | None = None
        self.told: set[tuple[str, str]] = set()
        self.due = 0  # looks at which to judge next
        self.ill = 0
        self.last: Diagnosis | None = None

    def see(self, step: int, values: Mapping[str, Any]) -> None:
        if self.course is None:
            self.course = read_course(self.folder)  # with what was logged before an interruption, and this line
        else:
            self.course.add({"step": step, **values})
        if len(self.course.looks) >= self.due or "checkup" in values:
            self.judge(self.course)

    def judge(self, course: Course) -> None:
        self.due = len(course.looks) + max(2, len(course.looks) // 20)
        self.last = diagnose(course)
        self.ill = self.ill + 1 if self.last.verdict == "ill" else 0
        for finding in self.last.findings:
            if (finding.name, finding.level) not in self.told:
                self.told.add((finding.name, finding.level))
                self.say(f"doctor, step {course.step:,}: {finding.level}. {finding}")

    def reason(self) -> str | None:
        if self.stop_when_ill and self.ill >= SURE and self.last:
            return self.last.sentence
        return None
