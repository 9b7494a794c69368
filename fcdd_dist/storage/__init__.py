"""Where data sets and runs live. ``open_store(url)`` gives a ``Store``; nothing else knows what a URL means."""

from .stores import Entry, FolderStore, MemoryStore, Store, absolute, exists, open_store, probe

__all__ = ["Entry", "FolderStore", "MemoryStore", "Store", "absolute", "exists", "open_store", "probe"]
