"""Vectors of the nodes of a graph that does not fit into memory: two partitions of the tables are held at a time.

An epoch trains every bucket of edges once (files.py): the pairs of partitions come one after the other, each
with the edges between them. An edge is a sequence of two tokens, of which each sees the other (LINE's second order;
of the first order, where both have one table); negatives are drawn by degree ** 0.75 among the partitions held.

FOLDER/vectors-0003.00012.npy     a partition of the table that users keep, and the number of the round that wrote it
FOLDER/contexts-0003.00012.npy    the same of the other table
FOLDER/progress.json              which of them count, and what is done: written after each round, whole or not at all

Lerer et al. 2019, "PyTorch-BigGraph", arXiv:1903.12287.  Tang et al. 2015, "LINE", arXiv:1503.03578.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .. import dist
from ..checkpoint import writing
from ..data.graph import Graph
from ..data.room import free_memory
from ..errors import TrainingError, UserError, unknown
from ..log import Log
from .files import Division, divide, read_division, write_json
from .plan import owned, remaining
from .tables import TABLES, Held, Settings, Trained, drop_old, save, table_file


@dataclass
class Progress:
    """settings of the training; done: the pairs of this epoch that are; versions: of each partition's files."""

    settings: dict[str, Any]
    epoch: int
    done: list[list[int]]
    round: int
    versions: list[int]


