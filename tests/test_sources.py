"""Sources: every kind of data gives the same photos, its splits and labels; what cannot be used is one clear line."""

import io
import json
import multiprocessing
import os
import pickle
import tarfile
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tifffile
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset, Subset, TensorDataset

from twoviews.data import parquet
from twoviews.data.image import photos, splits
from twoviews.data.listing import Files, Names
from twoviews.errors import BrokenItem, DataError, UserError

KEYS = [f"{part}/{name}/{i}.png" for part in ("test", "train") for name in ("cat", "dog") for i in range(3)]


def colour(number):
    """An image that tells its number."""
    return np.full((4, 6, 3), (number, 100, 200), np.uint8)


def png(array):
    file = io.BytesIO()
    Image.fromarray(array).save(file, "PNG")
    return file.getvalue()


def numbers(source):
    return [int(source.read(i)[0, 0, 0]) for i in range(len(source))]


FILES = {key: png(colour(number)) for number, key in enumerate(KEYS)}


def write_folder(root, files=FILES):
    for key, data in files.items():
        (root / key).parent.mkdir(parents=True, exist_ok=True)
        (root / key).write_bytes(data)
    return root


def write_zip(path, files=FILES, method=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", method) as archive:
        for key, data in sorted(files.items(), reverse=True):  # listings are sorted all the same
            archive.writestr(key, data)
    return path


def write_tar(path, files=FILES):
    with tarfile.open(path, "w:gz" if path.name.endswith("gz") else "w") as archive:
        for key, data in sorted(files.items(), reverse=True):
            member = tarfile.TarInfo("./" + key)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path


@pytest.fixture(params=["folder", "wrapped", "stored.zip", "deflated.zip", "x.tar", "x.tar.gz", "x.tgz"])
def data(request, tmp_path):
    kind = request.param
    if kind == "folder":
        write_folder(
            tmp_path / "p", {".hidden/a.png": b"", "train/.b.png": b"", "note.txt": b"text", "test/.c": b"", **FILES}
        )
        return tmp_path / "p"
    if kind == "wrapped":
        return write_folder(tmp_path / "p", {f"all/photos/{key}": data for key, data in FILES.items()})
    if kind.endswith("zip"):
        method = zipfile.ZIP_STORED if kind.startswith("stored") else zipfile.ZIP_DEFLATED
        return write_zip(tmp_path / kind, {"note.txt": b"text", "__MACOSX/._a.png": b"", **FILES}, method)
    return write_tar(tmp_path / kind)


def test_paths_give_one_thing(data):
    assert splits(data) == ["train", "test"]
    source = photos(data)
    assert numbers(source) == list(range(12))
    assert [key.removeprefix("all/photos/") for key in map(source.key, range(12))] == KEYS
    assert (source.channels, source.classes) == (3, ["cat", "dog"])
    assert source.labels.tolist() == 2 * [0, 0, 0, 1, 1, 1]
    assert source.labels.dtype == np.int64
    test, train = photos(data, split="test"), photos(str(data), split="train")
    assert numbers(test) == list(range(6))
    assert numbers(train) == list(range(6, 12))
    assert train.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert train.name == f"{data.name}:train"
    torch.testing.assert_close(train.read(0), torch.from_numpy(colour(6)).permute(2, 0, 1))


def send_numbers(source, pipe):
    pipe.send(numbers(source))


def test_workers_read_the_same_after_fork_and_after_pickling(data):
    source = photos(data)
    want = [source.read(i) for i in range(12)]  # so that files are open before the fork
    loader = DataLoader(Reader(source), batch_size=None, num_workers=2, multiprocessing_context="fork")
    for _ in range(2):
        torch.testing.assert_close(list(loader), want)
    again = pickle.loads(pickle.dumps(source))
    torch.testing.assert_close([again.read(i) for i in range(12)], want)


class Reader(Dataset):
    def __init__(self, source):
        self.source = source

    def __len__(self):
        return len(self.source)

    def __getitem__(self, index):
        return self.source.read(index)


def test_spawned_process_reads(tmp_path):
    source = photos(write_zip(tmp_path / "a.zip"))
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=send_numbers, args=(source, there))
    process.start()
    assert here.poll(60)
    assert here.recv() == list(range(12))
    process.join()


