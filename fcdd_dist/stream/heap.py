"""Memory that is free goes back to the system."""

from __future__ import annotations

import ctypes
import threading
import time
from functools import cache

_TURNOVER, _EVERY_S = 64 << 20, 2.0  # bytes, and seconds


class Turnover:
    """Of memory: when 64 MB have come and gone, what is free goes back to the system, at most every 2 s.

    glibc keeps the holes that shards and batches leave, which come and go in many threads, each with a heap of its own:
    without this, streamed photographs come to twice their memory (seen: 460 MB against 300). It costs 0.1 s each time.
    To give back each block when it is freed, by a limit of ``mallopt``, takes less yet (235 MB), and up to a quarter of
    the time of each step of a net on a CPU, whose activations are then of new pages. Safe for threads.
    """

    def __init__(self) -> None:
        self._lock, self._bytes, self._next = threading.Lock(), 0, time.monotonic() + _EVERY_S

    def add(self, size: int) -> None:
        """``size`` bytes more have come, and about as many gone. Not for a thread that others wait for."""
        with self._lock:
            self._bytes += size
            if self._bytes < _TURNOVER or time.monotonic() < self._next:
                return
            self._bytes, self._next = 0, time.monotonic() + _EVERY_S
        return_free_memory()


def return_free_memory() -> None:
    """Does nothing with another C library than glibc: others give back by themselves, or can't be told."""
    if (libc := _glibc()) is not None:
        libc.malloc_trim(0)


@cache
def _glibc() -> ctypes.CDLL | None:
    libc = ctypes.CDLL(None)
    return libc if hasattr(libc, "malloc_trim") else None
