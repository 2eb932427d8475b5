"""Measures and files of sound encoders: against plain loops, scikit-learn, and figures measured by other means."""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

from twoviews.data.sounds import Sounds, sounds
from twoviews.data.soundviews import whole
from twoviews.encoders.wave import wave
from twoviews.errors import BrokenItem, DataError, UserError
from twoviews.evaluate import frames, heard, soundprobes, soundstore
from twoviews.evaluate.clusters import gap, tally
from twoviews.evaluate.frames import by_length, framed, frames_of, times, within
from twoviews.evaluate.heard import LOUDNESS, MFCC, Heard, cepstra, hear, inner, loudness, pooled, some
from twoviews.evaluate.score import score
from twoviews.evaluate.soundprobes import classified, folded, known, probed, told_right
from twoviews.evaluate.sounds import measure_sounds
from twoviews.evaluate.soundstore import embed_sounds, parts
from twoviews.evaluate.table import CHANCE, UNTRAINED, H

DATA = Path(os.environ.get("TWOVIEWS_DATA", Path(__file__).parents[2] / "shared/data")) / "audio"
RATE = 8000
CPU = torch.device("cpu")


def tone(seconds, hertz, seed, loud=0.1, offset=0.0):
    """A tone with overtones in noise."""
    t = np.arange(round(seconds * RATE)) / RATE
    noise = 0.3 * np.random.default_rng(seed).normal(size=len(t))
    return (loud * (sum(np.sin(2 * np.pi * k * hertz * t) / k for k in (1, 2, 3)) + noise) + offset).astype(np.float32)


def talk(n=48, classes=3, voices=4, seed=0, seconds=(0.2, 0.5)):
    """Recordings whose label is a pitch, each speaker a little higher than the one before."""
    rng = np.random.default_rng(seed)
    label, voice = np.arange(n) % classes, np.arange(n) // classes % voices
    made = [
        (tone(rng.uniform(*seconds), 200 * 1.6**c * 1.05**v, (seed, i)), RATE)
        for i, (c, v) in enumerate(zip(label, voice, strict=True))
    ]
    source = sounds(made, labels=[f"word {c}" for c in label])
    return replace(source, speakers=voice, voices=[f"voice {v}" for v in range(voices)])


def small(**how):
    torch.manual_seed(how.pop("seed", 0))
    return wave(RATE, dim=12, width=16, **how)


class OneVector(nn.Module):
    dim = 3

    def forward(self, x):
        return torch.stack([x.abs().mean(1), x.diff(dim=1).abs().mean(1), x.square().mean(1)], 1)


class Tokens(OneVector):
    def tokens(self, x):
        return torch.stack([x.unfold(1, 400, 400).std(2), x.unfold(1, 400, 400).diff(dim=2).abs().mean(2)], 2)


