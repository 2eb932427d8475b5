"""A run's page and the page of several: what they say, that they say it of anything, and that a browser shows it."""

import base64
import io
import json
import math
import re
from functools import partial
from html.parser import HTMLParser

import numpy as np
import pytest
import torch
from PIL import Image

from twoviews import Run, photos
from twoviews.after import doctor
from twoviews.build import build, describe, sources
from twoviews.data.views import center, two_crops
from twoviews.encoders.small import small
from twoviews.errors import UserError
from twoviews.evaluate.score import score
from twoviews.evaluate.table import CHANCE, RAW, UNTRAINED, H, Table, Z
from twoviews.folder import write_json, write_skipped
from twoviews.methods import SimCLR
from twoviews.report import compare, parts
from twoviews.report.atlas import layout, sprite
from twoviews.report.curves import thin
from twoviews.report.groups import groups
from twoviews.report.items import Items
from twoviews.report.nearest import nearest, spread
from twoviews.report.page import write_report
from twoviews.report.record import read_record
from twoviews.types import Features, Method

EVIL = "<script>alert(1)</script>"
DOCTOR = {
    "verdict": "watch",
    "step": 40,
    "sentence": "It learns in few dimensions.",
    "findings": [{"name": "dimensional collapse", "level": "watch", "evidence": EVIL, "remedy": "use DirectCLR"}],
}


class Bare(Method):
    """A method without a projection, whose encoder gives what it is told to."""

    def __init__(self, encoder, value=None):
        super().__init__()
        self.encoder = encoder
        if value is not None:
            self.encoder.forward = lambda x: torch.full((len(x), 8), value)


def pixels(n, channels=3, side=14):
    return np.random.default_rng(0).integers(0, 256, (n, side, side, channels), np.uint8)


def a_run(n=60, channels=3, labels=True, **changed):
    data = pixels(n, channels)
    data = (data, np.arange(n) % 3) if labels else data
    settings = {
        "data": partial(photos, data=data, channels=channels),
        "views": partial(two_crops, size=12),
        "test_view": partial(center, size=12),
        "encoder": partial(small, width=4, channels=channels),
        "method": partial(SimCLR, dim=4, hidden=8),
        "holdout": 0.4,
    }
    return Run(**settings | changed)


def folder_of(run, folder, metrics=40, **files):
    """The folder of a run that has trained, as far as a page reads it."""
    folder.mkdir(parents=True)
    source, test = sources(run)
    write_json(folder / "run.json", describe(run, source))
    lines = ({"step": i, "loss": 5 - i / 20, "lr": 0.1, "chance": 5.0, "z_rank": 3.0} for i in range(1, metrics + 1))
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    for name, value in files.items():
        write_json(folder / f"{name}.json", value)
    return folder, source, test


def table(h=60, z=50, n=100):
    rows = {CHANCE: 10, RAW: 20, UNTRAINED: 30, H: h, Z: z}
    return Table("Accuracy", {row: {"knn": score(k * n // 100, n)} for row, k in rows.items()}, ["A note"]).to_json()


def page_of(run, folder, method=None, **files):
    folder, source, test = folder_of(run, folder, **files)
    method = method or build(run)
    path = write_report(folder, run, method, source, test, device=torch.device("cpu"))
    return path.read_text()


class Read(HTMLParser):
    """Elements with their attributes, the text of scripts, and all other text."""

    def __init__(self, page):
        super().__init__()
        self.elements, self.scripts, self.text, self.within = [], [], "", ""
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        self.within = tag
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag):
        self.within = ""

    def handle_data(self, text):
        if self.within == "script":
            self.scripts[-1] += text
        elif self.within != "style":
            self.text += text

    def json(self):
        kinds = [given.get("type") for tag, given in self.elements if tag == "script"]
        return [json.loads(s) for s, kind in zip(self.scripts, kinds, strict=True) if kind == "application/json"]


def opened(uri):
    """The picture in a data URI, as (H, W, 3)."""
    return np.array(Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))).convert("RGB"))


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """The page of a usual run, with everything in its folder."""
    folder = tmp_path_factory.mktemp("report") / "run"
    page_of(a_run(120), folder, evaluation=table(), doctor=DOCTOR)
    return folder / "index.html"


@pytest.fixture
def page(path):
    return path.read_text()


