"""Ranks, what they say, and the table: against loops that a reader can check."""

import io
import json
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pytest
import torch
from rich.console import Console

from twoviews.data.cloze import ask
from twoviews.data.histories import Histories
from twoviews.encoders.sequence import bert, causal
from twoviews.errors import DataError, UserError
from twoviews.evaluate import ranking
from twoviews.evaluate.histories import MARKOV, POPULAR, UNTRAINED, ranking_table
from twoviews.evaluate.ranking import beaten, counted, model_scorer, rank, top
from twoviews.evaluate.ranks import Ranks, bootstrapped, gap
from twoviews.evaluate.sampled import draw, rank_sampled
from twoviews.methods.bert4rec import BERT4Rec
from twoviews.methods.sasrec import SASRec


class Question(NamedTuple):
    history: Histories
    truth: Histories


def log(histories, catalogue):
    """Histories from lists of items."""
    stops = np.cumsum([len(h) for h in histories])
    starts = np.append(0, stops[:-1])
    items = np.array([i for h in histories for i in h], np.int32)
    names = [pa.array([f"{kind}{i}" for i in range(n)]) for kind, n in (("u", len(stops)), ("i", catalogue))]
    return Histories("log", items, starts, stops, *names)


def asked(histories, truths, catalogue):
    return Question(log(histories, catalogue), log(truths, catalogue))


def given(scores):
    """A scorer that knows its scores by heart."""
    table = torch.as_tensor(scores, dtype=torch.float32)
    return lambda histories, rows: table[torch.as_tensor(rows)].clone()


def random_question(users=40, catalogue=30, targets=4, seed=0):
    random = np.random.default_rng(seed)
    histories = [random.integers(0, catalogue, random.integers(1, 9)).tolist() for _ in range(users)]
    truths = [random.integers(0, catalogue, random.integers(1, targets + 1)).tolist() for _ in range(users)]
    return asked(histories, truths, catalogue), histories, truths


def slow(scores, history, truth, seen=True, ties="pessimistic"):
    """The targets of one user with their ranks, by sorting in float64: of equal scores targets come last or first."""
    truth = sorted(set(truth))
    rivals = [i for i in range(len(scores)) if i in truth or not (seen and i in history)]
    late = 1 if ties == "pessimistic" else -1
    order = sorted(rivals, key=lambda i: (-scores[i], late * (i in truth)))
    return {item: order.index(item) + 1 for item in truth}


@pytest.mark.parametrize("ties", ["pessimistic", "optimistic"])
@pytest.mark.parametrize("seen", [True, False])
@pytest.mark.parametrize("targets", [1, 4])
def test_ranks_are_those_of_sorting(ties, seen, targets):
    question, histories, truths = random_question(targets=targets)
    scores = np.random.default_rng(1).integers(0, 6, (40, 30)).astype(float)  # many ties
    found = rank(given(scores), question, seen=seen, ties=ties, chunk=7)
    assert (found.rows == np.arange(40)).all()
    for user, (history, truth) in enumerate(zip(histories, truths, strict=True)):
        expected = slow(scores[user], history, truth, seen, ties)
        mine = found.owners == user
        assert found.items[mine].tolist() == list(expected)
        # Targets of one score may take their places in any order.
        assert sorted(found.ranks[mine]) == sorted(expected.values())


@pytest.mark.parametrize("targets", [1, 5])
def test_metrics_are_those_of_loops(targets):
    question, histories, truths = random_question(targets=targets, seed=3)
    scores = np.random.default_rng(4).normal(size=(40, 30))
    found = rank(given(scores), question, np.arange(30))
    for k in (1, 5, 20, 100):
        recall, ndcg = [], []
        for user, (history, truth) in enumerate(zip(histories, truths, strict=True)):
            ranks = slow(scores[user].astype(np.float32), history, truth).values()
            recall.append(sum(r <= k for r in ranks) / len(ranks))
            gain = sum(1 / np.log2(r + 1) for r in ranks if r <= k)
            ndcg.append(gain / sum(1 / np.log2(j + 2) for j in range(min(k, len(ranks)))))
        assert found.recall(k).value == pytest.approx(np.mean(recall))
        assert found.ndcg(k).value == pytest.approx(np.mean(ndcg))
        assert found.recall(k).n == 40
    firsts = [
        1 / min(slow(scores[u].astype(np.float32), h, t).values())
        for u, (h, t) in enumerate(zip(histories, truths, strict=True))
    ]
    assert found.mrr().value == pytest.approx(np.mean(firsts))


