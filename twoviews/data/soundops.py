"""Operations on batches of sounds, with one set of parameters an item and no randomness.

Sounds are (B, T) float32 (float64 stays float64), each from the left of its row and exact zeros after it; parameters
are (B,) tensors on the same device. Nothing here waits for the device, loops over items or indexes by a mask. Encoders
find where a sound ends by its last sample that is not 0, so `level` and `ends` see to it that this is its true end.

`augment` does what was drawn for a view: filters, masks of the spectrum and noise share one pair of Fourier transforms.
SpecAugment: Park et al. 2019, arXiv:1904.08779.
"""

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional as F

from .dice import Dice

LEAST = 2.0**-20  # what a last sample of 0 becomes: 120 dB below the sound, and still there in half precision
ONE = 2**20  # a step of one sample in `resample`
EDGE = 1 / 64  # of the spectrum: how wide the edge of a filter is
FLOOR = 0.03  # what a filter leaves (-30 dB): of a sound that lies in the stopped band more than rounding errors
COLOURS = (0.0, 0.5, 1.0)  # white, pink and brown noise: the amplitude falls with this power of the frequency
PLACES = 2**18  # at which the noise may begin
ROWS, COLUMNS = 64, 128  # of a spectrogram


@dataclass
class Drawn:
    """What was drawn for one view of each of B sounds, in the order of the ops; None: that op is off.

    All are (B,) but those that have a shape here. Amounts are amplitudes beside a sound of 1; 0 adds nothing.
    """

    start: Tensor  # int64, the first sample
    step: Tensor | None = None  # int64, samples of the sound for each of the view, times ONE
    other: Tensor | None = None  # int64, where the piece begins that is mixed in backwards
    mix: Tensor | None = None  # its amount
    noise: Tensor | None = None  # its amount
    place: Tensor | None = None  # int64, where in the noise
    colour: Tensor | None = None  # int64, which of COLOURS
    low: Tensor | None = None  # the band that a filter passes, as shares of the spectrum
    high: Tensor | None = None
    stop: Tensor | None = None  # bool, whether it stops that band instead
    bands: Tensor | None = None  # (B, M, 2) masks of the spectrum, from and to
    times: Tensor | None = None  # (B, M, 2) masks in time, from and to as shares of the sound
    gain: Tensor | None = None


def augment(sounds: Tensor, lengths: Tensor, length: int, drawn: Drawn) -> Tensor:
    """The view that was drawn of each sound: (B, T) -> (B, length), level but for the gain. Silence stays silence."""
    if drawn.step is None:
        x, count = cut(sounds, drawn.start, length), lengths.clamp(max=length)
    else:
        x, count = resample(sounds, lengths, drawn.start, drawn.step, length)
    x = level(x, count)
    heard = torch.linalg.vector_norm(x, dim=1) > 0
    spectral = any(part is not None for part in (drawn.noise, drawn.low, drawn.bands))
    if drawn.other is not None and drawn.mix is not None:
        y = level(backwards(sounds, lengths, drawn.other, length), lengths.clamp(max=length))
        x = x + y * inside(count, x) * (drawn.mix * heard)[:, None]
    if spectral:
        x = by_spectrum(x, heard, drawn) * inside(count, x)
    if spectral or drawn.other is not None:
        x = level(x, count)
    if drawn.times is not None:
        x = mask_times(x, count, drawn.times)
    return ends(x if drawn.gain is None else x * drawn.gain.to(x.dtype)[:, None], count)


def inside(count: Tensor, x: Tensor) -> Tensor:
    """(B, T), of the shape and type of x: 1 at the first `count` samples of each row, 0 after them."""
    place = torch.arange(x.shape[1], dtype=torch.int32, device=x.device)
    return (count.int()[:, None] - place).clamp_(0, 1).to(x.dtype)  # cheaper than comparing


def cut(sounds: Tensor, start: Tensor, length: int) -> Tensor:
    """`length` samples of each from `start` on: (B, T) -> (B, length). There must be so many, or start is 0."""
    sounds = F.pad(sounds, (0, max(0, length - sounds.shape[1])))
    return sounds.unfold(1, length, 1)[torch.arange(len(sounds), device=sounds.device), start]


def backwards(sounds: Tensor, lengths: Tensor, start: Tensor, length: int) -> Tensor:
    """The same played backwards; of shorter sounds all of it, and zeros after."""
    last = start + lengths.clamp(max=length) - 1
    at = last[:, None] - torch.arange(length, device=sounds.device)
    return sounds.gather(1, at.clamp_(min=0)) * inside(lengths, at.to(sounds.dtype))


