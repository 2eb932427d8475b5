"""How good word vectors are: gensim's figures on the same vectors, and brute force."""

import json

import numpy as np
import pytest
from conftest import DATA
from scipy.stats import spearmanr

from twoviews.data.sentences import held_out
from twoviews.data.text import text
from twoviews.errors import DataError, UserError
from twoviews.evaluate.contexts import NEIGHBOURS, neighbours, ppmi_vectors, told_apart
from twoviews.evaluate.words import Known, Pairs, analogies, similarity, solved, word_table, word_tests

EVAL = DATA / "text" / "eval"
WORDS = [f"w{i}" for i in range(40)]


def vectors(rows=40, width=5, seed=0):
    return np.random.default_rng(seed).normal(size=(rows, width)).astype(np.float32)


@pytest.fixture
def files(tmp_path):
    """Pairs and analogies of WORDS, with what is unknown, broken or written in capitals."""
    random = np.random.default_rng(1)
    drawn = [random.choice(WORDS, 2, replace=False) for _ in range(60)]  # of a word with itself rounding decides
    pairs = [f"{a}\t{b}\t{10 * random.random():.2f}" for a, b in drawn]
    (tmp_path / "sim.tsv").write_text("\n".join(["# about", *pairs, "W1\tW2\t3.5", "w1\tnobody\t2", "w1\tw2\tmuch"]))
    table = Known(WORDS).unit(vectors())
    lines = [": capitals"]
    for i in range(120):
        if i == 60:
            lines.append(": gram1-plural")
        a, b, c = random.choice(40, 3, replace=False)
        scores = table @ (table[b] - table[a] + table[c])
        scores[[a, b, c]] = -9
        d = scores.argmax() if i % 3 else random.integers(40)
        lines.append(" ".join(WORDS[j].upper() if i % 2 else WORDS[j] for j in (a, b, c, d)))
    (tmp_path / "questions.txt").write_text("\n".join([*lines, "w1 w2 w3 nobody", "w1 w2 w3", ""]))
    return tmp_path


def test_files_are_known_by_their_content(files):
    (files / "README.md").write_text("# about\nnothing to ask\n")
    questions, pairs = word_tests(files)
    assert (pairs.name, len(pairs.words), pairs.scores[-1]) == ("sim", 62, 2)
    assert (questions.name, len(questions.words), questions.sections) == (
        "questions",
        121,
        ["capitals", "gram1-plural"],
    )
    assert [mask.sum() for mask in questions.kinds.values()] == [121, 60, 61, 60, 61]
    blanks = files / "blanks.txt"
    blanks.write_text("a b 1\nc d 2.5\n")
    assert word_tests([blanks, files / "sim.tsv"])[0].words == [("a", "b"), ("c", "d")]
    for wrong in (files / "README.md", files / "none.txt"):
        with pytest.raises(DataError, match="no (test|such)"):
            word_tests([wrong])


def test_similarity_and_analogies_are_those_of_gensim(files):
    models = pytest.importorskip("gensim.models")
    names = [*WORDS[:38], "W3", "w40"]  # W3 is rarer than w3, and w38 and w39 are unknown
    table = vectors()
    theirs = models.KeyedVectors(5)
    theirs.add_vectors(names, table)
    questions, pairs = word_tests(files)
    for most in (300_000, 30):
        known = Known(names, most=most)
        unit = known.unit(table)
        ours = similarity(unit, known, pairs)
        _, rho, missing = theirs.evaluate_word_pairs(str(files / "sim.tsv"), restrict_vocab=most)
        assert ours.value == pytest.approx(rho.statistic, abs=1e-5)
        assert 100 * (1 - ours.n / 62) == pytest.approx(missing)
        total, sections = theirs.evaluate_word_analogies(str(files / "questions.txt"), restrict_vocab=most)
        found = analogies(unit, known, questions)
        assert found["analogies"].value == pytest.approx(total)
        assert 0.1 < total < 0.9
        for section in sections[:-1]:
            right = len(section["correct"])
            assert found[section["section"]].n == right + len(section["incorrect"])
            assert found[section["section"]].value == pytest.approx(right / found[section["section"]].n)
        assert found["semantic"].value == found["capitals"].value
        assert found["syntactic"].n == found["gram1-plural"].n


