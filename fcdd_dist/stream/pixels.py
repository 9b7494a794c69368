"""Decoded samples by their ids: resident on the device, or streamed from shards in the order they are asked for.

Both give the same uint8 pixels for the same ids, whole or a window of each. What is asked for, and when, is a pure
function of position (``data.order``), so the streamed form knows the future: it fetches shards and decodes ahead.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from functools import partial
from itertools import islice
from typing import Literal, NamedTuple, Protocol

import numpy as np
import torch

from ..data.manifest import Shard
from ..data.shards.decode import decode_pixels, decode_sample, decode_shard, size_of
from ..data.shards.read import FETCHERS, Sample, fetch, fetch_each, parse_shard, read_each, read_shard
from ..errors import BadInput
from ..experiment import Form
from ..storage import Store
from .nvjpeg import decode_on_device
from .shelf import Shelf
from .windows import Views, Windows, mean_colour, mean_colour_of

Decoder = Literal["cpu", "cuda"]  # of JPEG; see ``nvjpeg``
STREAM_BYTES = 160 << 20  # of shards that a streamed split keeps
_DECODED_AHEAD = 6  # requests
_LOOKED_AHEAD = 64  # requests whose shards are fetched, as far as these have room
_TOGETHER = 16  # JPEGs that a thread decodes in one go, so that many threads share a request


class Pixels(Protocol):
    """The samples of a list of shards; ids count them in the order of the shards."""

    samples: int
    resident_bytes: int  # on the device
    waited_s: float  # that walks have waited, so far, for pixels that were not there yet

    def walk(self, requests: Iterable[np.ndarray]) -> Iterator[torch.Tensor]:
        """For each request, (n,) int64 ids: (n, C, side, side) uint8 on the device, in the order of the requests.

        Not for forms of several sizes.
        """
        ...

    def views(self, requests: Iterable[tuple[np.ndarray, Windows]]) -> Iterator[Views]:
        """Likewise, a window of each image, with the mean colours of the whole ones."""
        ...


class Resident:
    """Everything decoded once and kept on the device: one flat buffer, in which images may have any sizes."""

    waited_s = 0.0

    def __init__(self, store: Store, shards: tuple[Shard, ...], form: Form, device: torch.device, threads: int, *,
                 means: bool = False, decode: Decoder = "cpu") -> None:
        """``means``: of colours are kept, as ``views`` needs them."""
        self.samples = sum(shard.samples for shard in shards)
        self._form = form
        self._sizes = np.full((self.samples, 2), form.side, np.int64)
        self._means = np.empty((self.samples, form.channels), np.float32) if means else None
        contents: Iterable[bytes | list[Sample]]
        if form.fit == "square":
            contents = fetch_each(store, shards)
        else:  # sizes stand in headers: all is fetched first, a small part of the bytes that it is decoded to
            contents = list(read_each(store, shards))
            self._sizes[:] = [size_of(sample, form, store, shard)
                              for shard, samples in zip(shards, contents, strict=True) for sample in samples]
        ends = np.cumsum(form.channels * self._sizes.prod(1))
        self._starts = np.concatenate([[0], ends])
        self._flat = torch.empty(int(self._starts[-1]), dtype=torch.uint8, device=device)
        self.resident_bytes = self._flat.numel()
        last = np.cumsum([shard.samples for shard in shards])

        def load(number: int, content: bytes | list[Sample]) -> None:
            first, end = last[number] - shards[number].samples, last[number]
            place = self._flat[self._starts[first]: self._starts[end]]
            if decode == "cuda" and form.quality is not None:
                samples = parse_shard(content, store, shards[number]) if isinstance(content, bytes) else content
                decoded = decode_on_device(samples, form, store, shards[number], device)
                place.copy_(torch.cat([image.reshape(-1) for image in decoded]))
                if means:
                    self._means[first: end] = torch.stack([mean_colour_of(image) for image in decoded]).cpu()
                return
            images = decode_shard(content, form, store, shards[number]) if isinstance(content, bytes) else [
                decode_sample(sample, form, store, shards[number]) for sample in content]
            for index, image in enumerate(images if means else ()):
                self._means[first + index] = mean_colour(image.transpose(1, 2, 0))
            piece = images if isinstance(images, np.ndarray) else np.concatenate([image.ravel() for image in images])
            place.copy_(torch.from_numpy(piece).view(-1))

        with ThreadPoolExecutor(threads, "decode") as decoders:
            loading: deque[Future[None]] = deque()
            for number, content in enumerate(contents):
                loading.append(decoders.submit(load, number, content))
                if len(loading) > threads:  # what is fetched and not yet decoded takes memory, too
                    loading.popleft().result()
            for done in loading:
                done.result()

    def walk(self, requests: Iterable[np.ndarray]) -> Iterator[torch.Tensor]:
        images = self._flat.view(self.samples, self._form.channels, self._form.side, self._form.side)
        for ids in requests:
            yield images[torch.from_numpy(ids).to(images.device)]

    def views(self, requests: Iterable[tuple[np.ndarray, Windows]]) -> Iterator[Views]:
        take = self._slices if self._flat.device.type == "cpu" else self._gather
        for ids, windows in requests:
            yield Views(take(ids, windows), torch.from_numpy(self._means[ids]).to(self._flat.device))

    def _slices(self, ids: np.ndarray, windows: Windows) -> torch.Tensor:
        flat, channels = self._flat.numpy(), self._form.channels
        out = np.empty((len(ids), channels, windows.side, windows.side), np.uint8)
        for row, i in enumerate(ids):
            image = flat[self._starts[i]: self._starts[i + 1]].reshape(channels, *self._sizes[i])
            windows.cut(row, image, out[row])
        return torch.from_numpy(out)

    def _gather(self, ids: np.ndarray, windows: Windows) -> torch.Tensor:
        return windows.gather(self._flat, self._starts[ids], self._sizes[ids], self._form.channels)


class _Request(NamedTuple):
    ids: np.ndarray  # (n,) int64
    windows: Windows | None  # None: whole images
    numbers: np.ndarray  # (n,) int64: of their shards
    shards: list[int]  # each number once


class _Decoding(NamedTuple):
    """A request under way."""

    views: Views
    parts: list[Future[None]]


class Streamed:
    """Shards fetched whole, and samples decoded, in threads ahead of their use; memory is bounded, whatever the corpus.

    Fetching has threads of its own and looks further ahead, so that decoding does not wait for a slow network.
    """

    def __init__(self, store: Store, shards: tuple[Shard, ...], form: Form, device: torch.device, threads: int, *,
                 decode: Decoder = "cpu") -> None:
        self._on_device = decode == "cuda" and form.quality is not None
        self.samples = sum(shard.samples for shard in shards)
        self.resident_bytes, self.waited_s = 0, 0.0
        self._store, self._shards, self._form, self._device, self._threads = store, shards, form, device, threads
        self._ends = np.cumsum([shard.samples for shard in shards])
        self._shelf = Shelf(shards, partial(_read, store, form), STREAM_BYTES)

    def walk(self, requests: Iterable[np.ndarray]) -> Iterator[torch.Tensor]:
        """Raises Damaged, NotFound or Fault at the request that needs what can't be had.

        Closing it does not wait: what is under way in its threads comes to its end, and they end, too.
        """
        with closing(self._serve(self._request(ids, None) for ids in requests)) as served:
            for views in served:
                yield views.images

    def views(self, requests: Iterable[tuple[np.ndarray, Windows]]) -> Iterator[Views]:
        """Raises, and is closed, as ``walk``."""
        return self._serve(self._request(ids, windows) for ids, windows in requests)

    def _serve(self, coming: Iterator[_Request]) -> Iterator[Views]:
        fetchers, decoders = ThreadPoolExecutor(FETCHERS, "fetch"), ThreadPoolExecutor(self._threads, "decode")
        ahead: deque[_Request] = deque()  # those whose shards are taken
        decoding: deque[_Decoding] = deque()  # the first of them
        request = next(coming, None)
        try:
            while request is not None or ahead:
                while request is not None and len(ahead) <= _LOOKED_AHEAD and self._shelf.take(
                        request.shards, fetchers, anyway=not ahead):
                    ahead.append(request)
                    request = next(coming, None)
                for soon in islice(ahead, len(decoding), _DECODED_AHEAD + 1):
                    decoding.append(self._begin(soon, decoders))
                yield self._end(decoding.popleft())
                self._shelf.give_back(ahead.popleft().shards)
        finally:
            decoders.shutdown(wait=False, cancel_futures=True)
            for request in ahead:
                self._shelf.give_back(request.shards)
            fetchers.shutdown(wait=False)

    def _request(self, ids: np.ndarray, windows: Windows | None) -> _Request:
        numbers = np.searchsorted(self._ends, ids, side="right")
        return _Request(ids, windows, numbers, np.unique(numbers).tolist())

    def _begin(self, request: _Request, decoders: ThreadPoolExecutor) -> _Decoding:
        n, channels = len(request.ids), self._form.channels
        side = self._form.side if request.windows is None else request.windows.side
        where = {"device": self._device} if self._on_device else {"pin_memory": self._device.type == "cuda"}
        views = Views(torch.empty((n, channels, side, side), dtype=torch.uint8, **where),
                      None if request.windows is None else torch.empty((n, channels), **where))
        rows = np.argsort(request.numbers, kind="stable")
        step = _TOGETHER if self._form.quality is not None else max(1, n)
        return _Decoding(views, [decoders.submit(self._decode, request, rows[first: first + step], views)
                                 for first in range(0, n, step)])

    def _end(self, decoding: _Decoding) -> Views:
        began = time.perf_counter()
        for part in decoding.parts:
            part.result()
        self.waited_s += time.perf_counter() - began
        return Views(*(part if part is None else part.to(self._device, non_blocking=True) for part in decoding.views))

    def _decode(self, request: _Request, rows: np.ndarray, views: Views) -> None:
        """Fills some rows of ``views``."""
        windows, numbers = request.windows, request.numbers[rows]
        out = views.images if self._on_device else views.images.numpy()
        for number in np.unique(numbers).tolist():
            content, shard, mine = self._shelf.content(number), self._shards[number], rows[numbers == number]
            places = request.ids[mine] - (self._ends[number] - shard.samples)
            if self._on_device:
                images = decode_on_device([content[place] for place in places], self._form, self._store, shard,
                                          self._device)
                for row, image in zip(mine.tolist(), images, strict=True):
                    if windows is None:
                        out[row] = image
                    else:
                        windows.cut(row, image, out[row])
                        views.means[row] = mean_colour_of(image)
                continue
            if windows is None and isinstance(content, np.ndarray):
                out[mine] = content[places]
                continue
            for row, place in zip(mine.tolist(), places.tolist(), strict=True):
                image = content[place].transpose(1, 2, 0) if isinstance(content, np.ndarray) else decode_pixels(
                    content[place], self._form, self._store, shard)
                if windows is None:
                    out[row] = image.transpose(2, 0, 1)
                else:
                    windows.cut(row, image.transpose(2, 0, 1), out[row])
                    views.means.numpy()[row] = mean_colour(image)


def _read(store: Store, form: Form, shard: Shard) -> np.ndarray | list[Sample]:
    """A shard's images or, where these would take more room, its samples: JPEG is decoded when it is asked for."""
    if form.quality is None:
        return decode_shard(fetch(store, shard), form, store, shard)
    return read_shard(store, shard)


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

