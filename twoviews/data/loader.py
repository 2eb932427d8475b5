"""From a source to batches of views, in an order that depends on the seed alone.

Batch m of rank r of W takes permutation[(m W + r) b : +b], so W processes see what one would. Small sets are
decoded once and live in memory, photos as uint8, on the device where there is room; larger ones are read by workers.
"""

from __future__ import annotations

import atexit
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ..dist import rank, world
from ..errors import BrokenItem, DataError, UserError
from ..types import Batch, Source
from .dice import Dice
from .order import groups_of, instead, together
from .plan import Plan
from .stream import Lanes, lanes_of, name_of, notes_of, plan_of, stored_bytes
from .views import one_thread

PART = 64  # photos that a thread decodes at a time
IN_MEMORY = 2 * 2**30  # bytes of decoded photos up to which a set is held in memory


def collate(items: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Photos (C, h, w) on one canvas: (B, C, H, W) zero-padded at the right and below, and sizes (B, 2) of (h, w).

    The canvas lies in memory as the first photo does: channel after channel or pixel after pixel.
    """
    sizes = torch.tensor([x.shape[1:] for x in items])
    (h, w), c = sizes.amax(0).tolist(), len(items[0])
    pixelwise = c > 1 and items[0].stride(0) == 1
    shape = (len(items), h, w, c) if pixelwise else (len(items), c, h, w)
    canvas = torch.from_numpy(np.zeros(shape, items[0].numpy().dtype))  # numpy asks for huge pages, torch does not
    canvas = canvas.permute(0, 3, 1, 2) if pixelwise else canvas
    for row, x in zip(canvas, items, strict=True):
        row[:, : x.shape[1], : x.shape[2]] = x
    return canvas, sizes


class Loader:
    """Batches of views for training.

    batch_size: items a step, over all ranks and `accumulate` micro-batches.
    memory:     hold the decoded set in memory; None: when it takes less than 2 GiB.
    A source with `at` (videos) gives other frames of an item in each epoch: it holds its own, decoded once. None of its
    items stands in for another: one that turns out to be broken is missing in its batch.
    Where the views say `together`, so many items in a row share a speaker of the source, else a label.
    A photo that cannot be read goes to `skipped` (key -> reason): found while filling the memory it is left out;
    found while streaming its place goes to the next photo that can be read, so that batches stay full.
    Shards that are not held in memory are read as their `plan` says.
    Raises UserError when a batch does not divide or the set is smaller than one, DataError when nothing can be read.
    """

    def __init__(
        self,
        source: Source,
        views: Callable[[Tensor, Tensor, Dice], list[Tensor]],
        batch_size: int,
        *,
        accumulate: int = 1,
        seed: int = 0,
        device: torch.device | str = "cpu",
        workers: int | None = None,
        memory: bool | None = None,
        progress: Callable[[int, int], None] | None = None,
    ):
        parts = world() * accumulate
        if batch_size < 2 * parts or batch_size % parts:
            raise UserError(
                f"batch_size must divide by processes x accumulate = {world()} x {accumulate} into parts of 2 or more, "
                f"got {batch_size}"
            )
        self.source, self.views, self.seed = source, views, seed
        self.micro = batch_size // parts  # rows of one micro-batch on one rank
        self.accumulate = accumulate
        self.device = torch.device(device)
        self.workers = cores() - 1 if workers is None else workers
        self.plan = plan_of(source, batch_size, seed)
        self.skipped: dict[str, str] = notes_of(source)
        self.moving = hasattr(source, "at")
        self.labels = None if source.labels is None else torch.from_numpy(source.labels).to(self.device)
        small = (self.plan is None or stored_bytes(source) < IN_MEMORY) and self._bytes() < IN_MEMORY
        held = small if memory is None else memory
        if self.moving and held:
            self.source, self.workers, held = source.hold(progress), 0, False  # type: ignore[attr-defined]
        self.plan = None if held else self.plan
        self.many = getattr(views, "together", 0)
        self.groups = groups_of(source, self.many, self.micro)
        self.order = self._sound() if self.moving else torch.arange(0 if self.plan else len(source))
        self.memory = Memory(self, progress) if held else None
        n = len(source) if self.plan else len(self._shuffled(torch.Generator()))
        self.steps = n // batch_size
        if not self.steps and self.many:
            raise UserError(
                f"{n} of {len(self.order)} items are in runs of {self.many} of one speaker, fewer than one batch of "
                f"{batch_size}; set a smaller batch_size or together, or cut the recordings into more pieces"
            )
        if not self.steps:
            raise UserError(
                f"{n} readable {_kind(source)} are fewer than one batch of {batch_size}; set batch_size to at most {n}"
            )

    def _bytes(self) -> float:
        """The decoded size of the set, judged by 32 of its items. Raises DataError when none can be read."""
        if self.moving:
            self.raise_if_empty(any(self.try_read(i) is not None for i in range(len(self.source))))
            return self.source.bytes  # type: ignore[attr-defined]
        n = len(self.source)
        sample = (self.try_read(i) for i in range(0, n, max(1, n // 32)))
        sizes = [x.nbytes for x in sample if x is not None]
        if not sizes:
            first = next((x for x in map(self.try_read, range(n)) if x is not None), None)
            sizes = [] if first is None else [first.nbytes]
        self.raise_if_empty(len(sizes))
        return n * sum(sizes) / len(sizes)

    def _sound(self) -> Tensor:
        """The items of a source that holds itself, without those that it knows to be broken."""
        lost = self.source.lost()  # type: ignore[attr-defined]
        self.skipped |= {self.source.key(i): reason for i, reason in lost.items()}
        order = torch.tensor([i for i in range(len(self.source)) if i not in lost], dtype=torch.int64)
        self.raise_if_empty(len(order))
        return order

    def raise_if_empty(self, readable: int) -> None:
        if not readable:
            key, reason = next(iter(self.skipped.items()))
            raise DataError(
                f"none of {len(self.source)} {_kind(self.source)} could be read; the first, {key}: {reason}"
            )

    def try_read(self, index: int) -> Tensor | None:
        try:
            return self.source.read(index)
        except BrokenItem as broken:
            self.skipped[name_of(self.source, index, broken)] = str(broken)
            return None

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """This rank's micro-batches of an epoch, from step `start` on; `accumulate` of them make a step."""
        batches = range(start * self.accumulate, self.steps * self.accumulate)
        places = [(m * world() + rank()) * self.micro for m in batches]
        for images, sizes, ids in self._decoded(epoch, places):
            images, sizes, ids = (x.to(self.device, non_blocking=True) for x in (images, sizes, ids))
            views = self.views(images, sizes, Dice(self.seed, epoch, ids))
            yield Batch(views, ids, None if self.labels is None else self.labels[ids])

    def _decoded(self, epoch: int, places: list[int]) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """The batches that begin at these places of an epoch's order."""
        if self.plan:
            return self._lanes(self.plan, epoch, [(place, place + self.micro) for place in places])
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + epoch)
        order = self._shuffled(generator)
        rows = [order[place:][: self.micro] for place in places]
        return self.memory.batches(rows) if self.memory else self._stream(rows, generator, epoch)

    def _shuffled(self, generator: torch.Generator) -> Tensor:
        if self.groups is None:
            return self.order[torch.randperm(len(self.order), generator=generator)]
        return self.order[together(torch.from_numpy(self.groups)[self.order], self.many, generator)]

    def _lanes(self, plan: Plan, epoch: int, cuts: list[tuple[int, int]]) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        workers = min(self.workers, len(lanes_of(plan, cuts)))
        loader: DataLoader = DataLoader(
            Lanes(self.source, plan, epoch, cuts, collate),  # type: ignore[arg-type]
            batch_size=None,
            num_workers=workers,
            worker_init_fn=unmoved,
            generator=torch.Generator(),  # as in `_stream`
        )
        parts = iter(loader)
        for batch in zip(*[parts] * max(1, workers), strict=True):  # the workers take turns
            for part in batch:
                if isinstance(part, DataError):
                    raise part
                self.skipped.update(part[-1])
            images, sizes, ids = joined([part[:3] for part in batch if len(part[2])])
            yield images.pin_memory() if self.device.type == "cuda" else images, sizes, ids

    def _stream(
        self, rows: list[Tensor], generator: torch.Generator, epoch: int
    ) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        source = self.source.at(epoch) if self.moving else self.source  # type: ignore[attr-defined]
        loader: DataLoader = DataLoader(
            _Stream(source, self.groups),
            sampler=rows,
            batch_size=None,
            num_workers=self.workers,
            worker_init_fn=unmoved,
            generator=generator,  # else torch's own is drawn from, and a run that goes on would differ
            pin_memory=self.device.type == "cuda",
            prefetch_factor=1 if self.moving and self.workers else None,  # a batch of clips is large
        )
        for batch in loader:
            if isinstance(batch, DataError):
                raise batch
            images, sizes, ids, broken = batch
            self.skipped.update(broken)
            yield images, sizes, ids


