"""The training loop, the only one: plain torch.

`batches` gives micro-batches of views, `method` gives a loss, and nothing here knows what the views show. Every
step seeds the random generators from (seed, step, rank), so there is no generator state to lose: a run that was
interrupted and one that was not are equal bit for bit.
"""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import Any, Protocol

import torch

from . import checkpoint, diagnostics, dist, fsdp
from .errors import TrainingError, UserError
from .log import Log
from .malloc import kept
from .recompute import lean
from .types import Batch, Method, Out

CHECKPOINT_SECONDS = 20.0  # write one this often, but never spend more than a twentieth of the time on it
GO, SAVE, STOP = range(3)  # what a rank wishes after a step; all do what the largest says
LOOK = 20  # steps between two looks at the embeddings; a look costs less than a tenth of a step
MEND = ": lower the learning rate, raise the temperature or use precision=fp32, in a new folder or with --fresh"
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class Batches(Protocol):
    steps: int  # optimizer steps an epoch
    accumulate: int  # micro-batches a step

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]: ...


class Interrupted(Exception):
    """Ctrl-C or SIGTERM: a checkpoint is written and the run can go on."""

    def __init__(self, step: int, signum: int):
        super().__init__(f"stopped at step {step}")
        self.step, self.signum = step, signum


class Stopped(TrainingError):
    """`stop` gave a reason: a checkpoint is written and the run can go on."""


