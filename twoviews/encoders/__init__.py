"""Encoders: from what an item is to h, what users keep. ENCODERS names them for the command line.

An encoder is an nn.Module with `dim`, `forward(x) -> (B, dim)` and `tokens(x) -> (B, N, dim)`: the same before it is
pooled. It has no classifier and knows no method.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from torch import nn

from ..errors import unknown
from .frames import frame_net
from .mel import mel
from .mvit import mvit
from .patches import patch_net
from .relational import Relational
from .resnet import resnet18, resnet34, resnet50, resnet101
from .sentences import sentence_net
from .sequence import bert, causal
from .small import small
from .spacetime import space_only, timesformer, vivit2, vivit3, vivit4
from .swin3d import swin3d
from .table import table
from .timm import timm_encoder
from .vit import vit, vivit1
from .vtn import vtn
from .wave import wave

PHOTO_ENCODERS: dict[str, Callable[..., nn.Module]] = {
    "resnet18": resnet18,
    "resnet34": resnet34,
    "resnet50": resnet50,
    "resnet101": resnet101,
    "small": small,
    "vit": vit,
}
CLIP_ENCODERS: dict[str, Callable[..., nn.Module]] = {
    "vivit1": vivit1,
    "vivit2": vivit2,
    "vivit3": vivit3,
    "vivit4": vivit4,
    "timesformer": timesformer,
    "space_only": space_only,
    "vtn": vtn,
    "mvit": mvit,
    "swin3d": swin3d,
    "frame_net": frame_net,
}
PATCH_ENCODERS: dict[str, Callable[..., nn.Module]] = {
    "patch_net": patch_net,
}
SOUND_ENCODERS: dict[str, Callable[..., nn.Module]] = {
    "wave": wave,
    "mel": mel,
}
DOCUMENT_ENCODERS: dict[str, Callable[..., nn.Module]] = {
    "sentence_net": sentence_net,
}
HISTORY_ENCODERS: dict[str, Callable[..., nn.Module]] = {
    "bert": bert,
    "causal": causal,
}
GRAPH_ENCODERS: dict[str, Callable[..., nn.Module]] = {
    "table": table,
    "relational": Relational,
}
ENCODERS = (
    PHOTO_ENCODERS
    | CLIP_ENCODERS
    | PATCH_ENCODERS
    | SOUND_ENCODERS
    | DOCUMENT_ENCODERS
    | HISTORY_ENCODERS
    | GRAPH_ENCODERS
)


def encoder_factory(name: str) -> Callable[..., nn.Module]:
    """The factory `(channels, ...) -> encoder` for a name in ENCODERS or for "timm:NAME".

    Raises UserError on another name; a wrong NAME is found when the encoder is built.
    """
    if name.startswith("timm:"):
        return partial(timm_encoder, name=name.removeprefix("timm:"))
    if name not in ENCODERS:
        raise unknown("encoder", name, [*ENCODERS, "timm:NAME"])
    return ENCODERS[name]
