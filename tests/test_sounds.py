"""Sound in: made files of every kind, good and bad, against soundfile and plain arithmetic."""

import io
import json
import math
import os
import pickle
import tarfile
import zipfile
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile
import soxr

from twoviews.data.checksounds import check_sounds
from twoviews.data.sounddecode import header, resampled, stretch
from twoviews.data.sounds import is_sound, notes_of_sounds, sounds, splits
from twoviews.errors import BrokenItem, DataError, UserError

DATA = Path(os.environ.get("TWOVIEWS_DATA", Path(__file__).parents[2] / "shared/data")) / "audio"
KINDS = [
    ("wav", "PCM_16"),
    ("wav", "FLOAT"),
    ("flac", "PCM_16"),
    ("ogg", "VORBIS"),
    ("opus", "OPUS"),
    ("mp3", "MPEG_LAYER_III"),
    ("aiff", "PCM_16"),
]


def tune(seconds=1.0, rate=16_000, seed=0, channels=None):
    """Noise under a gliding tone: no two stretches are alike."""
    count = round(seconds * rate)
    t = np.arange(count) / rate
    noise = np.random.default_rng(seed).normal(size=(count, channels or 1)) * 0.05
    x = 0.3 * np.sin(2 * np.pi * (200 + 40 * t + 30 * seed) * t)[:, None] + noise
    return (x if channels else x[:, 0]).astype(np.float32)


def encoded(x, rate=16_000, kind="flac", subtype=None):
    out = io.BytesIO()
    formats = {"opus": "OGG", "aiff": "AIFF"}
    soundfile.write(out, x, rate, subtype, format=formats.get(kind, kind.upper()))
    return out.getvalue()


def put(folder, files):
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return folder


def broken(source):
    """key -> reason of what is left out or does not read."""
    found = dict(source.notes)
    for i in range(len(source)):
        try:
            source.read(i)
        except BrokenItem as reason:
            found[source.key(i)] = str(reason)
    return found


# --- what is read


@pytest.mark.parametrize(("kind", "subtype"), KINDS)
def test_every_kind_is_read_as_soundfile_reads_it(tmp_path, kind, subtype):
    data = encoded(tune(1.3), kind=kind, subtype=subtype)
    source = sounds(put(tmp_path, {f"a.{kind}": data, f"deep/er/b.{kind}": data}), rate=16_000)
    assert [source.key(i) for i in range(2)] == [f"a.{kind}", f"deep/er/b.{kind}"]
    want = soundfile.read(io.BytesIO(data), dtype="float32")[0]
    for i in range(2):
        x = source.read(i)
        assert x.shape == (1, 1, source.length[i])
        np.testing.assert_allclose(x[0, 0].numpy(), want, rtol=0, atol=1e-7 if kind == "mp3" else 0)


