"""How good is an encoder of sentences? Beside chance, bags of words and the same encoder untrained.

order   do the two halves of a stretch stand in their order, or the later one first?
topic   are two sentences, which do not stand side by side, of one document?
next    which of up to 1,000 sentences goes on with what was read?
label   the label of a document, where there are any

Order, topic and label are asked of a logistic regression (evaluate/linear.py), by one scheme for every row: vectors a
and b of two halves become [a, b, a * b, a - b] for their order, and those of two sentences [a * b, |a - b|] for their
topic, after Conneau et al. 2017, arXiv:1705.02364, section 3.1. Which of two single sentences comes first can hardly be
told from either (51 % by bags of words on Wikipedia cut into runs of 20 words); of halves it can.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from ..errors import UserError
from ..types import PAD, Features
from .bags import Bag
from .embed import Progress, Views, batches, slices
from .linear import linear
from .score import INTERVALS, Score, difference, score
from .table import CHANCE, UNTRAINED, H, Table

BAG, MEAN = "bag of words", "untrained word vectors, mean"
TRAIN, TEST, CANDIDATES = 8000, 4000, 1000  # pairs or items at most: to learn from, to judge by, to find the next among
FEWEST = 20  # items of either side
BLOCK = 256  # items that an encoder reads at once
Read = Callable[[Tensor], Tensor]
Pairs = tuple[Tensor, Tensor, Tensor]  # words of two texts, and (n,) int64 which of two cases it is


@dataclass(frozen=True)
class Stretches:
    """Items of a source, on the CPU. words: (N, S, L) int64.  size: (N,) sentences of each.  document: (N,)."""

    words: Tensor
    size: np.ndarray
    document: np.ndarray
    labels: Tensor | None
    classes: list[str] | None

    def __len__(self) -> int:
        return len(self.size)

    def known(self) -> Tensor:
        """The labels there are."""
        return torch.empty(0) if self.labels is None else self.labels[self.labels >= 0]

    def sentences(self, items: np.ndarray, places: np.ndarray) -> Tensor:
        """(n, L): place by place."""
        return self.words[torch.from_numpy(items), torch.from_numpy(places)]


@dataclass(frozen=True)
class Reader:
    """How a row of the table reads words into vectors.

    sentence: (n, L) -> (n, D).  whole: (n, S, L) -> (n, D), all that was read, in the same space.
    h: (n, S, L) -> (n, C); ahead: (n, S, L) -> (n, D), what is expected of the next sentence: of rows that have them.
    """

    sentence: Read
    whole: Read
    h: Read | None = None
    ahead: Read | None = None

    def order(self, pairs: Pairs) -> Features:
        a, b = self.whole(pairs[0]), self.whole(pairs[1])
        return _asked(torch.cat([a, b, a * b, a - b], 1), pairs[2])

    def topic(self, pairs: Pairs) -> Features:
        a, b = self.sentence(pairs[0]), self.sentence(pairs[1])
        return _asked(torch.cat([a * b, (a - b).abs()], 1), pairs[2])

    def following(self, read: Tensor, following: Tensor) -> Score:
        """The share of rows whose next sentence gets the highest score of all that come next somewhere."""
        z = self.sentence(following)
        alike = _first(normalize(self.whole(read), dim=1) @ normalize(z, dim=1).T)
        if self.ahead is None:
            return score(alike, len(z))
        return score(_first(self.ahead(read) @ z.T), len(z), cosine=alike / len(z))


def measure_documents(
    encoder: nn.Module,
    untrained: nn.Module,
    train: Any,
    test: Any,
    view: Views,
    *,
    heads: nn.Module | None = None,
    device: torch.device | str = "cpu",
    seed: int = 0,
    progress: Progress | None = None,
) -> Table:
    """The table of an encoder with `places` and `sentence`, on documents that it has seen and on others.

    train, test: Documents.  view: as `whole_paragraph`.
    heads: of CPC, c (B, R, W, C) -> (K, B, R, W, D), of which the first horizon is the next sentence; without it that
        is found by cosine, as in the other rows.
    Raises UserError where there are too few items to learn or to judge by.
    """
    rng = np.random.default_rng(seed)
    learn, judge = (_stretches(source, view, rng, most) for source, most in ((train, TRAIN), (test, TEST)))
    rows = {
        BAG: _of_bag(Bag(learn.words, int(train.words), seed)),
        MEAN: _of_means(untrained),
        UNTRAINED: _of_encoder(untrained.to(device), device),
        H: _of_encoder(encoder.to(device), device, heads),
    }
    parts = ((learn, TRAIN), (judge, TEST))
    order = [_ordered(part, rng, most) for part, most in parts]
    topic = [_related(part, rng, most) for part, most in parts]
    read, following = _followed(judge, rng)
    known = [part.known() for part, _ in parts]
    labelled = all(len(labels.unique()) > 1 for labels in known)
    scores: dict[str, dict[str, Score]] = {CHANCE: {"order": _chance(order[1]), "topic": _chance(topic[1])}}
    scores[CHANCE]["next"] = score(1, len(read))
    for done, (name, row) in enumerate(rows.items()):
        if progress:
            progress(done, len(rows))
        cells = {
            "order": linear(row.order(order[0]), row.order(order[1])),
            "topic": linear(row.topic(topic[0]), row.topic(topic[1])),
            "next": row.following(read, following),
        }
        if labelled:
            of = row.h or row.whole
            seen = (Features(of(part.words), [""] * len(part), part.labels, part.classes) for part, _ in parts)
            cells["label"] = linear(next(seen), next(seen))
        scores[name] = cells
    if labelled:
        scores[CHANCE]["label"] = score(int(known[1].unique(return_counts=True)[1].max()), len(known[1]))
    if progress:
        progress(len(rows), len(rows))
    notes = [
        f"Order: which half of a stretch comes first, of {len(order[1][2]):,}. Topic: {len(topic[1][2]):,} pairs of "
        "sentences, half of one document and not side by side. Logistic regressions on the same scheme in all rows, "
        f"learned from {len(order[0][2]):,} and {len(topic[0][2]):,} pairs of training documents.",
        f"Next: the share of {len(read):,} beginnings whose next sentence is found among the next ones of all"
        + (", by the method's own prediction; in the other rows by cosine." if heads else ", by cosine."),
        f"Bag of words: tf-idf, {rows[BAG].sentence(judge.words[:1, 0]).shape[1]} dimensions of its SVD.",
        INTERVALS,
    ]
    return Table("What the encoder knows of sentences", scores, notes, said=_verdict(scores))


def _stretches(source: Any, view: Views, rng: np.random.Generator, most: int) -> Stretches:
    """At most so many items of a source, drawn by `rng`."""
    chosen = np.sort(rng.permutation(len(source))[:most])
    source = source.subset(chosen)
    if len(source) < FEWEST:
        raise UserError(f"{source.name} has {len(source)} stretches to measure by: give {FEWEST} or more")
    found = batches(source, slices(0, len(source), BLOCK))
    words = torch.cat([view(batch.images, batch.sizes, None)[0] for batch in found])
    labels = None if source.labels is None else torch.from_numpy(source.labels)
    return Stretches(words, (words != PAD).any(2).sum(1).numpy(), source.document, labels, source.classes)


def _ordered(part: Stretches, rng: np.random.Generator, most: int) -> Pairs:
    """The halves of an item, (n, S / 2, L) each: 0 in their order, 1 turned round. A middle sentence is left out."""
    items = rng.permutation(np.flatnonzero(part.size > 1))[:most]
    words, size = (x[torch.from_numpy(items)] for x in (part.words, torch.from_numpy(part.size)))
    place = torch.arange(words.shape[1] // 2)
    half = (size // 2)[:, None]
    item, held = torch.arange(len(items))[:, None], (place < half)[:, :, None]
    early, late = (words[item, begin + place] * held for begin in (0 * half, size[:, None] - half))
    turned = torch.arange(len(items)) % 2
    swap = (turned == 1)[:, None, None]
    return torch.where(swap, late, early), torch.where(swap, early, late), turned


def _related(part: Stretches, rng: np.random.Generator, most: int) -> Pairs:
    """A pair of sentences an item, two places or more apart: 1 as they are, 0 with the second of another document."""
    items = rng.permutation(np.flatnonzero(part.size > 2))[:most]
    first = rng.integers(0, part.size[items] - 2)
    second = rng.integers(first + 2, part.size[items])
    same = np.arange(len(items)) % 2
    other = np.flatnonzero(same == 0)
    source = np.arange(len(items))
    source[other] = np.roll(other, 1)
    kept = (same == 1) | (part.document[items] != part.document[items[source]])
    pair = part.sentences(items, first)[kept], part.sentences(items[source], second[source])[kept]
    return *pair, torch.from_numpy(same[kept])


def _followed(part: Stretches, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Beginnings (n, S, L) and the sentence that follows each (n, L): as late in an item as it can be."""
    items = rng.permutation(np.flatnonzero(part.size > 1))[:CANDIDATES]
    last = part.size[items] - 1
    read = part.words[torch.from_numpy(items)]
    before = torch.arange(read.shape[1]) < torch.from_numpy(last)[:, None]
    return read * before[:, :, None], part.sentences(items, last)