def test_all_right_is_one_whatever_the_number_of_targets():
    question = asked([[0], [1]], [[2, 3, 4], [2]], 6)
    scores = [[9, 0, 5, 5, 5, 1], [0, 0, 7, 1, 1, 1]]
    found = rank(given(scores), question)
    assert sorted(found.ranks[found.owners == 0]) == [1, 2, 3]  # of equal score, and not each other's rivals
    assert found.tied.tolist() == [0, 0, 0, 0]
    assert found.ndcg(2).value == found.ndcg(5).value == found.mrr().value == 1
    assert found.recall(2).value == pytest.approx((2 / 3 + 1) / 2)


def test_numbers_that_are_none_rank_last():
    question = asked([[0], [0], [0], [1]], [[1], [1], [1, 2], [1]], 5)
    nan, inf = np.nan, np.inf
    scores = [[9, nan, 1, 2, -inf], [9, 1, nan, nan, 0], [9, nan, nan, 1, 1], [nan] * 5]
    found = rank(given(scores), question)
    assert found.ranks[:2].tolist() == [4, 1]
    assert sorted(found.ranks[2:4]) == [3, 4]
    assert found.ranks[4] == 5  # a repeat competes: 4 others and itself
    assert found.lists[0].tolist()[:4] == [3, 2, -1, -1]
    assert found.lists[3].tolist() == [-1] * 20
    assert any("4 targets have a score that is not a number" in note for note in found.notes)


def test_repeats_compete_and_are_not_recommended():
    question = asked([[0, 1, 1, 2], [3]], [[1], [0]], 4)
    found = rank(given([[9, 5, 8, 6], [1, 2, 3, 4]]), question)
    assert found.ranks.tolist() == [2, 3]  # of user 0 only item 3 is ahead, 0 and 2 are in the history
    assert found.lists[0, :2].tolist() == [3, -1]
    assert "1 targets are in the history already; they compete all the same." in found.notes
    with_seen = rank(given([[9, 5, 8, 6], [1, 2, 3, 4]]), question, seen=False)
    assert with_seen.ranks.tolist() == [4, 4]
    assert with_seen.lists[0, :4].tolist() == [0, 2, 3, 1]


def test_all_seen_but_the_target():
    found = rank(given([[3, 2, 1]]), asked([[0, 1]], [[2]], 3))
    assert found.ranks.tolist() == [1]
    assert found.lists.shape == (1, 20)
    assert found.lists[0, :2].tolist() == [2, -1]


def test_who_has_nothing_to_tell_is_left_out():
    question = asked([[0], [], [1]], [[1], [2], []], 3)
    found = rank(given(np.eye(3)), question)
    assert found.rows.tolist() == [0]
    assert found.left_out == 2
    with pytest.raises(DataError, match="none of the 1 users"):
        rank(given(np.eye(3)), asked([[]], [[1]], 3))


def test_bad_values_are_told():
    question = asked([[0]], [[1]], 3)
    for broken, match in (({"ties": "kind"}, "tie policy"), ({"k": (0,)}, "k must be"), ({"k": ()}, "k must be")):
        with pytest.raises(UserError, match=match):
            rank(given(np.eye(3)), question, **broken)
    with pytest.raises(UserError, match=r"must give \(1, 3\) scores"):
        rank(given(np.eye(4)), question)
    with pytest.raises(UserError, match="are kept, asked for 30"):
        rank(given(np.eye(3)), question).coverage(30)


def test_chunks_and_progress_change_nothing(monkeypatch):
    question, _, _ = random_question(seed=5)
    scores, told = np.random.default_rng(6).normal(size=(40, 30)), []
    whole = rank(given(scores), question, progress=lambda done, total: told.append((done, total)))
    assert told == [(40, 40)]
    monkeypatch.setattr(ranking, "SCORES", 20)  # below one user
    asked_for = []

    def one_by_one(histories, rows):
        asked_for.append(len(rows))
        return given(scores)(histories, rows)

    parts = rank(one_by_one, question)
    assert asked_for == [1] * 40
    for name in ("owners", "items", "ranks", "tied", "lists"):
        assert (getattr(whole, name) == getattr(parts, name)).all()


