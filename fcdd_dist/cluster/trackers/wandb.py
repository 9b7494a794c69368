"""Weights & Biases: the sweep is a group of the project, and each trial a run, whose id tells which it is."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from ...errors import BadInput
from .identity import identity

_PROJECT = "fcdd_dist"


class WandbTracker:
    """Raises BadInput where W&B is not installed, or nobody is logged in. Without a network (WANDB_MODE=offline) every
    session of a sweep leaves its own folders in ``wandb/``, with all epochs so far; ``wandb sync`` takes them there.

    Of this machine, its files and the command line nothing is sent.
    """

    title = "W&B"

    def __init__(self, sweep: str) -> None:
        try:
            from wandb import Settings, login, setup
        except ImportError as error:
            raise BadInput(f"--track wandb needs W&B: pip install 'fcdd_dist[wandb]' ({error})") from None
        self._quiet = Settings(silent=True, console="off", disable_git=True, disable_code=True, x_disable_meta=True,
                               x_disable_stats=True, x_disable_machine_info=True, x_save_requirements=False,
                               init_timeout=20, finish_timeout=20)
        self._offline = setup(Settings(silent=True)).settings.mode not in ("online", "shared")
        if not self._offline and not login(prompt=False, verify=False):
            raise BadInput("--track wandb: nobody is logged in to W&B: run `wandb login`, or set WANDB_API_KEY, or "
                           "WANDB_MODE=offline")
        self._sweep = sweep
        self._project = os.environ.get("WANDB_PROJECT", _PROJECT)
        self._runs: dict[str, Any] = {}

    @property
    def where(self) -> str:
        return f"project {self._project}, group {self._sweep}" + (
            ", offline: `wandb sync` sends it" if self._offline else "")

    def start(self, trial: str, parameters: Mapping[str, Any]) -> None:
        from wandb import init

        if trial not in self._runs:
            self._runs[trial] = init(
                project=self._project, group=self._sweep, name=trial, id=identity(self._sweep, trial, parameters),
                config=dict(parameters), allow_val_change=True, resume="allow", reinit="create_new",
                settings=self._quiet)

    def epochs(self, trial: str, lines: Sequence[Mapping[str, Any]]) -> None:
        run = self._runs[trial]
        for line in lines:
            if line["epoch"] >= run.starting_step:
                run.log({name: value for name, value in line.items() if value is not None}, step=line["epoch"])

    def finish(self, trial: str, state: str, figures: Mapping[str, float | None], reason: str | None) -> None:
        run = self._runs.pop(trial)
        run.summary.update({"state": state, **{name: value for name, value in figures.items() if value is not None},
                            **({"reason": reason} if reason else {})})
        run.finish(exit_code=0 if state == "done" else 1)

    def close(self) -> None:
        for run in self._runs.values():
            run.finish(exit_code=1)
