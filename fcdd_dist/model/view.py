"""What a net looks at of an image as people have it, and its map in that image's own pixel grid."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F

from ..data.images import fitted
from ..experiment import Form
from .normalization import Preprocessing


def seen(size: tuple[int, int], form: Form, how: Preprocessing) -> tuple[int, int, int, int]:
    """(left, top, right, bottom) of the pixels of an image of ``size`` (width, height) that are looked at, if in part.
    """
    if how.centre is None:
        return 0, 0, *size
    (left, right), (top, bottom) = ((low, high) for low, high, *_ in _axes(size, form, how.centre))
    return left, top, right, bottom


def into_image(map_: torch.Tensor, size: tuple[int, int], form: Form, how: Preprocessing) -> np.ndarray:
    """A map in the net's input grid, (1, 1, side, side), in the grid of an image of ``size``: (H, W) float32.

    Interpolated linearly. NaN where the net has not looked.
    """
    if how.centre is None:
        return F.interpolate(map_, size[::-1], mode="bilinear", align_corners=False)[0, 0].numpy()
    (left, right, *across), (top, bottom, *down) = _axes(size, form, how.centre)
    found = np.full(size[::-1], np.nan, np.float32)
    rows, columns = (_weights(*axis, how.centre) for axis in ((top, bottom, *down), (left, right, *across)))
    found[top: bottom, left: right] = rows @ map_[0, 0].numpy() @ columns.T
    return found


def _axes(size: tuple[int, int], form: Form, side: int) -> list[tuple[int, int, int, int, int, int]]:
    """Across and down: the first pixel that is looked at and the one after the last; and the place of the map, in whole
    numbers: map pixel i begins at ``start + (offset + i) * kept / stored`` of the image's pixels."""
    (left, top, right, bottom), stored = fitted(size, form)
    axes = []
    for start, end, pixels in ((left, right, stored[0]), (top, bottom, stored[1])):
        kept, offset = end - start, (pixels - side) // 2
        axes.append((start + offset * kept // pixels, start - (-(offset + side) * kept // pixels),
                     start, offset, kept, pixels))
    return axes


def _weights(low: int, high: int, start: int, offset: int, kept: int, stored: int, side: int) -> np.ndarray:
    """(high - low, side) float32: what each map pixel gives to those of the image, along one axis."""
    places = np.clip((np.arange(low, high) + 0.5 - start) * stored / kept - offset - 0.5, 0, side - 1)
    return np.maximum(0, 1 - np.abs(places[:, None] - np.arange(side))).astype(np.float32)
