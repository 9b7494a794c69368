"""Trackers: where else a sweep is told of while it runs, each trial as one run of theirs. Off unless asked for.

Where they keep it, and as whom, is told by their own environment: MLFLOW_TRACKING_URI, WANDB_MODE, WANDB_API_KEY, ...
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import Any, Protocol

from ...errors import BadInput, nearest
from .beside import Beside
from .mlflow import MlflowTracker
from .wandb import WandbTracker


class Tracker(Protocol):
    """Told of many trials at once, by one thread."""

    def start(self, trial: str, parameters: Mapping[str, Any]) -> None:
        """``trial`` is being trained; ``parameters``: flat, such as class, seed and ``optimizer.lr``.

        With the same values again (``epochs`` may have grown), in this process or a later one, the run of then goes
        on: none is doubled.
        """
        ...

    def epochs(self, trial: str, lines: Sequence[Mapping[str, Any]]) -> None:
        """Lines of metrics.jsonl, in order. Those that are there already, as after a resume, are passed over."""
        ...

    def finish(self, trial: str, state: str, figures: Mapping[str, float | None], reason: str | None) -> None:
        """``state``: done, failed or unfinished; ``reason``: why it failed, in one line."""
        ...

    def close(self) -> None:
        """After all else."""
        ...


TRACKERS: dict[str, type[MlflowTracker] | type[WandbTracker]] = {"mlflow": MlflowTracker, "wandb": WandbTracker}


def check_known(names: Sequence[str]) -> None:
    """Raises BadInput for a tracker that there is not."""
    for name in names:
        if name not in TRACKERS:
            raise BadInput(f"--track {name}: no such tracker{nearest(name, TRACKERS)}; there are {', '.join(TRACKERS)}")


def open_trackers(names: Sequence[str], sweep: str, say: Callable[[str], None]) -> list[Tracker]:
    """Those of ``names``, for the sweep of the name ``sweep``. None of them can delay or end it: see ``Beside``.

    Raises BadInput where one is not known, not installed or not set up. No server is asked for anything yet.
    """
    check_known(names)
    opened: list[Tracker] = []
    with ExitStack() as stack:
        for name in dict.fromkeys(names):
            tracker = TRACKERS[name](sweep)
            opened.append(Beside(tracker, tracker.title, say))
            stack.callback(opened[-1].close)
            say(f"{tracker.title}: {tracker.where}")
        stack.pop_all()
    return opened
