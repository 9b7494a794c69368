"""How far a sweep is, for a person."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

from .halving import Halving
from .plan import Plan, SearchState, Standings, signed, standing_of
from .value import Search, Select


@dataclass(frozen=True)
class Progress:
    """``described``: how much is done; ``failed``: trials; ``best``: what is best so far, or nothing; ``epochs_left``:
    of all trials, about."""

    described: str
    failed: int
    best: str
    epochs_left: int


def progress(plan: Plan, standings: Standings) -> Progress:
    sweep = plan.sweep
    count = len(sweep.classes) * sweep.seeds
    failed = sum(standing.reason is not None for standing in standings.values())
    cells = plan.cells(standings)
    if not cells:
        search, state = sweep.search, plan.search(standings)
        assert search is not None
        decided = sum(one != "waiting" for one in state.halving.states.values())
        return Progress(f"search: {decided}/{len(state.halving.states)} settings decided", failed,
                        _best(state.halving, search.select),
                        _epochs_left(plan, search, state, standings) + count * sweep.epochs)
    stands = [(trial, standing_of(trial, standings)) for trial in cells]
    done = [(trial.name, standing.result) for trial, standing in stands if standing.has(trial)]
    areas = [(result["auroc"], name) for name, result in done if result is not None and result["auroc"] is not None]
    best = "best {1} {0:.4f}".format(*max(areas)) if areas else ""
    left = sum(max(0, sweep.epochs - standing.epochs) for _, standing in stands)
    return Progress(f"{len(done)}/{count} done", failed, best, left)


def _best(halving: Halving, select: Select) -> str:
    """Of the settings that have come furthest."""
    known = [(-figure.epochs, figure.value, number) for number, figure in halving.figures.items()
             if math.isfinite(figure.value)]
    if not known:
        return ""
    epochs, value, number = min(known)
    return f"best setting {number}: {signed(value, select):.4g} after {-epochs} epoch{'s' * (epochs < -1)}"


def _epochs_left(plan: Plan, search: Search, state: SearchState, standings: Standings) -> int:
    """Of the search, were all its samples tried."""
    sizes = [len(generation) for generation in state.generations]
    to_come = 0 if state.finished else search.samples - sum(sizes)
    sizes += [min(plan.largest, to_come - before) for before in range(0, to_come, plan.largest)]
    steps = [rung - before for before, rung in itertools.pairwise((0, *plan.rungs))]
    epochs = sum(max(1, size // search.reduction**number) * step for size in sizes for number, step in enumerate(steps))
    trained = sum(standing_of(trial, standings).epochs for number, setting in enumerate(state.settings)
                  for trial in plan.searched(number, setting)[plan.sweep.epochs])
    return max(0, epochs * len(plan.sweep.classes) * search.seeds - trained)
