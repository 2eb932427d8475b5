"""A video encoder begins as an image ViT (ViViT section 3.4; TimeSformer section 5).

    patch      central: E_video[:, :, t // 2] = E_image and the other frames of a box 0;  inflate: E_image / t in each
    positions  the image's for every time, resized where the grid is another one; those of time alone are new, or 0
    time       copy: attention in time begins as the image's attention;  random: as it was built
               and adds nothing at first either way: model 3's output projection is 0, TimeSformer's temporal_fc

Norms before attention in time: new in model 3, copied in TimeSformer, as their authors do. What only time has in model
2 and VTN stays as it was built.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..errors import UserError, unknown
from .blocks import SIZES, resized
from .convert import Loaded, Weights, load_into
from .spacetime import DividedBlock, Factorised, FramesThenTime, SelfBlock, TimeSformer, quiet
from .vit import POOLS, ViT, vit

PATCHES = ("central", "inflate")
TEMPORALS = ("copy", "random")


@torch.no_grad()
def init_from_image(encoder: nn.Module, vit: ViT, patch: str = "central", temporal: str = "copy") -> None:
    """Writes the weights of an image ViT into a space-time encoder of the same width, depth, patch and channels.

    encoder: of vivit1 to vivit4, timesformer, space_only or vtn.  vit: of `vit`.
    Raises UserError on other encoders and words, and where the two do not fit.
    """
    if patch not in PATCHES:
        raise unknown("patch", patch, PATCHES)
    if temporal not in TEMPORALS:
        raise unknown("temporal", temporal, TEMPORALS)
    if not isinstance(encoder, (ViT, Factorised, FramesThenTime, TimeSformer)):
        raise UserError(
            f"{type(encoder).__name__} does not begin as an image ViT; vivit1 to vivit4, timesformer and vtn do"
        )
    space = encoder.space if isinstance(encoder, FramesThenTime) else encoder
    if not isinstance(vit, ViT) or vit.patch.tubelet != 1:
        raise UserError("init_from_image reads an encoder of `vit`, of photos; got one of clips or of another kind")
    if vit.patch.patch != space.patch.patch:
        raise UserError(
            f"the image encoder has patch={vit.patch.patch} and the video encoder "
            f"patch={space.patch.patch}; give both the same"
        )
    state = {name: x for name, x in vit.state_dict().items() if name not in ("cls", "pos")}
    state["patch.proj.weight"] = _boxes(vit, space.patch.tubelet, patch)
    if vit.cls is not None and getattr(space, "cls", None) is not None:
        state["cls"] = vit.cls
    if isinstance(space.pos, nn.Parameter) and isinstance(vit.pos, nn.Parameter):
        state["pos"] = _positions(space, vit)
    own = space.state_dict()
    wrong = [name for name, x in state.items() if name not in own or own[name].shape != x.shape]
    wrong += [name for name in own if name not in state and name.startswith("blocks.") and ".time" not in name]
    if wrong:
        name = wrong[0]
        raise UserError(
            f"the image encoder does not fit: its {name} is {_shape(state, name)} and the video encoder's is "
            f"{_shape(own, name)}; give both the same channels, patch, size and mlp"
        )
    space.load_state_dict(state, strict=False)
    if isinstance(space, TimeSformer) and space.pos_time is not None:
        space.pos_time.zero_()
    for block in space.blocks:
        if temporal == "copy" and isinstance(block, (SelfBlock, DividedBlock)):
            block.time.load_state_dict(block.attn.state_dict())
        if temporal == "copy" and isinstance(block, DividedBlock):
            block.time_norm.load_state_dict(block.norm1.state_dict())
    quiet(space)


def from_image(encoder: nn.Module, weights: Weights) -> Loaded | None:
    """Begin as the image ViT in a file, as `init_from_image` does; None where the file holds none that fits."""
    space = getattr(encoder, "space", encoder)
    of_photos = isinstance(encoder, ViT) and encoder.patch.tubelet * encoder.built[0] == 1
    if of_photos or not isinstance(space, (ViT, Factorised, TimeSformer)):
        return None
    p, t = space.patch.patch, space.patch.tubelet
    named = [name for name, (dim, depth, _) in SIZES.items() if (dim, depth) == (space.dim, len(space.blocks))]
    channels = space.patch.proj.in_features // (t * p * p)
    mlp = space.state_dict()["blocks.0.mlp.fc1.weight"].shape[0] / space.dim
    for pool in POOLS:
        try:
            image = vit(channels, space.built[1] * p, p, named[0], pool, mlp=mlp)
            loaded = load_into(image, weights)
            init_from_image(encoder, image)
        except (UserError, IndexError):
            continue
        return Loaded(f"{loaded.origin}, of photos: each begins in the central frame", loaded.left, loaded.resized)
    return None


def _boxes(vit: ViT, tubelet: int, patch: str) -> Tensor:
    """(D, C * p * p) of photos -> (D, C * t * p * p) of boxes."""
    p = vit.patch.patch
    flat = vit.patch.proj.weight.unflatten(1, (-1, vit.patch.tubelet, p * p))  # (D, C, 1, p * p)
    if patch == "inflate":
        return (flat / tubelet).expand(-1, -1, tubelet, -1).flatten(1)
    boxes = flat.new_zeros(*flat.shape[:2], tubelet, p * p)
    boxes[:, :, tubelet // 2] = flat[:, :, 0]
    return boxes.flatten(1)


def _positions(space: ViT | Factorised | TimeSformer, vit: ViT) -> Tensor:
    """(1, rows, D): the image's positions for every time of the encoder's grid, behind those of its class token."""
    assert vit.pos is not None
    assert space.pos is not None
    t, h, w = space.built
    t = 1 if isinstance(space, TimeSformer) else t
    tiled = resized(vit.pos[0, vit.prefix :], vit.built, (1, h, w)).repeat(t, 1)[None]
    own = space.pos.shape[1] - tiled.shape[1]  # 1: the encoder has a class token
    first = vit.pos[:, :1] if own and vit.prefix else space.pos[:, :own]
    return torch.cat([first, tiled], 1)


def _shape(state: dict[str, Tensor], name: str) -> str:
    return " x ".join(map(str, state[name].shape)) if name in state else "missing"
