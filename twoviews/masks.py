"""Which tokens of a picture or a clip are hidden, from random numbers alone.

Tubes: Tong et al. 2022 (VideoMAE), arXiv:2203.12602. Places of a photo: He et al. 2021 (MAE), arXiv:2111.06377.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .errors import UserError


def tubes(noise: Tensor, frames: int, share: float) -> tuple[Tensor, Tensor]:
    """The places that are seen and those that are hidden: (B, T * K) and (B, T * M) int64, frame by frame.

    noise:  (B, N) random numbers of the N places of a frame; the K = N - round(share N) smallest are seen, in all of
            the `frames` T alike, so that nothing hidden can be copied from another time. A photo is one frame.
    Raises UserError where nothing or everything would be hidden.
    """
    places = noise.shape[1]
    hidden = round(share * places)
    if not 0 < hidden < places:
        raise UserError(
            f"method.mask={share:g} hides {hidden} of the {places} patches of a frame, where some must be seen and "
            "some hidden: give another share, smaller patches (encoder.patch) or larger views (views.size)"
        )
    order = noise.argsort(1)  # (B, N)
    starts = torch.arange(frames, device=noise.device)[:, None] * places  # (T, 1)
    seen, rest = order[:, None, : places - hidden], order[:, None, places - hidden :]
    return (seen + starts).flatten(1), (rest + starts).flatten(1)
