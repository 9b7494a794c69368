"""The table of a sweep: what every trial has come to, as JSON for programs, CSV a cell and Markdown a class.

It holds no times and no places, so that equal results are equal bytes, whoever was killed in between.
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from ..evaluation.verdict import doubts_of
from ..experiment import leaves
from ..published import MEAN, PROTOCOLS, published
from ..storage import Store
from .halving import Halving
from .plan import Plan, Standings, signed, standing_of
from .rendering import cells_csv, markdown
from .space import Settings
from .standing import Standing
from .trials import Trial
from .value import Sweep

TABLE, CSV, MARKDOWN = "table.json", "table.csv", "table.md"
_SAID_OTHERWISE = ("epochs", "data.train_on", "data.form", "heatmap")  # or without a bearing on any number


def table(plan: Plan, standings: Standings) -> dict[str, Any]:
    """See the README for its keys.

    A run whose test images are all normal or all anomalous is done and has no AUROC: means are over those that have
    one, and there is none over classes where one of them has none.
    """
    sweep = plan.sweep
    cells = [_cell(sweep, trial, standing_of(trial, standings)) for trial in plan.cells(standings)]
    cells = cells or [_unnamed(sweep, class_id, seed) for class_id in sweep.classes for seed in range(sweep.seeds)]
    classes = [_class(sweep, class_id, [cell for cell in cells if cell["class"] == class_id])
               for class_id in sweep.classes]
    search = _search(plan, standings)
    return {"schema_version": 1, "recipe": sweep.recipe, "protocol": sweep.protocol, "epochs": sweep.epochs,
            "seeds": sweep.seeds, "complete": all(cell["state"] == "done" for cell in cells), "cells": cells,
            "classes": classes, "mean": _mean(sweep, classes), "departures": _departures(sweep, classes, search),
            "search": search}


def write_table(store: Store, found: Mapping[str, Any]) -> None:
    """Over earlier ones, in the folder of a sweep; each file whole or not at all."""
    store.write(TABLE, json.dumps(found, indent=1, allow_nan=False).encode())
    store.write(CSV, cells_csv(found))
    store.write(MARKDOWN, markdown(found).encode())


def _cell(sweep: Sweep, trial: Trial, standing: Standing) -> dict[str, Any]:
    result = standing.result if standing.has(trial) else None
    state = ("done" if result else "failed" if standing.reason else "unfinished" if standing.epochs else "waiting")
    return {"class": trial.class_id, "name": sweep.names[trial.class_id], "seed": trial.seed, "trial": trial.folder,
            "state": state, "reason": None if result else standing.reason,
            "epochs": result["epochs"] if result else 0 if standing.diverged else standing.epochs,  # see _setting
            "auroc": result["auroc"] if result else None,
            "average_precision": result["average_precision"] if result else None,
            "doubts": [doubt.word for doubt in doubts_of(result)] if result else []}


def _unnamed(sweep: Sweep, class_id: str, seed: int) -> dict[str, Any]:
    """A cell of which the search has not yet found the setting."""
    return {"class": class_id, "name": sweep.names[class_id], "seed": seed, "trial": None, "state": "waiting",
            "reason": None, "epochs": 0, "auroc": None, "average_precision": None, "doubts": []}


def _search(plan: Plan, standings: Standings) -> dict[str, Any] | None:
    search = plan.sweep.search
    if search is None:
        return None
    state = plan.search(standings)
    asked = dict(state.halving.wanted)  # of each setting the highest rung
    return {"select": search.select, "searcher": search.searcher, "scheduler": search.scheduler,
            "rungs": list(plan.rungs), "selected": state.halving.selected,
            "settings": [_setting(plan, number, setting, asked[number], state.halving, standings)
                         for number, setting in enumerate(state.settings)]}


def _setting(plan: Plan, number: int, setting: Settings, asked: int, halving: Halving,
             standings: Standings) -> dict[str, Any]:
    """``asked``: the rung that it has been let go on to."""
    assert plan.sweep.search is not None
    figure, select, cells = halving.figures.get(number), plan.sweep.search.select, []
    for trial in plan.searched(number, setting)[asked]:
        standing = standing_of(trial, standings)
        figures = standing.figures
        reached = asked in figures  # what failed after that, failed as a run that is tested
        # How much of what diverged was committed before, the clock decides; not so the last rung that was reached. And
        # a search that had fewer samples may have let the setting go on.
        epochs = (max((rung for rung in plan.rungs if rung in figures), default=0)
                  if standing.diverged and not reached else min(standing.epochs, asked))
        cells.append({"class": trial.class_id, "seed": trial.seed, "trial": trial.folder, "epochs": epochs,
                      "figure": figures[figure.epochs][select] if figure and figure.epochs in figures else None,
                      "reason": None if reached else standing.reason})
    state: str = halving.states[number]
    if state == "diverged" or any(cell["reason"] for cell in cells):
        state = "failed"
    elif state == "waiting" and any(cell["epochs"] for cell in cells):
        state = "running"
    return {"number": number, "settings": setting, "state": state, "epochs": figure.epochs if figure else 0,
            "figure": signed(figure.value, select) if figure and math.isfinite(figure.value) else None, "cells": cells}


def _class(sweep: Sweep, class_id: str, cells: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    areas, precisions = ([cell[key] for cell in cells if cell[key] is not None]
                         for key in ("auroc", "average_precision"))
    mean = statistics.fmean(areas) if areas else None
    return {"class": class_id, "name": sweep.names[class_id], "done": sum(cell["state"] == "done" for cell in cells),
            "auroc_mean": mean, "auroc_std": statistics.stdev(areas) if len(areas) > 1 else None,
            "average_precision_mean": statistics.fmean(precisions) if precisions else None,
            **_beside(sweep, class_id, mean)}


def _mean(sweep: Sweep, classes: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Over classes; beside the paper's only where the classes are all of the paper's."""
    areas = [row["auroc_mean"] for row in classes]
    mean = None if None in areas else statistics.fmean(areas)
    known = all(row["published"] is not None for row in classes)
    return {"auroc_mean": mean, **(_beside(sweep, MEAN, mean) if known and _all_classes(sweep) else
                                   {"published": None, "difference": None})}