def test_the_verdict_stands_first_and_every_section_follows(page):
    read = Read(page)
    order = [
        "SimCLR on",
        "Dimensional collapse.",
        "By knn, h is better",
        "Dimensional collapse",
        "Use DirectCLR.",
    ]
    order += ["How good is it?", "Training", "Directions in use", "What the method saw", "as the encoder sees them"]
    order += ["Nearest neighbours", "The data", "How to do it again"]
    at = 0
    for part in order:
        assert part in read.text[at:]
        at = read.text.index(part, at)
    assert "watch" in next(given["class"] for tag, given in read.elements if given.get("id") == "verdict")
    for tag, given in read.elements:
        if tag == "a":
            assert given["href"].startswith("#")
            assert any(other.get("id") == given["href"][1:] for _, other in read.elements)


@pytest.mark.parametrize("level", ["healthy", "none <of> these"])
def test_the_doctors_sentence_stands_where_there_are_no_findings(level, tmp_path):
    doctor = {"verdict": level, "step": 3, "sentence": "nothing found", "findings": None}
    read = Read(page_of(a_run(12), tmp_path / "run", doctor=doctor))
    assert "Nothing found." in read.text
    assert "What to do" not in read.text
    assert next(given["class"] for _, given in read.elements if given.get("id") == "verdict") in (
        "card verdict healthy",
        "card verdict ",
    )
    assert ("healthy" in read.text) == (level == "healthy")


def test_the_page_asks_nothing_of_a_network_and_is_small(page):
    assert len(page.encode()) < 10e6
    read = Read(page)
    for tag, given in read.elements:
        for name in ("src", "href", "srcset", "data", "poster", "action"):
            assert given.get(name, "data:").startswith(("data:", "#")), (tag, given)
    policy = next(given["content"] for tag, given in read.elements if given.get("http-equiv"))
    assert "default-src 'none'" in policy
    assert "http" not in policy
    style = "".join(re.findall(r"<style>(.*?)</style>", page, flags=re.S))
    assert all(url.startswith("data:") for url in re.findall(r"url\((.*?)\)", style))


def test_every_picture_and_plot_says_what_it_is(page):
    read = Read(page)
    assert all(given.get("alt") for tag, given in read.elements if tag == "img")
    plots = [given for _, given in read.elements if given.get("class") == "plot"]
    assert len(plots) >= 5
    assert all(len(given["aria-label"]) > 20 for given in plots)
    assert len({given["id"] for given in plots if given.get("id")}) == 1


