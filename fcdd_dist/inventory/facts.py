"""What the small records of places say, read leniently: one that is damaged is told of, and never stops a listing."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Container, Iterable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from .. import checkpoint
from ..checkpoint import Record
from ..data.manifest import EXPOSURE, Manifest, load_manifest
from ..errors import BadInput, Damaged, NotFound
from ..run.job import RESULT
from ..storage import Store
from ..sweep.rendering import search_line
from ..sweep.space import shown as shown_setting
from ..sweep.table import TABLE
from ..sweep.value import TRIALS
from ..threads import ahead
from ..words import duration
from .survey import Place, Survey

UNREADABLE = (ValueError, KeyError, TypeError, RecursionError, OverflowError)  # what a damaged record can lead to
_THREADS = 16  # small records are all waiting
_DIGITS = 18  # of an integer; none of ours has more
_ENDS = ("done", "stopped", "failed")  # states in a table that stay true while trials go on
_T, _R = TypeVar("_T"), TypeVar("_R")


@dataclass(frozen=True)
class Trial:
    """What the table of a sweep tells of a trial; ``state``: how it, or its setting, has ended."""

    state: str | None = None
    reason: str | None = None  # why it failed
    setting: str | None = None  # of a search


@dataclass
class Facts:
    """Of one place, for a line of ``ls``. What is not known is None."""

    place: Place
    bytes: int
    modified: float | None
    damaged: str | None = None  # why its record can't be read
    class_name: str | None = None
    epoch: int | None = None
    epochs: int | None = None
    auroc: float | None = None
    holdout_loss: float | None = None
    step: int = 0  # of a checkpoint that was taken in the middle of an epoch
    missing: str | None = None  # what makes a checkpoint or data set incomplete
    recipe: str | None = None
    classes: int | None = None
    images: int | None = None
    exposure: int | None = None  # images of the exposure set within
    tasks: int | None = None  # of an unfinished sharding
    tasks_done: int | None = None
    seeds: int | None = None  # of a sweep
    cells: int | None = None  # classes x seeds
    cells_done: int | None = None
    search: str | None = None  # what it has come to
    trials: dict[str, Trial] = field(default_factory=dict)  # by folder
    trial: Trial = Trial()  # of a run that is one


def facts_of(store: Store, found: Survey, *, trials: bool) -> list[Facts]:
    """Of all places but exposure sets within data sets and checkpoints within runs; the records read in parallel.

    ``trials``: also of the runs of sweeps, of which else the sweeps tell, unless their own records are damaged.
    """
    def read(places: Iterable[Place]) -> dict[Place, Facts]:
        chosen = [place for place in places if not _within(place)]
        return dict(zip(chosen, in_parallel(lambda place: facts(store, place), chosen), strict=True))

    sweeps = read(place for place in found.all() if place.kind == "sweep")
    told = {place for place, one in sweeps.items() if not (trials or one.damaged)}
    others = read(place for place in found.all() if place.kind != "sweep" and not _is_trial(place, told))
    for place, one in others.items():
        if place.outer in sweeps:
            folder = place.name.removeprefix(place.outer.prefix)
            one.trial = sweeps[place.outer].trials.get(folder, one.trial)
    return [known for place in found.all() if (known := sweeps.get(place) or others.get(place))]


def facts(store: Store, place: Place) -> Facts:
    """Of one place. Reads its record, and of a run the result, too."""
    entries = place.entries
    out = Facts(place, sum(entry.size for entry in entries), max((entry.modified for entry in entries), default=None))
    try:
        _READERS[place.kind](place.at(store), place, out)
    except (Damaged, BadInput) as error:
        out.damaged = str(error).removeprefix(f"{place.at(store).url}/")
    except UNREADABLE as error:
        out.damaged = f"{place.record} is damaged: {error}"
    return out


def in_parallel(function: Callable[[_T], _R], values: Iterable[_T]) -> list[_R]:
    """``function`` of each of the ``values``, in their order."""
    return list(ahead(function, values, _THREADS, "records"))


def incomplete(place: Place, record: Record) -> str | None:
    """What is wrong with a checkpoint by the sizes of its files; None where nothing is."""
    for file, expected in record.files.items():
        entry = place.own.get(file)
        if entry is None:
            return f"{file} is missing"
        if entry.size != expected.bytes:
            return f"{file} has {entry.size} bytes and should have {expected.bytes}"
    return None


def missing_shards(place: Place, manifest: Manifest) -> str | None:
    """What is wrong with a data set by the sizes of its shards; None where nothing is."""
    wrong = [shard.key for parts in manifest.splits.values() for part in parts.values() for shard in part.shards
             if shard.key not in place.own or place.own[shard.key].size != shard.bytes]
    return f"{len(wrong)} shards are missing or of another size, such as {wrong[0]}" if wrong else None


def read_json(store: Store, key: str) -> dict[str, Any]:
    """A record as it is. Raises NotFound, and Damaged where it is no JSON object."""
    try:
        tree = json.loads(store.read(key), parse_int=_integer)
    except (ValueError, RecursionError):
        raise Damaged(f"{store.url}/{key} is damaged: it is no JSON that we write") from None
    if not isinstance(tree, dict):
        raise Damaged(f"{store.url}/{key} is damaged: it holds no JSON object")
    return tree


def _run(store: Store, place: Place, out: Facts) -> None:
    tree = read_json(store, place.record)
    experiment = _typed(tree, "experiment", dict) or {}
    out.class_name, out.epochs = _typed(tree, "class_name", str), _typed(experiment, "epochs", int)
    out.recipe = _typed(_typed(experiment, "data", dict) or {}, "recipe", str)
    if out.class_name is None or out.epochs is None:
        raise Damaged(f"{store.url}/{place.record} is damaged: it tells no class or no epochs")
    whole = [place.base for place in place.checkpoints if place.has_record]
    if whole:
        out.epoch = checkpoint.position(whole[-1]).epoch
    if RESULT in place.own:
        try:
            result = read_json(store, RESULT)
        except NotFound:  # replaced just now
            return
        out.auroc = _typed(result, "auroc", float)
        out.epoch = max(_typed(result, "epochs", int) or 0, out.epoch or 0)


def _sweep(store: Store, place: Place, out: Facts) -> None:
    tree = read_json(store, place.record)
    experiment = _typed(tree, "experiment", dict) or {}
    classes, out.seeds = _typed(tree, "classes", list), _typed(tree, "seeds", int)
    out.recipe = _typed(_typed(experiment, "data", dict) or {}, "recipe", str)
    out.epochs = _typed(experiment, "epochs", int)
    if classes is None or out.seeds is None:
        raise Damaged(f"{store.url}/{place.record} is damaged: it tells no classes or no seeds")
    out.classes, out.cells = len(classes), len(classes) * out.seeds
    if TABLE not in place.own:
        out.cells_done = 0
        return
    try:
        table = read_json(store, TABLE)
        out.cells_done = sum(cell["state"] == "done" for cell in table["cells"])
        out.auroc = _typed(table["mean"], "auroc_mean", float)
        out.trials = _trials(table)
        out.search = search_line(table["search"]) if table["search"] else None
    except (Damaged, AttributeError, IndexError, *UNREADABLE):
        out.missing = f"{TABLE} is damaged: the same sweep, given again, writes it"


def _trials(table: dict[str, Any]) -> dict[str, Trial]:
    """A run that is tested may have been one of the search: then the test is what counts."""
    found, search, setting = {}, table["search"], None
    for row in search["settings"] if search else ():
        for cell in row["cells"]:
            found[cell["trial"]] = _trial(row["state"], cell["reason"], shown_setting(row["settings"]))
    if search and search["selected"] is not None:
        setting = shown_setting(search["settings"][search["selected"]]["settings"])
    return found | {cell["trial"]: _trial(cell["state"], cell["reason"], setting) for cell in table["cells"]
                    if cell["trial"]}


def _trial(state: str, reason: str | None, setting: str | None) -> Trial:
    return Trial(state if state in _ENDS else None, reason, setting)


def _data_set(store: Store, place: Place, out: Facts) -> None:
    manifest = load_manifest(store)
    out.recipe, out.classes, out.missing = manifest.recipe, len(manifest.classes), missing_shards(place, manifest)
    out.images = _images(manifest)
    if manifest.kind == EXPOSURE:
        out.class_name = EXPOSURE
    for inner in place.inner:
        if _is_exposure(inner):
            out.exposure = _images(load_manifest(store.at(EXPOSURE)))


def _checkpoint(store: Store, place: Place, out: Facts) -> None:
    cursor = checkpoint.position(place.base)
    if cursor:
        out.epoch, out.step = cursor.epoch, cursor.step
    if not place.has_record:
        out.missing = f"no {place.record}"
        return
    record = checkpoint.read_record(store)
    out.epoch, out.step, out.class_name = record.cursor.epoch, record.cursor.step, record.class_name
    out.epochs, out.recipe = record.experiment.epochs, record.experiment.data.recipe
    out.missing = incomplete(place, record)
    if record.history and not out.step:
        out.holdout_loss = _typed(record.history[-1], "holdout_loss", float)


_READERS = {"run": _run, "sweep": _sweep, "data set": _data_set, "checkpoint": _checkpoint}


def _is_trial(place: Place, sweeps: Container[Place]) -> bool:
    """Whether it is in the folder that one of the ``sweeps`` has for its trials."""
    outer = place.outer
    while outer is not None and outer not in sweeps:
        outer = outer.outer
    return outer is not None and place.prefix.startswith(f"{outer.prefix}{TRIALS}/")


def _within(place: Place) -> bool:
    """Whether a line of another place speaks for this one."""
    return _is_exposure(place) or (place.kind == "checkpoint" and place.outer is not None and place.outer.kind == "run")


def _is_exposure(place: Place) -> bool:
    """Whether it is the exposure set of the data set that it is in."""
    outer = place.outer
    return (place.kind == "data set" and outer is not None and outer.kind == "data set"
            and place.prefix == f"{outer.prefix}{EXPOSURE}/")


def _images(manifest: Manifest) -> int:
    return sum(part.samples for parts in manifest.splits.values() for part in parts.values())


def _integer(text: str) -> int:
    if len(text) > _DIGITS:
        raise ValueError
    return int(text)


def _typed(tree: dict, key: str, kind: type[_R]) -> _R | None:
    value = tree.get(key)
    if isinstance(value, bool) or (isinstance(value, float) and not math.isfinite(value)):
        return None
    if kind is float and isinstance(value, int):
        return float(value)
    return value if isinstance(value, kind) else None


def age(seconds: float) -> str:
    """How long ago, for a person."""
    for unit, size in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size or (size == 60 and seconds >= 60):
            return f"{seconds / size:.0f} {unit}"
    return f"{max(0, seconds):.0f} s"


def brief(seconds: float) -> str:
    """``duration``, with tenths where these are all that there is."""
    return f"{seconds:.1f} s" if seconds < 10 else duration(seconds)


def day(moment: float | None) -> str:
    try:
        return "" if moment is None else time.strftime("%Y-%m-%d %H:%M", time.localtime(moment))
    except (OverflowError, OSError, ValueError):  # a time of a file that no calendar has
        return ""


def shown(text: str) -> str:
    """A line for a terminal, where names may hold anything: as ``printable``, and control characters written out."""
    return "".join(c if c.isprintable() else f"\\x{ord(c) - 0xdc00:02x}" if "\udc80" <= c <= "\udcff" else repr(c)[1:-1]
                   for c in text)
