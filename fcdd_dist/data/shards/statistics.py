"""What is measured of stored pixels: a row an image, from which a part's statistics are summed up."""

from __future__ import annotations

import numpy as np

from ..manifest import Statistics

_VALUES = np.arange(256)
_FIELDS = ("sum", "sum_of_squares", "minimum", "maximum", "lcn_minimum", "lcn_maximum")


def measure(pixels: np.ndarray) -> np.ndarray:
    """``pixels``: (C, H, W) uint8 -> (7, C) float64: number, sum, sum of squares, extremes, LCN extremes by channel.

    All but the last two are whole numbers, in units of 8-bit values, so that sums of them are exact.
    LCN (L1): the image less its mean, over its mean absolute deviation (1 where that is 0), both over all channels.
    It keeps the order of values, so its extremes are those of the pixels.
    """
    counts = np.stack([np.bincount(channel.ravel(), minlength=256) for channel in pixels])  # a tenth of the time
    size, sums = pixels[0].size, counts @ _VALUES
    mean = sums.sum() / pixels.size
    deviation = counts.sum(axis=0) @ np.abs(_VALUES - mean) / pixels.size or 1.0
    low, high = (counts > 0).argmax(axis=1), 255 - (counts[:, ::-1] > 0).argmax(axis=1)
    return np.stack([np.full(len(counts), size), sums, counts @ _VALUES**2, low, high, (low - mean) / deviation,
                     (high - mean) / deviation])


class Tally:
    """Adds up rows of ``measure``."""

    def __init__(self) -> None:
        self._rows: np.ndarray | None = None

    def add(self, row: np.ndarray) -> None:
        """``row``: (7, C) float64 as ``measure`` gives it."""
        if self._rows is None:
            self._rows = row.copy()
            return
        self._rows[:3] += row[:3]
        np.minimum(self._rows[3::2], row[3::2], out=self._rows[3::2])
        np.maximum(self._rows[4::2], row[4::2], out=self._rows[4::2])

    def statistics(self) -> Statistics:
        """In units of [0, 1]. At least one row must have been added."""
        scale = (255.0, 255.0**2, 255.0, 255.0, 1.0, 1.0)
        fields = {name: tuple((values / by).tolist())
                  for name, values, by in zip(_FIELDS, self._rows[1:], scale, strict=True)}
        return Statistics(pixels=int(self._rows[0, 0]), **fields)
