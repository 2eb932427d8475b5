"""Whole runs on videos: every encoder trains, what is left out is listed, a stop changes nothing."""

import csv
import json
from dataclasses import replace
from functools import partial

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from madevideos import pattern, write_video
from safetensors.torch import save_file

from twoviews import embed, evaluate, train
from twoviews.api import demo, shortfall
from twoviews.checkpoint import load_encoder, read_run
from twoviews.data.clipviews import one_clip
from twoviews.data.loader import Loader
from twoviews.data.videos import videos
from twoviews.data.views import center
from twoviews.encoders import CLIP_ENCODERS
from twoviews.encoders.vit import vit
from twoviews.errors import DataError, UserError
from twoviews.fit_videos import held_out
from twoviews.others import other_videos
from twoviews.recipes.videos import video_cpc
from twoviews.run import Run

TINY = {"epochs": 1, "views.size": 32, "views.frames": 4, "views.stride": 1, "batch_size": 8, "memory": True}
NET = {"encoder.stem": 4, "encoder.width": 16, "encoder.dim": 16}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """24 videos of two kinds of motion, one that is broken and one that is a text."""
    root = tmp_path_factory.mktemp("clips")
    for i in range(24):
        kind = ("still", "moving")[i % 2]
        (root / kind).mkdir(exist_ok=True)
        clip = pattern(12, seed=i)
        write_video(root / kind / f"{i}.mp4", clip if i % 2 else np.repeat(clip[:1], 12, 0))
    whole = (root / "still" / "0.mp4").read_bytes()
    (root / "still" / "cut.mp4").write_bytes(whole[: len(whole) // 2])
    (root / "moving" / "notes.mp4").write_text("no video")
    return root


def test_broken_videos_are_listed_and_others_are_embedded_whole_or_in_windows(folder, tmp_path):
    result = train(folder, out=tmp_path / "run", quiet=True, recipe="video_cpc", settings=TINY | NET)
    with open(result.folder / "skipped.csv") as file:
        assert {row["key"] for row in csv.DictReader(file)} == {"still/cut.mp4", "moving/notes.mp4"}
    assert all("NaN" not in path.read_text() for path in result.folder.glob("*.json*"))
    assert (result.folder / "index.html").exists()
    rows = " ".join(json.loads((result.folder / "evaluation.json").read_text())["rows"])
    assert "shuffled" in rows
    assert "reversed" in rows
    table = evaluate(result.folder, quiet=True)
    assert table.to_json()["rows"] == result.table.to_json()["rows"]
    whole = pq.read_table(embed(result.folder, folder, out=tmp_path / "whole.parquet", quiet=True))
    assert len(whole) == 24
    windows = embed(result.folder, folder, out=tmp_path / "w.parquet", windows=0.16, step=0.08, quiet=True)
    found = pq.read_table(windows).to_pylist()
    assert len(found) == 24 * 6  # the last of half the length
    assert {(round(row["begin"], 2), round(row["end"], 2)) for row in found} >= {(0.0, 0.16), (0.08, 0.24)}


@pytest.mark.parametrize("name", [*CLIP_ENCODERS])
def test_every_encoder_trains_with_labels(name, tmp_path):
    clips = np.random.default_rng(0).integers(0, 255, (24, 8, 32, 32), np.uint8)
    settings = TINY | {"method": "supervised", "encoder": name, "views.frames": 8}
    if name == "swin3d":
        pytest.importorskip("torchvision")
    elif name != "frame_net":
        settings |= {"encoder.size": "test"}
    result = train((clips, ["a", "b"] * 12), out=tmp_path / "run", quiet=True, recipe="video_mae", settings=settings)
    assert result.table is not None
    encoder = load_encoder(result.folder, torch.device("cpu"))
    x = torch.randn(2, 3, 8, 32, 32)
    assert encoder(x).shape == (2, encoder.dim)
    assert encoder.tokens(x).shape[::2] == (2, encoder.dim)


@pytest.mark.parametrize("recipe", ["video_mae", "video_simclr", "video_moco", "video_cpc"])
def test_every_recipe_trains_without_labels(recipe, tmp_path):
    clips = np.random.default_rng(0).integers(0, 255, (24, 8, 32, 32, 3), np.uint8)
    more = NET if recipe == "video_cpc" else {"encoder.size": "test"}
    more |= {"method.queue": 32} if recipe == "video_moco" else {}
    more |= {"method.decoder_dim": 32, "method.decoder_depth": 1} if recipe == "video_mae" else {}
    result = train(clips, out=tmp_path / "run", quiet=True, recipe=recipe, settings=TINY | more)
    assert result.diagnosis is not None


def test_a_stop_changes_nothing(folder, tmp_path, monkeypatch):
    how = {"recipe": "video_cpc", "quiet": True, "settings": TINY | NET | {"epochs": 3}}
    whole = train(folder, out=tmp_path / "whole", **how)

    class Stop(Exception):
        pass

    epochs = Loader.epoch

    def broken(self, epoch, start=0):
        if epoch == 2:
            raise Stop
        return epochs(self, epoch, start)

    monkeypatch.setattr(Loader, "epoch", broken)
    with pytest.raises(Stop):
        train(folder, out=tmp_path / "part", **how)
    monkeypatch.setattr(Loader, "epoch", epochs)
    part = train(folder, out=tmp_path / "part", **how)
    for (name, a), b in zip(whole.method.state_dict().items(), part.method.state_dict().values(), strict=True):
        assert torch.equal(a, b), name


def test_a_run_goes_on_without_the_file_of_weights_it_began_from(tmp_path):
    clips = np.random.default_rng(0).integers(0, 255, (24, 4, 32, 32, 3), np.uint8)
    start, size = tmp_path / "start.safetensors", {"image": 32, "patch": 8, "size": "test"}
    save_file(vit(**size).state_dict(), start)
    net = {f"encoder.{name}": value for name, value in size.items()}
    how = {"recipe": "video_simclr", "quiet": True, "settings": TINY | net | {"encoder.weights": str(start)}}
    train(clips, out=tmp_path / "run", **how)
    start.unlink()
    for file in (tmp_path / "run").glob("evaluation.json"):
        file.unlink()
    again = train(clips, out=tmp_path / "run", **how)
    assert again.table is not None
    with pytest.raises(UserError, match="start.safetensors"):
        train(clips, out=tmp_path / "other", **how)


def test_readers_in_processes_and_memory_give_the_same(folder, tmp_path):
    runs = [
        train(folder, out=tmp_path / str(i), recipe="video_cpc", quiet=True, settings=TINY | NET | how)
        for i, how in enumerate(({"memory": True}, {"memory": False, "workers": 2}))
    ]
    one, other = (list(run.method.state_dict().values()) for run in runs)
    assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_stretches_of_one_video_are_held_out_together(folder, tmp_path):
    rows = [f"{kind}/{i}.mp4,{t / 25},{(t + 4) / 25},{kind}" for i in range(24) for t in (0, 4, 8) for kind in KINDS(i)]
    (folder / "list.csv").write_text("file,start,end,label\n" + "\n".join(rows))
    source = videos(folder / "list.csv")
    assert len(source) == 72
    run = video_cpc(str(folder / "list.csv"))
    rest, held = held_out(run, source)
    assert len(rest) + len(held) == 72
    assert len(held) % 3 == 0
    assert not set(rest.file) & set(held.file)


def KINDS(i):
    return [("still", "moving")[i % 2]]


def test_what_does_not_fit_is_one_line(folder, tmp_path):
    for settings, words in (
        ({"test_view": "center"}, "'test_view' cannot be 'center'"),
        ({"test_view": partial(center, size=32)}, "videos need views=one_clip"),
        ({"encoder": "vivit1", "encoder.patch": 5}, "do not divide"),
        ({"encoder": "vivit4", "encoder.size": "tiny"}, "a size with an even number"),
        ({"method": "simclr"}, "SimCLR compares two views, got 1: .*two_clips"),
        ({"encoder": "wave"}, "reads sounds"),
        ({"encoder": "resnet18"}, "encoder=resnet18 reads no clips; choose one of vivit1, vivit2"),
        ({"views.frames": 0}, "frames must be"),
    ):
        with pytest.raises(UserError, match=words):
            train(folder, out=tmp_path / "run", recipe="video_cpc", quiet=True, settings=TINY | settings)
    photos = np.random.default_rng(0).integers(0, 255, (40, 32, 32, 3), np.uint8)
    result = train(photos, out=tmp_path / "photos", quiet=True, settings={"epochs": 1})
    with pytest.raises(UserError, match="for runs on videos"):
        embed(result, photos, out=tmp_path / "x.parquet", windows=1.0, quiet=True)


def test_photos_train_by_mae_and_with_a_vit(tmp_path):
    photos = np.random.default_rng(0).integers(0, 255, (40, 32, 32, 3), np.uint8)
    small = {"epochs": 1, "batch_size": 8}
    result = train(photos, out=tmp_path / "mae", recipe="mae", quiet=True, settings=small)
    assert embed(result.folder, photos_file(tmp_path, photos), out=tmp_path / "x.npy", quiet=True).exists()
    settings = small | {"encoder": "vit", "encoder.size": "test", "encoder.patch": 8}
    assert train(photos, out=tmp_path / "simclr", quiet=True, settings=settings).table is not None


def test_one_video_is_embedded_in_windows_and_photos_are_no_clips(folder, tmp_path):
    run = train(folder, out=tmp_path / "run", quiet=True, recipe="video_cpc", settings=TINY | NET).folder
    film = folder / "moving" / "1.mp4"
    assert len(pq.read_table(embed(run, film, out=tmp_path / "w.parquet", windows=0.16, quiet=True))) == 3
    with pytest.raises(UserError, match="1.mp4.* has 1 clips: give 8 videos or more"):
        train(film, out=tmp_path / "other", quiet=True)
    photos = np.random.default_rng(0).integers(0, 255, (40, 32, 32, 3), np.uint8)
    with pytest.raises(UserError, match="is of photos"):
        embed(run, photos_file(tmp_path, photos), out=tmp_path / "x.npy", quiet=True)


@pytest.mark.parametrize("memory", [True, False])
def test_no_video_stands_in_for_a_broken_one(memory, tmp_path):
    """Found out while decoding alone: its header and its list of frames are whole."""
    for i in range(9):
        write_video(tmp_path / f"{i}.avi", pattern(30, seed=i), codec="mpeg4", gop=30)
    whole = (tmp_path / "3.avi").read_bytes()
    at = whole.index(b"movi") + 200
    (tmp_path / "3.avi").write_bytes(whole[:at] + bytes(len(whole) // 2) + whole[at + len(whole) // 2 :])
    views = one_clip(size=16, frames=4, stride=1)
    source = videos(tmp_path).sampled(views.moments)
    loader = Loader(source, views, 8 if memory else 9, memory=memory, workers=0)
    ids = [i for batch in loader.epoch(0) for i in batch.ids.tolist()]
    assert len(ids) == len(set(ids)) == 8
    assert 3 not in ids
    assert [*loader.skipped] == ["3.avi"]


def test_a_batch_of_broken_videos_does_not_end_the_training(tmp_path):
    """A step needs one video: only there the next that can be read stands in."""
    for i in range(6):
        write_video(tmp_path / f"{i}.avi", pattern(30, seed=i), codec="mpeg4", gop=30)
    for i in range(1, 6):
        whole = (tmp_path / f"{i}.avi").read_bytes()
        at = whole.index(b"movi") + 200
        (tmp_path / f"{i}.avi").write_bytes(whole[:at] + bytes(len(whole) // 2) + whole[at + len(whole) // 2 :])
    views = one_clip(size=16, frames=4, stride=1)
    loader = Loader(videos(tmp_path).sampled(views.moments), views, 2, memory=False, workers=0)
    assert [batch.ids.tolist() for batch in loader.epoch(0)] == [[0]] * 3
    assert sorted(loader.skipped) == [f"{i}.avi" for i in range(1, 6)]


def test_broken_videos_of_a_test_split_are_listed(tmp_path):
    for i in range(24):
        path = tmp_path / "data" / ("test" if i % 3 == 0 else "train") / "ab"[i % 2] / f"{i}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_video(path, pattern(12, seed=i))
    (tmp_path / "data/test/a/bad.mp4").write_text("no video")
    result = train(tmp_path / "data", out=tmp_path / "run", quiet=True, recipe="video_cpc", settings=TINY | NET)
    with open(result.folder / "skipped.csv") as file:
        assert [row["key"].rpartition("/")[2] for row in csv.DictReader(file)] == ["bad.mp4"]
    assert any("bad.mp4" in note for note in result.table.notes)
    assert any("bad.mp4" in note for note in evaluate(result.folder, quiet=True).notes)


def test_others_are_measured_by_the_column_that_the_run_has(folder, tmp_path):
    rows = [f"{folder}/{('still', 'moving')[i % 2]}/{i}.mp4,{i},{'xy'[i % 2]}" for i in range(24)]
    (tmp_path / "list.csv").write_text("file,label,scene\n" + "\n".join(rows))
    how = TINY | NET | {"data.label": "scene"}
    run = train(tmp_path / "list.csv", out=tmp_path / "run", quiet=True, recipe="video_cpc", settings=how).folder
    source, _ = other_videos(tmp_path / "list.csv", None, Run.from_json(read_run(run)["run"]))
    assert source.classes == ["x", "y"]


def test_videos_of_which_none_has_a_frame_are_one_line(folder, tmp_path):
    rows = [f"{folder}/{('still', 'moving')[i % 2]}/{i}.mp4,2000,2500" for i in range(24)]  # milliseconds, for seconds
    (tmp_path / "list.csv").write_text("file,start,end\n" + "\n".join(rows))
    for memory in (True, False):
        with pytest.raises(DataError, match=r"none of .* videos could be read; .*no frame from 2000.00 to 2500.00 s"):
            train(tmp_path / "list.csv", out=tmp_path / "run", quiet=True, settings=TINY | {"memory": memory})


def test_what_evaluation_cannot_read_is_said(folder, tmp_path):
    run = train(folder, out=tmp_path / "run", quiet=True, recipe="video_cpc", settings=TINY | NET).folder
    assert any("Left out, for they cannot be read: 2, " in note for note in evaluate(run, folder, quiet=True).notes)
    (tmp_path / "flat").mkdir()
    for i in range(12):
        (tmp_path / "flat" / f"{i}.mp4").symlink_to(folder / ("still", "moving")[i % 2] / f"{i}.mp4")
    assert "of 12 videos" in evaluate(run, tmp_path / "flat", quiet=True).notes[0]  # without labels all are judged


def photos_file(folder, photos):
    np.save(folder / "photos.npy", photos)
    return folder / "photos.npy"


def test_the_demo_says_where_it_falls_short(tmp_path):
    small = {"epochs": 1, "batch_size": 16, "data.count": 64, "test.count": 60}
    table = demo("video", out=tmp_path / "run", quiet=True, settings=small).table
    assert "does not halve the errors" in shortfall(table)
    rows = table.rows
    for row, value in (("ours, h", 0.96), ("ours, h, shuffled", 0.3), ("the same encoder, untrained", 0.9)):
        rows[row] = rows[row] | {"linear": replace(rows[row]["linear"], value=value)}
    assert shortfall(table) is None
    rows["ours, h, shuffled"] = rows["ours, h"]
    assert "shuffled" in shortfall(table)
