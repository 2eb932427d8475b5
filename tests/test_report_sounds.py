"""The page of a run on recordings: what it says, that it says it of anything, and that a browser plays its sounds."""

import base64
import io
import json
import math
from functools import partial

import numpy as np
import pytest
import soundfile
import torch
from test_doctor_sounds import clips
from test_report import DOCTOR, DRAWN, EVIL, POINT, Read, seen, table, wide

from twoviews import Run
from twoviews.build import build, describe, sources
from twoviews.data.sounds import sounds
from twoviews.data.soundviews import two_sounds, whole, windows
from twoviews.encoders.mel import mel
from twoviews.encoders.wave import wave
from twoviews.errors import UserError
from twoviews.evaluate.knn import knn
from twoviews.evaluate.queries import as_sounds, heard
from twoviews.evaluate.search import Found
from twoviews.folder import write_json
from twoviews.methods import SimCLR
from twoviews.methods.cpc import CPC
from twoviews.report.horizons import horizons, names, steps_ahead
from twoviews.report.players import Players, small
from twoviews.report.record import read_record
from twoviews.report.soundclips import Clips, collect
from twoviews.report.soundfound import write_found_sounds
from twoviews.report.soundmap import evidence
from twoviews.report.sounds import write_sound_report
from twoviews.report.soundsaw import wave as outline
from twoviews.types import Features

CPU = torch.device("cpu")
LOG_N = 5.0


def a_folder(path, n=24, evil=False):
    """Recordings of three digits by two speakers, four takes of each, the first of them longer than is played."""
    path.mkdir()
    for i, (x, rate) in enumerate(clips(n)):
        x = np.tile(x, 20) if i % 12 == 0 else x
        soundfile.write(path / f"{i % 3}_{'<b>' if evil else 'ann' if i % 2 else 'bob'}_{i}.wav", x, rate)
    return path


def a_run(data, labels="{digit}_{speaker}_{_}", method="cpc", **changed):
    two = {"cpc": (windows, partial(wave, width=8, dim=8), partial(CPC, steps=4))}
    two["simclr"] = two_sounds, partial(mel, bins=16, dim=8), partial(SimCLR, dim=4, hidden=8)
    views, encoder, made = two[method]
    run = Run(
        data=partial(sounds, data=data, labels=labels, rate=8000),
        views=partial(views, length=1600),
        test_view=partial(whole),
        encoder=encoder,
        method=made,
        holdout=0.4,
    )
    return run.override(changed)


def lines(steps=60, ahead=4):
    for step in range(1, steps + 1):
        at = step / steps
        line = {"step": step, "loss": 5 - at, "lr": 0.1, "h_rank": 3.0}
        for k in range(1, ahead + 1):
            line |= {f"loss_{k}": LOG_N - 2 * at / k, f"bound_{k}": 2 * at / k, f"accuracy_{k}": 0.5 * at / k}
        yield line


def page_of(run, folder, method=None, ahead=4, **files):
    folder.mkdir()
    source, test = sources(run)
    run = run.resolved(source)
    write_json(folder / "run.json", describe(run, source))
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines(ahead=ahead)))
    for name, value in files.items():
        write_json(folder / f"{name}.json", value)
    return write_sound_report(folder, run, method or build(run), source, test, device=CPU).read_text()


def played(page):
    """The sounds of a page, decoded: (samples, rate) each."""
    held = next(value for value in Read(page).json() if isinstance(value, list))
    return [soundfile.read(io.BytesIO(base64.b64decode(each))) for each in held]


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """The page of a usual run of CPC."""
    folder = tmp_path_factory.mktemp("report")
    page_of(a_run(str(a_folder(folder / "digits"))), folder / "run", evaluation=table(), doctor=DOCTOR)
    return folder / "run" / "index.html"


@pytest.fixture
def page(path):
    return path.read_text()


def test_every_section_stands_in_its_place(page):
    read = Read(page)
    order = ["CPC on digits", "recordings", "at 8,000 Hz", "Dimensional collapse.", "How good is it?"]
    order += ["How far ahead does it predict?", "in steps of 10 ms", "Accuracy by horizon", "Bound by horizon"]
    order += ["The test recordings as the encoder hears them", "by label", "by speaker", "kNN", "silhouette"]
    order += ["Nearest neighbours to listen to", "What the method saw", "Training", "Directions in use"]
    order += ["The recordings", "hours in", "2 speakers", "How to do it again", "twoviews search run query.wav"]
    at = 0
    for part in order:
        assert part in read.text[at:], part
        at = read.text.index(part, at)
    for tag, given in read.elements:
        if tag == "a":
            assert any(other.get("id") == given["href"][1:] for _, other in read.elements)
        if tag == "img":
            assert given["alt"]
        if tag == "button" and "data-sound" in given:
            assert given["aria-label"].startswith("play ")
    assert "accuracy_3" not in page  # which the figures by horizon show
    assert len(page.encode()) < 8e6


