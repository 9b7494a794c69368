"""Threads for what is mostly waiting, which never keep a process from ending."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

T, V = TypeVar("T"), TypeVar("V")


class Threads:
    """Up to ``count`` daemon threads that do what they are given, in order.

    Those of an executor are waited for when the interpreter ends: with a storage that does not answer, for minutes.
    """

    def __init__(self, count: int, name: str) -> None:
        self._count, self._name = count, name
        self._tasks: SimpleQueue[tuple[Future, Callable[..., Any], tuple] | None] = SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._lock, self._closed = threading.Lock(), False

    def submit(self, function: Callable[..., T], *arguments: object) -> Future[T]:
        """What ``function`` will give, or raise; cancelled where all is closed."""
        future: Future[T] = Future()
        with self._lock:
            if self._closed:
                future.cancel()
                return future
            self._tasks.put((future, function, arguments))
            if len(self._threads) < self._count:
                thread = threading.Thread(target=self._work, name=self._name, daemon=True)
                thread.start()
                self._threads.append(thread)
        return future

    def close(self, wait_s: float = 0.0) -> None:
        """Cancels what was not begun. Waits at most ``wait_s`` for what was, which then goes on by itself."""
        with self._lock:
            self._closed = True
            with suppress(Empty):
                while True:
                    if task := self._tasks.get_nowait():
                        task[0].cancel()
            for _ in self._threads:
                self._tasks.put(None)
        until = time.monotonic() + wait_s
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))

    def _work(self) -> None:
        while task := self._tasks.get():
            future, function, arguments = task
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(function(*arguments))
                except BaseException as error:  # noqa: BLE001 - raised by whoever asks for the result
                    future.set_exception(error)
            del task, future, function, arguments  # what they hold is large


def ahead(function: Callable[[V], T], values: Iterable[V], count: int, name: str) -> Iterator[T]:
    """``function`` of each of the ``values``, in their order; at most ``count`` are on their way or wait to be taken.

    Raises what ``function`` raised when it is that value's turn. Closing it does not wait for what is on its way.
    """
    threads = Threads(count, name)
    waiting: deque[Future[T]] = deque()
    try:
        for value in values:
            waiting.append(threads.submit(function, value))
            if len(waiting) == count:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        threads.close()