def test_real_tests_are_those_of_gensim():
    if not EVAL.exists():
        pytest.skip(f"{EVAL} is not there")
    models = pytest.importorskip("gensim.models")
    tests = {test.name: test for test in word_tests(EVAL)}
    assert len(tests["wordsim353"].words) == 353
    assert len(tests["simlex999"].words) == 999
    assert len(tests["questions-words"].words) == 19_544
    assert tests["questions-words"].kinds["semantic"].sum() == 8_869
    random = np.random.default_rng(0)
    words = sorted({word for test in tests.values() for line in test.words[::30] for word in line})[:700]
    table = random.normal(size=(len(words), 3)).astype(np.float32)
    theirs, known = models.KeyedVectors(3), Known(words)
    theirs.add_vectors(words, table)
    unit = known.unit(table)
    for name, file in (("wordsim353", "wordsim353.tsv"), ("simlex999", "simlex999.txt")):
        ours = similarity(unit, known, tests[name])
        _, rho, missing = theirs.evaluate_word_pairs(str(EVAL / file))
        assert ours.value == pytest.approx(rho.statistic, abs=1e-4)
        assert 100 * (1 - ours.n / len(tests[name].words)) == pytest.approx(missing)


def test_solved_is_brute_force_and_leaves_out_the_three_words_in_any_capitals():
    names = [f"{'W' if i % 3 else 'w'}{i // 2}" for i in range(60)]
    known = Known(names)
    unit = known.unit(vectors(60, 3))
    places = np.unique(known.alike)[np.random.default_rng(0).integers(0, 30, (200, 4))]
    upper = [name.upper() for name in names]
    hits = []
    for a, b, c, d in places:
        scores = unit @ (unit[b] - unit[a] + unit[c])
        best = max((s, i) for i, s in enumerate(scores) if upper[i] not in {upper[a], upper[b], upper[c]})[1]
        hits.append(upper[best] == upper[d])
    assert solved(unit, known, places).tolist() == hits


def test_counts_decide_which_words_take_part():
    known = Known(["rare", "Often", "often", "some"], np.array([1, 9, 5, 3]), most=3)
    assert known.rows.tolist() == [1, 2, 3]
    assert known.place == {"OFTEN": 0, "SOME": 2}
    assert known.alike.tolist() == [0, 0, 2]
    places, covered = known.places([("some", "OFTEN"), ("rare", "some")])
    assert places.tolist() == [[2, 0]]
    assert covered.tolist() == [True, False]


def test_rho_has_an_interval_that_covers():
    """Of 300 draws of pairs with a true rank correlation, about 95 % have it in the interval."""
    random, inside = np.random.default_rng(0), 0
    normal = random.normal(size=(2, 200_000))
    truth = spearmanr(normal[0], 0.7 * normal[0] + normal[1]).statistic
    known = Known([str(i) for i in range(120)])
    words = [(str(2 * i), str(2 * i + 1)) for i in range(60)]
    for _ in range(300):
        x, noise = random.normal(size=(2, 60))
        angle = np.arctan(x) + np.pi / 2  # in 0 .. pi, so the cosine falls with it
        unit = np.stack([np.cos(angle), np.sin(angle)], 1)
        unit = np.stack([np.tile([1.0, 0.0], (60, 1)), unit], 1).reshape(120, 2)
        found = similarity(unit, known, Pairs("x", words, -(0.7 * x + noise)))
        inside += found.low <= truth <= found.high
    assert 0.92 < inside / 300 < 0.98
    flat = similarity(np.ones((120, 2)), known, Pairs("x", words, np.arange(60.0)))
    assert (flat.value, flat.low, flat.high) == (0, -1, 1)
    assert similarity(unit, known, Pairs("x", words[:2], np.arange(2.0))).n == 2


def topics(lines=600, seed=0):
    """Two groups of 15 words; a line keeps to one."""
    random = np.random.default_rng(seed)
    return [[f"{'ab'[i % 2]}{w}" for w in random.integers(0, 15, 20)] for i in range(lines)]


