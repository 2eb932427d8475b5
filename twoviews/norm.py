"""Over which items BatchNorm takes its statistics: all processes, each its own, or groups of one batch.

The papers normalise over everything (SimCLR, section 2.2) or deliberately over less (MoCo, section 3.3): what a
batch's statistics tell about it can give the answer away.  Ioffe and Szegedy 2015, arXiv:1502.03167.
"""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.functional import batch_norm
from torch.nn.modules._functions import SyncBatchNorm as cuda_sync_batch_norm
from torch.nn.modules.batchnorm import _BatchNorm

from .dist import gather, world
from .errors import UserError

KINDS = ("BatchNorm1d", "BatchNorm2d", "BatchNorm3d", "BatchNormAct2d")  # the last is timm's, with its ReLU inside


def set_batchnorm(module: nn.Module, scope: str | int) -> nn.Module:
    """Let every BatchNorm in `module` take its statistics over `scope` while training; returns the module.

    scope: "global", all items of all processes, as one big batch (their numbers may differ);
           "local", each process its own; or a number of groups: item i of a batch counts with i + n, i + 2n, ...,
           as if on a device of its own, and the running statistics are the mean over the groups.
    Parameters, buffers and their names stay the same objects, and in eval mode nothing differs from nn.BatchNorm.
    Another call changes the scope again. A module that is itself a BatchNorm is replaced: use what is returned.
    Raises UserError on another scope, and in training when a batch does not divide into the groups.
    """
    if scope not in ("global", "local") and (type(scope) is not int or scope < 1):
        raise UserError(f"batchnorm must be 'global', 'local' or a number of groups of at least 1, got {scope!r}")
    scope = "local" if scope == 1 else scope
    replaced = {m: _scoped(m, scope) for m in module.modules() if isinstance(m, _BatchNorm)}
    for parent in list(module.modules()):
        for name, child in parent._modules.items():
            if child in replaced:
                setattr(parent, name, replaced[child])
    return replaced.get(module, module)  # type: ignore[call-overload]


def _scoped(norm: _BatchNorm, scope: str | int) -> _BatchNorm:
    if isinstance(norm, ScopedBatchNorm):
        norm.scope = scope
        return norm
    if scope == "local":
        return norm
    if type(norm).__name__ not in KINDS:
        raise UserError(f"batchnorm={scope} is not possible for {type(norm).__name__}: give batchnorm=local")
    return ScopedBatchNorm(norm, scope)


class ScopedBatchNorm(_BatchNorm):
    """BatchNorm over (B, C, ...) whose training statistics span `scope`, in place of `norm` and sharing its state."""

    def __init__(self, norm: _BatchNorm, scope: str | int):
        super().__init__(norm.num_features)
        vars(self).update(vars(norm))
        self.scope = scope

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, scope={self.scope}"

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.scope == "local" or (self.scope == "global" and world() == 1):
            x = super().forward(x)
        elif self.scope == "global":
            x = self._global(x)
        else:
            x = self._split(x, int(self.scope))
        for child in self.children():  # timm's drop and act
            x = child(x)
        return x

    def _check_input_dim(self, x: Tensor) -> None:
        if x.ndim < 2:
            raise ValueError(f"expected (B, C, ...), got {tuple(x.shape)}")

    def _rate(self) -> float:
        """The weight of this batch in the running statistics."""
        if self.num_batches_tracked is None:
            return 0.0
        self.num_batches_tracked.add_(1)
        return 1 / int(self.num_batches_tracked) if self.momentum is None else self.momentum

    def _global(self, x: Tensor) -> Tensor:
        rate = self._rate()
        if x.is_cuda:
            state = (self.weight, self.bias, self.running_mean, self.running_var)
            return cuda_sync_batch_norm.apply(x, *state, self.eps, rate, dist.group.WORLD, world())
        wide = x.to(torch.promote_types(x.dtype, torch.float32))  # statistics of bfloat16 would be coarse
        y, mean, var = _Normalize.apply(wide, self.eps)
        for running, now in ((self.running_mean, mean), (self.running_var, var)):
            if running is not None:
                running.lerp_(now.to(running.dtype), rate)
        if self.affine:
            y = y * _channels(self.weight, x) + _channels(self.bias, x)
        return y.to(x.dtype)

    def _split(self, x: Tensor, n: int) -> Tensor:
        b, c, *places = x.shape
        if b % n:
            raise UserError(
                f"batchnorm={n} needs a batch that divides into {n} groups, got {b}: change batch_size or micro_batch"
            )
        rate = self._rate()
        # Row j and channel g * C + c of the reshaped batch is item j * n + g: one group every C channels. A method
        # that encodes its views one after the other in one batch so keeps an item's views in one group.
        state = (self.running_mean, self.running_var, self.weight, self.bias)
        mean, var, weight, bias = (None if s is None else s.repeat(n) for s in state)  # (n * C,)
        y = batch_norm(x.reshape(b // n, n * c, *places), mean, var, weight, bias, True, rate, self.eps)
        for running, now in ((self.running_mean, mean), (self.running_var, var)):
            if running is not None and now is not None and rate:
                running.copy_(now.view(n, c).mean(0))
        return y.reshape(x.shape)


def _channels(values: Tensor, x: Tensor) -> Tensor:
    """(C,) -> (C, 1, ...), to be broadcast over x (B, C, ...)."""
    return values.view(-1, *[1] * (x.ndim - 2))


def _items(x: Tensor) -> list[int]:
    """All dimensions of (B, C, ...) but the channels."""
    return [d for d in range(x.ndim) if d != 1]


class _Normalize(torch.autograd.Function):
    """(x - mean) / sqrt(var + eps) over the items of all ranks; also that mean and the unbiased variance.

    The gradient is that of the sum of the ranks' losses, as for one process with all the items. torch's
    SyncBatchNorm does the same for CUDA alone.
    """

    @staticmethod
    def forward(ctx, x: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
        var, mean = torch.var_mean(x, _items(x), correction=0)  # (C,)
        count = mean.new_tensor([x.numel() / len(mean)])
        stats = gather(torch.cat([mean, var, count])[None])  # (W, 2 C + 1)
        means, variances, counts = stats.split((len(mean), len(mean), 1), dim=1)
        total = counts.sum()
        mean = (counts * means).sum(0) / total
        var = (counts * (variances + (means - mean).square())).sum(0) / total
        scale = (var + eps).rsqrt()
        y = (x - _channels(mean, x)) * _channels(scale, x)
        ctx.save_for_backward(y, scale, total)
        var = var * total / (total - 1)
        ctx.mark_non_differentiable(mean, var)
        return y, mean, var

    @staticmethod
    def backward(ctx, grad: Tensor, *_: Tensor) -> tuple[Tensor, None]:
        y, scale, total = ctx.saved_tensors
        sums = torch.cat([grad.sum(_items(y)), (grad * y).sum(_items(y))])  # (2 C,)
        dist.all_reduce(sums)
        a, b = (_channels(s, y) for s in (sums / total).chunk(2))
        return (grad - a - y * b) * _channels(scale, y), None
