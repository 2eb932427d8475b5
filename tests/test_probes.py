"""Probes against brute force and scikit-learn, on data whose answer is known."""

import json
from dataclasses import asdict

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from torch.nn.functional import cross_entropy

from twoviews.errors import UserError
from twoviews.evaluate import PROBES
from twoviews.evaluate import linear as linear_module
from twoviews.evaluate.knn import knn, neighbours
from twoviews.evaluate.linear import choose, linear, path
from twoviews.evaluate.retrieval import retrieval
from twoviews.evaluate.score import difference, score
from twoviews.evaluate.split import holdout, labelled, take
from twoviews.types import Features


def blobs(n=300, classes=4, dim=8, spread=1.0, seed=0):
    """Items around random class centres."""
    g = torch.Generator().manual_seed(seed)
    centres = 2 * torch.randn(classes, dim, generator=torch.Generator().manual_seed(99))
    y = torch.arange(n) % classes
    return named(centres[y] + spread * torch.randn(n, dim, generator=g), y)


def named(h, y, classes=None):
    return Features(h, [str(i) for i in range(len(h))], y, classes)


@pytest.fixture(scope="module")
def digits():
    data, target = load_digits(return_X_y=True)
    x, y = torch.from_numpy(data).float(), torch.from_numpy(target).long()
    rest, held = holdout(y, 0.3)
    return take(named(x, y), rest), take(named(x, y), held)


def knn_by_hand(train, test, k, temperature):
    """Wu et al.'s vote in float64, item by item."""
    x, t = (f.h.double() / f.h.double().norm(dim=1, keepdim=True) for f in (train, test))
    right = 0
    for row, label in zip(t, test.labels.tolist(), strict=True):
        similarity = [float(row @ other) for other in x]
        votes = {}
        for i in sorted(range(len(x)), key=lambda i: -similarity[i])[:k]:
            c = int(train.labels[i])
            votes[c] = votes.get(c, 0.0) + np.exp(similarity[i] / temperature)
        right += max(votes, key=votes.get) == label
    return right / len(t)


@pytest.mark.parametrize(("k", "temperature"), [(1, 0.07), (20, 0.07), (50, 1.0), (200, 0.1)])
def test_knn_equals_brute_force(k, temperature):
    train, test = blobs(300, spread=4.0), blobs(120, spread=4.0, seed=1)
    expected = knn_by_hand(train, test, k, temperature)
    assert 0.3 < expected < 0.95  # the case is neither trivial nor hopeless
    assert knn(train, test, k=k, temperature=temperature).value == expected


@pytest.mark.parametrize(("rows", "columns"), [(1, 7), (50, 3), (1000, 1), (17, 1000)])
def test_blocks_do_not_change_the_neighbours(rows, columns):
    g = torch.Generator().manual_seed(0)
    queries, items = torch.randn(50, 6, generator=g), torch.randn(64, 6, generator=g)
    similarity, index = neighbours(queries, items, k=9, rows=rows, columns=columns)
    q, x = (a.double() / a.double().norm(dim=1, keepdim=True) for a in (queries, items))
    expected = (q @ x.T).topk(9, dim=1)
    assert torch.equal(index, expected.indices)
    torch.testing.assert_close(similarity.double(), expected.values, atol=1e-6, rtol=0)


def test_knn_votes_by_similarity_not_by_count():
    train = named(torch.tensor([[1.0, 0.0], [0.6, 0.8], [0.6, -0.8]]), torch.tensor([0, 1, 1]))
    test = named(torch.tensor([[1.0, 0.0]]), torch.tensor([0]))
    assert knn(train, test, k=3, temperature=0.07).value == 1.0
    assert knn(train, test, k=3, temperature=100.0).value == 0.0  # at a high temperature the majority wins


def test_knn_at_a_tiny_temperature_does_not_overflow():
    assert knn(blobs(), blobs(seed=1), k=5, temperature=1e-4).value > 0.9