def test_subset_and_fingerprint(tmp_path):
    source = photos(write_folder(tmp_path))
    part = source.subset([7, 2])
    assert numbers(part) == [7, 2]
    assert part.labels.tolist() == [0, 0]
    assert [part.key(i) for i in range(2)] == [KEYS[7], KEYS[2]]
    assert numbers(source.subset(source.labels == 1).subset([0, -1])) == [3, 11]
    assert len(source.subset([])) == 0
    assert part.fingerprint() != source.fingerprint() == photos(tmp_path).fingerprint()
    before = source.fingerprint()
    (tmp_path / KEYS[3]).write_bytes(FILES[KEYS[3]] + b"\0")
    assert photos(tmp_path).fingerprint() != before
    (tmp_path / KEYS[3]).write_bytes(FILES[KEYS[3]])
    assert photos(tmp_path).fingerprint() == before
    (tmp_path / KEYS[3]).rename(tmp_path / "test/dog/9.png")
    assert photos(tmp_path).fingerprint() != before


@pytest.mark.parametrize(
    ("keys", "classes"),
    [
        (["a.png", "b.png", "c.png"], None),  # nothing in folders
        (["cat/1.png", "cat/2.png", "dog/1.png", "b.png"], None),  # one is loose
        (["cat/1.png", "dog/2.png", "elk/3.png"], None),  # as many folders as images
        (["cat/1.png", "cat/2.png"], None),  # one folder
        (["cat/1.png", "cat/x/2.png", "dog/y/z/3.png", "dog/4.png"], ["cat", "dog"]),
        (["train/1.png", "train/2.png", "car/1.png", "car/2.png"], ["car", "train"]),  # a class of vehicles
    ],
)
def test_labels_by_folder_when_they_make_sense(tmp_path, keys, classes):
    source = photos(write_folder(tmp_path, dict.fromkeys(keys, FILES[KEYS[0]])))
    assert source.classes == classes
    assert (source.labels is None) == (classes is None)
    assert splits(tmp_path) == []


def test_splits_of_which_one_has_loose_images(tmp_path):
    files = {"train/cat/1.png": b"1", "train/cat/2.png": b"2", "train/dog/1.png": b"3", "train/dog/2.png": b"4"}
    files |= {"Test/1.png": b"5", "Test/2.png": b"6", "extra/3.png": b"7", "valid/dog/1.png": b"8"}
    write_folder(tmp_path, dict.fromkeys(files, FILES[KEYS[0]]))
    assert splits(tmp_path) == ["train", "valid", "test"]
    assert photos(tmp_path, split="test").labels is None
    assert photos(tmp_path, split="valid").labels.tolist() == [1]
    source = photos(tmp_path)
    assert dict(zip(map(source.key, range(8)), source.labels.tolist(), strict=True)) == {
        "Test/1.png": -1, "Test/2.png": -1, "extra/3.png": -1, "valid/dog/1.png": 1,
        "train/cat/1.png": 0, "train/cat/2.png": 0, "train/dog/1.png": 1, "train/dog/2.png": 1,
    }  # fmt: skip


def test_names_are_one_buffer_not_an_object_each(tmp_path):
    for part in range(20):
        (tmp_path / f"{part:02}").mkdir()
        for i in range(1000):
            open(f"{tmp_path}/{part:02}/{i:04}.jpg", "xb").close()
    (tmp_path / "00" / "0000.jpg").write_bytes(FILES[KEYS[0]])
    source = photos(tmp_path)
    store, names = source.listing.store, source.listing.names
    assert len(source) == 20_000
    assert isinstance(store, Files)
    assert store.names is names
    assert isinstance(names, Names)
    assert (type(names.text), names.ends.dtype, len(vars(names))) == (bytes, np.int64, 2)
    assert source.key(12_345) == "12/0345.jpg"
    assert source.labels[12_345] == 12
    with pytest.raises(BrokenItem, match="empty file"):
        source.read(1)


def test_links(tmp_path):
    write_folder(tmp_path / "p", {"a/1.png": FILES[KEYS[1]], "a/2.png": FILES[KEYS[2]]})
    write_folder(tmp_path / "q", {"3.png": FILES[KEYS[3]]})
    (tmp_path / "p/0.png").symlink_to(tmp_path / "q/3.png")
    (tmp_path / "p/b").symlink_to(tmp_path / "q")  # followed
    (tmp_path / "p/a/up").symlink_to(tmp_path / "p")  # not followed: a circle
    (tmp_path / "q/over").symlink_to(tmp_path / "p")  # a circle over two links
    (tmp_path / "p/lost.png").symlink_to(tmp_path / "nowhere.png")
    (tmp_path / "p/self.png").symlink_to(tmp_path / "p/self.png")
    source = photos(tmp_path / "p")
    assert list(map(source.key, range(len(source)))) == [
        "0.png",
        "a/1.png",
        "a/2.png",
        "b/3.png",
        "lost.png",
        "self.png",
    ]
    assert numbers(source.subset(range(4))) == [3, 1, 2, 3]
    for i, reason in ((4, "leads nowhere"), (5, "cannot be read: too many levels")):
        with pytest.raises(BrokenItem, match=reason):
            source.read(i)


