"""A closer look at a run on histories: what it recommends and to whom, and what it makes that from.

vectors, h, z    spectra of item vectors and of the states of users as they are asked what comes next
popularity       of what is recommended, beside that of what users really took next
alike            how much of their ten best two users share, whatever they have met: 1 where all get the same
order            how well the next item is found, and how well when the history is shuffled
ahead_of_*       the 95 % interval of its NDCG less that of a floor, user by user
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from ..data.cloze import Ask
from ..data.cooccurrence import entries
from ..data.histories import Histories
from ..data.splits import Division, Question
from ..evaluate.ranking import model_scorer, rank
from ..evaluate.ranks import Ranks, gap
from ..evaluate.recommend import embed_users, recommendations, vectors
from ..log import finite
from ..types import Features, Method
from .checkup import spectra

USERS = 1000  # that are looked at
ITEMS = 10_000  # item vectors whose spectra are taken
K = 10  # recommendations of a user
FLOORS = ("popular", "markov")
MOST = 0.01  # of the catalogue, by how often it is met


def checkup_histories(
    method: Method,
    ask: Ask,
    division: Division,
    *,
    rows: Mapping[str, Ranks] | None = None,
    seed: int = 0,
    device: torch.device | str = "cpu",
) -> dict[str, Any]:
    """What checkup.json holds of a run on histories: numbers by name, spectra under "h", "z" and "vectors".

    rows: the ranks of all users of the test, by what answered: "popular", "markov", and the method by its class. Where
    they are there, coverage and popularity are of these, and otherwise of 1,000 users.
    What cannot be looked at (no test, weights that are not finite) is left out.
    """
    rows = rows or {}
    ranks = rows.get(type(method).__name__)
    random = np.random.default_rng(seed)
    train, counts = division.train, division.train.counts()
    out: dict[str, Any] = {"short": _short((train.lengths < 3).mean()), **of_items(method, train, random)}
    if out["vectors"] is None:
        return finite(out)
    question = division.test or division.valid or Question(train, train.between(train.stops, train.stops))
    chosen = np.flatnonzero(question.history.lengths > 0)
    chosen = np.sort(random.permutation(chosen)[:USERS])
    asked = Question(question.history.subset(chosen), question.truth.subset(chosen))
    out |= {"users": len(chosen), **of_users(method, ask, asked.history)}
    if len(chosen) < 2 or out["h"] is None:
        return finite(out)
    k = min(K, train.catalogue)
    anyway = np.concatenate([part.items for part in recommendations(method, ask, asked.history, counts, k, seen=True)])
    out |= likeness(anyway, counts, random)
    if asked.truth.events:
        scorer = model_scorer(method, ask, device)
        usual = rank(scorer, asked, counts, k=(K,))
        other = rank(scorer, Question(shuffled(asked.history, ask.length, random), asked.truth), counts, k=(K,))
        lost = gap(usual, other, K)
        out |= {"ndcg": usual.ndcg(K).value, "ndcg_shuffled": other.ndcg(K).value}
        out |= {"order_low": lost.low, "order_high": lost.high}
        ranks = ranks or usual
        met = counts[question.truth.flat(question.truth.items)]
        out["cold"] = float((met == 0).mean())
        if (ranks.lists >= 0).any():  # else all have met all there is
            out |= popularity(ranks.lists[:, :K], ranks.items, counts)
        for floor in FLOORS:
            if floor in rows:
                ahead = gap(ranks, rows[floor], K)
                out[f"ahead_of_{floor}"] = [_short(ahead.low), _short(ahead.high)]
    return finite({name: _short(value) if isinstance(value, float) else value for name, value in out.items()})


def of_items(method: Any, train: Histories, random: np.random.Generator) -> dict[str, Any]:
    """vectors: the spectrum over the catalogue; vectors_met: over items as often as they occur in training.

    norm_popularity, bias_popularity: correlation of their length, and of the bias, with the logarithm of that.
    """
    e, bias = vectors(method)
    counts = train.counts()
    flat = train.flat(train.items)
    every = random.permutation(len(e))[:ITEMS]
    often = flat[random.integers(len(flat), size=min(ITEMS, len(flat)))] if len(flat) else every

    def seen(places: np.ndarray) -> Any:
        return spectra(Features(e[torch.from_numpy(places).to(e.device)].float().cpu(), []))["h"]

    out: dict[str, Any] = {"vectors": seen(every), "vectors_met": seen(often)}
    known = np.flatnonzero(counts)
    if out["vectors"] is not None and len(known) > 2:
        popularity = np.log(counts[known])
        out["norm_popularity"] = correlation(e.float().norm(dim=1).cpu().numpy()[known], popularity)
        if bias is not None:
            out["bias_popularity"] = correlation(bias.float().cpu().numpy()[known], popularity)
    return out


@torch.no_grad()
def of_users(method: Any, ask: Ask, histories: Histories) -> dict[str, Any]:
    """The spectra of h and, as unit vectors, of z; None where they are not finite."""
    h = embed_users(method, ask, histories)
    z = method.project(h.to(next(method.parameters()).device)).float().cpu()
    return spectra(Features(h, [], z=z))


def likeness(lists: np.ndarray, counts: np.ndarray, random: np.random.Generator) -> dict[str, float]:
    """Of (N, k) recommendations, those of what a user has met included.

    alike: the share of its list that a user has in common with another, mean over random pairs; alike_chance: that of
    lists drawn at random; alike_popular: the share of a list that is among the k items of all that occur most.
    """
    k, order = lists.shape[1], random.permutation(len(lists))
    others = np.empty_like(lists)
    others[order] = lists[np.roll(order, 1)]
    common = (lists[:, :, None] == others[:, None]).any(2).mean()
    top = np.argsort(-counts, kind="stable")[:k]
    return {
        "alike": float(common),
        "alike_chance": k / len(counts),
        "alike_popular": float(np.isin(lists, top).mean()),
    }


def popularity(lists: np.ndarray, taken: np.ndarray, counts: np.ndarray) -> dict[str, float]:
    """What is recommended, (N, k) with -1 for none, beside what was taken, (M,).

    recommended_percentile, taken_percentile: where it stands among all items by how often these occur, 0 to 1.
    recommended_most, taken_most: the share that is of the most popular 1 % of items.
    coverage: the share of the catalogue that anyone is recommended; reached: the same of what could be, with so many
    lists; never: the share of the items met in training that no one is recommended; taken_coverage: the share of the
    catalogue that anyone took.
    """
    given = lists[lists >= 0]
    place = percentiles(counts)
    most = np.zeros(len(counts), bool)
    most[np.argsort(-counts, kind="stable")[: max(1, round(MOST * len(counts)))]] = True
    found = np.zeros(len(counts), bool)
    found[given] = True
    return {
        "recommended_percentile": float(place[given].mean()),
        "taken_percentile": float(place[taken].mean()),
        "recommended_most": float(most[given].mean()),
        "taken_most": float(most[taken].mean()),
        "coverage": float(found.mean()),
        "reached": float(found.sum() / min(len(counts), given.size)),
        "never": float(1 - found[counts > 0].mean()),
        "taken_coverage": len(np.unique(taken)) / len(counts),
    }


def percentiles(counts: np.ndarray) -> np.ndarray:
    """(V,) from 0 to 1: the share of the catalogue that occurs less often than an item, half of its equals included."""
    _, place, equal = np.unique(counts, return_inverse=True, return_counts=True)
    return ((np.cumsum(equal) - equal / 2) / len(counts))[place]


def shuffled(histories: Histories, length: int, random: np.random.Generator) -> Histories:
    """The same histories with their last `length` items in another order."""
    rows = np.arange(len(histories))
    owners, items = entries(histories, rows)
    lengths = histories.lengths
    stops = np.cumsum(lengths)
    place = np.arange(len(items)) - (stops - lengths)[owners]
    kept = place < lengths[owners] - length
    order = np.lexsort((np.where(kept, place, lengths[owners] + random.random(len(items))), owners))
    return replace(histories, items=items[order], starts=stops - lengths, stops=stops, times=None)


def correlation(x: np.ndarray, y: np.ndarray) -> float:
    """Pearson's; NaN where one of the two does not vary."""
    x, y = x - x.mean(), y - y.mean()
    size = float(np.sqrt(x @ x * (y @ y)))
    return float(x @ y) / size if size > 0 else float("nan")


def _short(value: Any) -> float:
    return float(f"{float(value):.6g}")