def test_knn_of_half_precision_features_is_computed_in_float32():
    train, test = blobs(), blobs(seed=1)
    half = [named(f.h.half(), f.labels) for f in (train, test)]
    assert abs(knn(*half).value - knn(train, test).value) < 0.02


@pytest.mark.parametrize("k", [0, 301])
def test_k_that_does_not_fit_is_an_error_in_words(k):
    with pytest.raises(UserError, match=f"k={k} cannot vote among 300 labelled train items: give k from 1 to 300"):
        knn(blobs(), blobs(seed=1), k=k)
    assert knn(blobs(), blobs(seed=1), k=300).n == 300


def test_temperature_must_be_positive():
    with pytest.raises(UserError, match="above 0"):
        knn(blobs(), blobs(), temperature=0.0)


@pytest.mark.parametrize("strength", [0.1, 10.0, 1000.0])
def test_linear_equals_scikit_learn(digits, strength):
    data = labelled(*digits)
    model = next(path(data.x, data.y, data.classes, [strength]))
    x, t = ((a.double() - model.mean) / model.scale for a in (data.x, data.t))
    peer = LogisticRegression(C=1 / strength, tol=1e-10, max_iter=10_000).fit(x.numpy(), data.y.numpy())

    def objective(weight, bias):
        loss = cross_entropy(x @ weight.T + bias, data.y, reduction="sum") + strength / 2 * weight.square().sum()
        return float(loss) / len(x)

    best = objective(torch.from_numpy(peer.coef_), torch.from_numpy(peer.intercept_))
    assert objective(model.weight.double(), model.bias.double()) == pytest.approx(best, rel=1e-4)
    assert model.loss == pytest.approx(best, rel=1e-4)
    accuracy = linear(*digits, strengths=[strength]).value
    assert accuracy == pytest.approx(peer.score(t.numpy(), data.u.numpy()), abs=0.004)


def test_linear_equals_scikit_learn_on_fewer_items_than_dimensions():
    g = torch.Generator().manual_seed(0)
    x, y = torch.randn(40, 90, generator=g), torch.arange(40) % 3
    model = next(path(x, y, 3, [5.0]))
    wide = ((x.double() - model.mean) / model.scale).numpy()
    peer = LogisticRegression(C=1 / 5.0, tol=1e-12, max_iter=100_000).fit(wide, y.numpy())
    np.testing.assert_allclose(model.weight.numpy(), peer.coef_, atol=1e-4)


def test_linear_equals_scikit_learn_on_correlated_features():
    """Two thousand times longer along one direction than another, as features of collapsed encoders are."""
    g = torch.Generator().manual_seed(0)
    train = blobs(400, spread=3.0)
    mix = torch.randn(8, 8, generator=g) @ torch.diag(torch.logspace(0, -3.3, 8)) @ torch.randn(8, 8, generator=g)
    train.h = train.h @ mix
    model = next(path(train.h, train.labels, 4, [0.1]))
    x = (train.h.double() - model.mean) / model.scale
    peer = LogisticRegression(C=10.0, tol=1e-12, max_iter=100_000).fit(x.numpy(), train.labels.numpy())
    logits = x @ torch.from_numpy(peer.coef_).T + torch.from_numpy(peer.intercept_)
    loss = cross_entropy(logits, train.labels, reduction="sum") + 0.05 * np.square(peer.coef_).sum()
    assert model.loss == pytest.approx(float(loss) / 400, rel=1e-4)


def test_strength_is_the_best_on_the_validation_part():
    # 8 useful dimensions among 200 of noise: little regularisation fits the noise
    train, test = blobs(200, spread=2.0), blobs(400, spread=2.0, seed=1)
    g = torch.Generator().manual_seed(0)
    for f in (train, test):
        f.h = torch.cat([f.h, torch.randn(len(f), 200, generator=g)], 1)
    found = linear(train, test)
    strengths, accuracies = zip(*found.detail["tried"], strict=True)
    assert strengths == linear_module.STRENGTHS
    assert found.detail["validation"] == max(accuracies)
    assert found.detail["strength"] == strengths[accuracies.index(max(accuracies))]
    assert found.detail["selected_on"] == 160
    assert found.value > linear(train, test, strengths=[1e-2]).value + 0.03


