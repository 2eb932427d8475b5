"""What stands first on a page: is the run healthy, has it learned, and what to do if not."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

from .record import Record

LEVELS = ("healthy", "watch", "ill")
STYLE = """
.stated { display: flex; flex-wrap: wrap; gap: 0 1.4rem; margin: 0; }
nav { display: flex; flex-wrap: wrap; gap: .2rem 1.1rem; margin-top: 1.4rem; font-size: .875rem; }
.verdict { border-left: 5px solid var(--tone, var(--other)); font-size: 1.1rem; margin-top: 1.2rem; }
.verdict p { margin: .4rem 0 0; } .verdict p:first-child { margin: 0; }
.finding { border-left: 5px solid var(--tone, var(--other)); margin-top: .7rem; }
.finding p { margin: .35rem 0 0; }
.healthy { --tone: var(--healthy); } .watch { --tone: var(--watch); } .ill { --tone: var(--ill); }
.pill { display: inline-block; font-size: .8rem; font-weight: 600; letter-spacing: .02em; color: var(--paper);
  background: var(--tone, var(--dim)); border-radius: 99px; padding: .05rem .65rem; margin-right: .5rem; }
"""


def verdict(record: Record) -> str:
    """The doctor's verdict with its findings, and the sentence of the evaluation; each only where it is there."""
    level = level_of(record)
    said = [f"{pill(level)}<strong>{escape(examined(record))}</strong>"] if record.doctor else []
    said += [escape(learned(record))] if learned(record) else []
    said = said or ["Neither examined nor measured yet."]
    body = "".join(f"<p>{line}</p>" for line in said)
    return f'<div class="card verdict {level}" id="verdict">{body}</div>' + "".join(map(_finding, findings(record)))


def examined(record: Record) -> str:
    """What the doctor says in few words: the names of the findings, which follow, or else the sentence."""
    names = [str(finding.get("name", "")) for finding in findings(record)]
    return full(", ".join(names)) if names else full(str((record.doctor or {}).get("sentence", "")))


def learned(record: Record) -> str:
    """The sentence of the evaluation, or why there is none; "" where nothing was said."""
    return str((record.evaluation or {}).get("verdict") or "")


def level_of(record: Record) -> str:
    """healthy, watch or ill; "" where the doctor was not asked."""
    level = (record.doctor or {}).get("verdict")
    return level if level in LEVELS else ""


def findings(record: Record) -> list[Mapping[str, Any]]:
    found = (record.doctor or {}).get("findings")
    return [each for each in found if isinstance(each, dict)] if isinstance(found, list) else []


def pill(level: str) -> str:
    """The level as a word on its colour."""
    return f'<span class="pill {level}">{level}</span>' if level else ""


def _finding(finding: Mapping[str, Any]) -> str:
    level = finding.get("level") if finding.get("level") in LEVELS else ""
    name, evidence, remedy = (escape(full(str(finding.get(part, "")))) for part in ("name", "evidence", "remedy"))
    what = f"<p><strong>What to do:</strong> {remedy}</p>" if remedy else ""
    return (
        f'<div class="card finding {level}"><h3>{pill(str(level))}{name.rstrip(".")}</h3><p>{evidence}</p>{what}</div>'
    )


def full(text: str) -> str:
    """A sentence with its capital and its stop."""
    text = text.strip()
    return text[:1].upper() + text[1:] + ("" if not text or text[-1] in ".!?" else ".")
