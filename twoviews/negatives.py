"""Memories of negatives: the last keys (`Queue`), or one row an item (`Bank`)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from .errors import UserError


class Queue(nn.Module):
    """The last `size` keys, first in first out (He et al. 2020, section 3.2).

    `keys` reads, `push` writes; push after backward, for autograd still needs the old rows. The place and the
    fill live on the host, so no step waits for the device, and in `state_dict`, so a resume loses nothing.
    A batch that passes the end wraps without losing a key. Until the first push the keys are random unit vectors,
    as in the paper's code; after it only rows that were pushed count.
    """

    memory: Tensor

    def __init__(self, size: int, dim: int):
        super().__init__()
        if size < 1:
            raise UserError(f"a queue needs a size of at least 1, got {size}")
        self.register_buffer("memory", normalize(torch.randn(size, dim), dim=1))  # (K, D)
        self.place = 0  # where the next key goes
        self.filled = 0
        self.rows = 0  # of the last push

    @property
    def age(self) -> float:
        """Pushes since the oldest key came in."""
        return math.ceil(self.filled / self.rows) if self.rows else 0

    @property
    def keys(self) -> Tensor:
        """(K', D): all that is filled, no copy."""
        return self.memory[: self.filled or len(self.memory)]

    @torch.no_grad()
    def push(self, keys: Tensor) -> None:
        """Store (B, D); the oldest B make room."""
        size, self.rows = len(self.memory), len(keys)
        keys = keys[-size:].to(self.memory.dtype)
        head = min(len(keys), size - self.place)
        self.memory[self.place : self.place + head] = keys[:head]
        self.memory[: len(keys) - head] = keys[head:]
        self.place = (self.place + len(keys)) % size
        self.filled = min(self.filled + len(keys), size)

    def get_extra_state(self) -> Tensor:
        return torch.tensor([self.place, self.filled, self.rows])

    def set_extra_state(self, state: Tensor) -> None:
        self.place, self.filled, *rows = (int(n) for n in state)
        self.rows = rows[0] if rows else 0  # older checkpoints lack it


class Bank(nn.Module):
    """One unit vector an item, which follows the item's embeddings (Wu et al. 2018, section 3.3):

        v_i <- normalize(m v_i + (1 - m) z_i)

    `rows` reads, `move` writes; move after backward, with the items of all processes, so that every process holds the
    same bank. The rows start as random unit vectors, as in the paper.
    """

    memory: Tensor

    def __init__(self, items: int, dim: int, momentum: float = 0.5):
        super().__init__()
        if items < 2:
            raise UserError(f"a bank needs 2 items or more, one and its negatives, got {items}")
        if not 0 <= momentum < 1:
            raise UserError(f"a bank's momentum must lie in [0, 1), or its rows never move, got {momentum}")
        self.momentum = momentum
        self.register_buffer("memory", normalize(torch.randn(items, dim), dim=1))  # (N, D)

    def rows(self, ids: Tensor) -> Tensor:
        """(B,) -> (B, D), a copy."""
        return self.memory[ids]

    @torch.no_grad()
    def move(self, ids: Tensor, z: Tensor) -> None:
        """Let the rows of items (B,) follow z (B, D). Of an item that is there twice the last counts."""
        ids, order = ids.sort(stable=True)
        last = torch.searchsorted(ids, ids, right=True) - 1  # of each item: all its copies write the same, in any order
        z = z[order[last]].to(self.memory.dtype)
        self.memory[ids] = normalize(self.momentum * self.memory[ids] + (1 - self.momentum) * z, dim=1)
