"""Views of sounds against references that take one sound at a time in float64."""

import json
from dataclasses import fields
from functools import partial

import numpy as np
import pytest
import torch
from scipy import signal, stats

from twoviews.data import soundops
from twoviews.data.dice import Dice
from twoviews.data.loader import collate
from twoviews.data.soundops import COLOURS, EDGE, FLOOR, LEAST, ONE, Drawn
from twoviews.data.soundviews import SOUND_VIEWS, random_filter, random_masks, two_sounds, whole, windows
from twoviews.errors import UserError

OFF = {"shift": 0, "mix": 0, "noise": 0, "band": 0, "bands": 0, "times": 0, "gain": 0}
EVERYTHING = {"shift": 0.3, "mix": 0.6, "noise": 0.7, "band": 0.8, "bands": 0.2, "times": 0.2, "gain": 10.0}
LENGTHS = [700, 256, 90, 1, 400, 255, 257, 613]


def made(lengths=LENGTHS, seed=0, dtype=torch.float32):
    """Noise with an offset on one canvas, each sound of its own level."""
    g = torch.Generator().manual_seed(seed)
    sounds = [(torch.randn(1, 1, n, generator=g) + i) * 10 ** (i % 5 - 3) for i, n in enumerate(lengths)]
    return collate([x.to(dtype) for x in sounds])


def dice(n=8, seed=0, epoch=0):
    return Dice(seed, epoch, torch.arange(n))


def leveled(x):
    """One sound in float64, its last sample marked where it is 0."""
    x = x - x.mean()
    norm = np.sqrt(np.square(x).mean())
    x = np.zeros_like(x) if norm < 1e-12 else x / norm
    if x.any() and x[-1] == 0:
        x[-1] = LEAST
    return x


def padded(x, length):
    return np.pad(x, (0, length - len(x)))


def ends_of(x):
    """Where each sound ends as encoders find it."""
    place = torch.arange(1, x.shape[1] + 1)
    return ((x != 0) * place).amax(1)


def passed(bins, low, high):
    """The curve of a band, a bin at a time."""
    ramp = [min(1, max(0, d / EDGE + 0.5)) for f in np.linspace(0, 1, bins) for d in (f - low, high - f)]
    return np.array(ramp).reshape(bins, 2).prod(1)


def reference(sound, drawn, i, length):
    """The view of one sound, step after step as augment's docstring says."""
    t, d = sound.numpy().astype(np.float64), {f.name: getattr(drawn, f.name) for f in fields(Drawn)}
    d = {name: None if x is None else x[i].numpy() for name, x in d.items()}
    start = int(d["start"])
    if d["step"] is None:
        x = t[start : start + length]
    else:
        at = start + np.arange(length) * int(d["step"]) / ONE
        x = np.interp(at[at <= len(t) - 1], np.arange(len(t)), t)
    x = leveled(x)
    heard, n = bool(x.any()), len(x)
    if d["other"] is not None:
        y = leveled(t[int(d["other"]) :][:length][::-1])
        x = x + heard * float(d["mix"]) * padded(y, max(n, length))[:n]
    if d["noise"] is not None or d["low"] is not None or d["bands"] is not None:
        spectrum = np.fft.rfft(padded(x, length))
        bins = len(spectrum)
        f = np.arange(bins, dtype=float)
        if d["noise"] is not None:
            slope = np.zeros(bins)
            slope[1:-1] = f[1:-1] ** -COLOURS[int(d["colour"])]
            slope *= length / np.sqrt(2 * np.square(slope).sum())  # irfft divides by length; each bin stands for two
            tape = soundops.noise(bins, torch.device("cpu")).numpy().astype(np.complex128)
            spectrum = spectrum + heard * float(d["noise"]) * slope * tape[int(d["place"]) :][:bins]
        curve = np.ones(bins)
        if d["low"] is not None:
            curve = passed(bins, float(d["low"]), float(d["high"]))
            curve = 1 - curve if d["stop"] else curve
        for low, high in [] if d["bands"] is None else d["bands"]:
            curve = curve * (1 - passed(bins, float(low), float(high)))
        x = np.fft.irfft(spectrum * (FLOOR + (1 - FLOOR) * curve), length)[:n]
    x = leveled(x)
    for first, stop in [] if d["times"] is None else d["times"]:
        x[int(first * np.float32(n)) : int(stop * np.float32(n))] = 0
    x = x * (1 if d["gain"] is None else float(d["gain"]))
    if x.any() and x[-1] == 0:
        x[-1] = LEAST
    return padded(x, length)


