"""The usual chain of views as one compiled kernel an item, for CPUs: `ops` fused, equal to it within 1e-5.

    crop and resize -> jitter -> grey -> blur -> solarize -> normalise

An item goes through the kernel alone, with the working memory of one core: a view of 224 pixels stays in its L2
cache, one of 32 pixels in L1. What an item did not draw costs nothing.

Every loop that costs time runs along contiguous floats, so that LLVM vectorises it. Resampling and blurring are sums
of lines times weights (`_lines`), down the columns first and then, the plane transposed, along the rows. Indices
are unsigned, else each would be checked for counting from the end.
"""

import math

import numpy as np

from ..compiled import compiled

STRIP = 1024  # pixels that go through all colour ops together: three channels of them fill half of an L1 cache
ROWS = 32  # new rows that are resampled together
BLOCK = 2048  # values of a line that are summed up together, in L1
ZERO, HALF, ONE, TWO, THREE, FOUR, SIX = (np.float32(x) for x in (0, 0.5, 1, 2, 3, 4, 6))
SIXTH = np.float32(1 / 6)
RED, GREEN, BLUE = np.float32(0.2989), np.float32(0.587), np.float32(0.114)


_compiled = compiled(fastmath=True, error_model="numpy")


@_compiled
def items(start, stop, pixels, steps, together, drawn, widest, reach, mean, gain, out):
    """Items start to stop of a batch: out (B, C, size, size) float32 = (x - mean) gain of values x in [0, 1].

    pixels is all bytes of the images (B, C, H, W), steps their strides, together how many channels lie side by side: 1
    or C. drawn: boxes, order as in `ops`, no box wider than widest; factors (B, 4) of brightness, contrast, saturation
    (1 is off) and shift of the hue (0 is off); sigma (B,) of a blur of 2 reach + 1 pixels, 0 is off; the masks (B,).
    """
    boxes, flip, factors, order, grey, sigma, solarize = drawn
    channels, size = out.shape[1], out.shape[2]
    strip = _floats(ROWS * widest * steps[3])
    side, back = _floats(ROWS * channels * widest), _floats(ROWS * channels * size)
    one, other = _floats((size + 2 * reach + 16) ** 2), _floats((size + 2 * reach + 16) ** 2)
    for i in range(start, stop):
        planes = out[i].reshape(-1)
        _resize(pixels, i * steps[0], steps, together, boxes[i], flip[i], channels, size, strip, side, back, planes)
        _colour(planes, channels, size * size, factors[i], order[i], grey[i])
        if sigma[i] > 0:
            _blur(planes, channels, size, sigma[i], reach, one, other)
        if solarize[i]:
            for p in range(planes.size):
                planes[p] = planes[p] if planes[p] < HALF else ONE - planes[p]
        if mean != 0 or gain != 1:
            for p in range(planes.size):
                planes[p] = (planes[p] - mean) * gain


@_compiled
def _floats(n):
    """n zeros that begin with a cache line, for a vector that reaches over two costs twice as much."""
    x = np.zeros(n + 16, np.float32)
    skip = (64 - x.ctypes.data % 64) % 64 // 4
    return x[skip : skip + n]


@_compiled
def _lines(source, begins, weights, n, out, at):
    """out[at : at + n] = the sum of lines of n values, one from each place in begins, times their weights.

    Several lines at a time, for every sweep reads and writes the sum.
    """
    at, n = np.uint64(at), np.uint64(n)
    for left in range(np.uint64(0), n, np.uint64(BLOCK)):
        line = range(left, min(left + np.uint64(BLOCK), n))
        last, done = len(begins) - 1, 3
        a, b, c = begins[0], begins[min(1, last)], begins[min(2, last)]
        v, w, s = weights[0], weights[1] if last > 0 else ZERO, weights[2] if last > 1 else ZERO
        for x in line:
            out[at + x] = v * source[a + x] + w * source[b + x] + s * source[c + x]
        while done + 4 <= len(begins):
            a, b, c, d = begins[done], begins[done + 1], begins[done + 2], begins[done + 3]
            v, w, s, t = weights[done], weights[done + 1], weights[done + 2], weights[done + 3]
            for x in line:
                out[at + x] += v * source[a + x] + w * source[b + x] + s * source[c + x] + t * source[d + x]
            done += 4
        for k in range(done, len(begins)):
            a, v = begins[k], weights[k]
            for x in line:
                out[at + x] += v * source[a + x]


