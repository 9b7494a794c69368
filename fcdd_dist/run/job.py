"""A job as a value, and what the driver checks before anything expensive starts: manifests and listings, no images."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from .. import checkpoint
from ..data.manifest import EXPOSURE, MANIFEST, Manifest, Part, Shard, Split, check_sizes, load_manifest
from ..data.order import Cursor
from ..errors import BadInput, Conflict, NotFound
from ..experiment import Count, Experiment, Fraction, Positive, Value, differences, identity
from ..model.architectures import check_fit
from ..recipes import recipe
from ..storage import Cache, CachedStore, FolderStore, Store, open_store
from ..storage.lease import LEASE
from ..words import counted

EXPERIMENT, RESULT, STOP = "experiment.json", "result.json", "stop.json"
_NO_RUN_YET = (".ray/", ".probe-", "board/", "lease/", LEASE)  # what may be there before a run is


class Job(Value):
    """What to compute (``experiment``), from what, and where it goes. URLs are absolute."""

    experiment: Experiment
    data: str
    exposure: str | None = None  # None for the default one, ``<data>/exposure``
    run: str
    checkpoint_every_s: Positive = 60.0
    keep: Count = 2  # newest checkpoints that are kept, beside the best
    sharers: Count = 1  # jobs that run on a machine beside each other, this one among them
    budget_bytes: int | None = None  # decoded bytes a split may keep on the device; None for a share of what is free
    threshold_budget: Fraction = 0.05  # share of nominal images that the threshold may flag
    threads: Count | None = None  # None for torch's default
    decode: Literal["cpu", "cuda"] = "cpu"  # who decodes the JPEGs that are trained on; pixels differ in the last bits
    cache: str | None = None  # a folder of each machine for the shards of object storage; None for no cache
    cache_bytes: Count = 50 * 10**9  # that the cache may hold, together with whoever else uses it
    evaluate: bool = True  # on the test split at the end; a search must not look at it
    attempt: int | None = None  # of the lease under which a commit counts; None where nobody else can be there

    def to_json(self) -> str:
        return self.model_dump_json()

    @classmethod
    def from_json(cls, text: str) -> Job:
        return cls.model_validate_json(text)


@dataclass(frozen=True)
class Prepared:
    """A checked job: its data sets exist, fit each other and the net, and have the class."""

    job: Job  # with the class as an id and the form of the data
    data: Manifest
    exposure: Manifest | None
    data_store: Store
    exposure_store: Store | None

    @property
    def experiment(self) -> Experiment:
        return self.job.experiment

    @cached_property
    def fingerprint(self) -> str:
        return fingerprint(self.experiment, self.data.id, self.exposure.id if self.exposure else None)

    @property
    def class_name(self) -> str:
        return self.data.class_name(self.experiment.data.nominal)

    def shards(self, which: str, *splits: Split) -> tuple[Shard, ...]:
        """The shards of ``"nominal"`` or ``"exposure"`` in the given splits."""
        return tuple(shard for part in self.parts(which, *splits) for shard in part.shards)

    def parts(self, which: str, *splits: Split) -> list[Part]:
        manifest, class_id = (self.data, self.experiment.data.nominal) if which == "nominal" else (
            self.exposure, EXPOSURE)
        found = [manifest.part(split, class_id) for split in splits] if manifest else []
        return [part for part in found if part is not None]

    @property
    def trained_on(self) -> tuple[Split, ...]:
        return ("train",) if self.experiment.data.train_on == "train" else ("train", "holdout")

    @property
    def has_holdout(self) -> bool:
        return self.experiment.data.train_on == "train" and bool(self.shards("nominal", "holdout"))

    @property
    def result(self) -> dict | None:
        """The result that is in the run folder now, or None."""
        try:
            result = json.loads(open_store(self.job.run).read(RESULT))
            result["fingerprint"], result["epochs"]
        except NotFound:
            return None
        except (ValueError, KeyError, TypeError):
            raise BadInput(f"{self.job.run}/{RESULT} is damaged: delete it, and the run is evaluated again") from None
        return result

    @property
    def done(self) -> bool:
        """Whether the run folder has, by now, a result for as many epochs of this very experiment, where one is asked
        for."""
        result = self.result if self.job.evaluate else None
        return (result is not None and result["fingerprint"] == self.fingerprint
                and result["epochs"] >= self.experiment.epochs)

    @property
    def summary(self) -> list[str]:
        """What is about to happen, for a person."""
        e = self.experiment
        nominal = sum(part.samples for part in self.parts("nominal", *self.trained_on))
        exposure = sum(part.samples for part in self.parts("exposure", *self.trained_on))
        held = sum(part.samples for part in self.parts("nominal", "holdout")) if self.has_holdout else 0
        return [f"{e.data.recipe}: {self.class_name!r} is nominal, {nominal} images; {exposure} images of outlier "
                f"exposure; {held} held out",
                f"network {e.network.name}, {e.precision}, batches of {e.batch_size}, {counted(e.epochs, 'epoch')}, "
                f"seed {e.seed}",
                f"run {self.job.run}"]


def fingerprint(experiment: Experiment, data_id: str, exposure_id: str | None) -> str:
    """Stands for what is computed from which data. ``exposure_id`` is None where the experiment takes none."""
    return identity([experiment.id, data_id, exposure_id])


def prepare(job: Job) -> Prepared:
    """Checks a job by reading manifests and listings, no images. Raises BadInput in one line."""
    recipe(job.experiment.data.recipe)
    store = _open(job.data, job)
    data = load_data(store, job.experiment.data.recipe)
    nominal = data.class_id(job.experiment.data.nominal)
    experiment = _with(job.experiment, nominal, data)
    part = data.part("train", nominal)
    if part is None:
        raise BadInput(f"{store.url} has no training images of class {nominal!r}: choose another, or shard more")
    exposure_store, exposure = _exposure(job, store, data)
    prepared = Prepared(job.model_copy(update={"experiment": experiment}), data, exposure, store, exposure_store)
    check_fit(experiment)
    if job.decode == "cuda" and data.form.quality is None:
        raise BadInput(f"decode=cuda is for JPEG, and {store.url} is stored as {data.form}: leave it out")
    tested = data.splits.get("test", {}).values() if job.evaluate else ()
    test = tuple(shard for part in tested for shard in part.shards)
    check_sizes(store, prepared.shards("nominal", "train", "holdout") + test)
    if exposure_store is not None:
        check_sizes(exposure_store, prepared.shards("exposure", "train", "holdout"))
    return prepared


def load_data(store: Store, recipe_name: str) -> Manifest:
    """The manifest of a data set. Raises BadInput where there is none, an exposure set, or that of another recipe."""
    data = load_manifest(store)
    if data.kind == "exposure":
        raise BadInput(f"{store.url} is an exposure set: give it with --exposure, and a data set with --data")
    if data.recipe != recipe_name:
        raise BadInput(f"{store.url} is a data set of recipe {data.recipe}, not {recipe_name}")
    return data


def check(prepared: Prepared) -> None:
    """Raises Conflict, with the differences, where the run folder is another experiment's or somebody else's.

    Also where the run has been trained for more epochs than are asked for, without being finished.
    """
    run = open_store(prepared.job.run)
    there = _standing(run)
    if there is None:
        if any(True for entry in run.list() if not entry.key.startswith(_NO_RUN_YET)):
            raise Conflict(f"{run.url} holds other files and no run: give another --name or --storage")
        return
    other = Experiment.from_json(json.dumps(there["experiment"]))
    if there["fingerprint"] == prepared.fingerprint:
        trained = max((checkpoint.position(name) for name in checkpoint.names(run)), default=Cursor())
        if trained > Cursor(prepared.experiment.epochs) and not prepared.done:
            raise Conflict(f"{run.url} is in epoch {trained.epoch + 1}, beyond the {prepared.experiment.epochs} epochs "
                           f"that are asked for: ask for as many, or give another --name")
        return
    wanted = _experiment_record(prepared)
    found = differences(prepared.experiment, other)
    if there["data_id"] != prepared.data.id:
        same = there.get("data_content") == prepared.data.content
        found.append(f"data set: {there['data_id']} -> {prepared.data.id}"
                     + (" (the same images in other shards)" if same else ""))
    if there["exposure_id"] != wanted["exposure_id"]:
        found.append(f"exposure set: {there['exposure_id']} -> {wanted['exposure_id']}")
    raise Conflict(f"{run.url} is a run of another experiment ({'; '.join(found)}): give another --name")


def claim(prepared: Prepared) -> None:
    """Makes the run folder this experiment's, for at least its epochs. To be called by whoever holds its lease.

    Raises Conflict as ``check`` does.
    """
    check(prepared)
    run = open_store(prepared.job.run)
    there = _standing(run)
    if there is None or there["experiment"]["epochs"] < prepared.experiment.epochs:  # no part of the identity
        run.write(EXPERIMENT, json.dumps(_experiment_record(prepared), indent=1).encode())


def _standing(run: Store) -> dict | None:
    """The record of the run that is in a folder. Raises BadInput where it is damaged."""
    try:
        text = run.read(EXPERIMENT)
    except NotFound:
        return None
    try:
        there = json.loads(text)
        Experiment.from_json(json.dumps(there["experiment"]))
        there["fingerprint"], there["data_id"], there["exposure_id"]
    except (ValueError, KeyError, TypeError, BadInput) as error:
        raise BadInput(f"{run.url}/{EXPERIMENT} is damaged ({error}): give another --name") from None
    return there


def _with(experiment: Experiment, nominal: str, data: Manifest) -> Experiment:
    update = {"nominal": nominal, "form": data.form}
    return experiment.model_copy(update={"data": experiment.data.model_copy(update=update)})


def _open(url: str, job: Job) -> Store:
    """The store of a data set, with the job's cache before it unless it is a folder, which needs none."""
    store = open_store(url)
    if job.cache is None or isinstance(store, FolderStore):
        return store
    return CachedStore(store, Cache(job.cache, job.cache_bytes))


