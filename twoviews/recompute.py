"""Memory for time: activations are thrown away after forward and made again for backward.

    micro_batch   the encoder reads a batch in parts; a part's activations live only while its own backward runs
    blocks        the encoder keeps what goes into each of its blocks, and not what is inside them

With `micro_batch` the loss still sees the embeddings of the whole batch, so negatives and gradient are those of the
whole batch, while memory is that of one part: GradCache (Gao et al. 2021, arXiv:2101.06983) as a property of the
encoder, so that no method knows of it. Blocks: Chen et al. 2016, arXiv:1604.06174. Both cost one more forward.

A BatchNorm in the encoder takes its statistics over each part, as if the part were on a device of its own; its running
statistics move once per part, in forward and not again when the part is recomputed. Heads see the whole batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import fields
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from .ema import EMA
from .errors import UserError
from .types import Method, Places


@contextmanager
def lean(method: Method, micro_batch: int | None = None, blocks: bool = False) -> Iterator[None]:
    """Let `method` need less memory inside the context.

    micro_batch: rows that its encoder (and slow copies of it) reads at once; None: all.
    blocks:      recompute the encoder's blocks.
    Raises UserError on fewer than two rows, or an encoder without blocks; inside, where one changes its input in place.
    """
    if micro_batch is None and not blocks:
        yield
        return
    if micro_batch is not None and micro_batch < 2:
        raise UserError(f"micro_batch must be 2 or more rows, or None for whole batches, got {micro_batch}")
    encoder = method.encoder
    again = blocks_of(encoder) if blocks else []
    if blocks and not again:
        name = type(encoder).__name__
        raise UserError(
            f"recompute=True needs an encoder made of blocks, and {name} has none: leave it out, or give another"
        )
    copies = [m for ema in method.modules() if isinstance(ema, EMA) for m in ema.modules_ if type(m) is type(encoder)]
    changed = {(m, "forward"): partial(_forgotten, m, m.forward) for m in again}
    if micro_batch:
        reads = [(m, name) for m in (encoder, *copies) for name in ("forward", "places", "visible") if hasattr(m, name)]
        changed |= {(m, name): partial(_in_parts, m, getattr(m, name), micro_batch) for m, name in reads}
    before = [vars(m).get(name) for m, name in changed]  # an encoder of one's own may have a forward of its own
    for (module, name), function in changed.items():  # partials, not closures: a deep copy is bound to its own modules
        setattr(module, name, function)
    try:
        yield
    finally:
        for (module, name), own in zip(changed, before, strict=True):
            delattr(module, name)
            if own is not None:
                setattr(module, name, own)


def blocks_of(encoder: nn.Module) -> list[nn.Module]:
    """What the outermost Sequentials and ModuleLists of an encoder hold, single layers left out."""
    found: list[nn.Module] = []
    for child in encoder.children():
        parts = [part for part in child.children() if any(part.children())]
        found += parts if parts and isinstance(child, (nn.Sequential, nn.ModuleList)) else blocks_of(child)
    return found


def _in_parts(module: nn.Module, forward: Callable[..., Any], rows: int, *given: Tensor) -> Any:
    """forward(*given) with at most `rows` rows of each at a time, in parts of one size as far as they divide."""
    count = -(-len(given[0]) // rows)
    if count == 1:
        return forward(*given)
    parts = zip(*(x.tensor_split(count) for x in given), strict=True)
    found = [_forgotten(module, forward, *part) for part in parts]
    if isinstance(found[0], Places):
        return Places(*(torch.cat([getattr(part, f.name) for part in found]) for f in fields(Places)))
    return torch.cat(found)


def _forgotten(module: nn.Module, forward: Callable[..., Any], /, *args: Any, **more: Any) -> Any:
    """forward(*args, **more), whose activations backward makes anew, with the same random numbers."""
    if not torch.is_grad_enabled():
        return forward(*args, **more)
    # Not reentrant: a parameter then gets one gradient, the sum over the parts, which DDP needs.
    contexts = partial(_contexts, module)
    given = [x for x in (*args, *more.values()) if isinstance(x, Tensor)]
    before = [x._version for x in given]
    out = checkpoint(forward, *args, use_reentrant=False, context_fn=contexts, **more)
    if [x._version for x in given] != before:  # one checkpoint inside another would not notice
        raise UserError(
            f"{type(module).__name__} changes its input in place and so cannot be computed again: "
            "let it change a copy, or leave micro_batch and recompute out"
        )
    return out


def _contexts(module: nn.Module) -> tuple[nullcontext[None], _Still]:
    return nullcontext(), _Still(module.modules())


class _Still:
    """BatchNorm's running statistics do not move: they have seen this batch."""

    def __init__(self, modules: Iterable[nn.Module]):
        self.norms = [m for m in modules if isinstance(m, _BatchNorm) and m.training]
        self.before = [(norm.momentum, norm.num_batches_tracked) for norm in self.norms]

    def __enter__(self) -> None:
        for norm in self.norms:  # at a rate of 0, and uncounted
            norm.momentum, norm.num_batches_tracked = 0.0, None

    def __exit__(self, *_: object) -> None:
        for norm, before in zip(self.norms, self.before, strict=True):
            norm.momentum, norm.num_batches_tracked = before
