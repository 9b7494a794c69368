"""Finds what killed writers have left behind. Nothing trusts a name alone: other people's things have such names, too.

- An incomplete checkpoint is one in a run whose record is ours.
- A shard has our key and our header, and lies where the data set that it is of has its shards.
- An unfinished upload was to become a part of a run or data set whose record is ours, or of an abandoned sharding.
- A note is on the board of a run whose record is ours, and says of which attempt it is.

What is ours, but whose record is damaged or of a newer fcdd_dist, is found, and marked as not to be judged.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache

from .. import checkpoint
from ..checkpoint import DETECTOR, OPTIMIZER, RECORD
from ..data.manifest import EXPOSURE, MANIFEST, load_manifest
from ..data.shards.claim import SHARD, is_shard
from ..errors import BadInput, Damaged, NotFound
from ..storage import Entry, Leftover, Store
from ..storage.lease import CLAIMS, LEASE
from .facts import UNREADABLE, in_parallel, incomplete
from .marker import MARKER, PART
from .standing import UNJUDGED, Above, Runs, at
from .survey import BOARD, Place, Survey

CHECKPOINTS, SHARDS, LEFTOVERS, NOTES = (
    "incomplete checkpoints", "shards that no manifest names", "left by killed writers", "stale notes of drivers")
_SET = re.compile(rf"(?P<set>|.*/)(?P<rest>{SHARD.pattern}|{re.escape(MANIFEST)})")
_NOTE = re.compile(rf"{BOARD}[a-z0-9-]+\.json")
_TEMPORARY = re.compile(r"\.part-[a-z0-9_]{8}|" + re.escape(PART) + r"[0-9a-f]{16}|" + re.escape(MARKER))
_PROBE = re.compile(r"\.probe-(?:[0-9a-f]{8}){1,2}")


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

    @property
    def key(self) -> str:
        return self.leftover.key if self.leftover else self.entries[0].key

    @property
    def bytes(self) -> int:
        return self.leftover.size if self.leftover else sum(entry.size for entry in self.entries)

    @property
    def modified(self) -> float:
        return max(self.touched, *(entry.modified for entry in self.entries),
                   self.leftover.modified if self.leftover else 0.0)


def find_orphans(store: Store, found: Survey, leftovers: Iterable[Leftover], above: list[Above]) -> list[Orphan]:
    runs = Runs(store, found, above)
    shards = [*_unnamed(store, found), *_abandoned(store, found)]
    return [*_checkpoints(store, found, runs), *shards, *_leftovers(store, found, leftovers, runs, shards),
            *_notes(store, found, runs)]


def named_shards(store: Store) -> set[str] | None:
    """The keys of the shards of the data set in ``store``; None where there is none. Raises BadInput."""
    try:
        manifest = load_manifest(store)
    except NotFound:
        return None
    return {shard.key for parts in manifest.splits.values() for part in parts.values() for shard in part.shards}


# Runs

def _checkpoints(store: Store, found: Survey, runs: Runs) -> Iterator[Orphan]:
    def judge(place: Place) -> Orphan | None:
        standing = runs.around(f"{place.prefix}{RECORD}")
        if not standing.ours:
            return None
        files, kept, why = {DETECTOR, OPTIMIZER, RECORD}, standing.doubt, f"no {RECORD}"
        if place.has_record:
            own = place.at(store)
            try:
                record = checkpoint.read_record(own)
                files, why = files | set(record.files), incomplete(place, record)
            except NotFound:  # it is written again just now
                return None
            except Damaged as error:
                why, kept = "damaged", UNJUDGED + str(error).removeprefix(f"{own.url}/")
        entries = [entry for key, entry in place.own.items() if key in files]
        entries.sort(key=lambda entry: not entry.key.endswith(f"/{RECORD}"))  # so that it is never half vouched for
        return Orphan(CHECKPOINTS, place.name, why, entries, kept=kept) if why and entries else None

    places = [place for place in found.all() if place.kind == "checkpoint" and checkpoint.position(place.base)]
    yield from filter(None, in_parallel(judge, places))


def _notes(store: Store, found: Survey, runs: Runs) -> Iterator[Orphan]:
    for place in found.all():
        notes = [entry for key, entry in place.live.items() if _NOTE.fullmatch(key)]
        if notes and place.kind == "run" and (standing := runs.of(place.prefix)).ours:
            ours = in_parallel(lambda entry: _is_note(store, entry.key), notes)
            if notes := [entry for entry, is_ours in zip(notes, ours, strict=True) if is_ours]:
                yield Orphan(NOTES, f"{place.prefix}{BOARD}", "what workers told their driver", notes,
                             kept=standing.doubt)
    for entry in found.hidden:
        if _PROBE.fullmatch(entry.key.rpartition("/")[2]) and not entry.size:
            yield Orphan(NOTES, entry.key, "a test of whether this can be written", [entry])


def _is_note(store: Store, key: str) -> bool:
    try:
        note = json.loads(store.read(key))
    except (NotFound, *UNREADABLE):
        return False
    return isinstance(note, dict) and "attempt" in note


# Data sets

def _unnamed(store: Store, found: Survey) -> Iterator[Orphan]:
    """Shards of ours in data sets whose manifests don't name them."""
    for place in found.all():
        if place.kind != "data set":
            continue
        tars = [entry for key, entry in place.own.items() if SHARD.fullmatch(key)]
        try:
            named = named_shards(place.at(store))
        except BadInput as error:
            if tars := _ours(store, tars):
                why = str(error).removeprefix(f"{place.at(store).url}/")
                yield Orphan(SHARDS, place.prefix or ".", "damaged", tars, kept=f"{UNJUDGED}{why}")
            continue
        if named is not None:
            tars = _ours(store, [entry for entry in tars if entry.key.removeprefix(place.prefix) not in named])
            yield from _by_folder(tars, place.prefix)