def test_names_beyond_ascii(tmp_path):
    write_folder(tmp_path / "p", {"Zoë/☃.PNG": FILES[KEYS[1]], "Zoë/b.png": FILES[KEYS[2]]})
    odd = os.fsencode(tmp_path / "p") + b"/\xff.png"
    with open(odd, "wb") as file:
        file.write(FILES[KEYS[3]])
    source = photos(tmp_path / "p")
    assert numbers(source) == [2, 1, 3]
    assert [source.key(i) for i in range(3)] == ["Zoë/b.png", "Zoë/☃.PNG", "\\xff.png"]
    json.dumps(source.key(2)).encode()


# Parquet


def write_parquet(path, keys):
    """As Hugging Face's `datasets` writes it."""
    names = ["cat", "dog"]
    features = {"image": {"_type": "Image"}, "label": {"names": names, "_type": "ClassLabel"}}
    table = pa.table(
        {
            "image": [{"bytes": FILES[key], "path": key} for key in keys],
            "label": pa.array([names.index(key.split("/")[1]) for key in keys], pa.int64()),
        }
    ).replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path)
    return path


def check_parquet(data):
    assert splits(data) == ["train", "test"]
    source = photos(data)
    assert sorted(zip(map(source.key, range(12)), numbers(source), strict=True)) == list(
        zip(KEYS, range(12), strict=True)
    )
    test = photos(data, split="test")
    assert (numbers(test), test.labels.tolist(), test.classes) == (list(range(6)), [0, 0, 0, 1, 1, 1], ["cat", "dog"])
    assert numbers(pickle.loads(pickle.dumps(test))) == list(range(6))


LAYOUTS = [
    ["data/test-00000-of-00001.parquet", "data/train-00000-of-00002.parquet", "data/train-00001-of-00002.parquet"],
    ["default/test/0000.parquet", "default/train/0000.parquet", "default/train/0001.parquet"],
    ["test.parquet", "train_1.parquet", "train_2.parquet"],
]


@pytest.fixture(params=LAYOUTS)
def tables(request, tmp_path):
    for file, keys in zip(request.param, (KEYS[:6], KEYS[6:9], KEYS[9:]), strict=True):
        write_parquet(tmp_path / file, keys)
    return tmp_path


def test_parquet(tables):
    test = photos(tables, split="test")
    assert list(test.listing.store.parts) == [0]  # the files of the other split are not loaded
    check_parquet(tables)
    loader = DataLoader(Reader(test), batch_size=None, num_workers=2, multiprocessing_context="fork")
    assert [int(x[0, 0, 0]) for x in loader] == list(range(6))


def test_large_parquet_is_mapped_from_a_copy(tables, tmp_path_factory, monkeypatch):
    cache = tmp_path_factory.mktemp("cache") / "new"
    monkeypatch.setenv("TWOVIEWS_CACHE", str(cache))
    monkeypatch.setattr(parquet, "IN_MEMORY", 100)
    check_parquet(tables)
    copies = {path: path.stat().st_mtime_ns for path in cache.iterdir()}
    assert len(copies) == 3
    assert {path.suffix for path in copies} == {".arrow"}
    check_parquet(tables)
    assert {path: path.stat().st_mtime_ns for path in cache.iterdir()} == copies


def test_a_cache_that_cannot_be_written(tables, tmp_path_factory, monkeypatch):
    cache = tmp_path_factory.mktemp("cache") / "file"
    cache.write_text("in the way")
    monkeypatch.setenv("TWOVIEWS_CACHE", str(cache))
    monkeypatch.setattr(parquet, "IN_MEMORY", 100)
    with pytest.raises(DataError, match="set TWOVIEWS_CACHE to a folder with room"):
        photos(tables)


def test_parquet_by_datasets(tmp_path):
    datasets = pytest.importorskip("datasets")
    table = hugging_face(datasets)
    table.to_parquet(tmp_path / "train-00000-of-00001.parquet")
    source = photos(tmp_path / "train-00000-of-00001.parquet")
    assert (numbers(source), source.classes) == (list(range(12)), ["cat", "dog"])
    assert source.labels.tolist() == 2 * [0, 0, 0, 1, 1, 1]
    assert source.key(3) == "train-00000-of-00001.parquet:3"  # its paths are empty


def test_plain_parquet_with_words_and_gaps(tmp_path):
    file = tmp_path / "x.parquet"
    pq.write_table(pa.table({"img": [FILES[KEYS[3]], FILES[KEYS[4]], None], "class": ["b", "a", None]}), file)
    source = photos(file)
    assert (source.labels.tolist(), source.classes) == ([1, 0, -1], ["a", "b"])
    with pytest.raises(BrokenItem, match="no image bytes in its row"):
        source.read(2)
    assert splits(file) == []


