"""The memory of a training, by the peaks of fresh processes. Run as a program it is one of these processes."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib import import_module
from pathlib import Path

from bench_children import peak_mb
from bench_timing import Bench, Row, Skip

_STATUS = Path("/proc/self/status")
_EPOCHS = 2
# What a worker imports in the end, so that it is no part of what a training takes.
_LIBRARIES = ("sklearn.metrics", "matplotlib.figure", "tensorboard.summary.writer.record_writer",
              "tensorboard.compat.proto.summary_pb2")


def memory(bench: Bench, data) -> list[Row]:
    """What is left of a whole run's peak without its idle process, the activations of a step, and the data."""
    if not _STATUS.exists():
        raise Skip("peaks are read from /proc")
    if bench.device.type != "cpu":
        raise Skip("it is about the memory of the host, without a GPU")
    peaks = {}
    for kind in ("idle", "step", "fit-resident", "fit-streamed", "run-resident", "run-streamed"):
        folder = data.folder / f"memory-{kind}"
        peaks[kind] = child(kind, data.small, str(folder), bench)
    idle, data_mb = peaks["idle"]["peak_mb"], peaks["step"]["data_mb"]
    activations = peaks["step"]["peak_mb"] - idle
    rows = []
    for what, of in (("training", "fit"), ("run with hold-out, evaluation and pictures", "run")):
        for how, aim, kept in (("resident", 200, data_mb), ("streamed", 250, 0.0)):
            rest = peaks[f"{of}-{how}"]["peak_mb"] - idle - activations - kept
            rows.append(Row(f"memory of a {what}, {how}, beyond idle, activations{' and data' if kept else ''}", rest,
                            "MB", aim, at_least=False, figures={
                                "peak_mb": peaks[f"{of}-{how}"]["peak_mb"], "idle_mb": idle,
                                "activations_mb": activations, "data_mb": data_mb}))
    return rows


def child(kind: str, url: str, folder: str, bench: Bench) -> dict:
    import torch

    done = subprocess.run([sys.executable, __file__, kind, url, folder, bench.precision, str(torch.get_num_threads())],
                          capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"the process for {kind} failed:\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def _measure(kind: str, url: str, folder: str, precision: str, threads: str) -> dict:
    import torch
    from bench_training import SameBatch, Training, opened, prepared

    import fcdd_dist.run.commit  # noqa: F401
    from fcdd_dist.run import Job, run_rank
    from fcdd_dist.world import World

    for library in _LIBRARIES:
        import_module(library)
    torch.set_num_threads(int(threads))
    bench = Bench(torch.device("cpu"), False, precision, True)
    how, _, kept = kind.partition("-")
    budget = 0 if kept == "streamed" else None
    data_mb = 0.0
    if how != "idle":
        checked = prepared(url, bench, 0 if how == "step" else budget)
        form = checked.experiment.data.form
        samples = sum(part.samples for which in ("nominal", "exposure")
                      for part in checked.parts(which, *checked.trained_on))
        data_mb = samples * form.channels * form.side**2 / 1e6
        e = checked.experiment
        if how == "step":
            from fcdd_dist.stream.batches import Batch

            side = 32
            batch = Batch(torch.randn(e.batch_size, form.channels, side, side),
                          (torch.arange(e.batch_size) % 2).float())
            Training(e, SameBatch(batch, 30), bench.device).advance()
        elif how == "fit":
            Training(e, opened(checked, bench.device), bench.device).advance(_EPOCHS)
        else:
            e = e.override([f"epochs={_EPOCHS}", "data.train_on=train"])
            run_rank(Job(experiment=e, data=url, run=folder, budget_bytes=budget, threads=int(threads)), World())
    return {"peak_mb": peak_mb(), "data_mb": data_mb}


if __name__ == "__main__":
    print(json.dumps(_measure(*sys.argv[1:])))