def test_it_asks_nothing_of_a_network(page):
    read = Read(page)
    policy = next(given["content"] for tag, given in read.elements if given.get("http-equiv"))
    assert "default-src 'none'" in policy
    assert "media-src data:;" in policy
    for tag, given in read.elements:
        for name in ("src", "href", "srcset", "data", "poster", "action"):
            assert given.get(name, "data:").startswith(("data:", "#")), (tag, given)


def test_every_button_plays_a_sound_that_decodes(page):
    found = played(page)
    buttons = [int(given["data-sound"]) for tag, given in Read(page).elements if "data-sound" in given]
    points = next(value for value in Read(page).json() if "keys" in value)["keys"]
    assert len(buttons) > 20
    assert set(range(len(found))) == set(buttons) | set(range(len(points)))
    for x, rate in found:
        assert rate == 8000
        assert 0.1 < len(x) / rate <= 2.1
        assert 0.3 < np.abs(x).max() <= 1.0


def test_recordings_of_one_name_on_both_sides_are_each_heard():
    noise = [sounds([(x, 8000)]) for x in torch.randn(2, 800).numpy()]
    sides = [Clips(Features(torch.ones(1, 1), [source.key(0)]), source, 1, {}, 0) for source in noise]
    players = Players()
    assert [side.sound(players, 0) for side in (*sides, sides[0])] == [0, 1, 0]


def test_a_sound_is_kept_as_it_sounds():
    t = torch.arange(40_000) / 16_000
    x, rate = soundfile.read(io.BytesIO(small(0.01 * torch.sin(2 * math.pi * 440 * t) + 3, 16_000)))
    assert rate == 16_000
    assert len(x) == 32_000
    assert abs(x.mean()) < 1e-3
    assert abs(np.abs(np.fft.rfft(x[4000:20_000])).argmax() - 440) <= 1
    for n, given in ((1, 8000), (5, 16_000), (4000, 44_100), (0, 8000)):
        assert soundfile.read(io.BytesIO(small(torch.zeros(n), given)))[1] == (8000 if given == 8000 else 16_000)
    players = Players()
    assert [players.add(key, torch.randn(800), 8000) for key in "aba"] == [0, 1, 0]


def test_horizons_are_those_that_were_logged(tmp_path, path):
    record = read_record(path.parent)
    assert steps_ahead(record) == [1, 2, 3, 4]
    assert names(record) == {f"{part}_{k}" for part in ("loss", "accuracy", "bound") for k in range(1, 5)}
    accuracy, bound = Read(horizons(record)).json()
    curves = {trace["name"]: np.array(_values(trace["y"])) for trace in accuracy["data"]}
    assert np.allclose(curves["chance"], math.exp(-LOG_N))
    last = np.mean([0.5 * step / 60 for step in range(54, 61)])
    assert np.allclose(curves["at the end"], last / np.arange(1, 5))
    assert (curves["in the first twentieth"] < curves["in the first quarter"]).all()
    assert np.allclose(_values(bound["data"][-1]["y"]), LOG_N)
    for line in record.metrics:  # as is logged of a horizon that no item reaches
        line |= {"loss_4": 0.0, "bound_4": 0.0, "accuracy_4": 0.0}
    last = Read(horizons(record)).json()[0]["data"][-2]["y"]
    assert math.isnan(_values(last)[3] or math.nan)
    record.metrics.clear()
    assert "Nothing was logged" in horizons(record)


def _values(y):
    """Plotly writes arrays as base64."""
    return np.frombuffer(base64.b64decode(y["bdata"]), y["dtype"]) if isinstance(y, dict) else y


