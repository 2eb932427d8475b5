"""Two partitions of the tables in memory, of those that lie on the disk: read, trained, written.

A partition is written under the number of the round, beside what it was before: a run that is killed has lost no more
than the round it was in.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from ..checkpoint import sync, writing
from .files import Division, bucket
from .plan import Pair

TABLES = ("vectors", "contexts")
BLOCK = 2**15  # edges that a thread takes at once
POWER = 0.75  # of the degree, for negatives


@dataclass(frozen=True)
class Settings:
    """What decides the result, beside the graph and its division."""

    dim: int
    order: str
    lr: float
    epochs: int
    negatives: int
    shared: int
    seed: int

    def rate(self, epoch: int) -> float:
        return self.lr * (1 - epoch / self.epochs)


def table_file(folder: Path, name: str, part: int, version: int) -> Path:
    return folder / f"{name}-{part:04d}.{version:05d}.npy"


def save(folder: Path, name: str, part: int, version: int, rows: np.ndarray) -> None:
    file = table_file(folder, name, part, version)
    with writing(file):
        np.save(file, rows)
        sync(file)


def drop_old(folder: Path, versions: Sequence[int]) -> None:
    """Remove the files that progress.json no longer counts."""
    current = {table_file(folder, name, p, version) for name in TABLES for p, version in enumerate(versions)}
    for name in TABLES:
        for file in folder.glob(f"{name}-*.npy"):
            if file not in current:
                file.unlink()


@dataclass
class Trained:
    """loss: its sum over `read` pairs of tokens.  edges: how many were trained."""

    loss: float = 0.0
    read: int = 0
    edges: int = 0


class Held:
    """The two partitions of which a process holds the tables: (slots * rows of the largest, dim)."""

    def __init__(self, folder: Path, division: Division, settings: Settings):
        self.folder, self.division, self.settings = folder, division, settings
        self.most = max(division.rows)
        self.inside: list[tuple[int, int] | None] = [None] * min(2, len(division.rows))  # partition, version
        self.tables = {"vectors": np.zeros((self.most * len(self.inside), settings.dim), np.float32)}
        if settings.order == "second":
            self.tables["contexts"] = np.zeros_like(self.tables["vectors"])
        self.degrees = np.zeros(len(self.tables["vectors"]), np.float32)

    def take(self, pair: Pair, versions: Sequence[int]) -> None:
        """Hold a pair in its current version, the first partition first, so that nothing depends on what was held."""
        wanted = [(p, versions[p]) for p in sorted(set(pair))]
        before = list(self.inside)
        self.inside[: len(wanted)] = wanted
        kept = [(slot, before.index(entry)) for slot, entry in enumerate(wanted) if entry in before]
        for slot, old in kept:  # of two pairs in turn at most one changes its place: nothing is overwritten
            if slot != old:
                for table in self.tables.values():
                    table[self.rows(slot)] = table[self.rows(old)]
                self.degrees[self.rows(slot)] = self.degrees[self.rows(old)]
        for slot in {*range(len(wanted))} - {slot for slot, _ in kept}:
            p, version = wanted[slot]
            here = slice(slot * self.most, slot * self.most + self.division.rows[p])
            for name, table in self.tables.items():
                table[here] = np.load(table_file(self.folder, name, p, version))
            self.degrees[self.rows(slot)] = 0
            self.degrees[here] = np.load(self.folder / f"degrees-{p:04d}.npy")

    def rows(self, slot: int) -> slice:
        return slice(slot * self.most, (slot + 1) * self.most)

    def save(self, pair: Pair, version: int) -> None:
        """Write both partitions as another version."""
        for slot, entry in enumerate(self.inside):
            if entry is not None and entry[0] in pair:
                self.inside[slot] = entry[0], version
                begin = slot * self.most
                for name, table in self.tables.items():
                    save(self.folder, name, entry[0], version, table[begin : begin + self.division.rows[entry[0]]])

    def train(self, buckets: Sequence[Pair], epoch: int, pool: Executor) -> Trained:
        """Train buckets whose partitions are held, one after the other."""
        from ..objectives.skipgramchunk import SGNS
        from ..objectives.skipgramdraws import Noise, aliases, how_of
        from ..objectives.skipgramkernels import Tables, learn

        total = Trained()
        if not any(self.division.counts[i][j] for i, j in buckets):
            return total
        size, vectors = len(self.degrees), self.tables["vectors"]
        share, other = np.empty(size, np.float32), np.empty(size, np.int32)
        aliases(self.degrees.astype(np.float64) ** POWER, share, other)
        noise = Noise(np.array([0, size]), share, other, np.zeros(0, np.uint8))
        none = np.zeros(0, np.float32)
        tables = Tables(vectors, self.tables.get("contexts", vectors), 0, 0, self.settings.dim, none, none)
        negatives = {"negatives": self.settings.negatives, "shared": self.settings.shared}
        how = how_of(SimpleNamespace(window=1, shrink=False, **negatives), SGNS)
        rate = np.float32(self.settings.rate(epoch))
        bounds = np.arange(0, 2 * BLOCK + 1, 2)
        slot = {entry[0]: k * self.most for k, entry in enumerate(self.inside) if entry is not None}
        for i, j in buckets:
            pairs, order = self.drawn(i, j, epoch)
            ends = np.array([slot[i], slot[j]], np.int32)
            number = (i * len(self.division.rows) + j) << 20  # blocks of all buckets have other random numbers

            def block(k: int) -> tuple[float, int]:
                tokens = (pairs[order[k * BLOCK : (k + 1) * BLOCK]] + ends).ravel()  # noqa: B023
                seed = self.settings.seed, epoch, number + k  # noqa: B023
                return learn(tokens, bounds[: len(tokens) // 2 + 1], tables, noise, how, rate, *seed)

            for loss, read in pool.map(block, range(-(-len(order) // BLOCK))):
                total.loss, total.read = total.loss + loss, total.read + read
            total.edges += len(order)
        return total

    def drawn(self, i: int, j: int, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """The edges of a bucket (n, 2), and the order in which they are trained: each once, a weight w times about."""
        stored, weights = bucket(self.folder, i, j)
        pairs = np.array(stored)
        random = np.random.default_rng((self.settings.seed, epoch, i, j))
        order = random.permutation(np.arange(len(pairs), dtype=np.uint32))
        if weights is not None:
            times = (weights + random.random(len(pairs), np.float32)).astype(np.int64)
            order = np.repeat(order, times[order])
        return pairs, order
