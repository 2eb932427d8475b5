"""The page of a run on videos: what it says, that its films decode, and that a browser plays them."""

import base64
import io
import math
from functools import partial

import numpy as np
import pytest
import torch
from test_report import DOCTOR, DRAWN, EVIL, Read, folder_of, table, wide
from torch import nn

from twoviews import Run
from twoviews.build import build
from twoviews.data.clipviews import central_clip, one_clip, two_clips
from twoviews.data.movingdigits import moving_digits
from twoviews.data.videos import videos
from twoviews.encoders.vit import vivit1
from twoviews.methods import SimCLR
from twoviews.methods.mae import MAE
from twoviews.report.videoclips import film, masked, strip
from twoviews.report.videos import write_video_report

av = pytest.importorskip("av")
CPU = torch.device("cpu")


class Mean(nn.Module):
    """The mean of each frame in 4 x 4 blocks."""

    dim = 8

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(16 * 16, 8)

    def forward(self, x):  # (B, 3, T, H, W)
        return self.linear(nn.functional.adaptive_avg_pool3d(x.mean(1), (16, 4, 4)).flatten(1))


def a_run(views=two_clips, **changed):
    settings = {
        "data": partial(moving_digits, 24, "turn", frames=16),
        "views": partial(views, size=24, frames=4, stride=2),
        "test_view": partial(central_clip, size=24, frames=4, stride=2),
        "encoder": Mean,
        "method": partial(SimCLR, dim=4, hidden=8),
        "holdout": 0.4,
    }
    return Run(**settings | changed)


def page_of(run, folder, method=None, **files):
    folder, source, test = folder_of(run, folder, **files)
    return write_video_report(folder, run, method or build(run), source, test, device=CPU).read_text()


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report") / "run"
    page_of(a_run(), folder, evaluation=table(), doctor=DOCTOR)
    return folder / "index.html"


@pytest.fixture
def page(path):
    return path.read_text()


def films(page):
    return [given["src"] for tag, given in Read(page).elements if tag == "video"]


def decoded(uri):
    assert uri.startswith("data:video/webm;base64,")
    with av.open(io.BytesIO(base64.b64decode(uri.split(",")[1]))) as file:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in file.decode(video=0)])


def test_every_section_stands_in_its_place(page):
    read = Read(page)
    order = ["How good is it?", "The test clips", "The test clips as the encoder sees them", "Nearest neighbours"]
    order += ["What the method saw", "clip 1", "clip 2", "Training", "Directions in use", "The videos", "of 16 frames"]
    order += ["How to do it again"]
    at = read.text.index("24 clips" if "24 clips" in read.text else "clips of")
    for part in order:
        assert part in read.text[at:], part
        at = read.text.index(part, at)
    for tag, given in read.elements:
        if tag == "a":
            assert any(other.get("id") == given["href"][1:] for _, other in read.elements)
        if tag == "img":
            assert given["alt"]
        if tag == "video":
            assert "controls" in given
            assert given["aria-label"]
        for name in ("src", "href", "srcset", "data", "poster"):
            assert given.get(name, "data:").startswith(("data:", "#")), (tag, given)
    assert len(page.encode()) < 8e6


def test_every_film_decodes(page):
    found = films(page)
    assert len(found) == 8 + 2 * 4  # of test clips, and two clips each of four videos
    for uri in found:
        x = decoded(uri)
        assert len(x) == 4
        assert min(x.shape[1:3]) >= 100
        assert x.std() > 5


def test_a_film_shows_its_frames_in_their_order():
    shades = torch.arange(20, 240, 20, dtype=torch.uint8)
    for size in ((24, 24), (97, 131), (300, 200)):
        x = decoded(film(shades[:, None, None, None].expand(-1, 3, *size)))
        assert np.abs(x.mean((1, 2, 3)) - shades.numpy()).max() < 6
    x = strip(shades[:, None, None, None].expand(-1, 3, 24, 24), EVIL)
    assert "8 of 11 frames" in x
    assert EVIL not in x


@pytest.mark.parametrize("views", [one_clip, partial(two_clips, clips=3, speed=2.0)])
def test_pages_of_other_runs(views, tmp_path):
    clips = np.random.default_rng(0).integers(0, 256, (9, 6, 20, 28, 3), np.uint8)
    run = a_run(views, data=partial(videos, (clips, [EVIL, "b", "c"] * 3)))
    page = page_of(run, tmp_path / "run")
    assert EVIL not in page
    assert ("clip 3" in page) == (views is not one_clip)
    unlabelled = a_run(views, data=partial(videos, clips), holdout=0.0)
    assert "cluster" in Read(page_of(unlabelled, tmp_path / "none")).text


def test_of_a_masked_autoencoder_it_shows_what_is_seen(tmp_path):
    method = MAE(vivit1(image=24, frames=4, patch=8, size="test"), decoder_dim=16, decoder_depth=1, mask=0.67)
    page = page_of(a_run(one_clip), tmp_path / "run", method)
    assert page.count("what the encoder is shown") >= 4
    x = torch.rand(3, 4, 24, 24) * 0.4
    seen = masked(method, x, 0)
    shown = (seen == x).all(0)
    assert (seen[:, ~shown] == 0.5).all()
    assert shown.float().mean() == pytest.approx(3 / 9)
    assert (shown == shown[:1]).all()  # a tube


def test_embeddings_that_are_not_finite_leave_the_rest(tmp_path):
    run = a_run()
    method = build(run)
    method.encoder.forward = lambda x: torch.full((len(x), 8), math.nan)
    text = Read(page_of(run, tmp_path / "run", method)).text
    assert "embeddings are not finite" in text
    assert "What the method saw" in text


PLAYED = """(async () => {
  const films = [...document.querySelectorAll('video')];
  for (const film of films.slice(0, 3)) {
    await film.play();
    for (let i = 0; i < 120 && !(film.currentTime > 0.1); i++) await new Promise(done => setTimeout(done, 25));
    if (!(film.currentTime > 0) || film.videoWidth < 100) return false;
    film.pause();
  }
  return true;
})()"""


@pytest.mark.parametrize(("width", "dark"), [(1280, False), (390, True)])
def test_a_browser_shows_and_plays_it(tab, path, width, dark):
    tab.open(path, width, dark=dark, touch=width < 500)
    assert min(tab.run(DRAWN)) >= 1
    assert not wide(tab)
    assert tab.run(PLAYED)
    assert not tab.complaints
    assert set(tab.requests) <= {path.resolve().as_uri()}
