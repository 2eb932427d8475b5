"""A typed graph: nodes of some types, and one relation a kind of edge, as compressed rows.

Nodes are numbered through all types: those of type t are offsets[t] .. offsets[t + 1] - 1. `global` numbers fit into
int32, which halves what a walk has to read.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    import pyarrow as pa

REVERSE = "rev_"


@dataclass(frozen=True, eq=False)
class Relation:
    """Edges of one kind from nodes of one type to nodes of one type.

    starts:  (S + 1,) int32, int64 where there are more edges: those of the i-th node of the source type are
             targets[starts[i] : starts[i + 1]].
    targets: (E,) int32, numbers through all types, ascending in each row; an edge given twice stands there twice.
    weights: (E,) float32 above 0, or None where all are equal.
    reverse: the name of the relation that this one is the reverse of, or None.
    """

    source: str
    name: str
    target: str
    starts: np.ndarray
    targets: np.ndarray
    weights: np.ndarray | None = None
    reverse: str | None = None

    def __len__(self) -> int:
        return len(self.targets)

    @property
    def triple(self) -> tuple[str, str, str]:
        return self.source, self.name, self.target


@dataclass(frozen=True, eq=False)
class Graph:
    """A source whose items are nodes.

    types:     T names.  offsets: (T + 1,) int64.  ids: T arrays of the nodes' own names, in order of their numbers.
    relations: with the reverses, unless refused.  An undirected graph of one type has one relation that holds both
               directions.
    names:     type -> text for each node, to be shown beside its id, where the data holds such.
    tables:    type -> the file of labels that lies beside the edges.
    counted:   what reading found and did, in words -> how often.
    """

    name: str
    types: tuple[str, ...]
    offsets: np.ndarray
    ids: tuple[pa.Array, ...]
    relations: tuple[Relation, ...]
    names: dict[str, pa.Array] = field(default_factory=dict)
    tables: dict[str, str] = field(default_factory=dict)
    counted: dict[str, int] = field(default_factory=dict)

    labels = None
    classes = None

    def __len__(self) -> int:
        return int(self.offsets[-1])

    @property
    def rows(self) -> int:
        """V, the rows of a table of vectors."""
        return len(self)

    @property
    def edges(self) -> int:
        """Edges as they were given: reverses do not count."""
        return sum(len(relation) for relation in self.relations if relation.reverse is None)

    @cached_property
    def kinds(self) -> np.ndarray:
        """(V,) uint8: the type of each node."""
        return np.repeat(np.arange(len(self.types), dtype=np.uint8), np.diff(self.offsets))

    def kind(self, node: int) -> int:
        return int(np.searchsorted(self.offsets, node, side="right")) - 1

    def between(self, kind: str) -> slice:
        """The numbers of the nodes of one type."""
        t = self.types.index(kind)
        return slice(int(self.offsets[t]), int(self.offsets[t + 1]))

    def key(self, index: int) -> str:
        """TYPE/ID, of a graph with one type the id alone."""
        t = self.kind(index)
        name = str(self.ids[t][int(index - self.offsets[t])].as_py())
        return name if len(self.types) == 1 else f"{self.types[t]}/{name}"

    def read(self, index: int) -> Tensor:
        """The node's number, for who reads a table."""
        return torch.tensor(index)

    def subset(self, indices: np.ndarray) -> Any:
        raise NotImplementedError("a graph is held out by edges, see held_out")

    def fingerprint(self) -> str:
        """16 hex digits of the ids and the edges."""
        raise NotImplementedError
