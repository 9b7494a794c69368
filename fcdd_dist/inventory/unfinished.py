"""Shardings that are not finished, or were killed while they tidied up, by their plans, which are read leniently.

``data.shards.unfinished`` tells what lies there. Only a plan makes it ours: others, too, have folders of this name.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property

from ..data.manifest import EXPOSURE
from ..data.shards.claim import SHARD
from ..data.shards.unfinished import DIGESTS, FOLDER, PLAN
from ..errors import NotFound
from ..experiment import newer_schema
from ..storage import Entry, Store
from ..storage.lease import CLAIMS, LEASE
from .facts import UNREADABLE, in_parallel
from .survey import Survey

GOES_ON = "run the same `fcdd-dist shard` command again: it goes on"
_SCHEMA = 1
_TASK = re.compile(r"(?:nominal|spill|gather)-[a-z0-9_-]+")
_BINARY = rf"(?:{FOLDER}spill/\d{{6,}}\.bin|{re.escape(DIGESTS)})"
_SPILL = re.compile(_BINARY)
_CLAIM = re.compile(rf"(?:{EXPOSURE}/)?(?:{CLAIMS}\d{{6,}}\.json|{re.escape(LEASE)})")
UNFINISHED = re.compile(rf"(?:{_BINARY}|{FOLDER}[a-z0-9_-]+\.json)")  # keys that its files may have


@dataclass(eq=False)
class Sharding:
    """``prefix``: of its data set, with a slash at the end or empty. ``records`` and ``spill``: what it has in
    ``unfinished/`` beside its ``plan``. ``shards``: what has their keys, also within, for its exposure set.
    ``finished``: it is a data set by now, and its shards belong to that."""

    prefix: str
    recipe: str
    tasks: frozenset[str]
    plan: Entry
    finished: bool
    newer: bool = False  # the plan is of a newer fcdd_dist: nothing else is known
    doubt: str | None = None  # why it can't be judged
    records: list[Entry] = field(default_factory=list)
    spill: list[Entry] = field(default_factory=list)
    shards: list[Entry] = field(default_factory=list)
    leases: list[Entry] = field(default_factory=list)  # of the writers of both sets

    @property
    def name(self) -> str:
        return self.prefix or "."

    @property
    def entries(self) -> list[Entry]:
        """In the order in which they may be removed. First the records: none must vouch for what is gone."""
        return [*self.records, *self.spill, *self.shards, self.plan]

    @cached_property
    def done(self) -> int:
        """How many of the tasks."""
        return len(self.tasks & {_task(entry) for entry in self.records})

    @property
    def state(self) -> str:
        return "unfinished" if self.newer else f"unfinished, {self.done:,} of {len(self.tasks):,} tasks"

    def is_ours(self, key: str) -> bool:
        """Whether a key below ``prefix`` is of a record or of spilled images."""
        folder, _, name = key.rpartition("/")
        task = name.removesuffix(".json")
        return _SPILL.fullmatch(key) is not None or (
            f"{folder}/" == FOLDER and task != name and (task in self.tasks or _TASK.fullmatch(task) is not None))


def find_shardings(store: Store, found: Survey) -> list[Sharding]:
    """All whose plans can be read; the plans are all that is read."""
    seen = {entry.key: entry for entry in found.entries()}
    kinds = {place.prefix: place.kind for place in found.all()}
    plans = [entry for key, entry in seen.items() if f"/{key}".endswith(f"/{PLAN}")
             and kinds.get(key.removesuffix(PLAN), "data set") == "data set"]
    read = in_parallel(lambda entry: _read(store, entry, entry.key.removesuffix(PLAN) in kinds), plans)
    shardings = [sharding for sharding in read if sharding is not None]
    alone = {prefix for prefix, kind in kinds.items()} | {sharding.prefix for sharding in shardings}
    for sharding in shardings:
        if not sharding.newer:
            _collect(sharding, seen, exposure=f"{sharding.prefix}{EXPOSURE}/" not in alone)
    return sorted(shardings, key=lambda sharding: sharding.prefix)


def is_planned(store: Store) -> bool:
    """Whether ``store`` is where something is sharded."""
    return _plan(store, PLAN) is not None


def _read(store: Store, entry: Entry, finished: bool) -> Sharding | None:
    plan = _plan(store, entry.key)
    if plan is None:
        return None
    prefix = entry.key.removesuffix(PLAN)
    return Sharding(prefix, *plan[:2], entry, finished, newer=plan[2])


def _plan(store: Store, key: str) -> tuple[str, frozenset[str], bool] | None:
    """Its recipe, its tasks, and whether it is of a newer fcdd_dist; None where it is none of ours."""
    try:
        text = store.read(key)
        tree = json.loads(text)
        recipe, tasks, newer = tree["recipe"], tree["tasks"], newer_schema(text, _SCHEMA)
        tree["schema_version"]
    except (NotFound, *UNREADABLE):
        return None
    if newer:
        return str(recipe), frozenset(), True
    if not (isinstance(recipe, str) and isinstance(tasks, list) and all(isinstance(task, str) for task in tasks)):
        return None
    return recipe, frozenset(tasks), False


def _collect(sharding: Sharding, seen: dict[str, Entry], *, exposure: bool) -> None:
    """``exposure``: what is in the folder of its exposure set is its own; else that is one by itself."""
    for key, entry in _below(seen, sharding.prefix):
        if sharding.is_ours(key):
            (sharding.spill if _SPILL.fullmatch(key) else sharding.records).append(entry)
        elif not sharding.finished and (exposure or not key.startswith(f"{EXPOSURE}/")):
            if SHARD.fullmatch(key.removeprefix(f"{EXPOSURE}/")):
                sharding.shards.append(entry)
            elif _CLAIM.fullmatch(key):
                sharding.leases.append(entry)


def _below(seen: dict[str, Entry], prefix: str) -> Iterator[tuple[str, Entry]]:
    return ((key.removeprefix(prefix), entry) for key, entry in seen.items()
            if key.startswith(prefix) and key != f"{prefix}{PLAN}")


def _task(entry: Entry) -> str:
    return entry.key.rpartition("/")[2].removesuffix(".json")
