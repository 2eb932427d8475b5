"""How long it takes to list many photos, and how much memory the list holds: a folder, the same as zip and as tar.

python benchmarks/listing.py --items 1000000
"""

import argparse
import os
import resource
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile
from pathlib import Path

from PIL import Image

from twoviews.data.image import photos

FILES_PER_FOLDER = 1000


def make(folder: Path, items: int, picture: bytes) -> None:
    for i in range(items):
        if i % FILES_PER_FOLDER == 0:
            place = folder / f"class{i // FILES_PER_FOLDER % 10}" / f"{i // FILES_PER_FOLDER:05}"
            place.mkdir(parents=True)
        (place / f"{i:07}.png").write_bytes(picture)


def pack(folder: Path, items: int, picture: bytes) -> None:
    import io

    with zipfile.ZipFile(folder / "photos.zip", "w") as z, tarfile.open(folder / "photos.tar", "w") as t:
        for i in range(items):
            name = f"class{i // FILES_PER_FOLDER % 10}/{i:07}.png"
            z.writestr(name, picture)
            info = tarfile.TarInfo(name)
            info.size = len(picture)
            t.addfile(info, io.BytesIO(picture))


def listed(path: str) -> str:
    """One row, from a process of its own so that its memory is its own."""
    before = rss()
    begun = time.perf_counter()
    source = photos(path)
    seconds = time.perf_counter() - begun
    held = rss() - before
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    return f"| {Path(path).name} | {len(source):,} | {seconds:.1f} s | {held} MiB | {peak} MiB |"


def rss() -> int:
    """MiB that this process holds now."""
    with open("/proc/self/statm") as f:
        return int(f.read().split()[1]) * os.sysconf("SC_PAGESIZE") // 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--list", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.list:
        print(listed(args.list))
        return
    with tempfile.TemporaryDirectory() as folder:
        picture = Path(folder) / "one.png"
        Image.new("RGB", (2, 2)).save(picture)
        content = picture.read_bytes()
        picture.unlink()
        make(Path(folder) / "photos", args.items, content)
        pack(Path(folder), args.items, content)
        print("| data | photos | time | memory held | peak of the process |\n|---|---:|---:|---:|---:|", flush=True)
        for name in ("photos", "photos.zip", "photos.tar"):
            subprocess.run([sys.executable, __file__, "--list", f"{folder}/{name}"], check=True)


if __name__ == "__main__":
    main()
