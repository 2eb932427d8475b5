"""What `twoviews train DATA` does when told nothing else: by what the data is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..data.graphs import is_graph
from ..data.logs import is_log
from ..data.sounds import is_sound
from ..data.text import is_text
from ..data.videos import is_video
from ..errors import UserError
from ..run import Run
from .graphs import deepwalk, metapath2vec, of_one_type
from .histories import bert4rec
from .masked import photo_mae
from .photos import auto as photos
from .predicted import cpc_photos
from .predicted_text import cpc_text
from .sounds import cpc_sounds
from .text import word2vec
from .videos import video_cpc, video_mae, video_simclr


def auto(data: Any, *, device: str = "cpu", labels: str | None = None, read: Mapping[str, Any] | None = None) -> Run:
    """SimCLR for photos and videos, CPC for sound, BERT4Rec for logs, metapath2vec for graphs, word2vec for text.

    DeepWalk for graphs of one type.
    """
    if is_sound(data):
        return cpc_sounds(data, device=device, labels=labels, read=read)
    if is_video(data):
        return video_simclr(data, device=device, labels=labels, read=read)
    if is_graph(data):
        recipe = deepwalk if of_one_type(data, labels, read) else metapath2vec
        return recipe(data, labels=labels, read=read)
    if is_text(data):  # ahead of logs, which may end in .txt too
        if labels is not None:
            raise UserError("a text has no labels; leave --labels out")
        return word2vec(data, read=read)
    if is_log(data):
        if labels is not None:
            raise UserError("histories have no labels; leave --labels out")
        return bert4rec(data, device=device, read=read)
    return photos(data, device=device, labels=labels)


def cpc(data: Any, *, device: str = "cpu", labels: str | None = None, read: Mapping[str, Any] | None = None) -> Run:
    """CPC on recordings, on the frames of videos, on the sentences of documents, or on photos cut into patches."""
    if is_sound(data):
        return cpc_sounds(data, device=device, labels=labels, read=read)
    if is_video(data):
        return video_cpc(data, device=device, labels=labels, read=read)
    if is_text(data):
        if labels is not None:
            raise UserError("documents have the folders they lie in as labels; leave --labels out")
        return cpc_text(data, device=device, read=read)
    if is_graph(data) or is_log(data):
        raise UserError(f"cpc learns from recordings, videos, photos, texts, and '{data}' is none; leave --recipe out")
    return cpc_photos(data, device=device, labels=labels)


def mae(data: Any, *, device: str = "cpu", labels: str | None = None, read: Mapping[str, Any] | None = None) -> Run:
    """Masked autoencoding: of photos three quarters are hidden (MAE), of videos nine tenths (VideoMAE)."""
    if is_video(data):
        return video_mae(data, device=device, labels=labels, read=read)
    if is_sound(data) or is_graph(data) or is_text(data) or is_log(data):
        raise UserError(f"mae learns from photos and videos, and '{data}' is neither; leave --recipe out")
    return photo_mae(data, device=device, labels=labels)