def train(
    method: Method,
    batches: Batches,
    optimizer: torch.optim.Optimizer,
    schedule: Callable[[int, int], float],
    *,
    epochs: int,
    device: torch.device,
    precision: str = "fp32",
    clip: float | None = None,
    micro_batch: int | None = None,
    recompute: bool = False,
    seed: int = 0,
    folder: Path | None = None,
    log: Log | None = None,
    every_epoch: Callable[[int], dict[str, Any]] | None = None,
    stop: Callable[[], str | None] | None = None,
    before_save: Callable[[], None] | None = None,
) -> int:
    """Train `method` in place, going on from the last checkpoint in `folder`. Returns the steps done.

    schedule:    (step, steps) -> factor of each group's learning rate.
    clip:        largest gradient norm over all parameters; None: no clipping.
    micro_batch: rows that the encoder reads at once, the loss still seeing all; recompute: its blocks too (`lean`).
    every_epoch: called on all ranks with the number of epochs done; what it returns on rank 0 is logged.
    stop:        asked after each step on rank 0; a reason ends the training.
    before_save: called on all ranks ahead of each checkpoint.
    Raises TrainingError on a loss that is not finite (names the step), Stopped with the reason that `stop` gave,
    Interrupted on a signal, UserError on a precision that is unknown.
    """
    if precision not in DTYPES:
        raise UserError(f"precision must be one of {', '.join(DTYPES)}, got '{precision}'")
    log = log or Log(quiet=True)
    total = epochs * batches.steps
    base_lr = [group["lr"] for group in optimizer.param_groups]
    scaler = torch.amp.GradScaler(device.type, enabled=precision == "fp16")
    parameters: list[torch.Tensor] = [p for p in method.parameters() if p.requires_grad]
    step = begin = _resume(folder, method, optimizer, scaler, total, log)

    model: Any = method if fsdp.is_sharded(method) else dist.replicated(method, device)
    method.train()

    def save() -> None:
        if dist.rank() == 0:
            meter.raise_if_bad()
        if before_save:
            before_save()
        if folder and (dist.rank() == 0 or fsdp.is_sharded(method)):  # whose ranks each have a part to give
            if not fsdp.norms(parameters).isfinite().all():
                raise TrainingError(f"weights are not finite after step {step}{MEND}")
            state = {"step": step, "optimizer": optimizer.state_dict(), "scaler": scaler.state_dict()}
            checkpoint.save(folder, step, method, state)

    due = time.monotonic() + CHECKPOINT_SECONDS
    meter = Meter(device, log, step, total)
    memory = kept() if device.type == "cpu" else nullcontext()
    with memory, signals() as caught, log.progress("training", total, step) as bar, ExitStack() as done:
        while step < total:
            stream = meter.timed(batches.epoch(step // batches.steps, start=step % batches.steps))
            done.callback(stream.close)  # on an error too, whose traceback would keep the readers alive
            for _ in range(step % batches.steps, batches.steps):
                torch.manual_seed(((seed * 1_000_003 + step) * 65_537 + dist.rank()) % 2**63)
                for group, lr in zip(optimizer.param_groups, base_lr, strict=True):
                    group["lr"] = lr * schedule(step, total)
                look = Look(parameters) if meter.looks(step + 1) else None
                for micro in range(batches.accumulate):
                    batch = next(stream)
                    last = micro == batches.accumulate - 1
                    whole = nullcontext() if last or model is method else model.no_sync()
                    with lean(method, micro_batch, recompute), whole:
                        with torch.autocast(device.type, DTYPES[precision], enabled=precision != "fp32"):
                            out = model(batch)
                        scaler.scale(out.loss / batches.accumulate).backward()
                    if look and last:  # before the keys of this batch overwrite the negatives they were compared with
                        look.at_gradients(out, batch, scaler.get_scale())
                    method.after_batch(out)
                    meter.add(step + 1, out.loss, out.logs, len(batch.ids))
                if clip is not None:
                    scaler.unscale_(optimizer)
                    torch.nn.utils.clip_grad_norm_(parameters, clip)
                scaler.step(optimizer)
                scaler.update()
                optimizer.zero_grad(set_to_none=True)
                method.after_step()
                step += 1
                meter.report(step, optimizer.param_groups[0]["lr"], bar, look.numbers() if look else {})

                epoch, rest = divmod(step, batches.steps)
                if every_epoch and not rest:
                    if values := every_epoch(epoch):
                        log.metrics(step, values)  # ahead of this step's checkpoint: once, wherever it is interrupted
                    method.train()
                    dist.barrier()  # rank 0 may have measured for long
                reason = stop() if stop and dist.rank() == 0 else None
                due_now = dist.rank() == 0 and time.monotonic() > due  # rank 0 knows how long a checkpoint takes
                wish = dist.largest(STOP if caught or reason is not None else SAVE if due_now else GO)
                if wish == STOP:
                    save()
                    reason = dist.from_leader(reason)  # and nobody leaves before the checkpoint is written
                    if reason is not None:
                        raise Stopped(f"stopped at step {step:,} of {total:,}, for the run is ill: {reason}")
                    raise Interrupted(step, caught[0] if caught else signal.SIGTERM)
                if wish == SAVE:
                    begun = time.monotonic()
                    save()
                    due = time.monotonic() + max(CHECKPOINT_SECONDS, 20 * (time.monotonic() - begun))
            done.close()  # the readers of this epoch go before those of the next come
        if step > begin:
            save()
    return step


def _resume(folder: Path | None, method, optimizer, scaler, total: int, log: Log) -> int:
    found = checkpoint.steps(folder) if folder else []
    if not found:
        log.forget_after(0)
        return 0
    state = checkpoint.load(found[-1], method)
    checkpoint.load_optimizer(optimizer, state["optimizer"])
    scaler.load_state_dict(state["scaler"])
    log.forget_after(state["step"])
    log.say(f"going on from step {state['step']} of {total}")
    return state["step"]


class Meter:
    """Loss, rate and the share of time spent waiting for data, without waiting for the device at every step."""

    def __init__(self, device: torch.device, log: Log, step: int, total: int):
        self.log, self.total = log, total
        self.every = 1 if device.type == "cpu" else 20  # reading a number from a GPU waits for it
        self.first_bad = torch.full((), math.inf, device=device)
        self.loss = torch.zeros((), device=device)
        self.logs: dict[str, torch.Tensor] = {}
        self.items = self.count = 0
        self.waited = 0.0
        self.begun = time.monotonic()

    def looks(self, step: int) -> bool:
        """Whether to look at the embeddings: at steps 1, 2, 4 ... 16 and every 20th, more in a short run.

        The same on all ranks, for `report` follows, where they meet.
        """
        every = max(1, min(LOOK, self.total // 50))
        early = step < every and step & (step - 1) == 0
        return step % every == 0 or early or step == self.total

    def timed(self, batches: Iterator[Batch]) -> Generator[Batch, None, None]:
        while True:
            begun = time.monotonic()
            batch = next(batches, None)
            self.waited += time.monotonic() - begun
            if batch is None:
                return
            yield batch

    def add(self, step: int, loss: torch.Tensor, logs: dict[str, torch.Tensor], items: int) -> None:
        loss = loss.detach().float()
        self.first_bad = torch.where(loss.isfinite(), self.first_bad, self.first_bad.clamp(max=step))
        self.loss = self.loss + loss
        for name, value in logs.items():
            self.logs[name] = self.logs.get(name, 0) + value.detach()
        self.count += 1
        self.items += items * dist.world()

    def raise_if_bad(self) -> None:
        if self.first_bad.isfinite():
            self.log.metrics(int(self.first_bad), {"not_finite": int(self.first_bad)})
            raise TrainingError(f"the loss is not finite at step {int(self.first_bad)}{MEND}")

    def report(self, step: int, lr: float, bar: Callable[..., None], seen: dict[str, float]) -> None:
        if step % self.every and step != self.total and not seen:
            return
        seconds = max(time.monotonic() - self.begun, 1e-9)
        sums = torch.stack([value.double() for value in (self.loss, *self.logs.values())])
        loss, *logs = (value / self.count for value in dist.mean(sums).tolist())  # read back once
        if not math.isfinite(loss):  # on whichever rank: all stop here
            self.first_bad = self.first_bad.clamp(max=step)
        self.raise_if_bad()
        rate, wait = self.items / seconds, self.waited / seconds
        values = {"loss": loss, "lr": lr, "items_per_second": round(rate, 1), "data_wait": round(wait, 4)}
        values |= dict(zip(self.logs, logs, strict=True))
        self.log.metrics(step, values | seen)
        bar(step, note=f"loss {loss:.3f}  {rate:,.0f} items/s  data wait {wait:.0%}")
        self.loss = torch.zeros_like(self.loss)
        self.logs, self.items, self.count, self.waited = {}, 0, 0, 0.0
        self.begun = time.monotonic()


class Look:
    """One step seen closely: the embeddings, the norm of the gradient, how far the weights move."""

    def __init__(self, parameters: list[torch.Tensor]):
        self.parameters = parameters
        self.before = [p.detach().clone() for p in parameters]
        self.seen: dict[str, torch.Tensor] = {}

    def at_gradients(self, out: Out, batch: Batch, scale: float) -> None:
        """After the last backward of the step. scale: what fp16 multiplies the loss with."""
        self.seen = diagnostics.observe(out, batch.labels)
        self.seen["gradient"] = _norm([p.grad for p in self.parameters if p.grad is not None]) / scale

    def numbers(self) -> dict[str, float]:
        """After the step. `update` is the length of the step over that of the weights."""
        after = [p.detach() for p in self.parameters]
        self.seen["update"] = _norm(torch._foreach_sub(after, self.before)) / _norm(self.before)
        values = torch.stack([v.double() for v in self.seen.values()]).tolist()  # the device is waited for once
        return {name: float(f"{value:.6g}") for name, value in zip(self.seen, values, strict=True)}


def _norm(tensors: list[torch.Tensor] | tuple[torch.Tensor, ...]) -> torch.Tensor:
    return fsdp.norms(tensors).norm()


@contextmanager
def signals() -> Iterator[list[int]]:
    """The signals that ask to stop, noted instead of raised; a second Ctrl-C stops at once."""
    caught: list[int] = []

    def note(signum: int, frame: Any) -> None:
        if caught and signum == signal.SIGINT:
            raise KeyboardInterrupt
        caught.append(signum)

    try:
        before = {s: signal.signal(s, note) for s in (signal.SIGINT, signal.SIGTERM)}
    except ValueError:  # not in the main thread: nobody can send it a signal
        yield caught
        return
    try:
        yield caught
    finally:
        for s, handler in before.items():
            signal.signal(s, handler)
