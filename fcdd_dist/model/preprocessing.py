"""The deterministic half of preprocessing: from stored pixels to the input of a net. Pure functions of tensors."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from ..data.images import central
from .normalization import Preprocessing
from .transfer import to_device


def unit(images: torch.Tensor) -> torch.Tensor:
    """uint8 -> float32 in [0, 1]. Multiplied, here and below: on CPUs a division takes twenty times as long."""
    return images.to(torch.float32).mul_(1 / 255)


def lcn(x: torch.Tensor) -> torch.Tensor:
    """Local contrast normalisation, L1: each image less its mean, over its mean absolute deviation.

    ``x``: (B, C, H, W). Mean and deviation are over all channels and pixels; an image of one value becomes 0
    (authors' code of July 2020; the same formula as Deep SVDD's global contrast normalisation).
    """
    centred = x - x.mean(dim=(1, 2, 3), keepdim=True)
    deviation = centred.abs().mean(dim=(1, 2, 3), keepdim=True)
    # The mean of equal values is off by a rounding, which must not be blown up to a pattern: not `deviation == 0`.
    return centred.mul_(1 / torch.where(deviation < 1e-6, 1, deviation))


def normalise(x: torch.Tensor, how: Preprocessing) -> torch.Tensor:
    """``x``: (B, C, H, W) float in [0, 1] -> the same shape, as the net takes it."""
    if how.normalization == "lcn-minmax":
        x = lcn(x)
    shift, factor = (to_device(torch.tensor(values, dtype=x.dtype), x.device).view(1, -1, 1, 1)
                     for values in (how.shift, [1 / s for s in how.scale]))
    return (x - shift).mul_(factor)


def resize(x: torch.Tensor, side: int) -> torch.Tensor:
    """``x``: (B, C, H, W) float -> (B, C, side, side), antialiased bilinear; the same tensor where it fits."""
    if x.shape[-2:] == (side, side):
        return x
    return F.interpolate(x, (side, side), mode="bilinear", antialias=True, align_corners=False)


def prepare(images: torch.Tensor, how: Preprocessing) -> torch.Tensor:
    """``images``: (B, C, H, W) uint8 as stored -> (B, C, side, side) float32, without any chance, as at test time.

    Where the centre is looked at, images that have been cut to it are as good.
    """
    if how.centre is not None:
        images = central(images, how.centre)
    return normalise(resize(unit(images), how.side), how)
