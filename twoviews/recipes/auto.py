"""What `twoviews train DATA` does when told nothing else: by what the data is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..data.logs import is_log
from ..errors import UserError
from ..run import Run
from .histories import bert4rec
from .photos import auto as photos


def auto(data: Any, *, device: str = "cpu", labels: str | None = None, read: Mapping[str, Any] | None = None) -> Run:
    """SimCLR for photos, BERT4Rec for a log of what users met; sizes and epochs by data and device."""
    if not is_log(data):
        return photos(data, device=device, labels=labels)
    if labels is not None:
        raise UserError("histories have no labels; leave --labels out")
    return bert4rec(data, device=device, read=read)
