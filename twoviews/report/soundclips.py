"""Short pieces of recordings that a page shows: what the encoder makes of them, how they look and how they sound."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from ..data.loader import collate
from ..data.sounds import Sounds
from ..data.soundviews import whole
from ..evaluate.embed import features, model
from ..evaluate.search import label_names
from ..evaluate.split import take
from ..run import Run
from ..train import DTYPES
from ..types import Features, Method
from .players import SECONDS, Players

MOST = 300  # pieces of each side
BATCH = 64


@dataclass(frozen=True)
class Clips:
    """features: (N, D), all finite.  source: the same N pieces in that order, none longer than what is played.

    total: pieces of the whole side.  broken: key -> reason.  infinite: embeddings left out as not finite.
    """

    features: Features
    source: Sounds
    total: int
    broken: dict[str, str]
    infinite: int

    def __len__(self) -> int:
        return len(self.features)

    def known(self) -> dict[str, Features]:
        """The same features with labels and with speakers, of each where two or more are met among the pieces."""
        speakers, voices = self.source.speakers, self.source.voices
        said = None if speakers is None else torch.from_numpy(speakers).long()
        ways = {"label": self.features, "speaker": replace(self.features, labels=said, classes=voices)}
        return {by: each for by, each in ways.items() if several(each.labels)}

    def captions(self) -> list[str]:
        """What is known of each piece in a few words: label and speaker where there are any, else its name."""
        parts = [label_names(each) for each in self.known().values()]
        lines = [", ".join(filter(None, words)) for words in zip(*parts, strict=True)] or [""] * len(self)
        return [line or key for line, key in zip(lines, self.features.keys, strict=True)]

    def sound(self, players: Players, i: int) -> int:
        """The number by which a page plays a piece; test and training recordings may bear one name."""
        return players.add(f"{id(self)} {i}", self.source.read(i)[0, 0], self.source.rate)

    def picture(self, i: int) -> Tensor:
        """uint8 (1, 64, 128): its spectrogram, low notes below."""
        return picture(self.source.read(i))


def collect(
    run: Run,
    method: Method,
    source: Sounds,
    device: torch.device,
    workers: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Clips:
    """At most 300 pieces of a side, drawn by the run's seed. Raises DataError when none can be read."""
    pieces = source.cut(SECONDS)
    chosen = np.sort(np.random.default_rng(run.seed).permutation(len(pieces))[:MOST])
    some = pieces.subset(chosen)
    broken: dict[str, str] = {}
    embed = model(method.encoder, None, None if run.precision == "fp32" else DTYPES[run.precision])
    how = {"batch_size": BATCH, "device": device, "workers": workers, "progress": progress, "skipped": broken}
    seen = features(embed, some, run.test_view(), **how)
    read = np.array([some.key(i) not in broken for i in range(len(some))])
    finite = seen.h.isfinite().all(1).numpy()
    kept = take(seen, np.flatnonzero(finite))
    return Clips(kept, some.subset(np.flatnonzero(read)[finite]), len(pieces), broken, int((~finite).sum()))


def several(labels: Tensor | None) -> bool:
    return labels is not None and len(labels[labels >= 0].unique()) > 1


def picture(x: Tensor) -> Tensor:
    """A sound float32 (1, 1, T) -> uint8 (1, 64, 128)."""
    return painted(whole().pictures(*collate([x]))[0])[0]


def painted(x: Tensor) -> Tensor:
    """A picture in [0, 1] as uint8."""
    return (x.clamp(0, 1) * 255).round().byte().cpu()
