"""Videos in: where they lie, what is known of them, and which frames of them are given."""

import io
import json
import os
import pickle
import shutil
import tarfile
import zipfile
from functools import lru_cache
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from conftest import DATA
from madevideos import decoded, pattern, turn, write_sound, write_video

from twoviews.data.checkvideos import check_videos
from twoviews.data.clipviews import two_clips
from twoviews.data.videos import is_video, notes_of_videos, splits, videos
from twoviews.errors import BrokenItem, DataError, UserError

N = 20  # frames of most clips here, 25 a second
JUMPY = (np.arange(N) ** 2 * 3 + np.arange(N) * 20).tolist()  # milliseconds


@lru_cache(64)
def made(seed=0, ending="mp4", frames=N, **more):
    """The bytes of a small video."""
    with TemporaryDirectory() as folder:
        jumpy = {"times": JUMPY} if more.pop("jumpy", False) else {}
        return write_video(Path(folder) / f"x.{ending}", pattern(frames, seed=seed), **more, **jumpy).read_bytes()


def put(folder, files):
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return folder


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


def keys(source):
    return [source.key(i) for i in range(len(source))]


def broken(source):
    """key -> reason of what is left out or does not read."""
    found = dict(source.notes)
    for i in range(len(source)):
        try:
            source.read(i)
        except BrokenItem as reason:
            found[source.key(i)] = str(reason)
    return found


@pytest.fixture
def three(tmp_path):
    """Three videos of 20, 30 and 7 frames."""
    return put(tmp_path / "three", {f"{i}.mp4": made(i, frames=n) for i, n in enumerate((N, 30, 7))})


# --- where it lies


def test_folders_and_archives_give_the_same(tmp_path):
    files = {f"{who}/deep/{i}.{kind}": made(i, kind) for who in ("ann", "bob") for i, kind in enumerate(("mp4", "mkv"))}
    places = archives(tmp_path, {**files, "readme.txt": b"of videos", ".hidden.mp4": b"no"})
    wanted = {key: decoded(tmp_path / "files" / key) for key in files}
    for place in places:
        assert is_video(place)
        source = videos(place)
        assert keys(source) == sorted(files)
        assert source.classes == ["ann", "bob"]
        assert source.labels.tolist() == [0, 0, 1, 1]
        for i, key in enumerate(keys(source)):
            np.testing.assert_array_equal(source.frames(i), wanted[key])
        x = source.read(0)
        assert (x.dtype, x.shape) == (torch.uint8, (N, 48, 3 * 64))
        np.testing.assert_array_equal(x.unflatten(2, (64, 3)).numpy(), wanted[source.key(0)])
        small = videos(place, max_side=24).read(3)
        assert small.shape == (N, 24, 3 * 32)


def test_parquet_with_bytes(tmp_path):
    data = [made(i) for i in range(4)]
    words = {"_type": "ClassLabel", "names": ["no", "yes"]}
    about = {"info": {"features": {"video": {"_type": "Video"}, "word": words}}}
    rows = pa.table({"video": [{"bytes": d, "path": f"{i}.mp4"} for i, d in enumerate(data)], "word": [1, 0, 1, 0]})
    pq.write_table(rows.replace_schema_metadata({"huggingface": json.dumps(about)}), tmp_path / "rows.parquet")
    pq.write_table(pa.table({"clip": data, "word": ["b", "a", "b", "a"]}), tmp_path / "bare.parquet")
    for name, classes in (("rows", ["no", "yes"]), ("bare", ["a", "b"])):
        path = tmp_path / f"{name}.parquet"
        assert is_video(path)
        source = pickle.loads(pickle.dumps(videos(path)))
        assert source.classes == classes
        assert source.labels.tolist() == [1, 0, 1, 0]
        for i, d in enumerate(data):
            put(tmp_path, {"one.mp4": d})
            np.testing.assert_array_equal(source.frames(i), decoded(tmp_path / "one.mp4"))
    assert videos(tmp_path / "rows.parquet").key(2) == "2.mp4"
    pq.write_table(pa.table({"text": ["a"]}), tmp_path / "words.parquet")
    assert not is_video(tmp_path / "words.parquet")


