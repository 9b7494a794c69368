"""Images as people have them."""

from __future__ import annotations

import contextlib
import hashlib
import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from fcdd_dist.data.images import (
    MAX_BYTES,
    BadImage,
    as_stored,
    central,
    decode_stored,
    encode,
    fitted,
    load_image,
    stored_size,
    to_form,
)
from fcdd_dist.errors import BadInput
from fcdd_dist.experiment import Form

GREY, RGB = Form.parse("png-28-grey"), Form.parse("png-32-rgb")
ORIENTATION = 0x0112


def chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def png(width: int, height: int, depth: int, colour: int, rows: bytes, extra: bytes = b"") -> bytes:
    head = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + extra + chunk(b"IDAT", zlib.compress(rows))
            + chunk(b"IEND", b""))


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "PPM"])
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_lossless_formats_give_their_pixels(kind, mode, make_image, file_bytes):
    image = make_image(1, mode=mode)
    loaded = load_image(file_bytes(image, kind))
    assert loaded.mode == mode
    np.testing.assert_array_equal(np.asarray(loaded), np.asarray(image))


@pytest.mark.parametrize("options", [{"lossless": True}, {"quality": 90}, {"lossless": True, "exact": True}])
def test_webp(options, make_image, file_bytes):
    image = make_image(1, size=(40, 30))
    loaded = load_image(file_bytes(image, "WEBP", **options))
    assert (loaded.mode, loaded.size) == ("RGB", (40, 30))
    assert np.abs(np.asarray(loaded).astype(int) - np.asarray(image)).mean() < 8


def test_cmyk_jpeg_becomes_rgb(make_image, file_bytes):
    image = make_image(2, size=(32, 32))
    loaded = load_image(file_bytes(image.convert("CMYK"), "JPEG", quality=95))
    assert loaded.mode == "RGB"
    assert np.abs(np.asarray(loaded).astype(int) - np.asarray(image)).mean() < 8


def test_grey_becomes_three_channels_and_rgb_becomes_luma(make_image):
    grey = to_form(make_image(3, size=(32, 32), mode="L"), RGB)
    assert grey.shape == (32, 32, 3)
    assert (grey[..., 0] == grey[..., 2]).all()
    colour = make_image(3, size=(28, 28))
    luma = np.asarray(colour, float) @ (0.299, 0.587, 0.114)
    pixels = to_form(colour, GREY)
    assert (pixels.shape, pixels.dtype) == ((28, 28, 1), np.uint8)
    np.testing.assert_allclose(pixels[..., 0], luma, atol=1)


def test_16_bits_are_scaled_to_8(file_bytes):
    values = np.array([[0, 1, 128, 129], [257, 32768, 65406, 65535]], np.uint16)
    wanted = np.round(values / 257).astype(np.uint8)
    for kind in ("PNG", "TIFF"):
        loaded = load_image(file_bytes(Image.fromarray(values), kind))
        assert loaded.mode == "L"
        np.testing.assert_array_equal(np.asarray(loaded), wanted)
    portable = b"P5 4 2 65535\n" + values.astype(">u2").tobytes()
    np.testing.assert_array_equal(np.asarray(load_image(portable)), wanted)


def test_16_bit_rgb_png():
    values = np.array([[[0, 32768, 65535], [257, 514, 65280]]], ">u2")
    loaded = load_image(png(2, 1, 16, 2, b"\0" + values.tobytes()))
    assert loaded.mode == "RGB"
    np.testing.assert_allclose(np.asarray(loaded), values / 257, atol=1)


@pytest.mark.parametrize("mode", ["I", "F"])
def test_32_bit_pixels_are_refused_since_their_range_is_unknown(mode, file_bytes):
    with pytest.raises(BadImage, match="32-bit"):
        load_image(file_bytes(Image.new(mode, (4, 4), 100), "TIFF"))


def test_palette_with_transparency_is_laid_on_white(file_bytes):
    image = Image.new("P", (2, 1))
    image.putpalette([255, 0, 0, 0, 0, 255])
    image.putdata([0, 1])
    assert load_image(file_bytes(image, "PNG")).getpixel((0, 0)) == (255, 0, 0)
    clear = load_image(file_bytes(image, "PNG", transparency=0))
    assert (clear.getpixel((0, 0)), clear.getpixel((1, 0))) == ((255, 255, 255), (0, 0, 255))


