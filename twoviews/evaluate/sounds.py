"""What does an encoder know of a recording? Beside chance, loudness and duration, MFCC and the same encoder untrained.

    table = measure_sounds(encoder, untrained, train, test, whole())
    print(table.markdown())

Logistic regression tells the label and the speaker from each frame alone, as in van den Oord et al. 2018,
arXiv:1807.03748, section 3.1; from mean and deviation over a recording; from the means of its quarters. It also tells
the label of speakers it has not heard. On clips of one word mean and deviation of MFCC tell nearly all, so frames and
unheard speakers are what an encoder is judged by.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..data.sounds import Sounds
from ..errors import UserError
from ..types import Features
from .clusters import gap
from .embed import Progress, Views
from .frames import Framed, framed, has_frames
from .heard import FRAMES, MFCC, Heard, cepstra, hear, some
from .retrieval import retrieval
from .score import INTERVALS, Score, difference, score
from .soundprobes import KINDS, UNHEARD_LABEL, Column, Rows, Told, known, probed
from .table import CHANCE, UNTRAINED, H, Table

LEARNED, JUDGED = (10_000, 7200.0), (5_000, 3600.0)  # pieces, and seconds, to learn from and to be judged on, at most
FLOORS = {MFCC: "MFCC", UNTRAINED: "the untrained encoder"}


def measure_sounds(
    encoder: nn.Module,
    untrained: nn.Module,
    train: Sounds,
    test: Sounds,
    view: Views,
    *,
    device: torch.device | str = "cpu",
    seed: int = 0,
    progress: Progress | None = None,
    skipped: dict[str, str] | None = None,
    keep: list[Features] | None = None,
    batch_size: int = 64,
) -> Table:
    """The table of an encoder of sounds, for the label and for the speaker as far as they are known.

    untrained: the same encoder with fresh weights.
    view:      (sounds, sizes, None) -> [x (B, T)], as `whole`.
    skipped:   filled with key -> reason of recordings that could not be read.
    keep:      filled with the (train, test) features that kNN has, the mean over frames; stays empty without labels.
    Recordings of more than 20 s are measured in pieces; of much sound two hours are learned from and one is judged on.
    Without two classes or speakers to tell apart the table says how often the halves of a recording find each other.
    Raises DataError when nothing can be read, UserError on features that are not finite.
    """
    rows = {MFCC: cepstra(train.rate), UNTRAINED: framed(untrained.to(device)), H: framed(encoder.to(device))}
    how: dict[str, Any] = {"seed": seed, "batch_size": batch_size, "device": device, "skipped": skipped}
    if not known(train, test):
        return halves_table(rows, some(test, *JUDGED, seed), view, progress, **how)
    train, test = some(train, *LEARNED, seed), some(test, *JUDGED, seed)
    total = len(train) + len(test)
    first = None if progress is None else lambda done, _: progress(done, total)
    then = None if progress is None else lambda done, _: progress(len(train) + done, total)
    a = hear(rows, train, view, progress=first, **how)
    b = hear(rows, test, view, progress=then, **how)
    told = known(a.source, b.source)
    if not told:
        raise UserError(
            f"too little of {train.name} and {test.name} could be read to tell two classes or speakers apart"
        )
    if keep is not None:
        keep += [means(a, told[0].train, told[0].names), means(b, told[0].test, told[0].names)]
    found = probed(told, a, b, has_frames(encoder), torch.device(device), seed)
    scores = {CHANCE: {", ".join(column): chance(told, column) for column in found[H]}}
    scores |= {row: {", ".join(column): one.score() for column, one in cells.items()} for row, cells in found.items()}
    return Table("What the encoder knows of a recording", scores, notes(a, b, found), said=verdict(found))


def chance(told: list[Told], column: Column) -> Score:
    """The share of the largest class among the test recordings; of train and test where speakers are unheard."""
    one = next(one for one in told if column[0].startswith(one.what))
    labels = np.concatenate([one.train, one.test]) if column[0] == UNHEARD_LABEL else one.test
    return score(int(np.bincount(labels[labels >= 0]).max()), int((labels >= 0).sum()))


def means(heard: Heard, labels: np.ndarray, names: list[str]) -> Features:
    """Our row's means over frames."""
    keys = [heard.source.key(i) for i in range(len(heard.source))]
    return Features(heard.parts[H]["mean"], keys, torch.from_numpy(labels), names)