def test_arrays_of_clips(tmp_path):
    colours = np.stack([pattern(6, 16, 24, seed) for seed in range(4)])
    np.save(tmp_path / "x.npy", colours)
    np.savez(tmp_path / "x.npz", clips=colours, labels=np.array(["b", "a", "b", "b"]))
    for data in (colours, torch.from_numpy(colours), tmp_path / "x.npy", tmp_path / "x.npz"):
        assert is_video(data)
        source = pickle.loads(pickle.dumps(videos(data)))
        assert len(source) == 4
        np.testing.assert_array_equal(source.frames(2), colours[2])
        assert source.bytes == 0
        assert source.hold() is source
    assert videos(tmp_path / "x.npz").classes == ["a", "b"]
    assert videos(tmp_path / "x.npz").labels.tolist() == [1, 0, 1, 1]
    assert notes_of_videos(source) == ["4 clips of 6 frames"]
    labelled = videos((colours, [0, 2, 1, -1]))
    assert labelled.labels.tolist() == [0, 2, 1, -1]
    assert labelled.classes == ["0", "1", "2"]
    grey = videos(colours[..., 0])
    np.testing.assert_array_equal(grey.frames(1), colours[1, ..., :1].repeat(3, -1))
    four = np.concatenate([colours, colours[..., :1]], -1)
    np.testing.assert_array_equal(videos(four).frames(1), colours[1])
    assert not is_video(colours[..., 0])  # (N, T, H, W) may be photos as well


def test_arrays_that_are_no_clips(tmp_path):
    x = np.zeros((2, 3, 8, 8, 3), np.uint8)
    np.savez(tmp_path / "x.npz", a=x[0, 0], b=x[0, 0])
    np.savez(tmp_path / "y.npz", clips=x, labels=[1])
    (tmp_path / "z.npy").write_bytes(b"no array")
    for data, reason in (
        (x.astype(np.float32), r"clips must be uint8 .*, got float32 \(2, 3, 8, 8, 3\)"),
        (x[0, 0], r"clips must be uint8 .*, got uint8 \(8, 8, 3\)"),
        (x[:0], "clips must be uint8"),
        (x[..., :2], "have C = 1, 3 or 4 channels"),
        ((x, [1]), "2 clips but 1 labels"),
        (tmp_path / "x.npz", "has no array called clips: it holds a, b"),
        (tmp_path / "y.npz", "2 clips but 1 labels"),
        (tmp_path / "z.npy", "cannot read '.*z.npy'"),
        (7, "clips must be uint8 .*, got int"),
    ):
        with pytest.raises(DataError, match=reason) as found:
            videos(data)
        assert "\n" not in str(found.value)


# --- lists with times


ROWS = [("a.mp4", "0", "0.4", "x", "train"), ("sub/b.mkv", "0:00.2", "", "y", "train"),
        ("a.mp4", "", "", "x", "test"), ("a.mp4", "0.42", "0:0:0.6", "y", "test")]  # fmt: skip


@pytest.mark.parametrize("ending", ["csv", "tsv", "parquet"])
def test_a_list_with_times(tmp_path, ending):
    put(tmp_path, {"a.mp4": made(0), "sub/b.mkv": made(1, "mkv"), "unlisted.mp4": b""})
    names, path = ("file", "start", "end", "action", "split"), tmp_path / f"list.{ending}"
    if ending == "parquet":
        columns = {name: [row[i] or None for row in ROWS] for i, name in enumerate(names)}
        pq.write_table(pa.table(columns), path)
    else:
        sign = "," if ending == "csv" else "\t"
        path.write_text("\n".join(sign.join(row) for row in (names, *ROWS)) + "\n")
    assert is_video(path)
    assert splits(path) == ["train", "test"]
    source = videos(path)
    assert keys(source) == ["a.mp4#0.00-0.40", "sub/b.mkv#0.20-0.80", "a.mp4", "a.mp4#0.42-0.60"]
    assert source.classes == ["x", "y"]
    assert source.labels.tolist() == [0, 1, 0, 1]
    a, b = decoded(tmp_path / "a.mp4"), decoded(tmp_path / "sub/b.mkv")
    # the frames that appear from the start on, 25 a second, and before the end
    for i, wanted in enumerate((a[:10], b[5:], a, a[11:15])):
        np.testing.assert_array_equal(source.frames(i), wanted)
    test = videos(path, split="test")
    assert keys(test) == ["a.mp4", "a.mp4#0.42-0.60"]
    assert list(test.notes) == []  # the broken one is in no row
    assert repr(test) == f"<list.{ending}:test: 2 clips of 1 videos, 2 classes>"
    assert "2 videos in 4 stretches" in notes_of_videos(source)[0]


