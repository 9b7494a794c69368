"""Raw images into a data set: decoded, scaled and encoded once; shards first, the manifest last.

What is to be done is found out and checked here; ``sharding`` does it.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

from ...errors import BadInput, Conflict, NotFound, nearest
from ...experiment import Form
from ...recipes import recipe as find_recipe
from ...recipes.exclusions import NAMED, NONE, exclusion
from ...recipes.imagenet1k import names as imagenet1k
from ...storage import MemoryStore, Store, exists, open_store
from ...words import class_name, class_names
from ..manifest import EXPOSURE, MANIFEST, Manifest
from ..sources import BUNDLED, TRAIN_AND_TEST, Source
from ..sources.source import is_wnid, slug
from .plan import ExposurePlan, NominalPlan, Plan, plan_exposure, task_names
from .sharding import Say, Sharding
from .standing import refuse_others
from .tasks import Runner, Session, exposure_source, nominal_source, one_after_another
from .unfinished import standing_plan
from .writing import versions

_LISTS = ", ".join((*NAMED, NONE))


def shard(recipe: str, source: str | None, out: Store, *, exposure: str | None = None,
          classes: Iterable[str] | None = None, exclude: Collection[str] | None = None, form: Form | None = None,
          allow_bad: int | None = None, download: bool = False, progress: Say | None = None, say: Say | None = None,
          runner: Runner = one_after_another) -> Manifest:
    """Writes the data set of ``recipe`` from the folder ``source`` into ``out``; its manifest.

    ``exposure``: images for outlier exposure, which become the data set's default exposure set without the classes in
    ``exclude`` (ids, names, or the names of lists; the recipe's list if None); bundled data bring their own.
    ``classes``: ids or names, ``("all",)`` for all that are there, the recipe's if None. ``allow_bad``: how many
    images of a split may be left out; max(3, 0.1 %) if None. ``progress`` takes lines of which only the last one
    matters, ``say`` those that should stay (as ``progress`` if None). ``runner`` does the tasks.
    Where ``out`` is that very data set already there is nothing to do. Raises BadInput, before anything is written
    where that can be known, and Conflict where ``out`` is another data set, holds other files, somebody else is writing
    one there, or another one was begun there.
    """
    live = progress or _silent
    say = say or live
    form = form or find_recipe(recipe).form
    refuse_others(out)
    session = Session(token=secrets.token_hex(8), download=download)
    if source and exposure and Path(source).exists() and Path(exposure).exists():
        ours, others = Path(source).resolve(), Path(exposure).resolve()
        inside = others.is_dir() and ours in others.parents  # an archive may lie beside the other ones
        if ours == others or inside or others in ours.parents:
            raise BadInput(f"{exposure} and {source} share images: exposure must be of other things than the nominal "
                           f"class")
    nominal = nominal_source(source, recipe, session)
    _tell(nominal, say)
    chosen = _choose(nominal, recipe, classes)
    plan = NominalPlan(source=source, classes={class_id: nominal.classes[class_id] for class_id in chosen},
                       about={split: sum(nominal.about(split, class_id) for class_id in chosen)
                              for split in TRAIN_AND_TEST},
                       exact=all(map(nominal.exact, TRAIN_AND_TEST)))
    outliers = None
    if exposure is not None or recipe in BUNDLED:
        outliers = _plan_exposure(recipe, exposure, exclude, form, session, say)
        _refuse_nominal(outliers, exposure, plan.classes, _names(recipe, exclude))
    elif exclude:
        raise BadInput("exclude names classes of exposure images: give a folder of these, too (--exposure PATH)")
    elif recipe == "folder" and not exists(out.at(EXPOSURE), MANIFEST):
        raise BadInput("a folder of one's own needs exposure images (--exposure PATH): without any anomalies the best "
                       "detector is one that calls everything normal")
    return Sharding(_plan(recipe, form, plan, outliers), out, allow_bad, session, say, live, runner).run()


def shard_exposure(like: str, source: str | None, out: Store, *, exclude: Collection[str] | None = None,
                   form: Form | None = None, allow_bad: int | None = None, download: bool = False,
                   progress: Say | None = None, say: Say | None = None, runner: Runner = one_after_another
                   ) -> Manifest:
    """Writes an exposure set by itself, in the form of the recipe ``like``; its manifest. Raises as ``shard`` does."""
    live = progress or _silent
    say = say or live
    form = form or find_recipe(like).form
    refuse_others(out)
    _refuse_within(out)
    session = Session(token=secrets.token_hex(8), download=download)
    outliers = _plan_exposure(like, source, exclude, form, session, say)
    return Sharding(_plan(like, form, None, outliers), out, allow_bad, session, say, live, runner).run()


def _plan(recipe: str, form: Form, nominal: NominalPlan | None, exposure: ExposurePlan | None) -> Plan:
    return Plan(recipe=recipe, form=form, nominal=nominal, exposure=exposure, versions=versions(),
                tasks=task_names(nominal, exposure))


def _tell(source: Source, say: Say) -> None:
    for note in source.notes:
        say(note)


def _plan_exposure(recipe: str, path: str | None, exclude: Collection[str] | None, form: Form, session: Session,
                   say: Say) -> ExposurePlan:
    """The training images of a source, or test ones if all are."""
    source = exposure_source(path, recipe, session)
    _tell(source, say)
    excluded = _excluded(source, recipe, exclude)
    for split in TRAIN_AND_TEST:
        if any(source.about(split, class_id) for class_id in source.classes if class_id not in excluded):
            return plan_exposure(source, path, split, excluded, form)
    if not excluded:
        raise BadInput(f"{source.where} has no exposure images")
    names = _names(recipe, exclude)
    raise BadInput(f"{source.where} has no exposure images besides those of {', '.join(names[:5])}"
                   f"{', ...' if len(names) > 5 else ''}, which are left out"
                   f"{f' as recipe {recipe} has it' if exclude is None else ''}: give others, or leave out less "
                   f"(--exclude A,B, or a list: {_LISTS})")


def _names(recipe: str, exclude: Collection[str] | None) -> list[str]:
    """What is to be left out, as it was asked for or as the recipe has it."""
    if exclude is None:
        return [found.exclude] if (found := find_recipe(recipe)).exclude else []
    return list(exclude)


def _excluded(source: Source, recipe: str, exclude: Collection[str] | None) -> set[str]:
    """The ids of the classes that are left out. A list that has a name may have others than the source."""
    spelt, excluded = _spellings(source), set()
    known = {spelling for entry in imagenet1k().items() for spelling in map(slug, entry)}
    has_wnids = any(map(is_wnid, source.classes))
    for name in _names(recipe, exclude):
        if (listed := exclusion(name)) is not None:
            if not has_wnids:
                raise BadInput(f"{source.where}: its classes ({', '.join(list(source.classes)[:3])}, ...) are no "
                               f"WordNet ids, so those of {name} can't be left out: give the folder that holds "
                               f"n01440764 and so on, or say that it has none of them (--exclude {NONE})")
            excluded |= listed & source.classes.keys()
        elif (class_id := _find(name, spelt)) is not None:
            excluded.add(class_id)
        elif not has_wnids or slug(name) not in known:  # a class of ImageNet-1k may well be left out already
            if re.search(r"/|\.[a-z0-9]{1,5}$", name):
                raise NotFound(f"--exclude {name}: there is no such file, and {source.where} has no class of that name")
            raise _no_class(source, name, [*spelt, *NAMED, NONE], f"; or the name of a list: {_LISTS}")
    return excluded


def _refuse_nominal(exposure: ExposurePlan, path: str | None, chosen: Mapping[str, str], asked: list[str]) -> None:
    """A class that both have by its WordNet id is the same class; other names may be shared by chance."""
    there = {class_id for spill in exposure.spills for class_id, _, _ in spill}
    if both := {class_id: name for class_id, name in chosen.items() if class_id in there and is_wnid(class_id)}:
        ids = [*asked, *both]
        fitting = [name for name in NAMED if both.keys() <= exclusion(name)]
        remedy = f"--exclude {','.join(ids)}" if len(ids) <= 10 else "--exclude FILE, with a class a line"
        raise BadInput(f"{path} has images of {len(both)} of the classes to be learned and tested, which exposure must "
                       f"not have: {class_names(both, 5)}. Leave them out{', too' if asked else ''} "
                       f"({' or '.join([remedy, *(f'--exclude {name}' for name in fitting)])})")


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
            raise BadInput(f"{source.where} has none of the recipe's {len(known)} classes; it has "
                           f"{class_names(_shown(source), 5)}: choose with --classes A,B or --classes all")
    elif wanted is None or wanted == ("all",):
        chosen = list(source.classes)
    else:
        found: dict[str, str] = {}
        for name in wanted:
            class_id = _find_class(source, name)
            if class_id in found:
                raise BadInput(f"class {class_name(class_id, source.classes[class_id])} is named twice"
                               + (f": as {found[class_id]} and as {name}" if found[class_id] != name else ""))
            found[class_id] = name
        chosen = [class_id for class_id in source.classes if class_id in found]
    if not any(source.about("train", class_id) for class_id in chosen):
        shown = class_names({class_id: source.classes[class_id] for class_id in chosen}, 5)
        raise BadInput(f"{source.where} has no train images" + ("" if wanted is None else f" of {shown}"))
    return chosen


def _find_class(source: Source, name: str) -> str:
    spelt = _spellings(source)
    if (class_id := _find(name, spelt)) is None:
        raise _no_class(source, name, spelt)
    return class_id


def _spellings(source: Source) -> dict[str, str]:
    """What each class may be called -> its id: its id and its name, and ImageNet's where it has a WordNet id."""
    shown = _shown(source)
    return {**{slug(name): class_id for class_id, name in shown.items()},
            **{name: class_id for class_id, name in shown.items()},
            **{name: class_id for class_id, name in source.classes.items()},
            **{class_id: class_id for class_id in source.classes}}


def _find(name: str, spelt: Mapping[str, str]) -> str | None:
    return spelt.get(name) or spelt.get(slug(name))


def _shown(source: Source) -> dict[str, str]:
    """The classes with the names of ImageNet-1k where they have none of their own."""
    return {class_id: imagenet1k().get(class_id, name) if is_wnid(name) else name
            for class_id, name in source.classes.items()}


def _no_class(source: Source, name: str, known: Iterable[str], hint: str = "") -> BadInput:
    return BadInput(f"{source.where} has no class {name!r}{nearest(name, known)}; it has: "
                    f"{class_names(_shown(source), 10)}{hint}")


def _silent(line: str) -> None:
    pass
