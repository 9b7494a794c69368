"""What is freed is given back, in a process of its own."""

import ctypes
import subprocess
import sys

import numpy as np
import pytest
import torch

from fcdd_dist.experiment import Form
from fcdd_dist.storage import MemoryStore
from fcdd_dist.stream import heap
from fcdd_dist.stream.streamed import Streamed
from tests.support.shards import write_shards

CODE = """
import re, sys
from pathlib import Path
from fcdd_dist.stream.heap import return_free_memory

def resident_mb():
    return int(re.search(r"VmRSS:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) / 1000

before = resident_mb()
del [b"x" * (31 << 20)][:]  # from here on, glibc takes blocks of that size from its heap
large, small = [], []
for number in range(20):
    large.append(b"x" * (5 << 20))
    small.append(b"y" * 100_000)  # what holds the heap together
del large
if sys.argv[1] == "yes":
    return_free_memory()
print(resident_mb() - before)
"""


@pytest.mark.skipif(sys.platform != "linux" or not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="glibc's malloc")
def test_free_memory_is_given_back():
    kept = {wanted: float(subprocess.run([sys.executable, "-c", CODE, wanted], capture_output=True, text=True,
                                         check=True).stdout) for wanted in ("no", "yes")}
    assert kept["yes"] < 20
    assert kept["no"] > 80  # else there is nothing to do any more


def test_streaming_gives_back_now_and_then(monkeypatch):
    returned = []
    monkeypatch.setattr(heap, "return_free_memory", lambda: returned.append(1))
    monkeypatch.setattr(heap, "_EVERY_S", 0.0)
    monkeypatch.setattr(heap, "_TURNOVER", 10_000)
    store, form = MemoryStore(), Form.parse("jpeg90-20-rgb")
    shards = write_shards(store, form, [4] * 5)
    list(Streamed(store, shards, form, torch.device("cpu"), 1).walk([np.arange(20)] * 10))
    assert 10 <= len(returned) <= (10 * 20 * 3 * 20 * 20 + sum(shard.bytes for shard in shards)) / 10_000
    monkeypatch.setattr(heap, "_EVERY_S", 1000.0)
    returned.clear()
    list(Streamed(store, shards, form, torch.device("cpu"), 1).walk([np.arange(20)] * 10))
    assert returned == []
