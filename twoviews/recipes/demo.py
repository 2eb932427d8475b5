"""The embedded default: handwritten digits under nuisances, on two cores in under three minutes.

    twoviews demo

Each nuisance of the data set has a view that destroys it: colours go by grey and jitter, light on dark by inversion,
the angle by small turns, place and scale by crops of at least half the picture. Without them the loss falls
while the neighbours stay at chance: every picture is told apart by its colours.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from ..data.digits import digits
from ..data.views import center, two_crops
from ..encoders.small import small
from ..methods import SimCLR
from ..optim import cosine, sgd
from ..run import Run
from .videos import demo_video


def demo() -> Run:
    """The run of `twoviews demo`: kNN .79 to .82 over seeds 0 to 2, raw pixels .22 to .23 (2 cores, 2026-11-22)."""
    return Run(
        data=partial(digits, split="train"),
        test=partial(digits, split="test", items=1500),
        views=partial(
            two_crops, size=20, scale=(0.5, 1.0), flip=0.0, jitter=1.0, grey=0.5, blur=0.0, invert=0.5, turn=20.0
        ),
        test_view=partial(center, size=20),
        encoder=partial(small),
        method=partial(SimCLR, hidden=256, temperature=0.2),
        optimizer=partial(sgd, lr=0.12, weight_decay=5e-4),
        schedule=partial(cosine, warmup=0.05),
        epochs=50,
        batch_size=256,
    )


DEMOS: dict[str, Callable[[], Run]] = {"photos": demo, "video": demo_video}
