"""What `twoviews train VIDEOS` chooses: SimCLR on clips; MoCo on clips, VideoMAE and CPC on frames by name.

    twoviews train clips/
    twoviews train clips.csv --recipe video_mae
    twoviews train clips/ views=one_clip method=supervised encoder=timesformer

Clips of one video: Feichtenhofer et al. 2021, arXiv:2104.14558. VideoMAE: Tong et al. 2022, arXiv:2203.12602. CPC: van
den Oord et al. 2018, arXiv:1807.03748. Our figures are in benchmarks/README.md.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import torch

from ..calls import accepts, change
from ..data.clipviews import central_clip, one_clip, two_clips
from ..data.movingdigits import moving_digits
from ..data.once import kept
from ..data.videos import Videos, splits, videos
from ..encoders.frames import frame_net
from ..encoders.vit import vivit1
from ..errors import UserError
from ..methods.cpc import CPC
from ..methods.mae import MAE
from ..methods.moco import MoCo
from ..methods.simclr import SimCLR
from ..optim import adamw, cosine
from ..run import Run

CPU_CLIPS, GPU_CLIPS = 20_000, 2_000_000  # that the hardware sees in a reasonable time
ROOM = 4 / 3  # of a frame's shorter side over the view's, for crops


def video_mae(
    data: Any, *, device: str = "cpu", labels: str | None = None, read: Mapping[str, Any] | None = None
) -> Run:
    """VideoMAE: of a clip nine tenths are hidden, the same places in all frames, and drawn again from the rest.

    Without a GPU three quarters, and a small decoder.
    """
    large = device.startswith("cuda")
    method = partial(MAE) if large else partial(MAE, mask=0.75, decoder_dim=64, decoder_depth=2)
    return opened(data, device, labels, read)(one_clip, partial(vivit1, pool="mean", positions="sine"), method)


def video_simclr(
    data: Any, *, device: str = "cpu", labels: str | None = None, read: Mapping[str, Any] | None = None
) -> Run:
    """SimCLR on clips: two clips of one video attract, those of other videos repel."""
    method = partial(SimCLR, hidden=512, temperature=0.2)
    return opened(data, device, labels, read)(two_clips, partial(vivit1, pool="mean"), method)


def video_moco(
    data: Any, *, device: str = "cpu", labels: str | None = None, read: Mapping[str, Any] | None = None
) -> Run:
    """MoCo on clips, views and encoder as in `video_simclr`."""
    method = partial(MoCo, hidden=512, queue=4096)
    return opened(data, device, labels, read)(two_clips, partial(vivit1, pool="mean"), method)


def video_cpc(
    data: Any, *, device: str = "cpu", labels: str | None = None, read: Mapping[str, Any] | None = None
) -> Run:
    """CPC on frames: from those seen so far, which of many frames comes next?"""
    return opened(data, device, labels, read)(one_clip, partial(frame_net), partial(CPC, steps=4))


def demo_video() -> Run:
    """The run of `twoviews demo video`: digits that move over clutter. Which way, of eight? One frame does not tell.

    Crops and colours hide digit and clutter, so that what two clips of one video share is the motion. Mirrored it would
    be another one.
    """
    clip: dict[str, Any] = {"size": 32, "frames": 8, "stride": 1}
    return Run(
        data=partial(moving_digits, count=4000, task="direction", split="train", frames=12),
        test=partial(moving_digits, count=1500, task="direction", split="test", frames=12),
        views=partial(two_clips, **clip, scale=(0.3, 1.0), flip=0.0, jitter=0.8),
        test_view=partial(central_clip, **clip),
        encoder=partial(vivit1, size="test", tubelet=2, patch=8, pool="mean"),
        method=partial(SimCLR, dim=64, hidden=256, temperature=0.2),
        optimizer=partial(adamw, lr=2e-3, weight_decay=0.05, betas=(0.9, 0.95)),
        schedule=partial(cosine, warmup=0.1),
        clip=1.0,
        epochs=3,
        batch_size=128,
    )


def opened(data: Any, device: str, labels: str | None, read: Mapping[str, Any] | None) -> Callable[..., Run]:
    """A run on what is trained on: views, encoder and method still to be said, sizes by the device."""
    gpu = device.startswith("cuda")
    size, frames = (224, 16) if gpu else (64, 8)
    source = partial(videos, data=data, labels=labels, max_side=round(ROOM * size))
    for knob, value in (read or {}).items():
        source = change(source, knob, value, "data")
    found = splits(data, labels)
    test = next((s for s in ("test", "validation", "valid", "val") if s in found), None)
    if test is None or "train" not in found or source.keywords.get("split") is not None:
        test = None
    else:
        source = partial(source, split="train")
    known = kept(source)
    batch = batch_size(known, 128 if gpu else 32)
    clip: dict[str, Any] = {"size": size, "frames": frames, "stride": 4}
    net = {"size": "base", "patch": 16} if gpu else {"size": "test", "patch": 8}

    def run(views: Callable, encoder: partial, method: partial) -> Run:
        return Run(
            data=source,
            test=partial(source, split=test) if test else None,
            views=partial(views, **clip),
            test_view=partial(central_clip, **clip),
            encoder=partial(encoder, **net) if accepts(encoder, "tubelet") else encoder,
            method=method,
            optimizer=partial(adamw, lr=1.5e-4 if gpu else 2e-3, weight_decay=0.05, betas=(0.9, 0.95)),
            schedule=partial(cosine, warmup=0.1),
            clip=1.0,
            epochs=int(np.clip((GPU_CLIPS if gpu else CPU_CLIPS) // len(known), 10, 1000)),
            batch_size=batch,
            micro_batch=min(32, batch) if gpu else None,  # 12 blocks keep half a GB of activations of a clip
            precision="bf16" if gpu and torch.cuda.get_device_capability(device) >= (8, 0) else "fp32",
        )

    return run


def batch_size(source: Videos, most: int) -> int:
    """A power of two with 4 steps an epoch or more, at most `most`."""
    if len(source) < 8:
        raise UserError(f"{source.name} has {len(source)} clips: give 8 videos or more, or a list of stretches of them")
    return min(most, 2 ** (len(source) // 4).bit_length() // 2)
