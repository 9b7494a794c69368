"""Finds what killed shardings have left behind: all of an unfinished one, and shards that no manifest names."""

from __future__ import annotations

import re
from collections.abc import Iterator

from ..data.manifest import EXPOSURE, MANIFEST, load_manifest
from ..data.shards.claim import SHARD, is_shard
from ..data.shards.unfinished import FOLDER
from ..errors import BadInput, NotFound
from ..storage import Entry, Store
from ..storage.lease import CLAIMS, LEASE
from .facts import in_parallel
from .orphan import LEFTOVERS, SHARDINGS, SHARDS, Orphan
from .standing import UNJUDGED, Above, at
from .survey import Survey
from .unfinished import UNFINISHED, Sharding, find_shardings, is_planned

OF_SET = re.compile(rf"(?P<set>|.*/)(?P<rest>{SHARD.pattern}|{re.escape(MANIFEST)}|{UNFINISHED.pattern})")
_PART = "a part of the unfinished sharding in the folder above"


def find_lost_shards(store: Store, found: Survey, above: list[Above]) -> Iterator[Orphan]:
    shardings = find_shardings(store, found)
    yield from _shardings(store, shardings)
    yield from _unnamed(store, found)
    yield from _abandoned(store, found, shardings, _is_within_sharding(above))


def named_shards(store: Store) -> set[str] | None:
    """The keys of the shards of the data set in ``store``; None where there is none. Raises BadInput."""
    try:
        manifest = load_manifest(store)
    except NotFound:
        return None
    return {shard.key for parts in manifest.splits.values() for part in parts.values() for shard in part.shards}


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
            and (match := OF_SET.fullmatch(entry.key)) and SHARD.fullmatch(match["rest"])]
    sets: dict[str, list[Entry]] = {}
    for entry in _ours(store, tars):
        sets.setdefault(OF_SET.fullmatch(entry.key)["set"], []).append(entry)
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
