"""The attentive probe: one learned query looks at all tokens of a clip, and a linear layer tells the class.

    a = softmax over tokens of (q_k . x_n),  logits = W [sum_n a_1n x_n, ..., sum_n a_Kn x_n] + b

with K heads of attention; the projections of keys and values are folded into q and W, which are as general. Several
step sizes and weight decays are trained at once, as V-JEPA 2 does (Assran et al. 2025, arXiv:2506.09985), and the best
on items held out of train is used.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from ..errors import UserError
from .split import holdout

GRID = tuple((lr, wd) for lr in (1e-3, 3e-3, 1e-2) for wd in (0.01, 1.0))
HEADS, BATCH, STEPS, BLOCK = 4, 64, 400, 256


class Heads(nn.Module):
    """One probe for each of the grid, side by side: (B, N, D) -> (G, B, classes)."""

    def __init__(self, dim: int, classes: int, count: int, generator: torch.Generator):
        super().__init__()
        draw = [torch.randn(HEADS, dim, generator=generator) * dim**-0.5 for _ in range(count)]
        self.query = nn.ParameterList(draw)
        self.weight = nn.ParameterList(torch.zeros(classes, HEADS, dim) for _ in range(count))
        self.bias = nn.ParameterList(torch.zeros(classes) for _ in range(count))

    def forward(self, x: Tensor) -> Tensor:
        query, weight, bias = (torch.stack(list(p)) for p in (self.query, self.weight, self.bias))
        a = torch.einsum("bnd,gkd->gbkn", x, query).softmax(-1)
        pooled = torch.einsum("gbkn,bnd->gbkd", a, x)
        return torch.einsum("gbkd,gckd->gbc", pooled, weight) + bias[:, None]


def attentive(
    x: Tensor,
    y: Tensor,
    tests: Sequence[Tensor],
    *,
    seed: int = 0,
    steps: int = STEPS,
    device: torch.device | str = "cpu",
) -> tuple[list[Tensor], dict[str, float]]:
    """The class (M,) of every item of each of `tests`, (M, N, D) tokens, and how the probe was chosen.

    x: (N items, N tokens, D) to learn from, y: (N items,) from 0. A fifth of them, of every class alike, chooses among
    the grid. Raises UserError when there are too few to hold out, or tokens are not finite.
    """
    if not all(bool(t.isfinite().all()) for t in (x, *tests)):
        raise UserError("tokens are not finite: the encoder has diverged; train again with a lower learning rate")
    fit, validation = (torch.from_numpy(rows) for rows in holdout(y, 0.2, seed))
    flat = x[fit].float().flatten(0, 1)
    mean, scale = flat.mean(0).to(device), flat.std(0).clamp(min=1e-6).to(device)
    generator = torch.Generator().manual_seed(seed)
    heads = Heads(x.shape[2], int(y.max()) + 1, len(GRID), generator).to(device)
    groups = [
        {"params": [heads.query[i], heads.weight[i], heads.bias[i]], "lr": lr, "weight_decay": wd}
        for i, (lr, wd) in enumerate(GRID)
    ]
    optimizer = torch.optim.AdamW(groups)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    y = y.cpu()
    for _ in range(steps):
        rows = fit[torch.randint(len(fit), (min(BATCH, len(fit)),), generator=generator)]
        logits = heads((x[rows].to(device).float() - mean) / scale)  # (G, B, classes)
        target = y[rows].to(device).expand(len(GRID), -1)
        loss = cross_entropy(logits.flatten(0, 1), target.flatten()) * len(GRID)  # as if each were trained alone
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()

    @torch.no_grad()
    def told(tokens: Tensor) -> Tensor:
        blocks = [heads((b.to(device).float() - mean) / scale).argmax(-1).cpu() for b in tokens.split(BLOCK)]
        return torch.cat(blocks, 1)  # (G, M)

    right = (told(x[validation]) == y[validation]).float().mean(1)
    best = int(right.argmax())
    detail = {"lr": GRID[best][0], "weight_decay": GRID[best][1], "validation": float(right[best])}
    return [told(test)[best] for test in tests], detail
