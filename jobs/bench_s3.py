"""Object storage on this machine, against its disk. Run as a program it is a process that streams or trains.

The server is started by ``infra/local-bucket``; what delays it is the proxy of the tests, so both need a checkout.
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import pairwise
from pathlib import Path

from bench_data import DataSets
from bench_memory import child
from bench_timing import Bench, Row, Skip

from fcdd_dist.storage import Store, open_store

ROOT = Path(__file__).parents[1]
DELAY_S = 0.05
_COMMAND = [sys.executable, "-m", "fcdd_dist.cli"]


def s3(bench: Bench, data: DataSets) -> list[Row]:
    """Streaming, opening and training, with one thread on one core, the server on the other."""
    url = data.photographs
    with _server(data.folder) as environment:
        _copy(open_store(url), "s3://fcdd/data", environment)
        with _slow(environment) as slow:
            told = _child("stream", url, "s3://fcdd/data", slow["AWS_ENDPOINT_URL_S3"], str(bench.pairs(7)),
                          environment=environment)
            steps = _child("steps", data.small, str(data.folder / "s3-runs"), "s3://fcdd/runs", bench.precision,
                           "2" if bench.quick else "10", environment=slow)
        _copy(open_store(data.small), "s3://fcdd/small", environment)
        with _environment(environment):
            peaks = {kind: child(kind, "s3://fcdd/small", "", bench) for kind in ("idle", "step", "fit-streamed")}
    disk, near, far = (told["images_per_s"][how] for how in ("disk", "s3", "slow"))
    asked, images = told["requests"], told["images"]
    return [
        _streamed("streaming from S3 on loopback against streaming from disk, 1 decode thread", near, disk, 0.8, told),
        _streamed(f"the same with {DELAY_S * 1000:.0f} ms before the first byte of each answer, against S3 without",
                  far, near, 0.7, told),
        Row("requests to open a data set", asked["opening"], "", 1, at_least=False),
        Row("requests to stream 1,000 images", 1000 * asked["streaming"] / images, "",
            figures={"images": images, "bytes_per_image": told["bytes"] / images}),
        Row("training with a checkpoint a second into a slow S3 against one into a folder",
            steps["s3"]["images_per_s"] / steps["folder"]["images_per_s"], "%", bench.goal(0.95), figures={
                f"{name}_{where}": steps[where][name] for where in ("none", "folder", "s3")
                for name in ("images_per_s", "median_ms", "p99_ms", "checkpoints")}),
        Row("memory of a training, streamed from S3, beyond idle and activations",
            peaks["fit-streamed"]["peak_mb"] - peaks["step"]["peak_mb"], "MB", 250, at_least=False),
    ]


def pull(bench: Bench, data: DataSets) -> list[Row]:
    """1 GB in objects of 8 MB to disk, verified, against the command line of AWS, which verifies nothing of ours."""
    aws = shutil.which("aws", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
    if aws is None:
        raise Skip("it is measured against the aws command: pip install awscli")
    megabytes = 64 if bench.quick else 1_000
    with _server(data.folder) as environment:
        with _environment(environment):
            _write_data_set(open_store("s3://fcdd/large"), megabytes)
        times: dict[str, list[float]] = {"ours": [], "aws": []}
        for turn in range(bench.pairs(3) + 1):
            for name, command in (("ours", [*_COMMAND, "pull", "s3://fcdd/large"]),
                                  ("aws", [aws, "s3", "cp", "--recursive", "--only-show-errors", "s3://fcdd/large"])):
                out = data.folder / f"pulled-{name}"
                began = time.perf_counter()
                _run([*command, str(out)], environment)
                if turn:  # the first one warms up
                    times[name].append(time.perf_counter() - began)
                shutil.rmtree(out)
    ratios = [theirs / ours for ours, theirs in zip(times["ours"], times["aws"], strict=True)]
    return [Row(f"pull of {megabytes:,} MB, verified, against `aws s3 cp --recursive`", statistics.median(ratios), "x",
                1.0, figures={"ours_mb_per_s": megabytes / statistics.median(times["ours"]),
                              "aws_mb_per_s": megabytes / statistics.median(times["aws"])})]


def _streamed(what: str, ours: list[float], theirs: list[float], aim: float, told: dict) -> Row:
    ratios = [a / b for a, b in zip(ours, theirs, strict=True)]
    return Row(what, statistics.median(ratios), "%", aim, figures={
        "ours_images_per_s": statistics.median(ours), "theirs_images_per_s": statistics.median(theirs),
        "lowest": min(ratios), "highest": max(ratios), "peak_mb": told["peak_mb"], "idle_mb": told["idle_mb"]})


@contextlib.contextmanager
def _server(folder: Path) -> Iterator[dict[str, str]]:
    """A local bucket; gives the environment in which it is found."""
    if not (ROOT / "infra/local-bucket").exists() or shutil.which("taskset") is None:
        raise Skip("it needs infra/local-bucket of a checkout, and taskset")
    home = tempfile.mkdtemp(prefix="fcdd-s3-")  # short: sockets have names of at most 107 bytes
    script = [sys.executable, str(ROOT / "infra/local-bucket")]
    up = subprocess.run([*_on(-1), *script, "up", "--home", home], capture_output=True, text=True)
    if up.returncode:
        raise Skip(f"there is no S3 server: {up.stderr.strip().splitlines()[-1]}")
    try:
        yield dict(shlex.split(line)[1].split("=", 1) for line in up.stdout.splitlines())
    finally:
        subprocess.run([*script, "down", "--home", home], capture_output=True, check=True)


@contextlib.contextmanager
def _slow(environment: dict[str, str]) -> Iterator[dict[str, str]]:
    """The same through the tests' proxy, with a delay before each answer."""
    port = environment["AWS_ENDPOINT_URL_S3"].rpartition(":")[2]
    command = [*_on(-1), sys.executable, "-m", "tests.support.proxy", port, "--delay", str(DELAY_S)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as proxy:
        yield environment | {"AWS_ENDPOINT_URL_S3": proxy.stdout.readline().strip()}
        proxy.stdin.close()


@contextlib.contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    before = dict(os.environ)
    os.environ.update(values)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _copy(source: Store, url: str, environment: dict[str, str]) -> None:
    with _environment(environment):
        target = open_store(url)
        for entry in source.list():
            target.write(entry.key, source.read(entry.key))


def _write_data_set(store: Store, megabytes: int) -> None:
    """A manifest with shards of random bytes: nobody looks into them but for their sums."""
    import hashlib

    import numpy as np

    from fcdd_dist.data.manifest import ClassName, Manifest, Part, Shard, Statistics
    from fcdd_dist.experiment import Form

    rng, shards = np.random.default_rng(0), []
    for number in range(megabytes // 8):
        data, key = rng.bytes(8_000_000), f"train/some/{number:06}.tar"
        store.write(key, data)
        shards.append(Shard(key=key, samples=1, bytes=len(data), sha256=hashlib.sha256(data).hexdigest()))
    statistics_ = Statistics(pixels=1, **{name: (0.0,) for name in Statistics.model_fields if name != "pixels"})
    manifest = Manifest(kind="nominal", recipe="folder", form=Form.parse("png-32-grey"), versions={},
                        classes=(ClassName(id="some", name="some"),), content="0" * 64,
                        splits={"train": {"some": Part(shards=tuple(shards), statistics=statistics_)}})
    store.write("manifest.json", manifest.to_json().encode())


def _on(core: int) -> list[str]:
    """The command before a command that is to run on one core alone, counted from the first or from the last."""
    return ["taskset", "-c", str(sorted(os.sched_getaffinity(0))[core])]


def _child(what: str, *arguments: str, environment: dict[str, str]) -> dict:
    return json.loads(_run([*_on(0), sys.executable, __file__, what, *arguments], environment).splitlines()[-1])


def _run(command: list[str], environment: dict[str, str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | environment)
    if done.returncode:
        raise RuntimeError(f"{shlex.join(command)} ended with {done.returncode}:\n{done.stderr}")
    return done.stdout


def _stream(disk: str, near: str, slow_endpoint: str, pairs: str) -> dict:
    import torch
    from bench_children import peak_mb
    from bench_training import one_pass, prepared

    from fcdd_dist.data.manifest import load_manifest
    from fcdd_dist.storage import counts
    from fcdd_dist.stream.streamed import Streamed

    torch.set_num_threads(1)
    bench, endpoint = Bench(torch.device("cpu"), False, "float32", True), os.environ["AWS_ENDPOINT_URL_S3"]
    rates: dict[str, list[float]] = {"disk": [], "s3": [], "slow": []}
    asked = {}
    for turn in range(int(pairs) + 1):
        for how, url, at in (("disk", disk, endpoint), ("s3", near, endpoint), ("slow", near, slow_endpoint)):
            os.environ["AWS_ENDPOINT_URL_S3"] = at
            before = counts()
            load_manifest(open_store(url))
            opened = counts()
            checked = prepared(url, bench, 0)
            requests, shards = one_pass(checked), checked.shards("exposure", *checked.trained_on)
            streamed = Streamed(checked.exposure_store, shards, checked.experiment.data.form, bench.device, 1)
            idle = peak_mb()
            ready, began = counts(), time.perf_counter()
            images = sum(len(part) for part in streamed.walk(requests))
            if turn:  # the first one warms up
                rates[how].append(images / (time.perf_counter() - began))
            else:
                asked[how] = (opened - before).requests, (counts() - ready), idle, peak_mb()
    return {"images_per_s": rates, "images": images, "bytes": asked["s3"][1].bytes_read,
            "requests": {"opening": asked["s3"][0], "streaming": asked["s3"][1].requests},
            "idle_mb": asked["disk"][2], "peak_mb": asked["slow"][3]}


def _steps(data: str, folder: str, bucket: str, precision: str, seconds: str) -> dict:
    from fcdd_dist.checkpoint import names
    from fcdd_dist.errors import Interrupted
    from fcdd_dist.run import STOP, Job, run_rank
    from fcdd_dist.world import World

    found = {}
    for name, storage, every in (("none", folder, 3600.0), ("folder", folder, 1.0), ("s3", bucket, 1.0)):
        experiment = DataSets.experiment(data, precision).override(["epochs=100000", "data.train_on=train"])
        job = Job(experiment=experiment, data=data, run=f"{storage}/{name}", checkpoint_every_s=every, keep=1000,
                  threads=1)
        run = open_store(job.run)
        steps = _Steps(float(seconds), partial(run.write, STOP, b"{}"))
        with contextlib.suppress(Interrupted):
            run_rank(job, World(), on_step=steps)
        times = sorted(1000 * (after - before) for before, after in pairwise(steps.ends))
        found[name] = {"images_per_s": experiment.batch_size * len(times) / sum(times) * 1000,
                       "median_ms": statistics.median(times), "p99_ms": times[int(0.99 * len(times))],
                       "checkpoints": len(names(run))}
    return found


class _Steps:
    """When each step ended; asks for a stop after some seconds."""

    def __init__(self, seconds: float, stop: Callable[[], object]) -> None:
        self._seconds, self._stop, self._asked = seconds, stop, False
        self.ends: list[float] = []

    def __call__(self, _state: object) -> None:
        self.ends.append(time.perf_counter())
        if not self._asked and self.ends[-1] - self.ends[0] > self._seconds:
            self._asked = True
            self._stop()


if __name__ == "__main__":
    print(json.dumps({"stream": _stream, "steps": _steps}[sys.argv[1]](*sys.argv[2:])))
