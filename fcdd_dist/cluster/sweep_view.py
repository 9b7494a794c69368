"""What a person sees of a sweep while it runs: a line of the whole and one for each trial at work, from what the runs
themselves write. Nothing is asked of the processes that train."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from ..errors import Damaged
from ..storage import Store
from ..sweep.progress import progress
from ..sweep.standing import Standing
from ..training.curves import read_metrics
from ..words import duration
from .desk import Desk, Ended, Running

_LOOKS = 8  # metrics that are read at a time: each is a request where they are in an object store
_SHOWN = 12  # trials at work that have a line
_WAITS = 0.05  # of an epoch's time: a trial that waits less for its input need not be told of


@dataclass(frozen=True)
class Pace:
    """How a trial was doing when last seen."""

    epoch: int
    images_per_s: float
    waits: float  # share of its time


class SweepView:
    """``look`` reads metrics, and is for a thread of its own; the others are for the driver's."""

    def __init__(self, desk: Desk, store: Store, live: Callable[..., None], say: Callable[[str], None]) -> None:
        self._desk, self._store, self._live, self._say = desk, store, live, say
        self._first: tuple[float, int] | None = None  # when epochs were seen first, and how many
        self._paces: dict[str, Pace] = {}
        self._turn: deque[str] = deque()  # names, those that were looked at longest ago first
        self._trained = 0  # epochs of trials that have ended since the start

    def look(self, at: Sequence[Running]) -> dict[str, list[dict]]:
        """The lines of metrics of some of the trials at work, by name."""
        running = {one.trial.name: one.trial for one in at}
        self._turn = deque([name for name in self._turn if name in running])
        self._turn.extend(name for name in running if name not in self._turn)
        found = {}
        for _ in range(min(_LOOKS, len(self._turn))):
            name = self._turn.popleft()
            self._turn.append(name)
            lines: list[dict] = []
            with suppress(Damaged):  # a person sees less; the trial itself writes it anew
                lines = read_metrics(self._store.at(running[name].folder))
            if lines:
                found[name], last = lines, lines[-1]
                waits = last.get("input_wait_s", 0.0) / last["seconds"] if last.get("seconds") else 0.0
                self._paces[name] = Pace(last["epoch"], last["images_per_s"], waits)
        return found

    def tell(self, ended: Sequence[Ended]) -> None:
        """A line for each trial that has ended."""
        for one in ended:
            self._trained += max(0, one.standing.epochs - one.begun)
            self._paces.pop(one.trial.name, None)
            for line in one.said:
                self._say(f"{one.trial.name}: {line}")
            self._say(_end_line(one))

    def show(self, standings: Mapping[str, Standing]) -> None:
        running = self._desk.running()
        self._live(self._head(running, standings), *(self._line(one) for one in running[:_SHOWN]),
                   *([f"  and {len(running) - _SHOWN} more"] if len(running) > _SHOWN else []))

    def _head(self, running: Sequence[Running], standings: Mapping[str, Standing]) -> str:
        how_far = progress(self._desk.plan, standings)
        paces = [pace for one in running if (pace := self._paces.get(one.trial.name))]
        rate = sum(pace.images_per_s for pace in paces)
        waits = max((pace.waits for pace in paces), default=0.0)
        parts = [how_far.described, f"{len(running)} running",
                 f"{how_far.failed} failed" if how_far.failed else "", self._eta(running, how_far.epochs_left),
                 how_far.figure, f"{rate:,.0f} images/s" if rate else "",
                 f"waits up to {waits:.0%} for input".replace("%", " %") if waits > _WAITS else ""]
        return "  ".join(part for part in parts if part)

    def _line(self, one: Running) -> str:
        pace, epochs = self._paces.get(one.trial.name), one.trial.experiment.epochs
        if pace is None:
            return f"  {one.trial.name:<24} starting, {duration(time.monotonic() - one.since)}"
        waits = f"  waits {pace.waits:.0%} for input".replace("%", " %") if pace.waits > _WAITS else ""
        return f"  {one.trial.name:<24} epoch {pace.epoch}/{epochs}  {pace.images_per_s:,.0f} images/s{waits}"

    def _eta(self, running: Sequence[Running], left: int) -> str:
        """From the epochs that all trials together have done since some were seen first: Ray's start is no part of it.

        Nothing once nothing more is begun: the rest is for another attempt.
        """
        under_way = sum(max(0, pace.epoch - one.epochs) for one in running
                        if (pace := self._paces.get(one.trial.name)))
        now, done = time.monotonic(), self._trained + under_way
        if done and self._first is None:
            self._first = now, done
        if self._desk.closing or self._first is None or done <= self._first[1] or left <= under_way:
            return ""
        return f"eta {duration((left - under_way) * (now - self._first[0]) / (done - self._first[1]))}"


def _end_line(one: Ended) -> str:
    trial, standing = one.trial, one.standing
    took = f"in {duration(one.seconds)}"
    if one.state == "failed":
        return f"{trial.name}: failed: {standing.reason}"
    if one.state == "interrupted":
        return f"{trial.name}: stopped, with everything committed"
    if trial.tested and standing.result is not None:
        auroc = standing.result["auroc"]
        return f"{trial.name}: AUROC {'none' if auroc is None else format(auroc, '.4f')} {took}"
    figures = standing.figures.get(trial.experiment.epochs, {})
    shown = "".join(f", {name.replace('_', ' ')} {value:.4g}" for name, value in figures.items() if value is not None)
    return f"{trial.name}: epoch {trial.experiment.epochs}{shown} {took}"
