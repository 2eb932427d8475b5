"""CIFAR-10 with a ResNet-18 whose first layer keeps the 32 pixels (3x3 stem, no pooling).

    twoviews train cifar10_jpeg.zip --recipe cifar10_simclr

Bars from elsewhere, ResNet-18, 200 epochs, batch 512, kNN with k = 200, T = 0.1, the best epoch on the test set:
lightly 1.5 SimCLR .848, MoCo .847 (docs/source/getting_started/benchmarks.rst). Ours are the last epoch's, on JPEG
files, which costs a little; see benchmarks/README.md for what was measured and on which hardware.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from ..data.image import photos
from ..data.views import center, two_crops
from ..encoders.resnet import resnet18
from ..methods import MoCo, SimCLR
from ..optim import cosine, sgd
from ..run import Run


def cifar10_simclr(data: Any) -> Run:
    """SimCLR, temperature 0.5, no blur, half the colour strength (Chen et al. 2020, appendix B.9), SGD."""
    return Run(
        **_shared(data),
        views=partial(two_crops, size=32, strength=0.5, blur=0.0),
        method=partial(SimCLR, hidden=512, temperature=0.5),
        optimizer=partial(sgd, lr=0.12, momentum=0.9, weight_decay=5e-4),
    )


def cifar10_moco(data: Any) -> Run:
    """MoCo v2 as its authors' CIFAR-10 notebook runs it: symmetric, queue 4096, momentum 0.99, BatchNorm in 8 groups.

    https://github.com/facebookresearch/moco: demo of 2020 (kNN .853 after 200 epochs of batch 512, symmetric).
    """
    return Run(
        **_shared(data),
        views=partial(
            two_crops, size=32, strength=1.0, brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1, blur=0.0
        ),
        method=partial(MoCo, hidden=0, queue=4096, temperature=0.1, momentum=0.99, symmetric=True),
        optimizer=partial(sgd, lr=0.06, momentum=0.9, weight_decay=5e-4),
        batchnorm=8,
    )


def _shared(data: Any) -> dict[str, Any]:
    return {
        "data": partial(photos, data=data, split="train"),
        "test": partial(photos, data=data, split="test"),
        "encoder": partial(resnet18, stem="cifar"),
        "test_view": partial(center, size=32),
        "schedule": partial(cosine, warmup=0.05),
        "epochs": 200,
        "batch_size": 512,
    }