def test_a_table_of_videos_tells_of_all_their_stretches(tmp_path):
    put(tmp_path, {"a.mp4": made(0), "b.mp4": made(1)})
    (tmp_path / "list.csv").write_text("file,start,end\na.mp4,0,0.4\nb.mp4,0,0.4\na.mp4,0.4,0.8\n")
    (tmp_path / "table.csv").write_text("file,action,split\na.mp4,run,train\nb.mp4,sit,test\n")
    source = videos(tmp_path / "list.csv", labels=tmp_path / "table.csv", label="action")
    assert (source.classes, source.labels.tolist()) == (["run", "sit"], [0, 1, 0])
    assert splits(tmp_path / "list.csv", tmp_path / "table.csv") == ["train", "test"]
    train = videos(tmp_path / "list.csv", labels=str(tmp_path / "table.csv"), split="train")
    assert keys(train) == ["a.mp4#0.00-0.40", "a.mp4#0.40-0.80"]
    assert videos(tmp_path / "list.csv", labels=["x", "y", "y"]).labels.tolist() == [0, 1, 1]


def test_a_minute_and_two_and_a_half_seconds(tmp_path):
    clip = np.broadcast_to(np.arange(70, dtype=np.uint8)[:, None, None, None] * 3, (70, 16, 16, 3))
    write_video(tmp_path / "long.mkv", clip, rate=1, codec="ffv1", pixels="bgr0")
    (tmp_path / "list.csv").write_text("path,from,to\nlong.mkv,1:02.5,65.5\nlong.mkv,0:00:58,1:00\n")
    source = videos(tmp_path / "list.csv")
    assert source.span(0) == (62.5, 65.5)
    assert [source.frames(i)[:, 0, 0, 0].tolist() for i in range(2)] == [[189, 192, 195], [174, 177]]


def test_rows_that_are_no_stretch_are_left_out_and_said(tmp_path):
    put(tmp_path, {"a.mp4": made(0), "broken.mp4": b"text"})
    path = tmp_path / "list.csv"
    path.write_text(
        "file,start,end\na.mp4,0,0.2\na.mp4,0.5,0.2\ngone.mp4,0,1\nbroken.mp4,0,1\na.mp4,-1,1\na.mp4,9,10\na.mp4,0.7,99\n"
    )
    source = videos(path)
    assert keys(source) == ["a.mp4#0.00-0.20", "a.mp4#9.00-10.00", "a.mp4#0.70-99.00"]
    assert source.notes == {"broken.mp4": "a text, not a video"}
    said = " ".join(notes_of_videos(source))
    assert f"1 of 7 rows of '{path}' name no file, the first 'gone.mp4'" in said
    assert f"2 of 7 rows of '{path}' end before they begin, or begin before 0, the first 'a.mp4'" in said
    assert broken(source)["a.mp4#9.00-10.00"] == "no frame from 9.00 to 10.00 s: it is 0.80 s long"
    np.testing.assert_array_equal(source.frames(2), decoded(tmp_path / "a.mp4")[18:])


def test_a_video_that_a_list_spells_in_two_ways_is_one(tmp_path):
    put(tmp_path, {"a.mp4": made(0), "d/b.mp4": made(1)})
    (tmp_path / "list.csv").write_text("file,start\na.mp4,0\n./a.mp4,0.4\nd/../a.mp4,0.6\nd//b.mp4,0\n")
    source = videos(tmp_path / "list.csv")
    assert source.file.tolist() == [0, 0, 0, 1]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("file,start\na.mp4,soon\n", "row 1, column 'start': 'soon' is no time; give seconds, as 12.5, or 0:12.5"),
        ("file,start,end\na.mp4,5,2\n", "no row of '.*' is a stretch of a video: 1 of 1 rows .* end before they begin"),
        ("file\ngone.mp4\nlost.mp4\n", "lists 2 videos and none is there; the first would be '.*gone.mp4'"),
        ("file,start\na.mp4\n", "line 2: 1 columns, not 2"),
    ],
)
def test_lists_that_cannot_be_used(tmp_path, text, reason):
    put(tmp_path, {"a.mp4": made(0), "list.csv": text.encode()})
    with pytest.raises(DataError, match=reason) as found:
        videos(tmp_path / "list.csv")
    assert "\n" not in str(found.value)


def test_a_table_of_something_else_is_no_list(tmp_path):
    put(tmp_path, {"a.csv": b"file,label\nx.png,1\n", "b.csv": b"clip_of,start\na.mp4,1\n", "c.csv": b""})
    for name in ("a.csv", "b.csv", "c.csv", "none.csv"):
        assert not is_video(tmp_path / name)
    with pytest.raises(DataError, match="cannot read videos from '.*b.csv'"):
        videos(tmp_path / "b.csv")


