"""A sharding on its way through its rounds, task by task (see ``plan`` and ``unfinished``).

Killed anywhere and started again it goes on, and ends with the same bytes as if nothing had happened. A record of an
earlier start holds where it is of the same inputs, and all that it names lies in its place.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TypeVar

import numpy as np

from ...errors import BadInput, Conflict
from ...storage import FolderStore, Store, exists
from ...words import amount
from ..manifest import EXPOSURE, MANIFEST, ClassName, LeftOut, Manifest, Part, Statistics, load_manifest
from ..sources import TRAIN_AND_TEST
from .claim import Claim, sizes
from .plan import Plan, expected_bytes
from .progress import Progress
from .spool import exposure_target
from .standing import finished
from .tasks import (
    GatherTask,
    NominalTask,
    NotBegun,
    Runner,
    Session,
    Slice,
    SpillTask,
    Task,
    exposure_source,
    nominal_source,
)
from .unfinished import (
    DIGESTS,
    SPILLS,
    GatherRecord,
    NominalRecord,
    SpillRecord,
    begin,
    delete,
    read_records,
    record_key,
    standing_plan,
    tidy,
)
from .writing import Allowance, add_contents

Say = Callable[[str], None]
R = TypeVar("R", NominalRecord, SpillRecord, GatherRecord)


class Sharding:
    """One sharding on its way through its rounds."""

    def __init__(self, plan: Plan, out: Store, allow_bad: int | None, session: Session, say: Say, live: Say,
                 runner: Runner) -> None:
        self._plan, self._out, self._allow_bad, self._session = plan, out, allow_bad, session
        self._say, self._live, self._runner = say, live, runner
        self._made_from = plan.made_from  # of the images that are there now; one that goes on has the plan of then
        self._beside = out.at(EXPOSURE) if plan.nominal and plan.exposure else None

    def run(self) -> Manifest:
        out = self._out
        if standing_plan(out) is None:
            if (manifest := finished(out, self._plan)) is not None:
                return self._nothing_to_do(manifest)
            _check_room(out, self._plan)
        with ExitStack() as stack:
            claim = self._claim(out, stack)
            inner = self._claim(self._beside, stack) if self._beside else None
            self._claims = {NominalRecord: claim, GatherRecord: inner or claim}
            self._goes_on = (standing := standing_plan(out)) is not None
            if standing and standing.settings == self._plan.settings and exists(out, MANIFEST):
                tidy(out)  # it was killed while it did
                return self._nothing_to_do(load_manifest(out))
            if (manifest := finished(out, self._plan)) is not None:  # by whoever was waited for
                return self._nothing_to_do(manifest)
            if not self._goes_on:
                if inner and exists(self._beside, MANIFEST):
                    raise Conflict(f"{self._beside.url} is a data set already: leave --exposure away to use it, or "
                                   f"delete it first")
                for one in filter(None, (inner, claim)):
                    one.clear()
                tidy(out)  # what a process that was held up for long may have left
            plan = self._plan = begin(out, self._plan)
            self._progress = Progress(plan, self._live)
            if self._goes_on:
                self._say("going on with what is there")
            nominal = self._nominal() if plan.nominal else None
            if plan.exposure:
                exposure = self._exposure()
                manifest = self._claims[GatherRecord].commit(exposure)
            if nominal is not None:
                manifest = claim.commit(nominal)
            tidy(out)
            return manifest

    def _claim(self, store: Store, stack: ExitStack) -> Claim:
        stack.enter_context(store.without_traces())
        return stack.enter_context(Claim(store, self._say))

    def _nothing_to_do(self, manifest: Manifest) -> Manifest:
        self._say(f"{self._out.url} is finished; nothing to do")
        return manifest

    def _nominal(self) -> Manifest:
        plan, nominal, session = self._plan, self._plan.nominal, self._session
        source = nominal_source(nominal.source, plan.recipe, session)
        allowances = tuple(self._allowance(split, nominal.about[split]) for split in TRAIN_AND_TEST)
        records: dict[str, NominalRecord] = {}

        def tasks() -> Iterator[NominalTask]:
            for class_id in nominal.classes:
                about = tuple(source.about(split, class_id) for split in TRAIN_AND_TEST)
                yield NominalTask(class_id=class_id, about=about, allowances=allowances, session=session)

        self._round(NominalRecord, tasks, lambda task, record: records.update({task.class_id: record}), allowances)
        digests = sorted({digest for record in records.values() for digest in record.digests})
        self._digests = bytes.fromhex("".join(digests))
        present = {class_id: records[class_id] for class_id in nominal.classes if records[class_id].parts}
        splits = {split: {name: record.parts[split] for name, record in present.items() if split in record.parts}
                  for split in ("train", "holdout", "test")}
        return Manifest(
            kind="nominal", recipe=plan.recipe, form=plan.form, versions=plan.versions, made_from=self._made_from,
            content=add_contents(record.content for record in records.values()),
            classes=tuple(ClassName(id=class_id, name=nominal.classes[class_id]) for class_id in present),
            splits={split: parts for split, parts in splits.items() if parts},
            left_out=tuple(entry for class_id in nominal.classes for entry in records[class_id].left_out))

    def _exposure(self) -> Manifest:
        plan, exposure, session = self._plan, self._plan.exposure, self._session
        source = exposure_source(exposure.source, plan.recipe, session)
        allowance = self._allowance(EXPOSURE, exposure.about)
        avoided = None
        if plan.nominal:
            self._out.write(DIGESTS, self._digests)
            avoided = hashlib.sha256(self._digests).hexdigest()
        spills = _Spills(len(exposure.spills), exposure.buckets)

        def spilling() -> Iterator[SpillTask]:
            for number, portions in enumerate(exposure.spills):
                about = tuple(source.about(exposure.split, class_id) for class_id, _, _ in portions)
                yield SpillTask(number=number, about=about, digests=avoided, allowance=allowance, session=session)

        self._round(SpillRecord, spilling, lambda task, record: spills.add(task.number, record), (allowance,))
        if not spills.total:
            raise BadInput(f"{exposure.source} has no exposure image that can be used")
        records: dict[int, GatherRecord] = {}

        def gathering() -> Iterator[GatherTask]:
            first = 0
            for bucket in range(exposure.buckets):
                yield GatherTask(bucket=bucket, first=first, slices=tuple(spills.slices(bucket)),
                                 hold=exposure_target(spills.total) if bucket == 0 else 0)
                first += spills.size(bucket)

        self._round(GatherRecord, gathering, lambda task, record: records.update({task.bucket: record}))
        ordered = [records[bucket] for bucket in range(exposure.buckets)]
        splits = {split: _joined([record.parts[split] for record in ordered if split in record.parts])
                  for split in ("train", "holdout")}
        return Manifest(
            kind="exposure", recipe=plan.recipe, form=plan.form, versions=plan.versions, made_from=self._made_from,
            excluded=exposure.excluded, content=add_contents(record.content for record in ordered),
            left_out=spills.left_out, classes=(ClassName(id=EXPOSURE, name=EXPOSURE),),
            splits={split: {EXPOSURE: part} for split, part in splits.items() if part})

    def _round(self, kind: type[R], tasks: Callable[[], Iterator[Task]], take: Callable[[Task, R], None],
               allowances: tuple[Allowance, ...] = ()) -> None:
        """Gives the record of each task to ``take``: those that stand, and then the others, as they are done."""
        standing = self._standing(kind, tasks, allowances) if self._goes_on else {}
        self._progress.begin(kind, standing.values())
        left_out: list[LeftOut] = []

        def accept(task: Task, record: R) -> None:
            take(task, record)
            left_out.extend(getattr(record, "left_out", ()))
            for allowance in allowances:
                allowance.check(left_out)

        for task in tasks() if standing else ():
            if task.name in standing:
                accept(task, standing[task.name])
        done = standing.keys()
        try:
            for result in self._runner(self._plan, (task for task in tasks() if task.name not in done), self._out):
                self._claims[NominalRecord].check()
                if result is not None:
                    self._progress.add(*result)
                    accept(*result)
        except NotBegun:
            if not self._goes_on:
                tidy(self._out)  # so that another command may be given
            raise

    def _standing(self, kind: type[R], tasks: Callable[[], Iterator[Task]], allowances: tuple[Allowance, ...]
                  ) -> dict[str, R]:
        """The records that still hold: of the same inputs, with all that they name in its place.

        All others go, and then the shards that none names: what is done anew may become something else.
        """
        names = [task.name for task in tasks()]
        there = read_records(self._out, kind, names)
        claim = self._claims.get(kind)
        sizes_there = sizes(claim.store) if claim else {entry.key: entry.size for entry in self._out.list(SPILLS)}
        standing = {task.name: there[task.name] for task in tasks() if task.name in there
                    and there[task.name].inputs == task.inputs(self._plan)
                    and all(sizes_there.get(key) == size for key, size in there[task.name].written(task).items())}
        try:
            left_out = [entry for record in standing.values() for entry in getattr(record, "left_out", ())]
            for allowance in allowances:
                allowance.check(left_out)
        except BadInput:  # it has ended here before, and the images may have been mended since
            standing = {name: record for name, record in standing.items() if not record.left_out}
        delete(self._out, [record_key(name) for name in there if name not in standing])
        if claim:
            claim.clear({key for task in tasks() if task.name in standing
                         for key in standing[task.name].written(task)})
        return standing

    def _allowance(self, split: str, about: int) -> Allowance:
        return Allowance.of(split, about, self._allow_bad)


class _Spills:
    """Where all spills are cut: 16 bytes a spill and bucket."""

    def __init__(self, spills: int, buckets: int) -> None:
        self._samples = np.zeros((spills, buckets), np.uint32)
        self._ends = np.zeros((spills, buckets), np.uint64)
        self._sums = np.zeros((spills, buckets), np.uint32)
        self._left_out: dict[int, tuple[LeftOut, ...]] = {}

    def add(self, number: int, record: SpillRecord) -> None:
        self._samples[number], self._ends[number], self._sums[number] = record.samples, record.ends, record.sums
        self._left_out[number] = record.left_out

    @property
    def total(self) -> int:
        return int(self._samples.sum(dtype=np.int64))

    @property
    def left_out(self) -> tuple[LeftOut, ...]:
        return tuple(entry for number in sorted(self._left_out) for entry in self._left_out[number])

    def size(self, bucket: int) -> int:
        return int(self._samples[:, bucket].sum(dtype=np.int64))

    def slices(self, bucket: int) -> Iterator[Slice]:
        starts = self._ends[:, bucket - 1] if bucket else np.zeros(len(self._ends), np.uint64)
        for number in np.flatnonzero(self._samples[:, bucket]).tolist():
            yield number, int(starts[number]), int(self._ends[number, bucket]), int(self._sums[number, bucket])


def _check_room(out: Store, plan: Plan) -> None:
    """Raises BadInput where a folder's disk has no room for about what will come; exposure is there twice for a time.
    """
    if not isinstance(out, FolderStore):
        return
    place = Path(out.root).absolute()
    while not place.exists():
        place = place.parent
    count = (sum(plan.nominal.about.values()) if plan.nominal else 0) + (
        2 * plan.exposure.about if plan.exposure else 0)
    needed, free = count * expected_bytes(plan.form), shutil.disk_usage(place).free
    if needed > free:
        raise BadInput(f"{out.url} has {amount(free)} free, and about {amount(needed)} are needed: free space there, "
                       f"or choose another place")


def _joined(parts: list[Part]) -> Part | None:
    if not parts:
        return None
    statistics: Statistics = parts[0].statistics
    for part in parts[1:]:
        statistics = statistics.merge(part.statistics)
    return Part(shards=tuple(shard for part in parts for shard in part.shards), statistics=statistics)
