"""Video Swin through torchvision's, with our contract (Liu et al. 2022, arXiv:2106.13230). Clips of any size.

Tokens look at others within windows of (8, 7, 7), shifted by half of one in every second block, so that the cost is
linear in a clip's length. The names of its weights are torchvision's: `load_into` takes torchvision's files.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from torch import Tensor, nn

from ..errors import UserError, unknown
from .blocks import clip
from .convert import with_weights

SIZES = {  # width of the first stage, blocks and heads of each, window
    "test": (32, (2, 2), (2, 4), (2, 4, 4)),
    "tiny": (96, (2, 2, 6, 2), (3, 6, 12, 24), (8, 7, 7)),
    "small": (96, (2, 2, 18, 2), (3, 6, 12, 24), (8, 7, 7)),
    "base": (128, (2, 2, 18, 2), (4, 8, 16, 32), (8, 7, 7)),
}


class Swin3d(nn.Module):
    """torchvision's SwinTransformer3d behind the face of an encoder, without its classifier."""

    def __init__(self, model: Any):  # torchvision is optional: no type of its to name
        super().__init__()
        self.dim: int = model.num_features
        self.patch_embed, self.features, self.norm = model.patch_embed, model.features, model.norm

    def tokens(self, x: Tensor) -> Tensor:
        """(B, C, [F,] H, W) -> (B, L, D): of the last grid, frame by frame; sizes that do not divide are padded."""
        return self.norm(self.features(self.patch_embed(clip(x)))).flatten(1, 3)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, [F,] H, W) -> (B, D): the mean of all tokens."""
        return self.tokens(x).mean(1)


def swin3d(channels: int = 3, size: str = "tiny", drop_path: float = 0.0, weights: str | None = None) -> Swin3d:
    """Video Swin. weights: a file of torchvision's to begin with.

    Raises UserError where torchvision is missing and on another size.
    """
    if size not in SIZES:
        raise unknown("size", size, SIZES)
    try:
        from torchvision.models.video.swin_transformer import PatchEmbed3d, SwinTransformer3d
    except ImportError:
        raise UserError("swin3d needs torchvision: pip install torchvision") from None
    width, blocks, heads, window = SIZES[size]
    model = SwinTransformer3d(
        patch_size=[2, 4, 4],
        embed_dim=width,
        depths=list(blocks),
        num_heads=list(heads),
        window_size=list(window),
        stochastic_depth_prob=drop_path,
        num_classes=1,  # thrown away
        patch_embed=partial(PatchEmbed3d, in_channels=channels),
    )
    return with_weights(Swin3d(model), weights)
