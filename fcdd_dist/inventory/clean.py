"""``fcdd-dist clean``: what killed writers have left behind. Only what is known for certain is ever removed.

Nothing here trusts a name alone: an incomplete checkpoint has a name of checkpoints and the files of one, a shard of an
abandoned sharding has our name and the header that we write, a temporary file a name that our stores give.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from ..checkpoint import DETECTOR, FOLDER, OPTIMIZER, RECORD, position
from ..data.manifest import MANIFEST, load_manifest
from ..errors import BadInput, NotFound
from ..storage import Entry, Leftover, Store, open_store
from ..storage.lease import LEASE
from .facts import age, amount, in_parallel
from .fetch import PART
from .survey import BOARD, Place, Survey, survey

_SHOWN = 30  # lines of a group
_LEASE_S = 900.0  # a lease that was renewed since is held, however young the limit
_SHARD = re.compile(r"(|.*/)(?:train|holdout|test)/[a-z0-9_-]+/\d{6,}\.tar")
_MEMBER = re.compile(rb"[a-z0-9_-]+-\d{8}\.(?:png|jpg|jpeg|json)\0")
_TEMPORARY = re.compile(r"\.part-[a-z0-9_]{8}|" + re.escape(PART) + r"[0-9a-f]{16}|" + re.escape(PART[:-1] + ".json"))
_NOTE = re.compile(rf"{BOARD}[a-z0-9-]+\.json")
_PROBE = re.compile(r"\.probe-(?:[0-9a-f]{8}){1,2}")
_OURS = re.compile(rf"(?:.*/)?(?:{FOLDER}/epoch-\d{{6}}(?:-step-\d{{6}})?/[^/]+"
                   r"|(?:train|holdout|test)/[^/]+/\d{6,}\.tar|manifest\.json)")  # objects that only we upload
CHECKPOINTS, SHARDS, LEFTOVERS, NOTES = (
    "incomplete checkpoints", "shards that no manifest names", "left by killed writers", "stale notes of drivers")


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

    @property
    def bytes(self) -> int:
        return self.leftover.size if self.leftover else sum(entry.size for entry in self.entries)

    @property
    def modified(self) -> float:
        return max(self.touched, *(entry.modified for entry in self.entries),
                   self.leftover.modified if self.leftover else 0.0)


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


def clean(url: str, *, older_than_s: float = 86400.0, remove: bool = False) -> Cleaning:
    """Finds what is left behind under ``url``, and removes it where ``remove``.

    Raises NotFound where there is nothing at all.
    """
    store = open_store(url)
    found = survey(store.list())
    leftovers = list(store.leftovers())
    if not (found.places or found.others or found.hidden or leftovers):
        raise NotFound(f"{store.url}: there is nothing there")
    now = time.time()
    held = _held(store, found, now, max(older_than_s, _LEASE_S))
    orphans = [*_checkpoints(store, found), *_shards(store, found), *_leftovers(found, leftovers), *_notes(found)]
    for orphan in orphans:
        run = next((prefix for prefix in held if orphan.name.startswith(prefix) or not prefix), None)
        if orphan.kept is None and run is not None:
            orphan.kept = f"in use: {held[run]}"
        elif orphan.kept is None and now - orphan.modified < older_than_s:
            orphan.kept = "too young"
    if remove:
        for orphan in orphans:
            if orphan.kept is None:
                _remove(store, orphan)
    return Cleaning(store.url, now, orphans, remove)


def lines(result: Cleaning) -> list[str]:
    """For a person, in groups."""
    out: list[str] = []

    def group(title: str, orphans: list[Orphan]) -> None:
        shown = orphans[:_SHOWN]
        width = min(56, max(len(orphan.name) for orphan in shown))
        out.extend([*([""] if out else []), f"{title}: {amount(sum(orphan.bytes for orphan in orphans))}"])
        for orphan in shown:
            old = age(result.now - orphan.modified)
            why = orphan.kept if orphan.kept else orphan.why
            out.append(f"  {orphan.name:{width}}  {amount(orphan.bytes):>9}  {old:>8}  {why}")
        if more := orphans[_SHOWN:]:
            out.append(f"  and {len(more):,} more, {amount(sum(orphan.bytes for orphan in more))} (--json names all)")

    for title in (CHECKPOINTS, SHARDS, LEFTOVERS, NOTES):
        if chosen := [orphan for orphan in result.loose if orphan.group == title]:
            group(title, chosen)
    if result.kept:
        group("in use, too young or not to be judged; never removed", result.kept)
    total, count = amount(sum(orphan.bytes for orphan in result.loose)), len(result.loose)
    if not count:
        return [*out, *([""] if out else []), f"{result.url}: nothing to remove"]
    things = f"{count:,} thing{'s' if count > 1 else ''}, {total}"
    return [*out, "", f"removed {things}" if result.removed else
            f"{things}; nothing was removed: the same with --yes removes {'them' if count > 1 else 'it'}"]


# What is left behind

def _checkpoints(store: Store, found: Survey) -> Iterator[Orphan]:
    places = [place for place in found.all() if place.kind == "checkpoint" and position(place.base)]

    def judge(place: Place) -> tuple[str | None, str | None, set[str]]:
        """Why it is incomplete, why it can't be judged, and which files are its own."""
        files = {DETECTOR, OPTIMIZER, RECORD}
        if not place.has_record:
            return f"no {RECORD}", None, files
        try:
            named = {file: told["bytes"] for file, told in json.loads(place.at(store).read(RECORD))["files"].items()}
        except NotFound:
            return None, None, files
        except (ValueError, KeyError, TypeError, AttributeError):
            return "damaged", f"its {RECORD} can't be read", files
        for file, size in named.items():
            if file not in place.own:
                return f"{file} is missing", None, files | set(named)
            if place.own[file].size != size:
                return f"{file} has {place.own[file].size} bytes, not {size}", None, files | set(named)
        return None, None, files

    for place, (why, kept, files) in zip(places, in_parallel(judge, places), strict=True):
        entries = [entry for key, entry in place.own.items() if key in files]
        entries.sort(key=lambda entry: not entry.key.endswith(f"/{RECORD}"))  # so that it is never half vouched for
        if why and entries:
            yield Orphan(CHECKPOINTS, place.name, why, entries, kept=kept)


