"""The work of a sharding: each task is a pure function of the plan and the sources, and writes its record last.

It may be done anywhere, in any order within its round, and again after a kill: it writes the same bytes.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache, partial

import numpy as np

from ...errors import BadInput, Damaged, NotFound
from ...experiment import Value
from ...storage import Store
from ...threads import ahead
from ..manifest import EXPOSURE, Part, Split
from ..sources import TRAIN_AND_TEST, Source, open_exposure, open_source
from .plan import Plan, gather_task, nominal_task, spill_task
from .read import FETCHERS
from .spool import DIGEST, Spool, cut, nominal_target, set_aside
from .unfinished import (
    DIGESTS,
    GatherRecord,
    NominalRecord,
    Record,
    SpillRecord,
    record_key,
    spill_key,
    write_record,
)
from .uploads import Uploads
from .writing import Allowance, Writing

_AHEAD_BYTES = 64 << 20  # of slices that are read before they are needed


class NominalTask(Value):
    """The shards of a class."""

    class_id: str
    allowances: tuple[Allowance, ...]  # by split of the source
    download: bool = False

    @property
    def name(self) -> str:
        return nominal_task(self.class_id)


class SpillTask(Value):
    """Some classes of exposure images into a spill."""

    number: int
    allowance: Allowance
    download: bool = False

    @property
    def name(self) -> str:
        return spill_task(self.number)


class Slice(Value):
    """What a spill has of a bucket."""

    spill: int
    start: int
    end: int
    sum: int  # CRC-32


class GatherTask(Value):
    """The shards of a bucket of exposure samples."""

    bucket: int
    first: int  # samples in the buckets before it
    hold: int  # how many are held out
    slices: tuple[Slice, ...]

    @property
    def name(self) -> str:
        return gather_task(self.bucket)


Task = NominalTask | SpillTask | GatherTask
# Does tasks of one round and gives the record of each, in any order.
Runner = Callable[[Plan, Sequence[Task], Store], Iterable[tuple[Task, Record]]]


def one_after_another(plan: Plan, tasks: Sequence[Task], out: Store) -> Iterator[tuple[Task, Record]]:
    """The plain runner: in this process."""
    for task in tasks:
        yield task, perform(plan, task, out)


def perform(plan: Plan, task: Task, out: Store) -> Record:
    """Does ``task`` and writes its record into ``out``.

    Raises BadInput where too many images can't be used, and Conflict where somebody else's shard is in the way.
    """
    if isinstance(task, NominalTask):
        record = _nominal(plan, task, out)
    elif isinstance(task, SpillTask):
        record = _spill(plan, task, out)
    else:
        record = _gather(plan, task, out)
    write_record(out, task.name, record)
    return record


@lru_cache(maxsize=1)
def nominal_source(path: str | None, recipe: str, download: bool) -> Source:
    """Opened once a process: to do so may mean to read thousands of headers."""
    return open_source(path, recipe, download=download)


@lru_cache(maxsize=1)
def exposure_source(path: str | None, recipe: str, download: bool) -> Source:
    return open_exposure(path, recipe, download=download)


def forget_sources() -> None:
    """They are opened anew: files may have changed."""
    nominal_source.cache_clear()
    exposure_source.cache_clear()
    _digests.cache_clear()


def _nominal(plan: Plan, task: NominalTask, out: Store) -> NominalRecord:
    source, class_id = nominal_source(plan.nominal.source, plan.recipe, task.download), task.class_id
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
    return NominalRecord(found=found, left_out=tuple(writing.left_out), parts=parts, content=writing.content,
                         digests=tuple(digests))


def _spill(plan: Plan, task: SpillTask, out: Store) -> SpillRecord:
    """Samples in the order of their hashes, and of their sources where these are equal."""
    exposure = plan.exposure
    source = exposure_source(exposure.source, plan.recipe, task.download)
    writing, found = Writing(plan.form, _digests(out.url, out) if plan.nominal else frozenset()), 0
    with Spool() as spool:
        for class_id in exposure.spills[task.number]:
            found += writing.fill(spool, source.items(exposure.split, class_id), class_id, task.allowance)
        order, _ = spool.by_digest()
        ends_of = np.searchsorted(_bucket_of(spool.digests[order, 0], exposure.buckets), np.arange(exposure.buckets),
                                  side="right")
        data, ends, sums, begin = bytearray(), [], [], 0
        for end in ends_of.tolist():
            first = len(data)
            for number in order[begin:end].tolist():
                data += spool.record(number)
            ends.append(len(data))
            sums.append(zlib.crc32(memoryview(data)[first:]))
            begin = end
    out.write(spill_key(task.number), bytes(data))
    return SpillRecord(found=found, left_out=tuple(writing.left_out), ends=tuple(ends), sums=tuple(sums),
                       samples=tuple(np.diff(ends_of, prepend=0).tolist()))


def _gather(plan: Plan, task: GatherTask, out: Store) -> GatherRecord:
    writing, several = Writing(plan.form), plan.exposure.buckets > 1
    parts: dict[Split, Part] = {}
    beside = out.at(EXPOSURE) if plan.nominal else out
    with Spool() as spool, Uploads(beside) as uploads:
        largest = max((piece.end - piece.start for piece in task.slices), default=1)
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
        return GatherRecord(samples=len(spool), parts=parts, content=writing.content)


def _read(out: Store, piece: Slice) -> bytes:
    key = spill_key(piece.spill)
    for _ in range(2):  # a read may fail
        data = out.read(key, piece.start, piece.end)
        if zlib.crc32(data) == piece.sum and len(data) == piece.end - piece.start:
            return data
    raise Damaged(f"{out.url}/{key} has other bytes than were written: delete {out.url}/"
                  f"{record_key(spill_task(piece.spill))} and shard again; only this part is done anew")


def _bucket_of(words: np.ndarray, buckets: int) -> np.ndarray:
    """The bucket of each digest by its first 64 bits: equal ranges of hashes, in order."""
    return ((words.astype(np.uint64) >> np.uint64(32)) * np.uint64(buckets)) >> np.uint64(32)


@lru_cache(maxsize=1)
def _digests(_url: str, out: Store) -> frozenset[bytes]:
    """Of the nominal images that are measured with."""
    try:
        data = out.read(DIGESTS)
    except NotFound:
        return frozenset()
    return frozenset(data[place: place + DIGEST] for place in range(0, len(data), DIGEST))
