"""Shards on their way into a store: only ever created, a few at once."""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future
from types import TracebackType

from ...errors import Conflict
from ...storage import Store
from ...threads import Threads

AT_ONCE = 4  # shards on their way, so that memory is bounded
_LONGEST_WAIT_S = 600.0  # for what is on its way when something else went wrong


class Uploads:
    """Creates objects in the background, in order. A context manager; leaving it waits for what is on its way.

    An object that is there already, by an earlier attempt, must have the very same bytes.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._threads = Threads(AT_ONCE, "shards")
        self._waiting: deque[tuple[str, bytes, Future[bool]]] = deque()

    def __enter__(self) -> Uploads:
        return self

    def __exit__(self, _kind: type | None, error: BaseException | None, _trace: TracebackType | None) -> None:
        try:
            while self._waiting and error is None:
                self._await_one()
        finally:
            self._waiting.clear()
            self._threads.close(_LONGEST_WAIT_S)  # nothing is written once we are gone

    def put(self, key: str, data: bytes) -> None:
        """Takes an object on its way. Raises what went wrong with an earlier one, in their order, or Conflict."""
        while len(self._waiting) >= AT_ONCE:
            self._await_one()
        self._waiting.append((key, data, self._threads.submit(self._store.create, key, data)))

    def _await_one(self) -> None:
        key, data, created = self._waiting.popleft()
        if not created.result() and self._store.read(key) != data:
            raise Conflict(f"another process has written {self._store.url}/{key} meanwhile, with other bytes: delete "
                           f"what is there, or choose another place")