def joined(parts: list[tuple[Tensor, Tensor, Tensor]]) -> tuple[Tensor, Tensor, Tensor]:
    """Parts of a batch, each (images, sizes, ids), on one canvas."""
    if len(parts) == 1:
        return parts[0]
    photos = [x[:, :h, :w] for images, sizes, _ in parts for x, (h, w) in zip(images, sizes.tolist(), strict=True)]
    return *collate(photos), torch.cat([ids for *_, ids in parts])


def unmoved(worker: int) -> None:
    """Ctrl-C and SIGTERM reach the workers too; only the training process answers, after its step."""
    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, signal.SIG_IGN)


@atexit.register
def end_workers() -> None:
    """Workers that an error's traceback has kept alive: Python sends them SIGTERM, and would wait for them forever."""
    left = [process for process in multiprocessing.active_children() if process.daemon]
    if left and hasattr(signal, "SIGCHLD"):
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # torch would raise an error on their death
    for process in left:
        process.kill()


class _Stream(Dataset):
    """A dataset whose items are whole batches, read in a worker."""

    def __init__(self, source: Source, groups: np.ndarray | None):
        self.source, self.groups = source, groups

    def __getitem__(self, rows: Tensor) -> tuple[Tensor, Tensor, Tensor, dict[str, str]] | DataError:
        alone = hasattr(self.source, "at")  # no other item stands in for a broken video
        items, ids, broken = self.read(rows.tolist(), alone)
        if alone and not items:  # but a step needs one
            items, ids, more = self.read(rows[:1].tolist(), False)
            broken |= more
        if not items:  # returned, for a worker's exception comes with its traceback
            key, why = next(iter(broken.items()))
            return DataError(f"none of the {len(rows)} {_kind(self.source)} of a batch could be read; {key}: {why}")
        return *collate(items), torch.tensor(ids), broken

    def read(self, rows: list[int], alone: bool) -> tuple[list[Tensor], list[int], dict[str, str]]:
        """What can be read of some rows, or, unless `alone`, of others in their stead; which; what is broken."""
        items, ids, broken = [], [], {}
        for index in rows:
            for i in (index,) if alone else instead(index, len(self.source), self.groups):
                try:
                    items.append(self.source.read(i))
                except BrokenItem as reason:
                    broken[self.source.key(i)] = str(reason)
                    continue
                ids.append(i)
                break
        return items, ids, broken


