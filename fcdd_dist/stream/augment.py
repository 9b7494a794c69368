"""The random half of preprocessing: one batched call on the device, each sample with its own parameters.

The parameters are drawn on the host for the whole global batch, one call a step; a rank takes those of its rows. So
they do not depend on the number of ranks. Only the dense noise is drawn a lane at a time, on GPUs by the device itself.
"""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F

from .. import chance
from ..experiment import Augmentation, Noise
from ..model.preprocessing import resize, unit
from ..model.transfer import to_device
from ..world import rows

_COLUMNS = 16  # uniforms a sample: jitter 0 to 9, crop 10 to 12, flip 13, noise 14; 15 is spare
_LUMA = (0.299, 0.587, 0.114)


def parameters(batch_size: int, seed: int, step: int) -> np.ndarray:
    """The uniforms of a step, counted over the whole training: (batch_size, 16) float64 in [0, 1)."""
    return chance.uniforms(batch_size * _COLUMNS, seed, "augment", step).reshape(batch_size, _COLUMNS)


def augment(images: torch.Tensor, how: Augmentation, draws: np.ndarray, side: int, noise: torch.Tensor | None,
            means: torch.Tensor | None = None) -> torch.Tensor:
    """``images``: (n, C, H, W) uint8 -> (n, C, side, side) float32 in [0, 1], but for noise that is not clamped.

    ``draws``: (n, 16) uniforms of these samples; ``noise``: (n, C, side, side) standard normal, or None. Where ``how``
    crops at random the images are the windows already, mirrored and all (see ``windows``), and ``means``, (n, C), the
    mean colours of what they were cut from.
    """
    x = unit(images)
    if how.jitter:
        x = _jitter(x, how.jitter, draws, x.mean(dim=(2, 3)) if means is None else means)
    if how.crop != "random":
        x = _crop_and_flip(x, how, draws, side)
    if how.noise is not None and noise is not None:
        x = _add_noise(x, how.noise, draws, noise)
    return x


def dense_noise(shape: tuple[int, int, int], batch_size: int, lanes: int, owned: range, seed: int, step: int,
                device: torch.device) -> torch.Tensor:
    """Standard normal values for the rows of the ``owned`` lanes, each lane from its own key: (n, *shape)."""
    return torch.cat([LaneNoise(seed, step, lane, device)(end - first, *shape)
                      for lane in owned for first, end in [rows(batch_size, lanes, lane)]])


class LaneNoise:
    """Standard normal values for the rows of a lane in a step.

    In one call or in several they are the same, where a row has a multiple of 16 values. A GPU has its own generator,
    whose values are others; torch's generator for CPUs took most of the time of augmentation.
    """

    def __init__(self, seed: int, step: int, lane: int, device: torch.device) -> None:
        self._key, self._device, self._taken = (seed, "noise", step, lane), device, 0
        self._generator = None
        if device.type != "cpu":
            self._generator = torch.Generator(device=device).manual_seed(chance.seed64(*self._key))

    def __call__(self, *shape: int) -> torch.Tensor:
        if self._generator is not None:
            return torch.randn(shape, generator=self._generator, device=self._device)
        count, start = math.prod(shape), self._taken
        self._taken += count
        return torch.from_numpy(chance.normals(count, *self._key, start=start)).view(shape)


def _jitter(x: torch.Tensor, presets: tuple[tuple[float, ...], ...], draws: np.ndarray, mean: torch.Tensor
            ) -> torch.Tensor:
    """Brightness, contrast, saturation and hue in random order, as one affine map of colours an image.

    ``mean``: (n, C), their mean colours, or those of what they were cut from. Each of the four is affine in the colour:
    contrast moves colours towards the mean grey of the image, whose value after the maps before it follows from its
    mean colour. The deviation from torchvision's jitter: values are clamped once at the end and not rounded to 8 bits
    between, and hue is a rotation about the grey axis of RGB, where torchvision turns along the hexagon of HSV (the
    same for thirds of a turn).
    """
    channels = x.shape[1]
    chosen = np.asarray(presets)[(draws[:, 4] * len(presets)).astype(int)]  # (n, 4) strengths
    amounts = (2 * draws[:, :4] - 1) * chosen  # (n, 4) in [-strength, strength]
    brightness, contrast, saturation = np.maximum(0, 1 + amounts[:, :3]).T
    n, eye = len(draws), np.eye(channels)
    luma = np.asarray(_LUMA) if channels == 3 else np.ones(1)
    grey = np.tile(luma, (channels, 1))  # every channel becomes the luma
    if channels == 3:
        linear = np.stack([brightness[:, None, None] * eye, contrast[:, None, None] * eye,
                           saturation[:, None, None] * eye + (1 - saturation)[:, None, None] * grey,
                           _hue(amounts[:, 3])], axis=1)  # (n, 4, C, C)
    else:
        linear = np.stack([brightness[:, None, None] * eye, contrast[:, None, None] * eye,
                           np.tile(eye, (n, 1, 1)), np.tile(eye, (n, 1, 1))], axis=1)
    order = np.argsort(draws[:, 5:9], axis=1, kind="stable")  # (n, 4): the op at each place
    linear_t, towards_grey, weights = (to_device(part.astype(np.float32), x.device)
                                       for part in (linear, 1 - contrast, luma))
    order_t, everyone = to_device(order, x.device), torch.arange(n, device=x.device)
    total = torch.eye(channels, device=x.device).expand(n, channels, channels)
    offset = x.new_zeros(n, channels)
    for place in range(4):
        op = order_t[:, place]
        step = linear_t[everyone, op]
        current = _applied(total, mean) + offset
        shift = torch.where(op == 1, towards_grey * (current * weights).sum(1), 0)
        total = step @ total
        offset = _applied(step, offset) + shift[:, None]
    out = torch.baddbmm(offset[:, :, None], total, x.flatten(2))
    return out.clamp_(0, 1).view_as(x)


