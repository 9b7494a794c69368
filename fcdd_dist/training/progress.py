"""What a person sees of a training: lines, and one line that is alive where there is a terminal.

Nothing here knows what a training is but for the lines of ``metrics.jsonl``.
"""

from __future__ import annotations

import shutil
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import TextIO

from ..errors import NotFound
from ..storage import Store
from ..words import duration
from .curves import METRICS, read_metrics

_RECENT = 10  # epochs that the remaining time is reckoned by
_WAITS = 0.05  # of an epoch's time: a rank that waits less for its input need not be told of


class Console:
    """Writes lines (call it) and a live line (``live``) to ``stream``, by default standard error.

    On a terminal the live line is redrawn in place, with lines below it where there are any. Elsewhere it becomes plain
    lines, without those below, at most one every ``every`` seconds and no two equal ones in a row, and ``close`` adds
    the last one. For any number of threads.
    """

    def __init__(self, stream: TextIO | None = None, every: float = 2.0,
                 clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = sys.stderr if stream is None else stream
        self._terminal = self._stream.isatty()
        self._every, self._clock = every, clock
        self._shown: tuple[str, ...] = ()  # the live lines that stand on the terminal
        self._held: str | None = None  # the one that was held back elsewhere
        self._last: str | None = None  # that was written elsewhere: an equal one need not follow it
        self._next = -float("inf")
        self._later: list[str] = []
        self._lock = threading.RLock()

    def __call__(self, line: str) -> None:
        with self._lock:
            self._say(line)

    def later(self, line: str) -> None:
        """A line that comes before the next one, and never where none comes: of input that may yet be refused."""
        with self._lock:
            self._later.append(line)

    def _say_later(self) -> None:
        lines, self._later = self._later, []
        for line in lines:
            self._say(line)

    def _say(self, line: str) -> None:
        self._say_later()
        shown = self._shown
        self._wipe()
        if self._held is not None:  # lines come in the order of what happened
            self._write(self._held + "\n")
            self._held, self._last = None, self._held
        self._write(line + "\n")
        if shown:
            self.live(*shown)

    def live(self, line: str, *below: str) -> None:
        with self._lock:
            self._show(line, *below)

    def _show(self, line: str, *below: str) -> None:
        self._say_later()
        if self._terminal:
            size = shutil.get_terminal_size()
            self._wipe()
            self._shown = (line, *below)[:max(1, size.lines - 1)]
            self._write("\n".join(one[:size.columns - 1] for one in self._shown))
        elif line == self._last:
            self._held = None
        elif self._clock() >= self._next:
            self._held, self._next, self._last = None, self._clock() + self._every, line
            self._write(line + "\n")
        else:
            self._held = line

    def close(self) -> None:
        """Leaves the last live lines as lines of their own."""
        if self._shown:
            self._write("\n")
        if self._held is not None:
            self._write(self._held + "\n")
        self._shown, self._held = (), None

    def _wipe(self) -> None:
        if self._shown:
            up = f"\x1b[{len(self._shown) - 1}A" if len(self._shown) > 1 else ""
            self._write(f"\r{up}\x1b[J")
            self._shown = ()

    def _write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()


class Follower:
    """Reads the epochs of a run as they come in, from its store alone: the training may be anywhere."""

    def __init__(self, run: Store, epochs: int) -> None:
        self._run, self._epochs = run, epochs
        self._size = self._bytes()
        self._seconds: deque[float] = deque(maxlen=_RECENT)
        self._last = self._newest()  # of an earlier start: no news

    def news(self) -> str | None:
        """The line of the newest epoch, or None where it is known already."""
        if (size := self._bytes()) == self._size:
            return None
        self._size = size
        lines = read_metrics(self._run)
        fresh = [line for line in lines if line["epoch"] > self._last]
        self._last = lines[-1]["epoch"] if lines else 0  # may be less than before, after a restart
        if not fresh:
            return None
        self._seconds.extend(line["seconds"] for line in fresh)
        left = (self._epochs - self._last) * sum(self._seconds) / len(self._seconds)
        return epoch_line(lines[-1], self._epochs, left)

    def _newest(self) -> int:
        lines = read_metrics(self._run)
        return lines[-1]["epoch"] if lines else 0

    def _bytes(self) -> int:
        try:
            return self._run.size(METRICS)
        except NotFound:
            return 0


def epoch_line(line: dict, epochs: int, left: float | None = None) -> str:
    """A line of ``metrics.jsonl`` for a person, the least important last; ``left``: seconds to go."""
    parts = (("nominal", "loss_nominal"), ("anomalous", "loss_anomalous"))
    losses = ", ".join(f"{name} {line[key]:.3g}" for name, key in parts if line.get(key) is not None)
    waits = line.get("input_wait_s", 0.0) / line["seconds"] if line.get("seconds") else 0.0
    shown = [f"epoch {line['epoch']}/{epochs}", f"eta {duration(left)}" if left else "",
             f"loss {line['loss']:.3g}" + (f" ({losses})" if losses else ""), f"{line['images_per_s']:,.0f} images/s",
             f"waits {waits:.0%} for input".replace("%", " %") if waits > _WAITS else ""]
    return "  ".join(part for part in shown if part)
