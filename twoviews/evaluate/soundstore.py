"""Embedding recordings into one file: one vector a recording, or one a frame with its time.

In parts that outlive a kill, as in store.py. A long recording is a part of its own, whose frames are written some
seconds at a time, so that memory does not grow with its length.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor, nn

from ..checkpoint import writing
from ..data.sounds import Sounds
from ..data.soundviews import whole as as_it_is
from ..errors import BrokenItem, UserError
from ..types import Features
from .embed import Progress, batches, gather, nothing_read
from .formats import Entered, whole, writer
from .frames import LONG, by_length, framed, frames_of, times
from .store import clear, opened

PART, SECONDS = 1000, 600  # recordings of one part, and of sound
Block = tuple[dict[str, Tensor], dict[str, str]]  # ids and h of some rows, time of frames; recordings not read and why


def embed_sounds(
    out: str | Path,
    encoder: nn.Module,
    source: Sounds,
    *,
    frames: bool = False,
    identity: str,
    batch_size: int = 64,
    device: torch.device | str = "cpu",
    progress: Progress | None = None,
    skipped: dict[str, str] | None = None,
) -> int:
    """Write what an encoder says of every readable recording to a file and return the number of its rows.

    frames:   False: the mean over the frames of each recording, in a file as `embed_to` writes.
              True: every frame, as columns key, time (seconds, of its middle) and embedding of a .parquet file.
    identity: names the encoder, say a hash of its weights. Parts left by a stopped call are used as in `embed_to`.
    Raises UserError when the file cannot be written (the parts stay) or frames have no time, DataError when no
    recording can be read.
    """
    path = Path(out)
    write = writer(path)
    if frames and path.suffix != ".parquet":
        raise UserError(
            f"frames have a time each, which {path.suffix} cannot hold: end the name of '{path.name}' in .parquet"
        )
    if frames and not hasattr(encoder, "stride"):
        raise UserError(
            f"{type(encoder).__name__} has no frames at fixed times: embed whole recordings, without frames"
        )
    skipped = {} if skipped is None else skipped
    folder = path.with_name(path.name + ".parts")
    with writing(path):
        opened(folder, {"source": source.fingerprint(), "model": identity, "frames": frames})
    encoder = encoder.to(device)
    files: list[Path] = []
    done = 0
    for number, items in enumerate(parts(source)):
        last = folder / f"{number:06d}.end.safetensors"  # there when its part is complete
        if not last.exists():
            with writing(path):
                _write(folder, last, _blocks(encoder, source, items, frames, batch_size, device))
        files += sorted(folder.glob(f"{number:06d}.*.safetensors"))  # digits come before "end"
        done += len(items)
        if progress:
            progress(done, len(source))
    heads = [_head(file) for file in files]
    for _, _, broken in heads:
        skipped |= broken
    total = sum(rows for rows, _, _ in heads)
    if not total:
        clear(folder)
        raise nothing_read(source, skipped)
    with writing(path):
        write(path, (total, max(width for _, width, _ in heads)), _rows(source, files))
    clear(folder)
    return total


def parts(source: Sounds) -> Iterator[list[int]]:
    """Items in their order, at most PART and SECONDS in one; each that is longer than LONG alone."""
    most, held = SECONDS * source.rate, 0
    items: list[int] = []
    for item, length in enumerate(source.length.tolist()):
        alone = length > LONG * source.rate
        if items and (alone or len(items) == PART or held + length > most):
            yield items
            items, held = [], 0
        items.append(item)
        held += length
        if alone:
            yield items
            items, held = [], 0
    if items:
        yield items


def _write(folder: Path, last: Path, blocks: Iterable[Block]) -> None:
    """Blocks as files; of a recording that breaks off none but its reason."""
    before: list[Path] = []
    waiting: Block | None = None
    for block in blocks:
        if waiting:
            before.append(folder / f"{last.name[:6]}.{len(before):06d}.safetensors")
            _save(before[-1], waiting)
        waiting = block
    assert waiting  # a part has items
    if waiting[1]:
        for file in before:
            file.unlink()
    _save(last, waiting)


def _save(file: Path, block: Block) -> None:
    with whole(file) as f:
        f.write(save(block[0], {"skipped": json.dumps(block[1])}))


def _blocks(
    encoder: nn.Module, source: Sounds, items: list[int], frames: bool, batch_size: int, device: torch.device | str
) -> Iterator[Block]:
    if int(source.length[items[0]]) > LONG * source.rate:
        yield from _long(encoder, source, items[0], frames, device)
    else:
        yield _short(encoder, source, items, frames, batch_size, device)


def _long(encoder: nn.Module, source: Sounds, item: int, frames: bool, device: torch.device | str) -> Iterator[Block]:
    """The frames of one recording block by block, or their mean."""
    start, total = 0, torch.zeros(1, dtype=torch.float64)
    try:
        for c in frames_of(encoder, source, item, device):
            if frames and len(c):
                yield _framewise(encoder, source, [item], [c], start), {}
            start, total = start + len(c), total + c.double().sum(0)
    except BrokenItem as reason:
        yield _nothing(), {source.key(item): str(reason)}
        return
    if not frames:
        yield {"ids": torch.tensor([item]), "h": (total / start).float()[None]}, {}


def _short(
    encoder: nn.Module, source: Sounds, items: list[int], frames: bool, batch_size: int, device: torch.device | str
) -> Block:
    """Batches of about one length; the rows in the order of the items."""
    run, view = framed(encoder), as_it_is()
    found: dict[int, Tensor] = {}
    broken: dict[str, str] = {}
    for batch in batches(source, by_length(source, batch_size, items), device):
        broken |= batch.broken
        if batch.images is not None and batch.sizes is not None:
            c, seen = run(view(batch.images, batch.sizes, None)[0])
            for item, rows, some in zip(batch.ids.tolist(), c, seen, strict=True):
                rows = rows[some]
                found[item] = (rows if frames else rows.mean(0, keepdim=True)).cpu()
    chosen = sorted(found)
    if not chosen:
        return _nothing(), broken
    if frames:
        return _framewise(encoder, source, chosen, [found[item] for item in chosen], 0), broken
    return {"ids": torch.tensor(chosen), "h": torch.cat([found[item] for item in chosen])}, broken


def _framewise(encoder: nn.Module, source: Sounds, items: list[int], c: list[Tensor], start: int) -> dict[str, Tensor]:
    counts = [len(rows) for rows in c]
    ids = torch.tensor(items).repeat_interleave(torch.tensor(counts))
    time = [torch.from_numpy(times(encoder, source.rate, start, count)) for count in counts]
    return {"ids": ids, "h": torch.cat(c), "time": torch.cat(time)}


def _nothing() -> dict[str, Tensor]:
    return {"ids": torch.empty(0, dtype=torch.int64), "h": torch.empty(0, 0)}


def _head(file: Path) -> tuple[int, int, Mapping[str, str]]:
    """Rows, their width, and what was skipped."""
    with safe_open(file, framework="pt") as f:
        rows, width = f.get_slice("h").get_shape()
        return rows, width, json.loads(f.metadata()["skipped"])


def _rows(source: Sounds, files: Iterable[Path]) -> Iterator[Features]:
    import pyarrow as pa

    for file in files:
        with safe_open(file, framework="pt") as f:
            found = {name: f.get_tensor(name) for name in f.keys()}  # noqa: SIM118
        if not len(found["ids"]):
            continue
        if "time" not in found:
            yield gather(source, [found["ids"]], [found["h"]])
            continue
        items, at = np.unique(found["ids"].numpy(), return_inverse=True)
        keys = pa.array([source.key(int(i)) for i in items], pa.string()).take(pa.array(at, pa.int64()))
        yield Entered(found["h"], [], columns={"key": keys, "time": pa.array(found["time"].numpy())})
