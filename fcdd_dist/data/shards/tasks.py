"""The work of a sharding: each task is a pure function of the plan and the sources, and writes its record last.

It may be done anywhere, in any order within its round, and again after a kill: it writes the same bytes.
"""

from __future__ import annotations

import hashlib
import io
import socket
import zlib
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache, partial
from itertools import islice

import numpy as np

from ...errors import BadInput, Conflict, Damaged
from ...experiment import Value, identity
from ...storage import Store, exists
from ...threads import ahead
from ..manifest import EXPOSURE, Part, Split
from ..sources import TRAIN_AND_TEST, Source, open_exposure, open_source
from .plan import Plan, gather_task, nominal_task, spill_task
from .read import FETCHERS
from .spool import DIGEST, Spool, cut, nominal_target, set_aside
from .unfinished import (
    DIGESTS,
    PLAN,
    GatherRecord,
    NominalRecord,
    Record,
    SpillRecord,
    spill_key,
    write_record,
)
from .uploads import Uploads
from .writing import Allowance, Writing, versions

Slice = tuple[int, int, int, int]  # of a spill, what is of a bucket: its number, from, to, CRC-32
_AHEAD_BYTES = 64 << 20  # of slices that are read before they are needed


class NotBegun(BadInput):
    """A runner can't begin: no task was given to anybody."""


class Session(Value):
    """What a call of ``shard`` tells its tasks, and nothing that they write depends on."""

    token: str  # another one each time: sources are opened anew, since files may have changed
    download: bool = False


class NominalTask(Value):
    """The shards of a class."""

    class_id: str
    about: tuple[int, ...]  # images that its splits have, more or less
    allowances: tuple[Allowance, ...]  # by split of the source
    session: Session

    @property
    def name(self) -> str:
        return nominal_task(self.class_id)

    def inputs(self, plan: Plan) -> str:
        return identity([plan.id, self.class_id, self.about])


class SpillTask(Value):
    """Some classes of exposure images into a spill."""

    number: int
    about: tuple[int, ...]  # images that its classes have, more or less
    digests: str | None  # SHA-256 of the file of digests that are avoided; None where there are none
    allowance: Allowance
    session: Session

    @property
    def name(self) -> str:
        return spill_task(self.number)

    def inputs(self, plan: Plan) -> str:
        exposure = plan.exposure
        return identity([plan.id, exposure.buckets, exposure.spills[self.number], self.about, self.digests])


class GatherTask(Value):
    """The shards of a bucket of exposure samples."""

    bucket: int
    first: int  # samples in the buckets before it
    hold: int  # how many are held out
    slices: tuple[Slice, ...]

    @property
    def name(self) -> str:
        return gather_task(self.bucket)

    def inputs(self, plan: Plan) -> str:
        return identity([plan.id, plan.exposure.buckets, self.model_dump(mode="json")])


Task = NominalTask | SpillTask | GatherTask
# Does tasks of one round and gives the record of each, in any order; None now and then, where that takes long.
Runner = Callable[[Plan, Iterable[Task], Store], Iterable[tuple[Task, Record] | None]]


def one_after_another(plan: Plan, tasks: Iterable[Task], out: Store) -> Iterator[tuple[Task, Record]]:
    """The plain runner: in this process."""
    for task in tasks:
        yield task, perform(plan, task, out)


def perform(plan: Plan, task: Task, out: Store) -> Record:
    """Does ``task`` and writes its record into ``out``.

    Raises BadInput where too many images can't be used or this machine would write other bytes, and Conflict where
    somebody else's shard is in the way, or the sharding has ended without this task.
    """
    if differing := [f"{name} {versions().get(name)} and not {wanted}" for name, wanted in plan.versions.items()
                     if versions().get(name) != wanted]:
        raise BadInput(f"{socket.gethostname()} has {', '.join(differing)}: make all machines alike")
    _refuse_ended(out)
    if isinstance(task, NominalTask):
        record = _nominal(plan, task, out)
    elif isinstance(task, SpillTask):
        record = _spill(plan, task, out)
    else:
        record = _gather(plan, task, out)
    _refuse_ended(out)
    write_record(out, task.name, record)
    return record


def _refuse_ended(out: Store) -> None:
    """One that was held up for long must not leave anything behind the others' backs."""
    if not exists(out, PLAN):
        raise Conflict(f"the sharding into {out.url} has ended without this process")


@lru_cache(maxsize=1)
def nominal_source(path: str | None, recipe: str, session: Session) -> Source:
    """Opened once a process and sharding: to do so may mean to read thousands of headers."""
    return open_source(path, recipe, download=session.download)


@lru_cache(maxsize=1)
def exposure_source(path: str | None, recipe: str, session: Session) -> Source:
    return open_exposure(path, recipe, download=session.download)


