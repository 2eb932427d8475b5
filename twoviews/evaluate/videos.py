"""What does an encoder know of videos, and does it need the order of their frames?

    table = measure_videos(encoder, untrained, train, test, central_clip(112, 16, 4))
    print(table.markdown())

Probes learn from frames in order and are judged on frames in order, shuffled and reversed: on some data a plain ViT
scores as high without any order, so a score alone does not show that time is seen (Fan et al. 2021, arXiv:2104.11227).
Without labels the table says how well forward is told from backward.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool1d

from ..data.videos import ORDERS, Videos
from ..types import Features
from .arrow import FOLDS, arrow
from .attentive import attentive
from .embed import Model, Progress, Views, features_of, model, raw_pixels
from .knn import knn
from .linear import choose
from .score import INTERVALS, Score, difference, score
from .split import holdout, labelled
from .table import CHANCE, RAW, UNTRAINED, H, Table

TOKENS = 2**28  # numbers of one set's tokens that are kept, 512 MB; beyond it neighbours are averaged
ARROW, ARROW_CLIPS = "arrow", 2000
NAMES = {RAW: "raw pixels", UNTRAINED: "the untrained encoder"}
PLAIN = ORDERS[0]


def measure_videos(
    encoder: nn.Module,
    untrained: nn.Module,
    train: Videos,
    test: Videos,
    view: Any,
    *,
    device: torch.device | str = "cpu",
    seed: int = 0,
    progress: Progress | None = None,
    skipped: dict[str, str] | None = None,
    keep: list[Features] | None = None,
    batch_size: int = 32,
    workers: int = 0,
    precision: torch.dtype | None = None,
) -> Table:
    """The table of an encoder of clips, (B, 3, T, H, W) -> (B, D), beside chance, raw pixels and itself untrained.

    train, test: any moments they have are replaced by those of `view`. Where both are the same a fifth of the items is
        held out, of every class alike; stretches of one video on one side.
    view:  (canvas, sizes, None) -> [x], with `moments`, as `central_clip`.
    keep:  filled with the (train, test) features of h; stays empty without labels.
    Raises DataError when nothing can be read, UserError on features that are not finite or too few videos.
    """
    train, test = train.sampled(view.moments, seed), test.sampled(view.moments, seed)
    skipped = {} if skipped is None else skipped
    rows: dict[str, nn.Module | None] = {RAW: None, UNTRAINED: untrained.to(device), H: encoder.to(device)}
    how: dict[str, Any] = {"batch_size": batch_size, "device": device, "skipped": skipped, "workers": workers}
    if not _tellable(train) or not _tellable(test):
        return arrow_table(rows, train, test, view, seed=seed, precision=precision, progress=progress, **how)
    same = train.fingerprint() == test.fingerprint()
    if same:
        assert train.labels is not None  # it is tellable
        files, first = np.unique(train.file, return_index=True)
        rest, _ = holdout(train.labels[first], 0.2, seed)
        mine = np.isin(train.file, files[rest])
        train, test = train.subset(mine), train.subset(~mine)
    total, before = len(train) + 3 * len(test), 0
    room = max(1, TOKENS // max(len(train), len(test)))
    models = {name: raw_pixels if net is None else with_tokens(net, room, precision) for name, net in rows.items()}

    def read(source: Videos) -> dict[str, Features]:
        nonlocal before
        start, before = before, before + len(source)
        step = None if progress is None else lambda done, _: progress(start + done, total)
        return features_of(models, source, view, progress=step, **how)

    learn, judge = read(train), {order: read(test.ordered(order)) for order in ORDERS}
    if keep is not None:
        keep += [replace(learn[H], z=None), replace(judge[PLAIN][H], z=None)]
    file = {test.key(i): int(test.file[i]) for i in range(len(test))}
    found = {name: probed(learn[name], {o: judge[o][name] for o in ORDERS}, file, seed, device) for name in rows}
    columns = list(found[H][PLAIN])
    labels = labelled(learn[H], judge[PLAIN][H]).u
    most = score(int(labels[labels >= 0].bincount().max()) if (labels >= 0).any() else 0, len(labels))
    half = {ARROW: found[H][PLAIN][ARROW]} if ARROW in columns else {}
    scores = {CHANCE: dict.fromkeys(columns, most) | {k: Score(0.5, 0.5, 0.5, s.n) for k, s in half.items()}}
    for name, orders in found.items():  # of baselines the other orders are in `detail`: a terminal holds so many lines
        scores[name] = {
            probe: replace(cell, detail=cell.detail | _orders(orders, probe)) for probe, cell in orders[PLAIN].items()
        }
    scores |= {f"{H}, {order}": found[H][order] for order in ("shuffled", "reversed")}
    about = [
        "Probes learn from frames in order; the rows shuffled and reversed read the same test clips in that order.",
        "kNN: k = 20 or all, T = 0.07; attentive: one query over tokens, six settings trained at once.",
    ]
    if ARROW in columns:
        about.append(f"arrow: is a test clip forward or backward? Learned from other videos of test, {FOLDS} folds.")
    if same:
        about.append("Test items: 20% of the items, kept from the probes but not from the encoder.")
    return Table("Accuracy on the test videos", scores, [*about, INTERVALS], said=verdict(found))


def with_tokens(encoder: nn.Module, room: int, precision: torch.dtype | None = None) -> Model:
    """x -> (h, tokens as bfloat16, neighbours averaged down to `room` numbers an item), as `embed.model`."""
    h = model(encoder, None, precision)
    if not hasattr(encoder, "tokens"):
        return h
    each = model(_Call(encoder), None, precision)

    def run(x: Tensor) -> tuple[Tensor, Tensor | None]:
        tokens = each(x)[0]  # (B, N, D)
        few = max(1, room // tokens.shape[2])
        if tokens.shape[1] > few:
            tokens = adaptive_avg_pool1d(tokens.transpose(1, 2), few).transpose(1, 2)
        return h(x)[0], tokens.to(torch.bfloat16).cpu()

    return run


class _Call(nn.Module):
    """An encoder whose forward is its tokens."""

    def __init__(self, encoder: nn.Module):
        super().__init__()
        self.encoder = encoder

    def forward(self, x: Tensor) -> Tensor:
        return self.encoder.tokens(x)  # type: ignore[operator]


def probed(
    train: Features, tests: dict[str, Features], file: dict[str, int], seed: int, device: torch.device | str
) -> dict[str, dict[str, Score]]:
    """order -> probe -> Score: each probe learned once from train and judged on each order of the test frames."""
    data = {order: labelled(train, test) for order, test in tests.items()}
    first = data[PLAIN]
    found: dict[str, dict[str, Score]] = {}
    classifier, detail = choose(first.x, first.y, first.classes, seed=seed)
    for order, d in data.items():
        right = int((classifier(d.t).argmax(1).cpu() == d.u.cpu()).sum())
        cells = {"kNN": knn(train, tests[order], k=min(20, len(first.x))), "linear": score(right, len(d.t), **detail)}
        found[order] = cells
    if train.z is not None and train.labels is not None:
        x = train.z[train.labels >= 0]
        t = [f.z[f.labels >= 0] for f in tests.values() if f.z is not None and f.labels is not None]
        told, chosen = attentive(x, first.y, t, seed=seed, device=device)
        for order, one in zip(tests, told, strict=True):
            u = data[order].u.cpu()
            found[order]["attentive"] = score(int((one == u).sum()), len(u), **chosen)
    groups = np.array([file[key] for key in tests[PLAIN].keys])
    if len(np.unique(groups)) > 1:
        found[PLAIN][ARROW] = arrow(tests[PLAIN].h, tests["reversed"].h, groups, seed=seed)
    return found


def verdict(found: dict[str, dict[str, dict[str, Score]]]) -> str:
    """Is h better than the baselines by the linear probe, and does its score need the order of frames?"""
    ours = found[H][PLAIN]["linear"]
    said = []
    for row, name in NAMES.items():
        other = found[row][PLAIN]["linear"]
        side = "better" if difference(ours, other)[0] > 0 else "not clearly better"
        said.append(f"{side} than {name} ({100 * other.value:.1f} %)")
    mixed, turned = (found[H][order]["linear"] for order in ("shuffled", "reversed"))
    share = mixed.value / max(ours.value, 1e-9)
    if difference(ours, mixed)[0] > 0 and share < 0.95:
        back = turned.value / max(ours.value, 1e-9)
        order = f"Shuffled frames give {share:.0%} of it, reversed {back:.0%}: it needs the order of frames."
    else:
        order = f"Shuffled frames give {share:.0%} of it: this score does not show that time is seen."
    return f"By a linear probe, h ({100 * ours.value:.1f} %) is {' and '.join(said)}. {order}"


def arrow_table(
    rows: dict[str, nn.Module | None],
    train: Videos,
    test: Videos,
    view: Views,
    *,
    seed: int,
    precision: torch.dtype | None,
    progress: Progress | None,
    **how: Any,
) -> Table:
    """Without labels: is a clip forward or backward? Of test, or of train where test is of fewer than ten videos."""
    source = pieces(test if len(np.unique(test.file)) >= 10 else train, seed)
    models: dict[str, Model] = {
        name: raw_pixels if net is None else model(net, None, precision) for name, net in rows.items()
    }

    def part(number: int) -> Callable[[int, int], None] | None:
        return None if progress is None else lambda done, total: progress(number * total + done, 2 * total)

    ahead = features_of(models, source, view, progress=part(0), **how)
    back = features_of(models, source.ordered("reversed"), view, progress=part(1), **how)
    file = {source.key(i): int(source.file[i]) for i in range(len(source))}
    groups = np.array([file[key] for key in ahead[H].keys])
    found = {name: arrow(ahead[name].h, back[name].h, groups, seed=seed) for name in rows}
    scores = {CHANCE: {ARROW: Score(0.5, 0.5, 0.5, found[H].n)}} | {name: {ARROW: s} for name, s in found.items()}
    ours = found[H]
    parts = [
        f"{'better' if difference(ours, found[row])[0] > 0 else 'not clearly better'} than {name} "
        f"({100 * found[row].value:.1f} %)"
        for row, name in NAMES.items()
    ]
    time = "" if ours.low > 0.5 else " It is not above chance: this does not show that time is seen."
    said = f"Ours tells forward from backward in {100 * ours.value:.1f} %, {' and '.join(parts)}.{time}"
    about = [
        f"A linear probe on {len(groups):,} clips and the same reversed, of {len(np.unique(groups)):,} videos; each "
        "video is judged by a probe that has not seen it. Labels would tell more.",
        "Brackets: 95 % intervals that count the clips of one video together.",
    ]
    return Table("Forward or backward?", scores, about, said)


def pieces(source: Videos, seed: int) -> Videos:
    """Items as they are, at most 2,000; few long videos in windows of two seconds and more."""
    seconds = float(np.nansum([end - begin for begin, end in map(source.span, range(len(source)))]))
    if len(source) < 100 and seconds > 4 * len(source) and not hasattr(source.listing.store, "clips"):
        source = source.cut(max(2.0, seconds / ARROW_CLIPS))
    if len(source) <= ARROW_CLIPS:
        return source
    return source.subset(np.sort(np.random.default_rng(seed).choice(len(source), ARROW_CLIPS, replace=False)))


def _orders(orders: dict[str, dict[str, Score]], probe: str) -> dict[str, float]:
    """The same score with frames in another order, by order."""
    return {order: cells[probe].value for order, cells in orders.items() if order and probe in cells}


def _tellable(source: Videos) -> bool:
    return source.labels is not None and len(np.unique(source.labels[source.labels >= 0])) > 1
