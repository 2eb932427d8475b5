"""What `twoviews train LOG` chooses for a log of what users met, and the recipes of the papers.

    twoviews train clicks.parquet
    twoviews train clicks.parquet --recipe sasrec
    twoviews train ml-1m.txt --recipe bert4rec_paper

Published figures and ours are in benchmarks/README.md, with protocol, hardware and command.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np

from ..calls import change
from ..data.cloze import ask, cloze, following
from ..data.histories import Histories
from ..data.logs import histories
from ..data.once import kept
from ..data.splits import divided
from ..encoders.sequence import bert, causal
from ..methods.bert4rec import BERT4Rec
from ..methods.sasrec import SASRec
from ..optim import adamw, bert_adam, cosine, linear
from ..run import Run

LENGTHS = (20, 50, 100, 200)
CPU_TOKENS = 16_000_000  # that two cores read in less than ten minutes
GPU_TOKENS = 200 * 1_000_000


def bert4rec(data: Any, *, device: str = "cpu", read: Mapping[str, Any] | None = None) -> Run:
    """BERT4Rec as it does best here: vectors begin as an SVD, places count from the end, blanks are drawn anew."""
    source, train, length = seen(data, read)
    share = 0.2 if length > 50 else 0.4
    return Run(
        **shared(source, train, length, device),
        views=partial(cloze, length=length, share=share, last=1.0, following=0.6),
        test_view=partial(ask, length=length),
        encoder=partial(bert, length=length, **size(device)),
        method=partial(BERT4Rec),
    )


def sasrec(data: Any, *, device: str = "cpu", read: Mapping[str, Any] | None = None) -> Run:
    """SASRec with the loss over the catalogue: from the past alone, every place asks for what follows."""
    source, train, length = seen(data, read)
    return Run(
        **shared(source, train, length, device),
        views=partial(following, length=length),
        test_view=partial(ask, length=length, blank=False),
        encoder=partial(causal, length=length, **size(device)),
        method=partial(SASRec),
    )


def bert4rec_paper(data: Any, *, read: Mapping[str, Any] | None = None, steps: int = 400_000) -> Run:
    """BERT4Rec to the letter of its code: 400,000 steps of 256 rows with fixed blanks, the last weights are kept.

    Long histories have the settings of ML-1M, short ones those of Beauty. https://github.com/FeiSun/BERT4Rec
    """
    source = reading(data, {"split": "leave-one-out-paper", **(read or {})})
    train = divided(kept(source)).train
    short = float(train.lengths.mean()) < 50
    length, dropout = (50, 0.5) if short else (200, 0.2)
    share, most, slide = (0.6, 30, 0.1) if short else (0.2, 40, 0.5)
    views = partial(cloze, length=length, share=share, most=most, slide=slide, copies=10)
    return Run(
        data=source,
        views=views,
        test_view=partial(ask, length=length),
        encoder=partial(
            bert, length=length, dropout=dropout, attention_dropout=0.2, norm="post", positions="start", init="normal"
        ),
        method=partial(BERT4Rec, loss="chunked", specials=True),
        optimizer=partial(bert_adam, lr=1e-4),
        schedule=partial(linear, warmup=100),
        epochs=max(1, round(steps / max(1, len(views().rows(train)) // 256))),
        batch_size=256,
        clip=5.0,
    )


def reading(data: Any, read: Mapping[str, Any] | None) -> partial:
    """How the log is read. Raises UserError on a setting that there is not, or a value that does not fit it."""
    source = partial(histories, data=data)
    for name, value in (read or {}).items():
        source = change(source, name, value, "data")
    return source


def seen(data: Any, read: Mapping[str, Any] | None) -> tuple[partial, Histories, int]:
    """How the log is read, its training part, and the length of rows: of nineteen of twenty histories, at most 200."""
    source = reading(data, read)
    train = divided(kept(source)).train
    most = float(np.quantile(train.lengths, 0.95))
    return source, train, next((n for n in LENGTHS if n >= most), LENGTHS[-1])


def shared(source: partial, train: Histories, length: int, device: str) -> dict[str, Any]:
    gpu = device.startswith("cuda")
    tokens = int(np.minimum(train.lengths, length).sum())
    rows, teach = max(1, len(train)), int((train.lengths > 1).sum())
    batch = 256 if gpu else 32 if tokens / rows > 50 else 128
    epochs = int(np.clip((GPU_TOKENS if gpu else CPU_TOKENS) // max(tokens, 1), 3, 200))
    return {
        "data": source,
        "optimizer": partial(adamw, lr=1e-3, betas=(0.9, 0.98), weight_decay=0.01),
        "schedule": partial(cosine, warmup=0.05),
        "epochs": epochs,
        "batch_size": max(1, min(batch, 2 ** ((teach // 4).bit_length() - 1 if teach >= 8 else 0))),
        "clip": 5.0,
        "watch": max(1, epochs // 10),
        "precision": "fp32",
    }


def size(device: str) -> dict[str, Any]:
    return {"width": 256 if device.startswith("cuda") else 64}
