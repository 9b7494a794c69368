"""pull: whole and verified, or not under its name; broken off and gone on with; nothing of others touched."""

from __future__ import annotations

import errno
import hashlib
import itertools
import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from random import Random

import pytest

from fcdd_dist import Detector, checkpoint
from fcdd_dist.checkpoint import DETECTOR, OPTIMIZER, Record, write
from fcdd_dist.data.manifest import load_manifest
from fcdd_dist.errors import BadInput, Conflict, Damaged, Fault, NotFound
from fcdd_dist.inventory import fetch, unit
from fcdd_dist.inventory.marker import Marker
from fcdd_dist.inventory.pull import pull, summary
from fcdd_dist.storage import Entry, FolderStore, MemoryStore
from tests.inventory.places import a_checkpoint, a_run, a_sweep, copy, files

ROOT = Path(__file__).parents[2]
RUN_FILES = {"experiment.json", "result.json", "metrics.jsonl", "scores.csv", "empty.txt", "heatmaps/by score ä.png"}
CHECKPOINT = {"checkpoint.json", "detector.safetensors", "optimizer.safetensors"}


def checkpoint_files(*epochs):
    return {f"checkpoints/epoch-{epoch:06d}/{file}" for epoch in epochs for file in CHECKPOINT}


@pytest.fixture
def run(tmp_path):
    return a_run(FolderStore(tmp_path / "runs" / "three"))


@pytest.fixture
def into(tmp_path):
    return tmp_path / "copy"


@pytest.fixture
def small_pieces(monkeypatch):
    monkeypatch.setattr(fetch, "PIECE", 1000)


def test_a_run_is_copied_without_what_belongs_to_its_driver(run, into, small_pieces):
    said, shown = [], []
    result = pull(run.url, str(into), say=said.append, live=shown.append)
    assert set(files(into)) == RUN_FILES | checkpoint_files(1, 2)
    assert all(data == run.read(key) for key, data in files(into).items())
    assert Detector.load(str(into)).record.cursor.epoch == 2
    assert result["kind"] == "run"
    assert result["files"] == len(files(into))
    assert result["bytes"] == sum(map(len, files(into).values()))
    assert result["left_out"] == said == []
    assert shown[-1].startswith(f"{result['files']} of {result['files']} files  ")
    assert str(into) in "\n".join(summary(result))


def test_again_fetches_what_is_new_and_what_was_altered(run, into):
    pull(run.url, str(into))
    assert pull(run.url, str(into))["fetched"] == 0
    a_checkpoint(run, 3, 0.1, fingerprint="f" * 16)
    (into / "checkpoints/epoch-000001/detector.safetensors").write_bytes(
        b"x" * run.size("checkpoints/epoch-000001/detector.safetensors"))
    result = pull(run.url, str(into))
    assert result["fetched"] == sum(run.size(f"checkpoints/{key}") for key in (
        "epoch-000001/detector.safetensors", "epoch-000003/detector.safetensors",
        "epoch-000003/optimizer.safetensors"))
    assert all(data == run.read(key) for key, data in files(into).items())


@pytest.mark.parametrize(("word", "epoch"), [("best", 1), ("last", 2), ("checkpoints/epoch-000001", 1)])
def test_one_checkpoint(tmp_path, into, word, epoch):
    run = a_run(FolderStore(tmp_path / "run"), losses=(0.1, 0.2))
    assert pull(f"{run.url}/{word}", str(into))["kind"] == "checkpoint"
    assert set(files(into)) == CHECKPOINT
    assert Detector.load(str(into)).record.cursor.epoch == epoch


def test_a_later_last_takes_the_place_of_an_earlier_one_and_a_named_checkpoint_does_not(run, into):
    pull(f"{run.url}/last", str(into))
    a_checkpoint(run, 3, 0.1, fingerprint="f" * 16)
    with pytest.raises(Conflict, match="another checkpoint"):
        pull(f"{run.url}/checkpoints/epoch-000003", str(into))
    assert Detector.load(str(into)).record.cursor.epoch == 2
    pull(f"{run.url}/last", str(into))
    assert Detector.load(str(into)).record.cursor.epoch == 3


