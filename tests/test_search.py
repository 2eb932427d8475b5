"""Search: what is found is what brute force finds, the index is never stale, wrong input is one clear line."""

import csv
import json
import re
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from twoviews import cli
from twoviews.after import search
from twoviews.data.image import photos
from twoviews.data.joined import joined
from twoviews.errors import BrokenItem, UserError
from twoviews.evaluate import search as engine
from twoviews.evaluate.queries import as_photos, as_vector, find_key, pictures
from twoviews.evaluate.search import Found, Index, Stamp, open_index
from twoviews.log import Log
from twoviews.report.gallery import Neighbour, Row, gallery, write_found
from twoviews.types import Features

QUIET = Log(quiet=True)


def brute(queries, items):
    """Cosines in float64, one pair at a time: (M, N)."""
    rows = [[float(q @ x) / (np.linalg.norm(q) * np.linalg.norm(x)) for x in items] for q in queries.astype("f8")]
    return np.array(rows)


def clustered(n, width=24, seed=0):
    """n vectors around 40 centres, as embeddings of photos lie."""
    g = np.random.default_rng(seed)
    return (3 * g.normal(size=(40, width))[g.integers(0, 40, n)] + g.normal(size=(n, width))).astype("f4")


def index_of(h, graph=None):
    labels = [None if i % 5 == 4 else "ab"[i % 2] for i in range(len(h))]
    return Index(torch.from_numpy(h), [f"x/{i}" for i in range(len(h))], labels, graph)


class Vectors:
    """A source whose items are vectors that pass for photos (D, 1, 1), so that the model may be the identity."""

    name, classes, channels = "vectors", ["a", "b"], 4

    def __init__(self, n=1300, broken=(), seed=0, stop_at=None):
        self.n, self.broken, self.seed, self.stop_at = n, broken, seed, stop_at
        self.labels = np.arange(n) % 3 - 1
        self.reads = 0
        self.x = torch.randint(1, 256, (n, 4, 1, 1), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)

    def __len__(self):
        return self.n

    def key(self, index):
        return f"é,{index}"

    def read(self, index):
        if index in self.broken:
            raise BrokenItem("torn")
        if index == self.stop_at:
            raise KeyboardInterrupt
        self.reads += 1
        return self.x[index]

    def fingerprint(self):
        return f"{self.n} {self.seed}"


def views(images, sizes, dice):
    return [images.float()]


def identity(x):
    return x.flatten(1), None


def opened(folder, source, run="run", model="weights", log=QUIET, **how):
    data = source.fingerprint() if source else None
    return open_index(folder, Stamp(run, model, data), identity, source, views, log, **how)


@pytest.mark.parametrize("without", [None, 7])
def test_what_is_found_is_what_brute_force_finds(without):
    h = clustered(60)
    queries = Features(torch.from_numpy(h[7:10] + 0.1), ["p", "q", "r"], torch.tensor([1, 0, -1]), ["a", "b"])
    cosine = brute(queries.h.numpy(), h)
    if without is not None:
        cosine[:, without] = -2
    index = index_of(h)
    found = index.search(queries, 9, without)
    assert [(one.query, one.label) for one in found] == [("p", "b"), ("q", "a"), ("r", None)]
    for row, one in zip(cosine, found, strict=True):
        best = np.argsort(-row)[:9]
        assert one.keys == [index.keys[i] for i in best]
        assert one.labels == [index.labels[i] for i in best]
        np.testing.assert_allclose(one.similarities, row[best], atol=1e-6)


def test_an_item_is_a_query_with_its_label():
    index = index_of(clustered(20))
    row, item = index.item("x/3")
    assert row == 3
    assert (item.h == index.h[3]).all()
    assert index.search(item, 1)[0] == Found("x/3", "b", ["x/3"], [pytest.approx(1)], ["b"])
    assert index.search(index.item("x/4")[1], 1, without=4)[0].label is None


@pytest.mark.parametrize(("k", "without", "most"), [(21, None, 20), (20, 3, 19), (0, None, 20)])
def test_k_that_does_not_fit(k, without, most):
    index = index_of(clustered(20))
    with pytest.raises(UserError, match=rf"k={k}, but there are {most} items .*give k from 1 to {most}"):
        index.search(index.item("x/3")[1], k, without)