def test_counting_by_torch_is_counting_by_numpy():
    g = torch.Generator().manual_seed(0)
    scores = torch.randint(0, 9, (6, 50), generator=g).float()
    scores[2, :20] = torch.nan
    owners = torch.tensor([0, 0, 1, 2, 3, 3, 3, 4, 5])
    own = scores[owners, torch.arange(9) + 30]
    for a, b in zip(beaten(scores, owners, own), counted(scores, owners, own), strict=True):
        assert a.tolist() == b.tolist()


@pytest.mark.parametrize("catalogue", [3, 200, 1000, 1029, 5000])
def test_top_is_topk(catalogue):
    g = torch.Generator().manual_seed(catalogue)
    scores = torch.randn(9, catalogue, generator=g)
    k = min(5, catalogue)
    assert (top(scores.clone(), 5) == scores.topk(k, 1).indices.numpy()).all()
    scores[1, : catalogue - 2] = -torch.inf
    scores[2] = torch.nan
    scores[3, 1] = torch.nan
    clean = scores.nan_to_num(-torch.inf, neginf=-torch.inf)
    expected = clean.topk(k, 1)
    expected = expected.indices.masked_fill(expected.values == -torch.inf, -1)
    assert (top(scores, 5) == expected.numpy()).all()


def test_what_is_recommended():
    ranks = Ranks(
        rows=np.arange(2),
        owners=np.arange(2),
        items=np.array([0, 1]),
        ranks=np.array([1, 2]),
        tied=np.zeros(2),
        lists=np.array([[0, 1, 4], [0, 2, -1]]),
        counts=np.array([4, 2, 1, 1, 0]),
    )
    assert ranks.coverage(1) == 1 / 5
    assert ranks.coverage(3) == 4 / 5
    assert ranks.novelty(1) == 1  # half of the events
    assert ranks.novelty(3) == pytest.approx((1 + 2 + 3 + 1 + 3) / 5)  # what does not occur counts as if it did once
    assert ranks.popularity(1) == pytest.approx(0.9)
    everything = replace(ranks, lists=np.arange(5)[None])
    assert everything.popularity(5) == pytest.approx(0.5)
    nothing = replace(ranks, lists=np.full((2, 3), -1))
    assert nothing.coverage(3) == nothing.novelty(3) == nothing.popularity(3) == 0


def test_cold_rare_and_warm_targets_apart():
    question = asked([[0], [0], [1]], [[1, 2], [3], [2]], 4)
    found = rank(given([[0, 3, 2, 1], [0, 1, 2, 3], [3, 2, 1, 2]]), question, np.array([9, 5, 0, 4]))
    groups = found.groups()
    assert {name: len(some) for name, some in groups.items()} == {"cold": 2, "rare": 1, "warm": 1}
    assert groups["cold"].ranks.tolist() == [2, 3]
    assert groups["cold"].rows.tolist() == [0, 2]
    assert groups["cold"].recall(2).value == 0.5
    assert groups["rare"].recall(1).value == groups["warm"].recall(1).value == 1


def test_intervals_hold_the_truth_about_19_times_of_20():
    random, held = np.random.default_rng(0), 0
    for _ in range(400):
        score = bootstrapped(random.choice([0, 0, 0, 1 / 3, 0.5, 1], 300))
        held += score.low <= (1 / 3 + 0.5 + 1) / 6 <= score.high
    assert 0.92 <= held / 400 <= 0.98


def test_intervals_of_many_different_values_and_of_one():
    values = np.random.default_rng(0).random(20_000)
    many = bootstrapped(values)
    few = bootstrapped(values[:4000])
    assert many.value - many.low == pytest.approx(1.96 * values.std() / 20_000**0.5, rel=1e-3)
    assert few.high - few.low == pytest.approx(2 * 1.96 * values[:4000].std() / 4000**0.5, rel=0.1)
    assert bootstrapped(values[:4000]) == few  # nothing is left to chance
    none = bootstrapped(np.zeros(50))
    assert none.value == none.low == 0
    assert 0.05 < none.high < 0.1  # Wilson's: nobody of 50 does not mean nobody


