"""A sweep as a value: classes x seeds, of one setting or of the best one of a search. ``sweep.json`` holds it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Literal

from pydantic import ValidationError

from ..errors import BadInput, Conflict
from ..experiment import Count, Experiment, Value, differences, explain, newer_schema
from ..recipes import recipe
from .halving import rungs
from .space import Axis, draw

SWEEP, TRIALS = "sweep.json", "trials"
SCHEMA = 1
Select = Literal["holdout_loss", "holdout_auroc"]


class Search(Value):
    """Which settings are tried, and how the best is found: on hold-outs alone, never on test."""

    space: dict[str, Axis]
    searcher: Literal["grid", "random", "optuna"]
    samples: Count  # random draws, each with every point of the grid; 1 for a grid alone
    seeds: Count = 1  # 0 to seeds - 1, of every class, over which settings are compared
    seed: int = 0  # of the draws
    draws: Literal["independent", "spread"] = "independent"  # of "random", see space.draw; older sweeps don't say it
    scheduler: Literal["asha", "none"] = "asha"
    reduction: int = 3  # of settings from rung to rung
    select: Select = "holdout_loss"
    optuna_version: str | None = None  # that makes the suggestions; None for other searchers

    def rungs(self, settings: int, epochs: int) -> tuple[int, ...]:
        """The epochs at which so many settings are compared; the last are ``epochs``."""
        return (epochs,) if self.scheduler == "none" else rungs(settings, epochs, self.reduction)


class Sweep(Value):
    """Everything that the table of a sweep depends on but for the bytes of its data, which ``data_id`` stands for."""

    schema_version: Literal[1] = SCHEMA
    experiment: Experiment  # of the first class and seed 0, trained on `train`, before any search
    settings: tuple[str, ...]  # PATH=VALUE, by which it differs from its recipe's
    classes: tuple[str, ...]
    names: dict[str, str]  # of the classes, for people
    seeds: Count  # 0 to seeds - 1
    protocol: Literal["holdout", "paper"]  # of the runs that are tested; a search always keeps its hold-out
    search: Search | None = None
    data: str
    exposure: str | None
    data_id: str
    exposure_id: str | None

    @property
    def recipe(self) -> str:
        return self.experiment.data.recipe

    @property
    def epochs(self) -> int:
        return self.experiment.epochs

    def experiment_of(self, class_id: str, seed: int, setting: Mapping[str, Any], *, tested: bool) -> Experiment:
        """Of one trial; ``setting``: values by path. ``tested``: trained as the protocol has it, not for a search."""
        train_on = "train+holdout" if tested and self.protocol == "paper" else "train"
        mine = self.experiment
        base = _base(self.recipe, self.settings, class_id, seed)
        base = base.model_copy(update={
            "epochs": mine.epochs, "precision": mine.precision,
            "data": base.data.model_copy(update={"form": mine.data.form, "train_on": train_on})})
        return base.override(f"{path}={json.dumps(value)}" for path, value in setting.items()) if setting else base

    def to_json(self) -> str:
        return self.model_dump_json(indent=1)

    @classmethod
    def from_json(cls, text: bytes | str, where: str) -> Sweep:
        """Raises BadInput that names ``where``, the path and what is wrong with it."""
        if newer_schema(text, SCHEMA):
            raise BadInput(f"{where} was written by a newer fcdd_dist: update this one")
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            raise BadInput(f"{where} is damaged ({explain(error, cls)}): give another --name") from None

    def going_on_from(self, there: Sweep, where: str) -> None:
        """Raises Conflict, with the differences, where ``there``, which stands at ``where``, can't become this one.

        Without a search a sweep may grow: by classes, seeds and epochs. What a search has found holds for what it was
        made of; it may grow by seeds that are tested, and by random samples where settings are compared after the same
        epochs: then what comes of it is what a search of that many samples would have come to.
        """
        first = there.classes[0]  # which may come later in this one, or not at all
        changed = differences(self.experiment_of(first, 0, {}, tested=False), there.experiment)
        changed += [f"{name}: {before} -> {now}" for name, before, now in (
            ("protocol", there.protocol, self.protocol), ("data set", there.data_id, self.data_id),
            ("exposure set", there.exposure_id, self.exposure_id)) if before != now]
        changed += _differences(there.search, self.search, self.epochs)
        if lost := [class_id for class_id in there.classes if class_id not in self.classes]:
            changed.append(f"classes: without {', '.join(lost)}")
        if self.search is not None and (new := [one for one in self.classes if one not in there.classes]):
            changed.append(f"classes: with {', '.join(new)}, which the search has not seen")
        for name, before, now in (("seeds", there.seeds, self.seeds), ("epochs", there.epochs, self.epochs)):
            if now < before or (now > before and self.search is not None and name == "epochs"):
                changed.append(f"{name}: {before} -> {now}")
        if changed:
            raise Conflict(f"{where} is a sweep of other settings ({'; '.join(changed)}): give another --name")


@lru_cache(maxsize=1024)  # the same for every setting of a search
def _base(name: str, settings: tuple[str, ...], class_id: str, seed: int) -> Experiment:
    return recipe(name).experiment(class_id, seed).override(settings)


def _differences(there: Search | None, mine: Search | None, epochs: int) -> list[str]:
    if there is None or mine is None:
        before, now = ("none" if search is None else f"over {', '.join(search.space)}" for search in (there, mine))
        return [] if there == mine else [f"search: {before} -> {now}"]
    if _has_grown(there, mine):
        before, now = (_listed(search, epochs) for search in (there, mine))
        return [] if before == now else [f"search samples: {there.samples} -> {mine.samples}, which are compared after "
                                         f"{now} epochs, and no longer after {before}"]
    before, now = (_flat(search) for search in (there, mine))
    return [f"search {name}: {before.get(name, 'absent')} -> {now.get(name, 'absent')}"
            for name in before | now if before.get(name) != now.get(name)]


def _has_grown(there: Search, mine: Search) -> bool:
    """Whether it is the same search but for more random draws, which begin with those that were there."""
    return (mine.searcher == "random" and mine.samples > there.samples
            and mine == there.model_copy(update={"samples": mine.samples}) and list(mine.space) == list(there.space))


def _listed(search: Search, epochs: int) -> str:
    """The rungs of a random search."""
    return ", ".join(str(rung) for rung in search.rungs(len(draw(search.space, search.samples, search.seed)), epochs))


def _flat(search: Search) -> dict[str, str]:
    """What it is made of as JSON, the axes by their paths; the order of which numbers the settings."""
    tree = search.model_dump(mode="json")
    space = tree.pop("space")
    return {name: json.dumps(value) for name, value in (space | tree | {"over": list(space)}).items()}