KNOBS = [{**OFF}, *({**OFF, name: EVERYTHING[name]} for name in EVERYTHING), EVERYTHING]


@pytest.mark.parametrize("knobs", KNOBS, ids=lambda k: "+".join(n for n, v in k.items() if v) or "off")
@pytest.mark.parametrize("length", [256, 131])
def test_views_equal_one_sound_at_a_time(knobs, length):
    sounds, sizes = made(dtype=torch.float64)
    views = two_sounds(length, **knobs)
    for v in range(2):
        drawn = views.draw(sizes[:, 1], dice().view(v))
        ours = soundops.augment(sounds[:, 0, 0], sizes[:, 1], length, drawn)
        for i, n in enumerate(LENGTHS):
            expected = reference(sounds[i, 0, 0, :n], drawn, i, length)
            np.testing.assert_allclose(ours[i].numpy(), expected, atol=1e-6, err_msg=f"view {v} of item {i}")
        single = views(sounds.float(), sizes, dice())[v]
        assert single.dtype == torch.float32
        torch.testing.assert_close(single.double(), ours, atol=1e-4, rtol=1e-4)


FACTORIES = [windows(256), two_sounds(256), two_sounds(256, **EVERYTHING), whole(300)]


@pytest.mark.parametrize("views", FACTORIES, ids=str)
def test_views_depend_on_the_item_alone(views):
    sounds, sizes = made()
    ids = torch.arange(8) + 40
    expected = views(sounds, sizes, Dice(5, 2, ids))
    for rows in (torch.tensor([3, 0, 7, 4, 1, 6, 2, 5]), torch.tensor([2]), torch.tensor([5, 1, 2])):
        few = sounds[rows][..., : int(sizes[rows, 1].max())]  # the canvas of that batch
        for x, whole_batch in zip(views(few, sizes[rows], Dice(5, 2, ids[rows])), expected, strict=True):
            width = min(x.shape[1], whole_batch.shape[1])
            tolerance = 1e-6 if isinstance(views, whole) else 0  # sums over rows of another width round differently
            torch.testing.assert_close(x[:, :width], whole_batch[rows, :width], atol=tolerance, rtol=tolerance)
            assert not x[:, width:].any()
    if not isinstance(views, whole):
        for other in (Dice(6, 2, ids), Dice(5, 3, ids), Dice(5, 2, ids + 1)):
            assert not torch.equal(views(sounds, sizes, other)[0][0], expected[0][0])


@pytest.mark.parametrize("views", FACTORIES, ids=str)
def test_what_is_not_0_is_the_sound(views):
    """An encoder finds each sound's length, also where its last sample is its mean; silence has none."""
    flat = [torch.zeros(1, 1, 300), torch.full((1, 1, 300), 0.1), torch.full((1, 1, 90), 1e5), torch.zeros(1, 1, 1)]
    even = torch.tensor([3.0, -1.0, 1.0]).repeat(40)[None, None]  # its mean is 1, as its last sample
    tiny = torch.randn(1, 1, 80) * 1e-15
    sounds, sizes = collate([*flat, even, even[..., :60], tiny])
    for x in views(sounds, sizes, dice(7)):
        assert x.isfinite().all()
        assert not x[:4].any()
        if not getattr(views, "shift", 0):
            assert ends_of(x)[4:].tolist() == [120, 60, 80]
        else:
            assert (ends_of(x)[4:] - torch.tensor([120, 60, 80])).abs().max() <= 40