def test_neighbours_stand_near_and_drawn_words_are_drawn_by_count():
    corpus = text([[f"{i:03d}" for i in range(j, j + 50)] for j in range(0, 200, 2)] * 4, least=1)
    asked = neighbours(corpus, corpus.counts(), 3, 0.0, 0)
    names = np.array(corpus.vocabulary.to_pylist()).astype(int)
    distance = names[asked[:, 1]] - names[asked[:, 0]]
    assert set(np.unique(distance)) == {-3, -2, -1, 1, 2, 3}
    assert abs((distance > 0).mean() - 0.5) < 0.02
    share = corpus.counts() ** 0.75 / (corpus.counts() ** 0.75).sum()
    expected = share * len(asked)
    chi = ((np.bincount(asked[:, 2], minlength=len(corpus)) - expected) ** 2 / expected).sum()
    assert abs(chi - len(corpus)) < 5 * np.sqrt(2 * len(corpus))


def test_told_apart_is_brute_force():
    left, right = vectors(20, 4, 0), vectors(20, 4, 1)
    asked = np.random.default_rng(2).integers(0, 20, (500, 3))
    product = np.mean([(left[w] @ right[c] > left[w] @ right[n]) + 0.5 * (c == n) for w, c, n in asked])
    assert told_apart(left, right, asked).value == pytest.approx(product)
    unit = left / np.linalg.norm(left, axis=1, keepdims=True)
    cosine = np.mean([(unit[w] @ unit[c] > unit[w] @ unit[n]) + 0.5 * (c == n) for w, c, n in asked])
    assert told_apart(left, None, asked).value == pytest.approx(cosine)
    assert told_apart(left, np.zeros_like(right), asked).value == 0.5


def test_counted_vectors_know_what_is_met_together():
    corpus = text(topics(), least=1)
    found = ppmi_vectors(corpus, 8, sample=0)
    assert found.shape == (30, 8)
    group = np.array([name[0] == "a" for name in corpus.vocabulary.to_pylist()])
    unit = found / np.linalg.norm(found, axis=1, keepdims=True)
    cosines = unit @ unit.T
    assert cosines[group][:, group].mean() > 0.5 > 0.1 > abs(cosines[group][:, ~group].mean())
    assert not ppmi_vectors(corpus, 4, most=10, sample=0)[10:].any()


def test_the_table_is_of_all_rows_and_says_what_it_means(files):
    corpus = text(topics(), least=1)
    train, lines = held_out(corpus, 0.2, 10**6, 0)
    counted = ppmi_vectors(train, 8, sample=0)
    start = vectors(len(corpus), 8, 3)
    contexts = {"untrained": np.zeros_like(start)}
    rows = {"untrained": start, "counts": counted}
    table = word_table(rows, corpus.vocabulary, train.counts(), lines=lines, contexts=contexts, sample=0)
    assert table.rows["untrained"][NEIGHBOURS].value == 0.5
    assert table.rows["counts"][NEIGHBOURS].value > 0.7
    assert table.ours == "counts"
    assert "counts (" in table.verdict
    assert "is better than untrained (50.0 %)" in table.verdict
    assert "Counts alone reach" in table.markdown()
    table = word_table({"a": vectors(), "b": vectors(seed=5)}, WORDS, np.arange(40)[::-1], word_tests(files))
    assert table.probes == ["analogies", "semantic", "syntactic", "sim, rho"]
    sections = json.loads(json.dumps(table.to_json()))["rows"]["a"]["analogies"]["detail"]["sections"]
    assert set(sections) == {"capitals", "gram1-plural"}
    assert "is not clearly better than a" in table.verdict
    assert "%" not in table.cells()["a"]["sim, rho"]
    with pytest.raises(UserError, match="held-out lines"):
        word_table({"a": vectors()}, WORDS, np.ones(40))


def test_held_out_lines_without_neighbours_measure_nothing():
    corpus = text([["a"], ["b"], ["a"]], least=1)
    vectors = np.eye(2)
    with pytest.raises(UserError, match="no two neighbours are left"):
        word_table({"ours": vectors}, corpus.vocabulary, corpus.counts(), lines=corpus, sample=0)
