"""Two SimCLR views of each photo: lightly's SimCLRTransform and ours in one run, per thread and on all cores.

    pip install 'twoviews[benchmarks]'
    python benchmarks/views.py [--data cifar10_jpeg.zip] [--photos FOLDER] [--items 4096] [--files 1024] [--repeats 3]

32 pixels: CIFAR-10 from memory. lightly is given PIL images that are decoded already, the fairest for it; ours lie as
uint8 in one tensor. 224 pixels: JPEG files, read and decoded on both sides each time; without --photos they are a
thousand pieces of 500 x 375 of scikit-learn's two sample photos. The knobs are SimCLR's on both sides.

One thread is measured in processor time: lightly's transform in a DataLoader without workers, our Loader the same. All
cores are measured by the clock: lightly with a worker a core, ours as `twoviews train` does. Then where our time goes,
and how far the kernel is from moving its bytes at the rate of a plain copy.
"""

import argparse
import os
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from lightly.transforms import SimCLRTransform
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from twoviews.data.chain import by_kernel
from twoviews.data.decode import decode
from twoviews.data.dice import Dice
from twoviews.data.image import photos
from twoviews.data.loader import Loader, collate, cores
from twoviews.data.views import two_crops
from twoviews.malloc import kept

CIFAR = "../shared/data/images/cifar10_jpeg.zip"


