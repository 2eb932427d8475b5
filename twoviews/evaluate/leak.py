"""Is the measure itself honest? Relatives of the test items among the train items, by name and by pixels.

Crops, frames and copies of one original carry its name: 0001_2.jpg, 0001-flip.jpg, clip12_frame003.jpg. A random split
puts some on either side, and then kNN finds the original again instead of telling the class. `siblings` measures by how
much. `copies` counts the test items whose very pixels lie in train.
"""

from __future__ import annotations

import math
import os
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..data.check import digest, in_order
from ..data.listing import SPLITS
from ..errors import BrokenItem
from ..types import Features, Source
from .embed import Progress
from .knn import neighbours
from .score import Z95, Score, score
from .split import Labelled, labelled

ITEMS = 2000  # test items that are looked at
READ = 10_000  # train items that are read to find copies
FAMILIES = 5  # a class has so many at least, and none is more than a fifth of it
LARGEST = 1000  # items of one original
SHOWN = 10
MARK = re.compile(
    r"""[\s_.(\[-]+
    (?: \d+ | rf\.[0-9a-f]{8,}
      | (?:new)?[hv]?\d*(?:copy|flip|mirror|crop|aug|rot|deg|frame|patch|tile|blur|noise|bright|shift|shear|zoom|scale)
        [^\W_]*[\s_.(\[-]*\d* )
    [)\]]*$""",
    re.VERBOSE | re.IGNORECASE,
)


@dataclass(frozen=True)
class Siblings:
    """kNN accuracy with and without the train items that are named after the original of the test item.

    families: originals with two items or more.
    share:    of the test items that have siblings in train.
    together: the accuracy as it stands.
    apart:    without an item's siblings.
    control:  without as many others of its class instead: as few of the right class may vote, but siblings do.
    drop:     (control - apart, low, high): what siblings add, with its 95 % interval (`paired`).
    examples: (test name, a sibling's name in train).
    """

    families: int
    share: Score
    together: Score
    apart: Score
    control: Score
    drop: tuple[float, float, float]
    examples: list[tuple[str, str]]

    @property
    def leaks(self) -> bool:
        """Whether siblings help more than others of the class do, by more than the error of the test."""
        return self.drop[1] > 0

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {"leaks": self.leaks}


def siblings(train: Features, test: Features, k: int = 20, temperature: float = 0.07, seed: int = 0) -> Siblings | None:
    """What the kNN of `train` on `test` owes to items cut or copied from one original; None: no names tell of any.

    Names are read as `families` says. At most 2,000 labelled test items are judged, evenly spaced.
    seed: of the others that are drawn for `control`.
    Raises UserError on features without labels, as every probe.
    """
    data = labelled(train, test)
    ours, theirs = _names(train), _names(test)
    y, u = data.y.cpu().numpy(), data.u.cpu().numpy()
    groups = families([*ours, *theirs], np.concatenate([y, u]))
    if not (groups >= 0).any():
        return None
    rows = _spread(len(u), ITEMS)
    mine, own, u = groups[: len(ours)], groups[len(ours) :][rows], u[rows]
    size = np.bincount(mine[mine >= 0], minlength=groups.max() + 1)  # of each family, in train
    number = np.where(own >= 0, size[own], 0)  # of siblings of each test item

    most = min(k + int(number.max()), len(y))
    found = neighbours(data.t[torch.from_numpy(rows).to(data.t.device)], data.x, most)
    similarity, nearest = found[0].cpu(), found[1].cpu()  # (M, K) for M test items
    near = nearest.numpy()
    related = (mine[near] == own[:, None]) & (own >= 0)[:, None]
    others = np.zeros_like(related)
    rng = np.random.default_rng(seed)
    for row in np.flatnonzero(number).tolist():
        strangers = np.flatnonzero((y == u[row]) & (mine != own[row]))
        others[row] = np.isin(near[row], rng.choice(strangers, min(number[row], len(strangers)), replace=False))

    def right(silent: np.ndarray) -> np.ndarray:
        return _vote(similarity, nearest, torch.from_numpy(silent), data, k, temperature) == u

    together, apart, control = right(np.zeros_like(related)), right(related), right(others)
    having = np.flatnonzero(number)
    return Siblings(
        families=int((np.bincount(groups[groups >= 0]) > 1).sum()),
        share=score(len(having), len(u)),
        together=score(int(together.sum()), len(u), k=k),
        apart=score(int(apart.sum()), len(u), k=k),
        control=score(int(control.sum()), len(u), k=k),
        drop=paired(control, apart),
        examples=[(theirs[rows[i]], ours[int((mine == own[i]).argmax())]) for i in having[:SHOWN].tolist()],
    )


