"""The record of a data set: ``manifest.json``, written last and never changed. What has no valid one does not exist.

    <data>/manifest.json
    <data>/<split>/<class>/000000.tar    a shard holds one split and one class
    <data>/exposure/manifest.json        an exposure set is a data set of its own, with a single class "exposure"
    <data>/exposure/<split>/exposure/000000.tar

One-vs-rest selects shards, so no sample is ever read to be thrown away.
"""

from __future__ import annotations

import re
from functools import cached_property
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, model_validator

from ..errors import BadInput, NotFound, nearest
from ..experiment import Count, Form, Value, explain, identity, newer_schema
from ..storage import Store
from ..words import class_names

MANIFEST = "manifest.json"
SCHEMA = 1
EXPOSURE = "exposure"  # the class of an exposure set, and the folder of the default one
Split = Literal["train", "holdout", "test"]
CLASS_ID = re.compile(r"[a-z0-9_-]+")


class Shard(Value):
    """A tar file of samples."""

    key: str
    samples: Count
    bytes: Count
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class Statistics(Value):
    """Measured on stored pixels scaled to [0, 1]; one entry a channel; mergeable.

    ``lcn_minimum`` and ``lcn_maximum`` are the extremes after local contrast normalisation (L1) of each image.
    """

    pixels: int  # values a channel
    sum: tuple[float, ...]
    sum_of_squares: tuple[float, ...]
    minimum: tuple[float, ...]
    maximum: tuple[float, ...]
    lcn_minimum: tuple[float, ...]
    lcn_maximum: tuple[float, ...]

    @property
    def mean(self) -> tuple[float, ...]:
        return tuple(total / self.pixels for total in self.sum)

    @property
    def std(self) -> tuple[float, ...]:
        """The unbiased standard deviation over all pixels, as the authors' constants have it."""
        return tuple(max(0.0, (squares - total * total / self.pixels) / max(1, self.pixels - 1)) ** 0.5
                     for total, squares in zip(self.sum, self.sum_of_squares, strict=True))

    def merge(self, other: Statistics) -> Statistics:
        def each(function, name):
            return tuple(function(a, b) for a, b in zip(getattr(self, name), getattr(other, name), strict=True))

        return Statistics(
            pixels=self.pixels + other.pixels,
            sum=each(lambda a, b: a + b, "sum"), sum_of_squares=each(lambda a, b: a + b, "sum_of_squares"),
            minimum=each(min, "minimum"), maximum=each(max, "maximum"),
            lcn_minimum=each(min, "lcn_minimum"), lcn_maximum=each(max, "lcn_maximum"))


class Part(Value):
    """One class of one split."""

    shards: Annotated[tuple[Shard, ...], Field(min_length=1)]
    statistics: Statistics

    @property
    def samples(self) -> int:
        return sum(shard.samples for shard in self.shards)


class ClassName(Value):
    id: Annotated[str, Field(pattern=f"^{CLASS_ID.pattern}$")]
    name: str


class LeftOut(Value):
    """An image that is not in the data set, and why."""

    source: str
    split: str
    class_id: str
    reason: str


class Manifest(Value):
    """See the module. ``splits[split][class id]`` is a Part; a class may lack a split."""

    schema_version: Literal[1] = SCHEMA
    kind: Literal["nominal", "exposure"]
    recipe: str
    form: Form
    classes: Annotated[tuple[ClassName, ...], Field(min_length=1)]
    splits: dict[Split, dict[str, Part]]
    left_out: tuple[LeftOut, ...] = ()
    excluded: tuple[str, ...] = ()  # classes that were deliberately kept out of an exposure set
    content: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]  # order-free digest of all decoded images
    versions: dict[str, str]  # of what decoded, scaled and encoded the images
    # What was asked for (``shards.plan.Plan.made_from``); no part of the id; sets of older versions have none.
    made_from: dict[str, Any] | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Manifest:
        known = {entry.id for entry in self.classes}
        if len(known) != len(self.classes):
            raise ValueError("a class is listed twice")
        for split, parts in self.splits.items():
            for class_id in parts:
                if class_id not in known:
                    raise ValueError(f"split {split} has a class {class_id!r} that is not among the classes")
        return self

    @cached_property
    def id(self) -> str:
        """Stands for the bytes: moving or copying a data set changes nothing, sharding it anew does."""
        return identity([self.schema_version, str(self.form), {
            split: {class_id: [[shard.samples, shard.sha256] for shard in part.shards]
                    for class_id, part in parts.items()} for split, parts in self.splits.items()}])

    def class_id(self, name: str) -> str:
        """The id of a class given by id or display name. Raises BadInput that lists the classes."""
        for entry in self.classes:
            if name in (entry.id, entry.name):
                return entry.id
        names = {entry.id: entry.name for entry in self.classes}
        raise BadInput(f"there is no class {name!r}{nearest(name, [*names, *names.values()])}; there are: "
                       f"{class_names(names, 40)}")

    def class_name(self, class_id: str) -> str:
        return next(entry.name for entry in self.classes if entry.id == class_id)

    def part(self, split: Split, class_id: str) -> Part | None:
        return self.splits.get(split, {}).get(class_id)

    def to_json(self) -> str:
        return self.model_dump_json(indent=1)


def load_manifest(store: Store) -> Manifest:
    """The manifest of the data set in ``store``. Raises BadInput where it is missing, damaged or of another schema."""
    try:
        text = store.read(MANIFEST)
    except NotFound:
        raise NotFound(f"{store.url} is no data set: it has no {MANIFEST}; `fcdd-dist shard` writes one") from None
    if newer_schema(text, SCHEMA):
        raise BadInput(f"{store.url}/{MANIFEST} was written by a newer fcdd_dist: update this one")
    try:
        return Manifest.model_validate_json(text)
    except ValidationError as error:
        raise BadInput(f"{store.url}/{MANIFEST} is damaged: {explain(error, Manifest)}; shard the data again") from None


def check_sizes(store: Store, shards: tuple[Shard, ...]) -> None:
    """Raises BadInput where a shard is missing or has another size than its record, by listing and not by reading."""
    wanted = {shard.key: shard.bytes for shard in shards}
    prefixes = {key.rpartition("/")[0] + "/" for key in wanted}
    there = {entry.key: entry.size for prefix in sorted(prefixes) for entry in store.list(prefix)}
    for key, size in wanted.items():
        if key not in there:
            raise NotFound(f"{store.url}/{key} is missing: copy the data set again, or shard it anew")
        if there[key] != size:
            raise BadInput(f"{store.url}/{key} has {there[key]} bytes and should have {size}: "
                           f"copy the data set again, or shard it anew")
