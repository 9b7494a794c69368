"""pull, ls and clean as commands: exit codes, what goes to stdout, one line for what is refused."""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
import time

import pytest

from fcdd_dist.cli import main
from fcdd_dist.data.shards.write import shard
from fcdd_dist.storage import FolderStore
from fcdd_dist.storage.lease import Lease
from tests.inventory.places import a_run, files, lease


@pytest.fixture
def run(tmp_path):
    return a_run(FolderStore(tmp_path / "runs" / "three"))


def test_pull_says_what_is_where(capsys, run, tmp_path):
    assert main(["pull", run.url, str(tmp_path / "copy")]) == 0
    out, err = capsys.readouterr()
    assert out.splitlines()[0] == f"run {run.url}"
    assert f"is in {tmp_path}/copy: 12 files, 64.9 kB, verified" in out
    assert "12 of 12 files  0.1 of 0.1 MB" in err
    assert main(["pull", run.url, str(tmp_path / "copy"), "--json"]) == 0
    tree = json.loads(capsys.readouterr().out)
    assert (tree["kind"], tree["files"], tree["fetched"], tree["left_out"]) == ("run", 12, 0, [])


def test_pull_refuses_in_one_line(capsys, run, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_bytes(b"")
    for arguments, wanted in (([run.url, str(tmp_path / "mine")], "holds other files, such as 'thesis.txt'"),
                              ([f"{tmp_path}/none", str(tmp_path / "copy")], "none is no run, sweep, checkpoint"),
                              ([f"{run.url}/lost", str(tmp_path / "copy")], "RUN/best or RUN/last"),
                              (["gopher://x/y", str(tmp_path / "copy")], "gopher")):
        assert main(["pull", *arguments]) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert err.startswith("fcdd-dist: error: ")
        assert err.count("\n") == 1
        assert wanted in err
    assert not (tmp_path / "copy").exists()


def test_pull_interrupted_is_130_and_tells_how_to_go_on(capsys, run, tmp_path, monkeypatch):
    from fcdd_dist.inventory.fetch import Fetcher

    def interrupted(self, seconds):
        raise KeyboardInterrupt

    monkeypatch.setattr(Fetcher, "wait", interrupted)
    assert main(["pull", run.url, str(tmp_path / "copy")]) == 130
    assert "the same command goes on" in capsys.readouterr().err
    monkeypatch.undo()
    assert main(["pull", run.url, str(tmp_path / "copy")]) == 0


def test_damaged_is_1_and_what_verifies_is_there(capsys, run, tmp_path):
    run.write("checkpoints/epoch-000002/optimizer.safetensors", b"x" * run.size(
        "checkpoints/epoch-000002/optimizer.safetensors"))
    assert main(["pull", run.url, str(tmp_path / "copy")]) == 1
    assert "epoch-000002/optimizer.safetensors does not verify" in capsys.readouterr().err
    assert main(["ls", str(tmp_path / "copy")]) == 0
    assert "complete last best" in capsys.readouterr().out


def test_ls_of_runs_and_of_one(capsys, run, tmp_path):
    assert main(["ls", str(tmp_path)]) == 0
    assert "runs/three  digit 0    2/2  0.9876  64.9 kB" in capsys.readouterr().out
    assert main(["ls", run.url, "--json"]) == 0
    assert [one["name"] for one in json.loads(capsys.readouterr().out)["places"]] == [
        "checkpoints/epoch-000001", "checkpoints/epoch-000002"]
    assert main(["ls", str(tmp_path / "none")]) == 2
    assert "there is nothing there" in capsys.readouterr().err


def test_clean_removes_with_yes_alone(capsys, run, tmp_path):
    run.delete("checkpoints/epoch-000002/checkpoint.json")
    run.write("board/said.json", b'{"attempt": 1, "lines": []}')
    before = files(run.root)
    assert main(["clean", str(tmp_path), "--older-than", "0"]) == 0
    assert "nothing was removed: the same with --yes" in capsys.readouterr().out
    assert main(["clean", str(tmp_path), "--yes"]) == 0
    assert "too young" in capsys.readouterr().out
    assert files(run.root) == before
    assert main(["clean", str(tmp_path), "--older-than", "0", "--yes", "--json"]) == 0
    tree = json.loads(capsys.readouterr().out)
    assert tree["removed"]
    assert {one["name"] for one in tree["orphans"]} == {"runs/three/checkpoints/epoch-000002", "runs/three/board/"}
    assert not (run.root / "checkpoints/epoch-000002").exists()


def test_clean_says_whom_it_waits_for(capsys, tmp_path, monkeypatch, fill_folder):
    """A killed sharding on another machine has left its lease."""
    store = FolderStore(tmp_path / "half")
    fill_folder(tmp_path / "outliers/things", 20)
    shard("digits", None, store, classes=["0"], exposure=str(tmp_path / "outliers"))
    store.delete("manifest.json")
    lease(store, {"host": "node-1", "boot": "b", "pid": 7, "started": "1"})
    long_ago = time.time() - 1e6
    for key in files(store.root):
        os.utime(store.root / key, (long_ago, long_ago))
    monkeypatch.setattr(Lease, "acquire", functools.partial(Lease.acquire, good_for=0.3, settle=0.05, poll=0.02))
    assert main(["clean", store.url, "--yes"]) == 0
    out, err = capsys.readouterr()
    assert "removed 4 things" in out
    assert "is held by process 7 on node-1" in err
    assert not [key for key in files(store.root) if not key.startswith("exposure/")]


@pytest.mark.parametrize("hours", ["-1", "soon", "inf", "nan"])
def test_an_age_is_a_number_of_hours(capsys, hours):
    assert main(["clean", "runs", f"--older-than={hours}"]) == 2
    assert f"--older-than: {hours}" in capsys.readouterr().err.replace("'", "")


def test_they_load_nothing_heavy(run, tmp_path):
    code = ("import sys\nfrom fcdd_dist.cli import main\n"
            f"main(['pull', {run.url!r}, {str(tmp_path / 'copy')!r}])\nmain(['ls', {run.url!r}])\n"
            f"main(['clean', {run.url!r}])\n"
            "sys.exit(repr([name for name in ('torch', 'ray', 'boto3', 'matplotlib') if name in sys.modules] or None))")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr.splitlines()[-1] == "None", done.stderr
