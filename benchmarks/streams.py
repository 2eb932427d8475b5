"""Photos a second out of tar shards: ours beside webdataset, and beside the same photos as loose files.

    python benchmarks/streams.py [--photos 4000] [--side 256] [--shards 8] [--workers 2] [--repeats 3]

Each reads all photos once, decoded to uint8 (C, H, W) and collated in batches of 256, in a process of its own, in turn;
medians of the CPU time of process and workers and of the wall clock, and the peak memory of the largest process. Then
what it costs to go on in the middle of an epoch: the seconds until the first batch from there, beside those from the
start; without a plan all that was seen is read again. webdataset is left out where it is not installed.
"""

import argparse
import io
import json
import multiprocessing
import resource
import statistics
import tarfile
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from PIL import Image

BATCH = 256


def write(folder, photos, side, shards):
    """The same photos as loose files and in shards: noise over a ramp, about as many bytes as a photo has."""
    rng, ramp = np.random.default_rng(0), np.add.outer(np.arange(side), np.arange(side)) * 127 // side
    (folder / "files").mkdir()
    (folder / "tars").mkdir()
    for shard in range(shards):
        with tarfile.open(folder / "tars" / f"{shard:05}.tar", "w") as archive:
            for number in range(shard, photos, shards):
                pixels = (ramp[..., None] + rng.integers(0, 60, (side, side, 3))).astype(np.uint8)
                file = io.BytesIO()
                Image.fromarray(pixels).save(file, "JPEG", quality=80)
                data = file.getvalue()
                (folder / "files" / f"{number:06}.jpg").write_bytes(data)
                member = tarfile.TarInfo(f"{number:06}.jpg")
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))


def raw(images, sizes, dice):
    return [images]


def ours(folder, workers, start=0, what="tars"):
    from twoviews.data.image import photos
    from twoviews.data.loader import Loader

    loader = Loader(photos(folder / what), raw, BATCH, memory=False, workers=workers)
    for batch in loader.epoch(0, start * loader.steps // 2):
        yield batch.views[0]


def loose(folder, workers):
    return ours(folder, workers, what="files")


def webdataset(folder, workers):
    import webdataset as wds

    def decoded(sample):
        return torch.from_numpy(np.array(Image.open(io.BytesIO(sample["jpg"])).convert("RGB"))).permute(2, 0, 1)

    urls = [str(path) for path in sorted((folder / "tars").glob("*.tar"))]
    data = wds.WebDataset(urls, shardshuffle=len(urls), empty_check=False).shuffle(1000).map(decoded)
    yield from torch.utils.data.DataLoader(data.batched(BATCH, collation_fn=torch.stack), None, num_workers=workers)


def measured(pipe, read, how):
    """Seconds and memory of this process and its workers while it reads."""
    torch.set_num_threads(1)
    begun, cpu, first, count = time.monotonic(), spent(), None, 0
    for images in read(**how):
        count += len(images)
        first = first or time.monotonic() - begun
    peak = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)) / 1024
    seconds = time.monotonic() - begun
    pipe.send({"photos": count, "seconds": seconds, "cpu": spent() - cpu, "first": first, "memory": peak})


def spent():
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(u.ru_utime + u.ru_stime for u in used)


def alone(read, **how):
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=measured, args=(there, read, how))
    process.start()
    found = here.recv()
    process.join()
    return found


def main():
    parser = argparse.ArgumentParser()
    for name, value in {"photos": 4000, "side": 256, "shards": 8, "workers": 2, "repeats": 3}.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    given = parser.parse_args()
    sides = {"ours, tar": ours, "ours, loose files": loose}
    if find_spec("webdataset"):
        sides["webdataset"] = webdataset
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write(folder, given.photos, given.side, given.shards)
        alone(ours, folder=folder, workers=0)  # counts the photos, once
        runs = {name: [] for name in sides}
        for _ in range(given.repeats):
            for name, read in sides.items():
                runs[name].append(alone(read, folder=folder, workers=given.workers))
        late = [alone(ours, folder=folder, workers=given.workers, start=1) for _ in range(given.repeats)]
    print("| | photos/s | CPU ms a photo | ratio | peak MiB |\n|---|---|---|---|---|")
    base = None
    for name, found in runs.items():
        each = statistics.median(1000 * run["cpu"] / run["photos"] for run in found)
        base = base or each
        rate = statistics.median(run["photos"] / run["seconds"] for run in found)
        peak = statistics.median(run["memory"] for run in found)
        print(f"| {name} | {rate:,.0f} | {each:.2f} | {each / base:.2f} | {peak:,.0f} |")
    whole = statistics.median(run["first"] for run in runs["ours, tar"])
    middle = statistics.median(run["first"] for run in late)
    print(f"\nFirst batch after {whole:.2f} s from the start of an epoch, after {middle:.2f} s from its middle.")
    print(json.dumps(vars(given)))


if __name__ == "__main__":
    main()
