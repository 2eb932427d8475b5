"""Which walks to take: short runs with each meta-path, judged on held-out links, the worse half dropped, and again.

    choice = choose(candidates, trial)
    print("\n".join(choice.lines()))

Successive halving (Karnin, Koren and Somekh 2013; Jamieson and Talwalkar 2016), then the survivors mixed: it serves
the purpose of Graph Transformer Networks (Yun et al. 2019, arXiv:1911.06455), to find meta-paths, without products of
adjacency matrices. A path is judged on all links, also of types that it never meets, so what it reaches counts.
Nothing here is random: the same trials give the same choice.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Hashable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Generic, TypeVar

from ..errors import UserError
from .score import Score, difference

Path = TypeVar("Path", bound=Hashable)


@dataclass
class Tried:
    """A short run on some paths: its round, budget, AUC and CPU time in seconds, and what became of them."""

    paths: tuple[str, ...]
    round: int
    budget: float
    score: Score
    seconds: float
    fate: str = ""

    def __str__(self) -> str:
        return f"round {self.round}, {' + '.join(self.paths)}: {self.score}, {self.seconds:.1f} s, {self.fate}"


@dataclass(frozen=True)
class Choice(Generic[Path]):
    """The paths to walk, why in one sentence, and every short run that was made."""

    paths: tuple[Path, ...]
    said: str
    tried: list[Tried]

    def lines(self) -> list[str]:
        return [self.said, *map(str, self.tried)]

    def to_json(self) -> dict[str, Any]:
        """Plain values, for json.dumps."""
        return {"paths": list(map(str, self.paths)), "said": self.said, "tried": list(map(asdict, self.tried))}


def choose(
    candidates: Sequence[Path],
    trial: Callable[[tuple[Path, ...], float], tuple[Score, float]],
    *,
    reach: Callable[[Path], Collection[str]] | None = None,
    keep: float = 0.5,
    most: int = 3,
    budget: float = 1.0,
) -> Choice[Path]:
    """The candidate, or mixture of candidates, whose short runs find most of the held-out links.

    trial:  (paths, budget) -> the AUC over all held-out links and the CPU time in seconds of a run on them.
    reach:  the types that a path gives vectors to; the best path to each of them is never dropped before the mixing.
    keep:   the share that stays after a round; each round has twice the budget of the one before.
    most:   how few are mixed: the best alone, the best two, ... all that are left, at the budget of the last round.
    Of equal mixtures the smaller, of equal paths the one named first. Raises UserError without a candidate.
    """
    if not candidates:
        raise UserError("no meta-path to choose from: give metapaths, or relations that lead back to where they start")
    if not 0 < keep < 1 or most < 1:
        raise UserError(f"keep lies between 0 and 1 and most is at least 1, got keep={keep} and most={most}")
    if len(candidates) == 1:
        return Choice(tuple(candidates), f"{candidates[0]} is the only meta-path there is.", [])
    tried: list[Tried] = []

    def run(paths: tuple[Path, ...], stage: int) -> Tried:
        spent = budget * 2 ** (stage - 1)
        tried.append(Tried(tuple(map(str, paths)), stage, spent, *trial(paths, spent)))
        return tried[-1]

    alive, stage, dropping = list(candidates), 0, True
    while dropping:
        stage += 1
        runs = [(run((path,), stage), path) for path in alive]
        runs.sort(key=lambda pair: -_value(pair[0]))  # stable: of equals the first
        size = max(most, math.ceil(keep * len(runs)))
        spared = _only_ways([path for _, path in runs], size, reach)
        alive = []
        for place, (result, path) in enumerate(runs):
            result.fate = f"{place + 1} of {len(runs)}: "
            if place < size:
                result.fate += "kept"
            elif path in spared:
                result.fate += f"kept, the best to reach {spared[path]}"
            else:
                result.fate += f"dropped, {_below(result, runs[size - 1][0])} the last that is kept"
            if place < size or path in spared:
                alive.append(path)
        dropping = most < len(alive) < len(runs)
    mixtures = [tuple(alive[:n]) for n in range(1, len(alive) + 1)]
    results = [run(paths, stage + 1) for paths in mixtures]
    best = max(range(len(results)), key=lambda n: (_value(results[n]), -n))
    for result in results:
        result.fate = "chosen" if result is results[best] else f"{_below(result, results[best])} the best"
    return Choice(mixtures[best], _said(results, best, tried), tried)


def _only_ways(ranked: Sequence[Path], size: int, reach: Callable[[Path], Collection[str]] | None) -> dict[Path, str]:
    """Of the paths behind the first `size`, those that are the best to reach some type, and which."""
    if reach is None:
        return {}
    met = {kind for path in ranked[:size] for kind in reach(path)}
    out = {}
    for path in ranked[size:]:
        new = sorted(set(reach(path)) - met)
        if new:
            out[path] = ", ".join(new)
            met.update(new)
    return out


def _value(result: Tried) -> float:
    """A run that diverged comes last."""
    return result.score.value if math.isfinite(result.score.value) else -1.0


def _below(result: Tried, other: Tried) -> str:
    gap = 100 * (_value(other) - _value(result))
    return f"{gap:.1f} points below" if math.isfinite(result.score.value) else "not finite, so below"


def _said(results: Sequence[Tried], best: int, tried: Sequence[Tried]) -> str:
    chosen, alone = results[best], results[0]
    cost = f"{len(tried)} short runs of {sum(one.seconds for one in tried):.0f} CPU-seconds"
    head = f"Chosen after {cost}: {' + '.join(chosen.paths)}, link AUC {chosen.score}"
    if best == 0:
        return f"{head}; no mixture is better."
    clear = "" if difference(chosen.score, alone.score)[0] > 0 else ", which is within the error"
    return f"{head}; {alone.paths[0]} alone has {alone.score}{clear}."
