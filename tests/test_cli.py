"""The command line as a user meets it: what it prints, what it leaves, what it says to wrong input."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from safetensors.torch import load_file

from twoviews import cli

ROOT = Path(__file__).parents[1]
QUICK = ["epochs=2", "batch_size=16", "encoder.width=4", "method.hidden=8", "method.dim=4"]


def twoviews(capsys, monkeypatch, *args):
    """Run the command line in this process: (exit code, stdout, stderr)."""
    monkeypatch.setattr(sys, "argv", ["twoviews", *map(str, args)])
    code = 0
    try:
        cli.main()
    except SystemExit as stop:
        code = stop.code or 0
    said = capsys.readouterr()
    return code, said.out, said.err


@pytest.fixture
def tv(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    return lambda *args: twoviews(capsys, monkeypatch, *args)


@pytest.fixture
def folder(tmp_path):
    """72 photos of two classes and of several sizes, seven files broken in seven ways."""
    g = np.random.default_rng(0)
    place = tmp_path / "photos"
    for i in range(72):
        kind = ("cats", "dogs")[i % 2]
        (place / kind).mkdir(parents=True, exist_ok=True)
        h, w = g.integers(24, 60, 2)
        pixels = g.integers(0, 128, (h, w, 3), np.uint8) + np.uint8(100 * (i % 2))
        Image.fromarray(pixels).save(place / kind / f"{i:03}.jpg")
    good = (place / "cats" / "000.jpg").read_bytes()
    (place / "cats" / "truncated.jpg").write_bytes(good[: len(good) // 2])
    (place / "cats" / "empty.jpg").write_bytes(b"")
    (place / "cats" / "text.jpg").write_text("not a photo\n" * 9)
    Image.new("CMYK", (30, 30)).save(place / "dogs" / "cmyk.jpg")
    Image.new("RGB", (1, 1)).save(place / "dogs" / "one.png")
    (place / "dogs" / "a.jpg").mkdir()
    return place


def test_train_embed_evaluate_check(tv, folder, tmp_path):
    code, out, err = tv("train", folder, *QUICK, "--out", "run")
    assert code == 0, err
    assert "chosen: SimCLR(hidden=8, temperature=0.5, dim=4), encoder small(width=4), views of 32 pixels" in err
    for row in ("chance", "raw pixels", "untrained", "ours, h", "ours, z"):
        assert row in out
    run = tmp_path / "run"
    about = json.loads((run / "run.json").read_text())
    assert about["run"]["method"]["temperature"] == 0.5
    assert {"run", "data", "versions", "hardware", "command"} == about.keys()
    with (run / "skipped.csv").open() as f:
        skipped = {Path(row["key"]).name: row["reason"] for row in csv.DictReader(f)}
    assert skipped.keys() == {"truncated.jpg", "empty.jpg", "text.jpg"}
    assert all(skipped.values())
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    steps = [line["step"] for line in lines if "loss" in line]
    assert steps == list(range(1, len(steps) + 1))
    assert "<img" in (run / "index.html").read_text()

    code, out, err = tv("train", folder, *QUICK, "--out", "run")
    assert code == 0, err
    assert f"going on from step {steps[-1]} of {steps[-1]}" in err

    code, out, err = tv("embed", "run", folder, "-o", "e.parquet")
    assert code == 0, err
    table = pq.read_table("e.parquet")
    assert table.num_rows == 74
    assert set(table["class"].to_pylist()) == {"cats", "dogs"}
    assert "3 could not be read" in err

    code, out, err = tv("evaluate", "run", folder, "--json", "--k", "5")
    assert code == 0, err
    assert json.loads(out)["rows"]["ours, h"]["knn"]["detail"]["k"] == 5

    code, out, err = tv("check", folder)
    assert code == 1
    assert "text.jpg" in out

    code, out, err = tv("embed", "run", "nowhere", "-o", "e.npy")
    assert (code, len(err.splitlines())) == (2, 1)


def test_a_run_killed_in_the_middle_goes_on_and_ends_as_if_it_had_not_been(folder, tmp_path):
    env = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", SLOW, "train", str(folder), *QUICK, "epochs=8", "--out"]

    def call(out, **how):
        return subprocess.Popen([*command, str(out)], env=env, cwd=tmp_path, stderr=subprocess.PIPE, text=True, **how)

    whole = call(tmp_path / "whole")
    said = whole.communicate(timeout=120)[1]
    assert whole.returncode == 0, said
    for stop in (signal.SIGKILL, signal.SIGTERM):
        out = tmp_path / f"stopped{int(stop)}"
        process = call(out)
        deadline = time.monotonic() + 100
        while len(list(out.glob("checkpoints/step-*"))) < 2 and time.monotonic() < deadline:
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.01)
        process.send_signal(stop)
        said = process.communicate(timeout=100)[1]
        if stop == signal.SIGTERM:
            assert process.returncode == 128 + stop
            assert said.splitlines()[-1].endswith("the same command goes on from there")
        assert not (out / "encoder.safetensors").exists()
        process = call(out)
        said = process.communicate(timeout=100)[1]
        assert process.returncode == 0, said
        assert "going on from step" in said
        a, b = (load_file(p / "encoder.safetensors") for p in (tmp_path / "whole", out))
        assert all((a[k] == b[k]).all() for k in a)
        lines = [(tmp_path / p / "metrics.jsonl").read_text().splitlines() for p in ("whole", out)]
        assert [[json.loads(x).get("loss") for x in one] for one in lines][0] == [
            json.loads(x).get("loss") for x in lines[1]
        ]


SLOW = """
import importlib, time
t = importlib.import_module("twoviews.train")
t.CHECKPOINT_SECONDS = 0.0
forward = t.Meter.report
t.Meter.report = lambda *a: (time.sleep(0.05), forward(*a))
from twoviews.cli import main
main()
"""


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["train", "nowhere"], "no such file or folder"),
        (["train", "photos", "epcohs=3"], "did you mean 'epochs'"),
        (["train", "photos", "method=simcrl"], "did you mean 'simclr'"),
        (["train", "photos", "method.temprature=1"], "SimCLR has no 'temprature', did you mean 'temperature'"),
        (["train", "photos", "epochs"], "write KEY=VALUE"),
        (["train", "photos", "batch_size=500"], "fewer than one batch of 500"),
        (["train", "photos", "precision=half"], "precision must be one of"),
        (["train", "photos", "encoder=timm:resnet_18x", "epochs=1"], "resnet18"),
        (["train", "photos", "--recipe", "cifar"], "did you mean 'cifar10"),
        (["train", "photos", "--device", "gpu"], "device"),
        (["train", "photos", "--labels", "labels.csv"], "labels.csv"),
        (["train", "empty"], "is empty"),
        (["train", "texts"], "no images in folder"),
        (["train", "one"], "at least 4"),
        (["train", "photos", "method.temperature=0", "batch_size=16"], "temperature must be positive"),
        (["train", "photos", "method.dim=-1"], "dim and hidden must be 0 or more"),
        (["train", "photos", "optimizer.lr=-1", "batch_size=16"], "optimizer: Invalid learning rate"),
        (["train", "photos", "accumulate=0"], "accumulate must be at least 1"),
        (["train", "photos", "epochs=0"], "epochs must be at least 1"),
        (["train", "photos", "method=moco", "views=multi_crop", "batch_size=16"], "choose views=two_crops"),
        (["train", "photos", "recipe=cifar10_simclr"], "--recipe cifar10_simclr"),
        (["train", "photos", "--recipe", "cifar10_moco", "--labels", "labels.csv"], "leave --labels out"),
        (["trian", "photos"], "No such command 'trian'"),
        (["train"], "Missing"),
        (["embed", "texts", "photos", "-o", "x.npy", "--batch-size", "0"], "greater than or equal to 1"),
        (["train", "bad.zip"], "bad.zip"),
        (["train", "photos", "--out", "texts"], "not a run"),
        (["embed", "texts", "photos", "-o", "x.npy"], "is not a run"),
        (["evaluate", "texts"], "is not a run"),
        (["list", "metods"], "did you mean 'methods'"),
        (["check", "nowhere"], "no such file or folder"),
    ],
    ids=lambda a: "-".join(a)[:40] if isinstance(a, list) else "",
)
def test_wrong_input_is_one_clear_line(tv, folder, tmp_path, args, message):
    for name in ("empty", "texts", "one"):
        (tmp_path / name).mkdir()
    (tmp_path / "texts" / "readme.txt").write_text("words")
    Image.new("RGB", (30, 30)).save(tmp_path / "one" / "1.png")
    (tmp_path / "bad.zip").write_bytes(b"PK\x03\x04 nothing")
    (tmp_path / "labels.csv").write_text("path,label\nother.jpg,1\n")
    code, out, err = tv(*args)
    lines = [line for line in err.splitlines() if not line.startswith(("chosen:", "run folder:", "reading"))]
    assert code not in (0, None)
    assert message in lines[-1]
    assert "Traceback" not in err
    assert len([line for line in lines if "could not be read" not in line]) == 1, err


def test_a_folder_that_holds_another_run_is_left_alone(tv, folder, tmp_path):
    assert tv("train", folder, *QUICK, "epochs=1", "--out", "run")[0] == 0
    before = (tmp_path / "run" / "encoder.safetensors").read_bytes()
    code, _, err = tv("train", folder, *QUICK, "epochs=1", "method.temperature=0.3", "--out", "run")
    assert code == 2
    assert "holds another run (method.temperature is 0.5 there, 0.3 here)" in err
    Image.new("RGB", (40, 40)).save(folder / "cats" / "new.jpg")
    code, _, err = tv("train", folder, *QUICK, "epochs=1", "--out", "run")
    assert code == 2
    assert "the data has changed" in err
    assert (tmp_path / "run" / "encoder.safetensors").read_bytes() == before
    assert tv("train", folder, *QUICK, "epochs=1", "--out", "run", "--fresh")[0] == 0


@pytest.mark.parametrize("method", ["moco", "moco_v1", "end_to_end", "supervised"])
def test_every_method_trains_from_the_command_line(tv, folder, method):
    keys = {"moco": ["method.queue=20", "method.hidden=8"], "moco_v1": ["method.queue=20"]}.get(method, [])
    settings = [s for s in QUICK if not s.startswith("method")] + keys
    code, out, err = tv("train", folder, *settings, f"method={method}", "epochs=1", "--out", "run", "--quiet")
    assert code == 0, err
    assert "ours, h" in out


def test_simclr_takes_views_of_several_sizes(tv, folder):
    crops = ["views=multi_crop", "views.local_size=16", "views.locals=2"]
    code, out, err = tv("train", folder, *QUICK, *crops, "epochs=1", "--out", "run", "--quiet")
    assert code == 0, err
    assert "ours, h" in out


def test_photos_without_labels_are_measured_by_retrieval(tv, tmp_path):
    g = np.random.default_rng(0)
    np.save(tmp_path / "x.npy", g.integers(0, 256, (40, 3, 24, 24), np.uint8))
    code, out, err = tv("train", "x.npy", *QUICK, "epochs=1", "--out", "run")
    assert code == 0, err
    assert "retrieval" in out
    assert "chance" in out


@pytest.mark.parametrize("what", ["methods", "encoders", "views", "optimizers", "schedules", "recipes", "probes"])
def test_lists(tv, what):
    code, out, _ = tv("list", what)
    assert code == 0
    assert len(out.splitlines()) >= 2


def test_the_list_of_everything(tv):
    code, out, _ = tv("list")
    assert code == 0
    for word in ("methods:", "simclr", "temperature=0.1", "timm:NAME", "recipes:", "CIFAR", "knn"):
        assert word in out


@pytest.mark.parametrize("command", ["train", "embed", "evaluate", "check", "list", "demo"])
def test_help_shows_an_example(tv, command):
    code, out, _ = tv(command, "--help")
    assert code == 0
    assert f"twoviews {command}" in out


def test_the_demo_fails_when_it_has_not_learned(tv):
    code, out, err = tv("demo", "data.items=300", "test.items=100", "epochs=1", "--out", "run")
    assert code == 1
    assert "ours, h" in out
    assert err.splitlines()[-1].startswith("twoviews: the demo failed: kNN")


def test_two_processes_train_one_run(folder, tmp_path):
    """torchrun: the encoder that two processes leave is that of one, up to the order of sums."""
    env = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    settings = [*QUICK, "epochs=2", "optimizer=sgd"]
    for n in (1, 2):
        command = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={n}", "-m", "twoviews"]
        done = subprocess.run(
            [sys.executable, *command, "train", str(folder), *settings, "--out", f"w{n}"],
            env=env, cwd=tmp_path, capture_output=True, text=True, timeout=200,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
    a, b = (load_file(tmp_path / f"w{n}" / "encoder.safetensors") for n in (1, 2))
    for k in a:
        np.testing.assert_allclose(a[k].float().numpy(), b[k].float().numpy(), rtol=1e-2, atol=1e-3)


@pytest.mark.parametrize(("rank", "local", "speaks"), [(0, 0, True), (8, 0, True), (9, 1, False)])
def test_of_the_processes_of_each_host_one_speaks(capsys, monkeypatch, rank, local, speaks):
    monkeypatch.setenv("RANK", str(rank))
    monkeypatch.setenv("LOCAL_RANK", str(local))
    with pytest.raises(SystemExit):
        cli.fail("no such folder", 2)
    assert capsys.readouterr().err == ("twoviews: no such folder\n" if speaks else "")
