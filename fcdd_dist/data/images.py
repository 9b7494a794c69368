"""From files as people have them to pixels, and between pixels and the stored form of a data set."""

from __future__ import annotations

import io
import struct
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from PIL import Image, ImageOps

from ..errors import BadInput
from ..experiment import Form
from . import stored_png

if TYPE_CHECKING:
    import torch

Pixels = TypeVar("Pixels", np.ndarray, "torch.Tensor")
_FINE = 95  # JPEG quality from which on colours are stored in full resolution
MAX_BYTES = 64 << 20  # of a file
MAX_PIXELS = 100_000_000  # of an image, known from its header before anything is decoded

# Formats are told by content: files with the wrong extension are common.
_SIGNATURES = (("JPEG", b"\xff\xd8\xff"), ("PNG", stored_png.SIGNATURE), ("BMP", b"BM"), ("TIFF", b"II*\0"),
               ("TIFF", b"MM\0*"), ("PPM", b"P4"), ("PPM", b"P5"), ("PPM", b"P6"), ("PPM", b"P1"), ("PPM", b"P2"),
               ("PPM", b"P3"))
_MANY_FRAMES = ("PNG", "WEBP", "TIFF")  # of the accepted formats, those that may be films or have pages
_SIXTEEN_BITS = ("I;16", "I;16L", "I;16B", "I;16N")


class BadImage(BadInput):
    """Bytes that are no image we can use; the text is the reason."""


def load_image(data: bytes) -> Image.Image:
    """The image in ``data``, in its own size, mode "L" or "RGB", as a person would see it.

    JPEG, PNG, BMP, WebP, TIFF and PPM, told by content. EXIF orientation is applied, transparency is laid on white,
    CMYK and palettes become RGB, 16 bits are scaled to 8. Raises BadImage with the reason.
    """
    if not data:
        raise BadImage("it is empty")
    check_bytes(len(data))
    kind = _format(data)
    _check_pixels(_webp_size(data) if kind == "WEBP" else None)
    try:
        # The format's own class rather than Image.open: it does not guess, and our limit is the only one.
        Image.init()
        image = Image.OPEN[kind][0](io.BytesIO(data), "")
        _check_pixels(image.size)
        frames = getattr(image, "n_frames", 1) if kind in _MANY_FRAMES else 1
        if frames == 1:
            image.load()
            return plain(image, kind)
    except (BadImage, MemoryError):
        raise
    except Exception as error:  # decoders raise whatever comes to them on damaged bytes
        raise BadImage(f"it is damaged or truncated: {str(error) or type(error).__name__}") from error
    raise BadImage(f"it has {frames} frames or pages; give a file each")


def check_bytes(count: int) -> None:
    """Raises BadImage for more bytes than a file may have."""
    if count > MAX_BYTES:
        raise BadImage(f"it has {count / 1e6:.0f} MB, more than the limit of {MAX_BYTES / 1e6:.0f} MB")


