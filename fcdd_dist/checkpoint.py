"""A checkpoint on storage: a folder with tensors and, written last, the record that names and vouches for them.

    checkpoints/epoch-000040/detector.safetensors     the net's weights and running statistics
    checkpoints/epoch-000040/optimizer.safetensors    the optimizer's tensors
    checkpoints/epoch-000040/checkpoint.json          everything else, with sizes and checksums of the two

A checkpoint that was taken in mid-epoch is called ``epoch-000040-step-000012``. What has no record, or whose files do
not verify, does not exist: readers skip and name it. Nothing is ever unpickled.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from itertools import islice
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, ValidationError

from .data.order import Cursor
from .errors import BadInput, Damaged, NotFound
from .experiment import Experiment, Value, explain, newer_schema
from .model.heatmap_scale import HeatmapScale
from .model.normalization import Preprocessing
from .storage import Store, absolute, exists, open_store

if TYPE_CHECKING:
    import torch

FOLDER = "checkpoints"
SCHEMA = 1
RECORD, DETECTOR, OPTIMIZER = "checkpoint.json", "detector.safetensors", "optimizer.safetensors"
_LOOKED_AT = 2_000  # keys of a folder that holds no checkpoint, for runs to name; a bucket may hold millions
_NAME = re.compile(r"epoch-(\d{6})(?:-step-(\d{6}))?")


class File(Value):
    bytes: int
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class Position(Value):
    epoch: int
    step: int


class Threshold(Value):
    """Scores above ``value`` are flagged; null where there was nothing to choose it on, ``how`` says why."""

    value: float | None
    budget: float  # the share of nominal images that may be flagged
    images: int  # that it was chosen on
    how: str


class Record(Value):
    """``checkpoint.json``."""

    schema_version: Literal[1] = SCHEMA
    experiment: Experiment
    experiment_id: str
    fingerprint: str  # of experiment, data set and exposure set
    data_id: str
    exposure_id: str | None
    class_name: str
    cursor: Position  # the next step
    sums: dict[str, float]  # over the epoch so far
    history: tuple[dict[str, Any], ...]  # the finished epochs, as lines of metrics.jsonl
    preprocessing: Preprocessing
    heatmap_scale: HeatmapScale | None
    threshold: Threshold
    versions: dict[str, str]  # of what a bit-exact repetition needs; "decode": who decoded JPEG, "cpu, then cuda"
    threads: int
    workers: int
    files: dict[str, File]


def name_of(cursor: Cursor) -> str:
    return f"epoch-{cursor.epoch:06d}" + (f"-step-{cursor.step:06d}" if cursor.step else "")


def position(name: str) -> Cursor | None:
    """The cursor of a checkpoint's name, or None where it is no such name."""
    match = _NAME.fullmatch(name)
    return Cursor(int(match[1]), int(match[2] or 0)) if match else None


def write(run: Store, record: Record, files: dict[str, bytes], check: Callable[[], None] = lambda: None) -> str:
    """Commits a checkpoint of the run, data first, and returns its name. ``record.files`` is filled in here.

    ``check`` is called before each object, and raises where it must not be written: the one before may have taken long.
    """
    name = name_of(Cursor(record.cursor.epoch, record.cursor.step))
    store = run.at(f"{FOLDER}/{name}")
    check()
    store.delete(RECORD)  # taking the same position again: the old files are no longer vouched for
    for file, data in files.items():
        check()
        store.write(file, data)
    record = record.model_copy(update={"files": {
        file: File(bytes=len(data), sha256=hashlib.sha256(data).hexdigest()) for file, data in files.items()}})
    check()
    store.write(RECORD, record.model_dump_json(indent=1).encode())
    return name


def names(run: Store) -> list[str]:
    """The names of checkpoints that have a record, oldest first. They are not verified."""
    found = [entry.key.split("/")[1] for entry in run.list(f"{FOLDER}/") if entry.key.endswith(f"/{RECORD}")]
    return sorted((name for name in found if position(name)), key=position)


def read_record(store: Store) -> Record:
    """The record of the checkpoint in ``store``. Raises NotFound or Damaged."""
    text = store.read(RECORD)
    if newer_schema(text, SCHEMA):
        raise Damaged(f"{store.url}/{RECORD} was written by a newer fcdd_dist: update this one")
    try:
        return Record.model_validate_json(text)
    except ValidationError as error:
        raise Damaged(f"{store.url}/{RECORD} is damaged: {explain(error, Record)}") from None