def test_test_labels_change_neither_strength_nor_model(monkeypatch):
    train, test = blobs(200, spread=3.0), blobs(200, spread=3.0, seed=1)
    models = []

    def recorded(*args):
        out = choose(*args)
        models.append(out[0])
        return out

    monkeypatch.setattr(linear_module, "choose", recorded)
    first = linear(train, test)
    shuffled = named(test.h, test.labels[torch.randperm(200, generator=torch.Generator().manual_seed(0))])
    second = linear(train, shuffled)
    assert first.detail == second.detail
    assert torch.equal(models[0].weight, models[1].weight)
    assert torch.equal(models[0].mean, models[1].mean)
    assert first.value > 0.6
    assert second.value < 0.4  # the shuffle did matter to the figure


def test_standardisation_is_of_train_alone():
    train, test = blobs(), blobs(seed=1)
    model, _ = choose(train.h, train.labels, 4, [1.0])
    torch.testing.assert_close(model.mean, train.h.mean(0))
    torch.testing.assert_close(model.scale, train.h.std(0, correction=0))
    test.h[0] = 1e4  # one wild test item changes no other's prediction
    assert linear(train, test).value >= linear(train, blobs(seed=1)).value - 1 / 300 - 1e-9


def test_scale_shift_and_constant_dimensions_do_not_matter():
    train, test = blobs(spread=3.0), blobs(spread=3.0, seed=1)
    plain = linear(train, test, strengths=[10.0])
    for f in (train, test):
        constant = torch.full((len(f), 2), 0.1) * torch.tensor([1.0, 0.0])
        f.h = torch.cat([f.h * 1e-3 + 5.0, constant], 1)
    test.h[:, -2] += 1e-7  # rounding in a constant dimension must not be blown up
    assert linear(train, test, strengths=[10.0]).value == pytest.approx(plain.value, abs=0.01)


def test_selection_on_a_part_of_many_items(monkeypatch):
    monkeypatch.setattr(linear_module, "SELECT", 60)
    found = linear(blobs(300), blobs(seed=1))
    assert abs(found.detail["selected_on"] - 60) <= 1
    assert found.detail["train"] == 300
    assert found.value > 0.9


def test_blocks_do_not_change_the_fit(monkeypatch):
    train, test = blobs(spread=3.0), blobs(spread=3.0, seed=1)
    whole = choose(train.h, train.labels, 4, [1.0])[0]
    monkeypatch.setattr(linear_module, "BLOCK", 40)
    parts = choose(train.h, train.labels, 4, [1.0])[0]
    torch.testing.assert_close(parts.weight, whole.weight, atol=1e-3, rtol=1e-3)
    assert linear(train, test, strengths=[1.0]).n == 300


def test_top5_is_reported_beyond_ten_classes():
    train, test = blobs(600, classes=12, dim=3, spread=3.0), blobs(240, classes=12, dim=3, spread=3.0, seed=1)
    found = linear(train, test, strengths=[1.0])
    model, _ = choose(train.h, train.labels, 12, [1.0])
    order = model(test.h).argsort(dim=1, descending=True)
    assert found.value == pytest.approx(float((order[:, 0] == test.labels).float().mean()))
    assert found.detail["top5"] == pytest.approx(float((order[:, :5] == test.labels[:, None]).any(1).float().mean()))
    assert found.value < found.detail["top5"] < 1
    assert "top5" not in linear(blobs(), blobs(seed=1), strengths=[1.0]).detail


def test_strengths_must_be_positive():
    for wrong in ([], [0.0], [1.0, -1.0]):
        with pytest.raises(UserError, match="must be above 0"):
            linear(blobs(), blobs(), strengths=wrong)


def test_too_few_items_to_choose_on():
    two = named(torch.eye(2), torch.tensor([0, 1]))
    with pytest.raises(UserError, match="2 items are too few to hold out 20%"):
        linear(two, two)
    assert linear(two, two, strengths=[1.0]).value == 1.0


