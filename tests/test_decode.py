"""Decoding: every format and mode against Pillow and plain arithmetic, and broken files told in words."""

import io
import struct
import threading
import warnings
import zlib

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image, ImageOps

from twoviews.data import decode as module
from twoviews.data.decode import decode
from twoviews.data.loader import collate
from twoviews.errors import BrokenItem

RNG = np.random.default_rng(0)
RGB = np.asarray(Image.fromarray(RNG.integers(0, 256, (7, 9, 3), dtype=np.uint8)).resize((48, 36)))
GREY = RGB[..., 0]
ALPHA = np.linspace(0, 255, 48 * 36).reshape(36, 48).astype(np.uint8)
DEEP = RNG.integers(0, 65536, (36, 48), dtype=np.uint16)


def saved(image, format, **options):
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def tiff(array, **options):
    file = io.BytesIO()
    tifffile.imwrite(file, array, **options)
    return file.getvalue()


def pixels(item, **options):
    x = decode(item, **options)[0]
    assert x.dtype == torch.uint8
    return x.permute(1, 2, 0).numpy()  # (H, W, C)


def white(colour, alpha):
    """Alpha over white in floats."""
    a = alpha[..., None] / 255
    return colour * a + 255 * (1 - a)


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF", "BMP", "PPM"])
def test_colour_is_what_pillow_decodes(format):
    data = saved(Image.fromarray(RGB), format)
    want = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    np.testing.assert_array_equal(pixels(data), want)
    native = decode(data)[1]
    assert (native.format, native.mode, native.depth) == (format, "RGB", 8)
    assert (native.width, native.height) == (48, 36)


@pytest.mark.parametrize("format", ["JPEG", "PNG", "TIFF", "BMP", "GIF", "PPM"])
def test_grey(format):
    data = saved(Image.fromarray(GREY), format)
    want = np.asarray(Image.open(io.BytesIO(data)).convert("L"))[..., None]
    assert decode(data, channels=1)[0].shape == (1, 36, 48)
    np.testing.assert_array_equal(pixels(data, channels=1), want)
    np.testing.assert_array_equal(pixels(data, channels=3), want.repeat(3, 2))


def test_grey_of_colour_is_pillows():
    want = np.asarray(Image.fromarray(RGB).convert("L"))[..., None]
    np.testing.assert_array_equal(pixels(saved(Image.fromarray(RGB), "PNG"), channels=1), want)


@pytest.mark.parametrize("max_side", [None, 500, 60, 47])
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_plain_jpeg_has_the_same_pixels_from_either_decoder(monkeypatch, mode, max_side):
    pytest.importorskip("simplejpeg")
    image = Image.fromarray(RGB).resize((333, 241), Image.Resampling.BICUBIC).convert(mode)
    exif = Image.Exif()
    exif[0x0112] = 6
    kinds = [{"quality": q, "subsampling": s} for q in (60, 98) for s in (0, 1, 2)]
    kinds += [{"progressive": True}, {"optimize": True}, {"exif": exif}, {"restart_marker_rows": 1}]
    files = [saved(image, "JPEG", **kind) for kind in kinds]
    ours = [decode(data, max_side=max_side) for data in files]
    monkeypatch.setattr(module, "_simplejpeg", lambda: None)
    for data, (x, native) in zip(files, ours, strict=True):
        pillows, same = decode(data, max_side=max_side)
        assert torch.equal(x, pillows)
        assert native == same


def test_a_jpeg_with_stray_bytes_is_read_as_pillow_reads_it():
    data = saved(Image.fromarray(RGB), "JPEG")
    stray = data[:-2] + b"\0\0\0" + data[-2:]
    assert torch.equal(decode(stray)[0], decode(data)[0])


def test_photos_lie_pixel_after_pixel_also_on_a_canvas():
    a = decode(saved(Image.fromarray(RGB), "JPEG"))[0]
    b = decode(saved(Image.fromarray(RGB[:20, :31].copy()), "PNG"))[0]
    assert a.stride() == (1, 3 * 48, 3)
    canvas, sizes = collate([a, b])
    assert canvas.permute(0, 2, 3, 1).is_contiguous()
    assert sizes.tolist() == [[36, 48], [20, 31]]
    assert torch.equal(canvas[0], a)
    assert torch.equal(canvas[1, :, :20, :31], b)
    assert canvas[1].sum() == b.sum()
    planes = torch.randint(0, 256, (2, 3, 5, 6), dtype=torch.uint8)
    assert torch.equal(collate(list(planes))[0], planes)
    assert collate(list(planes))[0].is_contiguous()


