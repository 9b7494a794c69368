"""Fabricated run folders for the tests of the report."""

from __future__ import annotations

import csv
import io
import json
from functools import cache

import numpy as np

from fcdd_dist.evaluation.figures import Cell, sheet
from fcdd_dist.evaluation.metrics import auroc, average_precision, choose_threshold, per_kind, why_undefined
from fcdd_dist.recipes import recipe
from fcdd_dist.storage import Store


def fabricate(run: Store, *, recipe_name: str = "fmnist", nominal: str = "t-shirt_top", class_name: str = "T-shirt/top",
              classes: tuple[str, ...] = ("t-shirt_top", "coat", "bag"), images: int = 30, gap: float = 1.0,
              holdout: int = 40, epochs: int = 3, settings: tuple[str, ...] = (), exposure: str | None = None,
              names: dict[str, str] | None = None) -> Store:
    """Writes every file that a finished run has; ``images`` test images of each of the ``classes``."""
    rng = np.random.default_rng(0)
    experiment = recipe(recipe_name).experiment(nominal, 0).override([f"epochs={epochs}", *settings])
    _write(run, "experiment.json", {
        "schema_version": 1, "experiment": json.loads(experiment.to_json()), "fingerprint": "f" * 16,
        "experiment_id": experiment.id, "data_id": "d" * 16, "exposure_id": "e" * 16, "data": "/data/set",
        "exposure": exposure, "class_name": class_name})
    lines = [{"epoch": epoch, "loss": 1 / epoch, "loss_nominal": 0.5 / epoch, "loss_anomalous": 1.5 / epoch,
              "holdout_loss": 0.6 / epoch if holdout else None, "lr": 0.01, "images_per_s": 1e4, "seconds": 0.5}
             for epoch in range(1, epochs + 1)]
    run.write("metrics.jsonl", "".join(json.dumps(line) + "\n" for line in lines).encode())
    kinds = [class_id for class_id in classes for _ in range(images)]
    labels = np.array([kind != nominal for kind in kinds], dtype=int)
    scores = rng.gamma(2.0, 0.02, len(kinds)) + gap * labels * rng.gamma(4.0, 0.02, len(kinds))
    threshold = choose_threshold(rng.gamma(2.0, 0.02, holdout), 0.05)
    _write(run, "result.json", {
        "schema_version": 1, "auroc": auroc(labels, scores), "average_precision": average_precision(labels, scores),
        "why_null": why_undefined(labels), "per_kind": per_kind(kinds, labels, scores, names),
        "threshold": threshold.model_dump(),
        "counts": {"train": 760, "holdout": holdout, "exposure": 2000, "test_nominal": int((labels == 0).sum()),
                   "test_anomalous": int(labels.sum())},
        "mean_score": {name: float(scores[labels == label].mean()) if (labels == label).any() else None
                       for label, name in ((0, "nominal"), (1, "anomalous"))},
        "epochs": epochs, "seconds": 1.5, "images_per_s": 1e4, "workers": 2, "versions": {"torch": "2.11.0"},
        "fingerprint": "f" * 16, "recipe": recipe_name, "nominal": nominal, "class_name": class_name, "seed": 0,
        "protocol": "holdout"})
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["path", "class", "label", "score", "flagged"])
    for place, (kind, label, score) in enumerate(zip(kinds, labels, scores, strict=True)):
        flagged = "" if threshold.value is None else int(score > threshold.value)
        writer.writerow([f'a "quoted", path/{place}.png', kind, label, f"{score:.9g}", flagged])
    run.write("scores.csv", text.getvalue().encode())
    run.write("heatmaps/by-score.png", _sheet())
    return run


def change(run: Store, key: str, **values) -> None:
    """Changes top-level values of a JSON file of the run."""
    _write(run, key, {**json.loads(run.read(key)), **values})


@cache
def _sheet() -> bytes:
    return sheet([Cell(np.zeros((28, 28, 1), np.uint8), np.zeros((28, 28)), "a caption", 0.1, 1, True)], 1, "Sheet")


def _write(run: Store, key: str, tree: dict) -> None:
    run.write(key, json.dumps(tree, allow_nan=False).encode())