def _applied(maps: torch.Tensor, colours: torch.Tensor) -> torch.Tensor:
    """(n, C, C), (n, C) -> (n, C), in sums: with a product of matrices some CPUs round a row by how many there are."""
    return (maps * colours[:, None]).sum(2)


def _hue(turns: np.ndarray) -> np.ndarray:
    """(n,) shifts in turns of the colour circle -> (n, 3, 3) rotations about the grey axis; 1/3 maps red to green."""
    angle = 2 * math.pi * turns[:, None, None]
    onto_grey = np.full((3, 3), 1 / 3)
    across = np.array([[0, -1, 1], [1, 0, -1], [-1, 1, 0]]) / math.sqrt(3)  # the cross product with the axis
    return onto_grey + np.cos(angle) * (np.eye(3) - onto_grey) + np.sin(angle) * across


def _crop_and_flip(x: torch.Tensor, how: Augmentation, draws: np.ndarray, side: int) -> torch.Tensor:
    flip = draws[:, 13] < how.flip
    if how.crop == "none":
        return _window(resize(x, side), np.zeros(len(x), int), np.zeros(len(x), int), side, flip)
    if how.crop == "pad":
        x = F.pad(resize(x, side), (how.padding,) * 4)
        room = 2 * how.padding + 1
        return _window(x, (draws[:, 10] * room).astype(int), (draws[:, 11] * room).astype(int), side, flip)
    room = x.shape[-1] - side + 1
    cropped = draws[:, 12] < 0.5  # the draws are on the host, so that choosing rows does not wait for the device
    out = x.new_empty(len(x), x.shape[1], side, side)
    whole, part = (to_device(np.flatnonzero(where), x.device) for where in (~cropped, cropped))
    out[whole] = _window(resize(x[whole], side), *np.zeros((2, len(whole)), int), side, flip[~cropped])
    out[part] = _window(x[part], (draws[cropped, 10] * room).astype(int), (draws[cropped, 11] * room).astype(int),
                        side, flip[cropped])
    return out


def _window(x: torch.Tensor, top: np.ndarray, left: np.ndarray, side: int, flip: np.ndarray) -> torch.Tensor:
    """The windows of ``side`` pixels at (top, left) of each image, mirrored where ``flip``, as one gather."""
    if side == x.shape[-1] and not flip.any():
        return x
    span = np.arange(side)
    columns = np.where(flip[:, None], left[:, None] + side - 1 - span, left[:, None] + span)
    index = (top[:, None] + span)[:, :, None] * x.shape[-1] + columns[:, None, :]  # (n, side, side)
    index_t = to_device(index.reshape(len(x), 1, side * side), x.device)
    return x.flatten(2).gather(2, index_t.expand(-1, x.shape[1], -1)).view(len(x), x.shape[1], side, side)


def _add_noise(x: torch.Tensor, how: Noise, draws: np.ndarray, noise: torch.Tensor) -> torch.Tensor:
    amount = np.where(draws[:, 14] < how.probability, how.std, 0.0).astype(np.float32)
    amount = to_device(amount, x.device).view(-1, 1, 1, 1)
    if how.relative:
        amount = amount * x.std(dim=(1, 2, 3), keepdim=True)
    x.addcmul_(noise, amount)  # `x` is ours since `unit`: pages of new memory cost more than the sum
    return x.clamp_(0, 1) if how.clamp else x
