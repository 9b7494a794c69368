"""What a person sees of a sharding."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from ...words import duration
from .plan import Plan
from .unfinished import GatherRecord, NominalRecord, SpillRecord

_WHAT = {NominalRecord: "images", SpillRecord: "exposure images", GatherRecord: "exposure images into shards"}


class Progress:
    """A line for each task that is done: how much of its round, how fast, how long yet."""

    def __init__(self, plan: Plan, say: Callable[[str], None], clock: Callable[[], float] = time.monotonic) -> None:
        nominal = (sum(plan.nominal.about.values()), plan.nominal.exact) if plan.nominal else (0, True)
        exposure = (plan.exposure.about, plan.exposure.exact) if plan.exposure else (0, True)
        self._totals = {NominalRecord: nominal, SpillRecord: exposure, GatherRecord: exposure}
        self._say, self._clock = say, clock

    def begin(self, kind: type, done: Iterable) -> None:
        """A round begins, of whose tasks some are done."""
        self._kind, self._began, self._fresh = kind, self._clock(), 0
        self._done = sum(map(_images, done))

    def add(self, task: object, record: NominalRecord | SpillRecord | GatherRecord) -> None:
        count = _images(record)
        self._fresh += count
        self._done += count
        seconds = self._clock() - self._began
        rate = self._fresh / seconds if seconds else 0.0
        expected, exact = self._totals[self._kind]
        total = max(expected, self._done)
        left = f", {rate:,.0f} images/s, {duration((total - self._done) / rate)} to go" if rate >= 1 else ""
        about = "" if exact else "about "
        self._say(f"{self._done:,} of {about}{total:,} {_WHAT[self._kind]}{left if self._done < total else ''}")


def _images(record: NominalRecord | SpillRecord | GatherRecord) -> int:
    if isinstance(record, NominalRecord):
        return sum(record.found.values())
    return record.found if isinstance(record, SpillRecord) else record.samples

