"""What comes next, for millions of histories: the k items of the highest score, without those a user has met.

Scores are made for some users and a block of items at a time, of which the best k so far are kept, so memory grows
neither with the users nor with users x items. Of equal scores the item of the lower number comes first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import linear

from ..checkpoint import writing
from ..errors import UserError
from .embed import model
from .formats import whole

if TYPE_CHECKING:
    import pyarrow as pa

PART = 2**14  # users of one row group
ROWS = 256  # users that are encoded or scored at once
CELLS = {"cpu": 2**24, "cuda": 2**26}  # scores held at once: 64 and 256 MiB


@dataclass(frozen=True, eq=False)
class Recommended:
    """items: (B, k) int64, the best first, -1 where a user has met all others.  scores: (B, k) float32, NaN for a
    history of no known item, for which the most popular items stand.
    """

    items: np.ndarray
    scores: np.ndarray


def vectors(method: Any) -> tuple[Tensor, Tensor | None]:
    """The items as a method compares them: (V, D) and their biases (V,) or None, without special tokens."""
    e, c, first = method.catalogue()
    return e.detach()[first:], None if c is None else c.detach()[first:]


def embed_items(method: Any) -> Tensor:
    """(V, D) float32: the vectors of the items."""
    return vectors(method)[0].float()


def embed_users(method: Any, ask: Callable, histories: Any, batch_size: int = ROWS) -> Tensor:
    """(N, D) float32, on the CPU: h of each history as it is asked what comes next. Empty histories give 0."""
    rows = np.flatnonzero(histories.lengths > 0)
    out = torch.zeros(len(histories), method.encoder.dim)
    out[rows] = _asked(method, ask, histories, rows, batch_size=batch_size)[0].cpu()
    return out


def recommendations(
    method: Any,
    ask: Callable,
    histories: Any,
    counts: np.ndarray,
    k: int = 20,
    *,
    seen: bool = False,
    progress: Callable | None = None,
) -> Iterator[Recommended]:
    """The k best items of each history, 16,384 histories at a time and in their order.

    histories: of the method's own vocabulary.  counts: (V,) how popular each item is, for empty histories.
    seen:      recommend what a history holds already, too.
    Raises UserError when k is larger than the catalogue, or weights are not finite.
    """
    e, c = vectors(method)
    if not 1 <= k <= len(e):
        raise UserError(f"k={k}, but the model knows {len(e):,} items: give k from 1 to {len(e)}")
    if not all(x.isfinite().all() for x in (e, c) if x is not None):
        raise UserError("the model's item vectors are not finite: its training has diverged")
    popular = np.lexsort((np.arange(len(counts)), -counts))
    for rows in blocks(len(histories), PART):
        part = np.arange(rows.start, rows.stop)
        empty = histories.lengths[part] == 0
        found = Recommended(np.full((len(part), k), -1, np.int64), np.full((len(part), k), -np.inf, np.float32))
        found.items[empty], found.scores[empty] = popular[:k], np.nan
        asked = part[~empty]
        z = _asked(method, ask, histories, asked, method.project)[1]
        for some in blocks(len(asked), ROWS):
            chosen = asked[some]
            leave = None if seen else met(histories, chosen)
            scores, items = top(z[some], e, c, k, leave)
            found.items[chosen - rows.start], found.scores[chosen - rows.start] = items.cpu(), scores.cpu()
            if progress and some.stop < len(asked):
                progress(rows.start + some.stop, len(histories))
        if progress:
            progress(rows.stop, len(histories))
        yield found


def top(
    z: Tensor, e: Tensor, c: Tensor | None, k: int, leave: tuple[Tensor, Tensor] | None = None, cells: int | None = None
) -> tuple[Tensor, Tensor]:
    """The k largest z e^T + c of each row, and of which items: both (B, k), with -inf and -1 where there are no more.

    z: (B, D).  e: (V, D).  c: (V,) or None.  leave: rows and items of pairs that do not count.
    cells: scores held at once; the result does not depend on it but for rounding.
    """
    width = max(1, (cells or CELLS[z.device.type]) // max(1, len(z)))
    scores, items = z.new_empty(len(z), 0), z.new_empty(len(z), 0, dtype=torch.int64)
    rows, out = (pair.to(z.device) for pair in leave) if leave else (items.flatten(), items.flatten())
    for block in blocks(len(e), width):
        s = linear(z, e[block], None if c is None else c[block])  # (B, N)
        inside = (out >= block.start) & (out < block.stop)
        s[rows[inside], out[inside] - block.start] = -torch.inf
        best, places = first(s, min(k, s.shape[1]))
        scores, order = torch.cat([scores, best], 1).sort(dim=1, descending=True, stable=True)
        items = torch.cat([items, places + block.start], 1).gather(1, order)
        scores, items = scores[:, :k], items[:, :k]
    return scores, items.masked_fill(scores == -torch.inf, -1)


def first(s: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k largest of each row and their places, both (B, k); of equal ones the leftmost, which topk does not say."""
    best, places = s.topk(min(k + 1, s.shape[1]))
    if best.shape[1] > k:  # where the next one is equal, another could have been taken
        unsure = (best[:, k - 1] == best[:, k]) & (best[:, k] > -torch.inf)
        if unsure.any():
            sure, order = s[unsure].sort(dim=1, descending=True, stable=True)
            best[unsure], places[unsure] = sure[:, : k + 1], order[:, : k + 1]
    places, order = places[:, :k].sort(1)
    best, order = best.gather(1, order).sort(dim=1, descending=True, stable=True)
    return best, places.gather(1, order)


