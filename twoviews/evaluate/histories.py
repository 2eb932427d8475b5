"""The table of a model of histories, beside what is popular, what is met together, and itself before training.

    table = ranking_table({"popular": ranks, "markov": ranks, "BERT4Rec": ranks}, question, division.said)
    print(table.markdown())

Without the floors a figure says nothing: counting what follows what beats many a published model.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..errors import UserError
from .ranks import RARE, Ranks, gap
from .score import Score
from .table import Table

if TYPE_CHECKING:
    from ..data.splits import Question

POPULAR, MARKOV, UNTRAINED = "popular", "markov", "untrained"
NAMES = {POPULAR: "what is popular", MARKOV: "the counts of markov", UNTRAINED: "the untrained model"}
INTERVALS = "Brackets: 95 % intervals over the draw of users, by bootstrap; they do not cover the seed of the training."
GROUPS = {"cold": "never occur in training", "rare": f"occur less than {RARE} times", "warm": "occur more often"}


@dataclass(frozen=True)
class Figure(Score):
    """A Score as rankings need it, in hundredths of a per cent. `detail` may say "unit": "bits", and "brief"."""

    def __str__(self) -> str:
        if self.detail.get("unit") == "bits":
            return f"{self.value:.2f} bits"
        if self.detail.get("brief"):
            return f"{100 * self.value:.2f} %"
        return f"{100 * self.value:.2f} % [{100 * self.low:.2f}, {100 * self.high:.2f}]"


def ranking_table(rows: Mapping[str, Ranks], question: Question, said: str, k: int = 10) -> Table:
    """Recall, NDCG, MRR, recall of cold, rare and warm targets, coverage and novelty of each row.

    rows: the ranks of "popular", "markov", "untrained" (any of them may be missing) and of one model by its own name.
    said: how the log was divided.
    Raises UserError for rows of different users or protocols, or without exactly one model.
    """
    models = [name for name in rows if name not in NAMES]
    if len(models) != 1:
        raise UserError(f"a table is of one model beside {', '.join(NAMES)}, got {', '.join(models) or 'none'}")
    name, ours = models[0], rows[models[0]]
    if any(ranks.sampled != ours.sampled for ranks in rows.values()):
        raise UserError("sampled and full rankings cannot be compared: rank all rows alike")
    scores = {row: _scores(ranks, k) for row, ranks in rows.items()}
    title = "Where the next item stands" + (f" ({ours.sampled})" if ours.sampled else "")
    return Table(title, scores, _notes(rows, question, said), said=_verdict(rows, name, k), ours=name)


def _scores(ranks: Ranks, k: int) -> dict[str, Score]:
    found = {f"Recall@{k}": ranks.recall(k), f"NDCG@{k}": ranks.ndcg(k), "MRR": ranks.mrr()}
    out: dict[str, Score] = {name: Figure(x.value, x.low, x.high, x.n) for name, x in found.items()}
    for group, some in ranks.groups().items():
        x = some.recall(k)
        out[f"{group}, Recall@{k}"] = Figure(x.value, x.low, x.high, x.n, {"brief": True})
    if not ranks.sampled:
        out[f"coverage@{k}"] = _plain(ranks.coverage(k), ranks, brief=True)
        out[f"novelty@{k}"] = _plain(ranks.novelty(k), ranks, unit="bits")
    return out


def _plain(value: float, ranks: Ranks, **detail: object) -> Figure:
    """What describes the recommendations as they are: it has no interval."""
    return Figure(value, value, value, len(ranks), detail)


def _notes(rows: Mapping[str, Ranks], question: Question, said: str) -> list[str]:
    ranks = next(iter(rows.values()))
    asked = f"{len(ranks):,} users were asked for {len(ranks.ranks):,} targets"
    out = [said, f"{asked}; {ranks.left_out:,} of {len(question.history):,} have no history or no target."]
    for note in dict.fromkeys(note for some in rows.values() for note in some.notes):
        who = [row for row, some in rows.items() if note in some.notes]
        out.append(note if len(who) == len(rows) else f"{', '.join(who)}: {note}")
    shares = ", ".join(f"{row} {(some.tied > 0).mean():.1%}" for row, some in rows.items())
    out.append(f"Targets whose score another item has, too: {shares}.")
    groups = (f"{len(some.ranks):,} {GROUPS[name]} ({name})" for name, some in ranks.groups().items())
    out.append(f"Of the targets, {', '.join(groups)}.")
    if not ranks.sampled:
        out.append(
            "Coverage: the share of the catalogue that is recommended to anyone. Novelty: -log2 of an item's share of "
            "the events, mean over what is recommended. MRR is not cut off."
        )
    return [*out, INTERVALS]


def _verdict(rows: Mapping[str, Ranks], name: str, k: int) -> str:
    """One sentence: by NDCG, is the model better than the floors by more than the error over the same users?"""
    ours = rows[name]
    value = {row: f"{100 * ranks.ndcgs(k).mean():.2f} %" for row, ranks in rows.items()}
    gaps = {row: gap(ours, rows[row], k) for row in NAMES if row in rows}
    if not gaps:
        return ""
    head = f"By NDCG@{k} over {len(ours):,} users"
    unbeaten = [row for row, x in gaps.items() if x.low <= 0]
    if not unbeaten:
        margins = " and ".join(f"than {NAMES[row]} by {_points(x)}" for row, x in gaps.items())
        learned = "it knows more than counts do" if MARKOV in gaps else "it has learned"
        return f"{head}, {name} ({value[name]}) is better {margins} points: {learned}."
    against = " nor than ".join(f"{NAMES[row]} ({value[row]}; {_points(gaps[row])} points)" for row in unbeaten)
    clearly = "" if all(gaps[row].high < 0 for row in unbeaten) else "clearly "
    if unbeaten == [MARKOV]:
        start, end = "the co-occurrence floor is not beaten: ", "train longer or wider, or recommend by those counts"
    else:
        start, end = "", "it has learned too little; train longer, on more users, or ask `twoviews doctor` why"
    return f"{head}, {start}{name} ({value[name]}) is not {clearly}better than {against}: {end}."


def _points(x: Score) -> str:
    return f"{100 * x.value:+.2f} [{100 * x.low:+.2f}, {100 * x.high:+.2f}]"
