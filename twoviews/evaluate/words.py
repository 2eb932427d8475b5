"""How good word vectors are: word similarity, analogies, and true neighbours told from drawn ones.

    tests = word_tests(["wordsim353.tsv", "questions-words.txt"])
    table = word_table({"untrained": start, "ours": vectors}, corpus.vocabulary, corpus.counts(), tests)

Similarity: Spearman's rho of cosines with what people said (WordSim-353: Finkelstein et al. 2001; SimLex-999: Hill et
al. 2015). Analogies: the word nearest to b - a + c, none of the three (Mikolov et al. 2013, arXiv:1301.3781).
Both by gensim's rules (evaluate_word_pairs, evaluate_word_analogies): among the `most` commonest words; capitals do not
count, and of words that differ in them alone the commonest is taken; what holds an unknown word is left out.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from ..errors import DataError, UserError
from .contexts import NEIGHBOURS, neighbours, told_apart
from .score import INTERVALS, Z95, Score, difference, score
from .table import Table

if TYPE_CHECKING:
    import pyarrow as pa

    from ..data.text import Corpus

MOST = 300_000  # words that take part, gensim's
SCORES = 2**24  # similarities held at once
TOTALS = ("analogies", "semantic", "syntactic")


@dataclass(frozen=True)
class Rho(Score):
    """A rank correlation: -1 to 1."""

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


@dataclass(frozen=True)
class Pairs:
    """What people said of N pairs of words, from a file of `word word score` lines."""

    name: str
    words: list[tuple[str, str]]
    scores: np.ndarray


@dataclass(frozen=True)
class Analogies:
    """Q questions a b c d, from a file with `: section` lines. section: (Q,) places in `sections`."""

    name: str
    words: list[tuple[str, ...]]
    section: np.ndarray
    sections: list[str]

    @cached_property
    def kinds(self) -> dict[str, np.ndarray]:
        """Name -> which questions: all, semantic, syntactic (sections called gram...), and each section."""
        grammar = np.array([name.startswith("gram") for name in self.sections])[self.section]
        parts = {"analogies": np.ones(len(grammar), bool), "semantic": ~grammar, "syntactic": grammar}
        return parts | {name: self.section == i for i, name in enumerate(self.sections)}


def word_tests(paths: str | os.PathLike | Iterable[str | os.PathLike]) -> list[Pairs | Analogies]:
    """The tests that files hold, told by their content; of a folder those of its files that are any.

    Lines that begin with # are skipped, and so are broken ones. Raises DataError for a file that is no test.
    """
    given = [paths] if isinstance(paths, str | os.PathLike) else list(paths)
    tests: list[Pairs | Analogies] = []
    for path in map(Path, given):
        if not path.exists():
            raise DataError(f"no such file or folder: '{path}'")
        found = [_test(file) for file in (sorted(path.iterdir()) if path.is_dir() else [path]) if file.is_file()]
        tests += [test for test in found if test is not None]
        if not any(found):
            raise DataError(
                f"'{path}' holds no test of words: give lines of `word word score`, or of four words under `: section`"
            )
    return tests


def _test(path: Path) -> Pairs | Analogies | None:
    pairs: list[tuple[str, str]] = []
    scores: list[float] = []
    questions: list[tuple[str, ...]] = []
    section: list[int] = []
    sections: list[str] = []
    for line in path.read_text("utf-8-sig", "replace").splitlines():
        if line.startswith(":"):
            sections.append(line.strip(": \t"))
            continue
        fields = line.split("\t") if "\t" in line else line.split()
        if not fields or line.startswith("#"):
            continue
        if sections and len(fields) == 4:
            questions.append(tuple(fields))
            section.append(len(sections) - 1)
        elif not sections and len(fields) == 3:
            try:
                scores.append(float(fields[2]))
            except ValueError:
                continue
            pairs.append((fields[0].strip(), fields[1].strip()))
    if questions:
        return Analogies(path.stem, questions, np.array(section), sections)
    return Pairs(path.stem, pairs, np.array(scores)) if len(pairs) > 1 else None


class Known:
    """The `most` commonest words, without regard to capitals. words: (V,) in the order of the vectors' rows."""

    def __init__(self, words: pa.Array | Iterable[str], counts: np.ndarray | None = None, most: int = MOST):
        names = words.to_pylist() if hasattr(words, "to_pylist") else list(words)
        order = np.arange(len(names)) if counts is None else np.argsort(-np.asarray(counts), kind="stable")
        self.rows = order[:most]  # of vectors, the commonest first
        self.place: dict[str, int] = {}
        alike = [self.place.setdefault(str(names[row]).upper(), i) for i, row in enumerate(self.rows)]
        self.alike = np.array(alike, np.int64)  # (V',) the first word that is the same but for capitals

    def places(self, questions: Iterable[tuple[str, ...]]) -> tuple[np.ndarray, np.ndarray]:
        """(Q', W) places of the words of the questions whose words are all known, and (Q,) bool which these are."""
        found = np.array([[self.place.get(word.upper(), -1) for word in words] for words in questions])
        known = np.all(found >= 0, axis=1)
        return found[known], known

    def unit(self, vectors: np.ndarray) -> np.ndarray:
        """(V, D) vectors -> (V', D) float32 of length 1; zeros stay."""
        chosen = np.asarray(vectors)[self.rows].astype(np.float32)
        return chosen / np.maximum(np.linalg.norm(chosen, axis=1, keepdims=True), 1e-30)


