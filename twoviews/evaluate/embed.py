"""From items to features: read, view, encode; no gradients, nothing random, broken items left out and listed.

    source -> batches -> views -> model -> Features(h, keys, labels, z)

A model is a function x -> (h, z or None). `model(encoder, project)` makes one of modules; `raw_pixels` is one too,
the baseline that has learned nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate
from torch.utils.data import DataLoader

from ..data.loader import collate, unmoved
from ..errors import BrokenItem, DataError
from ..types import Features, Source

Model = Callable[[Tensor], tuple[Tensor, Tensor | None]]
Views = Callable[..., Sequence[Tensor]]
Progress = Callable[[int, int], None]
PIXELS = 32


def model(
    encoder: nn.Module,
    project: Callable[[Tensor], Tensor] | None = None,
    precision: torch.dtype | None = None,
) -> Model:
    """x -> (h, z) in float32, without gradients, the modules in eval mode meanwhile and then as they were.

    project:   a module, or a module's method such as `method.project`.
    precision: a dtype for autocast, or None.
    """
    owner = getattr(project, "__self__", project)
    modules = [m for top in (encoder, owner) if isinstance(top, nn.Module) for m in top.modules()]

    @torch.no_grad()
    def run(x: Tensor) -> tuple[Tensor, Tensor | None]:
        modes = [m.training for m in modules]
        for m in modules:
            m.training = False
        try:
            with torch.autocast(x.device.type, precision, enabled=precision is not None):
                h = encoder(x)
                z = None if project is None else project(h).float()
        finally:
            for m, mode in zip(modules, modes, strict=True):
                m.training = mode
        return h.float(), z

    return run


def raw_pixels(x: Tensor) -> tuple[Tensor, None]:
    """(B, C, H, W) -> (B, C * h * w): the pixels of a view, averaged down to at most 32 x 32 to bound the width.

    A grid of patches (B, R, W, C, h, w) is bounded as a whole: R * h and W * w by 32. Clips (B, C, T, H, W) keep 16
    moments of 8 x 8 pixels at most, as many numbers.
    """
    if x.ndim == 5:
        size = [
            min(most, side) for most, side in zip((PIXELS // 2, PIXELS // 4, PIXELS // 4), x.shape[2:], strict=True)
        ]
        return interpolate(x, size, mode="area").flatten(1), None
    if x.ndim == 6:
        size = [min(side, max(1, PIXELS // count)) for count, side in zip(x.shape[1:3], x.shape[4:], strict=True)]
        return interpolate(x.flatten(0, 2), size, mode="area").reshape(len(x), -1), None
    size = [min(PIXELS, side) for side in x.shape[2:]]
    return interpolate(x, size, mode="area").flatten(1), None


def features(model: Model, source: Source, views: Views, **how: Any) -> Features:
    """The features of every readable item of a source; `how` as in `features_of`."""
    return features_of({"": model}, source, views, **how)[""]


def features_of(
    models: Mapping[str, Model],
    source: Source,
    views: Views,
    *,
    batch_size: int = 256,
    device: torch.device | str = "cpu",
    workers: int = 0,
    progress: Progress | None = None,
    skipped: dict[str, str] | None = None,
) -> dict[str, Features]:
    """The features of every readable item under each model, in the source's order, on the CPU; items are read once.

    views:    (images, sizes, None) -> [x, ...], as `center`; of several views (clips of a video) h and z are averaged.
    progress: called with (items done, all items) after each batch.
    skipped:  filled with key -> reason of the items that could not be read; no Features has them.
    Raises DataError when no item can be read.
    """
    skipped = {} if skipped is None else skipped
    ids: list[Tensor] = []
    outputs: dict[str, list[tuple[Tensor, Tensor | None]]] = {name: [] for name in models}
    todo = slices(0, len(source), batch_size)
    for rows, batch in zip(todo, batches(source, todo, device, workers), strict=True):
        skipped |= batch.broken
        if batch.images is not None:
            ids.append(batch.ids)
            seen = views(batch.images, batch.sizes, None)
            for name, run in models.items():
                outputs[name].append(mean([run(x) for x in seen]))
        if progress:
            progress(rows.stop, len(source))
    if not ids:
        raise nothing_read(source, skipped)
    return {name: gather(source, ids, *zip(*out, strict=True)) for name, out in outputs.items()}


def mean(views: Sequence[tuple[Tensor, Tensor | None]]) -> tuple[Tensor, Tensor | None]:
    """(h, z) of items from those of their views, on the CPU."""
    h, z = ([part.cpu() for part in parts if part is not None] for parts in zip(*views, strict=True))
    return torch.stack(h).mean(0), torch.stack(z).mean(0) if z else None


def gather(source: Source, ids: Sequence[Tensor], h: Sequence[Tensor], z: Sequence[Tensor | None] = ()) -> Features:
    """Features from blocks: which items of the source, and their embeddings."""
    rows = torch.cat(list(ids)).tolist()
    labels = None if source.labels is None else torch.from_numpy(source.labels[rows])
    projected = [block for block in z if block is not None]
    return Features(
        h=torch.cat(list(h)),
        keys=[source.key(i) for i in rows],
        labels=labels,
        classes=source.classes,
        z=torch.cat(projected) if projected else None,
    )


def nothing_read(source: Source, skipped: Mapping[str, str]) -> DataError:
    if not len(source):
        return DataError(f"{source.name} has no items to embed")
    key, reason = next(iter(skipped.items()))
    return DataError(f"none of the {len(source)} items of {source.name} could be read; the first, {key}: {reason}")


class Decoded(NamedTuple):
    """The readable items of a group, on one canvas; images and sizes are None when there are none."""

    ids: Tensor  # (B,) int64, on the CPU
    images: Tensor | None  # (B, C, H, W) uint8
    sizes: Tensor | None  # (B, 2) int64
    broken: dict[str, str]


def slices(start: int, stop: int, size: int) -> list[range]:
    """start ... stop - 1 in consecutive ranges of `size`."""
    return [range(i, min(i + size, stop)) for i in range(start, stop, size)]


def batches(
    source: Source, rows: Sequence[Sequence[int]], device: torch.device | str = "cpu", workers: int = 0
) -> Iterator[Decoded]:
    """The items of each group, read and decoded by `workers` processes (0: by this one), on `device`."""
    loader: DataLoader = DataLoader(
        _Decode(source),  # type: ignore[arg-type]
        batch_size=None,
        sampler=rows,
        num_workers=workers,
        collate_fn=_as_it_is,
        pin_memory=torch.device(device).type == "cuda",
        worker_init_fn=unmoved,
        generator=torch.Generator(),  # torch's own may be in the middle of training
    )
    for batch in loader:
        if batch.images is not None:
            images, sizes = (x.to(device, non_blocking=True) for x in (batch.images, batch.sizes))
            batch = batch._replace(images=images, sizes=sizes)
        yield batch


class _Decode:
    """A dataset whose items are whole batches, read in a worker."""

    def __init__(self, source: Source):
        self.source = source

    def __getitem__(self, rows: Sequence[int]) -> Decoded:
        items, ids, broken = [], [], {}
        for i in rows:
            try:
                items.append(self.source.read(i))
                ids.append(i)
            except BrokenItem as reason:
                broken[self.source.key(i)] = str(reason)
        images, sizes = collate(items) if items else (None, None)
        return Decoded(torch.tensor(ids, dtype=torch.int64), images, sizes, broken)


def _as_it_is(batch: Any) -> Any:
    return batch