def test_only_some_checkpoints_of_a_run(tmp_path, into):
    run = a_run(FolderStore(tmp_path / "run"), losses=(0.1, 0.2))
    pull(run.url, str(into), which="best")
    assert set(files(into)) == RUN_FILES | checkpoint_files(1)
    pull(run.url, str(into), which="last")
    assert set(files(into)) == RUN_FILES | checkpoint_files(1, 2)


def test_a_run_in_training_is_taken_as_far_as_it_is_committed(run, into):
    run.delete("result.json")
    run.delete("checkpoints/epoch-000002/checkpoint.json")
    said = []
    pull(run.url, str(into), say=said.append)
    assert set(files(into)) == RUN_FILES - {"result.json"} | checkpoint_files(1)
    (line,) = said
    assert "epoch-000002" in line
    assert "no checkpoint.json" in line


def test_a_data_set_with_its_exposure_set(tiny_data, into):
    pull(tiny_data.url, str(into))
    assert files(into) == files(tiny_data.root)
    assert load_manifest(FolderStore(into)) == load_manifest(tiny_data)


def test_a_sweep_and_what_holds_several_runs(tmp_path, into):
    for number in (0, 1):
        a_run(FolderStore(tmp_path / f"all/sweep/trials/{number}"), fingerprint=f"{number}" * 16)
    top = FolderStore(tmp_path / "all")
    top.write("sweep/sweep.json", b'{"schema_version": 1}')
    top.write("sweep/table.csv", b"trial,auroc\n")
    top.write("sweep/trials/2/lease.json", b"{}")
    top.write("notes.txt", b"of somebody")
    said = []
    assert pull(f"{top.url}/sweep", str(into))["kind"] == "sweep"
    wanted = {f"trials/{n}/{key}" for n in (0, 1) for key in RUN_FILES | checkpoint_files(1, 2)}
    assert wanted | {"sweep.json", "table.csv"} == set(files(into))
    assert pull(top.url, str(into.with_name("copies")), say=said.append)["kind"] == "sweeps"
    assert set(files(into.with_name("copies"))) == {f"sweep/{key}" for key in files(into)}
    assert "notes.txt" in said[0]
    pull(f"{top.url}/sweep/trials", str(into.with_name("trials")))
    assert {f"trials/{key}" for key in files(into.with_name("trials"))} == wanted


SWEEP_FILES = {"sweep.json", "table.json", "table.csv", "table.md", "report.html"}


def test_a_sweep_is_whole_when_its_records_are_there_however_often_it_broke_off(harmful, into):
    sweep = a_sweep(harmful.at("all"), done=3)
    breaks = 0
    while True:
        harmful.reads = 20 + breaks  # of which 11 are of records
        try:
            assert pull("bad:all", str(into))["kind"] == "sweep"
            break
        except Fault:
            breaks += 1
        assert not (into / "sweep.json").exists()
        assert not (into / "table.json").exists()
    assert breaks > 1
    harmful.reads = float("inf")
    kept = {entry.key for entry in sweep.list() if not re.search(r"lease|board|\.ray", entry.key)}
    assert set(files(into)) == kept
    assert kept > SWEEP_FILES
    assert all(data == sweep.read(key) for key, data in files(into).items())
    assert pull("bad:all", str(into))["fetched"] == 0


def test_a_copy_of_a_sweep_grows_with_it_and_takes_no_other(tmp_path, into):
    sweep = a_sweep(FolderStore(tmp_path / "all"), seeds=1, done=1)
    pull(sweep.url, str(into))
    a_sweep(sweep)
    pull(sweep.url, str(into))
    assert json.loads((into / "table.json").read_bytes())["complete"]
    assert (into / "trials/1-s1/result.json").exists()
    other = a_sweep(FolderStore(tmp_path / "other"), done=0)
    other.write("sweep.json", other.read("sweep.json").replace(b"holdout", b"paper"))
    with pytest.raises(Conflict, match="holds another sweep than"):
        pull(other.url, str(into))
    other.write("sweep.json", b'{"schema')
    with pytest.raises(Damaged, match=r"sweep\.json is damaged: it is no JSON that we write$"):
        pull(other.url, str(into.with_name("copies")))


