"""Steps of random walks per CPU second, one core: ours, PyG's sampler, and a plain compiled loop.

python benchmarks/walks.py --repeats 5

    ours    walks in lock step, as blocks of 65,536 tokens
    PyG     MetaPath2Vec._pos_sample, windows as long as the walk so that none is copied: 640 walks at once, as in its
            example (128 nodes, five walks each), and 8,192 at once
    plain   numba, one walk after another, int64 rows, numpy's random numbers; node2vec by rejection too

PyG's Node2Vec needs pyg-lib, also for uniform walks: there it stands aside. Each side has a process of its own, they
take turns, and the table shows medians. Neither reading nor compiling counts; memory is what making walks adds to a
process that holds the graph, libraries and compilers too. The last column is the mean logarithm of the degree of the
nodes met: sides that walk alike agree in it.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
from numba import njit

from twoviews.data.graph import Graph, merged
from twoviews.data.graphs import graph
from twoviews.data.schema import parse
from twoviews.data.walks import node2vec_walks, walks

DATA = Path(os.environ.get("TWOVIEWS_DATA", Path(__file__).parents[2] / "shared" / "data")) / "graph"
PATH = "author-paper-venue-paper-author"
CASES = {
    "A-P-V-P-A": ("acl_hin dbis", walks(PATH, length=40), ["ours", "PyG", "PyG 8192", "plain"]),
    "uniform": ("blogcatalog acl_hin", walks(length=40), ["ours", "plain"]),
    "node2vec p=.25 q=.25": ("blogcatalog", node2vec_walks(0.25, 0.25), ["ours", "plain"]),
    "node2vec p=.25 q=1": ("blogcatalog", node2vec_walks(0.25, 1.0), ["ours", "plain"]),
    "node2vec p=.25 q=4": ("blogcatalog", node2vec_walks(0.25, 4.0), ["ours", "plain"]),
}
Walks = Iterator[np.ndarray]  # tokens, by parts of an epoch


def ours(source: Graph, views: walks | node2vec_walks) -> Callable[[int], Walks]:
    stream = views.over(source, 2**16, 0)
    return lambda epoch: (stream.block(epoch, index).tokens for index in range(stream.blocks))


def pyg(source: Graph, views: walks | node2vec_walks, together: int = 640) -> Callable[[int], Walks]:
    import torch
    from torch_geometric.nn import MetaPath2Vec

    torch.set_num_threads(1)
    edges, sizes = {}, {kind: source.between(kind).stop - source.between(kind).start for kind in source.types}
    steps = [source.relations[i] for (i,) in parse(source, PATH).steps]
    for r in steps:
        rows = np.repeat(np.arange(len(r.starts) - 1), np.diff(r.starts))
        columns = r.targets.astype(np.int64) - source.between(r.target).start
        edges[r.triple] = torch.from_numpy(np.stack([rows, columns]))
    path = [r.triple for r in steps]
    model = MetaPath2Vec(edges, 1, path, views.length - 1, views.length, num_nodes_dict=sizes)
    kinds = sorted({kind for triple in path for kind in (triple[0], triple[2])})  # its numbers into ours
    numbers = torch.cat([torch.arange(source.between(k).start, source.between(k).stop) for k in kinds])
    starts = sizes["author"]

    def epoch(number: int) -> Walks:
        order = torch.randperm(starts)
        for part in order.split(together):
            walked = model._pos_sample(part)
            yield walked.numpy() if number else numbers[walked[walked < len(numbers)]].numpy()

    return epoch


@njit(nogil=True)
def along(starts, targets, first, begin, stop, length, out):
    n = 0
    for start in range(begin, stop):
        node = first[0] + start
        out[n] = node
        n += 1
        for turn in range(length - 1):
            step = turn % len(starts)
            row = node - first[step]
            low, high = starts[step][row], starts[step][row + 1]
            if low == high:
                break
            node = targets[step][np.random.randint(low, high)]  # noqa: NPY002
            out[n] = node
            n += 1
    return n


@njit(nogil=True)
def biased(starts, targets, p, q, begin, stop, length, out):
    n, most = 0, max(1 / p, 1.0, 1 / q)
    for start in range(begin, stop):
        node, last = start, -1
        out[n] = node
        n += 1
        for _ in range(length - 1):
            low, high = starts[node], starts[node + 1]
            if low == high:
                break
            while True:
                x = targets[np.random.randint(low, high)]  # noqa: NPY002
                if last < 0:
                    break
                chance = np.random.random() * most  # noqa: NPY002
                if x == last:
                    if chance < 1 / p:
                        break
                elif chance < min(1.0, 1 / q):
                    break
                elif chance < max(1.0, 1 / q):
                    row = targets[starts[last] : starts[last + 1]]
                    at = np.searchsorted(row, x)
                    if chance < (1.0 if at < len(row) and row[at] == x else 1 / q):
                        break
            last, node = node, x
            out[n] = node
            n += 1
    return n


def plain(source: Graph, views: walks | node2vec_walks, together: int = 2048) -> Callable[[int], Walks]:
    if getattr(views, "metapaths", ""):
        steps = [source.relations[i] for (i,) in parse(source, PATH).steps]
        rows = [(r.starts, r.targets, source.between(r.source).start) for r in steps]
        count = len(steps[0].starts) - 1
    else:
        rows, count = [(*merged(source)[:2], 0)], len(source)
    starts = tuple(row[0].astype(np.int64) for row in rows)
    targets = tuple(row[1].astype(np.int64) for row in rows)
    first = tuple(int(row[2]) for row in rows)

    def epoch(number: int) -> Walks:
        for begin in range(0, count, together):
            stop = min(begin + together, count)
            out = np.empty((stop - begin) * views.length, np.int64)
            if isinstance(views, node2vec_walks):
                n = biased(starts[0], targets[0], views.p, views.q, begin, stop, views.length, out)
            else:
                n = along(starts, targets, first, begin, stop, views.length, out)
            yield out[:n]

    return epoch


SIDES = {"ours": ours, "PyG": pyg, "PyG 8192": partial(pyg, together=8192), "plain": plain}


def rss() -> int:
    """KiB that this process holds now."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE") // 1024


