"""Many processes that compute what one would: launch, gather with and without gradient, ShuffleBN.

Started by torchrun, every function speaks to all ranks; otherwise each is the identity. `gather_grad` has the
exact gradient: DDP averages the ranks' gradients, so a loss that is the mean over a rank's own rows against
the gathered columns of all ranks gives the gradient of the one-process loss.

A rank that comes `STEP` late to a step is taken for dead and ends the others. Only where rank 0 has work of its own
(measures, a report) do they wait longer, in `barrier` and `from_leader`.

ShuffleBN: He et al. 2020, arXiv:1911.05722.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.rendezvous import rendezvous
from torch.nn.parallel import DistributedDataParallel

STEP = timedelta(minutes=10)  # a rank this late in a step is dead
LEADER = timedelta(hours=12)  # rank 0 may measure for so long while the others wait

_hosts: Any = None  # a group of processes that speak through the CPU
_patient: Any = None  # the same, for what waits for rank 0
_alone = False


def rank() -> int:
    return dist.get_rank() if dist.is_initialized() and not _alone else 0


def world() -> int:
    return dist.get_world_size() if dist.is_initialized() and not _alone else 1


@contextmanager
def alone() -> Iterator[None]:
    """Let this rank compute something by itself, as if it were the only one."""
    global _alone
    before, _alone = _alone, True
    try:
        yield
    finally:
        _alone = before


@contextmanager
def launched(device: torch.device) -> Iterator[torch.device]:
    """Join the process group that torchrun describes in the environment; yield this rank's device."""
    if "RANK" not in os.environ or int(os.environ.get("WORLD_SIZE", "1")) == 1 or dist.is_initialized():
        yield device
        return
    settings: dict[str, Any] = {"backend": "gloo"}
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(device)
        settings = {"backend": "nccl", "device_id": device}
    store, place, size = next(rendezvous("env://", timeout=STEP))
    if os.environ.get("GROUP_WORLD_SIZE", "1") == "1":
        # torchrun keeps one store through its restarts, and gloo would wait for the addresses of the dead in it.
        store = dist.PrefixStore(f"start-{os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)}", store)
    dist.init_process_group(store=store, rank=place, world_size=size, timeout=STEP, **settings)
    global _hosts, _patient
    _hosts = dist.new_group(backend="gloo", timeout=STEP)
    _patient = dist.new_group(backend="gloo", timeout=LEADER)
    try:
        yield device
    finally:
        _hosts = _patient = None
        dist.destroy_process_group()


def counts(n: int) -> list[int]:
    """The rows of every rank, of which this one has n. The hosts ask each other, no GPU waits."""
    if world() == 1:
        return [n]
    rows = torch.empty(world(), dtype=torch.int64)
    dist.all_gather_into_tensor(rows, torch.tensor([n]), group=_hosts)
    return rows.tolist()


def share(rows: list[int]) -> float:
    """What this rank's mean over its own rows counts in the mean over ranks: 1 where all have as many rows."""
    return rows[rank()] * len(rows) / sum(rows)


def gather(x: Tensor) -> Tensor:
    """(B, ...) -> (N, ...), the rows of all ranks in rank order, without gradient. B may differ between ranks."""
    x = x.detach()
    return x if world() == 1 else _gathered(x, counts(len(x)))


def gather_grad(x: Tensor) -> Tensor:
    """`gather` through which gradients flow back to the rank that owns each row (summed over the ranks)."""
    return _Gather.apply(x, counts(len(x))) if world() > 1 else x


class _Gather(torch.autograd.Function):
    """All-gather forward, reduce-scatter backward: each rank gets the sum of its own rows and no more."""

    @staticmethod
    def forward(ctx, x: Tensor, rows: list[int]) -> Tensor:
        ctx.rows = rows
        return _gathered(x, rows)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None]:
        rows, most = ctx.rows, max(ctx.rows)
        parts = [_padded(part, most) for part in grad.split(rows)]
        return _reduced(torch.cat(parts), most)[: rows[rank()]], None