def test_one_trial_of_a_sweep(tmp_path, into):
    sweep = a_sweep(FolderStore(tmp_path / "all"), done=3)
    assert pull(f"{sweep.url}/trials/1-s0", str(into))["kind"] == "run"
    assert set(files(into)) == RUN_FILES | checkpoint_files(1, 2)
    pull(f"{sweep.url}/trials/1-s0/best", str(into.with_name("best")))
    assert set(files(into.with_name("best"))) == CHECKPOINT


def test_a_broken_download_goes_on(harmful, tiny_data, into, small_pieces):
    copy(tiny_data, harmful)
    size = sum(entry.size for entry in harmful.list())
    harmful.reads = size // 2000
    with pytest.raises(Fault, match="does not answer"):
        pull("bad:", str(into))
    there = files(into)
    assert "manifest.json" not in there
    assert all(tiny_data.read(key) == data for key, data in there.items() if not key.startswith(".part-"))
    assert any(key.startswith(".part-pull-") for key in there)
    harmful.reads = float("inf")
    result = pull("bad:", str(into))
    assert files(into) == files(tiny_data.root)
    assert size * 0.3 < result["already"] < size * 0.6
    assert result["fetched"] + result["already"] < size + 10_000


def test_a_part_is_the_beginning_of_its_object_whenever_it_breaks(harmful, into, small_pieces):
    run = a_run(MemoryStore())
    copy(run, harmful)
    key = "checkpoints/epoch-000001/detector.safetensors"
    for reads in range(3, 30, 3):
        harmful.reads = reads
        with pytest.raises(Fault, match="does not answer"):
            pull("bad:checkpoints/epoch-000001", str(into))
        parts = [data for name, data in files(into).items() if name.startswith(".part-pull-")]
        other = "checkpoints/epoch-000001/optimizer.safetensors"
        assert all(run.read(key).startswith(part) or run.read(other).startswith(part) for part in parts)
        assert "checkpoint.json" not in files(into)
        assert parts or reads < 20
        shutil.rmtree(into, ignore_errors=True)


def test_a_read_that_was_wrong_once_is_made_good(harmful, tiny_data, into):
    copy(tiny_data, harmful)
    harmful.flip["train/1/000000.tar"] = 1
    pull("bad:", str(into))
    assert files(into) == files(tiny_data.root)


def test_a_damaged_shard_is_named_and_never_under_its_name(harmful, tiny_data, into):
    copy(tiny_data, harmful)
    harmful.flip["train/1/000000.tar"] = 99
    with pytest.raises(Damaged, match=r"bad:/train/1/000000\.tar does not verify: its SHA-256"):
        pull("bad:", str(into))
    there = {key for key in files(into) if not key.startswith(".part-")}
    wanted = set(files(tiny_data.root)) - {"train/1/000000.tar", "manifest.json"}
    assert there <= wanted
    assert "exposure/manifest.json" in there
    harmful.flip.clear()
    pull("bad:", str(into))
    assert files(into) == files(tiny_data.root)


def test_what_else_a_run_holds_is_pulled_beside_a_damaged_checkpoint(harmful, into):
    copy(a_run(MemoryStore()), harmful)
    harmful.flip["checkpoints/epoch-000002/detector.safetensors"] = 99
    with pytest.raises(Damaged, match=r"epoch-000002/detector\.safetensors"):
        pull("bad:", str(into))
    assert Detector.load(str(into)).record.cursor.epoch == 1
    assert "result.json" in files(into)
    assert "checkpoints/epoch-000002/checkpoint.json" not in files(into)


def test_a_damaged_record_is_refused_before_anything_is_written(run, into):
    run.write("checkpoints/epoch-000002/checkpoint.json", b'{"files": {"../../../evil": ')
    with pytest.raises(Damaged, match=r"epoch-000002/checkpoint.json is damaged"):
        pull(f"{run.url}/checkpoints/epoch-000002", str(into))
    assert not into.exists()


