"""One way of reading images into decoded batches, as a process of its own: ``bench_rival.py NAME TASK WORKERS SPEC``.

The last line on stdout is JSON.
"""

from __future__ import annotations

import json
import os
import random
import sys
import time
from itertools import islice
from pathlib import Path

import torch
from bench_readers import RIVALS


def speed(rival, spec: dict) -> dict:
    """Seconds to the first batch, and images a second in the epochs after the first, each with its own start.

    Images a CPU second are of this process alone, so of all the work where there are no workers; other load matters
    less to them.
    """
    began = time.perf_counter()
    epochs = rival.epochs()
    first_s = None
    for number, batch in enumerate(next(epochs)):
        if first_s is None:
            first_s = time.perf_counter() - began
        assert (batch.dtype, batch.shape[1]) == (torch.uint8, 3), (batch.dtype, batch.shape)
        if number + 1 == spec["skip"] and hasattr(rival, "keep_state"):
            rival.keep_state()
    began, began_cpu, images = time.perf_counter(), time.process_time(), 0
    for epoch in islice(epochs, spec["epochs"]):
        images += sum(len(batch) for batch in epoch)
    assert images >= 0.98 * spec["epochs"] * spec["images"], f"{images} of {spec['images']} images an epoch"
    return {"images_per_s": images / (time.perf_counter() - began), "first_batch_s": first_s,
            "images_per_cpu_s": images / (time.process_time() - began_cpu)}


def resume(rival, spec: dict) -> dict:
    began = time.perf_counter()
    batches = next(rival.resumed(spec["skip"]))
    images = len(next(batches))
    seconds = time.perf_counter() - began
    images += sum(len(batch) for batch in batches)
    assert 0 < images < 0.3 * spec["images"], f"{images} images are left of {spec['images']}"
    return {"resume_s": seconds}


def memory(rival, spec: dict) -> dict:
    """Waits to be measured while it is idle, and then for an epoch and a half."""
    print("ready", flush=True)
    sys.stdin.readline()
    epochs = rival.epochs()
    for batches in (spec["skip"] * 2, spec["skip"] // 2):
        for _ in islice(next(epochs), batches):
            pass
    return {}


def write(rival, spec: dict) -> dict:
    """The images in the rival's own format."""
    rival.write()
    return {}


if __name__ == "__main__":
    name, task, workers, spec_file = sys.argv[1:]
    torch.set_num_threads(1)
    random.seed(0)
    if workers == "0":  # some have threads beside the one that asks, and some have none
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    settings = json.loads(Path(spec_file).read_text())
    found = {"speed": speed, "resume": resume, "memory": memory, "write": write}[task](
        RIVALS[name](settings, int(workers)), settings)
    print(json.dumps(found), flush=True)