def test_an_array_is_not_shared():
    array = np.zeros((3, 4, 5), np.uint8)
    x = decode(array)[0]
    x += 1
    assert array.max() == 0


@pytest.mark.parametrize("format", ["PNG", "TIFF", "WEBP"])
def test_alpha_is_laid_on_white(format):
    data = saved(Image.fromarray(np.dstack([RGB, ALPHA])), format, **({"lossless": True} if format == "WEBP" else {}))
    np.testing.assert_allclose(pixels(data), white(RGB, ALPHA), atol=1)


@pytest.mark.parametrize("format", ["PNG", "TIFF"])
def test_grey_with_alpha_stays_grey(format):
    data = saved(Image.fromarray(np.dstack([GREY, ALPHA]), "LA"), format)
    np.testing.assert_allclose(pixels(data), white(GREY[..., None], ALPHA), atol=1)


def test_palette_and_its_transparency():
    image = Image.fromarray(RGB).quantize(16)
    want = np.asarray(image.convert("RGB"))
    np.testing.assert_array_equal(pixels(saved(image, "PNG")), want)
    np.testing.assert_array_equal(pixels(saved(image, "GIF")), want)
    clear = np.asarray(image) == 3
    x = pixels(saved(image, "PNG", transparency=3))
    np.testing.assert_array_equal(x[~clear], want[~clear])
    assert clear.any()
    assert (x[clear] == 255).all()
    assert decode(saved(image, "PNG"))[1].mode == "P"


def test_one_bit_and_cmyk():
    bits = Image.fromarray(GREY).convert("1")
    np.testing.assert_array_equal(pixels(saved(bits, "PNG"))[..., 0], np.asarray(bits) * 255)
    assert decode(saved(bits, "PNG"))[1].depth == 1
    for format in ("JPEG", "TIFF"):
        data = saved(Image.fromarray(RGB).convert("CMYK"), format)
        np.testing.assert_array_equal(pixels(data), np.asarray(Image.open(io.BytesIO(data)).convert("RGB")))
        assert decode(data)[1].mode == "CMYK"


@pytest.mark.parametrize("write", [lambda a: saved(Image.fromarray(a), "PNG"), tiff, lambda a: tiff(a, byteorder=">")])
@pytest.mark.parametrize("range16", [(0, 65535), (1000, 4095)])
def test_sixteen_bit_grey_is_mapped_linearly(write, range16):
    low, high = range16
    x, native = decode(write(DEEP), range16=range16)
    want = np.clip(np.rint((DEEP.astype(float) - low) * 255 / (high - low)), 0, 255)
    np.testing.assert_allclose(x[0].numpy(), want, atol=1 if range16 == (1000, 4095) else 0)
    assert (native.depth, native.low, native.high) == (16, DEEP.min(), DEEP.max())


def test_sixteen_bit_colour_png_is_cut_to_its_high_bytes():
    deep = RNG.integers(0, 65536, (5, 7, 3), dtype=np.uint16)

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    lines = b"".join(b"\0" + row.astype(">u2").tobytes() for row in deep)
    header = struct.pack(">IIBBBBB", 7, 5, 16, 2, 0, 0, 0)  # 16 bits, colour
    data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")
    np.testing.assert_array_equal(pixels(data), deep >> 8)
    assert decode(data)[1].depth == 16


@pytest.mark.parametrize("format", ["GIF", "WEBP", "MPO", "TIFF"])
def test_the_first_of_several_frames(format):
    first = Image.fromarray(RGB)
    data = saved(first, format, save_all=True, append_images=[Image.new("RGB", first.size)])
    np.testing.assert_array_equal(pixels(data), np.asarray(Image.open(io.BytesIO(data)).convert("RGB")))
    assert decode(data, max_side=9)[0].shape == (3, 9, 12)
    assert pixels(data).std() > 20


def test_signed_sixteen_bits():
    signed = np.array([[-1000, 0], [1000, 3000]], np.int16)
    assert decode(tiff(signed), range16=(-1000, 3000))[0].tolist() == [[[0, 64], [128, 255]]]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize(
    ("shape", "options"),
    [
        ((36, 48, 6), {"photometric": "minisblack", "planarconfig": "contig"}),
        ((6, 36, 48), {"photometric": "minisblack", "planarconfig": "separate"}),
        ((6, 36, 48), {"photometric": "minisblack"}),  # pages
        ((6, 36, 48), {"photometric": "minisblack", "compression": "zlib"}),
    ],
)
def test_tiff_of_many_channels(dtype, shape, options):
    array = RNG.integers(0, np.iinfo(dtype).max, shape, dtype=dtype)
    want = np.moveaxis(array, 2, 0) if shape[2] == 6 else array
    want = want if dtype == np.uint8 else np.rint(want / 257)
    x, native = decode(tiff(array, **options), channels=6)
    np.testing.assert_array_equal(x.numpy(), want)
    assert (native.mode, native.depth) == ("6 channels", 8 * array.itemsize)
    assert (native.width, native.height) == (48, 36)


