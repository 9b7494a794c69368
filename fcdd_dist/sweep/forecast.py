"""How long a sweep takes, about: what was measured of its steps, and flat amounts for all that is not steps."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..data.manifest import Manifest
from .progress import Progress
from .value import Sweep

if TYPE_CHECKING:
    from ..training.estimate import Pace

# Measured with the digits and Fashion-MNIST on two cores that others were using, too.
START_S = 14.0  # Ray, and the processes of the first trials until they train
_TRIAL_S = 1.0  # a training's beginning and end: lease, data, checkpoint, curves
_WORKERS_S = 12.0  # where workers of its own are started for it
_PICTURES_S = 0.5  # of a run that is tested: what is written of it
_INPUT = 1.2  # of a step: input and augmentation
_COMPARED = 500  # hold-out images of each kind that are looked at after an epoch, at most


def steps_an_epoch(sweep: Sweep, data: Manifest) -> float:
    """The mean over classes."""
    batch, repeats = sweep.experiment.batch_size, sweep.experiment.data.repeats
    splits = ("train", "holdout") if sweep.protocol == "paper" else ("train",)
    images = [sum(_images(data, split, class_id) for split in splits) * repeats for class_id in sweep.classes]
    return sum(-(-count // batch) for count in images) / len(images)


def test_images(data: Manifest) -> int:
    return sum(part.samples for part in data.splits.get("test", {}).values())


def seconds(sweep: Sweep, data: Manifest, left: Progress, pace: Pace, *, at_once: int, workers: int) -> float:
    """For what is ``left``, by so many trials at once of so many workers each."""
    if not left.trainings_left:
        return 0.0
    compared = [2 * min(_COMPARED, _images(data, "holdout", class_id)) for class_id in sweep.classes]
    held_out = sweep.protocol == "holdout" or sweep.search is not None
    epoch = _INPUT * steps_an_epoch(sweep, data) * pace.step + held_out * sum(compared) / len(compared) * pace.image
    work = (left.epochs_left * epoch + left.trainings_left * (_TRIAL_S + _WORKERS_S * (workers > 1))
            + left.tests_left * (_PICTURES_S + test_images(data) * pace.image))
    rounds = -(-left.trainings_left // at_once)  # of which the last may leave places empty
    return START_S + work * rounds / left.trainings_left


def _images(data: Manifest, split: str, class_id: str) -> int:
    part = data.part(split, class_id)
    return 0 if part is None else part.samples
