"""How long a step takes, measured: the real net, loss and optimizer on made-up pixels."""

from __future__ import annotations

import time

import torch

from ..detector import build_network
from ..experiment import Experiment
from ..model.architectures import info
from ..stream.batches import Batch
from ..world import World
from .fit import State, Step

_WARM_UP = 3  # steps: the first ones make buffers and choose kernels


def step_seconds(experiment: Experiment, device: str = "cpu", threads: int | None = None, *, share: int = 1,
                 for_s: float = 1.5) -> float:
    """Seconds of a step with batches of ``experiment``, or of the rows that one of ``share`` workers has, alone on
    ``device`` with ``threads``: the fastest of those that fit into ``for_s`` seconds. Input is not counted in."""
    where, before = torch.device(device), torch.get_num_threads()
    if threads:
        torch.set_num_threads(threads)
    try:
        network = build_network(experiment).to(where).train()
        state = State.initial(network, experiment)
        state.sums = state.sums.to(where)
        step = Step(experiment, World(), state, where)
        layout, rows = info(experiment.network.name), -(-experiment.batch_size // share)
        images = torch.randn(rows, layout.channels, layout.image_size, layout.image_size, device=where)
        batch = Batch(images, torch.arange(rows, device=where).remainder(2).float())
        fastest, began, count = float("inf"), time.perf_counter(), 0
        while count <= _WARM_UP or time.perf_counter() - began < for_s:
            start = time.perf_counter()
            step(batch, False)
            step.stop_wanted()  # waits for the device
            count += 1
            if count > _WARM_UP:
                fastest = min(fastest, time.perf_counter() - start)
        return fastest
    finally:
        torch.set_num_threads(before)
