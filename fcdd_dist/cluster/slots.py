"""How many trials a cluster runs at once: a sum over its nodes, since a worker never spans two."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..errors import BadInput

Node = Mapping[str, float]  # amounts by the name of the resource, as Ray tells them
_PARTS = 1e-6  # Ray counts in ten-thousandths; three times 0.3333 fit on one


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
        if self.gpus < 0:
            raise BadInput(f"--gpus-per-trial {self.gpus:g}: can't be less than 0")
        if self.gpus > 1 and self.gpus != int(self.gpus):
            raise BadInput(f"--gpus-per-trial {self.gpus:g}: write a fraction below 1, or a whole number")
        if self.gpus > 1 and self.workers == 1:
            raise BadInput(f"--gpus-per-trial {self.gpus:g}: a worker uses one GPU: give --workers-per-trial, and "
                           f"--gpus-per-trial 1 for each of them")
        if self.workers > 1 and self.gpus != int(self.gpus):
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


def _workers(node: Node, each: Mapping[str, float]) -> int:
    return int(min(node.get(name, 0) / amount for name, amount in each.items()) + _PARTS)