def test_level_removes_offset_and_loudness():
    sounds, sizes = made([400, 256, 90, 17])
    (x,) = windows(256)(sounds, sizes, dice(4))
    assert x.shape == (4, 256)
    assert ends_of(x).tolist() == [256, 256, 90, 17]
    for row, n in zip(x, ends_of(x).tolist(), strict=True):
        assert abs(row[:n].mean()) < 1e-6
        assert row[:n].square().mean() == pytest.approx(1, abs=1e-5)
    halves = torch.tensor([LEAST]).half()
    assert halves > 0  # so that an encoder in half precision finds the end too


def test_a_window_is_a_stretch_of_its_recording_at_any_place():
    n, length, room = 20_000, 32, 6
    ramp = torch.arange(length + room - 1, dtype=torch.float32) ** 2
    sounds = ramp.expand(n, 1, 1, -1)
    (x,) = windows(length)(sounds, torch.tensor([1, len(ramp)]).expand(n, 2), dice(n))
    stretches = torch.stack([torch.from_numpy(leveled(ramp[s : s + length].double().numpy())) for s in range(room)])
    apart = torch.cdist(x.double(), stretches)
    assert apart.amin(1).max() < 1e-4
    counts = torch.bincount(apart.argmin(1), minlength=room)
    assert stats.chisquare(counts.numpy()).pvalue > 1e-3


def test_two_views_of_a_recording_differ():
    sounds, sizes = made()
    for views in (two_sounds(100), two_sounds(100, **OFF)):
        one, two = views(sounds, sizes, dice())
        assert not torch.equal(one[0], two[0])
        assert torch.equal(views(sounds, sizes, dice())[1], two)


def test_resampling_keeps_a_tone_and_moves_it():
    sounds = torch.sin(2 * torch.pi * 0.01 * torch.arange(4000.0)).expand(2, 4000)
    lengths = torch.tensor([4000, 3000])
    steps = torch.tensor([round(1.25 * ONE), round(0.8 * ONE)])
    x, count = soundops.resample(sounds, lengths, torch.tensor([10, 0]), steps, 2048)
    assert count.tolist() == [2048, 2048]
    peaks = torch.fft.rfft(x * torch.hann_window(2048)).abs().argmax(1) / 2048
    assert peaks.tolist() == pytest.approx([0.0125, 0.008], abs=1 / 2048)
    late, _ = soundops.resample(
        torch.arange(64.0)[None], torch.tensor([64]), torch.tensor([0]), torch.tensor([ONE + 1]), 40
    )
    torch.testing.assert_close(late[0].double(), torch.arange(40).double() * (1 + 1 / ONE), atol=1e-5, rtol=0)


def test_filters_pass_and_stop_tones():
    length, bins = 4096, 2049
    f = torch.tensor([0.05, 0.2, 0.45, 0.8])
    x = torch.sin(torch.pi * f[:, None] * torch.arange(length))

    def loud(low, high, stop):
        drawn = Drawn(
            torch.zeros(4), low=torch.full((4,), low), high=torch.full((4,), high), stop=torch.full((4,), stop)
        )
        y = soundops.by_spectrum(x, torch.ones(4), drawn)
        return (y.square().mean(1) / x.square().mean(1)).sqrt().tolist()

    assert loud(-1.0, 0.3, False) == pytest.approx([1, 1, FLOOR, FLOOR], abs=0.02)
    assert loud(0.3, 2.0, False) == pytest.approx([FLOOR, FLOOR, 1, 1], abs=0.02)
    assert loud(0.1, 0.6, False) == pytest.approx([FLOOR, 1, 1, FLOOR], abs=0.02)
    assert loud(0.1, 0.6, True) == pytest.approx([1, FLOOR, FLOOR, 1], abs=0.02)
    assert loud(-1.0, 2.0, False) == pytest.approx([1] * 4, abs=1e-5)
    curve = soundops.band(bins, torch.tensor([0.25], dtype=torch.float64), torch.tensor([0.5], dtype=torch.float64))
    assert curve[0, [512, 1024]].tolist() == pytest.approx([0.5, 0.5])
    np.testing.assert_allclose(curve[0].numpy(), passed(bins, 0.25, 0.5), atol=1e-9)