# --- what is known of it


def test_labels_by_folder_table_pattern_and_list(tmp_path):
    files = {f"{part}/{word}/{i}_{who}.mp4": made(i) for part in ("train", "test") for word in ("run", "sit")
             for i, who in enumerate(("ann", "bob"))}  # fmt: skip
    put(tmp_path / "d", files)
    assert splits(tmp_path / "d") == ["train", "test"]
    source = videos(tmp_path / "d", split="test")
    assert keys(source) == sorted(key for key in files if key.startswith("test"))
    assert (source.classes, source.labels.tolist()) == (["run", "sit"], [0, 0, 1, 1])
    assert videos(tmp_path / "d").split.tolist() == [1] * 4 + [0] * 4
    by_name = videos(tmp_path / "d", labels="{_}_{who}")
    assert (by_name.classes, by_name.labels.tolist()) == (["ann", "bob"], [0, 1] * 4)
    (tmp_path / "t.csv").write_text("file,mood,split\ntrain/run/0_ann.mp4,glad,val\ntest/sit/1_bob.mp4,sad,val\n")
    by_table = videos(tmp_path / "d", labels=tmp_path / "t.csv", label="mood")
    assert by_table.classes == ["glad", "sad"]
    known = {key: label for key, label in zip(keys(by_table), by_table.labels, strict=True) if label >= 0}
    assert known == {"train/run/0_ann.mp4": 0, "test/sit/1_bob.mp4": 1}
    assert len(videos(tmp_path / "d", labels=tmp_path / "t.csv", split="val")) == 2
    assert videos(tmp_path / "d", labels=list("abababab")).classes == ["a", "b"]
    with pytest.raises(DataError, match="unknown split 'tset', did you mean 'test'"):
        videos(tmp_path / "d", split="tset")
    with pytest.raises(DataError, match="8 videos but 2 labels"):
        videos(tmp_path / "d", labels=["a", "b"])
    with pytest.raises(DataError, match="has no splits, so there is no 'train' to choose"):
        videos(tmp_path / "d" / "train", split="train")


# --- which frames


def test_moments_of_views(three):
    source, views = videos(three), two_clips(size=16, frames=4, stride=2)
    whole = [decoded(three / f"{i}.mp4") for i in range(3)]
    read = source.sampled(views.moments, seed=3)
    for i, x in enumerate(whole):  # nothing random: the first and the last clip
        places = np.concatenate([[0, 2, 4, 6], len(x) - 7 + np.array([0, 2, 4, 6])])
        np.testing.assert_array_equal(read.frames(i), x[places])
    drawn = [[read.at(epoch).frames(i) for i in range(3)] for epoch in range(4)]
    for epoch, frames in enumerate(drawn):
        for i, x in enumerate(whole):
            rng = np.random.default_rng([3, epoch, i])
            np.testing.assert_array_equal(frames[i], x[views.moments(len(x), rng).ravel()])
    assert len({frames[1].tobytes() for frames in drawn}) > 1
    assert len(source.sampled(views.moments, seed=4).at(0).frames(1)) == 8
    assert len(source.frames(1)) == 30  # the source itself is as it was


def test_frames_reversed_and_shuffled(three):
    source = videos(three)
    whole = source.frames(0)
    np.testing.assert_array_equal(source.ordered("reversed").frames(0), whole[::-1])
    mixed = source.ordered("shuffled")
    order = [int(np.argmax([(x == y).all() for y in whole])) for x in mixed.frames(0)]
    assert sorted(order) == list(range(N))
    assert order != list(range(N))
    np.testing.assert_array_equal(videos(three).ordered("shuffled").frames(0), mixed.frames(0))
    np.testing.assert_array_equal(mixed.at(5).frames(0), mixed.frames(0))
    np.testing.assert_array_equal(mixed.ordered("").frames(0), whole)
    two = source.sampled(lambda total, rng: np.array([[4, 6]]))
    for i in range(3):  # of two frames the only other order
        np.testing.assert_array_equal(two.ordered("shuffled").frames(i), source.frames(i)[[6, 4]])
    one = source.sampled(lambda total, rng: np.array([[2]]))
    np.testing.assert_array_equal(one.ordered("shuffled").frames(0), whole[[2]])
    pair = source.sampled(lambda total, rng: np.array([[0, 1, 2], [4, 5, 6]])).ordered("reversed")
    np.testing.assert_array_equal(pair.frames(0), whole[[2, 1, 0, 6, 5, 4]])  # within each clip
    long = source.sampled(lambda total, rng: np.array([[0, 1, 2, 2, 2]])).ordered("reversed")
    np.testing.assert_array_equal(long.frames(0), whole[[2, 1, 0, 0, 0]])  # what fills a clip stays at its end
    spread = source.sampled(lambda total, rng: np.array([[0, 0, 0, 1, 1, 1, 2, 2]])).ordered("reversed")
    np.testing.assert_array_equal(spread.frames(0), whole[[2, 2, 2, 1, 1, 1, 0, 0]])
    with pytest.raises(UserError, match="unknown order 'reverse', did you mean 'reversed'"):
        source.ordered("reverse")


