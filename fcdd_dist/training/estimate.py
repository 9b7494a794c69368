"""How long a training and a test take, measured: the real net, loss and optimizer on made-up pixels."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from ..detector import CHUNK, build_network
from ..experiment import Experiment
from ..model.architectures import info
from ..stream.batches import Batch
from ..world import World
from .fit import State, Step

_WARM_UP = 3  # the first ones make buffers and choose kernels


@dataclass(frozen=True)
class Pace:
    """Seconds of a training step, and of an image that is only looked at; without input."""

    step: float
    image: float


def pace(experiment: Experiment, device: str = "cpu", threads: int | None = None, *, share: int = 1,
         for_s: float = 1.5) -> Pace:
    """Of batches of ``experiment``, or of the rows that one of ``share`` workers has, alone on ``device`` with
    ``threads``: the fastest of those that fit into ``for_s`` seconds, for steps and for images each."""
    where, before = torch.device(device), torch.get_num_threads()
    if threads:
        torch.set_num_threads(threads)
    try:
        network = build_network(experiment).to(where).train()
        state = State.initial(network, experiment)
        state.sums = state.sums.to(where)
        step = Step(experiment, World(), state, where)
        layout, rows = info(experiment.network.name), -(-experiment.batch_size // share)

        def made_up(count: int) -> torch.Tensor:
            return torch.randn(count, layout.channels, layout.image_size, layout.image_size, device=where)

        batch = Batch(made_up(rows), torch.arange(rows, device=where).remainder(2).float())

        def train() -> None:
            step(batch, False)
            step.stop_wanted()  # waits for the device

        step_s = _fastest(train, for_s)
        network.eval()
        images = made_up(CHUNK).contiguous(memory_format=torch.channels_last)
        with torch.inference_mode():
            return Pace(step_s, _fastest(lambda: network(images).sum().item(), for_s) / CHUNK / share)
    finally:
        torch.set_num_threads(before)


def _fastest(work: Callable[[], object], for_s: float) -> float:
    """Seconds of the fastest call within ``for_s``, and of one at least."""
    fastest, began, count = float("inf"), time.perf_counter(), 0
    while count <= _WARM_UP or time.perf_counter() - began < for_s:
        start = time.perf_counter()
        work()
        count += 1
        if count > _WARM_UP:
            fastest = min(fastest, time.perf_counter() - start)
    return fastest