def fitted(size: tuple[int, int], form: Form) -> tuple[tuple[int, int, int, int], tuple[int, int]]:
    """What of an image of ``size`` (width, height) is stored, (left, top, right, bottom), and in which size.

    Of a form with the short side scaled, a long side is cut to twice the short one, from whole pixel (long - 2 short)
    // 2 on; the stored long side is rounded to the nearest pixel, halves up. A square form takes the whole image.
    """
    width, height = size
    if form.fit == "square":
        return (0, 0, width, height), (form.side, form.side)
    short = min(size)
    kept = [min(extent, 2 * short) for extent in size]
    left, top = ((extent - part) // 2 for extent, part in zip(size, kept, strict=True))
    stored = tuple((2 * part * form.side + short) // (2 * short) for part in kept)
    return (left, top, left + kept[0], top + kept[1]), stored


def to_form(image: Image.Image, form: Form) -> np.ndarray:
    """``image`` (mode "L" or "RGB") -> (height, width, channels) uint8: scaled and cut as ``fitted`` says, grey or RGB.

    Pillow's bilinear filter, antialiased; grey is the luma 0.299 R + 0.587 G + 0.114 B. What is cut off is never
    scaled, so that an image may be as long as it likes.
    """
    if image.mode not in ("L", "RGB"):
        raise ValueError(f"an image of mode {image.mode}: load_image gives L or RGB")
    box, size = fitted(image.size, form)
    if image.size != size:
        image = image.resize(size, Image.Resampling.BILINEAR, box)
    mode = "L" if form.channels == 1 else "RGB"
    if image.mode != mode:
        image = image.convert(mode)
    return np.asarray(image).reshape(*size[::-1], form.channels)


def as_stored(image: Image.Image, form: Form) -> np.ndarray:
    """What a data set of ``form`` holds of ``image``, (height, width, channels): a net may know the codec's traces.

    From quality 95 on, with colours in full resolution, these count for nothing, and what ``to_form`` gives is taken.
    """
    pixels = to_form(image, form)
    return pixels if form.quality is None or form.quality >= _FINE else decode_interleaved(encode(pixels, form), form)


def central(pixels: Pixels, side: int) -> Pixels:
    """The central square of ``side`` pixels of (..., height, width), a view; from (extent - side) // 2 on."""
    top, left = ((extent - side) // 2 for extent in pixels.shape[-2:])
    return pixels[..., top: top + side, left: left + side]


def is_of(height: int, width: int, form: Form) -> bool:
    """Whether a stored image may have this size."""
    return min(height, width) == form.side and max(height, width) <= form.longest


def encode(pixels: np.ndarray, form: Form) -> bytes:
    """``pixels``: (height, width, channels) uint8 as ``to_form`` gives them -> PNG without compression, or JPEG of the
    form's quality."""
    if pixels.ndim != 3 or pixels.shape[2] != form.channels or not is_of(*pixels.shape[:2], form) or (
            pixels.dtype != np.uint8):
        raise ValueError(f"{pixels.dtype} pixels of shape {pixels.shape} are not {form}")
    if form.quality is None:
        return stored_png.encode(pixels)
    file = io.BytesIO()
    subsampling = {} if form.channels == 1 else {"subsampling": 0 if form.quality >= _FINE else 2}
    Image.fromarray(pixels[..., 0] if form.channels == 1 else pixels).save(
        file, "JPEG", quality=form.quality, **subsampling)
    return file.getvalue()


def decode_stored(data: bytes | memoryview, form: Form) -> np.ndarray:
    """The pixels of a stored image: (channels, height, width) uint8. Raises ValueError for what is not of ``form``.

    The size is read from the header first, so that no claim of another size is ever believed. Safe in threads, which
    decode JPEG side by side. simplejpeg decodes: the same pixels as Pillow's, and torchvision's, in 0.47 and 0.89 of
    the time (256 x 256, one core); it knows JPEG alone, so files as people have them are Pillow's.
    """
    return np.ascontiguousarray(decode_interleaved(data, form).transpose(2, 0, 1))


def decode_interleaved(data: bytes | memoryview, form: Form) -> np.ndarray:
    """As ``decode_stored``, (height, width, channels): for whoever takes a part of it, and copies only that."""
    if form.quality is None:
        pixels = stored_png.decode(data, form.side, form.channels)
        if pixels is not None:
            return pixels.transpose(1, 2, 0)
        stored_png.check_frame(data, form.side, form.channels)  # a PNG that somebody else wrote
    else:
        return _decode_jpeg(data, form)
    try:
        image = load_image(bytes(data))
    except BadImage as error:
        raise ValueError(str(error)) from None
    return to_form(image, form)


def _decode_jpeg(data: bytes | memoryview, form: Form) -> np.ndarray:
    from simplejpeg import decode_jpeg

    stored_size(data, form)
    try:
        return decode_jpeg(data, "GRAY" if form.channels == 1 else "RGB")
    except ValueError as error:
        raise ValueError(f"it is damaged or truncated: {error}") from None


def stored_size(data: bytes | memoryview, form: Form) -> tuple[int, int]:
    """Height and width of a stored JPEG, by its header. Raises ValueError where that is not of ``form``."""
    shape = _jpeg_shape(data)
    if shape is None:
        raise ValueError("it is no JPEG")
    bits, height, width, channels = shape
    if (bits, channels) != (8, form.channels) or not is_of(height, width, form):
        raise ValueError(f"its header says {channels} channels of {width} x {height} pixels, {bits} bits")
    return height, width


def _jpeg_shape(data: bytes | memoryview) -> tuple[int, int, int, int] | None:
    """(bits, height, width, components) of a JPEG's frame header, or None."""
    if bytes(data[:2]) != b"\xff\xd8":
        return None
    place = 2
    while place + 10 <= len(data) and data[place] == 0xFF:
        marker, length = data[place + 1], data[place + 2] << 8 | data[place + 3]
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            return struct.unpack_from(">BHHB", data, place + 4)
        place += 2 + length
    return None


def _format(data: bytes) -> str:
    for kind, signature in _SIGNATURES:
        if data.startswith(signature):
            return kind
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WEBP"
    known = "JPEG, PNG, BMP, WebP, TIFF and PPM images are read"
    if data[:4] == b"GIF8":
        raise BadImage(f"it is a GIF; {known}")
    if data[4:8] == b"ftyp":
        raise BadImage(f"it is a {data[8:12].decode('ascii', 'replace').strip()} file (HEIC, AVIF or film); {known}")
    raise BadImage(f"it is no image of a known kind (it begins with {data[:8]!r}); {known}")


def _check_pixels(size: tuple[int, int] | None) -> None:
    if size is not None and size[0] * size[1] > MAX_PIXELS:
        raise BadImage(f"it claims {size[0]} x {size[1]} pixels, more than the limit of {MAX_PIXELS // 10**6} million")


def _webp_size(data: bytes) -> tuple[int, int] | None:
    """Width and height: Pillow's WebP class makes room for the whole canvas before it can be asked."""
    kind, body = data[12:16], data[20:30]
    if len(body) < 10:
        return None
    if kind == b"VP8X":
        return 1 + int.from_bytes(body[4:7], "little"), 1 + int.from_bytes(body[7:10], "little")
    if kind == b"VP8L":
        bits = int.from_bytes(body[1:5], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    return int.from_bytes(body[6:8], "little") & 0x3FFF, int.from_bytes(body[8:10], "little") & 0x3FFF


def plain(image: Image.Image, kind: str | None) -> Image.Image:
    """An opened image as ``load_image`` gives it: upright, mode "L" or "RGB". Raises BadImage.

    ``kind``: the format that it came in, as Pillow names it, if any.
    """
    image = ImageOps.exif_transpose(image)  # an orientation that is not 2 to 8 changes nothing
    if image.mode in _SIXTEEN_BITS or (image.mode == "I" and kind == "PPM"):
        values = np.clip(np.asarray(image), 0, 0xFFFF).astype(np.uint32)
        return Image.fromarray(((values + 128) // 257).astype(np.uint8))
    if image.mode in ("I", "F"):
        raise BadImage("its pixels are 32-bit numbers, whose range nobody states; give 8 or 16 bits")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image).convert("RGB")
    if image.mode == "1":
        return image.convert("L")
    if image.mode in ("L", "RGB"):
        return image
    return image.convert("RGB")