def test_the_figures_beside_the_map_are_those_of_the_probes():
    g = torch.Generator().manual_seed(0)
    labels = torch.arange(60) % 3
    h = torch.randn(60, 8, generator=g) + 2 * torch.randn(3, 8, generator=g)[labels]
    all_ = Features(h, [str(i) for i in range(60)], labels)
    vote, silhouette, often = evidence(all_, np.arange(60))
    correct = 0
    for i in range(60):  # each left out in turn
        rest = torch.arange(60) != i
        one = Features(h[i : i + 1], ["q"], labels[i : i + 1])
        correct += knn(Features(h[rest], all_.keys[1:], labels[rest]), one, k=5).value
    assert vote.value == pytest.approx(correct / 60)
    assert often.value == pytest.approx(1 / 3)
    from sklearn.metrics import silhouette_score

    assert silhouette.value == pytest.approx(silhouette_score(h.numpy(), labels.numpy(), metric="cosine"), abs=1e-6)
    alone, _, _ = evidence(all_, np.zeros(60, int))  # nothing but pieces of one recording
    assert alone is None
    twice = Features(h.repeat(2, 1), all_.keys * 2, torch.randint(3, (120,), generator=g))
    pieces, _, _ = evidence(twice, np.arange(120) % 60)  # a copy that lies nearest is of the same recording
    assert pieces.value < 0.6
    assert evidence(Features(h[:2], ["a", "b"], torch.tensor([0, 1])), np.arange(2))[1] is None


def test_neighbours_are_the_nearest_of_other_recordings(tmp_path):
    run = a_run(str(a_folder(tmp_path / "digits")))
    page = page_of(run, tmp_path / "run")
    source, test = sources(run)
    run = run.resolved(source)
    method = build(run)
    clips_ = collect(run, method, test, CPU)
    assert len(clips_) == clips_.total > len(test)  # long ones are shown in pieces
    assert max(clips_.source.length) <= 2 * 8000
    both = [clips_, collect(run, method, source, CPU)]
    rows = page.split('<section id="windows">')[0].split('<div class="row">')[1:]
    assert len(rows) == 6
    for row in rows:
        query = row.split("<figcaption>")[1].split("</figcaption>")[0]
        cosines = [float(part.split("</b>")[0]) for part in row.split("<b>")[1:]]
        assert len(cosines) == 5
        assert cosines == sorted(cosines, reverse=True)
        best = []
        for i in np.flatnonzero(np.array(clips_.captions()) == query):
            for side, clip in enumerate(both):
                alike = torch.cosine_similarity(clip.features.h, clips_.features.h[i : i + 1])
                best.append(alike[torch.from_numpy((clip.source.file != clips_.source.file[i]) | (side == 1))].max())
        assert any(abs(float(b) - cosines[0]) < 6e-4 for b in best)


@pytest.mark.parametrize("method", ["cpc", "simclr"])
@pytest.mark.parametrize("labels", ["{digit}_{speaker}_{_}", "{_}_{speaker}_{_}", None])
def test_pages_of_other_runs(method, labels, tmp_path):
    run = a_run(str(a_folder(tmp_path / "<i>", 12, evil=True)), labels, method=method)
    ahead = 4 if method == "cpc" else 0
    page = page_of(run, tmp_path / "run", ahead=ahead)
    read = Read(page)
    assert ("How far ahead" in read.text) == bool(ahead)
    assert ("cluster 1" in read.text) == (labels != "{digit}_{speaker}_{_}")
    assert "What the method saw" in read.text
    assert ("view 2" in read.text) == (method == "simclr")
    assert not [tag for tag, _ in read.elements if tag in ("b<", "b>")]
    assert "<b>_" not in page.replace("<b>0", "")


def test_hostile_sounds_make_a_page(tmp_path):
    """A few, most of them silent or no sound at all; and an encoder that gives what is not finite."""
    data = [*clips(6), (np.zeros(4000, np.float32), 8000), (np.full(4000, np.nan, np.float32), 8000)]
    data += [(np.concatenate([np.zeros(30_000), np.ones(4000)]).astype(np.float32), 8000)]
    run = a_run(data, None, **{"holdout": 0})
    page = page_of(run, tmp_path / "run")
    assert "2 pieces could not be read" in page
    method = build(run.resolved(run.data()))
    method.encoder.forward = lambda x: torch.full((len(x), 8), math.nan)
    assert "embeddings are not finite" in page_of(run, tmp_path / "other", method)
    assert "NaN" not in Read(page).text
    short = a_run([(np.sin(np.arange(n)).astype(np.float32), 8000) for n in (2, 20, 60, 400, 900)], None, holdout=0)
    assert "Nearest neighbours" in page_of(short, tmp_path / "short")


def test_outlines_are_drawn_of_any_length():
    x = torch.sin(torch.arange(1000) / 5)
    numbers = [float(part.split()[1]) for part in outline(x).strip("MZ").split("L")]
    assert len(numbers) == 320
    assert min(numbers) == pytest.approx(-1.01, abs=0.02)
    assert max(numbers) == pytest.approx(1.01, abs=0.02)
    assert outline(torch.zeros(3)).count("L") == 5


# Search


