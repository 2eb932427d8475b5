"""Random views of sounds in memory: a numpy loop over the items and ours in one run, in processor time on one thread.

    python benchmarks/soundviews.py [--items 512] [--batch 64] [--repeats 5]

Both sides begin at decoded clips and end at a batch (B, length) float32; ours is all that Loader does for it, a canvas
of whole clips too. `windows` is a random window made level, on both sides the same; of `two_sounds` the loop does crop,
speed, noise, one filter, masks and gain, each always, and ours has each of these at a chance of 1. The clips are noise:
what they hold costs nothing. Memory is what an epoch adds at its peak to a process of its own (Linux).
"""

import argparse
import multiprocessing
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch

from twoviews.data.loader import Loader
from twoviews.data.soundviews import two_sounds, windows
from twoviews.malloc import kept

CASES = {"8 kHz, 0.5 s of 0.2 to 1 s": (1600, 8000, 4000), "16 kHz, 1.28 s of 2 to 4 s": (32_000, 64_000, 20_480)}
ALWAYS = {"mix": 0, "noise": 1, "band": 1}


class Clips:
    name, classes, labels = "clips", None, None

    def __init__(self, items: int, least: int, most: int):
        rng = np.random.default_rng(0)
        self.items = [rng.standard_normal(n, np.float32) for n in rng.integers(least, most, items)]

    def __len__(self) -> int:
        return len(self.items)

    def key(self, index: int) -> str:
        return str(index)

    def read(self, index: int) -> torch.Tensor:
        return torch.from_numpy(self.items[index])[None, None]


def level(x: np.ndarray) -> np.ndarray:
    x = x - x.mean()
    return x / max(np.sqrt(np.mean(x * x)), 1e-12)


def window(x: np.ndarray, length: int, rng: np.random.Generator) -> np.ndarray:
    start = rng.integers(max(0, len(x) - length) + 1)
    x = level(x[start : start + length])
    return np.pad(x, (0, length - len(x)))


def augmented(x: np.ndarray, length: int, rng: np.random.Generator) -> np.ndarray:
    at = np.arange(length, dtype=np.float32) * 2 ** rng.uniform(-0.07, 0.07)
    start = rng.integers(max(0, len(x) - int(at[-1]) - 2) + 1)
    at = start + at[: np.searchsorted(at, len(x) - 1 - start)]
    low = at.astype(np.int64)
    x = level(x[low] + (at - low) * (x[low + 1] - x[low]))
    x = x + 10 ** (-rng.uniform(5, 30) / 20) * rng.standard_normal(len(x), np.float32)
    spectrum = np.fft.rfft(x, length)
    f = np.linspace(0, 1, len(spectrum), dtype=np.float32)
    for low_edge, high_edge in rng.uniform(0, 1, (3, 2)):
        spectrum *= 1 - np.clip((f - low_edge) * 64, 0, 1) * np.clip((high_edge - f) * 64, 0, 1) * 0.97
    x = level(np.fft.irfft(spectrum, length)[: len(x)].astype(np.float32))
    for first in rng.integers(0, len(x), 2):
        x[first : first + int(rng.uniform(0, 0.1) * len(x))] = 0
    return np.pad(x * 10 ** (rng.uniform(-6, 6) / 20), (0, length - len(x)))


def loop(clips: Clips, batch: int, length: int, make: Callable, count: int) -> Iterator[list[torch.Tensor]]:
    rng = np.random.default_rng(0)
    for ids in rng.permutation(len(clips)).reshape(-1, batch):
        rows = [np.stack([make(clips.items[i], length, rng) for i in ids]) for _ in range(count)]
        yield [torch.from_numpy(x.astype(np.float32, copy=False)) for x in rows]


def sides(name: str, case: tuple[int, int, int], args: Any) -> dict[str, Callable[[], Any]]:
    clips, length = Clips(args.items // args.batch * args.batch, *case[:2]), case[2]
    views = windows(length) if name == "windows" else two_sounds(length, **ALWAYS)
    make, count = (window, 1) if name == "windows" else (augmented, 2)
    loader = Loader(clips, views, args.batch, memory=True)  # type: ignore[arg-type]
    return {"numpy": lambda: loop(clips, args.batch, length, make, count), "ours": lambda: loader.epoch(0)}


def run(batches: Callable[[], Any]) -> float:
    begun = time.process_time()
    for _ in batches():
        pass
    return time.process_time() - begun


def peak(name: str, case: tuple[int, int, int], args: Any, side: str, answer: Any) -> None:
    torch.set_num_threads(1)
    batches = sides(name, case, args)[side]
    Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
    before = resident("VmRSS")
    run(batches)
    answer.put(resident("VmHWM") - before)


def resident(what: str) -> float:
    """MiB, by its name in /proc/self/status."""
    status = Path("/proc/self/status").read_text()
    return int(status.split(f"{what}:")[1].split()[0]) / 1024


def added(*what: Any) -> float:
    context = multiprocessing.get_context("spawn")
    answer = context.Queue()
    process = context.Process(target=peak, args=(*what, answer))
    process.start()
    found = answer.get(timeout=600)
    process.join()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=512)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    torch.set_num_threads(1)
    print("| views a second and core | numpy loop | twoviews | ratio | added MiB, loop | added MiB, ours |")
    print("|---|---:|---:|---:|---:|---:|")
    with kept():  # as while training
        for name in ("windows", "two_sounds"):
            for what, case in CASES.items():
                both = sides(name, case, args)
                spent: dict[str, list[float]] = {side: [] for side in both}
                for _ in range(args.repeats + 1):  # in turn; the first warms up
                    for side, batches in both.items():
                        spent[side].append(run(batches))
                made = args.items // args.batch * args.batch * (1 if name == "windows" else 2)
                a, b = (made / median(seconds[1:]) for seconds in spent.values())
                memory = " | ".join(f"{added(name, case, args, side):.0f}" for side in both)
                print(f"| {name}, {what} | {a:,.0f} | {b:,.0f} | {b / a:.1f}x | {memory} |", flush=True)


if __name__ == "__main__":
    main()
