"""How good are vectors of nodes? Labels told from a part of them, clusters, held-out links; beside ProNE and chance.

    table = node_table({"untrained": x, "ProNE": y, "metapath2vec": z}, labels, pairs)
    print(table.markdown())

The protocol of DeepWalk (Perozzi et al. 2014) and metapath2vec (Dong et al. 2017): logistic regression on 5 .. 90 % of
the labelled nodes, macro and micro F1 on the rest, ten repeats. Vectors are scaled to length 1. Where a node has one
label, C = 10 and shares of every class alike; where it may have several, one classifier a label with C = 1, and a node
that has k labels is given its k likeliest, as in DeepWalk's scoring.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn.functional import softplus

from ..errors import UserError
from .links import Pairs, auc, placements
from .score import Score
from .split import check_finite
from .table import CHANCE, Table

if TYPE_CHECKING:
    from ..data.nodelabels import NodeLabels

UNTRAINED, PRONE = "untrained", "ProNE"
NAMES = {UNTRAINED: "untrained vectors", PRONE: "ProNE"}
FRACTIONS = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
ONE, SEVERAL = 10.0, 1.0  # C, where a node has one label and where it may have several
STEPS, TOLERANCE = 200, 1e-6  # of L-BFGS: at most, and the relative gain of a step at which it ends
SHOWN = (0.05, 0.2, 0.5, 0.8)  # fractions with a column of their own; of further types every second


@dataclass(frozen=True)
class Spread(Score):
    """A mean over repeats; low and high are one standard deviation from it."""

    def __str__(self) -> str:
        return f"{100 * self.value:.1f} ± {100 * (self.high - self.value):.1f} %"


@dataclass(frozen=True)
class Plain(Score):
    """A figure without an interval."""

    def __str__(self) -> str:
        return f"{100 * self.value:.1f} %"


@dataclass(frozen=True)
class Curve:
    """F1 on the rest of the nodes. macro, micro: (fractions, repeats)."""

    fractions: tuple[float, ...]
    macro: np.ndarray
    micro: np.ndarray


def node_table(
    rows: Mapping[str, np.ndarray],
    labels: Sequence[NodeLabels] = (),
    pairs: Sequence[Pairs] = (),
    *,
    fractions: Sequence[float] = FRACTIONS,
    repeats: int = 10,
    seed: int = 0,
) -> Table:
    """The table of vectors (V, D) of nodes: "untrained" and "ProNE" beside a method by its own name, or ProNE alone.

    labels: of one type each, the most first; without two nodes and two classes they are left out.
    pairs:  held-out links that no row was trained on.
    detail["curve"] of the first measure of a type holds every fraction, and detail["values"] the repeats.
    Raises UserError without labels and pairs, or for rows of two methods.
    """
    others = [name for name in rows if name not in (UNTRAINED, PRONE)] or [name for name in rows if name == PRONE]
    if len(others) != 1:
        raise UserError(f"a table is of one method beside {UNTRAINED} and {PRONE}, got {', '.join(others) or 'none'}")
    ours = others[0]
    labels = [some for some in labels if len(some.nodes) > 1 and some.matrix.any(axis=0).sum() > 1]
    labels.sort(key=lambda some: -len(some.nodes))
    if not labels and not pairs:
        raise UserError("nothing to measure by: give labels of some nodes, two classes or more, or hold out links")
    for name, vectors in rows.items():
        check_finite(torch.from_numpy(vectors), name)
    scores: dict[str, dict[str, Score]] = {name: {} for name in (CHANCE, *rows)}
    values: dict[str, dict[str, np.ndarray]] = {name: {} for name in (CHANCE, *rows)}
    for some in labels:
        kind = f"{some.kind}, " if len(labels) > 1 else ""
        for name in scores:
            x = unit(rows[name][some.nodes]) if name in rows else np.zeros((len(some.nodes), 1), np.float32)
            curve = classified(x, some.matrix, some.multi, fractions, repeats, seed)
            _add(curve, SHOWN if some is labels[0] else SHOWN[1::2], kind, len(x), scores[name], values[name])
            if not some.multi:
                nmi = clustered(x, some.matrix, seed) if name in rows else 0.0
                scores[name][f"{kind}NMI"] = Plain(nmi, nmi, nmi, len(x))
    for some_pairs in pairs:
        column = f"link AUC, {some_pairs.drawn}"
        counted = {name: score.value for name, score in some_pairs.floors.items()}
        scores[CHANCE][column] = Plain(0.5, 0.5, 0.5, len(some_pairs), counted)
        for name, vectors in rows.items():
            values[name][column] = placements(vectors, some_pairs)
            scores[name][column] = auc(values[name][column], some_pairs)
    said = _verdict(ours, {name: values[name] for name in rows})
    return Table("What the vectors know of the nodes", scores, _notes(labels, pairs, repeats), said=said, ours=ours)


def classified(
    x: np.ndarray, matrix: np.ndarray, multi: bool, fractions: Sequence[float], repeats: int = 10, seed: int = 0
) -> Curve:
    """F1 of logistic regression on a fraction of N nodes, on all others.

    x: (N, D) of length 1.  matrix: (N, C) bool, the labels.  multi: whether a node may have several.
    The smaller fraction of a repeat is a part of the larger one, whose search begins where the smaller one's ended.
    """
    problem = Problem(x, matrix, multi)
    fractions = tuple(sorted(fractions))
    sizes = [min(max(round(fraction * len(x)), 1), len(x) - 1) for fraction in fractions]
    found = np.zeros((2, len(fractions), repeats))
    for repeat in range(repeats):
        order = shuffled(matrix, multi, np.random.default_rng((seed, repeat)))
        model = problem.nothing
        for i, size in enumerate(sizes):
            model = problem.fit(order[:size], model)
            test = order[size:]
            found[:, i, repeat] = f1(matrix[test], guessed(problem.logits(test, model), matrix[test]), multi)
    return Curve(fractions, *found)


class Problem:
    """Logistic regression on many parts of the same items: sum of losses + |W|^2 / 2C.

    Solved by L-BFGS where the columns of all items are uncorrelated and the curvature is about 1 (as in
    twoviews.evaluate.linear), from a given start. Within 1e-3 F1 of scikit-learn's after a few dozen steps.
    x: (N, D).  y: (N, C) bool.  A model is (C, D + 1) float64: weights in the coordinates of `self.x`, and a bias.
    """

    def __init__(self, x: np.ndarray, y: np.ndarray, multi: bool):
        self.multi = multi
        self.strength = 1 / SEVERAL if multi else (2 if y.shape[1] == 2 else 1) / ONE  # as sklearn's of two classes
        x = x - x.mean(axis=0)  # the bias takes it up
        self.spectrum, basis = np.linalg.eigh((x.T @ x).astype(np.float64) / len(x))
        self.x = torch.from_numpy(x @ basis.astype(np.float32))  # (N, D)
        self.y = torch.from_numpy(y.T.astype(np.float32))  # (C, N), since a softmax over few columns is slow

    @property
    def nothing(self) -> np.ndarray:
        return np.zeros((len(self.y), self.x.shape[1] + 1))

    def fit(self, items: np.ndarray, start: np.ndarray) -> np.ndarray:
        """The model of some of the items, found from `start`."""
        from scipy.optimize import minimize

        x, y = self.x[items], self.y[:, items]
        curvature = np.append(len(x) * np.maximum(self.spectrum, 0) / 4 + self.strength, len(x) / 4)
        step = curvature**-0.5
        penalty = np.append(np.full(x.shape[1], self.strength), 0) * step**2

        def objective(flat: np.ndarray) -> tuple[float, np.ndarray]:
            v = flat.reshape(start.shape)
            w = torch.from_numpy((v * step).astype(np.float32))
            logits = torch.addmm(w[:, -1:], w[:, :-1], x.T)  # (C, N)
            if self.multi:
                loss = softplus(logits).sum() - (logits * y).sum()
                left = logits.sigmoid_().sub_(y)
            else:
                logits = logits.log_softmax(0)
                loss = -(logits * y).sum()
                left = logits.exp_().sub_(y)
            slope = torch.cat([left @ x, left.sum(1, keepdim=True)], 1).double().numpy() * step + v * penalty
            return float(loss) + 0.5 * float((v * v * penalty).sum()), slope.ravel()

        options = {"maxiter": STEPS, "ftol": TOLERANCE, "gtol": 0}
        found = minimize(objective, (start / step).ravel(), jac=True, method="L-BFGS-B", options=options)
        return found.x.reshape(start.shape) * step

    def logits(self, items: np.ndarray, model: np.ndarray) -> np.ndarray:
        """(M,) items -> (M, C)."""
        w = torch.from_numpy(model.astype(np.float32))
        return torch.addmm(w[:, -1], self.x[items], w[:, :-1].T).numpy()


def shuffled(matrix: np.ndarray, multi: bool, rng: np.random.Generator) -> np.ndarray:
    """(N, C) -> an order of N nodes; where each has one label, every beginning holds all classes alike."""
    order = rng.permutation(len(matrix))
    if multi:
        return order
    label = matrix[order].argmax(axis=1)
    order, label = order[np.argsort(label, kind="stable")], np.sort(label)
    many = np.bincount(label)
    place = np.arange(len(label)) - (np.cumsum(many) - many)[label]
    return order[np.argsort((place + rng.random(len(many))[label]) / many[label], kind="stable")]


def guessed(logits: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """(N, C) -> (N, C) bool: as many of the likeliest labels as a node has."""
    rank = np.argsort(np.argsort(-logits, axis=1, kind="stable"), axis=1, kind="stable")
    return rank < matrix.sum(axis=1, keepdims=True)


def f1(truth: np.ndarray, guess: np.ndarray, multi: bool) -> tuple[float, float]:
    """(macro, micro) F1 of (N, C) bool, as scikit-learn's: macro is over the labels that occur, or all if `multi`."""
    right, both = (truth & guess).sum(axis=0), truth.sum(axis=0) + guess.sum(axis=0)
    counted = slice(None) if multi else both > 0
    macro = np.mean((2 * right / np.maximum(both, 1))[counted])
    return float(macro), float(2 * right.sum() / both.sum())


