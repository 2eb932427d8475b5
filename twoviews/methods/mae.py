"""MAE and VideoMAE: see few patches of a picture or a clip, and draw the rest.

    y   = encoder(patches that are seen)                              the hidden ones are gone before it
    u_i = decoder([W y + s_seen, m + s_hidden])_i                     m one learned token, s fixed sine positions
    L   = mean over hidden patches i of |u_i - normalised(pixels of i)|^2 / P

He et al. 2021, arXiv:2111.06377: photos, 75 % hidden, each patch normalised by its mean and deviation.
Tong et al. 2022, arXiv:2203.12602: clips, 90 % hidden in tubes: the same places of all frames; each channel of a patch
of some frames normalised by itself. Where a photo's encoder has a class token the decoder sees it too, as He et al. do.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import mse_loss

from ..decoder import Decoder
from ..dist import agreed, counts, rank, share
from ..errors import UserError
from ..masks import tubes
from ..types import Batch, Method, Out

SEEN_BY = ("patches", "grid", "visible", "patch")  # what an encoder must have
PHOTOS, CLIPS = 0.75, 0.9  # shares that the papers hide
EPS = 1e-6


class MAE(Method):
    """Needs an encoder with `patches`, `grid`, `visible` and `patch.proj`, as `vit` and `vivit1` have. Reads one view.

    mask:      share of the patches that is hidden; None: 0.75 of photos, 0.9 of clips.
    decoder_dim, decoder_depth: a transformer with heads of 64, that of VideoMAE's base; MAE's has 512 and 8.
    normalise: predict pixels less their patch's mean over its deviation, not as they are.
    Logs `explained`, the share of the variance of what is hidden that the decoder tells: at 0 it knows nothing. There
    is no `project`: h is compared with nothing.
    Raises UserError on settings that are not allowed, and where a mask leaves nothing seen or nothing hidden.
    """

    encoder: Any

    def __init__(
        self,
        encoder: Any,
        mask: float | None = None,
        decoder_dim: int = 384,
        decoder_depth: int = 4,
        normalise: bool = True,
    ):
        super().__init__()
        if missing := [name for name in SEEN_BY if not hasattr(encoder, name)]:
            raise UserError(
                f"method=mae needs an encoder that can see some patches alone, and {type(encoder).__name__} has no "
                f"{', no '.join(missing)}: use encoder=vit for photos, encoder=vivit1 for clips"
            )
        if mask is not None and not 0 < mask < 1:
            raise UserError(f"method.mask is the share of patches that is hidden, above 0 and below 1, got {mask}")
        self.encoder = encoder
        self.decoder = Decoder(encoder.dim, decoder_dim, decoder_depth, encoder.patch.proj.in_features)
        self.mask, self.normalise = mask, normalise

    def forward(self, batch: Batch) -> Out:
        x = batch.views[0]
        grid, rows = self.encoder.grid(x), counts(len(x))
        keep, drop = self._drawn(rows, grid, x)
        seen = self.encoder.visible(x, keep)  # (B, [1 +] K, D)
        drawn = self.decoder(seen, keep, drop, grid)  # (B, M, P)
        right = self._pixels(x, drop)
        with torch.autocast(x.device.type, enabled=False):
            loss = mse_loss(drawn.to(right.dtype), right)
        explained = 1 - loss.detach() / right.var(correction=0).clamp_min(EPS)
        seen = seen.detach()  # one token, of a random place, tells more than the mean, which all clips nearly share
        return Out(loss * share(rows), z=seen[:, -1], h=seen.mean(1), logs={"explained": explained})

    def _drawn(self, rows: list[int], grid: tuple[int, int, int], x: Tensor) -> tuple[Tensor, Tensor]:
        """Places seen (B, K) and hidden (B, M): rank 0's random numbers for all rows, as one process would draw."""
        t, h, w = grid
        noise = agreed(torch.rand(sum(rows), h * w).to(x.device, non_blocking=True))
        begin = sum(rows[: rank()])
        hidden = self.mask if self.mask is not None else CLIPS if x.ndim == 5 else PHOTOS
        return tubes(noise[begin : begin + len(x)], t, hidden)

    def _pixels(self, x: Tensor, drop: Tensor) -> Tensor:
        """(B, M, P): what the hidden patches show, in float32 at least."""
        pixels = _at(self.encoder.patches(x), drop)
        pixels = pixels.to(torch.promote_types(x.dtype, torch.float32))
        if not self.normalise:
            return pixels
        parts = pixels.unflatten(2, (x.shape[1] if x.ndim == 5 else 1, -1))  # (B, M, C, t * p * p), or all of a photo's
        parts = parts - parts.mean(3, keepdim=True)
        power = parts.square().sum(3, keepdim=True) / max(1, parts.shape[3] - 1)
        deviation = power.sqrt() + EPS if x.ndim == 5 else (power + EPS).sqrt()  # as each paper's code has it
        return (parts / deviation).flatten(2)


def _at(x: Tensor, index: Tensor) -> Tensor:
    """(B, N, P) at places (B, M) -> (B, M, P)"""
    return x.gather(1, index[..., None].expand(-1, -1, x.shape[2]))