# arrays and datasets


def test_arrays():
    grey = np.arange(5 * 8 * 9).astype(np.uint8).reshape(5, 8, 9)
    colours = np.random.default_rng(0).integers(0, 256, (5, 8, 9, 3), dtype=np.uint8)
    source = photos(grey)
    assert (len(source), source.channels, source.labels, source.key(3)) == (5, 1, None, "3")
    np.testing.assert_array_equal(source.read(2), grey[2][None])
    for data in (
        colours,
        colours.transpose(0, 3, 1, 2),
        torch.from_numpy(colours).permute(0, 3, 1, 2),
        torch.from_numpy(colours),
    ):
        source = photos(data)
        assert source.channels == 3
        np.testing.assert_array_equal(source.read(4).permute(1, 2, 0), colours[4])
    source = photos((colours, [3, 0, -1, 1, 1]))
    assert (source.labels.tolist(), source.classes) == ([3, 0, -1, 1, 1], ["0", "1", "2", "3"])
    assert photos((torch.from_numpy(grey), torch.tensor([[1], [0], [0], [1], [1]]))).labels.tolist() == [1, 0, 0, 1, 1]
    many = np.zeros((3, 9, 8, 7), np.uint8)
    assert photos(many).channels == 7
    assert photos(many.transpose(0, 3, 1, 2)).read(0).shape == (7, 9, 8)
    assert photos(colours / 255).read(1).numpy().tolist() == colours[1].transpose(2, 0, 1).tolist()
    changed = grey.copy()
    changed[3, 0, 0] += 1
    assert photos(changed).fingerprint() != photos(grey).fingerprint() == photos(grey.copy()).fingerprint()


def test_npy_and_npz(tmp_path):
    images, labels = np.arange(5 * 8 * 9, dtype=np.uint8).reshape(5, 8, 9), np.array(["b", "a", "b", "a", ""])
    np.save(tmp_path / "a.npy", images)
    np.savez(tmp_path / "a.npz", x=images, y=labels)
    source = photos(tmp_path / "a.npy")
    np.testing.assert_array_equal(source.read(4), images[4][None])
    state = pickle.dumps(source)
    assert images.tobytes() not in state  # mapped again, not carried
    np.testing.assert_array_equal(pickle.loads(state).read(4), images[4][None])
    source = photos(tmp_path / "a.npz")
    np.testing.assert_array_equal(source.read(3), images[3][None])
    assert (source.labels.tolist(), source.classes) == ([1, 0, 1, 0, -1], ["a", "b"])


class Pictures(Dataset):
    def __init__(self, item, count=6):
        self.item, self.count = item, count

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        if index == 4:
            raise OSError("the disk is gone")
        return self.item(index)


@pytest.mark.parametrize(
    "item",
    [
        lambda i: (Image.fromarray(colour(i)), i % 2),
        lambda i: [colour(i), np.int64(i % 2)],
        lambda i: {"image": torch.from_numpy(colour(i)).permute(2, 0, 1), "label": torch.tensor(i % 2), "more": 0},
        lambda i: {"img": {"bytes": png(colour(i)), "path": None}, "label": i % 2},
        lambda i: (torch.from_numpy(colour(i)).permute(2, 0, 1).float() / 255, i % 2),
    ],
)
def test_torch_datasets(item):
    source = photos(Pictures(item))
    assert source.labels.tolist() == [0, 1, 0, 1, -1, 1]
    assert [int(source.read(i)[0, 0, 0]) for i in (0, 1, 2, 3, 5)] == [0, 1, 2, 3, 5]
    with pytest.raises(BrokenItem, match="its dataset failed: the disk is gone"):
        source.read(4)


def test_torch_datasets_without_labels_and_with_targets():
    assert photos(Pictures(lambda i: Image.fromarray(colour(i)))).labels is None
    assert photos([Image.fromarray(colour(i)) for i in range(3)]).labels is None
    dataset = Pictures(lambda i: (colour(i), 99))
    dataset.targets, dataset.classes = [2, 1, 0, 1, 2, 0], ["x", "y", "z"]  # believed, so that no item is read for it
    source = photos(Subset(dataset, [5, 0, 1]))
    assert (source.labels.tolist(), source.classes) == ([0, 2, 1], ["x", "y", "z"])
    assert numbers(source) == [5, 0, 1]
    tensors = TensorDataset(torch.zeros(4, 3, 5, 5), torch.tensor([1, 0, 1, 1]))
    assert photos(tensors).labels.tolist() == [1, 0, 1, 1]


