"""What a listing shows: which places there are below a prefix, and what belongs to each. Nothing is read here.

A *place* is a prefix that is made by a record: a run, a sweep, a data set (an exposure set is one, too) or a
checkpoint. Folders in ``RUN/checkpoints/`` are places also where they have no record (yet). A key belongs to the
innermost place that it is in.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Literal

from ..checkpoint import FOLDER, RECORD, position
from ..data.manifest import EXPOSURE, MANIFEST
from ..run.job import EXPERIMENT, STOP
from ..storage import Entry, Store
from ..storage.lease import CLAIMS, LEASE
from ..storage.stores import check_key
from ..sweep.value import SWEEP, TRIALS

Kind = Literal["sweep", "run", "data set", "checkpoint", "unfinished sharding"]  # the last is found by its plan alone
KINDS: dict[str, Kind] = {SWEEP: "sweep", EXPERIMENT: "run", MANIFEST: "data set", RECORD: "checkpoint"}
RECORDS = {kind: name for name, kind in KINDS.items()}
BOARD = "board/"


@dataclass(eq=False)
class Place:
    """``own``: its objects by key relative to the place, without those of places within (``inner``), without what is
    hidden, and without ``live``: what belongs to a driver at work (lease, board, request to stop)."""

    kind: Kind
    prefix: str  # relative to where was looked; "" for that itself, else it ends with a slash
    own: dict[str, Entry] = field(default_factory=dict)
    live: dict[str, Entry] = field(default_factory=dict)
    inner: list[Place] = field(default_factory=list)
    outer: Place | None = field(default=None, repr=False)

    @property
    def name(self) -> str:
        return self.prefix.rstrip("/")

    @property
    def base(self) -> str:
        """The last part of its name."""
        return self.name.rpartition("/")[2]

    @property
    def record(self) -> str:
        """The name of the record that makes it what it is."""
        return RECORDS[self.kind]

    @property
    def has_record(self) -> bool:
        return self.record in self.own

    def walk(self) -> Iterator[Place]:
        """Itself and all places within."""
        yield self
        for place in self.inner:
            yield from place.walk()

    @property
    def checkpoints(self) -> list[Place]:
        """Those of a run, oldest first."""
        found = [place for place in self.inner if place.kind == "checkpoint" and position(place.base)]
        return sorted(found, key=lambda place: position(place.base))

    @property
    def entries(self) -> list[Entry]:
        """All objects of the place and of those within."""
        return [entry for place in self.walk() for entry in place.own.values()]

    def at(self, store: Store) -> Store:
        """The store of the place, ``store`` being the one where was looked."""
        return store.at(self.name) if self.prefix else store


@dataclass
class Survey:
    """``places``: the outermost ones. ``others``: objects that belong to none; ``hidden``: names with a dot first;
    ``odd``: keys that are no paths, which a store may hold and a folder can't."""

    places: list[Place]
    others: list[Entry]
    hidden: list[Entry]
    odd: list[str]

    def all(self) -> Iterator[Place]:
        for place in self.places:
            yield from place.walk()

    def entries(self) -> Iterator[Entry]:
        """All objects but the hidden ones, in no order."""
        yield from self.others
        for place in self.all():
            yield from place.own.values()
            yield from place.live.values()

    @property
    def root(self) -> Place | None:
        """The place that is the prefix itself, where it is one."""
        return next((place for place in self.places if not place.prefix), None)


def survey(entries: Iterable[Entry]) -> Survey:
    """Sorts a listing."""
    seen, hidden, odd = [], [], []
    for entry in entries:
        if entry.key.endswith("/") and not entry.size:  # an empty "folder", as consoles of stores make them
            continue
        try:
            check_key(entry.key)
        except ValueError:
            odd.append(entry.key)
            continue
        (hidden if any(part.startswith(".") for part in entry.key.split("/")) else seen).append(entry)
    places = _places(seen)
    found = Survey([], [], hidden, odd)
    for prefix in sorted(places):
        outer = _innermost(places, prefix.rstrip("/")) if prefix else None
        if outer and outer.kind == "data set" and prefix != f"{outer.prefix}{EXPOSURE}/":
            outer = None  # it lies below, and is no part: a data set has none but its exposure set
        places[prefix].outer = outer
        (outer.inner if outer else found.places).append(places[prefix])
    for entry in seen:
        place = _innermost(places, entry.key)
        if place is None:
            found.others.append(entry)
        else:
            key = entry.key.removeprefix(place.prefix)
            (place.live if is_live(place.kind, key) else place.own)[key] = entry
    return found


def is_live(kind: Kind, key: str) -> bool:
    """Whether a key of a place is of a driver or writer at work, and no part of what was computed."""
    if kind == "checkpoint":
        return False
    if kind == "sweep" and key.startswith(f"{TRIALS}/"):  # of a trial that is no run yet
        key = key.split("/", 2)[-1]
    return key.startswith(CLAIMS) or key == LEASE or (kind != "data set" and (key == STOP or key.startswith(BOARD)))


def _places(entries: list[Entry]) -> dict[str, Place]:
    kinds: dict[str, Kind] = {}
    order = list(KINDS.values())
    for entry in entries:
        folder, _, name = entry.key.rpartition("/")
        prefix = f"{folder}/" if folder else ""
        if name in KINDS and (prefix not in kinds or order.index(KINDS[name]) < order.index(kinds[prefix])):
            kinds[prefix] = KINDS[name]
    for entry in entries:  # what has no record, or not yet
        *above, folder, name = ["", "", *entry.key.split("/")]
        if position(folder) and above[-1] in (FOLDER, ""):  # "": looked at the folder of checkpoints itself
            kinds.setdefault(entry.key.removesuffix(name), "checkpoint")
    return {prefix: Place(kind, prefix) for prefix, kind in kinds.items()}


def _innermost(places: dict[str, Place], key: str) -> Place | None:
    """The innermost place above ``key``."""
    folder = key
    while folder:
        folder = folder.rpartition("/")[0]
        if (place := places.get(f"{folder}/" if folder else "")) is not None:
            return place
    return None
