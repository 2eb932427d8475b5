"""Vectors for items that no training has seen, and how good such vectors are.

attributes     ridge regression from what a table says of known items to their vectors
co-occurrence  the mean of the vectors of what an item is met with, near ones and rare ones first
"""

from __future__ import annotations

import re
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ..errors import UserError
from .catalogue import put, rows_of
from .recommend import blocks, embed_users, met, top, vectors

if TYPE_CHECKING:
    import pyarrow as pa

WORDS = 2048  # words and categories of a table that are used, the most frequent first
PENALTIES = (0.1, 1.0, 10.0, 100.0)
HELD = 0.1  # share of the known items that are held out
NEAR = 5  # items before and behind that count as met together
ASKED = 2000  # histories asked for held-out items at most
AT = (10, 100)


def featured(table: pa.Table, item: str, fitted: np.ndarray) -> Any:
    """What a table says of its N items as a sparse matrix (N, F): words of text and categories, and plain numbers.

    Text gives a tf-idf of its words, whole numbers one category each; numbers with a fraction, and lists of them, are
    scaled to deviation 1. fitted: (N,) bool, the rows by which words and scales are chosen.
    """
    import pyarrow as pa
    from scipy import sparse
    from sklearn.feature_extraction.text import TfidfVectorizer

    words: list[list[str]] = [[] for _ in range(len(table))]
    numbers = []
    for name in table.column_names:
        if name == item:
            continue
        column, kind = table[name].combine_chunks(), table[name].type
        if pa.types.is_floating(kind) or is_vector(kind):
            numbers.append(stacked(column, name))
        else:
            for said, value in zip(words, column.to_pylist(), strict=True):
                text = "" if value is None else " ".join(map(str, value)) if isinstance(value, list) else str(value)
                said += [f"{name}={word}" for word in re.findall(r"\w+", text.lower())]
    parts = []
    if any(words[i] for i in np.flatnonzero(fitted)):
        chosen = TfidfVectorizer(analyzer=list, max_features=WORDS, dtype=np.float64)
        chosen.fit([words[i] for i in np.flatnonzero(fitted)])
        parts.append(chosen.transform(words))
    for x in numbers:
        x = np.where(np.isfinite(x), x, np.nan)
        x = x[:, np.isfinite(x[fitted]).any(0)]
        mean, scale = np.nanmean(x[fitted], 0), np.nanstd(x[fitted], 0)
        parts.append(sparse.csr_matrix(np.nan_to_num((x - mean) / np.where(scale > 0, scale, 1))))
    if not sum(part.shape[1] for part in parts):
        raise UserError("the table says nothing of the items: it needs a column beside the items' names")
    return sparse.hstack(parts, format="csr")


def is_vector(kind: Any) -> bool:
    """Is it a list of numbers?"""
    import pyarrow as pa

    lists = pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    return lists and (pa.types.is_floating(kind.value_type) or pa.types.is_integer(kind.value_type))


def stacked(column: pa.Array, name: str) -> np.ndarray:
    """A column of numbers or lists of them as (N, F). Raises UserError when they are not all of one length."""
    try:
        return np.array(column.to_pylist(), np.float64).reshape(len(column), -1)
    except (TypeError, ValueError):
        raise UserError(f"the lists in column '{name}' must be of numbers and all of one length") from None


def ridge(x: Any, y: np.ndarray, weight: np.ndarray, seed: int = 0) -> Callable[[Any], np.ndarray]:
    """What predicts y (N, D) from sparse x (N, F) best, as a function of x; a tenth of the rows choose the penalty."""
    held = np.random.default_rng(seed).random(len(y)) < HELD
    best = PENALTIES[-1]
    if 0 < held.sum() < len(y):
        found = _solved(x[~held], y[~held], weight[~held], PENALTIES)
        errors = [(weight[held, None] * (predict(x[held]) - y[held]) ** 2).sum() for predict in found]
        best = PENALTIES[int(np.argmin(errors))]
    return _solved(x, y, weight, (best,))[0]


def _solved(x: Any, y: np.ndarray, weight: np.ndarray, penalties: tuple[float, ...]) -> list[Callable]:
    mean = weight @ y / weight.sum()
    weighted = x.multiply(weight[:, None]).tocsr()
    square, product = (weighted.T @ x).toarray(), weighted.T @ (y - mean)
    place = np.diag_indices(len(square))

    def solved(penalty: float) -> Callable[[Any], np.ndarray]:
        a = square.copy()
        a[place] += penalty
        coefficients = np.linalg.solve(a, product)
        return lambda other: other @ coefficients + mean

    return [solved(penalty) for penalty in penalties]


def from_attributes(x: Any, rows: Tensor, counts: np.ndarray, wanted: Any) -> Tensor:
    """Rows (n, D) of items that `wanted` (n, F) tells of, from known ones: sparse x (N, F), rows (N, D), counts (N,).

    An item weighs by how often training met it, for the vector of a rare one is still near where it began.
    """
    predict = ridge(x, rows.double().numpy(), counts / (counts + 10))
    return torch.from_numpy(predict(wanted)).float()


