"""Several sources seen as one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from torch import Tensor

from ..types import Source


@dataclass(eq=False)
class Joined:
    """The items of several sources, one after the other. Made by `joined`.

    part, place: (N,) which source an item lies in, and where there.  prefixes: what its key begins with, by source.
    """

    name: str
    sources: list[Source]
    prefixes: list[str]
    part: np.ndarray
    place: np.ndarray
    labels: np.ndarray | None
    classes: list[str] | None
    channels: int | None  # of photos

    def __len__(self) -> int:
        return len(self.part)

    def key(self, index: int) -> str:
        part = self.part[index]
        return self.prefixes[part] + self.sources[part].key(int(self.place[index]))

    def read(self, index: int) -> Tensor:
        return self.sources[self.part[index]].read(int(self.place[index]))

    def fingerprint(self) -> str:
        return " ".join(source.fingerprint() for source in self.sources)

    def subset(self, indices: np.ndarray) -> Joined:
        labels = None if self.labels is None else self.labels[indices]
        return replace(self, part=self.part[indices], place=self.place[indices], labels=labels)


def joined(parts: Mapping[str, Source]) -> Source:
    """One source of all; where two hold items of one name, NAME/ of each part goes before its keys."""
    sources = list(parts.values())
    if len(sources) == 1:
        return sources[0]
    keys = [source.key(i) for source in sources for i in range(len(source))]
    prefixes = [f"{name}/" if len(set(keys)) < len(keys) else "" for name in parts]
    classes = list(dict.fromkeys(name for source in sources for name in _classes(source)))
    return Joined(
        name=" and ".join(source.name for source in sources),
        sources=sources,
        prefixes=prefixes,
        part=np.repeat(np.arange(len(sources)), [len(source) for source in sources]),
        place=np.concatenate([np.arange(len(source)) for source in sources]),
        labels=np.concatenate([_labels(source, classes) for source in sources]) if classes else None,
        classes=classes or None,
        channels=getattr(sources[0], "channels", None),
    )


def _classes(source: Source) -> list[str]:
    """The names of its labels: numbers where they have none."""
    if source.labels is None:
        return []
    return source.classes or [str(i) for i in range(int(source.labels.max(initial=-1)) + 1)]


def _labels(source: Source, classes: list[str]) -> np.ndarray:
    """Its labels as codes of the joined classes."""
    if source.labels is None:
        return np.full(len(source), -1, np.int64)
    codes = np.array([*map(classes.index, _classes(source)), -1])
    return codes[source.labels]
