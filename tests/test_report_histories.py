"""The page of a run on histories: what it says, that names from a log stay text, and that a browser shows it."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from test_doctor_histories import a_log, a_run
from test_report import DRAWN, EVIL, POINT, Read, seen, wide

from twoviews import fit
from twoviews.after import compare, report
from twoviews.build import build, describe
from twoviews.checkpoint import fill, weights
from twoviews.data.splits import divided
from twoviews.data.vocabulary import read_items, write_items
from twoviews.folder import write_json
from twoviews.methods.bert4rec import BERT4Rec
from twoviews.report.asked import ask_some, named
from twoviews.report.histories import items_of, write_history_report
from twoviews.report.measures import cell, measures, scores


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A finished run whose items have titles."""
    folder = tmp_path_factory.mktemp("report") / "run"
    fit(a_run(epochs=6, watch=2), folder, quiet=True)
    items = read_items(folder)
    titles = pa.array([f"Title of {name}" if i % 3 else None for i, name in enumerate(items.names.to_pylist())])
    replace(items, titles=titles).write(folder)
    report(folder, quiet=True)
    return folder


@pytest.fixture
def page(folder):
    return (folder / "index.html").read_text()


def page_of(run, folder, method=None, **files):
    """The page of a run that has logged a little and not been measured."""
    folder.mkdir(parents=True)
    division = divided(run.data())
    run = run.resolved(division.train)
    write_json(folder / "run.json", describe(run, division.train))
    (folder / "metrics.jsonl").write_text('{"step": 1, "loss": 5.0}\n{"step": 2, "loss": 4.0}\n')
    for name, value in files.items():
        write_json(folder / f"{name}.json", value)
    method = build(run) if method is None else method(build(run))
    return write_history_report(folder, run, method, division).read_text()


def test_every_section_stands_in_its_place(page):
    read = Read(page)
    order = ["SASRec on histories", "events of 300 users and 120 items", "By NDCG@10", "How good is it?", "Recall@10"]
    order += ["popular", "markov", "untrained", "SASRec", "Cold and warm", "Full ranking", "What it recommends"]
    order += ["Met last", "Met next", "Recommended", "Training", "Validation", "Popularity", "is recommended to anyone"]
    order += ["Directions in use", "item vectors: effective rank", "The items as the model sees them", "The log"]
    order += [
        "users 300",
        "the last event of",
        "How to do it again",
        "What to do with it",
        "twoviews recommend run -k 20",
        "twoviews embed run today.parquet -o users.parquet",
    ]
    at = 0
    for part in order:
        assert part in read.text[at:], part
        at = read.text.index(part, at)
    for tag, given in read.elements:
        if tag == "a":
            assert any(other.get("id") == given["href"][1:] for _, other in read.elements)
    plots = [given for _, given in read.elements if given.get("class") == "plot"]
    assert len(plots) >= 10
    assert all(len(given["aria-label"]) > 20 for given in plots)
    assert len(page.encode()) < 8e6


def test_it_asks_nothing_of_a_network(page):
    read = Read(page)
    for tag, given in read.elements:
        for name in ("src", "href", "srcset", "data", "poster", "action"):
            assert given.get(name, "data:").startswith(("data:", "#")), (tag, given)


def test_examples_are_what_the_model_recommends(folder, page):
    run = a_run(epochs=6, watch=2)
    division = divided(run.data())
    run = run.resolved(division.train)
    method = build(run)
    fill(method, weights(folder / "best" / "method.safetensors"), "best")
    items = items_of(folder, division)
    asked = ask_some(method, run.test_view(), division, items, run.seed)
    assert len(asked) == asked.total == 300
    user = int(np.sort(np.random.default_rng(run.seed).permutation(300)[:12])[0])
    card = page[page.index(f"<span>{asked.history.key(user)}</span>") :].partition("</ol></div>")[0]
    ten = Read(card.rpartition("<ol>")[2]).text
    at = -1
    for place in asked.lists[user]:
        assert named(items, int(place)) in ten
        assert ten.index(named(items, int(place)), at + 1) > at
        at = ten.index(named(items, int(place)), at + 1)
    met = set(asked.history.read(user).tolist())
    assert not met & set(asked.lists[user].tolist())
    assert ("✓" in card) == asked.hit(user) == ("found</small>" in card and "not found" not in card)
    assert page.count("<small class='hit'>found</small>") == sum(
        asked.hit(int(u)) for u in np.random.default_rng(run.seed).permutation(300)[:12]
    )


def test_titles_are_shown_where_there_are_some(folder, page):
    told = next(each for each in Read(page).json() if "keys" in each)
    items = read_items(folder)
    assert len(told["names"]) == int((items.counts > 0).sum())
    for name, key in zip(told["names"], told["keys"], strict=True):
        item = key.partition(", met ")[0]
        assert name in (item, f"Title of {item}")
        assert f", met {items.counts[items.place(item)]:,} times" in key
    assert any(name.startswith("Title") for name in told["names"])