def test_names_from_data_are_text(tmp_path):
    for name in (EVIL.replace("/", ""), "<b onclick=x>&amp;"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for i, image in enumerate(pixels(12)):
            Image.fromarray(image).save(tmp_path / "photos" / name / f"<i>{i}.png")
    run = a_run(data=partial(photos, data=str(tmp_path / "photos")))
    folder, source, test = folder_of(run, tmp_path / "run", doctor=DOCTOR, evaluation=table() | {"verdict": EVIL})
    write_skipped(folder / "skipped.csv", {f"{EVIL}{i}": "not an <image>" for i in range(70)})
    path = write_report(folder, run, build(run), source, test, device=torch.device("cpu"))
    read = Read(path.read_text())
    assert not [given for tag, given in read.elements if "onclick" in given]
    assert EVIL in read.text
    assert "and 20 more" in read.text
    assert "70 items could not be read" in read.text
    assert sum(tag == "script" for tag, _ in read.elements) == len(read.scripts)
    told = next(each for each in read.json() if "keys" in each)
    assert set(told["names"]) == set(source.classes)
    assert all("<i>" in key for key in told["keys"])
    shown = [trace["name"] for each in read.json() if "data" in each for trace in each["data"]]
    assert not [name for name in shown if "<" in name]


def test_without_labels_there_are_clusters(tmp_path):
    chance = {"retrieval": score(1, 24)}
    unlabelled = Table("Views", {CHANCE: chance, H: {"retrieval": score(20, 24)}}, []).to_json()
    text = Read(page_of(a_run(labels=False), tmp_path / "run", evaluation=unlabelled)).text
    assert "cluster 1" in text
    assert "One item of each cluster" in text
    assert "no labels" in text
    assert "83.3 %" in text
    assert "✓" not in text


@pytest.mark.parametrize("channels", [1, 2, 5])
def test_photos_of_any_number_of_channels(channels, tmp_path):
    assert "Nearest neighbours" in page_of(a_run(channels=channels), tmp_path / "run")


@pytest.mark.parametrize("n", [5, 12])
def test_tiny_sets(n, tmp_path):
    text = Read(page_of(a_run(n), tmp_path / "run")).text
    assert "laid out flat by PCA" in text
    assert "Not measured." in text


def test_a_method_without_a_projection(tmp_path):
    run = a_run(method=Bare)
    text = Read(page_of(run, tmp_path / "run")).text
    assert "h: effective rank" in text
    assert "There is no z" in text


@pytest.mark.parametrize(("value", "said"), [(math.nan, "24 of 24 embeddings are not finite"), (1.0, "by PCA")])
def test_an_encoder_that_has_diverged_or_collapsed(value, said, tmp_path):
    run = a_run(method=partial(Bare, value=value))
    text = Read(page_of(run, tmp_path / "run")).text
    assert said in text
    assert "What the method saw" in text


def test_some_embeddings_that_are_not_finite_are_left_out_and_counted(tmp_path):
    run = a_run(method=Bare)
    method = build(run)
    inner = method.encoder.forward
    method.encoder.forward = lambda x: inner(x).index_fill(0, torch.tensor([0, 3]), math.inf)
    text = Read(page_of(run, tmp_path / "run", method)).text
    assert "2 items have embeddings that are not finite" in text
    assert "one of 22 of 24 test items" in text


def test_items_that_cannot_be_read_leave_the_rest_of_the_page(tmp_path):
    run = a_run()
    folder, source, test = folder_of(run, tmp_path / "run")
    test.listing.store.fetch = lambda index: b"not an image"
    out = tmp_path / "a" / "b.html"
    path = write_report(folder, run, build(run), source, test, device=torch.device("cpu"), out=out)
    assert path == out
    text = Read(path.read_text()).text
    assert "could not be shown: none of the 24 items" in text
    assert "How to do it again" in text


def test_metrics_that_are_broken_are_told_of(tmp_path):
    folder, *_ = folder_of(a_run(), tmp_path / "run", metrics=3)
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"step": 4, "loss": NaN}\n[1]\nnonsense\n{"loss": 3}\n')
        file.write('{"step": 5, "loss": "high", "lr": true}\n{"step": 6, "los')
    record = read_record(folder)
    steps, values = record.curve("loss")
    assert steps.tolist() == [1, 2, 3, 4]
    assert np.isnan(values).tolist() == [False, False, False, True]
    assert record.curve("lr")[0].tolist() == [1, 2, 3]
    assert not len(record.curve("matched")[0])
    run = a_run()
    source, test = sources(run)
    path = write_report(folder, run, build(run), source, test, device=torch.device("cpu"))
    assert "1 of 4 values of loss are not finite" in path.read_text()
    (folder / "metrics.jsonl").unlink()
    (folder / "evaluation.json").write_text("{")
    path = write_report(folder, run, build(run), source, test, device=torch.device("cpu"))
    assert "Nothing was logged" in path.read_text()


def test_thin_curves_are_means():
    steps = np.arange(1, 2001.0)
    values = np.random.default_rng(0).normal(size=2000)
    values[:8], values[9] = np.nan, np.inf
    x, y = thin((steps, values), most=500)
    assert len(x) == len(y) == 500
    np.testing.assert_allclose(x, steps.reshape(-1, 4).mean(1))
    assert np.isnan(y[:2]).all()
    np.testing.assert_allclose(y[3:], values.reshape(-1, 4).mean(1)[3:])
    np.testing.assert_allclose(y[2], values[[8, 10, 11]].mean())
    short = thin((steps[:7], values[8:15]))
    assert short[0].tolist() == steps[:7].tolist()


def items_of(h, labels=None, classes=None):
    keys = [f"{i}.png" for i in range(len(h))]
    labels = None if labels is None else torch.as_tensor(labels)
    colours = torch.arange(len(h), dtype=torch.uint8)[:, None, None, None].expand(-1, 3, 10, 10)
    return Items(Features(h, keys, labels, classes), colours, len(h), {}, 0)


def test_many_classes_share_the_last_colour():
    labels = [c for c in range(30) for _ in range(30 - c)] + [-1] * 5
    found = groups(items_of(torch.randn(len(labels), 4), labels, [f"c{i}" for i in range(30)]).features)
    assert found.names == [f"c{i}" for i in range(19)] + ["all other classes"]
    assert found.rest
    assert int((found.of == 19).sum()) == sum(30 - c for c in range(19, 30)) + 5
    few = groups(items_of(torch.randn(5, 4), [0, 1, 1, -1, 1], ["a", "b"]).features)
    assert few.names == ["b", "a", "no label"]
    assert few.of.tolist() == [1, 0, 0, 2, 0]


