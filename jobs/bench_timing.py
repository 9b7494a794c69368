"""What the bench measures with: two things timed in turn, and a row of the table."""

from __future__ import annotations

import contextlib
import os
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import torch

Work = Callable[[], int]  # does some work and returns how many images it was


class Skip(Exception):
    """A part can't run here; the text says why."""


@dataclass(frozen=True)
class Row:
    """A figure, and what it should be. ``unit`` is ``x`` or ``%`` for ratios, ``s``, ``MB``, or none."""

    what: str
    value: float | None  # None: it could not be measured, and ``what`` says why
    unit: str
    aim: float | None = None  # None: there is none, or not on this machine
    at_least: bool = True  # else at most
    figures: dict[str, float] = field(default_factory=dict)  # the absolute numbers behind it

    @property
    def reached(self) -> bool | None:
        if self.aim is None or self.value is None:
            return None
        return self.value >= self.aim if self.at_least else self.value <= self.aim


@dataclass(frozen=True)
class Bench:
    """How to measure, and on what machine. ``fast_bf16``: whether the goals of trainings hold for its CPU."""

    device: torch.device
    quick: bool
    precision: str
    fast_bf16: bool

    def goal(self, aim: float) -> float | None:
        """Of what depends on the speed of a training step."""
        return aim if self.fast_bf16 else None

    def pairs(self, count: int) -> int:
        return 2 if self.quick else count


def in_turn(bench: Bench, what: str, ours: Work, theirs: Work, *, aim: float | None, pairs: int, unit: str = "x"
            ) -> Row:
    """Our images a second over theirs: the median of the ratios of neighbours in A B A B ..., after a warm-up of each.

    Neighbours share whatever else the machine is doing, so their ratio is steadier than either rate.
    """
    rates: tuple[list[float], list[float]] = ([], [])
    for turn in range(-1, bench.pairs(pairs)):
        for work, into in zip((ours, theirs), rates, strict=True):
            images_per_s = _rate(work, bench.device)
            if turn >= 0:
                into.append(images_per_s)
    ratios = [a / b for a, b in zip(*rates, strict=True)]
    return Row(what, statistics.median(ratios), unit, aim, figures={
        "ours_images_per_s": statistics.median(rates[0]), "theirs_images_per_s": statistics.median(rates[1]),
        "lowest": min(ratios), "highest": max(ratios), "pairs": len(ratios)})


@contextlib.contextmanager
def one_core() -> Iterator[None]:
    """This thread, the threads and processes that it starts meanwhile, and torch, on one core."""
    if not hasattr(os, "sched_setaffinity"):
        raise Skip("it is measured on one core, and this system binds no process to a core")
    cores, threads = os.sched_getaffinity(0), torch.get_num_threads()
    os.sched_setaffinity(0, {max(cores)})
    torch.set_num_threads(1)
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)
        torch.set_num_threads(threads)


def median_seconds(work: Callable[[], object], times: int) -> float:
    return statistics.median(_seconds(work) for _ in range(times))


def _rate(work: Work, device: torch.device) -> float:
    began = time.perf_counter()
    images = work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return images / (time.perf_counter() - began)


def _seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began
