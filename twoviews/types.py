"""The values that flow through twoviews, and the contract of a method.

    source -> views -> Batch -> Method.forward -> Out -> backward . after_batch . step . after_step
    checkpoint -> encoder -> embed -> Features -> probes -> report

Shape letters mean one thing everywhere:
    B batch   V views   C channels   H, W height and width   D width of an embedding
    K negatives   N items or tokens   T time   M places to fill in
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from torch import Tensor, nn

from .errors import UserError

PAD, MASK, FIRST = 0, 1, 2  # tokens of a sequence of items: nothing, a blank, and the first item of the catalogue


@dataclass
class Batch:
    """What a method reads.

    views:  V tensors with one row per item, each (B, ...).
    ids:    (B,) int64, the item's place in its source.
    labels: (B,) int64 or None. Only the method `supervised` may read it.
    """

    views: list[Tensor]
    ids: Tensor
    labels: Tensor | None = None

    def compared(self, method: str, more: bool = False) -> list[Tensor]:
        """The views of a method that compares two, or two or `more`. Raises UserError on another number."""
        if len(self.views) < 2 or (len(self.views) > 2 and not more):
            raise UserError(
                f"{method} compares two views, got {len(self.views)}: choose views=two_crops, of sound two_sounds, of "
                "video two_clips"
            )
        return self.views


@dataclass
class Blanks(Batch):
    """Sequences with holes and the same sequences whole: views are both (B, T) int64, padded with PAD at the right.

    places: (M,) int64, where to fill in, as places in the flattened (B * T).
    past:   whether a state may look at the past alone.
    """

    places: Tensor = field(kw_only=True)
    past: bool = False


@dataclass
class Tokens:
    """Sequences of rows of a table, end to end: walks over a graph, sentences of a text.

    tokens: (n,) int32.  bounds: (m + 1,) int64, sequence i is tokens[bounds[i] : bounds[i + 1]].
    """

    tokens: np.ndarray
    bounds: np.ndarray


@dataclass
class Places:
    """What an encoder that predicts sees of a batch: rows in the order they are met, places side by side in each.

    Frames of a recording or sentences of a document are R rows of W = 1 place; a grid of patches has rows and columns.

    z:    (B, R, W, D) each place alone.
    c:    (B, R, W, C) the context at each place: a function of what stands in its own row and in those before.
    seen: (B, R, W) bool, False at places that hold nothing (padding).
    """

    z: Tensor
    c: Tensor
    seen: Tensor


class Stream(Protocol):
    """Sequences that are made when they are asked for and never kept: two views are a token and what stands near it."""

    @property
    def items(self) -> int:
        """Tokens an epoch, about."""
        ...

    @property
    def blocks(self) -> int:
        """Parts that an epoch comes in."""
        ...

    def block(self, epoch: int, index: int) -> Tokens:
        """Part `index` of an epoch: always the same, whoever asks and in whatever order. Threads may ask at once."""
        ...

    def counts(self) -> np.ndarray:
        """(V,) int64: how often each row occurs in an epoch, as drawn or as expected; what negatives are drawn by."""
        ...


@dataclass
class Contrast:
    """What an objective compared, for diagnosis.

    positive:    (B, D) unit vectors, row i the one that row i of z must find.
    negatives:   (K, D) unit vectors of other items, or None: the other rows of z and of `positive`.
    temperature: what similarities are divided by.
    chance:      the loss of an encoder that tells nothing apart: log(1 + negatives a row has, over all processes).
    age:         pushes since the oldest negative was made, where they come from a memory.
    """

    positive: Tensor
    negatives: Tensor | None
    temperature: float
    chance: float
    age: float | None = None


@dataclass
class Out:
    """What a method returns.

    loss:     scalar to minimise.
    z:        (B, D) embeddings as the objective sees them, for diagnosis.
    memory:   what `after_batch` will store (keys for a queue, say), detached.
    logs:     further scalars worth a curve, as detached tensors.
    h:        (B, D') what the encoder gave for the same views as z, for diagnosis.
    contrast: what z was compared with, for diagnosis of methods that compare.
    """

    loss: Tensor
    z: Tensor
    memory: Tensor | None = None
    logs: dict[str, Tensor] = field(default_factory=dict)
    h: Tensor | None = None
    contrast: Contrast | None = None


class Encoder(nn.Module):
    """The contract of an encoder. Any module that keeps it will do; none has to inherit it.

    dim: D, the width of h.
    """

    dim: int

    def forward(self, x: Tensor) -> Tensor:
        """(B, ...) -> (B, D): h."""
        raise NotImplementedError(f"{type(self).__name__} must define forward")

    def tokens(self, x: Tensor) -> Tensor:
        """(B, ...) -> (B, N, D): the same before it is pooled."""
        raise NotImplementedError(f"{type(self).__name__} must define tokens")


class Method(nn.Module):
    """A way to learn from views. `forward` reads; `after_batch` and `after_step` write.

    `forward` changes nothing (BatchNorm statistics aside). Memories move in `after_batch`: after every
    backward, before the optimizer's step. Slow weights move in `after_step`: once per optimizer step.
    So a positive can never sit among its own negatives, and gradient accumulation has a meaning.

    Every method has `encoder`, whose output h is what users keep. Most have `project(h)`, which gives z.
    """

    encoder: nn.Module

    def forward(self, batch: Batch) -> Out:
        raise NotImplementedError(f"{type(self).__name__} must define forward")

    def project(self, h: Tensor) -> Tensor:
        """(B, encoder.dim) -> (B, D): the space in which the objective compares."""
        raise NotImplementedError(f"{type(self).__name__} must define project")

    def after_batch(self, out: Out) -> None:
        """Move memories. Called after backward, once per (micro-)batch."""

    def after_step(self) -> None:
        """Move slow weights. Called once per optimizer step."""


@dataclass
class Features:
    """Embeddings of one set of items, as probes read them.

    h:       (N, D) float32, from the encoder.
    keys:    N names, one per item (a path, an id).
    labels:  (N,) int64 or None; `classes` names them.
    z:       (N, D') float32 or None, the method's projection.
    """

    h: Tensor
    keys: list[str]
    labels: Tensor | None = None
    classes: list[str] | None = None
    z: Tensor | None = None

    def __len__(self) -> int:
        return len(self.h)


class Source(Protocol):
    """Where items come from. Holds names and places, never the decoded items.

    `labels` is (N,) int64 with -1 for "no label", or None when there are none; `classes` names them.
    Photos also have `channels`, of every decoded item, and histories `catalogue`, the number of items they are of.
    """

    @property
    def name(self) -> str: ...

    @property
    def labels(self) -> np.ndarray | None: ...

    @property
    def classes(self) -> list[str] | None: ...

    def __len__(self) -> int: ...

    def key(self, index: int) -> str:
        """The item's name, for lists and for embeddings."""
        ...

    def read(self, index: int) -> Tensor:
        """The decoded item: for photos uint8 (C, H, W). Raises BrokenItem with the reason."""
        ...

    def fingerprint(self) -> str:
        """A short digest by which changed data is recognised."""
        ...

    def subset(self, indices: np.ndarray) -> Source:
        """Some of the items, from the same storage."""
        ...
