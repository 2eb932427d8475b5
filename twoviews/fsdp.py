"""Weights of which each process holds a part (FSDP2), and what must know of it: norms, saving, loading.

A sharded tensor (a DTensor) acts like the whole one in most of torch. What is here takes plain tensors too and then
does nothing, so that the loop, LARS and checkpoints are written once.

Zhao et al. 2023, arXiv:2304.11277.  Rajbhandari et al. 2020 (ZeRO), arXiv:1910.02054.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from .dist import rank, world
from .errors import UserError
from .types import Out


def sharded(module: nn.Module, blocks: Sequence[nn.Module], device: torch.device) -> nn.Module:
    """The module with each weight cut along its first dimension, a part for each rank, and so its gradients.

    blocks: parts of it that are put together when they are used and forgotten after; the rest stays whole from
            forward to the end of backward.
    In place: build the optimizer later. Raises UserError when there is one process, or where torch lacks it.
    """
    if world() == 1:
        raise UserError(
            "shard=True spreads weights over processes and there is one: start with torchrun, or shard=False"
        )
    try:
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard
    except ImportError:
        raise UserError(f"shard=True needs FSDP2, which torch {torch.__version__} lacks: give shard=False") from None
    # Nothing here writes into what a module returns, which is what torch then warns of.
    warnings.filterwarnings("ignore", message="FSDP2-wrapped module .* returned a view")
    _open()
    mesh = init_device_mesh(device.type, (world(),))
    for block in blocks:
        fully_shard(block, mesh=mesh)
    fully_shard(module, mesh=mesh)
    return module


@cache
def _open() -> None:
    """Let torch find the tensors in an `Out`, whose gradient sets off its work; older ones look into no dataclass."""
    from torch.export import register_dataclass

    register_dataclass(Out)


def is_sharded(module: nn.Module) -> bool:
    return any(hasattr(p, "full_tensor") for p in module.parameters())


def whole(value: Any) -> Any:
    """`value` with its sharded tensors put together on rank 0's CPU; all ranks must ask. Goes into dicts and lists."""
    if isinstance(value, dict):
        return {k: whole(v) for k, v in value.items()}
    if isinstance(value, list):
        return [whole(v) for v in value]
    if not hasattr(value, "full_tensor"):
        return value
    full = value.detach().full_tensor()
    return full.cpu() if rank() == 0 else full.new_empty(0)  # the others have neither room nor use for all of it


def cut(value: Tensor, like: Any) -> Tensor:
    """This rank's part of a whole tensor where `like` is a sharded one, else the tensor itself. All ranks must ask."""
    if not hasattr(like, "full_tensor"):
        return value
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(value.to(like.device), like.device_mesh, like.placements)


def local(tensors: Iterable[Tensor]) -> list[Tensor]:
    """What this rank holds of each tensor, in the same memory."""
    return [t.to_local() if hasattr(t, "to_local") else t for t in tensors]


def norms(tensors: list[Tensor] | tuple[Tensor, ...]) -> Tensor:
    """(n,) the lengths of n whole tensors. All ranks must ask."""
    found = torch.stack(torch._foreach_norm(tensors))
    return found.full_tensor() if hasattr(found, "full_tensor") else found
