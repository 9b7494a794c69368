"""Raw images into a data set: decoded, scaled and encoded once; shards first, the manifest last.

Killed anywhere and started again it goes on, task by task (see ``plan`` and ``unfinished``), and ends with the same
bytes as if nothing had happened, on any number of workers. Memory is flat.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from itertools import accumulate
from pathlib import Path
from typing import TypeVar

from ...errors import BadInput, Conflict, nearest
from ...experiment import Form
from ...recipes import recipe as find_recipe
from ...recipes.exclusions import NAMED, exclusion
from ...storage import FolderStore, Store, exists
from ..manifest import EXPOSURE, MANIFEST, ClassName, LeftOut, Manifest, Part, Statistics, load_manifest
from ..sources import BUNDLED, TRAIN_AND_TEST, Source
from ..sources.source import slug
from .claim import Claim, refuse_standing
from .plan import ExposurePlan, NominalPlan, Plan, expected_bytes, plan_exposure, task_names
from .progress import Progress
from .spool import exposure_target
from .tasks import (
    GatherTask,
    NominalTask,
    Runner,
    Slice,
    SpillTask,
    Task,
    exposure_source,
    forget_sources,
    nominal_source,
    one_after_another,
)
from .unfinished import (
    DIGESTS,
    GatherRecord,
    NominalRecord,
    Record,
    SpillRecord,
    begin,
    read_records,
    record_key,
    standing_plan,
    tidy,
)
from .writing import Allowance, add_contents, versions

Say = Callable[[str], None]
R = TypeVar("R", NominalRecord, SpillRecord, GatherRecord)


def shard(recipe: str, source: str | None, out: Store, *, exposure: str | None = None,
          classes: Iterable[str] | None = None, exclude: Iterable[str] | None = None, form: Form | None = None,
          allow_bad: int | None = None, download: bool = False, progress: Say | None = None,
          runner: Runner = one_after_another) -> Manifest:
    """Writes the data set of ``recipe`` from the folder ``source`` into ``out``; its manifest.

    ``exposure``: images for outlier exposure, which become the data set's default exposure set without the classes in
    ``exclude`` (ids, names, or the names of lists; the recipe's list if None); bundled data bring their own.
    ``classes``: ids or names, ``("all",)`` for all that are there, the recipe's if None. ``allow_bad``: how many
    images of a split may be left out; max(3, 0.1 %) if None. ``runner`` does the tasks.
    Raises BadInput, before anything is written where that can be known, and Conflict where ``out`` is a data set
    already, somebody else is writing one there, or another one was begun there.
    """
    form = form or find_recipe(recipe).form
    _refuse_finished(out)
    forget_sources()
    if source and exposure and Path(source).exists() and Path(exposure).exists():
        ours, others = Path(source).resolve(), Path(exposure).resolve()
        inside = others.is_dir() and ours in others.parents  # an archive may lie beside the other ones
        if ours == others or inside or others in ours.parents:
            raise BadInput(f"{exposure} and {source} share images: exposure must be of other things than the nominal "
                           f"class")
    nominal = nominal_source(source, recipe, download)
    chosen = _choose(nominal, recipe, classes)
    plan = NominalPlan(source=source, classes={class_id: nominal.classes[class_id] for class_id in chosen},
                       about={split: sum(nominal.about(split, class_id) for class_id in chosen)
                              for split in TRAIN_AND_TEST})
    outliers = None
    if exposure is not None or recipe in BUNDLED:
        outliers = _plan_exposure(recipe, exposure, exclude, form, download)
        _refuse_nominal(outliers, exposure, chosen)
    elif exclude:
        raise BadInput("exclude names classes of exposure images: give a folder of these, too (--exposure PATH)")
    elif recipe == "folder" and not exists(out.at(EXPOSURE), MANIFEST):
        raise BadInput("a folder of one's own needs exposure images (--exposure PATH): without any anomalies the best "
                       "detector is one that calls everything normal")
    return _Sharding(_plan(recipe, form, plan, outliers), out, allow_bad, download, progress, runner).run()


def shard_exposure(like: str, source: str | None, out: Store, *, exclude: Iterable[str] | None = None,
                   form: Form | None = None, allow_bad: int | None = None, download: bool = False,
                   progress: Say | None = None, runner: Runner = one_after_another) -> Manifest:
    """Writes an exposure set by itself, in the form of the recipe ``like``; its manifest. Raises as ``shard`` does."""
    form = form or find_recipe(like).form
    _refuse_finished(out)
    forget_sources()
    outliers = _plan_exposure(like, source, exclude, form, download)
    return _Sharding(_plan(like, form, None, outliers), out, allow_bad, download, progress, runner).run()


class _Sharding:
    """One sharding on its way through its rounds."""

    def __init__(self, plan: Plan, out: Store, allow_bad: int | None, download: bool, progress: Say | None,
                 runner: Runner) -> None:
        self._plan, self._out, self._allow_bad, self._download = plan, out, allow_bad, download
        self._say, self._runner = progress or _silent, runner
        self._beside = out.at(EXPOSURE) if plan.nominal and plan.exposure else None

    def run(self) -> Manifest:
        plan, out = self._plan, self._out
        if standing_plan(out) is None:
            _check_room(out, plan)
        with ExitStack() as stack:
            self._claim = stack.enter_context(Claim(out, self._say))
            inner = stack.enter_context(Claim(self._beside, self._say)) if self._beside else None
            goes_on = standing_plan(out) is not None
            if exists(out, MANIFEST):
                if goes_on and standing_plan(out) == plan:  # killed while it tidied up
                    tidy(out, plan)
                    return load_manifest(out)
                refuse_standing(out)
            if not goes_on:
                if inner and exists(self._beside, MANIFEST):
                    raise Conflict(f"{self._beside.url} is a data set already: leave --exposure away to use it, or "
                                   f"delete it first")
                for claim in filter(None, (inner, self._claim)):
                    claim.clear()
            begin(out, plan)
            self._progress = Progress(plan, self._say)
            if goes_on:
                self._say("going on with what is there")
            nominal = self._nominal() if plan.nominal else None
            if plan.exposure:
                exposure = self._exposure()
                if inner is None:
                    manifest = self._claim.commit(exposure)
                else:
                    inner.commit(exposure)
            if nominal is not None:
                manifest = self._claim.commit(nominal)
            tidy(out, plan)
            return manifest

    def _nominal(self) -> Manifest:
        plan, nominal = self._plan, self._plan.nominal
        allowances = tuple(self._allowance(split, nominal.about[split]) for split in TRAIN_AND_TEST)
        tasks = [NominalTask(class_id=class_id, allowances=allowances, download=self._download)
                 for class_id in nominal.classes]
        records = self._round(NominalRecord, tasks, allowances)
        if plan.exposure:
            digests = sorted({digest for record in records for digest in record.digests})
            self._out.write(DIGESTS, bytes.fromhex("".join(digests)))
        splits = {split: {class_id: record.parts[split]
                          for class_id, record in zip(nominal.classes, records, strict=True) if split in record.parts}
                  for split in ("train", "holdout", "test")}
        present = [class_id for class_id, record in zip(nominal.classes, records, strict=True) if record.parts]
        return Manifest(
            kind="nominal", recipe=plan.recipe, form=plan.form, content=add_contents(r.content for r in records),
            classes=tuple(ClassName(id=class_id, name=nominal.classes[class_id]) for class_id in present),
            splits={split: parts for split, parts in splits.items() if parts}, left_out=_left_out(records),
            versions=plan.versions)

    def _exposure(self) -> Manifest:
        plan, exposure = self._plan, self._plan.exposure
        allowance = self._allowance(EXPOSURE, exposure.about)
        spills = self._round(SpillRecord, [SpillTask(number=number, allowance=allowance, download=self._download)
                                           for number in range(len(exposure.spills))], (allowance,))
        total = sum(sum(record.samples) for record in spills)
        if not total:
            raise BadInput(f"{exposure.source} has no exposure image that can be used")
        sizes = [sum(record.samples[bucket] for record in spills) for bucket in range(exposure.buckets)]
        firsts = accumulate(sizes, initial=0)
        records = self._round(GatherRecord, [
            GatherTask(bucket=bucket, first=first, hold=exposure_target(total) if bucket == 0 else 0,
                       slices=tuple(_slices(spills, bucket)))
            for bucket, first in zip(range(exposure.buckets), firsts, strict=False)])
        splits = {split: _joined([record.parts[split] for record in records if split in record.parts])
                  for split in ("train", "holdout")}
        return Manifest(
            kind="exposure", recipe=plan.recipe, form=plan.form, content=add_contents(r.content for r in records),
            classes=(ClassName(id=EXPOSURE, name=EXPOSURE),), left_out=_left_out(spills), excluded=exposure.excluded,
            splits={split: {EXPOSURE: part} for split, part in splits.items() if part}, versions=plan.versions)

    def _round(self, kind: type[R], tasks: list[Task], allowances: tuple[Allowance, ...] = ()) -> list[R]:
        """The records of ``tasks``, in their order: those that are there, and then the others."""
        done = read_records(self._out, kind, [task.name for task in tasks])
        try:
            _check(done.values(), allowances)
        except BadInput:  # it has ended here before, and the images may have been mended since
            done = {name: record for name, record in done.items() if not record.left_out}
        self._progress.begin(kind, done.values())
        left_out = [entry for record in done.values() for entry in getattr(record, "left_out", ())]
        missing = [task for task in tasks if task.name not in done]
        for task in missing:
            self._out.delete(record_key(task.name))
        for task, record in self._runner(self._plan, missing, self._out):
            self._claim.check()
            done[task.name] = record
            self._progress.add(task, record)
            if kind is not GatherRecord:
                left_out += record.left_out
                for allowance in allowances:
                    allowance.check(left_out)
        return [done[task.name] for task in tasks]

    def _allowance(self, split: str, about: int) -> Allowance:
        return Allowance.of(split, about, self._allow_bad)


def _plan(recipe: str, form: Form, nominal: NominalPlan | None, exposure: ExposurePlan | None) -> Plan:
    return Plan(recipe=recipe, form=form, nominal=nominal, exposure=exposure, versions=versions(),
                tasks=task_names(nominal, exposure))


def _plan_exposure(recipe: str, path: str | None, exclude: Iterable[str] | None, form: Form, download: bool
                   ) -> ExposurePlan:
    """The training images of a source, or test ones if all are."""
    source = exposure_source(path, recipe, download)
    excluded = _excluded(source, recipe, exclude)
    for split in TRAIN_AND_TEST:
        if any(source.about(split, class_id) for class_id in source.classes if class_id not in excluded):
            return plan_exposure(source, path, split, excluded, form)
    raise BadInput(f"{source.where} has no exposure images" + (" besides the excluded ones" if excluded else ""))


def _excluded(source: Source, recipe: str, exclude: Iterable[str] | None) -> set[str]:
    """The ids of the classes that are left out. A list that has a name may have others than the source."""
    names = ([found.exclude] if (found := find_recipe(recipe)).exclude else []) if exclude is None else list(exclude)
    excluded: set[str] = set()
    for name in names:
        if (listed := exclusion(name)) is not None:
            excluded |= listed & source.classes.keys()
        elif name in source.classes or name not in NAMED["imagenet1k"]():  # which may well be left out already
            excluded.add(_find_class(source, name, f"; or the name of a list: {', '.join(NAMED)}"))
    return excluded


def _refuse_nominal(exposure: ExposurePlan, path: str | None, chosen: list[str]) -> None:
    """A class that both have by its WordNet id is the same class; other names may be shared by chance."""
    there = {class_id for spill in exposure.spills for class_id in spill}
    if both := [class_id for class_id in chosen if class_id in there and _is_wnid(class_id)]:
        shown = ",".join(both[:5]) + (",..." if len(both) > 5 else "")
        raise BadInput(f"{path} has images of {len(both)} of the classes to be learned and tested: leave them out "
                       f"(--exclude {shown}, or a list: {', '.join(NAMED)})")


def _is_wnid(class_id: str) -> bool:
    return len(class_id) == 9 and class_id[0] == "n" and class_id[1:].isdecimal()


def _refuse_finished(out: Store) -> None:
    if standing_plan(out) is None:
        refuse_standing(out)


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
        raise BadInput(f"{out.url} has {free / 1e9:.1f} GB free, and about {needed / 1e9:.1f} GB are needed: free "
                       f"space there, or choose another place")


def _choose(source: Source, recipe: str, classes: Iterable[str] | None) -> list[str]:
    """The ids of the wanted classes in the source's order, or the recipe's; at least one has train images."""
    known = find_recipe(recipe).classes
    wanted = None if classes is None else tuple(classes)
    if wanted is None and known:
        chosen = [class_id for class_id in known if class_id in source.classes]
        if not chosen:
            shown = ", ".join(list(source.classes)[:5])
            raise BadInput(f"{source.where} has none of the recipe's {len(known)} classes; it has {shown}"
                           f"{', ...' if len(source.classes) > 5 else ''}: choose with --classes A,B or --classes all")
    elif wanted is None or wanted == ("all",):
        chosen = list(source.classes)
    else:
        found = [_find_class(source, name) for name in wanted]
        chosen = [class_id for class_id in source.classes if class_id in found]
    if not any(source.about("train", class_id) for class_id in chosen):
        raise BadInput(f"{source.where} has no train images" + ("" if wanted is None else f" of {', '.join(chosen)}"))
    return chosen


def _find_class(source: Source, name: str, hint: str = "") -> str:
    for class_id, display in source.classes.items():
        if name in (class_id, display) or slug(name) == class_id:
            return class_id
    known = list(source.classes)
    shown = ", ".join(known[:20]) + (f" and {len(known) - 20} more" if len(known) > 20 else "")
    raise BadInput(f"{source.where} has no class {name!r}{nearest(name, known)}; it has: {shown}{hint}")


def _slices(spills: list[SpillRecord], bucket: int) -> Iterator[Slice]:
    for number, record in enumerate(spills):
        if record.samples[bucket]:
            start = record.ends[bucket - 1] if bucket else 0
            yield Slice(spill=number, start=start, end=record.ends[bucket], sum=record.sums[bucket])


def _joined(parts: list[Part]) -> Part | None:
    if not parts:
        return None
    statistics: Statistics = parts[0].statistics
    for part in parts[1:]:
        statistics = statistics.merge(part.statistics)
    return Part(shards=tuple(shard for part in parts for shard in part.shards), statistics=statistics)


def _check(records: Iterable[Record], allowances: Iterable[Allowance]) -> None:
    left_out = [entry for record in records for entry in getattr(record, "left_out", ())]
    for allowance in allowances:
        allowance.check(left_out)


def _left_out(records: Iterable[NominalRecord | SpillRecord]) -> tuple[LeftOut, ...]:
    return tuple(entry for record in records for entry in record.left_out)


def _silent(line: str) -> None:
    pass
