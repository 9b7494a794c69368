"""Training by Ray Train workers, as users start it: to the end, over a crash, to an error, to a signal, as a job."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fcdd_dist.data.manifest import load_manifest
from fcdd_dist.storage import FolderStore

pytestmark = pytest.mark.ray
ROOT = Path(__file__).parents[2]
WITHIN_S = 150
EPOCHS = 120  # many times what passes between two checkpoints


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    from fcdd_dist.data.shards.write import shard

    folder = tmp_path_factory.mktemp("ray") / "data"
    shard("digits", None, FolderStore(folder))
    return folder


def command(data, runs, *more: str) -> list[str]:
    return ["train", "digits", "--data", str(data), "--nominal", "0", "--storage", str(runs), "--name", "run",
            "--precision", "float32", *more]


@contextlib.contextmanager
def driver(*arguments: str, log: Path):
    """A driver in a process of its own, with its standard error in ``log``; killed if it is still there."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    line = [sys.executable, "-m", "fcdd_dist.cli", *arguments]
    with open(log, "wb") as stderr, subprocess.Popen(line, cwd=log.parent, stdout=subprocess.PIPE, stderr=stderr,
                                                     env=environment) as process:
        try:
            yield process
        finally:
            process.kill()


def wait_for(text: str, log: Path) -> None:
    deadline = time.monotonic() + WITHIN_S
    while text not in log.read_text():
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.05)


def wait_for_checkpoint(run: Path, log: Path, after: str = "") -> str:
    """The name of the newest checkpoint once it is newer than ``after``."""
    deadline = time.monotonic() + WITHIN_S
    while not (there := sorted(path.parent.name for path in run.glob("checkpoints/*/checkpoint.json"))) or (
            there[-1] <= after):
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.05)
    return there[-1]


def processes_below(ancestor: int) -> dict[int, str]:
    """pid and command line of every process that descends from ``ancestor``."""
    parents, lines = {}, {}
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            lines[int(folder.name)] = (folder / "cmdline").read_text().replace("\0", " ")
    found, fresh = set(), {ancestor}
    while fresh:
        found |= fresh
        fresh = {pid for pid, parent in parents.items() if parent in found} - found
    return {pid: lines[pid] for pid in found - {ancestor} if pid in lines}


def epochs(runs: Path) -> list[int]:
    return [json.loads(line)["epoch"] for line in (runs / "run" / "metrics.jsonl").read_text().splitlines()]


def test_a_killed_worker_and_a_killed_driver_change_nothing(data, tmp_path, capsys):
    """The same weights bit for bit and the same metrics as of two bare processes that nothing happened to."""
    from fcdd_dist.cli import main
    from fcdd_dist.recipes import recipe
    from fcdd_dist.run import Job
    from tests.support import ranks

    log, arguments = tmp_path / "log", command(data, tmp_path, "--workers", "2", "--epochs", str(EPOCHS), "--json",
                                               "--checkpoint-every", "1")
    with driver(*arguments, log=log) as process:
        first = wait_for_checkpoint(tmp_path / "run", log)
        workers = [pid for pid, line in processes_below(process.pid).items() if "TrainWorker" in line]
        assert len(workers) == 2
        os.kill(workers[-1], signal.SIGKILL)
        wait_for("a worker was lost: all are back", log)
        wait_for_checkpoint(tmp_path / "run", log, after=first)
        assert not (tmp_path / "run/result.json").exists()
        process.kill()
        process.wait()
    with driver(*arguments, log=log) as process:
        out, _ = process.communicate(timeout=WITHIN_S)
        assert process.returncode == 0, log.read_text()
        assert processes_below(process.pid) == {}
    assert "going on from checkpoint" in log.read_text()
    result = json.loads(out)
    assert result["workers"] == 2
    assert result["auroc"] > 0.9
    assert epochs(tmp_path) == list(range(1, EPOCHS + 1))
    assert not list((tmp_path / "run").glob("board/*")) + list((tmp_path / "run").glob("stop.json"))

    job = Job(experiment=recipe("digits").experiment("0", 0).override([f"epochs={EPOCHS}"]), data=str(data),
              run=str(tmp_path / "undisturbed"))
    ranks.train(job, 2)
    ours, theirs = (weights_and_metrics(tmp_path / name) for name in ("run", "undisturbed"))
    assert ours == theirs

    assert main(arguments) == 0  # again: there is nothing left to do, and Ray does not start
    out, err = capsys.readouterr()
    assert f"is finished: {EPOCHS} epochs" in err
    assert "Ray" not in err
    assert json.loads(out) == result
    assert main([*arguments, "--seed", "5"]) == 2
    assert "another experiment (exposure.order_seed: 0 -> 5; seed: 0 -> 5)" in capsys.readouterr().err


