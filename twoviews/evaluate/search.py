"""What is most alike: the items whose h has the largest cosine with that of a query, from an index on disk.

FOLDER/stamp.json        what it is an index of, written last: without it there is no index
FOLDER/h.npy             h float32 (N, D), read through a memory map; h.npy.keys.csv has key, label, class of each row
FOLDER/graph.usearch     from 50,000 items on and where usearch is installed: h in float16 and a graph of neighbours

Fewer items are all compared with a query. Of more, the graph names candidates (HNSW: Malkov and Yashunin 2018,
arXiv:1603.09320), which are then ranked by their exact cosine.
"""

from __future__ import annotations

import csv
import json
from dataclasses import asdict, dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from ..checkpoint import one_line, writing
from ..data.loader import cores
from ..errors import UserError
from ..log import Log
from ..types import Features, Source
from .embed import Model, Progress, Views, slices
from .formats import whole
from .knn import neighbours
from .split import check_finite
from .store import embed_to

EXACT = 50_000  # items from which on a graph is used
EDGES, EXPANSION = 16, 128  # of the graph; recall@10 is 0.999 and more (benchmarks/search.py)
MANY = 1000  # neighbours asked for at once, above which comparing all is quicker
BLOCK = 4096  # items added to the graph at a time
STAMP, ITEMS, GRAPH = "stamp.json", "h.npy", "graph.usearch"


@dataclass(frozen=True)
class Found:
    """The k items most alike to one query, the most alike first.

    query, label: the query's name, and its label where it has one.
    keys, similarities, labels: of each item its key, the cosine of its h with the query's, its label or None.
    """

    query: str
    label: str | None
    keys: list[str]
    similarities: list[float]
    labels: list[str | None]

    def to_json(self) -> dict[str, Any]:
        """Plain values, for json.dumps."""
        rows = enumerate(zip(self.keys, self.similarities, self.labels, strict=True), 1)
        found = [{"rank": i, "similarity": round(s, 6), "key": k, "label": label} for i, (k, s, label) in rows]
        return {"query": self.query, "label": self.label, "found": found}

    def lines(self) -> list[str]:
        """A small table for a terminal: rank, similarity, key, label."""
        width = max(map(len, self.keys))
        rows = enumerate(zip(self.keys, self.similarities, self.labels, strict=True), 1)
        table = [f"{i:4}  {s:6.3f}  {k:{width}}  {label or ''}".rstrip() for i, (k, s, label) in rows]
        return [self.query + (f"  ({self.label})" if self.label else ""), *table]


@dataclass(frozen=True)
class Stamp:
    """What an index is of: digests of the run's settings, of its encoder and view, of its data (None: not known)."""

    run: str
    model: str
    data: str | None