def test_records_come_last(harmful, into, monkeypatch):
    copy(a_run(MemoryStore()), harmful)
    order = []
    rename = unit.rename

    def note(part, target):
        order.append(target.relative_to(into).as_posix())
        rename(part, target)

    for module in (fetch, unit):
        monkeypatch.setattr(module, "rename", note)
    pull("bad:", str(into))
    assert order[-2:] == ["result.json", "experiment.json"]
    for name in ("epoch-000001", "epoch-000002"):
        mine = [key for key in order if key.startswith(f"checkpoints/{name}/")]
        assert mine[-1] == f"checkpoints/{name}/checkpoint.json"
        assert len(mine) == 3


def test_an_old_result_never_stands_beside_new_files(harmful, into):
    source = a_run(MemoryStore())
    copy(source, harmful)
    pull("bad:", str(into))
    a_run(source, epochs=(3, 4), of=4, auroc=0.5)
    source.write("scores.csv", b"path,class,label,score,flagged\nnew\n")
    copy(source, harmful)
    harmful.flip["checkpoints/epoch-000004/detector.safetensors"] = 0
    for reads in range(10, 60, 4):  # broken anywhere, it is the old copy or the new one
        harmful.reads = reads
        try:
            pull("bad:", str(into))
        except Fault:
            result, scores = json.loads((into / "result.json").read_bytes()), (into / "scores.csv").read_bytes()
            assert (result["auroc"] == 0.5) == (b"new" in scores)
        else:
            break
    assert json.loads((into / "result.json").read_bytes())["auroc"] == 0.5


@pytest.mark.parametrize("gone", ["checkpoints/epoch-000001/detector.safetensors", "heatmaps/by score ä.png"])
def test_what_vanishes_is_looked_for_again(harmful, into, gone):
    """Retention removes a checkpoint in the middle of the copy."""
    copy(a_run(MemoryStore()), harmful)
    harmful.gone = {gone}
    looks = []
    list_ = harmful.list

    def once(prefix=""):
        looks.append(prefix)
        if looks.count("") == 2:
            for entry in list(list_(gone.rpartition("/")[0] + "/")):
                harmful.delete(entry.key)
        return list_(prefix)

    harmful.list = once
    said = []
    pull("bad:", str(into), say=said.append)
    assert set(files(into)) == {entry.key for entry in list_() if not entry.key.startswith((".ray", "lease", "board"))}
    assert "looking again" in said[0]


def test_what_vanishes_twice_is_left_out(harmful, into):
    copy(a_run(MemoryStore()), harmful)
    harmful.gone = {"checkpoints/epoch-000001/detector.safetensors"}
    result = pull("bad:", str(into))
    assert set(files(into)) == RUN_FILES | checkpoint_files(2)
    assert "epoch-000001/detector.safetensors is gone" in result["left_out"][0]


@pytest.mark.parametrize("what", ["run", "data", "file", "files", "pull"])
def test_a_folder_that_holds_something_else_is_refused(run, tiny_data, tmp_path, into, what):
    if what == "run":
        pull(a_run(FolderStore(tmp_path / "other"), fingerprint="0" * 16).url, str(into))
    elif what == "data":
        pull(tiny_data.url, str(into))
    elif what == "file":
        into.write_bytes(b"mine")
    elif what == "files":
        FolderStore(into).write("mine/thesis.txt", b"mine")
    else:
        into.mkdir()
        (into / ".part-pull.json").write_text('{"what": "run 1", "url": "/else"}')
    before = files(into) if into.is_dir() else into.read_bytes()
    with pytest.raises(Conflict, match=str(into)):
        pull(run.url, str(into))
    assert (files(into) if into.is_dir() else into.read_bytes()) == before


def test_source_and_copy_do_not_overlap(run, tmp_path):
    for folder in (run.root, run.root / "in", tmp_path / "runs"):
        with pytest.raises(BadInput, match="within each other"):
            pull(run.url, str(folder))


def test_two_pulls_do_not_fill_one_folder(run, into):
    import fcntl

    into.mkdir()
    with (into / ".part-pull.json").open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(Conflict, match="another pull just now"):
            pull(run.url, str(into))
    pull(run.url, str(into))


