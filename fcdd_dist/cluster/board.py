"""What the workers of a run tell its driver, as a few keys in the run folder that the driver reads and clears.

Ray carries return values of rank 0 and crashes. An error of ours on any rank is neither: it must end the run at
once, as one line, and not be tried again.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable

from .. import errors
from ..errors import Fault, FcddError, NotFound
from ..storage import Store

FOLDER = "board/"


class Board:
    """The board of one attempt, with keys of its own: what other attempts write there is neither seen nor cleared."""

    def __init__(self, run: Store, attempt: int) -> None:
        self._run = run
        self._started, self._said, self._failed = (
            f"{FOLDER}{note}-{attempt}.json" for note in ("started", "said", "failed"))
        self._lines: list[str] = []

    # Workers

    def start(self) -> None:
        """Rank 0 is about to begin, for the first time or again after a crash."""
        self._run.write(self._started, _note(at=time.time()))

    def say(self, line: str) -> None:
        """A line for the person at the driver, from rank 0."""
        self._lines.append(line)
        self._run.write(self._said, _note(lines=self._lines))

    def fail(self, error: FcddError, traceback: str | None = None) -> None:
        """Why the run ends. The first one counts."""
        self._run.create(self._failed, _note(kind=type(error).__name__, message=str(error), traceback=traceback))

    def failed_within(self, seconds: float) -> bool:
        """Whether some rank has told why the run ends, or does so soon."""
        deadline = time.monotonic() + seconds
        while self.failure() is None:
            if time.monotonic() > deadline:
                return False
            time.sleep(max(0.05, self._run.look_every / 5))  # a few times within a short wait, where looks cost money
        return True

    # Driver

    def clear(self) -> None:
        for key in (self._started, self._said, self._failed):
            self._run.delete(key)

    def started(self) -> float | None:
        """Stands for the newest start of the workers; None before the first."""
        note = self._read(self._started)
        return note["at"] if note else None

    def said(self) -> list[str]:
        note = self._read(self._said)
        return note["lines"] if note else []

    def failure(self) -> tuple[FcddError, str | None] | None:
        """The error that ended the run, with a traceback where it is a bug of ours."""
        note = self._read(self._failed)
        return note and (getattr(errors, note["kind"], Fault)(note["message"]), note["traceback"])

    def _read(self, key: str) -> dict | None:
        try:
            return json.loads(self._run.read(key))
        except NotFound:
            return None


def _note(**content: object) -> bytes:
    return json.dumps(content).encode()


def follow(board: Board, say: Callable[[str], None]) -> Callable[[], float | None]:
    """A function that passes on what was said since its last call, and gives ``board.started()``."""
    told: list[str] = []

    def look() -> float | None:
        lines = board.said()
        for line in lines[len(told):] if lines[:len(told)] == told else lines:  # a restarted rank begins anew
            say(line)
        told[:] = lines
        return board.started()

    return look