def clustered(x: np.ndarray, matrix: np.ndarray, seed: int = 0) -> float:
    """Normalised mutual information of labels (N, C) and k-means with C clusters, the best of ten starts."""
    from sklearn.cluster import KMeans
    from sklearn.metrics import normalized_mutual_info_score

    labels = matrix.argmax(axis=1)
    k = len(np.unique(labels))
    found = KMeans(k, n_init=10, random_state=seed).fit_predict(x)
    return float(normalized_mutual_info_score(labels, found))


def unit(x: np.ndarray) -> np.ndarray:
    """(N, D) -> (N, D) float32, rows of length 1; rows of zeros stay."""
    x = np.asarray(x, np.float32)
    return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)


def _add(
    curve: Curve, wanted: Sequence[float], kind: str, n: int, scores: dict[str, Score], values: dict[str, np.ndarray]
) -> None:
    """The columns of a curve, as scores and as what each repeat gave."""
    every: dict[str, list[float]] = {"fractions": list(curve.fractions)}
    for measure, of in (("macro", curve.macro), ("micro", curve.micro)):
        every |= {measure: of.mean(axis=1).tolist(), f"{measure} deviation": of.std(axis=1).tolist()}
    shown = [i for i, fraction in enumerate(curve.fractions) if fraction in wanted] or range(len(curve.fractions))
    for measure, of, places in (("macro", curve.macro, shown), ("micro", curve.micro, shown[-1:])):
        for i in places:
            mean, deviation = float(of[i].mean()), float(of[i].std())
            column = f"{kind}{measure}-F1 at {100 * curve.fractions[i]:g} %"
            detail = {"fraction": curve.fractions[i], "values": of[i].tolist()}
            values[column] = of[i]
            scores[column] = Spread(mean, mean - deviation, mean + deviation, n, detail)
    scores[f"{kind}macro-F1 at {100 * curve.fractions[shown[0]]:g} %"].detail["curve"] = every