@pytest.mark.parametrize("key", ["../evil", "/etc/evil", "a/../../evil", "a//b", "a/\0b"])
def test_keys_that_lead_out_are_refused(harmful, into, key):
    copy(a_run(MemoryStore()), harmful)
    harmful.listed = [Entry(key, 4, 1.0)]
    with pytest.raises(Damaged, match="no path below"):
        pull("bad:", str(into))
    assert not into.exists()


@pytest.mark.parametrize(("keys", "why"), [(["a", "a/b"], "objects below it"), (["ä" * 200], "too long")])
def test_keys_that_can_not_be_files_are_refused(harmful, into, keys, why):
    copy(a_run(MemoryStore()), harmful)
    for key in keys:
        harmful.write(key, b"1")
    with pytest.raises(BadInput, match=why):
        pull("bad:", str(into))
    assert not into.exists()


def test_records_do_not_reach_beyond_their_folder(run, into):
    path = run.root / "checkpoints/epoch-000001/checkpoint.json"
    tree = json.loads(path.read_bytes())
    tree["files"]["../../../evil"] = tree["files"]["detector.safetensors"]
    path.write_text(json.dumps(tree))
    with pytest.raises(Damaged, match="evil is missing"):
        pull(f"{run.url}/checkpoints/epoch-000001", str(into))


def test_nothing_to_pull_is_not_found(tmp_path, run, into):
    for url in (f"{tmp_path}/nowhere", f"{run.url}/heatmaps"):
        with pytest.raises(NotFound, match="no run, sweep, checkpoint or data set"):
            pull(url, str(into))
    assert not into.exists()


