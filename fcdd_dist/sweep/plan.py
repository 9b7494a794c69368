"""What a sweep still has to do, as a pure function of how far its trials are: the same whoever asks, and however often
all was killed in between."""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from ..errors import BadInput
from .halving import Figure, Halving, halve
from .searchers import SEARCHERS
from .space import Settings
from .standing import Standing
from .trials import Trial, searched, tested
from .value import Select, Sweep

_NOTHING = Standing()
Standings = Mapping[str, Standing]  # by the names of trials; those that have not begun may be left out
Generations = tuple[tuple[Settings, ...], ...]


@dataclass(frozen=True)
class SearchState:
    """How far a search is. ``generations``: the settings that are known; ``finished``: whether they are all."""

    generations: Generations
    finished: bool
    halving: Halving

    @property
    def settings(self) -> tuple[Settings, ...]:
        """By number."""
        return tuple(setting for generation in self.generations for setting in generation)

    @property
    def selected(self) -> Settings | None:
        """The best, once all is certain."""
        return None if self.halving.selected is None else self.settings[self.halving.selected]


def standing_of(trial: Trial, standings: Standings) -> Standing:
    """Also of a trial that has not begun."""
    return standings.get(trial.name, _NOTHING)


def signed(figure: float, select: Select) -> float:
    """A figure of a hold-out such that the smaller is the better; and back again."""
    return figure if select == "holdout_loss" else -figure


class Plan:
    """Of one sweep, for any number of threads.

    It is asked for every trial, and what it keeps only makes it quicker. Everything raises BadInput in the unlikely
    case that different trials would have one folder.
    """

    def __init__(self, sweep: Sweep) -> None:
        self.sweep = sweep
        search = sweep.search
        self._searcher = SEARCHERS[search.searcher](search.space, search.samples, search.seed) if search else None
        self._final: Mapping[int, Figure] = {}  # when it was asked last
        self._asked: tuple[Mapping[int, Figure], tuple[Generations, bool]] | None = None
        self._searched: dict[int, tuple[Settings, dict[int, tuple[Trial, ...]]]] = {}  # by number; trials by rung
        self._tested: tuple[Settings, tuple[Trial, ...]] | None = None
        self._ids: dict[str, str] = {}  # of experiments, by the names of trials

    @cached_property
    def largest(self) -> int:
        """How many settings compete to go on to the next rung, at most."""
        return self._searcher.largest if self._searcher else 0

    @cached_property
    def rungs(self) -> tuple[int, ...]:
        """The epochs at which settings are compared; the last are those that are asked for."""
        search, epochs = self.sweep.search, self.sweep.epochs
        if search is None:
            return ()
        return search.rungs(self.largest, epochs)

    def wanted(self, standings: Standings) -> list[Trial]:
        """All that can be begun now, the most urgent first."""
        return [trial for trial in self._ready(standings) if not standing_of(trial, standings).has(trial)]

    def known(self, standings: Standings) -> list[Trial]:
        """A trial for each folder that the sweep is known to have, by now."""
        if self._searcher is None:
            return list(self.cells(standings))
        searched = [trial for number, setting in enumerate(self.search(standings).settings)
                    for trial in self.searched(number, setting)[self.sweep.epochs]]
        return list({trial.name: trial for trial in (*searched, *self.cells(standings))}.values())

    def cells(self, standings: Standings) -> tuple[Trial, ...]:
        """The runs that are tested; none before a search has found their setting."""
        setting = {} if self._searcher is None else self.search(standings).selected
        return () if setting is None else self._to_test(setting)

    def search(self, standings: Standings) -> SearchState:
        """How far the search has come, of a sweep that has one."""
        search, final = self.sweep.search, self._final
        assert search is not None
        while True:
            generations, finished = self._ask(final)
            halving = halve([len(generation) for generation in generations], self.rungs, search.reduction,
                            self._figures(generations, standings), more=not finished)
            found = halving.final
            if found == final:
                self._final = final
                return SearchState(generations, finished, halving)
            final = found  # each time at least one more generation is that of these very figures

    def searched(self, number: int, setting: Settings) -> Mapping[int, tuple[Trial, ...]]:
        """Those that setting ``number`` is judged by, up to each rung: one a class and seed."""
        kept = self._searched.get(number)
        if kept is None or kept[0] != setting:
            trials = self._apart(searched(self.sweep, number, setting))
            kept = self._searched[number] = setting, {
                rung: tuple(trial.up_to(rung) for trial in trials) for rung in self.rungs}
        return kept[1]

    def _ready(self, standings: Standings) -> Sequence[Trial]:
        if self._searcher is None:
            return self.cells(standings)
        state = self.search(standings)
        if state.selected is not None:
            return self._to_test(state.selected)
        settings = state.settings
        # Who has come far goes first: others wait for it. Of a setting's rungs the lower ones are done.
        return [trial for number, rung in sorted(state.halving.wanted, key=lambda one: (-one[1], one[0]))
                for trial in self.searched(number, settings[number])[rung]]

    def _ask(self, final: Mapping[int, Figure]) -> tuple[Generations, bool]:
        """The searcher, which may take its time, for its generations and whether they are all."""
        assert self._searcher is not None
        asked = self._asked
        if asked is None or asked[0] != final:
            asked = self._asked = final, (self._searcher.generations(final), self._searcher.finished(final))
        return asked[1]

    def _figures(self, generations: Generations, standings: Standings) -> dict[tuple[int, int], float]:
        """By setting and rung, the smaller the better: the mean over classes and seeds, where none is missing."""
        found = {}
        for number, setting in enumerate(itertools.chain.from_iterable(generations)):
            trials = self.searched(number, setting)[self.sweep.epochs]
            stands = [standing_of(trial, standings) for trial in trials]
            for rung in self.rungs:
                values = [self._figure(standing, rung) for standing in stands]
                if None in values:
                    break  # so they are on higher rungs
                found[number, rung] = statistics.fmean(values)
        return found

    def _figure(self, standing: Standing, rung: int) -> float | None:
        """The smaller the better; None where it is not known yet."""
        search = self.sweep.search
        assert search is not None
        if rung in standing.figures:
            value = standing.figures[rung][search.select]
            return math.inf if value is None else signed(value, search.select)
        return math.inf if standing.diverged else None

    def _to_test(self, setting: Settings) -> tuple[Trial, ...]:
        kept = self._tested
        if kept is None or kept[0] != setting:
            kept = self._tested = setting, self._apart(tested(self.sweep, setting))
        return kept[1]

    def _apart(self, trials: Iterable[Trial]) -> tuple[Trial, ...]:
        """As they are. Raises BadInput where another experiment has the folder of one of them."""
        found = tuple(trials)
        for trial in found:
            if self._ids.setdefault(trial.name, trial.experiment.id) != trial.experiment.id:
                raise BadInput(f"two trials of the search would share the folder {trial.folder}, though they differ: "
                               f"change the search space a little, and give another --name")
        return found

