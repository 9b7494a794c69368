"""Fabricated folders of sweeps for the tests of their report: real tables over fabricated runs."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence

from fcdd_dist.recipes import recipe
from fcdd_dist.storage import Store
from fcdd_dist.sweep.plan import Plan
from fcdd_dist.sweep.standing import Standing, of_history
from fcdd_dist.sweep.table import table, write_table
from fcdd_dist.sweep.trials import Trial
from fcdd_dist.sweep.value import SWEEP, Search, Sweep
from tests.report.run_folders import fabricate

SPACE = {"optimizer.lr": {"loguniform": [1e-4, 0.1]}, "exposure.probability": {"uniform": [0.2, 0.8]},
         "network.batch_norm": {"grid": ["world", "rank"]},
         "schedule": {"choice": [{"kind": "exponential", "factor": 0.98}, {"kind": "milestones", "milestones": [2]}]}}


def search(space: Mapping = SPACE, samples: int = 9, **values) -> Search:
    return Search.model_validate_json(json.dumps(
        {"space": space, "searcher": "random", "samples": samples, **values}))


def fabricate_sweep(folder: Store, *, recipe_name: str = "fmnist", classes: Sequence[str] | None = None,
                    seeds: int = 2, epochs: int = 9, protocol: str = "holdout", search: Search | None = None,
                    names: Mapping[str, str] | None = None, settings: Sequence[str] = (), searched: float = 1.0,
                    stands: Callable[[Trial], Standing | None] = lambda trial: None, images: int = 12) -> Store:
    """Writes a sweep: ``stands`` says how far a trial is that is not done, None for one that is.

    ``searched``: the share of the trials of the search that have run.
    """
    known = recipe(recipe_name)
    classes = list(classes or known.classes)
    sweep = Sweep(
        experiment=known.experiment(classes[0], 0).override([f"epochs={epochs}", *settings]), settings=tuple(settings),
        classes=tuple(classes), seeds=seeds, protocol=protocol, search=search, data="/data/set", exposure="/data/oe",
        names={one: (names or {}).get(one, known.classes.get(one, one)) for one in classes}, data_id="d" * 16,
        exposure_id="e" * 16)
    folder.write(SWEEP, sweep.to_json().encode())
    plan, standings, histories = Plan(sweep), {}, {}
    while search and (wanted := [trial for trial in plan.wanted(standings) if not trial.tested]):
        if searched < 1:
            wanted = wanted[:round(searched * len(wanted))]
        histories |= {trial.folder: _history(trial) for trial in wanted}
        standings |= {trial.name: of_history(_history(trial)) for trial in wanted}
        if searched < 1:
            break
    for number, trial in enumerate(plan.cells(standings)):
        standing = stands(trial)
        if standing is None:
            result = _run(folder.at(trial.folder), trial, sweep, number, images)
            # The run of the selected setting may be one of the search, whose figures it keeps.
            standing = Standing(epochs, standings[trial.name].figures if trial.name in standings else {}, result)
        standings[trial.name] = standing
    for run, history in histories.items():
        folder.write(f"{run}/metrics.jsonl", "".join(json.dumps(line) + "\n" for line in history).encode())
    write_table(folder, table(plan, standings))
    return folder


def _run(run: Store, trial: Trial, sweep: Sweep, number: int, images: int) -> dict:
    data = trial.experiment.data
    fabricate(run, recipe_name=data.recipe, nominal=trial.class_id, class_name=sweep.names[trial.class_id],
              classes=(trial.class_id, "another"), images=images, gap=0.4 + 0.2 * (number % 4),
              epochs=sweep.epochs, exposure=sweep.exposure)
    return json.loads(run.read("result.json"))


def _history(trial: Trial) -> list[dict]:
    """Of a trial of the search: the smaller its learning rate and number of setting, the better."""
    lr = trial.experiment.optimizer.lr
    return [{"epoch": epoch, "loss": 0.1, "holdout_loss": 0.1 + 10 * lr / epoch + 0.01 * (trial.setting % 5) / epoch,
             "holdout_auroc": 0.9 - lr} for epoch in range(1, trial.experiment.epochs + 1)]
