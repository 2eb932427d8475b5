"""How well and how fast the graph finds what comparing with all finds: recall@10, and milliseconds a query on one core.

python benchmarks/search.py cifar10_jpeg.zip --run runs/photos-simclr
"""

import argparse
import resource
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from twoviews.calls import rebuild
from twoviews.checkpoint import load_encoder, read_run, reading
from twoviews.data.image import photos
from twoviews.evaluate.embed import features, model
from twoviews.evaluate.search import GRAPH, Index, with_graph
from twoviews.log import Log


def of_photos(data: str, run: str) -> torch.Tensor:
    """h of every photo of a set, by the encoder of a run."""
    about = read_run(run)["run"]
    return features(model(load_encoder(run)), photos(data, **reading(about)), rebuild(about["test_view"])()).h


def clustered(items: int, width: int) -> torch.Tensor:
    """Vectors around 200 centres."""
    g = np.random.default_rng(0)
    centres = g.normal(size=(200, width)).astype("f4")
    return torch.from_numpy(centres[g.integers(0, 200, items)] + 0.9 * g.normal(size=(items, width)).astype("f4"))


def measure(name: str, h: torch.Tensor, queries: int, k: int = 10) -> None:
    """One line of the table. The queries are items of the set: each finds itself first, which does not count."""
    index = Index(h, [""] * len(h), [None] * len(h))
    chosen = h[torch.randperm(len(h), generator=torch.Generator().manual_seed(0))[:queries]]
    with tempfile.TemporaryDirectory() as folder:
        begun = time.perf_counter()
        by_graph = with_graph(index, Path(folder), Log(quiet=True))
        built, size = time.perf_counter() - begun, (Path(folder) / GRAPH).stat().st_size / 2**20
        exact, slow = ask(index, chosen, k)
        near, quick = ask(by_graph, chosen, k)
    hits = sum(len(set(a[1:]) & set(b[1:])) for a, b in zip(exact, near, strict=True))
    print(
        f"| {name}, {len(h):,} x {h.shape[1]} | {hits / (k * queries):.4f} | {slow:.1f} | {quick:.2f} "
        f"| {slow / quick:.0f}x | {built:.0f} | {size:.0f} |"
    )


def ask(index: Index, queries: torch.Tensor, k: int) -> tuple[list[list[int]], float]:
    """What is found, the query itself among it, and milliseconds a query; one query at a time."""
    index.nearest(queries[:1], k + 1)
    begun = time.perf_counter()
    found = [index.nearest(query, k + 1)[1][0].tolist() for query in queries.split(1)]
    return found, 1000 * (time.perf_counter() - begun) / len(queries)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", help="50,000 photos or more")
    parser.add_argument("--run", required=True, help="the run whose encoder embeds them")
    parser.add_argument("--queries", type=int, default=300)
    given = parser.parse_args()
    torch.set_num_threads(1)  # two that wait for each other make short calls slow where other work runs
    print("| | recall@10 | exact, ms | graph, ms | ratio | built in s | MiB |\n|---|---:|---:|---:|---:|---:|---:|")
    measure("photos", of_photos(given.data, given.run), given.queries)
    measure("clusters", clustered(100_000, 512), given.queries)
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.1f} GiB")
