"""What `twoviews train RECORDINGS` chooses: CPC; SimCLR and MoCo with views of sounds by name.

    twoviews train recordings/
    twoviews train digits.zip --labels '{digit}_{speaker}_{_}' data.label=digit
    twoviews train recordings/ --recipe sound_simclr encoder=mel

van den Oord et al. 2018, arXiv:1807.03748. Published figures and ours are in benchmarks/README.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np

from ..calls import change
from ..data.once import kept
from ..data.sounds import Sounds, sounds, splits
from ..data.soundviews import two_sounds, whole, windows
from ..encoders.mel import mel
from ..encoders.wave import wave
from ..errors import UserError
from ..methods.cpc import CPC
from ..methods.moco import MoCo
from ..methods.simclr import SimCLR
from ..optim import adamw, cosine
from ..run import Run

PAPER, SHORTER = 1.28, 0.7  # seconds of a window; the loss costs their square
TOGETHER, MOST = 8, 0.9  # recordings of one speaker in a row, and the share of all that must find such company
SHORT = 0.95  # share of recordings that a shorter window shows whole
CPU_SECONDS, GPU_SECONDS = 32_000, 4_000_000  # of sound that are seen: about a quarter of an hour on two cores


def cpc_sounds(
    data: Any, *, device: str = "cpu", labels: str | None = None, read: Mapping[str, Any] | None = None
) -> Run:
    """CPC: from what has been heard so far, which of many sounds is the one 10 ... 120 ms later?

    Windows of 1.28 s with a GPU, as the paper's, else of 0.7; shorter where nearly all recordings are. Groups of 8
    recordings are each other's negatives; where speakers are known, recordings of one speaker, so that a voice tells
    nothing. Without a GPU or speakers smaller batches, for more steps.

    FSDD, 720 CPU seconds, three seeds: digit by frame 82 % (MFCC 42), of unheard speakers 79 % (66), by
    benchmarks/fsdd.py.
    """
    source, run = opened(data, labels, read)
    gpu = device.startswith("cuda")
    length = window(source, PAPER if gpu else SHORTER)
    batch = batch_size(source, length, 64)
    together = of_one_voice(source, length, batch)
    few = not gpu and not together
    return run(
        views=partial(windows, length=length, together=TOGETHER if together else 0),
        encoder=partial(wave, width=512 if gpu else 128, dim=256),
        method=partial(CPC, group=4) if few else partial(CPC),
        optimizer=partial(adamw, lr=2e-4 if gpu else 1e-3, weight_decay=0.01, betas=(0.9, 0.98)),
        epochs=epochs(source, length, gpu),
        batch_size=min(batch, 16) if few else batch,
    )


def sound_simclr(
    data: Any, *, device: str = "cpu", labels: str | None = None, read: Mapping[str, Any] | None = None
) -> Run:
    """SimCLR on sound: two changed windows of one recording, heard through a log-mel front end."""
    return compared(partial(SimCLR, hidden=512, temperature=0.2), data, device, labels, read)


def sound_moco(
    data: Any, *, device: str = "cpu", labels: str | None = None, read: Mapping[str, Any] | None = None
) -> Run:
    """MoCo v2 on sound, views and encoder as in `sound_simclr`."""
    return compared(partial(MoCo, hidden=512, queue=4096), data, device, labels, read, batchnorm=8)


def compared(method: partial, data: Any, device: str, labels: Any, read: Any, **more: Any) -> Run:
    source, run = opened(data, labels, read)
    gpu = device.startswith("cuda")
    length = window(source)
    batch = batch_size(source, length, 256)
    return run(
        views=partial(two_sounds, length=length),
        encoder=partial(mel, net="resnet18" if gpu else "small"),
        method=method,
        optimizer=partial(adamw, lr=1e-3, weight_decay=0.01),
        epochs=epochs(source, length, gpu),
        batch_size=batch,
        **more,
    )


def opened(data: Any, labels: Any, read: Mapping[str, Any] | None) -> tuple[Sounds, Any]:
    """What is trained on, and `Run` with the data and what is measured on filled in."""
    source = partial(sounds, data=data, labels=labels)
    for name, value in (read or {}).items():
        source = change(source, name, value, "data")
    found = splits(data, labels)
    test = next((s for s in ("test", "validation", "valid", "val") if s in found), None)
    if test is None or "train" not in found or source.keywords.get("split") is not None:
        test = None
    else:
        source = partial(source, split="train")
    known = kept(source)
    source = partial(source, rate=known.rate)  # so that the test is read alike
    how: dict[str, Any] = {"data": source, "test": partial(source, split=test) if test else None}
    return known, partial(Run, **how, test_view=partial(whole), schedule=partial(cosine, warmup=0.1))


def window(source: Sounds, longest: float = PAPER) -> int:
    """Samples of a window: `longest` seconds, or what 95 % of the recordings do not exceed, in hundredths of them."""
    usual = np.quantile(source.length, SHORT) / source.rate
    return round(min(longest, max(usual, 0.2)) * 100) * (source.rate // 100)


def of_one_voice(source: Sounds, length: int, batch: int) -> bool:
    """Whether nearly all stretches have a known speaker with enough others to stand together."""
    if source.speakers is None or batch % TOGETHER:
        return False
    speakers = source.cut(4 * length / source.rate).speakers
    assert speakers is not None  # `cut` keeps them
    counts = np.bincount(speakers[speakers >= 0])
    return int((counts // TOGETHER * TOGETHER).sum()) >= MOST * len(speakers)


def batch_size(source: Sounds, length: int, most: int) -> int:
    """A power of two with 4 steps an epoch or more, at most `most`."""
    items = len(source.cut(4 * length / source.rate))
    if items < 8:
        raise UserError(f"{source.name} has {items} stretches of sound: give 8 recordings or more")
    return min(most, 2 ** (items // 4).bit_length() // 2)


def epochs(source: Sounds, length: int, gpu: bool) -> int:
    """As many as the hardware hears in a reasonable time."""
    seen = len(source.cut(4 * length / source.rate)) * length / source.rate
    return int(np.clip((GPU_SECONDS if gpu else CPU_SECONDS) / seen, 10, 1000))