@pytest.mark.parametrize(("mode", "colour", "wanted"), [
    ("RGBA", (255, 0, 0, 0), (255, 255, 255)), ("RGBA", (255, 0, 0, 255), (255, 0, 0)),
    ("RGBA", (0, 0, 0, 128), (127, 127, 127)), ("LA", (0, 0), (255, 255, 255)), ("LA", (9, 255), (9, 9, 9))])
def test_alpha_is_laid_on_white(mode, colour, wanted, file_bytes):
    assert load_image(file_bytes(Image.new(mode, (3, 3), colour), "PNG")).getpixel((1, 1)) == wanted


def test_bilevel(file_bytes):
    assert load_image(file_bytes(Image.new("1", (3, 3), 1), "PNG")).getpixel((0, 0)) == 255


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", range(10))
def test_exif_orientation(kind, orientation, make_image, file_bytes):
    """Turned by the inverse first, all eight look the same; 0 and 9 are no orientations and change nothing."""
    turn = Image.Transpose
    inverse = {2: turn.FLIP_LEFT_RIGHT, 3: turn.ROTATE_180, 4: turn.FLIP_TOP_BOTTOM, 5: turn.TRANSPOSE,
               6: turn.ROTATE_90, 7: turn.TRANSVERSE, 8: turn.ROTATE_270}
    upright = make_image(4, size=(48, 32))
    stored = upright.transpose(inverse[orientation]) if orientation in inverse else upright
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    loaded = load_image(file_bytes(stored, kind, exif=exif, quality=95))
    assert loaded.size == (48, 32)
    assert np.abs(np.asarray(loaded).astype(int) - np.asarray(upright)).mean() < 8


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
@pytest.mark.parametrize("exif", [b"Exif\0\0", b"Exif\0\0garbage", b"Exif\0\0II*\0\xff\xff\xff\xff",
                                  b"Exif\0\0MM\0*\0\0\0\x08\xff\xff"])
def test_damaged_exif_does_not_hide_the_image(exif, make_image, file_bytes):
    assert load_image(file_bytes(make_image(4), "JPEG", exif=exif)).size == (12, 8)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "BMP", "WEBP", "TIFF", "PPM"])