def _of_bag(bag: Bag) -> Reader:
    return Reader(bag, lambda x: bag(x.flatten(1)))


def _of_means(encoder: nn.Module) -> Reader:
    weight: Tensor = encoder.embedding.weight.detach().cpu()  # type: ignore[union-attr,operator]

    def mean(x: Tensor) -> Tensor:
        return torch.cat([_mean(weight[b], b != PAD) for b in x.split(BLOCK)])

    return Reader(mean, lambda x: mean(x.flatten(1)))


def _of_encoder(encoder: Any, device: torch.device | str, heads: nn.Module | None = None) -> Reader:
    modules = nn.ModuleList([encoder] if heads is None else [encoder, heads])

    def reading(call: Read) -> Read:
        @torch.no_grad()
        def read(x: Tensor) -> Tensor:
            mode = encoder.training
            modules.eval()
            try:
                return torch.cat([call(block.to(device)).float().cpu() for block in x.split(BLOCK)])
            finally:
                modules.train(mode)

        return read

    def whole(x: Tensor) -> Tensor:
        places = encoder.places(x)
        return _mean(places.z[:, :, 0], places.seen[:, :, 0])

    def ahead(x: Tensor) -> Tensor:
        places = encoder.places(x)
        return _last(heads(places.c)[0], places.seen)  # type: ignore[misc]

    told = None if heads is None else reading(ahead)
    return Reader(reading(encoder.sentence), reading(whole), reading(encoder), told)


