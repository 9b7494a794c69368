"""Sharding by Ray tasks: the same bytes as in one process, whoever is killed in between."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

from fcdd_dist.cluster.shard import RayTasks
from fcdd_dist.data.manifest import load_manifest
from fcdd_dist.data.shards import plan as plans
from fcdd_dist.data.shards.write import shard
from fcdd_dist.errors import BadInput
from fcdd_dist.experiment import Form
from fcdd_dist.storage import FolderStore, MemoryStore, open_store

pytestmark = pytest.mark.ray
FORM = "jpeg90-64-rgb"


@pytest.fixture(scope="module")
def raw(tmp_path_factory, make_image):
    """Twelve classes, and 640 exposure images in 16 folders; large enough that a task takes a while."""
    root = tmp_path_factory.mktemp("raw")
    pictures = [make_image(seed, (500, 375)) for seed in range(40)]

    def fill(folder, count, first):
        folder.mkdir(parents=True)
        for number in range(count):
            picture = pictures[(first + number) % len(pictures)].rotate(first + 7 * number)
            picture.save(folder / f"{number:03}.jpg")

    for number in range(12):
        fill(root / f"set/train/c{number:02}", 20, 100 * number)
        fill(root / f"set/test/c{number:02}", 2, 50 + 100 * number)
    for number in range(16):
        fill(root / f"outliers/k{number:02}", 40, 3 + 1000 * number)
    return root


@pytest.fixture(scope="module")
def whole(raw):
    """What one process writes undisturbed; with few images a spill and a bucket."""
    with pytest.MonkeyPatch.context() as patch:
        cut_small(patch)
        store = MemoryStore()
        write(raw, store)
    return contents(store)


def cut_small(patch):
    patch.setattr(plans, "SPILL_SAMPLES", 80)
    patch.setattr(plans, "BUCKET_SAMPLES", 160)


def write(raw, store, **options):
    return shard("folder", str(raw / "set"), store, exposure=str(raw / "outliers"), form=Form.parse(FORM), **options)


def contents(store):
    """But for what a worker leaves that is killed while it finds out what its store can do."""
    return {entry.key: store.read(entry.key) for entry in store.list() if not entry.key.startswith(".probe-")}


def a_worker_at_work():
    """The process id of one of this process's Ray workers that does a task just now."""
    import psutil

    while True:
        for process in psutil.Process().children(recursive=True):
            if process.name().startswith("ray::_work"):
                return process.pid
        time.sleep(0.01)


@pytest.mark.s3
def test_a_worker_is_killed(raw, whole, monkeypatch, bucket):
    cut_small(monkeypatch)
    url, killed, said = f"{bucket.url}/data", [], []
    with RayTasks(2, None, said.append) as tasks:

        def runner(plan, todo, out):
            for pair in tasks(plan, todo, out):
                if len(killed) < 2:
                    killed.append(a_worker_at_work())
                    os.kill(killed[-1], signal.SIGKILL)
                yield pair

        write(raw, open_store(url), runner=runner)
    assert contents(open_store(url)) == whole
    assert len(killed) == 2
    assert "2 workers on 1 node" in said


def test_the_driver_is_killed_and_interrupted(raw, tmp_path, monkeypatch):
    out = tmp_path / "data"
    command = [sys.executable, "-m", "fcdd_dist.cli", "shard", "folder", "--source", str(raw / "set"), "--exposure",
               str(raw / "outliers"), "--form", FORM, "--out", str(out)]
    for number, after in ((signal.SIGKILL, 2), (signal.SIGINT, 5)):
        said = tmp_path / number.name
        with said.open("w") as stderr, subprocess.Popen([*command, "--workers", "2"], stderr=stderr) as process:
            deadline = time.monotonic() + 60
            # Workers of a killed driver finish what they hold: their records say nothing of the next driver.
            while "2 workers on" not in said.read_text() or len(list(out.glob("unfinished/nominal-*.json"))) < after:
                assert time.monotonic() < deadline
                assert process.poll() is None, said.read_text()
                time.sleep(0.005)
            process.send_signal(number)
            process.wait(timeout=60)
        assert not (out / "manifest.json").exists()
        if number == signal.SIGINT:
            assert process.returncode == 130
            assert said.read_text().splitlines()[-1].endswith(
                "stopped by SIGINT; what is finished stands, and the same command goes on from there")
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "going on with what is there" in done.stderr  # here in one process
    store = MemoryStore()
    write(raw, store)
    assert contents(FolderStore(out)) == contents(store)
    assert f"{len(load_manifest(store).classes)} classes, stored as {FORM}" in done.stdout


def test_what_a_task_raises_is_one_line_and_memory_can_not_be_shared(raw, tmp_path, monkeypatch):
    broken = tmp_path / "outliers/k"
    broken.mkdir(parents=True)
    for number in range(5):
        (broken / f"{number}.jpg").write_bytes(b"\xff\xd8\xff broken")
    with RayTasks(1, None, [].append) as tasks:
        with pytest.raises(BadInput, match=r"more than 3 of the 5 exposure images can't be used: 'k/0\.jpg'") as caught:
            shard("folder", str(raw / "set"), FolderStore(tmp_path / "data"), exposure=str(tmp_path / "outliers"),
                  form=Form.parse(FORM), runner=tasks)
        assert "\n" not in str(caught.value)
        with pytest.raises(BadInput, match="can't write into the memory of this process"):
            write(raw, MemoryStore(), runner=tasks)
