"""The driver while the workers work: it hears signals, shows what is new, and learns how it ends.

All that touches storage does so beside the main thread: in an outage it takes minutes, and signals are heard at once.
"""

from __future__ import annotations

import json
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from ..errors import Fault, FcddError, Interrupted
from ..run import STOP, Prepared
from ..run.background import Background
from ..storage import Store
from ..storage.lease import Lease
from ..training.progress import Follower
from ..words import duration
from .board import Board, follow
from .signals import Signals

if TYPE_CHECKING:
    from ray.train.torch import TorchTrainer

Say = Callable[[str], None]
_HEAR_EVERY_S = 0.25  # signals are heard between waits
_END_WITHIN_S = 10.0  # workers that a run has ended give back their room, where another may wait for it in the same Ray


class Fitting(threading.Thread):
    """``trainer.fit()`` beside the main thread, which has signals to hear and lines to show."""

    def __init__(self, trainer: TorchTrainer) -> None:
        super().__init__(name="fit", daemon=True)
        self._trainer = trainer
        self.result: dict | None = None
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            self.result = self._trainer.fit().return_value
        except BaseException as error:  # noqa: BLE001 - the main thread raises it
            self.error = error


@dataclass
class View:
    """What a person sees while the workers work."""

    board: Board
    follower: Follower
    began: float
    say: Say
    live: Say
    started: float | None = None
    failure: tuple[FcddError, str | None] | None = None
    _news: deque[tuple[Say, str]] = field(default_factory=deque)

    def __post_init__(self) -> None:
        self._follow = follow(self.board, lambda line: self._news.append((self.say, line)))

    def look(self) -> None:
        """Finds out what is new. In an outage of the storage that takes long, and is for a thread of its own."""
        started = self._follow()
        if started is not None and started != self.started:
            self._news.append((self.say, f"workers ready after {duration(time.monotonic() - self.began)}"
                               if self.started is None else
                               "a worker was lost: all are back, and go on from the last checkpoint"))
            self.started = started
        if (line := self.follower.news()) is not None:
            self._news.append((self.live, line))
        self.failure = self.board.failure()

    def show(self) -> None:
        """Tells what the last look has found."""
        while self._news:
            tell, line = self._news.popleft()
            tell(line)


def wait(fitting: Fitting, view: View, prepared: Prepared, run: Store, lease: Lease, signals: Signals) -> dict:
    """Until the workers are done: their result. Raises what ended them."""
    looking, asking = Background("look"), Background("ask to stop")  # so that signals are heard in an outage, too
    asked, look_at = False, 0.0
    while fitting.is_alive():
        signals.patient = view.started is not None  # before that there is nothing to wait for
        fitting.join(_HEAR_EVERY_S)
        lease.check()
        if signals.first and not asked:
            asked = True
            view.say(f"{signals.first.name}: waiting for the workers to commit; once more ends at once")
            asking.start(partial(run.write, STOP, stop_by(lease.attempt)))
        asking.check()
        if not looking.busy:
            _tell(looking, view, signals, fitting)
            if time.monotonic() >= look_at:
                looking.start(view.look)
                look_at = time.monotonic() + run.look_every
    asking.close()  # they are done, asked or not
    _tell(looking, view, signals, fitting)
    looking.start(view.look)
    _tell(looking, view, signals, fitting)
    if fitting.result is not None:
        return fitting.result
    if prepared.done:  # whatever Ray stumbled over afterwards
        return prepared.result
    if fitting.error is not None:
        _raise_crash(fitting.error, view.say)
    raise Fault("the workers ended without a result and without a reason: run the same command again")


def _tell(looking: Background, view: View, signals: Signals, fitting: Fitting) -> None:
    """What the look that was under way has found. Raises why the run has ended, or why the look failed."""
    looking.wait()
    view.show()
    if view.failure is None:
        return
    error, traceback = view.failure
    fitting.join(_END_WITHIN_S)
    if isinstance(error, Interrupted):
        raise signals.interrupted(f" with everything committed; the same command goes on from there ({error})")
    if traceback:
        view.say(traceback.rstrip())
    raise error


def _raise_crash(error: BaseException, say: Say) -> None:
    from ray.train import WorkerGroupError

    if not isinstance(error, WorkerGroupError):
        raise error
    say(str(error).rstrip())  # with the workers' tracebacks
    last = str(next(iter(error.worker_failures.values()))).strip().splitlines()[-1:]
    raise Fault(f"the workers crashed too often, at last with: {last[0] if last else 'no message'}") from error


def stop_by(attempt: int) -> bytes:
    return json.dumps({"attempt": attempt}).encode()
