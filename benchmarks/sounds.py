"""Decoding of recordings per core, beside plain loops over soundfile and librosa.

    python benchmarks/sounds.py [--repeat 3] [--hours 1] [--listed 20000] [--data ../shared/data/audio]

Each on one thread, the sides in turn in one process, medians of CPU time and the most that arrays took:
  decoding   FSDD (3,000 FLAC of 8 kHz in a zip) and LibriSpeech mini (351 FLAC of 16 kHz in a folder), as they are and
             resampled to 8 kHz; an hour of LibriSpeech as one FLAC file, cut into pieces of 12 s in a random order.
  listing    headers of a folder of so many short FLAC files, and what the source holds in memory afterwards.
Beside ours:
  soundfile  the loop that anybody writes: soundfile.read, the mean of the channels, soxr.resample.
  librosa    librosa.load(path, sr=rate), as its documentation shows.
Prints Markdown tables. librosa is left out where it is not installed.
"""

from __future__ import annotations

import argparse
import io
import os
import resource
import shutil
import tempfile
import tracemalloc
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from statistics import median
from time import process_time

import numpy as np
import soundfile
import soxr

from twoviews.data.sounds import Sounds, sounds

PIECE = 12.0


def ours(source: Sounds, order: np.ndarray) -> float:
    return sum(source.read(int(i)).shape[-1] for i in order) / source.rate


def plain(
    open_one: Callable[[str], object], names: list[str], rate: int, pieces: list[tuple[str, float, float]]
) -> float:
    """Seconds of audio read by soundfile alone: whole files, or (name, start, length in seconds) of one file each."""
    count = 0
    for name, start, length in pieces or [(name, 0.0, -1.0) for name in names]:
        with soundfile.SoundFile(open_one(name)) as sound:
            native = sound.samplerate
            if start:
                sound.seek(round(start * native))
            x = sound.read(-1 if length < 0 else round(length * native), dtype="float32", always_2d=True).mean(1)
        count += len(x if native == rate else soxr.resample(x, native, rate, "HQ"))
    return count / rate


def librosas(
    open_one: Callable[[str], object], names: list[str], rate: int, pieces: list[tuple[str, float, float]]
) -> float:
    import librosa

    count = 0
    for name, start, length in pieces or [(name, 0.0, -1.0) for name in names]:
        duration = None if length < 0 else length
        count += len(librosa.load(open_one(name), sr=rate, offset=start, duration=duration)[0])
    return count / rate


def timed(sides: dict[str, Callable[[], float]], repeat: int) -> dict[str, tuple[float, float, float]]:
    """(seconds of audio, median CPU seconds, peak MiB of arrays) of each side, in turn."""
    heard, peak = {}, {}
    spent: dict[str, list[float]] = {name: [] for name in sides}
    for name, side in sides.items():
        side()  # imports, caches of the disk
        tracemalloc.start()
        side()
        peak[name] = tracemalloc.get_traced_memory()[1] / 2**20
        tracemalloc.stop()
    for _ in range(repeat):
        for name, side in sides.items():
            start = process_time()
            heard[name] = side()
            spent[name].append(process_time() - start)
    return {name: (heard[name], median(times), peak[name]) for name, times in spent.items()}


def rows(what: str, sides: dict[str, Callable[[], float]], repeat: int) -> None:
    found = timed(sides, repeat)
    heard, base, _ = found["ours"]
    for name, (seconds, cpu, peak) in found.items():
        if abs(seconds - heard) > 1e-3 * heard:
            raise SystemExit(f"{what}: {name} read {seconds:.1f} s of audio, ours {heard:.1f}")
        hours = seconds / 3600
        print(
            f"| {what} | {name} | {cpu:.3f} | {hours / cpu:.2f} | {cpu / hours:.2f} | {cpu / base:.2f} | {peak:.1f} |",
            flush=True,
        )