def test_deep_colour_tiff_and_two_channels():
    deep = RNG.integers(0, 65536, (36, 48, 3), dtype=np.uint16)
    np.testing.assert_array_equal(
        pixels(tiff(deep, photometric="rgb"), range16=(0, 1000)), (deep / 1000 * 255).clip(0, 255).round()
    )
    two = RNG.integers(0, 256, (36, 48, 2), dtype=np.uint8)
    np.testing.assert_array_equal(pixels(tiff(two, photometric="minisblack", planarconfig="contig"), channels=2), two)


def test_float_pixels_lie_in_0_to_1():
    x = np.linspace(0, 1, 36 * 48, dtype=np.float32).reshape(36, 48)
    np.testing.assert_array_equal(decode(tiff(x))[0][0].numpy(), np.rint(x * 255))
    with pytest.raises(BrokenItem, match=r"float32 pixels from 0 to 2, expected 0\.\.1"):
        decode(tiff(2 * x))
    with pytest.raises(BrokenItem, match="expected"):
        decode(np.full((1, 4, 4), np.nan))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_exif_orientation(format, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = saved(Image.fromarray(RGB), format, exif=exif)
    image = Image.open(io.BytesIO(data))
    image.load()
    want = np.asarray(ImageOps.exif_transpose(image))
    x, native = decode(data)
    np.testing.assert_array_equal(x.permute(1, 2, 0).numpy(), want)
    assert (native.height, native.width) == want.shape[:2]
    assert want.shape[:2] == ((36, 48) if orientation < 5 else (48, 36))


def test_orientation_of_sixteen_bits():
    exif = Image.Exif()
    exif[0x0112] = 6
    data = saved(Image.fromarray(DEEP), "PNG", exif=exif)
    np.testing.assert_array_equal(decode(data)[0][0].numpy(), np.rot90(np.rint(DEEP / 257), -1))


@pytest.mark.parametrize("channels", [1, 3])
def test_max_side_reduces_the_shorter_side(channels):
    big = Image.fromarray(RGB).resize((640, 480), Image.Resampling.BICUBIC)
    full = pixels(saved(big, "PNG"), channels=channels)
    for format in ("JPEG", "PNG"):
        x, native = decode(saved(big, format, **({"quality": 95} if format == "JPEG" else {})), channels, max_side=60)
        assert x.shape == (channels, 60, 80)
        assert (native.width, native.height) == (640, 480)
        area = full.reshape(60, 8, 80, 8, channels).mean((1, 3))
        assert np.abs(x.permute(1, 2, 0).numpy() - area).mean() < 3
    assert decode(saved(big, "PNG"), max_side=481)[0].shape == (3, 480, 640)


def test_max_side_crops_a_panorama_at_its_centre():
    wide = np.zeros((30, 300, 3), np.uint8)
    wide[:, 135:165] = 255
    for item in (saved(Image.fromarray(wide), "PNG"), wide.transpose(2, 0, 1)):
        assert decode(item, max_side=100)[0].shape == (3, 30, 60)  # cropped, not enlarged
        x = decode(item, max_side=10)[0]
        assert x.shape == (3, 10, 20)
        assert (x[:, :, 6:14] == 255).all()
        assert (x[:, :, :4] == 0).all()
    tall = saved(Image.fromarray(wide.transpose(1, 0, 2).copy()), "JPEG")
    assert decode(tall, max_side=10)[0].shape == (3, 20, 10)


def test_max_side_of_many_channels_and_sixteen_bits():
    stack = np.stack([np.full((64, 96), k * 1000, np.uint16) for k in range(6)])
    x = decode(tiff(stack, photometric="minisblack"), channels=6, range16=(0, 5000), max_side=16)[0]
    assert x.shape == (6, 16, 24)
    assert x[:, 8, 8].tolist() == [0, 51, 102, 153, 204, 255]


@pytest.mark.parametrize(
    ("array", "want"),
    [
        (np.array([[[0, 255]]], np.uint8), [[[0, 255]]]),
        (np.array([[[0, 255]]], np.int64), [[[0, 255]]]),
        (np.array([[[False, True]]]), [[[0, 255]]]),
        (np.array([[[0.0, 1.0]]]), [[[0, 255]]]),
        (np.array([[[0, 65535]]], np.uint16), [[[0, 255]]]),
    ],
)
def test_kinds_of_arrays(array, want):
    assert decode(array)[0].tolist() == want


def test_arrays_that_are_no_images():
    for item, reason in (
        (np.zeros((2, 2), np.uint8), "an array of shape"),
        (np.zeros((3, 0, 4), np.uint8), "an array of shape"),
        (np.array([[[300]]]), r"int64 pixels from 300 to 300, expected 0\.\.255"),
        ("text", "not an image: str"),
    ):
        with pytest.raises(BrokenItem, match=reason):
            decode(item)


def test_a_users_pil_image_is_left_as_it_was():
    image = Image.open(io.BytesIO(saved(Image.fromarray(RGB).resize((640, 480)), "JPEG")))
    assert decode(image, max_side=32)[0].shape == (3, 32, 43)
    assert image.size == (640, 480)


def cut(format, share=0.5):
    data = saved(Image.fromarray(RGB).resize((320, 240)), format)
    return data[: int(len(data) * share)]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "^empty file$"),
        (b"<html>not found</html>", "^not an image: text$"),
        ("déjà vu".encode() * 60, "^not an image: text$"),
        (bytes(range(256)), "^not an image, or of a kind that is not read$"),
        (b"\0\0\0\x18ftypheic" + bytes(40), "HEIC"),
        (cut("JPEG"), "^truncated JPEG$"),
        (cut("JPEG", 0.99), "^truncated JPEG$"),
        (cut("JPEG", 0.02)[:40], "^truncated JPEG$"),
        (cut("PNG"), "^truncated PNG$"),
        (cut("PNG", 0.02)[:20], "^truncated PNG$"),
        (cut("WEBP"), "^truncated WebP$"),
        (cut("GIF"), "^truncated GIF$"),
        (cut("TIFF"), "^truncated TIFF$"),
        (cut("BMP"), "^truncated BMP$"),
        (cut("PPM"), "^truncated PPM$"),
        (saved(Image.fromarray(RGB), "PNG").replace(b"IDAT", b"IDAX"), "^damaged PNG$"),
        (tiff(np.zeros((6, 36, 48), np.uint16), photometric="minisblack")[:5000], "^(truncated|damaged) TIFF$"),
    ],
)
def test_broken_files_say_why(data, reason, recwarn, capfd, caplog):
    with pytest.raises(BrokenItem, match=reason):
        decode(data)
    assert not recwarn
    assert capfd.readouterr() == ("", "")
    assert not caplog.records


