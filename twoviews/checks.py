"""What some data holds, and what is broken in it, before anything is trained on it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from . import calls
from .data.check import Report
from .data.check import check as check_photos
from .data.checkgraph import Report as GraphReport
from .data.checkgraph import check_graph
from .data.checklog import Report as LogReport
from .data.checklog import check_log
from .data.checksounds import Report as SoundReport
from .data.checksounds import check_sounds
from .data.checktext import Report as TextReport
from .data.checktext import check_text
from .data.checkvideos import Report as VideoReport
from .data.checkvideos import check_videos
from .data.graphs import graph, is_graph
from .data.image import photos
from .data.logs import histories, is_log
from .data.schema import parse_all
from .data.sounds import is_sound, sounds
from .data.text import is_text, text
from .data.videos import is_video, videos
from .errors import UserError
from .log import Log


def check(
    data: Any, *, labels: str | Path | None = None, quiet: bool = False, settings: Mapping[str, Any] | None = None
) -> Report | SoundReport | VideoReport | LogReport | GraphReport | TextReport:
    """Read all of the data and report what it holds and what is broken in it.

    settings: how recordings, videos, a log, a graph or a text are read, as {"data.user": "customer"}; of a graph also
    {"views.metapaths": "author-paper-author"}, whose dead ends are counted.
    """
    read = {k.removeprefix("data."): v for k, v in (settings or {}).items()}
    make: Any
    report: Any
    for known, make, report in ((is_sound, sounds, check_sounds), (is_video, videos, check_videos)):
        if known(data):
            _known(make, read)
            media = make(data, labels=None if labels is None else str(labels), **read)
            with Log(quiet=quiet).progress("reading", len(media)) as bar:
                return report(media, progress=bar)
    if is_graph(data):
        paths = read.pop("views.metapaths", None)
        _known(graph, read)
        edges = graph(data, **read)
        found = [] if paths is None else parse_all(edges, paths)
        return check_graph(edges, [(str(path), path.steps) for path in found])
    for known, make, report in ((is_text, text, check_text), (is_log, histories, check_log)):
        if known(data):
            _known(make, read)
            return report(make(data, **read))
    if read:
        raise UserError(f"photos are checked without settings, got {next(iter(settings or {}))}")
    source = photos(data, labels=labels)
    with Log(quiet=quiet).progress("reading", len(source)) as bar:
        return check_photos(source, progress=bar)


def _known(make: Any, read: Mapping[str, Any]) -> None:
    """Raises UserError where a setting of how data is read is none."""
    for name, value in read.items():
        calls.change(make, name, value, "data")
