"""Embedding a whole source into one file, in parts that outlive a kill.

PATH.parts/ holds one file per 1,000 items and a stamp of what they are parts of. At the end they are joined, one in
memory at a time (safetensors: all), and thrown away. Every file appears whole or not at all.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import groupby
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from ..checkpoint import writing
from ..types import Features, Source
from .embed import Model, Progress, Views, batches, gather, mean, nothing_read, slices
from .formats import whole, writer

PART = 1000  # items of one part


def embed_to(
    path: str | Path,
    model: Model,
    source: Source,
    views: Views,
    *,
    identity: str,
    batch_size: int = 256,
    device: torch.device | str = "cpu",
    workers: int = 0,
    part: int = PART,
    progress: Progress | None = None,
    skipped: dict[str, str] | None = None,
) -> int:
    """Write h of every readable item to a .parquet, .npy or .safetensors file and return their number.

    identity: names the model and the view, say a hash of the weights and the size. Parts left by a stopped call
        are used if it, source.fingerprint() and `part` are the same, and thrown away otherwise.
    views, progress, skipped: as in `features_of`.
    Raises UserError when the file cannot be written (the parts stay), DataError when no item can be read.
    """
    path = Path(path)
    write = writer(path)
    skipped = {} if skipped is None else skipped
    folder = path.with_name(path.name + ".parts")
    parts = slices(0, len(source), part)
    files = [folder / f"{number:06d}.safetensors" for number in range(len(parts))]
    stamp = {"source": source.fingerprint(), "model": identity, "part": part}
    with writing(path):
        opened(folder, stamp)
    missing = [rows for rows, file in zip(parts, files, strict=True) if _shape(file) is None]
    todo = [few for rows in missing for few in slices(rows.start, rows.stop, batch_size)]
    decoded = zip(todo, batches(source, todo, device, workers), strict=True)
    broken: dict[str, str]
    for number, group in groupby(decoded, key=lambda pair: pair[0].start // part):
        ids, h, broken = [torch.empty(0, dtype=torch.int64)], [], {}
        for rows, batch in group:
            broken |= batch.broken
            if batch.images is not None:
                ids.append(batch.ids)
                h.append(mean([model(x) for x in views(batch.images, batch.sizes, None)])[0])
            if progress:
                progress(rows.stop, len(source))
        tensors = {"ids": torch.cat(ids), "h": torch.cat(h or [torch.empty(0, 0)])}
        with writing(path), whole(files[number]) as f:
            f.write(save(tensors, {"skipped": json.dumps(broken)}))
    for file in files:
        skipped |= json.loads(_read(file)[1]["skipped"])
    shapes = [shape for shape in map(_shape, files) if shape and shape[0]]
    if not shapes:
        clear(folder)
        raise nothing_read(source, skipped)
    total = sum(n for n, _ in shapes)
    with writing(path):
        write(path, (total, shapes[0][1]), _parts(source, files))
    clear(folder)
    return total


def opened(folder: Path, stamp: dict) -> None:
    """Make the folder of the parts and throw away parts of something else."""
    text = json.dumps(stamp, indent=2)
    with suppress(FileNotFoundError):
        if (folder / "stamp.json").read_text() == text:
            return
    clear(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with whole(folder / "stamp.json") as f:
        f.write(text.encode())


def clear(folder: Path) -> None:
    """Delete what embedding wrote there, the stamp first: parts without one are never used."""
    for file in [folder / "stamp.json", *folder.glob("*.safetensors"), *folder.glob("*.tmp")]:
        file.unlink(missing_ok=True)
    with suppress(OSError):
        folder.rmdir()  # unless something else lies there


def _read(file: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    with safe_open(file, framework="pt") as f:
        return {name: f.get_tensor(name) for name in ("ids", "h")}, f.metadata()


def _shape(file: Path) -> tuple[int, int] | None:
    """(items, width) of a part, None where there is none to use."""
    with suppress(OSError, SafetensorError), safe_open(file, framework="pt") as f:
        n, width = f.get_slice("h").get_shape()
        return n, width
    return None


def _parts(source: Source, files: Iterable[Path]) -> Iterator[Features]:
    for file in files:
        tensors, _ = _read(file)
        if len(tensors["ids"]):
            yield gather(source, [tensors["ids"]], [tensors["h"]])