@pytest.mark.parametrize("colour", range(3))
def test_noise_has_its_colour_and_its_level(colour):
    n, length = 400, 2048
    x = torch.zeros(n, length, dtype=torch.float64)
    drawn = Drawn(
        torch.zeros(n),
        noise=torch.full((n,), 0.1),
        place=dice(n).integers(soundops.PLACES),
        colour=torch.full((n,), colour),
    )
    y = soundops.by_spectrum(x, torch.ones(n, dtype=torch.bool), drawn)
    assert y.square().mean().sqrt() == pytest.approx(0.1, rel=0.05)
    f, power = signal.welch(y.numpy(), nperseg=512)
    slope = np.polyfit(np.log(f[4:200]), np.log(power.mean(0)[4:200]), 1)[0]
    assert slope == pytest.approx(-2 * COLOURS[colour], abs=0.1)
    assert stats.kstest((y[:, 100] / y[:, 100].std()).numpy(), "norm").pvalue > 1e-3
    assert not soundops.by_spectrum(x, torch.zeros(n, dtype=torch.bool), drawn).any()  # silence gets none


def test_noise_is_a_stretch_of_normal_numbers_that_never_change():
    tape = torch.view_as_real(soundops.noise(129, torch.device("cpu")))
    assert len(tape) == soundops.PLACES + 129
    assert tape.square().sum(1).mean() == pytest.approx(1, abs=0.01)
    assert stats.kstest(tape[:20_000].flatten().numpy() * 2**0.5, "norm").pvalue > 1e-3
    assert abs(np.corrcoef(tape[:-1, 0], tape[1:, 0])[0, 1]) < 0.01
    assert abs(np.corrcoef(tape[:, 0], tape[:, 1])[0, 1]) < 0.01


def test_chances_and_ranges():
    n = 20_000
    low, high, stop = random_filter(dice(n), 0.8)
    touched = (low > 0) | (high < 1)
    assert touched.float().mean() == pytest.approx(0.8, abs=0.02)
    kinds = [(low < 0) & (high < 1), (low > 0) & (high > 1), (low > 0) & (high <= 1) & ~stop, stop]
    for kind in kinds:
        assert kind.float().mean() == pytest.approx(0.2, abs=0.02)
    assert (high >= 2 * low).all()
    masks = random_masks(dice(n), 0.2)
    assert masks.shape == (n, 2, 2)
    assert (masks >= 0).all()
    assert (masks <= 1).all()
    assert masks.diff(dim=2).min() >= 0
    assert 0.19 < masks.diff(dim=2).max() <= 0.2 + 1e-6
    lengths = torch.full((n,), 5000)
    drawn = two_sounds(1000, noise=0.3, mix=0.6, above=(10, 20), gain=6, shift=0.25).draw(lengths, dice(n))
    assert (drawn.noise > 0).float().mean() == pytest.approx(0.3, abs=0.02)
    assert (drawn.mix > 0).float().mean() == pytest.approx(0.6, abs=0.02)
    for amount in (drawn.noise, drawn.mix):
        decibels = -20 * amount[amount > 0].log10()
        assert 10 - 1e-3 < decibels.min() < 10.1
        assert 19.9 < decibels.max() < 20 + 1e-3
    assert [20 * x.log10().item() for x in drawn.gain.aminmax()] == pytest.approx([-6, 6], abs=0.01)
    assert [x.item() / ONE for x in drawn.step.aminmax()] == pytest.approx([0.8, 1.25], abs=1e-3)
    assert ((drawn.start + 999 * drawn.step / ONE) <= 4999).all()


