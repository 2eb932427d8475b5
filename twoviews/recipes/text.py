"""What `twoviews train TEXT` chooses: word2vec's skip-gram with negative sampling.

    twoviews train corpus.txt.gz
    twoviews train corpus/ data.least=10 encoder.dim=300 views.sample=1e-4

Mikolov et al. 2013, arXiv:1310.4546. Published figures and ours are in benchmarks/README.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np

from ..calls import change
from ..data.graphs import is_graph
from ..data.once import kept
from ..data.sentences import sentences
from ..data.text import text
from ..encoders.table import table
from ..errors import UserError
from ..methods.word2vec import SkipGram
from ..optim import linear, sgd
from ..run import Run

TOKENS = 50_000_000  # words that two cores read in about two minutes
BLOCK = 2**16  # words that are made at a time


def word2vec(data: Any, *, read: Mapping[str, Any] | None = None, tokens: int = TOKENS) -> Run:
    """word2vec: a word from each of its neighbours, against words drawn by frequency."""
    if is_graph(data):
        raise UserError(f"'{data}' is a graph, and word2vec learns from a text; leave --recipe out, or take deepwalk")
    source = partial(text, data=data)
    for name, value in (read or {}).items():
        source = change(source, name, value, "data")
    corpus = kept(source)
    return Run(
        data=source,
        views=partial(sentences),
        encoder=partial(table, dim=128),
        method=partial(SkipGram),
        optimizer=partial(sgd, lr=0.025, momentum=0.0, weight_decay=0.0),
        schedule=partial(linear),
        epochs=int(np.clip(tokens // max(len(corpus.tokens), 1), 5, 50)),
        batch_size=BLOCK,
        holdout=0.01,
    )
