"""What can be told from features of recordings: the label, the speaker, the label of speakers that were not heard.

Logistic regression is that of linear.py, features standardised and C = 1 in every row of a table, 0.1 for unheard
speakers: nothing is chosen.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import product

import numpy as np
import torch
from torch import Tensor

from ..data.sounds import Sounds
from .clusters import Tally, tally
from .heard import Heard
from .knn import neighbours
from .linear import path

UNHEARD, FOLDS = 3_000, 10  # recordings and groups of speakers by which unheard speakers are measured, at most
STRENGTH, ABROAD = 1.0, 10.0  # of the penalty, 1 / C; and where what is judged is unlike what was learned from
CELLS = 2_500_000  # frames times classes that a fit is of, at most: of 25 classes or fewer all frames
BLOCK = 2**14  # rows classified at once
NEAREST, TEMPERATURE = 20, 0.07  # of kNN
KINDS = {"deviation": "mean and deviation", "quarters": "4 segments", "mean": "kNN"}
UNHEARD_LABEL = "label of unheard speakers"
Column = tuple[str, str]  # what is told, by what
Rows = dict[str, dict[Column, Tally]]
Tell = Callable[[Tensor, Tensor, Tensor], Tensor]  # (N, D), (N,), (M, D) -> (M,)


@dataclass
class Told:
    """What is to be told of the recordings of train and test: (M,) numbers of `names`, or -1."""

    what: str
    train: np.ndarray
    test: np.ndarray
    names: list[str]


def known(train: Sounds, test: Sounds) -> list[Told]:
    """The label, and the speaker where that is another thing, if two of each and a test recording are there."""
    out: list[Told] = []
    for what, of, names in (("label", "labels", "classes"), ("speaker", "speakers", "voices")):
        a, b, here, there = getattr(train, of), getattr(test, of), getattr(train, names), getattr(test, names)
        if a is None or b is None or len(np.unique(a[a >= 0])) < 2 or not (b >= 0).any():
            continue
        both = list(dict.fromkeys([*here, *there]))
        place = np.array([*(both.index(name) for name in there), -1])
        told = Told(what, a, place[b], both)
        if not out or [both[i] for i in told.train] != [out[0].names[i] for i in out[0].train]:
            out.append(told)
    return out


def probed(told: list[Told], a: Heard, b: Heard, framewise: bool, device: torch.device, seed: int) -> Rows:
    """Every row under every column that it has a figure for, the columns by which it is judged first."""
    found: Rows = {row: {} for row in a.parts}
    clips = np.unique(b.source.file, return_inverse=True)[1]
    if framewise:
        for one in told:
            for row, x in a.frames.items():
                few = slice(None, None, -(-len(x) * len(one.names) // CELLS))
                i, j = a.of[row][few].numpy(), b.of[row].numpy()
                right = told_right(classified, x[few], one.train[i], b.frames[row], one.test[j], device)
                found[row][one.what, "frames"] = tally(right, clips[j], clips.max() + 1)
    kinds = [kind for kind in KINDS if framewise or kind != "quarters"]
    if len(told) > 1:
        y, who = (np.concatenate([one.train, one.test]) for one in told)
        of = np.concatenate([np.unique(a.source.file, return_inverse=True)[1], clips + len(a.source)])
        folds, abroad = folded(y, who, seed), partial(classified, strength=ABROAD)
        for kind, row in product(kinds[:-1], a.parts):
            if kind in a.parts[row]:
                x = torch.cat([a.parts[row][kind], b.parts[row][kind]])
                right = np.full(len(y), np.nan)
                for learn, judge in folds:
                    right[judge] = told_right(abroad, x[learn], y[learn], x[judge], y[judge], device)
                found[row][UNHEARD_LABEL, KINDS[kind]] = tally(right, of, of.max() + 1)
    for one, kind, row in product(told, kinds, a.parts):
        if kind in a.parts[row]:
            tell = voted if kind == "mean" else classified
            right = told_right(tell, a.parts[row][kind], one.train, b.parts[row][kind], one.test, device)
            found[row][one.what, KINDS[kind]] = tally(right, clips, clips.max() + 1)
    return found


def told_right(tell: Tell, x: Tensor, y: np.ndarray, t: Tensor, u: np.ndarray, device: torch.device) -> np.ndarray:
    """(M,): 1 where t is told to be u as learned from x and y, 0 where not, NaN where u is -1."""
    learn, judge = torch.from_numpy(y >= 0), torch.from_numpy(u >= 0)
    guess = tell(x[learn].to(device), torch.from_numpy(y)[learn].to(device), t[judge].to(device)).cpu().numpy()
    right = np.full(len(u), np.nan)
    right[u >= 0] = guess == u[u >= 0]
    return right


def classified(x: Tensor, y: Tensor, t: Tensor, strength: float = STRENGTH) -> Tensor:
    """(N, D), (N,), (M, D) -> (M,): by logistic regression."""
    present, index = y.unique(return_inverse=True)
    model = next(path(x, index, len(present), [strength]))
    return torch.cat([present[model(block).argmax(1)] for block in t.split(BLOCK)])


def voted(x: Tensor, y: Tensor, t: Tensor) -> Tensor:
    """The same by the nearest neighbours' votes as in knn.py, features standardised."""
    spread, mean = torch.std_mean(x, 0)
    spread = spread.clamp(min=float(1e-6 * spread.max()) or 1.0)  # what is constant tells nothing
    similarity, nearest = neighbours((t - mean) / spread, (x - mean) / spread, min(NEAREST, len(x)))
    votes = similarity.new_zeros(len(t), int(y.max()) + 1)
    return votes.scatter_add_(1, y[nearest], (similarity / TEMPERATURE).exp()).argmax(1)


def folded(y: np.ndarray, who: np.ndarray, seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """(learned from, judged on): each speaker apart, or FOLDS groups of them; of UNHEARD recordings drawn by `seed`."""
    rng = np.random.default_rng(seed)
    items = np.sort(rng.permutation(np.flatnonzero((who >= 0) & (y >= 0)))[:UNHEARD])
    speakers = rng.permutation(np.unique(who[items]))
    out = []
    for some_speakers in np.array_split(speakers, min(FOLDS, len(speakers))):
        held = np.isin(who[items], some_speakers)
        out.append((items[~held], items[held]))
    return out
