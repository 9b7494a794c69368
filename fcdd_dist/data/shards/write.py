"""Raw images into a data set: decoded, scaled and encoded once; shards first, the manifest last.

Memory is flat, and the result is the same bytes each time: a sharding that was killed is simply started again.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...errors import BadInput, nearest
from ...experiment import Form
from ...recipes import recipe as find_recipe
from ...storage import Store, exists
from ..manifest import EXPOSURE, MANIFEST, ClassName, Manifest, Part
from ..sources import BUNDLED, TRAIN_AND_TEST, Source, open_exposure, open_source
from ..sources.source import RawSplit, slug
from .claim import Claim, refuse_standing
from .spool import Spool, exposure_target, nominal_target, set_aside
from .writing import Progress, Writing, versions


def shard(recipe: str, source: str | None, out: Store, *, exposure: str | None = None,
          classes: Iterable[str] | None = None, exclude: Iterable[str] = (), form: Form | None = None,
          allow_bad: int | None = None, download: bool = False, progress: Progress | None = None) -> Manifest:
    """Writes the data set of ``recipe`` from the folder ``source`` into ``out``; its manifest.

    ``exposure``: a folder of images for outlier exposure, which become the data set's default exposure set without
    the classes in ``exclude``; bundled data bring their own. ``classes``: ids or names, all if None. ``allow_bad``:
    how many images of a split may be left out; max(3, 0.1 %) if None. Raises BadInput, before anything is written
    where that can be known, and Conflict where ``out`` is a data set already, or somebody else is writing one there.
    """
    form = form or find_recipe(recipe).form
    refuse_standing(out)
    if source and exposure and Path(source).exists() and Path(exposure).exists():
        ours, others = Path(source).resolve(), Path(exposure).resolve()
        if ours == others or ours in others.parents or others in ours.parents:
            raise BadInput(f"{exposure} and {source} share images: exposure must be of other things than the nominal "
                           f"class")
    nominal = open_source(source, recipe, download=download)
    chosen = _choose(nominal, classes)
    beside, outliers = out.at(EXPOSURE), None
    if exposure is not None or recipe in BUNDLED:
        outliers = _Outliers.of(open_exposure(exposure, recipe, download=download), exclude)
    elif tuple(exclude):
        raise BadInput("exclude names classes of exposure images: give a folder of these, too (--exposure PATH)")
    elif recipe == "folder" and not exists(beside, MANIFEST):
        raise BadInput("a folder of one's own needs exposure images (--exposure PATH): without any anomalies the best "
                       "detector is one that calls everything normal")
    say = progress or _silent
    with Claim(out, say) as claim:
        if outliers is not None:
            with Claim(beside, say, standing=True) as inner:  # a killed sharding, or somebody, may have left it
                _write_exposure(recipe, outliers, inner, form, allow_bad, say)
        return _write_nominal(recipe, nominal, chosen, claim, form, allow_bad, say)


def shard_exposure(like: str, source: str | None, out: Store, *, exclude: Iterable[str] = (), form: Form | None = None,
                   allow_bad: int | None = None, download: bool = False, progress: Progress | None = None) -> Manifest:
    """Writes an exposure set by itself, in the form of the recipe ``like``; its manifest. Raises as ``shard`` does."""
    form = form or find_recipe(like).form
    refuse_standing(out)
    outliers = _Outliers.of(open_exposure(source, like, download=download), exclude)
    say = progress or _silent
    with Claim(out, say) as claim:
        return _write_exposure(like, outliers, claim, form, allow_bad, say)


def _write_nominal(recipe: str, nominal: Source, chosen: list[str], claim: Claim, form: Form, allow_bad: int | None,
                   say: Progress) -> Manifest:
    writing = Writing(claim, form, allow_bad)
    splits: dict[str, dict[str, Part]] = {"train": {}, "holdout": {}, "test": {}}
    totals = {split: sum(_count(nominal, split, class_id) for class_id in chosen) for split in TRAIN_AND_TEST}
    for class_id in chosen:
        for split in TRAIN_AND_TEST:
            with Spool(form.channels) as spool:
                found = writing.fill(spool, nominal.items(split, class_id), split, class_id, totals[split])
                if split == "train" and found and not len(spool):
                    raise BadInput(f"{nominal.where}: class {class_id!r} has no train image that can be used")
                if found:
                    say(f"{split}/{class_id}: {len(spool):,} images")
                held = set_aside(spool, nominal_target(len(spool)) if split == "train" else 0)
                for name, where in ((split, ~held), ("holdout", held)):
                    part = writing.part(spool, np.flatnonzero(where), name, class_id, range(len(spool)))
                    if part is not None:
                        splits[name][class_id] = part
    present = [c for c in chosen if any(c in parts for parts in splits.values())]
    return claim.commit(Manifest(
        kind="nominal", recipe=recipe, form=form, splits={split: parts for split, parts in splits.items() if parts},
        classes=tuple(ClassName(id=c, name=nominal.classes[c]) for c in present),
        left_out=tuple(writing.left_out), content=writing.content, versions=versions()))


@dataclass(frozen=True)
class _Outliers:
    """What of a source becomes an exposure set: the training images, or test ones if all are."""

    source: Source
    excluded: frozenset[str]  # class ids
    split: RawSplit

    @classmethod
    def of(cls, source: Source, exclude: Iterable[str]) -> _Outliers:
        excluded = frozenset(_find_class(source, name) for name in exclude)
        for split in TRAIN_AND_TEST:
            if any(_count(source, split, c) for c in source.classes if c not in excluded):
                return cls(source, excluded, split)
        raise BadInput(f"{source.where} has no exposure images" + (" besides the excluded ones" if excluded else ""))


def _write_exposure(like: str, outliers: _Outliers, claim: Claim, form: Form, allow_bad: int | None, say: Progress
                    ) -> Manifest:
    """One class, shuffled: in the order of the hashes of the pixels."""
    source, split = outliers.source, outliers.split
    used = [class_id for class_id in source.classes if class_id not in outliers.excluded]
    writing = Writing(claim, form, allow_bad)
    splits: dict[str, dict[str, Part]] = {}
    with Spool(form.channels) as spool:
        total = sum(_count(source, split, c) for c in used)
        done = said = 0
        for class_id in used:
            done += writing.fill(spool, source.items(split, class_id), EXPOSURE, class_id, total)
            if 10 * done // total > said:  # there may be thousands of classes
                said = 10 * done // total
                say(f"exposure: {done:,} of {total:,} images")
        if not len(spool):
            raise BadInput(f"{source.where} has no exposure image that can be used")
        order, _ = spool.by_digest()
        numbers = np.empty(len(order), int)
        numbers[order] = np.arange(len(order))
        held = set_aside(spool, exposure_target(len(spool)))
        for name, where in (("train", ~held), ("holdout", held)):
            part = writing.part(spool, order[where[order]], name, EXPOSURE, numbers)
            if part is not None:
                splits[name] = {EXPOSURE: part}
    return claim.commit(Manifest(
        kind="exposure", recipe=like, form=form, classes=(ClassName(id=EXPOSURE, name=EXPOSURE),), splits=splits,
        left_out=tuple(writing.left_out), excluded=tuple(sorted(outliers.excluded)), content=writing.content,
        versions=versions()))


def _choose(source: Source, classes: Iterable[str] | None) -> list[str]:
    """The ids of the wanted classes in the source's order; at least one has train images."""
    if classes is None:
        chosen = list(source.classes)
    else:
        wanted = [_find_class(source, name) for name in classes]
        chosen = [class_id for class_id in source.classes if class_id in wanted]
    if not any(_count(source, "train", class_id) for class_id in chosen):
        raise BadInput(f"{source.where} has no train images" + ("" if classes is None else f" of {', '.join(chosen)}"))
    return chosen


def _find_class(source: Source, name: str) -> str:
    for class_id, display in source.classes.items():
        if name in (class_id, display) or slug(name) == class_id:
            return class_id
    known = list(source.classes)
    shown = ", ".join(known[:20]) + (f" and {len(known) - 20} more" if len(known) > 20 else "")
    raise BadInput(f"{source.where} has no class {name!r}{nearest(name, known)}; it has: {shown}")


def _count(source: Source, split: str, class_id: str) -> int:
    return sum(1 for _ in source.items(split, class_id))


def _silent(line: str) -> None:
    pass
