"""The trials of a sweep: each is a run of its own, with a folder that carries neither clock nor chance in its name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import reduce
from typing import Any

from ..experiment import Experiment, leaves
from .value import TRIALS, Sweep

DIGITS = 8  # of an experiment's id, that tell the settings of a search apart


@dataclass(frozen=True)
class Trial:
    """One run, up to ``experiment.epochs``. ``setting``: its number in the search; None for a run that is tested."""

    name: str
    class_id: str
    seed: int
    experiment: Experiment
    setting: int | None = None

    @property
    def tested(self) -> bool:
        return self.setting is None

    @property
    def folder(self) -> str:
        """In that of the sweep."""
        return f"{TRIALS}/{self.name}"

    def up_to(self, epochs: int) -> Trial:
        return replace(self, experiment=self.experiment.model_copy(update={"epochs": epochs}))


def searched(sweep: Sweep, number: int, setting: Mapping[str, Any]) -> Iterator[Trial]:
    """Those that a setting is judged by, up to all epochs."""
    assert sweep.search is not None
    for class_id in sweep.classes:
        for seed in range(sweep.search.seeds):
            yield _trial(sweep, class_id, seed, setting, number)


def tested(sweep: Sweep, setting: Mapping[str, Any]) -> Iterator[Trial]:
    """The cells of the table: every class with every seed, all seeds of a class in a row."""
    for class_id in sweep.classes:
        for seed in range(sweep.seeds):
            yield _trial(sweep, class_id, seed, setting, None)


def _trial(sweep: Sweep, class_id: str, seed: int, setting: Mapping[str, Any], number: int | None) -> Trial:
    experiment = sweep.experiment_of(class_id, seed, setting, tested=number is None)
    # With a search the name tells the setting. One of which the tested run is the very same goes on from what it has.
    name = f"{class_id}-s{seed}" + (f"-{experiment.id[:DIGITS]}" if sweep.search else "")
    return Trial(name, class_id, seed, experiment, number)


def parameters(trial: Trial) -> dict[str, Any]:
    """What the trial is, flat, by dotted paths."""
    return {"class": trial.class_id, "seed": trial.seed, **dict(leaves(trial.experiment.model_dump(mode="json")))}


def varied(sweep: Sweep, trial: Trial) -> dict[str, Any]:
    """What tells the trial from the others of its sweep: class, seed, and the values of what is searched."""
    tree, found = trial.experiment.model_dump(mode="json"), {"class": trial.class_id, "seed": trial.seed}
    for path in sweep.search.space if sweep.search else ():
        found[path] = reduce(lambda node, name: node and node.get(name), path.split("."), tree)
    return found
