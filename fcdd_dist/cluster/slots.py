"""How many trials a cluster runs at once: a sum over its nodes, since a worker never spans two."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..errors import BadInput

Node = Mapping[str, float]  # amounts by the name of the resource, as Ray tells them
_PARTS = 10_000  # Ray counts in ten-thousandths


@dataclass(frozen=True)
class TrialPlacement:
    """What each trial of a sweep gets. Never part of the result.

    ``cpus`` are also the threads of a worker. ``gpus`` may be a fraction, which only counts: the trials on a GPU share
    it as they please. ``at_once``: no more trials than that, None for all that there is room for.
    """

    workers: int = 1
    cpus: int = 1
    gpus: float = 0.0
    at_once: int | None = None
    max_failures: int = 3  # crashes of a trial that are survived

    def __post_init__(self) -> None:
        if not 0 <= self.gpus < math.inf:
            raise BadInput(f"--gpus-per-trial {self.gpus:g}: give 0, 1, or a fraction between them")
        if self.gpus > 1:
            raise BadInput(f"--gpus-per-trial {self.gpus:g}: a worker uses one GPU at most: give --workers-per-trial, "
                           f"and --gpus-per-trial 1, which is for each of them")
        if self.gpus and _parts(self.gpus) == 0:
            raise BadInput(f"--gpus-per-trial {self.gpus:g}: Ray counts in ten-thousandths: give at least 0.0001")
        if self.workers > 1 and 0 < self.gpus < 1:
            raise BadInput(f"--gpus-per-trial {self.gpus:g} with {self.workers} workers a trial: ranks that share a "
                           f"GPU wait for each other: give 0 or 1, or one worker a trial")

    @property
    def each(self) -> dict[str, float]:
        """What a worker takes, as Ray counts it."""
        return {"CPU": self.cpus} | ({"GPU": self.gpus} if self.gpus else {})

    def __str__(self) -> str:
        shown = ", ".join(f"{amount:g} {name}{'s' * (amount != 1)}" for name, amount in self.each.items())
        return shown if self.workers == 1 else f"{self.workers} workers with {shown} each"


def trials_at_once(nodes: Sequence[Node], placement: TrialPlacement) -> int:
    """At least 1. Raises BadInput, with what there is, where the nodes can't hold a single trial."""
    workers = sum(_workers(node, placement.each) for node in nodes)
    if workers < placement.workers:
        there = "; ".join(f"{node.get('CPU', 0):g} CPUs, {node.get('GPU', 0):g} GPUs" for node in nodes[:8])
        more = f" and {len(nodes) - 8} more" if len(nodes) > 8 else ""
        raise BadInput(f"a trial takes {placement}, and the cluster has no room for it: its node"
                       f"{'s have' if len(nodes) > 1 else ' has'} {there}{more}")
    room = workers // placement.workers
    return room if placement.at_once is None else min(room, placement.at_once)


def sharers(nodes: Sequence[Node], placement: TrialPlacement, at_once: int) -> int:
    """How many workers share a GPU, or else the memory of a node, at most."""
    if placement.gpus:
        return max(1, _PARTS // _parts(placement.gpus))
    return min(at_once * placement.workers, max(_workers(node, placement.each) for node in nodes))


def _workers(node: Node, each: Mapping[str, float]) -> int:
    return min(_fit(node.get(name, 0), amount) for name, amount in each.items())


def _fit(there: float, amount: float) -> int:
    """How often, as Ray counts; a fraction is of one GPU and does not span two."""
    if amount < 1:
        return int(there) * (_PARTS // _parts(amount))
    return _parts(there) // _parts(amount)


def _parts(amount: float) -> int:
    return round(amount * _PARTS)
