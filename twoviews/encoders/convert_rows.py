"""What a table of names is made of: a row says which of another library's tensors make one of ours, and back.

A table is a list of rows in the order of our names; numbers of blocks are written {}. It works in both directions, so
what it reads it can also write, bit for bit.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor


class Way(NamedTuple):
    """How one of their tensors becomes a part of ours, and a part of ours theirs of the given shape."""

    into: Callable[[Tensor], Tensor]
    back: Callable[[Tensor, torch.Size], Tensor]


PLAIN = Way(lambda x: x, lambda x, shape: x.reshape(shape))
TURNED = Way(lambda x: x.T, lambda x, shape: x.T.reshape(shape))  # flax: (in, out)
TO_HEADS = Way(lambda x: x.flatten(1).T, lambda x, shape: x.T.reshape(shape))  # flax: (in, heads, d)
FROM_HEADS = Way(lambda x: x.flatten(0, -2).T, lambda x, shape: x.T.reshape(shape))  # flax: (heads, d, out)
FLAT = Way(lambda x: x.flatten(), lambda x, shape: x.reshape(shape))  # flax: a bias (heads, d)
PIXELS = Way(  # flax: a kernel ([t,] h, w, in, out)
    lambda x: x.movedim((-1, -2), (0, 1)),
    lambda x, shape: x.reshape(*shape[:-3:-1], *shape[:-2]).movedim((0, 1), (-1, -2)),
)


class Row(NamedTuple):
    """Ours is theirs along the first axis, one after another. None: zeros, as many as the first of them has."""

    ours: str
    theirs: tuple[str | None, ...]
    way: Way = PLAIN

    def join(self, parts: list[Tensor | None]) -> Tensor:
        made = [None if x is None else self.way.into(x) for x in parts]
        first = next(x for x in made if x is not None)
        return first if len(made) == 1 else torch.cat([torch.zeros_like(first) if x is None else x for x in made])

    def split(self, whole: Tensor, shapes: list[torch.Size | None]) -> list[Tensor | None]:
        """Undoes `join`. Shapes: of theirs, None for zeros."""
        if len(shapes) == 1 and shapes[0] is not None:
            return [self.way.back(whole, shapes[0])]
        lengths = [0 if s is None else len(self.way.into(torch.empty(s, device="meta"))) for s in shapes]
        lengths = [n or max(lengths) for n in lengths]
        parts = whole.reshape(sum(lengths), -1).split(lengths)
        return [None if s is None else self.way.back(x, s) for x, s in zip(parts, shapes, strict=True)]


def both(ours: str, *theirs: str | None) -> list[Row]:
    """The rows of a layer's weight and bias."""
    return [Row(f"{ours}.{x}", tuple(t and f"{t}.{x}" for t in theirs)) for x in ("weight", "bias")]


@cache
def pattern(name: str) -> re.Pattern[str]:
    """What matches a name with numbers for {}."""
    return re.compile(re.escape(name).replace(r"\{\}", r"(\d+)"))


def found(rows: list[Row], name: str) -> tuple[Row, list[str | None]] | None:
    """The row of one of our names and their names for it; None where the table has none."""
    for row in rows:
        if match := pattern(row.ours).fullmatch(name):
            return row, [t and t.format(*match.groups()) for t in row.theirs]
    return None