class Memory:
    """The whole set decoded: one tensor (N, C, H, W) or (N, H, W, C) where all are of one size, or a list."""

    def __init__(self, loader: Loader, progress: Callable[[int, int], None] | None):
        n, items = len(loader.source), []
        parts = [range(i, min(i + PART, n)) for i in range(0, n, PART)]
        with ThreadPoolExecutor(cores()) as pool:  # decoders release the interpreter's lock
            for part in pool.map(lambda rows: [loader.try_read(i) for i in rows], parts):
                items += part
                if progress:
                    progress(len(items), n)
        loader.order = torch.tensor([i for i, x in enumerate(items) if x is not None], dtype=torch.int64)
        photos = [x for x in items if x is not None]
        loader.raise_if_empty(len(photos))
        self.row = torch.full((n,), -1)
        self.row[loader.order] = torch.arange(len(photos))
        self.sizes = torch.tensor([x.shape[1:] for x in photos])
        self.photos: Tensor | list[Tensor] = photos
        self.pixelwise = len(photos[0]) > 1 and photos[0].stride(0) == 1  # as `collate` says
        if all(x.shape == photos[0].shape for x in photos):
            self.photos = collate(photos)[0]
            self.photos = self.photos.permute(0, 2, 3, 1) if self.pixelwise else self.photos
            if loader.device.type == "cuda" and self.photos.nbytes < torch.cuda.mem_get_info(loader.device)[0] / 4:
                self.photos, self.row, self.sizes = (x.to(loader.device) for x in (self.photos, self.row, self.sizes))

    def batches(self, rows: list[Tensor]) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        if not rows:
            return
        for ids in torch.stack(rows).to(self.row.device):  # one copy an epoch, none a batch
            at = self.row[ids]
            if isinstance(self.photos, Tensor):
                with one_thread():  # of a mere copy: each photo is one piece of memory
                    images = self.photos.index_select(0, at)
                yield images.permute(0, 3, 1, 2) if self.pixelwise else images, self.sizes[at], ids
            else:
                yield *collate([self.photos[i] for i in at.tolist()]), ids


def _kind(source: Source) -> str:
    return "videos" if hasattr(source, "at") else "photos" if hasattr(source, "channels") else "items"


def cores() -> int:
    """The cores that each process on this machine may use, at most 16."""
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(16, available // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))))
