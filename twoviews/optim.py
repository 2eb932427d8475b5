"""Optimisers, schedules and rules for the learning rate.

An optimiser is a function (module, settings) -> torch optimiser, a schedule a function (step, steps) -> factor of
the base learning rate. Both are plain functions, so `functools.partial` sets them:

    Run(optimizer=partial(lars, lr=scaled_lr(0.3, 4096)), schedule=partial(cosine, warmup=0.1), ...)

LARS: You et al. 2017, arXiv:1708.03888.  Its use: Chen et al. 2020 (SimCLR), arXiv:2002.05709, section 2.2.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from .fsdp import local, norms

Tensors = list[Tensor] | tuple[Tensor, ...]


def param_groups(module: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Weights, which decay, and biases and norm parameters (at most one dimension), which neither decay nor adapt.

    Always these two groups, so a saved state fits. Frozen parameters are left out.
    """
    free = [p for p in module.parameters() if p.requires_grad]
    weights, rest = [p for p in free if p.ndim > 1], [p for p in free if p.ndim <= 1]
    return [
        {"params": weights, "weight_decay": weight_decay, "adapt": True},
        {"params": rest, "weight_decay": 0.0, "adapt": False},
    ]


def sgd(
    module: nn.Module,
    lr: float = 0.03,
    momentum: float = 0.9,
    weight_decay: float = 1e-4,
    nesterov: bool = False,
) -> torch.optim.SGD:
    """Stochastic gradient descent; the defaults are MoCo's for a batch of 256."""
    # Not fused: torch's fused SGD leaves its first momentum uninitialised when fp16 skips the first step.
    return torch.optim.SGD(param_groups(module, weight_decay), lr, momentum, nesterov=nesterov)


def adamw(
    module: nn.Module, lr: float = 1e-3, betas: tuple[float, float] = (0.9, 0.999), weight_decay: float = 0.05
) -> torch.optim.AdamW:
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019, arXiv:1711.05101)."""
    return torch.optim.AdamW(param_groups(module, weight_decay), lr, (betas[0], betas[1]), fused=_fused(module))


def bert_adam(
    module: nn.Module,
    lr: float = 1e-4,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-6,
    weight_decay: float = 0.01,
) -> torch.optim.AdamW:
    """BERT's own Adam: `adamw` whose means start at 0 and are not corrected for it; the defaults are BERT4Rec's.

    Devlin et al. 2019, arXiv:1810.04805, in their code AdamWeightDecayOptimizer.
    """
    fused = _fused(module)
    optimizer = torch.optim.AdamW(param_groups(module, weight_decay), lr, (betas[0], betas[1]), eps, fused=fused)
    for w in (w for group in optimizer.param_groups for w in group["params"]):
        late = torch.tensor(1e9, device=w.device if fused else "cpu")  # beta^step is 0: nothing to correct
        optimizer.state[w] = {"step": late, "exp_avg": torch.zeros_like(w), "exp_avg_sq": torch.zeros_like(w)}
    return optimizer


def lars(
    module: nn.Module, lr: float = 0.3, momentum: float = 0.9, weight_decay: float = 1e-6, trust: float = 0.001
) -> LARS:
    """`LARS`; the defaults are SimCLR's for a batch of 256."""
    return LARS(param_groups(module, weight_decay), lr, momentum, weight_decay, trust)


def _fused(module: nn.Module) -> bool | None:
    """One kernel for all parameters, where torch 2.4 has it; None leaves the choice to torch."""
    return all(p.device.type in ("cpu", "cuda") for p in module.parameters()) or None


