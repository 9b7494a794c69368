"""The shards of a split that are in memory, or on their way there: bounded, and read before they are asked for.

Whoever walks over a split takes the shards of each request well before it needs them, and gives them back when it has
been served. What is taken stays; what nobody needs now is kept while there is room, since it may be asked for again.
"""

from __future__ import annotations

import threading
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Executor, Future
from typing import Generic, TypeVar

from ..data.manifest import Shard

T = TypeVar("T")


class Shelf(Generic[T]):
    """What ``read`` makes of shards, by their numbers in ``shards``: at most ``limit`` bytes of them. Safe for threads.
    """

    def __init__(self, shards: Sequence[Shard], read: Callable[[Shard], T], limit: int) -> None:
        self._shards, self._read, self._limit = shards, read, limit
        self._lock = threading.Lock()
        self._taken: dict[int, Future[T]] = {}
        self._takers: Counter[int] = Counter()  # how many have taken a shard
        self._idle: OrderedDict[int, Future[T]] = OrderedDict()  # the last used last
        self._taken_bytes = self._idle_bytes = 0

    def take(self, numbers: Sequence[int], readers: Executor, *, anyway: bool) -> bool:
        """Keeps these shards (each named once) until they are given back, and has those read that are not here.

        False, and nothing is done, where they don't fit beside what else is taken. ``anyway`` takes them all the same:
        for whoever has nothing to give back.
        """
        with self._lock:
            new = [number for number in numbers if number not in self._taken]
            size = self._size(new)
            if self._taken_bytes + size > self._limit and not anyway:
                return False
            found = {number: self._idle.pop(number) for number in new if number in self._idle}
            self._taken_bytes += size
            self._idle_bytes -= self._size(found)
            while self._idle and self._taken_bytes + self._idle_bytes > self._limit:
                oldest, _ = self._idle.popitem(last=False)
                self._idle_bytes -= self._shards[oldest].bytes
            for number in new:
                if number not in found or _failed(found[number]):
                    found[number] = readers.submit(self._read, self._shards[number])
            self._taken |= found
            self._takers.update(numbers)
            return True

    def content(self, number: int) -> T:
        """What was made of a shard that is taken; waits for it. Raises what ``read`` raised."""
        with self._lock:
            future = self._taken[number]
        return future.result()

    def give_back(self, numbers: Iterable[int]) -> None:
        """Ends a ``take`` of these shards. What nobody needs any more is not read, if that has not begun."""
        with self._lock:
            for number in numbers:
                self._takers[number] -= 1
                if not self._takers[number]:
                    self._taken[number].cancel()
                    self._idle[number] = self._taken.pop(number)
                    self._taken_bytes -= self._shards[number].bytes
                    self._idle_bytes += self._shards[number].bytes

    def _size(self, numbers: Iterable[int]) -> int:
        return sum(self._shards[number].bytes for number in numbers)


def _failed(future: Future) -> bool:
    return future.done() and (future.cancelled() or future.exception() is not None)
