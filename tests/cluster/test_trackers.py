"""Trackers: what arrives at MLflow and W&B, that a resume doubles nothing, and that nothing delays or ends a sweep."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time

import pytest

from fcdd_dist.cluster.trackers import TRACKERS, open_trackers
from fcdd_dist.cluster.trackers.beside import Beside, told
from fcdd_dist.cluster.trackers.identity import identity
from fcdd_dist.errors import BadInput

FIXED = {"class": "Trouser", "seed": 0, "optimizer.lr": 0.1, "network.filters": None}
PARAMETERS = {**FIXED, "epochs": 2}
MORE = {**FIXED, "epochs": 3}
SESSION = """
import json, sys
from fcdd_dist.cluster.trackers import open_trackers
(tracker,) = open_trackers([sys.argv[1]], "fmnist", lambda line: print(line, flush=True))
for call, *arguments in json.loads(sys.argv[2]):
    getattr(tracker, call)(*arguments)
tracker.close()
"""


def lines(first: int, last: int) -> list[dict]:
    return [{"epoch": epoch, "loss": 1 / epoch, "loss_anomalous": None} for epoch in range(first, last + 1)]


def session(name: str, calls: list, folder, **environment: str) -> tuple[list[str], float]:
    """What is said in a process that tells a tracker of ``calls``, and how many seconds it took."""
    began = time.monotonic()
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("MLFLOW_", "WANDB_"))}
    done = subprocess.run([sys.executable, "-c", SESSION, name, json.dumps(calls)], capture_output=True, text=True,
                          check=False, cwd=folder, env={**clean, "HOME": str(folder), **environment})
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines(), time.monotonic() - began


KILLED = [["start", "trouser-s0", PARAMETERS], ["start", "trouser-s1", {**PARAMETERS, "seed": 1}],
          ["epochs", "trouser-s0", lines(1, 2)], ["epochs", "trouser-s1", lines(1, 1)],
          ["finish", "trouser-s1", "failed", {}, "the loss of epoch 2 is not finite"],
          ["finish", "trouser-s0", "unfinished", {}, None]]
RESUMED = [["start", "trouser-s0", MORE], ["epochs", "trouser-s0", lines(1, 2)],
           ["epochs", "trouser-s0", lines(3, 3)],
           ["finish", "trouser-s0", "done", {"auroc": 0.75, "average_precision": None}, None]]


# The real ones

@pytest.mark.slow
def test_mlflow_has_each_trial_as_one_run_and_each_epoch_once(tmp_path):
    pytest.importorskip("mlflow")
    where = {"MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/tracked.db"}
    assert session("mlflow", KILLED, tmp_path, **where)[0] == ["MLflow: experiment fmnist"]
    first, second = _mlflow_runs(tmp_path, where)
    assert (first["name"], first["status"], first["losses"]) == ("trouser-s0", "KILLED", [[1, 1.0], [2, 0.5]])
    assert (second["name"], second["status"]) == ("trouser-s1", "FAILED")
    assert second["tags"]["fcdd.reason"] == "the loss of epoch 2 is not finite"
    assert first["parameters"] == {name: str(value) for name, value in FIXED.items()}
    for _ in range(2):  # and once more, when all is done
        session("mlflow", RESUMED, tmp_path, **where)
        again, other = _mlflow_runs(tmp_path, where)
        assert (again["id"], other) == (first["id"], second)
        assert (first["tags"]["fcdd.epochs"], again["tags"]["fcdd.epochs"]) == ("2", "3")
        assert (again["status"], again["losses"]) == ("FINISHED", [[1, 1.0], [2, 0.5], [3, 1 / 3]])
        assert again["metrics"] == {"epoch": 3, "loss": 1 / 3, "auroc": 0.75}


def _mlflow_runs(folder, where: dict) -> list[dict]:
    code = """
