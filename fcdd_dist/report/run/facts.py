"""What a run folder says, read once and checked, for the report.

Everything but ``experiment.json`` may be missing; what is there must be whole, or reading it raises Damaged.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from pydantic import Field

from ...checkpoint import Threshold
from ...errors import BadInput, Damaged, NotFound
from ...experiment import Experiment
from ...storage import Store
from ..reading import Read, parsed, png


class RunRecord(Read):
    """``experiment.json``."""

    experiment: dict[str, Any]
    fingerprint: str
    experiment_id: str
    data_id: str
    exposure_id: str | None = None
    data: str
    exposure: str | None = None
    class_name: str


class Epoch(Read):
    """A line of ``metrics.jsonl``."""

    epoch: int = Field(ge=1)
    loss: float
    loss_nominal: float | None = None
    loss_anomalous: float | None = None
    holdout_loss: float | None = None
    images_per_s: float | None = None
    seconds: float | None = None


class Kind(Read):
    name: str
    images: int
    auroc: float | None
    average_precision: float | None = None


class MeanScore(Read):
    nominal: float | None = None
    anomalous: float | None = None


class Result(Read):
    """``result.json``."""

    auroc: float | None
    average_precision: float | None = None
    why_null: str | None = None
    per_kind: dict[str, Kind] = Field(default_factory=dict)
    threshold: Threshold | None = None
    counts: dict[str, int] = Field(default_factory=dict)
    mean_score: MeanScore = MeanScore()
    epochs: int
    seconds: float | None = None
    images_per_s: float | None = None
    input_wait_share: float | None = None
    workers: int | None = None
    versions: dict[str, str] = Field(default_factory=dict)
    protocol: str | None = None


@dataclass(frozen=True)
class Scores:
    """``scores.csv``: class ids, labels (N,) 0 nominal or 1 anomalous, and scores (N,), finite."""

    classes: list[str]
    labels: np.ndarray
    scores: np.ndarray


@dataclass(frozen=True)
class Facts:
    """A run. ``missing`` holds a sentence for each thing that is not there."""

    url: str
    record: RunRecord
    experiment: Experiment
    history: tuple[Epoch, ...]
    result: Result | None
    scores: Scores | None
    heatmaps: dict[str, bytes]  # PNG files by key, in order of their keys
    missing: tuple[str, ...]

    @property
    def epochs(self) -> int:
        """That have been trained and, where there is a result, evaluated."""
        return self.result.epochs if self.result else (self.history[-1].epoch if self.history else 0)

    def threshold(self) -> float | None:
        return self.result.threshold.value if self.result and self.result.threshold else None

    def flagged(self, chosen: np.ndarray) -> float | None:
        """The share of the ``chosen`` test images, a mask (N,), that score above the threshold."""
        value = self.threshold()
        if value is None or self.scores is None or not chosen.any():
            return None
        return float((self.scores.scores[chosen] > value).mean())


def read_facts(run: Store) -> Facts:
    """Raises NotFound where ``run`` is no run folder, and Damaged, naming file and place, for what can't be read."""
    missing: list[str] = []

    def optional(key: str, parse: Callable[[str, bytes], Any], otherwise: Any, without: str) -> Any:
        try:
            data = run.read(key)
        except NotFound:
            missing.extend([f"There is no {key}: {without}."] if without else [])
            return otherwise
        return parse(f"{run.url}/{key}", data)

    try:
        text = run.read("experiment.json")
    except NotFound:
        raise NotFound(f"{run.url} is no run folder: it has no experiment.json") from None
    record = parsed(RunRecord, f"{run.url}/experiment.json", text)
    try:
        experiment = Experiment.from_json(json.dumps(record.experiment))
    except BadInput as error:
        raise Damaged(f"{run.url}/experiment.json is damaged: {error}") from None
    history = optional("metrics.jsonl", _history, (), "no epoch has been finished, or its record was removed")
    result = optional("result.json", lambda where, data: parsed(Result, where, data), None, "")  # the verdict says it
    scores = optional("scores.csv", _scores, None, "histograms and the ROC curve are left out") if result else None
    heatmaps = {entry.key: png(run, entry.key) for entry in run.list("heatmaps/")
                if entry.key.endswith(".png") and entry.key.count("/") == 1}
    if result and not heatmaps:
        missing.append("There are no PNG files in heatmaps/: example heatmaps are left out.")
    return Facts(run.url, record, experiment, history, result, scores, heatmaps, tuple(missing))


def _history(where: str, data: bytes) -> tuple[Epoch, ...]:
    lines = [line for line in data.splitlines() if line.strip()]
    return tuple(parsed(Epoch, f"{where}, line {number},", line) for number, line in enumerate(lines, 1))


def _scores(where: str, data: bytes) -> Scores:
    rows = csv.DictReader(io.StringIO(data.decode("utf-8", errors="replace"), newline=""))
    classes, labels, scores = [], [], []
    for row in rows:
        try:
            label, score = {"0": 0, "1": 1}[row["label"]], float(row["score"])
            if not row["class"] or not np.isfinite(score):
                raise ValueError
        except (KeyError, TypeError, ValueError):
            raise Damaged(f"{where} is damaged in line {rows.line_num}: it needs the columns path, class, label (0 or "
                          f"1) and score (a finite number)") from None
        classes.append(row["class"])
        labels.append(label)
        scores.append(score)
    return Scores(classes, np.array(labels, dtype=np.int64), np.array(scores, dtype=np.float64))
