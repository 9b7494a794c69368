"""How far a sweep is, for a person."""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from .halving import Halving
from .plan import Plan, SearchState, Standings, signed, standing_of
from .standing import Standing
from .trials import Trial
from .value import Search, Select, Sweep


@dataclass(frozen=True)
class Progress:
    """``described``: how much is done; ``failed``: trials; ``figure``: what has come of it so far, or nothing;
    ``epochs_left`` and ``trainings_left``: of all trials, about, where one that goes on from a rung counts once more;
    ``tests_left``: of them, those with test images."""

    described: str
    failed: int
    figure: str
    epochs_left: int
    trainings_left: int
    tests_left: int


def progress(plan: Plan, standings: Standings) -> Progress:
    sweep = plan.sweep
    count = len(sweep.classes) * sweep.seeds
    failed = sum(standing.reason is not None for standing in standings.values())
    cells = plan.cells(standings)
    if not cells:
        search, state = sweep.search, plan.search(standings)
        assert search is not None
        decided = sum(one != "waiting" for one in state.halving.states.values())
        epochs, trainings = _search_left(plan, search, state, standings)
        return Progress(f"search: {decided}/{len(state.halving.states)} settings decided", failed,
                        _best(state.halving, search.select), epochs + count * sweep.epochs, trainings + count, count)
    stands = [(trial, standing_of(trial, standings)) for trial in cells]
    left = [standing for trial, standing in stands if not standing.has(trial)]
    return Progress(f"{count - len(left)}/{count} done", failed, _mean(sweep, stands),
                    sum(max(0, sweep.epochs - standing.epochs) for standing in left), len(left), len(left))


def _mean(sweep: Sweep, stands: Sequence[tuple[Trial, Standing]]) -> str:
    """Over the classes of which every seed is done: detectors of different classes are not compared."""
    areas: dict[str, list[float | None]] = {class_id: [] for class_id in sweep.classes}
    for trial, standing in stands:
        result = standing.result if standing.has(trial) else None
        areas[trial.class_id].append(result["auroc"] if result else None)
    means = [statistics.fmean(values) for values in areas.values() if None not in values]
    of = f" of {len(means)} class{'es' * (len(means) > 1)}" if len(sweep.classes) > 1 else ""
    return f"mean AUROC{of} {statistics.fmean(means):.4f}" if means else ""


def _best(halving: Halving, select: Select) -> str:
    """Of the settings that have come furthest."""
    known = [(-figure.epochs, figure.value, number) for number, figure in halving.figures.items()
             if math.isfinite(figure.value)]
    if not known:
        return ""
    epochs, value, number = min(known)
    return (f"best setting {number}: {select.replace('_', ' ')} {signed(value, select):.4g} after {-epochs} "
            f"epoch{'s' * (epochs < -1)}")


def _search_left(plan: Plan, search: Search, state: SearchState, standings: Standings) -> tuple[int, int]:
    """Epochs and trainings from rung to rung, were all samples of the search tried."""
    sizes = [len(generation) for generation in state.generations]
    to_come = 0 if state.finished else search.samples - sum(sizes)
    sizes += [min(plan.largest, to_come - before) for before in range(0, to_come, plan.largest)]
    steps = [rung - before for before, rung in itertools.pairwise((0, *plan.rungs))]
    places = [(max(1, size // search.reduction**number), step) for size in sizes for number, step in enumerate(steps)]
    stands = [standing_of(trial, standings) for number, setting in enumerate(state.settings)
              for trial in plan.searched(number, setting)[plan.sweep.epochs]]
    each = len(plan.sweep.classes) * search.seeds
    epochs = sum(count * step for count, step in places) * each - sum(standing.epochs for standing in stands)
    trainings = sum(count for count, _ in places) * each - sum(
        rung in standing.figures for standing in stands for rung in plan.rungs)
    return max(0, epochs), max(0, trainings)
