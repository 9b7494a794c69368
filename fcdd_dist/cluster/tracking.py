"""What trackers are told of a sweep: each trial's settings when it begins, its epochs, and how it ends."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence

from ..storage import Store
from ..sweep.trials import Trial, parameters
from ..training.curves import read_metrics
from .desk import Ended, Running
from .trackers import Tracker

_STATES = {"done": "done", "failed": "failed", "interrupted": "unfinished"}


class Tracking:
    """``tell`` is for the driver's thread; ``look`` reads metrics, and is for another."""

    def __init__(self, trackers: Sequence[Tracker], store: Store) -> None:
        self._trackers, self._store = trackers, store
        self._ended: deque[Ended] = deque()
        self._started: set[str] = set()
        self._told: dict[str, int] = {}  # epochs, by trial

    def tell(self, ended: Sequence[Ended]) -> None:
        if self._trackers:
            self._ended.extend(ended)

    def look(self, running: Sequence[Running], metrics: Mapping[str, Sequence[Mapping]]) -> None:
        """``metrics``: all lines so far, of the trials of which they have just been read."""
        if not self._trackers:
            return
        for one in running:
            self._start(one.trial)
        for name, lines in metrics.items():
            self._epochs(name, lines)
        while self._ended:
            self._finish(self._ended.popleft())

    def close(self) -> None:
        try:
            self.look((), {})
        finally:
            for tracker in self._trackers:
                tracker.close()

    def _start(self, trial: Trial) -> None:
        if trial.name not in self._started:
            self._started.add(trial.name)
            for tracker in self._trackers:
                tracker.start(trial.name, parameters(trial))

    def _epochs(self, name: str, lines: Sequence[Mapping]) -> None:
        known = self._told.get(name, 0)
        if new := [line for line in lines if line["epoch"] > known]:
            self._told[name] = new[-1]["epoch"]
            for tracker in self._trackers:
                tracker.epochs(name, new)

    def _finish(self, ended: Ended) -> None:
        name = ended.trial.name
        self._start(ended.trial)
        self._epochs(name, read_metrics(self._store.at(ended.trial.folder)))
        self._started.discard(name)  # it may go on: a setting that comes further, or the run that is tested
        result = ended.standing.result or {}
        for tracker in self._trackers:
            tracker.finish(name, _STATES[ended.state], {key: result.get(key) for key in (
                "auroc", "average_precision")}, ended.standing.reason)
