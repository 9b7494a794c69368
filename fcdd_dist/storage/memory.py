"""Memory as a store."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

from ..errors import NotFound
from .stores import Entry, Leftover, Store, check_key


class MemoryStore(Store):
    """A dictionary: for tests, and for whoever wants to train without leaving a trace."""

    def __init__(self, url: str = "memory:", objects: dict | None = None, prefix: str = "",
                 lock: threading.Lock | None = None) -> None:
        self.url = url
        self._objects: dict[str, tuple[bytes, float]] = {} if objects is None else objects
        self._prefix = prefix
        self._lock = lock or threading.Lock()

    def read(self, key: str, start: int = 0, end: int | None = None) -> bytes:
        return self._get(key)[0][start:end]

    def write(self, key: str, data: bytes) -> None:
        with self._lock:
            self._objects[self._prefix + check_key(key)] = (bytes(data), time.time())

    def create(self, key: str, data: bytes) -> bool:
        with self._lock:
            value = (bytes(data), time.time())
            return self._objects.setdefault(self._prefix + check_key(key), value) is value

    def list(self, prefix: str = "") -> Iterator[Entry]:
        with self._lock:
            items = sorted(self._objects.items())
        for key, (data, modified) in items:
            if key.startswith(self._prefix + prefix):
                yield Entry(key.removeprefix(self._prefix), len(data), modified)

    def size(self, key: str) -> int:
        return len(self._get(key)[0])

    def delete(self, key: str) -> None:
        with self._lock:
            self._objects.pop(self._prefix + check_key(key), None)

    def at(self, prefix: str) -> MemoryStore:
        check_key(prefix)
        return MemoryStore(f"{self.url}/{prefix}", self._objects, f"{self._prefix}{prefix}/", self._lock)

    def leftovers(self) -> Iterator[Leftover]:
        return iter(())

    def discard(self, leftover: Leftover) -> None:
        pass

    def _get(self, key: str) -> tuple[bytes, float]:
        try:
            return self._objects[self._prefix + check_key(key)]
        except KeyError:
            raise NotFound(f"there is no {self.url}/{key}") from None
