"""What `twoviews train DATA` chooses when told nothing else, and why."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from statistics import median
from typing import Any

import torch

from ..calls import knobs, name
from ..data.image import ImageSource, photos, splits
from ..data.views import center, two_crops
from ..encoders.resnet import resnet18, resnet50
from ..encoders.small import small
from ..errors import BrokenItem, DataError
from ..methods import SimCLR
from ..optim import cosine, sgd
from ..run import Run

SIZES = (32, 64, 96, 128, 224)
CPU_ITEMS = 1_000_000  # photos of 32 pixels that two cores see twice in about a quarter of an hour
GPU_ITEMS = 10_000_000  # 200 epochs of CIFAR-10


def auto(data: Any, *, device: str = "cpu", labels: str | None = None) -> Run:
    """A run for a set of photos, from their number and size and the device.

    Views as large as the photos, up to 224 pixels (96 without a GPU); SimCLR; a ResNet with a GPU, else a small
    convolutional encoder; as many epochs as the hardware sees in a reasonable time. Every choice is a setting.
    Raises DataError when none of the photos can be read.
    """
    split, test = train_and_test(data)
    source = photos(data, split=split, labels=labels)
    n, gpu = len(source), device.startswith("cuda")

    size = size_for(side_of(source), 224 if gpu else 96)
    batch = max(
        2, min(512 if gpu else 256, 2 ** (n // 4).bit_length() // 2)
    )  # a power of two, 4 steps an epoch or more
    items = GPU_ITEMS if gpu else CPU_ITEMS * 32**2 // size**2
    encoder: partial = partial(resnet50 if n > 200_000 else resnet18, stem="cifar" if size <= 64 else "imagenet")
    read = partial(photos, data=data, labels=labels, max_side=2 * size)
    return Run(
        data=partial(read, split=split),
        test=partial(read, split=test) if test else None,
        views=partial(two_crops, size=size, scale=(0.2, 1.0), strength=0.5, blur=0.5 if size > 64 else 0.0),
        test_view=partial(center, size=size),
        encoder=encoder if gpu else partial(small),
        method=partial(SimCLR, hidden=512 if size <= 64 or not gpu else 2048, temperature=0.5 if size <= 64 else 0.2),
        optimizer=partial(sgd, lr=round(0.06 * batch / 256, 5), weight_decay=5e-4),
        schedule=partial(cosine, warmup=0.05),
        epochs=max(10, min(1000, items // n)),
        batch_size=batch,
        precision="bf16" if gpu and torch.cuda.get_device_capability(device) >= (8, 0) else "fp32",
    )


def explain(run: Run) -> str:
    """The choices of a run in one line."""
    size = knobs(run.views).get("size")
    views = f"views of {size} pixels" if size else f"views {shown(run.views)}"
    return (
        f"{shown(run.method)}, encoder {shown(run.encoder)}, {views}, {shown(run.optimizer)}, "
        f"batch {run.batch_size}, epochs {run.epochs}, {run.precision}"
    )


def shown(call: Callable) -> str:
    """SimCLR(hidden=512, temperature=0.5): a call with what was set, not its defaults."""
    settings = call.keywords if isinstance(call, partial) else {}
    return name(call) + (f"({', '.join(f'{k}={v}' for k, v in settings.items())})" if settings else "")


def train_and_test(data: Any) -> tuple[str | None, str | None]:
    """The names of the splits to train and to measure on, (None, None) where the data has no such two."""
    found = splits(data)
    test = next((s for s in ("test", "validation", "valid", "val") if s in found), None)
    return ("train", test) if test and "train" in found else (None, None)


def side_of(source: ImageSource) -> float:
    sides = []
    for places in (source.sample(32), source.elsewhere()):
        for i in places.tolist():
            try:
                sides.append(min(source.read(i).shape[1:]))
            except BrokenItem:
                continue
        if sides:
            return median(sides)
    raise DataError(f"none of the {len(places):,} photos tried in {source.name} could be read; see `twoviews check`")


def size_for(side: float, largest: int) -> int:
    """The largest usual view that photos of this side fill, but at least 32."""
    return max([s for s in SIZES if s <= max(side, 32) and s <= largest])
