"""Heatmaps: from the low-resolution map back to the image, by Gaussians on the receptive fields' centres.

Algorithm 1 of arXiv 2007.01760v1 is a transposed convolution with a fixed kernel. The kernel is a product of two
profiles, so the convolution is A' = R A C^T with one small matrix an axis; odd and even fields, borders and rectangular
images need nothing more, and the whole is differentiable.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from ..errors import BadInput, nearest
from .precision import widened
from .receptive_field import ReceptiveField


def sigma_for(size: int) -> float:
    """The paper's standard deviation, in pixels, for fields of ``size`` pixels: Algorithm 1's rule.

    Its "log" is the authors' log10; from size 20 on it is 10, a jump from 1.23.
    """
    return math.log10(0.45 * size + 1) + 0.25 if size < 20 else 10.0


def upsampling_matrix(side: int, cells: int, field: ReceptiveField, sigma: float, kernel: str = "code") -> Tensor:
    """What every cell of a map gives to every pixel, along one axis: float64, (side, cells), >= 0.

    ``side`` pixels of the image and ``cells`` of the map along this axis; ``kernel`` is "code", the authors' code of
    July 2020, or "literal", Algorithm 1 to the letter. For odd fields they differ by a factor of 2 pi sigma^2 in two
    dimensions, which no ranking sees, and by the first one's cut. Neither is renormalised at borders. Raises BadInput
    for another kernel or a sigma that is not positive.
    """
    if kernel not in KERNELS:
        raise BadInput(f"no kernel {kernel!r}{nearest(kernel, KERNELS)}: choose one of {', '.join(KERNELS)}")
    if not sigma > 0:
        raise BadInput(f"the sigma of a heatmap must be positive, not {sigma}")
    pixels = torch.arange(side, dtype=torch.float64)
    centres = field.centre + field.stride * torch.arange(cells, dtype=torch.float64)
    return KERNELS[kernel](pixels[:, None] - centres, field.size, sigma)


def upsample(maps: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Maps (B, 1, u, v) with matrices (h, u) and (w, v) -> (B, 1, h, w), in float32, or float64 for float64 maps."""
    maps = widened(maps)
    with torch.autocast(maps.device.type, enabled=False):  # it would multiply in bfloat16
        return rows.to(maps) @ maps @ columns.to(maps).mT


def _flat_topped(distance: Tensor, size: int, sigma: float) -> Tensor:
    """Peak 1, cut off at the field's edge. An even size takes the profile of the odd size below with its centre doubled
    and everything halved."""
    peak, shift = (1.0, 0.0) if size % 2 else (0.5, 0.5)
    distance = distance.abs()
    profile = peak * torch.exp(-((distance - shift) ** 2) / (2 * sigma**2))
    return torch.where(distance <= (size - 1) / 2, profile, 0.0)


def _gaussian(distance: Tensor, size: int, sigma: float) -> Tensor:
    """The normalised density, without a cut."""
    return torch.exp(-(distance**2) / (2 * sigma**2)) / (math.sqrt(2 * math.pi) * sigma)


KERNELS: dict[str, Callable[[Tensor, int, float], Tensor]] = {"code": _flat_topped, "literal": _gaussian}
