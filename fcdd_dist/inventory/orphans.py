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
from functools import cache

from .. import checkpoint
from ..checkpoint import DETECTOR, OPTIMIZER, RECORD
from ..data.manifest import EXPOSURE
from ..errors import BadInput, Damaged, NotFound
from ..storage import Leftover, Store
from .facts import UNREADABLE, in_parallel, incomplete
from .lost_shards import OF_SET, find_lost_shards, named_shards
from .marker import MARKER, PART
from .orphan import CHECKPOINTS, LEFTOVERS, NOTES, Orphan
from .standing import UNJUDGED, Above, Runs, at
from .survey import BOARD, Place, Survey

_NOTE = re.compile(rf"{BOARD}[a-z0-9-]+\.json")
_TEMPORARY = re.compile(r"\.part-[a-z0-9_]{8}|" + re.escape(PART) + r"[0-9a-f]{16}|" + re.escape(MARKER))
_PROBE = re.compile(r"\.probe-(?:[0-9a-f]{8}){1,2}")


def find_orphans(store: Store, found: Survey, leftovers: Iterable[Leftover], above: list[Above]) -> list[Orphan]:
    runs = Runs(store, found, above)
    shards = list(find_lost_shards(store, found, above))
    return [*_checkpoints(store, found, runs), *shards, *_leftovers(store, found, leftovers, runs, shards),
            *_notes(store, found, runs)]


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
        elif (match := OF_SET.fullmatch(leftover.key)) and of_data_set(match["set"]):
            yield Orphan(LEFTOVERS, leftover.key, "an unfinished upload", leftover=leftover)