def test_names_from_the_log_are_text(tmp_path):
    log = {f"<b onclick=x>&{user}": [f"<i>{EVIL}{item}" for item in items] for user, items in a_log(40).items()}
    read = Read(page_of(a_run(log, batch_size=8), tmp_path / "run", doctor={"verdict": "ill", "sentence": EVIL}))
    assert not [given for _, given in read.elements if "onclick" in given]
    assert sum(tag == "script" for tag, _ in read.elements) == len(read.scripts)
    assert "<b onclick=x>&u" in read.text
    assert EVIL in read.text
    for figure in (each for each in read.json() if "data" in each):
        for trace in figure["data"]:
            assert not [text for text in trace.get("text") or () if "<" in text]


def test_a_run_that_was_not_measured_or_has_diverged_still_has_a_page(tmp_path):
    def broken(method):
        for p in method.parameters():
            p.data.fill_(math.nan)
        return method

    read = Read(page_of(a_run(a_log(40), batch_size=8), tmp_path / "a", broken))
    assert "Not measured." in read.text
    assert "Nothing can be recommended: the model's item vectors are not finite" in read.text
    assert "Nothing to lay out" in read.text
    assert "What to do with it" in read.text


def test_nothing_held_out_has_no_next_item(tmp_path):
    run = a_run(a_log(40), method=BERT4Rec, batch_size=8).override({"data.split": "none"})
    text = Read(page_of(run, tmp_path / "run")).text
    assert "Met last" in text
    assert "Met next" not in text
    assert "not found" not in text


def test_users_of_whom_all_is_to_be_found_are_counted_apart(tmp_path):
    random = np.random.default_rng(0)
    user, time = random.integers(0, 40, 600), np.arange(600)
    user[560:] = random.integers(35, 60, 40)  # some of them come late
    table = pa.table({"user": user, "item": random.integers(0, 30, 600), "timestamp": time})
    run = a_run(table, batch_size=8).override({"data.split": "time:0.9"})
    empty = int((divided(run.data()).train.lengths == 0).sum())
    assert empty > 0
    text = Read(page_of(run, tmp_path / "run")).text
    assert f"{empty:,} have none here" in text
    assert "Met next" in text


def test_few_items_and_few_users(tmp_path):
    log = [["a", "b", "c"], ["b", "c", "a"], ["c", "a", "b"]]
    text = Read(page_of(a_run(log, batch_size=1), tmp_path / "run")).text
    assert "laid out flat by PCA" in text


def test_figures_of_rankings_have_two_places_and_bars_of_their_column(folder, page):
    evaluation = json.loads((folder / "evaluation.json").read_text())
    found = scores(evaluation)
    ndcg = found["SASRec"]["NDCG@10"]
    assert f"<b>{100 * ndcg.value:.2f} %</b>" in measures(evaluation)
    assert f"[{100 * ndcg.low:.2f}, {100 * ndcg.high:.2f}]" in measures(evaluation)
    most = max(row["NDCG@10"].high for row in found.values())
    assert f'width="{round(100 * ndcg.value / most, 2)}"' in cell(ndcg, most=most, places=2)
    novelty = found["SASRec"]["novelty@10"]
    assert f"{novelty.value:.2f} bits" in cell(novelty, most=10.0)
    assert "[" not in cell(novelty)
    assert '<tr class="ours"><th scope="row">SASRec' in page
    assert 'class="ours"><th scope="row">popular' not in page


def test_two_runs_on_histories_are_compared_row_by_row(folder, tmp_path):
    other = tmp_path / "other"
    fit(a_run(method=BERT4Rec, epochs=2), other, quiet=True)
    page = compare([folder, other], out=tmp_path / "compare.html").read_text()
    assert page.count('class="ours"><th scope="row">the model') >= 5  # a table for each measure
    marked = page.split("<h3>NDCG@10</h3>")[1].partition("<h3>")[0]
    ours, floors = marked.partition("the model")[2], marked.partition("the model")[0]
    assert ours.count("<i>best</i>") == 1  # of the same users, and far apart
    assert "best" not in floors
    novelty = page.split("<h3>novelty@10</h3>")[1].partition("<h3>")[0]
    assert " bits</b>" in novelty
    assert "<i>best</i>" not in novelty


def test_an_unfinished_run_takes_the_catalogue_of_its_log(tmp_path):
    run = a_run(a_log(40))
    division = divided(run.data())
    assert items_of(tmp_path, division).counts.sum() == division.train.events
    write_items(tmp_path, division.train)
    assert items_of(tmp_path, division).names.equals(division.train.vocabulary)


@pytest.mark.parametrize(("width", "dark"), [(1280, False), (390, True)])
def test_a_browser_shows_it(tab, folder, page, width, dark):
    path = Path(folder / "index.html")
    tab.open(path, width, 800, dark=dark, touch=width < 500)
    assert min(tab.run(DRAWN)) >= 1
    assert not wide(tab)
    told = next(each for each in Read(page).json() if "keys" in each)
    x, y = tab.run(POINT.replace("ITEM", "3"))
    tab.tap(x, y) if width < 500 else tab.point(x, y)
    tip = seen(tab, "false")
    assert (tip["name"], tip["key"]) in list(zip(told["names"], told["keys"], strict=True))
    left, right, top, bottom = tip["box"]
    assert 0 <= left < right <= width
    assert 0 <= top < bottom <= 800
    assert not tab.complaints
    assert set(tab.requests) == {path.resolve().as_uri()}
