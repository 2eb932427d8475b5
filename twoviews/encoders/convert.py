"""Published weights in our encoders: found out by their names, renamed, joined, turned and checked, one by one.

    report = load_into(vit(), "vit_base_patch16_224.safetensors")

Each origin is a table of names (convert_vit.py, convert_video.py). The one that fills most of the encoder is taken;
it must fill all of it. What the file holds beside (a head) is listed; more in its blocks than ours have is an error.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import isqrt, prod
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from ..errors import UserError, unknown
from .blocks import Tubelets, resized
from .convert_files import flat, read
from .convert_rows import Row, found, pattern
from .convert_video import TABLES

Grid = tuple[int, int, int]
Weights = str | Path | Mapping[str, Any]
Module = TypeVar("Module", bound=nn.Module)


@dataclass
class Loaded:
    """What became of a file of weights. origin: whose names they had. left: what did not fit. resized: of positions."""

    origin: str
    left: list[str] = field(default_factory=list)
    resized: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        left = f"; not taken: {some(self.left)}" if self.left else ""
        return "; ".join([f"weights of {self.origin}", *self.resized]) + left


def load_into(encoder: nn.Module, weights: Weights, source: str | None = None, grid: Grid | None = None) -> Loaded:
    """Fill an encoder with weights of another library, or of its own kind from a run.

    weights: a .safetensors, .pth, .pt, .pyth or .bin file, flax's msgpack, or tensors (arrays) by name.
    source:  whose names they have, one of TABLES or "twoviews" (ours; Swin's are torchvision's); None: found out.
    grid:    (T, h, w) that their joint positions are of, where it cannot be told from their number.
    Raises UserError where a tensor of the encoder is not filled, has another shape, or the weights are of a deeper
    one; the encoder is then as it was.
    """
    where = "the weights given" if isinstance(weights, Mapping) else str(weights)
    theirs = flat(weights) if isinstance(weights, Mapping) else read(weights)
    own = encoder.state_dict()
    tables = _tables(own)
    if source is not None and source not in tables:
        raise unknown("source", source, tables)
    match = _match(own, theirs, tables if source is None else {source: tables[source]}, where)
    report, values, used = Loaded(match.origin), {}, set[str]()
    for name, (row, parts) in match.names.items():
        try:
            x = row.join([None if part is None else theirs[part] for part in parts])
        except (RuntimeError, IndexError):
            shapes = [tuple(theirs[part].shape) for part in parts if part]
            raise UserError(f"in {where}, {', '.join(map(str, shapes))} are no shapes for {name}") from None
        values[name] = _fitted(x, own[name], name, encoder, grid, report, where)
        used |= {part for part in parts if part}
    report.left = sorted(theirs.keys() - used)
    blocks = _blocks(tables[match.origin], match.prefix)
    if more := [name for name in report.left if any(re.match(block, name) for block in blocks)]:
        raise UserError(
            f"{where}, read as {match.origin}, has more in its blocks than the encoder: {some(more)}; build one of the "
            "same kind and depth"
        )
    with torch.no_grad():
        for name, x in values.items():
            own[name].copy_(x)
    return report


def with_weights(encoder: Module, weights: str | None) -> Module:
    """The encoder, filled from a file where one is given: the last thing a factory does. `loaded` says how it went."""
    if weights is not None:
        from .start import from_image

        try:
            loaded: Loaded | None = load_into(encoder, weights)
        except UserError:
            loaded = from_image(encoder, weights)
            if loaded is None:
                raise
        encoder.loaded = loaded  # type: ignore[assignment]
    return encoder


def back(encoder: nn.Module, theirs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Another library's state with the encoder's weights in it: undoes `load_into`. What is not ours stays.

    theirs: the state of their model of the same shapes.
    """
    own = encoder.state_dict()
    out = dict(theirs)
    for name, (row, parts) in _match(own, theirs, _tables(own), "the state given").names.items():
        split = row.split(own[name], [None if part is None else theirs[part].shape for part in parts])
        out |= {part: x for part, x in zip(parts, split, strict=True) if part is not None and x is not None}
    return out


def _tables(own: Mapping[str, Tensor]) -> dict[str, list[Row]]:
    return TABLES | {"twoviews": [Row(name, (name,)) for name in own]}


Names = dict[str, tuple[Row, list[str | None]]]  # by our name: the row, and their names as in the file


@dataclass
class _Match:
    """A table tried on a file: where its names begin (`prefix`), what of the encoder it fills and what it does not."""

    origin: str
    prefix: str
    names: Names
    missing: list[str]


def _match(own: Mapping[str, Tensor], theirs: Mapping[str, Any], tables: Mapping[str, list[Row]], where: str) -> _Match:
    """The table that fills most of the encoder, which must be all."""
    best = None
    for origin, rows in tables.items():
        for prefix in _prefixes(rows, theirs):
            names: Names = {}
            for name in own:
                if hit := found(rows, name):
                    parts = [part and prefix + part for part in hit[1]]
                    if all(part is None or part in theirs for part in parts):
                        names[name] = (hit[0], parts)
            if best is None or len(names) > len(best.names):
                best = _Match(origin, prefix, names, [name for name in own if name not in names])
    if best is None or not best.names:
        raise UserError(f"{where} has names of none of {', '.join(tables)}; it begins with {some(list(theirs))}")
    if best.missing:
        raise UserError(
            f"{where}, read as {best.origin}, fills {len(best.names)} of the encoder's {len(own)} tensors and lacks "
            f"{some(best.missing)}; build an encoder of the same kind, depth and pool"
        )
    return best


