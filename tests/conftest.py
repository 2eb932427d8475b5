"""What several tests share: a tiny encoder, batches of numbers, real data where it is there."""

import os
import signal
from pathlib import Path

import browser
import pytest
import torch
from torch import nn

from twoviews.data.views import two_crops
from twoviews.types import Batch

torch.set_num_threads(1)  # small matrices on more threads are slower where other work runs
DATA = Path(os.environ.get("TWOVIEWS_DATA", Path(__file__).parents[2] / "shared" / "data"))


class Tiny(nn.Module):
    """An encoder of vectors. LayerNorm, so that a row's output does not depend on its batch."""

    dim = 6

    def __init__(self, norm: type[nn.Module] = nn.LayerNorm):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(5, 8), norm(8), nn.ReLU(), nn.Linear(8, 6))

    def forward(self, x):
        return self.net(x)


class Numbers:
    """Batches of two noisy views of fixed vectors, drawn from (epoch, place) alone."""

    def __init__(self, steps=4, rows=8, accumulate=1):
        self.steps, self.rows, self.accumulate = steps, rows, accumulate

    def epoch(self, epoch, start=0):
        for i in range(start * self.accumulate, self.steps * self.accumulate):
            yield self.batch(epoch * 1000 + i)

    def batch(self, seed):
        g = torch.Generator().manual_seed(seed)
        x = torch.randn(self.rows, 5, generator=g)
        views = [x + 0.1 * torch.randn(self.rows, 5, generator=g) for _ in range(2)]
        return Batch(views, torch.arange(self.rows), torch.arange(self.rows) % 3)


STOP: dict[str, int | None] = {"after": None}  # calls of `may_stop` until somebody asks the process to stop


def may_stop():
    if STOP["after"] is not None:
        STOP["after"] -= 1
        if STOP["after"] == 0:
            os.kill(os.getpid(), signal.SIGTERM)


class stopping(two_crops):
    """Two crops, during which somebody may ask the process to stop."""

    def __call__(self, images, sizes, dice):
        may_stop()
        return super().__call__(images, sizes, dice)


INPUT = os.dup(0)


@pytest.fixture(autouse=True)
def _input_stays_open():
    """usearch closes file 0. A thread that waits for a file then holds that number, and pytest cannot end."""
    yield
    try:
        os.fstat(0)
    except OSError:
        os.dup2(INPUT, 0)


@pytest.fixture(scope="session")
def cifar():
    path = DATA / "images" / "cifar10_jpeg.zip"
    if not path.exists():
        pytest.skip(f"{path.name} is not there; set TWOVIEWS_DATA to the folder of the data sets")
    return path


@pytest.fixture(scope="session")
def _browser(tmp_path_factory):
    if not browser.find():
        pytest.skip("no browser is installed: " + ", ".join(browser.NAMES))
    with browser.browser(tmp_path_factory.mktemp("profile")) as tab:
        yield tab


@pytest.fixture
def tab(_browser):
    """A browser's tab that has forgotten what other pages complained of and asked for."""
    _browser.complaints.clear()
    _browser.requests.clear()
    return _browser
