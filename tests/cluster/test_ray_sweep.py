"""Sweeps as users start them: killed at any moment, stopped, with trials that fail, with workers in every trial.

One undisturbed sweep is what others must come to: its search over settings of which one diverges, then tested runs.
Sweeps of this process share one Ray; those that are killed or stopped have their own.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fcdd_dist.cli import main
from fcdd_dist.cluster import local
from fcdd_dist.data.manifest import load_manifest
from fcdd_dist.storage import FolderStore, open_store
from fcdd_dist.sweep.table import CSV, MARKDOWN, TABLE
from tests.cluster.nested_sweeps import left, nested_sweep, small_ray

pytestmark = [pytest.mark.ray, pytest.mark.timeout(900)]
WITHIN_S = 300
RATES = [0.001, 0.01, 1e30]  # the last one diverges
TABLES = (TABLE, CSV, MARKDOWN)
TRIAL = "ray::ImplicitFunc"  # as Tune calls the process of a trial


def command(data: str, storage: str, *more: str, nominal: str = "0,1") -> list[str]:
    return ["sweep", "digits", "--data", str(data), "--nominal", nominal, "--storage", str(storage), "--name", "a",
            "--precision", "float32", "--gpus-per-trial", "0", "--checkpoint-every", "1", *more]


def searching(data: str, storage: str, folder: Path) -> list[str]:
    space = folder / "space.json"
    space.write_text(json.dumps({"optimizer.lr": {"grid": RATES}}))
    return command(data, storage, "--seeds", "2", "--epochs", "3", "--protocol", "paper", "--search", str(space))


@pytest.fixture(scope="module", autouse=True)
def one_ray() -> Iterator[None]:
    """Of two CPUs, which ``main`` uses instead of starting its own."""
    with small_ray():
        yield


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, digits_data):
    """The folder of the sweep that nothing happened to."""
    folder = tmp_path_factory.mktemp("sweep")
    assert main(searching(digits_data, str(folder), folder)) == 0
    return folder / "a"


def tables(storage: str | Path) -> dict[str, bytes]:
    store = open_store(str(storage))
    return {name: store.read(name) for name in TABLES}


def table(sweep: str | Path) -> dict:
    return json.loads(open_store(str(sweep)).read(TABLE))


def without_ray() -> dict[str, str]:
    """The environment for a process that is to have a Ray of its own."""
    return {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}


@contextlib.contextmanager
def driver(arguments: list[str], log: Path) -> Iterator[subprocess.Popen]:
    """A driver in a process of its own, with its standard error in ``log``; killed if it is still there."""
    line = [sys.executable, "-m", "fcdd_dist.cli", *arguments]
    with open(log, "wb") as stderr, subprocess.Popen(line, cwd=log.parent, stdout=subprocess.PIPE, stderr=stderr,
                                                     env=without_ray(), text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def wait_until(true: Callable[[], object], log: Path, process: subprocess.Popen) -> None:
    deadline = time.monotonic() + WITHIN_S
    while not true():
        assert time.monotonic() < deadline, log.read_text()
        assert process.poll() is None, log.read_text()
        time.sleep(0.02)


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


def trials_of(ancestor: int) -> list[int]:
    """The processes that have a trial to do, or are about to."""
    return [pid for pid, line in processes_below(ancestor).items() if line.startswith(TRIAL)]


def checkpoints(sweep: Path, *of: str) -> int:
    """How many there are; with ``of`` only those of these trials."""
    return sum(path.parts[-4] in of or not of for path in sweep.glob("trials/*/checkpoints/*/checkpoint.json"))


def test_kills_of_trials_of_the_driver_and_of_all_of_ray_change_nothing(undisturbed, digits_data, tmp_path):
    chance, sweep, log = random.Random(14), tmp_path / "a", tmp_path / "log"
    arguments = searching(digits_data, str(tmp_path), tmp_path)
    with driver(arguments, log) as process:
        wait_until(lambda: checkpoints(sweep), log, process)
        os.kill(trials_of(process.pid)[0], signal.SIGKILL)
        wait_until(lambda: "trying again" in log.read_text(), log, process)
        begun = checkpoints(sweep)
        wait_until(lambda: checkpoints(sweep) > begun, log, process)
        time.sleep(chance.uniform(0, 0.3))
        process.kill()
    assert table(sweep)["search"]["selected"] is None
    with driver(arguments, log) as process:
        wait_until(lambda: table(sweep)["cells"][0]["trial"] is not None, log, process)
        tested = [Path(cell["trial"]).name for cell in table(sweep)["cells"]]
        wait_until(lambda: checkpoints(sweep, *tested), log, process)
        time.sleep(chance.uniform(0, 0.3))
        for pid in (process.pid, *processes_below(process.pid)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    assert not table(sweep)["complete"]
    assert main(arguments) == 0
    assert tables(sweep) == tables(undisturbed)


def test_a_setting_that_diverges_is_never_selected_and_never_tried_again(undisturbed, digits_data, capsys,
                                                                         monkeypatch):
    search = table(undisturbed)["search"]
    assert search["rungs"] == [1, 3]
    assert [setting["state"] for setting in search["settings"]] == ["stopped", "done", "failed"]
    assert search["selected"] == 1
    for cell in search["settings"][2]["cells"]:
        assert cell["reason"].startswith("the loss of epoch 1 is not finite (nan): lower optimizer.lr (1e+30)")
    folders = {path.parent.name for path in undisturbed.glob("trials/*/result.json")}
    assert folders == {Path(cell["trial"]).name for cell in table(undisturbed)["cells"]}  # no other has been tested

    before = tables(undisturbed)
    monkeypatch.setattr(local, "session", None)  # no Ray is asked for
    assert main(searching(digits_data, str(undisturbed.parent), undisturbed.parent)) == 0
    assert "is finished: 4 runs; nothing to do" in capsys.readouterr().err
    assert tables(undisturbed) == before


@pytest.mark.s3
def test_a_search_needs_no_test_image_and_what_failed_is_tried_again(undisturbed, digits_data, tmp_path, bucket):
    """In object storage. Every test image is damaged while the search goes on."""
    damaged = tmp_path / "data"
    shutil.copytree(digits_data, damaged)
    for path in damaged.glob("test/*/*.tar"):
        path.write_bytes(bytes(path.stat().st_size))
    arguments = searching(str(damaged), bucket.url, tmp_path)
    with driver(arguments, tmp_path / "log") as process:
        out, _ = process.communicate(timeout=WITHIN_S)
    assert process.returncode == 1, (tmp_path / "log").read_text()
    found, wanted = table(f"{bucket.url}/a"), table(undisturbed)
    assert found["search"] == wanted["search"]
    assert {cell["state"] for cell in found["cells"]} == {"failed"}
    assert all(re.search(r"test/\d/000000\.tar", cell["reason"]) for cell in found["cells"])
    assert out.splitlines()[-1] == "4 of 4 runs are missing; the same command tries them again"

    for path in damaged.glob("test/*/*.tar"):
        shutil.copy(Path(digits_data) / path.relative_to(damaged), path)
    with driver(arguments, tmp_path / "log") as process:
        process.communicate(timeout=WITHIN_S)
    assert process.returncode == 0, (tmp_path / "log").read_text()
    assert tables(f"{bucket.url}/a") == tables(undisturbed)


def test_a_signal_leaves_all_committed_and_a_damaged_class_fails_alone(digits_data, tmp_path, capsys):
    damaged = tmp_path / "data"
    shutil.copytree(digits_data, damaged)
    key = load_manifest(FolderStore(damaged)).part("train", "2").shards[0].key
    content = (damaged / key).read_bytes()
    (damaged / key).write_bytes(content[:700] + bytes([content[700] ^ 1]) + content[701:])
    log, sweep, epochs = tmp_path / "log", tmp_path / "a", 100  # many times what passes between two trials' begins
    arguments = command(str(damaged), str(tmp_path), "--epochs", str(epochs), nominal="0,1,2")
    with driver(arguments, log) as process:
        wait_until((sweep / TABLE).exists, log, process)
        assert main(arguments) == 2  # a second driver, while Ray starts
        assert f"{sweep} is in use by process {process.pid} on " in capsys.readouterr().err
        wait_until(lambda: sum(path.stat().st_size > 0 for path in sweep.glob("trials/*/metrics.jsonl")) == 2, log,
                   process)
        process.send_signal(signal.SIGINT)
        assert process.wait(WITHIN_S) == 130
        assert processes_below(process.pid) == {}
    assert log.read_text().splitlines()[-1] == (
        "fcdd-dist: stopped by SIGINT with everything committed; the same command goes on from there")
    for name in ("0-s0", "1-s0"):
        assert 0 < len((sweep / f"trials/{name}/metrics.jsonl").read_text().splitlines()) < epochs
        assert checkpoints(sweep, name)
        assert f"{name}: stopped, with everything committed" in log.read_text()
        assert json.loads((sweep / f"trials/{name}/lease.json").read_text())["owner"] is None
    assert {cell["state"] for cell in table(sweep)["cells"][:2]} == {"unfinished"}

    assert main(arguments) == 1
    out, err = capsys.readouterr()
    cells = table(sweep)["cells"]
    assert [cell["state"] for cell in cells] == ["done", "done", "failed"]
    assert key in cells[2]["reason"]
    assert "\n" not in cells[2]["reason"]
    assert f"failed trials/2-s0: {cells[2]['reason']}" in out
    assert "0-s0: going on from checkpoint" in err
    assert "Traceback" not in err
    (damaged / key).write_bytes(content)
    assert main(arguments) == 0
    assert table(sweep)["complete"]


def test_a_trial_whose_process_always_dies_fails_in_words(digits_data, tmp_path, capsys):
    end = threading.Event()

    def kill() -> None:
        while not end.wait(0.1):
            for pid in trials_of(os.getpid()):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        assert main(command(digits_data, str(tmp_path), "--max-failures", "1", nominal="0")) == 1
    finally:
        end.set()
        killer.join()
    reason = table(tmp_path / "a")["cells"][0]["reason"]
    assert reason == "failed 2 times, at last: its process died without a word, as after a kill or a lost machine"
    err = capsys.readouterr().err
    assert "0-s0: its process died without a word, as after a kill or a lost machine: trying again" in err
    assert f"0-s0: failed: {reason}" in err
    assert "Traceback" not in err


def test_a_trial_can_be_trained_by_hand_and_looked_at(undisturbed, digits_data, make_image, tmp_path, capsys):
    shutil.copytree(undisturbed, tmp_path / "a")
    cell = table(undisturbed)["cells"][0]
    run = tmp_path / "a" / cell["trial"]
    scores = (run / "scores.csv").read_bytes()
    by_hand = ["train", "digits", "--data", digits_data, "--nominal", "0", "--storage", str(run.parent), "--name",
               run.name, "--protocol", "paper", "--epochs", "3", "--set", "optimizer.lr=0.01", "--precision", "float32"]
    assert main(by_hand) == 0
    assert "is finished: 3 epochs; nothing to do" in capsys.readouterr().err
    shutil.rmtree(run)
    with driver([*by_hand, "--threads", "1"], tmp_path / "log") as process:
        assert process.wait(WITHIN_S) == 0, (tmp_path / "log").read_text()
    assert (run / "scores.csv").read_bytes() == scores
    assert main(["evaluate", str(run), "--data", digits_data, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["auroc"] == cell["auroc"]
    make_image(0, (28, 28), "L").save(tmp_path / "mine.png")
    assert main(["explain", str(run), str(tmp_path / "mine.png"), "--out", str(tmp_path / "out")]) == 0
    assert "mine.png" in (tmp_path / "out/scores.csv").read_text()
    assert main(searching(digits_data, str(tmp_path), tmp_path)) == 0
    assert tables(tmp_path / "a") == tables(undisturbed)


def test_trials_with_workers_of_their_own_leave_nothing_behind(undisturbed, digits_data, tmp_path, capsys):
    """Three sweeps of four trials; of the first, the process that drives a trial's workers is killed."""
    killed: list[int] = []

    def kill() -> None:
        while not killed:
            lines = processes_below(os.getpid())
            if any(line.startswith("ray::RayTrainWorker") for line in lines.values()):
                killed.extend(pid for pid, line in lines.items() if line.startswith(TRIAL))
                os.kill(killed[0], signal.SIGKILL)
            time.sleep(0.1)

    threading.Thread(target=kill, daemon=True).start()
    for name in ("first", "second", "third"):
        assert nested_sweep(digits_data, tmp_path, name) == 0
        assert left() == {}
        assert killed
        assert tables(tmp_path / name) == tables(tmp_path / "first")
    search = table(tmp_path / "first")["search"]
    assert search["rungs"] == [1, 2]
    assert [setting["state"] for setting in search["settings"]] == ["stopped", "done"]
    assert f"{search['settings'][0]['cells'][0]['trial'][7:]}: its process died" in capsys.readouterr().err
    compared = 0
    for path in (tmp_path / "first/trials").iterdir():
        alone = undisturbed / "trials" / path.name
        if alone.exists():
            compared += 1
            ours, theirs = (json.loads((run / "metrics.jsonl").read_text().splitlines()[0]) for run in (path, alone))
            assert ours["holdout_loss"] == pytest.approx(theirs["holdout_loss"], abs=1e-3)
            assert ours["loss"] == pytest.approx(theirs["loss"], abs=1e-3)
    assert compared == 2


def test_a_folder_of_one_machine_is_refused_where_trials_are_on_several(digits_data, tmp_path):
    script = """
import sys
from ray.cluster_utils import Cluster
from fcdd_dist.cli import main
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
cluster.add_node(num_cpus=1)
code = main([*sys.argv[1:], "--address", cluster.address])
cluster.shutdown()
sys.exit(code)
"""
    done = subprocess.run([sys.executable, "-c", script, *command(digits_data, str(tmp_path))], capture_output=True,
                          text=True, timeout=WITHIN_S, check=False, env=without_ray())
    assert done.returncode == 2, done.stderr
    assert "is a folder of one machine and the cluster has 2 nodes" in done.stderr.splitlines()[-1]
    assert not (tmp_path / "a" / "sweep.json").exists()  # what is refused leaves no sweep behind
