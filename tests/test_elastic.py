"""Workers die: torchrun starts them anew and the run ends as if nothing had happened; nobody waits for the dead."""

import json
import os
import socket
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from test_dist import launch

from twoviews import dist

SETTINGS = (
    "epochs=4 batch_size=40 encoder=small encoder.width=4 views.size=8 method=moco method.queue=100 batchnorm=local "
    "memory=False workers=1"
)

# The command line, which saves as often as it may, and of which rank 0 (it holds the folder) does not get far at first.
SCRIPT = """
import importlib, os, signal
from pathlib import Path
from twoviews.checkpoint import steps
from twoviews.cli import main

loop = importlib.import_module("twoviews.train")  # the package has a verb of that name
loop.CHECKPOINT_SECONDS = 0.0
first = os.environ["TORCHELASTIC_RESTART_COUNT"] + os.environ["RANK"] == "00"
report = loop.Meter.report

def reported(self, step, *args):
    report(self, step, *args)
    if first and step >= 8 and steps(Path("killed")):
        Path("death").write_text(str(step))
        os.kill(os.getpid(), signal.SIGKILL)

loop.Meter.report = reported
if __name__ == "__main__":
    main()
"""


def digits(folder):
    from sklearn.datasets import load_digits

    images = (load_digits().images[:400] * 15).astype(np.uint8)
    np.save(folder / "digits.npy", images)


def torchrun(folder, out, *words):
    """Begin `twoviews train` in two processes."""
    free = ["--nproc-per-node", "2", "--rdzv-backend", "c10d", "--rdzv-endpoint", "localhost:0"]
    command = [sys.executable, "-m", "torch.distributed.run", *free, *words]
    command += ["train", "digits.npy", *SETTINGS.split(), "--out", out]
    settings = {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[1])}
    with (folder / f"{out}.txt").open("w") as said:
        return subprocess.Popen(command, cwd=folder, env=os.environ | settings, stdout=said, stderr=said)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("elastic")
    digits(folder)
    (folder / "work.py").write_text(SCRIPT)
    begun = {
        "killed": torchrun(folder, "killed", "--max-restarts", "3", "work.py"),
        "whole": torchrun(folder, "whole", "-m", "twoviews"),
    }
    try:
        for out, process in begun.items():
            assert process.wait(timeout=200) == 0, (folder / f"{out}.txt").read_text()[-3000:]
    finally:
        for process in begun.values():
            process.terminate()
    return folder


def test_workers_are_started_anew_and_go_on_when_one_is_killed(runs):
    assert 8 <= int((runs / "death").read_text()) < 36
    assert "going on from step" in (runs / "killed.txt").read_text()
    assert (runs / "killed" / "index.html").exists()


def test_and_end_in_the_same_bits(runs):
    killed, whole = runs / "killed", runs / "whole"
    name = sorted(p.name for p in (whole / "checkpoints").iterdir())[-1]
    for file in ("encoder.safetensors", f"checkpoints/{name}/method.safetensors"):
        a, b = load_file(killed / file), load_file(whole / file)
        assert all(torch.equal(a[k], b[k]) for k in a.keys() | b.keys())
    lines = [[json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()] for run in (killed, whole)]
    losses = [[(line["step"], line["loss"]) for line in run if "loss" in line] for run in lines]
    assert losses[0] == losses[1]
    assert [step for step, _ in losses[0]] == list(range(1, 37))
    assert json.loads((killed / "evaluation.json").read_text()) == json.loads((whole / "evaluation.json").read_text())


def wait(rank, world, folder, port):
    torch.distributed.destroy_process_group()
    dist.STEP = timedelta(seconds=4)
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(world), "MASTER_ADDR": "localhost", "MASTER_PORT": str(port)}
    found, given_up = [], Path(folder) / "given up"
    with dist.launched(torch.device("cpu")):
        if rank == 0:
            time.sleep(6)  # rank 0 measures
        dist.barrier()
        found.append(dist.largest(rank))
        if rank == 1:  # and now rank 1 hangs
            for _ in range(300):
                time.sleep(0.1 if not given_up.exists() else 0)
            return found
        for waiting in (lambda: dist.largest(0), dist.barrier):  # for one that is late, then for one that is gone
            with pytest.raises(RuntimeError):
                waiting()
            given_up.touch()
        found.append("given up")
    return found


def test_a_hanging_rank_is_given_up_but_rank_0_may_take_its_time(tmp_path):
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    found = launch(2, wait, tmp_path, port)
    assert found == [[1, "given up"], [1]]
