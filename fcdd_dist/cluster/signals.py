"""Ctrl-C and SIGTERM: the first asks for an orderly stop, where one is possible; the next ends at once."""

from __future__ import annotations

import signal
import threading
from types import FrameType

from ..errors import Interrupted
from ..storage import abandon

BEFORE_START = " before the workers had begun; the same command starts them"
_EXIT = {signal.SIGINT: 130, signal.SIGTERM: 143}


class Signals:
    """A context manager that holds the handlers of SIGINT and SIGTERM, where this is the main thread.

    Until ``patient`` is set a signal raises Interrupted where it strikes. Afterwards the first one is kept in
    ``first``, and the next one raises.
    """

    def __init__(self) -> None:
        self.patient = False
        self.first: signal.Signals | None = None
        self._before: dict[signal.Signals, object] = {}

    def __enter__(self) -> Signals:
        self.install()
        return self

    def install(self) -> None:
        """Once more, where somebody else has taken the handlers meanwhile, as ``ray.init`` does."""
        if threading.current_thread() is not threading.main_thread():
            return
        for number in _EXIT:
            before = signal.signal(number, self._strike)
            self._before.setdefault(number, before)

    def __exit__(self, *_exception: object) -> None:
        abandon(False)  # all is tidied up, and whoever called goes on
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before.clear()

    def check(self) -> None:
        """Raises Interrupted where there was a signal: what a handler raises gets lost in imports and in Ray."""
        if self.first is not None:
            raise self.interrupted(BEFORE_START)

    def interrupted(self, message: str) -> Interrupted:
        """The error for the first signal, whose exit code is what shells expect; ``message`` goes on after its name."""
        error = Interrupted(f"stopped{' by ' + self.first.name if self.first else ''}{message}")
        if self.first:
            error.exit_code = _EXIT[self.first]
        return error

    def _strike(self, number: int, _frame: FrameType | None) -> None:
        again = self.first is not None
        self.first = self.first or signal.Signals(number)
        if again:
            abandon()  # what tidies up must not wait for storage that is away
            raise self.interrupted(" at once; the same command goes on from the last checkpoint")
        if not self.patient:
            raise self.interrupted(BEFORE_START)
