"""What `twoviews train DATA` does when told nothing else: by what the data is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..data.graphs import is_graph
from ..data.logs import is_log
from ..data.text import is_text
from ..errors import UserError
from ..run import Run
from .graphs import deepwalk, metapath2vec, of_one_type
from .histories import bert4rec
from .photos import auto as photos
from .text import word2vec


def auto(data: Any, *, device: str = "cpu", labels: str | None = None, read: Mapping[str, Any] | None = None) -> Run:
    """SimCLR for photos, BERT4Rec for a log, metapath2vec or DeepWalk for a graph, word2vec for a text."""
    if is_graph(data):
        recipe = deepwalk if of_one_type(data, labels, read) else metapath2vec
        return recipe(data, labels=labels, read=read)
    if is_text(data):  # ahead of logs, which may end in .txt too
        if labels is not None:
            raise UserError("a text has no labels; leave --labels out")
        return word2vec(data, read=read)
    if is_log(data):
        if labels is not None:
            raise UserError("histories have no labels; leave --labels out")
        return bert4rec(data, device=device, read=read)
    return photos(data, device=device, labels=labels)