def verdict(found: Rows) -> str:
    """One sentence: is ours better than MFCC and than the untrained encoder, by more than the draw of recordings?

    By frames and unheard speakers, else by mean and deviation.
    """
    hard = [column for column in found[H] if column[1] == "frames" or column[0] == UNHEARD_LABEL]
    hard = hard or [column for column in found[H] if column[1] == KINDS["deviation"]]
    said, learned = [], False
    for row, name in FLOORS.items():
        sides: dict[str, list[str]] = {"better": [], "not clearly better": [], "worse": []}
        for column in hard:
            value, error = gap(found[H][column], found[row][column])
            side = "better" if value > error else "worse" if -value > error else "not clearly better"
            sides[side].append(f"{' by '.join(column)} ({100 * value:+.1f} ± {100 * error:.1f})")
        said += [f"{side} than {name} at {', '.join(at)}" for side, at in sides.items() if at]
        learned = bool(sides["better"])
    end = "" if learned else " It has learned nothing that shows here: train longer, and ask `twoviews doctor` why."
    return f"In points of accuracy ours is {'; '.join(said)}.{end}"


def notes(a: Heard, b: Heard, found: Rows) -> list[str]:
    columns = found[H]
    out = ["Logistic regression, features standardised, C = 1 in every row; kNN: cosine of standardised means, k = 20."]
    if any(by == "frames" for _, by in columns):
        out.append(
            f"Frames: each alone, two at each end of a clip left out; {len(a.frames[H]):,} to learn from and "
            f"{len(b.frames[H]):,} to be judged by, drawn where there are more than {FRAMES:,}; for over 25 "
            "classes fewer to learn from."
        )
    if any(what == UNHEARD_LABEL for what, _ in columns):
        out.append(
            "Unheard speakers: learned from all speakers of train and test but one (of many, a tenth), judged on those "
            "left out; C = 0.1; the encoder itself has heard them. Intervals do not cover the draw of speakers."
        )
    out.append("Loudness and duration: log level, offset, log peak and seconds of the recording as it is.")
    out.append("MFCC: 13 of 26 filters, 25 ms every 10 ms, of the recording as the encoder gets it.")
    return [*out, f"{INTERVALS} Frames and pieces of one recording count together."]


def halves_table(
    rows: Mapping[str, Framed], source: Sounds, view: Views, progress: Progress | None, **how: Any
) -> Table:
    """Where nothing is known of the recordings: is a second half the nearest of all to its first?"""

    def half(number: int) -> Views:
        def pick(sounds: Tensor, sizes: Tensor, dice: Any = None) -> list[Tensor]:
            many = sizes[:, 1] // 2
            at = torch.arange(int(many.max().clamp(min=1)), device=sounds.device)
            inside = at < many[:, None]
            x = sounds[:, 0, 0].gather(1, torch.where(inside, at + number * many[:, None], 0)) * inside
            return list(view(x[:, None, None], torch.stack([sizes[:, 0], many], 1), None))

        return pick

    first = None if progress is None else lambda done, total: progress(done, 2 * total)
    then = None if progress is None else lambda done, total: progress(total + done, 2 * total)
    both = [hear(rows, source, half(i), progress=step, **how) for i, step in enumerate((first, then))]
    n = len(both[0].source)
    scores = {CHANCE: {"retrieval": Score(1 / n, 1 / n, 1 / n, n)}}
    for row in rows:
        x, t = (heard.parts[row]["deviation"] for heard in both)
        spread, mean = torch.std_mean(torch.cat([x, t]), 0)
        spread = torch.where(spread > 1e-6 * spread.max(), spread, 1.0)
        scores[row] = {"retrieval": retrieval((x - mean) / spread, (t - mean) / spread)}
    ours, parts = scores[H]["retrieval"], []
    for row, name in FLOORS.items():
        floor = scores[row]["retrieval"]
        side = "better" if difference(ours, floor)[0] > 0 else "not clearly better"
        parts.append(f"{side} than {name} ({100 * floor.value:.1f} %)")
    said = f"Ours finds {100 * ours.value:.1f} % of the second halves, {' and '.join(parts)}."
    about = [
        f"Retrieval: the share of {n:,} recordings whose second half is the nearest of all to their first.",
        "It shows that recordings are recognised, by voice or by room; what is said in them only labels show.",
        INTERVALS,
    ]
    return Table("Do two halves of one recording find each other?", scores, about, said)
