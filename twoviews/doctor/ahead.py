"""What a checkup adds of a method that predicts what comes next: how much it has to predict, and from what it tells."""

from __future__ import annotations

import copy
from contextlib import suppress
from typing import Any

import torch

from ..data.dice import Dice
from ..data.loader import collate
from ..data.views import Views
from ..errors import BrokenItem, UserError
from ..types import Batch, Method, Source

ROWS = 64  # items that are looked at


def predicts(method: Method) -> bool:
    """Whether it learns from the rows ahead of each place of one view."""
    return hasattr(method.encoder, "places") and hasattr(method, "negatives")


@torch.no_grad()
def look_ahead(
    method: Method, source: Source, views: Views, *, seed: int, device: torch.device | str
) -> dict[str, Any]:
    """{padded, too_short, own, others}; nothing of `method` changes.

    padded:    share of the places of training views that hold nothing.
    too_short: share of the items that have no place as far ahead as the first horizon.
    own:       mean over horizons of log N - loss, in nats, where all candidates are places of the item itself.
    others:    the same where all negatives are places of other items.
    """
    images, ids = [], []
    for i in torch.randperm(len(source), generator=torch.Generator().manual_seed(seed))[: 2 * ROWS].tolist():
        with suppress(BrokenItem):
            images.append(source.read(i))
            ids.append(i)
        if len(ids) == ROWS:
            break
    if len(ids) < 2:
        return {}
    canvas, sizes = (x.to(device) for x in collate(images))
    places = torch.tensor(ids, device=device)
    batch = Batch(list(views(canvas, sizes, Dice(seed, 0, places))), places)
    twin: Any = copy.deepcopy(method).eval().to(device)
    seen = twin.encoder.places(batch.views[0]).seen  # (B, R, W)
    rows = seen.any(2).sum(1)
    out = {
        "padded": round(1 - float(seen.double().mean()), 4),
        "too_short": round(float((rows <= twin.first).double().mean()), 4),
    }
    for name, negatives in (("own", "current"), ("others", "others")):
        twin.negatives, twin.sampled, twin.neighbours = negatives, 0, 0
        with suppress(UserError):  # no item is long enough
            logs = twin(batch).logs
            bounds = [float(value) for key, value in logs.items() if key.startswith("bound_")]
            out[name] = round(sum(bounds) / len(bounds), 4)
    return out
