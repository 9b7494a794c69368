"""How much memory decoded images may take, and how many threads decode, where nobody said."""

from __future__ import annotations

import os

import torch


def default_budget(device: torch.device, ranks: int) -> int:
    """Bytes a split may keep decoded on the device: a third of what is free there, shared with the other ranks."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0] // 3
    pages = os.sysconf("SC_AVPHYS_PAGES") if "SC_AVPHYS_PAGES" in os.sysconf_names else (2 << 30) // 4096
    return pages * (os.sysconf("SC_PAGE_SIZE")) // (3 * ranks)


def default_threads() -> int:
    """The processors that this process may use, at most 16."""
    return min(16, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
