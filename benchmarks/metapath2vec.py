"""metapath2vec on acl_hin, files to authors' vectors: ours beside PyG's MetaPath2Vec: rate, F1 by CPU seconds, memory.

    python benchmarks/metapath2vec.py [--budget 120] [--epochs 1 3] [--threads 2] [--repeats 3] [--authors N]

Both walk author-paper-venue-paper-author, 128 numbers a node, 5 negatives. PyG has the settings of its example: walks
of 50 steps, 5 from each author, contexts of 7, batches of 128 authors, SparseAdam at .01. It stops after --budget CPU
seconds: its rate is that of these, and its F1 is read at a quarter, a half and the end of them. Ours runs with its own
settings (80 nodes, window 10 that shrinks, lr .025), in epochs of one walk an author: --epochs, and as many as fit into
the budget; and once with PyG's walks and windows that do not shrink, 5 walks an author, for the rate in like units.

    tokens   nodes on the walks that were trained; with PyG also its dummy, which follows where a walk ends
    pairs    two places on a walk at most a window apart, counted once: PyG's windows hold each once; ours trains both
             ways, and it counts as one. PyG's count those of its dummy too
    CPU s    of all threads. Training is walks and updates, without reading; neither counts loading or compiling code
    peak     resident memory above that of the loaded libraries, from reading to the last step; beside it 8 V d for two
             tables, 4 (E + V) for each relation and direction, and 200 MB. Ours reads the whole folder, PyG two files
    F1       logistic regression on vectors of length 1 at 5 and 80 % of the labelled authors, ten splits; PyG's dummy
             is no author and is not read

Each run has a process of its own and one thread but for --threads; they take turns, and the tables show medians. Needs
torch_geometric, and graph/acl_hin in TWOVIEWS_DATA (default: ../shared/data). --authors keeps the edges of so many
authors, for a small trial.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch

DATA = Path(os.environ.get("TWOVIEWS_DATA", Path(__file__).parents[2] / "shared" / "data")) / "graph" / "acl_hin"
PATH = "author-paper-venue-paper-author"
STEPS, WALKS, CONTEXT, BATCH, DIM = 50, 5, 7, 128, 128  # of PyG's example
ALIKE = {"length": STEPS + 1, "window": CONTEXT - 1, "shrink": False, "epochs": WALKS, "threads": 1}
OWN = {"length": 80, "window": 10, "shrink": True}


def judged(vectors):
    """Macro and micro F1 at 5 and 80 %, of vectors (authors, D)."""
    from twoviews.evaluate.nodes import classified, unit

    nodes, classes = pd.read_csv(DATA / "labels.author.tsv.gz", sep="\t", header=None).to_numpy().T
    known = nodes < len(vectors)
    matrix = classes[known, None] == np.unique(classes)
    curve = classified(unit(vectors[nodes[known]]), matrix, False, (0.05, 0.8))
    return [*curve.macro.mean(1).tolist(), *curve.micro.mean(1).tolist()]


def pairs_of(sizes, window, shrink):
    """Pairs of places at most a window apart on walks of these sizes; expected ones where windows shrink."""
    apart = np.arange(1, window + 1)
    chance = (window + 1 - apart) / window if shrink else np.ones(window)
    return float((np.maximum(sizes[:, None] - apart, 0) * chance).sum())


def ours(folder, how, ready):
    """ready: called once the code is loaded."""
    from twoviews import skipgram
    from twoviews.data.graphs import graph
    from twoviews.data.walks import walks
    from twoviews.encoders.table import Table
    from twoviews.methods.metapath2vec import metapath2vec
    from twoviews.optim import linear

    def learned(folder, epochs):
        begun = time.process_time()
        source = graph(str(folder))
        read, clock = time.process_time(), time.perf_counter()
        torch.manual_seed(0)
        method = metapath2vec(Table(len(source), DIM), window=how["window"], shrink=how["shrink"])
        stream = walks(PATH, how["length"]).over(source, size=2**16, seed=0)
        skipgram.learn(method, stream, lr=0.025, schedule=linear, epochs=epochs, threads=how["threads"])
        spent = time.process_time() - read, time.perf_counter() - clock
        return source, stream, method.encoder.weight.detach().numpy(), read - begun, *spent

    with tempfile.TemporaryDirectory() as small:
        for relation in ("written_by.author", "published_in.venue"):
            (Path(small) / f"edges.paper.{relation}.tsv").write_text("0\t0\n1\t0\n1\t1\n")
        learned(small, 1)
    ready()
    source, stream, vectors, read, cpu, wall = learned(folder, how["epochs"])
    peak = memory("VmHWM")
    blocks = [stream.block(0, i) for i in range(stream.blocks)]
    sizes = np.concatenate([np.diff(block.bounds) for block in blocks])
    edges = sum(len(relation) + len(relation.starts) for relation in source.relations)
    found = np.empty((source.between("author").stop - source.between("author").start, DIM), np.float32)
    found[source.ids[source.types.index("author")].to_numpy()] = vectors[source.between("author")]
    return {
        "read": read,
        "cpu": cpu,
        "wall": wall,
        "tokens": int(sizes.sum()) * how["epochs"],
        "pairs": pairs_of(sizes, how["window"], how["shrink"]) * how["epochs"],
        "peak": peak,
        "bound": (8 * len(source) * DIM + 4 * edges + 2e8) / 1e6,
        "curve": [[cpu, *judged(found)]],
    }


def pyg(folder, how, ready):
    from torch_geometric.nn import MetaPath2Vec

    ready()
    begun = time.process_time()
    edges, sizes = {}, {"paper": 0}
    for name, kind in (("written_by", "author"), ("published_in", "venue")):
        path = next(Path(folder).glob(f"edges.paper.{name}.{kind}.tsv*"))
        ends = torch.from_numpy(pd.read_csv(path, sep="\t", header=None).to_numpy().T.copy())
        edges["paper", name, kind], edges[kind, "rev_" + name, "paper"] = ends, ends.flip(0)
        sizes |= {"paper": max(sizes["paper"], int(ends[0].max()) + 1), kind: int(ends[1].max()) + 1}
    path = [("author", "rev_written_by", "paper"), ("paper", "published_in", "venue")]
    path += [("venue", "rev_published_in", "paper"), ("paper", "written_by", "author")]
    torch.manual_seed(0)
    settings = {"walk_length": STEPS, "context_size": CONTEXT, "walks_per_node": WALKS, "num_negative_samples": 5}
    model = MetaPath2Vec(edges, DIM, path, num_nodes_dict=sizes, sparse=True, **settings)
    optimizer = torch.optim.SparseAdam(list(model.parameters()), lr=0.01)
    read, spent, wall, windows, curve = time.process_time() - begun, 0.0, 0.0, 0, []
    due = [how["budget"] * share for share in (0.25, 0.5, 1)]
    begun, clock = time.process_time(), time.perf_counter()
    while due:
        for positive, negative in model.loader(batch_size=BATCH, shuffle=True):
            optimizer.zero_grad()
            model.loss(positive, negative).backward()
            optimizer.step()
            windows += len(positive)
            if spent + time.process_time() - begun > due[0]:
                spent, wall = spent + time.process_time() - begun, wall + time.perf_counter() - clock
                peak = memory("VmHWM")
                due = due[1:]
                with torch.no_grad():
                    curve.append([spent, *judged(model("author").numpy())])
                begun, clock = time.process_time(), time.perf_counter()
                if not due:
                    break
    tokens, pairs = windows / (STEPS + 2 - CONTEXT) * (STEPS + 1), windows * (CONTEXT - 1)
    done = {"read": read, "cpu": spent, "wall": wall, "tokens": tokens, "pairs": pairs, "peak": peak, "bound": None}
    return done | {"curve": curve}


def memory(what):
    """MB, as Linux counts them."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(what)) * 1024 / 1e6


