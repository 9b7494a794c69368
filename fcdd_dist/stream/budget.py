"""How much memory decoded images may take, and how many threads decode, where nobody said."""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path

import torch


def default_budget(device: torch.device, ranks: int, sharers: int = 1) -> int:
    """Bytes a split may keep decoded on the device: a third of what is free there, shared with the other ranks, and
    with the other ones of ``sharers`` jobs, which may not yet have taken theirs."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0] // (3 * sharers)
    return _available() // (3 * ranks * sharers)


def default_threads() -> int:
    """The processors that this process may use, at most 16."""
    return min(16, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)


def _available() -> int:
    """Bytes of memory that this process can have without swapping, in its container, too."""
    found = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2]  # where the system tells nothing better
    with contextlib.suppress(FileNotFoundError):
        # Free pages alone would count what the page cache holds as taken.
        found = [int(re.search(r"MemAvailable:\s+(\d+) kB", Path("/proc/meminfo").read_text())[1]) << 10]
    with contextlib.suppress(FileNotFoundError, ValueError):  # no such group, or its limit is the word "max"
        limit, used = (int(Path("/sys/fs/cgroup", name).read_text()) for name in ("memory.max", "memory.current"))
        found.append(max(0, limit - used))
    return min(found)
