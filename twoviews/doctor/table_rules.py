"""What can be wrong with a run on a graph or a text, one function an illness, causes before what they cause.

Thresholds were set while looking at runs of some seconds, too short, too slow, too fast and long enough, on karate,
Cora, acl_hin and a part of enwiki_sample; docs/healthy.md, "Graphs and texts", has the figures.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from ..evaluate.table import H
from .course import Course
from .diagnosis import Finding, few_directions

FEW = 0.5  # of the rows, or of the rows of a type
FLOORS = {
    "ProNE": "ProNE, which factorises the graph in seconds",
    "counted (PPMI, SVD)": "counting what words occur together",
}


def diverged(c: Course) -> Finding | None:
    if c.bad is None and c.checkup.get("vectors", {}) is not None:
        return None
    return Finding(
        "diverged",
        "ill",
        f"vectors are not finite at step {c.step if c.bad is None else c.bad:,}",
        f"Divide optimizer.lr{c.given('lr', 'optimizer')} by 4: 0.025 is usual",
    )


def steps_too_large(c: Course) -> Finding | None:
    """By how long vectors have grown: a product of two that is far above 10 carries no gradient any more."""
    length = c.checkup.get("length", math.nan)
    if not length > 20:
        return None
    return Finding(
        "learning rate too high",
        "ill",
        f"half of the vectors are longer than {length:.0f}, where 1 to 5 is usual",
        f"Divide optimizer.lr{c.given('lr', 'optimizer')} by 4: 0.025 is usual",
    )


def hardly_trained(c: Course) -> Finding | None:
    grown = c.checkup.get("grown", math.nan)
    if not (grown < 10 and c.checkup["length"] < 0.3):
        return None
    return Finding(
        "hardly trained",
        "ill",
        f"half of the vectors are no longer than {c.checkup['length']:.2g}, {grown:.1f} times what they began with",
        f"Train longer (epochs={_more(c)}){_low_rate(c)}",
    )


def all_alike(c: Course) -> Finding | None:
    """By the mean cosine: after little training all have moved one way, and steps too large throw them one way."""
    cosine, of = c.checkup.get("cosine", math.nan), c.checkup.get("cosine_of") or {}
    if not cosine > 0.7:
        return None
    types = f" ({', '.join(f'{name} {value:.2f}' for name, value in of.items())})" if of else ""
    return Finding(
        "vectors all alike",
        "ill" if cosine > 0.9 else "watch",
        f"two vectors have a cosine of {cosine:.2f} on average{types}: they share one direction and have little else",
        f"Train longer (epochs={_more(c)}), and divide optimizer.lr{c.given('lr', 'optimizer')} by 4 where it is above "
        "0.1",
    )


def vectors_collapsed(c: Course) -> Finding | None:
    """The effective rank of the vectors, which no more rows than there are can raise."""
    part = c.checkup.get("vectors") or {}
    dim, rank = min(part.get("dim", 0), c.checkup.get("rows", 0)), part.get("rank", math.nan)
    if (level := few_directions(rank, dim)) is None:
        return None
    return Finding(
        "vectors collapsed",
        level,
        f"the effective rank of the vectors is {rank:.1f} of {dim}",
        f"Divide optimizer.lr{c.given('lr', 'optimizer')} by 4 where it is above 0.1, or train longer "
        f"(epochs={_more(c)})",
    )


def frequency_dominates(c: Course) -> Finding | None:
    share, follows = c.checkup.get("first_share", math.nan), c.checkup.get("first_count", math.nan)
    if not (share > 0.3 and follows > 0.7):
        return None
    return Finding(
        "frequency dominates",
        "watch",
        f"the first direction has {share:.0%} of the variance and says how often a row is met (correlation "
        f"{follows:.2f}); the most frequent 1 % are {c.checkup.get('hottest', 0.0):.0%} of all tokens",
        "Leave out more of what is frequent (views.sample=1e-4)"
        if of_words(c)
        else f"Take a shorter method.window{c.given('window')}, or meta-paths that meet in smaller nodes",
    )


def below_untrained(c: Course) -> Finding | None:
    ahead = c.checkup.get("ahead_of_untrained")
    if ahead is None or ahead[0] > 0:
        return None
    measure, ours, floor = measured(c, "untrained")
    other = "" if of_words(c) else ", other meta-paths or a longer method.window"
    return Finding(
        "not better than untrained",
        "ill" if ahead[0] + ahead[1] <= 0 else "watch",
        f"{measure} is {ours}, and {floor} for vectors that have learned nothing",
        f"Train longer (epochs={_more(c)}){other}, and see that the {'text' if of_words(c) else 'edges'} can tell what "
        "is asked",
    )


def floor_not_beaten(c: Course) -> Finding | None:
    """Watch: by the interval of the difference, the vectors are surely worse than a floor."""
    for name, words in FLOORS.items():
        ahead = c.checkup.get(f"ahead_of_{name}")
        if ahead is not None and ahead[1] < 0:
            measure, ours, floor = measured(c, name)
            other = (
                "" if of_words(c) else ", try other meta-paths or another method.window, or take method=prone itself"
            )
            return Finding(
                "floor not beaten",
                "watch",
                f"{measure} is {ours}, and {floor} for {words}",
                f"Train longer (epochs={_more(c)}){other}",
            )
    return None


def below_floors(c: Course) -> Finding | None:
    return below_untrained(c) or floor_not_beaten(c)


def dead_ends(c: Course) -> Finding | None:
    cut, asked = c.checkup.get("cut", math.nan), c.checkup.get("asked", 0)
    if not cut > FEW:
        return None
    return Finding(
        "walks end early",
        "watch",
        f"{cut:.0%} of the walks end before their {asked:,} nodes, at a node that the next step does not lead on from",
        "See which steps have dead ends (twoviews check), keep the reverse relations (data.reverse=True), or take "
        "meta-paths that end where they begin",
    )


def never_met(c: Course) -> Finding | None:
    none, of = c.checkup.get("untrained", 0.0), c.checkup.get("untrained_of") or {}
    if not none > FEW:
        return None
    whole = [name for name, share in of.items() if share > 0.99]
    types = f", among them every {' and every '.join(whole)}" if whole else ""
    return Finding(
        "most rows untrained",
        "watch",
        f"{none:.0%} of the {c.checkup['rows']:,} {c.checkup['of']} are never met{types}: they keep the vectors they "
        "began with",
        "Read the text that the vocabulary was counted on"
        if of_words(c)
        else "Take meta-paths that reach them (several may be given), or walks over all relations (method=deepwalk)",
    )


CAUSES = (steps_too_large, hardly_trained, all_alike, vectors_collapsed)
WORSE = (frequency_dominates, below_floors)  # each may be told beside the others
BESIDE = (dead_ends, never_met)


def of_words(c: Course) -> bool:
    return c.checkup.get("of") == "words"


def measured(c: Course, floor: str) -> tuple[str, str, str]:
    """The measure that is judged by, and what the run and a floor have of it."""
    rows: dict[str, Any] = c.evaluation.get("rows") or {}
    name = c.checkup["judged"]
    own = rows.get(c.evaluation.get("ours", H), {}).get(name)
    other = rows.get(floor, {}).get(name)
    return name, *(_figure(name, score) for score in (own, other))


def well(c: Course) -> str:
    """What is said of a run in which nothing was found."""
    part, said = c.checkup.get("vectors"), []
    if not part:
        return "Too early to say: vectors are looked at when training ends, and when the doctor is asked."
    if "ahead_of_untrained" in c.checkup:
        measure, ours, floor = measured(c, "untrained")
        said = [f"{measure} is {ours}, and {floor} for untrained vectors"]
    said += [f"effective rank {part['rank']:.0f} of {part['dim']:,}"]
    said += [f"two vectors have a cosine of {c.checkup['cosine']:.2f}"] if "cosine" in c.checkup else []
    return f"Nothing found: {', '.join(said)}."


def _figure(name: str, score: Mapping[str, Any] | None) -> str:
    """A correlation is no per cent."""
    value = score["value"] if score else math.nan
    return f"{value:.3f}" if name.endswith("rho") else f"{100 * value:.1f} %"


def _more(c: Course) -> int:
    return 3 * int(c.about["run"]["epochs"])


def _low_rate(c: Course) -> str:
    lr = c.number("lr", "optimizer")
    return f" and raise optimizer.lr{c.given('lr', 'optimizer')}: 0.025 is usual" if lr is None or lr < 0.01 else ""
