"""The report of `check` against a folder whose contents are known."""

import io
import json

import numpy as np
import pytest
import tifffile
from PIL import Image

from twoviews.data.check import SLAB, check
from twoviews.data.image import photos


def save(path, array, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path, **options)


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    colour = rng.integers(0, 256, (20, 30, 3), dtype=np.uint8)
    save(tmp_path / "cat/0.png", colour)
    save(tmp_path / "cat/1.png", colour, compress_level=1)
    save(tmp_path / "dog/copy.tif", colour)  # another file, the very pixels
    save(tmp_path / "dog/2.png", colour.transpose(1, 0, 2).copy())
    save(tmp_path / "dog/3.jpg", rng.integers(0, 256, (10, 30), dtype=np.uint8))
    save(tmp_path / "dog/4.png", np.array([[700, 30000]], np.uint16))
    tifffile.imwrite(tmp_path / "dog/5.tif", np.array([[50, 9]], np.uint16))
    exif = Image.Exif()
    exif[0x0112] = 6
    save(tmp_path / "cat/6.jpg", colour, exif=exif)  # upright 20 x 30
    (tmp_path / "cat/empty.jpg").write_bytes(b"")
    (tmp_path / "dog/page.jpg").write_bytes(b"<html>")
    (tmp_path / "dog/cut.png").write_bytes((tmp_path / "cat/0.png").read_bytes()[:300])
    return tmp_path


@pytest.mark.parametrize("workers", [1, 3])
def test_report(folder, workers):
    seen = []
    report = check(photos(folder), workers=workers, progress=lambda done, total: seen.append((done, total)))
    assert (report.count, report.readable) == (11, 8)
    assert sorted(report.broken) == [
        ("cat/empty.jpg", "empty file"),
        ("dog/cut.png", "truncated PNG"),
        ("dog/page.jpg", "not an image: text"),
    ]
    assert report.width == (2, 25, 30)
    assert report.height == (1, 20, 30)
    assert report.sizes[0] == (30, 20, 3)
    assert report.formats == {"PNG": 4, "TIFF": 2, "JPEG": 2}
    assert report.modes == {"RGB": 5, "I;16": 2, "L": 1}
    assert report.depths == {8: 6, 16: 2}
    assert report.channels == 3
    assert report.range16 == (9, 30000)
    assert report.duplicates == [["cat/0.png", "cat/1.png", "dog/copy.tif"]]
    assert report.in_train is None
    assert report.labels == {"cat": 3, "dog": 5}
    assert report.unlabelled == 0
    readable = [f for f in folder.rglob("*.*") if f.name not in ("empty.jpg", "page.jpg", "cut.png")]
    assert report.bytes == sum(f.stat().st_size for f in readable)
    assert seen == [(11, 11)]


def test_report_as_json_and_as_text(folder):
    report = check(photos(folder))
    again = json.loads(json.dumps(report.to_dict()))
    assert again["broken"][0] == ["cat/empty.jpg", "empty file"]
    assert (again["depths"], again["count"]) == ({"8": 6, "16": 2}, 11)
    text = report.lines(most=2)
    for line in (
        "width      2 to 30, median 25",
        "modes      RGB: 5, I;16: 2, L: 1",
        "16-bit     values from 9 to 30000; range16=(9, 30000) would use all of them",
        "classes    2: cat: 3, dog: 5",
        "duplicates 2 images have the very pixels of another",
        "  cat/0.png = cat/1.png = dog/copy.tif",
        "broken     3 images cannot be read",
        "  cat/empty.jpg: empty file",
        "  and 1 more",
    ):
        assert line in text
    assert text[0].startswith(f"{folder.name}: 11 images")


def test_sizes_are_those_of_the_files(folder):
    report = check(photos(folder, max_side=5))
    assert (report.width, report.height) == ((2, 25, 30), (1, 20, 30))


def test_more_than_a_slab_in_order():
    count = SLAB + 300
    images = np.arange(count, dtype=np.uint16).view(np.uint8).reshape(count, 1, 2)
    images[count - 1] = images[5]
    seen = []
    source = photos((images, np.arange(count) % 3 - 1))
    report = check(source, workers=2, progress=lambda done, total: seen.append(done))
    assert report.duplicates == [["5", str(count - 1)]]
    assert report.labels == {"0": (count + 1) // 3, "1": count // 3}
    assert report.unlabelled == (count + 2) // 3
    assert seen == sorted(seen)
    assert seen[-1] == count
    assert (report.broken, report.range16, report.bytes) == ([], None, 2 * count)


def test_every_image_broken_after_the_sample():
    class Fading:
        def __len__(self):
            return 100

        def __getitem__(self, index):
            if index:
                raise OSError("gone")
            return np.zeros((4, 4), np.uint8)

    source = photos(Fading())
    report = check(source.subset(range(1, 100)))
    assert (report.readable, len(report.broken), report.width) == (0, 99, None)
    assert "broken     99 images cannot be read" in report.lines()
    assert json.dumps(report.to_dict())


def test_duplicates_need_equal_shape():
    flat, tall = io.BytesIO(), io.BytesIO()
    Image.new("L", (6, 2)).save(flat, "PNG")
    Image.new("L", (2, 6)).save(tall, "PNG")
    assert check(photos([{"bytes": flat.getvalue()}, {"bytes": tall.getvalue()}])).duplicates == []


def test_images_that_lie_in_train_as_well(tmp_path):
    """Counted for each other split; two alike within one split are no leak."""
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (6, 8, 3), dtype=np.uint8) for _ in range(7)]
    for split, which in {"train": [0, 1, 2, 2], "val": [1, 2, 3], "test": [4, 4, 5, 2, 2]}.items():
        for place, image in enumerate(which):
            save(tmp_path / split / f"{place}.png", images[image])
    report = check(photos(tmp_path))
    assert report.in_train == {"val": 2, "test": 2}
    assert len(report.duplicates) == 3
    assert "test       2 of its images have the very pixels of one in train" in report.lines()
    assert check(photos(tmp_path, split="test")).in_train is None
    assert check(photos(tmp_path, split="train")).in_train is None
    for place in (3, 4):
        (tmp_path / "test" / f"{place}.png").unlink()
    report = check(photos(tmp_path))
    assert report.in_train == {"val": 2, "test": 0}
    assert "test       no image of it has the very pixels of one in train" in report.lines()
