"""A process that shards and is measured: ``bench_worker.py SOURCE OUT FORM IMAGES AS_MANY_AS``.

It has nothing in its memory that sharding doesn't need. The last line on stdout is JSON.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from bench_children import peak_mb
from PIL import Image

from fcdd_dist.data.shards import plan
from fcdd_dist.data.shards.tasks import SpillTask, one_after_another
from fcdd_dist.data.shards.write import shard_exposure
from fcdd_dist.experiment import Form
from fcdd_dist.storage import FolderStore


def measure(path: str, out: str, form: str, count: str, as_many_as: str) -> dict:
    """Shards ``count`` images in as many spills and buckets as if they were ``as_many_as``."""
    with TemporaryDirectory() as folder:  # a small one first: some libraries are imported when they are needed
        Path(folder, "set", "all").mkdir(parents=True)
        Image.new("RGB", (8, 8)).save(Path(folder, "set", "all", "0.png"))
        shard_exposure("folder", str(Path(folder, "set")), FolderStore(f"{folder}/out"), form=Form.parse(form))
    scale = int(as_many_as) / int(count)
    plan.SPILL_SAMPLES = max(1, round(plan.SPILL_SAMPLES / scale))
    plan.BUCKET_SAMPLES = max(1, round(plan.BUCKET_SAMPLES / scale))
    tasks = {"spills": 0, "buckets": 0}

    def counted(*of):
        for task, record in one_after_another(*of):
            tasks["spills" if isinstance(task, SpillTask) else "buckets"] += 1
            yield task, record

    idle, began = peak_mb(), time.perf_counter()
    shard_exposure("folder", path, FolderStore(out), form=Form.parse(form), runner=counted)
    return {"idle_mb": idle, "peak_mb": peak_mb(), "images_per_s": int(count) / (time.perf_counter() - began), **tasks}


if __name__ == "__main__":
    print(json.dumps(measure(*sys.argv[1:])))