_KILLED = """
import sys, time
from fcdd_dist.inventory import fetch
from fcdd_dist.inventory.pull import pull
from fcdd_dist.storage import FolderStore
fetch.PIECE = 1000
read = FolderStore.read
def slow(self, key, start=0, end=None):
    time.sleep(0.002)
    return read(self, key, start, end)
FolderStore.read = slow
pull(sys.argv[1], sys.argv[2])
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_killed_anywhere_nothing_half_has_its_final_name(tiny_data, into, how):
    process = subprocess.Popen([sys.executable, "-c", _KILLED, tiny_data.url, str(into)], cwd=ROOT,
                               stderr=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(ROOT)})
    deadline = time.monotonic() + 30
    while not list(into.glob("*/*/*.tar")) and time.monotonic() < deadline:
        time.sleep(0.005)
    process.send_signal(how)
    _, told = process.communicate()
    assert process.returncode
    assert how == signal.SIGKILL or b"the same command goes on" in told
    there = files(into)
    assert "manifest.json" not in there
    assert any(key.startswith(".part-pull-") for key in there)
    assert all(tiny_data.read(key) == data for key, data in there.items() if not key.startswith(".part-"))
    assert pull(tiny_data.url, str(into))["already"] > 0
    assert files(into) == files(tiny_data.root)


@pytest.mark.parametrize("size", [7, 900, 5000])
def test_what_was_replaced_by_a_longer_one_since_it_was_listed_arrives_whole(harmful, into, small_pieces, monkeypatch,
                                                                             size):
    copy(a_run(MemoryStore()), harmful)
    harmful.write("scores.csv", b"o" * size)
    start = fetch.Fetcher.start

    def replaced(self):
        harmful.write("scores.csv", b"new" * size)
        start(self)

    monkeypatch.setattr(fetch.Fetcher, "start", replaced)
    result = pull("bad:", str(into))
    assert (into / "scores.csv").read_bytes() == b"new" * size
    assert result["bytes"] == sum(map(len, files(into).values()))


def test_a_record_vouches_for_the_files_that_it_came_with(harmful, into, monkeypatch):
    """The same checkpoint is taken again between two reads of its record."""
    copy(a_run(MemoryStore()), harmful)
    key, read = "checkpoints/epoch-000002/checkpoint.json", harmful.read

    def again(asked, start=0, end=None):
        data = read(asked, start, end)
        if asked == key and harmful.asked.count(key) == 1:
            write(harmful, Record.model_validate_json(data), {
                name: harmful.read(key.replace("checkpoint.json", name))[:-1] + b"?" for name in (DETECTOR, OPTIMIZER)})
        return data

    monkeypatch.setattr(harmful, "read", again)
    pull("bad:", str(into))
    record = json.loads((into / key).read_bytes())
    for name in (DETECTOR, OPTIMIZER):
        data = (into / "checkpoints/epoch-000002" / name).read_bytes()
        assert record["files"][name]["sha256"] == hashlib.sha256(data).hexdigest()


def test_the_best_of_those_that_stay(harmful, into):
    """Retention removes one between listing and reading; the record of another knows no losses."""
    copy(a_run(MemoryStore(), epochs=(1, 2, 3, 4), losses=(0.1, 0.2, 0.3, 0.4), of=4), harmful)
    harmful.gone = {"checkpoints/epoch-000001/checkpoint.json"}
    key = "checkpoints/epoch-000002/checkpoint.json"
    harmful.write(key, json.dumps(json.loads(harmful.read(key)) | {"history": [{"epoch": 2}]}).encode())
    pull("bad:", str(into), which="best")
    assert set(files(into)) == RUN_FILES | checkpoint_files(3)


@pytest.mark.parametrize("key", ["lease.json", "lease/000001.json"])
def test_a_run_of_its_own_is_never_written_over(run, into, key):
    pull(run.url, str(into))
    FolderStore(into).write(key, b"{}")
    a_checkpoint(run, 3, 0.1, fingerprint="f" * 16)
    before = files(into)
    with pytest.raises(Conflict, match=f"was made there and is no copy .{key}"):
        pull(run.url, str(into))
    assert files(into) == before


@pytest.mark.parametrize("times", [1, 2])
def test_what_goes_while_it_is_looked_at_is_looked_for_again(run, into, monkeypatch, times):
    of_run, left = checkpoint.of_run, [None] * times

    def gone(run, which):
        store = of_run(run, which)
        if left:
            left.pop()
            for entry in list(store.list()):
                store.delete(entry.key)
        return store

    monkeypatch.setattr(checkpoint, "of_run", gone)
    if times == 1:
        pull(f"{run.url}/last", str(into))
        assert Detector.load(str(into)).record.cursor.epoch == 1
    else:
        with pytest.raises(NotFound, match="went while it was looked at, twice"):
            pull(f"{run.url}/last", str(into))
        assert not into.exists()


@pytest.mark.parametrize("name", ["metrics.jsonl", "result.json", "heatmaps"])
def test_a_folder_in_the_place_of_a_file_is_named(run, into, name):
    pull(run.url, str(into))
    if name == "heatmaps":
        shutil.rmtree(into / name)
        (into / name).write_bytes(b"")
    else:
        (into / name).unlink()
        (into / name).mkdir()
    with pytest.raises(Conflict, match=rf"{into}/{name} is a (folder|file), and a (file|folder) belongs there"):
        pull(run.url, str(into))


def test_a_full_disk_is_told_in_one_line_wherever_it_strikes(run, into, monkeypatch):
    fsync, told = os.fsync, set()
    for number in range(99):
        calls = itertools.count()

        def full(descriptor, calls=calls, number=number):
            if next(calls) >= number:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            fsync(descriptor)

        monkeypatch.setattr(os, "fsync", full)
        try:
            pull(run.url, str(into))
        except Fault as error:
            told.add(re.fullmatch(rf"can't write {into}/?(.*): No space left on device", str(error))[1])
            shutil.rmtree(into)
        else:
            break
    assert {"experiment.json", "result.json"} <= told
    assert any(name.startswith(".part-pull-") for name in told)
    assert number > 15


def test_a_file_that_is_too_large_for_the_disk_is_told_in_one_line(run, into, small_pieces):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4500, hard))
    try:
        with pytest.raises(Fault, match=rf"can't write {into}/\.part-pull-\w+: File too large"):
            pull(run.url, str(into))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    pull(run.url, str(into))


def test_what_nobody_vouches_for_is_not_fetched_twice_nor_looks_old_before_its_record_is_there(run, into, monkeypatch):
    for entry in run.list():
        os.utime(run.root / entry.key, (1e9, 1e9))
    commit, began = unit.Unit.commit, time.time()

    def broken(self, parts):
        if self.outer is None:
            raise Fault("the lights are out")
        commit(self, parts)

    monkeypatch.setattr(unit.Unit, "commit", broken)
    with pytest.raises(Fault, match="lights"):
        pull(run.url, str(into))
    assert all(path.stat().st_mtime > began - 5 for path in into.rglob("*") if path.is_file())
    (into / "scores.csv").write_bytes(b"x" * run.size("scores.csv"))  # not what was noted
    monkeypatch.undo()
    assert pull(run.url, str(into))["fetched"] == run.size("scores.csv")
    assert (into / "metrics.jsonl").stat().st_mtime == 1e9
    assert all(data == run.read(key) for key, data in files(into).items())
    assert pull(run.url, str(into))["fetched"] == 0


def test_no_record_is_written_where_somebody_tidies_up_meanwhile(run, into, monkeypatch):
    commit, removed = unit.Unit.commit, []

    def tidied(self, parts):
        if self.outer is None and not removed:
            removed.append((into / "scores.csv").unlink())
        commit(self, parts)

    monkeypatch.setattr(unit.Unit, "commit", tidied)
    said = []
    pull(run.url, str(into), say=said.append)
    assert said == [f"{into}/scores.csv is gone while it was copied: looking again"]
    assert all(data == run.read(key) for key, data in files(into).items())
    assert set(files(into)) >= RUN_FILES


class Unsteady(MemoryStore):
    """Gives ranges in bits, late, and now and then not, too short, or wrong."""

    def __init__(self, random: Random, often: float) -> None:
        super().__init__()
        self._random, self._often = random, often

    def pour(self, key, start, end, sink):
        random, dice = self._random, self._random.random()
        time.sleep(random.random() * 0.001)
        if dice < self._often:
            raise random.choice([NotFound, Damaged])("as it happens")
        data = self.read(key, start, end)
        if dice < 2 * self._often:
            data = data[: len(data) // 2]
        elif dice < 3 * self._often:
            data = data[:-1] + b"?"
        while data:
            size = random.randint(1, 60)
            sink(data[:size])
            data = data[size:]


@pytest.mark.parametrize("seeds", [range(20), pytest.param(range(20, 100), marks=pytest.mark.slow)], ids=str)
def test_whatever_goes_wrong_files_are_right_and_bytes_are_counted_once(tmp_path, monkeypatch, seeds):
    monkeypatch.setattr(fetch, "PIECE", 100)
    for seed in seeds:
        random = Random(seed)
        store, folder, units = Unsteady(random, random.choice([0, 0.005, 0.03])), tmp_path / str(seed), []
        for name in ("a", "b/c", "b"):
            units.append(unit.Unit(name, folder / name, [("record", b"x")]))
            for number in range(random.randint(0, 6)):
                store.write(f"{name}/{number}", random.randbytes(random.choice([0, 50, 100, 101, 1000, 5000])))
                (entry,) = store.list(f"{name}/{number}")
                units[-1].files.append(unit.File(entry, random.choice([None, hashlib.sha256(store.read(
                    entry.key)).hexdigest()]), folder / entry.key, units[-1]))
        units[1].outer = units[2]
        with Marker(folder, "what", "url") as marker:
            fetcher = fetch.Fetcher(store, folder, units, marker)
            fetcher.start()
            assert fetcher.wait(20), seed
            fetcher.stop()
        assert fetcher.error is None, seed
        for one in units:
            assert one.complete != one.failed
            assert one.complete == (one.folder / "record").exists()
            for file in one.files:
                assert file.target.exists() or not one.complete
                if file.target.exists() and file.sha256:
                    assert file.target.read_bytes() == store.read(file.entry.key)
        here = [file for one in units for file in one.files if file.target.exists()]
        assert fetcher.files == len(here) + sum(one.complete for one in units)
        assert fetcher.bytes == sum(file.entry.size for file in here) + sum(one.complete for one in units)
        assert fetcher._room._value == fetch._HELD
