"""A closer look at a run on a graph or a text: its table of vectors, how often rows are met, and the walks.

vectors, vectors_met   spectra over the rows that were trained, each once and each as often as it is met
cosine, cosine_of      mean cosine of two rows, and of two of one type: 1 where all are alike
length, grown          the median length of a vector, and over the length that a table begins with
norm_count             correlation of the length with the logarithm of how often a row is met
first_share, first_count   variance in the first principal direction, and how it goes with that logarithm
untrained, untrained_of    the share of rows that are never met, and of those of a type
hottest                the share of all tokens that are of the most frequent 1 % of rows
walks, cut, asked      walks that were looked at, the share that ended early, and how long a whole one is
judged, ahead_of_*     the measure that a verdict is by, and the interval of how far the method is ahead of a floor

A large common direction that follows frequency: Mu and Viswanath 2018, arXiv:1702.01417.
"""

from __future__ import annotations

import math
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from ..data.schema import parse_all
from ..errors import UserError
from ..evaluate.score import Score, difference
from ..evaluate.table import Table
from ..log import finite
from ..types import Features, Method, Source
from .checkup import spectra
from .histories import correlation

if TYPE_CHECKING:
    from ..data.entries import Entries

ROWS = 10_000  # of the table that are looked at
TOKENS = 2**16  # of the walks that are looked at, about
MOST = 0.01  # of the rows, by how often they are met


def checkup_tables(
    method: Method,
    entries: Entries,
    source: Source,
    *,
    views: Any = None,
    table: Table | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """What checkup.json holds: numbers by name, spectra under "vectors" and "vectors_met".

    views: what the run draws sequences by, `run.views()`; None where it draws none.
    table: the measures, for the intervals against floors. What cannot be looked at is left out.
    """
    random = np.random.default_rng(seed)
    counts = entries.counts
    of = "words" if entries.types is None else "nodes"
    out: dict[str, Any] = {
        "of": of,
        "rows": len(counts),
        "hottest": hottest(counts),
        "untrained": float((counts == 0).mean()),
    }
    if entries.types is not None and entries.typed:
        shares = ((name, counts[entries.kinds == k] == 0) for k, name in enumerate(entries.types))
        out["untrained_of"] = {name: _short(none.mean()) for name, none in shares if len(none)}
    out |= of_vectors(method.encoder.weight.detach(), entries, random)  # type: ignore[operator]
    if views is not None:
        with suppress(UserError):  # meta-paths that are still to be chosen
            out |= of_walks(views, source, seed)
    out |= {} if table is None else ahead(table)
    return finite({name: _short(value) if isinstance(value, float) else value for name, value in out.items()})


def ahead(table: Table) -> dict[str, Any]:
    """judged, the measure that a verdict is by, and of each floor the interval of what the method is ahead of it.

    Over splits of the same nodes: the mean of the difference and twice its deviation to either side.
    """
    ours = table.rows.get(table.ours, {})
    probe = next((name for name in ours if name.endswith("macro-F1 at 20 %")), next(iter(ours), ""))
    out: dict[str, Any] = {"judged": probe}
    for row, cells in table.rows.items():
        if row != table.ours and probe in cells:
            low, high = gap(ours[probe], cells[probe])
            out[f"ahead_of_{row}"] = [_short(low), _short(high)]
    return out


def gap(ours: Score, other: Score) -> tuple[float, float]:
    a, b = (np.array(score.detail.get("values", ())) for score in (ours, other))
    if len(a) < 2 or len(a) != len(b):
        return difference(ours, other)
    return float((a - b).mean() - 2 * (a - b).std()), float((a - b).mean() + 2 * (a - b).std())


def of_vectors(weight: Tensor, entries: Entries, random: np.random.Generator) -> dict[str, Any]:
    """What is to be said of (V, D) vectors by the rows that were met, or by all where none was."""
    counts = entries.counts
    known = np.flatnonzero(counts) if counts.any() else np.arange(len(counts))
    every = random.permutation(known)[:ROWS]
    x = _rows(weight, every)
    out: dict[str, Any] = {"vectors": spectra(Features(x, []))["h"]}
    if out["vectors"] is None or len(x) < 3:
        return out
    often = np.cumsum(counts[known])
    met = (
        known[np.searchsorted(often, random.integers(often[-1], size=len(every)), side="right")] if often[-1] else every
    )
    out["vectors_met"] = spectra(Features(_rows(weight, met), []))["h"]
    length, frequency = x.norm(dim=1), np.log(np.maximum(counts[every], 1))
    out |= {"cosine": alike(x), "length": float(length.median())}
    out["grown"] = out["length"] * math.sqrt(12 * x.shape[1])  # of a uniform draw in +-1/2D it is 1
    if entries.types is not None and entries.kinds is not None and entries.typed:
        of = {name: x[torch.from_numpy(entries.kinds[every] == k)] for k, name in enumerate(entries.types)}
        out["cosine_of"] = {name: _short(alike(some)) for name, some in of.items() if len(some) > 2}
    u, s, _ = torch.linalg.svd((x - x.mean(0)).double(), full_matrices=False)
    out["first_share"] = float(s[0].square() / s.square().sum().clamp_min(1e-300))
    out["first_count"] = abs(correlation(u[:, 0].numpy(), frequency))
    out["norm_count"] = correlation(length.double().numpy(), frequency)
    return out


def of_walks(views: Any, source: Any, seed: int) -> dict[str, Any]:
    """walks, cut and asked, from one block of them; of sentences and single edges no length is asked.

    Where some types are not kept, or a meta-path has an end of its own, a whole walk is one as long as the longest.
    """
    if not hasattr(views, "length"):
        return {}
    lengths = np.diff(views.over(source, size=TOKENS, seed=seed).block(0, 0).bounds)
    paths = parse_all(source, getattr(views, "metapaths", ""))
    ends = getattr(views, "keep", ()) or not all(path.cyclic for path in paths)
    asked = int(lengths.max()) if ends else int(views.length)
    return {"walks": len(lengths), "cut": float((lengths < asked).mean()), "asked": asked}


def alike(x: Tensor) -> float:
    """(N, D) -> the mean cosine of all pairs of rows."""
    total = normalize(x.double(), dim=1).sum(0)
    return float((total.square().sum() - len(x)) / (len(x) * (len(x) - 1)))


def hottest(counts: np.ndarray) -> float:
    """The share of all tokens that are of the most frequent 1 % of rows, or of the one most frequent."""
    few = max(1, round(MOST * len(counts)))
    return float(np.partition(counts, len(counts) - few)[-few:].sum() / max(1, counts.sum()))


def _rows(weight: Tensor, places: np.ndarray) -> Tensor:
    return weight[torch.from_numpy(places).to(weight.device)].float().cpu()


def _short(value: Any) -> float:
    return float(f"{float(value):.6g}")
