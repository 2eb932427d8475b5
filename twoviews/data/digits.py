"""The embedded data set: scikit-learn's 1,797 handwritten digits, placed, scaled, turned and coloured at random.

What may identify an image must be the digit. Every other trait (place, size, angle, colours, light on dark or dark
on light) is drawn anew for each image, so raw pixels say little, and each has a view that destroys it. Train and
test images come from different handwritten digits.

E. Alpaydin and C. Kaynak 1998, Optical Recognition of Handwritten Digits, UCI (CC BY 4.0), through scikit-learn.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import torch
from torch.nn.functional import affine_grid, grid_sample

from ..errors import unknown
from .image import ImageSource, photos

SPLITS = {"train": 0, "test": 1}


def digits(split: str = "train", items: int = 6000, size: int = 20, seed: int = 0) -> ImageSource:
    """`items` colour images (3, size, size) of one split, with the digit as label. Equal seeds draw equal images."""
    if split not in SPLITS:
        raise unknown("split", split, SPLITS)
    from sklearn.datasets import load_digits

    originals = load_digits()
    ours = np.random.default_rng(0).permutation(len(originals.images)) % 5 == 0  # every fifth is for the test
    ours = ours if split == "test" else ~ours
    strokes = torch.from_numpy(originals.images[ours] / 16).float()  # (N, 8, 8)

    g = torch.Generator().manual_seed(2 * seed + SPLITS[split])
    which = torch.randint(len(strokes), (items,), generator=g)
    images = _paint(_place(strokes[which], size, g), g)
    labels = originals.target[ours][which.numpy()].astype(np.int64)
    return replace(photos((images.numpy(), labels)), name=f"digits:{split}")


def _place(strokes: torch.Tensor, size: int, g: torch.Generator) -> torch.Tensor:
    """(N, 8, 8) -> (N, 1, size, size): each digit at a random scale, angle and place, whole in the picture."""
    n = len(strokes)
    scale = torch.empty(n).uniform_(0.55, 0.9, generator=g)  # of the picture's side
    angle = torch.empty(n).uniform_(-20, 20, generator=g) * (math.pi / 180)
    shift = torch.empty(n, 2).uniform_(-1, 1, generator=g) * (1 - scale[:, None])
    cos, sin = angle.cos() / scale, angle.sin() / scale
    turn = torch.stack([torch.stack([cos, -sin], 1), torch.stack([sin, cos], 1)], 1)  # (N, 2, 2)
    theta = torch.cat([turn, -(turn @ shift[:, :, None])], 2)
    grid = affine_grid(theta, [n, 1, size, size], align_corners=False)
    return grid_sample(strokes[:, None], grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def _paint(mask: torch.Tensor, g: torch.Generator) -> torch.Tensor:
    """(N, 1, S, S) in [0, 1] -> uint8 (N, 3, S, S): ink and ground of two random colours that can be told apart."""
    n = len(mask)
    ground, ink = (torch.rand(n, 3, generator=g) for _ in range(2))
    luma = torch.tensor([0.299, 0.587, 0.114])
    apart = ((ink - ground) @ luma)[:, None]
    # Push the two apart in brightness, each in its own direction, until the contrast is at least 0.35.
    push = ((0.35 - apart.abs()) / 2).clamp(min=0) * torch.where(apart < 0, -1.0, 1.0)
    ground, ink = (ground - push).clamp(0, 1), (ink + push).clamp(0, 1)
    picture = ground[:, :, None, None] + mask * (ink - ground)[:, :, None, None]
    noise = 0.03 * torch.randn(picture.shape, generator=g)
    return ((picture + noise).clamp(0, 1) * 255).round().to(torch.uint8)
