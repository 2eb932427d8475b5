"""Time and memory of contrastive losses: ours beside those of lightly, solo-learn, pytorch-metric-learning, MoCo, CLIP.

    pip install 'twoviews[benchmarks]' pytorch-metric-learning
    python benchmarks/losses.py [--sizes 256 512 4096 16384] [--dims 128 512] [--repeats 5] [--threads 2] [--device cpu]

A step is forward and backward from unit vectors that need a gradient. All sides of a row run in turn in one process
and give the same loss; times are medians, beside the rate of a 2048^3 float32 product measured in between. `of GEMM`
is ours: the time of the products that its tiles cannot do without, at that rate, over its time.

Memory is a step's peak above the inputs, gradients included, each side in a process of its own after a small step:
on a CPU the growth of the resident set (VmHWM, reset through /proc/self/clear_refs, after malloc_trim; Linux with
glibc), on a GPU torch's count.
What would not fit is not run: `-` with the memory that its formula needs.

lightly's and pytorch-metric-learning's losses are theirs, from PyPI. solo-learn's, MoCo's and open_clip's are their
formulas, written down here.
"""

import argparse
import ctypes
import math
import statistics
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

import torch
from torch.nn.functional import cross_entropy, normalize

from twoviews.objectives.contrast import info_nce, nt_xent, symmetric_info_nce

T = 0.1
BATCH, QUEUE = 256, 65536


def lightly(a, b):
    from lightly.loss import NTXentLoss

    return NTXentLoss(T)(a, b)


def solo(a, b):
    """solo/losses/simclr.py: exponentials of all pairs, and masks of positives and negatives."""
    z, item = normalize(torch.cat([a, b]), dim=1), torch.arange(len(a), device=a.device).repeat(2)
    similar = torch.exp(torch.einsum("id,jd->ij", z, z) / T)
    same = item[:, None] == item
    other = ~same
    same.fill_diagonal_(False)
    positive, negative = (similar * same).sum(1), (similar * other).sum(1)
    return -(positive / (positive + negative)).log().mean()


def metric_learning(a, b):
    from pytorch_metric_learning.losses import NTXentLoss

    return NTXentLoss(T)(torch.cat([a, b]), torch.arange(len(a), device=a.device).repeat(2))


def open_clip(q, k):
    """src/open_clip/loss.py on one process, with its default of logits for both sides."""
    target = torch.arange(len(q), device=q.device)
    return (cross_entropy(q @ k.T / T, target) + cross_entropy(k @ q.T / T, target)) / 2


def moco(q, k, keys):
    """moco/builder.py: the queue is cloned, the logits concatenated with the positive's and divided in place."""
    positive = torch.einsum("nc,nc->n", q, k)[:, None]
    logits = torch.cat([positive, torch.einsum("nc,ck->nk", q, keys.T.clone())], 1)
    logits /= T
    return cross_entropy(logits, torch.zeros(len(q), dtype=torch.long, device=q.device))


def pairs(n: int) -> int:
    return (2 * n) ** 2


# (ours, {rival: (its loss, bytes that n items need)}, dot products that ours computes or spends as much on)
TASKS: dict[str, tuple[Any, dict[str, tuple[Any, Any]], Any]] = {
    "NT-Xent": (
        lambda a, b: nt_xent([a, b], T),
        {
            "lightly": (lightly, lambda n: 4.8 * 4 * pairs(n)),
            "solo-learn": (solo, lambda n: 4.1 * 4 * pairs(n)),
            "pytorch-metric-learning": (metric_learning, lambda n: 6 * 4 * pairs(n) * 2 * n),
        },
        lambda n: 2 * pairs(n),
    ),
    "both directions": (
        lambda q, k: symmetric_info_nce(q, k, T),
        {"open_clip": (open_clip, lambda n: 6 * 4 * n * n)},
        lambda n: 4 * n * n,
    ),
    "queue": (
        lambda q, k, keys: info_nce(q, k, keys, T),
        {"MoCo": (moco, lambda n: 4 * 4 * n * QUEUE)},
        lambda n: 2 * n * QUEUE,
    ),
}