def hugging_face(datasets, keys=KEYS):
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["cat", "dog"])})
    rows = {
        "image": [{"bytes": FILES[key], "path": None} for key in keys],
        "label": [key.split("/")[1] for key in keys],
    }
    return datasets.Dataset.from_dict(rows, features=features)


def test_hugging_face_datasets():
    datasets = pytest.importorskip("datasets")
    table = hugging_face(datasets)
    source = photos(table)
    assert (numbers(source), source.labels.tolist(), source.classes) == (
        list(range(12)), 2 * [0, 0, 0, 1, 1, 1], ["cat", "dog"],
    )  # fmt: skip
    assert isinstance(source.listing.store.fetch(0), bytes)  # decoded here, not there
    picked = photos(table.select([7, 2]).with_format("torch"))
    assert (numbers(picked), picked.labels.tolist()) == ([7, 2], [0, 0])

    def halve(rows):
        return {"image": [np.asarray(image)[::2] for image in rows["image"]], "label": rows["label"]}

    assert photos(table.with_transform(halve)).read(5).shape == (3, 2, 6)
    both = datasets.DatasetDict(test=hugging_face(datasets, KEYS[:6]), train=hugging_face(datasets, KEYS[6:]))
    assert splits(both) == ["test", "train"]
    assert numbers(photos(both)) == list(range(12))
    train = photos(both, split="train")
    assert (numbers(train), train.labels.tolist(), train.key(0)) == (list(range(6, 12)), [0, 0, 0, 1, 1, 1], "train/0")


def test_a_mapping_of_splits_shares_its_classes():
    a = (np.zeros((2, 4, 4), np.uint8), ["dog", "cat"])
    b = (np.ones((3, 4, 4), np.uint8), ["elk", "dog", ""])
    source = photos({"one": a, "two": b, "three": np.zeros((1, 4, 4), np.uint8)})
    assert source.classes == ["cat", "dog", "elk"]
    assert source.labels.tolist() == [1, 0, 2, 1, -1, -1]
    assert [source.listing.store.stamp(i) for i in (0, 2)] == [photos(x).listing.store.stamp(0) for x in (a, b)]


# labels files


def labelled(tmp_path, text, name="labels.csv", files=None):
    write_folder(
        tmp_path / "p", files or {"a/1.png": FILES[KEYS[0]], "a/2.png": FILES[KEYS[1]], "b/3.png": FILES[KEYS[2]]}
    )
    (tmp_path / name).write_text(text)
    return photos(tmp_path / "p", labels=tmp_path / name)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("path,label\na/1.png,x\nb/3.png,y\n", "labels.csv"),
        ("\ufeffLabel,more, File_Name \nx,0,./a/1.png\ny,0,b\\3.png\n\n", "labels.csv"),
        ("image\tclass\n1\tx\n3.png\ty\n2\t\n", "labels.tsv"),
        ('name,y\n"a/1",x\n/far/away/3.png,y\n', "labels.CSV"),
    ],
)
def test_labels_file(tmp_path, text, name):
    source = labelled(tmp_path, text, name)
    assert (source.labels.tolist(), source.classes) == ([0, -1, 1], ["x", "y"])


def test_labels_file_of_numbers_and_in_parquet(tmp_path):
    source = labelled(tmp_path, "path,label\n1,10\n2,9\n3,10\n")
    assert (source.labels.tolist(), source.classes) == ([1, 0, 1], ["9", "10"])
    pq.write_table(pa.table({"path": ["a/1.png", "2"], "target": [7, None]}), tmp_path / "l.parquet")
    source = photos(tmp_path / "p", labels=str(tmp_path / "l.parquet"))
    assert (source.labels.tolist(), source.classes) == ([0, -1, -1], ["7"])


def test_labels_file_covers_all_splits(tmp_path):
    write_zip(tmp_path / "a.zip")
    (tmp_path / "l.csv").write_text("path,label\n" + "".join(f"{key},{i % 3}\n" for i, key in enumerate(KEYS)))
    assert photos(tmp_path / "a.zip", labels=tmp_path / "l.csv", split="train").labels.tolist() == [0, 1, 2, 0, 1, 2]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "path,label\nx.png,1\ny.png,2\n",
            r"2 of 2 rows name no image of p \(3 images\), the first 'x.png'; .*'a/1.png'",
        ),
        ("path,label\n1.png,1\ny.png,2\n", "1 of 2 rows name no image of p .*, the first 'y.png'"),
        ("path,label\na/1.png,1\n1,2\n", "gives '1' two labels, '1' and '2'"),
        ("path,label\na/1.png,\n", "holds no label"),
        ("path,label\n", "has no rows"),
        ("", "no path column"),
        ("path;label\n", "no path column: its columns are path;label; name one of them path or file or"),
        ("path,colour\n1,2\n", "no label column: its columns are path, colour"),
        ("path,label\n1\n", "line 2: 1 columns, not 2"),
    ],
)
def test_labels_files_that_do_not_match(tmp_path, text, message):
    with pytest.raises(DataError, match=message) as error:
        labelled(tmp_path, text)
    assert "\n" not in str(error.value)