@_compiled
def _transpose(source, at, step, row_step, rows, columns, out, to, out_step):
    """out[to + x out_step + y] = source[at + x step + y row_step]."""
    rise = np.uint64(row_step)
    for x in range(columns):
        begin, end = np.uint64(at + x * step), np.uint64(to + x * out_step)
        for y in range(np.uint64(rows)):
            out[end + y] = source[begin + y * rise]


@_compiled
def _triangles(length, size, mirrored, gain):
    """How much each of `length` pixels adds to each of `size` new ones, as `ops._resampling`: first, weights."""
    scale = length / size
    reach = max(scale, 1.0)
    slope = 1 / reach
    count = min(length, math.ceil(2 * reach))
    first, weights = np.empty(size, np.int64), np.empty((size, count), np.float32)
    for i in range(size):
        centre = (i + 0.5) * scale - 0.5
        j = size - 1 - i if mirrored else i
        begin = min(max(math.floor(centre - reach) + 1, 0), length - count)
        total = 0.0
        for k in range(count):
            weight = max(0.0, 1 - abs(begin + k - centre) * slope)
            weights[j, k] = weight
            total += weight
        first[j] = begin
        for k in range(count):
            weights[j, k] *= gain / total
    return first, weights


@_compiled
def _resize(pixels, begin, steps, together, box, flip, channels, size, strip, side, back, planes):
    """A strip of new rows at a time: sums of old rows, turned on their side, sums of old columns, turned back."""
    top, left, height, width = box
    above, tall = _triangles(height, size, False, 1 / 255)
    before, wide = _triangles(width, size, flip, 1.0)
    n = width * steps[3]  # values of a line, which holds `together` channels
    rows, columns = np.empty(tall.shape[1], np.uint64), np.empty(wide.shape[1], np.uint64)
    for y in range(0, size, ROWS):
        r = min(ROWS, size - y)
        for c in range(0, channels, together):
            corner = begin + c * steps[1] + top * steps[2] + left * steps[3]
            for i in range(r):
                for k in range(len(rows)):
                    rows[k] = corner + (above[y + i] + k) * steps[2]
                whole = min(n, len(pixels) - np.int64(rows[-1]))  # the last pixel of all may lack its fourth byte
                _lines(pixels, rows, tall[y + i], whole, strip, i * n)
            for d in range(together):
                _transpose(strip, d, steps[3], n, r, width, side, (c + d) * r, channels * r)
        for j in range(size):
            for k in range(len(columns)):
                columns[k] = (before[j] + k) * channels * r
            _lines(side, columns, wide[j], channels * r, back, j * channels * r)
        for c in range(channels):
            _transpose(back, c * r, 1, channels * r, size, r, planes, (c * size + y) * size, size)


@_compiled
def _colour(planes, channels, n, factors, order, grey):
    """Jitter and grey. Contrast needs the mean of the whole image, so it starts a second sweep."""
    contrast = 4
    for k in range(4):
        if order[k] == 1 and factors[1] != 1:
            contrast = k
    total = _sweep(planes, channels, n, factors, order, 0, contrast, ZERO, grey and contrast == 4)
    if contrast < 4:
        _sweep(planes, channels, n, factors, order, contrast, 4, np.float32(total / n), grey)


@_compiled
def _sweep(planes, channels, n, factors, order, first, last, mean, grey):
    """The steps first to last of the jitter, strip by strip; gives the sum of the grey image then."""
    total = 0.0
    for p in range(0, n, STRIP):
        q = min(n, p + STRIP)
        for k in range(first, last):
            kind, factor = order[k], factors[order[k]]
            if kind < 2 and factor != 1:
                for c in range(channels):
                    _blend(planes, c * n + p, c * n + q, factor, (ONE - factor) * mean if kind == 1 else ZERO)
            elif kind == 2 and factor != 1 and channels == 3:
                _saturate(planes, n, p, q, factor)
            elif kind == 3 and factor != 0 and channels == 3:
                _hue(planes, n, p, q, SIX * factor)
        if grey and channels == 3:
            _grey(planes, n, p, q)
        elif last < 4:
            total += _grey_sum(planes, channels, n, p, q)
    return total


@_compiled
def _blend(planes, p, q, factor, add):
    for x in range(np.uint64(p), np.uint64(q)):
        planes[x] = _unit(planes[x] * factor + add)


