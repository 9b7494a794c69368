"""Decoded samples by their ids: resident on the device, or streamed from shards in the order they are asked for.

Both give the same uint8 pixels for the same ids, whole or a window of each. What is asked for, and when, is a pure
function of position (``data.order``), so the streamed form knows the future: it fetches shards and decodes ahead.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Protocol

import numpy as np
import torch

from ..data.manifest import Shard
from ..errors import BadInput
from ..experiment import Form
from ..storage import Store
from .nvjpeg import Decoder
from .resident import Resident
from .streamed import STREAM_BYTES, Streamed
from .windows import Views, Windows


class Pixels(Protocol):
    """The samples of a list of shards; ids count them in the order of the shards."""

    samples: int
    resident_bytes: int  # on the device
    waited_s: float  # in which the device had nothing to do, so far, since pixels were not there yet

    def walk(self, requests: Iterable[np.ndarray]) -> Iterator[torch.Tensor]:
        """For each request, (n,) int64 ids: (n, C, side, side) uint8 on the device, in the order of the requests.

        Not for forms of several sizes.
        """
        ...

    def views(self, requests: Iterable[tuple[np.ndarray, Windows]]) -> Iterator[Views]:
        """Likewise, a window of each image, with the mean colours of the whole ones."""
        ...


def open_pixels(store: Store, shards: tuple[Shard, ...], form: Form, device: torch.device, *, budget: int,
                lanes: int, window: int, threads: int, means: bool = False, decode: Decoder = "cpu") -> Pixels:
    """Resident where the decoded images fit ``budget`` bytes, streamed otherwise.

    Images of several sizes are reckoned as large as their form allows: how large they are is known when all have been
    read. ``means``: ``views`` will be asked for, not ``walk``. Raises BadInput where the shards that the lanes read at
    a time would not fit the memory of streaming.
    """
    samples = sum(shard.samples for shard in shards)
    if samples * form.channels * form.side * form.longest <= budget:
        return Resident(store, shards, form, device, threads, means=means, decode=decode)
    mean_samples, mean_bytes = samples / len(shards), sum(shard.bytes for shard in shards) / len(shards)
    touched = min(len(shards), lanes * (min(window, samples / lanes) / mean_samples + 1))
    if touched * mean_bytes > STREAM_BYTES:
        raise BadInput(f"{store.url}: {lanes} lanes with a window of {window} samples read {touched:.0f} shards at a "
                       f"time, {touched * mean_bytes / 1e6:.0f} MB, more than the {STREAM_BYTES / 1e6:.0f} MB of "
                       f"streaming: set data.window or lanes lower, or shard anew, since shards are smaller now")
    return Streamed(store, shards, form, device, threads, decode=decode)
