"""A run in bare processes: ``fcdd_dist.run.run_rank`` under gloo, without Ray, with faults at named places.

``train(job, size, fault)`` starts ``size`` ranks and returns rank 0's result, or raises RanksDied. A fault is a
dictionary: {"rank": 0, "at": [epoch, step]} kills that rank by SIGKILL after the step before that cursor, and
{"rank": 0, "write": "optimizer.safetensors", "times": 2, "when": "before" | "after"} around its n-th write of a key
that ends so. With a fault each step waits for the upload that it began, so that the places are the same each time; not
so where "when" is "amid": that upload is held, and the rank is killed three steps of training later.

Ranks are forked from a process that has imported all they need and done nothing else: four seconds of a core for each.
"""

from __future__ import annotations

import itertools
import json
import multiprocessing
import os
import signal
import tempfile
import threading
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
_STEPS_BESIDE = 3
_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(["torch._dynamo", "matplotlib.figure", "matplotlib.backends.backend_agg",
                               "tensorboard.summary.writer.record_writer", "boto3", "fcdd_dist.detector",
                               "fcdd_dist.run.commit", "fcdd_dist.evaluation.pictures", "fcdd_dist.training.fit"])


class RanksDied(Exception):
    """One rank was killed or failed, and the others were ended; the text is what it printed last."""


def train(job, size: int = 1, fault: dict | None = None, threads: int = 1, timeout: float = 120) -> dict:
    with tempfile.TemporaryDirectory() as folder:
        arguments = {"job": job.to_json(), "size": size, "fault": fault or {}, "threads": threads,
                     "store": f"{folder}/rendezvous"}
        environment = {**os.environ, "GLOO_SOCKET_IFNAME": "lo"}
        outputs = [Path(folder, f"out-{rank}") for rank in range(size)]
        processes = [_FORKS.Process(target=_rank, args=(arguments, rank, output, environment))
                     for rank, output in enumerate(outputs)]
        for process in processes:
            process.start()
        try:
            deadline = time.monotonic() + timeout
            while any(process.exitcode is None for process in processes) and time.monotonic() < deadline:
                if any(process.exitcode not in (None, 0) for process in processes):
                    break
                time.sleep(0.02)
        finally:
            ended = [process.exitcode for process in processes]
            for process in processes:
                process.kill()
                process.join()
        texts = [output.read_text(errors="replace") if output.exists() else "" for output in outputs]
        if ended != [0] * size:
            raise RanksDied(f"exit codes {ended}\n" + "\n".join(text[-1500:] for text in texts))
        return json.loads(texts[0].splitlines()[-1])


def _rank(arguments: dict, rank: int, output: Path, environment: dict[str, str]) -> None:
    """As a process of its own, started from the root of the project."""
    with output.open("wb") as file:
        for standard in (1, 2):
            os.dup2(file.fileno(), standard)
    os.chdir(ROOT)
    os.environ.clear()
    os.environ.update(environment)
    _main(arguments, rank)


def _main(arguments: dict, rank: int) -> None:
    import torch
    import torch.distributed as dist

    from fcdd_dist.run import Job, run_rank
    from fcdd_dist.storage import open_store
    from fcdd_dist.world import World

    torch.set_num_threads(arguments["threads"])
    size, fault = arguments["size"], arguments["fault"]
    held, steps_beside = threading.Event(), threading.Semaphore(0)  # an upload, and the steps since
    if size > 1:
        dist.init_process_group("gloo", init_method=f"file://{arguments['store']}", rank=rank, world_size=size)

    def on_step(state) -> None:
        for thread in threading.enumerate() if fault else ():
            while thread.name == "upload" and thread.is_alive() and not held.is_set():
                thread.join(0.01)
        if held.is_set():
            steps_beside.release()
        if fault.get("rank") == rank and fault.get("at") == [state.cursor.epoch, state.cursor.step]:
            os.kill(os.getpid(), signal.SIGKILL)

    job = Job.from_json(arguments["job"])
    if fault.get("rank") == rank and "write" in fault:
        _die_at_write(fault, type(open_store(job.run)), held, steps_beside)
    result = run_rank(job, World(rank, size), say=print, on_step=on_step)
    if size > 1:
        dist.barrier()
        dist.destroy_process_group()
    print(json.dumps(result))


def _die_at_write(fault: dict, store: type, held: threading.Event, steps_beside: threading.Semaphore) -> None:
    seen = itertools.count(1)

    def dying(wrapped):
        def method(self, key, data):
            now = f"{self.url}/{key}".endswith(fault["write"]) and next(seen) == fault.get("times", 1)
            if now and fault["when"] == "amid":
                held.set()
                for _ in range(_STEPS_BESIDE):
                    if not steps_beside.acquire(timeout=30):
                        raise AssertionError("the training does not go on beside an upload")
            if now and fault["when"] != "after":
                os.kill(os.getpid(), signal.SIGKILL)
            result = wrapped(self, key, data)
            if now:
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        return method

    store.write, store.create = dying(store.write), dying(store.create)