class LARS(torch.optim.Optimizer):
    """Layer-wise adaptive rates for large batches:

        g <- g + weight_decay w
        r  = trust |w| / |g|      where both norms are above 0, else 1;  1 in groups with adapt=False
        v <- momentum v + lr r g
        w <- w - v

    As in SimCLR's code: the rate is inside v, as in the paper, and |g| includes the decay. Reads nothing back from
    the device.
    """

    def __init__(self, params: Any, lr: float, momentum: float = 0.9, weight_decay: float = 1e-6, trust: float = 0.001):
        defaults = {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "trust": trust, "adapt": True}
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            weights = [p for p in group["params"] if p.grad is not None]
            if weights:
                self._move(weights, group)
        return loss

    def _move(self, weights: list[Tensor], group: dict[str, Any]) -> None:
        for w in weights:
            if "velocity" not in self.state[w]:
                self.state[w]["velocity"] = torch.zeros_like(w)
        velocities = local(self.state[w]["velocity"] for w in weights)
        grads: Tensors = [w.grad for w in weights if w.grad is not None]
        if group["weight_decay"]:
            grads = torch._foreach_add(grads, weights, alpha=group["weight_decay"])
        ratios = _ratios(weights, grads, group["trust"]) if group["adapt"] else None  # of whole weights
        weights, grads = local(weights), local(grads)
        torch._foreach_mul_(velocities, group["momentum"])
        if ratios:
            torch._foreach_addcmul_(velocities, grads, ratios, value=group["lr"])
        else:
            torch._foreach_add_(velocities, grads, alpha=group["lr"])
        torch._foreach_sub_(weights, velocities)


def _ratios(weights: Tensors, grads: Tensors, trust: float) -> list[Tensor]:
    w, g = norms(weights), norms(grads)
    return list(torch.where((w > 0) & (g > 0), trust * w / g, 1.0).unbind())


def constant(step: int, steps: int, warmup: float = 0.0) -> float:
    """1 after the warm-up (see `cosine`)."""
    return _warm(step, steps, warmup)


def cosine(step: int, steps: int, warmup: float = 0.0, final: float = 0.0) -> float:
    """A linear warm-up, then half a cosine: 1 at the end of the warm-up, `final` at `steps`, one past the last step.

    warmup: steps, or below 1 a share of all. The line starts at 0 one step before the first: step s of w has the
            factor (s + 1) / (w + 1), step w is the first with 1.
    """
    start = _warmup_steps(steps, warmup)
    if step < start:
        return _warm(step, steps, warmup)
    done = min((step - start) / max(steps - start, 1), 1.0)
    return final + (1 - final) * (1 + math.cos(math.pi * done)) / 2


def linear(step: int, steps: int, warmup: float = 0.0) -> float:
    """BERT's: step s of a warm-up of w has the factor s / w, the first 0; later ones 1 - s / steps, 0 at `steps`.

    warmup: steps, or below 1 a share of all.
    """
    start = _warmup_steps(steps, warmup)
    return step / start if step < start else max(1 - step / max(steps, 1), 0.0)


def multistep(
    step: int, steps: int, at: Sequence[float] = (0.6, 0.8), gamma: float = 0.1, warmup: float = 0.0
) -> float:
    """1 after the warm-up (see `cosine`), times `gamma` from each of the shares `at` of all steps on.

    The defaults are MoCo's: a tenth at epochs 120 and 160 of 200.
    """
    drops = sum(step >= round(share * steps) for share in at)
    return _warm(step, steps, warmup) * gamma**drops


def _warmup_steps(steps: int, warmup: float) -> int:
    return round(warmup * steps if warmup < 1 else warmup)


def _warm(step: int, steps: int, warmup: float) -> float:
    return min((step + 1) / (_warmup_steps(steps, warmup) + 1), 1.0)


def scaled_lr(lr: float, batch_size: int, base: int = 256) -> float:
    """The linear rule: `lr` is meant for a batch of `base` (Goyal et al. 2017, arXiv:1706.02677)."""
    return lr * batch_size / base


def sqrt_scaled_lr(lr: float, batch_size: int) -> float:
    """SimCLR's square-root rule, lr * sqrt(batch_size), with lr = 0.075 (appendix B.1)."""
    return lr * math.sqrt(batch_size)


OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "sgd": sgd,
    "adamw": adamw,
    "bert_adam": bert_adam,
    "lars": lars,
}
SCHEDULES: dict[str, Callable[..., float]] = {
    "constant": constant,
    "cosine": cosine,
    "linear": linear,
    "multistep": multistep,
}
