"""What is measured of stored pixels: a row an image, from which a part's statistics are summed up."""

from __future__ import annotations

import numpy as np

from ..manifest import Statistics

_FIELDS = ("sum", "sum_of_squares", "minimum", "maximum", "lcn_minimum", "lcn_maximum")


def measure(pixels: np.ndarray) -> np.ndarray:
    """``pixels``: (C, H, W) uint8 -> (6, C) float64: sum, sum of squares, extremes, and LCN extremes by channel.

    All but the last two in units of 8-bit values, where they are whole numbers, so that sums of them are exact.
    LCN (L1): the image less its mean, over its mean absolute deviation (1 where that is 0), both over all channels.
    It keeps the order of values, so its extremes are those of the pixels.
    """
    flat = pixels.reshape(len(pixels), -1)
    values = flat.astype(np.int64)
    sums = values.sum(axis=1)
    mean = sums.sum() / flat.size
    deviation = np.abs(values - mean).mean() or 1.0
    low, high = flat.min(axis=1), flat.max(axis=1)
    return np.stack([sums, (values * values).sum(axis=1), low, high, (low - mean) / deviation,
                     (high - mean) / deviation])


class Tally:
    """Adds up rows of ``measure``."""

    def __init__(self, pixels: int) -> None:
        """``pixels``: of an image, a channel."""
        self._pixels, self._images = pixels, 0
        self._rows: np.ndarray | None = None

    def add(self, row: np.ndarray) -> None:
        """``row``: (6, C) float64 as ``measure`` gives it."""
        self._images += 1
        if self._rows is None:
            self._rows = row.copy()
            return
        self._rows[:2] += row[:2]
        np.minimum(self._rows[2::2], row[2::2], out=self._rows[2::2])
        np.maximum(self._rows[3::2], row[3::2], out=self._rows[3::2])

    def statistics(self) -> Statistics:
        """In units of [0, 1]. At least one row must have been added."""
        scale = (255.0, 255.0**2, 255.0, 255.0, 1.0, 1.0)
        fields = {name: tuple((values / by).tolist())
                  for name, values, by in zip(_FIELDS, self._rows, scale, strict=True)}
        return Statistics(pixels=self._images * self._pixels, **fields)
