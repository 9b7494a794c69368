"""Samples that are all decoded once and kept on the device; a batch is a gather."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch

from ..data.manifest import Shard
from ..data.shards.decode import decode_sample, decode_shard, size_of
from ..data.shards.read import Sample, fetch_each, parse_shard, read_each
from ..experiment import Form
from ..model.transfer import to_device
from ..storage import Store
from .nvjpeg import Decoder, decode_on_device
from .windows import Views, Windows, mean_colour, mean_colour_of


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
        on_device = decode == "cuda" and form.quality is not None
        if on_device:
            threads = 1  # nvJPEG takes one call at a time; more would only hold more of its memory

        def load(number: int, content: bytes | list[Sample]) -> None:
            first, end = last[number] - shards[number].samples, last[number]
            place = self._flat[self._starts[first]: self._starts[end]]
            if on_device:
                samples = parse_shard(content, store, shards[number]) if isinstance(content, bytes) else content
                decoded = decode_on_device([(sample, shards[number]) for sample in samples], form, store, device)
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
            yield images[to_device(ids, images.device)]

    def views(self, requests: Iterable[tuple[np.ndarray, Windows]]) -> Iterator[Views]:
        take = self._slices if self._flat.device.type == "cpu" else self._gather
        for ids, windows in requests:
            yield Views(take(ids, windows), to_device(self._means[ids], self._flat.device))

    def _slices(self, ids: np.ndarray, windows: Windows) -> torch.Tensor:
        flat, channels = self._flat.numpy(), self._form.channels
        out = np.empty((len(ids), channels, windows.side, windows.side), np.uint8)
        for row, i in enumerate(ids):
            image = flat[self._starts[i]: self._starts[i + 1]].reshape(channels, *self._sizes[i])
            windows.cut(row, image, out[row])
        return torch.from_numpy(out)

    def _gather(self, ids: np.ndarray, windows: Windows) -> torch.Tensor:
        return windows.gather(self._flat, self._starts[ids], self._sizes[ids], self._form.channels)