def test_pooled_equals_plain_loops():
    g = torch.Generator().manual_seed(0)
    c, counts = torch.randn(5, 23, 4, generator=g), [23, 1, 3, 8, 17]
    seen = torch.arange(23) < torch.tensor(counts)[:, None]
    got = pooled(c, seen)
    for i, n in enumerate(counts):
        x = c[i, :n].double().numpy()
        np.testing.assert_allclose(got["mean"][i], x.mean(0), atol=1e-6)
        np.testing.assert_allclose(got["deviation"][i], np.concatenate([x.mean(0), x.std(0)]), atol=1e-6)
        quarters = [x[q * n // 4 : -(-n * (q + 1) // 4)].mean(0) for q in range(4)]
        np.testing.assert_allclose(got["quarters"][i], np.concatenate(quarters), atol=1e-6)


def test_what_is_behind_a_clip_changes_nothing():
    c = torch.randn(2, 10, 3, generator=torch.Generator().manual_seed(0))
    seen = torch.arange(10) < torch.tensor([6, 10])[:, None]
    planted = torch.where(seen[..., None], c, 1e6)
    for kind, x in pooled(c, seen).items():
        assert torch.equal(x, pooled(planted, seen)[kind])


def test_the_ends_of_a_clip_are_no_frames_to_tell_by():
    seen = torch.arange(9) < torch.tensor([9, 5, 4, 1])[:, None]
    assert [row.nonzero()[:, 0].tolist() for row in inner(seen)] == [[2, 3, 4, 5, 6], [2], [0, 1, 2, 3], [0]]


def test_loudness_is_of_the_sound_as_it_is():
    x = np.zeros((2, 5000), np.float32)
    x[0, :4000], x[1] = tone(0.5, 300, 0, loud=0.2, offset=0.05), tone(0.625, 200, 1, loud=0.01)
    got = loudness(torch.from_numpy(x), torch.tensor([4000, 5000]), RATE)
    for row, clip in zip(got, (x[0, :4000].astype(float), x[1].astype(float)), strict=True):
        want = [np.log(clip.std()), clip.mean(), np.log(np.abs(clip).max()), len(clip) / RATE]
        np.testing.assert_allclose(row, want, rtol=1e-4, atol=1e-7)


def test_one_thing_a_cluster_gives_wilson_and_equal_things_count_once():
    right, g = np.array([1, 1, 0, 1, 0, 0, 1, 1, 1, 1.0]), 10
    alone, fourfold = tally(right, np.arange(g), g), tally(right.repeat(4), np.arange(g).repeat(4), g)
    want = score(7, 10)
    for got in (alone.score(), fourfold.score()):
        np.testing.assert_allclose([got.value, got.low, got.high], [want.value, want.low, want.high], atol=1e-12)
    assert fourfold.score().n == 40
    certain = tally(np.ones(40), np.arange(g).repeat(4), g).score()
    assert (certain.value, certain.low) == (1.0, pytest.approx(score(10, 10).low))


def test_intervals_of_clusters_are_those_of_a_bootstrap_over_them():
    rng = np.random.default_rng(0)
    many = rng.integers(3, 40, 300)
    cluster, ease = np.repeat(np.arange(300), many), rng.normal(size=300)
    a, b = (rng.random(len(cluster)) < 1 / (1 + np.exp(-ease[cluster] - up)) for up in (0.5, 0.0))
    one, two = tally(a.astype(float), cluster, 300), tally(b.astype(float), cluster, 300)
    draws = rng.integers(0, 300, (4000, 300))
    share = one.right[draws].sum(1) / one.many[draws].sum(1)
    between = share - two.right[draws].sum(1) / two.many[draws].sum(1)
    got = one.score()
    assert (got.high - got.low) / 2 == pytest.approx(1.96 * share.std(), rel=0.06)
    value, error = gap(one, two)
    assert value == pytest.approx(a.mean() - b.mean())
    assert error == pytest.approx(1.96 * between.std(), rel=0.06)
    assert gap(one, one) == (0, 0)


@pytest.mark.parametrize("strength", [1.0, 10.0])
def test_regression_is_that_of_scikit_learn(strength):
    rng = np.random.default_rng(0)
    y = rng.integers(0, 5, 400)
    x = (rng.normal(size=(5, 20))[y] * 0.6 + rng.normal(size=(400, 20))).astype(np.float32) * np.geomspace(0.01, 10, 20)
    x = x.astype(np.float32)
    t = x[:200] + rng.normal(size=(200, 20)).astype(np.float32) * x.std(0)
    peer = make_pipeline(StandardScaler(), LogisticRegression(C=1 / strength, tol=1e-8, max_iter=5000)).fit(x, y)
    got = classified(*map(torch.from_numpy, (x, y, t)), strength)
    assert (got.numpy() == peer.predict(t)).mean() > 0.994


def test_unlabelled_rows_are_neither_learned_from_nor_judged():
    x = torch.randn(60, 4, generator=torch.Generator().manual_seed(0))
    y = (x[:, 0] > 0).long().numpy()
    given = np.where(np.arange(60) % 3 == 0, -1, y)
    right = told_right(classified, x, given, x, given, CPU)
    assert np.array_equal(np.isnan(right), given < 0)
    kept = torch.from_numpy(given >= 0)
    want = (classified(x[kept], torch.from_numpy(given)[kept], x[kept]).numpy() == given[kept]).mean()
    assert np.nanmean(right) == want


def test_unheard_speakers_are_left_out_one_by_one():
    """The same folds with scikit-learn."""
    rng = np.random.default_rng(0)
    sides = [talk(60, seed=1), talk(24, seed=2)]
    parts = [torch.from_numpy(rng.normal(size=(len(s), 6)) + s.labels[:, None]).float() for s in sides]
    a, b = (Heard(s, {H: {"deviation": x}}, {}, {}) for s, x in zip(sides, parts, strict=True))
    found = probed(known(*sides), a, b, False, CPU, 0)[H]["label of unheard speakers", "mean and deviation"]
    x, y, who = (
        torch.cat(parts).numpy(),
        *(np.concatenate([getattr(s, n) for s in sides]) for n in ("labels", "speakers")),
    )
    right = np.zeros(len(y))
    for speaker in range(4):
        rest = who != speaker
        peer = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, tol=1e-8, max_iter=5000)).fit(x[rest], y[rest])
        right[~rest] = peer.predict(x[~rest]) == y[~rest]
    assert found.many.sum() == len(y)
    assert found.share == pytest.approx(right.mean(), abs=0.013)


