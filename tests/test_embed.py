"""Embedding: what is read, viewed and written, and that a kill costs nothing."""

import csv
import errno
import json
import multiprocessing
import os
import signal
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from twoviews.data.image import photos
from twoviews.data.views import center
from twoviews.errors import BrokenItem, DataError, UserError
from twoviews.evaluate import formats, store
from twoviews.evaluate.embed import batches, features, features_of, model, raw_pixels, slices
from twoviews.evaluate.formats import save_embeddings
from twoviews.evaluate.store import embed_to
from twoviews.types import Features

BROKEN = {3: "cut short", 11: "empty", 12: "not a photo"}
VIEW = center(8)


class Noise:
    """Photos of random sizes and pixels; some cannot be read, every fifth has no label."""

    name, classes = "noise", ["cat", "dog", "owl"]

    def __init__(self, items=30, broken=(3, 11, 12), seed=0, kill_at=None):
        self.items, self.broken, self.seed, self.kill_at = items, broken, seed, kill_at
        self.labels = np.where(np.arange(items) % 5 == 4, -1, np.arange(items) % 3)
        self.asked = []

    def __len__(self):
        return self.items

    def key(self, index):
        return f"folder,1/é{index}.jpg"

    def fingerprint(self):
        return f"{self.items} {self.seed}"

    def read(self, index):
        self.asked.append(index)
        if index == self.kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        if index in self.broken:
            raise BrokenItem(BROKEN[index])
        g = torch.Generator().manual_seed(self.seed * 1000 + index)
        h, w = torch.randint(6, 20, (2,), generator=g).tolist()
        return torch.randint(0, 256, (3, h, w), generator=g, dtype=torch.uint8)


class Net(nn.Module):
    """A small encoder with BatchNorm and dropout, so that eval mode matters."""

    dim = 5

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.norm, self.drop = nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5), nn.Dropout(0.5)

    def forward(self, x):
        return self.drop(self.norm(self.conv(x))).mean((2, 3))


class Head(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(1)
        self.layers = nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4))

    def project(self, h):
        return self.layers(h)


def alone(net, source, index):
    """An item's embedding computed by itself."""
    image = source.read(index)
    x = VIEW(image[None], torch.tensor([image.shape[1:]]))[0]
    with torch.no_grad():
        return net.eval()(x)[0]


def good(source):
    return [i for i in range(len(source)) if i not in source.broken]


def test_features_are_those_of_each_item_alone():
    source, net, skipped, steps = Noise(), Net(), {}, []
    out = features(
        model(net), source, VIEW, batch_size=7, skipped=skipped, progress=lambda done, n: steps.append((done, n))
    )
    kept = good(source)
    assert out.keys == [source.key(i) for i in kept]
    assert out.labels.tolist() == source.labels[kept].tolist()
    assert out.classes == source.classes
    assert out.z is None
    expected = torch.stack([alone(net, source, i) for i in kept])
    torch.testing.assert_close(out.h, expected, atol=1e-6, rtol=1e-5)
    assert skipped == {source.key(i): reason for i, reason in BROKEN.items()}
    assert steps == [(7, 30), (14, 30), (21, 30), (28, 30), (30, 30)]


def test_workers_give_the_same_features():
    source, net = Noise(), model(Net())
    skipped = {}
    here, there = (
        features(net, source, VIEW, batch_size=7),
        features(net, source, VIEW, batch_size=7, workers=2, skipped=skipped),
    )
    assert torch.equal(here.h, there.h)
    assert here.keys == there.keys
    assert len(skipped) == 3


def test_several_models_read_each_item_once():
    source = Noise(broken=())
    out = features_of({"raw": raw_pixels, "net": model(Net())}, source, VIEW, batch_size=8)
    assert source.asked == list(range(30))
    assert out["raw"].h.shape == (30, 3 * 8 * 8)
    assert out["net"].h.shape == (30, 5)
    assert out["raw"].keys == out["net"].keys


def test_a_batch_of_broken_items_alone_is_skipped():
    out = features(model(Net()), Noise(), VIEW, batch_size=1)
    assert len(out) == 27