def met(histories: Any, rows: np.ndarray) -> tuple[Tensor, Tensor]:
    """Which of some histories holds which item, as pairs of the number among `rows` and the item."""
    lengths = histories.lengths[rows]
    begins = np.cumsum(lengths) - lengths
    places = np.arange(lengths.sum()) - np.repeat(begins - histories.starts[rows], lengths)
    owner = np.repeat(np.arange(len(rows)), lengths)
    return torch.from_numpy(owner), torch.from_numpy(histories.items[places].astype(np.int64))


def tables(parts: Iterable[Recommended], users: pa.Array, names: pa.Array) -> Iterator[pa.Table]:
    """A table for each part: user, rank, item, score a line. Of an empty history the score is null."""
    import pyarrow as pa

    begin = 0
    for part in parts:
        rows, ranks = np.nonzero(part.items >= 0)
        scores = part.scores[rows, ranks]
        yield pa.table(
            {
                "user": users.take(rows + begin),
                "rank": pa.array(ranks + 1, pa.int32()),
                "item": names.take(part.items[rows, ranks]),
                "score": pa.array(scores, mask=np.isnan(scores)),
            }
        )
        begin += len(part.items)


def write_tables(path: Path, parts: Iterable[pa.Table]) -> None:
    """Write tables one after the other to a .parquet or .csv file, whole or not at all.

    Raises UserError as `file_writer` does and when the file cannot be written.
    """
    make, file = file_writer(path), None
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole(path) as f, ExitStack() as stack:
            for part in parts:
                file = file or stack.enter_context(make(f, part.schema))
                file.write_table(part)


def file_writer(path: Path) -> Callable:
    """What writes tables to such a file. Raises UserError when the ending names none or the path is a folder."""
    from pyarrow.csv import CSVWriter
    from pyarrow.parquet import ParquetWriter

    make = {".parquet": ParquetWriter, ".csv": CSVWriter}
    if path.suffix not in make:
        raise UserError(f"recommendations cannot be written as '{path.name}': end the name in .parquet or .csv")
    if path.is_dir():
        raise UserError(f"{path} is a folder: give the name of a file")
    return make[path.suffix]


def _asked(
    method: Any,
    ask: Callable,
    histories: Any,
    rows: np.ndarray,
    project: Callable | None = None,
    batch_size: int = ROWS,
) -> tuple[Tensor, Tensor]:
    """h and z (h without `project`) of histories that are not empty, those of like length encoded together."""
    device = next(method.parameters()).device
    read = model(method.encoder, project)
    order = np.argsort(histories.lengths[rows], kind="stable")
    parts = [read(ask(histories, rows[order[some]]).to(device)) for some in blocks(len(rows), batch_size)]
    if not parts:
        nothing = torch.empty(0, method.encoder.dim, device=device)
        return nothing, nothing
    back = torch.from_numpy(np.argsort(order)).to(device)
    h = torch.cat([h for h, _ in parts])[back]
    return h, h if project is None else torch.cat([z for _, z in parts if z is not None])[back]


def blocks(total: int, size: int) -> Iterator[slice]:
    """0 ... total - 1 in consecutive slices of `size`."""
    return (slice(i, min(i + size, total)) for i in range(0, total, size))
