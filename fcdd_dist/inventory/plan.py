"""What is to be pulled: which objects, what vouches for each, and in what order they make something whole."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from .. import checkpoint
from ..data.manifest import Manifest, load_manifest
from ..errors import BadInput, Conflict, Damaged, FcddError, NotFound
from ..run.job import RESULT
from ..storage import FolderStore, MemoryStore, Store, absolute, open_store
from ..sweep.table import CSV, MARKDOWN, TABLE
from .facts import UNREADABLE, in_parallel, incomplete, missing_shards, read_json
from .survey import Place, Survey, survey
from .unfinished import GOES_ON, Sharding, find_shardings
from .unit import File, Unit

Which = Literal["all", "last", "best"]
_TOLD = {"run": [RESULT], "sweep": [MARKDOWN, CSV, TABLE]}  # what tells of the rest, and comes after it
_SWEEP_IS = ("experiment", "protocol", "search", "data_id", "exposure_id")  # classes and seeds may become more


@dataclass
class Source:
    """What a URL means: a listing, and where it was taken. ``fixed``: a checkpoint that is named, not RUN/last."""

    url: str
    store: Store
    found: Survey
    fixed: bool = True
    begun: list[Sharding] = field(default_factory=list)  # that are not finished

    @property
    def kind(self) -> str:
        if self.found.root:
            return self.found.root.kind
        kinds = {place.kind for place in self.found.places}
        return f"{kinds.pop()}s" if len(kinds) == 1 else "runs and data sets"


@dataclass
class Plan:
    """``left_out``: what is not pulled, and why. ``damaged``: what should have been, and can't be."""

    units: list[Unit] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    damaged: list[str] = field(default_factory=list)


def find(url: str) -> Source:
    """Lists what ``url`` means. Raises NotFound where there is nothing to be pulled."""
    store = open_store(url)
    found = survey(store.list())
    begun = [sharding for sharding in find_shardings(store, found) if not sharding.finished]
    whole = any(place.has_record for place in found.all())
    for sharding in begun:
        if not sharding.prefix or not whole:
            raise NotFound(_told(store, sharding))
    if whole:
        return Source(url, store, found, begun=begun)
    parent, _, which = absolute(url).rpartition("/")
    if which in ("last", "best") and checkpoint.names(open_store(parent)):
        store = checkpoint.of_run(open_store(parent), which)
        return Source(url, store, survey(store.list()), fixed=False)
    there = len(found.others) + len(found.hidden) + sum(len(place.entries) for place in found.all())
    raise NotFound(f"{url} is no run, sweep, checkpoint or data set and holds none"
                   + (f", though there are {there:,} other objects" if there else "")
                   + ": give one of these, RUN/best or RUN/last; `fcdd-dist ls` shows what there is")


def make_plan(source: Source, folder: Path, which: Which) -> Plan:
    """Reads the records of all that is to be pulled, and checks them.

    ``which`` checkpoints of runs. Raises Damaged where the one thing that is asked for does not verify, and Conflict
    where something else stands in its place in ``folder``.
    """
    plan, store = Plan(), source.store
    for key in source.found.odd:
        if any(key.startswith(place.prefix) for place in source.found.places):
            raise Damaged(f"{store.url} lists an object {key!r}, whose name is no path below it: nothing is pulled; "
                          f"remove or rename it")
    unwanted = {place for run in source.found.all() if run.kind == "run" for place in _unwanted(run, store, which)}
    places = [place for place in source.found.all() if place not in unwanted]
    units: dict[Place, Unit] = {}
    for place, unit in zip(places, in_parallel(lambda place: _unit(place, source, folder), places), strict=True):
        if isinstance(unit, Unit):
            units[place] = unit
            continue
        name = f"{store.url}/{place.name}".rstrip("/")
        if place is source.found.root:
            raise unit if isinstance(unit, FcddError) else NotFound(f"{name}: {unit}")
        (plan.damaged if isinstance(unit, FcddError) else plan.left_out).append(
            str(unit) if isinstance(unit, FcddError) else f"{name}: {unit}")
    for place, unit in units.items():
        unit.outer = next((units[outer] for outer in _above(place) if outer in units), None)
    plan.units = sorted(units.values(), key=lambda unit: -len(unit.folder.parts))  # what is within comes first
    if source.found.root is None:
        plan.left_out += [_told(store, sharding) for sharding in source.begun]
        known = {entry.key for sharding in source.begun for entry in [*sharding.entries, *sharding.leases]}
        if others := [entry.key for entry in source.found.others if entry.key not in known]:
            plan.left_out.append(f"{len(others):,} objects that belong to none of them, such as {others[0]!r}")
    return plan


