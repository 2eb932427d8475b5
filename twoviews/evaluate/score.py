"""What every probe returns: a figure with its 95 % interval.

The interval is Wilson's (1927): it covers the draw of the test items, not the seed of the training. Differences
follow Newcombe 1998, "Interval estimation for the difference between independent proportions", method 10.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

Z95 = 1.959964
INTERVALS = "Brackets: 95 % intervals for the draw of the test items; they do not cover the seed of the training."


@dataclass(frozen=True)
class Score:
    """A share of n test items and its 95 % interval; `detail` holds the settings used or chosen, as JSON."""

    value: float
    low: float
    high: float
    n: int
    detail: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{100 * self.value:.1f} % [{100 * self.low:.1f}, {100 * self.high:.1f}]"


def score(correct: int, n: int, **detail: Any) -> Score:
    """`correct` of n items as a Score with Wilson's interval."""
    p, z2 = correct / n, Z95**2
    centre = (p + z2 / (2 * n)) / (1 + z2 / n)
    half = Z95 / (1 + z2 / n) * math.sqrt(p * (1 - p) / n + z2 / (4 * n * n))
    return Score(p, max(0.0, min(p, centre - half)), min(1.0, max(p, centre + half)), n, detail)


def difference(a: Score, b: Score) -> tuple[float, float]:
    """The 95 % interval of a - b, as if drawn independently: of the same test items it is rather too wide."""
    gap = a.value - b.value
    low = gap - math.hypot(a.value - a.low, b.high - b.value)
    high = gap + math.hypot(a.high - a.value, b.value - b.low)
    return low, high