def _prefixes(rows: list[Row], theirs: Mapping[str, Any]) -> list[str]:
    """What may stand ahead of all names of a table ("vivit.", "module."): where its first name is found."""
    first = next(name for name in rows[0].theirs if name)
    ends = [name.removesuffix(first) for name in theirs if name.endswith(first)]
    return [prefix for prefix in ends if not prefix or prefix.endswith(".")] or [""]


def _blocks(rows: list[Row], prefix: str) -> tuple[str, ...]:
    """Patterns of all that their blocks may hold."""
    stems = {t[: t.index("{}") + 2] for row in rows for t in row.theirs if t and "{}" in t}
    return tuple(pattern(prefix + stem).pattern + r"\." for stem in stems)


def _fitted(
    x: Tensor, own: Tensor, name: str, encoder: nn.Module, grid: Grid | None, report: Loaded, where: str
) -> Tensor:
    """A joined tensor in our shape: a kernel as rows, positions of another grid resized."""
    owner = encoder.get_submodule(name.rpartition(".")[0].rpartition(".")[0])
    box = owner if isinstance(owner, Tubelets) else None  # what cuts the clip has the linear map
    if box and own.ndim == 2 and x.ndim in (4, 5):
        kernel = x[:, :, None] if x.ndim == 4 else x
        if kernel.shape[2:] == (box.tubelet, box.patch, box.patch):
            x = kernel.flatten(1)
    if _squeezed(x) == _squeezed(own):
        return x.reshape(own.shape)
    built = _built(encoder.get_submodule(name.rpartition(".")[0]), name, own)
    if built and x.shape[-1] == own.shape[-1]:
        return _positions(x.flatten(0, -2), own.flatten(0, -2), name, built, grid, report).reshape(own.shape)
    image = "; an image ViT's go into a clip's encoder by init_from_image" if box and box.tubelet > 1 else ""
    raise UserError(
        f"in {where}, what fills {name} has the shape {tuple(x.shape)}, where the encoder has {tuple(own.shape)}; "
        f"build it with the size, patch, tubelet and channels of the weights{image}"
    )


def _built(part: Any, name: str, own: Tensor) -> Grid | None:
    """The grid that a part of an encoder has a table of positions for; None where it is no such table."""
    last = name.split(".")[-1]
    if last.startswith("rel_"):  # distances along an axis (MViT)
        return len(own), 1, 1
    frames = getattr(part, "frames", None)
    grid = getattr(part, "built", None) or ((frames, 1, 1) if isinstance(frames, int) else None)
    return grid if last.startswith("pos") else None


def _positions(x: Tensor, own: Tensor, name: str, built: Grid, grid: Grid | None, report: Loaded) -> Tensor:
    """A table (N, D) of another grid for ours, its class token's row, if there is one, as it is."""
    line = "time" in name or ".rel_" in name  # along one axis
    kinds: list[Grid] = [(built[0], 1, 1)] if line else [built, (1, *built[1:])]
    new, prefix = next((kind, len(own) - prod(kind)) for kind in kinds if len(own) - prod(kind) in (0, 1))
    olds = {
        (old, first)
        for first in ({prefix} if prefix or line else {0, 1})  # where we have no class token, they may
        for old in _grids(len(x) - first, new, grid, line)
        if first + prod(old) == len(x)
    }
    if len(olds) != 1:
        may = " or ".join(_said(old) for old, _ in sorted(olds)) or "no grid of places"
        raise UserError(
            f"the {len(x)} positions for {name} are of {may}, those of the encoder of {_said(new)}; say which to "
            "load_into(..., grid=(time, height, width)), or build the encoder with the frames and image of the weights"
        )
    ((old, first),) = olds
    if old != new:
        report.resized.append(f"{name} resized from {_said(old)} to {_said(new)}")
    return torch.cat([x[:prefix], resized(x[first:], old, new).to(x.dtype)])


def _grids(rows: int, new: Grid, grid: Grid | None, line: bool) -> list[Grid]:
    """What a table of `rows` places may be over: what is said; else as long as ours and square, or as high and wide."""
    t, h, w = new
    if line:
        return [(rows, 1, 1)]
    if grid and prod(grid) == rows:
        return [grid]
    longer = [(rows // (h * w), h, w)] if t > 1 else []
    return [(t, isqrt(rows // t), isqrt(rows // t)), *longer]


def _said(grid: Grid) -> str:
    t, h, w = grid
    return str(t) if h == w == 1 else f"{h} x {w}" if t == 1 else f"{t} x {h} x {w}"


def _squeezed(x: Tensor) -> list[int]:
    return [n for n in x.shape if n != 1]


def some(names: list[str], most: int = 4) -> str:
    """The first of some names, and how many more."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
