"""Whole commands: how long help and a refusal take, and what Ray adds to a run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from importlib.util import find_spec

from bench_timing import Bench, Row, Skip, median_seconds

_COMMAND = [sys.executable, "-m", "fcdd_dist.cli"]
_TEN_MINUTES = 600.0


def help_and_refusal(bench: Bench, _) -> list[Row]:
    times = bench.pairs(5)
    python = median_seconds(lambda: _run([sys.executable, "-c", ""], 0), times)
    return [Row(f"fcdd-dist {what}", median_seconds(lambda a=arguments, c=code: _run([*_COMMAND, *a], c), times), "s",
                0.5, at_least=False, figures={"bare_python_s": python})
            for what, arguments, code in (
                ("--help", ["--help"], 0), ("train --help", ["train", "--help"], 0),
                ("train, refused", ["train", "nosuch", "--data", "d", "--nominal", "n", "--storage", "s"], 2))]


def ray(bench: Bench, data) -> list[Row]:
    """A command that trains with two workers, less the seconds of its epochs, as a share of ten minutes."""
    if find_spec("ray") is None:
        raise Skip("Ray is not installed")
    from fcdd_dist.data.shards.write import shard
    from fcdd_dist.storage import open_store

    digits = data.folder / "digits"
    shard("digits", None, open_store(str(digits)))
    began = time.perf_counter()
    out = _run([*_COMMAND, "train", "digits", "--data", str(digits), "--nominal", "0", "--storage",
                str(data.folder / "runs"), "--workers", "2", "--epochs", "2" if bench.quick else "20", "--json"], 0)
    seconds = time.perf_counter() - began
    training = json.loads(out)["seconds"]
    loaded = median_seconds(lambda: _run([sys.executable, "-c", "import torch"], 0), 3)  # 1 s where nothing else runs
    return [Row("Ray and all else around a training with 2 workers, as a share of ten minutes",
                (seconds - training) / _TEN_MINUTES, "%", 0.05, at_least=False,
                figures={"whole_command_s": seconds, "epochs_s": training, "import_torch_s": loaded})]


def _run(command: list[str], code: int) -> str:
    # Modules of the checkout, whatever the folder; a cluster that is set in the environment is not asked.
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode != code:
        raise RuntimeError(f"{' '.join(command)} ended with {done.returncode} and not {code}:\n{done.stderr}")
    return done.stdout
