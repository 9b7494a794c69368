"""The training loop. It has never heard of Ray, of storage or of shards.

A rank back-propagates the sum over its rows of loss / B; the gradients of all ranks are added up. So the result is
that of the global batch, however it is cut. Nothing inside a step waits for the device, but on a CPU, where reading
is free, and once in a while to see whether a stop is wanted.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import nn

from ..data.order import Cursor
from ..errors import NonFiniteLoss
from ..experiment import Experiment
from ..model.objectives import OBJECTIVES
from ..stream.batches import Batch, Stream
from ..world import World
from .optimization import Shared, build_optimizer, set_learning_rate

_LOOK_EVERY = 16  # steps between looks at the stop flag, where looking means waiting for a GPU
_SUMS = ("loss_nominal", "loss_anomalous", "nominal", "anomalous")  # over the epoch so far


@dataclass
class State:
    """What a training carries from step to step: with the experiment, everything that the rest depends on."""

    network: nn.Module
    optimizer: torch.optim.Optimizer
    cursor: Cursor = field(default_factory=Cursor)
    sums: torch.Tensor = field(default_factory=lambda: torch.zeros(len(_SUMS), dtype=torch.float64))
    history: list[dict] = field(default_factory=list)  # the finished epochs, as lines of metrics.jsonl

    @classmethod
    def initial(cls, network: nn.Module, experiment: Experiment) -> State:
        return cls(network, build_optimizer(network, experiment))

    def sums_by_name(self) -> dict[str, float]:
        return dict(zip(_SUMS, self.sums.tolist(), strict=True))

    def restore_sums(self, sums: dict[str, float]) -> None:
        self.sums = torch.tensor([sums[name] for name in _SUMS], dtype=torch.float64)


class Watcher(Protocol):
    """Who looks on. Called on every rank; only ``holdout_figures`` and ``epoch_figures`` may do anything collective."""

    def wants_stop(self) -> bool:
        """Whether to stop soon: asked on rank 0 alone, at every step; once true it stays so."""
        ...

    def holdout_figures(self) -> tuple[float | None, float | None]:
        """Mean loss and AUROC of the hold-out at the end of an epoch, equal on all ranks; None where there are none."""
        ...

    def epoch_figures(self, waited_s: float) -> dict[str, float]:
        """What else is to stand in the line of the epoch that ends, equal on all ranks.

        ``waited_s``: seconds in which this rank's device had nothing to do in it, since pixels were not decoded yet;
        see ``Stream.waited_s``. Every step adds up over all ranks, so that of the ranks the longest counts.
        """
        ...

    def after_step(self, state: State) -> None:
        """After every step; ``state.cursor`` names the next one."""
        ...

    def after_epoch(self, state: State) -> None:
        """After every epoch, its line being the last of ``state.history``."""
        ...


def fit(experiment: Experiment, world: World, stream: Stream, state: State, watcher: Watcher) -> bool:
    """Trains from ``state.cursor`` to the end of the last epoch; False where it was stopped before that.

    ``state`` is changed in place. Raises NonFiniteLoss that names the epoch, at its end.
    """
    device = next(state.network.parameters()).device
    step = Step(experiment, world, state, device)
    state.sums = state.sums.to(device)
    state.network.train()
    look_every = 1 if device.type == "cpu" else _LOOK_EVERY
    clock, waited_s, epoch_steps = time.perf_counter(), stream.waited_s, 0
    lr = set_learning_rate(state.optimizer, experiment, state.cursor.epoch)
    for cursor, batch in _closing(stream.batches(state.cursor, experiment.epochs)):
        step(batch, world.is_main and watcher.wants_stop())
        epoch_steps += 1
        ends = cursor.step + 1 == stream.steps_per_epoch
        state.cursor = Cursor(cursor.epoch + 1) if ends else Cursor(cursor.epoch, cursor.step + 1)
        if ends:
            # Reading the sums waits for the device, so that the clock stops when the work is done.
            line = _line(experiment, cursor.epoch, state.sums_by_name(), lr)
            seconds = time.perf_counter() - clock
            loss, auroc = watcher.holdout_figures()
            line |= {"holdout_loss": _finite(loss, "hold-out loss", cursor.epoch, lr), "holdout_auroc": auroc, "lr": lr,
                     "seconds": seconds, "images_per_s": epoch_steps * experiment.batch_size / seconds,
                     **watcher.epoch_figures(stream.waited_s - waited_s)}
            state.history.append(line)
            state.sums.zero_()
            watcher.after_epoch(state)
            clock, waited_s, epoch_steps = time.perf_counter(), stream.waited_s, 0
            lr = set_learning_rate(state.optimizer, experiment, state.cursor.epoch)
        watcher.after_step(state)
        count = cursor.epoch * stream.steps_per_epoch + cursor.step + 1  # the same on every rank, whoever was resumed
        if (ends or count % look_every == 0) and step.stop_wanted():
            return state.cursor.epoch >= experiment.epochs
    return True


class Step:
    """One step of the optimizer on the global batch."""

    def __init__(self, experiment: Experiment, world: World, state: State, device: torch.device) -> None:
        self._state, self._batch_size = state, experiment.batch_size
        self._objective = OBJECTIVES[experiment.objective.kind]()
        self._shared = Shared(state.network, len(_SUMS) + 1, world.size)
        self._autocast = torch.autocast(device.type, torch.bfloat16, enabled=experiment.precision == "bf16")

    def __call__(self, batch: Batch, stop: bool) -> None:
        shared = self._shared
        shared.clear()
        with self._autocast:
            output = self._state.network(batch.images.contiguous(memory_format=torch.channels_last))
        losses = self._objective.loss(output, batch.labels)
        (losses.sum() / self._batch_size).backward()
        losses, anomalous = losses.detach(), batch.labels
        nominal = 1 - anomalous
        torch.stack([(losses * nominal).sum(), (losses * anomalous).sum(), nominal.sum(), anomalous.sum(),
                     losses.new_full((), float(stop))], out=shared.extras)
        shared.add_up()
        self._state.optimizer.step()
        self._state.sums += shared.extras[:-1]

    def stop_wanted(self) -> bool:
        return bool(self._shared.extras[-1] > 0)


def _line(experiment: Experiment, epoch: int, sums: dict[str, float], lr: float) -> dict:
    seen = sums["nominal"] + sums["anomalous"]
    total = sums["loss_nominal"] + sums["loss_anomalous"]
    _finite(total, "loss", epoch, lr)
    return {"epoch": epoch + 1, "loss": total / seen,
            "loss_nominal": sums["loss_nominal"] / sums["nominal"] if sums["nominal"] else None,
            "loss_anomalous": sums["loss_anomalous"] / sums["anomalous"] if sums["anomalous"] else None}


def _finite(value: float | None, what: str, epoch: int, lr: float) -> float | None:
    if value is not None and not math.isfinite(value):
        raise NonFiniteLoss(f"the {what} of epoch {epoch + 1} is not finite ({value}): lower optimizer.lr ({lr:g}), or "
                            f"look at the data; the last good checkpoint stands")
    return value


def _closing(steps: Iterator) -> Iterator:
    """``steps``, closed at the end of the loop, however it ends: decoding ahead stops with it."""
    try:
        yield from steps
    finally:
        steps.close()