def test_windows(three):
    source = videos(three, labels=["x", "y", "x"])  # 0.8, 1.2 and 0.28 s
    windows = source.cut(0.4)
    assert keys(windows) == ["0.mp4#0.00-0.40", "0.mp4#0.40-0.80", "1.mp4#0.00-0.40", "1.mp4#0.40-0.80",
                             "1.mp4#0.80-1.20", "2.mp4"]  # fmt: skip
    assert windows.labels.tolist() == [0, 0, 1, 1, 1, 0]
    for i in range(3):
        mine = windows.subset(windows.file == i)
        frames = np.concatenate([mine.frames(k) for k in range(len(mine))])
        np.testing.assert_array_equal(frames, source.frames(i))
    # an end is a window where it is at least half as long
    assert keys(source.subset([0]).cut(0.5)) == ["0.mp4#0.00-0.50", "0.mp4#0.50-0.80"]
    assert keys(source.subset([0]).cut(0.7)) == ["0.mp4#0.00-0.70"]
    steps = source.subset([0]).cut(0.4, 0.2)
    assert keys(steps) == ["0.mp4#0.00-0.40", "0.mp4#0.20-0.60", "0.mp4#0.40-0.80", "0.mp4#0.60-0.80"]
    np.testing.assert_array_equal(steps.frames(1), source.frames(0)[5:15])
    assert keys(windows.cut(0.2).subset([2])) == ["0.mp4#0.40-0.60"]
    for wrong in ((0, None), (1, -1), (float("nan"), None)):
        with pytest.raises(UserError, match="windows need seconds and a step above 0"):
            source.cut(*wrong)


@pytest.mark.parametrize("kind", ["mkv", "flv", "mp4"])
def test_windows_end_with_the_frames_not_with_the_sound(tmp_path, kind):
    put(tmp_path, {f"a.{kind}": made(0, kind, sound=True)})  # 0.8 s of frames, 1 s of sound
    windows = videos(tmp_path).cut(0.2)
    assert len(windows) == 4
    assert not broken(windows)
    assert sum(len(windows.frames(i)) for i in range(4)) == N
    (whole,) = map(videos(tmp_path).cut(3).measured, [0])
    assert whole == pytest.approx((0, 0.8), abs=0.01)


def test_a_rate_shows_the_frame_of_each_moment(tmp_path):
    put(tmp_path, {"even.mp4": made(0), "jumpy.mp4": made(1, jumpy=True)})
    for name, shown, length in (("even.mp4", np.arange(N) * 0.04, 0.8), ("jumpy.mp4", np.array(JUMPY) / 1000, None)):
        whole = decoded(tmp_path / name)
        for rate in (5.0, 10, 25, 60):
            source = videos(tmp_path, rate=rate)
            i = keys(source).index(name)
            length = length or source.index_of(int(source.file[i])).length
            ticks = np.arange(int(np.ceil(length * rate - 1e-6))) / rate
            wanted = [int(np.flatnonzero(shown <= tick + 1e-4)[-1]) for tick in ticks]
            np.testing.assert_array_equal(source.frames(i), whole[wanted], err_msg=f"{name} at {rate}")
    for wrong in (0, -5, 2000):
        with pytest.raises(UserError, match="rate must be above 0 and at most 1,000"):
            videos(tmp_path, rate=wrong)
    with pytest.raises(UserError, match="max_side must be 4 or more pixels, got 3"):
        videos(tmp_path, max_side=3)


# --- held, remembered, sent


def damaged(kind="avi", frames=60):
    """A video whose header is whole and some of whose frames are not."""
    data = bytearray(made(5, kind, frames=frames))
    for place in len(data) // 3 + np.random.default_rng(3).integers(0, len(data) // 9, 40):
        data[place] ^= 0xFF
    return bytes(data)


