"""What can be chosen by name on the command line."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from . import calls
from .encoders import ENCODERS
from .errors import unknown
from .evaluate import PROBES
from .methods import METHODS
from .optim import OPTIMIZERS, SCHEDULES
from .recipes import RECIPES
from .run import VIEWS

LISTS: dict[str, Mapping[str, Callable[..., Any]]] = {
    "methods": METHODS,
    "encoders": ENCODERS,
    "views": VIEWS,
    "optimizers": OPTIMIZERS,
    "schedules": SCHEDULES,
    "recipes": RECIPES,
    "probes": PROBES,
}


def catalogue(what: str) -> Iterator[str]:
    """What can be chosen of one kind, a line each: settings with their defaults, or what a recipe is."""
    if what not in LISTS:
        raise unknown("list", what, LISTS)
    for name, call in LISTS[what].items():
        if what == "recipes":
            yield f"{name:16} {(inspect.getdoc(call) or '').splitlines()[0]}"
        else:
            yield f"{name:16} {', '.join(f'{k}={v!r}' for k, v in calls.knobs(call).items())}"
    if what == "encoders":
        yield f"{'timm:NAME':16} any model of timm, where it is installed"
