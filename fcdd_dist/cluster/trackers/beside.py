"""A tracker beside a sweep: whatever is wrong with it, the sweep neither ends nor waits."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from queue import Empty, Full, Queue
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from . import Tracker

WAITING = 1000  # calls; a sweep makes one per trial and epoch
CLOSE_S = 30.0
_LONGEST = 240  # letters of what a library has to say
_SECRET = re.compile(r"(?<=//)[^/@\s]+@")  # name and password in an address


class Beside:
    """Does what ``tracker`` is told in a thread, in order. It is for one owner, in whose thread ``say`` is called.

    What fails, or falls ``waiting`` calls behind, is said once, and is told nothing any more. What it has missed of
    trials that have ended since, it is never told.
    """

    def __init__(self, tracker: Tracker, title: str, say: Callable[[str], None], *, waiting: int = WAITING,
                 close_s: float = CLOSE_S) -> None:
        self._tracker, self._title, self._say, self._close_s = tracker, title, say, close_s
        self._calls: Queue[tuple[Callable[..., None], tuple] | None] = Queue(waiting)
        self._error: Exception | None = None
        self._off = False
        self._thread = threading.Thread(target=self._work, name=title, daemon=True)
        self._thread.start()

    def start(self, trial: str, parameters: Mapping[str, Any]) -> None:
        self._tell(self._tracker.start, trial, dict(parameters))

    def epochs(self, trial: str, lines: Sequence[Mapping[str, Any]]) -> None:
        self._tell(self._tracker.epochs, trial, [dict(line) for line in lines])

    def finish(self, trial: str, state: str, figures: Mapping[str, float | None], reason: str | None) -> None:
        self._tell(self._tracker.finish, trial, state, dict(figures), reason)

    def close(self) -> None:
        """Waits at most ``close_s`` for what is on its way, and says how much did not arrive."""
        if self._failed():
            return
        until = time.monotonic() + self._close_s
        if self._put(None, self._close_s):
            self._thread.join(max(0.0, until - time.monotonic()))
        if not self._failed() and self._thread.is_alive():
            self._switch_off(f"it has not answered in {self._close_s:.0f} s")

    def _tell(self, method: Callable[..., None], *arguments: object) -> None:
        if not self._failed() and not self._put((method, arguments)):
            self._switch_off("it is too slow")

    def _put(self, call: tuple[Callable[..., None], tuple] | None, wait_s: float = 0.0) -> bool:
        try:
            self._calls.put(call, block=wait_s > 0, timeout=wait_s)
        except Full:
            return False
        return True

    def _failed(self) -> bool:
        """Whether nothing is told any more; the first time, it is said why."""
        if self._error is not None and not self._off:
            self._switch_off(told(self._error))
        return self._off

    def _switch_off(self, why: str) -> None:
        self._off = True
        left = 1  # that the thread has in hand
        with suppress(Empty):
            while True:
                left += self._calls.get_nowait() is not None
        self._calls.put(None)
        self._say(f"{self._title}: off from here on, {left:,} message{'s' if left > 1 else ''} not sent: {why}")

    def _work(self) -> None:
        ended = False
        while not ended and self._error is None:
            call = self._calls.get()
            ended = call is None
            method, arguments = call or (self._tracker.close, ())
            try:
                method(*arguments)
            except Exception as error:  # noqa: BLE001 - told by the owner; libraries fail in ways of their own
                self._error = error


def told(error: Exception) -> str:
    """What an error of somebody's library says, in one line and without what nobody should see."""
    text = _SECRET.sub("", " ".join(str(error).split())) or type(error).__name__
    return text if len(text) <= _LONGEST else text[:_LONGEST - 1] + "…"
