"""Photos by prediction: Contrastive Predictive Coding on grids of patches.

    twoviews train cifar10_jpeg.zip --recipe cpc_photos
    twoviews train photos/ --recipe cpc_photos views.drop=0 data.channels=1       # the paper's grey

Van den Oord, Li and Vinyals 2018, arXiv:1807.03748, section 3.2: 7 x 7 grey patches of 64 pixels, five rows ahead,
Adam at 2e-4, a ResNet-v2-101 on ImageNet: 48.7 % linear. benchmarks/cpc_photos.py has the figures of these settings.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch

from ..data.image import photos
from ..data.patches import grid, patches, side_and_stride
from ..encoders.patches import patch_net
from ..methods.cpc import CPC
from ..optim import adamw, cosine
from ..run import Run
from .photos import side_of, size_for, train_and_test

CPU_ITEMS, GPU_ITEMS = 300_000, 10_000_000  # photos of 5 x 5 patches that are seen in about a quarter of an hour


def cpc_photos(data: Any, *, device: str = "cpu", labels: str | None = None) -> Run:
    """CPC on photos: from the rows of patches above, which of many patches stands below?

    Photos of 32 pixels in 5 x 5 patches of 10, of a random 30 x 30; larger ones in 7 x 7 of a quarter of the side.
    Patches overlap by half, so a row shares pixels with the next one: the first that is predicted is two below
    (Loewe et al. 2019, arXiv:1905.11786). Raises DataError when none of the photos can be read.
    """
    split, test = train_and_test(data)
    source = photos(data, split=split, labels=labels)
    n, gpu = len(source), device.startswith("cuda")
    size, count, crop = size_for(side_of(source), 224 if gpu else 96), 7, 0.85
    if size == 32:
        size, count, crop = 30, 5, 30 / 32  # pixels as they are
    side, _ = side_and_stride(size, count, 0.5)
    squares: dict[str, Any] = {"size": size, "grid": count}
    net = {"width": 64, "blocks": 2, "dim": 512} if gpu else {"width": 32, "dim": 128, "context": 128}
    read = partial(photos, data=data, labels=labels, max_side=2 * size)
    return Run(
        data=partial(read, split=split),
        test=partial(read, split=test) if test else None,
        views=partial(patches, **squares, crop=(crop, crop), drop=0.5, light=0.4),
        test_view=partial(grid, **squares, crop=crop),
        encoder=partial(patch_net, **net, stem=max(1, side // (14 if gpu else 5))),
        method=partial(CPC, steps=count - 2, first=2),
        optimizer=partial(adamw, lr=1e-3, weight_decay=1e-4, betas=(0.9, 0.95)),
        schedule=partial(cosine, warmup=0.05),
        epochs=max(5, min(500, (GPU_ITEMS if gpu else CPU_ITEMS) * 25 // count**2 // n)),
        batch_size=max(2, min(256 if gpu else 64, 2 ** (n // 4).bit_length() // 2)),
        precision="bf16" if gpu and torch.cuda.get_device_capability(device) >= (8, 0) else "fp32",
    )
