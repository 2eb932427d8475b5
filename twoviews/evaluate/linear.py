"""The linear probe: multinomial logistic regression on cached, standardised features.

    min over W, b of  sum over train items of -log softmax(W x + b)[y]  +  strength / 2 |W|^2

The strength is chosen on a part of the train set, the model refitted on all of it, and the test set read once.
It is the 1/C of scikit-learn (with two classes its 2/C, since here both classes have weights).

Solved by full-batch L-BFGS in coordinates where the features are uncorrelated and the curvature is about 1 (after
the bound on the Hessian of Boehning 1992), so that the number of steps hardly depends on the features.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import nll_loss, one_hot

from ..errors import UserError
from ..types import Features
from .score import Score, score
from .split import holdout, labelled

STRENGTHS = tuple(10.0**e for e in range(5, -2, -1))
SELECT = 10_000  # train items the strength is chosen on: its best value does not grow with their number
BLOCK = 2**24  # numbers computed at once


def linear(
    train: Features,
    test: Features,
    strengths: Sequence[float] = STRENGTHS,
    share: float = 0.2,
    seed: int = 0,
) -> Score:
    """Accuracy on `test` of a linear classifier fitted to `train`, on the device of train.h.

    strengths: L2 penalties to choose from by the accuracy on `share` of the train items, held out of every class
        alike, when the others, or 10,000 of them, are fitted. With a single strength nothing is chosen.
    With more than ten classes detail["top5"] is the share of test items whose class is among the five likeliest.
    Items labelled -1 are left out; a test item of a class that train lacks counts as wrong.
    Raises UserError when there are too few labelled items to hold any out.
    """
    data = labelled(train, test)
    model, detail = choose(data.x, data.y, data.classes, strengths, share, seed)
    hits = _hits(model, data.t, data.u)
    if data.classes > 10:
        detail["top5"] = sum(hits) / len(data.t)
    return score(hits[0], len(data.t), **detail)


@dataclass(frozen=True)
class Logistic:
    """logits = ((x - mean) / scale) weight' + bias."""

    mean: Tensor  # (D,)
    scale: Tensor  # (D,)
    weight: Tensor  # (classes, D)
    bias: Tensor  # (classes,)
    loss: float  # the objective at its minimum, divided by the number of train items

    def __call__(self, x: Tensor) -> Tensor:
        """(B, D) -> (B, classes)."""
        x = x.to(self.mean.device).float().sub(self.mean).div_(self.scale)
        return torch.addmm(self.bias, x, self.weight.T)


def choose(
    x: Tensor,
    y: Tensor,
    classes: int,
    strengths: Sequence[float] = STRENGTHS,
    share: float = 0.2,
    seed: int = 0,
) -> tuple[Logistic, dict[str, Any]]:
    """The model of all of x (N, D), y (N,) at the strength best on a held-out part, and how that was found."""
    if not strengths or min(strengths) <= 0:
        raise UserError(f"the strengths of the linear probe must be above 0, got {list(strengths)}")
    strengths = sorted(strengths, reverse=True)
    best, found = strengths[0], {}
    if len(strengths) > 1:
        fit, validation = holdout(y, share, seed)
        if len(fit) > SELECT:
            fit = fit[holdout(y.cpu()[fit], SELECT / len(fit), seed)[1]]
        models = path(*_at(x, y, fit), classes, strengths)
        v, w = _at(x, y, validation)
        tried = [(strength, _hits(model, v, w)[0] / len(v)) for strength, model in zip(strengths, models, strict=True)]
        best, accuracy = max(tried, key=lambda pair: pair[1])  # of equals the first, the strongest
        found = {"validation": accuracy, "selected_on": len(fit), "tried": [list(pair) for pair in tried]}
    model = next(path(x, y, classes, [best]))
    return model, {"strength": best, "train": len(x), "classes": classes, **found}


def path(x: Tensor, y: Tensor, classes: int, strengths: Sequence[float]) -> Iterator[Logistic]:
    """The minimum at each strength, each begun from the one before (from strong to weak is quickest)."""
    mean, scale = _statistics(x)
    x = x.float().sub(mean).div_(scale)
    if len(x) < x.shape[1]:  # the minimum lies in the span of the items
        _, values, rows = torch.linalg.svd(x, full_matrices=False)
        spectrum, basis = values.square(), rows.T  # (N,), (D, N)
    else:
        spectrum, basis = torch.linalg.eigh(x.T @ x)  # (D,), (D, D)
    x = x @ basis
    weight, bias = x.new_zeros(classes, x.shape[1]), x.new_zeros(classes)
    for strength in strengths:
        step = (len(x) / (spectrum.clamp(min=0) / 4 + strength)).sqrt()  # (D,): unit curvature where p = 1/2
        weight, bias, loss = _minimise(x, y, weight, bias, strength, step)
        yield Logistic(mean, scale, weight @ basis.T, bias, loss)


def _minimise(
    x: Tensor, y: Tensor, weight: Tensor, bias: Tensor, strength: float, step: Tensor
) -> tuple[Tensor, Tensor, float]:
    n, classes = len(x), len(bias)
    rows = max(1, BLOCK // classes)
    v = torch.cat([weight / step, bias[:, None]], 1).requires_grad_()  # (classes, D + 1)

    @torch.no_grad()
    def objective() -> float:
        w, b = v[:, :-1] * step, v[:, -1]
        loss = strength / 2 * w.double().square().sum()
        slope, offset = strength * w, torch.zeros_like(b)
        for block, target in zip(x.split(rows), y.split(rows), strict=True):
            log_p = torch.addmm(b, block, w.T).log_softmax(1)  # (B, classes)
            loss += nll_loss(log_p.double(), target, reduction="sum")
            residual = log_p.exp_().sub_(one_hot(target, classes))
            slope.addmm_(residual.T, block)
            offset += residual.sum(0)
        v.grad = torch.cat([slope * step, offset[:, None]], 1) / n
        return float(loss) / n

    optimizer = torch.optim.LBFGS(
        [v], max_iter=500, tolerance_grad=1e-5, tolerance_change=1e-10, line_search_fn="strong_wolfe"
    )
    optimizer.step(objective)
    loss = objective()
    return v.detach()[:, :-1] * step, v.detach()[:, -1], loss


def _statistics(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation (D,), in float64; a constant dimension gets 1, to become 0 and not noise."""
    total = x.new_zeros(x.shape[1], dtype=torch.float64)
    squares = total.clone()
    shift = x[0].double()  # near the mean, so that the squares lose nothing
    for block in x.split(4096):
        block = block.double() - shift
        total += block.sum(0)
        squares += block.square().sum(0)
    mean = total / len(x)
    std = (squares / len(x) - mean.square()).clamp(min=0).sqrt()
    mean = mean + shift
    constant = std <= 1e-6 * mean.abs()  # no more than float32 rounds away
    return mean.float(), torch.where(constant, 1.0, std).float()


def _at(x: Tensor, y: Tensor, index: np.ndarray) -> tuple[Tensor, Tensor]:
    rows = torch.from_numpy(index).to(x.device)
    return x[rows], y[rows]


def _hits(model: Logistic, x: Tensor, y: Tensor) -> list[int]:
    """How many items have their class at the first, second ... fifth place of the model."""
    top, rows = min(5, len(model.bias)), max(1, BLOCK // max(model.weight.shape))
    hits = torch.zeros(top, dtype=torch.int64, device=model.bias.device)
    for a, b in zip(x.split(rows), y.split(rows), strict=True):
        hits += (model(a).topk(top, dim=1).indices == b.to(hits.device)[:, None]).sum(0)
    return hits.tolist()