def measure(case: str, data: str, side: str, seconds: float) -> list[float]:
    """Steps per CPU second, MiB, the mean logarithm of degrees."""
    source = graph(str(DATA / data))
    degrees = np.log(np.diff(merged(source)[0]))
    before = rss()
    epoch = SIDES[side](source, CASES[case][1])
    met = np.mean(np.concatenate([degrees[tokens] for tokens in epoch(0)]))
    steps, begin = 0, time.process_time()
    number = 1
    while time.process_time() < begin + seconds:
        steps += sum(tokens.size for tokens in epoch(number))
        number += 1
    spent = time.process_time() - begin
    return [steps / spent, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024, float(met)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=2.0, help="CPU seconds of each measurement")
    parser.add_argument("--cases", nargs="+", default=list(CASES), choices=list(CASES))
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        print(json.dumps(measure(*args.one, args.seconds)))
        return
    print("| walks | graph | by | M steps per CPU s | ours is | MiB | degree met |")
    print("|---|---|---|---:|---:|---:|---:|", flush=True)
    for case in args.cases:
        for data in CASES[case][0].split():
            runs: dict[str, list[list[float]]] = {side: [] for side in CASES[case][2]}
            for _ in range(args.repeats):
                for side, found in runs.items():
                    command = [sys.executable, __file__, "--seconds", str(args.seconds), "--one", case, data, side]
                    environment = os.environ | {"OMP_NUM_THREADS": "1"}
                    out = subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout
                    found.append(json.loads(out.splitlines()[-1]))
            medians = {side: np.median(found, axis=0) for side, found in runs.items()}
            for side, (rate, memory, met) in medians.items():
                ratio = medians["ours"][0] / rate
                print(f"| {case} | {data} | {side} | {rate / 1e6:.1f} | {ratio:.1f}x | {memory:,.0f} | {met:.3f} |")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