@pytest.mark.parametrize(("kind", "subtype"), KINDS)
@pytest.mark.parametrize(("native", "rate"), [(16_000, 16_000), (16_000, 8_000), (48_000, 16_000), (8_000, 16_000)])
def test_a_stretch_equals_the_slice_of_the_whole(kind, subtype, native, rate):
    data = encoded(tune(6, native), native, kind, subtype)
    head = header(io.BytesIO(data))
    length = resampled(head.frames, head.rate, rate)
    whole = stretch(io.BytesIO(data), 0, length, rate)
    assert len(whole) == length
    for start in (0, 1, length // 3, length - 1_777, length - 1):
        stop = min(length, start + 1_777)
        piece = stretch(io.BytesIO(data), start, stop - start, rate)
        assert len(piece) == stop - start
        np.testing.assert_allclose(piece, whole[start:stop], atol=1e-5)


def test_vorbis_and_mp3_are_exact_deep_inside_and_at_the_end():
    for kind, subtype in (("ogg", "VORBIS"), ("mp3", "MPEG_LAYER_III")):
        data = encoded(tune(70), kind=kind, subtype=subtype)  # longer than a page of Vorbis can be
        frames = header(io.BytesIO(data)).frames
        whole = stretch(io.BytesIO(data), 0, frames, 16_000)
        for start in (200_001, 500_003, frames - 100_000, frames - 900):
            count = min(5_000, frames - start)
            piece = stretch(io.BytesIO(data), start, count, 16_000)
            np.testing.assert_allclose(piece, whole[start:][:count], atol=1e-5)


@pytest.mark.parametrize("native", [11_025, 22_051, 44_100, 384_000])
def test_odd_rates_are_resampled_as_the_whole_is(native):
    x = tune(2.2, native)
    data = encoded(x, native, "wav", "FLOAT")
    want = soxr.resample(x, native, 16_000, "HQ")
    length = resampled(len(x), native, 16_000)
    assert len(want) == length
    for start in (0, 16_100, length - 1_000):
        np.testing.assert_allclose(stretch(io.BytesIO(data), start, 1_000, 16_000), want[start:][:1_000], atol=1e-4)


def test_channels_are_mixed_down_and_said(tmp_path):
    x = tune(0.5, channels=8)
    source = sounds(put(tmp_path, {"eight.wav": encoded(x, kind="wav", subtype="FLOAT")}))
    np.testing.assert_allclose(source.read(0)[0, 0].numpy(), x.mean(1), atol=1e-7)
    assert "1 have several channels, which are mixed down" in notes_of_sounds(source)


def test_the_rate_is_that_of_most_recordings(tmp_path):
    files = {f"{i}.flac": encoded(tune(0.3, 8_000, i), 8_000) for i in range(3)}
    files["other.flac"] = encoded(tune(0.3, 44_100), 44_100)
    source = sounds(put(tmp_path, files))
    assert source.rate == 8_000
    assert source.length.tolist() == [2_400] * 4
    assert any("1 are resampled: 44,100 Hz (1)" in line for line in notes_of_sounds(source))
    assert sounds(tmp_path, rate=16_000).read(0).shape == (1, 1, 4_800)
    with pytest.raises(UserError, match="rate must be 1,000 to 768,000 samples a second, got 10"):
        sounds(tmp_path, rate=10)


# --- where it lies


def archives(folder, files):
    """The same files as a folder and in each kind of archive."""
    put(folder / "files", files)
    for name, method in (("stored.zip", zipfile.ZIP_STORED), ("packed.zip", zipfile.ZIP_DEFLATED)):
        with zipfile.ZipFile(folder / name, "w", method) as archive:
            for key, data in files.items():
                archive.writestr(key, data)
    for name in ("plain.tar", "packed.tar.gz"):
        with tarfile.open(folder / name, "w:gz" if name.endswith("gz") else "w") as archive:
            for key, data in files.items():
                info = tarfile.TarInfo(key)
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
    return [folder / name for name in ("files", "stored.zip", "packed.zip", "plain.tar", "packed.tar.gz")]


def test_folders_and_archives_give_the_same(tmp_path):
    files = {f"{who}/{i}.{kind}": encoded(tune(0.9, seed=i), kind=kind, subtype=sub)
             for i, (kind, sub) in enumerate(KINDS) for who in ("ann", "bob")}  # fmt: skip
    files |= {"readme.txt": b"of sounds", ".hidden.wav": b"no"}
    places = archives(tmp_path, files)
    assert all(map(is_sound, places))
    first = sounds(places[0])
    assert len(first) == 14
    assert first.classes == ["ann", "bob"]
    for place in places:
        source = sounds(place)
        assert [source.key(i) for i in range(14)] == [first.key(i) for i in range(14)]
        np.testing.assert_array_equal(source.labels, first.labels)
        pieces, of_first = source.cut(0.4), first.cut(0.4)
        for a, b in ((source, first), (pieces, of_first)):
            for i in range(len(a)):
                np.testing.assert_allclose(a.read(i).numpy(), b.read(i).numpy(), rtol=0, atol=1e-7)  # MP3 rounds


def test_top_folders_are_splits(tmp_path):
    files = {f"{part}/{who}/{i}.wav": encoded(tune(0.2, seed=i), kind="wav")
             for part in ("train", "test") for who in "ab" for i in range(2)}  # fmt: skip
    put(tmp_path, files)
    assert splits(tmp_path) == ["train", "test"]
    train = sounds(tmp_path, split="train")
    assert len(train) == 4
    assert train.classes == ["a", "b"]
    with pytest.raises(DataError, match="unknown split 'tset', did you mean 'test'"):
        sounds(tmp_path, split="tset")


def test_links_are_followed_once(tmp_path):
    put(tmp_path / "else", {"b.wav": encoded(tune(0.2), kind="wav")})
    here = put(tmp_path / "here", {"a.wav": encoded(tune(0.2), kind="wav")})
    (here / "up").symlink_to(tmp_path / "here", target_is_directory=True)
    (here / "to").symlink_to(tmp_path / "else", target_is_directory=True)
    (here / "gone.wav").symlink_to(tmp_path / "nothing.wav")
    source = sounds(here)
    assert [source.key(i) for i in range(len(source))] == ["a.wav", "to/b.wav"]
    assert source.notes == {"gone.wav": "no such file (moved, deleted, or a link that leads nowhere)"}


def test_parquet_with_bytes_and_with_arrays(tmp_path):
    clips = [tune(0.3, 8_000, i) for i in range(4)]
    data = [encoded(x, 8_000, "wav", "FLOAT") for x in clips]
    words = {"_type": "ClassLabel", "names": ["no", "yes"]}
    about = {"info": {"features": {"audio": {"_type": "Audio"}, "word": words}}}
    more = {"speaker_id": ["x", "y", "x", "y"], "word": [1, 0, 1, 0]}
    as_bytes = pa.table({"audio": [{"bytes": d, "path": f"{i}.wav"} for i, d in enumerate(data)], **more})
    as_bytes = as_bytes.replace_schema_metadata({"huggingface": json.dumps(about)})
    as_arrays = pa.table({"audio": [{"array": x.tolist(), "sampling_rate": 8_000} for x in clips], **more})
    bare = pa.table({"sound": data, **more})
    for name, table in (("bytes", as_bytes), ("arrays", as_arrays), ("bare", bare)):
        path = tmp_path / f"{name}.parquet"
        pq.write_table(table, path)
        assert is_sound(path)
        source = pickle.loads(pickle.dumps(sounds(path)))
        assert source.voices == ["x", "y"]
        assert source.labels.tolist() == [1, 0, 1, 0]
        for i, x in enumerate(clips):
            np.testing.assert_array_equal(source.read(i)[0, 0].numpy(), x)
    assert sounds(tmp_path / "bytes.parquet").classes == ["no", "yes"]
    assert sounds(tmp_path / "bytes.parquet").key(2) == "2.wav"
    pq.write_table(pa.table({"text": ["a"]}), tmp_path / "words.parquet")
    assert not is_sound(tmp_path / "words.parquet")
    with pytest.raises(DataError, match="no column of sounds: its columns are text"):
        sounds(tmp_path / "words.parquet")
    pq.write_table(pa.table({"sound": pa.array([None, data[0]]), "word": [0, 1]}), tmp_path / "hole.parquet")
    assert sounds(tmp_path / "hole.parquet").notes == {"hole.parquet:0": "nothing in its row"}


def test_arrays_in_memory():
    x, y = tune(0.3, 8_000), (tune(0.5, 8_000, 1) * 32767).astype(np.int16)
    for data in ([(x, 8_000), (y, 8_000)], [{"array": a, "sampling_rate": 8_000} for a in (x, y)]):
        assert is_sound(data)
        source = sounds(data, labels=["no", "yes"])
        assert source.classes == ["no", "yes"]
        np.testing.assert_array_equal(source.read(0)[0, 0].numpy(), x)
        np.testing.assert_array_equal(source.read(1)[0, 0].numpy(), y / np.float32(32768))
    stereo = np.stack([x, -0.5 * x])
    np.testing.assert_allclose(sounds([(stereo, 8_000)]).read(0)[0, 0].numpy(), x / 4, atol=1e-7)
    half = x.astype(np.float16)
    np.testing.assert_array_equal(sounds([(half, 8_000)]).read(0)[0, 0].numpy(), half.astype(np.float32))
    wrong = [("text", 8_000), (x.astype(complex), 8_000), (x, 10**12), (x, math.inf), (np.ones((2000, 2001)), 8_000)]
    assert sounds([(x, 8_000), *wrong]).notes.keys() == set("12345")
    for wrong in ([], ["text"], [[1, 2], [2, 3]], np.zeros(9), {"a": 1}):
        assert not is_sound(wrong)
        with pytest.raises(DataError):
            sounds(wrong)
    with pytest.raises(DataError, match="2 recordings but 1 labels"):
        sounds([(x, 8_000), (y, 8_000)], labels=[1])


def test_a_folder_is_of_what_most_of_its_files_are(tmp_path):
    put(tmp_path / "a", {"1.png": b"", "2.png": b"", "x.wav": b""})
    put(tmp_path / "b", {"1.png": b"", "2.wav": b"", "x.wav": b"", "text.txt": b""})
    assert not is_sound(tmp_path / "a")
    assert is_sound(tmp_path / "b")
    assert not is_sound(tmp_path / "none")
    assert not is_sound(put(tmp_path / "c", {"a.txt": b""}) / "a.txt")


# --- what is known of it


def speech(folder):
    """Four digits by three speakers, two takes each."""
    names = [f"{digit}_{who}_{take}" for digit in range(4) for who in ("ann", "bob", "cyd") for take in range(2)]
    put(folder, {f"{name}.wav": encoded(tune(0.1, 8_000, i), 8_000, "wav") for i, name in enumerate(names)})
    return names


def test_labels_and_speakers_by_pattern(tmp_path):
    names = speech(tmp_path)
    source = sounds(tmp_path, labels="{digit}_{speaker}_{_}")
    assert (source.classes, source.voices) == (list("0123"), ["ann", "bob", "cyd"])
    assert [source.classes[i] for i in source.labels] == [name.split("_")[0] for name in names]
    assert [source.voices[i] for i in source.speakers] == [name.split("_")[1] for name in names]
    np.testing.assert_array_equal(sounds(tmp_path, labels="{digit}_{speaker}_{_}.wav").labels, source.labels)
    assert sounds(tmp_path, labels="{digit}_{who}_{_}", label="who", speaker="who").classes == ["ann", "bob", "cyd"]
    put(tmp_path, {"noise.wav": encoded(tune(0.1, 8_000, 99), 8_000, "wav")})
    source = sounds(tmp_path, labels="{digit}_{speaker}_{_}")
    assert source.labels[-1] == source.speakers[-1] == -1
    assert any("1 names do not fit" in line and "noise.wav" in line for line in notes_of_sounds(source))
    with pytest.raises(DataError, match="fits none of 25 names, the first is '0_ann_0.wav'"):
        sounds(tmp_path, labels="{a}-{b}")
    for wrong in ("{_}_{_}", "{a}_{a}_{_}", "{1}_{b}", "{a b}_{c}"):
        with pytest.raises(UserError, match="must name each field once"):
            sounds(tmp_path, labels=wrong)
    with pytest.raises(UserError, match="unknown column 'digt', did you mean 'digit'"):
        sounds(tmp_path, labels="{digit}_{speaker}_{_}", label="digt")


def test_a_pattern_may_name_folders(tmp_path):
    wav = encoded(tune(0.1), kind="wav")
    put(tmp_path, {f"clean/{who}/book{i}/{who}-{i}.wav": wav for who in (12, 7, 103) for i in range(2)})
    source = sounds(tmp_path, labels="{speaker}/{book}/{_}")
    assert (source.voices, source.classes) == (["7", "12", "103"], ["book0", "book1"])


def test_labels_by_table(tmp_path):
    names = speech(tmp_path / "wavs")
    rows = [(f"{n}.wav", 160 + 7 * i, n[0], n[2:5], ("train", "test")[int(n[-1])]) for i, n in enumerate(names)]
    columns = dict(zip(("file", "n_samples", "digit", "speaker", "split"), zip(*rows, strict=True), strict=True))
    table = pa.table({name: list(map(str, values)) for name, values in columns.items()})
    pq.write_table(table, tmp_path / "t.parquet")
    for sign, end in ((",", "csv"), ("\t", "tsv")):
        lines = [sign.join(columns), *(sign.join(map(str, row)) for row in rows)]
        (tmp_path / f"t.{end}").write_text("\n".join(lines) + "\n")
    for end in ("csv", "tsv", "parquet"):
        path = tmp_path / f"t.{end}"
        assert splits(tmp_path / "wavs", path) == ["train", "test"]
        source = sounds(tmp_path / "wavs", labels=path, split="test")
        assert len(source) == 12
        assert source.classes == list("0123")
        assert [source.classes[i] for i in source.labels] == [source.key(i)[0] for i in range(12)]
        assert [source.voices[i] for i in source.speakers] == [source.key(i)[2:5] for i in range(12)]
    assert sounds(tmp_path / "wavs", labels=path, label="speaker").classes == ["ann", "bob", "cyd"]
    with pytest.raises(UserError, match="unknown column 'digits', did you mean 'digit'"):
        sounds(tmp_path / "wavs", labels=path, label="digits")


def test_tables_that_fit_in_part_or_not_at_all(tmp_path):
    speech(tmp_path / "wavs")
    table = tmp_path / "t.csv"
    table.write_text("file,word\n0_ann_0,yes\n1_ann_0.wav,yes\n2_ann_0.wav,no\n3_ann_0.wav,no\ngone.wav,no\n")
    source = sounds(tmp_path / "wavs", labels=table)
    assert source.classes == ["no", "yes"]
    assert (source.labels >= 0).sum() == 4
    said = " ".join(notes_of_sounds(source))
    assert "1 of 5 rows" in said
    assert "20 recordings are in no row" in said
    for text, reason in (
        ("file,word\nx.wav,1\n", "none of its 1 rows names one of the recordings of wavs, the first is 'x.wav'"),
        ("where,word\n0_ann_0.wav,1\n", "no column of paths: its columns are where, word"),
        ("file,word\n0_ann_0.wav,1\n0_ann_0.wav,2\n", "names '0_ann_0.wav' twice"),
        ("file,word\n0_ann_0.wav\n", "line 2: 1 columns, not 2"),
        ("file,word\n", "has no rows"),
    ):
        table.write_text(text)
        with pytest.raises(DataError, match=reason):
            sounds(tmp_path / "wavs", labels=table)
    with pytest.raises(DataError, match="no labels file"):
        sounds(tmp_path / "wavs", labels=tmp_path / "none.csv")
    with pytest.raises(UserError, match="label='word' names a column, and there are none"):
        sounds(tmp_path / "wavs", label="word")


# --- pieces


def test_cut_into_equal_pieces(tmp_path):
    lengths = {"a.wav": 2.0, "b.wav": 0.31, "c.wav": 1.0}
    put(tmp_path, {name: encoded(tune(t, 8_000), 8_000, "wav") for name, t in lengths.items()})
    source = sounds(tmp_path)
    pieces = source.cut(0.6)
    assert [pieces.key(i) for i in range(len(pieces))][:5] == [
        "a.wav#0.0-0.5", "a.wav#0.5-1.0", "a.wav#1.0-1.5", "a.wav#1.5-2.0", "b.wav",
    ]  # fmt: skip
    assert pieces.seconds == pytest.approx(3.31)
    odd = source.cut(0.3)
    assert len({odd.key(i) for i in range(len(odd))}) == len(odd)
    for i, name in enumerate(lengths):
        mine = odd.subset(odd.file == i)
        assert len(mine) == -(-source.length[i] // 2_400)
        assert mine.length.max() - mine.length.min() <= 1
        assert mine.length.max() <= 2_400
        whole = np.concatenate([mine.read(j)[0, 0].numpy() for j in range(len(mine))])
        np.testing.assert_array_equal(whole, source.read(i)[0, 0].numpy(), err_msg=name)
    again = pieces.cut(0.3).subset([0, 1])
    assert [again.key(i) for i in range(2)] == ["a.wav#0.0-0.25", "a.wav#0.25-0.5"]
    with pytest.raises(UserError, match="hold no sample"):
        source.cut(0)


def test_labels_and_speakers_go_along(tmp_path):
    speech(tmp_path)
    source = sounds(tmp_path, labels="{digit}_{speaker}_{_}")
    pieces = source.cut(0.03)
    np.testing.assert_array_equal(pieces.labels, source.labels[pieces.file])
    np.testing.assert_array_equal(pieces.speakers, source.speakers[pieces.file])
    chosen = source.subset(np.array([5, 3]))
    assert [chosen.key(i) for i in range(2)] == [source.key(5), source.key(3)]
    assert chosen.labels.tolist() == source.labels[[5, 3]].tolist()
    assert repr(source).endswith("24 sounds, 0.00 hours at 8,000 Hz, 4 classes, 3 speakers>")


def test_changed_data_has_another_fingerprint(tmp_path):
    put(tmp_path, {"a.wav": encoded(tune(0.2), kind="wav"), "b.wav": encoded(tune(0.2), kind="wav")})
    source = sounds(tmp_path)
    print_ = source.fingerprint()
    assert print_ == sounds(tmp_path).fingerprint()
    others = [source.cut(0.1), source.subset([0]), sounds(tmp_path, rate=8_000)]
    put(tmp_path, {"b.wav": encoded(tune(0.3), kind="wav")})
    others.append(sounds(tmp_path))
    assert len({print_, *(other.fingerprint() for other in others)}) == 5


def _first(source, index):
    return float(source.read(index)[0, 0, 100])


def test_threads_and_forked_workers_read_the_same(tmp_path):
    files = {f"{i}.flac": encoded(tune(0.4, seed=i)) for i in range(24)}
    stored = archives(tmp_path, files)[1]
    source = sounds(stored).cut(0.3)
    want = [_first(source, i) for i in range(len(source))]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(_first, [source] * len(want), range(len(want)))) == want
    with get_context("fork").Pool(2) as workers:
        assert workers.starmap(_first, [(source, i) for i in range(len(want))]) == want
    assert _first(pickle.loads(pickle.dumps(source)), 3) == want[3]


# --- bad input


def test_what_a_header_tells_is_left_out_with_its_reason(tmp_path):
    wav = encoded(tune(0.5), kind="wav")
    unknown = bytearray(encoded(tune(0.5)))
    unknown[21] &= 0xF0
    unknown[22:26] = bytes(4)
    files = {
        "good.wav": wav,
        "video.wav": b"\0\0\0\x18ftypmp42" + bytes(1000),
        "avi.wav": b"RIFF\0\x10\0\0AVI LIST" + bytes(1000),
        "text.wav": b"Dear reader,\n" * 100,
        "empty.wav": b"",
        "zero.wav": encoded(tune(0), kind="wav"),
        "slow.wav": encoded(tune(0.5), 1, "wav"),
        "cut.wav": wav[:9_000],
        "cut.aiff": encoded(tune(0.5), kind="aiff")[:9_000],
        "cut.ogg": encoded(tune(3), kind="ogg")[:9_000],
        "broken.flac": b"fLaC" + bytes(100),
        "unknown.flac": bytes(unknown),
    }
    source = sounds(put(tmp_path, files))
    assert [source.key(i) for i in range(len(source))] == ["good.wav"]
    reasons = {
        "video.wav": "an MP4 or M4A file, which is not read; convert its sound to FLAC or WAV",
        "avi.wav": "an AVI video, which is not read; convert its sound to FLAC or WAV",
        "text.wav": "a text, not a sound",
        "empty.wav": "empty: it has no bytes",
        "zero.wav": "no sound in it: its length is zero",
        "slow.wav": "1 samples a second; 1,000 to 768,000 are read",
        "cut.wav": "cut short: 9,000 of 16,044 bytes are there",
        "cut.aiff": "cut short: 9,000 of 16,054 bytes are there",
        "cut.ogg": "cut short: its last page is missing",
        "broken.flac": "damaged: its header cannot be read",
        "unknown.flac": "its header does not say how long it is; write it again, for example with sox or flac",
    }
    assert source.notes == reasons
    assert any(line.startswith("11 are left out: avi.wav: an AVI video") for line in notes_of_sounds(source))
    for place in archives(tmp_path / "packed", files)[1:]:
        assert sounds(place).notes == reasons
    os.remove(tmp_path / "good.wav")
    with pytest.raises(BrokenItem, match="no such file"):
        source.read(0)


def test_what_only_decoding_tells_is_broken_when_read(tmp_path):
    x, flac = tune(2), encoded(tune(2))
    flipped = bytearray(flac)
    flipped[len(flac) // 2 : len(flac) // 2 + 8] = bytes(c ^ 255 for c in flipped[len(flac) // 2 :][:8])
    nan, infinite, huge, quiet = x.copy(), x.copy(), x.copy(), x * 0
    nan[7], infinite[7:9], huge[7] = np.nan, np.inf, 1e30
    quiet[-1] = 0.5
    files = {
        "cut.flac": flac[: len(flac) // 2],
        "flipped.flac": bytes(flipped),
        "cut.mp3": encoded(x, kind="mp3")[:6_000],
        "nan.wav": encoded(nan, kind="wav", subtype="FLOAT"),
        "infinite.wav": encoded(infinite, kind="wav", subtype="FLOAT"),
        "huge.wav": encoded(huge, kind="wav", subtype="FLOAT"),
        "stereo.wav": encoded(np.stack([infinite, -infinite], 1), kind="wav", subtype="FLOAT"),
        "silent.wav": encoded(x * 0, kind="wav"),
        "constant.flac": encoded(x * 0 + 0.25),
        "quiet.wav": encoded(quiet, kind="wav"),
    }
    source = sounds(put(tmp_path, files))
    assert len(source) == len(files)
    found = broken(source)
    assert found.keys() == files.keys() - {"quiet.wav"}
    for key in ("cut.flac", "flipped.flac", "cut.mp3"):
        readable = float(found[key].removeprefix("damaged or cut short: ").split(" ")[0])
        assert 0.5 < readable < 1.5
        assert found[key].endswith("of 2.00 s can be read")
    assert found["nan.wav"] == "1 of 32,000 samples are NaN"
    assert found["infinite.wav"] == "2 of 32,000 samples are infinite"
    assert found["huge.wav"] == "samples as large as 1e+30; full scale is 1"
    assert found["stereo.wav"] == "2 of 32,000 samples are NaN"
    assert found["silent.wav"] == "silent from end to end: every sample is 0"
    assert found["constant.flac"] == "silent from end to end: every sample is 0.25"
    pieces = source.cut(0.5)  # a silent piece of a louder recording is fine, one of a silent recording is not
    kinds = {key.partition("#")[0] for key in broken(pieces)}
    assert kinds == found.keys()
    assert sum(key.startswith("flipped") for key in broken(pieces)) < 4
    assert sum(key.startswith("silent") for key in broken(pieces)) == 4


def test_a_checksum_of_an_archive_tells_of_flipped_bytes(tmp_path):
    path = archives(tmp_path, {"a.wav": encoded(tune(0.5), kind="wav"), "b.wav": encoded(tune(0.5), kind="wav")})[1]
    data = bytearray(path.read_bytes())
    data[5_000] ^= 255
    path.write_bytes(data)
    assert broken(sounds(path)) == {"a.wav": "damaged in its archive (checksum differs)"}


def test_a_recording_that_shrank_since_it_was_listed(tmp_path):
    source = sounds(put(tmp_path, {"a.wav": encoded(tune(0.5), kind="wav")}))
    put(tmp_path, {"a.wav": encoded(tune(0.2), kind="wav")})
    with pytest.raises(BrokenItem, match="its length has changed since it was listed: it has 0.20 s"):
        source.read(0)


def test_data_without_sound_is_one_line(tmp_path):
    (tmp_path / "empty").mkdir()
    put(tmp_path / "text", {"b.m4a": b""})
    put(tmp_path / "bad", {"a.wav": b"text", "b.wav": b""})
    (tmp_path / "no.zip").write_bytes(b"PK")
    with zipfile.ZipFile(tmp_path / "text.zip", "w") as archive:
        archive.writestr("a.txt", "")
    for name, reason in (
        ("empty", "is empty"),
        ("text", "it holds 1 .m4a; sounds are aif,"),
        ("bad", "none of 2 recordings in bad can be read; the first, a.wav: a text, not a sound"),
        ("no.zip", "not a zip archive"),
        ("text.zip", r"no sounds \(aif, .* in archive"),
        ("bat", "did you mean"),
        ("bad/a.wav", "none of 1 recordings in a.wav can be read; the first, a.wav: a text, not a sound"),
        ("text/b.m4a", "cannot read sounds from"),
    ):
        with pytest.raises(DataError, match=reason) as error:
            sounds(tmp_path / name)
        assert "\n" not in str(error.value)
    with pytest.raises(DataError, match="has no splits"):
        sounds(put(tmp_path / "good", {"a.wav": encoded(tune(0.1), kind="wav")}), split="train")


def test_check_says_what_is_there(tmp_path):
    x = tune(0.5)
    files = {f"{part}/{i}_{who}.wav": encoded(tune(0.5, seed=i), kind="wav")
             for part, ids in (("train", range(4)), ("test", range(4, 6))) for who in "ab" for i in ids}  # fmt: skip
    files["test/0_a.wav"] = files["train/0_a.wav"]
    files["test/loud_c.wav"] = encoded(np.sign(x), kind="wav")
    files["test/still_c.wav"] = encoded(x * 0, kind="wav")
    files["test/text_c.wav"] = b"text"
    report = check_sounds(sounds(put(tmp_path, files), labels="{_}_{speaker}"))
    assert (report.count, report.readable, report.whole) == (16, 14, False)
    assert [key for key, _ in report.broken] == ["test/text_c.wav", "test/still_c.wav"]
    assert report.length == (0.5, 0.5, 0.5)
    assert report.level[2] == pytest.approx(0, abs=0.01)
    assert report.clipped == 1
    assert report.speakers == {"a": 7, "b": 6, "c": 1}
    assert report.in_train == {"test": 1}  # 0_b is 0_a in another name, both in train
    assert report.heard == {"test": 2}
    assert json.loads(json.dumps(report.to_dict()))["rates"] == {"16000": 14}
    text = "\n".join(report.lines())
    assert "broken     2 recordings cannot be read" in text
    assert "  test/still_c.wav: silent from end to end" in text


# --- real recordings


@pytest.mark.skipif(not (DATA / "fsdd_flac.zip").exists(), reason=f"no FSDD in {DATA}")
def test_spoken_digits_by_their_table():
    parts = {s: sounds(DATA / "fsdd_flac.zip", labels=DATA / "fsdd_index.csv", label="digit", split=s)
             for s in ("train", "val", "test")}  # fmt: skip
    assert [len(part) for part in parts.values()] == [2400, 300, 300]
    test = parts["test"]
    assert (test.rate, test.classes, len(test.voices)) == (8_000, list("0123456789"), 6)
    assert [test.key(i)[0] for i in range(300)] == [test.classes[c] for c in test.labels]
    assert sum(part.seconds for part in parts.values()) == pytest.approx(1312.3, abs=0.1)
    assert not broken(test)


@pytest.mark.skipif(not (DATA / "librispeech_mini.zip").exists(), reason=f"no LibriSpeech in {DATA}")
def test_read_sentences_by_their_table():
    source = sounds(DATA / "librispeech_mini.zip", labels=DATA / "librispeech_mini_index.csv", split="train-clean-100")
    assert (len(source), len(source.voices), source.classes, source.rate) == (251, 261, source.voices, 16_000)
    pieces = source.cut(5)
    assert pieces.read(1).shape == (1, 1, pieces.length[1])