def _reduced(x: Tensor, rows: int) -> Tensor:
    """The sum over ranks of this rank's block of x, which has `rows` rows for each."""
    own = x.new_empty((rows, *x.shape[1:]))
    try:
        dist.reduce_scatter_tensor(own, x)
    except RuntimeError as error:  # an older gloo; it says so before anything is sent
        if "not support" not in str(error):
            raise
        dist.all_reduce(x)
        own = x[rank() * rows :][:rows]
    return own


def _gathered(x: Tensor, rows: list[int]) -> Tensor:
    most = max(rows)
    everyone = x.new_empty((most * len(rows), *x.shape[1:]))
    dist.all_gather_into_tensor(everyone, _padded(x, most).contiguous())
    if min(rows) == most:
        return everyone
    return torch.cat([part[:n] for part, n in zip(everyone.split(most), rows, strict=True)])


def _padded(x: Tensor, rows: int) -> Tensor:
    """(B, ...) -> (rows, ...), zeros below."""
    return x if len(x) == rows else torch.cat([x, x.new_zeros((rows - len(x), *x.shape[1:]))])


def mean(x: Tensor) -> Tensor:
    """The mean over ranks of a detached scalar, for logs."""
    if world() == 1:
        return x.detach()
    x = x.detach().clone()
    dist.all_reduce(x)
    return x / world()


def from_leader(value: Any) -> Any:
    """What rank 0 has, on all ranks, however long it takes."""
    if world() == 1:
        return value
    box = [value]
    dist.broadcast_object_list(box, src=0, group=_patient)
    return box[0]


def from_all(value: Any) -> list[Any]:
    """What every rank has, by rank, on all ranks, however long one takes."""
    if world() == 1:
        return [value]
    found: list[Any] = [None] * world()
    dist.all_gather_object(found, value, group=_patient)
    return found


def largest(number: int) -> int:
    """The largest of the ranks' numbers, so that all decide alike. The hosts ask each other, no GPU waits."""
    if world() == 1:
        return number
    vote = torch.tensor(number)
    dist.all_reduce(vote, op=dist.ReduceOp.MAX, group=_hosts)
    return int(vote)


def agreed(x: Tensor) -> Tensor:
    """Rank 0's random numbers, on all ranks."""
    if world() > 1:
        dist.broadcast(x, 0)
    return x


def total(count: Tensor) -> Tensor:
    """The sum of a number over the ranks."""
    if world() > 1:
        count = count.clone()
        dist.all_reduce(count)
    return count


def replicated(module: nn.Module, device: torch.device) -> Any:
    """The module with its gradients averaged over the ranks in backward; itself when alone.

    Buffers are left as they are: queues are equal on all ranks by themselves, BatchNorm has a scope of its own.
    """
    if world() == 1:
        return module
    known = inspect.signature(DistributedDataParallel.__init__).parameters
    sync = "forward_sync_buffers" if "forward_sync_buffers" in known else "broadcast_buffers"  # the new name since 2.13
    settings: dict[str, Any] = {sync: False, "device_ids": [device.index] if device.type == "cuda" else None}
    # Gradients live in the buckets that are sent: one copy of them, not two.
    return DistributedDataParallel(module, gradient_as_bucket_view=True, **settings)


def barrier() -> None:
    """Wait for all ranks, however long one takes."""
    if world() > 1:
        dist.barrier(group=_patient)


def shuffled(module: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """`module(x)` with the rows of all ranks dealt anew, and put back in place after it: ShuffleBN.

    A query and its key then never share the batch whose statistics BatchNorm takes, which would give the answer
    away (He et al. 2020, section 3.3). Where no statistics are shared it changes nothing. No gradient.
    """
    with torch.no_grad():
        everyone, begin = gather(x), sum(counts(len(x))[: rank()])
        own = slice(begin, begin + len(x))
        order = agreed(torch.randperm(len(everyone)).to(x.device, non_blocking=True))
        out = gather(module(everyone[order[own]]))
        return out[order.argsort()[own]]