def _notes(labels: Sequence[NodeLabels], pairs: Sequence[Pairs], repeats: int) -> list[str]:
    out = []
    for some in labels:
        many = "several labels a node, C = 1, the k likeliest" if some.multi else "one label a node, C = 10, stratified"
        out.append(f"{len(some.nodes):,} labelled nodes of type {some.kind}, {len(some.classes)} classes; {many}.")
    if labels:
        out.append(
            f"F1 of logistic regression on vectors of length 1, at the fraction of labels it learned from, on all "
            f"other nodes; ±: standard deviation over {repeats} splits, the same for every row."
        )
    if any(not some.multi for some in labels):
        out.append("NMI: of the labels and k-means with as many clusters, the best of ten starts.")
    return out + [some.said for some in pairs]


def _verdict(ours: str, values: Mapping[str, Mapping[str, np.ndarray]]) -> str:
    """One sentence: is `ours` better than the others by more than the deviation over the same splits or links?

    By macro-F1 at a fifth of the labels, or by links where degrees do not help, or by what there is.
    """
    wanted = ("macro-F1 at 20 %", "by degree", "")
    column = next(column for end in wanted for column in values[ours] if column.endswith(end))
    mine = values[ours][column]
    beaten: list[str] = []
    unbeaten: list[str] = []
    for name in (PRONE, UNTRAINED):
        if name == ours or name not in values:
            continue
        gap = mine - values[name][column]
        error = gap.std() * (1.96 / len(gap) ** 0.5 if column.startswith("link AUC") else 1)
        said = f"{100 * gap.mean():+.1f} ± {100 * error:.1f} points over {NAMES[name]}"
        (beaten if gap.mean() > error else unbeaten).append(said)
    head = f"By {column}, {ours} has {100 * mine.mean():.1f} %"
    if not beaten and not unbeaten:
        return f"{head}."
    if not unbeaten:
        return f"{head}: {' and '.join(beaten)}, more than the deviation. It has learned."
    if any(NAMES[UNTRAINED] in said for said in unbeaten):
        remedy = "it has learned nothing that shows here; train longer, and ask `twoviews doctor` why"
    else:
        remedy = "ProNE takes seconds, so keep it, train longer or walk otherwise"
    return f"{head}, not clearly better: {' and '.join(unbeaten)}; {remedy}."