def test_nothing_readable_is_an_error():
    with pytest.raises(DataError, match="none of the 2 items of noise could be read; the first, .*: no"):
        features(raw_pixels, _all_broken(2), VIEW)
    with pytest.raises(DataError, match="noise has no items"):
        features(raw_pixels, Noise(0), VIEW)


def _all_broken(items):
    source = Noise(items, broken=range(items))
    source.read = _refuse
    return source


def _refuse(index):
    raise BrokenItem("no")


def test_model_reads_in_eval_mode_and_leaves_modes_and_statistics_as_they_were():
    net, head = Net().train(), Head().train()
    net.norm.eval()  # a frozen layer stays frozen
    before = {k: v.clone() for k, v in (net.state_dict() | head.state_dict()).items()}
    run = model(net, head.project)
    x = torch.randn(6, 3, 8, 8)
    h, z = run(x)
    assert (h.shape, z.shape) == ((6, 5), (6, 4))
    assert torch.equal(h, run(x)[0])  # no dropout
    assert not h.requires_grad
    assert (net.training, net.norm.training, net.drop.training, head.layers[1].training) == (True, False, True, True)
    assert all(torch.equal(v, before[k]) for k, v in (net.state_dict() | head.state_dict()).items())


def test_model_under_autocast_gives_float32_close_by():
    net, x = Net(), torch.randn(6, 3, 8, 8)
    full, half = model(net)(x)[0], model(net, precision=torch.bfloat16)(x)[0]
    assert half.dtype == torch.float32
    assert not torch.equal(full, half)
    torch.testing.assert_close(full, half, atol=0.05, rtol=0.05)


def test_raw_pixels_are_area_averages_of_at_most_32():
    x = torch.rand(2, 3, 64, 64)
    h, z = raw_pixels(x)
    assert z is None
    assert h.shape == (2, 3 * 32 * 32)
    torch.testing.assert_close(h.view(2, 3, 32, 32), x.view(2, 3, 32, 2, 32, 2).mean((3, 5)))
    small = torch.rand(2, 3, 20, 20)
    assert torch.equal(raw_pixels(small)[0], small.flatten(1))


def test_batches_pad_and_keep_sizes():
    source = Noise()
    (batch,) = batches(source, slices(0, 5, 8))
    assert batch.ids.tolist() == [0, 1, 2, 4]
    for row, size, i in zip(batch.images, batch.sizes.tolist(), batch.ids.tolist(), strict=True):
        assert torch.equal(row[:, : size[0], : size[1]], source.read(i))


def read_back(path):
    """(keys, labels with None, class names, h) of an embedding file of any kind."""
    if path.suffix == ".parquet":
        table = pq.read_table(path).to_pydict()
        return table["key"], table["label"], table["class"], np.array(table["embedding"], np.float32)
    with path.with_name(path.name + ".keys.csv").open(newline="", encoding="utf-8") as f:
        rows = list(csv.DictReader(f))
    labels = [int(row["label"]) if row["label"] else None for row in rows]
    h = np.load(path, allow_pickle=False) if path.suffix == ".npy" else load_file(path)["h"].numpy()
    return [row["key"] for row in rows], labels, [row["class"] or None for row in rows], h


@pytest.mark.parametrize("kind", formats.WRITERS)
def test_file_holds_every_readable_item(tmp_path, kind):
    source, net, skipped = Noise(), Net(), {}
    path = tmp_path / "new" / f"out{kind}"
    n = embed_to(path, model(net), source, VIEW, identity="a", batch_size=4, part=10, skipped=skipped)
    expected = features(model(net), source, VIEW, batch_size=4)
    keys, labels, names, h = read_back(path)
    known = [i if i >= 0 else None for i in expected.labels.tolist()]
    assert n == len(expected) == 27
    assert keys == expected.keys
    assert labels == known
    assert names == [None if i is None else source.classes[i] for i in known]
    assert h.dtype == np.float32
    np.testing.assert_allclose(h, expected.h.numpy(), atol=1e-6)
    assert skipped == {source.key(i): reason for i, reason in BROKEN.items()}
    assert not list(path.parent.glob("*.parts"))
    assert not list(path.parent.glob("*.tmp"))
    if kind == ".parquet":
        assert pq.read_schema(path).field("embedding").type.list_size == 5
    if kind == ".safetensors":
        assert torch.equal(load_file(path)["labels"], expected.labels)


