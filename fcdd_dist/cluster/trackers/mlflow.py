"""MLflow: the sweep is an experiment, and each trial a run, found again by a tag."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ...errors import BadInput
from .beside import told
from .identity import GROWS, identity

_TAG = "fcdd.id"
_STATUS = {"done": "FINISHED", "failed": "FAILED", "unfinished": "KILLED"}
_AT_ONCE = 1000, 100  # metrics and parameters that a server takes in one request
# Where nobody has said otherwise. By default a server that does not answer is asked for minutes.
_ENVIRONMENT = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2", "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
                "MLFLOW_LOGGING_LEVEL": "WARNING"}


@dataclass
class _Run:
    id: str
    epoch: int  # the last one that is there
    status: str


class MlflowTracker:
    """Raises BadInput where MLflow is not installed, or its tracking address is none that it takes."""

    title = "MLflow"

    def __init__(self, sweep: str) -> None:
        for name, value in _ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        try:
            from mlflow import MlflowClient
            from mlflow.exceptions import MlflowException
        except ImportError as error:
            raise BadInput(f"--track mlflow needs MLflow: pip install 'fcdd_dist[mlflow]' ({error})") from None
        try:
            self._client = MlflowClient()
        except (MlflowException, ImportError, OSError) as error:
            raise BadInput(f"--track mlflow: {told(error)}") from None
        self._sweep = sweep
        self._experiment: str | None = None
        self._runs: dict[str, _Run] = {}

    @property
    def where(self) -> str:
        return f"experiment {self._sweep}"

    def start(self, trial: str, parameters: Mapping[str, Any]) -> None:
        key = identity(self._sweep, trial, parameters)
        found = self._client.search_runs([self._experiment_id()], f"tags.`{_TAG}` = '{key}'", max_results=1,
                                         order_by=["attributes.start_time ASC"])
        if found:
            metrics, info = found[0].data.metrics, found[0].info
            self._runs[trial] = _Run(info.run_id, int(metrics.get("epoch", 0)), info.status)
        else:
            run = self._client.create_run(self._experiment_id(), run_name=trial, tags={
                _TAG: key, "fcdd.sweep": self._sweep, "fcdd.trial": trial})
            self._runs[trial] = _Run(run.info.run_id, 0, run.info.status)
        if self._runs[trial].status not in ("RUNNING", "FINISHED"):
            self._go_on(self._runs[trial])
        # Where they are there already this changes nothing; and where their writer was killed, now they are.
        self._log_parameters(self._runs[trial].id, parameters)

    def epochs(self, trial: str, lines: Sequence[Mapping[str, Any]]) -> None:
        from mlflow.entities import Metric

        run, now = self._runs[trial], int(time.time() * 1000)
        new = [[Metric(name, float(value), now, line["epoch"]) for name, value in line.items() if value is not None]
               for line in lines if line["epoch"] > run.epoch]
        while new:  # whole lines at once: the epoch that is there tells where to go on
            count = max(1, _AT_ONCE[0] // max(map(len, new)))
            self._go_on(run)
            self._client.log_batch(run.id, metrics=[metric for line in new[:count] for metric in line])
            run.epoch, new = new[:count][-1][0].step, new[count:]

    def finish(self, trial: str, state: str, figures: Mapping[str, float | None], reason: str | None) -> None:
        from mlflow.entities import Metric, RunTag

        run, now = self._runs.pop(trial), int(time.time() * 1000)
        if run.status == "FINISHED" and state == "done":  # in an earlier session, which has told all this
            return
        self._client.log_batch(run.id, metrics=[Metric(name, float(value), now, run.epoch)
                                                for name, value in figures.items() if value is not None],
                               tags=[RunTag("fcdd.reason", reason)] if reason else [])
        self._client.set_terminated(run.id, _STATUS[state])

    def close(self) -> None:
        """Nothing is left to be done."""

    def _experiment_id(self) -> str:
        if self._experiment is None:
            found = self._client.get_experiment_by_name(self._sweep)
            self._experiment = found.experiment_id if found else self._client.create_experiment(self._sweep)
        return self._experiment

    def _log_parameters(self, run: str, parameters: Mapping[str, Any]) -> None:
        """What may grow as a tag: parameters can't be changed."""
        from mlflow.entities import Param

        if GROWS in parameters:
            self._client.set_tag(run, f"fcdd.{GROWS}", parameters[GROWS])
        values = [Param(name, str(value)) for name, value in parameters.items() if name != GROWS]
        for start in range(0, len(values), _AT_ONCE[1]):
            self._client.log_batch(run, params=values[start:start + _AT_ONCE[1]])

    def _go_on(self, run: _Run) -> None:
        if run.status != "RUNNING":
            self._client.update_run(run.id, status="RUNNING")
            run.status = "RUNNING"
