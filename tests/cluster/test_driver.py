"""The driver, as far as it goes without Ray: what it asks of storage, where Ray's own state goes, how a run ends."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from fcdd_dist.cluster import local, train, watch, worker
from fcdd_dist.cluster.board import Board
from fcdd_dist.cluster.placement import Placement
from fcdd_dist.cluster.signals import Signals
from fcdd_dist.errors import BadInput, Conflict, Damaged, Fault, Interrupted
from fcdd_dist.recipes import recipe
from fcdd_dist.run import Job, check, claim, prepare
from fcdd_dist.storage import FolderStore, MemoryStore, open_store

FIXED, RANGE = Placement(2, 2), Placement(1, 8)


@pytest.mark.parametrize(("nodes", "loopback", "placement", "url", "beside_the_run"), [
    (1, True, FIXED, "s3://bucket/run", False),
    (1, True, RANGE, "s3://bucket/run", False),  # nobody can join a Ray on loopback
    (1, False, FIXED, "s3://bucket/run", False),
    (1, False, RANGE, "s3://bucket/run", True),
    (2, False, FIXED, "s3://bucket/run", True),
    (1, False, RANGE, "/runs/run", False),
])
def test_rays_own_state_depends_on_the_bucket_only_where_nodes_share_it(monkeypatch, nodes, loopback, placement, url,
                                                                       beside_the_run):
    monkeypatch.setattr(local, "nodes", lambda: nodes)
    monkeypatch.setattr(local, "on_loopback", lambda: loopback)
    place = train._place_of_rays_state(open_store(url), Path("/own"), placement)
    assert place == ("s3://bucket/run/.ray" if beside_the_run else "/own")


@pytest.mark.s3
def test_ray_finds_the_place_beside_a_run_of_any_name(bucket, monkeypatch):
    import pyarrow.fs

    monkeypatch.setattr(local, "nodes", lambda: 2)
    place = train._place_of_rays_state(open_store(f"{bucket.url}/my runs/größe 100%+1"), Path("/own"), FIXED)
    filesystem, path = pyarrow.fs.FileSystem.from_uri(place)  # as Ray does
    with filesystem.open_output_stream(f"{path}/x") as file:
        file.write(b"1")
    assert bucket.list() == ["my runs/größe 100%+1/.ray/x"]


@pytest.mark.s3
def test_a_run_that_may_not_be_written_is_refused_before_anything_starts(bucket, monkeypatch, digits_data):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", bucket.server.reader_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", bucket.server.reader_secret)
    monkeypatch.setattr(local, "session", lambda *arguments: pytest.fail("Ray was started"))
    job = Job(experiment=recipe("digits").experiment("0", 0), data=digits_data, run=f"{bucket.url}/run")
    with pytest.raises(BadInput, match=f"{bucket.url}/run.* may not write there"):
        train.train(job, FIXED, None, pytest.fail)


def test_a_run_that_was_refused_leaves_nothing_that_is_in_the_way(digits_data, tmp_path):
    job = Job(experiment=recipe("digits").experiment("0", 0), data=digits_data, run=str(tmp_path / "run"))
    FolderStore(job.run).write(".probe-0123abcd", b"")  # of a driver that was killed while it looked
    check(prepare(job))


def test_own_folders_go_with_their_context():
    with local.own_folder() as folder:
        (folder / "x").mkdir()
    assert not folder.exists()


def everything_of(run, attempt: int) -> set[str]:
    """Puts all that a driver and its workers may leave beside a run there, and says which keys that are."""
    before = {entry.key for entry in run.list()}
    board = Board(run, attempt)
    board.start()
    board.say("a line")
    board.fail(Damaged("a shard"))
    run.write("stop.json", watch.stop_by(attempt))
    run.write(f".ray/{train._name(attempt)}/state.json", b"{}")
    return {entry.key for entry in run.list()} - before | {"stop.json"}


@pytest.mark.parametrize("ends_by", [Conflict("taken over"), None])
def test_a_driver_that_lost_its_run_leaves_what_is_the_others(digits_data, tmp_path, monkeypatch, ends_by):
    job = Job(experiment=recipe("digits").experiment("0", 0), data=digits_data, run=str(tmp_path / "run"))
    run, others = FolderStore(job.run), set()

    def lose(prepared, placement, address, lease, *_):
        everything_of(run, lease.attempt)
        others.update(everything_of(run, lease.attempt + 1))
        if ends_by:
            raise ends_by
        return {"auroc": 1.0}

    monkeypatch.setattr(train, "_with_ray", lose)
    if ends_by:
        with pytest.raises(Conflict, match="taken over"):
            train.train(job, FIXED, None, [].append)
    else:
        train.train(job, FIXED, None, [].append)
    assert {entry.key for entry in run.list()} == others | {"experiment.json", "lease.json"}
    assert json.loads(run.read("stop.json"))["attempt"] == 2
    assert Board(run, 2).said() == ["a line"]


def test_a_driver_clears_what_is_stale_when_it_begins_and_its_own_at_the_end(digits_data, tmp_path, monkeypatch):
    job = Job(experiment=recipe("digits").experiment("0", 0), data=digits_data, run=str(tmp_path / "run"))
    run, seen = FolderStore(job.run), []
    claim(prepare(job))
    for attempt in (7, 8):
        everything_of(run, attempt)

    def look(prepared, placement, address, lease, *_):
        seen.extend(entry.key for entry in run.list())
        everything_of(run, lease.attempt)
        return {"auroc": 1.0}

    monkeypatch.setattr(train, "_with_ray", look)
    train.train(job, FIXED, None, [].append)
    assert seen == [entry.key for entry in run.list()] == ["experiment.json", "lease.json"]


class AwayBoard:
    """The board of a run whose storage is away."""

    def fail(self, error, traceback=None):
        raise Fault("nothing worked for 120 s")


@pytest.mark.parametrize("away", [True, False])
def test_a_rank_that_fails_lets_go_of_the_others_even_where_it_can_tell_nobody(monkeypatch, away):
    left, error, run = [], Damaged("a shard"), MemoryStore()
    monkeypatch.setattr(worker, "_leave_group", lambda: left.append(True))
    if away:
        with pytest.raises(Damaged) as caught:
            worker._end_run(AwayBoard(), error)
        assert caught.value is error
    else:
        worker._end_run(Board(run, 1), error)
        assert str(Board(run, 1).failure()[0]) == "a shard"
    assert left == [True]


class Fitting(SimpleNamespace):
    """A training that is over after ``looks`` looks."""

    looks, joined, result, error = 0, 0, None, None

    def is_alive(self):
        return self.joined < self.looks

    def join(self, seconds):
        self.joined += 1


def wait(fitting, run, looks, prepared=None, signals=None, look=lambda: None, say=pytest.fail):
    view = SimpleNamespace(started=1.0, look=lambda: (looks.append(fitting.joined), look()), show=lambda: None,
                           failure=None, say=say)
    lease = SimpleNamespace(check=lambda: None, attempt=1)
    return watch.wait(fitting, view, prepared, run, lease, signals or Signals())


def test_the_driver_looks_as_often_as_the_store_wants():
    run, looks = MemoryStore(), []
    run.look_every = 3600.0
    assert wait(Fitting(looks=20, result={"auroc": 1.0}), run, looks) == {"auroc": 1.0}
    assert looks[1:] == [20]
    assert len(looks) == 2


class Hangs(MemoryStore):
    """As in an outage: every write waits for its end."""

    def __init__(self) -> None:
        super().__init__()
        self.back = threading.Event()

    def write(self, key, data):
        assert self.back.wait(20)
        super().write(key, data)


class Busy(Fitting):
    """A training without an end, that takes a little time for each look."""

    def is_alive(self):
        assert self.joined < 1000
        return True

    def join(self, seconds):
        time.sleep(0.01)
        super().join(seconds)
        self.happens(self.joined)


def test_signals_are_heard_while_looks_and_the_request_to_stop_hang():
    run, said = Hangs(), []

    def strike(joined):
        if joined in (3, 9):
            os.kill(os.getpid(), signal.SIGINT)
        if joined == 8:
            assert said == ["SIGINT: waiting for the workers to commit; once more ends at once"]

    try:
        with Signals() as signals, pytest.raises(Interrupted, match="stopped by SIGINT at once"):
            wait(Busy(happens=strike), run, [], signals=signals, look=lambda: run.back.wait(20), say=said.append)
    finally:
        run.back.set()


def test_a_request_to_stop_arrives_after_an_outage_and_what_comes_of_it_is_told():
    run, said = Hangs(), []
    board, signals = Board(run, 1), Signals()

    def happens(joined):
        if joined == 3:
            signals.first = signal.SIGTERM
        if joined == 10:
            run.back.set()
        if joined > 10 and "stop.json" in [entry.key for entry in run.list()]:
            assert run.read("stop.json") == watch.stop_by(1)
            board.say("stopping")
            board.fail(Interrupted("stopped after epoch 3"))

    view = watch.View(board, SimpleNamespace(news=lambda: None), 0.0, said.append, said.append, started=1.0)
    run.look_every = 0.01
    with pytest.raises(Interrupted, match=r"stopped by SIGTERM with everything committed.*after epoch 3") as caught:
        watch.wait(Busy(happens=happens), view, None, run, SimpleNamespace(check=lambda: None, attempt=1), signals)
    assert caught.value.exit_code == 143
    assert said == ["SIGTERM: waiting for the workers to commit; once more ends at once", "stopping"]


@pytest.mark.parametrize("what", ["look", "stop"])
def test_a_store_that_is_away_for_good_ends_the_run_with_its_own_error(monkeypatch, what):
    run, signals = MemoryStore(), Signals()

    def away(*_):
        raise Fault("nothing worked for 120 s")

    if what == "stop":
        monkeypatch.setattr(run, "write", away)
        signals.first = signal.SIGTERM
    with pytest.raises(Fault, match="nothing worked"):
        wait(Busy(happens=lambda joined: None), run, [], signals=signals, say=[].append,
             look=away if what == "look" else lambda: None)


def test_a_run_that_is_done_is_done_whatever_ray_says_afterwards():
    done = SimpleNamespace(done=True, result={"auroc": 0.9})
    assert wait(Fitting(error=OSError("no room for Ray's own files")), MemoryStore(), [], done) == done.result
    with pytest.raises(OSError, match="no room"):
        wait(Fitting(error=OSError("no room for Ray's own files")), MemoryStore(), [], SimpleNamespace(done=False))


def test_a_signal_that_got_lost_while_ray_started_is_heard_all_the_same():
    with Signals() as signals:
        signals.check()
        with contextlib.suppress(Interrupted):
            signal.raise_signal(signal.SIGINT)
        with pytest.raises(Interrupted, match="stopped by SIGINT before the workers had begun"):
            signals.check()
