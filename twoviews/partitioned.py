"""`twoviews buckets`: a graph from its files to vectors.npy, with tables that never lie in memory whole."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from . import dist
from .buckets import gather, train_buckets
from .calls import change
from .checkpoint import writing
from .data.entries import entries_of
from .data.graph import Graph
from .data.graphs import graph, notes
from .errors import DataError, UserError
from .log import Log


def train_partitioned(
    data: Any, out: str | Path, *, settings: Mapping[str, Any] | None = None, quiet: bool = False, **how: Any
) -> Path | None:
    """Train in the folder `out`, and write out/vectors.npy and, of a graph, out/entries.parquet. The former's path.

    data: as of `train`, or an .npy of edges (E, 2).  settings: how a graph is read.  how: as `train_buckets`.
    None on other processes than the first. Raises UserError as `train_buckets` and `graph` do.
    """
    out = Path(out)
    with dist.launched(torch.device("cpu")):
        leads = dist.rank() == 0
        log = Log(quiet=quiet or not leads)
        source = opened(data, settings or {})
        if isinstance(source, Graph):
            for line in notes(source):
                log.say(line)
        train_buckets(source, out, log=log, **how)
        if leads:
            gather(out, out / "vectors.npy")
            if isinstance(source, Graph):
                edges = sum(met(source, relation) for relation in source.relations)
                with writing(out):
                    entries_of(source, np.asarray(edges)).write(out)
        dist.barrier()
        return out / "vectors.npy" if leads else None


def opened(data: Any, settings: Mapping[str, Any]) -> Graph | np.ndarray:
    if isinstance(data, str | Path) and str(data).endswith(".npy"):
        try:
            return np.load(Path(data).expanduser(), mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError) as why:
            raise DataError(f"{data} cannot be read as an array of edges: {' '.join(str(why).split())}") from None
    for name, value in settings.items():
        if not name.startswith("data."):
            raise UserError(f"only how the graph is read can be set here, as data.source=NAME, not {name}={value}")
        change(graph, name.removeprefix("data."), value, "data")
    return graph(data, **{name.removeprefix("data."): value for name, value in settings.items()})


def met(source: Graph, relation: Any) -> np.ndarray:
    """(V,) int64: how many edges of a relation leave each node."""
    out = np.zeros(len(source), np.int64)
    out[source.between(relation.source)] = np.diff(relation.starts)
    return out
