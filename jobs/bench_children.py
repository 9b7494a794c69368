"""Processes that are measured: their output, their memory, and their end, with all that they have started."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

_LIMIT_S = 600  # for any of them
_EVERY_S = 0.1


class Child:
    """Writes into files: a pipe that nobody reads stops whoever fills it."""

    def __init__(self, process: subprocess.Popen, out: IO[bytes], err: IO[bytes], what: str) -> None:
        self._process, self._out, self._err, self._what = process, out, err, what
        self._until = time.monotonic() + _LIMIT_S
        self.pid = process.pid

    @property
    def output(self) -> str:
        return _content(self._out)

    def wait_until(self, happened: Callable[[], bool]) -> None:
        """Until then or its end. Raises RuntimeError where both are too far away."""
        while self._process.poll() is None and not happened():
            if time.monotonic() > self._until:
                raise RuntimeError(f"{self._what} was not at its end after {_LIMIT_S} s")
            time.sleep(_EVERY_S)

    def go_on(self) -> None:
        with contextlib.suppress(BrokenPipeError):  # it has ended, and ``finished`` says why
            self._process.stdin.write(b"\n")
            self._process.stdin.flush()

    def finished(self) -> str:
        """Its output. Raises RuntimeError, with the last line of its complaint, where it failed."""
        self.wait_until(lambda: False)
        if self._process.returncode:
            complaint = _content(self._err).strip().splitlines() or ["it does not say why"]
            raise RuntimeError(f"{self._what} ended with {self._process.returncode}: {complaint[-1][:300]}")
        return self.output


@contextlib.contextmanager
def started(command: list[str], environment: dict[str, str] | None, what: str) -> Iterator[Child]:
    """A process in a group of its own, which is gone with all its children when the context ends."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=out, stderr=err, start_new_session=True,
                                   env=environment)
        try:
            yield Child(process, out, err, what)
        finally:
            for kind in (signal.SIGTERM, signal.SIGKILL):
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, kind)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(10)
            with contextlib.suppress(BrokenPipeError):
                process.stdin.close()


def _content(file: IO[bytes]) -> str:
    """The process writes at the same position, so it must not be moved."""
    return os.pread(file.fileno(), os.fstat(file.fileno()).st_size, 0).decode(errors="replace")


def memory_of(root: int) -> dict[str, float]:
    """MB of a process and all below it: proportional (what several share counts once) and resident."""
    total, waiting = {"Pss": 0.0, "Rss": 0.0}, [root]
    while waiting:
        process = Path("/proc", str(waiting.pop()))
        with contextlib.suppress(OSError, ValueError):  # it has just ended
            for thread in (process / "task").iterdir():
                waiting += map(int, (thread / "children").read_text().split())
            for line in (process / "smaps_rollup").read_text().splitlines():
                kind, _, value = line.partition(":")
                if kind in total:
                    total[kind] += int(value.split()[0]) * 1024 / 1e6
    return total


def peak_mb() -> float:
    """Of this process since its program began; ru_maxrss would count the parent's, whose copy it was."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024 / 1e6