def test_many_speakers_are_left_out_in_groups_and_recordings_drawn():
    who, y = np.repeat(np.arange(40), 100), np.arange(4000) % 7
    y[:50] = -1
    folds = folded(y, who, 0)
    judged = np.concatenate([judge for _, judge in folds])
    assert len(folds) == 10
    assert len(judged) == len(np.unique(judged)) == 3000
    assert (y[judged] >= 0).all()
    for learn, judge in folds:
        assert not set(who[learn]) & set(who[judge])


def test_classes_are_matched_by_name_and_speakers_that_are_labels_count_once():
    train, test = talk(12), talk(12)
    test = replace(test, labels=np.array([2, 0, 1])[test.labels], classes=["word 1", "word 2", "word 0"])
    label, speaker = known(train, test)
    assert [label.names[i] for i in label.test] == [test.classes[i] for i in test.labels]
    assert [label.names[i] for i in label.train] == [train.classes[i] for i in train.labels]
    assert speaker.what == "speaker"
    same = [replace(s, labels=s.speakers, classes=s.voices) for s in (train, test)]
    assert [told.what for told in known(*same)] == ["label"]
    alone = [replace(s, labels=None) for s in (train, test)]
    assert [told.what for told in known(*alone)] == ["speaker"]
    assert not known(*(replace(s, labels=np.zeros(12, int), speakers=None) for s in (train, test)))


def test_the_table_of_an_encoder():
    train, test = talk(48), talk(24, seed=9)
    keep, seen, encoder = [], [], small()
    how = {"keep": keep, "progress": lambda *at: seen.append(at), "batch_size": 7}
    table = measure_sounds(encoder, small(seed=1), train, test, whole(), **how)
    assert list(table.rows) == [CHANCE, LOUDNESS, MFCC, UNTRAINED, H]
    assert table.probes[:2] == ["label, frames", "speaker, frames"]
    assert table.probes[2] == "label of unheard speakers, mean and deviation"
    assert table.rows[CHANCE]["label, frames"].value == pytest.approx(1 / 3)
    assert table.rows[MFCC]["label, mean and deviation"].value > 0.9
    assert set(table.rows[LOUDNESS]) == {p for p in table.probes if p.endswith("deviation")}
    assert len({line.count("|") for line in table.markdown().splitlines() if line.startswith("|")}) == 1
    assert seen[-1] == (72, 72)
    assert [f.keys for f in keep] == [[s.key(i) for i in range(len(s))] for s in (train, test)]
    for i in (0, 17):
        x = whole()(train.read(i)[None], torch.tensor([[1, train.length[i]]]))[0]
        torch.testing.assert_close(keep[0].h[i], encoder(x)[0], atol=1e-5, rtol=1e-4)
    assert encoder.training
    assert "MFCC" in table.verdict
    again = measure_sounds(small(), small(seed=1), train, test, whole(), batch_size=32)
    assert again.rows[H]["label, 4 segments"] == table.rows[H]["label, 4 segments"]


@pytest.mark.parametrize(("encoder", "framewise"), [(OneVector(), False), (Tokens(), True)])
def test_encoders_without_places_have_the_columns_they_can(encoder, framewise):
    table = measure_sounds(encoder, encoder, talk(24), talk(12, seed=3), whole())
    assert any("frames" in probe for probe in table.probes) == framewise
    assert any("segments" in probe for probe in table.probes) == framewise
    assert "not clearly better than the untrained encoder" in table.verdict
    assert "nothing" in table.verdict


def test_of_many_classes_fewer_frames_are_learned_from(monkeypatch):
    train, test = talk(24), talk(12, seed=3)
    a, b = (hear({MFCC: cepstra(RATE)}, side, whole()) for side in (train, test))
    learned = []
    monkeypatch.setattr(soundprobes, "classified", lambda x, y, t, **_: learned.append(len(x)) or y.new_zeros(len(t)))
    monkeypatch.setattr(soundprobes, "CELLS", 600)
    found = probed(known(train, test)[:1], a, b, True, CPU, 0)
    assert 150 <= learned[0] <= 200
    assert len(a.frames[MFCC]) > 600
    assert found[MFCC]["label", "frames"].many.sum() == len(b.frames[MFCC])


