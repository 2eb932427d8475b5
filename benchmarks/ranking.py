"""Ranks of the next item among all items: ours beside sorting, topk and RecBole's dense matrices.

    python benchmarks/ranking.py [--items 10000 100000 1000000] [--users 512] [--width 64] [--repeats 3] [--threads 2]
                                 [--device cpu]

Every side begins with user and item vectors, makes the scores, leaves out what a user has seen, and gives the rank of
one target a user and the 20 best items. `argsort` sorts the scores and looks for the target. `topk` is RecTools' way:
the 20 best alone, no rank beyond. `RecBole` is its full_sort evaluation with `topk` and a dense (users, items) matrix
of targets (recbole/evaluator/collector.py), written down here. All sides run in turn in one process; time is that of
the processor on a CPU (medians), the clock's on a GPU. The ranks of all sides are compared.

Memory is a side's peak above the vectors, in a process of its own after a small run: on a CPU the growth of the
resident set (VmHWM, reset through /proc/self/clear_refs), on a GPU torch's count. What would not fit is not run: `-`
with the memory that it needs.
"""

import argparse
import ctypes
import statistics
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import torch

from twoviews.data.histories import Histories
from twoviews.evaluate.ranking import rank

SEEN, K = 50, 20


class Question(NamedTuple):
    history: Histories
    truth: Histories


def data(users, items, width, device):
    g = torch.Generator().manual_seed(0)
    u, v = (torch.randn(n, width, generator=g).to(device) for n in (users, items))
    events = torch.randint(0, items, (users, SEEN + 1), generator=g)
    events[:, -1] = (events[:, :-1].amax(1) + 1) % items  # rarely seen before
    flat, starts = events.flatten().numpy().astype(np.int32), np.arange(users) * (SEEN + 1)
    names = pa.nulls(users), pa.nulls(items)
    histories = Histories("made up", flat, starts, starts + SEEN, *names)
    return u, v, events.to(device), Question(histories, histories.between(starts + SEEN, starts + SEEN + 1))


def ours(u, v, events, question):
    found = rank(lambda _, rows: u[torch.from_numpy(rows).to(u.device)] @ v.T, question, k=(K,))
    return found.ranks


def masked(u, v, events):
    scores, rows = u @ v.T, torch.arange(len(u), device=u.device)
    own = scores[rows, events[:, -1]]
    scores.scatter_(1, events[:, :-1], -torch.inf)
    scores[rows, events[:, -1]] = own
    return scores


def argsort(u, v, events, question):
    order = masked(u, v, events).argsort(1, descending=True)
    return ((order == events[:, -1:]).nonzero()[:, 1] + 1).cpu().numpy()


def topk(u, v, events, question):
    best = masked(u, v, events).topk(K, 1).indices
    return listed(best == events[:, -1:])


def recbole(u, v, events, question):
    scores = masked(u, v, events)
    best = scores.topk(K, 1).indices
    positives = torch.zeros_like(scores, dtype=torch.int)
    positives[torch.arange(len(u), device=u.device), events[:, -1]] = 1
    assert int(positives.sum(1).max()) == 1  # it counts the targets of each user so
    return listed(positives.gather(1, best) > 0)


def listed(hits):
    """Ranks up to K, and K + 1 beyond."""
    return torch.where(hits.any(1), hits.int().argmax(1) + 1, K + 1).cpu().numpy()


# name -> (function, bytes of a score that it holds at its peak: scores, sorted copies, places, matrices)
SIDES = {"argsort": (argsort, 28), "topk": (topk, 4), "RecBole": (recbole, 16)}


def run(side, given):
    return (ours if side == "twoviews" else SIDES[side][0])(*given)


def clock(device):
    if device == "cuda":
        torch.cuda.synchronize()
        return time.perf_counter()
    return time.process_time()


def times(sides, users, items, width, repeats, threads, device):
    torch.set_num_threads(threads)
    given, seconds = data(users, items, width, device), {side: [] for side in sides}
    for side in sides:
        run(side, data(8, items, width, device))
    for _ in range(repeats):
        found = {}
        for side in sides:
            begin = clock(device)
            found[side] = run(side, given)
            seconds[side].append(clock(device) - begin)
        for side, ranks in found.items():
            same = ranks == (found["twoviews"] if side == "argsort" else np.minimum(found["twoviews"], K + 1))
            assert side == "twoviews" or same.mean() > 0.99, f"{side} ranks otherwise"  # products may round otherwise
    return {side: statistics.median(taken) for side, taken in seconds.items()}


def peak(side, users, items, width, threads, device):
    """MB."""
    torch.set_num_threads(threads)
    run(side, data(8, 1000, width, device))
    given = data(users, items, width, device)
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        run(side, given)
        return (torch.cuda.max_memory_allocated() - before) / 1e6
    ctypes.CDLL(None).malloc_trim(0)
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")
    before = status("VmRSS")
    run(side, given)
    return (status("VmHWM") - before) / 1e6


def status(field, path="/proc/self/status"):
    with open(path) as file:
        return next(int(line.split()[1]) for line in file if line.startswith(field)) * 1024


def room(device):
    return torch.cuda.mem_get_info()[0] if device == "cuda" else status("MemAvailable", "/proc/meminfo")


def apart(function, *args):
    """The function's result, from a process of its own."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(function, *args).result()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, nargs="*", default=[10**4, 10**5, 10**6])
    parser.add_argument("--users", type=int, default=512)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    args = parser.parse_args()
    print(f"torch {torch.__version__}, {args.threads} threads, {args.device}; {args.users} users, {args.width} wide\n")
    print("| items | side | its time | ours | ratio | its memory | ours | ratio |")
    print("|---:|---|---:|---:|---:|---:|---:|---:|")
    for items in args.items:
        need = {side: bytes_ * args.users * items for side, (_, bytes_) in SIDES.items()}
        sides = ["twoviews", *(side for side in SIDES if need[side] < 0.4 * room(args.device))]
        seconds = apart(times, sides, args.users, items, args.width, args.repeats, args.threads, args.device)
        memory = {s: apart(peak, s, args.users, items, args.width, args.threads, args.device) for s in sides}
        mine = f"{seconds['twoviews']:.2f} s", f"{memory['twoviews']:,.0f} MB"
        for side in SIDES:
            theirs = ("-", f"- ({need[side] / 1e9:,.1f} GB)")
            faster = less = "-"
            if side in sides:
                theirs = f"{seconds[side]:.2f} s", f"{memory[side]:,.0f} MB"
                faster = f"{seconds[side] / seconds['twoviews']:.1f}x"
                less = f"{memory[side] / memory['twoviews']:.1f}x"
            print(f"| {items:,} | {side} | {theirs[0]} | {mine[0]} | {faster} | {theirs[1]} | {mine[1]} | {less} |")
