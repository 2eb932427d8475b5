"""Sentences by prediction: the encoder against plain loops, the measures on texts of known answers, whole runs."""

from functools import partial

import numpy as np
import pytest
import torch
from conftest import STOP, may_stop

from twoviews import Run, calls, embed, evaluate, fit
from twoviews.data.documents import documents, read_words
from twoviews.data.paragraphs import paragraphs, whole_paragraph
from twoviews.doctor.course import read_course
from twoviews.doctor.rules import diagnose
from twoviews.encoders.sentences import sentence_net
from twoviews.errors import UserError
from twoviews.evaluate.bags import Bag
from twoviews.evaluate.documents import BAG, _first, _followed, _ordered, _related, _stretches, measure_documents
from twoviews.evaluate.table import CHANCE, UNTRAINED, H
from twoviews.fit_documents import held_out
from twoviews.methods.cpc import CPC
from twoviews.optim import adamw
from twoviews.recipes.predicted_text import cpc_text
from twoviews.train import Interrupted


def stories(n, rng, sentences=6, topics=12):
    """Documents of a topic each: a sentence has a word for its place, words of the topic, and noise."""
    out = []
    for _ in range(n):
        topic = rng.integers(topics)
        told = []
        for place in range(rng.integers(3, sentences + 1)):
            own = [f"topic{topic}x{rng.integers(6)}" for _ in range(3)]
            told.append(" ".join(rng.permutation([*own, f"step{place}", f"noise{rng.integers(9)}"])))
        out.append(told)
    return out


def net(words=50, **how):
    return sentence_net(words, **{"dim": 12, "width": 10, "letters": 6} | how)


def some(rng, b=4, s=5, n=7, words=50):
    x = torch.from_numpy(rng.integers(1, words, (b, s, n)))
    for row in x:
        row[rng.integers(1, s + 1) :] = 0
        for sentence in row:
            sentence[rng.integers(1, n + 1) :] = 0
    return x


def test_z_and_c_are_those_of_a_loop_over_words_and_sentences():
    x, encoder = some(np.random.default_rng(0)), net().double()
    places = encoder.places(x)
    assert places.z.shape == (4, 5, 1, encoder.width)
    assert places.c.shape == (4, 5, 1, encoder.context)
    weight, bias = encoder.conv.weight, encoder.conv.bias  # (D, E, 3), (D,)
    for b in range(4):
        state = torch.zeros(1, 1, encoder.dim, dtype=torch.float64)
        for s in range(5):
            words = [w for w in x[b, s].tolist() if w]
            assert bool(places.seen[b, s, 0]) == bool(words)
            if not words:
                assert (places.z[b, s] == 0).all()
                continue
            letters = [torch.zeros(6).double(), *encoder.embedding.weight[words], torch.zeros(6).double()]
            z = sum(
                (bias + sum(weight[:, :, j] @ letters[i + j] for j in range(3))).relu() for i in range(len(words))
            ) / len(words)
            z = (z - z.mean()) / (z.var(correction=0) + 1e-5).sqrt()
            torch.testing.assert_close(places.z[b, s, 0], z)
            out, state = encoder.gru(z[None, None], state)
            torch.testing.assert_close(places.c[b, s, 0], out[0, 0])
        seen = places.seen[b, :, 0]
        torch.testing.assert_close(encoder(x)[b], places.c[b, seen, 0].mean(0))
    assert torch.equal(encoder.tokens(x), places.c[:, :, 0])


def test_padding_of_words_and_sentences_changes_nothing():
    x, encoder = some(np.random.default_rng(1)), net()
    wide = torch.zeros(4, 9, 13, dtype=torch.int64)
    wide[:, :5, :7] = x
    torch.testing.assert_close(encoder(wide), encoder(x))
    torch.testing.assert_close(encoder.places(wide).z[:, :5], encoder.places(x).z)
    assert torch.isfinite(encoder(torch.zeros_like(x))).all()


