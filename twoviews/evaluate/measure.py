"""How good is an encoder? Always in one table: chance, raw pixels, the same encoder untrained, ours.

    table = evaluate(encoder, untrained, method.project, train, test, center(32))
    print(table.markdown())

A figure alone says nothing: on CIFAR-10 a linear probe gets 41 % out of raw pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..errors import UserError, unknown
from ..types import Features, Source
from . import PROBES
from .embed import Progress, Views, features_of, model, raw_pixels
from .retrieval import retrieval_table
from .score import INTERVALS, score
from .split import holdout, known, take
from .table import CHANCE, RAW, UNTRAINED, H, Table, Z


def evaluate(
    encoder: nn.Module,
    untrained: nn.Module,
    project: Callable[[Tensor], Tensor] | None,
    train: Source,
    test: Source | None,
    views: Views,
    *,
    pair: Views | None = None,
    probes: Sequence[str] = ("knn", "linear"),
    settings: Mapping[str, Mapping[str, Any]] | None = None,
    share: float = 0.2,
    seed: int = 0,
    batch_size: int = 256,
    device: torch.device | str = "cpu",
    workers: int = 0,
    precision: torch.dtype | None = None,
    progress: Progress | None = None,
    skipped: dict[str, str] | None = None,
    keep: list[Features] | None = None,
) -> Table:
    """The table of an encoder beside chance and the baselines, under each probe.

    untrained: the same encoder with fresh weights.
    project:   h -> z, a module or a module's method, for a row of z; None leaves it out.
    test:      None (or train itself) keeps `share` of train, of every class alike, from the probes to judge them.
    views:     (images, sizes, None) -> [x], as `center`.
    pair:      (images, sizes, Dice) -> two random views, as `two_crops`. Used where there are no two classes to
               tell apart: the table then is of `retrieval`, over at most 2,000 items of test.
    precision: a dtype for autocast. The rest as in `measure` and `features_of`.
    keep:      filled with the (train, test) features of h that were judged; stays empty for retrieval.
    Raises DataError when no item can be read, UserError without two classes or `pair`.
    """
    if test is train:
        test = None
    models = {
        RAW: raw_pixels,
        UNTRAINED: model(untrained.to(device), precision=precision),
        H: model(encoder.to(device), project, precision),
    }
    how: dict[str, Any] = {"batch_size": batch_size, "device": device, "workers": workers, "skipped": skipped}
    if _classes(train) < 2 or (test is not None and not _classes(test)):
        if pair is None:
            raise UserError(f"{train.name} has no two labelled classes to measure by: give labels, or pair")
        return retrieval_table(models, test or train, pair, seed=seed, progress=progress, **how)

    total = len(train) + (0 if test is None else len(test))

    def read(source: Source, before: int) -> dict[str, Features]:
        step = None if progress is None else lambda done, _: progress(before + done, total)
        return features_of(models, source, views, progress=step, **how)

    learn, notes = read(train, 0), []
    if test is None:
        labels = learn[H].labels
        assert labels is not None  # there are classes
        rest, held = holdout(labels, share, seed)
        rows = {name: (take(f, rest), take(f, held)) for name, f in learn.items()}
        notes = [f"Test items: {share:.0%} of the items, kept from the probes but not from the encoder."]
    else:
        judge = read(test, len(train))
        rows = {name: (f, judge[name]) for name, f in learn.items()}
    if keep is not None:
        keep.extend(rows[H])
    if project is not None:
        a, b = rows[H]
        rows[Z] = (_of_z(a), _of_z(b))
    table = measure(rows, probes, settings, device=device)
    return replace(table, notes=notes + table.notes)


def measure(
    rows: Mapping[str, tuple[Features, Features]],
    probes: Sequence[str] = ("knn", "linear"),
    settings: Mapping[str, Mapping[str, Any]] | None = None,
    *,
    device: torch.device | str | None = None,
    title: str = "Accuracy on the test items",
) -> Table:
    """Run the probes on each row's (train, test) features, with chance before them.

    settings: keyword arguments of a probe by its name, say {"knn": {"k": 200, "temperature": 0.1}}.
    device:   where the probes compute when the features fit there; by default where the features are.
    Raises UserError on an unknown probe, on rows of different items, and whatever the probes raise.
    """
    settings = settings or {}
    for name in (*probes, *settings):
        if name not in PROBES:
            raise unknown("probe", name, PROBES)
    train, test = next(iter(rows.values()))
    _, labels = known(test, "test")
    chance = score(int(labels.unique(return_counts=True)[1].max()), len(labels))
    scores = {CHANCE: dict.fromkeys(probes, chance)}
    for name, (a, b) in rows.items():
        if a.keys != train.keys or b.keys != test.keys:
            raise UserError(f"the row '{name}' is of other items than the first: they cannot be compared")
        a, b = _near(a, device), _near(b, device)
        scores[name] = {probe: PROBES[probe](a, b, **settings.get(probe, {})) for probe in probes}
    note = f"Chance: the share of the largest class among the {chance.n:,} labelled test items."
    return Table(title, scores, [note, INTERVALS])


def _classes(source: Source) -> int:
    """How many classes of two items or more a source knows."""
    if source.labels is None:
        return 0
    _, count = np.unique(source.labels[source.labels >= 0], return_counts=True)
    return int((count > 1).sum())


def _of_z(features: Features) -> Features:
    assert features.z is not None  # a model with `project` gives it
    return replace(features, h=features.z)


def _near(features: Features, device: torch.device | str | None) -> Features:
    """The features on a GPU, if the few copies of them that a probe makes find room there too."""
    if device is None or torch.device(device).type != "cuda":
        return features
    room, _ = torch.cuda.mem_get_info(device)
    return replace(features, h=features.h.to(device)) if 4 * 4 * features.h.nelement() < room else features