def _abandoned(store: Store, found: Survey) -> Iterator[Orphan]:
    """Shards of ours in no data set, with the leases of their writers."""
    entries = list(found.others)
    for place in found.all():
        if place.kind == "data set":  # its exposure set is a data set of its own, or will never be
            entries += [entry for key, entry in place.own.items() if key.startswith(f"{EXPOSURE}/")
                        and SHARD.fullmatch(key.removeprefix(f"{EXPOSURE}/"))]
    tars = [entry for entry in entries if (match := _SET.fullmatch(entry.key)) and SHARD.fullmatch(match["rest"])]
    sets: dict[str, list[Entry]] = {}
    for entry in _ours(store, tars):
        sets.setdefault(_SET.fullmatch(entry.key)["set"], []).append(entry)
    seen = {entry.key: entry for entry in found.entries()}
    for prefix in list(sets):  # exposure comes first: its data set may have no shard yet, and yet a writer
        if f"/{prefix}".endswith(f"/{EXPOSURE}/"):
            sets.setdefault(prefix.removesuffix(f"{EXPOSURE}/"), [])
    places = {place.prefix for place in found.all()}
    for prefix, tars in sets.items():
        claim = re.compile(rf"{re.escape(prefix)}(?:{CLAIMS}\d{{6,}}\.json|{re.escape(LEASE)})")
        leases = [entry for key, entry in seen.items() if claim.fullmatch(key)] if prefix not in places else []
        newest = max((entry.modified for entry in tars + leases), default=0.0)
        yield from _by_folder(tars, prefix, newest, abandoned=True)
        if leases:
            yield Orphan(SHARDS, f"{prefix}{LEASE}", "of its writer", leases, touched=newest, data_set=prefix,
                         abandoned=True)


def _ours(store: Store, tars: list[Entry]) -> list[Entry]:
    ours = in_parallel(lambda entry: is_shard(store, entry.key), tars)
    return [entry for entry, is_ours in zip(tars, ours, strict=True) if is_ours]


def _by_folder(tars: list[Entry], data_set: str, newest: float = 0.0, *, abandoned: bool = False) -> Iterator[Orphan]:
    """``tars`` of one data set: one writer wrote them all, and is at another folder by now."""
    folders: dict[str, list[Entry]] = {}
    for entry in tars:
        folders.setdefault(entry.key.rpartition("/")[0] + "/", []).append(entry)
    newest = max([newest, *(entry.modified for entry in tars)])
    for folder, entries in folders.items():
        why = "an abandoned sharding" if abandoned else f"not in {MANIFEST}"
        why = f"{len(entries):,} shard{'s' if len(entries) > 1 else ''}, {why}"
        yield Orphan(SHARDS, folder, why, entries, touched=newest, data_set=data_set, abandoned=abandoned)


# What never became an object

def _leftovers(store: Store, found: Survey, leftovers: Iterable[Leftover], runs: Runs, shards: list[Orphan]
               ) -> Iterator[Orphan]:
    abandoned = {orphan.data_set for orphan in shards}
    places = {place.prefix for place in found.all() if place.kind == "data set"}

    @cache
    def is_data_set(prefix: str) -> bool:
        try:
            return prefix in places and named_shards(at(store, prefix)) is not None
        except BadInput:
            return False

    def of_data_set(prefix: str) -> bool:
        related = (prefix, f"{prefix}{EXPOSURE}/", *([prefix.removesuffix(f"{EXPOSURE}/")]
                                                     if f"/{prefix}".endswith(f"/{EXPOSURE}/") else []))
        return any(one in abandoned or is_data_set(one) for one in related)

    for leftover in leftovers:
        name = leftover.key.rpartition("/")[2]
        if name.startswith(".part-"):
            if _TEMPORARY.fullmatch(name):
                why = "of a pull that was broken off" if name.startswith(PART[:-1]) else "a temporary file"
                yield Orphan(LEFTOVERS, leftover.key, why, leftover=leftover)
        elif (standing := runs.around(leftover.key)).ours:
            yield Orphan(LEFTOVERS, leftover.key, "an unfinished upload", leftover=leftover, kept=standing.doubt)
        elif (match := _SET.fullmatch(leftover.key)) and of_data_set(match["set"]):
            yield Orphan(LEFTOVERS, leftover.key, "an unfinished upload", leftover=leftover)