def test_clusters_are_found_where_they_are():
    centres = torch.eye(4, 16).repeat_interleave(torch.tensor([40, 30, 20, 10]), 0)
    found = groups(items_of(torch.cat([centres, centres])).features)
    assert found.clusters
    assert found.names == [f"cluster {i}" for i in range(1, 5)]
    assert torch.bincount(found.of).tolist() == [80, 60, 40, 20]


def test_queries_come_from_each_group_before_a_second_one():
    of = torch.tensor([0] * 50 + [1] * 5 + [2] * 3 + [3])
    chosen = spread(of, 12, seed=0)
    assert len(chosen.unique()) == 12
    assert of[chosen[:4]].tolist() == [0, 1, 2, 3]
    assert torch.bincount(of[chosen]).tolist() == [4, 4, 3, 1]
    assert torch.equal(chosen, spread(of, 12, seed=0))
    assert not torch.equal(chosen, spread(of, 12, seed=1))
    assert len(spread(of[:3], 12, seed=0)) == 3


def test_neighbours_are_the_nearest_others():
    h = torch.nn.functional.normalize(torch.randn(40, 6, generator=torch.Generator().manual_seed(0)), dim=1)
    h[7] = h[3]  # an item with a twin still is not its own neighbour
    items = items_of(h, torch.arange(40) % 4, list("abcd"))
    rows = nearest(items, groups(items.features), seed=0)
    queries = spread(groups(items.features).of, 12, seed=0).tolist()
    likeness = h @ h.T - 2 * torch.eye(40)
    for query, row in zip(queries, rows, strict=True):
        best = likeness[query].topk(8)
        assert [one.similarity for one in row.found] == pytest.approx(best.values.tolist(), abs=1e-5)
        assert [one.same for one in row.found] == [(i - query) % 4 == 0 for i in best.indices.tolist()]
        assert all(one.caption.startswith("✓ " if one.same else "✗ ") for one in row.found)


def test_the_map_keeps_neighbourhoods_and_is_always_the_same():
    centres = torch.eye(3, 20).repeat_interleave(20, 0)
    h = centres + 0.05 * torch.randn(60, 20, generator=torch.Generator().manual_seed(0))
    flat, how = layout(h)
    assert how == "t-SNE"
    assert flat.abs().amax() == pytest.approx(1)
    near = torch.cdist(flat, flat).fill_diagonal_(9).argmin(1)
    assert torch.equal(near // 20, torch.arange(60) // 20)
    assert torch.equal(flat, layout(h)[0])
    for tiny in (h[:2], h[:5], torch.ones(30, 8), torch.ones(30, 1), torch.zeros(3, 4)):
        flat, how = layout(tiny)
        assert how == "PCA"
        assert flat.shape == (len(tiny), 2)
        assert flat.isfinite().all()


def test_the_sprite_holds_every_picture_in_its_place():
    pictures = torch.arange(7, dtype=torch.uint8)[:, None, None, None].expand(-1, 1, 8, 8) * 30
    sheet, columns = sprite(pictures)
    shown = opened(sheet)
    assert columns == 3
    assert shown.shape == (24, 24, 3)
    for i in range(7):
        row, column = divmod(i, columns)
        assert abs(shown[8 * row : 8 * row + 8, 8 * column : 8 * column + 8].astype(int) - 30 * i).max() <= 2


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 7])
def test_thumbnails(channels):
    image = torch.randint(0, 256, (channels, 20, 10), dtype=torch.uint8)
    shown = opened(parts.thumbnail(image))
    expected = image[:3] if channels >= 3 else image[:1].expand(3, -1, -1)
    assert (shown == expected.permute(1, 2, 0).numpy()).all()
    large = torch.full((channels, 300, 200), 90, dtype=torch.uint8)
    assert opened(parts.thumbnail(large, 96)).shape == (96, 64, 3)
    assert abs(int(opened(parts.thumbnail(large, 96))[50, 30, 0]) - 90) <= 1


def checked(rank):
    return {"step": 9, "items": 50, "h": {"dim": 4, "spectrum": [4.0, 2.0, 1.0, 0.0], "rank": rank}, "z": None}


