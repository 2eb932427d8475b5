"""Image operations on batches, with one set of parameters an item and no randomness.

Images are (B, C, H, W), float in [0, 1] (crop_resize takes uint8 too); float64 stays float64. Parameters
are (B,) tensors on the same device. Nothing here waits for the device, loops over items or indexes by a mask,
so a batch is a few kernels. What torchvision.transforms.v2.functional has too gives the same as there.

This is the path of GPUs and the reference of the compiled kernel, which does the usual ones on a CPU (chain.py).

Resampling and blurring are linear and separable: matrix products with one small matrix an item and axis.
Under torch.set_float32_matmul_precision("high") they are right to about 1/2000.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

MEAN, STD = 0.5, 0.25


def crop_resize(images: Tensor, boxes: Tensor, size: int, flip: Tensor | None = None) -> Tensor:
    """Cut a box out of each image and resize it: (B, C, H, W) -> (B, C, size, size) float in [0, 1].

    boxes is (B, 4): top, left, height, width in whole pixels, inside the image. flip (B,) bool mirrors left
    and right at no cost. Equals torchvision's resized_crop, bilinear with antialias.
    """
    x = images if images.is_floating_point() else images.to(torch.float32, memory_format=torch.contiguous_format)
    top, left, height, width = boxes.to(x.dtype).unbind(1)
    rows = _resampling(top, height, size, x.shape[2])  # (B, S, H)
    columns = _resampling(left, width, size, x.shape[3], flip)  # (B, S, W)
    x = (x.flatten(1, 2) @ columns.mT).unflatten(1, images.shape[1:3])  # (B, C, H, S)
    x = rows[:, None] @ x  # (B, C, S, S)
    return x if images.is_floating_point() else x.div_(255)


def _resampling(start: Tensor, length: Tensor, size: int, n: int, flip: Tensor | None = None) -> Tensor:
    """(B, size, n): how much each of n pixels adds to each new pixel, a triangle as wide as the new pixel."""
    new, old = (torch.arange(k, device=start.device, dtype=start.dtype) + 0.5 for k in (size, n))
    new = new.expand(len(start), size) if flip is None else torch.where(flip[:, None], size - new, new)
    scale = length[:, None] / size  # old pixels a new one
    old = old - start[:, None]  # (B, n), from the corner of the box
    weight = (old[:, None] - (new * scale)[..., None]).abs_().div_(scale.clamp(min=1)[..., None])
    weight = (1 - weight).clamp_(min=0) * ((old > 0) & (old < length[:, None]))[:, None]  # (B, size, n)
    return weight / weight.sum(2, keepdim=True)


def normalize(x: Tensor, mean: float = MEAN, std: float = STD) -> Tensor:
    """(x - mean) / std, the same for every channel: encoders read about -2 ... 2 whatever the sensor."""
    return (x - mean).div_(std)


def hflip(x: Tensor, mask: Tensor) -> Tensor:
    """Mirror left and right where mask (B,) is True."""
    return torch.where(_each(mask), x.flip(3), x)


def quarter_turns(x: Tensor, k: Tensor) -> Tensor:
    """Turn square images by k (B,) quarter turns counter-clockwise, as torch.rot90 does."""
    k = _each(k % 4)
    x = torch.where(k % 2 == 1, x.mT, x)
    x = torch.where((k == 1) | (k == 2), x.flip(2), x)
    return torch.where(k >= 2, x.flip(3), x)


def turn(x: Tensor, degrees: Tensor) -> Tensor:
    """Turn about the centre by degrees (B,), counter-clockwise, bilinear.

    Corners that turn into sight repeat the border, since black ones would give the angle away; elsewhere it
    is torchvision's rotate.
    """
    h, w = x.shape[2:]
    angle = torch.deg2rad(degrees.to(x.dtype)).view(-1, 1, 1)
    down = torch.arange(h, device=x.device, dtype=x.dtype)[:, None] - (h - 1) / 2
    right = torch.arange(w, device=x.device, dtype=x.dtype) - (w - 1) / 2
    across = (right * angle.cos() - down * angle.sin()) * (2 / w)  # (B, H, W)
    along = (right * angle.sin() + down * angle.cos()) * (2 / h)
    grid = torch.stack([across, along], dim=3)
    return F.grid_sample(x, grid, padding_mode="border", align_corners=False)


def brightness(x: Tensor, factor: Tensor) -> Tensor:
    """Blend with black; factor (B,), 1 changes nothing, 0 gives black."""
    return (x * _each(factor).to(x.dtype)).clamp_(0, 1)


def contrast(x: Tensor, factor: Tensor) -> Tensor:
    """Blend with the mean of the grey image (all channels alike where they are not three)."""
    return _blend(x, factor, _mean(_luma(x)))


def saturation(x: Tensor, factor: Tensor) -> Tensor:
    """Blend with the grey image; the identity where channels are not three."""
    return _blend(x, factor, _luma(x)) if x.shape[1] == 3 else x


def hue(x: Tensor, shift: Tensor) -> Tensor:
    """Turn the colour circle by shift (B,), -0.5 to 0.5 of a turn; the identity unless channels are three.

    RGB -> HSV -> RGB in one go: a channel is V - C * ramp(distance of the hue from that channel's own hue).
    """
    if x.shape[1] != 3:
        return x
    r, g, b = x.split(1, dim=1)
    value = torch.maximum(torch.maximum(r, g), b)
    chroma = value - torch.minimum(torch.minimum(r, g), b)
    safe = torch.where(chroma > 0, chroma, 1)
    place = torch.where(value == g, 2 + (b - r) / safe, 4 + (r - g) / safe)
    place = torch.where(value == r, (g - b) / safe, place)  # (B, 1, H, W), sixths of the circle from red
    place = (place + 6 * _each(shift).to(x.dtype)).remainder_(6)
    own = 2 * torch.arange(3, device=x.device, dtype=x.dtype).view(3, 1, 1)  # red 0, green 2, blue 4
    near = (place - own).abs_().sub_(3).abs_()  # (B, 3, H, W), 3 - the distance around the circle
    return value - (2 - near).clamp_(0, 1).mul_(chroma)


def color_jitter(
    x: Tensor,
    brightness: Tensor,
    contrast: Tensor,
    saturation: Tensor,
    shift: Tensor | None,
    order: Tensor,
) -> Tensor:
    """The four ops above, each item in its own order; shift None leaves the hue alone.

    order (B, 4) has in each row 0 brightness, 1 contrast, 2 saturation and 3 hue as they follow each other.
    An item's blends before its hue run in a first pass, those after it in a second, and have factor 1 in the
    other: all orders together cost six blends and one turn of the hue.
    """
    x = x.clone()
    hue_at = order.argmax(1, keepdim=True)  # 3, the hue, is the largest
    place = torch.arange(3, device=x.device)
    place = place + (place >= hue_at)  # (B, 3), where the blends stand
    kind = order.gather(1, place)
    factor = torch.stack([brightness, contrast, saturation], dim=1).gather(1, kind)
    if shift is None or x.shape[1] != 3:
        return _blends(x, kind, factor)
    early = place < hue_at
    x = _blends(x, kind, torch.where(early, factor, 1))
    return _blends(hue(x, shift), kind, torch.where(early, 1, factor))


def grey(x: Tensor, mask: Tensor) -> Tensor:
    """Grey where mask (B,) is True, in three equal channels; the identity unless channels are three."""
    return torch.where(_each(mask), _luma(x), x) if x.shape[1] == 3 else x


def solarize(x: Tensor, threshold: float, mask: Tensor) -> Tensor:
    """Invert every value from threshold on, where mask (B,) is True; threshold 0 inverts the whole image."""
    return torch.where(_each(mask) & (x >= threshold), 1 - x, x)


def blur(x: Tensor, sigma: Tensor, kernel_size: int, mask: Tensor) -> Tensor:
    """Gaussian blur with sigma (B,) pixels where mask (B,) is True; edges reflect. kernel_size is odd."""
    reach = kernel_size // 2
    taps = torch.arange(-reach, reach + 1, device=x.device)
    weight = torch.softmax(-((taps / sigma[:, None].to(x.dtype)) ** 2) / 2, dim=1)
    weight = torch.where(mask[:, None], weight, (taps == 0).to(x.dtype))  # (B, K)
    rows, columns = (_convolution(weight, taps, n) for n in x.shape[2:])
    x = (x.flatten(1, 2) @ columns.mT).view_as(x)
    return rows[:, None] @ x


def _convolution(weight: Tensor, taps: Tensor, n: int) -> Tensor:
    """(B, n, n): the matrix of a convolution whose edges reflect."""
    source = (torch.arange(n, device=taps.device)[:, None] + taps).abs()  # (n, K)
    source = torch.where(source >= n, 2 * (n - 1) - source, source)
    hit = (source[..., None] == torch.arange(n, device=taps.device)).to(weight.dtype)  # (n, K, n)
    return torch.einsum("bk,ikj->bij", weight, hit)


def cutout(x: Tensor, boxes: Tensor, fill: float) -> Tensor:
    """Fill a box of each image; boxes (B, 4): top, left, height, width, which may reach outside the image."""
    top, left, height, width = boxes[:, :, None].unbind(1)  # (B, 1) each
    row, column = (torch.arange(n, device=x.device) for n in x.shape[2:])
    tall = (row >= top) & (row < top + height)
    wide = (column >= left) & (column < left + width)
    return torch.where(tall[:, None, :, None] & wide[:, None, None, :], fill, x)


def sobel(x: Tensor, mask: Tensor) -> Tensor:
    """Each channel's edge strength sqrt(gx^2 + gy^2) / 4, at most 1, where mask (B,) is True.

    gx and gy are the 3 x 3 Sobel differences ([1 2 1] across [-1 0 1]) with repeated borders; a step from 0
    to 1 gives 1.
    """
    p = F.pad(x, (1, 1, 1, 1), mode="replicate")
    dx, dy = p[..., 2:] - p[..., :-2], p[..., 2:, :] - p[..., :-2, :]
    gx = dx[..., :-2, :] + 2 * dx[..., 1:-1, :] + dx[..., 2:, :]
    gy = dy[..., :-2] + 2 * dy[..., 1:-1] + dy[..., 2:]
    return torch.where(_each(mask), (torch.hypot(gx, gy) / 4).clamp_(max=1), x)


def _each(parameter: Tensor) -> Tensor:
    return parameter.view(-1, 1, 1, 1)


def _mean(x: Tensor) -> Tensor:
    return x.mean(dim=(1, 2, 3), keepdim=True)


def _luma(x: Tensor) -> Tensor:
    """(B, 1, H, W): ITU-R 601 grey of three channels, the mean of any other number."""
    if x.shape[1] != 3:
        return x.mean(1, keepdim=True)
    r, g, b = x.split(1, dim=1)
    return (r * 0.2989).add_(g, alpha=0.587).add_(b, alpha=0.114)


def _blend(x: Tensor, factor: Tensor, target: Tensor) -> Tensor:
    """factor * x + (1 - factor) * target, kept in [0, 1]."""
    factor = _each(factor).to(x.dtype)
    return (x * factor).add_((1 - factor) * target).clamp_(0, 1)


def _blends(x: Tensor, kind: Tensor, factor: Tensor) -> Tensor:
    """Three blends one after the other, in place: kind and factor are (B, 3), kinds as in color_jitter."""
    if x.shape[1] != 3:
        factor = torch.where(kind == 2, 1, factor)
    for k, f in zip(kind.unbind(1), factor.to(x.dtype).unbind(1), strict=True):
        luma = _luma(x)
        mean = _mean(luma) * _each((1 - f) * (k == 1))
        target = luma.mul_(_each((1 - f) * (k == 2))).add_(mean)  # brightness: 0, the black
        x.mul_(_each(f)).add_(target).clamp_(0, 1)
    return x
