"""Sweeps of short trainings: beside a plain loop over the same list, on one core and on two, what Tune adds to a trial,
and what a thousand trials take of the driver's memory."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path

from bench_timing import Bench, Row, Skip, one_core

_COMMAND = [sys.executable, "-m", "fcdd_dist.cli"]
_CHILD = Path(__file__).parent / "bench_sweep_child.py"
_EPOCHS = 3


def sweep(bench: Bench, data) -> list[Row]:
    """On scikit-learn's digits, whose trainings of three epochs take a second or two: the worst case for a driver."""
    if find_spec("ray") is None:
        raise Skip("Ray is not installed")
    from fcdd_dist.data.shards.write import shard
    from fcdd_dist.storage import open_store

    digits = data.folder / "digits-of-sweeps"
    if not digits.exists():
        shard("digits", None, open_store(str(digits)))
    place, classes = data.folder / "sweeps", 2 if bench.quick else 10
    turns = [_turn(place / str(turn), digits, classes) for turn in range(1 if bench.quick else 3)]
    middle = {name: statistics.median(turn[name] for turn in turns) for name in turns[0]}
    rows = [
        Row(f"{classes} trainings of {_EPOCHS} epochs as a sweep, against a loop of processes without Ray, on one core",
            statistics.median(turn["loop_s"] / turn["one_core_s"] for turn in turns), "x", 1.0, figures=middle),
        Row("the same sweep on two cores against one",
            statistics.median(turn["one_core_s"] / turn["two_cores_s"] for turn in turns), "x", 1.7, figures={
                "without_start_and_end": statistics.median(
                    turn["one_core_trials_s"] / turn["two_cores_trials_s"] for turn in turns)}),
        Row("Tune's part of a trial of one worker: seconds between the end of one and the start of the next",
            middle["between_s"], "s", 0.2, at_least=False)]
    nested = _sweep(place / "nested", digits, min(classes, 4), "--workers-per-trial", "2", "--at-once", "1")
    rows.append(Row("a trial with two workers of its own, beside the seconds of its epochs", statistics.median(
        nested["trials"]) - nested["epochs_s"], "s"))
    few, many = (20, 60) if bench.quick else (100, 1000)
    sizes = {count: _driver_memory(count, digits, place / f"memory-{count}") for count in (few, many)}
    rows.append(Row(f"memory of a driver with {many:,} trials beyond one with {few}", sizes[many] - sizes[few], "MB",
                    figures={"all_mb": sizes[many]}))
    return rows


def _turn(place: Path, digits: Path, classes: int) -> dict[str, float]:
    with one_core():
        loop = sum(_seconds([sys.executable, str(_CHILD), "train", str(digits), str(place / "loop" / str(number)),
                             str(number), str(_EPOCHS)]) for number in range(classes))
        one = _sweep(place / "one", digits, classes, "--at-once", "1")
    two = _sweep(place / "two", digits, classes, "--at-once", "2")
    return {"loop_s": loop, "one_core_s": one["seconds"], "two_cores_s": two["seconds"],
            "one_core_trials_s": one["busy_s"], "two_cores_trials_s": two["busy_s"], "between_s": one["between_s"],
            "trials_per_minute_one_core": 60 * classes / one["busy_s"],
            "trials_per_minute_two_cores": 60 * classes / two["busy_s"]}


def _sweep(place: Path, digits: Path, classes: int, *options: str) -> dict:
    """Seconds: of the command, from the first trial's start to the last one's end, and between two trials."""
    began = time.perf_counter()
    _run([*_COMMAND, "sweep", "digits", "--data", str(digits), "--nominal", ",".join(map(str, range(classes))),
          "--epochs", str(_EPOCHS), "--storage", str(place.parent), "--name", place.name, *options])
    seconds = time.perf_counter() - began
    spans, epochs = [], []
    for run in sorted((place / "trials").iterdir()):
        # Of a run the first file that is written is its lease, the last one its entry among TensorBoard's.
        times = [path.stat().st_mtime for path in run.rglob("*") if path.is_file()]
        spans.append(((run / "experiment.json").stat().st_mtime, max(times)))
        epochs.append(json.loads((run / "result.json").read_text())["seconds"])
    spans.sort()
    gaps = [max(0.0, later[0] - earlier[1]) for earlier, later in pairwise(spans)]
    return {"seconds": seconds, "busy_s": spans[-1][1] - spans[0][0], "between_s": statistics.median(gaps),
            "trials": [end - start for start, end in spans], "epochs_s": statistics.median(epochs)}


def _driver_memory(trials: int, digits: Path, place: Path) -> float:
    """MB that a driver had at most whose trials end at once."""
    return float(_run([sys.executable, str(_CHILD), "memory", str(digits), str(place), str(trials)]).split()[-1])


def _seconds(command: list[str]) -> float:
    began = time.perf_counter()
    _run(command)
    return time.perf_counter() - began


def _run(command: list[str]) -> str:
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr}")
    return done.stdout