def test_without_labels_halves_find_each_other():
    """Of recordings that say everything twice they are equal; of noise they have nothing in common."""
    rng = np.random.default_rng(0)
    twice = [np.tile(tone(rng.uniform(0.2, 0.4), f, i), 2) for i, f in enumerate(rng.uniform(150, 1500, 20))]
    noise = [rng.normal(size=rng.integers(3000, 5000)).astype(np.float32) for _ in range(20)]
    for made, most, least in ((twice, 1.0, 1.0), (noise, 0.3, 0.0)):
        source = sounds([(x, RATE) for x in made])
        table = measure_sounds(small(), small(seed=1), source, source, whole(), batch_size=3)
        assert table.probes == ["retrieval"]
        assert list(table.rows) == [CHANCE, MFCC, UNTRAINED, H]
        assert table.rows[CHANCE]["retrieval"].value == 1 / 20
        assert all(least <= table.rows[row]["retrieval"].value <= most for row in (MFCC, UNTRAINED, H))


def test_what_cannot_be_read_is_listed_and_left_out():
    train, test = talk(24), talk(12, seed=3)
    read = Sounds.read

    def broken(self, index):
        if self.key(index) == test.key(5):
            raise BrokenItem("damaged")
        return read(self, index)

    skipped = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Sounds, "read", broken)
        got = hear({MFCC: cepstra(RATE)}, test, whole(), skipped=skipped)
        assert len(got.source) == 11
        patch.setattr(Sounds, "read", lambda self, index: broken(test, 5))
        with pytest.raises(DataError, match="damaged"):
            measure_sounds(small(), small(), train, test, whole())
    assert skipped == {test.key(5): "damaged"}


def test_an_encoder_that_diverged_is_an_error_in_words():
    encoder = small()
    nn.init.constant_(next(encoder.parameters()), float("nan"))
    with pytest.raises(UserError, match="diverged"):
        measure_sounds(encoder, small(), talk(12), talk(6), whole())


def test_long_recordings_are_measured_in_pieces_and_much_is_drawn(monkeypatch):
    source = sounds([(tone(5, 300 + 50 * i, i), RATE) for i in range(6)], labels=list("aabbcc"))
    monkeypatch.setattr(heard, "LONG", 2)
    pieces = some(source, 100, 1e9, 0)
    assert len(pieces) == 18
    assert pieces.seconds == source.seconds
    assert len(some(source, 4, 1e9, 0)) == 4
    assert 6 < some(source, 100, 10.0, 0).seconds <= 10


def test_batches_are_of_about_one_length(monkeypatch):
    source = talk(40)
    groups = by_length(source, 8)
    assert sorted(i for group in groups for i in group) == list(range(40))
    lengths = [source.length[group] for group in groups]
    assert all(a.min() >= b.max() for a, b in zip(lengths, lengths[1:], strict=False))
    monkeypatch.setattr(frames, "TOGETHER", 9000)
    assert all(len(g) == 1 or len(g) * source.length[g].max() <= 9000 for g in by_length(source, 8))


def test_frames_do_not_depend_on_the_batch():
    source, view = talk(6), whole()
    canvas = torch.zeros(6, 1, 1, int(source.length.max()))
    for i in range(6):
        canvas[i, ..., : source.length[i]] = source.read(i)
    sizes = torch.from_numpy(np.stack([np.ones(6, int), source.length], 1))
    for run in (framed(small()), framed(Tokens()), cepstra(RATE)):
        c, seen = run(view(canvas, sizes)[0])
        for i in range(6):
            alone, _ = run(view(canvas[i : i + 1, ..., : source.length[i]], sizes[i : i + 1])[0])
            many = min(int(seen[i].sum()), alone.shape[1])
            assert abs(int(seen[i].sum()) - alone.shape[1]) <= 1
            torch.testing.assert_close(c[i, :many], alone[0, :many], atol=1e-4, rtol=1e-3)


def test_tokens_are_seen_where_their_middle_is():
    x = torch.ones(3, 100)
    x[1, 46:], x[2] = 0, 0
    assert within(x, 10).sum(1).tolist() == [10, 5, 1]


def together(encoder, source, index):
    """c of a recording at once."""
    x = whole()(source.read(index)[None], torch.tensor([[1, source.length[index]]]))[0]
    with torch.no_grad():
        return encoder.places(x).c[0, :, 0]