def test_a_vector_of_another_width():
    with pytest.raises(UserError, match="the query is 5 numbers wide, h of this run 24"):
        index_of(clustered(20)).search(as_vector(np.ones(5)), 3)


def test_an_index_is_built_once_and_then_read(tmp_path):
    source, skipped = Vectors(broken=(2, 1200)), {}
    index = opened(tmp_path / "index", source, skipped=skipped)
    assert skipped == {"é,2": "torn", "é,1200": "torn"}
    assert len(index) == 1298
    kept = [i for i in range(1300) if i not in (2, 1200)]
    assert index.keys == [source.key(i) for i in kept]
    assert index.labels == [None if i % 3 == 0 else "ab"[i % 3 - 1] for i in kept]
    assert (index.h == source.x[kept].flatten(1)).all()
    again = opened(tmp_path / "index", source)
    assert source.reads == 1298
    assert again.keys == index.keys
    assert again.labels == index.labels
    assert (again.h == index.h).all()


def test_a_build_that_was_stopped_goes_on(tmp_path):
    source = Vectors(n=2600, stop_at=2500)
    with pytest.raises(KeyboardInterrupt):
        opened(tmp_path / "index", source)
    assert not (tmp_path / "index" / "stamp.json").exists()
    source.stop_at, source.reads = None, 0
    assert len(opened(tmp_path / "index", source)) == 2600
    assert source.reads == 600  # two parts of a thousand had been written


def test_an_index_is_never_stale(tmp_path, capfd):
    folder, log = tmp_path / "index", Log()
    opened(folder, Vectors())
    more = Vectors(n=1400)
    assert len(opened(folder, more, log=log)) == 1400
    assert "the data has changed since" in capfd.readouterr().err
    opened(folder, more, model="trained on", log=log)
    assert more.reads == 2800
    assert "the encoder has changed since" in capfd.readouterr().err
    for name, text in {"stamp.json": "{", "h.npy": "torn", "h.npy.keys.csv": "key\n1\n"}.items():
        (folder / name).write_text(text)
        assert len(opened(folder, more, model="trained on", log=log)) == 1400
        assert "cannot be read" in capfd.readouterr().err
    (folder / "h.npy").unlink()
    assert len(opened(folder, more, model="trained on")) == 1400


def test_the_index_of_another_run_is_refused(tmp_path):
    source = Vectors()
    opened(tmp_path, source)
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    with pytest.raises(UserError, match="is the index of another run: delete it"):
        opened(tmp_path, source, run="another", model="others")
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before
    assert opened(tmp_path, source, run="another") is not None  # of the same weights: run.json was only edited
    assert source.reads == 1300


def test_without_the_data_an_index_of_the_same_encoder_serves(tmp_path):
    assert opened(tmp_path / "index", None) is None
    opened(tmp_path / "index", Vectors())
    assert len(opened(tmp_path / "index", None)) == 1300
    assert opened(tmp_path / "index", None, model="trained on") is None


def test_embeddings_that_are_not_finite_are_no_index(tmp_path):
    with pytest.raises(UserError, match="1300 of 1300 indexed embeddings are not finite"):
        open_index(tmp_path, Stamp("", "", ""), lambda x: (x.flatten(1) / 0, None), Vectors(), views, QUIET)
    assert not (tmp_path / "stamp.json").exists()


@pytest.fixture
def many(monkeypatch):
    """A set large enough for a graph, where that is 2,000 items."""
    pytest.importorskip("usearch")
    monkeypatch.setattr(engine, "EXACT", 2000)
    return clustered(6000)


def graph_of(folder, h, log=QUIET):
    return engine.with_graph(index_of(h), folder, log)