def _all_classes(sweep: Sweep) -> bool:
    from ..recipes import recipe

    return set(sweep.classes) == set(recipe(sweep.recipe).classes)


def _departures(sweep: Sweep, classes: Sequence[Mapping[str, Any]], search: Mapping[str, Any] | None) -> list[str]:
    """In what the trainings differ from those that the paper's numbers beside them are of, as far as a sweep says."""
    from ..recipes import recipe

    if all(row["published"] is None for row in classes):
        return []
    paper, first = PROTOCOLS[sweep.recipe], sweep.classes[0]
    selected = search["settings"][search["selected"]]["settings"] if search and search["selected"] is not None else {}
    theirs, ours = (dict(leaves(one.model_dump(mode="json"))) for one in (
        recipe(sweep.recipe).experiment(first, 0), sweep.experiment_of(first, 0, selected, tested=True)))
    found = [f"{sweep.epochs} epochs instead of {paper.epochs}"] if sweep.epochs != paper.epochs else []
    found += [f"{path}={value if isinstance(value, str) else json.dumps(value)}" for path, value in ours.items()
              if value != theirs.get(path) and not path.startswith(_SAID_OTHERWISE)]
    found += ["a part of the images held out"] if sweep.protocol == "holdout" else []
    found += [f"{sweep.seeds} seed{'s' * (sweep.seeds > 1)} instead of {paper.repetitions}"] \
        if sweep.seeds != paper.repetitions else []
    return found


def _beside(sweep: Sweep, class_id: str, mean: float | None) -> dict[str, Any]:
    row = published(sweep.recipe, class_id)
    theirs = row.auc if row else None
    return {"published": theirs, "difference": None if theirs is None or mean is None else mean - theirs}