def _last(x: Tensor, seen: Tensor) -> Tensor:
    """(n, S, 1, D), (n, S, 1) -> (n, D): at the last sentence seen."""
    last = (seen[:, :, 0].sum(1) - 1).clamp(min=0)
    return x[torch.arange(len(x), device=x.device), last, 0]


def _mean(x: Tensor, seen: Tensor) -> Tensor:
    """(n, m, D), (n, m) bool -> (n, D)."""
    weight = seen.to(x.dtype)
    return torch.einsum("nmd,nm->nd", x, weight) / weight.sum(1, keepdim=True).clamp(min=1)


def _asked(x: Tensor, answer: Tensor) -> Features:
    return Features(x, [""] * len(x), answer)


def _first(scores: Tensor) -> int:
    """Rows of (n, n) whose own column beats all others."""
    own = scores.diagonal()[:, None]
    return int(((scores >= own).sum(1) == 1).sum())


def _chance(pairs: Pairs) -> Score:
    n = len(pairs[2])
    return score(max(int(pairs[2].sum()), n - int(pairs[2].sum())), n)


def _verdict(scores: dict[str, dict[str, Score]]) -> str:
    """Where ours is better than both, and where it is not."""
    better: list[str] = []
    not_better: list[str] = []
    for probe, ours in scores[H].items():
        bag, bare = scores[BAG][probe], scores[UNTRAINED][probe]
        figures = f"{probe} ({100 * ours.value:.1f} % against {100 * bag.value:.1f} and {100 * bare.value:.1f} %)"
        clear = min(difference(ours, other)[0] for other in (bag, bare)) > 0
        (better if clear else not_better).append(figures)
    said = "Against a bag of words and the untrained encoder it is clearly better by "
    if not better:
        return f"By {', '.join(not_better)} it is not clearly better than a bag of words and the untrained encoder."
    return said + ", ".join(better) + (f"; not by {', '.join(not_better)}." if not_better else ".")
