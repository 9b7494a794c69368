"""Shards into decoded images."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import numpy as np

from ...errors import Damaged
from ...experiment import Form
from ...storage import Store
from .. import stored_png
from ..images import central, decode_interleaved, decode_stored, stored_size
from ..manifest import Shard
from .read import Sample, parse_shard

T = TypeVar("T")
_BLOCK = 512


def decode_shard(data: bytes, form: Form, store: Store, shard: Shard) -> np.ndarray:
    """All images in the fetched bytes of a shard: (samples, channels, side, side) uint8.

    Raises Damaged with shard and key.
    """
    images = _all_at_once(data, shard, form) if form.quality is None else None
    if images is None:
        images = decode_samples(parse_shard(data, store, shard), form, store, shard)
    return images


def decode_samples(samples: list[Sample], form: Form, store: Store, shard: Shard, centre: int | None = None
                   ) -> np.ndarray:
    """The images of some of a shard's samples: (n, channels, side, side) uint8. Raises Damaged with shard and key.

    ``centre``: only the central square of so many pixels, as it must be where images have several sizes.
    """
    side = form.side if centre is None else centre
    images = np.empty((len(samples), form.channels, side, side), np.uint8)
    for row, sample in enumerate(samples):
        pixels = decode_pixels(sample, form, store, shard).transpose(2, 0, 1)
        images[row] = pixels if centre is None else central(pixels, centre)
    return images


def decode_sample(sample: Sample, form: Form, store: Store, shard: Shard) -> np.ndarray:
    """(channels, height, width) uint8. Raises Damaged with shard and key."""
    return _or_damaged(decode_stored, sample, form, store, shard)


def decode_pixels(sample: Sample, form: Form, store: Store, shard: Shard) -> np.ndarray:
    """(height, width, channels) uint8, one copy less. Raises Damaged with shard and key."""
    return _or_damaged(decode_interleaved, sample, form, store, shard)


def size_of(sample: Sample, form: Form, store: Store, shard: Shard) -> tuple[int, int]:
    """Height and width of a stored JPEG, by its header. Raises Damaged with shard and key."""
    return _or_damaged(stored_size, sample, form, store, shard)


def _or_damaged(read: Callable[[memoryview, Form], T], sample: Sample, form: Form, store: Store, shard: Shard) -> T:
    try:
        return read(sample.image, form)
    except ValueError as error:
        raise Damaged(f"{store.url}/{shard.key}: sample {sample.key} is not a stored {form}: {error}") from None


def _all_at_once(data: bytes, shard: Shard, form: Form) -> np.ndarray | None:
    """The images of a shard as our writer lays it out, or None for any other: that is then read member by member.

    Uncompressed images cost less to decode than a tar to parse; the bytes are those that the manifest vouches for, so
    that nothing has to be checked for damage, and whatever looks odd is left to the careful reader.
    """
    size = stored_png.size(form.side, form.channels)
    offsets, place, end = [], 0, len(data)
    while place + _BLOCK <= end and data[place]:
        field = data[place + 124: place + 135]
        if data[place + 156] != 0x30 or not field.isdigit() or b"8" in field or b"9" in field:
            return None
        length = int(field, 8)
        name = data[place: data.find(b"\0", place, place + 100)]
        if name.endswith(b".png"):
            if length != size or name.endswith(b".mask.png"):
                return None
            offsets.append(place + _BLOCK)
        elif not name.endswith(b".json"):
            return None
        place += _BLOCK + -(-length // _BLOCK) * _BLOCK
    if len(offsets) != shard.samples or end - place < 2 * _BLOCK or data.count(0, place) != end - place:
        return None
    return stored_png.decode_many(data, offsets, form.side, form.channels)
