"""A run on a log, from its file to its folder: measured, gone on with, asked, and what is refused."""

import json
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from conftest import STOP, may_stop

import twoviews
from twoviews import fit
from twoviews.data.rows import HistoryLoader
from twoviews.errors import DataError, UserError
from twoviews.recipes.histories import bert4rec, bert4rec_paper, sasrec
from twoviews.train import Interrupted

QUICK = {"epochs": 4, "encoder.width": 16, "encoder.layers": 1, "batch_size": 16, "watch": 2}


@pytest.fixture(scope="module")
def log(tmp_path_factory):
    """Users who walk through 30 items in a circle, with a step of 1 or, one time of ten, of 7."""
    random = np.random.default_rng(0)
    path = tmp_path_factory.mktemp("log") / "clicks.csv"
    lines = ["customer,sku,ts"]
    for user in range(240):
        walk = random.integers(30) + np.cumsum(random.choice([1, 7], size=random.integers(6, 20), p=[0.9, 0.1]))
        lines += [f"u{user},s{item % 30:02d},{t}" for t, item in enumerate(walk)]
    path.write_text("\n".join(lines) + "\n")
    return str(path)


@pytest.fixture(scope="module")
def done(log, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "clicks"
    return twoviews.train(
        log, out=folder, quiet=True, settings={**QUICK, "epochs": 30, "optimizer.lr": 0.005, "views.following": 0.3}
    )


def test_a_run_learns_and_explains_itself(done):
    rows = done.table.rows
    assert list(rows) == ["popular", "markov", "untrained", "BERT4Rec"]
    assert rows["BERT4Rec"]["NDCG@10"].value > 2 * rows["popular"]["NDCG@10"].value
    about = json.loads((done.folder / "run.json").read_text())
    assert about["data"]["catalogue"] == about["run"]["encoder"]["catalogue"] == 30
    assert about["data"]["split"] == "leave-one-out"
    items = pq.read_table(done.folder / "items.parquet")
    assert items["count"].to_numpy().sum() == about["data"]["events"]
    best = json.loads((done.folder / "best" / "best.json").read_text())
    seen = [json.loads(line) for line in (done.folder / "metrics.jsonl").read_text().splitlines()]
    asked = [line for line in seen if "ndcg" in line]
    assert [line["epoch"] for line in asked] == [*range(10, 31, 2)]  # blanks begin after .3 of the training
    assert best["ndcg"] == max(line["ndcg"] for line in asked)
    for name in ("encoder.safetensors", "evaluation.json", "doctor.json", "checkup.json", "index.html"):
        assert (done.folder / name).exists(), name


def test_the_folder_measures_and_answers_as_the_run_did(done, log, tmp_path):
    again = twoviews.evaluate(done.folder, quiet=True)
    assert again.to_json() == done.table.to_json()
    other = twoviews.evaluate(done.folder, log, quiet=True)
    assert other.rows["BERT4Rec"]["NDCG@10"].value == done.table.rows["BERT4Rec"]["NDCG@10"].value
    table = twoviews.recommend(done.folder, [["s03", "s04", "s05"], ["s28", "s29"]], k=3, quiet=True)
    first = {row["user"]: row["item"] for row in table.to_pylist() if row["rank"] == 1}
    assert list(first.values()) == ["s06", "s00"]
    written = twoviews.embed(done.folder, log, tmp_path / "users.parquet", quiet=True)
    assert pq.read_metadata(written).num_rows == 240
    assert len(twoviews.similar(done.folder, "s03", k=3).keys) == 3


@pytest.mark.parametrize("recipe", [bert4rec, sasrec])
def test_a_run_that_was_stopped_equals_one_that_was_not(log, tmp_path, monkeypatch, recipe):
    read = HistoryLoader._read

    def reading(self, *where):
        may_stop()
        return read(self, *where)

    monkeypatch.setattr(HistoryLoader, "_read", reading)
    run = recipe(log).override(QUICK)
    whole = fit(run, tmp_path / "whole", quiet=True)
    for after in (7, 6):  # while what follows is asked for, and after
        STOP["after"] = after
        with pytest.raises(Interrupted):
            fit(run, tmp_path / "parts", quiet=True)
    STOP["after"] = None
    parts = fit(run, tmp_path / "parts", quiet=True)
    for name, weight in whole.method.state_dict().items():
        assert torch.equal(weight, parts.method.state_dict()[name]), name
    assert parts.table.to_json() == whole.table.to_json()


def test_checks_go_with_the_epochs(log):
    run = bert4rec(log).override({"epochs": 100})
    assert run.watch == 10
    assert run.override({"epochs": 20}).watch == 2
    assert run.override({"epochs": 20, "watch": 7}).watch == 7
    assert run.override({"epochs": 3}).watch == 1


def test_the_papers_recipe_is_the_papers(log):
    run = bert4rec_paper(log, steps=1000)
    views, encoder, method = run.views(), run.encoder(catalogue=30), run.method.keywords
    assert (views.length, views.share, views.most, views.slide, views.copies) == (50, 0.6, 30, 0.1, 10)
    assert (encoder.dim, len(encoder.blocks), encoder.blocks[0].heads, encoder.counted_from) == (64, 2, 2, "start")
    assert (encoder.dropout.p, encoder.blocks[0].attention_dropout, encoder.init) == (0.5, 0.2, "normal")
    assert method == {"loss": "chunked", "specials": True}
    assert (run.batch_size, run.clip, run.watch, run.optimizer.keywords) == (256, 5.0, 0, {"lr": 1e-4})
    assert run.schedule(0, 1000) == 0
    assert run.schedule(50, 1000) == 0.5
    assert run.schedule(100, 1000) == 0.9


def test_going_on_with_todays_log(done, log, tmp_path):
    today = tmp_path / "today.csv"
    lines = Path(log).read_text().splitlines()
    today.write_text(
        "\n".join([*lines, *(f"n{u},{item},{t}" for u in range(9) for t, item in enumerate(["s03", "new", "s05"]))])
    )
    run = twoviews.train(
        str(today), out=tmp_path / "run", quiet=True, settings={**QUICK, "epochs": 1, "start": str(done.folder)}
    )
    table = twoviews.recommend(run.folder, [["s03", "s04", "s05"]], k=1, quiet=True)
    assert table["item"].to_pylist() == ["s06"]
    assert "new" in pq.read_table(run.folder / "items.parquet")["item"].to_pylist()
    told = "is of another network: go on with encoder.width=16 views.length=20"
    other = {**QUICK, "encoder.width": 32, "views.length": 10, "start": str(done.folder)}
    with pytest.raises(UserError, match=told):
        twoviews.train(str(today), out=tmp_path / "other", quiet=True, settings=other)


def test_vectors_begin_from_a_table_and_titles_reach_the_page(log, tmp_path):
    items = tmp_path / "items.csv"
    items.write_text("item,title\n" + "".join(f"s{i:02d},Thing <{i}>\n" for i in range(30)))
    settings = {**QUICK, "epochs": 1, "encoder.init": str(items)}
    run = twoviews.train(log, out=tmp_path / "run", quiet=True, settings=settings)
    page = twoviews.report(run.folder, titles=items, quiet=True).read_text()
    assert "Thing &lt;3&gt;" in page
    assert "Thing <3>" not in page
    sampled = twoviews.evaluate(run.folder, quiet=True, sampled=5)
    assert "sampled" in json.dumps(sampled.to_json())
    assert sampled.rows["popular"]["Recall@10"].value == 1.0  # among six items all are within the first ten


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"encoder": "causal"}, "method=bert4rec needs an encoder that reads histories both ways"),
        ({"method": "sasrec"}, "method=sasrec needs an encoder that reads histories from the past alone"),
        ({"method": "simclr"}, "method=simclr does not learn what comes next"),
        ({"encoder.length": 5}, "encoder.length=5 is shorter than what it is to read"),
        ({"seed": -1}, "seed must be 0 or more"),
        ({"views": "two_crops"}, "histories need views=cloze"),
        ({"test_view.blank": False}, "test_view.blank=True"),
        ({"micro_batch": 4}, "accumulate"),
        ({"batch_size": 1000}, "set batch_size to at most"),
        ({"data.user": "client"}, "client"),
        ({"data.users": "customer"}, "data.users: histories has no 'users', did you mean 'user'"),
        ({"data.least": "high"}, "data.least must be a number or None, got 'high'"),
        ({"encoder.heads": 0}, "heads must be 1 or more, got 0"),
        ({"encoder.layers": -1}, "layers must be 1 or more, got -1"),
        ({"encoder.dropout": 2}, "dropout must be from 0 to below 1, got 2"),
        ({"data.split": "half"}, "split"),
        ({"method.loss": "hinge"}, "unknown loss 'hinge'"),
    ],
)
def test_what_does_not_fit_is_one_line(log, tmp_path, settings, says):
    with pytest.raises(UserError, match=says) as error:
        twoviews.train(log, out=tmp_path / "run", quiet=True, settings={**QUICK, **settings})
    assert "\n" not in str(error.value)
    assert not (tmp_path / "run").exists()