class Theirs(Dataset):
    """PIL images, or paths that are opened each time, through lightly's transform."""

    def __init__(self, items: list, size: int, blur: float):
        self.items, self.transform = items, SimCLRTransform(input_size=size, gaussian_blur=blur)

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> list[torch.Tensor]:
        item = self.items[index]
        return self.transform(item if isinstance(item, Image.Image) else Image.open(item).convert("RGB"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default=CIFAR, help="CIFAR-10 as photos of 32 pixels; left out where it is not there")
    parser.add_argument("--photos", help="a folder of JPEG files")
    parser.add_argument("--items", type=int, default=4096, help="photos of 32 pixels")
    parser.add_argument("--files", type=int, default=1024, help="files for 224 pixels")
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    with TemporaryDirectory() as made, kept():  # as while training
        folder = args.photos or sample_photos(Path(made), args.files)
        files = photos(folder, channels=3, max_side=448)
        files = files.subset(range(min(args.files, len(files))))
        paths = [os.path.join(folder, files.key(i)) for i in range(len(files))]
        cases: list[tuple] = [("224 px, JPEG files", files, paths, 224, 0.5, min(64, args.batch))]
        if os.path.exists(args.data):
            small = photos(args.data, split="train", channels=3)
            small = small.subset(range(0, len(small), max(1, len(small) // args.items))[: args.items])
            images = [Image.fromarray(small.read(i).permute(1, 2, 0).numpy()) for i in range(len(small))]
            for blur in (0.5, 0.0):
                name = f"32 px, in memory, {'with' if blur else 'without'} blur"
                cases.insert(0, (name, small, images, 32, blur, args.batch))
        print(f"photos a second, two views each, median of {args.repeats}\n")
        print("| | threads | lightly | twoviews | ratio |\n|---|---:|---:|---:|---:|")
        for threads in sorted({1, cores()}):
            for case in cases:
                compare(*case, threads, args.repeats)
        torch.set_num_threads(1)
        print(f"\nmicroseconds a photo of ours on one thread; a plain copy moves {copy_rate() / 1e9:.1f} GB/s\n")
        print("| | all | read | decode | collate | draw | kernel | rest | kernel at the copy's rate |")
        print("|---|" + "---:|" * 8)
        for name, source, _, size, blur, batch in cases:
            breakdown(name, source, size, blur, batch, args.repeats)


def compare(
    name: str, source: Any, items: list, size: int, blur: float, batch: int, threads: int, repeats: int
) -> None:
    torch.set_num_threads(threads)
    clock = time.process_time if threads == 1 else time.perf_counter
    theirs = DataLoader(
        Theirs(items, size, blur),
        batch,
        num_workers=threads if threads > 1 else 0,
        persistent_workers=threads > 1,
        drop_last=True,
    )
    ours = make_loader(source, size, blur, batch, 0 if threads == 1 else None)
    sides: dict[str, tuple[Callable, list]] = {"theirs": (lambda: theirs, []), "ours": (lambda: ours.epoch(0), [])}
    for _ in range(repeats + 1):  # in turn, so that a drift of the machine meets both; the first warms up
        for batches, seconds in sides.values():
            begun = clock()
            for _ in batches():
                pass
            seconds.append(clock() - begun)
    count = len(source) // batch * batch
    a, b = (count / median(seconds[1:]) for _, seconds in sides.values())
    print(f"| {name} | {threads} | {a:,.0f} | {b:,.0f} | {b / a:.1f}x |", flush=True)


def make_loader(source: Any, size: int, blur: float, batch: int, workers: int | None) -> Loader:
    return Loader(source, two_crops(size=size, blur=blur), batch, workers=workers, memory=size == 32)


def breakdown(name: str, source: Any, size: int, blur: float, batch: int, repeats: int) -> None:
    """Each step by itself over the same batches."""
    views, loader = two_crops(size=size, blur=blur), make_loader(source, size, blur, batch, 0)
    batches = list(torch.arange(len(source) // batch * batch).split(batch))
    spent: dict[str, list[float]] = {}

    def timed(step: str, work: Callable[[], Any]) -> Any:
        begun = time.process_time()
        result = work()
        parts[step] = parts.get(step, 0.0) + time.process_time() - begun
        return result

    moved = 0
    for _ in range(repeats):
        parts: dict[str, float] = {}
        for ids in batches:
            if loader.memory:
                images, sizes, _ = timed("collate", lambda i=ids: next(loader.memory.batches([i])))
            else:
                files = timed("read", lambda i=ids: [source.listing.store.fetch(int(source.index[k])) for k in i])
                items = timed("decode", lambda f=files: [decode(x, 3, max_side=source.max_side)[0] for x in f])
                images, sizes = timed("collate", lambda x=items: collate(x))
            for v, (_, scale) in enumerate(views.windows()):
                dice = Dice(0, 0, ids)
                drawn = timed("draw", lambda d=dice, s=sizes, k=v, c=scale: views.draw(s, d.view(k), k, size, c))
                x = timed("kernel", lambda i=images, d=drawn: by_kernel(i, size, d, 0.5, 0.25))
                moved += 3 * int(drawn.boxes[:, 2:].prod(1).sum()) + x.nbytes
        timed("all", lambda: [None for _ in loader.epoch(0)])
        for step, seconds in parts.items():
            spent.setdefault(step, []).append(seconds)
    count = len(batches) * batch
    times = {step: median(seconds) / count * 1e6 for step, seconds in spent.items()}
    rest = 2 * times["all"] - sum(times.values())
    cells = [times.get(step, 0.0) for step in ("all", "read", "decode", "collate", "draw", "kernel")]
    least = moved / count / repeats / copy_rate() * 1e6
    print(f"| {name} | {' | '.join(f'{t:,.1f}' for t in [*cells, rest, least])} |", flush=True)


def copy_rate() -> float:
    """Bytes read and written a second by one thread that copies 128 MiB."""
    source = np.ones(2**24)
    target = np.ones_like(source)
    seconds = []
    for _ in range(7):
        begun = time.process_time()
        np.copyto(target, source)
        seconds.append(time.process_time() - begun)
    return 2 * source.nbytes / median(seconds)


def sample_photos(folder: Path, count: int) -> str:
    """JPEG files of 500 x 375 cut out of scikit-learn's sample photos at random places, half of them mirrored."""
    from sklearn.datasets import load_sample_images

    rng, wholes = np.random.default_rng(0), load_sample_images().images
    for i in range(count):
        whole = wholes[i % len(wholes)]
        top, left = rng.integers(0, [whole.shape[0] - 374, whole.shape[1] - 499])
        piece = whole[top : top + 375, left : left + 500][:, :: rng.choice([-1, 1])]
        Image.fromarray(np.ascontiguousarray(piece)).save(folder / f"{i:04}.jpg", quality=90)
    return str(folder)


if __name__ == "__main__":
    main()
