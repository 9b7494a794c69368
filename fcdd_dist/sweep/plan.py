"""What a sweep still has to do, as a pure function of how far its trials are: the same whoever asks, and however often
all was killed in between."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

from .halving import Figure, Halving, halve, rungs
from .searchers import SEARCHERS
from .space import Settings
from .standing import Standing
from .trials import Trial, searched, tested
from .value import Sweep

_NOTHING = Standing()
Standings = Mapping[str, Standing]


@dataclass(frozen=True)
class Progress:
    """For a person. ``done`` of ``cells`` runs are tested; ``epochs_left``: of all trials, about."""

    described: str
    failed: int
    best: str
    epochs_left: int


class Plan:
    """Of one sweep. ``standings`` are by the names of trials; those not there have not begun."""

    def __init__(self, sweep: Sweep) -> None:
        self.sweep = sweep
        search = sweep.search
        self._searcher = SEARCHERS[search.searcher](search.space, search.samples, search.seed) if search else None
        self._settings: tuple[Settings, ...] = ()
        self._asked: dict[tuple[int, ...], tuple[tuple[tuple[Settings, ...], ...], bool]] = {}  # by what is final
        self._searched = lru_cache(maxsize=None)(self._make_searched)
        self._tested = lru_cache(maxsize=None)(self._make_tested)

    @cached_property
    def rungs(self) -> tuple[int, ...]:
        """The epochs at which settings are compared; the last are those that are asked for."""
        search, epochs = self.sweep.search, self.sweep.epochs
        if search is None or self._searcher is None:
            return ()
        return (epochs,) if search.scheduler == "none" else rungs(self._searcher.largest, epochs, search.reduction)

    def wanted(self, standings: Standings) -> list[Trial]:
        """All that can be begun now, the most urgent first."""
        return [trial for trial in self._ready(standings) if not standings.get(trial.name, _NOTHING).has(trial)]

    def known(self, standings: Standings) -> list[Trial]:
        """A trial for each folder that the sweep is known to have, by now."""
        found = {trial.name: trial for number in range(len(self.search(standings)[0]))
                 for trial in self._searched(number, self.sweep.epochs)} if self._searcher else {}
        return list((found | {trial.name: trial for trial in self.cells(standings)}).values())

    def cells(self, standings: Standings) -> tuple[Trial, ...]:
        """The runs that are tested; none before a search has found their setting."""
        if self._searcher is None:
            return self._tested(None)
        selected = self.search(standings)[1].selected
        return () if selected is None else self._tested(selected)

    def search(self, standings: Standings) -> tuple[tuple[Settings, ...], Halving]:
        """The settings that are known, by number, and how far the search has come."""
        search = self.sweep.search
        assert search is not None
        final: Mapping[int, Figure] = {}
        while True:
            generations, finished = self._generations(final)
            self._settings = tuple(setting for generation in generations for setting in generation)
            halving = halve([len(generation) for generation in generations], self.rungs, search.reduction,
                            self._figures(standings), more=not finished)
            if halving.final.keys() == final.keys():
                return self._settings, halving
            final = halving.final

    def _generations(self, final: Mapping[int, Figure]) -> tuple[tuple[tuple[Settings, ...], ...], bool]:
        """Those of the searcher, and whether they are all. It is asked for every trial, and may take its time."""
        assert self._searcher is not None
        key = tuple(sorted(final))
        if key not in self._asked:
            self._asked[key] = self._searcher.generations(final), self._searcher.finished(final)
        return self._asked[key]

    def progress(self, standings: Standings) -> Progress:
        cells = self.cells(standings)
        count = len(self.sweep.classes) * self.sweep.seeds
        done = [(standings[trial.name].result, trial) for trial in cells
                if standings.get(trial.name, _NOTHING).has(trial)]
        left = sum(max(0, self.sweep.epochs - standings.get(trial.name, _NOTHING).epochs) for trial in cells)
        areas = [(result["auroc"], trial.name) for result, trial in done
                 if result is not None and result["auroc"] is not None]
        described, best = f"{len(done)}/{count} done", ""
        if areas:
            best = "best {1} {0:.4f}".format(*max(areas))
        if self._searcher is not None and not cells:
            settings, halving = self.search(standings)
            states = list(halving.states.values())
            decided = sum(state != "waiting" for state in states)
            described = f"search: {decided}/{len(settings)} settings decided"
            figures = [(figure.value, number) for number, figure in halving.figures.items()
                       if figure.epochs == max(one.epochs for one in halving.figures.values())]
            if figures:
                value, number = min(figures)
                best = f"best setting {number}: {self._named(value):.4g} after {halving.figures[number].epochs} epochs"
            left = self._search_left(halving, standings) + count * self.sweep.epochs
        failed = sum(standing.reason is not None for standing in standings.values())
        return Progress(described, failed, best, left)

    def search_table(self, standings: Standings) -> dict[str, Any] | None:
        """See ``table``."""
        search = self.sweep.search
        if search is None:
            return None
        settings, halving = self.search(standings)
        return {"select": search.select, "searcher": search.searcher, "scheduler": search.scheduler,
                "rungs": list(self.rungs), "selected": halving.selected,
                "settings": [self._row(number, setting, halving, standings) for number, setting in enumerate(settings)]}

    def _ready(self, standings: Standings) -> Sequence[Trial]:
        if self._searcher is None or (cells := self.cells(standings)):
            return self.cells(standings) if self._searcher is None else cells
        halving, found = self.search(standings)[1], []
        # Who has come far goes first: others wait for it. Of a setting's rungs the lower ones are done.
        for number, rung in sorted(halving.wanted, key=lambda one: (-one[1], one[0])):
            found += self._searched(number, rung)
        return found

    def _figures(self, standings: Standings) -> dict[tuple[int, int], float]:
        """By setting and rung, the smaller the better: the mean over classes and seeds, where none is missing."""
        found = {}
        for number in range(len(self._settings)):
            for rung in self.rungs:
                values = [self._figure(standings.get(trial.name, _NOTHING), rung)
                          for trial in self._searched(number, rung)]
                if None not in values:
                    found[number, rung] = statistics.fmean(values)
        return found

    def _figure(self, standing: Standing, rung: int) -> float | None:
        """The smaller the better; None where it is not known yet."""
        search = self.sweep.search
        assert search is not None
        if rung in standing.figures:
            value = standing.figures[rung][search.select]
            return math.inf if value is None else value if search.select == "holdout_loss" else -value
        return math.inf if standing.diverged else None

    def _named(self, figure: float) -> float:
        """As ``select`` names it."""
        assert self.sweep.search is not None
        return figure if self.sweep.search.select == "holdout_loss" else -figure

    def _row(self, number: int, setting: Settings, halving: Halving, standings: Standings) -> dict[str, Any]:
        figure = halving.figures.get(number)
        trials = [(trial, standings.get(trial.name, _NOTHING)) for trial in self._searched(number, self.sweep.epochs)]
        rung = figure.epochs if figure else None
        cells = [{"class": trial.class_id, "seed": trial.seed, "trial": trial.folder, "epochs": standing.epochs,
                  "figure": standing.figures[rung][self.sweep.search.select] if rung in standing.figures else None,
                  "reason": standing.reason} for trial, standing in trials]
        state = halving.states[number]
        if state == "diverged" or any(standing.reason for _, standing in trials):
            state = "failed"
        elif state == "waiting" and any(standing.epochs for _, standing in trials):
            state = "running"
        value = None if figure is None or math.isinf(figure.value) else self._named(figure.value)
        return {"number": number, "settings": setting, "state": state, "epochs": rung or 0, "figure": value,
                "cells": cells}

    def _search_left(self, halving: Halving, standings: Standings) -> int:
        """Epochs, were all samples of the search tried."""
        search = self.sweep.search
        assert search is not None
        count, before, all_epochs = len(halving.states), 0, 0
        for number, rung in enumerate(self.rungs):
            all_epochs += max(1, count // search.reduction**number) * (rung - before)
            before = rung
        each = len(self.sweep.classes) * search.seeds
        trained = sum(standings.get(trial.name, _NOTHING).epochs for number in range(count)
                      for trial in self._searched(number, self.sweep.epochs))
        return max(0, all_epochs * each - trained)

    def _make_searched(self, number: int, epochs: int) -> tuple[Trial, ...]:
        return tuple(searched(self.sweep, number, self._settings[number], epochs))

    def _make_tested(self, selected: int | None) -> tuple[Trial, ...]:
        return tuple(tested(self.sweep, {} if selected is None else self._settings[selected]))