def test_several_runs_on_one_page(tmp_path):
    files = {"evaluation": table(h=80), "doctor": DOCTOR, "checkup": checked(3.25)}
    first, *_ = folder_of(a_run(), tmp_path / "a" / "run", **files)
    (first / "index.html").write_text("")
    method = partial(SimCLR, dim=4, hidden=8, temperature=0.5)
    second, *_ = folder_of(a_run(method=method, epochs=7), tmp_path / "b" / "run", evaluation=table(h=40))
    third, *_ = folder_of(a_run(), tmp_path / "a" / "bare", metrics=0)
    path = compare.write_comparison([first, second, third], tmp_path / "pages" / "compare.html")
    page = path.read_text()
    read = Read(page)
    for name in ("a/run", "b/run", "a/bare"):
        assert name in read.text
    assert [given["href"] for tag, given in read.elements if tag == "a"] == ["../a/run/index.html"]
    assert page.count("<i>best</i>") == 1
    assert read.text.count("not measured") >= 5
    assert "method.temperature" in read.text
    assert "epochs" in read.text
    assert "method.dim" not in read.text
    assert "3.25" in read.text
    assert "not on one scale" in read.text
    assert "not logged: a/bare" in read.text
    assert "same data" not in read.text
    for tag, given in read.elements:
        assert given.get("src", "data:").startswith("data:"), tag


def test_the_end_of_a_run_that_diverged_is_not_its_last_finite_loss(tmp_path):
    first, *_ = folder_of(a_run(), tmp_path / "a")
    second, *_ = folder_of(a_run(), tmp_path / "b")
    with (second / "metrics.jsonl").open("a") as file:
        file.write('{"step": 41, "not_finite": 41}\n')
    read = Read(compare.write_comparison([first, second], tmp_path / "c.html").read_text())
    assert "loss at the end3not finiteloss of" in read.text


def test_a_verdict_that_cannot_be_kept_is_given(tmp_path):
    folder, *_ = folder_of(a_run(), tmp_path / "run")
    (folder / "doctor.json").mkdir()
    assert doctor(folder, quiet=True).step == 40


def test_figures_of_other_data_are_not_ranked(tmp_path):
    first, *_ = folder_of(a_run(), tmp_path / "a", evaluation=table(h=90))
    second, *_ = folder_of(a_run(50), tmp_path / "b", evaluation=table(h=20))
    page = compare.write_comparison([first, second], tmp_path / "c.html").read_text()
    assert "figures cannot be compared" in page
    assert "<i>best</i>" not in page


def test_best_is_more_than_the_error_of_the_test():
    assert compare.best({"a": score(60, 100), "b": score(40, 100), "c": score(30, 100)}) == "a"
    assert compare.best({"a": score(52, 100), "b": score(48, 100)}) is None
    assert compare.best({"a": score(600, 1000), "b": score(40, 100)}) is None
    assert compare.best({"a": score(60, 100)}) is None


def test_bad_comparisons_are_one_line(tmp_path):
    folder, *_ = folder_of(a_run(), tmp_path / "run")
    with pytest.raises(UserError, match="needs two runs or more, got 1"):
        compare.write_comparison([folder], tmp_path / "c.html")
    with pytest.raises(UserError, match="the same run is given twice"):
        compare.write_comparison([folder, folder], tmp_path / "c.html")
    with pytest.raises(UserError, match="is not a run"):
        compare.write_comparison([folder, tmp_path], tmp_path / "c.html")
    with pytest.raises(UserError, match="could not be written"):
        compare.write_comparison([folder, folder_of(a_run(), tmp_path / "b")[0]], folder / "run.json" / "c.html")
    (tmp_path / "taken.html").mkdir()
    with pytest.raises(UserError, match="could not be written"):
        compare.write_comparison([folder, tmp_path / "b"], tmp_path / "taken.html")
    assert not list(tmp_path.glob(".*"))


DRAWN = """[...document.querySelectorAll('.plot')]
  .filter(plot => !plot.closest('details:not([open])')).map(plot => plot.querySelectorAll('.main-svg').length)"""
POINT = """(async () => {
  const plot = document.getElementById('atlas');
  plot.scrollIntoView({block: 'center', behavior: 'instant'});
  await new Promise(done => setTimeout(done, 100));  // the tip goes when the page moves
  const trace = plot.data.findIndex(each => each.customdata.includes(ITEM));
  const point = plot.calcdata[trace][plot.data[trace].customdata.indexOf(ITEM)], box = plot.getBoundingClientRect();
  const {xaxis, yaxis} = plot._fullLayout;
  return [box.left + xaxis._offset + xaxis.d2p(point.x), box.top + yaxis._offset + yaxis.d2p(point.y)];
})()"""
TIP = """(async () => {
  const tip = document.getElementById('tip'), image = tip.children[0];
  for (let i = 0; i < 40 && tip.hidden != HIDDEN; i++) await new Promise(done => setTimeout(done, 25));
  const style = getComputedStyle(image), {left, right, top, bottom} = tip.getBoundingClientRect();
  return {hidden: tip.hidden, name: tip.children[1].textContent, key: tip.children[2].textContent,
          at: style.backgroundPosition, image: style.backgroundImage, box: [left, right, top, bottom]};
})()"""