def families(names: Sequence[str], classes: np.ndarray) -> np.ndarray:
    """(N,) int64: which original an item is named after, -1 where its name tells of none.

    Items belong together that agree in class, folder (that of a split aside) and name less one mark at its end: a
    number, or a word such as copy, flip, crop, rot or frame. cat_001.jpg and IMG_2031.jpg are class and camera with a
    number, not an original: a class must have 5 families of two items or more, and none counts that is more than a
    fifth of it or 1,000 items.
    classes: (N,) int64; items of class -1 belong to no family.
    """
    parts = [original(name) for name in names]
    labels = classes.tolist()
    originals = {(c, folder, base) for c, (folder, _, base) in zip(labels, parts, strict=True)}
    members: dict[tuple[int, str, str], list[int]] = defaultdict(list)
    for i, (c, (folder, stem, base)) in enumerate(zip(labels, parts, strict=True)):
        own = stem if (c, folder, stem) in originals else base  # IMG_7 goes with IMG_7 (copy), not with IMG_8
        if own and c >= 0:
            members[c, folder, own].append(i)
    most = {c: min(size / FAMILIES, LARGEST) for c, size in Counter(labels).items()}
    small = {key: rows for key, rows in members.items() if 2 <= len(rows) <= most[key[0]]}
    count = Counter(c for c, _, _ in small)
    out = np.full(len(names), -1)
    for family, rows in enumerate(rows for (c, _, _), rows in small.items() if count[c] >= FAMILIES):
        out[rows] = family
    return out


def original(name: str) -> tuple[str, str, str | None]:
    """Folder, name without extension, and that without its mark: None if it has none.

    >>> original("train/cat/IMG_7 (copy).jpg")
    ('cat', 'IMG_7 (copy)', 'IMG_7')
    """
    *folders, file = name.split("/")
    stem = os.path.splitext(file)[0]
    mark = MARK.search(stem)
    base = stem[: mark.start()] if mark else ""
    return "/".join(f for f in folders if f.lower() not in SPLITS), stem, base or None


def paired(a: np.ndarray, b: np.ndarray) -> tuple[float, float, float]:
    """mean(a) - mean(b) of two bools for each of N items, and its 95 % interval.

    Agresti & Min 2005, "Simple improved confidence intervals for comparing matched proportions", Statistics in
    Medicine 24: Wald's, after half an item was added to each of the four cells.
    """
    more, less, n = int((a & ~b).sum()), int((b & ~a).sum()), len(a) + 2
    middle = (more - less) / n
    half = Z95 * math.sqrt(more + less + 1 - (more - less) ** 2 / n) / n
    return (more - less) / len(a), middle - half, middle + half


@dataclass(frozen=True)
class Copies:
    """Test items whose pixels are those of a train item.

    share:    of the test items that were read.
    searched: train items that were read, of `train` in all: where fewer, the share is a lower bound.
    examples: (test name, train name).
    """

    share: Score
    searched: int
    train: int
    examples: list[tuple[str, str]]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def copies(
    train: Source, test: Source, *, most: int = READ, workers: int | None = None, progress: Progress | None = None
) -> Copies | None:
    """How many of at most 2,000 test items have the very pixels, as decoded, of one of at most `most` train items.

    Both evenly spaced. workers: threads; None: one per core. progress: called with (items done, all items).
    None where `test` is `train` itself, or nothing of one can be read.
    """
    if test is train:
        return None
    a, b = _spread(len(train), most), _spread(len(test), ITEMS)

    def one(at: int) -> bytes | None:
        try:
            return digest(train.read(int(a[at])) if at < len(a) else test.read(int(b[at - len(a)])))
        except BrokenItem:
            return None

    found: list[bytes | None] = []
    for pixels in in_order(one, len(a) + len(b), workers):
        found.append(pixels)
        if progress and (len(found) % 64 == 0 or len(found) == len(a) + len(b)):
            progress(len(found), len(a) + len(b))
    ours = {pixels: int(i) for i, pixels in zip(a, found[: len(a)], strict=True) if pixels}
    theirs = [(int(i), pixels) for i, pixels in zip(b, found[len(a) :], strict=True) if pixels]
    if not ours or not theirs:
        return None
    examples = [(test.key(i), train.key(ours[pixels])) for i, pixels in theirs if pixels in ours]
    share, searched = score(len(examples), len(theirs)), sum(pixels is not None for pixels in found[: len(a)])
    return Copies(share, searched, len(train), examples[:SHOWN])


def _names(features: Features) -> list[str]:
    """The names of the items that `labelled` keeps."""
    assert features.labels is not None  # `labelled` has seen to it
    return [key for key, label in zip(features.keys, features.labels.tolist(), strict=True) if label >= 0]


def _vote(s: Tensor, nearest: Tensor, silent: Tensor, data: Labelled, k: int, temperature: float) -> np.ndarray:
    """(M,): what the first k of the nearest that are not `silent` vote for, as in `knn`; all (M, K)."""
    votes = ~silent & ((~silent).cumsum(1) <= k)
    weight = ((s - s[:, :1]) / temperature).exp() * votes
    return weight.new_zeros(len(s), data.classes).scatter_add_(1, data.y.cpu()[nearest], weight).argmax(1).numpy()


def _spread(count: int, most: int) -> np.ndarray:
    """Up to `most` evenly spaced places among `count`."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).astype(np.int64))
