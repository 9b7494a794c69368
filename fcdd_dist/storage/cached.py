"""A store with a cache before it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

from .cache import Cache
from .stores import Entry, Leftover, Store


class CachedStore(Store):
    """``store``, whose verified objects are kept in ``cache``. Everything else goes to ``store`` as it is."""

    def __init__(self, store: Store, cache: Cache) -> None:
        self.store, self.cache = store, cache
        self.url, self.look_every = store.url, store.look_every

    def verified(self, key: str, size: int, sha256: str) -> bytes:
        data = self.cache.get(size, sha256)
        if data is None:
            data = self.store.verified(key, size, sha256)
            self.cache.put(data, sha256)
        return data

    def at(self, prefix: str) -> CachedStore:
        return CachedStore(self.store.at(prefix), self.cache)

    def read(self, key: str, start: int = 0, end: int | None = None) -> bytes:
        return self.store.read(key, start, end)

    def pour(self, key: str, start: int, end: int, sink: Callable[[bytes], object]) -> None:
        self.store.pour(key, start, end, sink)

    def write(self, key: str, data: bytes) -> None:
        self.store.write(key, data)

    def create(self, key: str, data: bytes) -> bool:
        return self.store.create(key, data)

    def list(self, prefix: str = "") -> Iterator[Entry]:
        return self.store.list(prefix)

    def size(self, key: str) -> int:
        return self.store.size(key)

    def delete(self, key: str) -> None:
        self.store.delete(key)

    def without_traces(self) -> AbstractContextManager:
        return self.store.without_traces()

    def leftovers(self) -> Iterator[Leftover]:
        return self.store.leftovers()

    def discard(self, leftover: Leftover) -> None:
        self.store.discard(leftover)
