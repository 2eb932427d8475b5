"""A log of events into histories: ours beside pandas doing the same, each in a process of its own.

python benchmarks/logs.py --events 20000000

A synthetic log: ids as text such as u00001234, a user for every 20 events, items by Zipf's law, events in order of
time as a company writes them. pandas reads the three columns, factorizes users and items, drops rows that are there
twice and sorts by user and time, stably.
Both are asked for users, items and the sum of time times place in a history, so that one is seen to do what the other
does. CPU seconds are of all threads; neither they nor the memory count the import of the libraries, nor compiling.
"""

import argparse
import json
import os
import resource
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

from twoviews.data.logs import histories

BLOCK = 2_000_000
FORMATS = ("parquet", "csv")


def write(folder: Path, events: int, name: str, seed: int = 0) -> None:
    """FOLDER/NAME.parquet and FOLDER/NAME.csv."""
    random = np.random.default_rng(seed)
    users, items = max(2, events // 20), min(1_000_000, max(2, events // 20))
    kinds = pa.schema([("user_id", pa.string()), ("item_id", pa.string()), ("timestamp", pa.int64())])
    path = str(folder / name)
    with pq.ParquetWriter(f"{path}.parquet", kinds) as table, csv.CSVWriter(f"{path}.csv", kinds) as text:
        for begin in range(0, events, BLOCK):
            n = min(BLOCK, events - begin)
            who = np.char.mod("u%08d", random.integers(0, users, n))
            what = np.char.mod("p%07d", (items ** random.random(n)).astype(np.int64))
            when = 1_600_000_000 + (begin + np.arange(n)) // 3
            part = pa.table([pa.array(who), pa.array(what), pa.array(when)], schema=kinds)
            table.write_table(part)
            text.write_table(part)


def ours(path: str) -> tuple[int, int, int]:
    found = histories(path)
    places = np.arange(len(found.items)) - np.repeat(found.starts, found.lengths)
    return len(found), found.catalogue, int(found.times @ places)


def pandas(path: str) -> tuple[int, int, int]:
    names = ["user_id", "item_id", "timestamp"]
    frame = pd.read_parquet(path, columns=names) if path.endswith("parquet") else pd.read_csv(path, usecols=names)
    user, users = pd.factorize(frame["user_id"])
    item, items = pd.factorize(frame["item_id"])
    frame = pd.DataFrame({"user": user.astype(np.int32), "item": item.astype(np.int32), "time": frame["timestamp"]})
    frame = frame.drop_duplicates().sort_values(["user", "time"], kind="stable")
    lengths = np.bincount(frame["user"])
    places = np.arange(len(frame)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    return len(users), len(items), int(frame["time"].to_numpy() @ places)


READERS = {"ours": ours, "pandas": pandas}


def rss() -> int:
    """KiB that this process holds now."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE") // 1024


def peak() -> int:
    """KiB that this process held at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=2_000_000)
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--sides", nargs="+", default=["ours", "pandas"])
    parser.add_argument("--read", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.read:
        side, path = args.read
        READERS[side](str(Path(path).parent / f"small{Path(path).suffix}"))
        before = rss()
        wall, spent = time.perf_counter(), time.process_time()
        found = READERS[side](path)
        spent, wall = time.process_time() - spent, time.perf_counter() - wall
        print(json.dumps([found, spent, wall, (peak() - before) / 2**20]))
        return
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder), args.events, "log")
        write(Path(folder), 2**20, "small")  # what is loaded and compiled once
        print("| log | events | MiB | by | CPU s | s | peak GiB | bytes an event |")
        print("|---|---:|---:|---|---:|---:|---:|---:|", flush=True)
        for kind in FORMATS:
            path = f"{folder}/log.{kind}"
            answers = set()
            for side in args.sides:
                runs = []
                for _ in range(args.repeats):
                    command = [sys.executable, __file__, "--read", side, path]
                    out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
                    runs.append(json.loads(out.splitlines()[-1]))
                answers.add(tuple(runs[0][0]))
                spent, wall, most = (float(np.median([run[i] for run in runs])) for i in (1, 2, 3))
                size, each = os.path.getsize(path) / 2**20, most * 2**30 / args.events
                row = f"{kind} | {args.events:,} | {size:,.0f} | {side} | {spent:.1f} | {wall:.1f}"
                print(f"| {row} | {most:.2f} | {each:.0f} |", flush=True)
            assert len(answers) == 1, answers


if __name__ == "__main__":
    main()