@pytest.mark.parametrize("probe", PROBES.values(), ids=PROBES)
class TestEveryProbe:
    def test_unlabelled_items_are_left_out(self, probe):
        train, test = blobs(200, spread=3.0), blobs(100, spread=3.0, seed=1)
        plain = probe(train, test)
        for f in (train, test):
            f.h = torch.cat([f.h, torch.full((7, 8), 50.0)])
            f.labels = torch.cat([f.labels, torch.full((7,), -1)])
            f.keys = f.keys + ["none"] * 7
        assert probe(train, test) == plain

    def test_label_numbers_do_not_matter(self, probe):
        train, test = blobs(200, spread=3.0), blobs(100, spread=3.0, seed=1)
        far = [named(f.h, 1000 * f.labels + 5) for f in (train, test)]
        assert probe(*far).value == probe(train, test).value

    def test_classes_are_matched_by_name(self, probe):
        train, test = blobs(200), blobs(100, seed=1)
        train.classes, test.classes = ["a", "b", "c", "d"], ["d", "c", "b", "a"]
        assert probe(train, test).value < 0.1
        test.labels = 3 - test.labels
        assert probe(train, test).value > 0.9

    def test_a_class_absent_from_train_counts_as_wrong(self, probe):
        train, test = blobs(300), blobs(300, seed=1)
        fewer = take(train, np.flatnonzero(train.labels.numpy() != 2))
        assert probe(fewer, test).value == pytest.approx(probe(train, test).value - 0.25, abs=0.02)

    def test_a_class_absent_from_test_is_no_matter(self, probe):
        train, test = blobs(300), blobs(300, seed=1)
        fewer = take(test, np.flatnonzero(test.labels.numpy() != 3))
        assert probe(train, fewer).value > 0.9

    def test_one_class_is_an_error(self, probe):
        train, test = blobs(), blobs(seed=1)
        train.labels = torch.zeros(300, dtype=torch.int64)
        with pytest.raises(UserError, match="all 300 labelled train items are of class '0'"):
            probe(train, test)
        train.classes = ["cat"]
        with pytest.raises(UserError, match="class 'cat': a probe needs at least two"):
            probe(train, test)

    @pytest.mark.parametrize("part", [0, 1])
    @pytest.mark.parametrize("value", [float("nan"), float("inf")])
    def test_features_that_are_not_finite_are_an_error(self, probe, part, value):
        pair = blobs(), blobs(seed=1)
        pair[part].h[[3, 5], 2] = value
        with pytest.raises(UserError, match=f"2 of 300 {('train', 'test')[part]} embeddings are not finite"):
            probe(*pair)

    @pytest.mark.parametrize("part", [0, 1])
    def test_no_labels_are_an_error(self, probe, part):
        for labels in (None, torch.full((300,), -1)):
            pair = blobs(), blobs(seed=1)
            pair[part].labels = labels
            with pytest.raises(UserError, match=f"no {('train', 'test')[part]} item has a label"):
                probe(*pair)

    def test_widths_must_agree(self, probe):
        with pytest.raises(UserError, match="8 wide, test features 9: embed both with one encoder"):
            probe(blobs(), blobs(dim=9))

    def test_score_is_json_and_holds_its_value(self, probe):
        found = probe(blobs(spread=3.0), blobs(spread=3.0, seed=1))
        assert json.loads(json.dumps(asdict(found)))["value"] == found.value
        assert 0 < found.low < found.value < found.high < 1
        assert found.detail["train"] == 300

    def test_inputs_are_not_changed(self, probe):
        train, test = blobs(), blobs(seed=1)
        probe(train, test)
        assert torch.equal(train.h, blobs().h)
        assert torch.equal(test.h, blobs(seed=1).h)


