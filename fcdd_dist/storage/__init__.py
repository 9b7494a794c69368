"""Where data sets and runs live. ``open_store(url)`` gives a ``Store``; nothing else knows what a URL means."""

from .cache import Cache
from .cached import CachedStore
from .counts import Counts, counts
from .folder import FolderStore
from .memory import MemoryStore
from .s3 import S3Store
from .s3.connection import abandon, expect_up
from .stores import Entry, Leftover, Store, exists, mismatch, probe
from .urls import absolute, open_store

__all__ = ["Cache", "CachedStore", "Counts", "Entry", "FolderStore", "Leftover", "MemoryStore", "S3Store", "Store",
           "abandon", "absolute", "counts", "exists", "expect_up", "mismatch", "open_store", "probe"]