def together(histories: Any, rows: Tensor, given: np.ndarray, wanted: np.ndarray) -> tuple[Tensor, np.ndarray]:
    """Rows of wanted items as means over the given ones they are met with: 1 / distance / sqrt(how often that occurs).

    rows: (V, D).  given: (V,) bool, whose rows count.  wanted: (n,) places.
    Returns the rows (n, D), and (n,) bool which were met with anything; the others get the mean of all given.
    """
    from scipy import sparse

    size = len(rows)
    owner, items = (t.numpy() for t in met(histories, np.arange(len(histories))))
    number = np.full(size, -1)
    number[wanted] = np.arange(len(wanted))
    rare = np.bincount(items, minlength=size).clip(1) ** -0.5
    events = np.flatnonzero(number[items] >= 0)
    found: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    for apart in (*range(-NEAR, 0), *range(1, NEAR + 1)):
        here = events[(events + apart >= 0) & (events + apart < len(items))]
        here = here[(owner[here + apart] == owner[here]) & given[items[here + apart]]]
        other = items[here + apart]
        found.append((number[items[here]], other, rare[other] / abs(apart)))
    n, m, w = (np.concatenate(part) for part in zip(*found, strict=True))
    total = np.bincount(n, w, len(wanted))  # (n,)
    mixed = sparse.csr_matrix((w / total[n], (n, m)), (len(wanted), size))
    values = rows.double().numpy()
    out = np.where(total[:, None] > 0, mixed @ values, values[given].mean(0))
    return torch.from_numpy(out).float(), total > 0


def spread(made: Tensor, known: Tensor, dim: int) -> Tensor:
    """Rows made by averaging, as far from the mean of the known ones as these are; the first `dim` numbers of each.

    A mean of vectors is short, and a short vector is never the best for anybody: without this, items so made are
    found less often than by chance.
    """
    mean = known[:, :dim].mean(0)
    apart = made[:, :dim] - mean
    usual, own = ((x.square().sum(1).mean()) for x in (known[:, :dim] - mean, apart))
    scale = (usual / own).sqrt() if own > 0 else 1.0
    return torch.cat([mean + scale * apart, made[:, dim:]], 1)


@dataclass(frozen=True)
class Cold:
    """How often items that were held out are found. rows: whose vectors -> Recall@k for each k of `AT`."""

    items: int
    asked: int
    rows: dict[str, list[float]]

    def to_json(self) -> dict[str, Any]:
        """Plain values, for json.dumps."""
        rows = {name: dict(zip((f"Recall@{k}" for k in AT), values, strict=True)) for name, values in self.rows.items()}
        return {"items": self.items, "asked": self.asked, "rows": rows}

    def lines(self) -> list[str]:
        """A small table for a terminal."""
        head = f"{self.items:,} known items held out, asked for by {self.asked:,} histories"
        width = max(map(len, (head, *self.rows)))
        table = [f"{head:{width}}  " + "  ".join(f"{f'Recall@{k}':>10}" for k in AT)]
        return table + [f"{name:{width}}  " + "  ".join(f"{v:10.4f}" for v in vs) for name, vs in self.rows.items()]


def cold(
    method: Any,
    ask: Callable,
    histories: Any,
    predict: Callable[[np.ndarray, np.ndarray, Any], Tensor],
    known: np.ndarray,
    *,
    seed: int = 0,
) -> Cold | None:
    """Leave-items-out: a tenth of the known items get predicted vectors; how often are they found where they came next?

    histories: of the method's vocabulary. Half of them may be learned from, the other half asks.
    predict: (places with vectors, places without, histories to learn from) -> rows of the latter.
    All items compete, met ones aside. None where no history asks for a held-out item.
    """
    random = np.random.default_rng(seed)
    held = np.sort(random.permutation(known)[: max(1, int(HELD * len(known)))])
    rest = np.setdiff1d(known, held)
    order = random.permutation(len(histories))
    asked, targets = asking(histories.subset(order[1::2]), held, random)
    if not len(targets) or not len(rest):
        return None
    rows, places = rows_of(method).cpu(), torch.from_numpy(held)
    others = torch.from_numpy(random.permutation(rest)[: len(held)])
    others = others[torch.arange(len(held)) % len(others)]
    sides = {
        "their own vectors, which training has seen": rows[places],
        "predicted, as for new items": predict(rest, held, histories.subset(order[::2])),
        "vectors of other items, drawn at random": rows[others],
    }
    return Cold(
        len(held),
        len(targets),
        {name: recall(put(deepcopy(method), places, side), ask, asked, targets) for name, side in sides.items()},
    )


def asking(histories: Any, held: np.ndarray, random: np.random.Generator) -> tuple[Any, np.ndarray]:
    """At most 2,000 beginnings of histories after which a held-out item came, and these items."""
    owner, items = (t.numpy() for t in met(histories, np.arange(len(histories))))
    begins = np.cumsum(histories.lengths) - histories.lengths
    step = np.arange(len(items)) - begins[owner]
    events = np.flatnonzero(np.isin(items, held) & (step > 0))
    events = np.sort(random.permutation(events)[:ASKED])
    rows = owner[events]
    starts = histories.starts[rows]
    return histories.subset(rows).between(starts, starts + step[events]), items[events]


def recall(method: Any, ask: Callable, asked: Any, targets: np.ndarray) -> list[float]:
    """Recall@k of one target each, for each k of `AT`, over the whole catalogue without what was met before."""
    z = method.project(embed_users(method, ask, asked).to(next(method.parameters()).device)).detach()
    e, c = vectors(method)
    k, wanted = min(max(AT), len(e)), torch.from_numpy(targets)
    found = []
    for some in blocks(len(asked), 256):
        rows, items = met(asked, np.arange(some.start, some.stop))
        again = items == wanted[some][rows]  # an item that is met again may be found again
        found.append(top(z[some], e, c, k, (rows[~again], items[~again]))[1].cpu())
    hit = torch.cat(found) == wanted[:, None]
    return [hit[:, :at].any(1).float().mean().item() for at in AT]