@pytest.mark.parametrize("kind", formats.WRITERS)
def test_saved_features_equal_streamed_ones(tmp_path, kind):
    source, net = Noise(), model(Net())
    embed_to(tmp_path / f"a{kind}", net, source, VIEW, identity="a", batch_size=30, part=30)
    save_embeddings(tmp_path / f"b{kind}", features(net, source, VIEW, batch_size=30))
    assert (tmp_path / f"a{kind}").read_bytes() == (tmp_path / f"b{kind}").read_bytes()


@pytest.mark.parametrize("kind", formats.WRITERS)
def test_no_labels_no_columns(tmp_path, kind):
    path = tmp_path / f"out{kind}"
    save_embeddings(path, Features(torch.rand(4, 2), ["a", "b", "c", "d"]))
    if kind == ".parquet":
        assert pq.read_schema(path).names == ["key", "embedding"]
    else:
        assert path.with_name(path.name + ".keys.csv").read_text() == "key\na\nb\nc\nd\n"


def _embed_until_killed(path, kill_at, threads):
    torch.set_num_threads(threads)
    embed_to(path, model(Net()), Noise(kill_at=kill_at), VIEW, identity="a", batch_size=4, part=10)


@pytest.mark.parametrize("kind", formats.WRITERS)
def test_a_killed_embed_goes_on_and_ends_byte_identical(tmp_path, kind):
    whole, path = tmp_path / f"whole{kind}", tmp_path / f"out{kind}"
    embed_to(whole, model(Net()), Noise(), VIEW, identity="a", batch_size=4, part=10)
    process = multiprocessing.get_context("spawn").Process(
        target=_embed_until_killed, args=(path, 25, torch.get_num_threads())
    )
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert not path.exists()

    source, skipped = Noise(), {}
    embed_to(path, model(Net()), source, VIEW, identity="a", batch_size=4, part=10, skipped=skipped)
    assert source.asked == list(range(20, 30))  # the first two parts were there
    assert len(skipped) == 3  # also those met before the kill
    assert path.read_bytes() == whole.read_bytes()
    if kind != ".parquet":
        sidecars = [p.with_name(p.name + ".keys.csv").read_bytes() for p in (path, whole)]
        assert sidecars[0] == sidecars[1]


class Stop(Exception):
    pass


def stopped(path, source=None, identity="a", part=10):
    """Embed and stop after the first part."""

    def progress(done, total):
        if done > 10:
            raise Stop

    with pytest.raises(Stop):
        embed_to(
            path, model(Net()), source or Noise(), VIEW, identity=identity, batch_size=5, part=part, progress=progress
        )


@pytest.mark.parametrize(
    "change", [{}, {"identity": "b"}, {"source": Noise(seed=1)}, {"part": 6}, {"source": Noise(29)}]
)
def test_parts_of_something_else_are_thrown_away(tmp_path, change):
    path = tmp_path / "out.npy"
    stopped(path)
    assert (tmp_path / "out.npy.parts" / "000000.safetensors").exists()
    how = {"source": Noise(), "identity": "a", "part": 10} | change
    source = how.pop("source")
    source.asked.clear()
    embed_to(path, model(Net()), source, VIEW, batch_size=5, **how)
    assert min(source.asked) == (0 if change else 10)
    expected = features(model(Net()), source, VIEW, batch_size=5).h
    np.testing.assert_allclose(np.load(path), expected.numpy(), atol=1e-6)


def test_a_damaged_part_is_made_again(tmp_path):
    path = tmp_path / "out.npy"
    stopped(path)
    part = tmp_path / "out.npy.parts" / "000000.safetensors"
    part.write_bytes(part.read_bytes()[:-20])
    source = Noise()
    embed_to(path, model(Net()), source, VIEW, identity="a", batch_size=5, part=10)
    assert source.asked == list(range(30))