@_compiled
def _unit(x):
    return min(max(x, ZERO), ONE)


@_compiled
def _luma(r, g, b):
    return r * RED + g * GREEN + b * BLUE


@_compiled
def _grey_sum(planes, channels, n, p, q):
    """The sum of the grey image."""
    total = ZERO
    if channels == 3:
        g, b = np.uint64(n), np.uint64(2 * n)
        for x in range(np.uint64(p), np.uint64(q)):
            total += _luma(planes[x], planes[x + g], planes[x + b])
        return total
    for c in range(channels):
        for x in range(np.uint64(c * n + p), np.uint64(c * n + q)):
            total += planes[x]
    return total / np.float32(channels)


@_compiled
def _grey(planes, n, p, q):
    g, b = np.uint64(n), np.uint64(2 * n)
    for x in range(np.uint64(p), np.uint64(q)):
        luma = _luma(planes[x], planes[x + g], planes[x + b])
        planes[x] = luma
        planes[x + g] = luma
        planes[x + b] = luma


@_compiled
def _saturate(planes, n, p, q, factor):
    g, b, rest = np.uint64(n), np.uint64(2 * n), ONE - factor
    for x in range(np.uint64(p), np.uint64(q)):
        luma = rest * _luma(planes[x], planes[x + g], planes[x + b])
        planes[x] = _unit(factor * planes[x] + luma)
        planes[x + g] = _unit(factor * planes[x + g] + luma)
        planes[x + b] = _unit(factor * planes[x + b] + luma)


@_compiled
def _ramp(place, own):
    """How far a channel is below the largest, of the chroma: 0 within a sixth of its own hue, 1 from two sixths on."""
    return _unit(abs(abs(place - own) - THREE) * -ONE + TWO)


@_compiled
def _hue(planes, n, p, q, shift):
    """As `ops.hue`; shift in sixths of the circle."""
    green, blue = np.uint64(n), np.uint64(2 * n)
    for x in range(np.uint64(p), np.uint64(q)):
        r, g, b = planes[x], planes[x + green], planes[x + blue]
        value = max(max(r, g), b)
        chroma = value - min(min(r, g), b)
        over = ONE / (chroma if chroma > 0 else ONE)
        place = FOUR + (r - g) * over
        place = TWO + (b - r) * over if value == g else place
        place = (g - b) * over if value == r else place
        place = place + shift
        place = place - SIX * np.floor(place * SIXTH)
        planes[x] = value - chroma * _ramp(place, ZERO)
        planes[x + green] = value - chroma * _ramp(place, TWO)
        planes[x + blue] = value - chroma * _ramp(place, FOUR)


@_compiled
def _blur(planes, channels, size, sigma, reach, one, other):
    """Along the rows, then down the columns, of one plane at a time, wider by its reflections."""
    reach = min(reach, math.ceil(5 * sigma))  # all weights further out together are below 1e-6
    weights = np.empty(2 * reach + 1, np.float32)
    total = ZERO
    for k in range(2 * reach + 1):
        weights[k] = math.exp(-0.5 * ((k - reach) / sigma) ** 2)
        total += weights[k]
    for k in range(2 * reach + 1):
        weights[k] /= total
    wide = (size + 2 * reach + 15) // 16 * 16  # every row begins with a cache line
    along, down = np.empty(2 * reach + 1, np.uint64), np.empty(2 * reach + 1, np.uint64)
    for k in range(2 * reach + 1):
        along[k], down[k] = k, k * wide
    for c in range(0, channels * size * size, size * size):
        for y in range(size):
            row = y * wide
            _copy(planes, c + y * size, one, row + reach, size)
            for x in range(reach):
                one[row + x] = one[row + 2 * reach - x]
                one[row + reach + size + x] = one[row + reach + size - 2 - x]
        _lines(one, along, weights, size * wide, other, reach * wide)
        for y in range(reach):
            _copy(other, (2 * reach - y) * wide, other, y * wide, wide)
            _copy(other, (reach + size - 2 - y) * wide, other, (reach + size + y) * wide, wide)
        _lines(other, down, weights, size * wide, one, 0)
        for y in range(size):
            _copy(one, y * wide, planes, c + y * size, size)


@_compiled
def _copy(source, at, out, to, n):
    at, to = np.uint64(at), np.uint64(to)
    for x in range(np.uint64(n)):
        out[to + x] = source[at + x]