def test_held_frames_are_those_that_are_decoded(three):
    put(three, {"3.avi": damaged()})
    source = videos(three, max_side=24)
    done = []
    held = source.hold(lambda *at: done.append(at))
    assert done == [(i + 1, 4) for i in range(4)]
    assert broken(held) == broken(source) == {"3.avi": held.held[3]}
    assert "60 frames can be read" in held.held[3]
    for path in three.iterdir():
        path.unlink()  # they are in memory
    for change in (lambda s: s, lambda s: s.subset([1, 0]), lambda s: s.cut(0.4), lambda s: s.ordered("reversed")):
        assert change(held).frames(0).shape[1:] == (24, 32, 3)
    assert held.bytes == 0
    assert held.hold() is held


def test_held_frames_equal(three):
    source = videos(three, max_side=24)
    held = source.hold()
    views = two_clips(size=16, frames=4, stride=2)
    for change in (
        lambda s: s,
        lambda s: s.subset([2, 0, 1]),
        lambda s: s.cut(0.3, 0.2),
        lambda s: s.sampled(views.moments).at(2),
        lambda s: s.sampled(views.moments).ordered("shuffled"),
    ):
        a, b = change(source), change(held)
        for i in range(len(a)):
            np.testing.assert_array_equal(a.frames(i), b.frames(i))
    assert sum(x.nbytes for x in held.held.values()) == pytest.approx(source.bytes, rel=0.05)
    assert videos(three).bytes == pytest.approx(57 * 48 * 64 * 3, rel=0.05)


def test_lists_of_frames_used_last_are_remembered(three, monkeypatch):
    monkeypatch.setattr("twoviews.data.videosource.KEPT", 2)
    source = videos(three)
    for i in (0, 1, 0, 2):
        source.index_of(i)
    assert list(source.indices) == [0, 2]  # 0 has been used since 1
    kept = source.indices[0]
    assert source.index_of(0) is kept
    assert list(source.indices) == [2, 0]


def test_chosen_items(three):
    source = videos(three, labels=["x", "y", "x"])
    chosen = source.subset(np.array([2, 0]))
    assert keys(chosen) == ["2.mp4", "0.mp4"]
    assert chosen.labels.tolist() == [0, 0]
    np.testing.assert_array_equal(chosen.frames(1), source.frames(0))
    assert keys(source.subset(np.array([False, True, False]))) == ["1.mp4"]
    assert len(source.subset([])) == 0


def test_changed_data_has_another_fingerprint(three):
    source = videos(three)
    first = source.fingerprint()
    assert first == videos(three).fingerprint() == pickle.loads(pickle.dumps(source)).fingerprint()
    others = [source.cut(0.4), source.cut(0.3, 0.4), source.subset([0, 1]), source.subset([1, 0, 2]),
              videos(three, max_side=24), videos(three, rate=10)]  # fmt: skip
    x = np.zeros((2, 3, 8, 8), np.uint8)
    found = [first, *(other.fingerprint() for other in (*others, videos(x), videos(x + 1)))]
    shutil.move(three / "2.mp4", three / "3.mp4")
    found.append(videos(three).fingerprint())
    put(three, {"3.mp4": made(3)})
    found.append(videos(three).fingerprint())
    assert len(set(found)) == len(found)


def _sum(source, index):
    return int(source.read(index).sum())


def test_workers_read_the_same(tmp_path):
    place = archives(tmp_path, {f"{i}.mp4": made(i, frames=8) for i in range(4)})[1]
    source = videos(place).cut(0.16)
    wanted = [_sum(source, i) for i in range(8)]
    assert len(set(wanted)) == 8
    again = pickle.loads(pickle.dumps(source))
    assert len(source.indices) == 4
    assert len(again.indices) == 0
    with get_context("fork").Pool(2) as workers:
        assert workers.starmap(_sum, [(source, i) for i in range(8)]) == wanted
    assert [_sum(again, i) for i in range(8)] == wanted


# --- bad input


