"""How far a trial is, by what its run folder vouches for: a checkpoint's record, a result of this very experiment."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from .. import checkpoint
from ..errors import Damaged, NotFound
from ..run import RESULT, fingerprint
from ..storage import Store
from ..threads import ahead
from .trials import Trial
from .value import Sweep

_AT_ONCE = 16  # folders that are looked at together, where a look is a request over a network
DIVERGED = "diverged.json"  # in the run folder of a trial of a search
_FIGURES = ("holdout_loss", "holdout_auroc")


@dataclass(frozen=True)
class Standing:
    """``epochs``: trained and committed. ``figures``: of the hold-out, by epoch and name. ``result``: ``result.json``,
    once there is one.

    ``reason``: why the trial failed when it was last tried; ``diverged``: since its loss was not finite, which another
    try would not change.
    """

    epochs: int = 0
    figures: Mapping[int, Mapping[str, float | None]] = field(default_factory=dict)
    result: Mapping[str, Any] | None = None
    reason: str | None = None
    diverged: bool = False

    def has(self, trial: Trial) -> bool:
        """Whether nothing is left to do for ``trial``."""
        if trial.tested:
            return self.result is not None and self.result["epochs"] >= trial.experiment.epochs
        return self.diverged or trial.experiment.epochs in self.figures


def look(store: Store, sweep: Sweep, trials: Sequence[Trial]) -> Iterator[tuple[Trial, Standing]]:
    """The standing of each trial, by the folder of the sweep in ``store``."""
    yield from zip(trials, ahead(lambda trial: standing(store, sweep, trial), trials, _AT_ONCE, "look"), strict=True)


def standing(store: Store, sweep: Sweep, trial: Trial) -> Standing:
    """What is damaged or of another experiment counts as not there: the trial itself will say so."""
    run = store.at(trial.folder)
    wanted = fingerprint(trial.experiment, sweep.data_id, sweep.exposure_id)
    result = _read(run, RESULT, wanted, epochs=int, auroc=float | None, average_precision=float | None)
    if sweep.search is None and (done := Standing(result=result)).has(trial):  # nobody asks for its figures
        return replace(done, epochs=done.result["epochs"])
    found = _committed(run, wanted, result)
    divergence = _read(run, DIVERGED, wanted, reason=str)
    return found if divergence is None else replace(found, reason=divergence["reason"], diverged=True)


def note_divergence(run: Store, fingerprint: str, reason: str) -> None:
    """So that no later driver trains it once more, only to come to the same end."""
    run.write(DIVERGED, json.dumps({"fingerprint": fingerprint, "reason": reason}).encode())


def _committed(run: Store, wanted: str, result: Mapping[str, Any] | None) -> Standing:
    for name in reversed(checkpoint.names(run)):
        try:
            record = checkpoint.read_record(run.at(f"{checkpoint.FOLDER}/{name}"))
        except (Damaged, NotFound):
            continue
        if record.fingerprint == wanted:
            return of_history(record.history, result)
    return Standing(result=result)


def of_history(history: Sequence[Mapping[str, Any]], result: Mapping[str, Any] | None = None) -> Standing:
    """Of a run with these lines of metrics."""
    figures = {line["epoch"]: {name: line.get(name) for name in _FIGURES} for line in history}
    return Standing(epochs=len(history), figures=figures, result=result)


def figures_of(history: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """What a sweep needs of lines of metrics."""
    return [{name: line.get(name) for name in ("epoch", *_FIGURES)} for line in history]


def _read(run: Store, key: str, wanted: str, **kinds: Any) -> Mapping[str, Any] | None:
    """None where it is not there, damaged, or of another experiment."""
    try:
        found = json.loads(run.read(key))
        sound = all(isinstance(found[name], kind) for name, kind in kinds.items())
        return found if sound and found["fingerprint"] == wanted else None
    except (NotFound, ValueError, KeyError, TypeError):
        return None
