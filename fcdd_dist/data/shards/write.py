"""Raw images into a data set: decoded, scaled and encoded once; shards first, the manifest last.

What is to be done is found out and checked here; ``sharding`` does it.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from pathlib import Path

from ...errors import BadInput, Conflict, nearest
from ...experiment import Form
from ...recipes import recipe as find_recipe
from ...recipes.exclusions import NAMED, exclusion
from ...storage import MemoryStore, Store, exists, open_store
from ..manifest import EXPOSURE, MANIFEST, Manifest
from ..sources import BUNDLED, TRAIN_AND_TEST, Source
from ..sources.source import is_wnid, slug
from .claim import refuse_standing
from .plan import ExposurePlan, NominalPlan, Plan, plan_exposure, task_names
from .sharding import Say, Sharding
from .tasks import (
    Runner,
    Session,
    exposure_source,
    nominal_source,
    one_after_another,
)
from .unfinished import (
    standing_plan,
)
from .writing import versions


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
    session = Session(token=secrets.token_hex(8), download=download)
    if source and exposure and Path(source).exists() and Path(exposure).exists():
        ours, others = Path(source).resolve(), Path(exposure).resolve()
        inside = others.is_dir() and ours in others.parents  # an archive may lie beside the other ones
        if ours == others or inside or others in ours.parents:
            raise BadInput(f"{exposure} and {source} share images: exposure must be of other things than the nominal "
                           f"class")
    nominal = nominal_source(source, recipe, session)
    chosen = _choose(nominal, recipe, classes)
    plan = NominalPlan(source=source, classes={class_id: nominal.classes[class_id] for class_id in chosen},
                       about={split: sum(nominal.about(split, class_id) for class_id in chosen)
                              for split in TRAIN_AND_TEST},
                       exact=all(map(nominal.exact, TRAIN_AND_TEST)))
    outliers = None
    if exposure is not None or recipe in BUNDLED:
        outliers = _plan_exposure(recipe, exposure, exclude, form, session)
        _refuse_nominal(outliers, exposure, chosen)
    elif exclude:
        raise BadInput("exclude names classes of exposure images: give a folder of these, too (--exposure PATH)")
    elif recipe == "folder" and not exists(out.at(EXPOSURE), MANIFEST):
        raise BadInput("a folder of one's own needs exposure images (--exposure PATH): without any anomalies the best "
                       "detector is one that calls everything normal")
    return Sharding(_plan(recipe, form, plan, outliers), out, allow_bad, session, progress, runner).run()


def shard_exposure(like: str, source: str | None, out: Store, *, exclude: Iterable[str] | None = None,
                   form: Form | None = None, allow_bad: int | None = None, download: bool = False,
                   progress: Say | None = None, runner: Runner = one_after_another) -> Manifest:
    """Writes an exposure set by itself, in the form of the recipe ``like``; its manifest. Raises as ``shard`` does."""
    form = form or find_recipe(like).form
    _refuse_finished(out)
    _refuse_within(out)
    session = Session(token=secrets.token_hex(8), download=download)
    outliers = _plan_exposure(like, source, exclude, form, session)
    return Sharding(_plan(like, form, None, outliers), out, allow_bad, session, progress, runner).run()


def _plan(recipe: str, form: Form, nominal: NominalPlan | None, exposure: ExposurePlan | None) -> Plan:
    return Plan(recipe=recipe, form=form, nominal=nominal, exposure=exposure, versions=versions(),
                tasks=task_names(nominal, exposure))


def _plan_exposure(recipe: str, path: str | None, exclude: Iterable[str] | None, form: Form, session: Session
                   ) -> ExposurePlan:
    """The training images of a source, or test ones if all are."""
    source = exposure_source(path, recipe, session)
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
            if exclude is None and not any(map(is_wnid, source.classes)):
                raise BadInput(f"{source.where}: its classes ({', '.join(list(source.classes)[:3])}, ...) are no "
                               f"WordNet ids, so those of {name} can't be left out: give the folder that holds "
                               f"n01440764 and so on, or say that it has none of them (--exclude none)")
            excluded |= listed & source.classes.keys()
        elif name in source.classes or name not in NAMED["imagenet1k"]():  # which may well be left out already
            excluded.add(_find_class(source, name, f"; or the name of a list: {', '.join(NAMED)}"))
    return excluded


def _refuse_nominal(exposure: ExposurePlan, path: str | None, chosen: list[str]) -> None:
    """A class that both have by its WordNet id is the same class; other names may be shared by chance."""
    there = {class_id for spill in exposure.spills for class_id, _, _ in spill}
    if both := [class_id for class_id in chosen if class_id in there and is_wnid(class_id)]:
        shown = ",".join(both[:5]) + (",..." if len(both) > 5 else "")
        raise BadInput(f"{path} has images of {len(both)} of the classes to be learned and tested: leave them out "
                       f"(--exclude {shown}, or a list: {', '.join(NAMED)})")


def _refuse_finished(out: Store) -> None:
    if standing_plan(out) is None:
        refuse_standing(out)


def _refuse_within(out: Store) -> None:
    """Raises Conflict where ``out`` is the place for the exposure of a sharding that has not ended."""
    above, _, name = out.url.rpartition("/")
    if name == EXPOSURE and not isinstance(out, MemoryStore):
        plan = standing_plan(open_store(above))
        if plan and plan.nominal and plan.exposure:
            raise Conflict(f"{above} holds the beginning of a sharding with exposure of its own: go on with that, or "
                           f"delete it first")


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