def test_paired_differences_are_narrower_than_unpaired():
    question, _, _ = random_question(users=300, targets=1, seed=8)
    scores = np.random.default_rng(9).normal(size=(300, 30))
    a = rank(given(scores), question)
    b = rank(given(scores + 0.01 * np.random.default_rng(10).normal(size=scores.shape)), question)
    paired = gap(a, b)
    assert paired.value == pytest.approx(a.ndcg(10).value - b.ndcg(10).value)
    assert paired.high - paired.low < 0.5 * (a.ndcg(10).high - a.ndcg(10).low)
    with pytest.raises(UserError, match="same question"):
        gap(a, b.only(b.rows[b.owners] > 0))


@pytest.mark.parametrize("kind", ["both ways", "from the past", "with specials"])
def test_scores_of_a_model(kind):
    torch.manual_seed(0)
    if kind == "from the past":
        method = SASRec(causal(9, width=8, length=6, heads=2))
    else:
        method = BERT4Rec(bert(9, width=8, length=6, heads=2), specials=kind == "with specials")
        torch.nn.init.normal_(method.bias)
    with torch.no_grad():
        for parameter in method.parameters():
            parameter.mul_(10)
    histories = log([[0, 3, 8], [1], list(range(8))], 9)
    question = ask(6, blank=kind != "from the past")
    scorer = model_scorer(method.train(), question)
    method.encoder.norm.eval()  # a mode of its own
    scores = scorer(histories, np.array([2, 0]))
    assert method.training
    assert not method.encoder.norm.training
    assert not scores.requires_grad
    assert scores.dtype == torch.float32
    method.eval()
    z = method.project(method.encoder(question(histories, np.array([2, 0]))))
    vectors, bias, first = method.catalogue()
    for row in range(2):
        for item in range(9):
            value = vectors[first + item] @ z[row] + (0 if bias is None else bias[first + item])
            assert scores[row, item].item() == pytest.approx(value.item(), rel=1e-4, abs=1e-4)


def test_sampled_ranks_are_among_the_drawn():
    question, histories, truths = random_question(users=60, catalogue=40, targets=2, seed=2)
    scores, counts = np.random.default_rng(3).normal(size=(60, 40)), np.arange(1, 41)
    found = rank_sampled(given(scores), question, counts, counts, negatives=10, seed=4)
    again = rank_sampled(given(scores), question, counts, counts, negatives=10, seed=4)
    assert (found.ranks == again.ranks).all()
    assert found.sampled == "sampled, 10 popular negatives"
    assert "sampled, 10 popular negatives" in found.notes[0]
    assert found.ranks.min() >= 1
    assert found.ranks.max() <= 11
    # With more negatives than there are items it is the full ranking, but for the user's other targets.
    single = [truth[:1] for truth in truths]
    question = asked(histories, single, 40)
    every = rank_sampled(given(scores), question, counts, counts, negatives=50)
    assert (every.ranks == rank(given(scores), question).ranks).all()
    assert "neither in the history nor a target" in every.notes[1]
    broken = rank_sampled(given(np.full((60, 40), np.nan)), question, counts, counts, negatives=10)
    assert (broken.ranks == 11).all()
    with pytest.raises(DataError, match="no item to draw"):
        rank_sampled(given(scores), question, counts, np.zeros(40))


@pytest.mark.parametrize("taken", [[], [2, 5]])
@pytest.mark.parametrize("tries", [0, 1, 3])
def test_draws_are_in_proportion_and_without_return(taken, tries, monkeypatch):
    """Both ways of drawing, and one that goes on with the other, against numpy's."""
    from twoviews.evaluate import sampled

    monkeypatch.setattr(sampled, "TRIES", tries)
    weights = np.array([8.0, 4, 2, 1, 1, 5, 0])
    users = 4000
    without = ranking.Pairs(np.repeat(np.arange(users), len(taken)), np.tile(taken, users).astype(int))
    drawn = draw(weights, 3, [without], (0, 0), users)
    left = weights.copy()
    left[taken] = 0
    random = np.random.default_rng(1)
    expected = np.array([random.choice(7, 3, replace=False, p=left / left.sum()) for _ in range(users)])
    for place in range(3):
        a, b = (np.bincount(x[:, place], minlength=7) / users for x in (drawn, expected))
        assert np.abs(a - b).max() < 0.035  # 3 standard errors of a difference
    assert all(len(set(row)) == 3 for row in drawn.tolist())
    assert not {6, *taken} & set(drawn.ravel().tolist())
    short = draw(weights, 8, [without], (0, 0), 2)
    assert ((short >= 0).sum(1) == 6 - len(taken)).all()


