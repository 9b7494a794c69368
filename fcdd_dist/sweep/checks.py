"""What can be known of a sweep before anything starts: of its data from manifests and one listing, of its size and
its search from the values that are asked for."""

from __future__ import annotations

from collections.abc import Sequence

from ..data.manifest import EXPOSURE, Manifest, check_sizes
from ..errors import BadInput
from ..experiment import Experiment
from ..run import Job, Prepared, load_data, prepare
from ..storage import open_store
from .fields import check_settings, check_space
from .searchers import SEARCHERS
from .space import count, shown
from .value import Search, Sweep

MOST_SETTINGS, MOST_TRIALS = 10_000, 100_000  # what a driver can keep in mind


def check_classes(wanted: Sequence[str], manifest: Manifest, where: str) -> tuple[str, ...]:
    """The class ids that are meant: all that can be trained on for ``("all",)``, else each by id or display name.

    Raises BadInput for a class that is not there, has no training images, or is named twice.
    """
    there = [entry.id for entry in manifest.classes if manifest.part("train", entry.id) is not None]
    if tuple(wanted) == ("all",):
        return tuple(there)
    found: dict[str, str] = {}
    for name in wanted:
        class_id = manifest.class_id(name)
        if class_id in found:
            again = f"{name!r}" if name == found[class_id] else f"{found[class_id]!r} and {name!r}, which is the same,"
            raise BadInput(f"--nominal names {again} twice")
        if class_id not in there:
            raise BadInput(f"{where} has no training images of class {class_id!r}: choose another, or shard more")
        found[class_id] = name
    return tuple(found)


def prepare_first(experiment: Experiment, data: str, exposure: str | None, run: str, *,
                  nominal: Sequence[str]) -> tuple[Prepared, tuple[str, ...]]:
    """The data of all ``nominal`` classes, checked as those of a run are, for the first; and the ids of the classes."""
    store = open_store(data)
    manifest = load_data(store, experiment.data.recipe)
    classes = check_classes(nominal, manifest, store.url)
    if not classes:
        raise BadInput(f"{store.url} has no class with training images")
    first = experiment.model_copy(update={"data": experiment.data.model_copy(update={"nominal": classes[0]})})
    prepared = prepare(Job(experiment=first, data=data, exposure=exposure, run=run))
    shards = [shard for split in ("train", "holdout") for class_id in classes
              if (part := manifest.part(split, class_id)) is not None for shard in part.shards]
    check_sizes(store, tuple(shards))
    return prepared, classes


def check_size(sweep: Sweep) -> None:
    """Raises BadInput where there would be more settings or trainings than ``MOST_``."""
    cells = len(sweep.classes) * sweep.seeds
    if cells > MOST_TRIALS:
        classes = f"{len(sweep.classes)} class{'es' * (len(sweep.classes) > 1)}"
        raise BadInput(f"{classes} with {sweep.seeds:,} seeds each are {cells:,} trainings, and a sweep has "
                       f"{MOST_TRIALS:,} at most: give fewer --seeds, or make several sweeps")
    if sweep.search is None:
        return
    search, each = sweep.search, len(sweep.classes) * sweep.search.seeds
    settings = search.samples if search.searcher == "optuna" else count(search.space, search.samples)
    if settings > MOST_SETTINGS:
        raise BadInput(f"the search has {settings:,} settings, and it can have {MOST_SETTINGS:,} at most: give fewer "
                       f"--samples, or shorter grids")
    if settings * each > MOST_TRIALS:
        raise BadInput(f"the search has {settings:,} settings with {each:,} trainings each (classes x --search-seeds), "
                       f"and it can have {MOST_TRIALS:,} trainings at most: give fewer of these")


def check_tried(search: Search, experiment: Experiment, workers: int) -> None:
    """Raises BadInput where ``experiment`` can't have what the search tries, ``workers`` can't share it, or there is
    nothing to compare. Of Optuna's settings only the first ones are known; for the others stands their space."""
    check_space(search.space, experiment, workers)
    searcher = SEARCHERS[search.searcher](search.space, search.samples, search.seed)
    settings = searcher.settings({})
    check_settings(settings, experiment, workers)
    if len(settings) == 1 and (searcher.finished({}) or all(len(axis.values) == 1 for axis in search.space.values())):
        raise BadInput(f"the search has a single setting ({shown(settings[0])}), and nothing to compare it with: give "
                       f"more values or more --samples; or give it by --set, without a search")


def check_search(prepared: Prepared, classes: Sequence[str]) -> None:
    """Raises BadInput where settings could not be compared, for want of a hold-out."""
    manifest, exposure = prepared.data, prepared.exposure
    for class_id in classes:
        if manifest.part("holdout", class_id) is None:
            raise BadInput(f"{prepared.data_store.url} has no hold-out images of class {class_id!r}, and settings are "
                           f"compared on nothing else: shard more images")
    if exposure is None:
        raise BadInput("settings are compared on images of the exposure set, too, and exposure.probability is 0: set "
                       "it above 0")
    if exposure.part("holdout", EXPOSURE) is None:
        raise BadInput("the exposure set has no hold-out images, and settings are compared on nothing else: shard more "
                       "images")