def _shards(store: Store, found: Survey) -> Iterator[Orphan]:
    for place in found.all():
        if place.kind == "data set":
            tars = [entry for key, entry in place.own.items() if _SHARD.fullmatch(key)]
            try:
                named = {shard.key for parts in load_manifest(place.at(store)).splits.values()
                         for part in parts.values() for shard in part.shards}
            except BadInput:
                if tars:
                    yield Orphan(SHARDS, place.prefix or ".", "damaged", tars, kept=f"its {MANIFEST} can't be read")
                continue
            yield from _by_folder([e for e in tars if e.key.removeprefix(place.prefix) not in named],
                                  f"not in {MANIFEST}")
    tars = [entry for entry in found.others if _SHARD.fullmatch(entry.key)]
    ours = in_parallel(lambda entry: _is_shard(store, entry), tars)
    sets: dict[str, list[Entry]] = {}
    for entry, is_ours in zip(tars, ours, strict=True):
        if is_ours:
            sets.setdefault(_SHARD.fullmatch(entry.key)[1], []).append(entry)
    for entries in sets.values():
        yield from _by_folder(entries, "an abandoned sharding")


def _is_shard(store: Store, entry: Entry) -> bool:
    """By the name of its first member: others, too, have tar files with numbers."""
    try:
        return bool(_MEMBER.match(store.read(entry.key, 0, 512)))
    except NotFound:
        return False


def _by_folder(tars: list[Entry], why: str) -> Iterator[Orphan]:
    """``tars`` of one data set: one writer wrote them all, and is at another folder by now."""
    folders: dict[str, list[Entry]] = {}
    for entry in tars:
        folders.setdefault(entry.key.rpartition("/")[0] + "/", []).append(entry)
    newest = max((entry.modified for entry in tars), default=0.0)
    for folder, entries in folders.items():
        count = f"{len(entries):,} shard{'s' if len(entries) > 1 else ''}, {why}"
        yield Orphan(SHARDS, folder, count, entries, touched=newest)


def _leftovers(found: Survey, leftovers: Iterable[Leftover]) -> Iterator[Orphan]:
    known = [place.prefix for place in found.places]
    for leftover in leftovers:
        name = leftover.key.rpartition("/")[2]
        if name.startswith(".part-"):
            if _TEMPORARY.fullmatch(name):
                why = "of a pull that was broken off" if name.startswith(PART[:-1]) else "a temporary file"
                yield Orphan(LEFTOVERS, leftover.key, why, leftover=leftover)
        elif _OURS.fullmatch(leftover.key) or any(leftover.key.startswith(prefix) for prefix in known):
            yield Orphan(LEFTOVERS, leftover.key, "an unfinished upload", leftover=leftover)


def _notes(found: Survey) -> Iterator[Orphan]:
    for place in found.all():
        notes = [entry for key, entry in place.live.items() if _NOTE.fullmatch(key)]
        if notes and place.kind == "run":
            yield Orphan(NOTES, f"{place.prefix}{BOARD}", "what workers told their driver", notes)
    for entry in found.hidden:
        if _PROBE.fullmatch(entry.key.rpartition("/")[2]):
            yield Orphan(NOTES, entry.key, "a test of whether this can be written", [entry])


# What is in use

def _held(store: Store, found: Survey, now: float, limit: float) -> dict[str, str]:
    """The prefixes that a driver or a sharding holds, and by whom."""
    leases = [(place.prefix, entry) for place in found.all() for key, entry in place.live.items()
              if key == LEASE]
    leases += [(entry.key.removesuffix(LEASE), entry) for entry in found.others
               if entry.key.rpartition("/")[2] == LEASE]
    fresh = [(prefix, entry) for prefix, entry in leases if now - entry.modified <= limit]
    holders = in_parallel(lambda lease: _holder(store, lease[1]), fresh)
    return {prefix: holder for (prefix, _), holder in zip(fresh, holders, strict=True) if holder}


def _holder(store: Store, entry: Entry) -> str | None:
    try:
        owner = json.loads(store.read(entry.key))["owner"]
        return None if owner is None else f"held by process {owner['pid']} on {owner['host']}"
    except NotFound:
        return None
    except (ValueError, KeyError, TypeError):  # better left alone
        return f"{entry.key} can't be read"


def _remove(store: Store, orphan: Orphan) -> None:
    """Removes what is still as it was found; whatever has changed since is somebody's."""
    if orphan.leftover is not None:
        store.discard(orphan.leftover)
        return
    folder = orphan.entries[0].key.rpartition("/")[0]
    there = {entry.key: entry for entry in store.list(f"{folder}/" if folder else orphan.entries[0].key)}
    changed = [entry for entry in orphan.entries if there.get(entry.key) not in (entry, None)]
    record = f"{folder}/{RECORD}"
    if changed or (orphan.group == CHECKPOINTS and record in there and record not in {e.key for e in orphan.entries}):
        orphan.kept = "changed just now"
        return
    for entry in orphan.entries:
        store.delete(entry.key)
