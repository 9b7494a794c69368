"""The same images read, decoded and batched by us and by others, each as a process of its own."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import sysconfig
from pathlib import Path

from bench_children import memory_of, started
from bench_data import DataSets
from bench_timing import Bench, Row, Skip

from fcdd_dist.cluster.local import own_folder

_SCRIPT = Path(__file__).with_name("bench_rival.py")
_RIVALS = {"webdataset": (0, 1, 2), "ImageFolder": (0, 1, 2), "litdata": (0, 1, 2), "mosaicml-streaming": (1,),
           "Ray Data": (1,)}  # with how many workers
_APART = {"litdata": "litdata", "mosaicml-streaming": "mosaic"}  # whose dependencies clash, and how the spec calls them
_COLUMNS = {"images_per_s": True, "first_batch_s": False, "peak_mb": False, "resume_s": False}  # whether more is better
_PLACES = ("HOME", "TMPDIR", "DATA_OPTIMIZER_CACHE_FOLDER", "DATA_OPTIMIZER_DATA_CACHE_FOLDER")
_BATCH = 128
Turn = dict[tuple[str, int], dict[str, float]]  # by name and number of workers: each column


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
            with started([sys.executable, "-m", "venv", str(home)], None, "making an environment") as making:
                making.finished()
            python = str(home / "bin" / "python")
            inside = subprocess.run([python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
                                    capture_output=True, text=True, check=True).stdout.strip()
            Path(inside, "running.pth").write_text(sysconfig.get_path("purelib") + "\n")  # torch is not installed again
            with started([python, "-m", "pip", "install", "--quiet", "--retries", "1", package], None,
                          f"pip install {package}") as installing:
                installing.finished()
        except (OSError, subprocess.SubprocessError, RuntimeError) as error:
            raise Skip(f"no environment for {package}: {error}") from None
        self._pythons[package] = python

    def run(self, name: str, task: str, workers: int) -> dict[str, float]:
        """What the process says; with task ``memory`` what it and its children take beyond what they take idle.

        Raises RuntimeError where it fails or doesn't come to an end.
        """
        command = [self._pythons.get(name, sys.executable), str(_SCRIPT), name, task, str(workers), str(self._spec)]
        with started(command, self._environment, f"{name} with {workers} workers, {task}") as process:
            if task != "memory":
                return json.loads(process.finished().splitlines()[-1])
            process.wait_until(lambda: "ready" in process.output.splitlines())
            peak = idle = memory_of(process.pid)
            process.go_on()

            def watched() -> bool:
                nonlocal peak
                peak = {kind: max(peak[kind], now) for kind, now in memory_of(process.pid).items()}
                return False

            process.wait_until(watched)
            process.finished()
            return {"peak_mb": peak["Pss"] - idle["Pss"], "peak_rss_mb": peak["Rss"] - idle["Rss"]}


def peers(bench: Bench, data: DataSets) -> list[Row]:
    """Images a second at the best number of workers of each, of the same numbers; all columns stand in the figures."""
    if not Path("/proc/self/smaps_rollup").exists():
        raise Skip("memory is read from /proc/PID/smaps_rollup")
    with own_folder() as short:  # the names of Ray's sockets are limited
        return _peers(bench, data, short)


def _peers(bench: Bench, data: DataSets, ray: Path) -> list[Row]:
    folder = data.folder / "peers"
    here = Peers(folder, _images(data, folder, 1 if bench.quick else 2) | {"ray": str(ray)})
    failed: dict[str, str] = {}
    rivals = dict.fromkeys(("webdataset", "ImageFolder"), (1,)) if bench.quick else _RIVALS
    for package in _APART.keys() & rivals.keys():
        try:
            here.make_environment(package)
            here.run(package, "write", 1)
        except (Skip, RuntimeError) as reason:
            failed[package] = str(reason)
    every = {"ours": tuple(sorted({count for counts in rivals.values() for count in counts})), **rivals}
    turns = [_turn(here, every, failed) for _ in range(1 if bench.quick else 3)]
    return [Row(f"reading and decoding as {name} does: {failed[name]}", None, "x") if name in failed else
            _row(name, every[name], turns) for name in rivals]


def _turn(here: Peers, every: dict[str, tuple[int, ...]], failed: dict[str, str]) -> Turn:
    """All columns of all that have not failed before; adds to ``failed`` who fails now, and why."""
    turn: Turn = {}
    for workers in every["ours"]:  # those with as many workers follow one another, since other load changes
        for name in (name for name, counts in every.items() if workers in counts and name not in failed):
            told: dict[str, float] = {}
            try:
                for task in ("speed", "resume", "memory"):
                    told |= here.run(name, task, workers)
            except RuntimeError as error:
                if name == "ours":
                    raise
                failed[name] = str(error)
                print(f"{name}, {workers} workers: {error}", file=sys.stderr, flush=True)
                continue
            turn[name, workers] = told
            print(f"{name}, {workers} workers: " + ", ".join(f"{column} {value:,.4g}" for column, value in
                                                             told.items()), file=sys.stderr, flush=True)
    return turn


def _row(name: str, counts: tuple[int, ...], turns: list[Turn]) -> Row:
    """Theirs and ours with the same numbers of workers."""
    ratios = [max(turn["ours", workers]["images_per_s"] for workers in counts)
              / max(turn[name, workers]["images_per_s"] for workers in counts) for turn in turns]
    found = {key: {column: statistics.median(turn[key][column] for turn in turns) for column in turns[0][key]}
             for workers in counts for key in (("ours", workers), (name, workers))}
    behind = [f"{column} with {workers}" for column, more in _COLUMNS.items() for workers in counts
              if (found["ours", workers][column] < found[name, workers][column]) == more]
    how = (f"with {counts[0]} worker each" if len(counts) == 1 else
           f"at the best number of workers of each, of {', '.join(map(str, counts))}")
    core = " (0: all of it on one core)" if 0 in counts else ""
    return Row(f"reading and decoding as {name} does, {how}{core}; "
               + (f"behind in {', '.join(behind)}" if behind else "ahead in every column"),
               statistics.median(ratios), "x", 1.0, figures={
                   f"{column}_{workers}_{who}": found[whose, workers][column]
                   for workers in counts
                   for column in (*_COLUMNS, "peak_rss_mb", *(() if workers else ("images_per_cpu_s",)))
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
            "litdata": str(folder / "litdata"), "mosaic": str(folder / "mosaic"),
            "batch": _BATCH, "images": count, "skip": int(0.9 * count / _BATCH), "epochs": epochs}
