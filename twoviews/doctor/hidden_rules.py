"""What can be wrong with a run that draws what is hidden (MAE, VideoMAE): its embeddings are compared with nothing.

So its z and h may lie close together without harm, and how much of the hidden patches is explained says how it goes.
"""

from __future__ import annotations

from .course import Course
from .diagnosis import Finding

FAIR = 0.5  # of a run, after which something must have been learned
NOTHING, FULL = 0.003, 0.9  # of what hidden patches hold, which is mostly noise where each is normalised by itself


def nothing_drawn(c: Course) -> Finding | None:
    if not (c.step >= FAIR * c.steps and c.late("explained") < NOTHING):
        return None
    return Finding(
        "nothing drawn yet",
        "watch",
        f"after {c.step:,} steps the decoder explains {max(0.0, c.late('explained')):.1%} of what the hidden patches "
        "hold: it draws each as its mean",
        f"Train longer (epochs), raise optimizer.lr{c.given('lr', 'optimizer')}, or hide less (method.mask=0.5)",
    )


def too_easy(c: Course) -> Finding | None:
    if not c.late("explained") > FULL:
        return None
    return Finding(
        "task too easy",
        "watch",
        f"the decoder explains {c.late('explained'):.0%} of what the hidden patches hold: their neighbours tell it",
        f"Hide more (method.mask{c.given('mask')}), larger patches (encoder.patch), or clips that move (views.stride)",
    )


CAUSES = (nothing_drawn, too_easy)


def well(c: Course) -> str:
    """What is said of a run in which nothing was found."""
    return (
        f"Nothing found: loss {c.early('loss'):.3f} at first and {c.late('loss'):.3f} now, "
        f"{max(0.0, c.late('explained')):.1%} of what the hidden patches hold is explained."
    )
