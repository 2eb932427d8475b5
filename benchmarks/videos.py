"""Decoding of clips per core, beside OpenCV, torchcodec and transformers.

    python benchmarks/videos.py [--repeat 5] [--seconds 10] [--folder DIR]

A clip of H.264 (340 x 256, 30 frames a second, a key frame at least every 250, made here) is opened anew for each:
  uniform  16 frames from all of it
  dense    16 frames, every fourth, from its middle
All on one thread, the sides in turn in one process, medians. Memory is the most that a fresh process of each side took
above what it took before (Linux). Prints a Markdown table, and how far the pixels of each are from ours at full size.
torchcodec needs FFmpeg's libraries where the loader finds them; sides that do not load or refuse are left out by name.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import tempfile
from collections.abc import Callable
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from time import perf_counter, process_time

import av
import numpy as np

from twoviews.data.videodecode import frames_at, index_of

FRAMES, RATE, WIDTH, HEIGHT, GOP = 16, 30, 340, 256, 250


def write_clip(path: Path, seconds: int) -> None:
    """Smooth shapes that drift, with a little noise."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (HEIGHT // 16 + 2, WIDTH // 16 + 2, 3)).astype(np.uint8)
    picture = (
        av.VideoFrame.from_ndarray(coarse, format="rgb24").reformat(2 * WIDTH, 2 * HEIGHT).to_ndarray(format="rgb24")
    )
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=RATE, options={"crf": "23"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.codec_context.gop_size = GOP
        for t in range(seconds * RATE):
            y, x = t * 2 % HEIGHT, t * 3 % WIDTH
            one = picture[y : y + HEIGHT, x : x + WIDTH].astype(np.int16) + rng.integers(-4, 5, (HEIGHT, WIDTH, 1))
            out.mux(stream.encode(av.VideoFrame.from_ndarray(one.clip(0, 255).astype(np.uint8), format="rgb24")))
        out.mux(stream.encode())


def ours(path: str, places: np.ndarray, reader: str, max_side: int | None, listed: dict) -> np.ndarray:
    file = os.fsencode(path)
    if path not in listed:
        listed[path] = index_of(file)
    return frames_at(file, listed[path], places, max_side, reader)


def ours_anew(path: str, places: np.ndarray, reader: str, max_side: int | None) -> np.ndarray:
    return ours(path, places, reader, max_side, {})


def opencv(path: str, places: np.ndarray) -> np.ndarray:
    """The loop that its users write where seeks are not trusted: grab all, retrieve some."""
    import cv2

    cv2.setNumThreads(1)
    video, wanted, out = cv2.VideoCapture(path, cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, 1]), set(places.tolist()), []
    for place in range(int(places[-1]) + 1):
        video.grab()
        if place in wanted:
            out.append(cv2.cvtColor(video.retrieve()[1], cv2.COLOR_BGR2RGB))
    video.release()
    return np.stack(out)


def torchcodec(path: str, places: np.ndarray, mode: str) -> np.ndarray:
    from torchcodec.decoders import VideoDecoder

    decoder = VideoDecoder(path, dimension_order="NHWC", num_ffmpeg_threads=1, seek_mode=mode)
    return decoder.get_frames_at(places.tolist()).data.numpy()


def transformers(path: str, places: np.ndarray, backend: str) -> np.ndarray:
    from transformers.video_utils import load_video

    video = load_video(path, backend=backend, sample_indices_fn=lambda metadata, **_: places)[0]
    x = np.asarray(video)
    return x if x.shape[-1] == 3 else x.transpose(0, 2, 3, 1)


def sides() -> dict[str, Callable[[str, np.ndarray], np.ndarray]]:
    listed: dict = {}
    return {
        "ours": partial(ours, reader="pyav", max_side=None, listed=listed),
        "ours, list of frames made anew": partial(ours_anew, reader="pyav", max_side=None),
        "ours, max_side 128": partial(ours, reader="pyav", max_side=128, listed=listed),
        "ours, by torchcodec": partial(ours, reader="torchcodec", max_side=None, listed=listed),
        "ours, by torchcodec, max_side 128": partial(ours, reader="torchcodec", max_side=128, listed=listed),
        "OpenCV": opencv,
        "torchcodec, exact": partial(torchcodec, mode="exact"),
        "torchcodec, approximate": partial(torchcodec, mode="approximate"),
        **{f"transformers, {name}": partial(transformers, backend=name) for name in ("pyav", "opencv", "torchcodec")},
    }


def peak(name: str, path: str, places: np.ndarray) -> float:
    """MiB that a fresh process takes more after reading than after reading one frame."""
    context = multiprocessing.get_context("spawn")
    mine, its = context.Pipe()
    process = context.Process(target=_read, args=(its, name, path, places))
    process.start()
    its.close()
    found = mine.recv()
    process.join()
    return found


def _read(pipe: Connection, name: str, path: str, places: np.ndarray) -> None:
    side = sides()[name]
    side(path, places[:1])
    before = _status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the most it ever took is what it takes now
    side(path, places)
    pipe.send((_status("VmHWM") - before) / 1024)


def _status(field: str) -> int:
    """KiB, as Linux tells them of this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=10)
    parser.add_argument("--folder", help="where the clip is written; a temporary folder if left out")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        path = str(Path(folder, "clip.mp4"))
        write_clip(Path(path), given.seconds)
        total = given.seconds * RATE
        dense = (total - 4 * FRAMES) // 2 + 4 * np.arange(FRAMES)
        tasks = {"uniform": np.arange(FRAMES) * total // FRAMES, "dense": dense}
        print(f"{total} frames, {Path(path).stat().st_size / 1024:.0f} KiB\n")
        running, out = {}, []
        for name, side in sides().items():
            try:
                side(path, tasks["uniform"])
                running[name] = side
            except Exception as error:
                out.append(
                    f"{name}: {str(error).strip().splitlines()[0][:120] if str(error) else type(error).__name__}"
                )
        print("| 16 frames | side | clips/s | of ours | CPU ms | of ours | MiB more | pixels |")
        print("|---|---|---|---|---|---|---|---|")
        memory = {name: peak(name, path, tasks["uniform"]) for name in running}
        for task, places in tasks.items():
            reference = running["ours"](path, places)
            spent: dict[str, list[tuple[float, float]]] = {name: [] for name in running}
            for _ in range(given.repeat):
                for name, side in running.items():
                    begin = perf_counter(), process_time()
                    side(path, places)
                    spent[name].append((perf_counter() - begin[0], process_time() - begin[1]))
            middle = {name: [median(column) for column in zip(*times, strict=True)] for name, times in spent.items()}
            for name, (wall, cpu) in middle.items():
                x = running[name](path, places)
                apart = "smaller" if x.shape != reference.shape else _apart(x, reference)
                first = middle["ours"]
                print(
                    f"| {task} | {name} | {1 / wall:.1f} | {first[0] / wall:.2f} | {1000 * cpu:.0f} "
                    f"| {cpu / first[1]:.2f} | {memory[name]:.0f} | {apart} |",
                    flush=True,
                )
        if out:
            print("\nLeft out: " + "; ".join(out))


def _apart(x: np.ndarray, y: np.ndarray) -> str:
    apart = np.abs(x.astype(np.int16) - y)
    return "equal" if not apart.any() else f"{apart.max()} at most, {apart.mean():.2f} on average"


if __name__ == "__main__":
    main()