def _nominal(plan: Plan, task: NominalTask, out: Store) -> NominalRecord:
    source, class_id = nominal_source(plan.nominal.source, plan.recipe, task.session), task.class_id
    writing, found = Writing(plan.form), {}
    parts: dict[Split, Part] = {}
    digests: list[str] = []
    with Uploads(out) as uploads:
        for split, allowance in zip(TRAIN_AND_TEST, task.allowances, strict=True):
            with Spool() as spool:
                found[split] = writing.fill(spool, source.items(split, class_id), class_id, allowance)
                if split == "train" and found[split] and not len(spool):
                    raise BadInput(f"{source.where}: class {class_id!r} has no train image that can be used")
                held = set_aside(spool, nominal_target(len(spool)) if split == "train" else 0)
                for name, where in ((split, ~held), ("holdout", held)):
                    numbers = np.flatnonzero(where)
                    part = writing.part(uploads, spool, numbers, name, class_id, np.arange(len(spool)))
                    if part is not None:
                        parts[name] = part
                    if name != "train":
                        digests += [spool.record(number)[:DIGEST].hex() for number in numbers.tolist()]
    return NominalRecord(inputs=task.inputs(plan), found=found, left_out=tuple(writing.left_out), parts=parts,
                         content=writing.content, digests=tuple(digests))


def _spill(plan: Plan, task: SpillTask, out: Store) -> SpillRecord:
    """Samples in the order of their hashes, and of their sources where these are equal."""
    exposure = plan.exposure
    source = exposure_source(exposure.source, plan.recipe, task.session)
    writing, found = Writing(plan.form, _digests(out.url, task.digests, out)), 0
    with Spool() as spool:
        for class_id, part, parts in exposure.spills[task.number]:
            items = islice(source.items(exposure.split, class_id), part, None, parts)
            found += writing.fill(spool, items, class_id, task.allowance)
        order, _ = spool.by_digest()
        places = np.searchsorted(_bucket_of(spool.digests[order, 0], exposure.buckets), np.arange(exposure.buckets),
                                 side="right")
        file, ends, sums, begin = io.BytesIO(), [], [], 0
        for end in places.tolist():
            crc = 0
            for number in order[begin:end].tolist():
                record = spool.record(number)
                file.write(record)
                crc = zlib.crc32(record, crc)
            ends.append(file.tell())
            sums.append(crc)
            begin = end
    _refuse_ended(out)
    out.write(spill_key(task.number), file.getvalue())
    return SpillRecord(inputs=task.inputs(plan), found=found, left_out=tuple(writing.left_out), ends=tuple(ends),
                       sums=tuple(sums), samples=tuple(np.diff(places, prepend=0).tolist()))


def _gather(plan: Plan, task: GatherTask, out: Store) -> GatherRecord:
    writing, several = Writing(plan.form), plan.exposure.buckets > 1
    parts: dict[Split, Part] = {}
    beside = out.at(EXPOSURE) if plan.nominal else out
    with Spool() as spool, Uploads(beside) as uploads:
        largest = max((end - start for _, start, end, _ in task.slices), default=1)
        at_once = max(1, min(FETCHERS, _AHEAD_BYTES // largest))
        for data in ahead(partial(_read, out), task.slices, at_once, "fetch"):
            for record in cut(data):
                spool.add_record(record)
        order, _ = spool.by_digest()
        numbers = np.empty(len(order), int)
        numbers[order] = task.first + np.arange(len(order))
        held = set_aside(spool, task.hold)
        for name, where in (("train", ~held), ("holdout", held)):
            part = writing.part(uploads, spool, order[where[order]], name, EXPOSURE, numbers,
                                task.bucket if several else None)
            if part is not None:
                parts[name] = part
        return GatherRecord(inputs=task.inputs(plan), samples=len(spool), parts=parts, content=writing.content)


def _read(out: Store, piece: Slice) -> bytes:
    spill, start, end, crc = piece
    key = spill_key(spill)
    for _ in range(2):  # a read may fail
        data = out.read(key, start, end)
        if len(data) == end - start and zlib.crc32(data) == crc:
            return data
    raise Damaged(f"{out.url}/{key} has other bytes than were written: delete it and shard again; only this part is "
                  f"done anew")


def _bucket_of(words: np.ndarray, buckets: int) -> np.ndarray:
    """The bucket of each digest by its first 64 bits: equal ranges of hashes, in order."""
    return ((words.astype(np.uint64) >> np.uint64(32)) * np.uint64(buckets)) >> np.uint64(32)


_avoided: dict[tuple[str, str], frozenset[bytes]] = {}


def _digests(url: str, sha256: str | None, out: Store) -> frozenset[bytes]:
    """Of the nominal images that are measured with; read once a process. Raises Damaged where they are others."""
    if sha256 is None:
        return frozenset()
    if (url, sha256) not in _avoided:
        data = out.read(DIGESTS)
        if hashlib.sha256(data).hexdigest() != sha256:
            raise Damaged(f"{url}/{DIGESTS} has other bytes than were written: shard again")
        _avoided.clear()
        _avoided[url, sha256] = frozenset(data[place: place + DIGEST] for place in range(0, len(data), DIGEST))
    return _avoided[url, sha256]