def test_what_is_off_is_not_drawn():
    drawn = two_sounds(64, **OFF).draw(torch.tensor([100, 64]), dice(2))
    assert [f.name for f in fields(Drawn) if getattr(drawn, f.name) is not None] == ["start"]


def test_whole_sounds():
    sounds, sizes = made([50, 400, 120])
    (x,) = whole()(sounds, sizes)
    assert x.shape == (3, 400)
    assert ends_of(x).tolist() == [50, 400, 120]
    for row, sound, n in zip(x, sounds[:, 0, 0], sizes[:, 1].tolist(), strict=True):
        np.testing.assert_allclose(row.numpy(), padded(leveled(sound[:n].double().numpy()), 400), atol=1e-4)
    (x,) = whole(most=100)(sounds, sizes, None)
    assert ends_of(x).tolist() == [50, 100, 100]
    np.testing.assert_allclose(x[1].numpy(), leveled(sounds[1, 0, 0, 150:250].double().numpy()), atol=1e-4)


@pytest.mark.parametrize("views", [*FACTORIES, windows(16), two_sounds(5000)], ids=str)
def test_pictures(views):
    sounds, sizes = made([700, 300, 40])
    for picture in views.pictures(sounds, sizes, dice(3)):
        assert picture.shape == (3, 1, 64, 128)
        assert picture.min() >= 0
        assert picture.max() <= 1
        assert picture.amax((1, 2, 3)).tolist() == pytest.approx([1] * 3)


def test_a_picture_shows_what_is_heard_and_when():
    t = torch.arange(8192.0)
    x = torch.stack([torch.sin(torch.pi * 0.25 * t) * (t < 4096), torch.sin(torch.pi * 0.75 * t) * (t >= 4096), 0 * t])
    low, high, none = soundops.spectrogram(x)[:, 0]
    assert 63 - low.mean(1).argmax() == pytest.approx(16, abs=1)
    assert 63 - high.mean(1).argmax() == pytest.approx(48, abs=1)
    assert low[:, :60].mean() > 5 * low[:, 70:].mean()
    assert high[:, 70:].mean() > 5 * high[:, :58].mean()
    assert not none.any()


def test_knobs_survive_json_and_partial():
    sounds, sizes = made()
    for views in (windows(128, together=4), two_sounds(128, **EVERYTHING)):
        again = partial(type(views), **json.loads(json.dumps(vars(views))))()
        assert all(map(torch.equal, views(sounds, sizes, dice()), again(sounds, sizes, dice())))
    assert set(SOUND_VIEWS) == {"windows", "two_sounds"}


@pytest.mark.parametrize(
    ("views", "knobs", "word"),
    [
        (windows, {"length": 8}, "a length of 8 samples"),
        (windows, {"length": 1.28}, "a length of 1.28 samples"),
        (windows, {"together": 1}, "together=1"),
        (windows, {"together": -2}, "together=-2"),
        (whole, {"most": 0}, "a length of 0 samples"),
        (two_sounds, {"length": 0}, "a length of 0 samples"),
        (two_sounds, {"noise": 1.5}, "noise=1.5"),
        (two_sounds, {"mix": -0.1}, "mix=-0.1"),
        (two_sounds, {"band": "low"}, "band=low"),
        (two_sounds, {"bands": 0.6}, "bands=0.6"),
        (two_sounds, {"times": (0, 0.1)}, "times=(0, 0.1)"),
        (two_sounds, {"shift": 2}, "shift=2"),
        (two_sounds, {"gain": float("nan")}, "gain=nan"),
        (two_sounds, {"above": (30, 5)}, "above=(30, 5)"),
        (two_sounds, {"above": -5}, "above=-5"),
        (two_sounds, {"above": (-5, 5)}, "above=(-5, 5)"),
    ],
)
def test_wrong_knobs_are_told(views, knobs, word):
    with pytest.raises(UserError) as error:
        views(**knobs)
    assert word in str(error.value)
    assert "\n" not in str(error.value)