def test_users_with_too_little_to_train_on(tmp_path):
    short = {user: ["a", "b", "c"] for user in range(20)}
    with pytest.raises(DataError, match="no user of histories has 2 events to train on beside those held out"):
        twoviews.train(short, out=tmp_path / "short", quiet=True)
    some = {user: ["a"] for user in range(200)} | {user: [*"abcadb"] for user in range(200, 210)}
    few = {"epochs": 1, "encoder.width": 8}
    assert twoviews.train(some, out=tmp_path / "some", quiet=True, settings=few).run.batch_size == 2


def test_the_command_line(log, tmp_path):
    def call(*words):
        run = partial(subprocess.run, cwd=tmp_path, capture_output=True, text=True, timeout=120)
        return run([sys.executable, "-m", "twoviews", *map(str, words)])

    trained = call("train", log, "epochs=2", "encoder.width=8", "batch_size=16")
    assert trained.returncode == 0, trained.stderr
    assert "users 240, items 30" in trained.stderr
    assert "BERT4Rec" in trained.stdout
    assert "recommend twoviews recommend runs/clicks-bert4rec -k 20" in trained.stdout
    assert "…" not in trained.stdout  # no column is cut off, in a file least of all
    folder = tmp_path / "runs" / "clicks-bert4rec"
    wrote = call("recommend", folder, "-k", 2, "-o", "recs.parquet", "--quiet")
    assert wrote.returncode == 0, wrote.stderr
    assert pq.read_metadata(tmp_path / "recs.parquet").num_rows == 480
    (tmp_path / "columns.csv").write_text("kunde,sku\n1,2\n")
    (tmp_path / "other.csv").write_text("user,item\na,x\na,y\na,z\n")
    for words, says in [
        (("recommend", folder, "-k", 99), "k"),
        (("similar", folder, "s99"), "the model knows no item 's99'"),
        (("train", log, "data.item=product"), "product"),
        (("evaluate", folder, "nothing.csv"), "nothing.csv"),
        (("evaluate", folder, "other.csv"), "the model knows none of the items in other.csv"),
        (("search", folder, "s01"), "ask `twoviews similar"),
        (("recommend", folder, "columns.csv"), "say --user NAME"),
        (("recommend", folder, "columns.csv", "--user", "who"), "--user: columns.csv has no such column"),
    ]:
        failed = call(*words)
        assert failed.returncode == 2, words
        assert says in failed.stderr
        assert len(failed.stderr.strip().splitlines()) == 1, failed.stderr
    checked = call("check", log)
    assert checked.returncode == 0
    assert "240" in checked.stdout