@pytest.mark.parametrize("how", [{"dim": 0}, {"kernel": 2}, {"words": 1}, {"letters": -1}])
def test_an_encoder_that_cannot_be_is_refused(how):
    with pytest.raises(UserError, match=rf"encoder\.{next(iter(how))} must be"):
        net(**how)


def parts(n=60, seed=0, **how):
    rng = np.random.default_rng(seed)
    source = documents(stories(n, rng), least=1, words=6, sentences=6, **how)
    return _stretches(source, whole_paragraph(), rng, 10**6), source


def step_of(source, words):
    return [int(w.removeprefix("step")) for w in source.said(words).split() if w.startswith("step")][0]


def topic_of(source, words):
    return next(w.split("x")[0] for w in source.said(words).split() if w.startswith("topic"))


def test_pairs_are_what_the_table_says_they_are():
    part, source = parts()
    halves = _ordered(part, np.random.default_rng(0), 1000)
    seen = set()
    for a, b, turned in zip(*halves, strict=True):
        steps = [[step_of(source, words) for words in x if words.any()] for x in ((b, a) if turned else (a, b))]
        n = len(steps[0])
        last = steps[1][-1] + 1
        assert steps == [list(range(n)), list(range(last - n, last))]
        assert last // 2 == n  # an odd one in the middle is left out
        seen.add(last)
    assert seen == {3, 4, 5, 6}
    assert abs(halves[2].float().mean() - 0.5) < 0.02
    a, b, same = _related(part, np.random.default_rng(0), 1000)
    apart = torch.tensor([step_of(source, y) - step_of(source, x) for x, y in zip(a, b, strict=True)])
    assert (apart[same == 1] >= 2).all()
    of = {tuple(words.tolist()): int(i) for i, item in zip(part.document, part.words, strict=True) for words in item}
    origins = [(of[tuple(x.tolist())], of[tuple(y.tolist())]) for x, y in zip(a, b, strict=True)]
    agree = np.mean([(i == j) == bool(s) for (i, j), s in zip(origins, same, strict=True)])
    assert agree > 0.97  # the same sentence may stand in two documents
    read, following = _followed(part, np.random.default_rng(0))
    for x, y in zip(read, following, strict=True):
        held = x[(x != 0).any(1)]
        assert step_of(source, y) == len(held)
        assert topic_of(source, y) == topic_of(source, held[0])


def test_the_first_of_equals_is_not_found():
    scores = torch.tensor([[3.0, 1, 2], [5, 5, 1], [0, 9, 1]])
    assert _first(scores) == 1


def test_a_bag_knows_words_and_not_their_order():
    part, source = parts()
    bag = Bag(part.words, source.words)
    x = part.words[:, 0]
    shuffled = x.flip(1)
    torch.testing.assert_close(bag(shuffled), bag(x))
    assert bag(torch.zeros_like(x[:2])).abs().sum() == 0
    assert not torch.allclose(bag(x[:1]), bag(x[1:2]))


def run_of(texts, **given):
    made = {
        "data": partial(documents, data=texts, least=1, words=6, sentences=6),
        "views": partial(paragraphs),
        "test_view": whole_paragraph,
        "encoder": partial(sentence_net, dim=24, width=24, letters=16),
        "method": partial(CPC, steps=2),
        "optimizer": partial(adamw, lr=1e-2, weight_decay=0.0),
        "epochs": 15,
        "batch_size": 16,
        "holdout": 0.3,
    } | given
    return Run(**made)


def test_documents_are_held_out_whole():
    texts = stories(30, np.random.default_rng(0), sentences=30)
    run = run_of(texts)
    train, test = held_out(run, run.data())
    assert not set(train.document) & set(test.document)
    assert len(set(train.document) | set(test.document)) == 30
    assert len(set(test.document)) == 9
    with pytest.raises(UserError, match="3 documents: none can be held out"):
        held_out(run, documents(texts[:3], least=1))