def test_channels_that_do_not_fit():
    five = tiff(np.zeros((5, 8, 8), np.uint8), photometric="minisblack")
    with pytest.raises(BrokenItem, match="5 channels where 3 are expected"):
        decode(five, channels=3)
    with pytest.raises(BrokenItem, match="1 channel where 5 are expected"):
        decode(saved(Image.fromarray(GREY), "PNG"), channels=5)


def test_alpha_is_kept_when_asked_for():
    four = np.dstack([RGB, ALPHA])
    np.testing.assert_array_equal(pixels(saved(Image.fromarray(four), "PNG"), channels=4), four)
    np.testing.assert_array_equal(pixels(four.transpose(2, 0, 1), channels=4), four)


def test_a_decompression_bomb_is_broken(monkeypatch, recwarn):
    data, stack = saved(Image.fromarray(RGB), "PNG"), tiff(np.zeros((5, 36, 48), np.uint8), photometric="minisblack")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 36 * 48 // 2 + 100)
    assert decode(data)[0].shape == (3, 36, 48)  # Pillow warns here; that does not show
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 800)
    for item in (data, stack):
        with pytest.raises(BrokenItem, match="over the limit of 1,600 pixels"):
            decode(item)
    assert not recwarn


def test_warnings_of_other_code_survive_decoding_in_threads():
    data = saved(Image.fromarray(RGB), "PNG")
    before = list(warnings.filters)
    threads = [threading.Thread(target=lambda: [decode(data) for _ in range(50)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert list(warnings.filters) == before


def test_one_pixel():
    assert decode(saved(Image.new("RGB", (1, 1), (1, 2, 3)), "PNG"), max_side=8)[0].flatten().tolist() == [1, 2, 3]