@pytest.fixture
def brief(monkeypatch):
    """What is read at a time is one second instead of twenty."""
    for module in (frames, soundstore, heard):
        monkeypatch.setattr(module, "LONG", 1)


@pytest.mark.parametrize("context", ["gru", "conv", "attention"])
def test_streamed_frames_are_those_of_the_whole(context, brief, monkeypatch):
    x = tone(7.3, 220, 0, loud=0.02, offset=0.3) * np.linspace(0.2, 2, 58400, dtype=np.float32)
    source, encoder = sounds([(x, RATE)], labels=["a"]), small(context=context).eval()
    longest = []
    read = Sounds.read
    monkeypatch.setattr(Sounds, "read", lambda s, i: longest.append(int(s.length[i])) or read(s, i))
    got = torch.cat(list(frames_of(encoder, source, 0)))
    assert max(longest) <= RATE
    torch.testing.assert_close(got, together(encoder, source, 0), atol=1e-4, rtol=1e-4)


def test_an_encoder_that_cannot_stream_sees_pieces_at_the_level_of_the_whole(brief):
    x = tone(3, 220, 0) * np.repeat([0.1, 1, 0.1], RATE).astype(np.float32)
    got = torch.cat(list(frames_of(Tokens(), sounds([(x, RATE)]), 0)))
    want = Tokens().tokens(torch.from_numpy((x - x.mean()) / x.std())[None])[0]
    torch.testing.assert_close(got, want, atol=1e-4, rtol=1e-3)


def test_frames_have_the_times_of_their_middles():
    np.testing.assert_allclose(times(small(), RATE, 3, 2), [0.035, 0.045])
    assert small().stride == 80


def mixed():
    """Short recordings and long ones in turn."""
    lengths = [0.3, 2.6, 0.5, 0.2, 1.4, 0.6]
    made = [(tone(s, 200 + 60 * i, i), RATE) for i, s in enumerate(lengths)]
    return sounds(made, labels=[f"word {i % 2}" for i in range(6)])


def test_a_vector_a_recording(tmp_path, brief):
    source, encoder, seen = mixed(), small(), []
    count = embed_sounds(tmp_path / "x.parquet", encoder, source, identity="a", progress=lambda *at: seen.append(at))
    table = pq.read_table(tmp_path / "x.parquet")
    assert count == 6
    assert table.column_names == ["key", "label", "class", "embedding"]
    assert table["key"].to_pylist() == [source.key(i) for i in range(6)]
    assert table["label"].to_pylist() == source.labels.tolist()
    assert seen[-1] == (6, 6)
    h = np.stack(table["embedding"].to_numpy())
    for i in range(6):
        np.testing.assert_allclose(h[i], together(encoder.eval(), source, i).mean(0), atol=1e-4)
    embed_sounds(tmp_path / "x.npy", encoder, source, identity="a")
    np.testing.assert_array_equal(np.load(tmp_path / "x.npy"), h)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["x.npy", "x.npy.keys.csv", "x.parquet"]


def test_a_vector_a_frame_with_its_time(tmp_path, brief):
    source, encoder = mixed(), small()
    count = embed_sounds(tmp_path / "x.parquet", encoder, source, frames=True, identity="a")
    file = pq.ParquetFile(tmp_path / "x.parquet")
    table = file.read()
    assert table.column_names == ["key", "time", "embedding"]
    assert len(table) == count
    keys, time, h = table["key"].to_numpy(), table["time"].to_numpy(), np.stack(table["embedding"].to_numpy())
    for i in range(6):
        want, rows = together(encoder.eval(), source, i), keys == source.key(i)
        np.testing.assert_allclose(h[rows], want, atol=1e-4)
        np.testing.assert_allclose(time[rows], (np.arange(len(want)) + 0.5) / 100, atol=1e-5)
    assert list(dict.fromkeys(keys)) == [source.key(i) for i in range(6)]
    largest = max(file.metadata.row_group(i).num_rows for i in range(file.metadata.num_row_groups))
    assert largest <= 110  # a second, and what the one before left


