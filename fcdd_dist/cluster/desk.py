"""Who does what in a sweep: Tune's thread takes trials from here and brings back what has come of them, while the
driver's looks on. All of it is in memory; what counts stands in the run folders."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from ..sweep.plan import Plan
from ..sweep.standing import Standing, of_history
from ..sweep.trials import Trial

_NOTHING = Standing()


@dataclass
class Running:
    """A trial that a process has, ``since`` a monotonic time, begun at ``epochs``."""

    trial: Trial
    since: float
    epochs: int


@dataclass(frozen=True)
class Ended:
    """What has become of a trial: ``state`` is "done", "failed" or "interrupted"; ``begun``: epochs it had before."""

    trial: Trial
    state: str
    standing: Standing
    begun: int
    said: tuple[str, ...] = ()
    seconds: float = 0.0


class Desk:
    """For any number of threads."""

    def __init__(self, plan: Plan, standings: Mapping[str, Standing]) -> None:
        self.plan = plan
        self._standings = dict(standings)
        self._running: dict[str, Running] = {}
        self._given_up: set[str] = set()  # in this attempt; the next one tries again
        self._ended: deque[Ended] = deque()
        self._news: deque[str] = deque()
        self._lock = threading.Lock()
        self._closing = False

    # Tune's thread

    def take(self) -> Trial | None:
        """The next trial to run; None where there is none now. See ``over``."""
        with self._lock:
            if self._closing:
                return None
            for trial in self.plan.wanted(self._standings):
                if trial.name not in self._running and trial.name not in self._given_up:
                    epochs = self._standings.get(trial.name, _NOTHING).epochs
                    self._running[trial.name] = Running(trial, time.monotonic(), epochs)
                    return trial
            return None

    def over(self) -> bool:
        """Whether nothing runs and nothing is to come."""
        with self._lock:
            if self._running:
                return False
            return self._closing or all(trial.name in self._given_up for trial in self.plan.wanted(self._standings))

    def done(self, name: str, result: Mapping) -> None:
        """``result``: of a tested run its result.json, of another its lines of metrics."""
        with self._lock:
            before = self._standings.get(name, _NOTHING)
            if self._running[name].trial.tested:
                standing = replace(before, epochs=result["epochs"], result=result, reason=None, diverged=False)
            else:
                standing = of_history(result["history"], before.result)
            self._end(name, "done", standing)

    def failed(self, name: str, reason: str, diverged: bool, said: tuple[str, ...] = ()) -> None:
        """``said``: lines for whoever mends it."""
        with self._lock:
            standing = replace(self._standings.get(name, _NOTHING), reason=reason, diverged=diverged)
            self._given_up.add(name)
            self._end(name, "failed", standing, said)

    def interrupted(self, name: str, history: Sequence[Mapping]) -> None:
        """By a request to stop, whoever made it. ``history``: lines of metrics, as committed."""
        with self._lock:
            self._given_up.add(name)
            standing = of_history(history, self._standings.get(name, _NOTHING).result)
            self._end(name, "interrupted", standing)

    def say(self, line: str) -> None:
        """What a person should know of a trial that goes on."""
        self._news.append(line)

    def _end(self, name: str, state: str, standing: Standing, said: tuple[str, ...] = ()) -> None:
        """By whoever holds the lock."""
        running = self._running.pop(name)
        self._standings[name] = standing
        self._ended.append(Ended(running.trial, state, standing, running.epochs, said,
                                 time.monotonic() - running.since))

    # The driver's thread

    def close(self) -> None:
        """Nothing more is given out."""
        with self._lock:
            self._closing = True

    @property
    def closing(self) -> bool:
        return self._closing

    def running(self) -> list[Running]:
        with self._lock:
            return list(self._running.values())

    def standings(self) -> dict[str, Standing]:
        with self._lock:
            return dict(self._standings)

    def ended(self) -> list[Ended]:
        """Those that have ended since the last call, in order."""
        with self._lock:
            found = list(self._ended)
            self._ended.clear()
        return found

    def news(self) -> list[str]:
        """What has been said since the last call."""
        return [self._news.popleft() for _ in range(len(self._news))]
