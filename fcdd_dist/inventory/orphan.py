"""One thing that a killed writer has left behind."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

from ..storage import Entry, Leftover
from .unfinished import Sharding

CHECKPOINTS, SHARDINGS, SHARDS, LEFTOVERS, NOTES = (
    "incomplete checkpoints", "unfinished shardings", "shards that no manifest names", "left by killed writers",
    "stale notes of drivers")


@dataclass
class Orphan:
    """One thing that may be removed: the ``entries``, in this order, or a leftover of the store."""

    group: str
    name: str
    why: str
    entries: list[Entry] = field(default_factory=list)
    leftover: Leftover | None = None
    kept: str | None = None  # why it is not removed
    touched: float = 0.0  # when their writer last did something that is known of
    data_set: str | None = None  # the prefix of the data set that it is of; only its writer may remove it
    abandoned: bool = False  # that data set was never finished
    sharding: Sharding | None = None  # that it is all of

    @cached_property
    def keys(self) -> list[str]:
        """One key in each folder that it has a part of."""
        keys = [self.leftover.key] if self.leftover else [entry.key for entry in self.entries]
        return list({key.rpartition("/")[0]: key for key in keys}.values())

    @property
    def bytes(self) -> int:
        return self.leftover.size if self.leftover else sum(entry.size for entry in self.entries)

    @property
    def modified(self) -> float:
        return max(self.touched, *(entry.modified for entry in self.entries),
                   self.leftover.modified if self.leftover else 0.0)
