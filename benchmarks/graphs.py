"""A list of edges into sorted rows both ways: ours beside pandas with scipy, each in a process of its own.

python benchmarks/graphs.py --edges 5000000
python benchmarks/graphs.py --edges 100000000 --sides ours --formats parquet --repeats 1

A synthetic relation user -> item: a user for every 20 edges, an item for every 40, both drawn by a power law, numbered
from 0 or named as text such as u00001234. pandas reads two columns and factorizes text; scipy makes csr_matrix of them
and that of the transpose, and sorts the rows; it adds up edges given twice, which we keep.
Both are asked for the numbers of nodes and the edges of every other row, so that one is seen to do what the other does.
CPU seconds are of all threads; neither they nor the memory count the import of the libraries, nor compiling.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv as csv
import pyarrow.parquet as pq
from scipy import sparse

from twoviews.data.graphs import graph

BLOCK = 2_000_000
FORMATS = ("parquet", "csv")


def write(folder: Path, edges: int, form: str, text: bool, seed: int = 0) -> Path:
    """FOLDER/user__rates__item.FORM."""
    random = np.random.default_rng(seed)
    users, items = max(2, edges // 20), max(2, edges // 40)
    kind = pa.string() if text else pa.int64()
    schema, path = pa.schema([("src", kind), ("dst", kind)]), folder / f"user__rates__item.{form}"
    with pq.ParquetWriter(path, schema) if form == "parquet" else csv.CSVWriter(str(path), schema) as out:
        for begin in range(0, edges, BLOCK):
            n = min(BLOCK, edges - begin)
            who, what = (users * random.random(n) ** 2).astype(int), (items * random.random(n) ** 2).astype(int)
            if begin == 0:
                who[0], what[0] = users - 1, items - 1
            columns = (np.char.mod("u%08d", who), np.char.mod("i%08d", what)) if text else (who, what)
            out.write_table(pa.table([pa.array(column) for column in columns], schema=schema))
    return path


def ours(path: str) -> tuple[int, int, int]:
    forward, back = graph(path).relations
    return len(forward.starts) - 1, len(back.starts) - 1, int(np.diff(forward.starts)[::2].sum())


def pandas(path: str) -> tuple[int, int, int]:
    frame = pd.read_parquet(path) if path.endswith("parquet") else pd.read_csv(path)
    ends = [frame.src.to_numpy(), frame.dst.to_numpy()]
    if ends[0].dtype.kind not in "iu":
        ends = [pd.factorize(column)[0] for column in ends]
    del frame
    matrix = sparse.csr_matrix((np.ones(len(ends[0]), np.float32), (ends[0], ends[1])))
    matrix.sort_indices()
    back = matrix.T.tocsr()
    back.sort_indices()
    return *matrix.shape, int(matrix.sum(axis=1, dtype=np.float64)[::2].sum())


READERS = {"ours": ours, "pandas": pandas}


def measure(side: str, path: str) -> None:
    """Read a small file to load and compile all, then the one that counts; print seconds, CPU seconds, MiB."""
    with tempfile.TemporaryDirectory() as folder:
        READERS[side](str(write(Path(folder), 1000, path.rsplit(".", 1)[1], False)))
        READERS[side](str(write(Path(folder), 1000, path.rsplit(".", 1)[1], True)))
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before = memory("VmRSS")
    begun, cpu = time.perf_counter(), time.process_time()
    told = READERS[side](path)
    seconds, cpu = time.perf_counter() - begun, time.process_time() - cpu
    print(json.dumps({"told": told, "seconds": seconds, "cpu": cpu, "mib": memory("VmHWM") - before}))


def memory(what: str) -> float:
    """MiB, as Linux counts them."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(what)) / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--edges", type=int, default=5_000_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--sides", nargs="+", default=list(READERS), choices=list(READERS))
    parser.add_argument("--formats", nargs="+", default=list(FORMATS), choices=list(FORMATS))
    parser.add_argument("--ids", nargs="+", default=["numbers", "text"], choices=["numbers", "text"])
    parser.add_argument("--one", nargs=2, metavar=("SIDE", "PATH"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        return measure(*args.one)
    print(f"{args.edges:,} edges, {os.cpu_count()} cores, median of {args.repeats}\n")
    print("| file | ids | | s | CPU s | peak MiB | ratio of CPU s |\n|---|---|---|---|---|---|---|")
    for form in args.formats:
        for ids in args.ids:
            with tempfile.TemporaryDirectory() as folder:
                path = str(write(Path(folder), args.edges, form, ids == "text"))
                runs: dict[str, list[dict]] = {side: [] for side in args.sides}
                for _ in range(args.repeats):
                    for side in args.sides:
                        command = [sys.executable, __file__, "--one", side, path]
                        runs[side].append(json.loads(subprocess.check_output(command, text=True).splitlines()[-1]))
            assert len({tuple(run["told"]) for of in runs.values() for run in of}) == 1, runs
            middle = {
                side: {key: statistics.median(run[key] for run in of) for key in ("seconds", "cpu", "mib")}
                for side, of in runs.items()
            }
            for side, of in middle.items():
                ratio = middle.get("pandas", of)["cpu"] / of["cpu"]
                figures = f"{of['seconds']:.2f} | {of['cpu']:.2f} | {of['mib']:,.0f} | {ratio:.2f}"
                print(f"| {form} | {ids} | {side} | {figures} |", flush=True)


if __name__ == "__main__":
    main()
