"""Sentences by prediction: Contrastive Predictive Coding on documents.

    twoviews train articles.txt --recipe cpc_text
    twoviews train articles/ --recipe cpc_text data.words=40 method.steps=2

Van den Oord, Li and Vinyals 2018, arXiv:1807.03748, section 3.3: three sentences ahead, Adam at 2e-4 on BookCorpus with
vectors of 2,400. These settings are for a core and minutes, those of a GPU larger; benchmarks/cpc_text.py has figures.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from ..calls import change
from ..data.documents import documents
from ..data.once import kept
from ..data.paragraphs import paragraphs, whole_paragraph
from ..encoders.sentences import sentence_net
from ..methods.cpc import CPC
from ..optim import adamw, cosine
from ..run import Run

SENTENCES = {"cpu": 1_000_000, "cuda": 10_000_000}  # that are learned from, about
SIZES = {"cpu": {"dim": 128, "width": 128, "letters": 64}, "cuda": {"dim": 512, "width": 512, "letters": 256}}
BATCH = {"cpu": 16, "cuda": 64}


def cpc_text(
    data: Any,
    *,
    labels: Sequence[Any] | None = None,
    read: Mapping[str, Any] | None = None,
    device: str = "cpu",
) -> Run:
    """CPC on documents: each sentence in its context foretells the next ones, among those of other documents.

    labels: one a document, for the table of measures alone.  read: settings of `documents`.
    """
    source = partial(documents, data=data) if labels is None else partial(documents, data=data, labels=labels)
    for name, value in (read or {}).items():
        source = change(source, name, value, "data")
    found, kind = kept(source), "cuda" if device.startswith("cuda") else "cpu"
    return Run(
        data=source,
        views=partial(paragraphs, drop=0.2),
        test_view=whole_paragraph,
        encoder=partial(sentence_net, **SIZES[kind]),
        method=partial(CPC, steps=3),
        optimizer=partial(adamw, lr=3e-3 if kind == "cpu" else 1e-3, weight_decay=0.0),
        schedule=partial(cosine, warmup=0.05),
        epochs=max(2, min(20, SENTENCES[kind] // int(found.count.sum()))),
        batch_size=min(BATCH[kind], max(2, len(found) // 4)),
    )
