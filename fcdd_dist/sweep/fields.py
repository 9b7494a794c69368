"""Which fields of an experiment a sweep may set or search, and whether it can have the values that are asked for."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Iterator

from ..errors import BadInput, nearest
from ..experiment import Experiment, paths
from ..model.architectures import check_fit
from ..world import World
from .space import Settings, Space

# Fields that a search leaves alone, and why; with all that is in them.
FIXED = {
    "data.recipe": "it follows from RECIPE",
    "data.nominal": "it follows from --nominal",
    "data.form": "it follows from the data set",
    "data.train_on": "it follows from --protocol, and a search always keeps the hold-out aside",
    "exposure.order_seed": "it follows from --seeds",
    "heatmap": "settings are compared by loss or AUROC of the hold-out, which no heatmap changes",
    "epochs": "give --epochs",
    "precision": "give --precision",
    "seed": "give --seeds",
}
_SETTABLE = ("heatmap", "epochs", "precision")  # of those; the same for all trials of a sweep
_ENDS = 3  # values at either end of an axis that are tried with those of another


def check_given(settings: Iterable[str], space: Space) -> None:
    """Raises BadInput where one of the PATH=VALUE ``settings`` would be lost: to what follows from other options of a
    sweep, or to a value of the search space."""
    for setting in settings:
        path = setting.partition("=")[0]
        if why := _why_fixed(path, _SETTABLE):
            raise BadInput(f"--set {setting}: {path} can't be set for a sweep: {why}")
        for searched in space:
            if _within(path, searched) or _within(searched, path):
                raise BadInput(f"--set {setting}: {searched} is searched, too: leave it out here, or in the search "
                               f"space")


def check_space(space: Space, experiment: Experiment, workers: int) -> None:
    """Raises BadInput where ``experiment`` can't have what the space gives, or ``workers`` can't share it, in one line
    that names the field.

    Tried is every value of each axis, ends of ranges for their insides, with the first of the others; and of every two
    axes the first and last three values together. Whoever knows the settings of a search has ``check_settings``.
    """
    for path in space:
        if path not in (known := paths(Experiment)):
            raise BadInput(f"search space: there is no field {path}{nearest(path, known)}")
        if why := _why_fixed(path):
            raise BadInput(f"search space: {path} can't be searched: {why}")
    for outer, inner in itertools.permutations(space, 2):
        if _within(inner, outer):
            raise BadInput(f"search space: {outer} and {inner} can't both be searched, the second is in the first: "
                           f"leave one out, or write it into the values of {outer}")
    if workers == 1 and "network.batch_norm" in space:
        raise BadInput("search space: network.batch_norm: with one worker a trial, world and rank are the same: leave "
                       "it out, or give --workers-per-trial")
    check_settings(_some_of(space), experiment, workers)


def check_settings(settings: Iterable[Settings], experiment: Experiment, workers: int) -> None:
    """Raises BadInput for the first one that ``experiment`` can't have or ``workers`` can't share."""
    for one in settings:
        try:
            tried = experiment.override(f"{path}={json.dumps(value)}" for path, value in one.items())
            check_fit(tried)
            World(0, workers).lanes(tried.lanes)
        except BadInput as error:
            raise BadInput(f"search space: {str(error).removeprefix('experiment: ')}") from None
        if not tried.exposure.probability:
            raise BadInput("search space: exposure.probability: without exposure the hold-out has no anomalies by "
                           "which settings could be compared; give values above 0")


def _some_of(space: Space) -> Iterator[Settings]:
    first = {path: axis.values[0] for path, axis in space.items()}
    for path, axis in space.items():
        yield from (first | {path: value} for value in axis.values)
    ends = {path: axis.values if len(axis.values) <= 2 * _ENDS else axis.values[:_ENDS] + axis.values[-_ENDS:]
            for path, axis in space.items()}
    for some in itertools.combinations(space, 2):
        for values in itertools.product(*(ends[path] for path in some)):
            yield first | dict(zip(some, values, strict=True))


def _why_fixed(path: str, but: tuple[str, ...] = ()) -> str | None:
    """Why nobody but the sweep itself says what the field is; None where anybody may."""
    for fixed, why in FIXED.items():
        if fixed not in but and _within(path, fixed):
            return why
        if fixed not in but and _within(fixed, path):
            return f"{fixed} is in it, and {why}; give other fields of {path} by themselves"
    return None


def _within(path: str, other: str) -> bool:
    """Whether it is the other field or a part of it."""
    return f"{path}.".startswith(f"{other}.")
