"""Slow weights: an exponential moving average of modules (the momentum encoder of MoCo, the teacher of BYOL)."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from .errors import UserError


class EMA(nn.Module):
    """A frozen copy of modules applied one after the other, which follows them:  w' <- m w' + (1 - m) w.

    Parameters follow in `update`. Buffers (BatchNorm statistics) are the copy's own: its forward moves them, as
    in He et al. 2020.
    """

    def __init__(self, *modules: nn.Module, momentum: float = 0.999):
        super().__init__()
        if not 0 <= momentum <= 1:
            raise UserError(f"momentum must lie in [0, 1], got {momentum}")
        self.momentum = momentum
        self.modules_ = nn.ModuleList(copy.deepcopy(m) for m in modules).requires_grad_(False)

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        for module in self.modules_:
            x = module(x)
        return x

    @torch.no_grad()
    def update(self, *modules: nn.Module) -> None:
        """One step towards `modules`, the ones it was built from, in the same order."""
        slow: list[Tensor] = list(self.modules_.parameters())
        fast: list[Tensor] = [p for m in modules for p in m.parameters()]
        torch._foreach_lerp_(slow, fast, 1 - self.momentum)
