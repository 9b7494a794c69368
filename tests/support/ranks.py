"""A run in bare processes: ``fcdd_dist.run.run_rank`` under gloo, without Ray, with faults at named places.

``train(job, size, fault)`` starts ``size`` ranks and returns rank 0's result, or raises RanksDied. A fault is a
dictionary: {"rank": 0, "at": [epoch, step]} kills that rank by SIGKILL after the step before that cursor, and
{"rank": 0, "write": "optimizer.safetensors", "times": 2, "when": "before" | "after"} around its n-th write of a key
that ends so.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]


class RanksDied(Exception):
    """One rank was killed or failed, and the others were ended; the text is what it printed last."""


def train(job, size: int = 1, fault: dict | None = None, threads: int = 1, timeout: float = 120) -> dict:
    with tempfile.TemporaryDirectory() as folder:
        arguments = Path(folder, "arguments.json")
        arguments.write_text(json.dumps({"job": job.to_json(), "size": size, "fault": fault or {}, "threads": threads,
                                         "store": f"{folder}/rendezvous"}))
        outputs = [Path(folder, f"out-{rank}") for rank in range(size)]
        processes = []
        for rank, output in enumerate(outputs):
            with output.open("wb") as file:
                processes.append(subprocess.Popen(
                    [sys.executable, "-m", "tests.support.ranks", str(arguments), str(rank)], cwd=ROOT, stdout=file,
                    stderr=subprocess.STDOUT, env={**os.environ, "GLOO_SOCKET_IFNAME": "lo"}))
        try:
            deadline = time.monotonic() + timeout
            while any(process.poll() is None for process in processes) and time.monotonic() < deadline:
                if any(process.poll() not in (None, 0) for process in processes):
                    break
                time.sleep(0.02)
        finally:
            ended = [process.poll() for process in processes]
            for process in processes:
                process.kill()
                process.wait()
        texts = [output.read_text(errors="replace") for output in outputs]
        if ended != [0] * size:
            raise RanksDied(f"exit codes {ended}\n" + "\n".join(text[-1500:] for text in texts))
        return json.loads(texts[0].splitlines()[-1])


def _main(arguments: dict, rank: int) -> None:
    import torch
    import torch.distributed as dist

    from fcdd_dist.run import Job, run_rank
    from fcdd_dist.world import World

    torch.set_num_threads(arguments["threads"])
    size, fault = arguments["size"], arguments["fault"]
    if size > 1:
        dist.init_process_group("gloo", init_method=f"file://{arguments['store']}", rank=rank, world_size=size)

    def on_step(state) -> None:
        if fault.get("rank") == rank and fault.get("at") == [state.cursor.epoch, state.cursor.step]:
            os.kill(os.getpid(), signal.SIGKILL)

    if fault.get("rank") == rank and "write" in fault:
        _die_at_write(fault)
    result = run_rank(Job.from_json(arguments["job"]), World(rank, size), say=print, on_step=on_step)
    if size > 1:
        dist.barrier()
        dist.destroy_process_group()
    print(json.dumps(result))


def _die_at_write(fault: dict) -> None:
    from fcdd_dist.storage import FolderStore

    write, seen = FolderStore.write, [0]

    def dying(self, key, data):
        hit = f"{self.root}/{key}".endswith(fault["write"])
        seen[0] += hit
        now = hit and seen[0] == fault.get("times", 1)
        if now and fault["when"] == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        write(self, key, data)
        if now:
            os.kill(os.getpid(), signal.SIGKILL)

    FolderStore.write = dying


if __name__ == "__main__":
    _main(json.loads(Path(sys.argv[1]).read_text()), int(sys.argv[2]))