def test_labels_file_with_ambiguous_names_or_of_no_kind(tmp_path):
    files = dict.fromkeys(["a/1.png", "b/1.png", "b/2.png"], FILES[KEYS[0]])
    with pytest.raises(DataError, match="1 of 2 rows name more than one image of p .*'1.png'; give paths relative"):
        labelled(tmp_path, "path,label\n2,x\n1.png,y\n", files=files)
    for name, message in (("l.txt", "must be .csv, .tsv or .parquet"), ("l.parquet", "not a Parquet file")):
        with pytest.raises(DataError, match=message):
            labelled(tmp_path, "path,label\n2,x\n", name)
    with pytest.raises(DataError, match="no labels file"):
        photos(tmp_path / "p", labels=tmp_path / "nothing.csv")
    (tmp_path / "l.csv").write_bytes(b"path,label\n2,\xff\n")
    with pytest.raises(DataError, match="not UTF-8 text"):
        photos(tmp_path / "p", labels=tmp_path / "l.csv")


# channels


def test_channels_are_decided_once(tmp_path):
    grey, rgb, clear = (png(np.full(s, 7, np.uint8)) for s in ((5, 5), (5, 5, 3), (5, 5, 4)))
    for files, channels in ((["g", "g"], 1), (["g", "c"], 3), (["c", "a"], 3), (["a"], 3), (["", "g"], 1)):
        kinds = {"g": grey, "c": rgb, "a": clear, "": b""}
        folder = tmp_path / ("_" + "".join(files))
        source = photos(write_folder(folder, {f"{i}.png": kinds[kind] for i, kind in enumerate(files)}))
        assert source.channels == channels
        assert source.read(len(source) - 1).shape == (channels, 5, 5)
    assert photos(tmp_path / "_gc", channels=1).read(1).shape == (1, 5, 5)
    with pytest.raises(BrokenItem, match="3 channels where 4 are expected"):
        photos(tmp_path / "_ca", channels=4).read(0)


def test_bands_that_are_no_alpha(tmp_path):
    bands = np.random.default_rng(0).integers(0, 256, (9, 8, 4), dtype=np.uint8)
    for name, options in (
        ("grey", {"photometric": "minisblack", "planarconfig": "contig"}),
        ("rgb", {"photometric": "rgb"}),
    ):
        (tmp_path / name).mkdir()
        tifffile.imwrite(tmp_path / name / "a.tif", bands, extrasamples=[0] * (3 if name == "grey" else 1), **options)
        source = photos(tmp_path / name)
        assert source.channels == 4
        np.testing.assert_array_equal(source.read(0).permute(1, 2, 0), bands)
    assert photos(bands[None]).channels == 3  # of an array it is alpha


def test_relative_paths_outlive_a_change_of_folder(tmp_path, monkeypatch):
    write_folder(tmp_path / "p")
    write_zip(tmp_path / "a.zip")
    write_parquet(tmp_path / "a.parquet", KEYS)
    np.save(tmp_path / "a.npy", np.zeros((2, 5, 5), np.uint8))
    monkeypatch.chdir(tmp_path)
    sources = [pickle.dumps(photos(name)) for name in ("p", "a.zip", "a.parquet", "a.npy")]
    monkeypatch.chdir("/")
    for source in map(pickle.loads, sources):
        assert source.read(0).shape[1:] in ((4, 6), (5, 5))


def test_options_reach_the_decoder():
    deep = np.array([[[0, 4095], [2000, 100]]], np.uint16).repeat(8, 1).repeat(8, 2)
    source = photos(deep, range16=(0, 4095), max_side=8, channels=3)
    assert source.read(0).shape == (3, 8, 8)
    assert int(source.read(0).max()) == 255


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"channels": 0}, "channels must be 1 or more, got 0"),
        ({"max_side": 0}, "max_side must be 1 or more pixels, got 0"),
        ({"range16": (5, 5)}, r"range16 must be \(low, high\) with low < high, got \(5, 5\)"),
    ],
)
def test_wrong_options(options, message):
    with pytest.raises(UserError, match=message):
        photos(np.zeros((2, 4, 4), np.uint8), **options)


# what cannot be used


def one_line(message, data, **options):
    with pytest.raises(DataError, match=message) as error:
        photos(data, **options)
    assert "\n" not in str(error.value)


