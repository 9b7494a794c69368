"""Sweeps made up for tests, and a world in which their trials run at once, with figures that depend on nothing else."""

from __future__ import annotations

import json
import zlib
from collections.abc import Sequence

from fcdd_dist.recipes import recipe
from fcdd_dist.sweep.standing import Standing, of_history
from fcdd_dist.sweep.trials import Trial
from fcdd_dist.sweep.value import Search, Sweep

RATES = {"optimizer.lr": {"loguniform": [1e-4, 0.1]}}
GRID = {"optimizer.lr": {"grid": [0.1, 0.01, 0.001]}, "network.bias": {"grid": [True, False]}}


def search(space=None, searcher="random", samples=9, **values) -> Search:
    return Search.model_validate_json(json.dumps(
        {"space": space or (GRID if searcher == "grid" else RATES), "searcher": searcher,
         "samples": 1 if searcher == "grid" else samples, **values}))


def sweep(classes: Sequence[str] = ("trouser", "coat"), seeds=2, epochs=9, *, name="fmnist", search=None,
          settings: Sequence[str] = (), protocol="paper", names=None, **values) -> Sweep:
    return Sweep(**{
        "experiment": recipe(name).experiment(classes[0], 0).override([*settings, f"epochs={epochs}"]),
        "settings": tuple(settings), "classes": tuple(classes), "names": names or {one: one.title() for one in classes},
        "seeds": seeds, "protocol": protocol, "search": search, "data": "/data", "exposure": None, "data_id": "d" * 16,
        "exposure_id": "e" * 16, **values})


def number(trial: Trial, *what: object) -> float:
    """In [0, 1), for the experiment of a trial and ``what``."""
    return zlib.crc32(repr((trial.name, trial.experiment.data.train_on, *what)).encode()) / 2**32


def history(trial: Trial, epochs: int) -> list[dict]:
    return [{"epoch": epoch, "holdout_loss": number(trial) + number(trial, epoch) / epoch,
             "holdout_auroc": round(number(trial, epoch, "auroc"), 1)} for epoch in range(1, epochs + 1)]


def result(trial: Trial, **values: object) -> dict:
    return {"epochs": trial.experiment.epochs, "auroc": number(trial, "test"),
            "average_precision": number(trial, "precision"), **values}


def ended(trial: Trial) -> Standing:
    """Of a trial that has run to its end."""
    return of_history(history(trial, trial.experiment.epochs), result(trial) if trial.tested else None)
