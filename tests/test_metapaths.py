"""The choice of meta-paths, with trials whose outcome is known."""

import json

import numpy as np
import pytest

from twoviews import search_paths
from twoviews.data.graphs import graph
from twoviews.errors import UserError
from twoviews.evaluate.metapaths import choose
from twoviews.evaluate.score import Score
from twoviews.log import Log

WORTH = {"apa": 0.60, "apvpa": 0.90, "aptpa": 0.80, "pvp": 0.70, "ptp": 0.65, "vpv": 0.55, "pap": 0.62, "tpt": 0.58}


def score(value, error=0.01):
    return Score(value, value - error, value + error, 1000)


class Trial:
    """A path is worth what WORTH says; a mixture as much as `gain` makes of its parts."""

    def __init__(self, gain=max):
        self.gain, self.asked = gain, []

    def __call__(self, paths, budget):
        self.asked.append((paths, budget))
        return score(self.gain([WORTH[path] for path in paths])), 2 * budget


def test_halves_at_doubled_budget_and_mixes_the_survivors():
    trial = Trial(lambda worth: max(worth) + 0.03 * (len(worth) == 2) - 0.05 * (len(worth) == 3))
    choice = choose(list(WORTH), trial)
    assert [budget for _, budget in trial.asked] == [1.0] * 8 + [2.0] * 4 + [4.0] * 3
    assert {paths[0] for paths, budget in trial.asked if budget == 2} == {"apvpa", "aptpa", "pvp", "ptp"}
    assert [paths for paths, budget in trial.asked if budget == 4] == [
        ("apvpa",),
        ("apvpa", "aptpa"),
        ("apvpa", "aptpa", "pvp"),
    ]
    assert choice.paths == ("apvpa", "aptpa")
    assert "apvpa alone has 90.0 %" in choice.said
    assert "within the error" not in choice.said
    fates = {(one.paths, one.round): one.fate for one in choice.tried}
    assert fates[("vpv",), 1] == "8 of 8: dropped, 10.0 points below the last that is kept"
    assert fates[("ptp",), 2] == "4 of 4: dropped, 5.0 points below the last that is kept"
    assert fates[("apvpa",), 2] == "1 of 4: kept"
    assert fates[("apvpa", "aptpa"), 3] == "chosen"
    assert fates[("apvpa",), 3] == "3.0 points below the best"


def test_says_all_that_was_tried():
    choice = choose(list(WORTH), Trial())
    written = json.loads(json.dumps(choice.to_json()))
    assert written["paths"] == ["apvpa"]
    assert len(written["tried"]) == 15
    assert written["tried"][0] == {
        "paths": ["apa"],
        "round": 1,
        "budget": 1.0,
        "score": {"value": 0.6, "low": 0.59, "high": 0.61, "n": 1000, "detail": {}},
        "seconds": 2.0,
        "fate": "6 of 8: dropped, 5.0 points below the last that is kept",
    }
    assert len(choice.lines()) == 16
    assert "15 short runs of 56 CPU-seconds" in choice.lines()[0]
    assert "no mixture is better" in choice.lines()[0]
    assert choice.lines()[1].startswith("round 1, apa: 60.0 % [59.0, 61.0], 2.0 s, 6 of 8")


def test_a_gain_within_the_error_is_said_to_be_so():
    trial = Trial(lambda worth: max(worth) + 0.001 * len(worth))
    choice = choose(list(WORTH), trial)
    assert len(choice.paths) == 3
    assert choice.said.endswith("alone has 90.1 % [89.1, 91.1], which is within the error.")


def test_the_best_path_to_a_type_is_spared_until_the_mixing():
    reach = {path: set(path) for path in WORTH}
    worth = dict(WORTH, aptpa=0.5, ptp=0.51, tpt=0.52)  # all that know terms are bad

    def trial(paths, budget):
        return score(max(worth[path] for path in paths) + 0.1 * (len(paths) > 1 and "t" in "".join(paths))), budget

    choice = choose(list(WORTH), trial, reach=lambda path: reach[path], most=2)
    terms = [one for one in choice.tried if one.paths == ("tpt",)]
    assert terms[0].fate.endswith("kept, the best to reach t")
    assert choice.paths[0] == "apvpa"
    assert "tpt" in choice.paths
    dropped = choose(list(WORTH), trial, most=2)
    assert "tpt" not in dropped.paths


def test_few_candidates():
    trial = Trial()
    assert choose(["apa"], trial).paths == ("apa",)
    assert not trial.asked
    choice = choose(["apa", "apvpa"], trial)
    assert choice.paths == ("apvpa",)
    assert [budget for _, budget in trial.asked] == [1, 1, 2, 2]
    with pytest.raises(UserError, match="no meta-path"):
        choose([], trial)
    with pytest.raises(UserError, match="keep=2"):
        choose(["apa"], trial, keep=2)


def test_equals_go_by_their_order_and_what_diverged_comes_last():
    values = {"a": np.nan, "b": 0.7, "c": 0.7, "d": 0.7, "e": 0.6, "f": 0.5}
    choice = choose(list("abcdef"), lambda paths, budget: (score(values[paths[-1]]), 1.0))
    assert choice.paths == ("b",)
    first = {one.paths[0]: one.fate for one in choice.tried if one.round == 1}
    assert first["a"] == "6 of 6: dropped, not finite, so below the last that is kept"
    assert [first[path][0] for path in "bcd"] == ["1", "2", "3"]


def test_rounds_end_where_every_path_is_needed():
    trial = Trial()
    choice = choose(list(WORTH), trial, reach=lambda path: {path}, most=1)
    assert len(trial.asked) == 8 + 8
    assert len(choice.tried[-1].paths) == 8


def test_paths_that_do_not_meet_what_is_kept_are_not_tried(monkeypatch):
    monkeypatch.setattr(search_paths, "TOKENS", 500)
    random = np.random.default_rng(0)
    wrote, published = random.integers(0, 30, (2, 200)), np.stack([np.arange(30), random.integers(0, 4, 30)])
    papers = graph({("author", "writes", "paper"): wrote, ("paper", "in", "venue"): published})
    choice = search_paths.choose_metapaths(papers, 8, ("author", "venue"), 0, Log(quiet=True))
    assert all({"author", "venue"} <= set(path.types) for path in choice.paths)
    with pytest.raises(UserError, match="views.keep.*'author'"):
        search_paths.choose_metapaths(papers, 8, ("auther",), 0, Log(quiet=True))
