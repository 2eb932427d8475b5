"""Embedding videos into one file: one vector a video, or one a window with its first and last second.

In parts that outlive a kill, as in store.py. Names of windows hold their seconds (talk.mp4#12.00-24.00); a .parquet
file has them as columns begin and end too.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..checkpoint import writing
from ..data.videos import Videos
from ..errors import UserError
from .embed import Progress, model
from .formats import whole, writer
from .store import embed_to


def embed_videos(
    out: str | Path,
    encoder: nn.Module,
    source: Videos,
    view: Any,
    *,
    seconds: float | None = None,
    step: float | None = None,
    identity: str,
    batch_size: int = 32,
    device: torch.device | str = "cpu",
    workers: int = 0,
    progress: Progress | None = None,
    skipped: dict[str, str] | None = None,
) -> int:
    """Write h of every readable video, or of every window of it, to a file and return the number of rows.

    view:    (canvas, sizes, None) -> [x], with `moments`, as `central_clip`: of the whole video or of each window.
    seconds: the length of a window, `step` seconds apart (None: end to end); None: whole videos.
    identity, progress, skipped: as in `embed_to`. Raises UserError when the file cannot be written or a step comes
    without seconds, DataError when no video can be read.
    """
    path = Path(out)
    writer(path)
    if seconds is None and step is not None:
        raise UserError(f"step={step:g} is between windows, which need a length: give windows={step:g}, say")
    how: dict[str, Any] = {"batch_size": batch_size, "device": device, "workers": workers}
    how |= {"progress": progress, "skipped": skipped}
    identity = f"{identity} {view!r}"
    run = model(encoder.to(device))
    if seconds is None:
        return embed_to(path, run, source.sampled(view.moments), view, identity=identity, **how)
    windows = source.cut(seconds, step).sampled(view.moments)
    plain = path.with_name(f".{path.stem}.windows{path.suffix}") if path.suffix == ".parquet" else path
    count = embed_to(plain, run, windows, view, identity=identity, **how)
    if plain != path:
        with writing(path):
            _with_times(plain, path, windows)
        plain.unlink()
    return count


def _with_times(plain: Path, path: Path, windows: Videos) -> None:
    """The same file with the columns begin and end after the key, a group of rows at a time."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    spans = {windows.key(i): windows.measured(i) for i in range(len(windows))}
    with pq.ParquetFile(plain) as file, whole(path) as f:
        made = None
        for batch in file.iter_batches():
            table = pa.Table.from_batches([batch])
            times = [spans[str(key)] for key in table["key"].to_pylist()]
            for place, name in enumerate(("begin", "end")):
                table = table.add_column(1 + place, name, pa.array([t[place] for t in times], pa.float64()))
            made = made or pq.ParquetWriter(f, table.schema, use_dictionary=False)
            made.write_table(table)
        if made:
            made.close()