class stopping(paragraphs):
    """Paragraphs, during which somebody may ask the process to stop."""

    def __call__(self, canvas, sizes, dice):
        may_stop()
        return super().__call__(canvas, sizes, dice)


def test_a_run_learns_goes_on_bit_for_bit_and_explains_itself(tmp_path):
    texts = stories(200, np.random.default_rng(0), topics=5)
    run = run_of(texts, views=partial(stopping, drop=0.1))
    result = fit(run, tmp_path / "whole", quiet=True)
    STOP["after"] = 50
    with pytest.raises(Interrupted):
        fit(run, tmp_path / "parts", quiet=True)
    assert len(read_words(tmp_path / "parts")) == len(read_words(result.folder))  # it can embed already
    STOP["after"] = None
    again = fit(run, tmp_path / "parts", quiet=True)
    for a, b in zip(result.method.state_dict().values(), again.method.state_dict().values(), strict=True):
        assert torch.equal(a, b)
    assert result.table.to_json() == again.table.to_json()
    rows = result.table.rows
    assert rows[H]["order"].value > 0.9  # which step a sentence tells of is written in it
    assert rows[H]["next"].low > max(rows[row]["next"].value for row in (CHANCE, BAG, UNTRAINED))
    assert rows[CHANCE]["order"].value == pytest.approx(0.5, abs=0.02)
    course = read_course(result.folder)
    assert diagnose(course).verdict in ("healthy", "watch", "too early")
    assert {"loss_1", "accuracy_2", "bound_1"} <= set(course.looks[-1])
    page = (result.folder / "index.html").read_text()
    for part in ("How good is it?", "Sentences alike", "How far ahead", "an entry; sentences end at", "by order"):
        assert part in page
    assert "step" in page.split("Sentences alike")[1]


def test_labels_are_measured_and_too_few_documents_said(tmp_path, monkeypatch):
    monkeypatch.setattr(calls, "LONG", 1000)
    texts = stories(80, np.random.default_rng(0), topics=2)
    labels = ["sea" if "topic0" in text[0] else "land" for text in texts]
    run = run_of(texts, epochs=1, data=partial(documents, data=texts, labels=labels, least=1, words=6, sentences=6))
    result = fit(run, tmp_path / "labelled", quiet=True)
    assert result.table.rows[BAG]["label"].value > 0.9
    with pytest.raises(UserError, match="'data' was a list of 80 given from Python"):
        evaluate(result.folder, quiet=True)
    others = stories(120, np.random.default_rng(1))
    assert evaluate(result.folder, others, quiet=True).rows[H]["topic"].n > 20
    file = embed(result.folder, others, tmp_path / "vectors.npy", quiet=True)
    assert np.load(file).shape == (120, 24)
    few = fit(run_of(texts[:20], epochs=1, batch_size=8), tmp_path / "few", quiet=True)
    assert few.table is None
    assert "stretches to measure by: give 20 or more" in (few.folder / "index.html").read_text()


def test_measures_without_heads_find_the_next_sentence_by_cosine():
    _, source = parts(80)
    encoder = net(source.words)
    table = measure_documents(encoder, encoder, source, source, whole_paragraph())
    ours, bare = table.rows[H], table.rows[UNTRAINED]
    assert {probe: s.value for probe, s in ours.items()} == {probe: s.value for probe, s in bare.items()}
    assert "not clearly better" in table.verdict


def test_the_recipe_trains_and_says_how_large_it_is(tmp_path):
    run = cpc_text(stories(40, np.random.default_rng(0)), read={"least": 1, "words": 6})
    assert run.batch_size == 10
    result = fit(run.override({"epochs": 1, "holdout": 0.4}), tmp_path / "run", quiet=True)
    assert result.run.encoder.keywords["words"] == result.method.encoder.embedding.num_embeddings
    assert read_words(result.folder).equals(run.data().vocabulary)
    assert result.table is None  # 16 documents are too few to judge by
