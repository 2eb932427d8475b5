"""Photos by what is hidden: masked autoencoding.

    twoviews train photos/ --recipe mae

He et al. 2021, arXiv:2111.06377: ViT-B, 75 % hidden, 1,600 epochs of ImageNet, 68.0 % linear, 83.6 % fine-tuned.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch

from ..data.image import photos
from ..data.views import center, one_crop
from ..encoders.vit import vit
from ..methods.mae import MAE
from ..optim import adamw, cosine
from ..run import Run
from .photos import side_of, size_for, train_and_test

CPU_ITEMS, GPU_ITEMS = 1_000_000, 10_000_000  # photos of 32 pixels that are seen in about a quarter of an hour
ACROSS = 14  # patches across a photo, or 8 where there is no GPU


def photo_mae(data: Any, *, device: str = "cpu", labels: str | None = None) -> Run:
    """MAE: of a photo three quarters are hidden and drawn again from the rest.

    Views as large as the photos, up to 224 pixels (96 without a GPU), in patches of 16 (8 a side without a GPU).
    Raises DataError when none of the photos can be read.
    """
    split, test = train_and_test(data)
    source = photos(data, split=split, labels=labels)
    n, gpu = len(source), device.startswith("cuda")
    size = size_for(side_of(source), 224 if gpu else 96)
    net: dict[str, Any] = (
        {"size": "base", "patch": max(4, size // ACROSS)} if gpu else {"size": "test", "patch": size // 8}
    )
    read = partial(photos, data=data, labels=labels, max_side=2 * size)
    batch = max(2, min(1024 if gpu else 64, 2 ** (n // 4).bit_length() // 2))
    return Run(
        data=partial(read, split=split),
        test=partial(read, split=test) if test else None,
        views=partial(one_crop, size=size),
        test_view=partial(center, size=size),
        encoder=partial(vit, **net, pool="mean"),
        method=partial(MAE) if gpu else partial(MAE, decoder_dim=64, decoder_depth=2),
        optimizer=partial(
            adamw, lr=round(1.5e-4 * batch / 256, 7) if gpu else 1e-3, weight_decay=0.05, betas=(0.9, 0.95)
        ),
        schedule=partial(cosine, warmup=0.05),
        epochs=max(10, min(1600, (GPU_ITEMS if gpu else CPU_ITEMS * 32**2 // size**2) // n)),
        batch_size=batch,
        precision="bf16" if gpu and torch.cuda.get_device_capability(device) >= (8, 0) else "fp32",
    )
