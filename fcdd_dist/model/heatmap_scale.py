"""What a heatmap shows as 0 and as 1: Appendix A of arXiv 2007.01760v1. Pure functions of arrays."""

from __future__ import annotations

import numpy as np

from ..experiment import Value


class HeatmapScale(Value):
    """The minimum of upsampled reference maps, and the eta quantile of what they are above it."""

    minimum: float
    quantile: float
    eta: float
    reference: str  # which images the maps are of


def heatmap_scale(maps: np.ndarray, eta: float, reference: str) -> HeatmapScale:
    """The scale of ``maps``, an array of any shape with the upsampled maps of the reference set.

    The quantile is the k-th smallest value, k = int(eta * size) counted from 1, without interpolation. Raises
    ValueError for no or not finite values.
    """
    values = np.asarray(maps).ravel()
    if not values.size or not np.isfinite(values).all():
        raise ValueError("a heatmap scale needs reference maps, all of them finite")
    rank = min(values.size, max(1, int(eta * values.size)))
    minimum = float(values.min())
    return HeatmapScale(minimum=minimum, quantile=float(np.partition(values, rank - 1)[rank - 1]) - minimum, eta=eta,
                        reference=reference)


def looked_at(heatmap: np.ndarray) -> np.ndarray:
    """The values of a map, (n,), without those where nobody has looked, which are NaN."""
    return heatmap[~np.isnan(heatmap)]


def normalise_heatmap(heatmap: np.ndarray, scale: HeatmapScale) -> np.ndarray:
    """``heatmap`` on ``scale``, cut off at 0 and 1: float32 of the same shape; NaN stays NaN.

    Where the reference maps are all but constant their quantile is 0; then whatever is above the minimum is 1.
    """
    shifted = np.asarray(heatmap, dtype=np.float64) - scale.minimum
    if scale.quantile > 0:
        shown = np.clip(shifted / scale.quantile, 0, 1)
    else:
        shown = np.where(np.isnan(shifted), np.nan, shifted > 0)
    return shown.astype(np.float32)