def decoding(folder: Path, data: Path, hours: float, repeat: int) -> None:
    packed = data / "fsdd_flac.zip"
    with zipfile.ZipFile(data / "librispeech_mini.zip") as archive:
        archive.extractall(folder / "libri")
    libri = sounds(folder / "libri")
    long = folder / "long"
    long.mkdir()
    with soundfile.SoundFile(long / "hour.flac", "w", 16_000, 1) as file:
        i, left = 0, round(hours * 3600 * 16_000)
        while left > 0:
            x = libri.read(i % len(libri))[0, 0].numpy()[:left]
            file.write(x)
            left, i = left - len(x), i + 1
    print("| what | side | CPU s | hours of audio per CPU s | CPU s per hour | of ours | peak MiB |")
    print("|---|---|---|---|---|---|---|")
    archive = zipfile.ZipFile(packed)
    in_zip = [name for name in archive.namelist() if name.endswith(".flac")]
    in_folder = [str(path) for path in sorted((folder / "libri").rglob("*.flac"))]
    cases = [
        ("FSDD, zip", sounds(packed, rate=8_000), lambda name: io.BytesIO(archive.read(name)), in_zip),
        ("LibriSpeech, folder", libri, str, in_folder),
        ("LibriSpeech, 16 to 8 kHz", sounds(folder / "libri", rate=8_000), str, in_folder),
        (f"{hours:g} h in pieces of {PIECE:g} s", sounds(long).cut(PIECE), str, [str(long / "hour.flac")]),
        (f"{hours:g} h in pieces, 16 to 8 kHz", sounds(long, rate=8_000).cut(PIECE), str, [str(long / "hour.flac")]),
    ]
    for what, source, open_one, names in cases:
        order, pieces = np.arange(len(source)), []
        if len(names) == 1:
            order = np.random.default_rng(0).permutation(len(source))
            pieces = [(names[0], source.start[i] / source.rate, source.length[i] / source.rate) for i in order]
        sides = {
            "ours": lambda s=source, o=order: ours(s, o),
            "soundfile": lambda f=open_one, n=names, r=source.rate, p=pieces: plain(f, n, r, p),
        }
        try:
            import librosa  # noqa: F401

            sides["librosa"] = lambda f=open_one, n=names, r=source.rate, p=pieces: librosas(f, n, r, p)
        except ImportError:
            pass
        rows(what, sides, repeat)


def listing(folder: Path, files: int) -> None:
    """One FLAC file under so many names: hard links, so that the disk is not what is measured."""
    x = np.random.default_rng(0).normal(size=32_000) * 0.1
    soundfile.write(folder / "one.flac", x, 16_000)
    for i in range(files):
        if i % 500 == 0:
            (folder / f"{i // 500:04}").mkdir()
        os.link(folder / "one.flac", folder / f"{i // 500:04}" / f"{i:06}-utterance.flac")
    start = process_time()
    source = sounds(folder)
    spent = process_time() - start
    tracemalloc.start()
    source = sounds(folder)
    held, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    print("\n| listing | files | hours | CPU s | CPU us a file | bytes held a file | peak bytes a file |")
    print("|---|---|---|---|---|---|---|")
    n = len(source)
    print(
        f"| folder | {n:,} | {source.seconds / 3600:,.0f} | {spent:.2f} | {spent / n * 1e6:.0f} | {held / n:.0f} "
        f"| {peak / n:.0f} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--hours", type=float, default=1.0)
    parser.add_argument("--listed", type=int, default=20_000)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("TWOVIEWS_DATA", "../shared/data")) / "audio")
    args = parser.parse_args()
    warnings.filterwarnings("ignore", category=FutureWarning)
    folder = Path(tempfile.mkdtemp(prefix="sounds-"))
    try:
        (folder / "many").mkdir()
        decoding(folder, args.data, args.hours, args.repeat)
        listing(folder / "many", args.listed)
    finally:
        shutil.rmtree(folder)
    print(f"\nPeak memory of the whole process: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10:,.0f} MiB.")


if __name__ == "__main__":
    main()
