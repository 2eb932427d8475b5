"""Probes by name. A probe is a function (train: Features, test: Features, **settings) -> Score."""

from __future__ import annotations

from collections.abc import Callable

from . import knn, linear
from .score import Score

PROBES: dict[str, Callable[..., Score]] = {"knn": knn.knn, "linear": linear.linear}