def table_of(ours, markov, users=400, **how):
    """A table in which a row finds the target of so large a share of users at once, and nothing else."""
    truth = [[1 + u % 3] for u in range(users)]
    question = asked([[0]] * users, truth, 30)
    rows = {}
    for name, share in ((POPULAR, 0.1), (MARKOV, markov), (UNTRAINED, 0.05), ("BERT4Rec", ours)):
        scores = np.tile(np.arange(30.0), (users, 1))
        good = np.arange(users) < share * users
        scores[good, np.array(truth)[good, 0]] = 99
        rows[name] = rank(given(scores), question, np.arange(30))
    return ranking_table(rows | how, question, "Divided by hand.")


def test_the_table_says_whether_the_floors_are_beaten():
    table = table_of(0.6, 0.3)
    assert table.verdict.startswith(
        "By NDCG@10 over 400 users, BERT4Rec (60.00 %) is better than what is popular by +50.00"
    )
    assert "than the counts of markov by +30.00 [+" in table.verdict
    assert table.verdict.endswith("points: it knows more than counts do.")
    lost = table_of(0.3, 0.6).verdict
    assert "the co-occurrence floor is not beaten: BERT4Rec (30.00 %) is not better than" in lost
    assert "(60.00 %; -30.00 [-" in lost
    assert lost.endswith("train longer or wider, or recommend by those counts.")
    assert "is not clearly better than the counts of markov" in table_of(0.3, 0.3).verdict
    assert "is not better than what is popular (10.00 %" in table_of(0.01, 0.3).verdict
    assert "it has learned too little" in table_of(0.01, 0.3).verdict


def test_the_table_can_be_read():
    table = table_of(0.6, 0.3)
    assert table.cells()["BERT4Rec"]["Recall@10"].startswith("60.00 % [5")
    assert table.cells()["BERT4Rec"]["novelty@10"].endswith(" bits")
    assert table.cells()["BERT4Rec"]["coverage@10"].endswith(" %")
    assert list(table.cells()["BERT4Rec"])[:3] == ["Recall@10", "NDCG@10", "MRR"]
    assert "rare, Recall@10" in table.probes
    said = table.to_json()
    assert json.loads(json.dumps(said)) == said
    assert said["ours"] == "BERT4Rec"
    assert said["rows"]["BERT4Rec"]["novelty@10"]["detail"] == {"unit": "bits"}
    console = Console(record=True, width=300, file=io.StringIO())
    console.print(table.rich())
    text = console.export_text()
    for part in ("Divided by hand.", "400 users were asked for 400 targets", "ties are pessimistic", "Brackets: 95 %"):
        assert part in text
    assert table.verdict in table.markdown()


@pytest.mark.parametrize("width", [60, 80, 100, 140, 300])
def test_no_column_is_cut_off_in_a_narrow_terminal(width):
    table = table_of(0.6, 0.3)
    console = Console(width=width, file=io.StringIO())
    console.print(table.rich(width))
    text = console.file.getvalue()
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= width
    left = [probe for probe in table.probes if probe not in text.partition("┡")[0]]
    assert ("No room here" in text) == bool(left) == (width < 140)
    assert "Recall@10" not in left
    assert left == table.probes[len(table.probes) - len(left) :]
    for row, cells in table.cells().items():
        line = next(line for line in text.splitlines() if line.startswith(f"│ {row} "))
        assert all(cells[probe] in line for probe in table.probes if probe not in left)


def test_only_what_compares_stands_in_a_table():
    question, _, _ = random_question(seed=7)
    scores, counts = np.random.default_rng(7).normal(size=(40, 30)), np.arange(30)
    full = rank(given(scores), question, counts)
    drawn = rank_sampled(given(scores), question, counts, counts + 1, negatives=5)
    make = partial(ranking_table, question=question, said="")
    with pytest.raises(UserError, match="cannot be compared"):
        make({POPULAR: full, "mine": drawn})
    with pytest.raises(UserError, match="one model beside"):
        make({"yours": full, "mine": full})
    with pytest.raises(UserError, match="same question"):
        make({POPULAR: full, "mine": full.only(full.owners > 0)})
    table = make({POPULAR: drawn, "mine": drawn})
    assert "(sampled, 5 popular negatives)" in table.title
    assert "coverage@10" not in table.probes
    assert make({"mine": full}).verdict == ""
