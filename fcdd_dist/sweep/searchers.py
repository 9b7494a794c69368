"""Who says which settings are tried: a pure function of the space and of the figures of settings tried before.

A searcher keeps nothing. It is asked anew with all figures that are known, and what it gives depends neither on the
order in which they came in nor on how often it was asked. So a search that was killed goes on with the same settings.
"""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import Any

from .. import chance
from ..errors import BadInput, nearest
from .halving import Figure
from .space import Settings, Space, draw, is_grid, place

GENERATION = 4  # settings that Optuna is asked for before it is told how they did
# Of a setting, for Optuna, whose categories can't be lists and objects: on each axis the place in [0, 1] of a range, or
# the number of a value.
Places = tuple[float, ...]


class Searcher(ABC):
    """``largest``: how many settings a generation has at most."""

    largest: int

    @abstractmethod
    def generations(self, figures: Mapping[int, Figure]) -> tuple[tuple[Settings, ...], ...]:
        """The settings that are known, in the generations that they were made in; none of them is empty.

        ``figures``: by number of the setting, counted through, those that will not change any more. More figures give
        the same generations and perhaps further ones.
        """

    @abstractmethod
    def finished(self, figures: Mapping[int, Figure]) -> bool:
        """Whether no further generation will come, whatever comes of those that are known."""

    def settings(self, figures: Mapping[int, Figure]) -> tuple[Settings, ...]:
        """All settings that are known, by number."""
        return tuple(setting for generation in self.generations(figures) for setting in generation)


class Drawn(Searcher):
    """All settings at once, as ``draw`` gives them, spread out over the space."""

    def __init__(self, space: Space, samples: int, seed: int) -> None:
        self._settings = draw(space, samples, seed)
        self.largest = len(self._settings)

    def generations(self, figures: Mapping[int, Figure]) -> tuple[tuple[Settings, ...], ...]:
        return (self._settings,)

    def finished(self, figures: Mapping[int, Figure]) -> bool:
        return True


class Optuna(Searcher):
    """``samples`` suggestions of Optuna's tree-structured Parzen estimator, in generations of ``GENERATION``.

    A generation is asked for when all figures of the one before are final: of the settings and figures so far, in a
    study that is made for it and forgotten. The first one is random. What was suggested before is not tried again, so
    there may be fewer settings than samples. The suggestions are those of one version of Optuna. Raises BadInput where
    Optuna is not installed.
    """

    def __init__(self, space: Space, samples: int, seed: int) -> None:
        optuna_version()
        self._space, self._samples, self._seed = dict(space), samples, seed
        self.largest = min(GENERATION, samples)
        self._suggestions = cache(self._suggest)  # a pure function, and slow: some 20 ms

    def generations(self, figures: Mapping[int, Figure]) -> tuple[tuple[Settings, ...], ...]:
        return self._replay(figures)[0]

    def finished(self, figures: Mapping[int, Figure]) -> bool:
        return self._replay(figures)[1]

    def _replay(self, figures: Mapping[int, Figure]) -> tuple[tuple[tuple[Settings, ...], ...], bool]:
        generations: list[tuple[Settings, ...]] = []
        known: list[Settings] = []
        places: list[Places] = []
        for asked in range(0, self._samples, GENERATION):
            if any(number not in figures for number in range(len(known))):
                return tuple(generations), False
            told = tuple((there, figures[number]) for number, there in enumerate(places))
            before = len(known)
            for there in self._suggestions(told, asked):
                settings = {path: axis.values[u] if not axis.is_range else place(path, axis, u)
                            for (path, axis), u in zip(self._space.items(), there, strict=True)}
                if settings not in known:
                    known.append(settings)
                    places.append(there)
            if len(known) > before:
                generations.append(tuple(known[before:]))
        return tuple(generations), True

    def _suggest(self, told: tuple[tuple[Places, Figure], ...], asked: int) -> list[Places]:
        import optuna
        from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution

        axes: dict[str, BaseDistribution] = {
            path: FloatDistribution(0, 1) if axis.is_range else CategoricalDistribution(range(len(axis.values)))
            for path, axis in self._space.items()}
        with _quiet():
            sampler = optuna.samplers.TPESampler(
                n_startup_trials=1, multivariate=True, constant_liar=True,  # keeps a generation apart
                seed=chance.integer(2 ** 32, "search", self._seed, "optuna", asked))
            study = optuna.create_study(sampler=sampler)
            study.add_trials([optuna.trial.create_trial(params=dict(zip(axes, there, strict=True)),
                                                        distributions=axes, **_outcome(figure))
                              for there, figure in told])
            trials = [study.ask(axes) for _ in range(min(GENERATION, self._samples - asked))]
        return [tuple(trial.params[path] for path in axes) for trial in trials]


def _outcome(figure: Figure) -> dict[str, Any]:
    """As Optuna ranks them: settings that are done by their value, then stopped ones by rung and value, then others."""
    from optuna.trial import TrialState

    if figure.state == "done":
        return {"state": TrialState.COMPLETE, "value": figure.value}
    values = {figure.epochs: figure.value} if figure.state == "stopped" else {}
    return {"state": TrialState.PRUNED, "intermediate_values": values}


@contextmanager
def _quiet() -> Iterator[None]:
    """Without Optuna's log lines and its warnings that an argument is experimental."""
    import optuna

    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            yield
    finally:
        optuna.logging.set_verbosity(verbosity)


# By --searcher. Each takes the space, the number of samples and the seed of the search.
SEARCHERS: dict[str, Callable[[Space, int, int], Searcher]] = {"grid": Drawn, "random": Drawn, "optuna": Optuna}


def optuna_version() -> str:
    """Raises BadInput where Optuna is not installed."""
    try:
        import optuna
    except ImportError:
        raise BadInput("--searcher optuna needs Optuna: pip install 'fcdd_dist[optuna]'") from None
    return optuna.__version__


def choose(name: str | None, space: Space, samples: int | None) -> tuple[str, int]:
    """The searcher and the number of samples, of what was asked for; by None: grid for a space of grids, else random.

    A space of grids alone has 1 sample of all its points where it is not for Optuna. Raises BadInput for what does not
    go together.
    """
    if name is None:
        name = "grid" if is_grid(space) else "random"
    if name not in SEARCHERS:
        raise BadInput(f"there is no searcher {name!r}{nearest(name, SEARCHERS)}; there are: {', '.join(SEARCHERS)}")
    drawn = next((path for path, axis in space.items() if axis.kind != "grid"), None)
    if name == "grid" and drawn is not None:
        raise BadInput(f"--searcher grid tries all values, and those of {drawn} are drawn ({space[drawn].kind}): write "
                       f"them as a grid, or give --searcher random")
    if name == "random" and drawn is None:
        raise BadInput("--searcher random has nothing to draw from in a space of grids alone: give --searcher grid, or "
                       "write a choice or a range")
    if name == "grid":
        if samples is not None:
            raise BadInput(f"--samples {samples} does nothing for a space of grids alone, of which all points are "
                           f"tried: leave it out")
        return name, 1
    if samples is None or samples < 1:
        raise BadInput(f"--searcher {name} needs --samples N, a number from 1: how many settings are tried")
    return name, samples