def test_wilson_interval_against_published_values():
    # Newcombe 1998, "Two-sided confidence intervals for the single proportion", table I, method 3
    for r, n, low, high in (
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ):
        found = score(r, n)
        assert (found.low, found.high) == (pytest.approx(low, abs=5e-5), pytest.approx(high, abs=5e-5))
    assert score(20, 20).high == 1.0


def test_difference_interval_against_published_values():
    # Newcombe 1998, "Interval estimation for the difference between independent proportions", table II, method 10
    for a, m, b, n, low, high in ((56, 70, 48, 80, 0.0524, 0.3339), (9, 10, 3, 10, 0.1705, 0.8090)):
        assert difference(score(a, m), score(b, n)) == (pytest.approx(low, abs=5e-5), pytest.approx(high, abs=5e-5))


def test_holdout_takes_of_every_class_alike_and_by_seed():
    labels = np.repeat([0, 1, 2, -1], [500, 50, 5, 45])
    np.random.default_rng(0).shuffle(labels)
    train, test = holdout(labels, 0.2, seed=1)
    assert sorted([*train, *test]) == list(range(600))
    assert [int((labels[test] == c).sum()) for c in (0, 1, 2, -1)] == [100, 10, 1, 9]
    assert np.array_equal(test, holdout(torch.from_numpy(labels), 0.2, seed=1)[1])
    assert not np.array_equal(test, holdout(labels, 0.2, seed=2)[1])


def test_holdout_of_a_number_and_of_only_items():
    train, test = holdout(10, 0.3)
    assert (len(train), len(test)) == (7, 3)
    labels = [0, 1, 2, 3, 4, 4, 4, 4, 4]  # four classes with one item each
    assert set(holdout(labels, 0.4)[1]) < {4, 5, 6, 7, 8}
    with pytest.raises(UserError, match="3 items are too few"):
        holdout([0, 1, 2], 0.2)
    with pytest.raises(UserError, match="between 0 and 1"):
        holdout(10, 1.0)


def test_holdout_is_random_within_a_class():
    chosen = np.concatenate([holdout(100, 0.2, seed=s)[1] for s in range(200)])
    assert np.bincount(chosen, minlength=100).min() > 15  # 40 expected of each


def test_take_keeps_items_together():
    f = blobs(10)
    f.z = f.h * 2
    some = take(f, np.array([2, 5]))
    assert some.keys == ["2", "5"]
    assert torch.equal(some.h, f.h[[2, 5]])
    assert torch.equal(some.z, f.z[[2, 5]])
    assert torch.equal(some.labels, f.labels[[2, 5]])


def test_retrieval_of_known_cases():
    g = torch.Generator().manual_seed(0)
    a = torch.randn(40, 16, generator=g)
    assert retrieval(a, 3 * a).value == 1.0  # cosine: the length does not matter
    swapped = a.clone()
    swapped[[0, 1]] = a[[1, 0]]
    assert retrieval(a, swapped).value == 38 / 40
    assert retrieval(a, torch.ones(40, 16)).value <= 1 / 40  # collapsed: all are as near
    found = retrieval(a, a)
    assert (found.n, found.detail["chance"]) == (40, 1 / 40)


def test_retrieval_equals_brute_force():
    g = torch.Generator().manual_seed(0)
    a, b = torch.randn(60, 5, generator=g), torch.randn(60, 5, generator=g)
    b = a + 0.7 * b
    x, y = (v.double() / v.double().norm(dim=1, keepdim=True) for v in (a, b))
    expected = float(((x @ y.T).argmax(1) == torch.arange(60)).double().mean())
    assert 0.1 < expected < 0.9
    assert retrieval(a, b).value == expected


def test_retrieval_needs_pairs():
    with pytest.raises(UserError, match="got 1 and 1"):
        retrieval(torch.ones(1, 2), torch.ones(1, 2))
    with pytest.raises(UserError, match="got 3 and 2"):
        retrieval(torch.ones(3, 2), torch.ones(2, 2))
    with pytest.raises(UserError, match="1 of 3 view embeddings are not finite"):
        retrieval(torch.eye(3), torch.eye(3) / torch.tensor([[0.0], [1], [1]]))
