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
from fcdd_dist.storage import MemoryStore


def write_shards(store: MemoryStore, form: Form, counts: list[int]) -> tuple[Shard, ...]:
    """Shards of so many samples each; sample i of shard s comes from ``s/i``."""
    from webdataset import TarWriter

    random, shards = np.random.default_rng(0), []
    for number, count in enumerate(counts):
        file = io.BytesIO()
        with TarWriter(file, user="", group="", mode=0o444, mtime=0, encoder=False) as tar:
            for index in range(count):
                pixels = random.integers(0, 256, (form.side, form.side, form.channels), dtype=np.uint8)
                tar.write({"__key__": f"x-{index:08d}", form.extension: encode(pixels, form),
                           "json": json.dumps({"source": f"{number}/{index}"}).encode()})
        data, key = file.getvalue(), f"{number}.tar"
        store.write(key, data)
        shards.append(Shard(key=key, samples=count, bytes=len(data), sha256=hashlib.sha256(data).hexdigest()))
    return tuple(shards)


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
