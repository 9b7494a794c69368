"""What a process asked of object storage: requests cost money, and retries tell of trouble that nobody saw."""

from __future__ import annotations

import threading
from dataclasses import asdict, dataclass, replace


@dataclass(frozen=True)
class Counts:
    """Since the process began, or between two moments: ``later - earlier``."""

    requests: int = 0  # that were answered or not; a retry is one more
    retries: int = 0
    bytes_read: int = 0
    bytes_written: int = 0

    def __sub__(self, earlier: Counts) -> Counts:
        return Counts(**{name: value - getattr(earlier, name) for name, value in asdict(self).items()})


_lock, _now = threading.Lock(), Counts()


def counts() -> Counts:
    """Those of this process until now. Folders and memory count nothing."""
    return _now


def count(**more: int) -> None:
    """Adds to the counts of this process."""
    global _now
    with _lock:
        _now = replace(_now, **{name: getattr(_now, name) + value for name, value in more.items()})