def test_the_graph_finds_what_brute_force_finds(many, tmp_path):
    index = graph_of(tmp_path, many)
    assert index.graph is not None
    queries = torch.from_numpy(many[:50] + 0.05)
    cosine = brute(queries.numpy(), many)
    similarity, rows = index.nearest(queries, 10)
    truth = np.argsort(-cosine, axis=1)[:, :10]
    hits = [len(set(a) & set(b)) for a, b in zip(rows.tolist(), truth.tolist(), strict=True)]
    assert sum(hits) >= 0.99 * 500
    np.testing.assert_allclose(similarity, np.take_along_axis(cosine, rows.numpy(), 1), atol=1e-6)
    assert (similarity.diff(dim=1) <= 0).all()
    one = index.search(Features(queries[:1], ["q"]), 10)[0]
    assert one.keys == [index.keys[i] for i in rows[0]]


def test_the_graph_is_kept_and_built_anew_where_it_does_not_fit(many, tmp_path, monkeypatch):
    built = []
    build = engine._build_graph
    monkeypatch.setattr(engine, "_build_graph", lambda *given: (built.append(1), build(*given)))
    graph_of(tmp_path, many)
    graph_of(tmp_path, many)
    assert len(built) == 1
    file = tmp_path / "graph.usearch"
    file.write_bytes(file.read_bytes()[:1000])
    assert len(graph_of(tmp_path, many).graph) == 6000
    assert len(graph_of(tmp_path, many[:3000]).graph) == 3000
    assert len(built) == 3


def test_a_new_index_has_a_new_graph(many, tmp_path, monkeypatch):
    monkeypatch.setattr(engine, "EXACT", 500)
    a = opened(tmp_path, Vectors())
    b = opened(tmp_path, Vectors(seed=1))
    for index, seed in ((a, 0), (b, 1)):
        x = Vectors(seed=seed).x[5].flatten()[None].float()
        assert index.nearest(x, 1)[1].tolist() == brute(x.numpy(), index.h.numpy()).argmax(1, keepdims=True).tolist()


def test_few_candidates_of_a_graph_are_not_trusted():
    class Torn:
        def search(self, query, count):
            return type("Matches", (), {"keys": np.array([1, 2], np.uint64)})

    h = clustered(300)
    assert (index_of(h, Torn()).nearest(torch.from_numpy(h[:4]), 5)[1][:, 0] == torch.arange(4)).all()


def test_without_usearch_all_are_compared_and_a_line_says_so(tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(engine, "EXACT", 500)
    monkeypatch.setattr(engine, "find_spec", lambda name: None)
    index = opened(tmp_path, Vectors(), log=Log())
    assert index.graph is None
    said = capfd.readouterr().err
    assert "comparing with all 1,300 items; quicker with usearch: pip install 'twoviews[search]'" in said


def test_joined_sources_are_one():
    g = np.random.default_rng(0)
    images = g.integers(0, 256, (7, 3, 8, 8), np.uint8)
    a, b = photos((images[:4], ["cat", "dog", "cat", ""])), photos((images[4:], ["owl", "dog", "owl"]))
    both = joined({"train": a, "test": b})
    assert [both.key(i) for i in range(7)] == [f"train/{i}" for i in range(4)] + [f"test/{i}" for i in range(3)]
    words = [both.classes[i] if i >= 0 else None for i in both.labels]
    assert words == ["cat", "dog", "cat", None, "owl", "dog", "owl"]
    assert all((both.read(i).numpy() == images[i]).all() for i in range(7))
    assert both.fingerprint() != joined({"train": b, "test": a}).fingerprint()
    part = both.subset(np.array([5, 0]))
    assert [part.key(0), part.key(1)] == ["test/1", "train/0"]
    assert part.labels.tolist() == [both.labels[5], both.labels[0]]
    assert (part.read(0).numpy() == images[5]).all()
    assert joined({"train": a}) is a
    halves = joined({"train": photos(images).subset([0, 1]), "test": photos(images).subset([2, 3])})
    assert [halves.key(i) for i in range(4)] == ["0", "1", "2", "3"]
    assert halves.labels is None


KEYS = ["train/cat/0001.jpg", "train/dog/0001.jpg", "test/cat/0002.jpg", "cat/0002.jpg", "0001.jpg"]


@pytest.mark.parametrize(
    ("name", "key"),
    [("0001.jpg", "0001.jpg"), ("cat/0002.jpg", "cat/0002.jpg"), ("dog/0001.jpg", "train/dog/0001.jpg")],
)
def test_a_key_or_a_unique_ending_names_an_item(name, key):
    assert find_key(name, KEYS) == key


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("0002.jpg", "'0002.jpg' may be test/cat/0002.jpg, cat/0002.jpg: give more of the name"),
        ("dgo/0001.jpg", "did you mean 'train/dog/0001.jpg'"),
        ("1.jpg", "neither a file nor an item"),
        ("??", "names such as 'train/cat/0001.jpg'"),
    ],
)
def test_a_name_of_none_or_several(name, message):
    with pytest.raises(UserError, match=re.escape(message)):
        find_key(name, KEYS)


