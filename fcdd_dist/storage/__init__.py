"""Where data sets and runs live. ``open_store(url)`` gives a ``Store``; nothing else knows what a URL means."""

from .counts import Counts, counts
from .folder import FolderStore
from .memory import MemoryStore
from .stores import Entry, Leftover, Store, exists, mismatch, probe
from .urls import absolute, open_store

__all__ = ["Counts", "Entry", "FolderStore", "Leftover", "MemoryStore", "Store", "absolute", "counts", "exists",
           "mismatch", "open_store", "probe"]