def test_a_broken_video_is_left_out_with_its_reason_and_nothing_stands_in_for_it(tmp_path):
    half = made(1)[: len(made(1)) // 2]
    files = {"a.mp4": made(0), "b_text.mp4": b"a word\n" * 99, "c_half.mp4": half, "d_empty.mkv": b"", "e.mp4": made(2),
             "f_flipped.avi": damaged()}  # fmt: skip
    put(tmp_path, files)
    write_sound(tmp_path / "g_voice.mp4")
    with av.open(str(tmp_path / "h_none.avi"), "w") as out:
        stream = out.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        out.start_encoding()
    source = videos(tmp_path)
    assert keys(source) == ["a.mp4", "e.mp4", "f_flipped.avi"]
    found = broken(source)
    for key, reason in (
        ("b_text.mp4", "a text, not a video"),
        ("c_half.mp4", "cut short: "),
        ("d_empty.mkv", "empty: it has no bytes"),
        ("f_flipped.avi", "damaged or cut short: "),
        ("g_voice.mp4", "no video in it"),
        ("h_none.avi", "it has no frames"),
    ):
        assert found.pop(key).startswith(reason)
    assert not found
    assert "5 are left out: b_text.mp4: a text, not a video; c_half.mp4: " in notes_of_videos(source)[-1]
    np.testing.assert_array_equal(source.frames(1), decoded(tmp_path / "e.mp4"))
    part = source.subset([2]).cut(0.2)  # what does not rest on the damage is read
    whole = videos(put(tmp_path / "w", {"f.avi": made(5, "avi", frames=60)})).cut(0.2)
    np.testing.assert_array_equal(part.frames(0), whole.frames(0))
    assert any(key.startswith("f_flipped.avi#") for key in broken(part))


def test_data_without_a_video_is_one_line(tmp_path):
    (tmp_path / "none").mkdir()
    put(tmp_path, {"words/a.txt": b"", "bad/a.mp4": b"text", "bad/b.mp4": b"text", "one.mp4": made(0)})
    for data, reason in (
        (tmp_path / "none", "folder '.*none' is empty"),
        (tmp_path / "words", "no videos in folder '.*words': it holds"),
        (tmp_path / "nowhere", "nowhere"),
        (tmp_path / "bad", "none of 2 videos in bad can be read; the first, a.mp4: a text, not a video"),
        ("https://example.org/x.zip", "videos are read from this machine"),
    ):
        with pytest.raises(DataError, match=reason) as found:
            videos(data)
        assert "\n" not in str(found.value)


# --- all of it looked at


def test_check_says_what_is_there(tmp_path):
    still = np.repeat(pattern(1), N, 0)
    files = {"train/run/a.mp4": made(0), "train/sit/b.mp4": made(1), "train/sit/jumpy.mp4": made(2, jumpy=True),
             "test/run/c.mkv": made(0, "mkv"), "test/sit/d.mp4": made(1), "test/run/text.mp4": b"text",
             "test/run/x.mp4": made(3), "test/run/y.mp4": made(3), "test/run/flipped.avi": damaged()}  # fmt: skip
    put(tmp_path, files)
    write_video(tmp_path / "test/run/still.mkv", still, codec="ffv1", pixels="bgr0")
    write_video(tmp_path / "train/run/two.mp4", pattern(N, 96, 128), more=[pattern(5)])
    turn(write_video(tmp_path / "train/run/up.mp4", pattern(7)), 90)
    write_sound(tmp_path / "test/sit/voice.mp4")
    done = []
    report = check_videos(videos(tmp_path), workers=1, progress=lambda *at: done.append(at))
    assert done == [(i + 1, 11) for i in range(11)]
    assert (report.count, report.readable, report.videos, report.whole) == (13, 10, 10, False)
    assert [key for key, _ in report.broken] == ["test/run/text.mp4", "test/sit/voice.mp4", "test/run/flipped.avi"]
    assert report.frames == (7, 20, 20)
    assert report.total == 9 * N + 7
    assert report.length == (pytest.approx(0.28), pytest.approx(0.8), pytest.approx(1.54, abs=0.05))
    assert report.hours * 3600 == pytest.approx(8 * 0.8 + 0.28 + report.length[2])
    assert report.sizes == {"64 x 48": 8, "128 x 96": 1, "48 x 64": 1}
    assert report.rates.pop(25.0) == 9
    assert len(report.rates) == 1
    assert report.formats == {"mp4": 8, "matroska": 2}
    assert report.codecs == {"h264": 9, "ffv1": 1}
    assert (report.variable, report.several, report.turned, report.still) == (1, 1, 1, 1)
    assert sorted(map(sorted, report.duplicates)) == [
        ["test/run/c.mkv", "train/run/a.mp4"], ["test/run/x.mp4", "test/run/y.mp4"],
        ["test/sit/d.mp4", "train/sit/b.mp4"],
    ]  # fmt: skip
    assert report.in_train == {"test": 2}  # x and y are one another, and neither is in train
    assert report.labels == {"run": 7, "sit": 3}
    assert report.unlabelled == 0
    assert json.loads(json.dumps(report.to_dict()))["rates"].keys() == {str(rate) for rate in report.rates}
    text = "\n".join(report.lines())
    for line in (
        "13 videos, 0.14 minutes, 187 frames",
        "length     0.28 to 1.54 s, median 0.80",
        "frames     7 to 20, median 20",
        "sizes      64 x 48: 8",
        "variable   1 have frames at uneven times",
        "turned     1 are noted to be shown turned, and are read so",
        "still      1 have one picture in all their frames",
        "note       1 have several video streams, of which the best is read",
        "classes    2: run: 7, sit: 3",
        "duplicates 3 videos have the very frames of another",
        "test       2 of its videos have the very frames of one in train",
        "broken     3 videos cannot be read",
        "  test/run/flipped.avi: damaged or cut short: ",
    ):
        assert line in text


def test_check_of_stretches_and_of_arrays(three):
    source = videos(three, rate=5, max_side=24)
    whole = check_videos(source)
    assert whole.whole
    assert (whole.total, whole.sizes) == (57, {"64 x 48": 3})  # every frame there is, sizes as in the files
    report = check_videos(source.cut(0.4))
    assert (report.readable, report.videos, report.total) == (6, 3, 57)
    assert report.length == (pytest.approx(0.28), pytest.approx(0.4), pytest.approx(0.4))
    assert sum(report.sizes.values()) == sum(report.codecs.values()) == 3
    assert "6 stretches of 3 videos" in report.lines()[0]
    x = np.stack([pattern(6, 16, 24, seed) for seed in (0, 1, 0)])
    report = check_videos(videos((x, [0, 1, -1])))
    assert (report.length, report.hours, report.frames, report.sizes) == (None, 0, (6, 6, 6), {"24 x 16": 3})
    assert report.duplicates == [["0", "2"]]
    assert (report.labels, report.unlabelled) == ({"0": 1, "1": 1}, 1)
    assert report.lines()[0].startswith("array: 3 videos, 18 frames")


def test_a_damaged_video_may_have_whole_stretches(tmp_path):
    put(tmp_path, {"f.avi": damaged()})
    assert check_videos(videos(tmp_path)).to_dict()["readable"] == 0
    report = check_videos(videos(tmp_path).cut(0.2))
    assert 0 < len(report.broken) < report.count
    assert len(report.broken) + report.readable == report.count


@pytest.mark.parametrize(
    ("name", "frames", "size", "rate", "codec"),
    [
        ("multi_stream_nasa_13013.mp4", 390, "480 x 270", 29.97, "h264"),
        ("nasa_13013_rotated.mp4", 17, "270 x 480", 29.97, "h264"),
        ("test_non_zero_start.mp4", 12, "200 x 112", None, "h264"),
        ("testsrc2_vp9.webm", 30, "1280 x 720", 30.0, "vp9"),
    ],
)
def test_check_of_hard_cases(tmp_path, name, frames, size, rate, codec):
    path = DATA / "video" / "decoder_cases" / name
    if not path.exists():
        pytest.skip(f"{name} is not there; set TWOVIEWS_DATA to the folder of the data sets")
    os.symlink(path, tmp_path / name)
    report = check_videos(videos(tmp_path, max_side=64), workers=1)
    assert report.whole
    assert (report.total, report.sizes, report.codecs) == (frames, {size: 1}, {codec: 1})
    assert rate is None or report.rates == {rate: 1}
    assert (report.several, report.turned, report.variable) == ("multi" in name, "rotated" in name, 0)


@pytest.mark.parametrize("kind", ["large", "dictionary"])
def test_a_list_as_other_libraries_write_it(kind, three, tmp_path):
    paths = pa.array([str(path) for path in sorted(three.iterdir())][:2])
    paths = paths.cast(pa.large_string()) if kind == "large" else paths.dictionary_encode()
    pq.write_table(pa.table({"file": paths, "start": [0.0, 0.2], "end": [0.2, 0.4]}), tmp_path / "list.parquet")
    assert is_video(tmp_path / "list.parquet")
    assert len(videos(tmp_path / "list.parquet")) == 2


def test_the_splits_of_a_list_stay_beside_a_table_of_labels(three, tmp_path):
    names = [path.name for path in sorted(three.iterdir())][:2]
    rows = "".join(f"{three}/{name},{part}\n" for name, part in zip(names, ("train", "test"), strict=True))
    (tmp_path / "list.csv").write_text("file,split\n" + rows)
    (tmp_path / "labels.csv").write_text("file,label\n" + "".join(f"{three}/{n},{n}\n" for n in names))
    assert splits(tmp_path / "list.csv", tmp_path / "labels.csv") == ["train", "test"]
    with pytest.raises(UserError, match="windows need"):
        videos(three).cut(float("inf"))
