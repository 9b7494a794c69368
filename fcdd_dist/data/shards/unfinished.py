"""What a sharding keeps beside the shards while it lasts, so that it can be killed anywhere and goes on:

    <data>/unfinished/plan.json          first: what is sharded, with which settings
    <data>/unfinished/spill/000012.bin   exposure samples on their way into shards
    <data>/unfinished/TASK.json          last of each task: its record. A task that has one is never done again.

It goes when the manifest stands, the plan last.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any, TypeVar

from pydantic import ValidationError

from ...errors import BadInput, Conflict, NotFound
from ...experiment import Value, newer_schema
from ...storage import Store
from ...threads import ahead
from ..manifest import LeftOut, Part, Split
from .plan import Plan

FOLDER = "unfinished/"
SPILLS = f"{FOLDER}spill/"
PLAN = f"{FOLDER}plan.json"
DIGESTS = f"{FOLDER}digests.bin"  # of the nominal images that are measured with
OURS = re.compile(rf"{FOLDER}(?:(?:nominal|spill|gather)-[a-z0-9_-]+\.json|spill/\d{{6,}}\.bin|digests\.bin)")
_AT_ONCE = 16  # small objects that are read or removed
_SHOWN = 5  # differences that a message names


class NominalRecord(Value):
    """Of a class: its shards."""

    inputs: str  # stands for all that the task depends on; a record of other inputs counts as none
    found: dict[str, int]  # images of each split of the source, with those that were left out
    left_out: tuple[LeftOut, ...]
    parts: dict[Split, Part]
    content: str
    digests: tuple[str, ...]  # of test and held-out images, in hex

    def written(self, task: Any) -> dict[str, int]:
        """What the task has written, beside this: bytes by key."""
        return _shards(self.parts)


class SpillRecord(Value):
    """Of a spill: where it is cut, by bucket."""

    inputs: str
    found: int
    left_out: tuple[LeftOut, ...]
    samples: tuple[int, ...]
    ends: tuple[int, ...]  # bytes of the spill up to the end of each bucket
    sums: tuple[int, ...]  # CRC-32 of each bucket's bytes

    def written(self, task: Any) -> dict[str, int]:
        return {spill_key(task.number): self.ends[-1]}


class GatherRecord(Value):
    """Of a bucket: its shards."""

    inputs: str
    samples: int
    parts: dict[Split, Part]
    content: str

    def written(self, task: Any) -> dict[str, int]:
        return _shards(self.parts)


def _shards(parts: dict[Split, Part]) -> dict[str, int]:
    return {shard.key: shard.bytes for part in parts.values() for shard in part.shards}


Record = NominalRecord | SpillRecord | GatherRecord
R = TypeVar("R", bound=Value)


def spill_key(number: int) -> str:
    return f"{SPILLS}{number:06}.bin"


def record_key(task: str) -> str:
    return f"{FOLDER}{task}.json"


def write_record(store: Store, task: str, record: Record) -> None:
    store.write(record_key(task), record.model_dump_json().encode())


def read_records(store: Store, kind: type[R], tasks: Iterable[str]) -> dict[str, R]:
    """The records of those of ``tasks`` that are done. One that can't be read counts as none: its task is done again.
    """

    def read(task: str) -> R | None:
        try:
            return kind.model_validate_json(store.read(record_key(task)))
        except (NotFound, ValidationError):
            return None

    there = {entry.key for entry in store.list(FOLDER)}
    done = [task for task in tasks if record_key(task) in there]
    records = zip(done, ahead(read, done, _AT_ONCE, "records"), strict=True)
    return {task: record for task, record in records if record is not None}


def standing_plan(store: Store) -> Plan | None:
    """The plan of a sharding that has not ended. Raises BadInput where it is damaged or of a newer version."""
    try:
        text = store.read(PLAN)
    except NotFound:
        return None
    if newer_schema(text, 1):
        raise BadInput(f"{store.url}/{PLAN} was written by a newer fcdd_dist: update this one")
    try:
        return Plan.model_validate_json(text)
    except ValidationError:
        raise BadInput(f"{store.url}/{PLAN} is damaged: delete {store.url}, and shard again") from None


def begin(store: Store, plan: Plan) -> Plan:
    """Puts ``plan`` down, or finds the one that is there: with its cuts the sharding goes on.

    Raises Conflict, with the differences, where another one was begun there. To be called by whoever holds the lease.
    """
    there = standing_plan(store)
    if there is None:
        if not store.create(PLAN, plan.to_json().encode()):
            raise Conflict(f"another process has begun to write {store.url}: shard again, one at a time")
        return plan
    if there.settings != plan.settings:
        shown = [f"{name}: {old} -> {new}" for name, old, new in different(there.settings, plan.settings)]
        raise Conflict(f"{store.url} holds the beginning of another sharding ({listed(shown)}): give the same command "
                       f"as then, choose another place, or delete it")
    return there


def different(theirs: dict[str, Any], ours: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Name, their value and ours, for a person, of each setting in which they differ."""
    return [(".".join(path), _short(old), _short(new)) for path, old, new in _differing(theirs, ours, ())]


def listed(differences: list[str]) -> str:
    more = f" and {len(differences) - _SHOWN} more" if len(differences) > _SHOWN else ""
    return "; ".join(differences[:_SHOWN]) + more


def tidy(store: Store) -> None:
    """Removes what shardings have kept there, the plan last: until then it can be tidied up again."""
    delete(store, [entry.key for entry in store.list(FOLDER) if OURS.fullmatch(entry.key)])
    store.delete(PLAN)


def delete(store: Store, keys: Iterable[str]) -> None:
    list(ahead(store.delete, keys, _AT_ONCE, "delete"))


def _differing(old: object, new: object, path: tuple[str, ...]) -> Iterable[tuple[tuple[str, ...], object, object]]:
    if isinstance(old, dict) and isinstance(new, dict):
        for name in dict.fromkeys((*old, *new)):
            yield from _differing(old.get(name), new.get(name), (*path, name))
    elif old != new:
        yield path, old, new


def _short(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 or isinstance(value, str) else f"{text[:57]}..."  # paths differ at their ends