def wide(tab):
    return tab.run("document.documentElement.scrollWidth > document.documentElement.clientWidth")


def seen(tab, hidden):
    return tab.run(TIP.replace("HIDDEN", hidden))


def test_a_browser_shows_the_page_and_the_picture_under_the_pointer(tab, path, page):
    tab.open(path)
    assert min(tab.run(DRAWN)) >= 1
    told = next(each for each in Read(page).json() if "keys" in each)
    item = told["columns"] + 1  # the second of the second row
    x, y = tab.run(POINT.replace("ITEM", str(item)))
    tab.point(x, y)
    tip = seen(tab, "false")
    assert not tip["hidden"]
    assert (tip["name"], tip["key"]) == (told["names"][item], told["keys"][item])
    assert tip["at"] == "-118px -118px"
    assert tip["image"].startswith('url("data:image/jpeg')
    left, right, top, bottom = tip["box"]
    assert left < x < right
    assert min(abs(y - bottom), abs(y - top)) < 20
    tab.point(2, 2)
    assert seen(tab, "true")["hidden"]
    assert not wide(tab)
    tab.run("document.querySelectorAll('details').forEach(each => { each.open = true; })")
    assert min(tab.run(f"new Promise(done => setTimeout(done, 300)).then(() => {DRAWN})")) >= 1
    assert not tab.complaints
    assert set(tab.requests) == {path.resolve().as_uri()}


@pytest.mark.parametrize("width", [390, 360])
def test_a_phone_shows_it_too(tab, path, page, width):
    tab.open(path, width, 800, touch=True)
    assert min(tab.run(DRAWN)) >= 1
    assert not wide(tab)
    told = next(each for each in Read(page).json() if "keys" in each)
    for item in range(0, len(told["keys"]), 9):
        tab.tap(*tab.run(POINT.replace("ITEM", str(item))))
        left, right, top, bottom = seen(tab, "false")["box"]
        assert 0 <= left < right <= width
        assert 0 <= top < bottom <= 800
    assert not tab.complaints


def test_dark_and_light(tab, path):
    ink = "getComputedStyle(document.querySelector('#training .xtick text')).fill"
    paper = "getComputedStyle(document.body).backgroundColor"
    tab.open(path)
    light = tab.run(ink), tab.run(paper)
    tab.open(path, dark=True)
    dark = tab.run(ink), tab.run(paper)
    assert light[0] != dark[0]
    assert light[1] != dark[1]
    press = "document.querySelector('.scheme').click(), new Promise(done => setTimeout(done, 300))"
    tab.run(press)
    assert (tab.run(ink), tab.run(paper)) == light
    tab.run(press)
    assert (tab.run(ink), tab.run(paper)) == dark
    assert not tab.complaints


def test_the_legend_hides_and_shows_classes(tab, path):
    tab.open(path)
    count = "document.querySelectorAll('#atlas .points path').length"
    every = tab.run(count)
    first = tab.run("document.querySelector('#atlas').data[0].customdata.length")
    button = "document.querySelector('.legend button')"
    tab.run(f"{button}.click()")
    assert tab.run(count) == every - first
    assert tab.run(f"{button}.getAttribute('aria-pressed')") == "false"
    tab.run(f"{button}.ondblclick()")
    assert tab.run(count) == first
    tab.run(f"{button}.ondblclick()")
    assert tab.run(count) == every


def test_a_browser_shows_the_comparison(tab, tmp_path):
    runs = [
        folder_of(a_run(seed=i), tmp_path / f"run-{i}", evaluation=table(), checkup=checked(2.0))[0] for i in (0, 1)
    ]
    path = compare.write_comparison(runs, tmp_path / "compare.html")
    for width in (1280, 390):
        tab.requests.clear()
        tab.open(path, width, touch=width < 500)
        assert min(tab.run(DRAWN)) >= 1
        assert not wide(tab)
        assert tab.requests == [path.resolve().as_uri()]
    assert not tab.complaints