def resample(sounds: Tensor, lengths: Tensor, start: Tensor, step: Tensor, length: int) -> tuple[Tensor, Tensor]:
    """Each played step / ONE times as fast from `start` on, linear between samples: (B, length), and samples got (B,).

    Steps are whole numbers, so that places are exact however far they are from the start.
    """
    at = torch.arange(length, device=sounds.device) * step[:, None]  # (B, length)
    last = (lengths - 1)[:, None]
    low = (at >> 20).add_(start[:, None])
    part = (at & (ONE - 1)).to(sounds.dtype).div_(ONE)
    x = torch.lerp(sounds.gather(1, low.minimum(last)), sounds.gather(1, (low + 1).minimum(last)), part)
    count = ((lengths - 1 - start) * ONE // step + 1).clamp(max=length)
    return x * inside(count, x), count


def level(x: Tensor, count: Tensor) -> Tensor:
    """Offset removed and divided by the root mean square over the first `count` samples; all after must be 0.

    A constant becomes 0. Else the last of the samples is not 0 (`ends`).
    """
    many = count.clamp(min=1).to(x.dtype)[:, None]
    whole = torch.linalg.vector_norm(x, dim=1, keepdim=True)
    x = torch.addcmul(x, inside(count, x), x.sum(1, keepdim=True) / many, value=-1)
    norm = torch.linalg.vector_norm(x, dim=1, keepdim=True)
    constant = norm <= 1e-6 * whole  # what is left are rounding errors
    return ends(x.mul_(torch.where(constant, 0, many.sqrt() / norm)), count)


def ends(x: Tensor, count: Tensor) -> Tensor:
    """Sets the last of the first `count` samples to LEAST where it is 0 and the row is not silent. In place."""
    last = (count - 1).clamp(min=0)[:, None]
    value = x.gather(1, last)
    heard = torch.linalg.vector_norm(x, dim=1, keepdim=True) > 0
    return x.scatter_(1, last, torch.where(heard & (value == 0), LEAST, value))


def by_spectrum(x: Tensor, heard: Tensor, drawn: Drawn) -> Tensor:
    """Noise, a filter and masks of the spectrum. A window is a circle here: the edges of a filter reach around it."""
    spectrum = torch.fft.rfft(x)  # (B, bins)
    bins = spectrum.shape[1]
    if drawn.noise is not None and drawn.place is not None and drawn.colour is not None:
        amount = colours(x.shape[1], x)[drawn.colour] * (drawn.noise * heard)[:, None]
        spectrum = spectrum + amount * noise(bins, x.device).unfold(0, bins, 1)[drawn.place]
    curve = torch.ones((), dtype=x.dtype, device=x.device)
    if drawn.low is not None and drawn.high is not None and drawn.stop is not None:
        passed = band(bins, drawn.low.to(x.dtype), drawn.high.to(x.dtype))
        curve = torch.where(drawn.stop[:, None], 1 - passed, passed)
    if drawn.bands is not None:
        for edges in drawn.bands.to(x.dtype).unbind(1):
            curve = curve * (1 - band(bins, *edges.unbind(1)))
    return torch.fft.irfft(spectrum * (FLOOR + (1 - FLOOR) * curve), n=x.shape[1])


def band(bins: int, low: Tensor, high: Tensor) -> Tensor:
    """(B, bins): 1 from low to high, 0 elsewhere, by ramps as wide as EDGE; frequencies are 0 ... 1."""
    f = torch.linspace(0, 1, bins, device=low.device, dtype=low.dtype)
    rise = (f - low[:, None]).div_(EDGE).add_(0.5).clamp_(0, 1)
    return (high[:, None] - f).div_(EDGE).add_(0.5).clamp_(0, 1).mul_(rise)


def colours(length: int, x: Tensor) -> Tensor:
    """(3, bins): the amplitudes that make noise of each colour whose mean square over `length` samples is 1."""
    f = torch.arange(length // 2 + 1, dtype=x.dtype, device=x.device)
    f[0] = torch.inf  # no offset; and the last bin of an even length would have to be real
    f[-1] = torch.inf
    slopes = torch.stack([f**-power if power else f.isfinite().to(x.dtype) for power in COLOURS])
    return slopes * length / (2 * slopes.square().sum(1, keepdim=True)).sqrt()


@lru_cache(8)
def noise(bins: int, device: torch.device) -> Tensor:
    """(PLACES + bins,) complex numbers, normally distributed with a mean square of 1, the same in every run.

    A view's noise is a stretch of them: to hash as many anew for each view would cost more than all else does.
    """
    count = PLACES + bins
    u, v = Dice(0, 0, torch.arange(-(-count // 24))).uniform(n=48).reshape(2, -1)[:, :count]
    return torch.polar((-torch.log1p(-u)).sqrt(), 2 * torch.pi * v).to(device)


def mask_times(x: Tensor, count: Tensor, times: Tensor) -> Tensor:
    """Zeros from and to these shares of each sound; times is (B, M, 2)."""
    place = torch.arange(x.shape[1], dtype=torch.int32, device=x.device)
    for edges in times.unbind(1):
        first, stop = (edges * count[:, None]).int()[:, :, None].unbind(1)  # (B, 1)
        kept = (first - place).clamp_(min=0).add_((place - stop + 1).clamp_(min=0)).clamp_(max=1)  # as in `inside`
        x = x * kept.to(x.dtype)
    return x


def spectrogram(x: Tensor) -> Tensor:
    """A picture to look at: (B, T) -> (B, 1, 64, 128) in [0, 1], low notes below, 80 dB from black to white."""
    power = torch.stft(
        x,
        n_fft=256,
        hop_length=max(1, x.shape[1] // COLUMNS),
        window=torch.hann_window(256, device=x.device, dtype=x.dtype),
        pad_mode="constant",
        return_complex=True,
    )
    power = F.adaptive_avg_pool2d(power.abs().square()[:, None], (ROWS, COLUMNS)).flip(2)
    loudest = power.amax((1, 2, 3), keepdim=True).clamp(min=torch.finfo(x.dtype).tiny)
    return 1 + (power / loudest).clamp(min=1e-8).log10() / 8
