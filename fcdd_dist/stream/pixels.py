"""Decoded samples by their ids: resident on the device, or streamed from shards in the order they are asked for.

Both give the same uint8 pixels for the same ids. What is asked for, and when, is a pure function of position
(``data.order``), so the streamed form knows the future and decodes it ahead.
"""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol

import numpy as np
import torch

from ..data.manifest import Shard
from ..data.shards.decode import decode_sample, read_images
from ..data.shards.read import Sample, read_shard
from ..errors import BadInput
from ..experiment import Form
from ..storage import Store

STREAM_BYTES = 160 << 20  # of shards that a streamed split keeps
_AHEAD = 6  # requests that are decoded ahead


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

        def load(number: int) -> None:
            images = read_images(store, shards[number], form)
            self._images[ends[number] - len(images): ends[number]] = torch.from_numpy(images).to(device)

        with ThreadPoolExecutor(threads) as pool:
            for done in [pool.submit(load, number) for number in range(len(shards))]:
                done.result()

    def walk(self, requests: Iterable[np.ndarray]) -> Iterator[torch.Tensor]:
        for ids in requests:
            yield self._images[torch.from_numpy(ids).to(self._images.device)]


class Streamed:
    """Shards fetched whole and decoded in threads ahead of their use; memory is bounded, whatever the corpus."""

    def __init__(self, store: Store, shards: tuple[Shard, ...], form: Form, device: torch.device, threads: int) -> None:
        self.samples = sum(shard.samples for shard in shards)
        self.resident_bytes = 0
        self._store, self._shards, self._form, self._device = store, shards, form, device
        self._ends = np.cumsum([shard.samples for shard in shards])
        self._threads = threads
        self._lock = threading.Lock()
        self._kept: OrderedDict[int, Future[np.ndarray | list[Sample]]] = OrderedDict()  # by shard, the last used last
        self._bytes = 0

    def walk(self, requests: Iterable[np.ndarray]) -> Iterator[torch.Tensor]:
        with ThreadPoolExecutor(self._threads) as pool:
            ahead: deque[Future[torch.Tensor]] = deque()
            try:
                for ids in requests:
                    ahead.append(pool.submit(self._decode, ids))
                    if len(ahead) > _AHEAD:
                        yield self._move(ahead.popleft().result())
                while ahead:
                    yield self._move(ahead.popleft().result())
            finally:
                for future in ahead:
                    future.cancel()

    def _move(self, images: torch.Tensor) -> torch.Tensor:
        return images.to(self._device, non_blocking=True)

    def _decode(self, ids: np.ndarray) -> torch.Tensor:
        side, channels = self._form.side, self._form.channels
        images = torch.empty((len(ids), channels, side, side), dtype=torch.uint8,
                             pin_memory=self._device.type == "cuda")
        out = images.numpy()
        numbers = np.searchsorted(self._ends, ids, side="right")
        for number in np.unique(numbers):
            content, rows = self._content(int(number)), np.flatnonzero(numbers == number)
            places = ids[rows] - (self._ends[number] - self._shards[number].samples)
            if isinstance(content, np.ndarray):
                out[rows] = content[places]
            else:
                for row, place in zip(rows, places, strict=True):
                    out[row] = decode_sample(content[place], self._form, self._store, self._shards[number])
        return images

    def _content(self, number: int) -> np.ndarray | list[Sample]:
        """A shard's images, or its samples: fetched by the first who asks, kept while there is room."""
        shard = self._shards[number]
        with self._lock:
            future = self._kept.get(number)
            mine = future is None
            if mine:
                future = self._kept[number] = Future()
                self._bytes += shard.bytes
                while self._bytes > STREAM_BYTES and len(self._kept) > 1:
                    oldest, _ = self._kept.popitem(last=False)
                    self._bytes -= self._shards[oldest].bytes
            self._kept.move_to_end(number)
        if mine:
            try:
                # Without compression pixels take less room than files; JPEG is decoded when it is asked for.
                read = read_images if self._form.quality is None else _read_samples
                future.set_result(read(self._store, shard, self._form))
            except BaseException as error:  # noqa: BLE001  (handed to whoever waits for it, and raised there)
                future.set_exception(error)
        return future.result()


def _read_samples(store: Store, shard: Shard, _form: Form) -> list[Sample]:
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

