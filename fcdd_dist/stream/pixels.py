"""Decoded samples by their ids: resident on the device, or streamed from shards in the order they are asked for.

Both give the same uint8 pixels for the same ids. What is asked for, and when, is a pure function of position
(``data.order``), so the streamed form knows the future: it fetches shards and decodes samples ahead.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from itertools import islice
from typing import NamedTuple, Protocol

import numpy as np
import torch

from ..data.manifest import Shard
from ..data.shards.decode import decode_sample, decode_shard
from ..data.shards.read import FETCHERS, Sample, fetch, fetch_each, read_shard
from ..errors import BadInput
from ..experiment import Form
from ..storage import Store
from .shelf import Shelf

STREAM_BYTES = 160 << 20  # of shards that a streamed split keeps
_DECODED_AHEAD = 6  # requests
_LOOKED_AHEAD = 64  # requests whose shards are fetched, as far as these have room


class Pixels(Protocol):
    """The samples of a list of shards; ids count them in the order of the shards."""

    samples: int
    resident_bytes: int  # on the device

    def walk(self, requests: Iterable[np.ndarray]) -> Iterator[torch.Tensor]:
        """For each request, (n,) int64 ids: (n, C, side, side) uint8 on the device, in the order of the requests."""
        ...


class Resident:
    """Everything decoded once and kept on the device; a batch is a gather."""

    def __init__(self, store: Store, shards: tuple[Shard, ...], form: Form, device: torch.device, threads: int) -> None:
        self.samples = sum(shard.samples for shard in shards)
        self._images = torch.empty((self.samples, form.channels, form.side, form.side), dtype=torch.uint8,
                                   device=device)
        self.resident_bytes = self._images.numel()
        ends = np.cumsum([shard.samples for shard in shards])

        def load(number: int, data: bytes) -> None:
            images = decode_shard(data, form, store, shards[number])
            self._images[ends[number] - len(images): ends[number]] = torch.from_numpy(images).to(device)

        with ThreadPoolExecutor(threads, "decode") as decoders:
            loading: deque[Future[None]] = deque()
            for number, data in enumerate(fetch_each(store, shards)):
                loading.append(decoders.submit(load, number, data))
                if len(loading) > threads:  # what is fetched and not yet decoded takes memory, too
                    loading.popleft().result()
            for done in loading:
                done.result()

    def walk(self, requests: Iterable[np.ndarray]) -> Iterator[torch.Tensor]:
        for ids in requests:
            yield self._images[torch.from_numpy(ids).to(self._images.device)]


class _Request(NamedTuple):
    ids: np.ndarray  # (n,) int64
    numbers: np.ndarray  # (n,) int64: of their shards
    shards: list[int]  # each number once


class Streamed:
    """Shards fetched whole, and samples decoded, in threads ahead of their use; memory is bounded, whatever the corpus.

    Fetching has threads of its own and looks further ahead, so that decoding does not wait for a slow network.
    """

    def __init__(self, store: Store, shards: tuple[Shard, ...], form: Form, device: torch.device, threads: int) -> None:
        self.samples = sum(shard.samples for shard in shards)
        self.resident_bytes = 0
        self._store, self._shards, self._form, self._device, self._threads = store, shards, form, device, threads
        self._ends = np.cumsum([shard.samples for shard in shards])
        self._shelf = Shelf(shards, partial(_read, store, form), STREAM_BYTES)

    def walk(self, requests: Iterable[np.ndarray]) -> Iterator[torch.Tensor]:
        """Raises Damaged, NotFound or Fault at the request that needs what can't be had.

        Closing it does not wait: what is under way in its threads comes to its end, and they end, too.
        """
        fetchers, decoders = ThreadPoolExecutor(FETCHERS, "fetch"), ThreadPoolExecutor(self._threads, "decode")
        ahead: deque[_Request] = deque()  # those whose shards are taken
        decoding: deque[Future[torch.Tensor]] = deque()  # the first of them
        coming = map(self._request, requests)
        request = next(coming, None)
        try:
            while request is not None or ahead:
                while request is not None and len(ahead) <= _LOOKED_AHEAD and self._shelf.take(
                        request.shards, fetchers, anyway=not ahead):
                    ahead.append(request)
                    request = next(coming, None)
                for soon in islice(ahead, len(decoding), _DECODED_AHEAD + 1):
                    decoding.append(decoders.submit(self._decode, soon))
                yield decoding.popleft().result().to(self._device, non_blocking=True)
                self._shelf.give_back(ahead.popleft().shards)
        finally:
            decoders.shutdown(wait=False, cancel_futures=True)
            for request in ahead:
                self._shelf.give_back(request.shards)
            fetchers.shutdown(wait=False)

    def _request(self, ids: np.ndarray) -> _Request:
        numbers = np.searchsorted(self._ends, ids, side="right")
        return _Request(ids, numbers, np.unique(numbers).tolist())

    def _decode(self, request: _Request) -> torch.Tensor:
        side, channels = self._form.side, self._form.channels
        images = torch.empty((len(request.ids), channels, side, side), dtype=torch.uint8,
                             pin_memory=self._device.type == "cuda")
        out = images.numpy()
        for number in request.shards:
            content, rows = self._shelf.content(number), np.flatnonzero(request.numbers == number)
            places = request.ids[rows] - (self._ends[number] - self._shards[number].samples)
            if isinstance(content, np.ndarray):
                out[rows] = content[places]
            else:
                for row, place in zip(rows, places, strict=True):
                    out[row] = decode_sample(content[place], self._form, self._store, self._shards[number])
        return images


def _read(store: Store, form: Form, shard: Shard) -> np.ndarray | list[Sample]:
    """A shard's images or, where these would take more room, its samples: JPEG is decoded when it is asked for."""
    if form.quality is None:
        return decode_shard(fetch(store, shard), form, store, shard)
    return read_shard(store, shard)


def open_pixels(store: Store, shards: tuple[Shard, ...], form: Form, device: torch.device, *, budget: int,
                lanes: int, window: int, threads: int) -> Pixels:
    """Resident where the decoded images fit ``budget`` bytes, streamed otherwise.

    Raises BadInput where the shards that the lanes read at a time would not fit the memory of streaming.
    """
    samples = sum(shard.samples for shard in shards)
    if samples * form.channels * form.side**2 <= budget:
        return Resident(store, shards, form, device, threads)
    mean_samples, mean_bytes = samples / len(shards), sum(shard.bytes for shard in shards) / len(shards)
    touched = min(len(shards), lanes * (min(window, samples / lanes) / mean_samples + 1))
    if touched * mean_bytes > STREAM_BYTES:
        raise BadInput(f"{store.url}: {lanes} lanes with a window of {window} samples read {touched:.0f} shards at a "
                       f"time, {touched * mean_bytes / 1e6:.0f} MB, more than the {STREAM_BYTES / 1e6:.0f} MB of "
                       f"streaming: set data.window or lanes lower, or shard anew, since shards are smaller now")
    return Streamed(store, shards, form, device, threads)

