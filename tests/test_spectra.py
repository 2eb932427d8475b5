"""log_mel and mfcc against brute force in float64, librosa and python_speech_features."""

import math

import numpy as np
import pytest
import torch

from twoviews.encoders.spectra import FLOOR, before, centred, cosines, frames, log_mel, mfcc, span, triangles
from twoviews.errors import UserError

RATES = (8000, 16000, 22050, 44100, 48000)


def clip(rate, seconds=0.3):
    x = torch.randn(2, int(seconds * rate) + 13, generator=torch.Generator().manual_seed(rate))
    x[:, : rate // 10] *= 0.01  # a quiet beginning
    return x


def surrounded(x, rate):
    """float64 numpy, with the zeros that frames reach into."""
    return centred(x, *span(rate)).double().numpy()


def size_of(rate):
    window = span(rate)[0]
    return max(512, 2 ** math.ceil(math.log2(window)))


@pytest.mark.parametrize("rate", RATES)
def test_log_mel_by_hand(rate):
    (window, hop), size, x = span(rate), size_of(rate), clip(rate)
    hann = np.array([math.sin(math.pi * i / window) ** 2 for i in range(window)])
    hertz = np.arange(size // 2 + 1) * rate / size
    mels = np.linspace(0, 2595 * math.log10(1 + rate / 2 / 700), 82)
    edges = [700 * (10 ** (m / 2595) - 1) for m in mels]
    want = []
    for n in range(frames(x.shape[1], hop)):
        middle = n * hop + hop // 2
        places = np.arange(window) + middle - (window - 1) // 2
        inside = (places >= 0) & (places < x.shape[1])
        piece = np.where(inside, x[0].double().numpy()[np.clip(places, 0, x.shape[1] - 1)], 0)
        energy = np.abs(np.fft.rfft(piece * hann, size)) ** 2 / (hann**2).sum()
        bank = [np.interp(hertz, edges[i : i + 3], [0, 1, 0]) @ energy for i in range(80)]
        want.append(np.log(np.array(bank) + FLOOR) - math.log(FLOOR))
    got = log_mel(x, rate)
    assert got.shape == (2, len(want), 80)
    np.testing.assert_allclose(got[0].numpy(), want, atol=1e-4)


@pytest.mark.parametrize("rate", RATES)
def test_log_mel_of_librosa(rate):
    librosa = pytest.importorskip("librosa")
    (window, hop), size, x = span(rate), size_of(rate), clip(rate)
    bank = librosa.filters.mel(sr=rate, n_fft=size, n_mels=80, htk=True, norm=None)
    np.testing.assert_allclose(triangles(rate, size, 80), bank, atol=1e-6)
    assert bank.max(1).min() > 0  # none is empty
    side = (size - window) // 2  # librosa puts a short window in the middle of its frame
    y = np.pad(surrounded(x, rate), [(0, 0), (side, size - window - side)])
    mel = librosa.feature.melspectrogram(
        y=y, sr=rate, n_fft=size, hop_length=hop, win_length=window, center=False, n_mels=80, htk=True, norm=None
    )
    scale = librosa.filters.get_window("hann", window) ** 2
    want = np.log1p(mel / scale.sum() / FLOOR).swapaxes(1, 2)
    np.testing.assert_allclose(log_mel(x, rate).numpy(), want, atol=1e-4)


@pytest.mark.parametrize("rate", RATES)
def test_mfcc_of_python_speech_features(rate):
    psf = pytest.importorskip("python_speech_features")
    x = clip(rate)
    got = mfcc(x, rate).numpy()
    for ours, y in zip(got, surrounded(x, rate), strict=True):
        want = psf.mfcc(y, rate, nfft=2 ** math.ceil(math.log2(span(rate)[0])))
        np.testing.assert_allclose(ours, want, atol=2e-4)


def test_cosines_are_scipys():
    from scipy.fft import dct

    x = np.random.default_rng(0).normal(size=(3, 26))
    lift = 1 + 11 * np.sin(np.pi * np.arange(13) / 22)
    np.testing.assert_allclose(x @ cosines(26, 13).T, dct(x, norm="ortho")[:, :13] * lift, atol=1e-5)


@pytest.mark.parametrize("spectra", [log_mel, mfcc])
def test_padding_changes_nothing(spectra):
    x = clip(8000)
    padded = torch.nn.functional.pad(x, (0, 3000))
    alone = spectra(x, 8000)
    assert alone.shape[1] == frames(x.shape[1], 80)
    torch.testing.assert_close(spectra(padded, 8000)[:, : alone.shape[1]], alone, atol=1e-5, rtol=0)


def test_silence():
    x = torch.zeros(2, 800)
    assert not log_mel(x, 8000).any()
    assert mfcc(x, 8000).isfinite().all()
    assert log_mel(torch.zeros(1, 1), 8000).shape == (1, 1, 80)


def test_white_noise_has_one():
    x = torch.randn(1, 80_000, generator=torch.Generator().manual_seed(0))
    area = torch.from_numpy(triangles(8000, 512, 80)).sum(1)
    energy = (log_mel(x, 8000).exp() - 1) * FLOOR / area
    assert energy.mean() == pytest.approx(1, abs=0.02)


def test_gradients_and_bfloat16():
    x = clip(8000).requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        coarse = log_mel(x, 8000)
    assert torch.equal(coarse, log_mel(x, 8000))  # energies are never coarse
    coarse.sum().backward()
    assert x.grad.isfinite().all()


@pytest.mark.parametrize("rate", RATES)
def test_frames_lie_around_their_stretch(rate):
    window, hop = span(rate)
    assert (window, hop) == (math.floor(rate / 40 + 0.5), math.floor(rate / 100 + 0.5))
    assert (window - 1) // 2 - before(window, hop) == hop // 2


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda x: log_mel(x, 100), "rate is samples a second, at least 1000"),
        (lambda x: log_mel(x, 8000, 0), "bins must be 1 or more, got 0"),
        (lambda x: mfcc(x, 8000, 27), "count must be at most 26"),
    ],
)
def test_settings(make, message):
    with pytest.raises(UserError, match=message):
        make(torch.zeros(1, 100))