def similarity(unit: np.ndarray, known: Known, test: Pairs) -> Rho:
    """Spearman's rho with Bonett and Wright's interval (2000), of Fisher's z; n pairs of known words."""
    from scipy.stats import spearmanr

    places, covered = known.places(test.words)
    n, detail = len(places), {"of": len(test.words)}
    if n < 4:
        return Rho(0, -1, 1, n, detail)
    cosines = (unit[places[:, 0]].astype(np.float64) * unit[places[:, 1]]).sum(1)
    people = test.scores[covered]
    if np.ptp(cosines) == 0 or np.ptp(people) == 0:
        return Rho(0, -1, 1, n, detail)
    rho = float(spearmanr(cosines, people).statistic)
    z, half = np.arctanh(np.clip(rho, -1 + 1e-12, 1 - 1e-12)), Z95 * np.sqrt((1 + rho * rho / 2) / (n - 3))
    return Rho(rho, float(np.tanh(z - half)), float(np.tanh(z + half)), n, detail)


def solved(unit: np.ndarray, known: Known, places: np.ndarray) -> np.ndarray:
    """(Q, 4) places of a b c d -> (Q,) bool: is the word nearest to b - a + c, none of these, d?"""
    order = np.argsort(known.alike, kind="stable")
    starts, ends = (np.searchsorted(known.alike[order], np.arange(len(unit)), side) for side in ("left", "right"))
    out = np.zeros(len(places), bool)
    table, size = torch.from_numpy(unit), max(1, SCORES // len(unit))
    for begin in range(0, len(places), size):
        a, b, c, d = places[begin : begin + size].T
        scores = (torch.from_numpy(unit[b] - unit[a] + unit[c]) @ table.T).numpy()  # (q, V')
        for words in (a, b, c):  # with whatever differs from them in capitals alone
            many = ends[words] - starts[words]
            steps = np.arange(many.sum()) - np.repeat(np.cumsum(many) - many, many)
            scores[np.repeat(np.arange(len(words)), many), order[np.repeat(starts[words], many) + steps]] = -np.inf
        out[begin : begin + size] = known.alike[scores.argmax(1)] == d
    return out


def analogies(unit: np.ndarray, known: Known, test: Analogies) -> dict[str, Score]:
    """Accuracy over all, semantic and syntactic questions of known words and by section, those that have any."""
    places, covered = known.places(test.words)
    hits = solved(unit, known, places)
    out = {}
    for name, chosen in test.kinds.items():
        right = hits[chosen[covered]]
        if len(right) or name == "analogies":
            of = {"of": int(chosen.sum())}
            out[name] = score(int(right.sum()), len(right), **of) if len(right) else Score(0, 0, 1, 0, of)
    return out


def word_table(
    rows: Mapping[str, np.ndarray],
    words: pa.Array | Iterable[str],
    counts: np.ndarray,
    tests: Iterable[Pairs | Analogies] = (),
    *,
    lines: Corpus | None = None,
    contexts: Mapping[str, np.ndarray] | None = None,
    window: int = 5,
    sample: float = 1e-3,
    most: int = MOST,
    seed: int = 0,
) -> Table:
    """The table of word vectors beside themselves untrained and what counting gives.

    rows:   name -> (V, D) vectors; the last is the one that the verdict is about.  contexts: name -> (V, D) of what a
            method learned beside them, for those that have such.
    counts: (V,) int64 of training.  tests: of `word_tests`.  lines: held-out lines, for what needs no test.
    window, sample: as in training.
    Raises UserError where there is nothing to measure by.
    """
    tests = sorted(tests, key=lambda test: isinstance(test, Pairs))  # the most questions come first
    if not tests and lines is None:
        raise UserError("words are measured by files of tests (WordSim, SimLex, questions-words) or by held-out lines")
    known = Known(words, counts, most)
    asked = None if lines is None else neighbours(lines, counts, window, sample, seed)
    asked = None if asked is None or not len(asked) else asked
    if not tests and asked is None:
        raise UserError("of the held-out lines, thinned out, no two neighbours are left: hold out more, or give tests")
    found: dict[str, dict[str, Score]] = {}
    for name, vectors in rows.items():
        unit, out = known.unit(vectors), dict[str, Score]()
        for test in tests:
            if isinstance(test, Pairs):
                out[f"{test.name}, rho"] = similarity(unit, known, test)
            else:
                answers = analogies(unit, known, test)
                for kind in TOTALS:
                    if kind in answers:
                        out[kind] = answers.pop(kind)
                out["analogies"].detail["sections"] = {section: asdict(x) for section, x in answers.items()}
        if asked is not None:
            out[NEIGHBOURS] = told_apart(vectors, (contexts or {}).get(name), asked)
        found[name] = out
    ours = list(rows)[-1]
    return Table("What the word vectors know", found, _notes(found, tests, known, asked, counts), _verdict(found), ours)


def _notes(
    found: Mapping[str, Mapping[str, Score]],
    tests: list[Pairs | Analogies],
    known: Known,
    asked: np.ndarray | None,
    counts: np.ndarray,
) -> list[str]:
    out = []
    scores = next(iter(found.values()))
    for probe, x in scores.items():
        if "of" in x.detail and probe not in ("semantic", "syntactic"):
            out.append(f"{probe}: {x.n:,} of {x.detail['of']:,} hold known words alone ({x.n / x.detail['of']:.0%}).")
    if tests:
        out.append(f"Among the {len(known.rows):,} commonest words; capitals do not count. The rules are gensim's.")
    if asked is not None:
        by_count = told_apart(np.ones((len(counts), 1)), counts[:, None].astype(np.float64), asked)
        out.append(
            f"{NEIGHBOURS}: how often a true neighbour in {len(asked):,} pairs of held-out text scores above a word "
            f"drawn by count^.75, by the product with its context vector where there is one, else by cosine. Counts "
            f"alone reach {100 * by_count.value:.1f} %, chance 50 %."
        )
    return [*out, INTERVALS]


def _verdict(found: Mapping[str, Mapping[str, Score]]) -> str:
    """One sentence: by the first measure, is the last row better than the others by more than the error of the test?"""
    *others, ours = found
    probe = next(iter(found[ours]))
    own = found[ours][probe]
    shown = {name: str(scores[probe]).split(" [")[0] for name, scores in found.items()}
    worse = [name for name in others if difference(own, found[name][probe])[0] <= 0]
    if not others:
        return ""
    if worse:
        rivals = " nor than ".join(f"{name} ({shown[name]})" for name in worse)
        return f"By {probe} over {own.n:,}, {ours} ({shown[ours]}) is not clearly better than {rivals}."
    rivals = " and ".join(f"{name} ({shown[name]})" for name in others)
    return f"By {probe} over {own.n:,}, {ours} ({shown[ours]}) is better than {rivals}."
