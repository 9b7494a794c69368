"""Samples that are fetched and decoded ahead of their use, in threads; memory is bounded, whatever the corpus."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from functools import partial
from itertools import islice
from typing import NamedTuple

import numpy as np
import torch

from ..data.manifest import Shard
from ..data.shards.decode import decode_pixels, decode_shard
from ..data.shards.read import FETCHERS, Sample, fetch, read_shard
from ..experiment import Form
from ..storage import Store
from .heap import Turnover
from .nvjpeg import Decoder, decode_on_device
from .shelf import Shelf
from .waiting import wait_for
from .windows import Views, Windows, mean_colour, mean_colour_of

STREAM_BYTES = 160 << 20  # of shards that a streamed split keeps
_DECODED_AHEAD = 6  # requests
_LOOKED_AHEAD = 64  # requests whose shards are fetched, as far as these have room
_TOGETHER = 16  # JPEGs that a thread of the CPU decodes in one go, so that many threads share a request


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
        if self._on_device:
            threads = 1  # nvJPEG takes one call at a time
        self.samples = sum(shard.samples for shard in shards)
        self.resident_bytes, self.waited_s = 0, 0.0
        self._store, self._shards, self._form, self._device, self._threads = store, shards, form, device, threads
        self._ends = np.cumsum([shard.samples for shard in shards])
        self._turnover = Turnover()
        self._shelf = Shelf(shards, partial(_read, store, form, self._turnover), STREAM_BYTES)

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
        request, look = next(coming, None), 1  # at first not far: what is needed now must not wait for what comes later
        try:
            while request is not None or ahead:
                while request is not None and len(ahead) <= look and self._shelf.take(
                        request.shards, fetchers, anyway=not ahead):
                    ahead.append(request)
                    request = next(coming, None)
                for soon in islice(ahead, len(decoding), _DECODED_AHEAD + 1):
                    decoding.append(self._begin(soon, decoders))
                look = min(2 * look, _LOOKED_AHEAD)
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
        if self._on_device:
            return _Decoding(views, [decoders.submit(self._decode_on_device, request, rows, views)])
        step = _TOGETHER if self._form.quality is not None else max(1, n)
        return _Decoding(views, [decoders.submit(self._decode, request, rows[first: first + step], views)
                                 for first in range(0, n, step)])

    def _end(self, decoding: _Decoding) -> Views:
        self.waited_s += wait_for(decoding.parts, self._device)
        return Views(*(part if part is None else part.to(self._device, non_blocking=True) for part in decoding.views))

    def _decode(self, request: _Request, rows: np.ndarray, views: Views) -> None:
        """Fills some rows of ``views``."""
        windows, numbers = request.windows, request.numbers[rows]
        out = views.images.numpy()
        self._turnover.add(len(rows) * views.images[:1].numel())
        for number in np.unique(numbers).tolist():
            content, shard, mine = self._shelf.content(number), self._shards[number], rows[numbers == number]
            places = request.ids[mine] - (self._ends[number] - shard.samples)
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

    def _decode_on_device(self, request: _Request, rows: np.ndarray, views: Views) -> None:
        """As ``_decode``: nvJPEG is the faster the more it is given at once."""
        samples = []
        for number, identity in zip(request.numbers[rows].tolist(), request.ids[rows].tolist(), strict=True):
            shard = self._shards[number]
            samples.append((self._shelf.content(number)[identity - (self._ends[number] - shard.samples)], shard))
        images = decode_on_device(samples, self._form, self._store, self._device)
        for row, image in zip(rows.tolist(), images, strict=True):
            if request.windows is None:
                views.images[row] = image
            else:
                request.windows.cut(row, image, views.images[row])
                views.means[row] = mean_colour_of(image)


def _read(store: Store, form: Form, turnover: Turnover, shard: Shard) -> np.ndarray | list[Sample]:
    """A shard's images or, where these would take more room, its samples: JPEG is decoded when it is asked for."""
    turnover.add(shard.bytes)
    if form.quality is None:
        return decode_shard(fetch(store, shard), form, store, shard)
    return read_shard(store, shard)