def test_embedding_goes_on_where_it_was_stopped(tmp_path, brief, monkeypatch):
    source, out = mixed(), tmp_path / "x.parquet"
    read, asked = Sounds.read, []

    def counted(self, index):
        asked.append(self.key(index))
        if stop and len(asked) > stop:
            raise KeyboardInterrupt
        return read(self, index)

    monkeypatch.setattr(Sounds, "read", counted)
    stop = 9
    with pytest.raises(KeyboardInterrupt):
        embed_sounds(out, small(), source, frames=True, identity="a")
    stop, before = 0, list(asked)
    asked.clear()
    embed_sounds(out, small(), source, frames=True, identity="a")
    assert source.key(0) in before
    assert source.key(0) not in asked
    monkeypatch.setattr(Sounds, "read", read)
    embed_sounds(tmp_path / "y.parquet", small(), source, frames=True, identity="a")
    assert pq.read_table(out).equals(pq.read_table(tmp_path / "y.parquet"))


def test_a_recording_that_breaks_off_has_no_rows(tmp_path, brief, monkeypatch):
    source, read = mixed(), Sounds.read

    def broken(self, index):
        if self.file[index] == 3 or (self.file[index] == 1 and self.start[index] > RATE and asked.pop()):
            raise BrokenItem("damaged")
        return read(self, index)

    monkeypatch.setattr(Sounds, "read", broken)
    for framewise in (True, False):
        skipped, asked = {}, [True, False]  # the first reading of the last piece is fine, the second is not
        embed_sounds(tmp_path / "x.parquet", small(), source, frames=framewise, identity="a", skipped=skipped)
        keys = set(pq.read_table(tmp_path / "x.parquet")["key"].to_pylist())
        assert keys == {source.key(i) for i in (0, 2, 4, 5)}
        assert skipped == {source.key(1): "damaged", source.key(3): "damaged"}
    monkeypatch.setattr(Sounds, "read", lambda self, index: broken(source, 3))
    with pytest.raises(DataError, match="damaged"):
        embed_sounds(tmp_path / "z.parquet", small(), source, identity="a")
    assert not (tmp_path / "z.parquet.parts").exists()


def test_parts_keep_order_and_bounds(monkeypatch):
    source = mixed()
    assert list(parts(source)) == [[0, 1, 2, 3, 4, 5]]
    monkeypatch.setattr(soundstore, "PART", 2)
    assert list(parts(source)) == [[0, 1], [2, 3], [4, 5]]
    monkeypatch.setattr(soundstore, "LONG", 1)
    assert list(parts(source)) == [[0], [1], [2, 3], [4], [5]]
    monkeypatch.setattr(soundstore, "SECONDS", 0.6)
    assert list(parts(source)) == [[0], [1], [2], [3], [4], [5]]


def test_frames_without_times_are_an_error_in_words(tmp_path):
    with pytest.raises(UserError, match=r"end the name of 'x.npy' in \.parquet"):
        embed_sounds(tmp_path / "x.npy", small(), mixed(), frames=True, identity="a")
    with pytest.raises(UserError, match="Tokens has no frames at fixed times"):
        embed_sounds(tmp_path / "x.parquet", Tokens(), mixed(), frames=True, identity="a")


@pytest.mark.skipif(not (DATA / "fsdd_flac.zip").exists(), reason="no Free Spoken Digit Dataset in TWOVIEWS_DATA")
def test_floors_of_spoken_digits_are_those_measured_by_other_means(monkeypatch):
    """python_speech_features and scikit-learn on takes 5-49 and 0-4 (in shared/references/cpc.md)."""
    source = sounds(DATA / "fsdd_flac.zip", labels=DATA / "fsdd_index.csv", label="digit")
    held = source.split == list(source.splits).index("test")
    train, test = source.subset(~held), source.subset(held)
    monkeypatch.setattr(heard, "FRAMES", 20_000)
    a, b = (hear({MFCC: cepstra(RATE)}, side, whole()) for side in (train, test))
    found = probed(known(train, test), a, b, True, CPU, 0)
    want = {
        ("speaker", "mean and deviation"): 0.957,
        ("label", "mean and deviation"): 0.937,
        ("speaker", "4 segments"): 0.967,
        ("label", "4 segments"): 0.973,
        ("speaker", "frames"): 0.590,
        ("label", "frames"): 0.414,
        ("label of unheard speakers", "mean and deviation"): 0.659,
        ("label of unheard speakers", "4 segments"): 0.762,
    }
    got = {column: one.share for column, one in found[MFCC].items() if column in want}
    assert got == pytest.approx(want, abs=0.02)
    assert found[LOUDNESS]["speaker", "mean and deviation"].share == pytest.approx(0.770, abs=0.01)
    assert found[LOUDNESS]["label", "mean and deviation"].share == pytest.approx(0.227, abs=0.01)
