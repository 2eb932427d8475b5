"""Shards: the same photos from tar and Parquet, path and URL, each once an epoch; what is broken costs no more."""

import gzip
import io
import json
import pickle
import tarfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

import twoviews
from twoviews.api import stem
from twoviews.build import sources
from twoviews.data import image, remote, shards, stream
from twoviews.data import loader as loader_module
from twoviews.data import plan as plan_module
from twoviews.data.check import check
from twoviews.data.image import photos, splits
from twoviews.data.loader import Loader
from twoviews.data.plan import Plan
from twoviews.data.tarindex import walk
from twoviews.data.views import two_crops
from twoviews.errors import BrokenItem, DataError, UserError
from twoviews.evaluate import split
from twoviews.evaluate.embed import batches, slices
from twoviews.log import Log
from twoviews.recipes import RECIPES

fsspec = pytest.importorskip("fsspec")
COUNTS = [11, 3, 20, 6]
N = sum(COUNTS)
VIEWS = two_crops(size=8)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("TWOVIEWS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(remote, "WAITS", (0, 0, 0))
    yield tmp_path / "cache"
    fsspec.filesystem("memory").store.clear()


def png(number):
    """A photo that tells its number; some are larger than others."""
    file = io.BytesIO()
    Image.fromarray(np.full((9 + number % 3, 12, 3), (number % 256, 100, 200), np.uint8)).save(file, "PNG")
    return file.getvalue()


def tar(members):
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for name, data in members:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return file.getvalue()


def tars(counts=COUNTS, label="cls", name="{:05}.tar"):
    """name -> bytes of shards as webdataset writes them, photos numbered through."""
    found, number = {}, 0
    for shard, count in enumerate(counts):
        members = []
        for n in range(number, number + count):
            members.append((f"{n:06}.png", png(n)))
            if label == "cls":
                members.append((f"{n:06}.cls", b"%d\n" % (n % 3)))
            else:
                members.append(
                    (
                        f"{n:06}.json",
                        json.dumps({"caption": "a photo", **({"label": "abc"[n % 3]} if label else {})}).encode(),
                    )
                )
        found[name.format(shard)] = tar(members)
        number += count
    return found


def tables(counts=COUNTS, group=4):
    found, number = {}, 0
    for shard, count in enumerate(counts):
        rows = range(number, number + count)
        column = pa.array([{"bytes": png(n), "path": None} for n in rows])
        file = io.BytesIO()
        pq.write_table(pa.table({"image": column, "label": [n % 3 for n in rows]}), file, row_group_size=group)
        found[f"{shard:05}.parquet"] = file.getvalue()
        number += count
    return found


def write(folder, files):
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


def upload(files, where="set"):
    for name, data in files.items():
        fsspec.filesystem("memory").pipe_file(f"/{where}/{name}", data)
    return f"memory://{where}"


def numbers(source):
    return [int(source.read(i)[0, 0, 0]) for i in range(len(source))]


def ids(batches):
    return [b.ids.tolist() for b in batches]


def load(source, batch=8, **how):
    return Loader(source, VIEWS, batch, seed=3, memory=False, **{"workers": 0, **how})


def one_line(message, data, kind=DataError):
    with pytest.raises(kind, match=message) as error:
        photos(data)
    assert "\n" not in str(error.value)


# the plan


@pytest.mark.parametrize(("batch", "window"), [(8, 5), (7, 1), (12, 1000), (40, 3)])
def test_a_plan_gives_each_item_at_most_once_in_lanes_of_one_length(batch, window):
    plan = Plan(np.array([0, 11, 3, 0, 20, 6]), batch, window, seed=1)
    orders = []
    for epoch in range(3):
        order = []
        for position in range(plan.steps * batch):
            lane, number = plan.place(position)
            _, first, stop = plan.bounds(lane, number)
            assert first <= number < stop <= first + window
            items = np.concatenate([np.arange(*run) for run in plan.runs(epoch, lane, first, stop)])
            assert len(items) == stop - first
            order.append(int(items[plan.shuffled(epoch, items)][number - first]))
        assert len(set(order)) == len(order) == N // batch * batch
        assert set(order) <= set(range(N))
        orders.append(order)
    assert orders[0] != orders[1] != orders[2]
    lanes = [plan.place(p)[0] for p in range(plan.steps * batch)]
    assert np.bincount(lanes).tolist() == [plan.length] * plan.lanes


def test_runs_are_neighbours_within_one_shard_and_few():
    counts = np.array([11, 3, 20, 6])
    plan, ends = Plan(counts, 4, 100, seed=0), np.cumsum(counts)
    runs = [run for lane in range(plan.lanes) for run in plan.runs(0, lane, 0, plan.length)]
    assert sum(stop - start for start, stop in runs) == N
    assert all(
        np.searchsorted(ends, start, side="right") == np.searchsorted(ends, stop - 1, side="right")
        for start, stop in runs
    )
    assert len(runs) <= len(counts) + plan.lanes + 1


def test_every_item_is_left_out_about_as_often():
    plan = Plan(np.array([50, 50]), 64, 1000, seed=0)
    seen = np.zeros(100)
    for epoch in range(300):
        for lane in range(plan.lanes):
            for start, stop in plan.runs(epoch, lane, 0, plan.length):
                seen[start:stop] += 1
    assert seen.sum() == 300 * 64
    assert (np.abs(seen - 192) < 5 * (300 * 0.64 * 0.36) ** 0.5).all()  # five deviations of a fair draw


def test_a_plan_of_a_billion_items_is_small_and_quick_to_enter():
    plan = Plan(np.full(100_000, 10_000), 4096, 500, seed=0)
    lane, number = plan.place(plan.steps * plan.batch - 1)
    assert (lane, number, plan.lanes) == (63, plan.length - 1, 64)
    assert sum(stop - start for start, stop in plan.runs(7, lane, number - 499, number + 1)) == 500
    assert Plan(np.array([10**6]), 65536, 500, seed=0).lanes == 1024


# sources


@pytest.mark.parametrize("label", ["cls", "json", None])
@pytest.mark.parametrize("where", ["folder", "pattern", "braces", "url", "url braces"])
def test_tars_give_one_thing(tmp_path, where, label):
    files = tars(label=label)
    data = {
        "folder": lambda: write(tmp_path / "p", files),
        "pattern": lambda: f"{write(tmp_path / 'p', files)}/*.tar",
        "braces": lambda: f"{write(tmp_path / 'p', files)}/{{00000..00003}}.tar",
        "url": lambda: upload(files),
        "url braces": lambda: upload(files) + "/{00000..00003}.tar",
    }[where]()
    source = photos(data)
    assert numbers(source) == list(range(N))
    assert source.shards().tolist() == COUNTS
    assert [source.key(i) for i in (0, 11, N - 1)] == [
        "00000.tar/000000.png",
        "00001.tar/000011.png",
        "00003.tar/000039.png",
    ]
    assert source.classes == {"cls": ["0", "1", "2"], "json": ["a", "b", "c"], None: None}[label]
    assert source.labels is None if label is None else source.labels.tolist() == [n % 3 for n in range(N)]
    again = photos(data)  # from the cache
    assert again.fingerprint() == source.fingerprint()
    assert numbers(again.subset([5, -1, 12])) == [5, N - 1, 12]
    assert numbers(pickle.loads(pickle.dumps(source))) == list(range(N))


@pytest.mark.parametrize("by_url", [True, False])
def test_parquet_gives_the_same(tmp_path, by_url, monkeypatch):
    monkeypatch.setattr(image, "STREAMED", 100)
    monkeypatch.setattr(shards, "ROWS", 3)
    source = photos(upload(tables()) if by_url else write(tmp_path / "p", tables()))
    assert numbers(source) == list(range(N))
    assert [numbers(source.subset([i]))[0] for i in (39, 13, 12, 0, 1)] == [39, 13, 12, 0, 1]
    assert (source.labels.tolist(), source.classes) == ([n % 3 for n in range(N)], ["0", "1", "2"])
    assert source.key(12) == "00001.parquet:1"
    want = load(photos(upload(tars(), "tars")))
    assert ids(load(source).epoch(1)) == ids(want.epoch(1))  # one order, whatever the format


def test_workers_share_no_open_file(tmp_path, monkeypatch):
    monkeypatch.setattr(image, "STREAMED", 100)
    monkeypatch.setattr(shards, "ROWS", 1)
    monkeypatch.setattr(shards, "RUN", 1)
    source = photos(write(tmp_path / "p", tables([800], group=5)))
    assert [int(source.read(i)[0, 0, 0]) for i in range(3)] == [0, 1, 2]  # a file is open now, at its fourth row
    rows = slices(3, 800, 8)
    for part, batch in zip(rows, batches(source, rows, workers=1), strict=True):  # both read on from there
        assert batch.images[:, 0, 0, 0].tolist() == [i % 256 for i in part]
        assert [int(source.read(i)[0, 0, 0]) for i in part] == [i % 256 for i in part]


def test_small_parquet_folders_are_held_as_before(tmp_path):
    assert photos(write(tmp_path / "p", tables())).shards() is None


def test_splits_by_name(tmp_path):
    files = tars([5, 4], name="train-{:05}.tar") | {"val/0.tar": tar([("9.png", png(9))])}
    data = write(tmp_path / "p", files)
    assert splits(data) == ["train", "val"]
    assert numbers(photos(data, split="train")) == list(range(9))
    assert photos(data, split="train").shards().tolist() == [5, 4, 0]
    assert photos(data, split="train").labels.tolist() == [n % 3 for n in range(9)]
    assert numbers(photos(data, split="val")) == [9]


def test_reading_in_order_asks_for_many_at_once(monkeypatch):
    source, asked = photos(upload(tars(label=None))), []
    read = remote.read
    monkeypatch.setattr(remote, "read", lambda *place: asked.append(place) or read(*place))
    numbers(source)
    assert len(asked) == 5  # the first item alone, then the rest of each shard
    loader = load(source)
    asked.clear()
    list(loader.epoch(0))
    assert len(asked) <= len(COUNTS) + 8 + 1  # a window a lane, cut where a shard ends


def test_a_shard_is_walked_once(monkeypatch, cache):
    data = upload(tars())
    walked = []
    monkeypatch.setattr("twoviews.data.tarindex.walk", lambda *a: walked.append(1) or walk(*a))
    first = photos(data).fingerprint()
    assert len(walked) == 4
    assert photos(data).fingerprint() == first
    assert len(walked) == 4
    upload({"00003.tar": tars([11, 3, 20, 7])["00003.tar"]})
    assert photos(data).fingerprint() != first
    assert len(walked) == 5
    for file in cache.rglob("*.npz"):
        with np.load(file, allow_pickle=False) as arrays:
            assert all(arrays[name].dtype != object for name in arrays)


def test_counts_that_img2dataset_wrote_are_believed_until_a_shard_is_opened(monkeypatch):
    files = tars(label=None)
    stats = {
        name.replace(".tar", "_stats.json"): json.dumps({"successes": n}).encode()
        for name, n in zip(files, COUNTS, strict=True)
    }
    data = upload(files | stats)
    walked = []
    monkeypatch.setattr("twoviews.data.tarindex.walk", lambda *a: walked.append(1) or walk(*a))
    source = photos(data)
    assert source.shards().tolist() == COUNTS
    assert len(walked) == 1  # that of the sample of photos
    assert numbers(source) == list(range(N))
    assert len(walked) == 4
    upload({"00003_stats.json": json.dumps({"successes": 9}).encode(), "00003.tar": files["00003.tar"] + bytes(512)})
    loader = load(photos(data), 43)
    assert sorted({i for batch in ids(loader.epoch(0)) for i in batch}) == list(range(N))
    assert loader.skipped == {"00003.tar": "holds fewer than was counted, 3 photos lost"}


# the order


def same(a, b):
    return len(a) == len(b) and all(
        torch.equal(x.ids, y.ids) and torch.equal(x.labels, y.labels) and all(map(torch.equal, x.views, y.views))
        for x, y in zip(a, b, strict=True)
    )


def test_workers_windows_held_and_the_start_change_nothing(tmp_path):
    source = photos(write(tmp_path / "p", tars()))
    whole = [b for e in range(2) for b in load(source).epoch(e)]
    assert all(len(set(sum(ids(part), []))) == N for part in (whole[:5], whole[5:]))
    for workers in (1, 2):
        assert same([b for e in range(2) for b in load(source, workers=workers).epoch(e)], whole)
    assert same(list(load(source, workers=1).epoch(1, start=3)), whole[8:])
    assert all(torch.equal(b.labels, b.ids % 3) for b in whole)


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize(("batch", "ranks"), [(8, 1), (8, 2), (12, 3), (20, 2)])
def test_ranks_share_what_one_would_see(monkeypatch, batch, ranks, accumulate):
    monkeypatch.setattr(stream, "WINDOW", 2000)
    source = photos(upload(tars()))
    whole = list(load(source, batch).epoch(0))
    monkeypatch.setattr(loader_module, "world", lambda: ranks)
    shares = []
    for rank in range(ranks):
        monkeypatch.setattr(loader_module, "rank", lambda rank=rank: rank)
        shares.append(list(load(source, batch, accumulate=accumulate).epoch(0)))
    for step, one in enumerate(whole):
        parts = [share[step * accumulate + m].ids for m in range(accumulate) for share in shares]
        assert torch.equal(torch.cat(parts), one.ids)


def test_a_small_set_of_shards_is_held_in_memory(tmp_path):
    source = photos(write(tmp_path / "p", tars()))
    loader = Loader(source, VIEWS, 8)
    assert loader.plan is None
    assert sorted(sum(ids(loader.epoch(0)), [])) == list(range(N))


def test_windows_bound_what_is_held(monkeypatch):
    monkeypatch.setattr(stream, "WINDOW", 4000)
    source = photos(upload(tars([60, 60, 60], label=None)))
    held, fetch = [], stream.Lane._fetch

    def counted(lane, *args):
        window = fetch(lane, *args)
        held.append(sum(map(len, window[1])))
        return window

    monkeypatch.setattr(stream.Lane, "_fetch", counted)
    loader = load(source)
    assert sum(map(len, ids(loader.epoch(0)))) == 176
    assert loader.plan.lanes == 8
    assert max(held) <= 4000


# what is broken


@pytest.mark.parametrize("workers", [0, 2])
def test_the_place_of_a_broken_photo_goes_to_another_of_its_window(workers):
    files = tars(label=None)
    members = [(f"{n}.png", b"" if n in (3, 5) else png(n)) for n in range(20)]
    source = photos(upload(files | {"00002.tar": tar(members)}))
    loader = load(source, workers=workers)
    batches = ids(loader.epoch(0))
    assert [len(b) for b in batches] == [8] * 5
    assert not {14 + 3, 14 + 5} & set(sum(batches, []))
    assert loader.skipped == {"00002.tar/3.png": "empty file", "00002.tar/5.png": "empty file"}
    assert ids(load(source).epoch(0, start=2)) == batches[2:]


@pytest.mark.parametrize("held", [True, False])
def test_a_shard_that_ends_early_is_used_as_far_as_it_goes(tmp_path, held):
    files = tars(label=None)
    data = write(tmp_path / "p", files)
    source = photos(data)
    (data / "00002.tar").write_bytes(files["00002.tar"][: 1024 * 2 * 5 + 520])  # five photos and a part of one
    loader = Loader(source, VIEWS, 8, memory=held, workers=0)
    seen = sum(ids(loader.epoch(0)), [])
    assert set(seen) <= {*range(19), *range(34, 40)}
    assert loader.skipped == {"00002.tar": "ends early, 15 photos lost"}
    loader = load(photos(data))
    assert len(loader.source) == N - 15
    assert loader.skipped == {"00002.tar": "ends early after 5 photos"}


@pytest.mark.parametrize("make", [tars, tables])
def test_a_shard_that_vanishes_is_told_of_once(make):
    source = photos(upload(make()))
    name = next(n for n in make() if n.startswith("00000"))
    fsspec.filesystem("memory").rm(f"/set/{name}")
    loader = load(source)
    assert [len(b) for b in ids(loader.epoch(0))] == [8] * 5
    assert list(loader.skipped) == [name]
    assert loader.skipped[name].startswith("no such file, ")
    source = photos(upload({}) + "/{00000..00003}." + name.rpartition(".")[2])
    assert source.shards().tolist() == COUNTS[1:]
    assert load(source).skipped == {name: "no such file"}


def test_shards_that_cannot_be_read_are_left_out_and_noted(tmp_path):
    data = write(tmp_path / "p", tars() | {"00001.tar": b"nothing of the kind" * 100})
    assert load(photos(data)).skipped == {"00001.tar": "not a tar archive, or cut short"}
    assert len(photos(data)) == N - 3
    whole = tables()
    data = upload(whole | {"00001.parquet": whole["00001.parquet"][:-30]}, "tables")
    assert load(photos(data)).skipped == {"00001.parquet": "not a Parquet file, or cut short"}
    damaged = bytearray(tars()["00002.tar"])
    damaged[8 * 1536] ^= 255  # in a header
    index = walk(io.BytesIO(damaged), len(damaged))
    assert (index.note, 0 < len(index) < 20) == ("damaged", True)


def test_a_network_error_is_tried_again_three_times(monkeypatch):
    source, waits, failed = photos(upload(tars(label=None))), [], [0]
    cat = fsspec.implementations.memory.MemoryFileSystem.cat_file

    def flaky(fs, path, *args, **more):
        failed[0] += 1
        if failed[0] <= down:
            raise TimeoutError("the network is away")
        return cat(fs, path, *args, **more)

    monkeypatch.setattr(fsspec.implementations.memory.MemoryFileSystem, "cat_file", flaky)
    monkeypatch.setattr(remote, "WAITS", (1, 4, 16))
    monkeypatch.setattr(remote.time, "sleep", waits.append)
    down = 3
    assert int(source.read(0)[0, 0, 0]) == 0
    assert waits == [1, 4, 16]
    down, failed[0] = 4, 0
    with pytest.raises(BrokenItem, match="the network is away, 11 photos lost"):
        source.read(9)


def test_when_nothing_can_be_read_it_is_told(tmp_path, monkeypatch):
    source = photos(upload(tars()))
    fsspec.filesystem("memory").rm("/set", recursive=True)
    with pytest.raises(
        DataError, match="none of 40 photos could be read; the first, 00000.tar: no such file, 11 photos"
    ):
        load(source)
    monkeypatch.setattr(loader_module, "IN_MEMORY", 100)  # too large to be sampled
    loader = Loader(source, VIEWS, 8, workers=0)
    with pytest.raises(DataError, match="none of 320 photos of memory://set that were tried in a row could be read"):
        list(loader.epoch(0))
    one_line(
        "cannot read 'memory://set/0.tar': no such file, as all 3 of 'memory://set/{0..2}.tar'",
        "memory://set/{0..2}.tar",
    )
    one_line("cannot read 'memory://set/0.tar': no such file", "memory://set/0.tar")
    one_line("cannot list 'memory://nowhere': no such file", "memory://nowhere")
    one_line(r"nothing is there: '.*\*.tar'; give .tar or .parquet files", f"{tmp_path}/*.tar")
    one_line(
        "no images in the 1 shards of 'memory://a': none holds an image", upload({"0.tar": tar([("a.txt", b"")])}, "a")
    )
    one_line("no images in the 1 shards of 'memory://b': 0.tar: not a tar", upload({"0.tar": b"?" * 999}, "b"))
    one_line("holds both .tar and .parquet files", upload(tars() | tables(), "c"))
    file = io.BytesIO()
    pq.write_table(pa.table({"a": [1]}), file)
    one_line("has no column of image bytes", upload({"0.parquet": file.getvalue()}, "d"))


def test_what_hides_behind_not_found_is_told_and_tried_again():
    calls = []

    def unreached():
        calls.append(1)
        raise FileNotFoundError("http://a/0.tar") from ConnectionError("[Errno 111] Connection refused")

    with pytest.raises(FileNotFoundError) as error:
        remote.patiently(unreached)
    assert (len(calls), remote.reason(error.value)) == (4, "connection refused")


class Answer(Exception):
    def __init__(self, status):
        super().__init__(f"{status}, message='...'")
        self.status = status


@pytest.mark.parametrize(
    ("status", "asked", "words"),
    [
        (404, 1, "no such file"),
        (403, 1, "no permission"),
        (429, 4, "429, message='...'"),
        (503, 4, "503, message='...'"),
    ],
)
def test_what_a_server_refuses_is_not_asked_for_again(status, asked, words):
    calls = []

    def answer():
        calls.append(1)
        raise Answer(status)

    with pytest.raises(Answer) as error:
        remote.patiently(answer)
    assert (len(calls), remote.reason(error.value)) == (asked, words)


def test_what_fsspec_needs_is_told(monkeypatch):
    one_line(r"cannot make files of 's3://b/\{12\}.tar': write", "s3://b/{12}.tar", UserError)
    one_line("fsspec knows no nope://", "nope://b/0.tar", UserError)
    monkeypatch.setitem(__import__("sys").modules, "s3fs", None)
    one_line(
        "reading s3:// needs a package that is not installed: pip install fsspec s3fs$", "s3://b/{0..9}.tar", UserError
    )
    monkeypatch.setitem(__import__("sys").modules, "fsspec.core", None)
    one_line(
        "reading gs:// needs a package that is not installed: pip install fsspec gcsfs$", "gs://b/0.tar", UserError
    )


def test_no_permission_is_told(monkeypatch):
    data = upload(tars())

    def refused(*args, **more):
        raise PermissionError("Access Denied")

    monkeypatch.setattr(fsspec.implementations.memory.MemoryFileSystem, "info", refused)
    one_line("cannot read 'memory://set/00000.tar': no permission", data + "/00000.tar")


def test_a_cache_that_cannot_be_written_is_done_without(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("TWOVIEWS_CACHE", str(tmp_path / "file"))
    assert numbers(photos(upload(tars()))) == list(range(N))
    monkeypatch.delenv("TWOVIEWS_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    photos(upload(tars([2, 2])))
    assert list((tmp_path / "xdg" / "twoviews").rglob("*.npz"))


# runs


def test_the_last_items_are_held_out_and_a_bounded_part_is_measured(monkeypatch):
    source = photos(upload(tars()))
    rest, held = split.tail(source, 0.1)
    assert (numbers(held), len(rest)) == ([36, 37, 38, 39], 36)
    assert rest.shards().tolist() == [11, 3, 20, 2]
    assert rest.fingerprint() != source.fingerprint() != held.fingerprint()
    assert not {36, 37, 38, 39} & set(sum(ids(load(rest).epoch(0)), []))
    assert split.portion(source) is source
    monkeypatch.setattr(split, "LEARNED", 20)
    part = split.portion(source)
    assert numbers(part) == [i + j for i in (0, 4, 8, 12, 16, 21, 25, 29, 33, 38) for j in (0, 1)]
    assert part.shards() is None


def test_a_run_trains_embeds_and_measures(tmp_path, monkeypatch):
    data = upload(tars([40, 40, 40]))
    monkeypatch.setattr(loader_module, "IN_MEMORY", 100)
    settings = {"epochs": 1, "batch_size": 16, "encoder": "small", "views.size": 8, "workers": 0}
    result = twoviews.train(data, out=tmp_path / "run", quiet=True, settings=settings)
    assert result.table is not None
    assert "knn" in json.dumps(json.loads((tmp_path / "run/evaluation.json").read_text()))
    source, test = sources(result.run)
    assert (len(source), len(test)) == (108, 12)
    twoviews.embed(tmp_path / "run", data, tmp_path / "e.parquet", quiet=True)
    keys = pq.read_table(tmp_path / "e.parquet").column("key").to_pylist()
    assert keys == [source.listing.key(i) for i in range(120)]
    assert twoviews.evaluate(tmp_path / "run", quiet=True).rows.keys() == result.table.rows.keys()


def test_auto_takes_shards_and_names_a_run_after_their_folder():
    run = RECIPES["auto"](upload(tars()))
    assert run.data().shards().tolist() == COUNTS
    assert stem("s3://bucket/laion/{00000..00999}.tar") == "laion"
    assert stem("hf://datasets/someone/cats") == "cats"
    assert stem("shards/*.tar") == "shards"
    assert stem("shards/") == "shards"


@pytest.mark.parametrize("workers", [0, 1])
def test_ranks_that_share_a_lane_may_pass_over_windows(monkeypatch, workers):
    monkeypatch.setattr(plan_module, "LANES", 3)
    monkeypatch.setattr(stream, "WINDOW", 1)  # a photo each
    source = photos(upload(tables() if workers else tars()) + ("/{00000..00003}.parquet" if workers else ""))
    whole = ids(load(source).epoch(0))
    monkeypatch.setattr(loader_module, "world", lambda: 4)
    shares = []
    for rank in range(4):
        monkeypatch.setattr(loader_module, "rank", lambda rank=rank: rank)
        shares.append(ids(load(source, workers=workers).epoch(0)))
    assert load(source).plan.lanes == 2
    assert [sum(parts, []) for parts in zip(*shares, strict=True)] == whole


def test_who_goes_on_inside_a_lost_window_sees_what_was_seen(monkeypatch):
    monkeypatch.setattr(stream, "WINDOW", 12_000)  # of 7 photos or so, a quarter of which the lanes begin apart
    source = photos(upload(tars([60, 60, 60])))
    fsspec.filesystem("memory").rm("/set/00001.tar")
    whole = ids(load(source, 4).epoch(0))
    for start in range(1, 45):
        assert ids(load(source, 4).epoch(0, start=start)) == whole[start:]


def test_check_and_embed_tell_of_lost_shards(tmp_path):
    data = write(tmp_path / "p", tars() | {"00001.tar": b"nothing of the kind" * 100})
    lost = ("00001.tar", "not a tar archive, or cut short")
    report = check(photos(data))
    assert (report.count, report.broken, report.shards) == (N - 3, [], [lost])
    assert "shards     1 cannot be read whole" in report.lines()
    assert "  00001.tar: not a tar archive, or cut short" in report.lines()
    settings = {"epochs": 1, "batch_size": 8, "encoder.width": 2, "views.size": 8, "workers": 0}
    twoviews.train(data, out=tmp_path / "run", quiet=True, settings=settings)
    twoviews.embed(tmp_path / "run", data, tmp_path / "e.npy", quiet=True)
    assert (tmp_path / "e.npy.skipped.csv").read_text().splitlines() == ["key,reason", f'00001.tar,"{lost[1]}"']
    assert (tmp_path / "run/skipped.csv").read_text() == (tmp_path / "e.npy.skipped.csv").read_text()


def test_evaluate_tells_of_lost_shards(tmp_path, capsys):
    data = write(tmp_path / "p", tars() | {"00001.tar": gzip.compress(tars()["00001.tar"])})
    settings = {"epochs": 1, "batch_size": 8, "encoder.width": 2, "views.size": 8, "workers": 0}
    twoviews.train(data, out=tmp_path / "run", settings=settings)
    assert "1 shards could not be read whole" in capsys.readouterr().err
    twoviews.evaluate(tmp_path / "run", data)
    assert "1 shards of p cannot be read whole (00001.tar: compressed; give a plain .tar)" in capsys.readouterr().err


def test_shards_named_twice_are_read_once():
    assert len(photos(upload(tars()) + "/{00000,00001,00000}.tar")) == 14


def test_a_sample_comes_from_elsewhere_where_the_first_shards_are_small_or_lost():
    source = photos(upload(tars([1] * 30, label=None)))
    assert source.sample(32).tolist() == list(range(8))
    files = tars(label=None)
    stats = {n.replace(".tar", "_stats.json"): json.dumps({"successes": c}) for n, c in zip(files, COUNTS, strict=True)}
    data = upload(files | {"00000.tar": b"?" * 999} | {n: s.encode() for n, s in stats.items()}, "told")
    assert len(photos(data)) == N
    assert RECIPES["auto"](data).data().channels == 3


def test_few_places_for_want_of_a_divisor_are_told():
    source = photos(upload(tars([127, 64])))
    assert "1 places at once (few, for little divides a batch of 127: a multiple of 32" in stream.described(
        source, Plan(source.shards(), 127, 50, 0)
    )
    assert "64 places at once, shuffled" in stream.described(source, Plan(source.shards(), 64, 50, 0))


def test_counting_says_nothing_unless_it_takes_long(capsys):
    photos(upload(tars()))
    assert capsys.readouterr().err == ""
    with Log().progress("counting photos", 2, brief=True) as bar:
        bar(2)
    assert capsys.readouterr().err == ""


def test_parquet_read_with_gaps_is_opened_once_a_row_group(monkeypatch):
    source, opened, open_file = photos(upload(tables([40], group=20))), [], remote.open_file
    monkeypatch.setattr(remote, "open_file", lambda url: opened.append(url) or open_file(url))
    assert [int(source.read(i)[0, 0, 0]) for i in range(0, 40, 3)] == list(range(0, 40, 3))
    assert len(opened) <= 2
    assert [int(source.read(i)[0, 0, 0]) for i in (7, 5, 30, 39, 38)] == [7, 5, 30, 39, 38]


def test_a_parquet_file_that_became_shorter_costs_its_photos():
    source = photos(upload(tables()))
    upload({"00002.parquet": tables([11, 3, 12, 6])["00002.parquet"]})
    loader = load(source)
    assert [len(b) for b in ids(loader.epoch(0))] == [8] * 5
    assert list(loader.skipped) == ["00002.parquet"]
    assert loader.skipped["00002.parquet"].startswith("holds fewer than was counted, ")


def test_a_server_that_knows_no_ranges_sends_all(monkeypatch):
    source, memory = photos(upload(tars())), fsspec.implementations.memory.MemoryFileSystem
    monkeypatch.setattr(memory, "cat_file", lambda fs, path, *_: fs.store[path].getvalue())
    assert numbers(source) == list(range(N))


@pytest.mark.parametrize("workers", [0, 1])
def test_that_nothing_can_be_read_is_one_line_from_a_worker_too(monkeypatch, workers):
    monkeypatch.setattr(loader_module, "IN_MEMORY", 100)
    source = photos(upload(tars()))
    fsspec.filesystem("memory").rm("/set", recursive=True)
    with pytest.raises(DataError) as error:
        list(load(source, workers=workers).epoch(0))
    assert str(error.value).startswith("none of 320 photos of memory://set that were tried in a row could be read")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("pattern", ["", "/*.tar"])
def test_a_list_that_tells_no_sizes_is_enough(monkeypatch, pattern):
    data, memory = upload(tars()), fsspec.implementations.memory.MemoryFileSystem
    for name in ("find", "glob"):
        old = getattr(memory, name)

        def bare(fs, path, old=old, **how):
            found = old(fs, path, **how)
            return {k: {**v, "size": None} for k, v in found.items()} if isinstance(found, dict) else found

        monkeypatch.setattr(memory, name, bare)
    source = photos(data + pattern)
    assert (len(source), numbers(source)) == (N, list(range(N)))


def test_a_folder_out_of_reach_is_not_called_missing(monkeypatch):
    def unreached(fs, path, **more):
        raise FileNotFoundError(path) from ConnectionError("[Errno 111] Connection refused")

    monkeypatch.setattr(fsspec.implementations.memory.MemoryFileSystem, "exists", lambda *args, **more: False)
    monkeypatch.setattr(fsspec.implementations.memory.MemoryFileSystem, "info", unreached)
    one_line("cannot list 'memory://away': connection refused", "memory://away")
