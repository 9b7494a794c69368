"""The same images read, decoded and batched by us and by others, each as a process of its own."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import statistics
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator
from pathlib import Path

from bench_data import DataSets
from bench_timing import Bench, Row, Skip

_SCRIPT = Path(__file__).with_name("bench_rival.py")
_RIVALS = {"webdataset": (0, 1, 2), "ImageFolder": (0, 1, 2), "litdata": (0, 1, 2), "mosaicml-streaming": (1,),
           "Ray Data": (1,)}  # with how many workers
_APART = {"litdata": "litdata", "mosaicml-streaming": "mosaic"}  # whose dependencies clash, and how the spec calls them
_COLUMNS = {"images_per_s": True, "first_batch_s": False, "peak_mb": False, "resume_s": False}  # whether more is better
_PLACES = ("HOME", "TMPDIR", "DATA_OPTIMIZER_CACHE_FOLDER", "DATA_OPTIMIZER_DATA_CACHE_FOLDER")
_BATCH, _EVERY_S = 128, 0.1
_INSTALL_S = 600


class Peers:
    """Runs us and the others as processes on one set of images."""

    def __init__(self, folder: Path, spec: dict) -> None:
        self._folder, self._spec = folder, folder / "spec.json"
        self._spec.write_text(json.dumps(spec))
        self._environment = dict(os.environ)
        # litdata deletes <temporary folder>/data and /chunks, whoever's these are, and others litter there and at home.
        for variable in _PLACES:
            place = folder / "places" / variable.lower()
            place.mkdir(parents=True)
            self._environment[variable] = str(place)
        self._pythons: dict[str, str] = {}

    def make_environment(self, package: str) -> None:
        """A virtual environment with ``package``, on top of what this interpreter has. Raises Skip."""
        home = self._folder / f"environment-{package}"
        try:
            with _started([sys.executable, "-m", "venv", str(home)]) as making:
                _finished(making, "making an environment")
            python = str(home / "bin" / "python")
            inside = subprocess.run([python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
                                    capture_output=True, text=True, check=True).stdout.strip()
            Path(inside, "running.pth").write_text(sysconfig.get_path("purelib") + "\n")  # torch is not installed again
            with _started([python, "-m", "pip", "install", "--quiet", "--retries", "1", package]) as installing:
                _finished(installing, f"pip install {package}")
        except (OSError, subprocess.SubprocessError, RuntimeError) as error:
            raise Skip(f"no environment for {package}: {error}") from None
        self._pythons[package] = python

    def run(self, name: str, task: str, workers: int) -> dict[str, float]:
        """What the process says; with task ``memory`` what it and its children take beyond what they take idle."""
        command = [self._pythons.get(name, sys.executable), str(_SCRIPT), name, task, str(workers), str(self._spec)]
        what = f"{name} with {workers} workers, {task}"
        with _started(command, self._environment) as process:
            if task != "memory":
                return json.loads(_finished(process, what).splitlines()[-1])
            for line in process.stdout:
                if line.strip() == "ready":
                    break
            idle = _memory(process.pid)
            process.stdin.write("\n")
            process.stdin.flush()
            peak = idle
            while process.poll() is None:
                peak = {kind: max(peak[kind], now) for kind, now in _memory(process.pid).items()}
                time.sleep(_EVERY_S)
            _finished(process, what)
            return {"peak_mb": peak["Pss"] - idle["Pss"], "peak_rss_mb": peak["Rss"] - idle["Rss"]}


@contextlib.contextmanager
def _started(command: list[str], environment: dict[str, str] | None = None) -> Iterator[subprocess.Popen]:
    """A process in a group of its own, which is gone with all its children when the context ends."""
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                               text=True, start_new_session=True, env=environment)
    try:
        yield process
    finally:
        for kind in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, kind)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(10)
        for pipe in (process.stdin, process.stdout, process.stderr):
            with contextlib.suppress(BrokenPipeError):
                pipe.close()


def _finished(process: subprocess.Popen, what: str) -> str:
    """Its output. Raises RuntimeError where it failed."""
    out, complaint = process.communicate(timeout=_INSTALL_S)
    if process.returncode:
        raise RuntimeError(f"{what} ended with {process.returncode}: {complaint.strip()[-2000:]}")
    return out


def _memory(root: int) -> dict[str, float]:
    """MB of a process and all below it: proportional (what several share counts once) and resident."""
    total, waiting = {"Pss": 0.0, "Rss": 0.0}, [root]
    while waiting:
        process = Path("/proc", str(waiting.pop()))
        with contextlib.suppress(OSError, ValueError):  # it has just ended
            for thread in (process / "task").iterdir():
                waiting += map(int, (thread / "children").read_text().split())
            for line in (process / "smaps_rollup").read_text().splitlines():
                kind, _, value = line.partition(":")
                if kind in total:
                    total[kind] += int(value.split()[0]) * 1024 / 1e6
    return total


def peers(bench: Bench, data: DataSets) -> list[Row]:
    """Images a second at the best number of workers of each; all columns of all of them stand in the figures."""
    if not Path("/proc/self/smaps_rollup").exists():
        raise Skip("memory is read from /proc/PID/smaps_rollup")
    folder = data.folder / "peers"
    here = Peers(folder, _images(data, folder, 1 if bench.quick else 2))
    skipped, rivals = {}, dict(_RIVALS)
    if bench.quick:
        rivals = dict.fromkeys(("webdataset", "ImageFolder"), (1,))
    for package in _APART.keys() & rivals.keys():
        try:
            here.make_environment(package)
            here.run(package, "write", 0)
        except (Skip, RuntimeError) as reason:
            skipped[package] = str(reason)
            del rivals[package]
    every = {"ours": tuple(sorted({count for counts in rivals.values() for count in counts})), **rivals}
    found: dict[tuple[str, int], dict[str, float]] = {}
    turns: list[dict[tuple[str, int], float]] = []
    for turn in range(1 if bench.quick else 3):
        turns.append({})
        for name, counts in list(every.items()):
            for workers in counts:
                try:
                    told = here.run(name, "speed", workers)
                    if not turn:
                        told |= here.run(name, "resume", workers) | here.run(name, "memory", workers)
                except RuntimeError as error:
                    if name == "ours":
                        raise
                    skipped[name] = str(error)
                    every.pop(name, None)
                    break
                print(f"{name}, {workers} workers: " + ", ".join(f"{column} {value:,.4g}" for column, value in
                                                                 told.items()), file=sys.stderr, flush=True)
                turns[-1][name, workers] = told["images_per_s"]
                found.setdefault((name, workers), told)
    for name, reason in skipped.items():
        print(f"{'peers':<10} skipped: {name}: {reason}")
    for key, told in found.items():
        told["images_per_s"] = statistics.median(turn[key] for turn in turns if key in turn)
    return [_row(name, every[name], every["ours"], found, turns) for name in every if name != "ours"]


def _row(name: str, theirs: tuple[int, ...], ours: tuple[int, ...], found: dict, turns: list[dict]) -> Row:
    ratios = [max(turn["ours", workers] for workers in ours) / max(turn[name, workers] for workers in theirs)
              for turn in turns]
    behind = [f"{column} with {workers}" for column, more in _COLUMNS.items() for workers in theirs
              if (found["ours", workers][column] < found[name, workers][column]) == more]
    return Row(f"reading and decoding as {name} does, at the best number of workers of each"
               + (f"; behind in {', '.join(behind)}" if behind else "; ahead in every column"),
               statistics.median(ratios), "x", 1.0, figures={
                   f"{column}_{workers}_{who}": found[whose, workers][column]
                   for column in (*_COLUMNS, "peak_rss_mb") for workers in theirs
                   for who, whose in (("ours", "ours"), ("theirs", name))})


def _images(data: DataSets, folder: Path, epochs: int) -> dict:
    """The exposure set of ``data.imagenet``: as our shards, and as files with the same bytes; what rivals must know."""
    import torch
    from bench_training import prepared

    from fcdd_dist.data.shards.read import read_shard

    checked = prepared(data.imagenet, Bench(torch.device("cpu"), False, "float32", False), 0)
    store, shards = checked.exposure_store, checked.shards("exposure", "train", "holdout")
    files, count = folder / "files" / "some", 0
    files.mkdir(parents=True)
    for shard in shards:
        for sample in read_shard(store, shard):
            (files / f"{count:07}.jpg").write_bytes(sample.image)
            count += 1
    place = Path(store.url.removeprefix("file://"))
    return {"ours": str(place), "tars": [str(place / shard.key) for shard in shards], "files": str(folder / "files"),
            "litdata": str(folder / "litdata"), "mosaic": str(folder / "mosaic"), "ray": str(folder / "ray"),
            "batch": _BATCH, "images": count, "skip": int(0.9 * count / _BATCH), "epochs": epochs}
