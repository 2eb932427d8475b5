"""Time and memory of the loss over a catalogue: ours beside plain cross-entropy, torch's own fused one, and negatives
that are drawn for each row.

    python benchmarks/catalogue.py [--items 10000 100000 1000000] [--rows 256 1024] [--dims 64 128] [--negatives 1024]
                                   [--repeats 5] [--threads 1] [--memory 8] [--device cpu]

A step is forward and backward from M states (M, D), vectors (V, D) and biases (V,), which all need a gradient. All
sides of a case run in turn in one process; times are medians, with one thread of the time that the process computed
(other work on the machine then counts little), else of the wall clock. Memory is a step's peak above the inputs,
gradients included, each side in a process of its own (losses.py says how).

    plain      cross_entropy(linear(z, E, c)): the logits are held
    torch      torch.nn.functional.linear_cross_entropy where torch has it: in its own chunks, and in the best of some
    per row    K vectors gathered for each row, M x K x D, as RecTools and gSASRec do
    chunked    ours, the same numbers as plain's
    sampled    ours, K negatives for all rows

What would need more than --memory GB is not run: `-` with what its formula needs.
"""

import argparse
import statistics
import time
from typing import Any

import torch
from losses import apart, resident
from torch.nn import functional as F

from twoviews.malloc import kept
from twoviews.objectives.catalogue import Catalogue, catalogue_loss, chosen

CHUNKS = (64, 256, 1024)


def fused(z, e, c, items, chunk):
    options = torch.nn.LinearCrossEntropyOptions(**({} if chunk is None else {"batch_chunk_size": chunk}))
    return F.linear_cross_entropy(z, e, items, linear_bias=c, options=options)


def per_row(z, e, c, items, negatives):
    drawn = torch.randint(len(e), (len(z), negatives), device=z.device)
    every = torch.cat([items[:, None], drawn], 1)  # (M, 1 + K)
    scores = torch.einsum("md,mkd->mk", z, e[every]) + c[every]
    hit = every == items[:, None]
    hit[:, 0] = False
    return F.cross_entropy(scores.masked_fill(hit, -torch.inf), torch.zeros_like(items))


def loss(side: str, z, e, c, items, negatives: int):
    if side == "plain":
        return F.cross_entropy(F.linear(z, e, c), items)
    if side.startswith("torch"):
        chunk = side.split()[1] if " " in side else None
        return fused(z, e, c, items, chunk and int(chunk))
    if side == "per row":
        return per_row(z, e, c, items, negatives)
    return catalogue_loss(z, items, Catalogue(e, c, 0), side, negatives).mean()


def need(side: str, m: int, v: int, d: int, k: int) -> float:
    """Bytes above the inputs."""
    table = 4 * v * d
    if side == "plain":
        return 3 * 4 * m * v + table
    if side == "per row":
        return 3 * 4 * m * k * d + 2 * table
    return 2 * table + (4 * 64 * v if side.startswith("torch") else 0)


def step(side: str, m: int, v: int, d: int, k: int, device: str):
    """A function that does forward and backward on tensors made once, and returns the loss."""
    g = torch.Generator().manual_seed(0)
    z, e, c = torch.randn(m, d, generator=g), torch.randn(v, d, generator=g) * 0.1, torch.randn(v, generator=g) * 0.1
    leaves = [x.to(device).requires_grad_() for x in (z, e, c)]
    items = torch.randint(v, (m,), generator=g).to(device)

    def run() -> float:
        for x in leaves:
            x.grad = None
        value = loss(side, *leaves, items, k)
        value.backward()
        return value.item()  # waits for the device

    return run


def times(sides: list[str], m: int, v: int, d: int, k: int, repeats: int, threads: int, device: str):
    """Median seconds of each side, run in turn; exact sides agree. A side that cannot run is left out."""
    torch.set_num_threads(threads)
    clock = time.process_time if device == "cpu" and threads == 1 else time.perf_counter
    runs, found = {}, {}
    with kept():  # as while training
        for side in sides:
            run = step(side, m, v, d, k, device)
            try:
                found[side] = run()
            except (RuntimeError, NotImplementedError, AttributeError):
                continue
            runs[side] = run
        exact = [x for side, x in found.items() if side not in ("per row", "sampled")]
        assert max(exact) - min(exact) < 1e-3, found
        spent: dict[str, list[float]] = {side: [] for side in runs}
        for _ in range(repeats):
            for side, run in runs.items():
                begun = clock()
                run()
                spent[side].append(clock() - begun)
    return {side: statistics.median(values) for side, values in spent.items()}


def peak(side: str, m: int, v: int, d: int, k: int, threads: int, device: str) -> float:
    """MB above the inputs."""
    import ctypes

    torch.set_num_threads(threads)
    step(side, 16, 2000, d, 16, device)()
    run = step(side, m, v, d, k, device)
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        run()
        return (torch.cuda.max_memory_allocated() - before) / 1e6
    ctypes.CDLL(None).malloc_trim(0)
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")
    before = resident("VmRSS")
    run()
    return (resident("VmHWM") - before) / 1e6


def case(m: int, v: int, d: int, args: Any) -> None:
    k, device = args.negatives, args.device
    sides = ["plain", "per row", "chunked", "sampled"]
    if hasattr(F, "linear_cross_entropy"):
        sides[1:1] = ["torch", *(f"torch {chunk}" for chunk in CHUNKS if chunk <= m)]
    fits = [side for side in sides if need(side, m, v, d, k) < args.memory * 1e9]
    seconds = apart(times, fits, m, v, d, k, args.repeats, args.threads, device)
    best = min((s for s in seconds if s.startswith("torch ")), key=seconds.get, default=None)
    shown = [s for s in sides if not s.startswith("torch ") or s == best]
    auto = chosen(m, v, device)
    for side in shown:
        name = f"**{side}**" if side in ("chunked", "sampled") else side
        row = [f"{v:,}", m, d, name + (" (auto)" if side == auto else "")]
        if side not in seconds:
            gigabytes = need(side, m, v, d, k) / 1e9
            row += ["-", "-", f"- ({gigabytes:,.1f} GB)" if side not in fits else "cannot run", "-"]
        else:
            used = apart(peak, side, m, v, d, k, args.threads, device)
            ratio = f"{seconds['plain'] / seconds[side]:.1f}x" if "plain" in seconds else "-"
            row += [f"{1e3 * seconds[side]:,.0f} ms", ratio, f"{used:,.0f} MB", f"{used - 4e-6 * v * (d + 1):,.0f} MB"]
        print("|", " | ".join(map(str, row)), "|", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, nargs="*", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--rows", type=int, nargs="*", default=[256, 1024])
    parser.add_argument("--dims", type=int, nargs="*", default=[64, 128])
    parser.add_argument("--negatives", type=int, default=1024)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--memory", type=float, default=8.0)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    args = parser.parse_args()
    print(f"torch {torch.__version__}, {args.threads} threads, {args.device}, {args.negatives} negatives\n")
    print("| items | rows | d | loss | time | plain / it | memory | without E's gradient |")
    print("|---:|---:|---:|---|---:|---:|---:|---:|")
    for v in args.items:
        for m in args.rows:
            for d in args.dims:
                case(m, v, d, args)