def test_paths_that_cannot_be_used(tmp_path):
    write_folder(tmp_path / "photos")
    one_line("no such file or folder: '.*phots'; did you mean '.*/photos'", tmp_path / "phots")
    one_line("no such file or folder: .*did you mean '.*/photos/train'", tmp_path / "photos/trian/cat")
    one_line("no such file or folder: .* has no 'zzzz'", tmp_path / "zzzz/a/b")
    (tmp_path / "empty").mkdir()
    one_line("folder '.*empty' is empty", tmp_path / "empty")
    write_folder(tmp_path / "docs", {"a.txt": b"", "b.txt": b"", "c.pdf": b"", "README": b""})
    one_line(
        "no images in folder '.*docs': it holds 2 .txt, 1 .pdf, 1 without extension; images are bmp, gif",
        tmp_path / "docs",
    )
    one_line("'.*' is a single image; give the folder", tmp_path / "photos/train/cat/0.png")
    one_line("cannot read photos from '.*a.txt'; give a folder, or a file .zip, .tar", tmp_path / "docs/a.txt")
    one_line(
        "photos:? has no splits|unknown split 'tarin', did you mean 'train'.*Allowed: test, train",
        tmp_path / "photos",
        split="tarin",
    )
    one_line("docs has no splits", write_folder(tmp_path / "x/docs", {"a.png": FILES[KEYS[0]]}), split="train")
    one_line("cannot read photos from a int", 3)
    one_line("cannot read photos from a generator", (x for x in []))
    one_line("no images in list", [])
    one_line(r"images must be \(N, H, W\).*got \(6, 784\)", np.zeros((6, 784)))
    one_line("6 images but 5 labels", (np.zeros((6, 4, 4), np.uint8), range(5)))
    one_line("labels must be integers or words, got float64", (np.zeros((2, 4, 4), np.uint8), [0.5, 1]))
    one_line("labels must be one integer or word per image", (np.zeros((2, 4, 4), np.uint8), np.eye(2)))
    one_line("none of 2 images tried in array can be read; the first, 0: float64 pixels", np.full((2, 4, 4), 3.0))


