"""What a sharding keeps beside the shards while it lasts, so that it can be killed anywhere and goes on:

    <data>/unfinished/plan.json          first: what is sharded, with which settings
    <data>/unfinished/spill/000012.bin   exposure samples on their way into shards
    <data>/unfinished/TASK.json          last of each task: its record. A task that has one is never done again.

It goes when the manifest stands, the plan last.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import TypeVar

from pydantic import ValidationError

from ...errors import BadInput, Conflict, NotFound
from ...experiment import Value, newer_schema
from ...storage import Store
from ...threads import ahead
from ..manifest import LeftOut, Part, Split
from .plan import Plan

FOLDER = "unfinished/"
PLAN = f"{FOLDER}plan.json"
DIGESTS = f"{FOLDER}digests.bin"  # of the nominal images that are measured with
_AT_ONCE = 16  # small objects that are read or removed
_SHOWN = 5  # differences that a message names


class NominalRecord(Value):
    """Of a class: its shards."""

    found: dict[str, int]  # images of each split of the source, with those that were left out
    left_out: tuple[LeftOut, ...]
    parts: dict[Split, Part]
    content: str
    digests: tuple[str, ...]  # of test and held-out images, in hex


class SpillRecord(Value):
    """Of a spill: where it is cut, by bucket."""

    found: int
    left_out: tuple[LeftOut, ...]
    samples: tuple[int, ...]
    ends: tuple[int, ...]  # bytes of the spill up to the end of each bucket
    sums: tuple[int, ...]  # CRC-32 of each bucket's bytes


class GatherRecord(Value):
    """Of a bucket: its shards."""

    samples: int
    parts: dict[Split, Part]
    content: str


Record = NominalRecord | SpillRecord | GatherRecord
R = TypeVar("R", bound=Value)


def spill_key(number: int) -> str:
    return f"{FOLDER}spill/{number:06}.bin"


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


def begin(store: Store, plan: Plan) -> bool:
    """Puts ``plan`` down; whether it was there already, so that this sharding goes on.

    Raises Conflict, with the differences, where another one was begun there. To be called by whoever holds the lease.
    """
    there = standing_plan(store)
    if there is None:
        if not store.create(PLAN, plan.to_json().encode()):
            raise Conflict(f"another process has begun to write {store.url}: shard again, one at a time")
        return False
    if there != plan:
        shown = differences(there, plan)
        more = f" and {len(shown) - _SHOWN} more" if len(shown) > _SHOWN else ""
        raise Conflict(f"{store.url} holds the beginning of another sharding ({'; '.join(shown[:_SHOWN])}{more}): give "
                       f"the same command as then, choose another place, or delete it")
    return True


def differences(theirs: Plan, ours: Plan) -> list[str]:
    """``what: theirs -> ours`` for each setting in which they differ."""
    found = []
    for path, old, new in _differing(json.loads(theirs.to_json()), json.loads(ours.to_json()), ()):
        if path[0] != "tasks":  # which follow from all else
            found.append(f"{'.'.join(path)}: {_short(old)} -> {_short(new)}")
    return found or ["tasks"]


def tidy(store: Store, plan: Plan) -> None:
    """Removes what a sharding has kept there, the plan last: until then it can be tidied up again."""
    ours = {DIGESTS, *map(record_key, plan.tasks)}
    if plan.exposure:
        ours |= set(map(spill_key, range(len(plan.exposure.spills))))
    left = [entry.key for entry in store.list(FOLDER) if entry.key in ours]
    list(ahead(store.delete, left, _AT_ONCE, "delete"))
    store.delete(PLAN)


def _differing(old: object, new: object, path: tuple[str, ...]) -> Iterable[tuple[tuple[str, ...], object, object]]:
    if isinstance(old, dict) and isinstance(new, dict):
        for name in dict.fromkeys((*old, *new)):
            yield from _differing(old.get(name), new.get(name), (*path, name))
    elif old != new:
        yield path, old, new


def _short(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