def test_other_files_among_the_parts_are_left_alone(tmp_path):
    path = tmp_path / "out.npy"
    (tmp_path / "out.npy.parts").mkdir()
    mine = tmp_path / "out.npy.parts" / "notes.txt"
    mine.write_text("mine")
    embed_to(path, model(Net()), Noise(), VIEW, identity="a")
    assert mine.read_text() == "mine"
    assert [p.name for p in mine.parent.iterdir()] == ["notes.txt"]


def test_nothing_readable_leaves_nothing_behind(tmp_path):
    with pytest.raises(DataError, match="none of the 2 items"):
        embed_to(tmp_path / "out.npy", raw_pixels, _all_broken(2), VIEW, identity="a")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["out.csv", "out", "out.parquet.gz"])
def test_another_ending_is_refused_before_work_begins(tmp_path, name):
    source = Noise()
    with pytest.raises(UserError, match=r"end the name in \.parquet or \.npy or \.safetensors"):
        embed_to(tmp_path / name, raw_pixels, source, VIEW, identity="a")
    assert not source.asked
    with pytest.raises(UserError, match="end the name in"):
        save_embeddings(tmp_path / name, Features(torch.rand(2, 2), ["a", "b"]))


def test_a_folder_or_a_place_below_a_file_is_refused(tmp_path):
    (tmp_path / "out.npy").mkdir()
    with pytest.raises(UserError, match="is a folder"):
        embed_to(tmp_path / "out.npy", raw_pixels, Noise(), VIEW, identity="a")
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="could not be written"):
        embed_to(tmp_path / "file" / "out.npy", raw_pixels, Noise(), VIEW, identity="a")


def test_no_permission_is_one_line(tmp_path, monkeypatch):
    def refuse(*args, **kwargs):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", refuse)  # the super-user may write anywhere, so the refusal is made here
    source = Noise()
    with pytest.raises(UserError, match="no permission to write"):
        embed_to(tmp_path / "out.npy", raw_pixels, source, VIEW, identity="a")
    assert not source.asked


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here to be a full disk")
@pytest.mark.parametrize("kind", formats.WRITERS)
def test_a_full_disk_is_one_error_and_keeps_the_parts(tmp_path, kind):
    path = tmp_path / f"out{kind}"
    (tmp_path / f"{path.name}.tmp").symlink_to("/dev/full")
    with pytest.raises(UserError, match="the disk is full"):
        embed_to(path, raw_pixels, Noise(), VIEW, identity="a", part=10)
    assert not path.exists()
    assert len(list((tmp_path / f"{path.name}.parts").glob("*.safetensors"))) == 3

    source = Noise()
    embed_to(path, raw_pixels, source, VIEW, identity="a", part=10)
    assert not source.asked  # nothing is computed again
    assert len(read_back(path)[0]) == 27


def test_only_one_part_is_in_memory_when_parts_are_joined(tmp_path, monkeypatch):
    alive, most = 0, 0
    gather = store.gather

    class Counted(Features):
        def __del__(self):
            nonlocal alive
            alive -= 1

    def count(*args):
        nonlocal alive, most
        alive += 1
        most = max(most, alive)
        f = gather(*args)
        return Counted(f.h, f.keys, f.labels, f.classes)

    monkeypatch.setattr(store, "gather", count)
    for kind in (".npy", ".parquet"):
        embed_to(tmp_path / f"out{kind}", raw_pixels, Noise(), VIEW, identity="a", part=3, batch_size=3)
    assert most <= 2  # the one written and the one just read
    assert alive == 0


def test_the_stamp_says_what_the_parts_are_of(tmp_path):
    stopped(tmp_path / "out.npy", identity="resnet18 at step 100")
    stamp = json.loads((tmp_path / "out.npy.parts" / "stamp.json").read_text())
    assert stamp == {"source": Noise().fingerprint(), "model": "resnet18 at step 100", "part": 10}


def test_real_photos(cifar, tmp_path):
    source = photos(str(cifar), split="test").subset(np.arange(0, 10_000, 100))
    embed_to(tmp_path / "out.parquet", raw_pixels, source, center(32), identity="raw", part=30)
    table = pq.read_table(tmp_path / "out.parquet")
    assert len(table) == 100
    assert len(set(table["class"].to_pylist())) == 10
    key = table["key"][50].as_py()
    assert table["class"][50].as_py() in key