def test_archives_that_cannot_be_used(tmp_path):
    for name in ("a.zip", "a.tar", "a.tgz", "a.parquet", "a.npy", "a.npz"):
        (tmp_path / name).write_bytes(b"nothing of the kind" * 100)
        one_line(f"cannot read '.*{name}': not a", tmp_path / name)
    whole = write_zip(tmp_path / "b.zip").read_bytes()
    (tmp_path / "b.zip").write_bytes(whole[: len(whole) // 2])
    one_line("cannot read '.*b.zip': not a zip archive, or cut short", tmp_path / "b.zip")
    whole = write_tar(tmp_path / "b.tgz").read_bytes()
    (tmp_path / "b.tgz").write_bytes(whole[: len(whole) // 2])
    one_line("cannot read '.*b.tgz': not a tar archive, or cut short", tmp_path / "b.tgz")
    whole = write_tar(tmp_path / "b.tar").read_bytes()
    (tmp_path / "b.tar").write_bytes(whole[:5000])
    one_line("cannot read '.*b.tar': not a tar archive, or cut short", tmp_path / "b.tar")
    one_line("none of its 1 files is one", write_zip(tmp_path / "c.zip", {"a.txt": b""}))
    one_line("it is empty", write_tar(tmp_path / "c.tar", {}))
    np.save(tmp_path / "d.npy", np.array([{}, []], object))
    one_line("it holds Python objects, which are not loaded", tmp_path / "d.npy")
    np.savez(tmp_path / "e.npz", a=np.zeros(3))
    one_line("has no array 'images' or 'x'; it holds a", tmp_path / "e.npz")
    pq.write_table(pa.table({"a": [1]}), tmp_path / "f.parquet")
    one_line("has no column of image bytes: its columns are a", tmp_path / "f.parquet")
    write_parquet(tmp_path / "g/train-0.parquet", KEYS)
    pq.write_table(pa.table({"image": [b""]}), tmp_path / "g/train-1.parquet")
    one_line("train-1.parquet' has no column 'label', which other files", tmp_path / "g")


def encrypt(path, members):
    """Set the flag that says so: nothing here can encrypt."""
    data = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        place = archive.start_dir
        for info in archive.infolist():
            if info.filename in members:
                data[info.header_offset + 6] |= 1
                data[place + 8] |= 1
            place += 46 + len(info.filename)
    path.write_bytes(data)


def test_encrypted_zip(tmp_path):
    encrypt(write_zip(tmp_path / "a.zip"), KEYS[2:4])
    source = photos(tmp_path / "a.zip")
    for i in (2, 3):
        with pytest.raises(BrokenItem, match="^encrypted$"):
            source.read(i)
    assert numbers(source.subset([1, 4])) == [1, 4]
    encrypt(tmp_path / "a.zip", KEYS)
    one_line("a.zip' is encrypted", tmp_path / "a.zip")


def test_damage_inside_archives_breaks_single_items(tmp_path):
    for method, reason in ((zipfile.ZIP_STORED, "checksum differs"), (zipfile.ZIP_DEFLATED, "damaged in its archive")):
        path = write_zip(tmp_path / f"{method}.zip", method=method)
        with zipfile.ZipFile(path) as archive:
            place = archive.getinfo(KEYS[5]).header_offset
        data = bytearray(path.read_bytes())
        data[place + 30 + len(KEYS[5]) + 20] ^= 0xFF
        path.write_bytes(data)
        source = photos(path)
        with pytest.raises(BrokenItem, match=reason):
            source.read(5)
        assert numbers(source.subset([4, 6])) == [4, 6]
    source = photos(write_zip(tmp_path / "b.zip", method=zipfile.ZIP_BZIP2), channels=3)
    with pytest.raises(BrokenItem, match="packed with zip method 12"):
        source.read(0)
    source = photos(write_tar(tmp_path / "c.tar"))
    os.truncate(tmp_path / "c.tar", 600)  # while it is in use
    with pytest.raises(BrokenItem, match="its archive ends before it does"):
        source.read(0)


def test_broken_files_are_told_apart(tmp_path):
    jpeg = io.BytesIO()
    Image.fromarray(colour(5)).resize((99, 77)).save(jpeg, "JPEG")
    jpeg = jpeg.getvalue()
    broken = {
        "0.jpg": (b"", "empty file"),
        "1.jpg": (b"not found", "not an image: text"),
        "2.jpg": (jpeg[:400], "truncated JPEG"),
        "3.jpg": (jpeg[:-40], "truncated JPEG"),
        "4.png": (FILES[KEYS[0]][:50], "truncated PNG"),
        "5.webp": (b"RIFF\x99\x09\0\0WEBPVP8 ", "truncated WebP"),
        "6.tif": (b"II*\0\x08\0\0\0", "truncated TIFF"),
        "7.gif": (b"GIF89a\x10\0\x10\0", "truncated GIF"),
        "8.bmp": (bytes(range(200)), "not an image, or of a kind that is not read"),
    }
    write_folder(tmp_path, {key: data for key, (data, _) in broken.items()} | {"9.jpg/a.png": FILES[KEYS[1]]})
    (tmp_path / "lost.jpg").symlink_to("nowhere")
    source = photos(tmp_path)
    assert len(source) == 11  # the folder named 9.jpg is gone into
    for i, (key, (_, reason)) in enumerate(broken.items()):
        assert source.key(i) == key
        with pytest.raises(BrokenItem, match=f"^{reason}$"):
            source.read(i)
    assert source.key(9) == "9.jpg/a.png"
    assert int(source.read(9)[0, 0, 0]) == 1


@pytest.fixture
def guarded():
    """A folder with things nobody may read; root, who may read everything, becomes nobody for the while."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        write_folder(folder / "p")
        closed = [write_zip(folder / "a.zip"), folder / "p" / KEYS[0], folder / "p/train/dog"]
        shut = folder / "shut"
        shut.mkdir()
        for path in (*closed, shut):
            path.chmod(0)
        user = os.geteuid()
        if user == 0:
            os.seteuid(65534)
        yield folder
        os.seteuid(user)
        for path in (*closed, shut):
            path.chmod(0o755)


def test_no_permission(guarded):
    one_line("no permission to read '.*a.zip'", guarded / "a.zip")
    one_line("cannot list folder '.*shut': permission denied", guarded / "shut")
    source = photos(guarded / "p")
    assert [source.key(i) for i in (0, 9)] == [KEYS[0], "train/dog/"]
    for i in (0, 9):
        with pytest.raises(BrokenItem, match="no permission"):
            source.read(i)


def test_cifar(cifar):
    assert splits(cifar) == ["train", "test"]
    source, train, test = photos(cifar), photos(cifar, split="train"), photos(cifar, split="test")
    assert (len(source), len(train), len(test)) == (60_000, 50_000, 10_000)
    assert train.listing is test.listing  # one archive, held once
    assert len(train.classes) == 10
    assert np.bincount(train.labels).tolist() == [5000] * 10
    assert np.bincount(test.labels).tolist() == [1000] * 10
    for i in (0, 31_415, 49_999):
        assert train.classes[train.labels[i]] == train.key(i).split("/")[1]
        with zipfile.ZipFile(cifar) as archive, archive.open(train.key(i)) as file:
            want = torch.from_numpy(np.array(Image.open(file))).permute(2, 0, 1)
        torch.testing.assert_close(train.read(i), want)