def identity(kind: str, record: bytes, *, fixed: bool = True) -> str | None:
    """By which a copy is known to be of the same thing; None where the record does not tell. Raises ValueError."""
    tree = json.loads(record)
    if kind == "data set":
        return f"data set {Manifest.model_validate_json(record).id}"
    if kind == "sweep":
        parts = {name: tree.get(name) for name in _SWEEP_IS}
        parts["experiment"] = {**(parts["experiment"] or {}), "epochs": None}  # which may become more, too
        return f"sweep {hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]}"
    told = tree.get("fingerprint") if isinstance(tree, dict) else None
    if kind == "checkpoint" and fixed:
        told = f"{told} {tree['cursor']['epoch']} {tree['cursor']['step']}"
    return told and f"{kind} {told}"


def _told(store: Store, sharding: Sharding) -> str:
    there = f"{store.url}/{sharding.prefix}".rstrip("/")
    return f"{there} is a data set that is not whole ({sharding.state}): {GOES_ON}; pull it then"


def _unwanted(run: Place, store: Store, which: Which) -> list[Place]:
    """The checkpoints of a run that are not asked for."""
    whole = [place.base for place in run.checkpoints if place.has_record]
    if which == "all" or not whole:
        return []
    name = (checkpoint.best(run.at(store)) if which == "best" else None) or whole[-1]
    return [place for place in run.checkpoints if place.base != name]


def _above(place: Place) -> list[Place]:
    found = []
    while place.outer is not None:
        place = place.outer
        found.append(place)
    return found


def _unit(place: Place, source: Source, root: Path) -> Unit | FcddError | str:
    """The unit of a place; an error where it does not verify, or why it is left out."""
    store, folder = place.at(source.store), root / place.name
    if not place.has_record:
        return f"it has no {place.record}: it is being written, or was never finished"
    try:
        record = store.read(place.record)
        sums = _vouched(place, store.url, record)
        named = identity(place.kind, record, fixed=source.fixed)
    except NotFound:
        return "it went while it was listed"
    except (Damaged, BadInput) as error:
        return Damaged(str(error))
    except UNREADABLE as error:
        return Damaged(f"{store.url}/{place.record} is damaged: {error}")
    _refuse_other(place, folder, named, source)
    records = [(place.record, record)]
    unit = Unit(store.url, folder, records)
    try:
        records[:0] = [(name, store.read(name)) for name in _TOLD.get(place.kind, ()) if name in place.own]
    except NotFound:
        return "it changed while it was listed"
    if place.kind == "run" and len(records) > 1:
        unit.confirm = lambda: _still(store, *records[0])  # a table that tells less than is there by now is true
    for key, entry in place.own.items():
        if key not in dict(records) and (sums is None or key in sums):
            unit.files.append(File(entry, sums[key] if sums else None, folder / key, unit))
    return unit


def _vouched(place: Place, url: str, record: bytes) -> dict[str, str] | None:
    """The sha256 of each file that the place's record names, by key; None for a kind whose record names none."""
    store = MemoryStore(url)  # of these very bytes: read again it may be another, and vouch for other files
    store.write(place.record, record)
    if place.kind == "checkpoint":
        read = checkpoint.read_record(store)
        if reason := incomplete(place, read):
            raise Damaged(f"{store.url}: {reason}")
        return {file: expected.sha256 for file, expected in read.files.items()}
    if place.kind == "data set":
        manifest = load_manifest(store)
        if reason := missing_shards(place, manifest):
            raise Damaged(f"{store.url}: {reason}")
        return {shard.key: shard.sha256 for parts in manifest.splits.values() for part in parts.values()
                for shard in part.shards}
    read_json(store, place.record)
    return None


def _refuse_other(place: Place, folder: Path, named: str | None, source: Source) -> None:
    """Raises Conflict where a record of something else is in ``folder``."""
    try:
        there = FolderStore(folder).read(place.record)
    except NotFound:
        return
    if place.outer is not None and place.kind != "run":  # whose it is is told by what it is in
        return
    try:
        same = identity(place.kind, there, fixed=source.fixed)
    except UNREADABLE:
        raise Conflict(f"{folder}/{place.record} is damaged: delete it, or give another folder") from None
    if same != named:
        raise Conflict(f"{folder} holds another {place.kind} than {source.url}: give another folder")


def _still(store: Store, key: str, data: bytes) -> bool:
    try:
        return store.read(key) == data
    except NotFound:
        return False
