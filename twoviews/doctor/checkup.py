"""A closer look than a training step allows: the trained network on held-out items, and three small experiments.

spectra      of h and z over held-out items, in eval mode
leak         do positives still match when view 2 is encoded in other company? If not, BatchNorm gives them away.
views_apart  how far two views of one item lie apart in pixels, beside views of different items
reads_labels does the loss change when labels are shuffled?
"""

from __future__ import annotations

import copy
from contextlib import suppress
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from ..data.dice import Dice
from ..data.loader import collate
from ..data.views import Views
from ..diagnostics import effective_rank, participation_ratio, spectrum, spread
from ..dist import alone
from ..errors import BrokenItem
from ..evaluate.embed import features, model
from ..evaluate.leak import paired
from ..log import finite
from ..norm import set_batchnorm
from ..types import Batch, Features, Method, Out, Source
from .ahead import look_ahead, predicts

ITEMS = 1000  # held-out items whose spectra are taken
ROWS = 256  # of a batch of the experiments, at most
TURNS = 8  # quarters of a batch that the experiment on leaks looks at


def checkup(
    method: Method,
    source: Source,
    test: Source,
    views: Views,
    test_view: Views,
    *,
    batch_size: int,
    groups: int = 1,
    seed: int = 0,
    device: torch.device | str = "cpu",
    workers: int = 0,
    at_once: int = 256,
) -> dict[str, Any]:
    """What checkup.json holds: numbers by name, the spectra under "h" and "z".

    views: makes the training views, test_view the one that is embedded. Nothing about `method` changes.
    at_once: items that are embedded at a time.
    batch_size: rows of a micro-batch, of which BatchNorm takes its statistics in `groups` (of a process, say).
    An experiment that cannot be made (no projection, no comparison, too few items) is left out.
    """
    chosen = np.sort(np.random.default_rng(seed).permutation(len(test))[:ITEMS])
    project = None if type(method).project is Method.project else method.project
    how: dict[str, Any] = {"batch_size": at_once, "device": device, "workers": workers}
    seen = features(model(method.encoder, project), test.subset(chosen), test_view, **how)
    out: dict[str, Any] = {"items": len(seen), **spectra(seen)}
    gpus = [torch.device(device)] if torch.device(device).type == "cuda" else []
    size = max(1, batch_size // groups)  # of a group, which is kept: in smaller ones BatchNorm tells more
    groups = min(groups, max(2, ROWS // size))
    rows = groups * min(size, ROWS // groups)
    with alone(), torch.no_grad(), torch.random.fork_rng(gpus):
        if predicts(method):
            out |= look_ahead(method, source, views, seed=seed, device=device)
        else:
            out |= experiments(method, source, views, rows=rows, groups=groups, seed=seed, device=device)
    return finite(out)


def spectra(seen: Features) -> dict[str, Any]:
    """{"h": {dim, spectrum, rank, participation, spread}, "z": the same}; z as unit vectors, None for what is not there
    or not finite."""
    z = None if seen.z is None else normalize(seen.z, dim=1)
    parts = (("h", seen.h), ("z", z))
    return {name: None if x is None or not x.isfinite().all() else _spectrum(x) for name, x in parts}


def _spectrum(x: Tensor) -> dict[str, Any]:
    return {
        "dim": x.shape[1],
        "spectrum": [_short(s) for s in spectrum(x).tolist()],
        "rank": _short(effective_rank(x)),
        "participation": _short(participation_ratio(x)),
        "spread": _short(spread(x).mean()),
    }


def experiments(
    method: Method, source: Source, views: Views, *, rows: int, groups: int, seed: int, device: torch.device | str
) -> dict[str, float | bool]:
    """views_apart, reads_labels, matched, matched_apart, leak and leak_low, by a copy of `method` in training mode.

    leak is matched - matched_apart, leak_low the lower end of its 95 % interval. Nothing where there are no two views.
    """
    items = np.random.default_rng(seed).permutation(len(source))[: 3 * rows].tolist()
    ids, pair = _seen(source, views, [items[i : i + rows] for i in range(0, len(items), rows)], seed, device)
    rows = len(ids) // 3 // groups * groups
    if rows < 8 or len(pair) != 2 or pair[0].shape != pair[1].shape:
        return {}
    labels = None if source.labels is None else torch.from_numpy(source.labels[ids.numpy()]).to(device)
    twin = copy.deepcopy(method).train().to(device)
    if groups > 1:
        set_batchnorm(twin, groups)

    def forward(views: list[Tensor], labels: Tensor | None) -> Out:
        torch.manual_seed(seed)
        return twin(Batch(views, ids[:rows].to(device), labels))

    out: dict[str, float | bool] = {"views_apart": _short(_apart(*pair))}
    own = None if labels is None else labels[:rows]
    usual = forward([v[:rows] for v in pair], own)
    if own is not None:
        shuffled = [forward([v[:rows] for v in pair], other).loss for other in (own.roll(1), own.flip(0))]
        # A GPU may add up in another order, and what is not a number equals nothing.
        same_loss = [torch.isclose(usual.loss, loss, rtol=1e-4, equal_nan=True) for loss in shuffled]
        out["reads_labels"] = not all(same_loss)
    if usual.contrast is not None:
        same, apart = [], []
        for turn in range(TURNS):
            stay, mixed = _other_company(pair, rows, turn)
            same.append(_found(usual, stay))
            apart.append(_found(forward(mixed, own), stay))
        a, b = (torch.cat(found).cpu().numpy() for found in (same, apart))
        leak, low, _ = paired(a, b)
        out |= {"matched": _short(a.mean()), "matched_apart": _short(b.mean())}
        out |= {"leak": _short(leak), "leak_low": _short(low)}
    return out


def _other_company(pair: list[Tensor], rows: int, turn: int) -> tuple[Tensor, list[Tensor]]:
    """A quarter of the batch, and the batch with other items around it in view 1 and yet others in view 2.

    What BatchNorm's statistics say about a batch then says nothing about who belongs to whom.
    """
    place = torch.randperm(rows, generator=torch.Generator().manual_seed(turn)).to(pair[0].device)
    stay, go = place[: rows // 4], place[rows // 4 :]
    one, two = (v[:rows].clone() for v in pair)
    one[go] = pair[0][rows : rows + len(go)]
    two[go] = pair[1][2 * rows : 2 * rows + len(go)]
    return stay, [one, two]


def _found(out: Out, rows: Tensor) -> Tensor:
    """Which of some rows find their positive, among the negatives that are the same in every company: bool (B,)."""
    assert out.contrast is not None
    z, positive = (normalize(v.float(), dim=1)[rows] for v in (out.z, out.contrast.positive))
    if out.contrast.negatives is None:
        apart = torch.eye(len(z), dtype=torch.bool, device=z.device)
        negatives = (z @ positive.T).masked_fill(apart, -torch.inf)
    else:
        negatives = z @ out.contrast.negatives.float().T
    return (z * positive).sum(1) > negatives.max(1).values


def _apart(a: Tensor, b: Tensor) -> float:
    """Mean squared distance of two views of one item, over that of views of two items."""
    others = (a - b.roll(1, 0)).square().mean()
    return float((a - b).square().mean() / others.clamp_min(torch.finfo(others.dtype).tiny))


def _seen(
    source: Source, views: Views, blocks: list[list[int]], seed: int, device: torch.device | str
) -> tuple[Tensor, list[Tensor]]:
    """The readable ones of some items, (N,), and their views. No more photos are held at once than one block has."""
    kept, seen = [torch.empty(0, dtype=torch.int64)], []
    for block in blocks:
        images, ids = [], []
        for i in block:
            with suppress(BrokenItem):
                images.append(source.read(i))
                ids.append(i)
        if images:
            kept.append(torch.tensor(ids))
            canvas, sizes = (x.to(device) for x in collate(images))
            seen.append(views(canvas, sizes, Dice(seed, 0, kept[-1].to(device))))
            if len(seen[0]) != 2:  # nothing to set side by side
                break
    return torch.cat(kept), [torch.cat(view) for view in zip(*seen, strict=True)]


def _short(value: Any) -> float:
    return float(f"{float(value):.6g}")