def measure(folder, how):
    torch.set_num_threads(1)
    from twoviews.evaluate import nodes  # noqa: F401  both sides have loaded it

    before = []

    def ready():
        Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
        before.append(memory("VmRSS"))

    found = (pyg if how["side"] == "PyG" else ours)(folder, how, ready)
    return found | {"peak": found["peak"] - before[0]}


def run(folder, how):
    """In a process of its own."""
    command = [sys.executable, __file__, "--one", str(folder), json.dumps(how)]
    limits = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    out = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=os.environ | limits).stdout
    return json.loads(out.splitlines()[-1])


def middle(runs):
    """The medians of what runs have found."""
    out = {key: runs[0][key] and np.median([one[key] for one in runs]) for key in runs[0] if key != "curve"}
    return out | {"curve": np.median([one["curve"] for one in runs], axis=0)}


def fewer(folder, authors):
    """Write the edges of the first authors, and of their papers, in a folder."""
    written = pd.read_csv(DATA / "edges.paper.written_by.author.tsv.gz", sep="\t", header=None)
    venues = pd.read_csv(DATA / "edges.paper.published_in.venue.tsv.gz", sep="\t", header=None)
    written = written[written[1] < authors]
    for name, kept in (("written_by.author", written), ("published_in.venue", venues[venues[0].isin(written[0])])):
        kept.to_csv(Path(folder) / f"edges.paper.{name}.tsv", sep="\t", header=False, index=False)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--budget", type=float, default=120.0, help="CPU seconds of PyG's training")
    parser.add_argument("--epochs", type=int, nargs="+", default=[1, 3])
    parser.add_argument("--threads", type=int, nargs="+", default=[2], help="further runs with so many")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--authors", type=int, help="read the edges of so many authors alone")
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        return print(json.dumps(measure(args.one[0], json.loads(args.one[1]))))
    with tempfile.TemporaryDirectory() as small:
        folder = small if args.authors else DATA
        if args.authors:
            fewer(small, args.authors)
        own = {"side": "ours", "threads": 1} | OWN
        first = run(folder, own | {"epochs": 1})["cpu"]
        epochs = sorted({*args.epochs, max(1, int(args.budget / first))})
        sides = {"PyG": {"side": "PyG", "budget": args.budget}, "twoviews, PyG's walks": {"side": "ours"} | ALIKE}
        sides |= {f"twoviews, epochs={n}": own | {"epochs": n} for n in epochs}
        most = max(args.epochs)
        for threads in args.threads:
            sides[f"twoviews, epochs={most}, {threads} threads"] = own | {"epochs": most, "threads": threads}
        runs = {side: [] for side in sides}
        for _ in range(args.repeats):
            for side, how in sides.items():
                runs[side].append(run(folder, how))
    found = {side: middle(some) for side, some in runs.items()}
    units = "M tokens | k tokens / CPU s | of PyG | k pairs / CPU s | of PyG | reading CPU s | training CPU s | wall s"
    print(f"| | {units} | peak MB | 8Vd + 4(E+V) + 200 MB |\n|---|{'---:|' * 10}")
    for side, it in found.items():
        cells = [f"{it['tokens'] / 1e6:.1f}"]
        for unit in ("tokens", "pairs"):
            rate, theirs = it[unit] / it["cpu"], found["PyG"][unit] / found["PyG"]["cpu"]
            cells += [f"{rate / 1e3:,.1f}", f"{rate / theirs:,.0f}x"]
        cells += [f"{it[key]:.1f}" for key in ("read", "cpu", "wall")]
        cells += ["" if it[key] is None else f"{it[key]:,.0f}" for key in ("peak", "bound")]
        print(f"| {side} | {' | '.join(cells)} |")
    print("\n| | CPU s | macro-F1 at 5 % | at 80 % | micro-F1 at 5 % | at 80 % |\n|---|---:|---:|---:|---:|---:|")
    for side, it in found.items():
        for spent, *scores in it["curve"]:
            print(f"| {side} | {spent:.1f} | {' | '.join(f'{100 * score:.1f}' for score in scores)} |")


if __name__ == "__main__":
    main()