def weights_and_metrics(run: Path) -> tuple:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return ((run / f"checkpoints/epoch-{EPOCHS:06}/detector.safetensors").read_bytes(),
            [{key: value for key, value in line.items() if key not in (
                "seconds", "images_per_s", "input_wait_s", "storage_requests", "storage_retries")} for line in lines])


def test_a_signal_leaves_all_committed_and_the_same_command_goes_on(data, tmp_path):
    log, arguments = tmp_path / "log", command(data, tmp_path, "--epochs", "5000")
    with driver(*arguments, log=log) as process:
        wait_for("images/s", log)
        process.send_signal(signal.SIGTERM)
        assert process.wait(WITHIN_S) == 143
    last = log.read_text().splitlines()[-1]
    assert re.fullmatch(r"fcdd-dist: stopped by SIGTERM with everything committed; the same command goes on .*", last)
    done = epochs(tmp_path)
    again = [*arguments[:-1], str(len(done) + 2)]
    with driver(*again, log=log) as process:
        assert process.wait(WITHIN_S) == 0, log.read_text()
    assert "going on from checkpoint" in log.read_text()
    assert epochs(tmp_path) == list(range(1, len(done) + 3))


def test_an_error_of_ours_ends_all_workers_at_once(data, tmp_path):
    import shutil

    damaged = tmp_path / "data"
    shutil.copytree(data, damaged)
    shard = load_manifest(FolderStore(damaged)).part("train", "0").shards[0]
    content = bytearray((damaged / shard.key).read_bytes())
    content[700] ^= 1
    (damaged / shard.key).write_bytes(content)
    log = tmp_path / "log"
    with driver(*command(damaged, tmp_path, "--workers", "2"), log=log) as process:
        assert process.wait(WITHIN_S) == 1
    text = log.read_text()
    assert text.splitlines()[-1].startswith("fcdd-dist: error: ")
    assert shard.key in text.splitlines()[-1]
    assert "Traceback" not in text
    assert "a worker was lost" not in text


def test_a_submitted_job_can_be_stopped(data, tmp_path):
    pytest.importorskip("ray.dashboard.optional_deps", reason="the job server needs ray[default]")
    home = Path("/tmp", f"fcdd-t-{os.getpid()}")
    head = [sys.executable, str(ROOT / "infra/local-ray")]
    up = subprocess.run([*head, "up", "--home", home, "--cpus", "2"], capture_output=True, text=True, check=True)
    try:
        exported = dict(shlex.split(line)[1].split("=", 1) for line in up.stdout.splitlines())
        environment = os.environ | exported

        def jobs(*arguments: str) -> str:
            return subprocess.run([sys.executable, "-m", "ray.scripts.scripts", "job", *arguments], env=environment,
                                  cwd=ROOT, capture_output=True, text=True, check=False, timeout=WITHIN_S).stdout

        jobs("submit", "--working-dir", ".", "--submission-id", "one", "--no-wait", "--", "python", "jobs/train.py",
             *command(data, tmp_path, "--epochs", "5000", "--workers", "2")[1:])
        deadline = time.monotonic() + WITHIN_S
        while "epoch 1" not in (text := jobs("logs", "one")):
            assert time.monotonic() < deadline, text
            assert "Traceback" not in text, text
        jobs("stop", "one")
        assert "stopped by SIGTERM with everything committed" in jobs("logs", "one")
        assert list((tmp_path / "run" / "checkpoints").glob("*/checkpoint.json"))
        assert json.loads((tmp_path / "run" / "lease.json").read_text())["owner"] is None
    finally:
        subprocess.run([*head, "down", "--home", home], capture_output=True, check=True)
    assert not home.exists()
