"""Recordings read once, and what each row of the table of sounds has of them: frames, means, deviations, quarters.

source -> pieces of at most 20 s -> batches of about one length -> view -> c, seen -> Heard
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..data.dice import Dice
from ..data.sounds import Sounds
from ..encoders.spectra import frames as frames_in
from ..encoders.spectra import mfcc, span
from ..encoders.wave import lengths
from .embed import Progress, Views, batches, nothing_read
from .frames import LONG, Framed, by_length
from .split import check_finite

MFCC, LOUDNESS = "MFCC", "loudness and duration"
FRAMES = 100_000  # that are kept of a source, about
EDGE = 2  # frames at each end of a clip that are no frames to tell by: half of what they see is padding
QUARTERS = 4


@dataclass
class Heard:
    """What the rows of a table have of the M readable pieces of a source, in its order.

    source: the pieces.  parts: row -> what of each piece -> (M, D): `mean`, `deviation` (of both), `quarters`.
    frames: row -> (F, D), and of: row -> (F,), the pieces that they are of.
    """

    source: Sounds
    parts: dict[str, dict[str, Tensor]]
    frames: dict[str, Tensor]
    of: dict[str, Tensor]


def some(source: Sounds, most: int, seconds: float, seed: int) -> Sounds:
    """Recordings in pieces of at most LONG seconds; at most so many and so many seconds, drawn by `seed`."""
    source = source.cut(LONG)
    if len(source) <= most and source.seconds <= seconds:
        return source
    order = np.random.default_rng(seed).permutation(len(source))[:most]
    return source.subset(np.sort(order[source.length[order].cumsum() <= seconds * source.rate]))


def cepstra(rate: int) -> Framed:
    """13 MFCC of each frame, and which lie in the clip: the floor that an encoder of sound has to pass."""

    def run(x: Tensor) -> tuple[Tensor, Tensor]:
        c = mfcc(x, rate)
        return c, torch.arange(c.shape[1], device=x.device) < frames_in(lengths(x), span(rate)[1])[:, None]

    return run


def hear(
    rows: Mapping[str, Framed],
    source: Sounds,
    view: Views,
    *,
    seed: int = 0,
    batch_size: int = 64,
    device: torch.device | str = "cpu",
    progress: Progress | None = None,
    skipped: dict[str, str] | None = None,
) -> Heard:
    """Each row's features of the readable pieces of a source, on the CPU, and those of LOUDNESS of the sound as it is.

    rows: name -> a function x -> (c, seen), as `framed`.
    Raises DataError when nothing can be read, UserError when features are not finite.
    """
    skipped = {} if skipped is None else skipped
    share = FRAMES * source.rate / 100 / max(1, int(source.length.sum()))  # of the frames, where one lasts 10 ms
    ids: list[Tensor] = []
    parts: dict[str, list[dict[str, Tensor]]] = {name: [] for name in (LOUDNESS, *rows)}
    frames: dict[str, list[Tensor]] = {name: [] for name in rows}
    of: dict[str, list[Tensor]] = {name: [] for name in rows}
    done, groups = 0, by_length(source, batch_size)
    for group, batch in zip(groups, batches(source, groups, device), strict=True):
        skipped |= batch.broken
        done += len(group)
        if batch.images is not None and batch.sizes is not None:
            ids.append(batch.ids)
            parts[LOUDNESS].append({"deviation": loudness(batch.images[:, 0, 0], batch.sizes[:, 1], source.rate)})
            x = view(batch.images, batch.sizes, None)[0]
            for name, run in rows.items():
                c, seen = run(x)
                parts[name].append(pooled(c, seen))
                luck = Dice(seed, 0, batch.ids.to(c.device)).uniform(n=c.shape[1])
                item, place = (inner(seen) & (luck < share)).nonzero(as_tuple=True)
                frames[name].append(c[item, place].cpu())
                of[name].append(batch.ids[item.cpu()])
        if progress:
            progress(done, len(source))
    if not ids:
        raise nothing_read(source, skipped)
    read, order = torch.cat(ids).sort()
    heard = Heard(
        source.subset(read.numpy()),
        {
            name: {kind: torch.cat([b[kind] for b in blocks])[order] for kind in blocks[0]}
            for name, blocks in parts.items()
        },
        {name: torch.cat(blocks) for name, blocks in frames.items()},
        {name: torch.searchsorted(read, torch.cat(blocks)) for name, blocks in of.items()},
    )
    for name in rows:
        check_finite(heard.parts[name]["deviation"], name)
    return heard


def pooled(c: Tensor, seen: Tensor) -> dict[str, Tensor]:
    """c (B, N, C), seen (B, N) -> on the CPU: mean (B, C), deviation (B, 2C) with the mean, quarters (B, 4C).

    A quarter of n seen frames begins at i n / 4, rounded down, and ends at (i + 1) n / 4, rounded up, so none is empty.
    """
    c, many = c * seen[..., None], seen.sum(1)
    mean = c.sum(1) / many[:, None]
    spread = ((c - mean[:, None]).square() * seen[..., None]).sum(1) / many[:, None]
    place, i = seen.cumsum(1)[:, None] - 1, torch.arange(QUARTERS, device=c.device)[:, None]  # (B, 1, N), (4, 1)
    begin, end = many[:, None, None] * i // QUARTERS, -(-many[:, None, None] * (i + 1) // QUARTERS)
    of = (seen[:, None] & (begin <= place) & (place < end)).to(c.dtype)  # (B, 4, N)
    quarters = of @ c / of.sum(2, keepdim=True)
    out = {"mean": mean, "deviation": torch.cat([mean, spread.sqrt()], 1), "quarters": quarters.flatten(1)}
    return {name: x.cpu() for name, x in out.items()}


def inner(seen: Tensor) -> Tensor:
    """(B, N) -> (B, N): the seen frames without EDGE at each end; all of a clip that has no more."""
    place, many = seen.cumsum(1) - 1, seen.sum(1, keepdim=True)
    return seen & ((many <= 2 * EDGE) | ((place >= EDGE) & (place < many - EDGE)))


def loudness(x: Tensor, length: Tensor, rate: int) -> Tensor:
    """(B, T), (B,) -> (B, 4) on the CPU: log of the root mean square, offset, log of the peak, seconds."""
    many = length.clamp(min=1).to(x.dtype)
    mean = x.sum(1) / many
    inside = torch.arange(x.shape[1], device=x.device) < length[:, None]
    rms = ((x - mean[:, None]) * inside).square().sum(1).div(many).sqrt()
    peak = x.abs().amax(1)
    return torch.stack([rms.clamp(min=1e-9).log(), mean, peak.clamp(min=1e-9).log(), length / rate], 1).cpu()
