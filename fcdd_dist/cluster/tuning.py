"""A sweep as one experiment of Ray Tune: what comes next is for the desk, where and in which process for Tune."""

from __future__ import annotations

import contextlib
import logging
import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ..errors import FcddError
from ..run import Job
from ..sweep.trials import Trial, varied
from .desk import Desk
from .slots import TrialPlacement
from .trial import trial as run_trial

# A driver of nested workers computes nothing; Tune wants it to hold something, of which there is plenty everywhere.
# Were it a hundredth of a CPU, workers that need the last whole one would wait for it for ever.
_NEXT_TO_NOTHING = {"memory": 1}
# To be set before Tune is imported.
ENVIRONMENT = {
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # a run writes its own metrics; this made starting a trial twice as slow
    "RAY_AIR_NEW_OUTPUT": "0",  # the other reporter prints boxes, whatever verbosity is asked for
}


class _Here:
    """Stays in this process: Tune pickles what it is given, to be restored from, which nobody does."""

    def __init__(self, desk: Desk, job_of: Callable[[Trial], Job]) -> None:
        self.desk, self.job_of = desk, job_of

    def __reduce__(self) -> tuple:
        return object, ()


class Tuning(threading.Thread):
    """``Tuner.fit()`` beside the main thread, which has signals to hear and lines to show."""

    def __init__(self, desk: Desk, job_of: Callable[[Trial], Job], placement: TrialPlacement, at_once: int,
                 sharers: int, folder: Path) -> None:
        super().__init__(name="tune", daemon=True)
        self._tuner = _tuner(desk, job_of, placement, at_once, sharers, folder)
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            with _quiet():
                self._tuner.fit()
        except BaseException as error:  # noqa: BLE001 - the main thread raises it
            self.error = error


def _tuner(desk: Desk, job_of: Callable[[Trial], Job], placement: TrialPlacement, at_once: int, sharers: int,
           folder: Path) -> Any:
    from ray import tune
    from ray.tune.search import Searcher

    here = _Here(desk, job_of)

    class Suggestions(Searcher):
        """What Tune asks for the next trial."""

        def suggest(self, trial_id: str) -> dict | str | None:
            if (trial := here.desk.take()) is None:
                return Searcher.FINISHED if here.desk.over() else None
            job = here.job_of(trial).model_copy(update={"sharers": sharers})
            return {"job": job.to_json(), "name": trial.name, "parameters": varied(here.desk.plan.sweep, trial),
                    "workers": placement.workers, "cpus": placement.cpus, "gpus": placement.gpus,
                    "max_failures": placement.max_failures}

        def on_trial_complete(self, trial_id: str, result: dict | None = None, error: bool = False) -> None:
            """See ``Ends``, which is told more."""

        def save(self, checkpoint_path: str) -> None:
            """Nothing: what counts stands in the run folders, from which a new driver begins."""

        def restore(self, checkpoint_path: str) -> None:
            raise NotImplementedError("a sweep begins from its run folders")

    class Ends(tune.Callback):
        """What trials say, and how they end."""

        def on_trial_result(self, iteration: int, trials: list, trial: Any, result: dict, **_: Any) -> None:
            if "said" in result:
                here.desk.say(f"{trial.config['name']}: {result['said']}")

        def on_trial_complete(self, iteration: int, trials: list, trial: Any, **_: Any) -> None:
            told, name = trial.last_result, trial.config["name"]
            if told["state"] == "done":
                here.desk.done(name, told["result"])
            elif told["state"] == "interrupted":
                here.desk.interrupted(name, told["result"]["history"])
            else:
                here.desk.failed(name, told["reason"], told["diverged"])

        def on_trial_recover(self, iteration: int, trials: list, trial: Any, **_: Any) -> None:
            """Before another try."""
            here.desk.say(f"{trial.config['name']}: {_reason(_error(trial))}: trying again")

        def on_trial_error(self, iteration: int, trials: list, trial: Any, **_: Any) -> None:
            """After the last try."""
            error, crashes = _error(trial), trial.run_metadata.num_failures
            often = f"failed {crashes} times, at last: " if crashes > 1 else ""
            here.desk.failed(trial.config["name"], f"{often}{_reason(error)}", False, _traceback(error))

    nested = placement.workers > 1
    resources = _NEXT_TO_NOTHING if nested else placement.each
    return tune.Tuner(
        tune.with_resources(run_trial, resources),
        # Processes go on to the next trial: starting one costs more than a short training.
        tune_config=tune.TuneConfig(search_alg=Suggestions(), num_samples=-1, max_concurrent_trials=at_once,
                                    reuse_actors=True),
        run_config=tune.RunConfig(name="sweep", storage_path=str(folder), verbose=0, callbacks=[Ends()],
                                  failure_config=tune.FailureConfig(max_failures=placement.max_failures)))


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without Tune's log of failures, some thirty lines of its own insides for each: ``Ends`` tells of them."""
    logger = logging.getLogger("ray.tune")
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(before)


def _error(trial: Any) -> BaseException:
    """What a trial of Tune failed with at last: a RayTaskError around what it raised, or an error of Ray's own."""
    from ray import cloudpickle

    # ``trial.get_error()`` looks in a place to which this file is only copied later.
    return cloudpickle.loads(Path(trial.pickled_error_file).read_bytes())


def _reason(error: BaseException) -> str:
    """One line for a person."""
    from ray.exceptions import RayTaskError

    if isinstance(error, RayTaskError):
        cause = error.cause
        lines = str(cause).strip().splitlines()
        if isinstance(cause, FcddError):
            return lines[0]
        return f"{type(cause).__name__}{': ' + lines[0] if lines else ''}"
    if "OUT_OF_MEMORY" in str(error):
        return "its process was ended since the machine had no memory left"
    return "its process died without a word, as after a kill or a lost machine"


def _traceback(error: BaseException) -> tuple[str, ...]:
    """Of what nobody has thought of, for whoever mends it."""
    from ray.exceptions import RayTaskError

    if not isinstance(error, RayTaskError) or isinstance(error.cause, FcddError):
        return ()
    return (re.sub(r"\x1b\[\d+m", "", str(error)).rstrip(),)
