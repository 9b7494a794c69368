"""How long the device has stood still for want of input."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, wait

import torch

_LOOK_EVERY_S = 0.001  # at a device that has something to do


def wait_for(parts: Sequence[Future[None]], device: torch.device) -> float:
    """Waits for all ``parts``. The seconds of it in which ``device`` had nothing else to do. Raises what a part raised.

    A GPU is given its work ahead of time: while it has some, waiting costs nothing. A CPU has nothing to do but by
    whoever waits here. That threads which decode take cores from the training's step is not seen in this.
    """
    if device.type != "cuda":
        return idle_s(parts, lambda: True)
    queued = torch.cuda.Event()
    queued.record(torch.cuda.current_stream(device))
    return idle_s(parts, queued.query)


def idle_s(parts: Sequence[Future[None]], done: Callable[[], bool]) -> float:
    """As ``wait_for``; ``done``: whether the device has finished what it had when the waiting began."""
    began: float | None = None
    for part in parts:
        while began is None and not part.done():
            if done():
                began = time.perf_counter()
            else:
                wait([part], _LOOK_EVERY_S)
        part.result()
    return 0.0 if began is None else time.perf_counter() - began