def test_a_query_may_be_a_file_a_folder_or_samples(tmp_path):
    folder = a_folder(tmp_path / "digits", 6)
    x, rate = clips(1)[0]
    x = x / 2
    soundfile.write(tmp_path / "query.flac", np.stack([x, x], 1), rate)
    one = as_sounds(tmp_path / "query.flac", 8000)
    assert len(one) == 1
    assert one.key(0).endswith("query.flac")
    assert torch.allclose(one.read(0)[0, 0], torch.from_numpy(x), atol=1e-4)
    assert as_sounds(tmp_path / "query.flac", 16_000).read(0).shape[2] == pytest.approx(2 * len(x), abs=1)
    assert torch.equal(as_sounds((x, rate), 8000).read(0)[0, 0], torch.from_numpy(x))
    assert len(as_sounds(folder, 8000)) == 6
    assert as_sounds("0_bob_0.wav", 8000) is None
    found = heard(as_sounds(folder, 8000), ["0_bob_0.wav", "1_ann_1.wav", "none"], 8000)
    assert {key: x.shape[2] <= 2 * 8000 for key, x in found.items()} == {"0_bob_0.wav": True, "1_ann_1.wav": True}
    (tmp_path / "video.wav").write_bytes(b"\0\0\0\x18ftypmp42" + bytes(100))
    with pytest.raises(UserError, match=r"video\.wav' cannot be searched for: .*MP4"):
        as_sounds(tmp_path / "video.wav", 8000)
    soundfile.write(tmp_path / "silence.wav", np.zeros(800), 8000)
    for wrong in (tmp_path / "silence.wav", (np.zeros(800), 8000), (np.full(80, np.inf), 8000)):
        with pytest.raises(UserError, match="cannot be searched for"):
            as_sounds(wrong, 8000)


def test_what_was_found_can_be_heard(tmp_path):
    sound = torch.from_numpy(clips(1)[0][0])[None, None]
    found = [Found(f"{EVIL}{i}", "cat", ["a/b.wav", "gone.wav"], [0.9, 0.5], ["cat", None]) for i in range(32)]
    path = write_found_sounds(
        tmp_path / "f.html", "Search", "Note.", found, {f"{EVIL}0": sound}, {"a/b.wav": sound}, 8000
    )
    page = path.read_text()
    read = Read(page)
    assert EVIL not in page
    assert "the first 30 of 32" in read.text
    assert len(played(page)) == 2
    assert page.count('data-sound="0"') == 30
    assert "no picture" in read.text


# A browser

HEARD = """(async () => {
  for (let i = 0; i < 80 && !window.heard; i++) await new Promise(done => setTimeout(done, 25));
  return window.heard;
})()"""
LISTEN = """(() => {
  const play = HTMLMediaElement.prototype.play;
  HTMLMediaElement.prototype.play = function() {
    window.heard = null;
    this.ontimeupdate = () => { if (this.currentTime > 0) window.heard = this.src; };
    return play.call(this);
  };
})()"""
BUTTON = """(() => {
  const button = document.querySelector('#neighbours [data-sound]');
  button.scrollIntoView({block: 'center', behavior: 'instant'});
  const box = button.getBoundingClientRect();
  return [box.left + box.width / 2, box.top + box.height / 2, Number(button.dataset.sound)];
})()"""


def press(tab, x, y):
    for kind in ("mousePressed", "mouseReleased"):
        tab("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)


@pytest.mark.parametrize(("width", "dark"), [(1280, False), (390, True)])
def test_a_browser_shows_and_plays_it(tab, path, page, width, dark):
    tab.open(path, width, dark=dark, touch=width < 500)
    tab.run(LISTEN)
    assert min(tab.run(DRAWN)) >= 1
    assert not wide(tab)
    sounds_ = next(value for value in Read(page).json() if isinstance(value, list))
    act = tab.tap if width < 500 else partial(press, tab)
    x, y, number = tab.run(BUTTON)
    act(x, y)
    assert tab.run(HEARD).endswith(sounds_[number])
    x, y = tab.run(POINT.replace("ITEM", "1"))
    if width > 500:
        tab.point(x, y)
    act(x, y)
    assert not seen(tab, "false")["hidden"]
    tab.run("window.heard = null")
    assert tab.run(HEARD).endswith(sounds_[1])
    tab.run("document.querySelectorAll('.choose button')[1].click()")
    assert tab.run("document.querySelectorAll('.legend')[0].hidden")
    tab("Emulation.setEmulatedMedia", media="print")
    assert not wide(tab)
    tab("Emulation.setEmulatedMedia", media="screen")
    assert not tab.complaints
    assert set(tab.requests) <= {path.resolve().as_uri()}
