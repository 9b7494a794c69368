"""Order + pixels + chance + world -> batches on the device."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, closing
from itertools import tee
from typing import NamedTuple

import numpy as np
import torch

from ..data.order import Cursor, LaneRows, Order
from ..experiment import Experiment
from ..model.normalization import Preprocessing
from ..model.preprocessing import normalise
from ..world import World, rows
from .augment import augment, dense_noise, parameters
from .pixels import Pixels


class Batch(NamedTuple):
    """A rank's rows of a global batch."""

    images: torch.Tensor  # (n, C, H, W) float32, normalised
    labels: torch.Tensor  # (n,) float32: 1 = anomalous


class Stream:
    """The batches of a training, from any position on."""

    def __init__(self, experiment: Experiment, world: World, order: Order, nominal: Pixels, exposure: Pixels | None,
                 preprocessing: Preprocessing, device: torch.device) -> None:
        self._experiment, self._order, self._device = experiment, order, device
        self._nominal, self._exposure, self._preprocessing = nominal, exposure, preprocessing
        self._lanes = world.lanes(experiment.lanes)
        self._rows = slice(rows(experiment.batch_size, experiment.lanes, self._lanes[0])[0],
                           rows(experiment.batch_size, experiment.lanes, self._lanes[-1])[1])
        self.steps_per_epoch = order.steps_per_epoch

    def batches(self, start: Cursor, epochs: int) -> Iterator[tuple[Cursor, Batch]]:
        """Every step from ``start`` to the end of ``epochs`` epochs."""
        for cursor, exposed, images in self._raw(start, epochs):
            yield cursor, self._finish(cursor, exposed, images)

    def _cursors(self, start: Cursor, epochs: int) -> Iterator[Cursor]:
        for epoch in range(start.epoch, epochs):
            for step in range(start.step if epoch == start.epoch else 0, self.steps_per_epoch):
                yield Cursor(epoch, step)

    def _raw(self, start: Cursor, epochs: int) -> Iterator[tuple[Cursor, np.ndarray, torch.Tensor]]:
        plan = ((cursor, _join([self._order.rows(cursor, lane) for lane in self._lanes]))
                for cursor in self._cursors(start, epochs))
        plan, ahead_nominal, ahead_exposure = tee(plan, 3)
        with ExitStack() as walks:  # an error of one ends the threads of both

            def walk(pixels: Pixels, requests: Iterator[np.ndarray]) -> Iterator[torch.Tensor]:
                return walks.enter_context(closing(pixels.walk(requests)))

            nominal = walk(self._nominal, (part.ids[~part.exposed] for _, part in ahead_nominal))
            exposure = None if self._exposure is None else walk(
                self._exposure, (part.ids[part.exposed] for _, part in ahead_exposure))
            for cursor, part in plan:
                images = next(nominal)
                if exposure is not None:
                    # Places of both kinds in one permutation, made on the host: the device is not waited for.
                    places = np.argsort(np.concatenate([np.flatnonzero(~part.exposed), np.flatnonzero(part.exposed)]))
                    images = torch.cat([images, next(exposure)])[torch.from_numpy(places).to(self._device)]
                yield cursor, part.exposed, images

    def _finish(self, cursor: Cursor, exposed: np.ndarray, images: torch.Tensor) -> Batch:
        e, step = self._experiment, cursor.epoch * self.steps_per_epoch + cursor.step
        draws = parameters(e.batch_size, e.seed, step)[self._rows]
        noise = None
        if e.augmentation.noise is not None:
            shape = (images.shape[1], self._preprocessing.side, self._preprocessing.side)
            noise = dense_noise(shape, e.batch_size, e.lanes, self._lanes, e.seed, step, self._device)
        x = augment(images, e.augmentation, draws, self._preprocessing.side, noise)
        labels = torch.from_numpy(exposed.astype(np.float32)).to(self._device)
        return Batch(normalise(x, self._preprocessing), labels)


def _join(parts: list[LaneRows]) -> LaneRows:
    return LaneRows(np.concatenate([part.exposed for part in parts]), np.concatenate([part.ids for part in parts]))
