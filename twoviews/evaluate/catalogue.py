"""The items of a model: which are alike, and how a catalogue grows without a change to what it knew."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from ..errors import UserError
from .recommend import embed_items, top


def similar(method: Any, place: int, k: int = 10) -> tuple[list[int], list[float]]:
    """The k items whose vectors have the largest cosine with that of item `place`, and the cosines, descending.

    Raises UserError when there are fewer than k others.
    """
    e = normalize(embed_items(method), dim=1)
    if not 1 <= k < len(e):
        raise UserError(f"k={k}, but there are {len(e) - 1:,} others: give k from 1 to {len(e) - 1}")
    itself = torch.tensor([0]), torch.tensor([place])
    cosines, items = top(e[place : place + 1], e, None, k, itself)
    return items[0].tolist(), cosines[0].tolist()


def rows_of(method: Any) -> Tensor:
    """(V, D) or (V, D + 1) float32: what a method holds for each item, its vector and its bias where it has one."""
    bias = getattr(method, "bias", None)
    e = embed_items(method)
    return e if bias is None else torch.cat([e, bias.detach()[-len(e) :, None].float()], 1)


def grow(method: Any, rows: Tensor) -> Any:
    """A copy of a method that knows new items behind those it knew, which keep their weights to the bit.

    rows: (N, D) vectors, or (N, D + 1) with a bias each, as `rows_of` gives. Without one a new item's is the median.
    """
    new = deepcopy(method)
    old, dim = new.encoder.items.weight, new.encoder.dim
    rows = rows.to(old)
    new.encoder.items = nn.Embedding.from_pretrained(torch.cat([old.detach(), rows[:, :dim]]), freeze=False)
    new.encoder.catalogue += len(rows)
    if (bias := getattr(new, "bias", None)) is not None:
        more = rows[:, dim] if rows.shape[1] > dim else bias.detach().median().expand(len(rows))
        new.bias = nn.Parameter(torch.cat([bias.detach(), more]))
    return new


@torch.no_grad()
def put(method: Any, places: Tensor, rows: Tensor) -> Any:
    """The method, with other vectors and biases for some items: (n,) places, (n, D) or (n, D + 1) rows. In place."""
    weight, bias, dim = method.encoder.items.weight, getattr(method, "bias", None), method.encoder.dim
    places = places.to(weight.device)
    weight[places + len(weight) - method.encoder.catalogue] = rows[:, :dim].to(weight)
    if bias is not None:
        bias[places + len(bias) - method.encoder.catalogue] = rows[:, dim].to(bias)
    return method
