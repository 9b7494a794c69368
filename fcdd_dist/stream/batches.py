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
from ..model.transfer import to_device
from ..world import World, cut, rows
from .augment import LaneNoise, augment, dense_noise, parameters
from .pixels import Pixels
from .windows import Views, Windows

_IN_CACHE = 4 << 20  # bytes of images that are augmented together on a CPU


class Batch(NamedTuple):
    """A rank's rows of a global batch."""

    images: torch.Tensor  # (n, C, H, W) float32, normalised
    labels: torch.Tensor  # (n,) float32: 1 = anomalous


class _Step(NamedTuple):
    """What is asked for in a step."""

    cursor: Cursor
    rows: LaneRows
    draws: np.ndarray  # (n, 16): uniforms of these rows


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

    @property
    def waited_s(self) -> float:
        """Seconds, so far, in which the device had nothing to do, since pixels were not decoded yet.

        On a CPU these are those that whoever walks over the batches has waited: threads that decode and take cores from
        the training's step slow it down, and that does not show here.
        """
        return sum(pixels.waited_s for pixels in (self._nominal, self._exposure) if pixels is not None)

    def batches(self, start: Cursor, epochs: int) -> Iterator[tuple[Cursor, Batch]]:
        """Every step from ``start`` to the end of ``epochs`` epochs."""
        for step, views, places in self._raw(start, epochs):
            yield step.cursor, self._finish(step, views, places)

    def _steps(self, start: Cursor, epochs: int) -> Iterator[_Step]:
        e = self._experiment
        for epoch in range(start.epoch, epochs):
            for step in range(start.step if epoch == start.epoch else 0, self.steps_per_epoch):
                cursor = Cursor(epoch, step)
                yield _Step(cursor, _join([self._order.rows(cursor, lane) for lane in self._lanes]),
                            parameters(e.batch_size, e.seed, self._count(cursor))[self._rows])

    def _count(self, cursor: Cursor) -> int:
        """Of a step, over the whole training."""
        return cursor.epoch * self.steps_per_epoch + cursor.step

    def _raw(self, start: Cursor, epochs: int) -> Iterator[tuple[_Step, Views, torch.Tensor | None]]:
        """Each step with the views of its nominal and then its exposed rows, and where among them each row is."""
        # One for each who goes over them: what nobody takes from a branch stays in memory.
        plan, *ahead = tee(self._steps(start, epochs), 2 if self._exposure is None else 3)
        with ExitStack() as walks:  # an error of one ends the threads of both

            def walk(pixels: Pixels, steps: Iterator[_Step], exposed: bool) -> Iterator[Views]:
                return walks.enter_context(closing(self._views(pixels, steps, exposed)))

            nominal = walk(self._nominal, ahead[0], False)
            exposure = None if self._exposure is None else walk(self._exposure, ahead[1], True)
            for step in plan:
                views, places = next(nominal), None
                if exposure is not None:
                    # Places of both kinds in one permutation, made on the host: the device is not waited for.
                    exposed = step.rows.exposed
                    places = np.argsort(np.concatenate([np.flatnonzero(~exposed), np.flatnonzero(exposed)]))
                    places = to_device(places, self._device)
                    views = Views(*(None if ours is None else torch.cat([ours, theirs])
                                    for ours, theirs in zip(views, next(exposure), strict=True)))
                yield step, views, places

    def _views(self, pixels: Pixels, steps: Iterator[_Step], exposed: bool) -> Iterator[Views]:
        """Those samples of each step that are exposed, or are not."""
        how, side = self._experiment.augmentation, self._preprocessing.side
        ours = ((step, step.rows.exposed == exposed) for step in steps)
        if how.crop == "random":
            asked = ((step.rows.ids[mine], Windows.drawn(step.draws[mine], how.flip, side)) for step, mine in ours)
            with closing(pixels.views(asked)) as served:
                yield from served
        else:
            with closing(pixels.walk(step.rows.ids[mine] for step, mine in ours)) as served:
                for images in served:
                    yield Views(images, None)

    def _finish(self, step: _Step, views: Views, places: torch.Tensor | None) -> Batch:
        labels = to_device(step.rows.exposed.astype(np.float32), self._device)
        channels, side = views.images.shape[1], self._preprocessing.side
        few = max(1, _IN_CACHE // (4 * channels * side**2))
        if self._device.type == "cpu" and few < max(end - first for first, end in self._lane_slices()):
            return Batch(self._few_at_a_time(step, views, places, few), labels)
        e, noise = self._experiment, None
        if e.augmentation.noise is not None:
            noise = dense_noise((channels, side, side), e.batch_size, e.lanes, self._lanes, e.seed,
                                self._count(step.cursor), self._device)
        return Batch(self._input(_rows(views, places, slice(None)), step.draws, noise), labels)

    def _few_at_a_time(self, step: _Step, views: Views, places: torch.Tensor | None, few: int) -> torch.Tensor:
        """A core goes over the pixels several times: as many as stay in its cache take less than half of the time."""
        e, channels, side = self._experiment, views.images.shape[1], self._preprocessing.side
        out = torch.empty((len(views.images), channels, side, side), memory_format=torch.channels_last)
        for lane, (begin, end) in zip(self._lanes, self._lane_slices(), strict=True):
            draw = LaneNoise(e.seed, self._count(step.cursor), lane, self._device)
            n = end - begin
            pieces = max(1, min(-(-n // few), n // 2))  # evenly, so that none is left with one image alone
            for piece in range(pieces):
                here = slice(*(begin + place for place in cut(n, pieces, piece)))
                noise = draw(here.stop - here.start, channels, side, side) if e.augmentation.noise is not None else None
                out[here] = self._input(_rows(views, places, here), step.draws[here], noise)
        return out

    def _input(self, views: Views, draws: np.ndarray, noise: torch.Tensor | None) -> torch.Tensor:
        """Of the net: (n, C, side, side) float32.

        Of one image alone torch's threads share a sum over all pixels, so that its last bits depend on their number; of
        several, each has its own. So on a CPU an image that is alone is computed twice.
        """
        if len(draws) == 1 and self._device.type == "cpu":
            views = Views(*(part if part is None else part.repeat_interleave(2, 0) for part in views))
            return self._input(views, draws.repeat(2, 0), None if noise is None else noise.repeat_interleave(2, 0))[:1]
        x = augment(views.images, self._experiment.augmentation, draws, self._preprocessing.side, noise, views.means)
        return normalise(x, self._preprocessing)

    def _lane_slices(self) -> list[tuple[int, int]]:
        """Where the rows of each lane begin and end among those of this rank."""
        e = self._experiment
        return [(first - self._rows.start, end - self._rows.start)
                for first, end in (rows(e.batch_size, e.lanes, lane) for lane in self._lanes)]


def _rows(views: Views, places: torch.Tensor | None, here: slice) -> Views:
    where = here if places is None else places[here]
    return Views(*(None if part is None else part[where] for part in views))


def _join(parts: list[LaneRows]) -> LaneRows:
    return LaneRows(np.concatenate([part.exposed for part in parts]), np.concatenate([part.ids for part in parts]))
