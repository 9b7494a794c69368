"""``fcdd-dist clean``: what killed writers have left behind. Only what is certainly ours and certainly abandoned goes.

What is ours, ``orphans`` tells; what is in use, ``holds``. In doubt a thing is named as kept, or passed over. Each is
looked at again right before it is removed, and shards are removed by whoever holds the lease of their data set, so
that no sharding begins in between.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import groupby

from ..checkpoint import RECORD
from ..data.manifest import EXPOSURE, MANIFEST
from ..errors import BadInput, Conflict, NotFound
from ..storage import Store, absolute, exists, open_store
from ..storage.lease import LEASE, Lease
from ..words import amount
from .facts import age, in_parallel, shown
from .holds import Holds
from .lost_shards import named_shards
from .orphan import CHECKPOINTS, LEFTOVERS, NOTES, SHARDINGS, SHARDS, Orphan
from .orphans import find_orphans
from .standing import UNJUDGED, Above, at
from .survey import survey
from .unfinished import GOES_ON

_SHOWN = 30  # lines of a group
_LEASE_S = 900.0  # a lease that was renewed since is held, however young the limit
_ABOVE = 4  # places above the URL that may be in use: it may be SWEEP/trials/RUN/checkpoints/epoch-000001
_CHANGED = "changed just now"
Say = Callable[[str], None]


@dataclass
class Cleaning:
    """What was found, and whether it was removed."""

    url: str
    now: float
    orphans: list[Orphan]
    removed: bool

    @property
    def loose(self) -> list[Orphan]:
        return [orphan for orphan in self.orphans if orphan.kept is None]

    @property
    def kept(self) -> list[Orphan]:
        return [orphan for orphan in self.orphans if orphan.kept is not None]

    def as_json(self) -> dict:
        def tree(orphan: Orphan) -> dict:
            return {"group": orphan.group, "name": orphan.name, "why": orphan.why, "bytes": orphan.bytes,
                    "objects": max(1, len(orphan.entries)), "modified": orphan.modified}

        return {"url": self.url, "removed": self.removed, "bytes": sum(orphan.bytes for orphan in self.loose),
                "orphans": [tree(orphan) for orphan in self.loose],
                "kept": [{**tree(orphan), "kept": orphan.kept} for orphan in self.kept]}


def clean(url: str, *, older_than_s: float = 86400.0, remove: bool = False, say: Say = lambda line: None) -> Cleaning:
    """Finds what is left behind under ``url``, and removes it where ``remove``.

    Raises NotFound where there is nothing at all.
    """
    store = open_store(url)
    found = survey(store.list())
    leftovers = list(store.leftovers())
    if not (found.places or found.others or found.hidden or leftovers):
        raise NotFound(f"{store.url}: there is nothing there")
    above = _above(store.url)
    orphans = find_orphans(store, found, leftovers, above)
    holds, now = Holds(store, found, leftovers, above, orphans), time.time()
    for orphan in orphans:
        if orphan.kept is None:
            orphan.kept = holds.why(orphan.keys, now, max(older_than_s, _LEASE_S))
        if orphan.kept is None and now - orphan.modified < older_than_s:
            orphan.kept = "too young"
    if remove:
        loose = [orphan for orphan in orphans if orphan.kept is None]
        for data_set, group in groupby(loose, lambda orphan: orphan.data_set):
            if data_set is None:
                for orphan in group:
                    _remove(store, orphan, holds)
            else:
                _remove_shards(store, data_set, list(group), holds, say)
    return Cleaning(store.url, now, orphans, remove)


def lines(result: Cleaning) -> list[str]:
    """For a person, in groups."""
    out: list[str] = []

    def group(title: str, orphans: list[Orphan]) -> None:
        first = orphans[:_SHOWN]
        width = min(56, max(len(shown(orphan.name)) for orphan in first))
        out.extend([*([""] if out else []), f"{title}: {amount(sum(orphan.bytes for orphan in orphans))}"])
        for orphan in first:
            old = age(result.now - orphan.modified)
            why = shown(orphan.kept or orphan.why)
            out.append(f"  {shown(orphan.name):{width}}  {amount(orphan.bytes):>9}  {old:>8}  {why}")
        if more := orphans[_SHOWN:]:
            out.append(f"  and {len(more):,} more, {amount(sum(orphan.bytes for orphan in more))} (--json names all)")

    for title in (CHECKPOINTS, SHARDINGS, SHARDS, LEFTOVERS, NOTES):
        if chosen := [orphan for orphan in result.loose if orphan.group == title]:
            group(title, chosen)
            if title == SHARDINGS and not result.removed:
                out.append(f"  or {GOES_ON}")
    if result.kept:
        group("in use, too young or not to be judged; never removed", result.kept)
    total, count = amount(sum(orphan.bytes for orphan in result.loose)), len(result.loose)
    if not count:
        return [*out, *([""] if out else []), f"{shown(result.url)}: nothing to remove"]
    things = f"{count:,} thing{'s' if count > 1 else ''}, {total}"
    return [*out, "", f"removed {things}" if result.removed else
            f"{things}; nothing was removed: the same with --yes removes {'them' if count > 1 else 'it'}"]


def _above(url: str) -> list[Above]:
    found, place = [], absolute(url)
    for _ in range(_ABOVE):
        place, _, part = place.rpartition("/")
        if place in ("", "s3:/"):
            break
        found.append(Above(open_store(place), f"{part}/{found[-1].tail}" if found else part))
    return found


def _remove_shards(store: Store, data_set: str, orphans: list[Orphan], holds: Holds, say: Say) -> None:
    """Removes shards of one data set as its only writer: a sharding that begins now waits, and then finds none."""
    place = at(store, data_set)
    reason = holds.since([key for orphan in orphans for key in orphan.keys])
    with ExitStack() as stack:
        if reason is None:
            try:
                for one in [place, *([place.at(EXPOSURE)] if any(map(_has_exposure, orphans)) else [])]:
                    lease = Lease.acquire(one, say=say)
                    stack.callback(lease.release, forget=True)
            except Conflict as error:
                reason = f"in use: {error}"
            except BadInput as error:
                reason = f"{UNJUDGED}{error}"
        if reason is not None:
            for orphan in orphans:
                orphan.kept = reason
            return
        named = named_shards(place)
        for orphan in orphans:
            keys = {entry.key.removeprefix(data_set) for entry in orphan.entries}
            if orphan.abandoned != (named is None) or keys & (named or set()):
                orphan.kept = _CHANGED
            elif orphan.sharding is not None:
                _remove_sharding(store, orphan)
            elif f"{data_set}{LEASE}" != orphan.name:  # which is ours by now, and goes when it is released
                _remove(store, orphan)


def _has_exposure(orphan: Orphan) -> bool:
    """Whether the exposure set within, which may have another writer, goes with it."""
    sharding = orphan.sharding
    return sharding is not None and any(entry.key.startswith(f"{sharding.prefix}{EXPOSURE}/")
                                        for entry in [*sharding.shards, *sharding.leases])


def _remove_sharding(store: Store, orphan: Orphan) -> None:
    """First the records, and last the plan: whatever breaks this off, it can be repeated, and the sharding go on."""
    sharding, prefix = orphan.sharding, orphan.sharding.prefix
    folders = {prefix + entry.key.removeprefix(prefix).partition("/")[0] + "/" for entry in sharding.entries}
    there = {entry.key: entry for folder in folders for entry in store.list(folder)}
    known = {entry.key for entry in sharding.entries}
    if (any(there.get(entry.key) not in (entry, None) for entry in sharding.entries)
            or any(key not in known and sharding.is_ours(key.removeprefix(prefix)) for key in there)
            or (_has_exposure(orphan) and exists(store, f"{prefix}{EXPOSURE}/{MANIFEST}"))):
        orphan.kept = _CHANGED
        return
    for stage in (sharding.records, sharding.spill + sharding.shards, [sharding.plan]):
        in_parallel(store.delete, [entry.key for entry in stage])


def _remove(store: Store, orphan: Orphan, holds: Holds | None = None) -> None:
    """Removes what is still as it was found; whatever has changed since is somebody's."""
    if holds is not None and (reason := holds.since(orphan.keys)):
        orphan.kept = reason
        return
    if orphan.leftover is not None:
        store.discard(orphan.leftover)
        return
    folder = orphan.entries[0].key.rpartition("/")[0]
    there = {entry.key: entry for entry in store.list(f"{folder}/" if folder else orphan.entries[0].key)}
    changed = [entry for entry in orphan.entries if there.get(entry.key) not in (entry, None)]
    record = f"{folder}/{RECORD}"
    if changed or (orphan.group == CHECKPOINTS and record in there and record not in {e.key for e in orphan.entries}):
        orphan.kept = _CHANGED
        return
    for entry in orphan.entries:
        store.delete(entry.key)