def test_a_photo_may_come_in_any_form(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (9, 12, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a b.png")
    (tmp_path / "plain").write_bytes((tmp_path / "a b.png").read_bytes())
    chw = torch.from_numpy(pixels.transpose(2, 0, 1).copy())
    for query in (tmp_path / "a b.png", str(tmp_path / "plain"), Image.fromarray(pixels), pixels, chw, chw.numpy()):
        source = as_photos(query, channels=3)
        assert (source.read(0) == chw).all()
        assert source.key(0) == (str(query) if isinstance(query, str | type(tmp_path)) else "photo")
    assert (as_photos(pixels[..., 0], channels=3).read(0) == chw[:1]).all()
    assert len(as_photos(tmp_path, channels=3)) == 1  # by its ending only one of the two is a photo
    assert len(as_photos(np.stack([pixels, pixels]), channels=3)) == 2
    assert as_photos("nowhere", channels=3) is None
    for wrong in (3, np.ones((2, 3, 4, 5, 6))):
        with pytest.raises(UserError):
            as_photos(wrong, channels=3)


@pytest.mark.parametrize("vector", [np.zeros(4), torch.tensor([1.0, float("nan")])])
def test_a_vector_needs_a_direction(vector):
    with pytest.raises(UserError, match="finite and not all 0"):
        as_vector(vector)
    assert as_vector(np.ones((2, 2))) is None


def test_pictures_are_reduced_and_broken_ones_left_out(tmp_path):
    Image.new("RGB", (600, 400)).save(tmp_path / "big.png")
    (tmp_path / "torn.png").write_bytes((tmp_path / "big.png").read_bytes()[:80])
    Image.new("RGB", (8, 4)).save(tmp_path / "small.png")
    found = pictures(photos(tmp_path), ["big.png", "torn.png", "small.png", "none"])
    assert {key: tuple(x.shape) for key, x in found.items()} == {"big.png": (3, 192, 288), "small.png": (3, 4, 8)}


def test_the_gallery_says_what_is_known():
    white = torch.full((3, 8, 8), 255, dtype=torch.uint8)
    near = [Neighbour(white, "a<b>", 0.5, True), Neighbour(None, "c", 0.25, False), Neighbour(white, "d", 0.125)]
    page = gallery([Row(white, "<q>", near)])
    assert page.count("<img") == 3
    assert page.count("no picture") == 1
    assert "a&lt;b&gt;" in page
    assert "<q>" not in page
    assert re.findall(r'class="frame([^"]*)"', page) == ["", " same", " another", ""]
    assert re.findall(r"<b>([^<]*)</b>", page) == ["0.500", "0.250", "0.125"]
    assert "A dashed one" in page
    assert "A dashed one" not in gallery([Row(white, "q", near[2:])])


def test_a_page_of_many_queries_shows_the_first(tmp_path):
    found = [Found(f"q{i}", None, ["k"], [0.5], [None]) for i in range(130)]
    page = write_found(tmp_path / "new" / "p.html", "Title & more", "Note.", found, {}, {}).read_text()
    assert page.count('class="row"') == 100
    assert "These are the first 100 of 130 queries." in page
    assert "<title>Title &amp; more</title>" in page


# The whole way, with a trained run.


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with photos/ in two splits of two classes, and run/, barely trained on them."""
    place = tmp_path_factory.mktemp("search")
    g = np.random.default_rng(0)
    for i in range(60):
        folder = place / "photos" / ("train", "test")[i % 3 == 2] / ("cats", "dogs")[i % 2]
        folder.mkdir(parents=True, exist_ok=True)
        soft = g.integers(0, 256, (5, 5, 3), np.uint8)
        Image.fromarray(soft).resize((36, 36), Image.Resampling.BICUBIC).save(folder / f"{i:03}.jpg")
    (place / "photos" / "train" / "cats" / "torn.jpg").write_bytes(b"\xff\xd8\xff")
    sides = ["epochs=1", "batch_size=16", "encoder.width=4", "method.hidden=8", "method.dim=4"]
    code, _, err = run_cli(place, "train", "photos", *sides, "--out", "run", "-q")
    assert code == 0, err
    return place


def run_cli(place, *args):
    """Run the command line in this process in a folder: (exit code, stdout, stderr)."""
    import contextlib
    import io

    from twoviews import log

    out, err, code, patch = io.StringIO(), io.StringIO(), 0, pytest.MonkeyPatch()
    with patch.context() as m, contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        m.chdir(place)
        m.setattr(sys, "argv", ["twoviews", *map(str, args)])
        m.setattr(log.console, "_file", err)
        try:
            cli.main()
        except SystemExit as stop:
            code = stop.code or 0
    return code, out.getvalue(), err.getvalue()


@pytest.fixture
def place(trained, tmp_path, monkeypatch):
    """A copy of it to change, as working folder."""
    import shutil

    shutil.copytree(trained, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_photo_finds_itself_and_an_item_does_not(place):
    found = search("run", "photos/test/cats/002.jpg", k=3, quiet=True)
    assert len(found) == 1
    assert found[0].query == "photos/test/cats/002.jpg"
    assert found[0].keys[0] == "test/cats/002.jpg"
    assert found[0].labels[0] == "cats"
    assert found[0].similarities[0] == pytest.approx(1, abs=1e-5)
    item = search("run", "cats/002.jpg", k=59, quiet=True)[0]
    assert (item.query, item.label) == ("test/cats/002.jpg", "cats")
    assert len({*item.keys, item.query}) == 60
    assert item.keys[:2] == found[0].keys[1:]
    with Image.open("photos/test/cats/002.jpg") as image:
        assert search("run", image, k=3, quiet=True)[0].keys == found[0].keys
        assert search("run", np.asarray(image), k=3, quiet=True)[0].keys == found[0].keys


def test_a_folder_is_many_queries(place):
    (place / "photos" / "test" / "dogs" / "text.jpg").write_text("words " * 30)
    skipped = {}
    found = search("run", place / "photos" / "test", k=2, quiet=True, skipped=skipped)
    assert skipped == {"dogs/text.jpg": "not an image: text"}
    assert [one.keys[0] for one in found] == [f"test/{one.query}" for one in found]
    assert [one.label for one in found] == [one.query.split("/")[0] for one in found]
    assert len(found) == 20


def test_a_vector_is_a_query(place):
    search("run", "cats/002.jpg", k=1, quiet=True)
    h = np.load("run/index/h.npy")
    with open("run/index/h.npy.keys.csv", newline="") as f:
        keys = [row["key"] for row in csv.DictReader(f)]
    found = search("run", h[5], k=4, quiet=True)[0]
    assert found.keys == [keys[i] for i in np.argsort(-brute(h[5:6], h)[0])[:4]]
    with pytest.raises(UserError, match="the query is 3 numbers wide"):
        search("run", np.ones(3), quiet=True)


def test_the_index_follows_the_encoder_and_the_data(place, monkeypatch):
    def embeddings():
        search("run", "cats/002.jpg", k=1, quiet=True)
        return np.load("run/index/h.npy")

    first = embeddings()
    with monkeypatch.context() as m:
        m.setattr(engine, "embed_to", None)  # not called again
        assert (embeddings() == first).all()
    Image.new("RGB", (40, 40), "red").save("photos/train/dogs/red.jpg")
    assert len(embeddings()) == len(first) + 1
    assert search("run", "photos/train/dogs/red.jpg", k=1, quiet=True)[0].keys == ["train/dogs/red.jpg"]
    weights = load_file("run/encoder.safetensors")
    save_file({k: v * 1.5 if v.is_floating_point() else v for k, v in weights.items()}, "run/encoder.safetensors")
    after_training = embeddings()
    assert len(after_training) == len(first) + 1
    assert not np.allclose(after_training[: len(first)], first)


def test_where_the_data_is_gone_the_index_serves_without_pictures(place):
    query = place / "query.jpg"
    query.write_bytes((place / "photos" / "test" / "cats" / "002.jpg").read_bytes())
    with_pictures = run_cli(place, "search", "run", query, "-k", 3, "--html", "a.html")
    (place / "photos").rename(place / "elsewhere")
    code, out, err = run_cli(place, "search", "run", query, "-k", 3, "--html", "b.html")
    assert (code, out) == (0, with_pictures[1])
    assert "the data cannot be had, so run/index serves as it is, without pictures: no such file or folder" in err
    a, b = (place / "a.html").read_text(), (place / "b.html").read_text()
    assert (a.count("<img"), b.count("<img")) == (4, 1)
    assert b.count("no picture") == 3
    assert run_cli(place, "search", "run", "cats/002.jpg", "-k", 3)[0] == 0
    import shutil

    shutil.rmtree(place / "run" / "index")
    code, _, err = run_cli(place, "search", "run", query)
    assert (code, len(err.splitlines())) == (2, 1)
    assert "the data of run cannot be had, and run/index is no index of it: no such file or folder: 'photos'" in err


def test_data_and_encoder_of_ones_own_are_searched_from_python(tmp_path):
    from functools import partial

    from twoviews import Run, fit
    from twoviews.data.views import center, two_crops
    from twoviews.encoders.small import small
    from twoviews.methods import SimCLR

    images = np.random.default_rng(0).integers(0, 256, (40, 3, 12, 12), np.uint8)
    run = Run(
        data=partial(photos, data=images[:30]),
        test=partial(photos, data=images[30:]),
        encoder=partial(small, width=4),
        method=partial(SimCLR, hidden=8, dim=4),
        views=partial(two_crops, size=8),
        test_view=partial(center, size=8),
        epochs=1,
        batch_size=16,
    )
    result = fit(run, tmp_path / "run", quiet=True)
    assert search(result, images[33], k=1, quiet=True)[0].keys == ["test/3"]
    assert search(result, "train/3", k=39, quiet=True)[0].query == "train/3"
    assert search(result.folder, images[33], k=1, quiet=True)[0].keys == ["test/3"]  # by the index, without the data
    assert len(search(result, images[0, 0], k=1, quiet=True)) == 1  # grey, for an encoder of three channels
    with pytest.raises(UserError, match="must be of numbers"):
        search(result, np.array(["a.jpg", "b.jpg"]), quiet=True)


def test_what_the_command_line_prints(place):
    code, out, err = run_cli(place, "search", "run", "cats/002.jpg", "-k", "2", "--html", "page.html")
    assert code == 0, err
    head, *rows = out.splitlines()
    assert head == "test/cats/002.jpg  (cats)"
    assert [re.split(r"\s{2,}", row.strip())[0] for row in rows] == ["1", "2"]
    assert all(re.fullmatch(r" {3}\d +-?\d\.\d{3}  \S+ +(cats|dogs)", row) for row in rows)
    built, left_out, written = err.splitlines()
    assert built.startswith("building run/index 61 of 61")
    assert left_out == "left out as unreadable: 1 of 61 items, see run/skipped.csv"
    assert written == "page.html"
    page = (place / "page.html").read_text()
    assert page.count("<img") == 3
    assert "://" not in page

    (place / "q").mkdir()
    (place / "q" / "a.jpg").write_bytes((place / "photos" / "test" / "cats" / "002.jpg").read_bytes())
    (place / "q" / "b.jpg").write_bytes(b"")
    (place / "q" / "c.jpg").write_text("words " * 30)
    code, out, err = run_cli(place, "search", "run", "q", "-k", "1", "--json")
    said = json.loads(out)
    assert code == 0
    assert said["skipped"] == {"b.jpg": "empty file", "c.jpg": "not an image: text"}
    assert err == "left out as unreadable: 2 of 3 queries (b.jpg: empty file; c.jpg: not an image: text)\n"
    (result,) = said["results"]
    assert result["query"] == "a.jpg"
    assert result["found"] == [{"rank": 1, "similarity": 1.0, "key": "test/cats/002.jpg", "label": "cats"}]


def test_names_that_move_the_cursor_are_written_out(place):
    (place / "q\n1\x1b[2J.jpg").write_bytes((place / "photos" / "test" / "cats" / "002.jpg").read_bytes())
    code, out, _ = run_cli(place, "search", "run", "q\n1\x1b[2J.jpg", "-k", "1")
    assert (code, out.splitlines()[0], len(out.splitlines())) == (0, r"q\n1\x1b[2J.jpg", 2)
    code, _, err = run_cli(place, "search", "run", "a\nb")
    assert (code, len(err.splitlines())) == (2, 1)
    assert r"'a\nb' is neither a file nor an item" in err


def test_a_k_that_is_too_large_builds_no_index(place):
    with pytest.raises(UserError, match="k=62, but there are 61 items to find: give k from 1 to 61"):
        search("run", "cats/002.jpg", k=62, quiet=True)
    assert not (place / "run" / "index").exists()


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["run", "words.txt"], "'words.txt' cannot be searched for: not an image: text"),
        (["run", "torn.jpg"], "'torn.jpg' cannot be searched for: truncated JPEG"),
        (["run", "texts"], "no images in folder 'texts'"),
        (["run", "all-torn"], "none of the 2 items of all-torn could be read; the first, 1.jpg: empty file"),
        (["run", "bad.zip"], "bad.zip"),
        (["run", "cats/02.jpg"], "did you mean"),
        (["run", "cats/torn.jpg"], "'train/cats/torn.jpg' is an item that could not be read"),
        (["run", "nowhere"], "'nowhere' is neither a file nor an item of the run's data"),
        (["run", "cats/002.jpg", "-k", "60"], "k=60, but there are 59 items to find beside the query: give k from 1"),
        (["run", "photos/test/cats/002.jpg", "-k", "61"], "k=61, but there are 60 items to find: give k from 1 to 60"),
        (["run", "cats/002.jpg", "-k", "0"], "greater than or equal to 1"),
        (["copied", "cats/002.jpg"], "copied/index is the index of another run: delete it"),
        (["empty", "cats/002.jpg"], "has no weights"),
        (["texts", "cats/002.jpg"], "is not a run"),
        (["run", "cats/002.jpg", "--html", "texts"], "texts could not be written"),
        (["run", "cats/002.jpg", "--device", "gpu"], "device must be"),
    ],
    ids=lambda a: "-".join(a) if isinstance(a, list) else "",
)
def test_wrong_input_is_one_clear_line(place, args, message):
    import shutil

    for name in ("texts", "all-torn"):
        (place / name).mkdir()
    (place / "words.txt").write_text("words " * 30)
    (place / "torn.jpg").write_bytes((place / "photos" / "test" / "cats" / "002.jpg").read_bytes()[:300])
    (place / "texts" / "readme.txt").write_text("words")
    for name in ("1.jpg", "2.jpg"):
        (place / "all-torn" / name).write_bytes(b"")
    (place / "bad.zip").write_bytes(b"PK\x03\x04 nothing")
    if args[0] == "copied":
        shutil.copytree(place / "run", place / "copied")
        (place / "copied" / "index").mkdir()
        (place / "copied" / "index" / "stamp.json").write_text('{"run": "x", "model": "y", "data": "z"}')
    if args[0] == "empty":
        (place / "empty").mkdir()
        shutil.copy(place / "run" / "run.json", place / "empty")
    code, out, err = run_cli(place, "search", *args)
    assert code == 2
    assert not out
    said = [line for line in err.splitlines() if not line.startswith(("building", "left out as unreadable: 1 of 61"))]
    assert len(said) == 1, err
    assert message in said[0]