def read(store: Store, *wanted: str) -> tuple[Record, dict[str, dict[str, torch.Tensor]]]:
    """The record and the tensors of the ``wanted`` files of the checkpoint in ``store``, all verified.

    Raises Damaged, or NotFound where there is no record.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    record = read_record(store)
    tensors = {}
    for file in wanted:
        expected = record.files.get(file)
        if expected is None:
            raise Damaged(f"{store.url}/{RECORD} does not name {file}")
        try:
            data = store.verified(file, expected.bytes, expected.sha256)
        except NotFound:
            raise Damaged(f"{store.url}/{file} is missing, though {RECORD} names it") from None
        except Damaged as error:
            raise Damaged(f"{error}: it was altered since {RECORD} was written") from None
        try:
            tensors[file] = load(data)
        except SafetensorError as error:
            raise Damaged(f"{store.url}/{file} is no safetensors file: {error}") from None
    return record, tensors


def last(run: Store, say: Callable[[str], None]) -> str | None:
    """The name of the newest checkpoint of a run that verifies; newer ones that don't are named through ``say``."""
    for name in reversed(names(run)):
        try:
            read(run.at(f"{FOLDER}/{name}"), DETECTOR, OPTIMIZER)
        except (Damaged, NotFound) as error:
            say(f"skipping checkpoint {name}: {error}")
        else:
            return name
    return None


def best(run: Store) -> str | None:
    """The checkpoint at the end of the epoch with the lowest hold-out loss among those whose records can be read."""
    losses = {}
    for name in names(run):
        try:
            history = read_record(run.at(f"{FOLDER}/{name}")).history
        except (Damaged, NotFound):  # or it went since it was listed
            continue
        loss = history[-1].get("holdout_loss") if history and not position(name).step else None
        if isinstance(loss, int | float):
            losses[name] = loss
    return min(losses, key=losses.get, default=None)


def retain(run: Store, keep: int) -> None:
    """Removes all checkpoints but the ``keep`` newest and the best."""
    there = names(run)
    kept = {*there[-keep:], best(run)}
    for name in there:
        if name not in kept:
            _remove(run, name)


def remove_after(run: Store, name: str | None) -> None:
    """Removes all checkpoints that are newer than ``name``, or all."""
    there = names(run)
    for newer in there[there.index(name) + 1:] if name else there:
        _remove(run, newer)


def _remove(run: Store, name: str) -> None:
    """The record first, so that the checkpoint is never half there."""
    run.delete(f"{FOLDER}/{name}/{RECORD}")
    for entry in list(run.list(f"{FOLDER}/{name}/")):
        run.delete(entry.key)


def locate(url: str) -> Store:
    """The checkpoint that ``url`` means: a checkpoint itself, a run (its last one), ``RUN/last`` or ``RUN/best``.

    Raises BadInput where there is none.
    """
    store = open_store(url)
    if exists(store, RECORD):
        return store
    if names(store):
        return of_run(store, "last")
    parent, _, which = absolute(url).rpartition("/")
    if which in ("last", "best") and names(open_store(parent)):
        return of_run(open_store(parent), which)
    below = next((key for entry in islice(store.list(), _LOOKED_AT) if (key := entry.key).endswith(f"/{RECORD}")), None)
    if below is not None:
        some = below.partition(f"/{FOLDER}/")[0]
        raise NotFound(f"{url} holds runs and is none: give one of them, such as {url}/{some}")
    raise NotFound(f"{url} holds no checkpoint: give a run, RUN/best, RUN/last, or a folder in RUN/{FOLDER}/")


def of_run(run: Store, which: Literal["last", "best"]) -> Store:
    """The last or best checkpoint of a run. Raises BadInput where there is none."""
    found = names(run)
    name = (found[-1] if found else None) if which == "last" else best(run)
    if name is None:
        why = "it has no checkpoint" if not found else "it set no images aside, so that no loss on them is known"
        raise BadInput(f"{run.url} has no {which} checkpoint: {why}")
    return run.at(f"{FOLDER}/{name}")

