"""What an output pixel looks at, found by walking the network's own modules.

With the extent r, the stride j and the centre c of the first output pixel's field, a layer of kernel k, stride s and
padding p does: c += ((k - 1) / 2 - p) j; r += (k - 1) j; j *= s; starting from (1, 1, 0).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from torch import nn

from .batch_norm import BatchNorm2d

_NEUTRAL = (BatchNorm2d, nn.BatchNorm2d, nn.LeakyReLU, nn.ReLU, nn.Identity, nn.Dropout)


@dataclass(frozen=True)
class ReceptiveField:
    """Output pixel i looks at input pixels centre + i * stride +- (size - 1) / 2, counted from 0, on either axis.

    ``centre`` is a whole number for odd sizes and a half one for even sizes.
    """

    size: int
    stride: int
    centre: float


def receptive_field(network: nn.Module) -> ReceptiveField:
    """The field of an output pixel of ``network``, a Sequential of convolutions, pools and layers without geometry.

    Raises ValueError, with the module's path, for anything else and for what is not square.
    """
    size, stride, centre = 1, 1, 0.0
    for kernel, step, padding in _geometry(network):
        centre += ((kernel - 1) / 2 - padding) * stride
        size += (kernel - 1) * stride
        stride *= step
    return ReceptiveField(size, stride, centre)


def output_side(network: nn.Module, side: int) -> int:
    """The side of the map that ``network`` makes of images of ``side`` pixels.

    Raises ValueError as receptive_field does, and for images that are too small.
    """
    result = side
    for kernel, step, padding in _geometry(network):
        if result + 2 * padding < kernel:
            raise ValueError(f"images of {side} pixels are too small for this network")
        result = (result + 2 * padding - kernel) // step + 1
    return result


def _geometry(module: nn.Module, path: str = "network") -> Iterator[tuple[int, int, int]]:
    """(kernel, stride, padding) of every layer that has them, from input to output."""
    if isinstance(module, nn.Sequential):
        for name, child in module.named_children():
            yield from _geometry(child, f"{path}.{name}")
    elif isinstance(module, nn.Conv2d | nn.MaxPool2d | nn.AvgPool2d):
        if getattr(module, "ceil_mode", False):
            raise ValueError(f"{path}: the side of a pool that rounds up depends on the image")
        kernel, step, padding, dilation = (
            _side(getattr(module, name, 1), f"{path}.{name}")
            for name in ("kernel_size", "stride", "padding", "dilation")
        )
        yield (kernel - 1) * dilation + 1, step, padding
    elif not isinstance(module, _NEUTRAL):
        raise ValueError(f"{path}: the receptive field of a {type(module).__name__} is not known")


def _side(value: int | str | tuple[int, ...], path: str) -> int:
    sides = set(value) if isinstance(value, tuple) else {value}
    side = sides.pop()
    if sides or not isinstance(side, int):
        raise ValueError(f"{path}: only whole numbers, equal on both axes, not {value!r}")
    return side
