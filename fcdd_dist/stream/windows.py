"""Random squares of stored images, and how they are taken: by slices in memory, by a gather on a device.

They are taken before anything else is done to the pixels. A colour jitter is an affine map of colours, the same one
for a whole image, and so commutes with the cut; but contrast moves colours towards the mean of the whole image, which
therefore comes along.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch

from ..model.transfer import to_device


class Windows(NamedTuple):
    """A square of ``side`` pixels of each of n images."""

    down: np.ndarray  # (n,) in [0, 1): of the places that there are for it
    across: np.ndarray  # (n,) likewise
    mirrored: np.ndarray  # (n,) bool
    side: int

    @classmethod
    def drawn(cls, draws: np.ndarray, flip: float, side: int) -> Windows:
        """From the uniforms of these samples, (n, 16); see ``augment``."""
        return cls(draws[:, 10], draws[:, 11], draws[:, 13] < flip, side)

    def corners(self, sizes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Top and left, (n,) int64 each, in images of ``sizes``, (n, 2) int64: heights and widths."""
        room = sizes - self.side + 1
        return (self.down * room[:, 0]).astype(np.int64), (self.across * room[:, 1]).astype(np.int64)

    def cut(self, row: int, image: np.ndarray | torch.Tensor, out: np.ndarray | torch.Tensor) -> None:
        """Copies the square of image number ``row``, (C, H, W), into ``out`` (C, side, side)."""
        top, left = (int(drawn[row] * (extent - self.side + 1))
                     for drawn, extent in zip((self.down, self.across), image.shape[1:], strict=True))
        square = image[:, top: top + self.side, left: left + self.side]
        if self.mirrored[row]:
            square = square[:, :, ::-1] if isinstance(square, np.ndarray) else square.flip(2)
        out[:] = square

    def gather(self, flat: torch.Tensor, starts: np.ndarray, sizes: np.ndarray, channels: int) -> torch.Tensor:
        """All squares, (n, channels, side, side), of images that lie in ``flat`` from ``starts`` on, plane by plane."""
        top, left = self.corners(sizes)
        span = np.arange(self.side)
        rows = starts[:, None] + (top[:, None] + span) * sizes[:, 1:]
        columns = left[:, None] + np.where(self.mirrored[:, None], self.side - 1 - span, span)
        rows, columns, planes = (to_device(part, flat.device) for part in (rows, columns, sizes.prod(1)))
        index = rows[:, :, None] + columns[:, None, :]
        out = flat.new_empty(len(starts), channels, self.side, self.side)
        for channel in range(channels):
            out[:, channel] = flat[index]
            index += planes[:, None, None]
        return out


class Views(NamedTuple):
    """What is seen of n images."""

    images: torch.Tensor  # (n, C, side, side) uint8
    means: torch.Tensor | None  # (n, C) float32: the mean colours of the whole images, in [0, 1]; None if not asked for


def mean_colour_of(image: torch.Tensor) -> torch.Tensor:
    """As ``mean_colour``, of (C, H, W) on a device."""
    return (image.sum((1, 2)).double() / (255 * image.shape[1] * image.shape[2])).float()


def mean_colour(image: np.ndarray) -> np.ndarray:
    """``image``: (H, W, C) uint8 -> (C,) float32 in [0, 1]. Sums are whole numbers: the same wherever it is taken."""
    narrow = np.uint16 if len(image) <= 0xFFFF // 255 else np.uint32  # for the sums of columns: half the time
    sums = image.sum(0, dtype=narrow).sum(0, dtype=np.uint64)
    return (sums / (255 * image.shape[0] * image.shape[1])).astype(np.float32)
