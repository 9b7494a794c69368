"""Asynchronous successive halving, as a pure function of figures.

Settings are trained for a few epochs, up to the first rung; the best 1/reduction of them go on to the next rung, and so
on up to the last (Li et al., "A System for Massively Parallel Hyperparameter Tuning", 2018, arXiv 1810.05934).

There, and in Ray's ASHAScheduler, a setting goes on if it is among the best of those that have arrived so far, so what
is trained depends on who was quick. Here it goes on as soon as, and only when, no figure that is still missing could
keep it from the best 1/reduction of the whole rung. What is trained and what is selected is that of synchronous
halving, whatever the timing and however often a search is killed, and still nobody waits where the outcome is known.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

# "waiting": something is still to be trained or to be decided. "stopped": certain not to go on. "diverged": its figure
# was not finite. "done": trained up to the last rung.
State = Literal["waiting", "stopped", "diverged", "done"]


@dataclass(frozen=True)
class Figure:
    """How good a setting is: ``value`` after ``epochs``. The smaller the better, ``math.inf`` where it diverged."""

    value: float
    epochs: int
    state: State


@dataclass(frozen=True)
class Halving:
    """How far a search is.

    ``wanted``: (setting, rung), in epochs, of all that is to be trained, what is trained already among it; the rungs of
    a setting in order. It only grows while figures come in. ``figures``: of each setting that has any, at its highest
    rung. ``states``: of each setting. ``over``: nothing is missing any more.

    ``selected``: the best of the last rung; None until it is certain, and where none got there without diverging.
    """

    wanted: tuple[tuple[int, int], ...]
    states: Mapping[int, State]
    figures: Mapping[int, Figure]
    over: bool
    selected: int | None

    @property
    def final(self) -> dict[int, Figure]:
        """The figures that will not change any more."""
        return {setting: figure for setting, figure in self.figures.items() if figure.state != "waiting"}


def rungs(settings: int, epochs: int, reduction: int) -> tuple[int, ...]:
    """The epochs at which ``settings`` are compared, increasing; the last is ``epochs``.

    One more rung for each time that the settings can be divided by ``reduction``, as long as one epoch is left below.
    """
    if settings < 1 or epochs < 1 or reduction < 2:
        raise ValueError(f"no halving of {settings} settings over {epochs} epochs by {reduction}")
    found = [epochs]
    while settings >= reduction and found[0] >= reduction:
        settings //= reduction
        found.insert(0, found[0] // reduction)
    return tuple(found)


def halve(brackets: Sequence[int], rungs: Sequence[int], reduction: int, figures: Mapping[tuple[int, int], float], *,
          more: bool = False) -> Halving:
    """Where a search stands that has the given figures.

    ``brackets``: numbers of settings, which are counted through; those of one bracket compete with each other to go on
    to the next rung, and those of all brackets at the last rung. ``figures``: by (setting, rung), the smaller the
    better, NaN and infinities standing for a setting that diverged; of equal ones the lower number is the better.
    Figures of a setting beyond what is wanted of it are not looked at. ``more``: further brackets will come.

    Of n settings max(1, n // reduction ** i) reach rung i, and fewer where so many diverge.
    """
    wanted: list[tuple[int, int]] = []
    states: dict[int, State] = {}
    first, over = 0, not more
    for size in brackets:
        over &= _bracket(range(first, first + size), rungs, reduction, figures, wanted, states)
        first += size
    latest = {setting: Figure(_comparable(figures[setting, rung]), rung, states[setting])
              for setting, rung in sorted(wanted) if (setting, rung) in figures}
    done = [(latest[setting].value, setting) for setting, state in states.items() if state == "done"]
    return Halving(tuple(wanted), states, latest, over, min(done)[1] if over and done else None)


def _bracket(settings: range, rungs: Sequence[int], reduction: int, figures: Mapping[tuple[int, int], float],
             wanted: list[tuple[int, int]], states: dict[int, State]) -> bool:
    """Adds what is wanted and the states of one bracket; whether none of its figures is missing."""
    states.update(dict.fromkeys(settings, "waiting"))
    there = list(settings)  # on this rung, for certain
    possible = len(there)  # that are, or may come to be
    for number, rung in enumerate(rungs):
        wanted += [(setting, rung) for setting in there]
        ranking = sorted((_comparable(figures[setting, rung]), setting) for setting in there
                         if (setting, rung) in figures)
        missing = min(possible, _places(settings, reduction, number)) - len(ranking)
        is_last = rung == rungs[-1]
        places = len(ranking) if is_last else _places(settings, reduction, number + 1)
        there = []
        for rank, (figure, setting) in enumerate(ranking):
            if figure == math.inf:
                states[setting] = "diverged"
            elif is_last:
                states[setting] = "done"
            elif rank >= places:
                states[setting] = "stopped"
            elif rank + missing < places:  # even if all that are missing are better
                there.append(setting)
        there.sort()
        possible = sum(states[setting] == "waiting" for setting in settings)
    return missing == 0


def _places(settings: range, reduction: int, number: int) -> int:
    return max(1, len(settings) // reduction ** number)


def _comparable(figure: float) -> float:
    return figure if math.isfinite(figure) else math.inf
