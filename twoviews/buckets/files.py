"""A graph on disk in parts: nodes in P partitions, edges in P * P buckets by the partitions of their two ends.

FOLDER/buckets.json            how it was divided, and how many edges each bucket holds
FOLDER/nodes-0003.npy          (rows,) int32, the numbers of the nodes of a partition, in the order of its rows
FOLDER/degrees-0003.npy        (rows,) float32, the edges of each, or their weight
FOLDER/edges-0003-0001.npy     (n, 2) int32, an edge's rows in its two partitions; no file where there is none
FOLDER/weights-0003-0001.npy   (n,) float32, mean 1 over all edges, of a graph with weights

Lerer et al. 2019, "PyTorch-BigGraph", arXiv:1903.12287.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..checkpoint import sync, writing
from ..data.graph import Graph
from ..errors import DataError, UserError

BLOCK = 2**21  # edges that are sorted into buckets at once
Edges = tuple[np.ndarray, np.ndarray, np.ndarray | None]  # from, to, weights


@dataclass(frozen=True)
class Division:
    """How a graph was divided.

    rows: nodes of each of the P partitions.  counts: P lists of P, edges of each bucket.
    digest: of the edges, by which another graph is recognised.
    """

    nodes: int
    edges: int
    seed: int
    weighted: bool
    digest: str
    rows: list[int]
    counts: list[list[int]]


def read_division(folder: Path) -> Division | None:
    """None where there is no buckets.json: nothing has been divided here, or not to the end."""
    try:
        return Division(**json.loads((folder / "buckets.json").read_text()))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f"{folder / 'buckets.json'} cannot be read ({error}): choose another folder") from None


def divide(data: Graph | np.ndarray, folder: Path, partitions: int, seed: int) -> Division:
    """Write the buckets of a graph, or read them where they lie in `folder` already.

    data: a Graph, of which a relation and its reverse count once, or (E, 2) whole numbers from 0 on.
    Memory: 14 bytes a node and 60 for each of two million edges, whatever the number of edges.
    Raises UserError where the folder holds another graph or another division, DataError on a graph without edges.
    """
    nodes, offsets = (len(data), data.offsets) if isinstance(data, Graph) else _checked(data)
    if not 1 <= partitions <= min(nodes, 2**15):
        raise UserError(f"partitions must lie between 1 and the number of nodes ({nodes:,}), got {partitions}")
    digest, edges, weight, degrees = _counted(data, nodes)
    if not edges:
        raise DataError("the graph has no edges: there is nothing to train on")
    found = read_division(folder)
    if found is not None:
        wanted = {"seed": (found.seed, seed), "partitions": (len(found.rows), partitions)}
        for name, (there, here) in (wanted | {"graph": (found.digest, digest)}).items():
            if there != here:
                raise UserError(f"{folder} was divided with {name} {there}, not {here}: choose another folder")
        return found
    part, row = np.empty(nodes, np.uint16), np.empty(nodes, np.int32)
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for left in (*folder.glob("edges-*-*.npy"), *folder.glob("weights-*-*.npy")):
            left.unlink()  # of a call that was stopped: a bucket without edges has no file
        rows = []
        for p, members in enumerate(_dealt(offsets, partitions, seed)):
            part[members], row[members] = p, np.arange(len(members))
            np.save(folder / f"nodes-{p:04d}.npy", members.astype(np.int32))
            np.save(folder / f"degrees-{p:04d}.npy", degrees[members].astype(np.float32))
            rows.append(len(members))
        counts = _fill(data, folder, part, row, partitions, edges / weight)
    weighted = isinstance(data, Graph) and any(r.weights is not None for r in data.relations)
    division = Division(nodes, edges, seed, weighted, digest, rows, counts.tolist())
    write_json(folder / "buckets.json", asdict(division))  # last: what is there is whole
    return division


def write_json(path: Path, value: Any) -> None:
    """Whole or not at all, and on the disk before anything else is done."""
    with writing(path):
        temporary = path.with_suffix(".tmp")
        temporary.write_text(json.dumps(value) + "\n")
        sync(temporary)
        os.replace(temporary, path)


def _checked(edges: np.ndarray) -> tuple[int, np.ndarray]:
    if edges.ndim != 2 or edges.shape[1] != 2 or edges.dtype.kind not in "iu":
        raise UserError(f"edges must be whole numbers (E, 2), got {edges.dtype} {edges.shape}")
    if not len(edges):
        raise DataError("the graph has no edges: there is nothing to train on")
    if edges.min() < 0 or edges.max() >= 2**31:
        raise UserError(f"nodes are numbered from 0 to 2^31 - 1, got {edges.min()} to {edges.max()}")
    nodes = int(edges.max()) + 1
    return nodes, np.array([0, nodes])


def _dealt(offsets: np.ndarray, partitions: int, seed: int) -> Iterator[np.ndarray]:
    """The nodes of each partition: of every type the same share, drawn by a hash of each node's number."""
    shuffled = []
    for begin, end in zip(offsets[:-1], offsets[1:], strict=True):
        numbers = np.arange(begin, end, dtype=np.uint64)
        shuffled.append(begin + np.argsort(_hash(numbers ^ _hash(np.uint64(seed))), kind="stable"))
    for p in range(partitions):
        cuts = [(len(one) * p // partitions, len(one) * (p + 1) // partitions) for one in shuffled]
        yield np.concatenate([one[a:b] for one, (a, b) in zip(shuffled, cuts, strict=True)])


def _hash(x: Any) -> Any:
    """`compiled.mix` of whole arrays, counted from GOLDEN so that 0 is mixed too."""
    with np.errstate(over="ignore"):
        x = x + np.uint64(0x9E3779B97F4A7C15)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def blocks(data: Graph | np.ndarray) -> Iterator[Edges]:
    """All edges, each once: of a relation that holds both directions those that lead upwards."""
    if not isinstance(data, Graph):
        for begin in range(0, len(data), BLOCK):
            some = np.asarray(data[begin : begin + BLOCK])
            yield some[:, 0], some[:, 1], None
        return
    for relation in data.relations:
        if relation.reverse is not None:
            continue
        offset = data.between(relation.source).start
        for begin in range(0, len(relation), BLOCK):
            place = slice(begin, begin + BLOCK)
            b = relation.targets[place]
            a = offset + np.searchsorted(relation.starts, np.arange(begin, begin + len(b)), side="right") - 1
            once = slice(None) if relation.directed else a <= b
            yield a[once], b[once], None if relation.weights is None else relation.weights[place][once]


def _counted(data: Graph | np.ndarray, nodes: int) -> tuple[str, int, float, np.ndarray]:
    """A digest of the edges, how many and how heavy they are together, and the degree of each node."""
    digest, edges, total = np.uint64(0), 0, 0.0
    degrees = np.zeros(nodes)
    for a, b, weights in blocks(data):
        with np.errstate(over="ignore"):
            digest += _hash(_hash(a.astype(np.uint64)) + b.astype(np.uint64)).sum()
        edges += len(a)
        total += len(a) if weights is None else float(weights.sum(dtype=np.float64))
        for ends in (a, b):
            degrees += np.bincount(ends, weights, nodes)
    return f"{int(digest):016x}", edges, total, degrees


def _fill(
    data: Graph | np.ndarray, folder: Path, part: np.ndarray, row: np.ndarray, partitions: int, scale: float
) -> np.ndarray:
    """Write the edges of all buckets; gives the counts (P, P). scale: what makes the mean weight 1."""
    counts = np.zeros(partitions * partitions, np.int64)
    for a, b, _ in blocks(data):
        counts += np.bincount(part[a].astype(np.int64) * partitions + part[b], minlength=len(counts))
    weighted = isinstance(data, Graph) and any(r.weights is not None for r in data.relations)
    files = [folder / f"edges-{k // partitions:04d}-{k % partitions:04d}.npy" for k in range(len(counts))]
    for file, count in zip(files, counts, strict=True):
        if count:
            np.lib.format.open_memmap(file, "w+", np.int32, (int(count), 2))
            if weighted:
                np.lib.format.open_memmap(_beside(file), "w+", np.float32, (int(count),))
    done = np.zeros_like(counts)
    for a, b, weights in blocks(data):
        bucket = part[a].astype(np.int64) * partitions + part[b]
        order = np.argsort(bucket, kind="stable")
        pairs = np.stack([row[a], row[b]], 1)[order]
        heavy = np.ones(len(a)) if weights is None else weights
        here, first, many = np.unique(bucket[order], return_index=True, return_counts=True)
        for k, begin, n in zip(here, first, many, strict=True):
            place = slice(int(done[k]), int(done[k]) + int(n))
            np.load(files[k], mmap_mode="r+")[place] = pairs[begin : begin + n]
            if weighted:
                np.load(_beside(files[k]), mmap_mode="r+")[place] = heavy[order[begin : begin + n]] * scale
            done[k] += n
    return counts.reshape(partitions, partitions)


def _beside(edges: Path) -> Path:
    return edges.with_name(edges.name.replace("edges", "weights"))


def bucket(folder: Path, i: int, j: int) -> tuple[np.ndarray, np.ndarray | None]:
    """The edges (n, 2) from partition i to partition j and their weights, as they lie on the disk."""
    file = folder / f"edges-{i:04d}-{j:04d}.npy"
    if not file.exists():
        return np.zeros((0, 2), np.int32), None
    beside = _beside(file)
    return np.load(file, mmap_mode="r"), np.load(beside, mmap_mode="r") if beside.exists() else None