def _exposure(job: Job, store: Store, data: Manifest) -> tuple[Store | None, Manifest | None]:
    if not job.experiment.exposure.probability:
        return None, None
    if job.exposure is None:
        default = store.at(EXPOSURE)
        if not any(True for _ in default.list(MANIFEST)):
            raise BadInput(f"{store.url} has no exposure set and the objective has a trivial optimum without anomalies:"
                           f" shard one, or give one with --exposure")
        exposure_store = default
    else:
        exposure_store = _open(job.exposure, job)
    exposure = load_manifest(exposure_store)
    if exposure.kind != "exposure":
        raise BadInput(f"{exposure_store.url} is no exposure set: `fcdd-dist shard exposure` writes one")
    if exposure.form != data.form:
        raise BadInput(f"{exposure_store.url} is stored as {exposure.form} and {store.url} as {data.form}: the net "
                       f"would learn the difference; shard the exposure set again with --like {data.recipe}")
    if exposure.part("train", EXPOSURE) is None:
        raise BadInput(f"{exposure_store.url} has no training images")
    return exposure_store, exposure


def _experiment_record(prepared: Prepared) -> dict:
    job, e = prepared.job, prepared.experiment
    return {"schema_version": 1, "experiment": e.model_dump(mode="json"), "experiment_id": e.id,
            "fingerprint": prepared.fingerprint, "data_id": prepared.data.id,
            "exposure_id": prepared.exposure.id if prepared.exposure else None,
            "data_content": prepared.data.content, "data": job.data,
            "exposure": prepared.exposure_store.url if prepared.exposure_store else None,
            "class_name": prepared.class_name}