import json
from mlflow import MlflowClient
client = MlflowClient()
runs = client.search_runs([client.get_experiment_by_name("fmnist").experiment_id])
print(json.dumps(sorted(({
    "name": run.info.run_name, "id": run.info.run_id, "status": run.info.status, "metrics": run.data.metrics,
    "parameters": run.data.params, "tags": run.data.tags,
    "losses": [[one.step, one.value] for one in client.get_metric_history(run.info.run_id, "loss")],
} for run in runs), key=lambda run: run["name"])))
"""
    return json.loads(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True,
                                     cwd=folder, env={**os.environ, **where}).stdout)


@pytest.mark.slow
def test_wandb_has_each_trial_under_one_id(tmp_path):
    pytest.importorskip("wandb")
    where = {"WANDB_MODE": "offline", "WANDB_DIR": str(tmp_path)}
    said, _ = session("wandb", KILLED, tmp_path, **where)
    assert said == ["W&B: project fcdd_dist, group fmnist, offline: `wandb sync` sends it"]
    session("wandb", RESUMED, tmp_path, **where)
    key = identity("fmnist", "trouser-s0", PARAMETERS)
    first, resumed = sorted(tmp_path.glob(f"wandb/offline-run-*-{key}*/run-{key}.wandb"))
    assert len(list(tmp_path.glob("wandb/offline-run-*"))) == 3
    assert [_wandb_epochs(one) for one in (first, resumed)] == [[1, 2], [1, 2, 3]]
    (run,) = _wandb_records(resumed, "run")
    assert (run.run_id, run.display_name, run.run_group, run.project) == (key, "trouser-s0", "fmnist", "fcdd_dist")
    config = {item.key or item.nested_key[0]: json.loads(item.value_json) for item in run.config.update}
    assert MORE.items() <= config.items()
    assert [exit.exit_code for exit in _wandb_records(first, "exit")] == [1]
    assert [exit.exit_code for exit in _wandb_records(resumed, "exit")] == [0]
    assert not list(tmp_path.glob("wandb/offline-run-*/files/*"))  # nothing of this machine


def _wandb_epochs(path) -> list[int]:
    return [json.loads(item.value_json) for record in _wandb_records(path, "history") for item in record.item
            if (item.key or item.nested_key[0]) == "epoch"]


def _wandb_records(path, kind: str) -> list:
    """By the format of these files: a header of 7 bytes, and records of crc (4 bytes), length (2), type (1), data."""
    from wandb.proto.wandb_internal_pb2 import Record

    data, at, records = path.read_bytes(), 7, []
    assert len(data) < 32768, "longer files have blocks"
    while at < len(data):
        size = int.from_bytes(data[at + 4:at + 6], "little")
        record = Record.FromString(data[at + 7:at + 7 + size])
        if record.WhichOneof("record_type") == kind:
            records.append(getattr(record, kind))
        at += 7 + size
    return records


@pytest.mark.slow
@pytest.mark.parametrize(("name", "address"), [
    ("mlflow", {"MLFLOW_TRACKING_URI": "http://me:secret@127.0.0.1:9"}),
    ("wandb", {"WANDB_BASE_URL": "http://127.0.0.1:9", "WANDB_API_KEY": "0123456789" * 4})])
def test_a_server_that_is_not_there_is_said_once(tmp_path, name, address):
    pytest.importorskip(name)
    said, took = session(name, KILLED, tmp_path, **address)
    assert took < 60
    assert len(said) == 2
    assert "off from here on, " in said[1]
    assert "127.0.0.1" in said[1]
    assert "secret" not in said[1]


@pytest.mark.slow
def test_a_server_that_does_not_answer_is_waited_for_no_longer_than_that(tmp_path):
    pytest.importorskip("mlflow")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        said, took = session("mlflow", KILLED, tmp_path,
                             MLFLOW_TRACKING_URI=f"http://127.0.0.1:{silent.getsockname()[1]}")
    assert said[1:] == ["MLflow: off from here on, 6 messages not sent: it has not answered in 30 s"]
    assert took < 60


@pytest.mark.slow
@pytest.mark.parametrize(("name", "environment", "wanted"), [
    ("mlflow", {"MLFLOW_TRACKING_URI": "nowhere://x"}, "nowhere"),
    ("wandb", {"WANDB_MODE": "online", "NETRC": "/dev/null"}, "nobody is logged in to W&B: run `wandb login`")])
def test_what_is_not_set_up_is_refused_before_anything_starts(tmp_path, name, environment, wanted):
    pytest.importorskip(name)
    with pytest.raises(AssertionError, match=f"BadInput: --track {name}: .*{wanted}"):
        session(name, [], tmp_path, **environment)


@pytest.mark.parametrize(("name", "title"), [("mlflow", "MLflow"), ("wandb", "W&B")])
def test_what_is_not_installed_is_refused(monkeypatch, name, title):
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(BadInput, match=rf"--track {name} needs {title}: pip install 'fcdd_dist\[{name}\]'"):
        open_trackers([name], "fmnist", print)


def test_an_unknown_one_is_refused():
    with pytest.raises(BadInput, match=r"no such tracker \(did you mean 'mlflow'\?\); there are mlflow, wandb"):
        open_trackers(["mlfow"], "fmnist", print)
    assert open_trackers([], "fmnist", print) == []
    assert set(TRACKERS) == {"mlflow", "wandb"}


# Beside the sweep

class Slow:
    """Holds everything up until ``goes_on``; fails at the epoch ``fails``."""

    def __init__(self, fails: int = 0) -> None:
        self.told, self.goes_on, self.fails = [], threading.Event(), fails

    def start(self, trial, parameters):
        assert self.goes_on.wait(30)
        self.told.append(("start", trial))

    def epochs(self, trial, lines):
        if lines[0]["epoch"] == self.fails:
            raise ConnectionError("no route to\nhttp://me:secret@tracker/api")
        self.told.append(("epochs", trial, lines[0]["epoch"]))

    def finish(self, trial, state, figures, reason):
        self.told.append(("finish", trial, state))

    def close(self):
        self.told.append("close")


def test_the_order_is_kept_and_nobody_waits():
    slow, said = Slow(), []
    beside = Beside(slow, "Slow", said.append)
    began = time.monotonic()
    for trial in "ab":
        beside.start(trial, {})
        beside.epochs(trial, lines(1, 1))
        beside.finish(trial, "done", {}, None)
    assert time.monotonic() - began < 1
    assert slow.told == []
    slow.goes_on.set()
    beside.close()
    assert slow.told == [call for trial in "ab" for call in (("start", trial), ("epochs", trial, 1),
                                                             ("finish", trial, "done"))] + ["close"]
    assert said == []


def test_what_fails_is_said_once_and_told_nothing_any_more():
    slow, said = Slow(fails=2), []
    beside = Beside(slow, "Slow", said.append)
    beside.start("a", {})
    for epoch in range(1, 6):
        beside.epochs("a", lines(epoch, epoch))
    slow.goes_on.set()
    beside.close()
    beside.epochs("a", lines(6, 6))
    beside.close()
    assert said == ["Slow: off from here on, 4 messages not sent: no route to http://tracker/api"]
    assert slow.told == [("start", "a"), ("epochs", "a", 1)]


def test_what_falls_behind_is_left_behind():
    slow, said = Slow(), []
    beside = Beside(slow, "Slow", said.append, waiting=3)
    beside.start("a", {})
    for epoch in range(1, 9):
        beside.epochs("a", lines(epoch, epoch))
    assert said[0].startswith("Slow: off from here on, ")
    assert said[0].endswith(" messages not sent: it is too slow")
    slow.goes_on.set()
    beside.close()
    assert len(said) == 1


def test_the_end_waits_no_longer_than_it_should():
    slow, said = Slow(), []
    beside = Beside(slow, "Slow", said.append, close_s=0.2)
    beside.start("a", {})
    beside.epochs("a", lines(1, 1))
    beside.close()
    assert said == ["Slow: off from here on, 2 messages not sent: it has not answered in 0 s"]
    slow.goes_on.set()


def test_what_a_library_says_is_one_line():
    assert told(ValueError()) == "ValueError"
    assert told(OSError("postgresql://me:secret@host/db\n is gone")) == "postgresql://host/db is gone"
    assert len(told(ValueError("long " * 1000))) == 240


def test_other_settings_are_another_run():
    one = identity("fmnist", "trouser-s0", PARAMETERS)
    assert one == identity("fmnist", "trouser-s0", dict(reversed(MORE.items())))
    assert len({one, identity("other", "trouser-s0", PARAMETERS), identity("fmnist", "trouser-s1", PARAMETERS),
                identity("fmnist", "trouser-s0", {**PARAMETERS, "optimizer.lr": 0.2})}) == 4
