"""Finds what killed writers have left behind. Nothing trusts a name alone: other people's things have such names, too.

- An incomplete checkpoint is one in a run whose record is ours.
- A shard has our key and our header, and lies where the data set that it is of has its shards.
- An unfinished sharding has a plan of ours; its shards and what else it has left are one thing.
- An unfinished upload was to become a part of a run or data set whose record is ours, or of an abandoned sharding.
- A note is on the board of a run whose record is ours, and says of which attempt it is.

What is ours, but whose record is damaged or of a newer fcdd_dist, is found, and marked as not to be judged.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache, cached_property

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
from .unfinished import FOLDER, UNFINISHED, Sharding, find_shardings, is_planned

CHECKPOINTS, SHARDINGS, SHARDS, LEFTOVERS, NOTES = (
    "incomplete checkpoints", "unfinished shardings", "shards that no manifest names", "left by killed writers",
    "stale notes of drivers")
_SET = re.compile(rf"(?P<set>|.*/)(?P<rest>{SHARD.pattern}|{re.escape(MANIFEST)}|{UNFINISHED.pattern})")
_PART = "a part of the unfinished sharding in the folder above"
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


def find_orphans(store: Store, found: Survey, leftovers: Iterable[Leftover], above: list[Above]) -> list[Orphan]:
    runs = Runs(store, found, above)
    shardings = find_shardings(store, found)
    shards = [*_shardings(store, shardings), *_unnamed(store, found),
              *_abandoned(store, found, shardings, _is_within_sharding(above))]
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

def _shardings(store: Store, shardings: list[Sharding]) -> Iterator[Orphan]:
    """With their shards, or beside them where there is a manifest that names these."""
    for sharding in shardings:
        if sharding.newer:
            sharding.doubt = f"{UNJUDGED}its plan was written by a newer fcdd_dist"
        if sharding.finished:
            try:
                if named_shards(at(store, sharding.prefix)) is None:
                    continue
            except BadInput as error:
                sharding.doubt = UNJUDGED + str(error).removeprefix(f"{at(store, sharding.prefix).url}/")
            yield Orphan(LEFTOVERS, f"{sharding.prefix}{FOLDER}", "of a sharding that is finished", sharding.entries,
                         kept=sharding.doubt, data_set=sharding.prefix, sharding=sharding)
            continue
        count = len(sharding.shards)
        sharding.shards = _ours(store, sharding.shards)
        theirs = count - len(sharding.shards)
        why = f"{sharding.state}, {_counted(len(sharding.shards), 'shard')}"
        yield Orphan(SHARDINGS, sharding.name, f"{why}, beside {_counted(theirs, 'file')} of others" if theirs else why,
                     sharding.entries, kept=sharding.doubt, data_set=sharding.prefix, abandoned=True, sharding=sharding,
                     touched=max((entry.modified for entry in sharding.leases), default=0.0))


def _is_within_sharding(above: list[Above]) -> bool:
    """Whether the URL is the folder of the exposure set of an unfinished sharding: a part, and not to be taken out."""
    try:
        return bool(above) and above[0].tail == EXPOSURE and is_planned(above[0].store)
    except BadInput:  # not ours to see
        return False


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


def _abandoned(store: Store, found: Survey, shardings: list[Sharding], within: bool) -> Iterator[Orphan]:
    """Shards of ours in no data set and of no plan, with the leases of their writers. ``within``: those of the URL
    itself are of a plan above it."""
    planned = {entry.key for sharding in shardings for entry in sharding.entries}
    doubtful = {sharding.prefix for sharding in shardings if sharding.doubt}
    entries = list(found.others)
    for place in found.all():
        if place.kind == "data set":  # its exposure set is a data set of its own, or will never be
            entries += [entry for key, entry in place.own.items() if key.startswith(f"{EXPOSURE}/")
                        and SHARD.fullmatch(key.removeprefix(f"{EXPOSURE}/"))]
    tars = [entry for entry in entries if entry.key not in planned
            and (match := _SET.fullmatch(entry.key)) and SHARD.fullmatch(match["rest"])]
    sets: dict[str, list[Entry]] = {}
    for entry in _ours(store, tars):
        sets.setdefault(_SET.fullmatch(entry.key)["set"], []).append(entry)
    seen = {entry.key: entry for entry in found.entries()}
    for prefix in list(sets):  # exposure comes first: its data set may have no shard yet, and yet a writer
        if f"/{prefix}".endswith(f"/{EXPOSURE}/"):
            sets.setdefault(prefix.removesuffix(f"{EXPOSURE}/"), [])
    places = {place.prefix for place in found.all()} | {sharding.prefix for sharding in shardings}
    for prefix, tars in sets.items():
        if prefix in doubtful or prefix.removesuffix(f"{EXPOSURE}/") in doubtful:
            continue
        claim = re.compile(rf"{re.escape(prefix)}(?:{CLAIMS}\d{{6,}}\.json|{re.escape(LEASE)})")
        leases = [entry for key, entry in seen.items() if claim.fullmatch(key)] if prefix not in places else []
        newest = max((entry.modified for entry in tars + leases), default=0.0)
        kept = _PART if within and not prefix else None
        yield from _by_folder(tars, prefix, newest, abandoned=True, kept=kept)
        if leases:
            yield Orphan(SHARDS, f"{prefix}{LEASE}", "of its writer", leases, touched=newest, data_set=prefix,
                         abandoned=True, kept=kept)


def _ours(store: Store, tars: list[Entry]) -> list[Entry]:
    ours = in_parallel(lambda entry: is_shard(store, entry.key), tars)
    return [entry for entry, is_ours in zip(tars, ours, strict=True) if is_ours]


def _by_folder(tars: list[Entry], data_set: str, newest: float = 0.0, *, abandoned: bool = False,
               kept: str | None = None) -> Iterator[Orphan]:
    """``tars`` of one data set: one writer wrote them all, and is at another folder by now."""
    folders: dict[str, list[Entry]] = {}
    for entry in tars:
        folders.setdefault(entry.key.rpartition("/")[0] + "/", []).append(entry)
    newest = max([newest, *(entry.modified for entry in tars)])
    for folder, entries in folders.items():
        why = "an abandoned sharding" if abandoned else f"not in {MANIFEST}"
        why = f"{_counted(len(entries), 'shard')}, {why}"
        yield Orphan(SHARDS, folder, why, entries, touched=newest, data_set=data_set, abandoned=abandoned,
                     kept=kept)


def _counted(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"


# What never became an object

def _leftovers(store: Store, found: Survey, leftovers: Iterable[Leftover], runs: Runs, shards: list[Orphan]
               ) -> Iterator[Orphan]:
    abandoned = {orphan.data_set for orphan in shards if orphan.kept is None}
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
