"""Clips that a page shows: what the encoder makes of them, strips of their frames, and films that a browser plays.

VP9 in WebM, for every browser plays it, with no licence to buy: about 10 kB a clip.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from html import escape

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from ..data.videos import Videos
from ..evaluate.embed import batches, gather, mean, model, nothing_read, slices
from ..evaluate.split import take
from ..masks import tubes
from ..methods.mae import CLIPS, MAE
from ..run import Run
from ..train import DTYPES
from ..types import Method
from .items import SIDE, Items
from .parts import SMALL, picture, reduced

MOST, BATCH = 300, 16  # clips on a page, and at once
SHOWN = 8  # frames of a strip at most
RATE = 8  # frames a second of a film
STYLE = """
.clip { display: grid; grid-template-columns: minmax(7rem, 11rem) 1fr; gap: .3rem 1rem; margin: 0; padding: .9rem 0;
  align-items: center; border-top: 1px solid var(--line); break-inside: avoid; }
.clip video { display: block; width: 100%; border-radius: 6px; background: var(--soft); }
.clip .strip { width: 100%; display: block; border-radius: 6px; } .clip figcaption { grid-column: 1 / -1; }
@media (max-width: 40rem) { .clip { grid-template-columns: 1fr; } .clip video { max-width: 11rem; } }
@media print { .clip video { display: none; } .clip { grid-template-columns: 1fr; } }
"""


def collect(
    run: Run,
    method: Method,
    test: Videos,
    device: torch.device,
    workers: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Items:
    """At most 300 test clips, drawn by the run's seed, each with its middle frame. Raises DataError if none is read."""
    chosen = np.sort(np.random.default_rng(run.seed).permutation(len(test))[:MOST]).tolist()
    groups = [chosen[few.start : few.stop] for few in slices(0, len(chosen), BATCH)]
    embed = model(method.encoder, None, None if run.precision == "fp32" else DTYPES[run.precision])
    view = run.test_view()
    source = test.sampled(view.moments, run.seed)
    ids, hs, pictures = [], [], []
    broken: dict[str, str] = {}
    done = 0
    for group, batch in zip(groups, batches(source, groups, device, workers), strict=True):
        broken |= batch.broken
        if batch.images is not None:
            hs.append(mean([embed(x) for x in view(batch.images, batch.sizes, None)])[0])
            ids.append(batch.ids)
            seen = view.pictures(batch.images, batch.sizes, None)[0]  # (B, 3, T, S, S)
            pictures += [reduced(painted(x), SIDE / x.shape[1]) for x in seen[:, :, seen.shape[2] // 2]]
        done += len(group)
        if progress:
            progress(done, len(chosen))
    if not ids:
        raise nothing_read(test, broken)
    features = gather(test, ids, hs)
    finite = features.h.isfinite().all(1)
    kept = take(features, np.flatnonzero(finite))
    return Items(kept, torch.stack(pictures)[finite], len(test), broken, int((~finite).sum()))


def masked(method: MAE, clip: Tensor, seed: int) -> Tensor:
    """A clip in [0, 1] (3, T, H, W) with grey where a masked autoencoder is shown nothing."""
    t, h, w = method.encoder.grid(clip[None])
    noise = torch.rand(1, h * w, generator=torch.Generator().manual_seed(seed))
    seen, _ = tubes(noise, t, CLIPS if method.mask is None else method.mask)
    shown = torch.zeros(1, t * h * w).scatter(1, seen, 1.0).view(1, 1, t, h, w)
    shown = interpolate(shown, clip.shape[1:])[0]  # (1, T, H, W)
    return clip * shown + 0.5 * (1 - shown)


def figure(clip: Tensor, caption: str) -> str:
    """A clip in [0, 1] (3, T, h, w) to play, beside its frames in a row. caption: plain text."""
    frames = painted(clip).transpose(0, 1)  # (T, 3, h, w)
    said = escape(caption, quote=True)
    shown = f'<video controls loop muted playsinline preload="auto" src="{film(frames)}" aria-label="{said}"></video>'
    below = escape(caption).replace("/", "/<wbr>")
    return f'<figure class="clip">{shown}{strip(frames, caption)}<figcaption>{below}</figcaption></figure>'


def strip(frames: Tensor, caption: str) -> str:
    """Up to 8 frames of uint8 (T, 3, h, w) side by side, evenly spread, the first and the last among them."""
    count = min(SHOWN, len(frames))
    places = torch.linspace(0, len(frames) - 1, count).round().long()
    row = torch.cat([reduced(frames[i], SIDE / max(frames.shape[2:])) for i in places.tolist()], 2)
    pixels = " pixels" if max(frames.shape[2:]) <= SMALL else ""
    said = escape(f"{count} of {len(frames)} frames of {caption}", quote=True)
    lossless = {"format": "WEBP", "quality": 80, "lossless": bool(pixels)}
    return f'<img class="strip{pixels}" src="{picture(row, **lossless)}" alt="{said}">'


def film(frames: Tensor) -> str:
    """uint8 (T, 3, h, w) as a data URI of a WebM; small frames enlarged, for a browser's controls need room."""
    import av

    times = max(1, round(2 * SIDE / max(frames.shape[2:])))
    x = frames.repeat_interleave(times, 2).repeat_interleave(times, 3)
    x = x[:, :, : x.shape[2] // 2 * 2, : x.shape[3] // 2 * 2]  # colours are kept for two by two pixels
    file = io.BytesIO()
    with av.open(file, "w", format="webm") as out:
        stream = out.add_stream("libvpx-vp9", rate=RATE, options={"crf": "30", "deadline": "realtime", "cpu-used": "8"})
        stream.height, stream.width, stream.pix_fmt = x.shape[2], x.shape[3], "yuv420p"
        for one in x.permute(0, 2, 3, 1).contiguous().numpy():
            out.mux(stream.encode(av.VideoFrame.from_ndarray(one, format="rgb24")))
        out.mux(stream.encode(None))
    return f"data:video/webm;base64,{base64.b64encode(file.getvalue()).decode()}"


def painted(x: Tensor) -> Tensor:
    """A picture or clip in [0, 1] as uint8."""
    return (x.clamp(0, 1) * 255).round().byte().cpu()
