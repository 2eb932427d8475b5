"""Data that a recipe has looked at is not read again by the run that it makes."""

from __future__ import annotations

from functools import partial
from typing import Any

from ..calls import function, knobs

_KEPT: list[tuple[Any, Any]] = []  # at most one: how it was read, and what came of it


def kept(make: partial, source: Any = None) -> Any:
    """make(), which the next `taken` of the same call gets. source: what it gave, where that is there already."""
    source = make() if source is None else source
    _KEPT[:] = [(make, source)]
    return source


def taken(make: Any) -> Any:
    """What `kept` has read with this call, once; else make()."""
    if not _KEPT:
        return make()
    before, source = _KEPT.pop()
    return source if same(before, make) else make()


def same(a: Any, b: Any) -> bool:
    """Whether two calls say the same. Objects, such as tables in memory, are the same where they are one."""
    if function(a) is not function(b):
        return False
    here, there = knobs(a), knobs(b)
    plain = (str, int, float, bool, type(None), tuple)
    return here.keys() == there.keys() and all(
        x is y or (isinstance(x, plain) and type(x) is type(y) and x == y)
        for x, y in ((here[name], there[name]) for name in here)
    )