def train_buckets(
    data: Graph | np.ndarray,
    folder: str | Path,
    *,
    partitions: int = 8,
    dim: int = 128,
    order: str = "second",
    lr: float = 0.025,
    epochs: int = 10,
    negatives: int = 5,
    shared: int = 32,
    threads: int = 1,
    seed: int = 0,
    log: Log | None = None,
) -> Path:
    """Vectors of all nodes in `folder`, going on where an earlier call was stopped. Returns the folder.

    data:       a Graph, or edges (E, 2) as whole numbers from 0 on, which may be a memory map. An edge is trained from
                both ends; of a relation and its reverse, or of both directions of an edge, one counts. A weight is how
                often an edge is trained: once an epoch on average.
    partitions: P. Two are held, so memory is 16 V dim / P bytes and 24 for each edge of the largest bucket.
    order:      "second": two tables, nodes with the same neighbours become alike; "first": one table, neighbours do.
    lr:         of the first epoch; it falls by lr / epochs with each.
    shared:     negatives that 32 edges share, weighed as `negatives` for each token.
    threads:    write to the tables without locks; with 1 the same bits come out each time.
    Started by torchrun, W processes train disjoint pairs of partitions between two barriers: P must be at least 2 W and
    `folder` be seen by all. The order of the pairs depends on W, their random numbers and learning rates do not.
    Raises UserError on settings that do not fit, or a folder of other ones; TrainingError on a loss that is not finite.
    """
    from threadpoolctl import threadpool_limits

    folder, log = Path(folder), log or Log(quiet=True)
    if order not in ("first", "second"):
        raise unknown("order", order, ("first", "second"))
    if min(dim, epochs, negatives, shared, threads) < 1 or lr <= 0:
        raise UserError("dim, epochs, negatives, shared and threads must be at least 1, and lr above 0")
    if dist.world() > 1 and partitions < 2 * dist.world():
        raise UserError(f"{dist.world()} processes hold two each: set partitions to at least {2 * dist.world()}")
    settings = Settings(dim, order, lr, epochs, negatives, shared, seed)
    if dist.rank() == 0:
        begin(divide(data, folder, partitions, seed), folder, settings, log)
    dist.barrier()
    division = read_division(folder)
    assert division is not None
    state = read_progress(folder)
    held, pairs = Held(folder, division, settings), max(partitions * (partitions - 1) // 2, 1)
    one = threadpool_limits(1, user_api="blas")  # products are small, and each thread makes its own
    with one, ThreadPoolExecutor(threads) as pool, log.progress("training", epochs * pairs) as bar:
        while (epoch := state.epoch) < epochs:
            rounds = remaining(partitions, dist.world(), seed, epoch, state.done)
            for now in rounds:
                begun, trained = time.monotonic(), Trained()
                if dist.rank() < len(now):
                    pair = now[dist.rank()]
                    held.take(pair, state.versions)
                    trained = held.train(owned(pair, partitions, seed, epoch), epoch, pool)
                    held.save(pair, state.round + 1)
                every = dist.from_all(trained)  # all files of the round are written
                state.round += 1
                state.done += [list(pair) for pair in now]
                for p in {p for pair in now for p in pair}:
                    state.versions[p] = state.round
                if now is rounds[-1]:
                    state.epoch, state.done = epoch + 1, []
                values = summed(every, time.monotonic() - begun, state.round)
                if dist.rank() == 0:
                    write_json(folder / "progress.json", asdict(state))
                    drop_old(folder, state.versions)
                    log.metrics(state.round, values | {"lr": settings.rate(epoch)})
                    note = f"loss {values['loss']:.3f}  {values['items_per_second']:,.0f} edges/s"
                    bar(state.epoch * pairs + len(state.done), note=note)
                dist.barrier()
    return folder


def begin(division: Division, folder: Path, settings: Settings, log: Log) -> None:
    """Say what memory it takes, and write the tables as they are before training, where nothing is there to go on."""
    need, free = estimate(division, settings), free_memory()
    log.say(f"{division.nodes:,} nodes in {len(division.rows)} partitions: {need / 1e9:.2f} GB hold two of them")
    if free is not None and need > free:
        raise UserError(f"two partitions need {need / 1e9:.1f} GB and {free / 1e9:.1f} are free: set more partitions")
    if (folder / "progress.json").exists():
        there = read_progress(folder).settings
        for name, here in asdict(settings).items():
            if there.get(name) != here:
                raise UserError(f"{folder} was begun with {name}={there.get(name)}, not {here}: choose another folder")
        return
    for p, rows in enumerate(division.rows):
        random = np.random.default_rng((settings.seed, p))
        started = (random.random((rows, settings.dim), np.float32) - 0.5) / settings.dim  # as encoders.table
        save(folder, "vectors", p, 0, started)
        if settings.order == "second":
            save(folder, "contexts", p, 0, np.zeros_like(started))
    write_json(folder / "progress.json", asdict(Progress(asdict(settings), 0, [], 0, [0] * len(division.rows))))


def estimate(division: Division, settings: Settings) -> int:
    """Bytes of two partitions with what one of their buckets needs."""
    slots, tables = min(2, len(division.rows)), 2 if settings.order == "second" else 1
    rows = slots * max(division.rows)
    return rows * (4 * settings.dim * tables + 20) + 24 * max(map(max, division.counts))


def read_progress(folder: Path) -> Progress:
    try:
        return Progress(**json.loads((folder / "progress.json").read_text()))
    except (OSError, ValueError, TypeError) as error:
        path = folder / "progress.json"
        raise UserError(f"{path} cannot be read ({error}): give a folder that train_buckets wrote") from None


def summed(every: Sequence[Trained], seconds: float, round: int) -> dict[str, float]:
    """What all processes trained in a round. Raises TrainingError on a loss that is not finite."""
    read, edges = sum(one.read for one in every), sum(one.edges for one in every)
    loss = sum(one.loss for one in every) / max(read, 1)
    if not math.isfinite(loss):
        raise TrainingError(f"the loss is not finite in round {round}: lower lr, in another folder")
    return {"loss": loss, "items_per_second": edges / max(seconds, 1e-9)}


@dataclass(frozen=True)
class Part:
    """A partition on the disk: nodes (rows,) int32, vectors and contexts (rows, dim), memory maps."""

    nodes: np.ndarray
    vectors: np.ndarray
    contexts: np.ndarray | None


def load_buckets(folder: str | Path) -> list[Part]:
    """The partitions of a folder that `train_buckets` wrote, as far as it has come."""
    folder = Path(folder)

    def part(p: int, version: int) -> Part:
        nodes = np.load(folder / f"nodes-{p:04d}.npy", mmap_mode="r")
        files = (table_file(folder, name, p, version) for name in TABLES)
        tables = [np.load(file, mmap_mode="r") if file.exists() else None for file in files]
        assert tables[0] is not None
        return Part(nodes, tables[0], tables[1])

    return [part(p, version) for p, version in enumerate(read_progress(folder).versions)]


def gather(folder: str | Path, out: str | Path) -> np.ndarray:
    """Write the vectors (V, dim) in order of the nodes' numbers as one .npy, partition by partition. Gives its map."""
    parts = load_buckets(folder)
    shape = sum(len(part.nodes) for part in parts), parts[0].vectors.shape[1]
    with writing(Path(out)):
        whole = np.lib.format.open_memmap(out, "w+", np.float32, shape)
        for part in parts:
            whole[part.nodes] = part.vectors
        whole.flush()
    return whole