def step(task: str, side: str, n: int, d: int, device: str):
    """A function that does forward and backward on vectors made once, and returns the loss."""
    g = torch.Generator().manual_seed(0)
    first = normalize(torch.randn(n, d, generator=g), dim=1)
    z = [first, normalize(first + torch.randn(n, d, generator=g) / math.sqrt(d), dim=1)]
    if task == "queue":
        z.append(normalize(torch.randn(QUEUE, d, generator=g), dim=1))
    z = [x.to(device) for x in z]
    for x in z[: 1 if task == "queue" else 2]:
        x.requires_grad_()
    ours, rivals, _ = TASKS[task]
    loss = ours if side == "twoviews" else rivals[side][0]

    def run() -> float:
        for x in z:
            x.grad = None
        value = loss(*z)
        value.backward()
        return value.item()  # waits for the device

    return run


def times(task: str, sides: list[str], n: int, d: int, repeats: int, threads: int, device: str):
    """Median seconds of each side, run in turn, and the rate of a large product in FLOP/s."""
    torch.set_num_threads(threads)
    runs = {side: step(task, side, n, d, device) for side in sides}
    a, b = (torch.randn(2048, 2048, device=device) for _ in range(2))
    runs["product"] = lambda: (a @ b)[0, 0].item()
    losses = [run() for run in runs.values()][:-1]
    assert all(math.isclose(loss, losses[0], rel_tol=1e-4) for loss in losses), losses
    spent: dict[str, list[float]] = {side: [] for side in runs}
    for _ in range(repeats):
        for side, run in runs.items():
            begun = time.perf_counter()
            run()
            spent[side].append(time.perf_counter() - begun)
    medians = {side: statistics.median(values) for side, values in spent.items()}
    return medians, 2 * 2048**3 / medians.pop("product")


def peak(task: str, side: str, n: int, d: int, threads: int, device: str) -> float:
    """MB above the inputs."""
    torch.set_num_threads(threads)
    step(task, side, 16, d, device)()
    run = step(task, side, n, d, device)
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        run()
        return (torch.cuda.max_memory_allocated() - before) / 1e6
    ctypes.CDLL(None).malloc_trim(0)  # memory that was used and freed would hide as much of the growth
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")
    before = resident("VmRSS")
    run()
    return (resident("VmHWM") - before) / 1e6


def resident(field: str) -> int:
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith(field)) * 1024


def free(device: str) -> float:
    if device == "cuda":
        return torch.cuda.mem_get_info()[0]
    with open("/proc/meminfo") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("MemAvailable")) * 1024


def apart(function, *args):
    """The function's result, from a process of its own."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(function, *args).result()


def rows(task: str, n: int, d: int, repeats: int, threads: int, device: str):
    _, rivals, units = TASKS[task]
    fits = {name: need(n) < 0.85 * free(device) for name, (_, need) in rivals.items()}
    sides = [name for name in rivals if fits[name]] + ["twoviews"]
    seconds, rate = apart(times, task, sides, n, d, repeats, threads, device)
    memory = {side: apart(peak, task, side, n, d, threads, device) for side in sides}
    share = 2 * units(n) * d / rate / seconds["twoviews"]
    ours = f"{1e3 * seconds['twoviews']:,.1f} ms", f"{memory['twoviews']:,.0f} MB"
    for name, (_, need) in rivals.items():
        theirs = ("-", f"- ({need(n) / 1e9:,.1f} GB)")
        faster = less = "-"
        if fits[name]:
            theirs = f"{1e3 * seconds[name]:,.1f} ms", f"{memory[name]:,.0f} MB"
            faster = f"{seconds[name] / seconds['twoviews']:.1f}x"
            less = f"{memory[name] / memory['twoviews']:.0f}x"
        yield task, f"{n:,}", d, name, theirs[0], ours[0], faster, theirs[1], ours[1], less, f"{share:.0%}"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="*", default=[256, 512, 4096, 16384])
    parser.add_argument("--dims", type=int, nargs="*", default=[128, 512])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    args = parser.parse_args()
    print(f"torch {torch.__version__}, {args.threads} threads, {args.device}; the queue holds {QUEUE:,}\n")
    print("| loss | items | d | rival | its time | ours | ratio | its memory | ours | ratio | of GEMM |")
    print("|---|---:|---:|---|---:|---:|---:|---:|---:|---:|---:|")
    for task in TASKS:
        for n in [BATCH] if task == "queue" else args.sizes:
            for d in args.dims:
                for row in rows(task, n, d, args.repeats, args.threads, args.device):
                    print("|", " | ".join(map(str, row)), "|", flush=True)
