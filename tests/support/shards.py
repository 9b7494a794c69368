"""Small shards of random images in a store, and a store that is slow, or stands still."""

from __future__ import annotations

import hashlib
import io
import json
import threading
import time

import numpy as np

from fcdd_dist.data.images import encode
from fcdd_dist.data.manifest import Shard
from fcdd_dist.experiment import Form
from fcdd_dist.storage import MemoryStore, Store


def write_shards(store: MemoryStore, form: Form, counts: list[int]) -> tuple[Shard, ...]:
    """Shards of so many samples each; sample i of shard s comes from ``s/i``."""
    random, shards = np.random.default_rng(0), []
    for number, count in enumerate(counts):
        sizes = [(form.side, form.side) if form.fit == "square" else _mixed(form, random) for _ in range(count)]
        images = [random.integers(0, 256, (*size, form.channels), dtype=np.uint8) for size in sizes]
        shards.append(write_shard(store, f"{number}.tar", form, {
            f"{number}/{index}": image for index, image in enumerate(images)}))
    return tuple(shards)


def write_shard(store: Store, key: str, form: Form, images: dict[str, np.ndarray]) -> Shard:
    """A shard of images (height, width, channels), by their sources."""
    from webdataset import TarWriter

    file = io.BytesIO()
    with TarWriter(file, user="", group="", mode=0o444, mtime=0, encoder=False) as tar:
        for index, (source, pixels) in enumerate(images.items()):
            tar.write({"__key__": f"x-{index:08d}", form.extension: encode(pixels, form),
                       "json": json.dumps({"source": source}).encode()})
    data = file.getvalue()
    store.write(key, data)
    return Shard(key=key, samples=len(images), bytes=len(data), sha256=hashlib.sha256(data).hexdigest())


def _mixed(form: Form, random: np.random.Generator) -> tuple[int, int]:
    size = (form.side, int(random.integers(form.side, form.longest + 1)))
    return size if random.integers(2) else size[::-1]


class SlowStore(MemoryStore):
    """Waits before it gives the first byte and, but for the keys in ``free``, while ``gate`` is shut; and counts."""

    def __init__(self, wait_s: float = 0.0) -> None:
        super().__init__("slow:")
        self._wait_s, self._counting = wait_s, threading.Lock()
        self.gate = threading.Event()
        self.gate.set()
        self.free: set[str] = set()
        self.asked: list[str] = []
        self.done: list[str] = []
        self.most_at_once = 0

    def read(self, key: str, start: int = 0, end: int | None = None) -> bytes:
        with self._counting:
            self.asked.append(key)
            self.most_at_once = max(self.most_at_once, len(self.asked) - len(self.done))
        try:
            time.sleep(self._wait_s)
            if key not in self.free:
                self.gate.wait()
            return super().read(key, start, end)
        finally:
            with self._counting:
                self.done.append(key)


def until(condition, seconds: float = 20.0) -> None:
    """Waits until ``condition()`` holds; fails where it never does."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never came to that"
        time.sleep(0.002)


def no_thread_is_left() -> bool:
    return not any(thread.name.startswith(("fetch", "decode")) for thread in threading.enumerate())