@dataclass(frozen=True, eq=False)
class Index:
    """h (N, D) of N items with their keys and labels, and maybe a graph of neighbours."""

    h: Tensor
    keys: list[str]
    labels: list[str | None]
    graph: Any = None

    def __len__(self) -> int:
        return len(self.keys)

    def item(self, key: str) -> tuple[int, Features]:
        """The row of an item, and the item as a query. Raises UserError when it could not be read."""
        if key not in self.keys:
            raise UserError(f"'{key}' is an item that could not be read, so nothing can be found for it")
        row = self.keys.index(key)
        label = self.labels[row]
        known = {} if label is None else {"labels": torch.tensor([0]), "classes": [label]}
        return row, Features(self.h[row : row + 1], [key], **known)  # type: ignore[arg-type]

    def search(self, queries: Features, k: int = 10, without: int | None = None) -> list[Found]:
        """The k items most alike to each query; `without`: a row that is not to be found.

        Raises UserError when there are fewer than k items, or h of the queries has another width.
        """
        most = len(self) - (without is not None)
        if not 1 <= k <= most:
            beside = " beside the query" if without is not None else ""
            raise UserError(f"k={k}, but there are {most:,} items to find{beside}: give k from 1 to {most}")
        if queries.h.shape[1] != self.h.shape[1]:
            raise UserError(f"the query is {queries.h.shape[1]} numbers wide, h of this run {self.h.shape[1]}")
        similarity, rows = self.nearest(queries.h, k + (without is not None))
        out = []
        for q, label in enumerate(label_names(queries)):
            best = [(i, s) for i, s in zip(rows[q].tolist(), similarity[q].tolist(), strict=True) if i != without][:k]
            at, near = zip(*best, strict=True)
            found = [self.keys[i] for i in at], list(near), [self.labels[i] for i in at]
            out.append(Found(queries.keys[q], label, *found))
        return out

    def nearest(self, queries: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """The k largest cosines of queries (M, D) to the items, descending, and whose: both (M, k), on the CPU."""
        queries = queries.cpu()
        if self.graph is None or k > MANY:
            return neighbours(queries, self.h, k)
        found = [self._by_graph(q, k) for q in normalize(queries, dim=1).split(1)]
        return torch.cat([s for s, _ in found]), torch.cat([i for _, i in found])

    def _by_graph(self, query: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """`nearest` of one query (1, D): the graph's candidates in the order of their exact cosines."""
        candidates = self.graph.search(query.numpy(), 2 * k + 16).keys  # float16 may swap what is nearly equal
        if len(candidates) < k:  # many equal items can cut a graph in parts
            return neighbours(query, self.h, k)
        rows = torch.from_numpy(candidates.astype(np.int64))
        similarity, place = neighbours(query, self.h[rows], k)
        return similarity, rows[place]


def open_index(
    folder: Path,
    stamp: Stamp,
    model: Model,
    source: Source | None,
    views: Views,
    log: Log,
    *,
    device: torch.device | str = "cpu",
    workers: int = 0,
    skipped: dict[str, str] | None = None,
) -> Index | None:
    """The index in `folder`; built first where none is there that is of `stamp`, after a kill from where it was.

    source:  the items; None where they cannot be had: then the index that is there, or None.
    skipped: filled with key -> reason of the items that could not be read, if the index was built.
    Raises UserError when it is the index of another run, cannot be written or h is not finite, DataError when no item
    can be read.
    """
    index = _load(folder, stamp, log)
    if index is None and source is not None:
        with log.progress(f"building {folder}", len(source)) as bar:
            _forget(folder)
            how: dict[str, Any] = {"device": device, "workers": workers, "skipped": skipped, "progress": bar}
            embed_to(folder / ITEMS, model, source, views, identity=stamp.model, **how)
        index = _read(folder)
        check_finite(index.h, "indexed")
        with writing(folder), whole(folder / STAMP) as f:
            f.write(json.dumps(asdict(stamp), indent=2).encode())
    return with_graph(index, folder, log) if index and len(index) >= EXACT else index


def with_graph(index: Index, folder: Path, log: Log) -> Index:
    """The index with its graph, built first where there is none; without one where usearch is not installed."""
    if find_spec("usearch") is None:
        log.say(f"comparing with all {len(index):,} items; quicker with usearch: pip install 'twoviews[search]'")
        return index
    path = folder / GRAPH
    if (graph := _open_graph(path, index)) is None:
        with log.progress(f"building {path}", len(index)) as bar:
            _build_graph(path, index, bar)
        graph = _open_graph(path, index)
    return replace(index, graph=graph)


def label_names(features: Features) -> list[str | None]:
    """The label of each item in words, None where it has none."""
    if features.labels is None:
        return [None] * len(features)
    names = features.classes
    return [None if i < 0 else names[i] if names else str(i) for i in features.labels.tolist()]


def _load(folder: Path, stamp: Stamp, log: Log) -> Index | None:
    """The index in a folder, None where none is there that is of `stamp`; the log is told why it will not do."""
    try:
        there = Stamp(**json.loads((folder / STAMP).read_text()))
        if there.model == stamp.model and stamp.data in (None, there.data):
            return _read(folder)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError, StopIteration) as error:
        log.say(f"{folder} cannot be read ({one_line(error)})")
        return None
    if there.model != stamp.model and there.run != stamp.run:
        raise UserError(f"{folder} is the index of another run: delete it, and the next search builds this run's own")
    log.say(f"the {'data' if there.model == stamp.model else 'encoder'} has changed since {folder} was built")
    return None


def _forget(folder: Path) -> None:
    """Make the folder; take away what says that an index is complete, the stamp first."""
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for name in (STAMP, GRAPH):
            (folder / name).unlink(missing_ok=True)


def _read(folder: Path) -> Index:
    h = np.load(folder / ITEMS, mmap_mode="c", allow_pickle=False)  # "c": torch takes no map that is read-only
    with (folder / f"{ITEMS}.keys.csv").open(newline="", encoding="utf-8") as f:
        lines = csv.reader(f)
        columns = dict(zip(next(lines), zip(*lines, strict=True), strict=True))
    keys = list(columns["key"])
    if h.ndim != 2 or len(h) != len(keys):
        raise ValueError(f"{ITEMS} is of shape {h.shape}, for {len(keys)} keys")
    labels = columns.get("class", columns.get("label", [""] * len(keys)))
    return Index(torch.from_numpy(h), keys, [label or None for label in labels])


def _open_graph(path: Path, index: Index) -> Any:
    """The graph in a file, mapped; None where there is none for this index."""
    from usearch.index import Index as Graph

    graph = Graph(ndim=index.h.shape[1], metric="ip", dtype="f16", expansion_search=EXPANSION)
    try:
        graph.view(path)
    except RuntimeError:  # no such file, or cut short
        return None
    return graph if (len(graph), graph.ndim) == tuple(index.h.shape) else None


def _build_graph(path: Path, index: Index, progress: Progress) -> None:
    from usearch.index import Index as Graph

    graph = Graph(ndim=index.h.shape[1], metric="ip", dtype="f16", connectivity=EDGES, expansion_add=EXPANSION)
    for rows in slices(0, len(index), BLOCK):
        block = normalize(index.h[rows.start : rows.stop], dim=1)
        graph.add(np.arange(rows.start, rows.stop), block.numpy(), threads=cores())
        progress(rows.stop, len(index))
    with writing(path), whole(path) as f:
        graph.save(f.name)
