"""What the folder of a sweep says, read once and checked, for the report.

Everything but ``sweep.json`` may be missing; what is there must be whole, or reading it raises Damaged.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from pydantic import Field

from ...errors import NotFound
from ...experiment import Experiment
from ...storage import Store
from ...sweep.table import TABLE
from ...sweep.value import SWEEP, Sweep
from ...threads import ahead
from ..reading import Read, parsed, png
from ..run.facts import Result

SHEET = "by-score"  # of the two sheets of a run, the one that a sweep shows
_AT_ONCE = 16  # files that are read together, where reading is a request over a network
Select = Literal["holdout_loss", "holdout_auroc"]
Found = TypeVar("Found")


class Cell(Read):
    """A run that is tested. ``trial``: its folder; None where a search has not yet found its setting."""

    class_id: str = Field(alias="class")
    name: str
    seed: int
    trial: str | None
    state: Literal["done", "unfinished", "failed", "waiting"]
    reason: str | None = None
    epochs: int
    auroc: float | None
    average_precision: float | None = None


class Row(Read):
    """A class: means and sample standard deviation over its seeds, and FCDD of the paper."""

    class_id: str = Field(alias="class")
    name: str
    done: int
    auroc_mean: float | None
    auroc_std: float | None = None
    average_precision_mean: float | None = None
    published: float | None = None
    difference: float | None = None


class Mean(Read):
    """Over the classes."""

    auroc_mean: float | None = None
    published: float | None = None
    difference: float | None = None


class Tried(Read):
    """A training of a setting."""

    class_id: str = Field(alias="class")
    seed: int
    trial: str | None = None
    figure: float | None = None
    reason: str | None = None


class Setting(Read):
    """``figure``: the mean over its trainings after ``epochs``, those of the last rung that all of them have passed."""

    number: int
    settings: dict[str, Any]
    state: Literal["done", "stopped", "running", "failed", "waiting"]
    epochs: int
    figure: float | None = None
    cells: tuple[Tried, ...] = ()


class Line(Read):
    """A line of ``metrics.jsonl``."""

    epoch: int
    holdout_loss: float | None = None
    holdout_auroc: float | None = None


class Search(Read):
    select: Select
    rungs: tuple[int, ...]
    selected: int | None
    settings: tuple[Setting, ...]


class Table(Read):
    """``table.json``."""

    cells: tuple[Cell, ...]
    classes: tuple[Row, ...]
    mean: Mean
    search: Search | None = None


@dataclass(frozen=True)
class Facts:
    """A sweep. ``missing`` holds a sentence for each thing that is not there."""

    url: str
    sweep: Sweep
    table: Table
    results: dict[str, Result]  # by the folders of trials that are done
    sheets: dict[str, tuple[Cell, str, bytes]]  # by class: of its first seed that is done, key and PNG of a sheet
    figures: Mapping[int, Mapping[int, float]]  # of a search: by rung and number of the setting, finite ones
    missing: tuple[str, ...]

    @property
    def done(self) -> list[Cell]:
        return [cell for cell in self.table.cells if cell.state == "done"]

    @property
    def selected(self) -> Setting | None:
        search = self.table.search
        return next((one for one in search.settings if one.number == search.selected), None) if search else None

    @property
    def experiment(self) -> Experiment:
        """Of the first class and seed, as its run is tested; before a search has found its setting, without one."""
        return self.sweep.experiment_of(self.sweep.classes[0], 0, self.selected.settings if self.selected else {},
                                        tested=True)


def read_facts(folder: Store) -> Facts:
    """Raises NotFound where ``folder`` is none of a sweep, and Damaged, naming file and place, for what can't be read.
    """
    try:
        text = folder.read(SWEEP)
    except NotFound:
        raise NotFound(f"{folder.url} is no folder of a sweep: it has no {SWEEP}") from None
    sweep = parsed(Sweep, f"{folder.url}/{SWEEP}", text)
    missing: list[str] = []
    try:
        table = parsed(Table, f"{folder.url}/{TABLE}", folder.read(TABLE))
    except NotFound:
        table = _empty(sweep)
        missing.append(f"There is no {TABLE}: no trial has come to an end, or it was removed.")
    done = [cell for cell in table.cells if cell.state == "done" and cell.trial]
    results = {}
    for cell, result in zip(done, _of_each(folder, done, _result), strict=True):
        if result is None:
            missing.append(f"There is no {cell.trial}/result.json: its figures are those of {TABLE}.")
        else:
            results[cell.trial] = result
    first = list({cell.class_id: cell for cell in reversed(done)}.values())[::-1]
    sheets = {cell.class_id: (cell, *found)
              for cell, found in zip(first, _of_each(folder, first, _sheet), strict=True) if found}
    if without := [cell.name for cell in first if cell.class_id not in sheets]:
        missing.append(f"There are no heatmaps of {', '.join(without)}.")
    figures, lost = _figures(folder, table.search) if table.search else ({}, 0)
    if lost:
        missing.append(f"In {lost:,} training{'s' * (lost > 1)} of the search there is no metrics.jsonl, or it lacks "
                       f"epochs: figures at the lower rungs of settings that went on are left out.")
    return Facts(folder.url, sweep, table, results, sheets, figures, tuple(missing))


def _empty(sweep: Sweep) -> Table:
    """Of a sweep of which nothing is known yet."""
    return Table(
        cells=tuple(Cell.model_validate({"class": one, "name": sweep.names[one], "seed": seed, "trial": None,
                                         "state": "waiting", "epochs": 0, "auroc": None})
                    for one in sweep.classes for seed in range(sweep.seeds)),
        classes=tuple(Row.model_validate({"class": one, "name": sweep.names[one], "done": 0, "auroc_mean": None})
                      for one in sweep.classes),
        mean=Mean())


def _of_each(folder: Store, cells: Sequence[Cell | Tried], read: Callable[[Store], Found]) -> Iterable[Found]:
    return ahead(lambda cell: read(folder.at(cell.trial)), cells, _AT_ONCE, "report")


def _figures(folder: Store, search: Search) -> tuple[dict[int, dict[int, float]], int]:
    """The figures of a search by rung and setting, and how many trainings lack those of lower rungs.

    The table has a setting's figure at its highest rung alone. Those before are the means over its trainings' metrics.
    """
    figures = {rung: {one.number: one.figure for one in search.settings
                      if one.epochs == rung and one.figure is not None} for rung in search.rungs}
    above = [one for one in search.settings if one.epochs > search.rungs[0]]
    cells = [cell for one in above for cell in one.cells if cell.trial]
    metrics = dict(zip((cell.trial for cell in cells),
                       _of_each(folder, cells, lambda run: _metrics(run, search.select)), strict=True))
    lost = set()
    for one in above:
        for rung in (rung for rung in search.rungs if rung < one.epochs):
            values = {cell.trial: metrics.get(cell.trial, {}).get(rung) for cell in one.cells}
            lost |= {trial for trial, value in values.items() if value is None}
            if values and None not in values.values():
                figures[rung][one.number] = statistics.fmean(values.values())
    return figures, len(lost)


def _metrics(run: Store, select: Select) -> dict[int, float | None]:
    """The figure after each epoch; none where there is no record of them."""
    try:
        lines = run.read("metrics.jsonl").splitlines()
    except NotFound:
        return {}
    read = (parsed(Line, f"{run.url}/metrics.jsonl, line {number},", line) for number, line in enumerate(lines, 1)
            if line.strip())
    return {line.epoch: getattr(line, select) for line in read}


def _result(run: Store) -> Result | None:
    try:
        return parsed(Result, f"{run.url}/result.json", run.read("result.json"))
    except NotFound:
        return None


def _sheet(run: Store) -> tuple[str, bytes] | None:
    key = f"heatmaps/{SHEET}.png"
    try:
        return key, png(run, key)
    except NotFound:
        return None
