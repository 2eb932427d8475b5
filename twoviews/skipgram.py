"""The engine of skip-gram: blocks of a stream, each trained by compiled kernels on a thread, or batched on a GPU.

A step is one block. Its learning rate is a function of the step, its random numbers of (seed, epoch, block): with one
thread a run that was interrupted and one that was not are equal bit for bit. More threads write to the same tables
without locks (Hogwild, Recht et al. 2011, arXiv:1106.5730), so their runs differ in the last places.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from . import checkpoint
from .data.loader import cores
from .data.room import free_memory
from .errors import TrainingError, UserError
from .log import Log
from .methods.word2vec import SkipGram
from .objectives.skipgram import LOSSES
from .train import CHECKPOINT_SECONDS, Interrupted, Stopped, signals
from .types import Stream

LEAST = 1e-4  # of the learning rate, whatever the schedule says: word2vec's
LINES = 2000  # of metrics, about
SPAN, LAST = 1.0, 8  # seconds and lines that the rate is taken over at least
ROWS = 2**13  # of a table that are looked at together
MEND = ": lower optimizer.lr, in a new folder or with --fresh"


class Done(NamedTuple):
    """One block. loss: its sum over `pairs` positive pairs; waited, seconds: for the tokens, and in all."""

    step: int
    tokens: int
    loss: float
    pairs: int
    waited: float
    seconds: float
    finite: bool


def learn(
    method: SkipGram,
    stream: Stream,
    *,
    lr: float,
    schedule: Callable[[int, int], float],
    epochs: int,
    threads: int | None = None,
    seed: int = 0,
    kinds: np.ndarray | None = None,
    device: torch.device | str = "cpu",
    folder: Path | None = None,
    log: Log | None = None,
    every_epoch: Callable[[int], dict[str, Any]] | None = None,
    stop: Callable[[], str | None] | None = None,
    before_save: Callable[[], None] | None = None,
    engine: str | None = None,
) -> int:
    """Train the tables of `method` in place, going on from the last checkpoint in `folder`. Returns the steps done.

    schedule: (step, steps) -> factor of `lr`, at least 1e-4.
    threads:  None: one for each core. 1 gives the same bits each time.
    kinds:    (V,) uint8, ascending: the type of each row, which a method with typed=True needs.
    engine:   "compiled" or "torch"; None: torch on a GPU.
    every_epoch, stop, before_save: as of `train.train`.
    Raises TrainingError when the tables are not finite (names the step), Stopped with the reason that `stop` gave,
    Interrupted on a signal, UserError on tables that do not fit into memory or onto the stream.
    """
    log, device = log or Log(quiet=True), torch.device(device)
    threads = threads or cores()
    counts = stream.counts()
    if len(counts) != len(method.encoder.weight):
        raise UserError(f"the data has {len(counts):,} rows, the table {len(method.encoder.weight):,}")
    fits(method, log)
    total = epochs * stream.blocks
    step = begin = _resume(folder, method, total, log)
    block = trainer(method, counts, kinds if method.typed else None, seed, device, engine)
    if step == 0 and method.bias is not None:  # from 0, the first steps would only learn how large the vocabulary is
        with torch.no_grad():
            method.bias.copy_(method.correction - math.log(method.negatives))
    if device.type == "cuda" or engine == "torch":
        threads = 1

    def work(step: int) -> Done:
        begun = time.monotonic()
        epoch, index = divmod(step, stream.blocks)
        tokens = stream.block(epoch, index)
        waited = time.monotonic() - begun
        loss, pairs, finite = block(tokens, lr * max(schedule(step, total), LEAST), epoch, index)
        return Done(step, len(tokens.tokens), loss, pairs, waited, time.monotonic() - begun, finite)

    def save() -> None:
        if before_save:
            before_save()
        if folder:
            if not all(part.isfinite().all() for p in method.parameters() for part in p.split(ROWS)):
                raise TrainingError(f"the tables are not finite after step {step}{MEND}")
            checkpoint.save(folder, step, method, {"step": step})

    meter = Meter(log, total)
    due = time.monotonic() + CHECKPOINT_SECONDS
    with _one_blas_thread(), signals() as caught, log.progress("training", total, step) as bar:
        while step < total:
            reason: str | None = None
            rest: list[bool] = []  # not empty: begin no more
            until = step + stream.blocks - step % stream.blocks if every_epoch else total  # tables rest when looked at
            for done in in_order(work, step, until, threads, rest):
                step += 1
                meter.add(done, lr * max(schedule(step - 1, total), LEAST), bar)
                reason = reason or (stop() if stop else None)
                if caught or reason is not None or time.monotonic() > due:
                    rest.append(True)
            epoch, over = divmod(step, stream.blocks)
            if every_epoch and not over and (values := every_epoch(epoch)):
                log.metrics(step, values)
            if caught or reason is not None:
                save()
                if reason is not None:
                    raise Stopped(f"stopped at step {step:,} of {total:,}, for the run is ill: {reason}")
                raise Interrupted(step, caught[0])
            if time.monotonic() > due and step < total:
                begun = time.monotonic()
                save()
                due = time.monotonic() + max(CHECKPOINT_SECONDS, 20 * (time.monotonic() - begun))
        if step > begin:
            save()
    method.finish()
    return step


def in_order(work: Callable[[int], Done], begin: int, end: int, threads: int, rest: list[bool]) -> Iterator[Done]:
    """work(begin), work(begin + 1) ... on threads, a few ahead, given back in order. All that were begun are given.
    It ends at `end`, or once `rest` holds something.
    """
    if threads == 1:
        for step in range(begin, end):
            yield work(step)
            if rest:
                return
        return
    with ThreadPoolExecutor(threads, "skipgram") as pool:
        waiting: deque[Future[Done]] = deque()
        while True:
            while begin < end and len(waiting) < 2 * threads and not rest:
                waiting.append(pool.submit(work, begin))
                begin += 1
            if not waiting:
                return
            yield waiting.popleft().result()


def trainer(
    method: SkipGram,
    counts: np.ndarray,
    kinds: np.ndarray | None,
    seed: int,
    device: torch.device,
    engine: str | None = None,
) -> Callable[[Any, float, int, int], tuple[float, int, bool]]:
    """What trains one block: (tokens, lr, epoch, index) -> sum of the loss, pairs it was read over, all finite."""
    from .objectives.skipgramdraws import how_of, noise_of  # numba is slow to load

    how = how_of(method, LOSSES.index(method.loss))
    noise, chances = noise_of(counts, method.power, kinds)
    if method.bias is not None:
        with np.errstate(divide="ignore"):
            logs = np.log(method.negatives * chances)
        method.correction.copy_(torch.from_numpy(np.maximum(logs, -50)))
    if device.type == "cuda" or engine == "torch":
        from .objectives.skipgrambatch import batched

        return batched(method.to(device), how, noise, seed)
    from .objectives import skipgramkernels as kernels

    tables = [kernels.tables_of(method, part) for part in method.parts()]

    def block(tokens: Any, lr: float, epoch: int, index: int) -> tuple[float, int, bool]:
        loss, pairs, finite = 0.0, 0, True
        for table in tables:
            rate = table.inputs.dtype.type(lr)
            found, pairs = kernels.learn(tokens.tokens, tokens.bounds, table, noise, how, rate, seed, epoch, index)
            loss += found
            finite = finite and bool(np.isfinite(table.inputs[tokens.tokens[:64]]).all())
        return loss, pairs, finite and math.isfinite(loss)

    return block


def _resume(folder: Path | None, method: SkipGram, total: int, log: Log) -> int:
    found = checkpoint.steps(folder) if folder else []
    if not found:
        log.forget_after(0)
        return 0
    state = checkpoint.load(found[-1], method)
    log.forget_after(state["step"])
    log.say(f"going on from step {state['step']} of {total}")
    return state["step"]


def fits(method: SkipGram, log: Log) -> None:
    """Say what training takes, and raise UserError where that is more than there is."""
    rows, dim = method.encoder.weight.shape
    tables = sum(p.nbytes for p in method.parameters())
    more = tables - method.encoder.weight.nbytes + 16 * rows
    log.say(f"{rows:,} vectors of {dim}: the tables take {tables / 2**30:.2f} GB")
    free = free_memory()
    if free is not None and more > free:
        raise UserError(
            f"training {rows:,} vectors of {dim} takes {more / 2**30:.1f} GB more and {free / 2**30:.1f} GB are free: "
            "lower encoder.dim, or leave out what is rare"
        )


class Meter:
    """Loss, tokens a second and the share of the threads' time that went into making tokens.

    Blocks of several threads end together and short ones end at once, so the rate is over SPAN seconds and LAST lines.
    """

    def __init__(self, log: Log, total: int):
        self.log, self.total, self.every = log, total, max(1, total // LINES)
        self.tokens = 0
        self.lines = deque([(time.monotonic(), 0)])  # when, and how many tokens until then
        self.loss, self.pairs, self.waited, self.seconds = 0.0, 0, 0.0, 0.0

    def add(self, done: Done, lr: float, bar: Callable[..., None]) -> None:
        step = done.step + 1
        if not done.finite:
            self.log.metrics(step, {"not_finite": step})
            raise TrainingError(f"the tables are not finite at step {step}{MEND}")
        self.loss += done.loss
        self.pairs += done.pairs
        self.tokens += done.tokens
        self.waited += done.waited
        self.seconds += done.seconds
        if (step % self.every and step != self.total) or not self.pairs:
            return
        loss = self.loss / self.pairs
        rate = self._rate(time.monotonic())
        wait = self.waited / max(self.seconds, 1e-9)
        values = {"loss": loss, "lr": lr, "items_per_second": round(rate, 1), "data_wait": round(wait, 4)}
        self.log.metrics(step, values)
        bar(step, note=f"loss {loss:.3f}  {rate:,.0f} tokens/s")
        self.loss, self.pairs, self.waited, self.seconds = 0.0, 0, 0.0, 0.0

    def _rate(self, now: float) -> float:
        while len(self.lines) > LAST and now - self.lines[1][0] > SPAN:
            self.lines.popleft()
        begun, before = self.lines[0]
        self.lines.append((now, self.tokens))
        return (self.tokens - before) / max(now - begun, 1e-9)


def _one_blas_thread() -> Any:
    """Products of a chunk are small, and each thread makes its own."""
    from threadpoolctl import threadpool_limits

    return threadpool_limits(1, user_api="blas")