def test_truncated_anywhere_is_refused(kind, make_image, file_bytes):
    data = file_bytes(make_image(5, size=(64, 64)), kind)
    for end in (3, 11, 30, len(data) // 2, len(data) - 40):
        with pytest.raises(BadImage):
            load_image(data[:end])


def test_one_pixel(file_bytes):
    image = load_image(file_bytes(Image.new("RGB", (1, 1), (1, 2, 3)), "PNG"))
    assert to_form(image, RGB).reshape(-1, 3).tolist() == [[1, 2, 3]] * 1024


def test_decompression_bombs_are_refused_before_they_are_decoded(file_bytes):
    bomb = png(60000, 60000, 8, 2, b"\0" * 1000)
    with pytest.raises(BadImage, match="60000 x 60000 pixels"):
        load_image(bomb)
    webp = b"RIFF" + struct.pack("<I", 22) + b"WEBPVP8X" + struct.pack("<I", 10) + b"\0\0\0\0" + b"\xff\x3f\0" * 2
    with pytest.raises(BadImage, match="16384 x 16384 pixels"):
        load_image(webp)
    jpeg = bytearray(file_bytes(Image.new("L", (8, 8)), "JPEG"))
    place = jpeg.index(b"\xff\xc0")
    jpeg[place + 5: place + 9] = b"\xff\xff\xff\xff"
    with pytest.raises(BadImage, match="65535 x 65535 pixels"):
        load_image(bytes(jpeg))


def test_a_phone_photo_with_a_second_picture_behind_it_is_a_photo(make_image, file_bytes):
    data = file_bytes(make_image(1), "MPO", save_all=True, append_images=[make_image(2)])
    assert load_image(data).size == (12, 8)


def test_what_is_no_image_says_why(make_image, file_bytes):
    frames = [make_image(seed) for seed in range(3)]
    cases = {b"": "empty", b"<html>404</html>": "no image of a known kind", b"\0\0\0\x18ftypheic" + bytes(40): "heic",
             file_bytes(frames[0], "GIF", save_all=True, append_images=frames[1:]): "GIF",
             file_bytes(frames[0], "TIFF", save_all=True, append_images=frames[1:]): "3 frames or pages",
             file_bytes(frames[0], "PNG", save_all=True, append_images=frames[1:]): "3 frames",
             file_bytes(frames[0], "WEBP", save_all=True, append_images=frames[1:]): "3 frames",
             b"\xff\xd8\xff" + bytes(MAX_BYTES): "more than the limit of 67 MB"}
    for data, reason in cases.items():
        with pytest.raises(BadImage, match=reason) as caught:
            load_image(data)
        assert "\n" not in str(caught.value)
        assert isinstance(caught.value, BadInput)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP", "BMP"])
def test_damaged_bytes_give_an_image_or_a_reason(kind, make_image, file_bytes):
    data = file_bytes(make_image(6, size=(40, 40)), kind)
    draw = np.random.default_rng(0)
    for _ in range(60):
        damaged = bytearray(data)
        for place in draw.integers(12, len(data), 3):
            damaged[place] = draw.integers(256)
        with contextlib.suppress(BadImage):
            assert load_image(bytes(damaged)).mode in ("L", "RGB")


FORMS = ["png-1-grey", "png-28-grey", "png-32-rgb", "png-150-rgb", "png-256-grey"]


@pytest.mark.parametrize("text", FORMS)
def test_stored_png_round_trip_and_other_readers(text):
    form = Form.parse(text)
    pixels = np.random.default_rng(0).integers(0, 256, (form.side, form.side, form.channels), dtype=np.uint8)
    data = encode(pixels, form)
    np.testing.assert_array_equal(decode_stored(data, form), pixels.transpose(2, 0, 1))
    np.testing.assert_array_equal(decode_stored(memoryview(data), form), pixels.transpose(2, 0, 1))
    image = Image.open(io.BytesIO(data))
    image.load()
    np.testing.assert_array_equal(np.asarray(image).reshape(pixels.shape), pixels)


@pytest.mark.parametrize("text", ["png-28-grey", "png-32-rgb"])
def test_a_png_of_that_form_that_others_wrote_is_read(text, make_image, file_bytes):
    form = Form.parse(text)
    image = make_image(7, (form.side, form.side), "L" if form.channels == 1 else "RGB")
    for level in (0, 6):
        pixels = decode_stored(file_bytes(image, "PNG", compress_level=level), form)
        np.testing.assert_array_equal(pixels, to_form(image, form).transpose(2, 0, 1))


@pytest.mark.parametrize("text", ["jpeg95-64-rgb", "jpeg80-64-rgb", "jpeg95-64-grey"])
def test_stored_jpeg_round_trip(text, make_image):
    form = Form.parse(text)
    pixels = to_form(make_image(8, (64, 64)), form)
    decoded = decode_stored(encode(pixels, form), form)
    assert (decoded.shape, decoded.dtype) == ((form.channels, 64, 64), np.uint8)
    assert decoded.flags.c_contiguous
    assert np.abs(decoded.astype(int) - pixels.transpose(2, 0, 1)).mean() < 6


def test_stored_images_of_another_form_are_refused(make_image, file_bytes):
    good = {text: encode(to_form(make_image(9, (40, 40)), form), form) for text in (
        "png-28-grey", "png-32-grey", "png-32-rgb", "jpeg95-32-rgb", "jpeg95-32-grey", "jpeg95-64-rgb")
        for form in [Form.parse(text)]}
    for form in map(Form.parse, good):
        for text, data in good.items():
            if text != str(form):
                with pytest.raises(ValueError):
                    decode_stored(data, form)
        for data in (b"", b"\xff\xd8", b"\x89PNG", b"P6 32 32 255 "):
            with pytest.raises(ValueError):
                decode_stored(data, form)
    for mode in ("P", "RGBA", "1", "LA"):
        with pytest.raises(ValueError):
            decode_stored(file_bytes(Image.new(mode, (32, 32)), "PNG"), RGB)


@pytest.mark.parametrize("text", ["png-32-rgb", "png-150-rgb", "jpeg95-32-rgb"])
def test_damaged_stored_images_never_end_the_process(text, make_image):
    form = Form.parse(text)
    data = encode(to_form(make_image(10, (40, 40)), form), form)
    for cut in (1, 20, len(data) // 2):
        with pytest.raises(ValueError):
            decode_stored(data[:-cut], form)
    draw, refused = np.random.default_rng(0), 0
    for place in draw.integers(0, len(data), 200):
        damaged = bytearray(data)
        damaged[place] ^= 1 + draw.integers(255)
        try:
            assert decode_stored(bytes(damaged), form).shape == (3, form.side, form.side)
        except ValueError:
            refused += 1
    assert refused == 200 or form.quality


def test_encode_refuses_pixels_of_another_form():
    with pytest.raises(ValueError, match="png-32-rgb"):
        encode(np.zeros((28, 28, 1), np.uint8), RGB)


def test_stored_png_bytes_are_fixed():
    """The bytes follow from the pixels alone, whatever the versions of the libraries: a golden value."""
    pixels = np.arange(28 * 28, dtype=np.uint32).astype(np.uint8).reshape(28, 28, 1)
    assert hashlib.sha256(encode(pixels, GREY)).hexdigest()[:16] == "ca77f8f0a4e21520"


SHORT = Form.parse("jpeg90-short32-rgb")


@pytest.mark.parametrize(("size", "box", "stored"), [
    ((32, 32), (0, 0, 32, 32), (32, 32)), ((500, 375), (0, 0, 500, 375), (43, 32)),
    ((375, 500), (0, 0, 375, 500), (32, 43)), ((64, 32), (0, 0, 64, 32), (64, 32)),
    ((20, 40), (0, 0, 20, 40), (32, 64)),
    ((65, 32), (0, 0, 64, 32), (64, 32)), ((101, 10), (40, 0, 60, 10), (64, 32)), ((7, 100), (0, 43, 7, 57), (32, 64)),
    ((10_000, 1), (4999, 0, 5001, 1), (64, 32)), ((1, 1), (0, 0, 1, 1), (32, 32)),
    ((128, 65), (0, 0, 128, 65), (63, 32)), ((129, 65), (0, 0, 129, 65), (64, 32))])  # 63.02 and 63.5
def test_the_short_side_is_scaled_and_a_long_one_cut(size, box, stored, make_image):
    assert fitted(size, SHORT) == (box, stored)
    assert fitted(size, RGB) == ((0, 0, *size), (32, 32))
    image = make_image(11, size)
    pixels = to_form(image, SHORT)
    assert pixels.shape == (*stored[::-1], 3)
    # One filter over the whole image, of which the same part is taken, but for the pixels beyond the cut.
    want = np.asarray(image.crop(box).resize(stored, Image.Resampling.BILINEAR)).astype(int)
    assert np.abs(pixels - want)[:, 2:-2][2:-2].max() <= 1


def test_an_endless_image_takes_no_memory(make_image):
    import tracemalloc

    image = make_image(12, (40_000, 1))
    tracemalloc.start()
    try:
        assert to_form(image, Form.parse("jpeg90-short256-rgb")).shape == (256, 512, 3)
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("size", [(32, 32), (32, 50), (64, 32)])
@pytest.mark.parametrize("text", ["jpeg95-short32-rgb", "jpeg95-short32-grey"])
def test_stored_jpegs_of_several_sizes(text, size, make_image):
    form = Form.parse(text)
    pixels = to_form(make_image(13, size), form)
    assert pixels.shape == (*size[::-1], form.channels)
    data = encode(pixels, form)
    assert stored_size(data, form) == size[::-1]
    decoded = decode_stored(data, form)
    assert decoded.shape == (form.channels, *size[::-1])
    assert np.abs(decoded.astype(int) - pixels.transpose(2, 0, 1)).mean() < 6


def test_stored_jpegs_of_other_sizes_are_refused(make_image, file_bytes):
    for size in ((31, 40), (32, 65), (33, 33), (64, 64), (65, 32)):
        image = make_image(14, size)
        with pytest.raises(ValueError, match=f"its header says 3 channels of {size[0]} x {size[1]} pixels"):
            decode_stored(file_bytes(image, "JPEG"), SHORT)
        with pytest.raises(ValueError, match="jpeg90-short32-rgb"):
            encode(np.asarray(image), SHORT)
    with pytest.raises(ValueError, match="its header says 1 channels"):
        decode_stored(file_bytes(make_image(14, (32, 40), "L"), "JPEG"), SHORT)


def test_the_centre_of_pixels():
    pixels = np.arange(5 * 8).reshape(1, 5, 8)
    assert central(pixels, 2).tolist() == [[[11, 12], [19, 20]]]
    assert central(pixels, 5).shape == (1, 5, 5)
    assert central(pixels, 5)[0, 0].tolist() == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("text", ["png-32-rgb", "jpeg95-32-rgb", "jpeg90-32-rgb", "jpeg90-short32-rgb"])
def test_an_image_as_it_would_be_stored(text, make_image):
    form, image = Form.parse(text), make_image(15, (50, 40))
    plain, stored = to_form(image, form), as_stored(image, form)
    if form.quality == 90:
        assert np.array_equal(stored, decode_stored(encode(plain, form), form).transpose(1, 2, 0))
        assert not np.array_equal(stored, plain)
    else:
        assert np.array_equal(stored, plain)
