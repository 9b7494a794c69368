"""What is to be sharded, cut into tasks: a pure function of sources and settings, and what must not change meanwhile.

Nominal images: a task a class. Exposure images are shuffled over all their classes, in two rounds:

    spill    some classes -> one file of encoded samples in the order of their hashes, cut where buckets end
    gather   one bucket of all spills -> shards

A sample's bucket and its place there follow from the hash of its pixels. So the order of an exposure set is that of
the hashes: a uniform shuffle of all samples, the same whoever wrote it, in whatever order, on how many machines. No
process holds a list of all samples, and none holds more than a spill or a bucket.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cached_property
from typing import Annotated, Any, Literal

from pydantic import Field

from ...experiment import Count, Form, Value, identity
from ..sources.source import RawSplit, Source

SPILL_SAMPLES, SPILL_BYTES = 4096, 64 << 20  # about, of a spill: it is held in memory while it is written
BUCKET_SAMPLES, BUCKET_BYTES = 25_000, 512 << 20  # about, of a bucket: it is held in a temporary file


Portion = tuple[str, int, int]  # every n-th image of a class, from the k-th on: its id, k and n


class NominalPlan(Value):
    source: str | None  # None where it comes along
    classes: Annotated[dict[str, str], Field(min_length=1)]  # ids and display names, in their order
    about: dict[str, int]  # images of each split, more or less
    exact: bool = True  # whether these were counted; a plan of an older version doesn't say


class ExposurePlan(Value):
    source: str | None
    split: RawSplit
    about: int
    exact: bool = True  # as above
    excluded: tuple[str, ...]  # the classes that are left out, of those that are there
    spills: Annotated[tuple[tuple[Portion, ...], ...], Field(min_length=1)]
    buckets: Count


class Plan(Value):
    """``unfinished/plan.json``. Whoever goes on with a sharding has the same ``settings``, and its cuts."""

    schema_version: Literal[1] = 1
    recipe: str
    form: Form
    nominal: NominalPlan | None
    exposure: ExposurePlan | None
    versions: dict[str, str]  # of what decodes, scales and encodes
    tasks: tuple[str, ...]  # the names of all, in an order in which they can be done

    def to_json(self) -> str:
        return self.model_dump_json()

    @cached_property
    def settings(self) -> dict[str, Any]:
        """What was asked for: all but the numbers of images, which change where bad ones are removed, and the cuts."""
        nominal, exposure = self.nominal, self.exposure
        return {"recipe": self.recipe, "form": str(self.form), "versions": self.versions,
                "source": nominal and nominal.source, "classes": nominal and nominal.classes,
                "exposure": exposure and {
                    "source": exposure.source, "split": exposure.split, "excluded": list(exposure.excluded),
                    "classes": list(dict.fromkeys(name for spill in exposure.spills for name, _, _ in spill))}}

    @cached_property
    def made_from(self) -> dict[str, Any]:
        """What the manifests keep, to tell later whether the same is asked for: settings and numbers of images.

        Versions stand in the manifest already. Of the exposure's classes, which may be 20,000, it is their number and
        a hash.
        """
        nominal, exposure = self.nominal, self.exposure
        kept = {name: value for name, value in self.settings.items() if name != "versions"}
        if exposure:
            classes = kept["exposure"]["classes"]
            kept["exposure"] = {**kept["exposure"], "classes": len(classes), "names": identity(classes),
                                "images": exposure.about}
        return {**kept, "images": nominal and nominal.about}

    @cached_property
    def id(self) -> str:
        """Stands for the settings."""
        return identity(self.settings)


def nominal_task(class_id: str) -> str:
    return f"nominal-{class_id}"


def spill_task(number: int) -> str:
    return f"spill-{number:06}"


def gather_task(bucket: int) -> str:
    return f"gather-{bucket:06}"


def task_names(nominal: NominalPlan | None, exposure: ExposurePlan | None) -> tuple[str, ...]:
    names = [nominal_task(class_id) for class_id in (nominal.classes if nominal else ())]
    if exposure:
        names += [spill_task(number) for number in range(len(exposure.spills))]
        names += [gather_task(bucket) for bucket in range(exposure.buckets)]
    return tuple(names)


def plan_exposure(source: Source, path: str | None, split: RawSplit, excluded: Iterable[str], form: Form
                  ) -> ExposurePlan:
    left_out = frozenset(excluded)
    counts = {class_id: about for class_id in source.classes
              if class_id not in left_out and (about := source.about(split, class_id))}
    each = expected_bytes(form)
    spills = tuple(_groups(counts, max(1, min(SPILL_SAMPLES, SPILL_BYTES // each))))
    bucket = max(1, min(BUCKET_SAMPLES, BUCKET_BYTES // each))
    total = sum(counts.values())
    return ExposurePlan(source=path, split=split, about=total, exact=source.exact(split),
                        excluded=tuple(sorted(left_out)), spills=spills, buckets=max(1, -(-total // bucket)))


def expected_bytes(form: Form) -> int:
    """About how many a stored image has; measured on photographs of ImageNet."""
    pixels = form.side**2 * (4 / 3 if form.fit == "short-side" else 1)
    if form.quality is None:
        return int(pixels * form.channels)
    return int(pixels * (0.45 if form.quality >= 95 else 0.27))


def _groups(counts: dict[str, int], most: int) -> Iterator[tuple[Portion, ...]]:
    """The classes in their order, in groups of about ``most`` images; a class that has many more is cut."""
    group: list[Portion] = []
    filled = 0
    for class_id, count in counts.items():
        parts = -(-count // most) if count > 2 * most else 1
        for part in range(parts):
            if group and filled + count // parts > most:
                yield tuple(group)
                group, filled = [], 0
            group.append((class_id, part, parts))
            filled += count // parts
    if group:
        yield tuple(group)
